// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
)

// retry begins new attempts of what failed, for a minute from now.
func (f *fixture) retry(id waybill.DeliveryID, only ...waybill.InstanceID) []Target {
	f.t.Helper()
	d, targets, err := f.Retriable(f.t.Context(), "a", region, id, only)
	if err != nil {
		f.t.Fatal(err)
	}
	var next []Target
	for _, t := range targets {
		if again, retrying := t.Retry(f.clock()); retrying == waybill.RetryBegun {
			again.Given = true
			next = append(next, Target{Target: again, Deadline: f.clock().Add(time.Minute)})
		}
	}
	if err := f.Retry(f.t.Context(), &d, next); err != nil {
		f.t.Fatal(err)
	}
	return next
}

// of makes c one of an attempt.
func (c Change) of(attempt int) Change {
	c.Attempt = attempt
	return c
}

func TestRetry(t *testing.T) { onEach(t, testRetry) }

func testRetry(t *testing.T, open opener) {
	t.Parallel()
	f, ctx := open(t), t.Context()
	id := f.delivery("f-1", 3)
	f.apply(ended(id, "m0", waybill.CauseExists, epoch), ended(id, "m1", waybill.NoCause, epoch))
	f.sweepAt(id, "m2", 2*time.Minute)
	first := f.list(waybill.DeliveryFilter{}, waybill.Page{}).Items[0].Targets

	if next := f.retry(id); len(next) != 2 || next[0].Instance != "m0" || next[1].Instance != "m2" {
		t.Fatalf("retried %+v", next)
	}
	if next := f.retry(id); len(next) != 0 {
		t.Errorf("a repetition has retried %+v", next)
	}
	d := f.list(waybill.DeliveryFilter{}, waybill.Page{}).Items[0]
	if d.Counts != (waybill.Counts{Pending: 2, Success: 1}) || d.Status() != waybill.OverallPending || !d.Deadline.Equal(f.clock().Add(time.Minute)) {
		t.Errorf("delivery: %+v until %v", d.Counts, d.Deadline)
	}
	begun := waybill.Target{
		Delivery: id, Instance: "m0", Attempt: 2, Status: waybill.Pending, Created: epoch, Begun: f.clock(), Updated: f.clock(), Given: true,
	}
	if diff := cmp.Diff(begun, d.Targets[0]); diff != "" {
		t.Error(diff)
	}
	if d.Targets[1] != first[1] {
		t.Errorf("what had succeeded is %+v", d.Targets[1])
	}

	pull, err := f.OpenFor(ctx, "m0", "", 9)
	if err != nil || len(pull) != 1 || pull[0].Attempt != 2 || !pull[0].Deadline.Equal(f.clock().Add(time.Minute)) {
		t.Errorf("pulled: %+v, %v", pull, err)
	}
	for attempt, want := range map[int]error{1: ErrNotFound, 2: nil, 3: ErrNotFound} {
		if _, err := f.OpenOne(ctx, "m0", id, attempt); !errors.Is(err, want) {
			t.Errorf("attempt %d: %v", attempt, err)
		}
		if _, err := f.OpenContent(ctx, "m0", id, attempt); !errors.Is(err, want) {
			t.Errorf("content for attempt %d: %v", attempt, err)
		}
	}
	for held, want := range map[waybill.DeliveryID]int{id: 1, id + "-2": 0} {
		if l, err := f.Missing(ctx, map[waybill.InstanceID][]waybill.DeliveryID{"m0": {held}}); err != nil || len(l) != want {
			t.Errorf("a machine with %s lacks %d, %v", held, len(l), err)
		}
	}
	if open, err := f.PendingDeliveries(ctx); err != nil || !open[id].Equal(d.Deadline) {
		t.Errorf("pending until %v, %v", open[id], err)
	}

	// What comes late of the first attempt says what became of that, if it was only inferred, and nothing of the second.
	f.advance(time.Second)
	late := ended(id, "m2", waybill.NoCause, epoch.Add(time.Second)).of(1)
	if applied := f.apply(ended(id, "m0", waybill.NoCause, epoch).of(1), late, late); applied[0] || !applied[1] || applied[2] {
		t.Errorf("late reports: %v", applied)
	}
	if now := f.list(waybill.DeliveryFilter{}, waybill.Page{}).Items[0]; now.Counts != d.Counts || now.Targets[2] != d.Targets[2] {
		t.Errorf("late reports made it %+v %+v", now.Counts, now.Targets[2])
	}
	attempts, err := f.Attempts(ctx, "a", region, id, "m2")
	if err != nil || len(attempts) != 2 || attempts[0].Status != waybill.Success || !attempts[0].Created.Equal(epoch) || attempts[1].Status != waybill.Pending {
		t.Errorf("attempts: %+v, %v", attempts, err)
	}
	f.apply(ended(id, "m0", waybill.NoCause, epoch).of(2), ended(id, "m2", waybill.CauseExists, f.clock()).of(2))
	d = f.list(waybill.DeliveryFilter{}, waybill.Page{}).Items[0]
	if d.Counts != (waybill.Counts{Success: 2, Failed: 1}) || !d.Targets[0].Finished.Equal(d.Targets[0].Begun) {
		t.Errorf("then: %+v, %+v", d.Counts, d.Targets[0])
	}
	attempts, err = f.Attempts(ctx, "a", region, id, "m0")
	if err != nil || len(attempts) != 2 || attempts[0].Target != first[0] {
		t.Errorf("attempts: %+v, %v", attempts, err)
	}
	if l, err := f.Attempts(ctx, "a", region, id, "m9"); len(l) != 0 || err != nil {
		t.Errorf("of no target: %+v, %v", l, err)
	}
	if _, err := f.Attempts(ctx, "b", region, id, "m0"); !errors.Is(err, ErrNotFound) {
		t.Errorf("of another account: %v", err)
	}
}

