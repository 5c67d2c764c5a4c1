// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
)

// Times of servers that share a database.
const (
	nodeBeat   = time.Second     // how often each notes that it lives, and claims the chores
	choresFor  = 4 * time.Second // without a new claim, another server does the chores
	nodeSilent = 8 * time.Second // without a sign of life, a server is taken for dead
	lookAnew   = 2 * nodeBeat    // after so long without a look, what was seen before counts no more
)

// choresLease is the name under which one of several servers claims the chores: to end what is overdue, to repeat what
// servers have left behind that are gone, and to remove old history.
const choresLease = "chores"

// chores knows whether this server does the chores. Alone on its database it does them always.
type chores struct {
	alone bool
	until atomic.Int64 // Unix nanoseconds by this machine's clock; of a claim
}

func (c *chores) mine() bool { return c.alone || time.Now().UnixNano() < c.until.Load() }

// runNode takes part among the servers of the database until ctx ends.
func (s *Service) runNode(ctx context.Context) error {
	if s.chores.alone {
		<-ctx.Done()
		return nil
	}
	w := watch{now: time.Now}
	var returning sync.WaitGroup
	defer returning.Wait()
	tick := time.NewTicker(nodeBeat)
	defer tick.Stop()
	for {
		returned, err := s.takePart(ctx, &w)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("take part among the servers of the database", "err", err)
		}
		if returned && s.cfg.Returned != nil {
			s.log.Warn("the other servers had taken this one for dead; it shows what is connected to it again")
			returning.Go(func() { s.cfg.Returned(ctx) })
		}
		select {
		case <-ctx.Done():
			s.retire(context.WithoutCancel(ctx))
			return nil
		case <-tick.C:
		}
	}
}

// watch is what a server has seen of the others. Their numbers are compared by its own clock: those of other machines
// may be wrong.
type watch struct {
	now    func() time.Time
	in     bool // this server has joined before
	last   map[string]sign
	looked time.Time // when last was seen
	recall bool      // what is pending is to be looked up, because somebody may be gone who would repeat it
}

type sign struct {
	store.Node
	at time.Time
}

// takePart gives a sign of life, claims the chores and, if they are this server's, looks after the others. It reports
// whether they had taken this server for dead.
func (s *Service) takePart(ctx context.Context, w *watch) (returned bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, choresFor)
	defer cancel()
	looked := false
	defer func() {
		if !looked || err != nil {
			clear(w.last) // the others may have been as unable to give a sign of life
		}
	}()
	asked := time.Now()
	joined, err := s.store.BeatNode(ctx, s.node)
	if err != nil {
		return false, err
	}
	returned = joined && w.in
	w.in = true
	before := s.chores.mine()
	held, err := s.store.Claim(ctx, choresLease, s.node.Run, choresFor)
	if err != nil || !held {
		if !held && err == nil {
			s.chores.until.Store(0)
		}
		return returned, err
	}
	looked = true
	s.chores.until.Store(asked.Add(choresFor).UnixNano())
	if !before {
		s.log.Info("this server does the chores of the database from now on")
		s.deadline.set(s.now())
		w.recall = true
	}
	return returned, errors.Join(s.lookAhead(ctx), s.bury(ctx, w), s.inherit(ctx, w))
}

// inherit sees to what servers that are gone have left behind: deliveries that they would have repeated.
func (s *Service) inherit(ctx context.Context, w *watch) error {
	if !w.recall {
		return nil
	}
	err := s.recallPending(ctx)
	w.recall = err != nil
	return err
}

// bury removes the servers that have given no sign of life, with the channels that only they knew of.
func (s *Service) bury(ctx context.Context, w *watch) error {
	nodes, err := s.store.Nodes(ctx)
	if err != nil {
		return err
	}
	now := w.now()
	if now.Sub(w.looked) > lookAnew {
		clear(w.last) // this server stood still, and the others perhaps with it
	}
	w.looked = now
	there := map[string]sign{}
	for _, n := range nodes {
		seen, known := w.last[n.Name]
		if !known || seen.Run != n.Run || seen.Beat != n.Beat {
			seen = sign{n, now}
		}
		there[n.Name] = seen
		if now.Sub(seen.at) < nodeSilent {
			continue
		}
		removed, lost, err := s.store.BuryNode(ctx, n, waybill.OfficialAgent, n.Name+"/")
		w.recall = w.recall || removed || err != nil // it may have been removed all the same
		if err != nil {
			return err
		}
		if !removed {
			continue
		}
		s.log.Warn("a server of this database is gone", "server", n.Name, "silent_for", now.Sub(seen.at).Round(time.Second).String(),
			"channels", lost)
		delete(there, n.Name)
	}
	w.last = there
	return nil
}

// retire tells the other servers that this one ends, so that nobody waits for it.
func (s *Service) retire(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, choresFor)
	defer cancel()
	s.chores.until.Store(0)
	_, err := s.store.RemoveNode(ctx, store.Node{Name: s.node.Name, Run: s.node.Run})
	if err := errors.Join(err, s.store.Release(ctx, choresLease, s.node.Run)); err != nil {
		s.log.Warn("tell the other servers that this one ends", "err", err) // they notice
	}
}

// busLease is the name under which servers claim the bus of a database: one with an embedded one for itself, or all that
// use a cluster together.
const (
	busLease    = "bus"
	busFor      = 6 * time.Second
	clusterName = "cluster"
)

// ErrOtherBus says that another server uses the database by another bus.
var ErrOtherBus = errors.New("another server uses this database, and its agents would not hear this one: give all servers of a " +
	"database --nats and --nats-creds, of one cluster, or end the other one")

// Bus is a claim to how the servers of a database reach its agents.
type Bus struct {
	store  *store.Store
	holder string
}

// ClaimBus claims the bus: embedded, for the server of that name alone, or a cluster, together with others. A server that
// has just died has it still, so ClaimBus waits for that; if the other lives, it returns ErrOtherBus.
func ClaimBus(ctx context.Context, st *store.Store, name string, embedded bool) (*Bus, error) {
	b := &Bus{store: st, holder: clusterName}
	if embedded {
		b.holder = "embedded " + name
	}
	for deadline := time.Now().Add(busFor + time.Second); ; {
		held, err := st.Claim(ctx, busLease, b.holder, busFor)
		if err != nil {
			return nil, fmt.Errorf("claim the bus: %w", err)
		}
		if held {
			return b, nil
		}
		if time.Now().After(deadline) {
			return nil, ErrOtherBus
		}
		if !pause(ctx, busFor/20) {
			return nil, ctx.Err()
		}
	}
}

// Run keeps the claim until ctx ends. It fails if another server has the bus: it was taken for dead, and its agents have
// nobody else to go to.
func (b *Bus) Run(ctx context.Context) error {
	for pause(ctx, busFor/3) {
		if held, err := b.store.Claim(ctx, busLease, b.holder, busFor); err == nil && !held {
			return ErrOtherBus
		}
	}
	return nil
}

// Release gives the bus back, if it was this server's alone. It is safe to call twice.
func (b *Bus) Release(ctx context.Context) error {
	if b.holder == clusterName {
		return nil // others may use it; it ends by itself
	}
	return b.store.Release(ctx, busLease, b.holder)
}
