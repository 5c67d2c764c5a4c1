// SPDX-License-Identifier: Apache-2.0

package waybill_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/openwaybill/waybill"
)

func TestCheckWebhook(t *testing.T) {
	for _, c := range []struct {
		url   string
		types []waybill.EventType
		want  waybill.Code
	}{
		{url: "https://example.com/hook?key=v"},
		{url: "http://127.0.0.1:9", types: waybill.EventTypes()},
		{url: "https://example.com", types: []waybill.EventType{"io.waybill.none"}, want: waybill.EventTypeInvalid},
		{url: "", want: waybill.WebhookURL},
		{url: "example.com/hook", want: waybill.WebhookURL},
		{url: "ftp://example.com", want: waybill.WebhookURL},
		{url: "https://", want: waybill.WebhookURL},
		{url: "https://:443/", want: waybill.WebhookURL},
		{url: "https:example.com", want: waybill.WebhookURL},
		{url: "https://user:secret@example.com", want: waybill.WebhookURL},
		{url: "https://example.com/#part", want: waybill.WebhookURL},
		{url: "https://example.com/\n", want: waybill.WebhookURL},
		{url: "https://example.com/" + strings.Repeat("x", 2048), want: waybill.WebhookURL},
	} {
		err := waybill.CheckWebhook(&waybill.Webhook{URL: c.url, Types: c.types})
		if (err == nil) != (c.want == "") || err != nil && waybill.CodeOf(err) != c.want {
			t.Errorf("%.60q: %v, want %q", c.url, err, c.want)
		}
	}
}

func FuzzCheckWebhook(f *testing.F) {
	for _, u := range []string{"https://example.com", "https://a:b@c", "https://[::1]:9/x#y", "http:opaque", "\xff"} {
		f.Add(u)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if waybill.CheckWebhook(&waybill.Webhook{URL: address}) != nil {
			return
		}
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
			t.Errorf("%q is taken", address)
		}
	})
}
