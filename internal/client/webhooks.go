// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"iter"
	"net/url"
	"time"

	"github.com/openwaybill/waybill"
)

// Webhook is an address that is sent events.
type Webhook struct {
	ID          string     `json:"WebhookId"`
	URL         string     `json:"Url"`
	Description string     `json:"Description"`
	Types       EventTypes `json:"EventTypes"` // none: all
	Status      string     `json:"Status"`     // Enabled, Disabled
	Reason      string     `json:"StatusReason"`
	Waiting     int64      `json:"WaitingCount"`
	Failures    int        `json:"FailureCount"`
	Resume      string     `json:"ResumeTime"`
	Created     string     `json:"CreationTime"`
	Updated     string     `json:"UpdateTime"`
}

// EventTypes is how the API nests event types.
type EventTypes struct {
	Items []waybill.EventType `json:"EventType"`
}

// NewWebhook is a webhook that was just made, with its secret, which cannot be asked for again.
type NewWebhook struct {
	Webhook Webhook
	Secret  string
}

// WebhookSpec is what a webhook is to be. Of a change, what is nil or empty stays as it is.
type WebhookSpec struct {
	URL         string
	Types       []waybill.EventType
	Description *string
	Status      string // Enabled, Disabled; of a change only
}

func (w *WebhookSpec) params() params {
	p := params{}
	p.set("Url", w.URL)
	setList(p, "EventType", w.Types)
	p.setText("Description", w.Description)
	p.set("Status", w.Status)
	return p
}

// CreateWebhook makes a webhook. With a token, a repetition returns the same one.
func (c *Client) CreateWebhook(ctx context.Context, w WebhookSpec, token string) (NewWebhook, error) {
	p := w.params()
	p.set("ClientToken", token)
	var out NewWebhook
	err := c.Call(ctx, "CreateWebhook", url.Values(p), &out)
	return out, err
}

// Webhooks returns all webhooks, oldest first; only that of an ID, unless it is empty.
func (c *Client) Webhooks(ctx context.Context, id string) ([]Webhook, error) {
	p := params{}
	p.set("WebhookId", id)
	var out struct{ Webhooks struct{ Webhook []Webhook } }
	err := c.Call(ctx, "DescribeWebhooks", url.Values(p), &out)
	return out.Webhooks.Webhook, err
}

// ModifyWebhook changes a webhook.
func (c *Client) ModifyWebhook(ctx context.Context, id string, w WebhookSpec) (Webhook, error) {
	p := w.params()
	p.set("WebhookId", id)
	var out struct{ Webhook Webhook }
	err := c.Call(ctx, "ModifyWebhook", url.Values(p), &out)
	return out.Webhook, err
}

// DeleteWebhook removes a webhook, with what it has not been sent.
func (c *Client) DeleteWebhook(ctx context.Context, id string) error {
	p := params{}
	p.set("WebhookId", id)
	return c.Call(ctx, "DeleteWebhook", url.Values(p), nil)
}

// WebhookEvent is an event on its way to a webhook.
type WebhookEvent struct {
	ID       string              `json:"EventId"`
	Type     waybill.EventType   `json:"EventType"`
	Subject  string              `json:"Subject"`
	Time     string              `json:"EventTime"`
	Status   waybill.EventStatus `json:"EventStatus"`
	Attempts int                 `json:"AttemptCount"`
	Tried    string              `json:"AttemptTime"`
	Next     string              `json:"NextTime"`
	Answer   string              `json:"LastAnswer"`
}

// DescribeWebhookEvents returns a page of the events of a webhook, newest first; only those of a status, unless it is empty.
func (c *Client) DescribeWebhookEvents(ctx context.Context, id string, status waybill.EventStatus, page Paging) (Page[WebhookEvent], error) {
	p := params{}
	p.set("WebhookId", id)
	p.set("EventStatus", string(status))
	p.setPaging(page)
	var out struct {
		NextToken string
		Events    struct{ Event []WebhookEvent }
	}
	err := c.Call(ctx, "DescribeWebhookEvents", url.Values(p), &out)
	return Page[WebhookEvent]{Items: out.Events.Event, NextToken: out.NextToken}, err
}

// WebhookEvents goes through all pages of DescribeWebhookEvents. An error ends it.
func (c *Client) WebhookEvents(ctx context.Context, id string, status waybill.EventStatus) iter.Seq2[WebhookEvent, error] {
	const most = 500
	return pagesOf(most, func(p Paging) (Page[WebhookEvent], error) { return c.DescribeWebhookEvents(ctx, id, status, p) })
}

// Replay says which events are sent again: those with the given IDs or, if there are none, those that happened in a span of time,
// which ends now if Until is zero.
type Replay struct {
	IDs          []string
	Since, Until time.Time
}

// ReplayWebhookEvents has events sent again that were sent or given up, and returns how many.
func (c *Client) ReplayWebhookEvents(ctx context.Context, id string, r Replay) (int64, error) {
	p := params{}
	p.set("WebhookId", id)
	setList(p, "EventId", r.IDs)
	p.setTime("StartTime", r.Since)
	p.setTime("EndTime", r.Until)
	var out struct{ ReplayCount int64 }
	err := c.Call(ctx, "ReplayWebhookEvents", url.Values(p), &out)
	return out.ReplayCount, err
}
