// SPDX-License-Identifier: Apache-2.0

package api

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/openwaybill/waybill"
)

// Rate is how many requests come at most: so many in a second, on average, and so many at once. A zero PerSecond is no
// limit.
type Rate struct {
	PerSecond float64
	Burst     int // zero: as many as in a second, one at least
}

func (r Rate) limiter() *rate.Limiter {
	if r.PerSecond == 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	burst := r.Burst
	if burst == 0 {
		burst = max(1, int(r.PerSecond))
	}
	return rate.NewLimiter(rate.Limit(r.PerSecond), burst)
}

// throttle bounds the pace of accounts. It grows with the number of accounts and operations, both of which only the
// operator and this program can raise.
type throttle struct {
	account, operation Rate

	mu sync.Mutex
	m  map[paced]*rate.Limiter
}

// paced is what has a limit of its own: an account, or an account with one operation.
type paced struct {
	account waybill.AccountID
	op      *Operation // nil: all of them together
}

// admit takes one request from what is left for the account and for the operation. If nothing is left, it returns the
// error and how long to wait.
func (t *throttle) admit(account waybill.AccountID, op *Operation, now time.Time) (wait time.Duration, err error) {
	var taken []*rate.Reservation // given back if the request is refused after all
	for _, limit := range []struct {
		key  paced
		rate Rate
		code string
	}{
		{paced{account, nil}, t.account, "Throttling.User"},
		{paced{account, op}, t.operation, "Throttling.Api"},
	} {
		if limit.rate.PerSecond == 0 {
			continue
		}
		r := t.limiter(limit.key, limit.rate).ReserveN(now, 1)
		if wait := r.DelayFrom(now); wait > 0 {
			for _, r := range append(taken, r) {
				r.CancelAt(now)
			}
			return wait, refuse(limit.code)
		}
		taken = append(taken, r)
	}
	return 0, nil
}

func (t *throttle) limiter(key paced, r Rate) *rate.Limiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.m[key]
	if l == nil {
		if t.m == nil {
			t.m = make(map[paced]*rate.Limiter)
		}
		l = r.limiter()
		t.m[key] = l
	}
	return l
}
