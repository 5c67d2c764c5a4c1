// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"strings"
	"testing"
	"time"
)

func TestStop(t *testing.T) {
	t.Parallel()
	created := time.UnixMilli(1_000_000).UTC()
	now := created.Add(time.Second)
	for _, tc := range []struct {
		name    string
		target  Target
		askable bool
		want    Stopping
		ends    bool
		marks   bool
	}{
		{"never sent", Target{Status: Pending}, true, StopCancelled, true, false},
		{"never sent to an agent that cannot be asked", Target{Status: Pending}, false, StopCancelled, true, false},
		{"sent, not acknowledged", Target{Status: Pending, Given: true}, true, StopAsked, false, true},
		{"acknowledged", Target{Status: Running, Given: true}, true, StopAsked, false, true},
		{"acknowledged, though nothing was noted", Target{Status: Running}, true, StopAsked, false, true},
		{"acknowledged by an agent that cannot be asked", Target{Status: Running, Given: true}, false, StopTooLate, false, true},
		{"asked before", Target{Status: Running, Given: true, Stopped: created}, true, StopAsked, false, false},
		{"in place", Target{Status: Success, Finished: created}, true, StopTooLate, false, false},
		{"failed", Target{Status: Failed, Cause: CauseExists, Finished: created}, true, StopTooLate, false, false},
		{"cancelled before", Target{Status: Aborted, Cause: CauseCancelled, Finished: created}, true, StopCancelled, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.target.Created = created
			got, stopping := tc.target.Stop(tc.askable, now)
			if stopping != tc.want {
				t.Errorf("comes to %d, want %d", stopping, tc.want)
			}
			if ended := got.Status == Aborted && got.Cause == CauseCancelled && got.Finished.Equal(now); tc.ends != (ended && got.Detail != "") {
				t.Errorf("ended %v: %+v", ended, got)
			}
			if marked := got.Stopped.Equal(now); marked != tc.marks {
				t.Errorf("asked to stop at %v", got.Stopped)
			}
			if !tc.ends && !tc.marks && got != tc.target {
				t.Errorf("changed to %+v", got)
			}
			if again, s := got.Stop(tc.askable, now.Add(time.Second)); again != got || s != stopping {
				t.Errorf("a repetition makes it %+v, %d", again, s)
			}
		})
	}
}

// TestTooLateToStop looks at what is told of a target that was to stop and has ended all the same.
func TestTooLateToStop(t *testing.T) {
	t.Parallel()
	created := time.UnixMilli(1_000_000).UTC()
	terms := Terms{Deadline: created.Add(time.Minute), SHA256: [32]byte{1}}
	target, _ := Target{Status: Running, Created: created, Given: true}.Stop(true, created)
	for name, tc := range map[string]struct {
		event  Event
		status Status
		late   bool
	}{
		"in place":           {Event{To: Success, SHA256: terms.SHA256[:]}, Success, true},
		"failed":             {Event{To: Failed, Cause: CauseExists, Detail: "it is there"}, Failed, true},
		"given up":           {Event{To: Aborted, Cause: CauseCancelled, Detail: "given up"}, Aborted, false},
		"given up, too late": {Event{To: Aborted, Cause: CauseCancelled, Finished: terms.Deadline.Add(1)}, Timeout, true},
	} {
		tc.event.Reported = true
		got, changed := target.Apply(tc.event, terms, created.Add(time.Second))
		if !changed || got.Status != tc.status || strings.HasPrefix(got.Detail, "too late to be cancelled") != tc.late || strings.HasSuffix(got.Detail, ": ") {
			t.Errorf("%s: %v %+v", name, changed, got)
		}
	}
}
