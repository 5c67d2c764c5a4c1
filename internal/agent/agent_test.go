// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

func TestDelivery(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	a := startAgent(s)
	hello := await[wire.Hello](s, wire.OpHello, 1)[0]
	if hello.Session == "" || hello.Capability != wire.Capability || hello.AgentVersion != "test" ||
		hello.OSType != runtime.GOOS {
		t.Errorf("hello %+v", hello)
	}
	d := s.deliverTo("f-1", "/etc/app", "x.conf", "content")
	s.send(a.instance, d)
	ack := await[wire.Ack](s, wire.OpAck, 1)[0]
	r := await[wire.Report](s, wire.OpReport, 1)[0]
	if ack.Delivery != "f-1" || ack.Started < d.Sent || ack.Started > s.now() {
		t.Errorf("ack %+v, sent at %d", ack, d.Sent)
	}
	if r.Delivery != "f-1" || r.Cause != "" || !bytes.Equal(r.SHA256, d.SHA256) || r.Started != ack.Started ||
		r.Finished < r.Started || r.Finished > s.now() {
		t.Errorf("report %+v", r)
	}
	if got := a.content("etc/app/x.conf"); got != "content" {
		t.Errorf("the file holds %q", got)
	}
	must(t, a.end())
	if n := len(await[wire.Report](s, wire.OpReport, 1)); n != 1 {
		t.Errorf("%d reports of one outcome", n)
	}
	if bye := await[wire.Bye](s, wire.OpBye, 1)[0]; bye.Reason != wire.ByeStopped || bye.Session != hello.Session {
		t.Errorf("bye %+v", bye)
	}
}

// TestServerTime has a server whose clock is years behind: only its clock counts.
func TestServerTime(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.skew = -5 * 365 * 24 * time.Hour
	a := startAgent(s)
	s.send(a.instance, s.deliverTo("f-1", "/", "x", "content"))
	over := s.deliverTo("f-2", "/", "y", "content")
	over.Deadline = over.Sent - 1
	s.send(a.instance, over)
	rs := await[wire.Report](s, wire.OpReport, 2)
	slices.SortFunc(rs, func(a, b wire.Report) int { return strings.Compare(a.Delivery, b.Delivery) })
	if r := rs[0]; r.Cause != "" || r.Started < s.now()-patience.Milliseconds() || r.Finished > s.now() {
		t.Errorf("report %+v, server time %d", r, s.now())
	}
	if r := rs[1]; r.Cause != string(waybill.CauseDeadline) {
		t.Errorf("report %+v", r)
	}
}

// TestServerTimeSetBack has a server whose clock was years ahead. Neither an agent that stays connected nor its next
// run takes what is sent afterwards for late.
func TestServerTimeSetBack(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"connected": false, "restarted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t)
			s.skew = 5 * 365 * 24 * time.Hour
			a := startAgent(s)
			s.send(a.instance, s.deliverTo("f-1", "/", "x", "1"))
			await[wire.Report](s, wire.OpReport, 1)
			if restart {
				must(t, a.end())
			}
			s.set(func(s *scripted) { s.skew = 0 })
			if restart {
				a = runAgent(s, a.state, a.instance, a.root)
			}
			for n, want := range []string{"2", "3"} {
				s.send(a.instance, s.deliverTo("f-"+want, "/", "x", want))
				rs := await[wire.Report](s, wire.OpReport, n+2)
				if r := rs[n+1]; r.Cause != "" || r.Finished < r.Started || r.Finished > s.now() {
					t.Errorf("report %+v, server time %d", r, s.now())
				}
				if got := a.content("x"); got != want {
					t.Errorf("the file holds %q, want %q", got, want)
				}
			}
		})
	}
}

// TestPull has an agent that was away for more than one page, and pushes one more before it has caught up: the oldest
// go first.
func TestPull(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	const n = 3*wire.MaxPull + 1
	for i := range n {
		s.hold(s.deliverTo(fmt.Sprintf("f-%03d", i), "/", "x", fmt.Sprint(i)))
	}
	first := make(chan struct{})
	s.silent = func(op string, nth int) bool {
		if op == wire.OpPull && nth == 2 {
			close(first)
			return true // it asks again
		}
		return false
	}
	a := startAgent(s)
	<-first
	s.send(a.instance, s.deliverTo("f-999", "/", "x", "last"))
	rs := awaitThat(s, wire.OpReport, func(rs []wire.Report) bool { return len(firsts(rs)) > n })
	rs = firsts(rs)
	for i, r := range rs {
		if r.Cause != "" {
			t.Errorf("report %+v", r)
		}
		if i > 0 && rs[i-1].Delivery >= r.Delivery {
			t.Errorf("%s came before %s", rs[i-1].Delivery, r.Delivery)
		}
	}
	if got := a.content("x"); got != "last" {
		t.Errorf("the last word is %q", got)
	}
}

