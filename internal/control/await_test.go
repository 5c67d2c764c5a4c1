// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
)

// forever is longer than any test may take.
const forever = time.Hour

// TestAwaitIsTold waits, without asking again, until something happens to a delivery.
func TestAwaitIsTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	machine := f.enrol()
	id := f.send(request(machine))

	d, mark, err := f.Await(t.Context(), f.who, region, id, "", forever)
	if err != nil || mark == "" || d.Counts.Pending != 1 {
		t.Fatalf("without a mark: %+v, mark %q, %v", d, mark, err)
	}
	if _, same, err := f.Await(t.Context(), f.who, region, id, mark, time.Millisecond); err != nil || same != mark {
		t.Errorf("when nothing happens: mark %q, %v; want %q", same, err, mark)
	}
	type told struct {
		status waybill.Overall
		mark   string
		err    error
	}
	answers := make(chan told)
	for range 3 {
		go func() {
			d, now, err := f.Await(t.Context(), f.who, region, id, mark, forever)
			answers <- told{d.Status(), now, err}
		}()
	}
	f.awaitWaits(3)
	f.report(id, machine, waybill.NoCause, f.clock())
	for range 3 {
		if got := <-answers; got.err != nil || got.mark == mark || got.status != waybill.OverallSuccess {
			t.Errorf("told %+v", got)
		}
	}

	for name, v := range map[string]struct {
		who waybill.Principal
		id  waybill.DeliveryID
	}{"unknown": {f.who, "f-none"}, "another account's": {f.other(), id}} {
		if _, mark, err := f.Await(t.Context(), v.who, region, v.id, "1-0-0-0", forever); err != nil || mark != "" {
			t.Errorf("%s: mark %q, %v", name, mark, err)
		}
	}
}

// TestAwaitEnds looks that nobody who waits keeps a server from stopping, or stays when there is no caller any more.
func TestAwaitEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.send(request(f.enrol()))
	_, mark, err := f.Await(t.Context(), f.who, region, id, "", forever)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone, ended := make(chan error), make(chan string)
	go func() {
		_, _, err := f.Await(ctx, f.who, region, id, mark, forever)
		gone <- err
	}()
	f.awaitWaits(1)
	cancel()
	if err := <-gone; err == nil {
		t.Error("a caller that is gone was answered")
	}
	f.awaitWaits(0)
	go func() {
		_, now, err := f.Await(t.Context(), f.who, region, id, mark, forever)
		if err != nil {
			t.Error(err)
		}
		ended <- now
	}()
	f.awaitWaits(1)
	f.EndWaits()
	f.EndWaits()
	if now := <-ended; now != mark {
		t.Errorf("mark %q; want %q", now, mark)
	}
	if _, now, err := f.Await(t.Context(), f.who, region, id, mark, forever); err != nil || now != mark {
		t.Errorf("afterwards: mark %q, %v", now, err)
	}
}

// awaitWaits returns when so many wait.
func (f *fixture) awaitWaits(n int) {
	f.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		f.waits.mu.Lock()
		open := f.waits.open
		f.waits.mu.Unlock()
		if open == n {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			f.t.Fatalf("%d wait; want %d", open, n)
		}
	}
}
