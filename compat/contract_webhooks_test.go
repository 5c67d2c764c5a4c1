// SPDX-License-Identifier: Apache-2.0

package compat

import "github.com/openwaybill/waybill"

// nobody is where no webhook is heard: nothing listens there.
const nobody = "http://127.0.0.1:9/hook"

func (c *contract) webhooks(f *fleet) {
	k := f.root
	p := params{
		"Url": nobody, "EventType": list(string(waybill.DeliveryCreated), string(waybill.TargetChanged)), "Description": "for the contract", "ClientToken": "hook-1",
	}
	first := k.ok("CreateWebhook", "all parameters", p, want{"Webhook.Url": nobody, "Webhook.Status": "Enabled", "Webhook.EventTypes.EventType.#": 2})
	id := first.text("Webhook.WebhookId")
	k.ok("CreateWebhook", "repeated with its ClientToken", p, want{"Webhook.WebhookId": id, "Secret": first.text("Secret")})
	k.refuse("CreateWebhook", "IdempotentParameterMismatch", "", params{"Url": nobody, "ClientToken": "hook-1"}, "")
	k.refuse("CreateWebhook", "InvalidParameter", "EventType", params{"Url": nobody, "EventType": list("io.waybill.none")}, "EventType")
	k.refuse("CreateWebhook", "InvalidParameter", "too many of them", params{"Url": nobody, "EventType": copies(11, "t-%d")}, "EventType")
	for _, bad := range [][3]string{
		{"scheme", "ftp://example.com", "it begins with neither https:// nor http://"},
		{"credentials", "https://a:b@example.com", "it holds credentials; the receiver verifies the signature instead"},
		{"private", "https://10.0.0.1", "10.0.0.1 is no public address; the operator of the server may allow its network with --webhook-network"},
	} {
		k.refuse("CreateWebhook", "InvalidWebhookUrl.Malformed", bad[0], params{"Url": bad[1]}, bad[2])
	}

	silent := params{"InstanceId": list(f.silent), "Name": "hook.conf", "TargetDir": "/srv/app", "Content": "x", "Timeout": 3600}
	sent := k.must("SendFile", silent).text("InvokeId")
	k.await("DescribeWebhooks", "all parameters", params{"WebhookId": id}, want{"Webhooks.Webhook.#": 1, "Webhooks.Webhook.0.WaitingCount": 1, "Webhooks.Webhook.0.FailureCount": 1})
	k.ok("DescribeWebhooks", "an unknown one", params{"WebhookId": "wh-none"}, want{"Webhooks.Webhook.#": 0})
	k.must("StopSendFile", params{"InvokeId": sent})
	events := params{"WebhookId": id, "EventStatus": "Waiting", "MaxResults": 1}
	page := k.ok("DescribeWebhookEvents", "a page", events, want{
		"Events.Event.#": 1, "Events.Event.0.EventType": string(waybill.TargetChanged), "Events.Event.0.Subject": sent + "/" + f.silent, "Events.Event.0.AttemptCount": 0,
	})
	events["NextToken"] = page.text("NextToken")
	k.ok("DescribeWebhookEvents", "the next page", events, want{
		"Events.Event.#": 1, "Events.Event.0.EventType": string(waybill.DeliveryCreated), "Events.Event.0.Subject": sent,
	})
	k.refuse("DescribeWebhookEvents", "InvalidParameter", "", params{"WebhookId": id, "EventStatus": "Lost"}, "EventStatus")
	k.ok("ReplayWebhookEvents", "by ID", params{"WebhookId": id, "EventId": list(page.text("Events.Event.0.EventId"))}, want{"ReplayCount": 0}) // it waits
	k.ok("ReplayWebhookEvents", "by time", params{"WebhookId": id, "StartTime": "2020-01-01T00:00:00Z", "EndTime": "2020-01-02T00:00:00Z"}, want{"ReplayCount": 0})
	k.refuse("ReplayWebhookEvents", "MissingParameter", "", params{"WebhookId": id}, "EventId")
	for _, bad := range []struct {
		arg string
		p   params
	}{
		{"EventId", params{"WebhookId": id, "EventId": copies(101, "e-%d")}},
		{"StartTime", params{"WebhookId": id, "StartTime": "yesterday"}},
		{"EndTime", params{"WebhookId": id, "StartTime": "2020-01-01T00:00:00Z", "EndTime": "today"}},
	} {
		k.refuse("ReplayWebhookEvents", "InvalidParameter", bad.arg, bad.p, bad.arg)
	}
	k.refuse("ReplayWebhookEvents", "InvalidParameter", "both ways", params{"WebhookId": id, "EventId": list("e-1"), "StartTime": "2020-01-01T00:00:00Z"}, "EventId")

	k.ok("ModifyWebhook", "all parameters", params{
		"WebhookId": id, "Url": "https://hooks.example.com/hook", "EventType": list(string(waybill.DeliveryEnded)), "Description": "moved", "Status": "Disabled",
	}, want{"Webhook.Url": "https://hooks.example.com/hook", "Webhook.Status": "Disabled", "Webhook.Description": "moved", "Webhook.EventTypes.EventType.0": string(waybill.DeliveryEnded)})
	k.refuse("ModifyWebhook", "InvalidWebhookUrl.Malformed", "", params{"WebhookId": id, "Url": "http://8.8.8.8"}, "plain HTTP would show events to whoever is on the way; use https://")
	k.refuse("ModifyWebhook", "InvalidParameter.Description.Length", "", params{"WebhookId": id, "Description": longText(513)}, "")
	k.refuse("ModifyWebhook", "InvalidParameter", "", params{"WebhookId": id, "Status": "Asleep"}, "Status")
	k.refuse("ModifyWebhook", "InvalidParameter", "too many types", params{"WebhookId": id, "EventType": copies(11, "t-%d")}, "EventType")
	for _, op := range []string{"ModifyWebhook", "DeleteWebhook", "DescribeWebhookEvents", "ReplayWebhookEvents"} {
		p := params{"WebhookId": "wh-none"}
		if op == "ReplayWebhookEvents" {
			p["EventId"] = list("e-none")
		}
		k.refuse(op, "InvalidWebhookId.NotFound", "", p, "")
	}
	k.ok("DeleteWebhook", "all parameters", params{"WebhookId": id}, nil)
}
