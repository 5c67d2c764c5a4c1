// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync"
	"time"
)

// clock estimates the server's time. Deadlines are in server time, and the wall clock of a machine may be years off, so
// the agent never looks at it for them: it remembers the highest time that a server named and advances it by the local
// monotonic clock. The estimate is late by the time a message travelled and never ahead of the server, unless the
// server's clock is set back; then the answer to the agent's next question corrects it. Where the monotonic clock
// stands still (a suspended laptop), the next message from the server does.
//
// The zero clock knows nothing and returns 0. It may be used from several goroutines.
type clock struct {
	mu    sync.Mutex
	known int64     // Unix milliseconds; 0: nothing learned yet
	at    time.Time // when it was known
}

// learn takes notice of a time that the server named, in Unix milliseconds, at some moment after since: when the agent
// asked, or the zero time if it did not ask. A message that nobody asked for may have waited long, and an early time in
// it means nothing. An answer whose time is before the estimate of when it was asked for proves the estimate wrong.
func (c *clock) learn(millis int64, since time.Time) {
	if millis <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); millis > c.millisLocked(now) || millis < c.millisLocked(since) {
		c.known, c.at = millis, now
	}
}

// millis returns the estimate in Unix milliseconds, and 0 before anything was learned.
func (c *clock) millis() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.millisLocked(time.Now())
}

// millisLocked returns the estimate for the moment t; that for the zero time is far below zero.
func (c *clock) millisLocked(t time.Time) int64 {
	if c.known == 0 {
		return 0
	}
	return c.known + t.Sub(c.at).Milliseconds()
}

// passed reports whether a deadline is over: the server's own clock is at least as far as the estimate.
func (c *clock) passed(deadline int64) bool { return c.millis() >= deadline }