// firsts returns the first report of each delivery: one that is confirmed late is sent again.
func firsts(rs []wire.Report) []wire.Report {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(rs), func(r wire.Report) bool {
		again := seen[r.Delivery]
		seen[r.Delivery] = true
		return again
	})
}

func TestConfirmLost(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.silent = func(op string, nth int) bool { return op == wire.OpReport && nth < 3 }
	a := startAgent(s)
	d := s.deliverTo("f-1", "/", "x", "content")
	d.Overwrite = false
	s.send(a.instance, d)
	rs := await[wire.Report](s, wire.OpReport, 3)
	for _, r := range rs {
		if r.Cause != "" || r.Started != rs[0].Started || r.Finished != rs[0].Finished {
			t.Errorf("report %+v, first %+v", r, rs[0])
		}
	}
}

// TestReportSurvivesRestart ends the agent with an outcome that nobody confirmed.
func TestReportSurvivesRestart(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.silent = func(op string, _ int) bool { return op == wire.OpReport }
	a := startAgent(s)
	d := s.deliverTo("f-1", "/", "x", "content")
	d.Overwrite = false
	s.send(a.instance, d)
	before := await[wire.Report](s, wire.OpReport, 1)[0]
	must(t, a.end())
	s.set(func(s *scripted) {
		s.silent = func(string, int) bool { return false }
		s.messages = nil
	})
	again := runAgent(s, a.state, a.instance, a.root)
	after := await[wire.Report](s, wire.OpReport, 1)[0]
	if after.Cause != "" || after.Finished != before.Finished || !bytes.Equal(after.SHA256, before.SHA256) {
		t.Errorf("before %+v\nafter  %+v", before, after)
	}
	must(t, again.end())
	if slices.Contains(s.ops(), wire.OpAck) {
		t.Error("it was taken up again")
	}
}

func TestDuplicateAndLate(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	a := startAgent(s)
	d := s.deliverTo("f-1", "/", "x", "content")
	s.send(a.instance, d)
	await[wire.Report](s, wire.OpReport, 1)
	must(t, os.WriteFile(filepath.Join(a.root, "x"), []byte("edited"), 0o600))
	for range 3 {
		s.push(a.instance, wire.OpDeliver, wire.Encode(d))
	}
	over := s.deliverTo("f-0", "/", "y", "content")
	over.Deadline = s.now() - 1
	s.send(a.instance, over)
	rs := awaitThat(s, wire.OpReport, func(rs []wire.Report) bool {
		return slices.ContainsFunc(rs, func(r wire.Report) bool { return r.Delivery == "f-0" })
	})
	if len(rs) > 2 || rs[len(rs)-1].Cause != string(waybill.CauseDeadline) {
		t.Errorf("reports %+v", rs)
	}
	if a.content("x") != "edited" || !strings.Contains(a.content("y"), "no such file") {
		t.Errorf("files hold %q and %q", a.content("x"), a.content("y"))
	}
	if acks := await[wire.Ack](s, wire.OpAck, 1); len(acks) != 1 {
		t.Errorf("acks %+v", acks)
	}
}

// TestReconnect takes the bus away and brings it back with something new.
func TestReconnect(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.silent = func(op string, _ int) bool { return op == wire.OpReport }
	a := startAgent(s)
	s.send(a.instance, s.deliverTo("f-1", "/", "x", "1"))
	await[wire.Report](s, wire.OpReport, 1)
	s.down()
	s.set(func(s *scripted) {
		s.messages = nil
		s.silent = func(string, int) bool { return false }
	})
	s.hold(s.deliverTo("f-2", "/", "y", "2"))
	s.up()
	rs := awaitThat(s, wire.OpReport, func(rs []wire.Report) bool {
		return slices.ContainsFunc(rs, func(r wire.Report) bool { return r.Delivery == "f-1" }) &&
			slices.ContainsFunc(rs, func(r wire.Report) bool { return r.Delivery == "f-2" })
	})
	for _, r := range rs {
		if r.Cause != "" {
			t.Errorf("report %+v", r)
		}
	}
	if ops := s.ops(); ops[0] != wire.OpHello {
		t.Errorf("a connection begins with %v", ops)
	}
}

