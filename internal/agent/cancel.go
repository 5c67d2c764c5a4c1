// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"slices"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// What the report of a delivery says that was given up.
const (
	detailGivenUp = "given up before anything was in place"
	detailUnseen  = "given up before it came"
)

// cancel gives a delivery up for good, unless it is published: then the outcome is what it is. One that has not come yet is
// given up as well, so that it is not carried out when it comes. What cannot be done now is done when the server asks again.
func (e *executor) cancel(c *wire.Cancel) {
	e.mu.Lock()
	p, b := e.outbox[c.Delivery], e.busy[c.Delivery]
	switch {
	case p != nil:
		p.due = time.Time{}
		e.changedLocked()
	case b != nil:
		b.cancelled = true
		if b.stop != nil {
			b.stop()
		}
		if t, waits := e.takeOutLocked(c.Delivery); waits {
			e.mu.Unlock()
			e.finish(t, e.givenUp(t.delivery))
			return
		}
	case e.journal.isConfirmed(c.Delivery), e.closed, len(e.busy)+len(e.outbox) >= wire.MaxOpen:
	default:
		e.busy[c.Delivery] = &underway{cancelled: true} // so that it is not taken up until the journal has it
		e.mu.Unlock()
		report := e.givenUp(c.Delivery)
		report.Detail = detailUnseen
		e.finish(task{delivery: c.Delivery, deadline: c.Deadline}, report)
		return
	}
	e.mu.Unlock()
}

// takeOutLocked removes the task of a delivery that waits behind others for its path. One that is to find out what became of
// the delivery stays.
func (e *executor) takeOutLocked(delivery string) (task, bool) {
	for at, q := range e.queues {
		i := slices.IndexFunc(q, func(t task) bool { return t.delivery == delivery && !t.resumes })
		if i >= 0 {
			t := q[i]
			e.queues[at] = slices.Delete(q, i, i+1)
			return t, true
		}
	}
	return task{}, false
}

// commence begins work on t, unless it was given up before. Its context ends when it is given up, if it is one that may be cut
// off: what became of a delivery is found out in any case. Whoever works calls stop in the end.
func (e *executor) commence(ctx context.Context, t task) (_ context.Context, stop context.CancelFunc, goOn bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.resumes {
		return ctx, func() {}, true
	}
	b := e.busy[t.delivery]
	if b.cancelled {
		return nil, nil, false
	}
	ctx, b.stop = context.WithCancel(ctx)
	return ctx, b.stop, true
}

func (e *executor) isCancelled(delivery string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.busy[delivery]
	return b != nil && b.cancelled
}

// givenUp is the outcome of a delivery of which nothing is in place.
func (e *executor) givenUp(delivery string) *wire.Report {
	return &wire.Report{
		Delivery: delivery, Cause: string(waybill.CauseCancelled), Detail: detailGivenUp, Finished: e.clock.millis(),
	}
}
