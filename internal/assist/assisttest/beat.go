// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"time"
)

// The beat honours an interval between these only (§8).
const (
	leastInterval = 55_000 // ms
	mostInterval  = 65_000
)

// fieldMissing matches the message after which beats carry the full set of parameters.
var fieldMissing = regexp.MustCompile(
	`Required request parameter '\w+' for method parameter type \w+ is not present`)

// firstBeat tries up to three beats in a row; they count as one.
func (a *Agent) firstBeat(ctx context.Context) { a.beats(ctx, 3) }

func (a *Agent) beat(ctx context.Context) { a.beats(ctx, 1) }

// beats tries up to n beats, until one is acknowledged, and sees to the next one.
func (a *Agent) beats(ctx context.Context, n int) {
	for range n {
		err := a.tryBeat(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			a.note(func(s *Snapshot) { s.Beats++ }, "beat acknowledged")
			break
		}
		a.tell("beat failed: " + err.Error())
	}
	a.mu.Lock()
	a.seen.BeatsTried++
	next := a.interval
	a.mu.Unlock()
	a.after(next, a.beat)
}

// tryBeat sends one beat, and once more if there was no answer or one of a broken server, up to three times in an hour.
func (a *Agent) tryBeat(ctx context.Context) error {
	target := a.beatTarget()
	get := func() (Answer, error) {
		return a.call(ctx, Call{Method: http.MethodGet, Target: target, ContentType: contentForm, Limit: a.t.CallLimit})
	}
	answer, err := get()
	status, ok := errors.AsType[StatusError](err)
	if err != nil && !(ok && status < http.StatusInternalServerError) && a.mayRetryBeat() {
		if !pause(ctx, a.t.BeatRetry) {
			return ctx.Err()
		}
		answer, err = get()
	}
	if err != nil {
		return err
	}
	var reply struct {
		Next any `json:"nextInterval"`
		Err  any `json:"errMsg"`
	}
	_ = json.Unmarshal([]byte(answer.Body), &reply) // what is no JSON object has no fields
	if msg, _ := reply.Err.(string); fieldMissing.MatchString(msg) {
		a.mu.Lock()
		a.full = true
		a.mu.Unlock()
		return errors.New(msg)
	}
	next, ok := reply.Next.(float64)
	ms := int(next)
	if !ok || ms < leastInterval || ms > mostInterval {
		ms = leastInterval + rand.N(mostInterval-leastInterval+1)
	}
	a.mu.Lock()
	a.interval = time.Duration(ms) * a.t.Beat / 60_000
	a.seen.NextBeat = a.interval
	a.mu.Unlock()
	return nil
}

func (a *Agent) mayRetryBeat() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := time.Now(); now.Sub(a.retriesAt) >= time.Hour {
		a.retries, a.retriesAt = 0, now
	}
	a.retries++
	return a.retries <= 3
}

func (a *Agent) beatTarget() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	up := time.Since(a.seen.Started)
	q := fmt.Sprintf("/luban/api/heart-beat?uptime=%d&timestamp=%d&pid=%d&process_uptime=%d&index=%d&seq_no=%d",
		(up + time.Hour).Milliseconds(), time.Now().UnixMilli(), os.Getpid(), up.Milliseconds(),
		a.seen.Beats, a.seen.BeatsTried)
	osVersion := url.QueryEscape(a.facts.OSVersion)
	switch {
	case a.full:
		q += fmt.Sprintf("&virt_type=kvm&lang=golang&os_type=%s&os_version=%s&app_version=%s&az=unknown",
			a.facts.OSType, osVersion, a.facts.Version)
		if a.seen.Beats == 0 {
			q += fmt.Sprintf("&cold_start=%t", a.cfg.ColdStart)
		}
	case a.seen.Beats == 0:
		machine := ""
		if a.identity != nil {
			machine = a.identity.MachineID
		}
		q += fmt.Sprintf("&virt_type=kvm&os_version=%s&az=unknown&machineid=%s&cold_start=%t",
			osVersion, machine, a.cfg.ColdStart)
	}
	return q
}
