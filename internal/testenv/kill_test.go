// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/testenv"
)

// killerEnv holds, for a process of this test binary, the state directory of the agent to be; killAtEnv the point at
// which it kills itself, and killRootEnv the agent's root.
const (
	killerEnv   = "WAYBILL_TEST_AGENT_STATE"
	killAtEnv   = "WAYBILL_TEST_KILL_AT"
	killRootEnv = "WAYBILL_TEST_AGENT_ROOT"
	// holdAtEnv is a point at which its work stands still.
	holdAtEnv = "WAYBILL_TEST_HOLD_AT"
	// killAfterEnv is the number of bytes received over one connection after which it kills itself.
	killAfterEnv = "WAYBILL_TEST_KILL_AFTER"
)

// runKiller is an agent that sends itself SIGKILL at a point of its work.
func runKiller(state string) {
	at := os.Getenv(killAtEnv)
	var network fragile
	if n, err := strconv.ParseInt(os.Getenv(killAfterEnv), 10, 64); err == nil {
		network.after.Store(n)
		network.broke = func() { syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	}
	a, err := agent.New(agent.Config{
		StateDir: state, Root: os.Getenv(killRootEnv), Backoff: agent.Backoff{First: 20 * time.Millisecond, Max: 200 * time.Millisecond},
		Hooks: agent.Hooks{Dial: network.dial, Trace: func(event, _ string) {
			if event == os.Getenv(holdAtEnv) {
				select {}
			}
			if event == at {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}},
	}, slog.New(slog.DiscardHandler))
	if err == nil {
		err = a.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, "agent that was to be killed ended:", err)
	os.Exit(1)
}

// TestAgentKilledAtEveryStep kills an agent, a process of its own, at each step between taking a delivery up and telling
// its outcome. With Overwrite=false any repetition would show as FileAlreadyExists.
func TestAgentKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{
		agent.TraceAccepted, agent.TraceAcked, agent.TraceTaken,
		string(place.StepOpen), string(place.StepCreate), string(place.StepWrite), string(place.StepChown), string(place.StepSync),
		string(place.StepPublish), string(place.StepUnlink), string(place.StepSyncDir), string(place.StepVerify),
		agent.TraceFinished, agent.TraceReport,
	} {
		t.Run(at, func(t *testing.T) {
			a := s.Enrol()
			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), killerEnv+"="+a.State, killRootEnv+"="+a.Root, killAtEnv+"="+at)
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			id := s.Send(testenv.File(a))
			err := cmd.Wait()
			if x, ok := errors.AsType[*exec.ExitError](err); !ok || x.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the agent was not killed: %v", err)
			}
			before, statErr := os.Stat(a.Path("/srv", "hello.txt"))
			if b, err := os.ReadFile(a.Path("/srv", "hello.txt")); statErr == nil && (err != nil || string(b) != "hello\n") {
				t.Errorf("after the kill: %q, %v; a file is whole or absent", b, err)
			}
			if s.Delivery(id).Status.Final() {
				t.Error("final before anybody told")
			}
			a.Start()
			d := s.Await(id)
			if got := of(d.Targets.Items[0]); got != (outcome{"Success", "", ""}) {
				t.Errorf("ended as %+v: %s", got, d.Targets.Items[0].Detail)
			}
			after, err := os.Stat(a.Path("/srv", "hello.txt"))
			if err != nil {
				t.Fatal(err)
			}
			if statErr == nil && !os.SameFile(before, after) {
				t.Error("it had been published and was written again")
			}
			left, err := filepath.Glob(a.Path("/srv", ".*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// TestAnAgentThatKeepsCrashingIsGivenUp kills an agent in the middle of each attempt.
func TestAnAgentThatKeepsCrashingIsGivenUp(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a := s.Enrol()
	id := s.Send(testenv.File(a))
	for range 3 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), killerEnv+"="+a.State, killRootEnv+"="+a.Root, killAtEnv+"="+string(place.StepWrite))
		if err := cmd.Run(); err == nil {
			t.Fatal("the agent was not killed")
		}
	}
	a.Start()
	d := s.Await(id)
	if got := of(d.Targets.Items[0]); got != (outcome{"Error", "FileCreateFail", "Unexpected error during creating"}) {
		t.Errorf("ended as %+v: %s", got, d.Targets.Items[0].Detail)
	}
}

// serverProcess is a real server process that can be killed and started again on the same data.
type serverProcess struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	addrs  [3]string // https, agents, admin
	client *client.Client
	flags  []string // beside those of its place
}

