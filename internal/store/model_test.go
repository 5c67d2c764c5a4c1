// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/openwaybill/waybill"
)

// happening is an event of a target, in the words of docs/state-machine.md.
type happening struct {
	what   string // ack, report or conclude
	ending string // the status that it tells or concludes
	cause  string
	sure   bool   // nobody has inferred it
	saw    string // what the server concluded from; empty: it did not look
	inTime bool   // the work ended before the deadline
	proven bool   // the digest is right
}

// reports are the endings that a machine may tell of; conclusions, those that a server may come to.
var (
	reports = []happening{
		{ending: "Success", sure: true},
		{ending: "Failed", cause: "exists", sure: true},
		{ending: "Invalid", cause: "path-invalid", sure: true},
		{ending: "Error", cause: "agent-broke", sure: true},
		{ending: "Timeout", cause: "deadline"},
	}
	conclusions = []happening{
		{ending: "Timeout", cause: "deadline"},
		{ending: "Aborted", cause: "agent-silent"},
		{ending: "Aborted", cause: "agent-stopped"},
		{ending: "Aborted", cause: "instance-released", sure: true},
		{ending: "Aborted", cause: "account-gone", sure: true},
	}
)

// told returns what a report comes to.
func (h happening) told() happening {
	switch {
	case !h.inTime:
		h.ending, h.cause, h.sure = "Timeout", "deadline", false
	case h.ending == "Success" && !h.proven:
		h.ending, h.cause = "Failed", "write-failed"
	}
	return h
}

// outcome says what has become of a target to which all of list happened, in that order, without going through it state
// by state: the first ending stands, but for one that was inferred and is followed by the machine's account of work
// that ended in time; then that account stands.
func outcome(list []happening) (status, cause string) {
	acknowledged := false
	var first *happening
	for _, h := range list {
		now := "Pending"
		if acknowledged {
			now = "Running"
		}
		switch {
		case h.what == "ack":
			acknowledged = acknowledged || first == nil
		case h.what == "report" && first == nil:
			h = h.told()
			first = &h
		case h.what == "conclude" && first == nil && (h.saw == "" || h.saw == now):
			first = &h
		case h.what == "report" && !first.sure && h.told().sure:
			return h.told().ending, h.told().cause
		}
	}
	switch {
	case first != nil:
		return first.ending, first.cause
	case acknowledged:
		return "Running", ""
	}
	return "Pending", ""
}

// overall is "The whole delivery" of docs/state-machine.md.
func overall(statuses []string) string {
	n := map[string]int{}
	for _, s := range statuses {
		n[s]++
	}
	switch {
	case n["Pending"] > 0:
		return "Pending"
	case n["Running"] > 0:
		return "Running"
	case n["Success"] == len(statuses):
		return "Success"
	case n["Success"] == 0:
		return "Failed"
	}
	return "PartialFailed"
}

// TestStoredModel sends random events to the targets of deliveries, in batches as they gather, late, more than once and
// mixed up, and compares what is stored after each batch with what is to be stored.
func TestStoredModel(t *testing.T) { onEach(t, testStoredModel) }

func testStoredModel(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	cases := 0
	run := func(rt *rapid.T) {
		cases++
		n := rapid.IntRange(1, 3).Draw(rt, "targets")
		id := f.delivery(fmt.Sprintf("f-%06d", cases), n)
		created := f.clock()
		digest := sha256.Sum256([]byte("content of " + string(id)))
		happened := make([][]happening, n)
		final := make([]int, n) // how often a target got an ending
		for range rapid.IntRange(1, 6).Draw(rt, "batches") {
			f.advance(time.Duration(rapid.SampledFrom([]int{0, 1, 30, 70}).Draw(rt, "pause")) * time.Second)
			var batch []Change
			var of []int
			for range rapid.IntRange(1, 5).Draw(rt, "events") {
				i := rapid.IntRange(0, n-1).Draw(rt, "target")
				h := draw(rt)
				if past := happened[i]; len(past) > 0 && rapid.IntRange(0, 3).Draw(rt, "again") == 0 {
					h = rapid.SampledFrom(past).Draw(rt, "which")
				}
				happened[i] = append(happened[i], h)
				batch, of = append(batch, Change{Delivery: id, Instance: machine(i), Event: h.event(created, f.clock(), digest[:])}), append(of, i)
			}
			for k, ok := range f.apply(batch...) {
				if ok && batch[k].To != "Running" {
					final[of[k]]++
				}
			}
			f.compare(rt, id, happened)
		}
		for i, n := range final {
			if n > 2 {
				rt.Fatalf("%s got %d endings by %+v", machine(i), n, happened[i])
			}
		}
	}
	for range 3 {
		rapid.Check(t, run)
	}
}

