// SPDX-License-Identifier: Apache-2.0

// Package testenv starts a whole Waybill for a test: a real server on free loopback ports, with its database, bus and
// TLS, and real agents that write below directories of their own. Nothing in it is a mock.
package testenv

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/wire"
)

// Region is the region of the servers that Start starts.
const Region = "cn-hangzhou"

// patience bounds every wait; a test that runs into it has failed.
const patience = 30 * time.Second

// Server is a running server and its first access key.
type Server struct {
	*server.Server
	t      testing.TB
	cfg    server.Config
	log    *slog.Logger
	stop   func()
	ahead  *atomic.Int64 // how far its clock is set forward, in nanoseconds
	Dir    string        // its data directory
	CA     []byte        // PEM
	Key    server.Credentials
	Client *client.Client // calls it over HTTPS with the first key
}

// Start starts a server that is stopped when the test ends. It listens on free ports, plain HTTP included.
func Start(t testing.TB, change ...func(*server.Config)) *Server {
	t.Helper()
	return StartLogging(t, Logger(t), change...)
}

// StartLogging is Start with a log of the caller's, for the server and its native agents.
func StartLogging(t testing.TB, log *slog.Logger, change ...func(*server.Config)) *Server {
	t.Helper()
	cfg := server.DefaultConfig()
	cfg.DataDir = filepath.Join(t.TempDir(), "server")
	cfg.Listen, cfg.HTTPListen, cfg.AgentListen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Control.Grace = 200 * time.Millisecond
	ahead := new(atomic.Int64)
	cfg.Control.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	for _, c := range change {
		c(&cfg)
	}
	s := &Server{t: t, cfg: cfg, log: log, ahead: ahead, Dir: cfg.DataDir}
	s.open()
	t.Cleanup(func() { s.Stop() })
	s.Key = *s.First()
	ca, err := os.ReadFile(s.Key.CA)
	if err != nil {
		t.Fatal(err)
	}
	s.CA = ca
	s.Client = s.client(s.Key.AccessKeyID, s.Key.AccessKeySecret)
	return s
}

func (s *Server) open() {
	s.t.Helper()
	srv, err := server.Open(s.t.Context(), s.cfg, s.log)
	if err != nil {
		s.t.Fatalf("open server: %v", err)
	}
	s.Server = srv
	s.cfg.Listen, s.cfg.AgentListen = s.Addr("https"), s.Addr("agents") // where Restart listens
	s.cfg.HTTPListen, s.cfg.AdminListen = s.Addr("http"), s.Addr("admin")
	s.stop = run(s.t, "server", srv.Run, srv.Close)
}

// Database returns the URL of the server's database.
func (s *Server) Database() string {
	return cmp.Or(s.cfg.Database, "sqlite:"+filepath.Join(s.Dir, "waybill.db"))
}

// Later sets the server's clock forward. What it is waiting for by itself it goes on waiting for.
func (s *Server) Later(d time.Duration) { s.ahead.Add(int64(d)) }

// Stop stops the server. It is safe to call twice.
func (s *Server) Stop() { s.stop() }

// Restart stops the server, unless it is stopped, and starts it again on the same data and the same addresses, with other
// settings if change makes some.
func (s *Server) Restart(change ...func(*server.Config)) {
	s.t.Helper()
	s.Stop()
	for _, c := range change {
		c(&s.cfg)
	}
	s.open()
}

// run runs a component until the returned function is called, which waits for it and fails the test on an error.
func run(t testing.TB, name string, run func(context.Context) error, closing func() error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background()) // not the test's: that has ended when its cleanup begins
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, closing()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
}

// Activate makes an activation for a thousand machines.
func (s *Server) Activate(prefix string) client.NewActivation {
	s.t.Helper()
	a, err := s.Client.CreateActivation(s.t.Context(), client.CreateActivationRequest{InstanceName: prefix, InstanceCount: 1000})
	if err != nil {
		s.t.Fatalf("create activation: %v", err)
	}
	return a
}

// Agent is an enrolled agent of a server.
type Agent struct {
	t     testing.TB
	cfg   agent.Config
	log   *slog.Logger
	stop  func()
	ID    waybill.InstanceID
	Root  string // its / directory
	State string // its state directory
}

// Agent enrols an agent and runs it until the test ends. It returns once the server sees it connected.
func (s *Server) Agent(change ...func(*agent.Config)) *Agent {
	s.t.Helper()
	a := s.Enrol(change...)
	a.Start()
	s.AwaitOnline(a)
	return a
}

