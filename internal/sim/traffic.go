// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

var discard = slog.New(slog.DiscardHandler)

// sent is a delivery that was answered.
type sent struct {
	*delivery
	id       waybill.DeliveryID
	sum      [sha256.Size]byte // of the content
	answered time.Time
	seen     map[waybill.InstanceID]seen // as the watch saw its targets last
	done     atomic.Bool                 // all were final, or it is not there

	cancelled int // targets of which StopSendFile said so; read it once all are sent
}

// seen is what the API said of a target.
type seen struct {
	status    waybill.Status
	code      string
	finished  string
	corrected bool
}

const senders = 8 // at once, for each account

// send sends the deliveries of an account, each at its time, until every one of them is answered.
func (r *run) send(ctx context.Context, a account, start time.Time) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(senders)
	for n := range r.plan.deliveries[a] {
		d := r.plan.delivery(a, n)
		if !pauseUntil(ctx, start.Add(d.at)) {
			break
		}
		eg.Go(func() error { return r.sendOne(ctx, d) })
	}
	return eg.Wait()
}

func (r *run) sendOne(ctx context.Context, d *delivery) error {
	req := client.SendFileRequest{
		Content: r.plan.content(d), Timeout: d.timeout, ClientToken: fmt.Sprintf("sim-%d-%d", d.account, d.n), DryRun: d.dryRun,
		File: waybill.FileSpec{
			Name: d.name, TargetDir: d.dir, Mode: d.mode, Overwrite: d.overwrite,
			Owner: strconv.Itoa(d.uid), Group: strconv.Itoa(d.gid),
		},
	}
	if d.kind == ownerless {
		req.File.Owner = "nobody-of-that-name"
	}
	for _, m := range d.targets {
		req.Instances = append(req.Instances, waybill.InstanceID(r.fleet[m].Instance))
	}
	s := &sent{delivery: d, sum: sha256.Sum256(req.Content), seen: map[waybill.InstanceID]seen{}}
	if d.dryRun {
		r.happened(rehearsed)
	} else {
		r.goes(s)
	}
	err := r.insist(ctx, func(ctx context.Context) (err error) {
		s.id, err = r.clients[d.account].SendFile(ctx, req)
		return err
	})
	if err != nil {
		return fmt.Errorf("send %s: %w", d.name, err)
	}
	s.answered = time.Now()
	r.mu.Lock()
	r.sent = append(r.sent, s)
	r.mu.Unlock()
	if !d.stops || !pauseUntil(ctx, s.answered.Add(d.stopAfter)) {
		return nil
	}
	return r.stopOne(ctx, s)
}

// stopOne asks all targets of a delivery to stop.
func (r *run) stopOne(ctx context.Context, s *sent) error {
	var n client.StopCounts
	err := r.insist(ctx, func(ctx context.Context) (err error) {
		n, err = r.clients[s.account].StopSendFile(ctx, s.id, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("stop %s: %w", s.name, err)
	}
	s.cancelled = n.Cancelled
	r.happened(stopped)
	return nil
}

// goes notes where the file of s may be from now on.
func (r *run) goes(s *sent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range s.targets {
		at := spot{t, path.Join(s.dir, s.name)}
		r.went[at] = append(r.went[at], s)
	}
}

// whatWent returns what may be at a path of a machine.
func (r *run) whatWent(machine int, path string) []*sent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.went[spot{machine, path}]
}

// insist makes a call again until it is answered. A refusal that does not pass by itself is an error.
func (r *run) insist(ctx context.Context, call func(context.Context) error) error {
	for {
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := call(limited)
		cancel()
		if err == nil {
			return nil
		}
		if no, ok := errors.AsType[*client.Error](err); ok && no.Status < 500 {
			return err
		}
		r.happened("calls without an answer, made again")
		if !pauseUntil(ctx, time.Now().Add(100*time.Millisecond)) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// watch looks again and again at what is not final, until ctx ends.
func (r *run) watch(ctx context.Context) error {
	for first := 0; ; {
		r.mu.Lock()
		all := r.sent
		r.mu.Unlock()
		for first < len(all) && all[first].done.Load() {
			first++
		}
		for _, s := range all[first:] {
			if s.done.Load() {
				continue
			}
			if err := r.lookAt(ctx, s); ctx.Err() != nil {
				return nil
			} else if err != nil {
				return err
			}
		}
		if !pauseUntil(ctx, time.Now().Add(500*time.Millisecond)) {
			return nil
		}
	}
}

// lookAt looks at one delivery through the API.
func (r *run) lookAt(ctx context.Context, s *sent) error {
	asked := time.Now()
	var page client.Page[client.Delivery]
	err := r.insist(ctx, func(ctx context.Context) (err error) {
		page, err = r.clients[s.account].DescribeSendFileResults(ctx, client.DeliveryFilter{ID: s.id}, client.Paging{})
		return err
	})
	if err != nil {
		return err
	}
	r.found.survives(s, page.Items)
	if len(page.Items) != 1 {
		s.done.Store(true)
		return nil
	}
	open := false
	for _, t := range page.Items[0].Targets.Items {
		r.found.moves(s, &t)
		if !t.Status.Final() {
			open = true
			r.judgeLate(s, &t, asked)
		}
	}
	s.done.Store(!open)
	return nil
}

// lateBy is how long after its deadline a target may be open before it counts as late: the server's grace of two
// seconds, and what two busy cores take for a sweep.
const lateBy = 15 * time.Second

// moreBy is how much longer it may take several servers, of which the one that ends targets dies, and the next one too.
const moreBy = 10 * time.Second

// judgeLate looks whether an open target should have ended. Its deadline is by the server's clock, but whoever waits for
// it does not notice that the clock jumps; so it is late if both that clock and the time gone by say so. While the
// server is down nobody ends it.
func (r *run) judgeLate(s *sent, t *client.Target, asked time.Time) {
	r.mu.Lock()
	ahead, up := r.ahead, r.upSince
	r.mu.Unlock()
	created, err := time.Parse(time.RFC3339, t.Created)
	lateBy := lateBy
	if r.cfg.Site != nil {
		lateBy += moreBy
	}
	if err != nil || up.IsZero() || asked.Sub(up) < lateBy || asked.Sub(s.answered) < s.timeout+lateBy {
		return
	}
	if by := asked.Add(ahead).Sub(created.Add(s.timeout + lateBy)); by > 0 {
		r.found.late(s, t, by)
	}
}

// awaitFinal waits until the watch has seen every delivery final.
func (r *run) awaitFinal(ctx context.Context) error {
	return r.until(ctx, "every delivery is final", func() (bool, error) {
		r.mu.Lock()
		all := r.sent
		r.mu.Unlock()
		for _, s := range all {
			if !s.done.Load() {
				return false, nil
			}
		}
		return true, nil
	})
}
