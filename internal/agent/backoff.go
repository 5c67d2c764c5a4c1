// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff spaces attempts that may go on for ever. Each delay is drawn evenly between nothing and a bound that doubles
// from First to Max: with such full jitter, 10,000 agents that lose the server in one instant do not come back in one.
type Backoff struct {
	First time.Duration // bound of the first delay; default 5 s
	Max   time.Duration // bound of all; default 30 s

	draw func(n time.Duration) time.Duration // from 0 up to and without n; nil: evenly
}

func (b Backoff) random(n time.Duration) time.Duration {
	if b.draw != nil {
		return b.draw(n)
	}
	return rand.N(n)
}

func (b Backoff) withDefaults() Backoff {
	if b.First <= 0 {
		b.First = 5 * time.Second
	}
	if b.Max <= 0 {
		b.Max = 30 * time.Second
	}
	return b
}

// bound returns the longest delay before the attempt that follows the given number of failures, counted from 0.
func (b Backoff) bound(failures int) time.Duration {
	d := b.First
	for range failures {
		if d *= 2; d >= b.Max {
			return b.Max
		}
	}
	return min(d, b.Max)
}

// wait waits before that attempt. It returns ctx's error if ctx ends first.
func (b Backoff) wait(ctx context.Context, failures int) error {
	return pause(ctx, b.random(b.bound(failures)))
}

// pause waits for d, or returns ctx's error if ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// jitter returns d changed by up to a tenth either way.
func (b Backoff) jitter(d time.Duration) time.Duration {
	if d < 10 {
		return d
	}
	return d - d/10 + b.random(d/5)
}
