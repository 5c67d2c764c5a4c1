// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"fmt"
	"net/url"
	"slices"
	"time"
	"unicode/utf8"
)

// EventType says what an event that is sent to webhooks tells of. The names follow CloudEvents 1.0: reverse DNS first.
type EventType string

// The event types.
const (
	DeliveryCreated EventType = "io.waybill.delivery.created" // it was accepted
	DeliveryEnded   EventType = "io.waybill.delivery.ended"   // no target is open; again, should an ending be corrected
	TargetChanged   EventType = "io.waybill.target.changed"   // it was taken up, has ended, or its ending was corrected
)

// EventTypes returns all of them.
func EventTypes() []EventType { return []EventType{DeliveryCreated, DeliveryEnded, TargetChanged} }

// Notice is something that happened to a delivery or to one target of it, as webhooks are told.
type Notice struct {
	ID      string // the same however often it is sent
	Type    EventType
	Time    time.Time
	Account AccountID
	Region  string
	// Delivery is what an event of a delivery is about, as it is then; nil for one of a target.
	Delivery *Delivery
	Target   *Target // and the other way round
	DryRun   bool    // it is a rehearsal, which changes nothing on a machine
}

// Subject returns what n is about: the ID of a delivery or, of a target, that and the ID of its instance.
func (n *Notice) Subject() string {
	if n.Target != nil {
		return string(n.Target.Delivery) + "/" + string(n.Target.Instance)
	}
	return string(n.Delivery.ID)
}

// Webhook is an address to which events of an account in a region are sent.
type Webhook struct {
	ID          string
	Account     AccountID
	Region      string
	URL         string
	Description string
	Types       []EventType // empty: all
	Enabled     bool
	Reason      string // why the server disabled it; empty: it did not
	Created     time.Time
	Updated     time.Time
	Waiting     int64     // events that are to be sent
	Failures    int       // attempts in a row that came to nothing
	Resume      time.Time // no attempt before this; zero or past: at once
}

// EventStatus is how far an event is on its way to one webhook.
type EventStatus string

// The statuses of an event.
const (
	EventWaiting EventStatus = "Waiting" // it is to be sent, for the first time or again
	EventSent    EventStatus = "Sent"    // the receiver has answered that it has it
	EventFailed  EventStatus = "Failed"  // it was given up
)

// WebhookEvent is an event on its way to one webhook.
type WebhookEvent struct {
	Sequence int64 // grows with what happens to one subject
	ID       string
	Type     EventType
	Subject  string
	Time     time.Time
	Status   EventStatus
	Attempts int       // since it happened, or was last asked to be sent again
	Tried    time.Time // the last attempt; zero: there was none
	Next     time.Time // of one that waits: not before this
	Answer   string    // what came of the last attempt, for people
}

// EventSelection says which events of a webhook are to be sent again: those with the given IDs, or those that happened in a span of
// time.
type EventSelection struct {
	IDs   []string
	Since time.Time
	Until time.Time // zero: until now
}

// maxWebhookURL is the longest address of a webhook, in bytes.
const maxWebhookURL = 2048

// CheckWebhook refuses a webhook whose address or event types make no sense. Which hosts may be reached is not known here.
func CheckWebhook(w *Webhook) error {
	if err := checkWebhookURL(w.URL); err != nil {
		return err
	}
	for _, t := range w.Types {
		if !slices.Contains(EventTypes(), t) {
			return &Error{Code: EventTypeInvalid, Field: "EventType", Message: fmt.Sprintf("there is no event type %.80q", t)}
		}
	}
	return nil
}

func checkWebhookURL(s string) error {
	bad := ""
	u, err := url.Parse(s)
	switch {
	case len(s) > maxWebhookURL:
		bad = fmt.Sprintf("it is longer than %d bytes", maxWebhookURL)
	case err != nil || !utf8.ValidString(s):
		bad = "it is no URL"
	case u.Scheme != "https" && u.Scheme != "http":
		bad = "it begins with neither https:// nor http://"
	case u.Hostname() == "" || u.Opaque != "":
		bad = "it names no host"
	case u.User != nil:
		bad = "it holds credentials; the receiver verifies the signature instead"
	case u.Fragment != "":
		bad = "it has a fragment, which is never sent"
	default:
		return nil
	}
	return &Error{Code: WebhookURL, Field: "Url", Message: bad}
}