// TestServerAwayAtStart starts the agent before the server.
func TestServerAwayAtStart(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	dir, instance := s.enroll()
	s.down()
	a := runAgent(s, dir, instance, t.TempDir())
	s.hold(s.deliverTo("f-1", "/", "x", "content"))
	awaitStatus(t, dir, func(st Status) bool {
		return st.Running && !st.Connected && strings.Contains(st.Problem, "connect to")
	})
	s.up()
	await[wire.Report](s, wire.OpReport, 1)
	if a.content("x") != "content" {
		t.Errorf("the file holds %q", a.content("x"))
	}
	awaitStatus(t, dir, func(st Status) bool { return st.Running && st.Connected && st.Instance == instance })
	must(t, a.end())
	awaitStatus(t, dir, func(st Status) bool { return !st.Running })
}

func awaitStatus(t *testing.T, dir string, want func(Status) bool) {
	t.Helper()
	end := time.After(patience)
	for {
		st, err := ReadStatus(dir)
		must(t, err)
		if want(st) {
			return
		}
		select {
		case <-end:
			t.Fatalf("status %+v", st)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestHelloUnanswered has a bus without a server behind it for a while.
func TestHelloUnanswered(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.silent = func(op string, nth int) bool { return op == wire.OpHello && nth == 1 }
	s.hold(s.deliverTo("f-1", "/", "x", "content"))
	startAgent(s)
	await[wire.Report](s, wire.OpReport, 1)
	if n := len(await[wire.Hello](s, wire.OpHello, 2)); n != 2 {
		t.Errorf("%d hellos", n)
	}
}

func TestMalformedMessages(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	a := startAgent(s)
	await[wire.Pull](s, wire.OpPull, 1)
	good := s.deliverTo("f-good", "/", "x", "content")
	change := func(f func(*wire.Deliver)) []byte {
		d := *good
		d.Delivery = "f-bad"
		f(&d)
		return wire.Encode(&d)
	}
	for name, data := range map[string][]byte{
		"empty":           {},
		"noise":           []byte("\x00\xff not CBOR"),
		"another type":    wire.Encode([]int{1, 2, 3}),
		"cut off":         wire.Encode(good)[:40],
		"trailing":        append(wire.Encode(good), 0),
		"deeply nested":   bytes.Repeat([]byte{0x81}, 10_000),
		"path as ID":      change(func(d *wire.Deliver) { d.Delivery = "../../x" }),
		"subject as ID":   change(func(d *wire.Deliver) { d.Delivery = "a.>" }),
		"no ID":           change(func(d *wire.Deliver) { d.Delivery = "" }),
		"short digest":    change(func(d *wire.Deliver) { d.SHA256 = d.SHA256[:31] }),
		"no digest":       change(func(d *wire.Deliver) { d.SHA256 = nil }),
		"impossible mode": change(func(d *wire.Deliver) { d.Mode = 0o10000 }),
		"no deadline":     change(func(d *wire.Deliver) { d.Deadline = 0 }),
		"endless words":   change(func(d *wire.Deliver) { d.TargetDir = "/" + strings.Repeat("x", maxWords) }),
	} {
		s.push(a.instance, wire.OpDeliver, data)
		s.push(a.instance, wire.OpProbe, data[:min(len(data), 20)])
		s.push(a.instance, "inbox."+confirmInbox+".f-good", data[:min(len(data), 20)])
		s.push(a.instance, "from-the-future", data)
		t.Log("pushed", name)
	}
	s.send(a.instance, good)
	rs := await[wire.Report](s, wire.OpReport, 1)
	if len(rs) != 1 || rs[0].Delivery != "f-good" || rs[0].Cause != "" {
		t.Errorf("reports %+v", rs)
	}
	s.push(a.instance, wire.OpProbe, wire.Encode(&wire.Probe{Nonce: "n-1"}))
	await[wire.Alive](s, wire.OpAlive, 1)
}

func TestProbe(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	a := startAgent(s)
	hello := await[wire.Hello](s, wire.OpHello, 1)[0]
	await[wire.Pull](s, wire.OpPull, 1)
	s.push(a.instance, wire.OpProbe, wire.Encode(&wire.Probe{Nonce: "n-1"}))
	if alive := await[wire.Alive](s, wire.OpAlive, 1)[0]; alive.Nonce != "n-1" || alive.Session != hello.Session {
		t.Errorf("alive %+v", alive)
	}
}

// TestBeat shows that a heartbeat tells what the agent holds.
func TestBeat(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.beat = minBeat
	proceed := make(chan struct{})
	a := startAgent(s, func(c *Config) {
		c.Hooks.Trace = func(event, _ string) {
			if event == string(place.StepWrite) {
				<-proceed
			}
		}
	})
	hello := await[wire.Hello](s, wire.OpHello, 1)[0]
	s.send(a.instance, s.deliverTo("f-1", "/", "x", "content"))
	awaitThat(s, wire.OpBeat, func(bs []wire.Beat) bool {
		return slices.ContainsFunc(bs, func(b wire.Beat) bool {
			return b.Session == hello.Session && slices.Equal(b.Open, []string{"f-1"})
		})
	})
	close(proceed)
	awaitThat(s, wire.OpBeat, func(bs []wire.Beat) bool { return len(bs[len(bs)-1].Open) == 0 })
}

// TestRenewal has tokens that live for a few seconds: the agent changes connections without losing a delivery.
func TestRenewal(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.life = func(nth int) (time.Time, time.Duration) {
		if nth < 3 {
			return time.Now(), 4 * time.Second
		}
		return time.Now(), time.Hour
	}
	a := startAgent(s)
	for i := range 30 {
		s.send(a.instance, s.deliverTo(fmt.Sprintf("f-%02d", i), "/", fmt.Sprint(i), "content"))
		awaitThat(s, wire.OpReport, func(rs []wire.Report) bool {
			return slices.ContainsFunc(rs, func(r wire.Report) bool { return r.Delivery == fmt.Sprintf("f-%02d", i) })
		})
	}
	hellos := await[wire.Hello](s, wire.OpHello, 3)
	if hellos[0].Session != hellos[2].Session {
		t.Error("a renewal looks like another agent")
	}
	reg, err := loadRegistration(a.state)
	must(t, err)
	if reg.JWT != a.registration().JWT {
		t.Error("the new token is not on disk")
	}
}

// TestExpired starts an agent whose token has expired long ago.
func TestExpired(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.life = func(nth int) (time.Time, time.Duration) {
		if nth == 1 {
			return time.Now().Add(-48 * time.Hour), time.Hour
		}
		return time.Now(), time.Hour
	}
	s.refuse = func(path string) (int, waybill.Code) {
		if path == wire.PathRenew && s.tokens == 1 {
			s.tokens++
			return http.StatusServiceUnavailable, waybill.Unavailable // for now
		}
		return http.StatusOK, ""
	}
	startAgent(s)
	await[wire.Hello](s, wire.OpHello, 1)
}

func TestUnwanted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		code   waybill.Code
		want   error
	}{
		"deregistered": {http.StatusGone, waybill.NotRegistered, ErrDeregistered},
		"quarantined":  {http.StatusConflict, waybill.Quarantined, ErrQuarantined},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t)
			a := startAgent(s)
			await[wire.Hello](s, wire.OpHello, 1)
			s.set(func(s *scripted) { s.refuse = func(string) (int, waybill.Code) { return c.status, c.code } })
			public, err := a.key.PublicKey()
			must(t, err)
			must(t, s.currentBus().Revoke(public, time.Now()))
			if err := a.wait(); !errors.Is(err, c.want) {
				t.Errorf("Run returned %v, want %v", err, c.want)
			}
			if st, err := ReadStatus(a.state); err != nil || st.Running {
				t.Errorf("status %+v, %v", st, err)
			}
		})
	}
}

