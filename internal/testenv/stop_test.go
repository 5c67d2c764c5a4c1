// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/assist/assisttest"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/testenv"
	"github.com/openwaybill/waybill/internal/wire"
)

// cancelled is how a target ends that was stopped in time.
var cancelled = outcome{"Aborted", "DeliveryCancelled", "the command delivery has been cancelled"}

// tooLate is how Detail begins of one that was not.
const tooLate = "too late to be cancelled"

// hold makes an agent stand still at a step of its work until release is called. asked is closed once it was asked, and has
// heard it, to give a delivery up.
type hold struct {
	at      string
	reached chan struct{}
	asked   chan struct{}
	release func()
	proceed chan struct{}
	asks    atomic.Int32
}

func holdAt(step place.Step) (*hold, func(*agent.Config)) {
	h := &hold{at: string(step), reached: make(chan struct{}), asked: make(chan struct{}), proceed: make(chan struct{})}
	h.release = sync.OnceFunc(func() { close(h.proceed) })
	return h, func(cfg *agent.Config) {
		cfg.Hooks.Trace = func(event, _ string) {
			switch event {
			case h.at:
				close(h.reached)
				<-h.proceed
			case agent.TraceCancel:
				if h.asks.Add(1) == 2 { // the first has been dealt with
					close(h.asked)
				}
			}
		}
	}
}