// Enrol enrols an agent that does not run yet.
func (s *Server) Enrol(change ...func(*agent.Config)) *Agent {
	s.t.Helper()
	dir := s.t.TempDir()
	a := &Agent{t: s.t, log: s.log, Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"), stop: func() {}}
	if err := os.Mkdir(a.Root, 0o755); err != nil {
		s.t.Fatal(err)
	}
	activation := s.Activate("test")
	status, err := agent.Enroll(s.t.Context(), agent.EnrollOptions{
		StateDir: a.State, Server: s.Key.Endpoint, CA: string(s.CA), Version: "test",
		ActivationID: string(activation.ID), ActivationCode: activation.Code,
	})
	if err != nil {
		s.t.Fatalf("enrol: %v", err)
	}
	a.ID = waybill.InstanceID(status.Instance)
	a.cfg = agent.Config{
		StateDir: a.State, Root: a.Root, Version: "test",
		Backoff: agent.Backoff{First: 20 * time.Millisecond, Max: 200 * time.Millisecond},
	}
	for _, c := range change {
		c(&a.cfg)
	}
	return a
}

// Start runs the agent until Stop, or the end of the test.
func (a *Agent) Start() {
	a.t.Helper()
	ag, err := agent.New(a.cfg, a.log.With("instance_id", a.ID))
	if err != nil {
		a.t.Fatalf("new agent: %v", err)
	}
	a.stop = run(a.t, "agent", ag.Run, func() error { return nil })
	a.t.Cleanup(a.stop)
}

// Stop stops the agent in good order. It is safe to call twice.
func (a *Agent) Stop() { a.stop() }

// Leaves makes the agent, which must not run, give reason when it is stopped.
func (a *Agent) Leaves(reason wire.ByeReason) {
	a.cfg.Why = func(context.Context) wire.ByeReason { return reason }
}

// Path returns where on this machine the agent puts a file.
func (a *Agent) Path(dir, name string) string { return filepath.Join(a.Root, dir, name) }

// AwaitOnline waits until the server sees the agents connected.
func (s *Server) AwaitOnline(agents ...*Agent) {
	s.t.Helper()
	for _, a := range agents {
		Eventually(s.t, string(a.ID)+" online", func() bool {
			l, err := s.Client.DescribeManagedInstances(s.t.Context(), client.InstanceFilter{IDs: []waybill.InstanceID{a.ID}}, client.Paging{})
			if err != nil {
				s.t.Fatal(err)
			}
			return len(l.Items) == 1 && l.Items[0].Connected
		})
	}
}

// File is a request to place hello.txt with the content "hello\n" into /srv, as whoever runs the test: an agent without
// root may give files to nobody else.
func File(targets ...*Agent) client.SendFileRequest {
	r := client.SendFileRequest{Content: []byte("hello\n"), File: waybill.FileSpec{
		Name: "hello.txt", TargetDir: "/srv", Owner: strconv.Itoa(os.Geteuid()), Group: strconv.Itoa(os.Getegid()),
	}}
	for _, a := range targets {
		r.Instances = append(r.Instances, a.ID)
	}
	return r
}

// Send sends a file and returns the delivery's ID.
func (s *Server) Send(r client.SendFileRequest) waybill.DeliveryID {
	s.t.Helper()
	id, err := s.Client.SendFile(s.t.Context(), r)
	if err != nil {
		s.t.Fatalf("send: %v", err)
	}
	return id
}

// Delivery returns a delivery as it is now.
func (s *Server) Delivery(id waybill.DeliveryID) client.Delivery {
	s.t.Helper()
	l, err := s.Client.DescribeSendFileResults(s.t.Context(), client.DeliveryFilter{ID: id}, client.Paging{})
	if err != nil {
		s.t.Fatalf("describe %s: %v", id, err)
	}
	if len(l.Items) != 1 {
		s.t.Fatalf("describe %s: %d deliveries", id, len(l.Items))
	}
	return l.Items[0]
}

// Await waits until a delivery is final and returns it.
func (s *Server) Await(id waybill.DeliveryID) client.Delivery {
	s.t.Helper()
	var d client.Delivery
	Eventually(s.t, string(id)+" final", func() bool {
		d = s.Delivery(id)
		return d.Status.Final()
	})
	return d
}

// Eventually waits until ok returns true, and fails the test if that takes too long.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within %s", what, patience)
		case <-tick.C:
		}
	}
}

// Logger returns a logger that writes to the test's log until the test has ended.
func Logger(t testing.TB) *slog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(w.close)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type testWriter struct {
	mu sync.Mutex
	t  testing.TB // nil once the test has ended
}

func (w *testWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(string(b[:len(b)-1]))
	}
	return len(b), nil
}

func (w *testWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = nil
}