// sweepAt ends what an instance did not take until then.
func (f *fixture) sweepAt(id waybill.DeliveryID, i waybill.InstanceID, after time.Duration) {
	f.advance(after)
	f.apply(Change{Delivery: id, Instance: i, Event: waybill.Event{To: waybill.Aborted, Cause: waybill.CauseAgentSilent, Finished: f.clock()}})
}

func TestRetryRaces(t *testing.T) { onEach(t, testRetryRaces) }

// testRetryRaces retries what is not any more what it was, and removes what was retried a moment ago.
func testRetryRaces(t *testing.T, open opener) {
	t.Parallel()
	f, ctx := open(t), t.Context()
	id := f.delivery("f-1", 1)
	f.sweepAt(id, "m0", time.Minute)
	d, targets, err := f.Retriable(ctx, "a", region, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := targets[0].Retry(f.clock())
	next := []Target{{Target: again, Deadline: f.clock().Add(time.Minute)}}
	f.apply(ended(id, "m0", waybill.NoCause, epoch)) // corrects it
	if err := f.Retry(ctx, &d, next); !errors.Is(err, ErrChanged) {
		t.Errorf("of a success: %v", err)
	}
	if l, err := f.Attempts(ctx, "a", region, id, "m0"); err != nil || len(l) != 1 || l[0].Status != waybill.Success {
		t.Errorf("attempts: %+v, %v", l, err)
	}

	failed := f.delivery("f-2", 1)
	f.apply(ended(failed, "m0", waybill.CauseExists, f.clock()))
	f.retry(failed)
	if n, err := f.Expire(ctx, Scope{"a", region}, f.clock().Add(time.Hour), 0, 9); err != nil || n != 1 {
		t.Errorf("removed %d, %v", n, err)
	}
	f.apply(ended(failed, "m0", waybill.CauseExists, f.clock()).of(2))
	if n, err := f.Expire(ctx, Scope{"a", region}, f.clock().Add(time.Hour), 0, 9); err != nil || n != 1 {
		t.Errorf("removed %d, %v", n, err)
	}
	if n, err := one(ctx, f.reads, scanOne[int], `SELECT COUNT(*) FROM attempts`); n != 0 || err != nil {
		t.Errorf("%d attempts are left, %v", n, err)
	}
}
