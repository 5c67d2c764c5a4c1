// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/wire"
)

// RetryRequest is one request to try a delivery again where it failed.
type RetryRequest struct {
	Region    string
	Delivery  waybill.DeliveryID
	Instances []waybill.InstanceID // empty: all that it goes to
	Timeout   time.Duration        // of the new attempts; zero: that of the delivery
}

// Retry begins a new attempt on each instance on which a delivery failed, for whatever reason. What is open or has succeeded
// is left alone, so a repetition finds nothing to retry; one that is known by the token of act is answered as the first was.
func (s *Service) Retry(ctx context.Context, act *waybill.Act, req RetryRequest) (waybill.RetryCounts, error) {
	if len(req.Instances) > s.cfg.Limits.Instances {
		return waybill.RetryCounts{}, waybill.Errorf(waybill.InstancesTooMany, "%d instances are given, at most %d are allowed",
			len(req.Instances), s.cfg.Limits.Instances)
	}
	if req.Timeout > s.cfg.Limits.MaxTimeout {
		return waybill.RetryCounts{}, tooLongTimeout(req.Timeout, s.cfg.Limits.MaxTimeout)
	}
	act.Subject = string(req.Delivery)
	return once(ctx, s, act, func() (waybill.RetryCounts, error) {
		for {
			n, err := s.retry(ctx, act, &req)
			if !errors.Is(err, store.ErrChanged) { // each time something has happened to the delivery, so this ends
				return n, err
			}
		}
	})
}

func (s *Service) retry(ctx context.Context, act *waybill.Act, req *RetryRequest) (n waybill.RetryCounts, err error) {
	d, targets, err := s.store.Retriable(ctx, act.Account, req.Region, req.Delivery, req.Instances)
	now := s.now().Truncate(time.Millisecond)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return n, errNoDelivery(req.Delivery)
	case err != nil:
		return n, fmt.Errorf("retry: %w", err)
	case now.Sub(d.Created) >= s.cfg.RetainFor: // it may be removed at any time
		return n, waybill.Errorf(waybill.DeliveryNotFound, "delivery %s is older than history is kept", d.ID)
	}
	for _, id := range req.Instances {
		if !slices.ContainsFunc(targets, func(t store.Target) bool { return t.Instance == id }) {
			return n, waybill.Errorf(waybill.InstanceNotFound, "instance %s is no target of delivery %s", id, d.ID)
		}
	}
	next, err := s.newAttempts(ctx, act, req, &d, targets, now, &n)
	if err != nil {
		return n, fmt.Errorf("retry: %w", err)
	}
	st, err := writeFor(s, act, n)
	if err != nil {
		return n, err
	}
	if err := st.Retry(ctx, &d, next); err != nil {
		return n, fmt.Errorf("retry: %w", err)
	}
	s.retried(ctx, &d, next)
	return n, nil
}

// newAttempts returns what takes the place of the targets that are to be retried, and counts what becomes of all. What cannot
// be reached by definition ends at once, as when it is sent.
func (s *Service) newAttempts(
	ctx context.Context, act *waybill.Act, req *RetryRequest, d *waybill.Delivery, targets []store.Target, now time.Time, n *waybill.RetryCounts,
) ([]store.Target, error) {
	timeout := req.Timeout
	if timeout == 0 {
		timeout = d.Timeout
	}
	deadline := now.Add(max(timeout, s.cfg.Limits.MinTimeout))
	var next []store.Target
	var ids []waybill.InstanceID
	for _, t := range targets {
		again, retrying := t.Retry(now)
		if n.Add(retrying); retrying == waybill.RetryBegun {
			next, ids = append(next, store.Target{Target: again, Deadline: deadline}), append(ids, t.Instance)
		}
	}
	known, err := s.store.Recipients(ctx, act.Account, req.Region, ids)
	if err != nil {
		return nil, err
	}
	for i := range next {
		t := &next[i]
		r := recipient{}
		if r.Instance, r.known = known[t.Instance]; !r.known {
			r.ID = t.Instance
		}
		cause, detail, online := r.plan(now, cargoOf(d))
		if t.Given = online; cause != waybill.NoCause {
			t.Status, t.Cause, t.Detail, t.Finished = cause.Status(), cause, detail, t.Begun
		}
	}
	return next, nil
}

// retried tells of attempts that have begun.
func (s *Service) retried(ctx context.Context, d *waybill.Delivery, next []store.Target) {
	if len(next) == 0 {
		return
	}
	s.changed(map[waybill.DeliveryID]struct{}{d.ID: {}})
	for _, t := range next {
		if t.Status.Final() {
			s.metrics.ended.WithLabelValues(string(t.Status), string(t.Cause)).Inc()
		}
	}
	open := slices.DeleteFunc(slices.Clone(next), func(t store.Target) bool { return t.Status.Final() })
	if len(open) == 0 {
		return
	}
	s.deadline.set(open[0].Deadline.Add(s.cfg.Grace))
	s.repeats.add(d.ID, open[0].Deadline, s.now())
	told := slices.DeleteFunc(open, func(t store.Target) bool { return !t.Given })
	if len(told) == 0 {
		return
	}
	whole, err := s.store.Dispatch(ctx, d.ID)
	if err != nil { // it is durable: this costs time only
		s.log.Warn("send delivery again; it will be repeated", "delivery_id", d.ID, "err", err)
		return
	}
	s.tellEach(ctx, whole, told, publishedFirst)
}

// Attempts returns the attempts at a delivery on an instance, the first one first.
func (s *Service) Attempts(
	ctx context.Context, who waybill.Principal, region string, id waybill.DeliveryID, instance waybill.InstanceID,
) ([]waybill.Target, error) {
	found, err := s.store.Attempts(ctx, who.Account, region, id, instance)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, errNoDelivery(id)
	case err != nil:
		return nil, fmt.Errorf("attempts: %w", err)
	case len(found) == 0:
		return nil, waybill.Errorf(waybill.InstanceNotFound, "instance %s is no target of delivery %s", instance, id)
	}
	list := make([]waybill.Target, len(found))
	for i, t := range found {
		list[i] = t.Target
	}
	return list, nil
}

func errNoDelivery(id waybill.DeliveryID) error {
	return waybill.Errorf(waybill.DeliveryNotFound, "there is no delivery %.80q in this account and region", id)
}

// attemptOf reads the ID that an agent knows a delivery by.
func attemptOf(id waybill.DeliveryID) (waybill.DeliveryID, int) {
	delivery, attempt := wire.ParseAttemptID(string(id))
	return waybill.DeliveryID(delivery), attempt
}

// attemptID is its inverse, of a target.
func attemptID(t *waybill.Target) string { return wire.AttemptID(string(t.Delivery), t.Attempt) }
