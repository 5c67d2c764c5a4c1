// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"context"
	"time"
)

// Times are the waits and the time limits of an agent.
type Times struct {
	Beat        time.Duration // what a minute of nextInterval takes; beats are 55/60 to 65/60 of it apart
	BeatRetry   time.Duration // before a failed beat is tried again
	Ping        time.Duration // between two pings of a ping loop
	ReadRetry   time.Duration // between read errors, of which it takes five
	Redial      time.Duration // between telling of a lost connection and dialling
	DialRetry   time.Duration // between attempts after a failed dial, all of which fall into CoolDown
	CoolDown    time.Duration // after a failed dial; until then no other is tried
	Tick        time.Duration // the channel is looked after at each multiple of it after the start
	SecondAsk   time.Duration // before a kicked fetch that found nothing is repeated
	FetchRetry  time.Duration // before a failed request for tasks is repeated
	ReportRetry time.Duration // before the first repetition of a client report; it doubles twice
	UpdateRetry time.Duration // before a failed update check is repeated
	State       time.Duration // within which the state configurations are asked for
	Watch       time.Duration // after the start, before which the agent does not look at its own size
	SelfKill    time.Duration // from a reply that was too big to the end of the process

	CallLimit  time.Duration // of a call, with its body
	FetchLimit time.Duration // of a request for tasks or sessions
	StateLimit time.Duration // of a request for state configurations
	DialLimit  time.Duration // of a WebSocket dial, with TLS and upgrade
}

// RealTimes returns the times of the official agent.
func RealTimes() Times {
	return Times{
		Beat: time.Minute, BeatRetry: 3 * time.Second, Ping: time.Minute,
		ReadRetry: time.Second, Redial: time.Second, DialRetry: 5 * time.Second,
		CoolDown: time.Minute, Tick: 30 * time.Minute,
		SecondAsk: 3 * time.Second, FetchRetry: 2 * time.Second, ReportRetry: time.Second, UpdateRetry: 5 * time.Second,
		State: 3 * time.Minute, Watch: 3 * time.Minute, SelfKill: 10 * time.Second,
		CallLimit: 5 * time.Second, FetchLimit: 8 * time.Second, StateLimit: 10 * time.Second, DialLimit: 45 * time.Second,
	}
}

// Scaled returns t with every wait multiplied by f. The limits stay.
func (t Times) Scaled(f float64) Times {
	for _, d := range []*time.Duration{
		&t.Beat, &t.BeatRetry, &t.Ping, &t.ReadRetry, &t.Redial, &t.DialRetry, &t.CoolDown, &t.Tick,
		&t.SecondAsk, &t.FetchRetry, &t.ReportRetry, &t.UpdateRetry, &t.State, &t.Watch, &t.SelfKill,
	} {
		*d = time.Duration(float64(*d) * f)
	}
	return t
}

// pause waits for d and reports whether ctx is still alive then.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
