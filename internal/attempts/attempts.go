// SPDX-License-Identifier: Apache-2.0

// Package attempts slows down whoever guesses activation codes: each address may fail a few times at once, and then once
// in an interval. Front ends through which machines enrol share one Limiter.
package attempts

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Failed enrolments that one address may make: a few at once, then one in ten seconds.
const (
	Burst        = 10
	Interval     = 10 * time.Second
	maxAddresses = 10_000 // remembered; the memory is a few megabytes
)

// Limiter counts the failures of addresses. The zero value is ready; it may be used by any number of goroutines.
type Limiter struct {
	mu sync.Mutex
	by map[netip.Prefix]*attempts
}

// attempts are those of one site.
type attempts struct {
	failures *rate.Limiter
	open     int           // begun and not yet ended
	ended    chan struct{} // closed when one ends
}

// Begin lets addr try a code, unless it has failed too often: then it returns how long addr must wait, and no end.
// Otherwise the caller must call end once, with whether the code was wrong.
//
// Attempts count as failures until they end, so that many at once do not get past the limit; but those that then find
// no place wait here until others end. So machines that enrol rightly behind one address are never refused.
func (l *Limiter) Begin(
	ctx context.Context, addr netip.Addr, now time.Time,
) (end func(failed bool), wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		a := l.attemptsLocked(site(addr), now)
		left := a.failures.TokensAt(now)
		if left >= float64(a.open+1) {
			a.open++
			return func(failed bool) { l.end(a, failed, now) }, 0
		}
		if left < 1 {
			return nil, time.Duration((1 - left) * float64(Interval))
		}
		ended := a.ended
		l.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
		}
		l.mu.Lock()
		if ctx.Err() != nil {
			return nil, Interval
		}
	}
}

func (l *Limiter) end(a *attempts, failed bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if failed {
		a.failures.AllowN(now, 1)
	}
	a.open--
	close(a.ended)
	a.ended = make(chan struct{})
}

func (l *Limiter) attemptsLocked(s netip.Prefix, now time.Time) *attempts {
	a := l.by[s]
	if a == nil {
		l.makeRoomLocked(now)
		a = &attempts{failures: rate.NewLimiter(rate.Every(Interval), Burst), ended: make(chan struct{})}
		l.by[s] = a
	}
	return a
}

// makeRoomLocked forgets sites until there is room for one more: those whose failures are long past, or, if there are
// none, any one.
func (l *Limiter) makeRoomLocked(now time.Time) {
	if l.by == nil {
		l.by = map[netip.Prefix]*attempts{}
	}
	if len(l.by) < maxAddresses {
		return
	}
	for s, a := range l.by {
		if a.open == 0 && a.failures.TokensAt(now) >= Burst {
			delete(l.by, s)
		}
	}
	for s := range l.by {
		if len(l.by) < maxAddresses {
			return
		}
		delete(l.by, s)
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
