// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

func cancelOf(d *wire.Deliver) *wire.Cancel {
	return &wire.Cancel{Delivery: d.Delivery, Sent: d.Sent, Deadline: d.Deadline}
}

// TestCancelAtEachStep cancels a delivery at each step of its work: up to publication it leaves nothing, after that it is what it is.
func TestCancelAtEachStep(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		at   string
		want waybill.Cause
	}{
		{TraceTaken, waybill.CauseCancelled},
		{string(place.StepOpen), waybill.CauseCancelled},
		{string(place.StepWrite), waybill.CauseCancelled},
		{string(place.StepSync), waybill.CauseCancelled},
		{string(place.StepPublish), waybill.CauseCancelled},
		{string(place.StepSyncDir), waybill.NoCause},
		{string(place.StepVerify), waybill.NoCause},
		{TraceFinished, waybill.NoCause},
	} {
		t.Run(tc.at, func(t *testing.T) {
			t.Parallel()
			state, root := t.TempDir(), t.TempDir()
			d := deliverTo("f-1", "/dir", "x", "content")
			reached, proceed := make(chan struct{}), make(chan struct{})
			b := newBench(t, state, root, func(event, _ string) {
				if event == tc.at {
					close(reached)
					<-proceed
				}
			})
			b.send(d)
			<-reached
			b.cancel(cancelOf(d))
			b.cancel(cancelOf(d))
			close(proceed)
			r := b.outcomes()["f-1"]
			if r == nil || r.Cause != string(tc.want) || (len(r.SHA256) == 32) != (tc.want == "") {
				t.Fatalf("outcome %+v, want cause %q", r, tc.want)
			}
			left, err := os.ReadDir(root)
			must(t, err)
			if tc.want == "" && b.content("dir/x") != "content" || tc.want != "" && len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if v := b.send(d); v != known {
				t.Errorf("offered once more: %v", v)
			}
		})
	}
}

// TestCancelBeforeDeliver cancels what has not come yet. When it comes it is not carried out: at once, after a restart, and when
// the server has confirmed that long ago.
func TestCancelBeforeDeliver(t *testing.T) {
	t.Parallel()
	state, root := t.TempDir(), t.TempDir()
	d := deliverTo("f-1", "/", "x", "content")
	look := func(b *bench, when string) {
		t.Helper()
		if v := b.send(d); v != known {
			t.Errorf("%s: %v", when, v)
		}
		if left, _ := os.ReadDir(root); len(left) > 0 {
			t.Errorf("%s: %v", when, left)
		}
	}
	b := newBench(t, state, root, nil)
	b.cancel(cancelOf(d))
	if r := b.outcomes()["f-1"]; r == nil || r.Cause != string(waybill.CauseCancelled) || r.Finished != testNow {
		t.Fatalf("outcome %+v", r)
	}
	look(b, "at once")
	b.end()

	b = newBench(t, state, root, nil)
	if r := b.outcomes()["f-1"]; r == nil || r.Cause != string(waybill.CauseCancelled) {
		t.Fatalf("outcome after a restart %+v", r)
	}
	look(b, "after a restart")
	b.confirmed("f-1")
	look(b, "confirmed")
	b.cancel(cancelOf(d))
	if r := b.outcomes(); len(r) > 0 {
		t.Errorf("cancelled again, it has outcomes: %v", r)
	}
	b.clock.learn(d.Deadline-1, time.Time{})
	b.tidy()
	b.end()

	b = newBench(t, state, root, nil)
	look(b, "a moment before the deadline")
}

// TestCancelWhatWaits cancels a delivery that waits behind another for its path: it does not wait for that.
func TestCancelWhatWaits(t *testing.T) {
	t.Parallel()
	reached, proceed := make(chan struct{}), make(chan struct{})
	b := newBench(t, t.TempDir(), t.TempDir(), func(event, id string) {
		if event == TraceTaken && id == "f-1" {
			close(reached)
			<-proceed
		}
	})
	first, second, third := deliverTo("f-1", "/", "x", "1"), deliverTo("f-2", "/", "x", "2"), deliverTo("f-3", "/", "x", "3")
	b.send(first)
	<-reached
	b.send(second)
	b.send(third)
	b.cancel(cancelOf(third))
	if held := b.heldBytes(); held != 2 {
		t.Errorf("%d bytes are held", held)
	}
	if r, _ := b.due(time.Now()); len(r) != 1 || r[0].Delivery != "f-3" || r[0].Cause != string(waybill.CauseCancelled) {
		t.Errorf("outcomes %v", r)
	}
	close(proceed)
	if r := b.outcomes(); len(r) != 3 || r["f-1"].Cause != "" || r["f-2"].Cause != "" || b.content("x") != "2" {
		t.Errorf("outcomes %v, the file holds %q", r, b.content("x"))
	}
}

// TestCancelBetweenAcceptAndStart cancels a delivery that is accepted and whose work is yet to be started.
func TestCancelBetweenAcceptAndStart(t *testing.T) {
	t.Parallel()
	b := newBench(t, t.TempDir(), t.TempDir(), nil)
	d := deliverTo("f-1", "/", "x", "content")
	if v := b.offer(d); v != accepted {
		t.Fatal(v)
	}
	b.cancel(cancelOf(d))
	b.start(b.work, d, testNow)
	if r := b.outcomes()["f-1"]; r == nil || r.Cause != string(waybill.CauseCancelled) {
		t.Errorf("outcome %+v", r)
	}
}

// TestCancelAfterDeath cancels a delivery that was under way when the agent died, before the next run has found out what became
// of it.
func TestCancelAfterDeath(t *testing.T) {
	t.Parallel()
	for step, want := range map[place.Step]waybill.Cause{
		place.StepWrite: waybill.CauseCancelled, place.StepPublish: waybill.CauseCancelled, place.StepVerify: waybill.NoCause,
	} {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			state, root := t.TempDir(), t.TempDir()
			d := deliverTo("f-1", "/", "x", "content")
			die(t, state, root, d, string(step))
			b := openBench(t, state, root, nil)
			if !b.slots.TryAcquire(slots) {
				t.Fatal("no slots")
			}
			b.begin(b.work)
			b.cancel(cancelOf(d))
			b.slots.Release(slots)
			if r := b.outcomes()["f-1"]; r == nil || r.Cause != string(want) {
				t.Errorf("outcome %+v, want cause %q", r, want)
			}
			if left, _ := os.ReadDir(root); (len(left) == 0) != (want != "") {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestCheckCancel(t *testing.T) {
	t.Parallel()
	for _, c := range []wire.Cancel{{}, {Delivery: "f-1"}, {Delivery: "f/1", Deadline: 1}, {Deadline: 1}} {
		if checkCancel(&c) == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	if err := checkCancel(&wire.Cancel{Delivery: "f-1", Deadline: 1}); err != nil {
		t.Error(err)
	}
}