// draw draws one event.
func draw(rt *rapid.T) (h happening) {
	switch what := rapid.SampledFrom([]string{"ack", "report", "report", "conclude"}).Draw(rt, "what"); what {
	case "ack":
	case "report":
		h = rapid.SampledFrom(reports).Draw(rt, "report")
		h.inTime, h.proven = rapid.IntRange(0, 3).Draw(rt, "late") > 0, rapid.IntRange(0, 3).Draw(rt, "unproven") > 0
		h.what = what
		return h
	case "conclude":
		h = rapid.SampledFrom(conclusions).Draw(rt, "conclusion")
		h.saw = rapid.SampledFrom([]string{"", "Pending", "Running"}).Draw(rt, "saw")
		h.what = what
		return h
	}
	return happening{what: "ack"}
}

// event is h as control would write it.
func (h happening) event(created, now time.Time, digest []byte) waybill.Event {
	e := waybill.Event{
		To: waybill.Status(h.ending), Cause: waybill.Cause(h.cause), Reported: h.what != "conclude",
		Started: created, Finished: now, From: waybill.Status(h.saw),
	}
	switch h.what {
	case "ack":
		return waybill.Event{To: "Running", Started: created, Reported: true}
	case "report":
		e.Finished = created.Add(time.Minute) // the deadline itself is in time
		if !h.inTime {
			e.Finished = e.Finished.Add(time.Millisecond)
		}
		if h.proven {
			e.SHA256 = digest
		}
	}
	return e
}

// compare looks at everything that is stored of a delivery.
func (f *fixture) compare(rt *rapid.T, id waybill.DeliveryID, happened [][]happening) {
	l, err := f.Deliveries(f.t.Context(), "a", waybill.DeliveryFilter{Region: region, ID: id}, waybill.Page{Size: 1})
	if err != nil || len(l.Items) != 1 {
		rt.Fatalf("%d deliveries, %v", len(l.Items), err)
	}
	d := l.Items[0]
	var statuses []string
	var counts waybill.Counts // as people count
	for i, list := range happened {
		status, cause := outcome(list)
		statuses = append(statuses, status)
		switch status {
		case "Pending":
			counts.Pending++
		case "Running":
			counts.Running++
		case "Success":
			counts.Success++
		default:
			counts.Failed++
		}
		got := d.Targets[i]
		if string(got.Status) != status || string(got.Cause) != cause {
			rt.Fatalf("%s is %s (%s) after %+v; want %s (%s)", machine(i), got.Status, got.Cause, list, status, cause)
		}
		_, err := f.OpenOne(f.t.Context(), machine(i), id, 1)
		if want := status == "Pending" || status == "Running"; (err == nil) != want || got.Finished.IsZero() != want {
			rt.Fatalf("%s is %s: open %v (%v), finished %v", machine(i), status, err == nil, err, got.Finished)
		}
	}
	if d.Counts != counts {
		rt.Fatalf("counts %+v of %v", d.Counts, statuses)
	}
	// What is listed is computed from the targets; the stored status is what filters look at.
	want := waybill.Overall(overall(statuses))
	l, err = f.Deliveries(f.t.Context(), "a", waybill.DeliveryFilter{Region: region, ID: id, Status: want}, waybill.Page{Size: 1})
	if err != nil || len(l.Items) != 1 || d.Counts.Aggregate() != want {
		rt.Fatalf("%v is stored as another status than %s, or told as %s (%v)", statuses, want, d.Counts.Aggregate(), err)
	}
}