func newServerProcess(t *testing.T, flags ...string) *serverProcess {
	t.Helper()
	p := &serverProcess{t: t, flags: flags, dir: filepath.Join(t.TempDir(), "data")}
	for i := range p.addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p.addrs[i] = l.Addr().String()
		l.Close()
	}
	p.start()
	t.Cleanup(p.kill)
	var cred struct {
		ID     string `json:"access_key_id"`
		Secret string `json:"access_key_secret"`
		URL    string `json:"endpoint"`
		CA     string `json:"ca"`
	}
	testenv.Eventually(t, "credentials", func() bool {
		b, err := os.ReadFile(filepath.Join(p.dir, "credentials.json"))
		return err == nil && json.Unmarshal(b, &cred) == nil
	})
	var err error
	p.client, err = client.New(client.Config{
		Endpoint: cred.URL, AccessKeyID: cred.ID, AccessKeySecret: cred.Secret, CAFile: cred.CA, Region: testenv.Region,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.awaitUp()
	return p
}

func (p *serverProcess) start() {
	p.t.Helper()
	p.cmd = exec.Command(serverProgram(p.t), append([]string{
		"server", "--data-dir", p.dir, "--listen", p.addrs[0], "--agent-listen", p.addrs[1],
		"--admin-listen", p.addrs[2], "--log-level", "error",
	}, p.flags...)...)
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *serverProcess) kill() {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Kill()
		p.cmd.Wait() // it was killed: its status says so
	}
}

func (p *serverProcess) awaitUp() {
	p.t.Helper()
	testenv.Eventually(p.t, "server up", func() bool {
		_, err := p.client.DescribeRegions(p.t.Context())
		return err == nil
	})
}

// agent enrols an agent and returns what starts it in this process.
func (p *serverProcess) agent(change ...func(*agent.Config)) (id waybill.InstanceID, root string, start func()) {
	p.t.Helper()
	ctx := p.t.Context()
	act, err := p.client.CreateActivation(ctx, client.CreateActivationRequest{})
	if err != nil {
		p.t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(p.dir, "ca.pem"))
	if err != nil {
		p.t.Fatal(err)
	}
	state := filepath.Join(p.t.TempDir(), "state")
	st, err := agent.Enroll(ctx, agent.EnrollOptions{
		StateDir: state, Server: p.client.Endpoint(), CA: string(ca), ActivationID: string(act.ID), ActivationCode: act.Code,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	root = p.t.TempDir()
	return waybill.InstanceID(st.Instance), root, func() {
		cfg := agent.Config{
			StateDir: state, Root: root, Backoff: agent.Backoff{First: 20 * time.Millisecond, Max: 200 * time.Millisecond},
		}
		for _, c := range change {
			c(&cfg)
		}
		a, err := agent.New(cfg, testenv.Logger(p.t))
		if err != nil {
			p.t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		p.t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				p.t.Errorf("agent: %v", err)
			}
		})
	}
}

// TestServerKilledRightAfterItsAnswer kills the server as soon as it has answered SendFile, again and again: what it
// answered is delivered, once, to machines that were connected and to machines that come later.
func TestServerKilledRightAfterItsAnswer(t *testing.T) {
	t.Parallel()
	p := newServerProcess(t)
	here, hereRoot, startHere := p.agent()
	later, laterRoot, startLater := p.agent()
	startHere()
	var sent []waybill.DeliveryID
	for i := range 5 {
		r := testenv.File()
		r.Instances = []waybill.InstanceID{here, later}
		r.File.Name = fmt.Sprintf("file-%d", i)
		id, err := p.client.SendFile(t.Context(), r)
		p.kill()
		if err != nil {
			t.Fatalf("send: %v", err)
		}
		sent = append(sent, id)
		p.start()
		p.awaitUp()
	}
	startLater()
	for i, id := range sent {
		var d client.Delivery
		testenv.Eventually(t, "final", func() bool {
			l, err := p.client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{ID: id}, client.Paging{})
			if err != nil || len(l.Items) != 1 {
				t.Fatalf("an answered delivery is gone: %v", err)
			}
			d = l.Items[0]
			return d.Status.Final()
		})
		if d.Status != waybill.OverallSuccess { // a repetition would be FileAlreadyExists
			t.Errorf("delivery %d ended as %+v", i, d.Targets.Items)
		}
		for _, root := range []string{hereRoot, laterRoot} {
			b, err := os.ReadFile(filepath.Join(root, "srv", fmt.Sprintf("file-%d", i)))
			if err != nil || string(b) != "hello\n" {
				t.Errorf("the file: %q, %v", b, err)
			}
		}
	}
}
