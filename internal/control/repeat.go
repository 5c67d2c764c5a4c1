// SPDX-License-Identifier: Apache-2.0

package control

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/openwaybill/waybill"
)

// The first repeat comes soon, because a message that was lost is noticed by nobody else; later ones ever more rarely.
const (
	repeatFirst = 2 * time.Second
	repeatMost  = 30 * time.Second
)

// repeats knows when to send a delivery again to those that have not acknowledged it.
type repeats struct {
	mu    sync.Mutex
	queue repeatQueue
	known map[waybill.DeliveryID]*repeat // those in queue
	alarm alarm
}

type repeat struct {
	delivery waybill.DeliveryID
	deadline time.Time
	at       time.Time
	pause    time.Duration
}

func (r *repeats) init() {
	r.alarm.init()
	r.known = map[waybill.DeliveryID]*repeat{}
}

// add schedules the first repeat of a delivery that was sent at now.
func (r *repeats) add(id waybill.DeliveryID, deadline, now time.Time) {
	r.push(repeat{delivery: id, deadline: deadline, at: now.Add(repeatFirst), pause: repeatFirst})
}

func (r *repeats) push(v repeat) {
	if v.at.After(v.deadline) {
		return
	}
	r.mu.Lock()
	if known := r.known[v.delivery]; known == nil {
		r.known[v.delivery] = &v
		heap.Push(&r.queue, &v)
	} else if v.deadline.After(known.deadline) { // it was retried or recalled in between
		known.deadline = v.deadline
	}
	r.mu.Unlock()
	r.alarm.set(v.at)
}

// len returns how many wait.
func (r *repeats) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}

// due takes out one whose time has come; otherwise it sets the alarm for the next.
func (r *repeats) due(now time.Time) (repeat, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return repeat{}, false
	}
	if next := r.queue[0].at; next.After(now) {
		r.alarm.set(next)
		return repeat{}, false
	}
	v := heap.Pop(&r.queue).(*repeat)
	delete(r.known, v.delivery)
	return *v, true
}

// runRepeats repeats deliveries until they are acknowledged or their deadline has passed.
func (s *Service) runRepeats(ctx context.Context) error {
	for s.chores.alone { // otherwise runNode does, when it is to
		err := s.recallPending(ctx)
		if err == nil {
			break
		}
		if !pause(ctx, retryAfter) {
			return nil
		}
		s.log.Error("read pending deliveries", "err", err)
	}
	for s.repeats.alarm.wait(ctx, s.now) {
		for v, ok := s.repeats.due(s.now()); ok && ctx.Err() == nil; v, ok = s.repeats.due(s.now()) {
			again, err := s.repeat(ctx, v.delivery)
			if err != nil {
				s.log.Warn("repeat delivery", "delivery_id", v.delivery, "err", err)
			}
			if again || err != nil {
				v.at, v.pause = s.now().Add(v.pause), min(2*v.pause, repeatMost)
				s.repeats.push(v)
			}
		}
	}
	return nil
}

// recallPending schedules what an earlier run of the server, or a server that is gone, has sent or perhaps not. Each server
// repeats what it has accepted itself; what is repeated by two for a while comes to its machines twice, which changes nothing.
func (s *Service) recallPending(ctx context.Context) error {
	open, err := s.store.PendingDeliveries(ctx)
	for id, deadline := range open {
		s.repeats.add(id, deadline, s.now().Add(-repeatFirst))
	}
	return err
}

// pause waits for d and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// repeat sends a delivery again to those that are online and have not acknowledged it, asks those again that are to stop it,
// and reports whether there were any. It also ends the targets whose machine or account went while the delivery was being written.
func (s *Service) repeat(ctx context.Context, id waybill.DeliveryID) (again bool, err error) {
	gone, err := s.store.Gone(ctx, id)
	if err != nil {
		return false, err
	}
	if err := s.conclude(ctx, gone); err != nil {
		return false, err
	}
	stopping, err := s.store.StoppingOf(ctx, id)
	if err != nil {
		return false, err
	}
	s.cancel(stopping)
	instances, err := s.store.PendingOf(ctx, id)
	if err != nil || len(instances) == 0 {
		return len(stopping) > 0, err
	}
	return true, s.dispatch(ctx, id, instances)
}

// repeatQueue is a heap by time.
type repeatQueue []*repeat

func (q repeatQueue) Len() int           { return len(q) }
func (q repeatQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q repeatQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *repeatQueue) Push(v any)        { *q = append(*q, v.(*repeat)) }
func (q *repeatQueue) Pop() any {
	old := *q
	v := old[len(old)-1]
	*q = old[:len(old)-1]
	return v
}
