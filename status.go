// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Status is the state of one target.
//
//	Pending ──► Running ──► Success | Failed | Invalid | Error | Timeout
//	   │           └──────► Aborted (deregistered while it worked)
//	   └──────────────────► any final status
//
// Source: docs/state-machine.md and the state list of DescribeSendFileResults.
type Status string

// The statuses of a target. The values are stored and shown as they stand.
const (
	Pending Status = "Pending" // accepted, not yet acknowledged by the machine
	Running Status = "Running" // acknowledged by the machine, outcome not yet known
	Success Status = "Success" // placed, re-read and verified on the machine
	Failed  Status = "Failed"  // the machine could not write it
	Invalid Status = "Invalid" // the machine refused what it was asked to write
	Aborted Status = "Aborted" // it never reached the machine
	Timeout Status = "Timeout" // acknowledged, not finished by the deadline
	Errored Status = "Error"   // the agent broke while working on it
)

// Final reports whether a target in s has ended.
func (s Status) Final() bool { return s != Pending && s != Running }

// Valid reports whether s is one of the statuses above.
func (s Status) Valid() bool {
	switch s {
	case Pending, Running, Success, Failed, Invalid, Aborted, Timeout, Errored:
		return true
	}
	return false
}

// moves is the one place that says which change of status is allowed. A final status is left only through the one
// correction of CanCorrect.
var moves = map[Status][]Status{
	Pending: {Running, Success, Failed, Invalid, Aborted, Timeout, Errored},
	Running: {Success, Failed, Invalid, Aborted, Timeout, Errored},
}

// CanMoveTo reports whether a target in s may become t.
func (s Status) CanMoveTo(t Status) bool { return slices.Contains(moves[s], t) }

// CanCorrect reports whether e, the machine's own account of work that ended before the deadline, may replace an ending with
// cause c, which the server inferred from silence. Each target allows this once: what replaces it is not inferred any more.
// See docs/decisions/0002-corrections.md.
func (e Event) CanCorrect(c Cause) bool {
	return e.Reported && e.To.Final() && c.Inferred() && !e.Cause.Inferred()
}

// Counts is how many targets of a delivery are in which class.
type Counts struct {
	Pending, Running, Success, Failed int
}

// Add moves n targets into the class of s; a negative n moves them out.
func (c *Counts) Add(s Status, n int) {
	switch s {
	case Pending:
		c.Pending += n
	case Running:
		c.Running += n
	case Success:
		c.Success += n
	case Failed, Invalid, Aborted, Timeout, Errored:
		c.Failed += n
	}
}

// Overall is the status of a whole delivery.
type Overall string

// The overall statuses, in the values of the API contract (DescribeSendFileResults, field InvocationStatus).
const (
	OverallPending Overall = "Pending"
	OverallRunning Overall = "Running"
	OverallSuccess Overall = "Success"
	OverallFailed  Overall = "Failed"
	OverallPartial Overall = "PartialFailed"
)

// Final reports whether no target of the delivery is open any more.
func (o Overall) Final() bool { return o != OverallPending && o != OverallRunning }

// Valid reports whether o is one of the overall statuses.
func (o Overall) Valid() bool {
	switch o {
	case OverallPending, OverallRunning, OverallSuccess, OverallFailed, OverallPartial:
		return true
	}
	return false
}

// Aggregate returns the overall status: any Pending, then any Running, then all Success, then all failed kinds, and
// PartialFailed for a mixture of the two.
func (c Counts) Aggregate() Overall {
	switch {
	case c.Pending > 0:
		return OverallPending
	case c.Running > 0:
		return OverallRunning
	case c.Failed == 0:
		return OverallSuccess
	case c.Success == 0:
		return OverallFailed
	}
	return OverallPartial
}

// Event is something that happened to a target: the machine acknowledged it or reported its outcome, or the server ended it.
type Event struct {
	Attempt  int    // which attempt it is of; zero: whichever the target is at
	From     Status // what the server concluded from; empty: whatever the target's status is
	To       Status
	Cause    Cause
	Detail   string
	Started  time.Time // zero if this event does not tell
	Finished time.Time // zero unless To is final
	Reported bool      // told by the machine, not concluded by the server
	SHA256   []byte    // of a reported Success: of the bytes re-read from the final path; of a rehearsal nil
	Change   Change    // of a reported Success: what it did, or would do; empty if the machine cannot tell
}

// Terms is what a delivery holds each of its targets to.
type Terms struct {
	Deadline time.Time
	SHA256   [32]byte // of the content
	DryRun   bool     // it is a rehearsal
}

// Apply returns what e makes of t, and whether it changes anything. Events may come twice, late and out of order: what
// the table of moves does not allow changes nothing, and neither does what is of another attempt. Work that the machine
// ended after the deadline counts as Timeout whenever the report comes in, and a success without its proof is none. Times are
// clipped to lie between the beginning of the attempt and now, because they rest on a machine's estimate of the server's clock.
func (t Target) Apply(e Event, terms Terms, now time.Time) (Target, bool) {
	if e.Reported && e.To == Success {
		e = e.proven(terms)
	}
	if e.Reported && e.To.Final() && e.Finished.After(terms.Deadline) {
		e.To, e.Cause = CauseDeadline.Status(), CauseDeadline
	}
	if e.Reported && e.To.Final() && e.Cause != CauseCancelled && !t.Stopped.IsZero() {
		e.Detail = strings.TrimSuffix("too late to be cancelled: "+e.Detail, ": ")
	}
	if e.From != "" && e.From != t.Status || e.Attempt != 0 && e.Attempt != t.Attempt {
		return t, false
	}
	if !t.Status.CanMoveTo(e.To) && !e.CanCorrect(t.Cause) {
		return t, false
	}
	t.Status, t.Cause, t.Detail, t.Updated = e.To, e.Cause, e.Detail, now
	if e.To == Success {
		t.Change = e.Change
	}
	if t.Started.IsZero() && !e.Started.IsZero() {
		t.Started = clip(e.Started, t.Beginning(), now)
	}
	if e.To.Final() {
		t.Finished = clip(e.Finished, latest(t.Beginning(), t.Started), now)
	}
	return t, true
}

// proven returns e, a success that a machine reports, if it proves what the terms demand: that the right bytes are there, or, of
// a rehearsal, what would happen. Otherwise it is a failure.
func (e Event) proven(terms Terms) Event {
	switch {
	case terms.DryRun && !e.Change.Foretold():
		e.To, e.Cause = CauseAgentBroke.Status(), CauseAgentBroke
		e.Detail = fmt.Sprintf("the agent was to say what would happen, and said %q", e.Change)
	case terms.DryRun:
	case e.Change.Foretold():
		e.To, e.Cause = CauseAgentBroke.Status(), CauseAgentBroke
		e.Detail = "the agent was to place the file, and only said what would happen"
	case !bytes.Equal(e.SHA256, terms.SHA256[:]):
		e.To, e.Cause = CauseWriteFailed.Status(), CauseWriteFailed
		e.Detail = fmt.Sprintf("the agent reported success, but the digest it read back is %x, not %x", e.SHA256, terms.SHA256)
	}
	return e
}

func clip(t, from, to time.Time) time.Time {
	if t.Before(from) {
		return from
	}
	if t.After(to) {
		return to
	}
	return t
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
