// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/telemetry"
	"github.com/openwaybill/waybill/internal/wire"
)

// Outcome is what an agent reports of one delivery, which has the ID of the attempt at it: see wire.AttemptID.
type Outcome struct {
	Delivery waybill.DeliveryID
	Cause    waybill.Cause // NoCause: success
	Detail   string
	Started  time.Time      // server clock as the agent estimates it
	Finished time.Time      // likewise
	SHA256   []byte         // of the bytes re-read from the final path; required for success
	Change   waybill.Change // what a success did; empty if the agent cannot tell
	Diff     waybill.Diff   // of a rehearsal that compares
	From     waybill.Status // if set, the outcome counts only while the target has this status
}

// maxChanges bounds how many events share one transaction.
const maxChanges = 1024

// change is an event on its way into the store, and what became of it.
type change struct {
	store.Change
	ctx     context.Context // of who waits for it, for traces only
	applied bool
	err     error
}

// applyChanges writes a batch of events in one transaction.
func (s *Service) applyChanges(batch []*change) {
	list := make([]store.Change, len(batch))
	for i, c := range batch {
		list[i] = c.Change
	}
	// Shared by many callers: none of their contexts may end it.
	ctx, span := telemetry.Shared(len(batch), func(i int) context.Context { return batch[i].ctx }, telemetry.Inside, "apply reports")
	span.Int("waybill.reports", len(batch))
	applied, err := s.store.Apply(ctx, list)
	span.End(err)
	if err != nil {
		s.log.Warn("store what agents report", "count", len(batch), "err", err) // of acknowledgements nobody else hears it
	}
	for i, c := range batch {
		if c.err = err; err != nil {
			continue
		}
		if c.applied = applied[i]; c.applied && c.To.Final() {
			s.metrics.ended.WithLabelValues(string(c.To), string(c.Cause)).Inc()
		}
	}
	s.tellApplied(list, applied)
}

func (s *Service) apply(ctx context.Context, c store.Change) (applied bool, err error) {
	ch := &change{Change: c, ctx: ctx}
	s.changes.Do(ch)
	return ch.applied, ch.err
}

// ackGather is how long acknowledgements may wait for company. Most targets end sooner, and then one change of the database
// tells of both.
const ackGather = 100 * time.Millisecond

// Ack notes that an instance has taken up a delivery, to be written soon, and before anything else that is reported of it.
// An acknowledgement is lost with the server, as it may be on its way: its target is Pending for a little longer then.
func (s *Service) Ack(ctx context.Context, id waybill.InstanceID, delivery waybill.DeliveryID, started time.Time) {
	of, attempt := attemptOf(delivery)
	waiting := s.changes.Later(&change{ctx: ctx, Change: store.Change{
		Delivery: of, Instance: id, Event: waybill.Event{Attempt: attempt, To: waybill.Running, Started: started, Reported: true},
	}})
	if waiting > maxChanges {
		s.changes.Flush() // whoever brings more than can be written waits for it
	}
	select {
	case s.acks <- struct{}{}:
	default:
	}
}

// runAcks writes the acknowledgements that no report takes along, until ctx ends, and the last ones then.
func (s *Service) runAcks(ctx context.Context) error {
	defer s.changes.Flush()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.acks:
		}
		pause(ctx, ackGather)
		s.changes.Flush()
	}
}

// Started is Ack for several deliveries at once, and tells of each whether it is the first time, and whether it may be carried
// out: it has neither ended meanwhile nor is it to stop.
func (s *Service) Started(ctx context.Context, id waybill.InstanceID, deliveries []waybill.DeliveryID) (first, open []bool, err error) {
	list := make([]store.Change, len(deliveries))
	for i, d := range deliveries {
		of, attempt := attemptOf(d)
		list[i] = store.Change{Delivery: of, Instance: id, Event: waybill.Event{
			Attempt: attempt, To: waybill.Running, Started: s.now(), Reported: true,
		}}
	}
	if first, err = s.store.Apply(ctx, list); err != nil {
		return nil, nil, err
	}
	s.tellApplied(list, first)
	open = slices.Clone(first)
	for i, c := range list {
		if open[i] {
			continue
		}
		if _, err = s.store.OfferOne(ctx, id, c.Delivery, c.Attempt); ignoreNotFound(err) != nil {
			return nil, nil, err
		}
		open[i] = err == nil
	}
	return first, open, nil
}

// Report records the outcome of a delivery on an instance, and returns once it is durable. A report that comes again,
// too late, or for a delivery that the instance is no target of, changes nothing and is no error: the agent may forget it.
func (s *Service) Report(ctx context.Context, id waybill.InstanceID, o Outcome) error {
	of, attempt := attemptOf(o.Delivery)
	e := waybill.Event{
		Attempt: attempt, To: o.Cause.Status(), Cause: o.Cause, Detail: truncate(o.Detail), Started: o.Started, Finished: o.Finished,
		Reported: true, SHA256: o.SHA256, Change: o.Change, From: o.From,
	}
	_, err := s.apply(ctx, store.Change{Delivery: of, Instance: id, Event: e, Diff: o.Diff})
	return err
}

// truncate cuts a detail to what the protocol allows, at a character.
func truncate(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), wire.MaxDetail)], "")
}
