// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/bus"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/wire"
)

// scripted is the server's side of the conversation: a real bus, real tokens and certificates, and answers that a test
// can withhold. The name waybill.test is in its certificate, for proxies to resolve.
type scripted struct {
	t        testing.TB
	op       *identity.Operator
	ca       *identity.Authority
	tls      *tls.Config
	https    *httptest.Server
	addr     string // of the bus
	hostname string // by which agents are told to call
	skew     time.Duration
	beat     time.Duration

	mu        sync.Mutex
	bus       *bus.Bus
	instances map[string]string // by public key
	refuse    func(path string) (status int, code waybill.Code)
	silent    func(op string, nth int) bool // whether the nth message of its kind, from 1, is not answered
	life      func(nth int) (issued time.Time, ttl time.Duration)
	tokens    int
	open      []wire.Deliver
	messages  []message
	changed   chan struct{}
}

// message is one message from an agent.
type message struct {
	op, instance string
	body         []byte
}

func newScripted(t testing.TB) *scripted {
	t.Helper()
	s := &scripted{
		t: t, hostname: "127.0.0.1", beat: time.Minute, addr: "127.0.0.1:0",
		op:        must1(identity.NewOperator()),
		ca:        must1(identity.OpenAuthority(t.TempDir())),
		instances: map[string]string{},
		refuse:    func(string) (int, waybill.Code) { return http.StatusOK, "" },
		silent:    func(string, int) bool { return false },
		life:      func(int) (time.Time, time.Duration) { return time.Now(), time.Hour },
		changed:   make(chan struct{}),
	}
	cert := must1(s.ca.Certificate([]string{"127.0.0.1", "waybill.test"}))
	s.tls = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
	s.https = httptest.NewUnstartedServer(http.HandlerFunc(s.handleCall))
	s.https.TLS = s.tls.Clone()
	s.https.StartTLS()
	t.Cleanup(s.https.Close)
	s.up()
	t.Cleanup(s.down)
	return s
}

// up starts the bus, at the address it had before if it had one.
func (s *scripted) up() {
	s.t.Helper()
	b, err := bus.Open(bus.Config{Listen: s.addr, TLS: s.tls}, s.op, testLog(s.t))
	must(s.t, err)
	_, err = b.Serve(wire.AllToServer("*"), "", s.handle)
	must(s.t, err)
	must(s.t, b.Flush())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bus, s.addr = b, b.Addr().String()
}

func (s *scripted) down() { s.currentBus().Close() }

func (s *scripted) currentBus() *bus.Bus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bus
}

func (s *scripted) now() int64 { return time.Now().Add(s.skew).UnixMilli() }

// handle answers one message from an agent.
func (s *scripted) handle(subject, reply string, data []byte) {
	instance, op, ok := wire.InstanceOf(subject)
	if !ok || reply != "" && !wire.OwnsReply(instance, reply) {
		s.t.Errorf("message on %s wants its reply on %s", subject, reply)
	}
	s.mu.Lock()
	s.messages = append(s.messages, message{op, instance, data})
	nth := 0
	for _, m := range s.messages {
		if m.op == op {
			nth++
		}
	}
	var answer any
	var again []wire.Deliver
	switch {
	case s.silent(op, nth):
	case op == wire.OpHello:
		answer = &wire.Welcome{Now: s.now(), BeatMillis: s.beat.Milliseconds()}
	case op == wire.OpPull:
		answer = s.pageLocked(data)
	case op == wire.OpReport:
		var r wire.Report
		must(s.t, wire.Decode(data, &r))
		s.open = slices.DeleteFunc(s.open, func(d wire.Deliver) bool { return d.Delivery == r.Delivery })
		answer = &wire.Confirm{Now: s.now()}
	case op == wire.OpBeat:
		again = s.missingLocked(data)
	case op == wire.OpBye:
		answer = struct{}{}
	}
	close(s.changed)
	s.changed = make(chan struct{})
	b := s.bus
	s.mu.Unlock()
	for i := range again {
		must(s.t, b.Publish(wire.ToAgent(instance, wire.OpDeliver), wire.Encode(&again[i])))
	}
	if answer != nil && reply != "" {
		must(s.t, b.Publish(reply, wire.Encode(answer)))
	}
}

func (s *scripted) pageLocked(data []byte) *wire.PullReply {
	var p wire.Pull
	must(s.t, wire.Decode(data, &p))
	rest := slices.Clone(s.open)
	slices.SortFunc(rest, func(a, b wire.Deliver) int { return strings.Compare(a.Delivery, b.Delivery) })
	rest = slices.DeleteFunc(rest, func(d wire.Deliver) bool { return d.Delivery <= p.After })
	n, size := 0, 0
	for ; n < min(len(rest), wire.MaxPull); n++ {
		if size += len(rest[n].Content); n > 0 && size > wire.MaxPullBytes {
			break
		}
		rest[n].Sent = s.now()
	}
	return &wire.PullReply{Deliveries: rest[:n], More: n < len(rest)}
}

// missingLocked returns what is open and an agent with that beat does not have: it is pushed again, as the server does.
func (s *scripted) missingLocked(data []byte) []wire.Deliver {
	var beat wire.Beat
	must(s.t, wire.Decode(data, &beat))
	missing := slices.Clone(s.open)
	return slices.DeleteFunc(missing, func(d wire.Deliver) bool { return slices.Contains(beat.Open, d.Delivery) })
}

// hold makes d open, as if it had been sent while the agent was away.
func (s *scripted) hold(d *wire.Deliver) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, *d)
}

// push sends raw bytes to an instance.
func (s *scripted) push(instance, op string, data []byte) {
	s.t.Helper()
	b := s.currentBus()
	must(s.t, b.Publish(wire.ToAgent(instance, op), data))
	must(s.t, b.Flush())
}

