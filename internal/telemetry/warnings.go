// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Warnings of one kind that are logged: a few, then one in each interval.
const (
	warningBurst    = 10
	warningInterval = time.Second
)

// Warnings logs warnings of a kind that strangers can cause, as many as they like: ten, then one a second. Those logged
// tell how many were not. It may be used by any number of goroutines.
type Warnings struct {
	few        rate.Sometimes
	suppressed atomic.Int64
}

// NewWarnings returns Warnings that have logged none.
func NewWarnings() *Warnings {
	return &Warnings{few: rate.Sometimes{First: warningBurst, Interval: warningInterval}}
}

// Log logs a warning, or counts it.
func (w *Warnings) Log(log *slog.Logger, msg string, args ...any) {
	due := false
	w.few.Do(func() { due = true }) // which holds a lock: no place to write
	if !due {
		w.suppressed.Add(1)
		return
	}
	log.Warn(msg, append(args, "suppressed", w.suppressed.Swap(0))...)
}
