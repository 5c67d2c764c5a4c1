// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/pgtest"
	"github.com/openwaybill/waybill/internal/testenv"
)

// valve is between agents and their link. While it is shut, what they send does not arrive.
type valve struct {
	net.Listener
	to   string
	mu   sync.Mutex
	open chan struct{} // closed while it is open
}

func newValve(t *testing.T, to string) *valve {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{Listener: l, to: to, open: make(chan struct{})}
	close(v.open)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go v.carry(c)
		}
	}()
	return v
}

func (v *valve) shut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open = make(chan struct{})
}

func (v *valve) release() {
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.open)
}

func (v *valve) carry(agent net.Conn) {
	defer agent.Close()
	server, err := net.Dial("tcp", v.to)
	if err != nil {
		return
	}
	defer server.Close()
	ended := make(chan struct{})
	go func() {
		defer server.Close()
		b := make([]byte, 32<<10)
		for {
			n, err := agent.Read(b)
			v.mu.Lock()
			open := v.open
			v.mu.Unlock()
			select {
			case <-open:
			case <-ended:
				return
			}
			if _, werr := server.Write(b[:n]); err != nil || werr != nil {
				return
			}
		}
	}()
	_, _ = io.Copy(agent, server) // ends with either of them
	close(ended)
}

// runner is a machine whose agent runs in this process.
type runner struct {
	t           *testing.T
	id          waybill.InstanceID
	root, state string
	log         lockedBuffer
	stop        func()
	unknown     bool // to the server, so that the agent may have ended
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// enrolMachine enrols a machine: a new one, or m anew.
func (s *succession) enrolMachine(m *runner) *runner {
	s.t.Helper()
	if m == nil {
		m = &runner{t: s.t, root: s.t.TempDir(), state: filepath.Join(s.t.TempDir(), "state"), stop: func() {}}
	}
	a, err := s.client(false).CreateActivation(s.t.Context(), client.CreateActivationRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(s.data(), "ca.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	st, err := agent.Enroll(s.t.Context(), agent.EnrollOptions{
		StateDir: m.state, Server: s.cred.Endpoint, CA: string(ca), ActivationID: string(a.ID), ActivationCode: a.Code, Force: m.id != "",
	})
	if err != nil {
		s.t.Fatal(err)
	}
	m.id = waybill.InstanceID(st.Instance)
	return m
}

// run runs the agent until the test, or stop, ends it.
func (m *runner) run() {
	m.t.Helper()
	a, err := agent.New(agent.Config{
		StateDir: m.state, Root: m.root, Backoff: agent.Backoff{First: 20 * time.Millisecond, Max: 200 * time.Millisecond},
	}, slog.New(slog.NewTextHandler(&m.log, nil)))
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		// One that asks where the link is, and hears that it is not registered, ends by itself.
		if err := <-done; err != nil && !(m.unknown && errors.Is(err, agent.ErrDeregistered)) {
			m.t.Errorf("agent of %s: %v", m.id, err)
		}
	})
	m.t.Cleanup(func() { m.stop() })
}

func (m *runner) path(name string) string { return filepath.Join(m.root, "srv", name) }

// touch alters a delivered file, so that it shows whether it is placed again.
func (m *runner) touch(name string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(name), []byte("touched"), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *runner) mustBeTouched(name string) {
	m.t.Helper()
	if b, err := os.ReadFile(m.path(name)); err != nil || string(b) != "touched" {
		m.t.Errorf("%s was placed again: %q, %v", name, b, err)
	}
}

// file is a request for a file of that name, whatever is there.
func file(name string, m *runner) client.SendFileRequest {
	r := testenv.File()
	r.File.Name, r.File.Overwrite, r.Timeout = name, true, 10*time.Minute
	r.Instances = []waybill.InstanceID{m.id}
	return r
}