func stop(t *testing.T, c *client.Client, id waybill.DeliveryID) client.StopCounts {
	t.Helper()
	n, err := c.StopSendFile(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// checkStopped compares the outcome of a target with what is on its machine: cancelled means nothing, success the file.
func checkStopped(t *testing.T, target client.Target, path string, want outcome) {
	t.Helper()
	if got := of(target); got != want {
		t.Errorf("ended as %+v: %s", got, target.Detail)
	}
	_, err := os.Stat(path)
	if there := err == nil; there != (want.Status == "Success") || !there && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
	if late := strings.HasPrefix(target.Detail, tooLate); late != (want != cancelled) {
		t.Errorf("detail %q", target.Detail)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestStop stops deliveries on their way to machines, on them, and after.
func TestStop(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	success := outcome{"Success", "", ""}
	t.Run("never sent", func(t *testing.T) {
		t.Parallel()
		a := s.Enrol()
		id := s.Send(testenv.File(a))
		for range 2 {
			if n := stop(t, s.Client, id); n != (client.StopCounts{Cancelled: 1}) {
				t.Errorf("%+v", n)
			}
		}
		a.Start()
		next := testenv.File(a)
		next.File.Name = "next"
		s.Await(s.Send(next)) // whatever there is for it has come before
		checkStopped(t, s.Delivery(id).Targets.Items[0], a.Path("/srv", "hello.txt"), cancelled)
	})
	for step, want := range map[place.Step]outcome{place.StepWrite: cancelled, place.StepPublish: cancelled, place.StepSyncDir: success} {
		t.Run("in flight, at "+string(step), func(t *testing.T) {
			t.Parallel()
			h, holds := holdAt(step)
			defer h.release()
			a := s.Agent(holds)
			id := s.Send(testenv.File(a))
			<-h.reached
			for range 2 {
				if n := stop(t, s.Client, id); n != (client.StopCounts{Asked: 1}) {
					t.Errorf("%+v", n)
				}
			}
			<-h.asked
			h.release()
			checkStopped(t, s.Await(id).Targets.Items[0], a.Path("/srv", "hello.txt"), want)
			if n := stop(t, s.Client, id); n != (client.StopCounts{Cancelled: 1}) && n != (client.StopCounts{TooLate: 1}) || n.Cancelled > 0 != (want == cancelled) {
				t.Errorf("stopped once more: %+v", n)
			}
		})
	}
	t.Run("in flight, on an agent that cannot be asked", func(t *testing.T) {
		t.Parallel()
		h, holds := holdAt(place.StepWrite)
		defer h.release()
		a := s.Agent(holds, func(cfg *agent.Config) { cfg.Hooks.Capability = wire.CancelCapability - 1 })
		id := s.Send(testenv.File(a))
		<-h.reached
		if n := stop(t, s.Client, id); n != (client.StopCounts{TooLate: 1}) {
			t.Errorf("%+v", n)
		}
		h.release()
		checkStopped(t, s.Await(id).Targets.Items[0], a.Path("/srv", "hello.txt"), success)
	})
	t.Run("official agent, not handed out", func(t *testing.T) {
		t.Parallel()
		o := s.Official()
		o.Kill()
		s.AwaitChannel(o, "lost")
		id := s.Send(testenv.OfficialFile(o))
		if n := stop(t, s.Client, id); n != (client.StopCounts{Cancelled: 1}) {
			t.Errorf("%+v", n)
		}
		o.Start()
		next := testenv.OfficialFile(o)
		next.File.Name = "next"
		s.Await(s.Send(next))
		checkStopped(t, s.Delivery(id).Targets.Items[0], o.Path("/srv", "hello.txt"), cancelled)
	})
	t.Run("official agent, handed out", func(t *testing.T) {
		t.Parallel()
		reached, proceed := make(chan struct{}), make(chan struct{})
		o := s.Official(func(c *assisttest.Config) {
			c.At = func(p assisttest.Point, task string) assisttest.Action {
				if p == assisttest.AfterWrite && task != "" {
					close(reached)
					<-proceed
				}
				return assisttest.Proceed
			}
		})
		id := s.Send(testenv.OfficialFile(o))
		<-reached
		if n := stop(t, s.Client, id); n != (client.StopCounts{TooLate: 1}) {
			t.Errorf("%+v", n)
		}
		close(proceed)
		checkStopped(t, s.Await(id).Targets.Items[0], o.Path("/srv", "hello.txt"), success)
	})
}

// TestAgentKilledWhenAskedToStop kills an agent, a process of its own that stands still in the middle of its work, as it is asked
// to give that up.
func TestAgentKilledWhenAskedToStop(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for step, want := range map[place.Step]outcome{place.StepWrite: cancelled, place.StepVerify: {"Success", "", ""}} {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			a := s.Enrol()
			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), killerEnv+"="+a.State, killRootEnv+"="+a.Root, killAtEnv+"="+agent.TraceCancel, holdAtEnv+"="+string(step))
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			s.AwaitOnline(a)
			id := s.Send(testenv.File(a))
			testenv.Eventually(t, "under way", func() bool { return s.Delivery(id).Status == waybill.OverallRunning })
			if n := stop(t, s.Client, id); n != (client.StopCounts{Asked: 1}) {
				t.Errorf("%+v", n)
			}
			if err := cmd.Wait(); err == nil {
				t.Fatal("the agent was not killed")
			}
			if s.Delivery(id).Status.Final() {
				t.Error("final before anybody told")
			}
			a.Start()
			checkStopped(t, s.Await(id).Targets.Items[0], a.Path("/srv", "hello.txt"), want)
		})
	}
}

// TestServerKilledAfterStop kills the server as soon as it has answered StopSendFile.
func TestServerKilledAfterStop(t *testing.T) {
	t.Parallel()
	p := newServerProcess(t)
	h, holds := holdAt(place.StepWrite)
	defer h.release()
	here, root, start := p.agent(holds)
	later, laterRoot, startLater := p.agent()
	start()
	r := testenv.File()
	r.Instances = []waybill.InstanceID{here, later}
	id, err := p.client.SendFile(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	<-h.reached
	n := stop(t, p.client, id)
	p.kill()
	if n != (client.StopCounts{Cancelled: 1, Asked: 1}) {
		t.Errorf("%+v", n)
	}
	p.start()
	p.awaitUp()
	startLater()
	<-h.asked
	h.release()
	var d client.Delivery
	testenv.Eventually(t, "final", func() bool {
		l, err := p.client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{ID: id}, client.Paging{})
		if err != nil || len(l.Items) != 1 {
			t.Fatalf("describe: %v", err)
		}
		d = l.Items[0]
		return d.Status.Final()
	})
	checkStopped(t, d.Targets.Items[0], filepath.Join(root, "srv", "hello.txt"), cancelled)
	checkStopped(t, d.Targets.Items[1], filepath.Join(laterRoot, "srv", "hello.txt"), cancelled)
}