// TestEndFinishesWork ends the agent while it writes: the work is finished, reported and confirmed before the goodbye.
func TestEndFinishesWork(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	writing, proceed := make(chan struct{}), make(chan struct{})
	a := startAgent(s, func(c *Config) {
		c.Hooks.Trace = func(event, _ string) {
			if event == string(place.StepWrite) {
				close(writing)
				<-proceed
			}
		}
	})
	s.send(a.instance, s.deliverTo("f-1", "/", "x", "content"))
	<-writing
	a.cancel()
	a.exec.reach(t, func() bool { return a.exec.closed })
	s.push(a.instance, wire.OpDeliver, wire.Encode(s.deliverTo("f-2", "/", "y", "content")))
	close(proceed)
	must(t, a.wait())
	ops := s.ops()
	if r, b := slices.Index(ops, wire.OpReport), slices.Index(ops, wire.OpBye); r < 0 || b < r {
		t.Errorf("messages %v", ops)
	}
	if a.content("x") != "content" || !strings.Contains(a.content("y"), "no such file") {
		t.Errorf("files hold %q and %q", a.content("x"), a.content("y"))
	}
	if j := openTestJournal(t, a.state); !j.isConfirmed("f-1") {
		t.Error("the confirmation was not awaited")
	}
}

func (e *executor) reach(t *testing.T, reachedLocked func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(t, e.await(ctx, reachedLocked))
}

