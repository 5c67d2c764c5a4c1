// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/wire"
)

// Deliveries returns a page of the caller's deliveries with their content and targets, newest first.
func (s *Service) Deliveries(ctx context.Context, who waybill.Principal, f DeliveryFilter, p Page) (Listing[DeliveryResult], error) {
	return s.store.Deliveries(ctx, who.Account, f, p)
}

// Pull returns what is open for an instance, oldest first after the given delivery, within the limits of one message. In all
// that is said with agents a delivery has the ID of the attempt at it, see wire.AttemptID.
func (s *Service) Pull(ctx context.Context, id waybill.InstanceID, after waybill.DeliveryID) (wire.PullReply, error) {
	i, err := s.store.Instance(ctx, id)
	if err != nil {
		return wire.PullReply{}, instanceError(err, id)
	}
	if i.State != waybill.Registered || i.Facts.Capability < wire.MinCapability {
		return wire.PullReply{Deliveries: []wire.Deliver{}}, nil
	}
	var cancels []wire.Cancel
	if after == "" && i.Facts.Capability >= wire.CancelCapability {
		if cancels, err = s.cancelsFor(ctx, id); err != nil {
			return wire.PullReply{}, fmt.Errorf("pull: %w", err)
		}
	}
	last, _ := attemptOf(after)
	open, err := s.store.OpenFor(ctx, id, last, wire.MaxPull+1)
	if err != nil {
		return wire.PullReply{}, fmt.Errorf("pull: %w", err)
	}
	reply := wire.PullReply{Deliveries: []wire.Deliver{}, Cancels: cancels}
	var given []store.Target
	size := 0
	for n := range open {
		d := &open[n]
		if size += len(d.Data); n == wire.MaxPull || n > 0 && size > wire.MaxPullBytes {
			reply.More = true
			break
		}
		if cargoOf(&d.Delivery).refusal(&i) != "" {
			continue // Hello is about to end it
		}
		if gone, err := s.accountGone(ctx, d.Account); err != nil {
			return wire.PullReply{}, err
		} else if gone {
			continue // its targets are ended by the sweeper, if whoever disabled the account has not done so
		}
		m, err := s.message(d)
		if err != nil {
			return wire.PullReply{}, err
		}
		reply.Deliveries = append(reply.Deliveries, m)
		given = append(given, store.Target{Target: waybill.Target{Delivery: d.ID, Instance: id}})
	}
	if i.Agent != waybill.OfficialAgent { // which is handed nothing before that is noted
		if err := s.onlyGiven(ctx, &reply, given); err != nil {
			return wire.PullReply{}, fmt.Errorf("pull: %w", err)
		}
	}
	return reply, nil
}

// PullOne returns a delivery that is open for an instance with the official agent; ok is false if it is not open, not for it, or
// a rehearsal.
func (s *Service) PullOne(ctx context.Context, id waybill.InstanceID, delivery waybill.DeliveryID) (m wire.Deliver, ok bool, err error) {
	return s.pullOne(ctx, id, delivery, s.store.OpenOne)
}

// OfferOne is PullOne for a delivery that is to be handed out: not one that is to stop.
func (s *Service) OfferOne(ctx context.Context, id waybill.InstanceID, delivery waybill.DeliveryID) (m wire.Deliver, ok bool, err error) {
	return s.pullOne(ctx, id, delivery, s.store.OfferOne)
}

func (s *Service) pullOne(
	ctx context.Context, id waybill.InstanceID, delivery waybill.DeliveryID,
	find func(context.Context, waybill.InstanceID, waybill.DeliveryID, int) (store.Dispatch, error),
) (m wire.Deliver, ok bool, err error) {
	of, attempt := attemptOf(delivery)
	open, err := find(ctx, id, of, attempt)
	if errors.Is(err, store.ErrNotFound) {
		return m, false, nil
	}
	if err != nil {
		return m, false, fmt.Errorf("pull: %w", err)
	}
	if open.DryRun {
		return m, false, nil // Hello is about to end it
	}
	if gone, err := s.accountGone(ctx, open.Account); err != nil || gone {
		return m, false, err
	}
	m, err = s.message(&open)
	return m, err == nil, err
}

// dispatch sends a delivery again to instances that may have missed it.
func (s *Service) dispatch(ctx context.Context, id waybill.DeliveryID, instances []waybill.InstanceID) error {
	d, err := s.store.Dispatch(ctx, id)
	if err != nil {
		return ignoreNotFound(err)
	}
	if gone, err := s.accountGone(ctx, d.Account); err != nil || gone {
		return err
	}
	targets := make([]store.Target, len(instances))
	for i, instance := range instances {
		targets[i].Delivery, targets[i].Instance = id, instance
	}
	if targets, err = s.store.Give(ctx, targets); err != nil {
		return err
	}
	s.tellEach(ctx, d, targets, publishedRepeat)
	return nil
}

// tellEach publishes d to targets, each at its own attempt.
func (s *Service) tellEach(ctx context.Context, d store.Dispatch, targets []store.Target, kind string) {
	type attempt struct {
		n        int
		deadline int64
	}
	to := map[attempt][]waybill.InstanceID{}
	for _, t := range targets {
		a := attempt{t.Attempt, t.Deadline.UnixMilli()}
		to[a] = append(to[a], t.Instance)
	}
	for a, instances := range to {
		d.Attempt, d.Deadline = a.n, time.UnixMilli(a.deadline)
		s.tell(ctx, &d, instances, kind)
	}
}

func (s *Service) accountGone(ctx context.Context, id waybill.AccountID) (bool, error) {
	a, err := s.store.Account(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	return a.Disabled, err
}

// ignoreNotFound is for what may have been removed meanwhile.
func ignoreNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
