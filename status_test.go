// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAggregate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		in   []Status
		want Overall
	}{
		{"one pending among others", []Status{Success, Running, Pending, Failed}, OverallPending},
		{"running without pending", []Status{Success, Running, Failed}, OverallRunning},
		{"all success", []Status{Success, Success}, OverallSuccess},
		{"each failed kind counts as failed", []Status{Failed, Invalid, Aborted, Timeout, Errored}, OverallFailed},
		{"a mixture", []Status{Success, Timeout}, OverallPartial},
	} {
		var c Counts
		for _, s := range tc.in {
			c.Add(s, 1)
		}
		if got := c.Aggregate(); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestEveryCauseHasAFinalStatus(t *testing.T) {
	t.Parallel()
	if n := len(Causes()); n != 18 { // the rows of docs/state-machine.md, three for FileAuthorityInvalid
		t.Errorf("%d causes, want 18", n)
	}
	for _, c := range Causes() {
		if s := c.Status(); !s.Final() || s == Success || !s.Valid() {
			t.Errorf("%s has status %s", c, s)
		}
		if !c.Known() {
			t.Errorf("%s is not known", c)
		}
	}
	if c := Cause("from the future"); c.Known() || c.Status() != Errored || c.Inferred() {
		t.Errorf("an unknown cause is known, inferred or has status %s", c.Status())
	}
}

// TestTargetModel sends random events to a target and compares it with a model of a few lines: the first final event
// wins, but a report of work that ended in time replaces, once, what the server had inferred from silence.
func TestTargetModel(t *testing.T) {
	t.Parallel()
	created := time.UnixMilli(1_000_000).UTC()
	terms := Terms{Deadline: created.Add(time.Minute), SHA256: [32]byte{1}}
	endings := append([]Cause{NoCause}, Causes()...)
	slices.Sort(endings)
	rapid.Check(t, func(rt *rapid.T) {
		target := Target{Status: Pending, Created: created, Updated: created}
		now := created
		final, inferred := false, false // the model
		corrections := 0
		for range rapid.IntRange(1, 12).Draw(rt, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40_000).Draw(rt, "pause")) * time.Millisecond)
			e := Event{To: Running, Started: now, Reported: true}
			if rapid.Bool().Draw(rt, "ends") {
				cause := rapid.SampledFrom(endings).Draw(rt, "cause")
				e = Event{
					To: cause.Status(), Cause: cause, SHA256: terms.SHA256[:], Reported: rapid.Bool().Draw(rt, "reported"),
					Finished: now.Add(-time.Duration(rapid.IntRange(0, 60_000).Draw(rt, "late")) * time.Millisecond),
				}
				if !e.Reported && cause == NoCause {
					continue // the server never concludes success
				}
			}
			before := target
			next, changed := target.Apply(e, terms, now)
			inTime := !e.Finished.After(terms.Deadline)
			told := e.Reported && e.To.Final() && inTime && slices.Contains([]Status{Success, Failed, Invalid, Errored}, e.To)
			want := !final && (e.To.Final() || before.Status == Pending) || final && inferred && told
			if changed != want {
				rt.Fatalf("event %+v on %+v: changed %v, want %v", e, before, changed, want)
			}
			if !changed && next != before {
				rt.Fatalf("an event that changes nothing changed %+v to %+v", before, next)
			}
			if changed && final {
				corrections++
			}
			if changed && next.Status.Final() {
				final, inferred = true, next.Cause.Inferred()
			}
			target = next
		}
		if corrections > 1 {
			rt.Fatalf("%d corrections", corrections)
		}
		if target.Status.Final() != !target.Finished.IsZero() {
			rt.Fatalf("status %s, finished %v", target.Status, target.Finished)
		}
		for _, at := range []time.Time{target.Started, target.Finished} {
			if !at.IsZero() && (at.Before(created) || at.After(now)) {
				rt.Fatalf("time %v lies outside %v … %v", at, created, now)
			}
		}
	})
}

func TestApply(t *testing.T) {
	t.Parallel()
	created := time.UnixMilli(1_000_000).UTC()
	deadline := created.Add(10 * time.Second)
	terms := Terms{Deadline: deadline, SHA256: [32]byte{7}}
	now := created.Add(20 * time.Second)
	for _, tc := range []struct {
		name       string
		from       Target
		event      Event
		wantStatus Status
		wantCause  Cause
		changed    bool
	}{
		{"success with proof", Target{Status: Running}, Event{To: Success, SHA256: terms.SHA256[:], Reported: true, Finished: deadline}, Success, NoCause, true},
		{"success without proof", Target{Status: Running}, Event{To: Success, Reported: true, Finished: deadline}, Failed, CauseWriteFailed, true},
		{"success of other bytes", Target{Status: Running}, Event{To: Success, SHA256: make([]byte, 32), Reported: true}, Failed, CauseWriteFailed, true},
		{"work that ended too late", Target{Status: Running}, Event{To: Success, SHA256: terms.SHA256[:], Reported: true, Finished: deadline.Add(1)}, Timeout, CauseDeadline, true},
		{"late report corrects a timeout", Target{Status: Timeout, Cause: CauseDeadline}, Event{To: Success, SHA256: terms.SHA256[:], Reported: true, Finished: deadline}, Success, NoCause, true},
		{"late report corrects silence", Target{Status: Aborted, Cause: CauseAgentSilent}, Event{To: Failed, Cause: CauseExists, Reported: true, Finished: deadline}, Failed, CauseExists, true},
		{"nothing corrects a release", Target{Status: Aborted, Cause: CauseReleased}, Event{To: Success, SHA256: terms.SHA256[:], Reported: true}, Aborted, CauseReleased, false},
		{"an acknowledgement after the end", Target{Status: Success}, Event{To: Running, Reported: true}, Success, NoCause, false},
		{"an acknowledgement after a timeout", Target{Status: Timeout, Cause: CauseDeadline}, Event{To: Running, Reported: true}, Timeout, CauseDeadline, false},
		{"the server does not correct itself", Target{Status: Timeout, Cause: CauseDeadline}, Event{To: Aborted, Cause: CauseReleased}, Timeout, CauseDeadline, false},
		{"a conclusion from what is no more", Target{Status: Running}, Event{From: Pending, To: Aborted, Cause: CauseAgentSilent}, Running, NoCause, false},
		{"a report twice", Target{Status: Failed, Cause: CauseExists}, Event{To: Success, SHA256: terms.SHA256[:], Reported: true}, Failed, CauseExists, false},
	} {
		tc.from.Created = created
		got, changed := tc.from.Apply(tc.event, terms, now)
		if got.Status != tc.wantStatus || got.Cause != tc.wantCause || changed != tc.changed {
			t.Errorf("%s: %s/%s changed=%v, want %s/%s changed=%v", tc.name, got.Status, got.Cause, changed, tc.wantStatus, tc.wantCause, tc.changed)
		}
	}
}