// TestEndTooSlow ends the agent while a disk does not answer: it does not wait for ever, leaves nothing half done that
// the next run could not tell, and says goodbye.
func TestEndTooSlow(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	writing, proceed := make(chan struct{}), make(chan struct{})
	a := startAgent(s, func(c *Config) {
		c.Hooks.Trace = func(event, _ string) {
			if event == string(place.StepWrite) {
				close(writing)
				<-proceed
			}
		}
	})
	a.grace = 50 * time.Millisecond
	s.send(a.instance, s.deliverTo("f-1", "/", "x", "content"))
	<-writing
	a.cancel()
	await[wire.Bye](s, wire.OpBye, 1)
	must(t, a.wait())
	close(proceed)
	a.exec.reach(t, func() bool { return len(a.exec.queues) == 0 })
	if slices.Contains(s.ops(), wire.OpReport) {
		t.Error("an outcome was reported")
	}
	if left := must1(os.ReadDir(a.root)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	runAgent(s, a.state, a.instance, a.root)
	if r := await[wire.Report](s, wire.OpReport, 1)[0]; r.Cause != "" {
		t.Errorf("report %+v", r)
	}
}

// TestPushLost has the bus lose a push: the heartbeat tells what the agent has, and the server repeats the rest.
func TestPushLost(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.beat = minBeat
	a := startAgent(s)
	await[wire.Pull](s, wire.OpPull, 1)
	lost := s.deliverTo("f-1", "/", "x", "content")
	s.hold(lost) // and not pushed
	if b := await[wire.Beat](s, wire.OpBeat, 1)[0]; len(b.Open) != 0 {
		t.Errorf("beat %+v", b)
	}
	s.push(a.instance, wire.OpDeliver, wire.Encode(lost))
	await[wire.Report](s, wire.OpReport, 1)
}

// TestReportOfAnyText reports about names that would need escaping in other protocols.
func TestReportOfAnyText(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	a := startAgent(s)
	name := "a b&c=d\"%0A é.conf"
	must(t, os.Mkdir(filepath.Join(a.root, name), 0o755))
	s.send(a.instance, s.deliverTo("f-1", "/", name, "content"))
	r := await[wire.Report](s, wire.OpReport, 1)[0]
	if r.Cause != string(waybill.CauseWriteFailed) || !strings.Contains(r.Detail, "é.conf") {
		t.Errorf("report %+v", r)
	}
}

func TestStateDirIsLocked(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	a := startAgent(s)
	await[wire.Hello](s, wire.OpHello, 1)
	second, err := New(Config{StateDir: a.state}, testLog(t))
	must(t, err)
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another agent is running") {
		t.Errorf("a second agent: %v", err)
	}
}

// TestDeadPeer has a network that swallows everything from one moment on: the connection is given up and made again.
func TestDeadPeer(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.hostname = "waybill.test"
	p := newProxy(t, nil, "")
	dir, instance := enrollThrough(s, p)
	a, err := New(Config{StateDir: dir, Root: t.TempDir(), Backoff: quick}, testLog(t))
	must(t, err)
	a.dialer.proxyFor = p.always
	a.ping = 200 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	await[wire.Pull](s, wire.OpPull, 1)
	p.swallow()
	s.send(instance, s.deliverTo("f-1", "/", "x", "content"))
	await[wire.Report](s, wire.OpReport, 1)
	if n := len(await[wire.Hello](s, wire.OpHello, 2)); n != 2 {
		t.Errorf("%d connections", n)
	}
	cancel()
	must(t, <-ended)
}

