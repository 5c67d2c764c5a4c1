// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// endings is the table of causes in docs/state-machine.md, and what it says of success. It is written down once more
// because the model must not ask the code.
var endings = map[Cause]struct {
	status   Status
	inferred bool // the server may have been wrong
	machine  bool // a machine may report it
}{
	"":                  {status: "Success", machine: true},
	"instance-unknown":  {status: "Aborted"},
	"instance-released": {status: "Aborted"},
	"instance-down":     {status: "Aborted", inferred: true},
	"account-gone":      {status: "Aborted"},
	"agent-stopped":     {status: "Aborted", inferred: true},
	"agent-silent":      {status: "Aborted", inferred: true},
	"agent-upgrading":   {status: "Aborted", inferred: true},
	"agent-too-old":     {status: "Aborted"},
	"deadline":          {status: "Timeout", inferred: true, machine: true},
	"write-failed":      {status: "Failed", machine: true},
	"exists":            {status: "Failed", machine: true},
	"content-invalid":   {status: "Invalid", machine: true},
	"name-invalid":      {status: "Invalid", machine: true},
	"path-invalid":      {status: "Invalid", machine: true},
	"owner-missing":     {status: "Invalid", machine: true},
	"group-missing":     {status: "Invalid", machine: true},
	"mode-inapplicable": {status: "Invalid", machine: true},
	"agent-broke":       {status: "Error", machine: true},
	"cancelled":         {status: "Aborted", machine: true},
}

// model is a target as docs/state-machine.md and decisions 2 and 19 tell of it.
type model struct {
	status            Status
	cause             Cause
	started, finished time.Time
}

// acknowledged: only the first time, and only while nothing is known.
func (m *model) acknowledged(at, created, now time.Time) bool {
	if m.status != "Pending" {
		return false
	}
	m.status = "Running"
	m.begin(at, created, now)
	return true
}

// reported: what ended too late is a timeout, and a success without its proof a failure; the first one counts, but for
// what had only been inferred, which the account of work that ended in time corrects.
func (m *model) reported(cause Cause, proven bool, started, finished, created, deadline, now time.Time) bool {
	if cause == "" && !proven {
		cause = "write-failed"
	}
	if finished.After(deadline) {
		cause = "deadline"
	}
	open := m.status == "Pending" || m.status == "Running"
	if !open && !(endings[m.cause].inferred && !endings[cause].inferred) {
		return false
	}
	m.begin(started, created, now)
	m.end(cause, finished, created, now)
	return true
}

// concluded: by the server, from what it saw when it looked; it never changes its mind.
func (m *model) concluded(cause Cause, saw Status, created, now time.Time) bool {
	if m.status != "Pending" && m.status != "Running" || saw != "" && saw != m.status {
		return false
	}
	m.end(cause, now, created, now)
	return true
}

// retried: what has failed, ten attempts at most.
func (m *model) retried(attempt int) bool {
	if m.status == "Pending" || m.status == "Running" || m.status == "Success" || attempt >= 10 {
		return false
	}
	*m = model{status: "Pending"}
	return true
}

func (m *model) begin(at, created, now time.Time) {
	if m.started.IsZero() && !at.IsZero() {
		m.started = between(at, created, now)
	}
}

func (m *model) end(cause Cause, at, created, now time.Time) {
	m.status, m.cause = endings[cause].status, cause
	if m.started.After(created) {
		created = m.started
	}
	m.finished = between(at, created, now)
}

func between(t, from, to time.Time) time.Time {
	if t.Before(from) {
		return from
	}
	if t.After(to) {
		return to
	}
	return t
}

