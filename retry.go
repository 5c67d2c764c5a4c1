// SPDX-License-Identifier: Apache-2.0

package waybill

import "time"

// MaxAttempts is how often a delivery may be tried on one instance.
const MaxAttempts = 10

// Retrying is what a request to retry a target comes to.
type Retrying int

// What a request to retry a target comes to.
const (
	RetryBegun     Retrying = iota // a new attempt has begun
	RetrySkipped                   // it is open or has succeeded: there is nothing to retry
	RetryExhausted                 // it was tried MaxAttempts times
)

// RetryCounts counts the targets that a request to retry named.
type RetryCounts struct {
	Retried, Skipped, Exhausted int
}

// Add counts one of them.
func (c *RetryCounts) Add(r Retrying) {
	switch r {
	case RetryBegun:
		c.Retried++
	case RetrySkipped:
		c.Skipped++
	case RetryExhausted:
		c.Exhausted++
	}
}

// Retry returns what a request to retry t makes of it, and what that comes to: a target that has failed, for whatever reason,
// begins anew. Nothing is left of the attempt that has ended but what is kept of it elsewhere.
func (t Target) Retry(now time.Time) (Target, Retrying) {
	switch {
	case !t.Status.Final() || t.Status == Success:
		return t, RetrySkipped
	case t.Attempt >= MaxAttempts:
		return t, RetryExhausted
	}
	return Target{
		Delivery: t.Delivery, Instance: t.Instance, Attempt: t.Attempt + 1, Status: Pending,
		Created: t.Created, Begun: latest(now, t.Beginning()), Updated: now,
	}, RetryBegun
}

// Beginning returns when the attempt of t began.
func (t Target) Beginning() time.Time { return latest(t.Created, t.Begun) }
