// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
)

// told is what the tests look at of what a webhook is sent.
type told struct {
	Type    waybill.EventType
	Subject string
	Status  string
}

func encodeNotice(n *waybill.Notice) []byte {
	v := told{n.Type, n.Subject(), ""}
	if n.Target != nil {
		v.Status = string(n.Target.Status)
	} else {
		v.Status = fmt.Sprintf("%s %+v %v", n.Delivery.Status(), n.Delivery.Counts, n.Delivery.Tags)
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (f *fixture) webhook(id string, change ...func(*Hook)) {
	f.t.Helper()
	h := Hook{Sealed: []byte("sealed " + id), Webhook: waybill.Webhook{
		ID: id, Account: "a", Region: region, URL: "https://example.com/" + id, Enabled: true, Created: f.clock(), Updated: f.clock(),
	}}
	for _, c := range change {
		c(&h)
	}
	if err := f.AddWebhook(f.t.Context(), h, 10); err != nil {
		f.t.Fatal(err)
	}
}

// send sends all that is due to a webhook, and returns what that is.
func (f *fixture) send(id string, settle func(DueEvent) Attempted) (list []told) {
	f.t.Helper()
	for {
		_, due, err := f.DueEvents(f.t.Context(), id, 2)
		if err != nil {
			f.t.Fatal(err)
		}
		if len(due) == 0 {
			return list
		}
		var done []Attempted
		for _, e := range due {
			var v told
			if err := json.Unmarshal(e.Body, &v); err != nil {
				f.t.Fatal(err)
			}
			if v.Type != e.Type || v.Subject != e.Subject {
				f.t.Errorf("%+v holds %+v", e.WebhookEvent, v)
			}
			list, done = append(list, v), append(done, settle(e))
		}
		if _, err := f.Settle(f.t.Context(), id, done, time.Time{}, ""); err != nil {
			f.t.Fatal(err)
		}
	}
}

func received(e DueEvent) Attempted {
	return Attempted{Sequence: e.Sequence, Attempts: e.Attempts, Sent: true, Answer: "204"}
}

func TestOutbox(t *testing.T) { onEach(t, testOutbox) }

func testOutbox(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	f.webhook("all")
	f.webhook("ended", func(h *Hook) { h.Types = []waybill.EventType{waybill.DeliveryEnded, waybill.DeliveryCreated} })
	f.webhook("off", func(h *Hook) { h.Enabled = false })
	f.webhook("elsewhere", func(h *Hook) { h.Region = "cn-beijing" })

	tags := []waybill.Tag{{Key: "k", Value: "v"}}
	d := f.delivery("f-1", 2, func(d *NewDelivery) { d.Tags = tags })
	f.apply(Change{Delivery: d, Instance: "m0", Event: waybill.Event{To: waybill.Running, Started: epoch, Reported: true}})
	f.apply(ended(d, "m1", waybill.CauseExists, epoch))
	f.apply(ended(d, "m0", waybill.CauseExists, epoch))
	f.apply(ended(d, "m0", waybill.CauseExists, epoch)) // changes nothing
	refused := f.delivery("f-2", 1, func(d *NewDelivery) {
		d.Targets[0].Status, d.Targets[0].Cause, d.Targets[0].Finished = waybill.Failed, waybill.CauseUnknown, epoch
	})
	stopped := f.delivery("f-3", 1)
	if _, _, err := f.Stop(t.Context(), "a", region, stopped, nil); err != nil {
		t.Fatal(err)
	}

	over := func(d waybill.DeliveryID, status string) told { return told{waybill.DeliveryEnded, string(d), status} }
	created := func(d waybill.DeliveryID, status string) told {
		return told{waybill.DeliveryCreated, string(d), status}
	}
	deliveries := []told{
		created(d, "Pending {Pending:2 Running:0 Success:0 Failed:0} [{k v}]"), over(d, "Failed {Pending:0 Running:0 Success:0 Failed:2} [{k v}]"),
		created(refused, "Pending {Pending:1 Running:0 Success:0 Failed:0} []"), over(refused, "Failed {Pending:0 Running:0 Success:0 Failed:1} []"),
		created(stopped, "Pending {Pending:1 Running:0 Success:0 Failed:0} []"), over(stopped, "Failed {Pending:0 Running:0 Success:0 Failed:1} []"),
	}
	if diff := gocmp.Diff([]string{"all", "ended"}, f.due()); diff != "" {
		t.Error(diff)
	}
	// Of one subject the earlier is sent before the later, whatever else is.
	sent := f.send("ended", received)
	slices.SortStableFunc(sent, func(a, b told) int { return cmp.Compare(a.Subject, b.Subject) })
	if diff := gocmp.Diff(deliveries, sent); diff != "" {
		t.Error(diff)
	}
	bySubject := map[string][]told{}
	for _, v := range f.send("all", received) {
		bySubject[v.Subject] = append(bySubject[v.Subject], v)
	}
	target := func(d waybill.DeliveryID, m, status string) told {
		return told{waybill.TargetChanged, string(d) + "/" + m, status}
	}
	want := map[string][]told{
		"f-1": deliveries[:2], "f-2": deliveries[2:4], "f-3": deliveries[4:],
		"f-1/m0": {target(d, "m0", "Running"), target(d, "m0", "Failed")}, "f-1/m1": {target(d, "m1", "Failed")},
		"f-2/m0": {target(refused, "m0", "Failed")}, "f-3/m0": {target(stopped, "m0", "Aborted")},
	}
	if diff := gocmp.Diff(want, bySubject); diff != "" {
		t.Error(diff)
	}
	// A retry is told of, and that the delivery has ended once more.
	begun, err := f.Attempts(t.Context(), "a", region, d, "m0")
	if err != nil || len(begun) != 1 {
		t.Fatalf("%+v, %v", begun, err)
	}
	whole, _, err := f.Retriable(t.Context(), "a", region, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	next, _ := begun[0].Retry(f.clock())
	if err := f.Retry(t.Context(), &whole, []Target{{Target: next, Deadline: f.clock().Add(time.Minute)}}); err != nil {
		t.Fatal(err)
	}
	f.apply(Change{Delivery: d, Instance: "m0", Event: waybill.Event{
		Attempt: 2, To: waybill.Failed, Cause: waybill.CauseExists, Finished: f.clock(), Reported: true,
	}})
	retried := f.send("all", received)
	slices.SortStableFunc(retried, func(a, b told) int { return cmp.Compare(b.Subject, a.Subject) })
	if diff := gocmp.Diff([]told{target(d, "m0", "Pending"), target(d, "m0", "Failed"), deliveries[1]}, retried); diff != "" {
		t.Errorf("of a retry: %s", diff)
	}
	for _, id := range []string{"off", "elsewhere"} {
		if list, err := f.WebhookEvents(t.Context(), "a", map[string]string{"off": region, "elsewhere": "cn-beijing"}[id], id, "", waybill.Page{Size: 9}); err != nil || len(list.Items) > 0 {
			t.Errorf("%s: %v, %v", id, list.Items, err)
		}
	}
}

func (f *fixture) due() []string {
	f.t.Helper()
	list, err := f.DueWebhooks(f.t.Context(), 10)
	if err != nil {
		f.t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func TestOutboxIsBatched(t *testing.T) { onEach(t, testOutboxIsBatched) }

func testOutboxIsBatched(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	f.webhook("w", func(h *Hook) { h.Types = []waybill.EventType{waybill.TargetChanged} })
	const n = targetBatch + 1
	f.delivery("f-1", n, func(d *NewDelivery) {
		for i := range d.Targets {
			d.Targets[i].Status, d.Targets[i].Cause, d.Targets[i].Finished = waybill.Failed, waybill.CauseUnknown, epoch
		}
	})
	_, due, err := f.DueEvents(t.Context(), "w", 2*n)
	if err != nil || len(due) != n {
		t.Fatalf("%d events, %v", len(due), err)
	}
	for i, e := range due {
		if want := "f-1/" + string(machine(i)); e.Subject != want {
			t.Fatalf("event %d is of %s, want %s", i, e.Subject, want)
		}
	}
}

func TestSettle(t *testing.T) { onEach(t, testSettle) }

func testSettle(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	f.webhook("w", func(h *Hook) { h.Types = []waybill.EventType{waybill.TargetChanged} })
	d := f.delivery("f-1", 1)
	f.apply(Change{Delivery: d, Instance: "m0", Event: waybill.Event{To: waybill.Running, Started: epoch, Reported: true}})
	f.apply(ended(d, "m0", waybill.CauseExists, epoch))
	attempt := func(want int) DueEvent {
		t.Helper()
		_, due, err := f.DueEvents(t.Context(), "w", 10)
		if err != nil || len(due) != 1 || due[0].Attempts != want {
			t.Fatalf("due: %+v, %v", due, err)
		}
		return due[0]
	}
	settle := func(e DueEvent, resume time.Time, reason string, sent bool) int64 {
		t.Helper()
		n, err := f.Settle(t.Context(), "w", []Attempted{{
			Sequence: e.Sequence, Attempts: e.Attempts, Sent: sent, Answer: "answer", Next: f.clock().Add(time.Minute),
		}}, resume, reason)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	first := attempt(0)
	settle(first, f.clock().Add(time.Hour), "", false)
	settle(first, f.clock().Add(time.Hour), "", true) // of another server, too late: it changes nothing
	if got := f.due(); len(got) > 0 {
		t.Errorf("due at once: %v", got)
	}
	f.advance(30 * time.Minute)
	if h, due, err := f.DueEvents(t.Context(), "w", 10); err != nil || len(due) > 0 || h.Failures != 2 || h.Waiting != 2 {
		t.Errorf("paused: %+v %v %v", h, due, err)
	}
	f.advance(AttemptsFor)
	if again := attempt(1); again.ID != first.ID || string(again.Body) != string(first.Body) {
		t.Errorf("again: %+v", again)
	} else if n := settle(again, time.Time{}, "", false); n != 1 {
		t.Errorf("gave up %d", n)
	}
	second := attempt(0)
	settle(second, time.Time{}, "it answered 410", false)
	if got := f.due(); len(got) > 0 {
		t.Errorf("disabled: %v", got)
	}
	if _, err := f.ChangeWebhook(t.Context(), "b", region, "w", func(*waybill.Webhook) error { return nil }); !errors.Is(err, ErrNotFound) {
		t.Errorf("another account's: %v", err)
	}
	w, err := f.ChangeWebhook(t.Context(), "a", region, "w", func(w *waybill.Webhook) error { w.Enabled, w.Reason = true, ""; return nil })
	if list, err2 := f.Webhooks(t.Context(), "a", region, "w"); err != nil || err2 != nil || len(list) != 1 || !list[0].Enabled || !w.Enabled {
		t.Errorf("enabled: %+v, %v, %v", list, err, err2)
	}

	list := func(status waybill.EventStatus, p waybill.Page) (ids []string, next string) {
		t.Helper()
		l, err := f.WebhookEvents(t.Context(), "a", region, "w", status, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range l.Items {
			ids = append(ids, e.ID)
		}
		return ids, l.Next
	}
	if got, _ := list(waybill.EventFailed, waybill.Page{Size: 5}); !slices.Equal(got, []string{second.ID, first.ID}) {
		t.Errorf("failed: %v", got)
	}
	page, next := list("", waybill.Page{Size: 1})
	rest, last := list("", waybill.Page{Size: 1, Cursor: next})
	if want := []string{second.ID, first.ID}; !slices.Equal(append(page, rest...), want) || last != "" {
		t.Errorf("pages: %v %v, want %v", page, rest, want)
	}
	replay := func(s waybill.EventSelection) int64 {
		t.Helper()
		n, err := f.Replay(t.Context(), "a", region, "w", s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := replay(waybill.EventSelection{Since: epoch, Until: epoch}); n != 0 {
		t.Errorf("outside of the span: %d", n)
	}
	if n := replay(waybill.EventSelection{IDs: []string{second.ID}}); n != 1 {
		t.Errorf("replayed %d", n)
	}
	if n := replay(waybill.EventSelection{IDs: []string{first.ID, second.ID, "e-none"}}); n != 1 { // the second waits
		t.Errorf("replayed %d, too", n)
	}
	if e := attempt(0); e.ID != first.ID {
		t.Errorf("replayed: %+v", e)
	}
	f.send("w", received)
	if n := replay(waybill.EventSelection{Since: epoch}); n != 2 {
		t.Errorf("replayed by time: %d", n)
	}
	if _, err := f.Replay(t.Context(), "b", region, "w", waybill.EventSelection{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("replay of another account's: %v", err)
	}
	if n, err := f.ForgetEvents(t.Context(), epoch, 10); err != nil || n != 0 {
		t.Errorf("forgot %d, %v", n, err)
	}
	if err := f.DeleteWebhook(t.Context(), "b", region, "w"); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete another account's: %v", err)
	}
	if err := f.DeleteWebhook(t.Context(), "a", region, "w"); err != nil {
		t.Fatal(err)
	}
	if n, err := f.ForgetEvents(t.Context(), epoch, 10); err != nil || n != 2 {
		t.Errorf("forgot %d, %v", n, err)
	}
}

func TestDueEventsBeginWithTheLeastTried(t *testing.T) {
	onEach(t, testDueEventsBeginWithTheLeastTried)
}

func testDueEventsBeginWithTheLeastTried(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	f.webhook("w")
	f.delivery("f-1", 1)
	f.delivery("f-2", 1)
	_, due, err := f.DueEvents(t.Context(), "w", 1)
	if err != nil || len(due) != 1 || due[0].Subject != "f-1" {
		t.Fatalf("%+v, %v", due, err)
	}
	refused := Attempted{Sequence: due[0].Sequence, Answer: "500", Next: f.clock()}
	if _, err := f.Settle(t.Context(), "w", []Attempted{refused}, f.clock(), ""); err != nil {
		t.Fatal(err)
	}
	if _, due, err = f.DueEvents(t.Context(), "w", 1); err != nil || len(due) != 1 || due[0].Subject != "f-2" {
		t.Errorf("%+v, %v", due, err)
	}
}

func TestWebhookLimit(t *testing.T) { onEach(t, testWebhookLimit) }

func testWebhookLimit(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	f.webhook("w")
	if err := f.AddWebhook(t.Context(), Hook{Webhook: waybill.Webhook{ID: "x", Account: "a", Region: region}}, 1); !errors.Is(err, ErrLimit) {
		t.Errorf("beyond the limit: %v", err)
	}
}
