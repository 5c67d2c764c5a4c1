// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"testing"
	"time"
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
	if n := len(Causes()); n != 19 { // the rows of docs/state-machine.md, three for FileAuthorityInvalid
		t.Errorf("%d causes, want 19", n)
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
		{"late report of being given up", Target{Status: Timeout, Cause: CauseDeadline}, Event{To: Aborted, Cause: CauseCancelled, Reported: true, Finished: deadline}, Aborted, CauseCancelled, true},
		{"what is inferred corrects nothing", Target{Status: Timeout, Cause: CauseDeadline}, Event{To: Aborted, Cause: CauseAgentSilent, Reported: true, Finished: deadline}, Timeout, CauseDeadline, false},
		{"nothing corrects a release", Target{Status: Aborted, Cause: CauseReleased}, Event{To: Success, SHA256: terms.SHA256[:], Reported: true}, Aborted, CauseReleased, false},
		{"an acknowledgement after the end", Target{Status: Success}, Event{To: Running, Reported: true}, Success, NoCause, false},
		{"an acknowledgement after a timeout", Target{Status: Timeout, Cause: CauseDeadline}, Event{To: Running, Reported: true}, Timeout, CauseDeadline, false},
		{"the server does not correct itself", Target{Status: Timeout, Cause: CauseDeadline}, Event{To: Aborted, Cause: CauseReleased}, Timeout, CauseDeadline, false},
		{"a conclusion from what is no more", Target{Status: Running}, Event{From: Pending, To: Aborted, Cause: CauseAgentSilent}, Running, NoCause, false},
		{"a report twice", Target{Status: Failed, Cause: CauseExists}, Event{To: Success, SHA256: terms.SHA256[:], Reported: true}, Failed, CauseExists, false},
		{"a word of a rehearsal that is none", Target{Status: Running}, Event{To: Success, SHA256: terms.SHA256[:], Change: WouldKeep, Reported: true}, Errored, CauseAgentBroke, true},
	} {
		tc.from.Created = created
		got, changed := tc.from.Apply(tc.event, terms, now)
		if got.Status != tc.wantStatus || got.Cause != tc.wantCause || changed != tc.changed {
			t.Errorf("%s: %s/%s changed=%v, want %s/%s changed=%v", tc.name, got.Status, got.Cause, changed, tc.wantStatus, tc.wantCause, tc.changed)
		}
	}
}

// TestApplyRehearsal has the word of the machine for what would happen in place of the proof of what did.
func TestApplyRehearsal(t *testing.T) {
	t.Parallel()
	terms := Terms{Deadline: time.UnixMilli(1_000_000), SHA256: [32]byte{7}, DryRun: true}
	for _, tc := range []struct {
		change     Change
		wantStatus Status
		wantChange Change
	}{
		{WouldCreate, Success, WouldCreate},
		{WouldReplace, Success, WouldReplace},
		{WouldKeep, Success, WouldKeep},
		{Created, Errored, ""},
		{Unchanged, Errored, ""},
		{"", Errored, ""},
	} {
		got, changed := Target{Status: Running}.Apply(Event{To: Success, SHA256: terms.SHA256[:], Change: tc.change, Reported: true}, terms, terms.Deadline)
		if got.Status != tc.wantStatus || got.Change != tc.wantChange || !changed {
			t.Errorf("%q: %s %q, changed=%v", tc.change, got.Status, got.Change, changed)
		}
	}
}