// send makes d open and pushes it.
func (s *scripted) send(instance string, d *wire.Deliver) {
	s.t.Helper()
	s.hold(d)
	s.push(instance, wire.OpDeliver, wire.Encode(d))
}

// deliverTo is deliverTo with the server's clock.
func (s *scripted) deliverTo(id, dir, name, content string) *wire.Deliver {
	d := deliverTo(id, dir, name, content)
	d.Sent, d.Deadline = s.now(), s.now()+time.Minute.Milliseconds()
	return d
}

// set changes how the server answers.
func (s *scripted) set(change func(s *scripted)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// ops returns the kinds of all messages so far.
func (s *scripted) ops() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ops []string
	for _, m := range s.messages {
		ops = append(ops, m.op)
	}
	return ops
}

// await waits until n messages of a kind have come, and returns all of that kind.
func await[T any](s *scripted, op string, n int) []T {
	s.t.Helper()
	return awaitThat[T](s, op, func(got []T) bool { return len(got) >= n })
}

// awaitThat waits until the messages of a kind are enough, and returns them.
func awaitThat[T any](s *scripted, op string, enough func([]T) bool) []T {
	s.t.Helper()
	late := time.After(patience)
	for {
		s.mu.Lock()
		changed := s.changed
		var got []T
		for _, m := range s.messages {
			if m.op == op {
				var v T
				must(s.t, wire.Decode(m.body, &v))
				got = append(got, v)
			}
		}
		s.mu.Unlock()
		if enough(got) {
			return got
		}
		select {
		case <-changed:
		case <-late:
			s.t.Fatalf("waiting for %s, got %d: %+v", op, len(got), got)
		}
	}
}

// handleCall answers one HTTPS call of an agent.
func (s *scripted) handleCall(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	key, _, err := identity.VerifyRequest(r, body, time.Now(), 15*time.Minute)
	if err != nil {
		refuseCall(w, http.StatusUnauthorized, waybill.CodeOf(err), err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if status, code := s.refuse(r.URL.Path); status != http.StatusOK {
		refuseCall(w, status, code, "not for you")
		return
	}
	id, knownKey := s.instances[key]
	var answer any = struct{}{}
	switch r.URL.Path {
	case wire.PathEnroll:
		if !knownKey {
			id = string(identity.NewInstanceID("t"))
			s.instances[key] = id
		}
		port := s.addr[strings.LastIndex(s.addr, ":"):]
		answer = wire.EnrollReply{
			InstanceID: id, Name: "machine", CA: string(s.ca.PEM()), NATS: []string{"tls://" + s.hostname + port},
			RenewReply: s.tokenLocked(id, key),
		}
	case wire.PathRenew:
		answer = s.tokenLocked(id, key)
	}
	must(s.t, json.NewEncoder(w).Encode(answer))
}

func refuseCall(w http.ResponseWriter, status int, code waybill.Code, text string) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(wire.ErrorReply{Code: string(code), Message: text})
}

func (s *scripted) tokenLocked(id, key string) wire.RenewReply {
	s.tokens++
	issued, ttl := s.life(s.tokens)
	token, err := s.op.AgentJWT(waybill.InstanceID(id), key, ttl, issued)
	must(s.t, err)
	return wire.RenewReply{JWT: token, Expires: issued.Add(ttl).Unix()}
}

func (s *scripted) url() string {
	_, port, _ := strings.Cut(s.https.Listener.Addr().String(), ":")
	return "https://" + s.hostname + ":" + port
}

// enroll makes a new state directory an instance and returns it.
func (s *scripted) enroll() (dir, instance string) {
	s.t.Helper()
	dir = filepath.Join(s.t.TempDir(), "state")
	st, err := Enroll(s.t.Context(), EnrollOptions{StateDir: dir, Server: s.url(), CA: string(s.ca.PEM())})
	must(s.t, err)
	return dir, st.Instance
}

// running is an agent under test, in this process.
type running struct {
	*Agent
	t        testing.TB
	instance string
	state    string
	root     string
	cancel   context.CancelFunc
	ended    chan error
}

// quick is how long test agents wait at most before they try again.
var quick = Backoff{First: 100 * time.Millisecond, Max: 400 * time.Millisecond}

// startAgent enrols an agent and runs it.
func startAgent(s *scripted, change ...func(*Config)) *running {
	s.t.Helper()
	dir, instance := s.enroll()
	return runAgent(s, dir, instance, s.t.TempDir(), change...)
}

// runAgent runs an enrolled agent. It has ended before the test does.
func runAgent(s *scripted, dir, instance, root string, change ...func(*Config)) *running {
	s.t.Helper()
	cfg := Config{StateDir: dir, Root: root, Version: "test", Backoff: quick}
	for _, f := range change {
		f(&cfg)
	}
	a, err := New(cfg, testLog(s.t))
	must(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{
		Agent: a, t: s.t, instance: instance, state: dir, root: root, cancel: cancel, ended: make(chan error, 1),
	}
	go func() { r.ended <- a.Run(ctx) }()
	s.t.Cleanup(func() { r.end() })
	return r
}

// end tells the agent to end and returns what Run returned.
func (r *running) end() error {
	r.t.Helper()
	r.cancel()
	return r.wait()
}

// wait returns what Run returned.
func (r *running) wait() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		r.ended <- err
		return err
	case <-time.After(patience):
		r.t.Error("the agent does not end")
		return nil
	}
}

func (r *running) content(path string) string {
	b, err := os.ReadFile(filepath.Join(r.root, path))
	if err != nil {
		return err.Error()
	}
	return string(b)
}