func (s *succession) send(r client.SendFileRequest) waybill.DeliveryID {
	s.t.Helper()
	id, err := s.client(false).SendFile(s.t.Context(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *succession) results(id waybill.DeliveryID) []client.Delivery {
	s.t.Helper()
	l, err := s.client(false).DescribeSendFileResults(s.t.Context(), client.DeliveryFilter{ID: id}, client.Paging{})
	if err != nil {
		s.t.Fatal(err)
	}
	return l.Items
}

func (s *succession) awaitSuccess(id waybill.DeliveryID) client.Delivery {
	s.t.Helper()
	var d client.Delivery
	testenv.Eventually(s.t, string(id)+" final", func() bool {
		d = s.results(id)[0]
		return d.Status.Final()
	})
	if d.Status != waybill.OverallSuccess {
		s.t.Fatalf("%s ended as %s: %+v", id, d.Status, d.Targets.Items)
	}
	return d
}

func (s *succession) awaitOnline(m *runner) {
	s.t.Helper()
	testenv.Eventually(s.t, string(m.id)+" online", func() bool {
		l, err := s.client(false).DescribeManagedInstances(s.t.Context(), client.InstanceFilter{IDs: []waybill.InstanceID{m.id}}, client.Paging{})
		return err == nil && len(l.Items) == 1 && l.Items[0].Connected
	})
}

// load sends files to m until stop is called, which returns those that were accepted.
func (s *succession) load(m *runner) (accepted func() []waybill.DeliveryID, stop func()) {
	var (
		mu      sync.Mutex
		ids     []waybill.DeliveryID
		done    = make(chan struct{})
		senders errgroup.Group
	)
	for i := range 4 {
		c := s.client(true)
		senders.Go(func() error {
			for n := 0; ; n++ {
				select {
				case <-done:
					return nil
				default:
				}
				id, err := c.SendFile(s.t.Context(), file(fmt.Sprintf("load-%d", i), m))
				if err != nil {
					return fmt.Errorf("send under load: %w", err)
				}
				mu.Lock()
				ids = append(ids, id)
				mu.Unlock()
			}
		})
	}
	accepted = func() []waybill.DeliveryID {
		mu.Lock()
		defer mu.Unlock()
		return append([]waybill.DeliveryID(nil), ids...)
	}
	return accepted, func() {
		s.t.Helper()
		close(done)
		if err := senders.Wait(); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *succession) waybill(args ...string) (out string, code int) {
	s.t.Helper()
	cmd := exec.Command(s.program, args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	b, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(b), exit.ExitCode()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b), 0
}

// TestBackupAndRestore backs a server up while it works, destroys it, and restores it at the same addresses: with our own
// commands, and with those of PostgreSQL as docs/operations.md says.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		s := newSuccession(t)
		backup := filepath.Join(s.dir, "waybill.tar")
		testBackupAndRestore(t, s, "", func() {
			if out, code := s.waybill("backup", "--data-dir", s.data(), "--out", backup); code != 0 || !strings.Contains(out, "with its keys") {
				t.Fatalf("backup: %d, %s", code, out)
			}
			if info, err := os.Stat(backup); err != nil || info.Mode() != 0o600 {
				t.Errorf("the backup: %v, %v", info, err)
			}
			if left, err := filepath.Glob(filepath.Join(s.dir, ".waybill.tar*")); err != nil || left != nil {
				t.Errorf("left behind: %v, %v", left, err)
			}
		}, func() string {
			if out, code := s.waybill("restore", backup, "--data-dir", s.data()); code != 0 {
				t.Fatalf("restore: %d, %s", code, out)
			}
			return ""
		})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		if !pgtest.Available(t) {
			t.Skip("there is no PostgreSQL")
		}
		s := newSuccession(t)
		database, dump, key := pgtest.Database(t, "", nil), filepath.Join(s.dir, "waybill.dump"), filepath.Join(s.dir, "seal.key")
		testBackupAndRestore(t, s, database, func() {
			s.run("pg_dump", "--format=custom", "--file="+dump, database)
			s.run("cp", "-p", filepath.Join(s.data(), "seal.key"), key)
		}, func() string {
			restored := pgtest.Database(t, "", nil)
			s.run("pg_restore", "--exit-on-error", "--no-owner", "--dbname="+restored, dump)
			s.run("install", "-d", "-m", "0700", s.data())
			s.run("cp", "-p", key, filepath.Join(s.data(), "seal.key"))
			return restored
		})
	})
}

