// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/openwaybill/waybill"
)

// maxWaits bounds how many callers of Await wait on this server. Whoever comes beyond them is answered at once.
const maxWaits = 10_000

// waits are the calls of Await that wait. The zero value is ready.
type waits struct {
	mu   sync.Mutex
	open int
	over bool
	end  chan struct{} // closed when there are to be none; nil until somebody has waited
}

// begin reports whether another may wait, until end is closed.
func (w *waits) begin() (end <-chan struct{}, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || w.open >= maxWaits {
		return nil, false
	}
	if w.end == nil {
		w.end = make(chan struct{})
	}
	w.open++
	return w.end, true
}

func (w *waits) done() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open--
}

func (w *waits) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over && w.end != nil {
		close(w.end)
	}
	w.over = true
}

// EndWaits answers all who wait, and from now on everybody at once: the server is about to stop.
func (s *Service) EndWaits() { s.waits.close() }

// Await returns one of the caller's deliveries as soon as it does not stand as mark says any more, with the mark of how it
// stands then; or as it is when the time is over, or sooner if this server has too many who wait or is about to stop. An empty
// mark is that of nothing. Of an unknown delivery there is none, and nothing to wait for.
func (s *Service) Await(ctx context.Context, who waybill.Principal, region string, id waybill.DeliveryID, mark string, patience time.Duration) (d waybill.Delivery, now string, err error) {
	changed, stop := s.Watch(id) // before it is read, so that nothing is missed between
	defer stop()
	end, may := s.waits.begin()
	if may {
		defer s.waits.done()
	}
	over := time.NewTimer(patience)
	defer over.Stop()
	for {
		found, err := s.store.DeliveryHeads(ctx, who.Account, DeliveryFilter{Region: region, ID: id}, Page{Size: 1}, 0)
		if err != nil || len(found.Items) == 0 {
			return d, "", err
		}
		d = found.Items[0].Delivery
		if now = markOf(d.Counts); now != mark || !may {
			return d, now, nil
		}
		select {
		case <-ctx.Done():
			return d, "", ctx.Err()
		case <-changed:
		case <-over.C:
			may = false
		case <-end:
			may = false
		}
	}
}

// markOf stands for where the targets of a delivery are.
func markOf(c waybill.Counts) string {
	return fmt.Sprintf("%d-%d-%d-%d", c.Pending, c.Running, c.Success, c.Failed)
}
