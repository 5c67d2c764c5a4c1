// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
)

// sweepBatch bounds one step of the chores.
const sweepBatch = 500

// retryAfter is how long a chore waits after an error.
const retryAfter = time.Second

// alarm wakes one waiter at the earliest of the times set.
type alarm struct {
	mu   sync.Mutex
	at   time.Time // zero: none
	wake chan struct{}
}

func (a *alarm) init() { a.wake = make(chan struct{}, 1) }

// set asks to be woken at t, unless that is to happen earlier anyway.
func (a *alarm) set(t time.Time) {
	a.mu.Lock()
	earlier := a.at.IsZero() || t.Before(a.at)
	if earlier {
		a.at = t
	}
	a.mu.Unlock()
	if earlier {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// wait returns true when the time has come, and false when ctx has ended. now is the caller's clock.
func (a *alarm) wait(ctx context.Context, now func() time.Time) bool {
	for {
		a.mu.Lock()
		at := a.at
		a.mu.Unlock()
		var ring <-chan time.Time
		if !at.IsZero() {
			ring = time.After(at.Sub(now()))
		}
		select {
		case <-ctx.Done():
			return false
		case <-a.wake:
		case <-ring:
			a.mu.Lock()
			if a.at.Equal(at) {
				a.at = time.Time{}
			}
			a.mu.Unlock()
			return true
		}
	}
}

// runSweep ends targets whose deadline has passed. It sleeps until the next deadline.
func (s *Service) runSweep(ctx context.Context) error {
	s.deadline.set(s.now()) // what passed while no server ran
	for s.deadline.wait(ctx, s.now) {
		if !s.chores.mine() {
			continue // another server does; should it end, runNode sets the alarm
		}
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("sweep", "err", err)
			s.deadline.set(s.now().Add(retryAfter))
		}
	}
	return nil
}

// sweep ends everything overdue, in bounded steps, and sets the alarm for the next deadline.
func (s *Service) sweep(ctx context.Context) error {
	s.changes.Flush() // what was acknowledged in time
	for ctx.Err() == nil {
		overdue, err := s.store.Overdue(ctx, s.now().Add(-s.cfg.Grace), sweepBatch)
		if err != nil {
			return err
		}
		if err := s.conclude(ctx, overdue); err != nil {
			return err
		}
		if len(overdue) > 0 {
			s.log.Info("ended overdue targets", "count", len(overdue))
		}
		if len(overdue) < sweepBatch {
			break
		}
	}
	return s.lookAhead(ctx)
}

// lookAhead sets the alarm for the next deadline, of a delivery that any server has accepted.
func (s *Service) lookAhead(ctx context.Context) error {
	next, err := s.store.NextDeadline(ctx)
	if err == nil && !next.IsZero() {
		// A millisecond more, because deadlines are stored in whole ones and compared with "before".
		s.deadline.set(next.Add(s.cfg.Grace + time.Millisecond))
	}
	return err
}

// conclude ends open targets by what is known of them.
func (s *Service) conclude(ctx context.Context, open []store.Overdue) error {
	list := make([]store.Change, len(open))
	for i, o := range open {
		cause, detail := overdueTarget(o).verdict()
		if !o.Stopped.IsZero() {
			detail += fmt.Sprintf("; it was to be stopped since %s, and the machine has not answered", clock(o.Stopped))
		}
		list[i] = s.ending(o.Target, cause, detail)
		list[i].Attempt = o.Attempt // what is concluded of one ends no other
		list[i].From = o.Status     // an acknowledgement that comes in between makes it another verdict
	}
	return s.applyAll(ctx, list)
}

type overdueTarget store.Overdue

// verdict says why an open target is to end: it is past its deadline, or its machine or account is gone.
func (o overdueTarget) verdict() (waybill.Cause, string) {
	switch {
	case o.State == waybill.Deregistered:
		return waybill.CauseReleased, "the instance was deregistered"
	case o.State == waybill.Quarantine:
		return waybill.CauseAgentStopped, quarantineDetail
	case o.Status == waybill.Running:
		return waybill.CauseDeadline, fmt.Sprintf("taken up at %s, no outcome by %s", clock(o.Started), clock(o.Deadline))
	case o.AccountDisabled:
		return waybill.CauseAccountGone, "the account is disabled"
	}
	switch o.Presence {
	case waybill.Stopped:
		return waybill.CauseAgentStopped, fmt.Sprintf("the agent was stopped at %s; start it with: systemctl start %s", clock(o.LastSeen), o.Agent.Unit())
	case waybill.ShutDown:
		return waybill.CauseShutDown, fmt.Sprintf("the machine shut down at %s", clock(o.LastSeen))
	case waybill.Upgrading:
		return waybill.CauseUpgrading, fmt.Sprintf("the agent left at %s to be upgraded and has not come back", clock(o.LastSeen))
	case waybill.NoChannel:
		return waybill.CauseAgentSilent, fmt.Sprintf("the agent has no channel; its last heartbeat came at %s, and it dials next %s", clock(o.LastSeen), expected(o.NextDial))
	case waybill.NeverSeen:
		return waybill.CauseAgentSilent, fmt.Sprintf("the agent has never connected; start it with: systemctl start %s", o.Agent.Unit())
	default:
		return waybill.CauseAgentSilent, fmt.Sprintf("never acknowledged; the agent was last heard of at %s", clock(o.LastSeen))
	}
}

// expected writes when something is expected, which may be unknown.
func expected(t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return "at " + clock(t)
}

func (s *Service) ending(t store.Target, cause waybill.Cause, detail string) store.Change {
	return store.Change{Delivery: t.Delivery, Instance: t.Instance, Event: waybill.Event{
		To: cause.Status(), Cause: cause, Detail: detail, Finished: s.now(),
	}}
}

// applyAll writes events of the server's own in one transaction.
func (s *Service) applyAll(ctx context.Context, list []store.Change) error {
	applied, err := s.store.Apply(ctx, list)
	if err != nil {
		return err
	}
	for i, ok := range applied {
		if ok {
			s.metrics.ended.WithLabelValues(string(list[i].To), string(list[i].Cause)).Inc()
		}
	}
	s.tellApplied(list, applied)
	return nil
}

// endOpen ends all that next returns, in bounded steps, until it returns nothing more.
func (s *Service) endOpen(ctx context.Context, cause waybill.Cause, detail string, next func() ([]store.Target, error)) error {
	for {
		open, err := next()
		if err != nil {
			return fmt.Errorf("end targets: %w", err)
		}
		list := make([]store.Change, len(open))
		for i, t := range open {
			list[i] = s.ending(t, cause, detail)
		}
		if err := s.applyAll(ctx, list); err != nil {
			return fmt.Errorf("end targets: %w", err)
		}
		if len(open) < sweepBatch {
			return nil
		}
	}
}

// retentionEvery is how often history is looked through. Between two looks it may exceed its bounds.
const retentionEvery = 10 * time.Minute

// runRetention removes what is too old or too much, in bounded steps.
func (s *Service) runRetention(ctx context.Context) error {
	for {
		if s.chores.mine() {
			if err := s.retain(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("retention", "err", err)
			}
		}
		if !pause(ctx, retentionEvery) {
			return nil
		}
	}
}

func (s *Service) retain(ctx context.Context) error {
	before := s.now().Add(-s.cfg.RetainFor)
	dropped, err := s.store.DropBefore(ctx, before)
	if dropped > 0 {
		s.log.Info("removed old deliveries", "count", dropped)
	}
	if err != nil {
		return err
	}
	before = before.Add(-s.store.RetainsWhole()) // what is younger goes with others of its time
	scopes, err := s.store.Scopes(ctx)
	if err != nil {
		return err
	}
	for _, scope := range scopes {
		total := 0
		for n := 1; n > 0 && ctx.Err() == nil; total += n {
			if n, err = s.store.Expire(ctx, scope, before, s.cfg.RetainCount, sweepBatch); err != nil {
				return err
			}
			s.metrics.removed.WithLabelValues(removedDeliveries).Add(float64(n))
		}
		if total > 0 {
			s.log.Info("removed old deliveries", "account", scope.Account, "region", scope.Region, "count", total)
		}
	}
	for kind, forget := range map[string]func(context.Context, int) (int64, error){
		removedNonces: s.store.ForgetNonces, removedTokens: s.store.ForgetTokens, removedSessions: s.forgetSessions,
		removedUploaded: s.store.ForgetUploaded, removedEvents: s.forgetEvents,
	} {
		for n := int64(sweepBatch); n == sweepBatch && ctx.Err() == nil; {
			if n, err = forget(ctx, sweepBatch); err != nil {
				return err
			}
			s.metrics.removed.WithLabelValues(kind).Add(float64(n))
		}
	}
	if s.cfg.Blobs != nil {
		if err := s.dropUploads(ctx); err != nil {
			return fmt.Errorf("remove unfinished uploads: %w", err)
		}
	}
	if s.cfg.Blobs != nil && s.now().Sub(s.collected) >= collectEvery {
		if err := s.collect(ctx); err != nil {
			return fmt.Errorf("collect large contents: %w", err)
		}
		s.collected = s.now()
	}
	return s.retainAudit(ctx)
}
