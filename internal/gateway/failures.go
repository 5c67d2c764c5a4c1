// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Failed enrolments that one address may make: a few at once, then one in ten seconds.
const (
	failureBurst    = 10
	failureInterval = 10 * time.Second
	maxAddresses    = 10_000 // remembered; the memory is a few megabytes
)

// failures slows down whoever guesses activation codes. The zero value is ready.
type failures struct {
	mu sync.Mutex
	by map[netip.Prefix]*attempts
}

// attempts are those of one site.
type attempts struct {
	failures *rate.Limiter
	open     int           // begun and not yet ended
	ended    chan struct{} // closed when one ends
}

// begin lets addr try a code, unless it has failed too often: then it returns how long addr must wait, and no end.
// Otherwise the caller must call end once, with whether the code was wrong.
//
// Attempts count as failures until they end, so that many at once do not get past the limit; but those that then find
// no place wait here until others end. So machines that enrol rightly behind one address are never refused.
func (f *failures) begin(
	ctx context.Context, addr netip.Addr, now time.Time,
) (end func(failed bool), wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		a := f.attemptsLocked(site(addr), now)
		left := a.failures.TokensAt(now)
		if left >= float64(a.open+1) {
			a.open++
			return func(failed bool) { f.end(a, failed, now) }, 0
		}
		if left < 1 {
			return nil, time.Duration((1 - left) * float64(failureInterval))
		}
		ended := a.ended
		f.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
		}
		f.mu.Lock()
		if ctx.Err() != nil {
			return nil, failureInterval
		}
	}
}

func (f *failures) end(a *attempts, failed bool, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if failed {
		a.failures.AllowN(now, 1)
	}
	a.open--
	close(a.ended)
	a.ended = make(chan struct{})
}

func (f *failures) attemptsLocked(s netip.Prefix, now time.Time) *attempts {
	a := f.by[s]
	if a == nil {
		f.makeRoomLocked(now)
		a = &attempts{failures: rate.NewLimiter(rate.Every(failureInterval), failureBurst), ended: make(chan struct{})}
		f.by[s] = a
	}
	return a
}

// makeRoomLocked forgets sites until there is room for one more: those whose failures are long past, or, if there are
// none, any one.
func (f *failures) makeRoomLocked(now time.Time) {
	if f.by == nil {
		f.by = map[netip.Prefix]*attempts{}
	}
	if len(f.by) < maxAddresses {
		return
	}
	for s, a := range f.by {
		if a.open == 0 && a.failures.TokensAt(now) >= failureBurst {
			delete(f.by, s)
		}
	}
	for s := range f.by {
		if len(f.by) < maxAddresses {
			return
		}
		delete(f.by, s)
	}
}

// site is what counts as one address: of IPv6 the network that one machine can move in freely.
func site(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.WithZone("").Prefix(bits)
	if err != nil { // no address at all
		return netip.Prefix{}
	}
	return p
}