// heapInUse returns the bytes on the heap that are in use.
func heapInUse() int64 {
	for range 3 { // a sync.Pool outlives two collections
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryIsFlat delivers many times what an agent may hold.
func TestMemoryIsFlat(t *testing.T) {
	s := newScripted(t) // not parallel: it measures the heap
	a := startAgent(s)
	await[wire.Pull](s, wire.OpPull, 1)
	content := strings.Repeat("x", 32<<10)
	round := func(n int) {
		for i := range 100 {
			s.send(a.instance, s.deliverTo(fmt.Sprintf("f-%d-%03d", n, i), "/", fmt.Sprint(i), content))
		}
		awaitReports(s, 100)
		s.set(func(s *scripted) { s.messages = nil })
	}
	round(0)
	before := heapInUse()
	for n := range 10 {
		round(n + 1)
	}
	if grown := heapInUse() - before; grown > 2<<20 {
		t.Errorf("the heap grew by %d bytes while 32 MB were delivered", grown)
	}
}

// heldBytes returns how much content is held.
func (e *executor) heldBytes() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held
}

// awaitReports waits until n deliveries have been reported, of which some may be twice.
func awaitReports(s *scripted, n int) {
	s.t.Helper()
	awaitThat(s, wire.OpReport, func(rs []wire.Report) bool {
		ended := map[string]bool{}
		for _, r := range rs {
			ended[r.Delivery] = true
		}
		return len(ended) == n
	})
}

// TestMemoryIsBoundedWhileTheDiskHangs sends many times what an agent may hold to one that cannot place any of it: it
// takes up what it may hold, and when its disk works again it asks for the rest.
func TestMemoryIsBoundedWhileTheDiskHangs(t *testing.T) {
	const count, size = 300, 48 << 10 // 14 MiB
	s := newScripted(t)               // not parallel: it measures the heap
	works := make(chan struct{})
	a := startAgent(s, func(c *Config) {
		c.Hooks.Fault = func(place.Step, string) error { <-works; return nil }
	})
	await[wire.Pull](s, wire.OpPull, 1)
	var list []*wire.Deliver // all of the same content, so that this end has it once
	content := strings.Repeat("x", size)
	shared := []byte(content)
	for i := range count {
		d := s.deliverTo(fmt.Sprintf("f-%03d", i), "/", fmt.Sprint(i), content)
		d.Content = shared
		list = append(list, d)
	}
	before := heapInUse()
	for _, d := range list {
		s.send(a.instance, d)
	}
	await[wire.Ack](s, wire.OpAck, maxHeld/size)
	// Besides, what the bus and the connection have in their buffers, of which they keep some.
	const bound = maxHeld + 4<<20
	grown := int64(0)
	for calm := 0; calm < 20; { // looks at the heap, each of which takes longer than a message on its way
		switch held, acks := a.exec.heldBytes(), len(await[wire.Ack](s, wire.OpAck, 1)); {
		case held > maxHeld || acks > maxHeld/size:
			t.Fatalf("%d are taken up, of which %d may be held; %d bytes", acks, maxHeld/size, held)
		case t.Context().Err() != nil:
			return
		}
		if grown = heapInUse() - before; grown <= bound {
			calm++
		}
	}
	t.Logf("the heap grew by %d bytes", grown)
	close(works)
	awaitReports(s, count)
}

// TestMemoryIsBoundedWhileAPullWaits pushes many large files to an agent whose pull waits for room: it keeps few of them,
// and asks for the others.
func TestMemoryIsBoundedWhileAPullWaits(t *testing.T) {
	const size = 400 << 10
	const before, meanwhile = maxHeld/size + 2, 60 // 24 MiB are pushed
	s := newScripted(t)                            // not parallel: it measures the heap
	dir, instance := s.enroll()
	shared := []byte(strings.Repeat("x", size)) // so that this end has it once
	deliver := func(i int) *wire.Deliver {
		d := s.deliverTo(fmt.Sprintf("f-%03d", i), "/", fmt.Sprint(i), string(shared))
		d.Content = shared
		return d
	}
	for i := range before {
		s.hold(deliver(i))
	}
	works := make(chan struct{})
	a := runAgent(s, dir, instance, t.TempDir(), func(c *Config) {
		c.Hooks.Fault = func(place.Step, string) error { <-works; return nil }
	})
	await[wire.Ack](s, wire.OpAck, (maxHeld-wire.MaxPullBytes)/size+1) // there is no room for another page
	base := heapInUse()
	for i := range meanwhile {
		s.send(a.instance, deliver(before+i))
	}
	// Besides what waits, what the bus and the connection have in their buffers, of which they keep some.
	const bound = maxPushed + 6<<20
	late := time.After(patience)
	for calm := 0; calm < 20; { // looks at the heap, each of which takes longer than a message on its way
		if grown := heapInUse() - base; grown <= bound {
			calm++
			continue
		}
		select {
		case <-late:
			t.Fatalf("the heap grew by %d bytes", heapInUse()-base)
		default:
		}
	}
	close(works)
	awaitReports(s, before+meanwhile)
}

// TestWaitingDeliveryTellsTheTime pushes to an agent whose pull is not answered: the delivery waits, and what time it was
// when it came is known all the same, or the agent would place a file after its deadline.
func TestWaitingDeliveryTellsTheTime(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.silent = func(op string, _ int) bool { return op == wire.OpPull }
	a := startAgent(s)
	await[wire.Pull](s, wire.OpPull, 1)
	d := s.deliverTo("f-1", "/", "x", "content")
	d.Sent += time.Hour.Milliseconds()
	d.Deadline = d.Sent + time.Minute.Milliseconds()
	s.push(a.instance, wire.OpDeliver, wire.Encode(d))
	for late := time.After(patience); a.clock.millis() < d.Sent; runtime.Gosched() {
		select {
		case <-late:
			t.Fatal("the agent has not heard what time it is")
		default:
		}
	}
	if got := a.content("x"); got == "content" {
		t.Error("it was placed before what may be older")
	}
}

// TestRehearse says what would happen, with a diff, and changes nothing.
func TestRehearse(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	a := startAgent(s)
	d := s.deliverTo("f-1", "/etc/app", "x.conf", "content\n")
	d.SHA256, d.Rehearse, d.Diff = nil, d.SHA256, true
	s.send(a.instance, d)
	r := await[wire.Report](s, wire.OpReport, 1)[0]
	if r.Cause != "" || r.Change != string(waybill.WouldCreate) || len(r.SHA256) > 0 || !strings.HasSuffix(r.Diff, "@@ -0,0 +1,1 @@\n+content\n") || r.NoDiff != "" {
		t.Errorf("report %+v", r)
	}
	if left, err := os.ReadDir(a.root); err != nil || len(left) > 0 {
		t.Errorf("on disk: %v, %v", left, err)
	}
	both := s.deliverTo("f-2", "/etc/app", "x.conf", "content")
	both.Rehearse = both.SHA256
	if err := checkDeliver(both); err == nil {
		t.Error("to be placed and rehearsed at once")
	}
}

// TestNoSecretsLogged looks for content, token and key in all that the agent says.
func TestNoSecretsLogged(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	dir, instance := s.enroll()
	var log lockedBuffer
	a, err := New(Config{StateDir: dir, Root: t.TempDir(), Backoff: quick}, debugLog(&log))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	s.send(instance, s.deliverTo("f-1", "/", "x", "very secret content"))
	bad := s.deliverTo("f-2", "/", "y", "very secret content")
	bad.SHA256 = make([]byte, 32)
	s.send(instance, bad)
	await[wire.Report](s, wire.OpReport, 2)
	cancel()
	must(t, <-ended)
	seed := must1(os.ReadFile(filepath.Join(dir, keyName)))
	for what, secret := range map[string]string{
		"content": "very secret content", "token": a.registration().JWT, "key": strings.TrimSpace(string(seed)),
	} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds the %s", what)
		}
	}
	if log.String() == "" {
		t.Error("nothing was logged")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.messages {
		if bytes.Contains(m.body, []byte("very secret content")) {
			t.Errorf("a %s holds the content", m.op)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
