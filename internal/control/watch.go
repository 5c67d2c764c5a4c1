// SPDX-License-Identifier: Apache-2.0

package control

import (
	"sync"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/wire"
)

// watchers are those who want to be told at once that something has changed. They are told that, not what: who is told reads
// again what it may read. So a hint that comes late, twice or together with others does no harm. The zero value is ready.
type watchers struct {
	mu  sync.Mutex
	all map[*watcher]struct{}
}

type watcher struct {
	delivery waybill.DeliveryID // empty: of any
	hint     chan struct{}      // holds one
}

// Watch returns a channel that receives a value soon after a target of the delivery has changed, on whichever server; of any
// delivery, or because a new one was accepted, if id is empty. Several changes may be told as one. The caller must call stop.
func (s *Service) Watch(id waybill.DeliveryID) (changed <-chan struct{}, stop func()) {
	w := &watcher{delivery: id, hint: make(chan struct{}, 1)}
	s.watchers.mu.Lock()
	defer s.watchers.mu.Unlock()
	if s.watchers.all == nil {
		s.watchers.all = map[*watcher]struct{}{}
	}
	s.watchers.all[w] = struct{}{}
	return w.hint, func() {
		s.watchers.mu.Lock()
		defer s.watchers.mu.Unlock()
		delete(s.watchers.all, w)
	}
}

func (w *watchers) tell(ids map[waybill.DeliveryID]struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.all {
		if _, ok := ids[one.delivery]; ok || one.delivery == "" || len(ids) == 0 {
			select {
			case one.hint <- struct{}{}:
			default: // it has not looked yet
			}
		}
	}
}

// maxHint bounds the deliveries that one message to the other servers names; of more it names none, which means any.
const maxHint = 500

// changed tells who watches, here and at the other servers, that deliveries have changed.
func (s *Service) changed(ids map[waybill.DeliveryID]struct{}) {
	if len(ids) == 0 {
		return
	}
	s.watchers.tell(ids)
	if s.cfg.Node == "" {
		return
	}
	var h wire.Hint
	if len(ids) <= maxHint {
		for id := range ids {
			h.Deliveries = append(h.Deliveries, string(id))
		}
	}
	if err := s.bus.Publish(wire.SubjectHint, wire.Encode(h)); err != nil {
		s.log.Debug("tell the other servers of a change", "err", err) // whoever looks later sees it
	}
}

// tellApplied tells who watches which of the events changed something.
func (s *Service) tellApplied(list []store.Change, applied []bool) {
	ids := map[waybill.DeliveryID]struct{}{}
	for i, ok := range applied {
		if ok {
			ids[list[i].Delivery] = struct{}{}
		}
	}
	s.changed(ids)
}

// Heed takes a hint of another server.
func (s *Service) Heed(data []byte) {
	var h wire.Hint
	if err := wire.Decode(data, &h); err != nil {
		s.log.Warn("hint of another server not understood", "err", err)
		return
	}
	ids := make(map[waybill.DeliveryID]struct{}, len(h.Deliveries))
	for _, id := range h.Deliveries {
		ids[waybill.DeliveryID(id)] = struct{}{}
	}
	s.watchers.tell(ids)
}