// TestTargetModel sends random events to a target, in any order, late and more than once, and compares it after each
// with the model.
func TestTargetModel(t *testing.T) {
	t.Parallel()
	created := time.UnixMilli(1_000_000).UTC()
	terms := Terms{Deadline: created.Add(time.Minute), SHA256: [32]byte{1}}
	var told, known []Cause
	for c, e := range endings {
		if e.machine {
			told = append(told, c)
		}
		if c != "" {
			known = append(known, c)
		}
	}
	slices.Sort(told) // so that a failure can be drawn again
	slices.Sort(known)
	if len(known) != len(Causes()) {
		t.Errorf("docs/state-machine.md has %d causes, the code %d", len(known), len(Causes()))
	}
	run := func(rt *rapid.T) {
		target := Target{Attempt: 1, Status: Pending, Created: created, Updated: created}
		begun := created // the attempt
		m := model{status: "Pending"}
		now := created
		saw := []Status{"", "Pending"} // what a server may have seen when it looked
		var past []Event               // what may come again
		ended, corrected := 0, 0
		instant := func(name string) time.Time { // as a machine tells it, whose idea of the time may be wrong
			if rapid.IntRange(0, 9).Draw(rt, name+" unknown") == 0 {
				return time.Time{}
			}
			ms := rapid.OneOf(rapid.IntRange(-5_000, 90_000), rapid.IntRange(59_999, 60_001)).Draw(rt, name) // the deadline is 60,000
			return created.Add(time.Duration(ms) * time.Millisecond)
		}
		for range rapid.IntRange(1, 20).Draw(rt, "events") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 1000, 20_000, 61_000}).Draw(rt, "pause")) * time.Millisecond)
			var e Event
			switch kind := rapid.SampledFrom([]string{"ack", "report", "report", "conclude", "again", "retry"}).Draw(rt, "kind"); {
			case kind == "retry":
				next, retrying := target.Retry(now)
				if begins := m.retried(target.Attempt); begins != (retrying == RetryBegun) || !begins && next != target {
					rt.Fatalf("retried at %v, %+v became %+v", now, target, next)
				} else if begins {
					begun, ended, corrected = now, 0, 0
				}
				target = next
				continue
			case kind == "again" && len(past) > 0:
				e = rapid.SampledFrom(past).Draw(rt, "which")
			case kind == "ack":
				e = Event{To: "Running", Started: instant("started"), Reported: true}
			case kind == "conclude":
				cause := rapid.SampledFrom(known).Draw(rt, "cause")
				e = Event{To: endings[cause].status, Cause: cause, From: rapid.SampledFrom(saw).Draw(rt, "saw"), Finished: now}
			default:
				cause := rapid.SampledFrom(told).Draw(rt, "cause")
				e = Event{
					To: endings[cause].status, Cause: cause, Started: instant("started"), Finished: instant("finished"),
					Reported: true,
				}
				if e.SHA256 = terms.SHA256[:]; rapid.IntRange(0, 4).Draw(rt, "unproven") == 0 {
					e.SHA256 = nil
				}
			}
			if e.To != "Running" && !e.Reported {
				e.Finished = now
			}
			if e.Attempt == 0 { // otherwise it comes again
				e.Attempt = target.Attempt
			}
			past = append(past, e)

			was := m
			var want bool
			switch {
			case e.Attempt != target.Attempt: // of one that is over
			case e.To == "Running":
				want = m.acknowledged(e.Started, begun, now)
			case e.Reported:
				want = m.reported(e.Cause, e.SHA256 != nil, e.Started, e.Finished, begun, terms.Deadline, now)
			default:
				want = m.concluded(e.Cause, e.From, begun, now)
			}
			next, changed := target.Apply(e, terms, now)
			if changed != want {
				rt.Fatalf("event %+v on %+v at %v: changed %v, want %v", e, target, now, changed, want)
			}
			if !changed && next != target {
				rt.Fatalf("an event that changes nothing changed %+v to %+v", target, next)
			}
			if got := (model{next.Status, next.Cause, next.Started, next.Finished}); got != m {
				rt.Fatalf("event %+v on %+v at %v: %+v, want %+v", e, target, now, got, m)
			}
			if changed && !next.Updated.Equal(now) {
				rt.Fatalf("changed at %v, not %v", next.Updated, now)
			}
			if changed && next.Status != "Running" {
				if ended++; was.status != "Pending" && was.status != "Running" {
					corrected++
				}
			}
			target = next
			saw = append(saw, target.Status)
		}
		// What this project promises, whatever the model says.
		if corrected > 1 || ended > 2 || ended-corrected > 1 {
			rt.Fatalf("%d endings, %d of them corrections", ended, corrected)
		}
		if (ended > 0) != (target.Status != "Pending" && target.Status != "Running") || (ended > 0) != !target.Finished.IsZero() {
			rt.Fatalf("%d endings, status %s, finished %v", ended, target.Status, target.Finished)
		}
		for _, at := range []time.Time{target.Started, target.Finished} {
			if !at.IsZero() && (at.Before(begun) || at.After(now)) {
				rt.Fatalf("time %v lies outside %v … %v", at, begun, now)
			}
		}
	}
	for range 20 {
		rapid.Check(t, run)
	}
}
