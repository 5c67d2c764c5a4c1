// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Failed enrolments that one address may make: a few at once, then one in ten seconds.
const (
	failureBurst    = 10
	failureInterval = 10 * time.Second
	maxAddresses    = 10_000 // remembered; the memory is a megabyte or two
)

// failures slows down whoever guesses activation codes. The zero value is ready.
type failures struct {
	mu sync.Mutex
	by map[netip.Prefix]*rate.Limiter
}

// wait returns how long addr must wait before it may try again, zero if not at all. Machines that enrol rightly behind
// one address never wait.
func (f *failures) wait(addr netip.Addr, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.by[site(addr)]
	if l == nil {
		return 0
	}
	missing := 1 - l.TokensAt(now)
	return time.Duration(max(0, missing) * float64(failureInterval))
}

// add notes a failure of addr.
func (f *failures) add(addr netip.Addr, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.by[site(addr)]
	if l == nil {
		f.makeRoomLocked(now)
		l = rate.NewLimiter(rate.Every(failureInterval), failureBurst)
		f.by[site(addr)] = l
	}
	l.AllowN(now, 1)
}

// makeRoomLocked forgets addresses until there is room for one more: those whose failures are long past, or, if there
// are none, any one.
func (f *failures) makeRoomLocked(now time.Time) {
	if f.by == nil {
		f.by = map[netip.Prefix]*rate.Limiter{}
	}
	if len(f.by) < maxAddresses {
		return
	}
	for addr, l := range f.by {
		if l.TokensAt(now) >= failureBurst {
			delete(f.by, addr)
		}
	}
	for addr := range f.by {
		if len(f.by) < maxAddresses {
			return
		}
		delete(f.by, addr)
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