// run runs a program of the system.
func (s *succession) run(name string, args ...string) {
	s.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// testBackupAndRestore is told how to back up a server that runs, and how to restore it when its data directory is gone,
// which returns the database that it has then.
func testBackupAndRestore(t *testing.T, s *succession, database string, backup func(), restore func() string) {
	listen, agents := freeAddress(t), freeAddress(t)
	link := newValve(t, agents)
	command := func(database string) []string {
		return []string{
			s.program, "server", "--data-dir", s.data(), "--listen", listen, "--agent-listen", agents, "--admin-listen", "",
			"--agent-address", "tls://" + link.Addr().String(), "--database", database,
		}
	}
	s.start(nil, command(database)...)
	busy, away := s.enrolMachine(nil), s.enrolMachine(nil)
	busy.run()
	s.awaitOnline(busy)
	before := s.awaitSuccess(s.send(file("before", busy)))
	open := s.send(file("open", away)) // at the moment of the backup

	accepted, stop := s.load(busy)
	testenv.Eventually(t, "load", func() bool { return len(accepted()) > 50 })
	sure := accepted()
	backup()
	meanwhile := len(accepted()) - len(sure)
	stop()
	if meanwhile == 0 {
		t.Error("the server accepted nothing while it was backed up")
	}

	// What the backup does not know: an ending, a delivery, a machine, and a delivery whose outcome nobody has heard.
	away.run()
	s.awaitSuccess(open)
	away.touch("open")
	after := s.awaitSuccess(s.send(file("after", busy)))
	late := s.enrolMachine(nil)
	late.run()
	s.awaitOnline(late)
	link.shut()
	unheard := s.send(file("unheard", busy))
	testenv.Eventually(t, "a file whose outcome is not heard", func() bool {
		_, err := os.Stat(busy.path("unheard"))
		return err == nil
	})
	busy.touch("unheard")
	s.signal(syscall.SIGKILL)
	_ = s.cmd.Wait() // it was killed
	link.release()
	if err := os.RemoveAll(s.data()); err != nil {
		t.Fatal(err)
	}

	s.launch(nil, command(restore())...)
	s.awaitOnline(busy)
	s.awaitOnline(away)
	for _, d := range []*runner{busy, away} {
		s.awaitSuccess(s.send(file("new", d))) // what is older has been offered before
	}
	away.mustBeTouched("open")
	busy.mustBeTouched("unheard")
	if got := s.results(before.ID); len(got) != 1 || cmp.Diff(before, got[0]) != "" {
		t.Errorf("a delivery from before has changed: %s", cmp.Diff([]client.Delivery{before}, got))
	}
	if got := s.results(open); len(got) != 1 || got[0].Status.Final() {
		t.Errorf("the delivery that was open: %+v", got)
	}
	for _, id := range sure {
		if len(s.results(id)) != 1 {
			t.Fatalf("%s was accepted before the backup and is gone", id)
		}
	}
	for _, id := range []waybill.DeliveryID{after.ID, unheard} {
		if got := s.results(id); len(got) != 0 {
			t.Errorf("a delivery from after the backup: %+v", got)
		}
	}
	if v, err := s.client(false).VerifyAuditRecords(t.Context()); err != nil || !v.Valid {
		t.Errorf("the audit trail: %+v, %v", v, err)
	}

	// The machine that the server does not know hears what to do, and does it.
	testenv.Eventually(t, "refusal of the unknown machine", func() bool {
		return strings.Contains(late.log.String(), "enrol this machine again with: waybill-agent enroll --force")
	})
	late.unknown = true
	late.stop()
	late.unknown = false
	s.enrolMachine(late).run()
	s.awaitSuccess(s.send(file("late", late)))

	busy.stop()
	if strings.Contains(busy.log.String(), "outcomes will be reported by the next run") {
		t.Error("a report of what the server does not know was not confirmed")
	}
	t.Logf("%d deliveries accepted before the backup, %d while it was made", len(sure), meanwhile)
}
