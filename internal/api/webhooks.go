// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// webhookService is what the operations on webhooks need.
type webhookService interface {
	CreateWebhook(ctx context.Context, act *waybill.Act, region string, w waybill.Webhook) (control.NewWebhook, error)
	Webhooks(ctx context.Context, who waybill.Principal, region, id string) ([]waybill.Webhook, error)
	ModifyWebhook(ctx context.Context, act *waybill.Act, region, id string, c control.WebhookChange) (waybill.Webhook, error)
	DeleteWebhook(ctx context.Context, act *waybill.Act, region, id string) error
	WebhookEvents(
		ctx context.Context, who waybill.Principal, region, id string, status waybill.EventStatus, p control.Page,
	) (control.Listing[waybill.WebhookEvent], error)
	ReplayWebhookEvents(ctx context.Context, act *waybill.Act, region, id string, which waybill.EventSelection) (int64, error)
}

type oneWebhook struct {
	regional
	WebhookId string `required:"true" doc:"the webhook"`
}

// webhookStatus says whether events are sent.
type webhookStatus string

const (
	webhookEnabled  webhookStatus = "Enabled"
	webhookDisabled webhookStatus = "Disabled"
)

// webhook is what operations answer of a webhook.
type webhookRow struct {
	WebhookId    string
	Url          string
	Description  string
	EventTypes   eventTypes `doc:"that are sent; empty: all"`
	Status       webhookStatus
	StatusReason string `doc:"why the server disabled it; empty if it did not"`
	WaitingCount int64  `doc:"events that are to be sent"`
	FailureCount int32  `doc:"attempts in a row that came to nothing"`
	ResumeTime   string `doc:"no attempt before this; empty if nothing keeps it"`
	CreationTime string
	UpdateTime   string
}

type eventTypes struct {
	EventType list[waybill.EventType]
}

func webhookOf(w waybill.Webhook) webhookRow {
	row := webhookRow{
		WebhookId: w.ID, Url: w.URL, Description: w.Description, EventTypes: eventTypes{list[waybill.EventType](w.Types)},
		Status: webhookDisabled, StatusReason: w.Reason, WaitingCount: w.Waiting, FailureCount: int32(w.Failures), ResumeTime: stamp(w.Resume),
		CreationTime: stamp(w.Created), UpdateTime: stamp(w.Updated),
	}
	if w.Enabled {
		row.Status = webhookEnabled
	}
	return row
}

type createWebhookInput struct {
	regional
	idempotent
	Url         string              `required:"true" limits:"https://, at most 2048 bytes" doc:"where events are sent, by POST"`
	EventType   []waybill.EventType `limits:"at most 10" doc:"what is sent; default: all"`
	Description string              `limits:"at most 512 characters" doc:"for people"`
}

type createWebhookOutput struct {
	envelope
	Webhook webhookRow
	Secret  string `doc:"by which the receiver verifies signatures; shown this once"`
}

func (c *call) createWebhook(ctx context.Context, in *createWebhookInput) (*createWebhookOutput, error) {
	if err := checkCount(in.EventType); err != nil {
		return nil, err
	}
	w, err := c.CreateWebhook(ctx, c.act, in.RegionId, waybill.Webhook{URL: in.Url, Types: in.EventType, Description: in.Description})
	if err != nil {
		return nil, err
	}
	return &createWebhookOutput{Webhook: webhookOf(w.Webhook), Secret: w.Secret}, nil
}

// maxEventTypes is more than there are.
const maxEventTypes = 10

func checkCount(types []waybill.EventType) error {
	if len(types) > maxEventTypes {
		return refuse("InvalidParameter", "EventType")
	}
	return nil
}

type describeWebhooksInput struct {
	regional
	WebhookId string `doc:"this only; an unknown one is no error"`
}

type describeWebhooksOutput struct {
	envelope
	Webhooks struct {
		Webhook list[webhookRow]
	} `doc:"oldest first"`
}

func (c *call) describeWebhooks(ctx context.Context, in *describeWebhooksInput) (*describeWebhooksOutput, error) {
	found, err := c.Webhooks(ctx, c.who, in.RegionId, in.WebhookId)
	if err != nil {
		return nil, err
	}
	out := new(describeWebhooksOutput)
	out.Webhooks.Webhook = collect(found, webhookOf)
	return out, nil
}

type modifyWebhookInput struct {
	oneWebhook
	Url         string              `limits:"https://, at most 2048 bytes" doc:"where events are sent"`
	EventType   []waybill.EventType `limits:"at most 10" doc:"what is sent, instead of what was"`
	Description *string             `limits:"at most 512 characters" doc:"for people"`
	Status      webhookStatus       `enum:"Enabled|Disabled" doc:"whether events are sent; of what happens while it is disabled it is not told"`
}

type modifyWebhookOutput struct {
	envelope
	Webhook webhookRow
}

