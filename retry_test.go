// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"testing"
	"time"
)

func TestRetry(t *testing.T) {
	t.Parallel()
	created := time.UnixMilli(1_000_000).UTC()
	now := created.Add(time.Hour)
	for name, tc := range map[string]struct {
		target Target
		want   Retrying
	}{
		"pending":        {Target{Status: Pending}, RetrySkipped},
		"running":        {Target{Status: Running}, RetrySkipped},
		"in place":       {Target{Status: Success}, RetrySkipped},
		"failed":         {Target{Status: Failed, Cause: CauseExists}, RetryBegun},
		"refused":        {Target{Status: Invalid, Cause: CauseName}, RetryBegun},
		"broken":         {Target{Status: Errored, Cause: CauseAgentBroke}, RetryBegun},
		"too late":       {Target{Status: Timeout, Cause: CauseDeadline, Started: created}, RetryBegun},
		"cancelled":      {Target{Status: Aborted, Cause: CauseCancelled, Stopped: created, Given: true}, RetryBegun},
		"once more":      {Target{Status: Failed, Attempt: MaxAttempts - 1}, RetryBegun},
		"too often":      {Target{Status: Failed, Attempt: MaxAttempts}, RetryExhausted},
		"often, is open": {Target{Status: Running, Attempt: MaxAttempts}, RetrySkipped},
	} {
		was := tc.target
		was.Created, was.Delivery, was.Instance, was.Detail, was.Attempt = created, "f-1", "i", "detail", max(was.Attempt, 1)
		got, retrying := was.Retry(now)
		want := was
		if tc.want == RetryBegun {
			want = Target{Delivery: "f-1", Instance: "i", Attempt: was.Attempt + 1, Status: Pending, Created: created, Begun: now, Updated: now}
		}
		if retrying != tc.want || got != want {
			t.Errorf("%s: %d %+v", name, retrying, got)
		}
	}
}

// TestAttempts applies what is told of one attempt to another, and times from before it.
func TestAttempts(t *testing.T) {
	t.Parallel()
	created := time.UnixMilli(1_000_000).UTC()
	now := created.Add(time.Hour)
	terms := Terms{Deadline: now.Add(time.Minute), SHA256: [32]byte{1}}
	second, _ := Target{Status: Timeout, Cause: CauseDeadline, Attempt: 1, Created: created, Finished: created}.Retry(now)
	for attempt, applies := range map[int]bool{0: true, 1: false, 2: true, 3: false} {
		for _, reported := range []bool{true, false} {
			e := Event{Attempt: attempt, To: Failed, Cause: CauseExists, Started: created, Finished: created, Reported: reported}
			got, changed := second.Apply(e, terms, now.Add(time.Second))
			if changed != applies || applies != got.Status.Final() {
				t.Errorf("event of attempt %d: %v %+v", attempt, changed, got)
			}
			if applies && (!got.Started.Equal(now) || !got.Finished.Equal(now)) {
				t.Errorf("began at %v, ended at %v, before it was retried at %v", got.Started, got.Finished, now)
			}
		}
	}
}
