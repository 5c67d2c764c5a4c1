// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/openwaybill/waybill"
)

// Bounds of the streams of events that keep pages live.
const (
	maxStreams  = 1000             // on this server; a page beyond them is as it was loaded
	eventEvery  = time.Second      // between two events of one stream: a page asks for its parts again with each
	keepAlive   = 25 * time.Second // between two signs of life; then the session is looked at, too
	streamWrite = 10 * time.Second // that a browser may take to accept one
)

// streams are the open streams of events.
type streams struct {
	mu   sync.Mutex
	open int
	over bool
	end  chan struct{} // closed when there are to be none
}

func (s *streams) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.open >= maxStreams {
		return false
	}
	s.open++
	return true
}

func (s *streams) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

func (s *streams) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.over = true
		close(s.end)
	}
}

// events tells a page, each time with an event called "changed", that the delivery it shows has changed or, without one, that any
// delivery has. It says no more: the page asks for its parts again, and is answered what its user may see.
func (c *Console) events(v *visit) error {
	if !c.streams.begin() {
		v.w.Header().Set("Retry-After", "60")
		http.Error(v.w, "too many pages are live; load this one again to see what is new", http.StatusServiceUnavailable)
		return nil
	}
	defer c.streams.done()
	changed, stop := c.service.Watch(waybill.DeliveryID(v.r.URL.Query().Get("delivery")))
	defer stop()

	control := http.NewResponseController(v.w)
	_ = control.SetReadDeadline(time.Time{}) // where that cannot be, the browser comes back
	h := v.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	send := func(text string) bool {
		_ = control.SetWriteDeadline(time.Now().Add(streamWrite))
		if _, err := fmt.Fprint(v.w, text); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	hint, waiting := changed, false
	// At once, too: something may have changed after the page was made, and before this stream began.
	for ok := send("retry: 2000\nevent: changed\ndata: \n\n"); ok; {
		select {
		case <-v.ctx().Done():
			return nil
		case <-c.streams.end:
			return nil
		case <-alive.C:
			if ok = v.still(v.ctx()) && send(": alive\n\n"); !ok {
				return nil
			}
		case <-hint:
			hint, waiting = nil, true // what comes during the pause is told after it
			ok = send("event: changed\ndata: \n\n")
			pause.Reset(eventEvery)
		case <-pause.C:
			if waiting {
				hint, waiting = changed, false
			}
		}
	}
	return nil
}
