// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/wire"
)

// Bounds of what agents fetch from one server. Whoever asks while as many are served waits for its turn, for less than an
// agent takes for a dead connection, and then comes again. Nobody keeps a place for longer than a turn while others wait:
// it is cut off, and goes on where it was behind them.
const (
	maxFetches   = 64
	turnPatience = 20 * time.Second
	turn         = time.Minute
	writeStall   = 30 * time.Second // for the agent to take some of it
	fetchPause   = 2 * time.Second  // told to whoever got no place
)

// fetches is the places for agents that fetch.
type fetches struct {
	places  *semaphore.Weighted
	waiting atomic.Int64
}

// take waits for a place. ok is false if there was none in time.
func (f *fetches) take(ctx context.Context) (ok bool) {
	if f.places.TryAcquire(1) {
		return true
	}
	f.waiting.Add(1)
	defer f.waiting.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, turnPatience)
	defer cancel()
	return f.places.Acquire(ctx, 1) == nil
}

// content answers a fetch: the content of a delivery, or a part of it, in constant memory.
func (g *Gateway) content(w http.ResponseWriter, r *http.Request) {
	const op = "content"
	rc := http.NewResponseController(w)
	// What the server's own bounds of time would end is bounded here. An error means that there is no such connection, as in
	// tests.
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Now().Add(turnPatience + writeStall))
	id, err := g.fetcher(r)
	var found control.Fetch
	if err == nil {
		found, err = g.service.Fetch(r.Context(), id, waybill.DeliveryID(strings.TrimPrefix(r.URL.Path, wire.PathContent)))
	}
	if err != nil {
		g.refuse(w, op, &call{from: remoteAddr(r), now: g.service.Now()}, g.contentRefusals, err)
		return
	}
	if !g.fetches.take(r.Context()) {
		g.refuse(w, op, &call{from: remoteAddr(r), retryAfter: fetchPause}, g.contentRefusals,
			waybill.Errorf(waybill.Unavailable, "too many machines fetch files at once; it is tried again"))
		return
	}
	defer g.fetches.places.Release(1)
	ctx, cancel := context.WithTimeout(r.Context(), max(found.Until.Sub(g.service.Now()), time.Second))
	defer cancel()
	body := &seeker{ctx: ctx, fetch: found}
	defer body.Close()
	if err := body.open(); err != nil { // before the answer begins
		g.refuse(w, op, &call{from: remoteAddr(r)}, g.contentRefusals, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "no-store")
	out := &patient{ResponseWriter: w, control: rc, since: time.Now(), fetches: &g.fetches}
	http.ServeContent(out, r, "", time.Time{}, body)
	if body.err != nil { // the agent sees that it is cut off, and goes on where it was
		g.count(op, resultFailed)
		g.log.Warn("a content is cut off", "instance_id", id, "err", body.err)
		return
	}
	g.count(op, resultOK)
}

// fetcher returns the instance that a fetch is for. It changes nothing, so it may come twice.
func (g *Gateway) fetcher(r *http.Request) (waybill.InstanceID, error) {
	if r.Method != http.MethodGet {
		return "", waybill.Errorf(codeMalformed, "%s takes GET, not %s", wire.PathContent, r.Method)
	}
	key, _, err := identity.VerifyRequest(r, nil, g.service.Now(), proofWindow)
	if err != nil {
		return "", err
	}
	i, err := g.service.InstanceByKey(r.Context(), key)
	return i.ID, err
}

// errTurn ends a fetch whose turn is over.
var errTurn = errors.New("others wait")

// patient lets an agent take its time over an answer, as long as it takes some of it now and then and nobody waits.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
	since   time.Time
	fetches *fetches
}

func (p *patient) Write(b []byte) (int, error) {
	if time.Since(p.since) > turn && p.fetches.waiting.Load() > 0 {
		return 0, errTurn
	}
	_ = p.control.SetWriteDeadline(time.Now().Add(writeStall))
	return p.ResponseWriter.Write(b)
}

// seeker is a content as http.ServeContent reads it: it goes to the end first, for the size.
type seeker struct {
	ctx   context.Context
	fetch control.Fetch
	at    int64 // where to read next
	from  int64 // where r is
	r     io.ReadCloser
	err   error // that reading ended with
}

func (s *seeker) open() (err error) {
	s.r, err = s.fetch.Open(s.ctx, s.at)
	s.from = s.at
	return err
}

func (s *seeker) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += s.fetch.Size
	}
	if offset < 0 {
		return 0, errors.New("before the beginning")
	}
	s.at = offset
	return offset, nil
}

func (s *seeker) Read(p []byte) (n int, err error) {
	if s.r == nil || s.from != s.at {
		s.Close()
		if err := s.open(); err != nil {
			s.err = err
			return 0, err
		}
	}
	n, err = s.r.Read(p)
	s.at += int64(n)
	s.from = s.at
	if errors.Is(err, io.EOF) && s.at < s.fetch.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Close closes what is open. It may be called more than once.
func (s *seeker) Close() {
	if s.r != nil {
		_ = s.r.Close() // it was only read
		s.r = nil
	}
}
