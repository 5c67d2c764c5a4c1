// SPDX-License-Identifier: Apache-2.0

package waybill

import "time"

// Stopping is what a request to stop a target comes to.
type Stopping int

// What a request to stop a target comes to.
const (
	StopCancelled Stopping = iota // it has ended: nothing was placed, and nothing will be
	StopAsked                     // the machine may have it: what its agent answers is the outcome
	StopTooLate                   // it has ended otherwise, or its agent may have it and cannot be asked
)

// StopCounts counts the targets that a request to stop named.
type StopCounts struct {
	Cancelled, Asked, TooLate int
}

// Add counts one of them.
func (c *StopCounts) Add(s Stopping) {
	switch s {
	case StopCancelled:
		c.Cancelled++
	case StopAsked:
		c.Asked++
	case StopTooLate:
		c.TooLate++
	}
}

// Stop returns what a request to stop t makes of it, and what that comes to. A target that may have been sent to its machine
// stays open, because nobody but its agent knows whether the file is in place; askable says whether that agent understands the
// question. A request that comes again changes nothing.
func (t Target) Stop(askable bool, now time.Time) (Target, Stopping) {
	switch {
	case t.Cause == CauseCancelled:
		return t, StopCancelled
	case t.Status.Final():
		return t, StopTooLate
	case t.Status == Pending && !t.Given:
		t.Status, t.Cause, t.Detail = CauseCancelled.Status(), CauseCancelled, "cancelled before it was sent to the machine"
		t.Finished, t.Updated = latest(now, t.Created), now
		return t, StopCancelled
	}
	if t.Stopped.IsZero() {
		t.Stopped = now
	}
	if askable {
		return t, StopAsked
	}
	return t, StopTooLate
}
