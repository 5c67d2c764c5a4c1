// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/wire"
)

// Stop asks the targets of a delivery to stop, on the given instances or, if none is given, on all of them. What was not sent
// to its machine ends at once. What may have been is its machine's to answer, and is asked for until it is answered or the
// deadline comes. A repetition counts the same targets again and changes nothing.
func (s *Service) Stop(
	ctx context.Context, act *waybill.Act, region string, id waybill.DeliveryID, instances []waybill.InstanceID,
) (n waybill.StopCounts, err error) {
	if len(instances) > s.cfg.Limits.Instances {
		return n, waybill.Errorf(waybill.InstancesTooMany, "%d instances are given, at most %d are allowed", len(instances), s.cfg.Limits.Instances)
	}
	act.Subject = string(id)
	list, foreign, err := s.store.For(act, nil).Stop(ctx, act.Account, region, id, unique(instances))
	switch {
	case len(foreign) > 0:
		return n, waybill.Errorf(waybill.InstanceNotFound, "instance %s is no target of delivery %s", foreign[0], id)
	case errors.Is(err, store.ErrNotFound):
		return n, errNoDelivery(id)
	case err != nil:
		return n, fmt.Errorf("stop: %w", err)
	}
	for _, v := range list {
		n.Add(v.Stopping)
	}
	s.changed(map[waybill.DeliveryID]struct{}{id: {}})
	if n.Asked == 0 {
		return n, nil
	}
	// What fails from here on is made good for by the next repetition, or when the machine comes.
	stopping, err := s.store.StoppingOf(ctx, id)
	if err != nil {
		s.log.Warn("ask machines to stop; they are asked later", "delivery_id", id, "err", err)
		return n, nil
	}
	s.cancel(stopping)
	if len(stopping) > 0 {
		last := slices.MaxFunc(stopping, func(a, b store.Target) int { return a.Deadline.Compare(b.Deadline) })
		s.repeats.add(id, last.Deadline, s.now())
	}
	return n, nil
}

// cancel asks machines to give up what they are to stop.
func (s *Service) cancel(targets []store.Target) {
	for _, t := range targets {
		if err := s.bus.Publish(wire.ToAgent(string(t.Instance), wire.OpCancel), wire.Encode(s.cancelOf(&t))); err != nil {
			s.log.Warn("publish cancel; it will be repeated", "delivery_id", t.Delivery, "instance_id", t.Instance, "err", err)
		}
	}
}

func (s *Service) cancelOf(t *store.Target) wire.Cancel {
	return wire.Cancel{Delivery: attemptID(&t.Target), Sent: s.now().UnixMilli(), Deadline: t.Deadline.UnixMilli()}
}

// cancelsFor returns what an instance, which has just come, is to stop. It is asked again, should it not answer.
func (s *Service) cancelsFor(ctx context.Context, id waybill.InstanceID) ([]wire.Cancel, error) {
	stopping, err := s.store.StoppingFor(ctx, id, wire.MaxCancels)
	list := make([]wire.Cancel, len(stopping))
	for i := range stopping {
		list[i] = s.cancelOf(&stopping[i])
		s.repeats.add(stopping[i].Delivery, stopping[i].Deadline, s.now())
	}
	return list, err
}

// onlyGiven notes that the deliveries of reply, which are those of targets, are about to leave, and takes out those that must
// not any more.
func (s *Service) onlyGiven(ctx context.Context, reply *wire.PullReply, targets []store.Target) error {
	if len(targets) == 0 {
		return nil
	}
	open, err := s.store.Give(ctx, targets)
	if err != nil {
		return err
	}
	reply.Deliveries = slices.DeleteFunc(reply.Deliveries, func(d wire.Deliver) bool {
		return !slices.ContainsFunc(open, func(t store.Target) bool { return attemptID(&t.Target) == d.Delivery })
	})
	return nil
}