func (c *call) modifyWebhook(ctx context.Context, in *modifyWebhookInput) (*modifyWebhookOutput, error) {
	if err := checkCount(in.EventType); err != nil {
		return nil, err
	}
	change := control.WebhookChange{Types: in.EventType, Description: in.Description}
	if in.Url != "" {
		change.URL = &in.Url
	}
	if in.Status != "" {
		enabled := in.Status == webhookEnabled
		change.Enabled = &enabled
	}
	w, err := c.ModifyWebhook(ctx, c.act, in.RegionId, in.WebhookId, change)
	if err != nil {
		return nil, err
	}
	return &modifyWebhookOutput{Webhook: webhookOf(w)}, nil
}

type deleteWebhookInput struct{ oneWebhook }

func (c *call) deleteWebhook(ctx context.Context, in *deleteWebhookInput) (*nothingOutput, error) {
	return done(c.DeleteWebhook(ctx, c.act, in.RegionId, in.WebhookId))
}

type describeWebhookEventsInput struct {
	oneWebhook
	EventStatus waybill.EventStatus `enum:"Waiting|Sent|Failed" doc:"only these"`
	MaxResults  *int64              `limits:"1 to 500, default 50" fault:"InvalidParameter.MaxResults" doc:"rows of a page"`
	NextToken   string              `doc:"token that the previous page returned; all other parameters have to be as they were"`
}

type describeWebhookEventsOutput struct {
	envelope
	NextToken string `doc:"where the next page starts; empty on the last"`
	Events    struct {
		Event list[webhookEvent]
	} `doc:"newest first"`
}

type webhookEvent struct {
	EventId      string
	EventType    waybill.EventType
	Subject      string `doc:"InvokeId or, of an instance, InvokeId/InstanceId"`
	EventTime    string
	EventStatus  waybill.EventStatus `doc:"Waiting, Sent or Failed"`
	AttemptCount int32               `doc:"since it happened, or was last replayed"`
	AttemptTime  string              `doc:"of the last one; empty if there was none"`
	NextTime     string              `doc:"the next attempt is not before this; empty unless it waits"`
	LastAnswer   string              `doc:"what came of the last attempt; empty if there was none"`
}

func webhookEventOf(e waybill.WebhookEvent) webhookEvent {
	v := webhookEvent{
		EventId: e.ID, EventType: e.Type, Subject: e.Subject, EventTime: stamp(e.Time), EventStatus: e.Status,
		AttemptCount: int32(e.Attempts), AttemptTime: stamp(e.Tried), LastAnswer: e.Answer,
	}
	if e.Status == waybill.EventWaiting {
		v.NextTime = stamp(e.Next)
	}
	return v
}

func (c *call) describeWebhookEvents(ctx context.Context, in *describeWebhookEventsInput) (*describeWebhookEventsOutput, error) {
	page, err := c.openTargetPage(in.RegionId, in.WebhookId+" "+string(in.EventStatus), in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	found, err := c.WebhookEvents(ctx, c.who, in.RegionId, in.WebhookId, in.EventStatus, page.Page)
	if err != nil {
		return nil, err
	}
	out := new(describeWebhookEventsOutput)
	if found.Next != "" {
		out.NextToken = page.seal(found.Next)
	}
	out.Events.Event = collect(found.Items, webhookEventOf)
	return out, nil
}

type replayWebhookEventsInput struct {
	oneWebhook
	EventId   []string `limits:"at most 100" doc:"these events; it or StartTime is required"`
	StartTime string   `limits:"YYYY-MM-DDThh:mm:ssZ" doc:"events that happened since then"`
	EndTime   string   `limits:"YYYY-MM-DDThh:mm:ssZ" doc:"and before this; default: until now"`
}

type replayWebhookEventsOutput struct {
	envelope
	ReplayCount int64 `doc:"events that are sent again; those that wait anyway are not counted"`
}

// maxReplay is how many events a replay names one by one.
const maxReplay = 100

func (c *call) replayWebhookEvents(ctx context.Context, in *replayWebhookEventsInput) (*replayWebhookEventsOutput, error) {
	which := waybill.EventSelection{IDs: in.EventId}
	switch {
	case len(in.EventId) == 0 && in.StartTime == "":
		return nil, missing("EventId")
	case len(in.EventId) > maxReplay, len(in.EventId) > 0 && in.StartTime != "":
		return nil, refuse("InvalidParameter", "EventId")
	}
	for _, t := range []struct {
		name, given string
		to          *time.Time
	}{{"StartTime", in.StartTime, &which.Since}, {"EndTime", in.EndTime, &which.Until}} {
		if t.given == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, t.given)
		if err != nil {
			return nil, refuse("InvalidParameter", t.name)
		}
		*t.to = at
	}
	n, err := c.ReplayWebhookEvents(ctx, c.act, in.RegionId, in.WebhookId, which)
	if err != nil {
		return nil, err
	}
	return &replayWebhookEventsOutput{ReplayCount: n}, nil
}
