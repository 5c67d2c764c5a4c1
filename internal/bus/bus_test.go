// SPDX-License-Identifier: Apache-2.0

package bus_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/bus"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/wire"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// world is what outlives a server: its authority and its operator.
type world struct {
	ca *identity.Authority
	op *identity.Operator
}

func newWorld(t *testing.T) world {
	t.Helper()
	ca, err := identity.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	op, err := identity.NewOperator()
	if err != nil {
		t.Fatal(err)
	}
	return world{ca: ca, op: op}
}

func (w world) serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	cfg, err := w.ca.ServerTLS([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// open starts an embedded bus; change, if not nil, alters its configuration first.
func (w world) open(t *testing.T, change func(*bus.Config)) *bus.Bus {
	t.Helper()
	cfg := bus.Config{Listen: "127.0.0.1:0", TLS: w.serverTLS(t)}
	if change != nil {
		change(&cfg)
	}
	b, err := bus.Open(cfg, w.op, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// agent is the machine side of a link.
type agent struct {
	id    waybill.InstanceID
	key   nkeys.KeyPair
	token string
	conn  *nats.Conn
	errs  chan error // asynchronous errors, such as refused subscriptions
	gone  chan struct{}
}

// newAgent makes an agent that has a token for an hour from issued, but is not connected.
func (w world) newAgent(t *testing.T, id waybill.InstanceID, issued time.Time) *agent {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{id: id, key: key, errs: make(chan error, 16), gone: make(chan struct{})}
	a.token = w.issue(t, a, issued)
	return a
}

func (w world) issue(t *testing.T, a *agent, at time.Time) string {
	t.Helper()
	token, err := w.op.AgentJWT(a.id, a.publicKey(t), time.Hour, at)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (a *agent) publicKey(t *testing.T) string {
	t.Helper()
	key, err := a.key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// dial connects once, as the real agent does.
func (w world) dial(a *agent, addr string, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("tls://"+addr, append([]nats.Option{
		nats.UserJWT(func() (string, error) { return a.token, nil }, a.key.Sign),
		nats.Secure(&tls.Config{RootCAs: w.ca.Pool(), MinVersion: tls.VersionTLS12}),
		nats.TLSHandshakeFirst(),
		nats.CustomInboxPrefix(wire.InboxPrefix(string(a.id))),
		nats.Timeout(patience),
		nats.NoReconnect(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { a.errs <- err }),
		nats.ClosedHandler(func(*nats.Conn) { close(a.gone) }),
	}, opts...)...)
}

// connect returns a connected agent.
func (w world) connect(t *testing.T, addr string, id waybill.InstanceID, opts ...nats.Option) *agent {
	t.Helper()
	a := w.newAgent(t, id, time.Now())
	conn, err := w.dial(a, addr, opts...)
	if err != nil {
		t.Fatalf("connect %s: %v", id, err)
	}
	t.Cleanup(conn.Close)
	a.conn = conn
	return a
}

func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// eventually waits until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// echo serves every report and answers it with its own payload.
func echo(t *testing.T, b *bus.Bus) {
	t.Helper()
	_, err := b.Serve(wire.AllToServer(wire.OpReport), "servers", func(_, reply string, data []byte) {
		if err := b.Publish(reply, data); err != nil {
			t.Error(err)
		}
	})
	if err = errors.Join(err, b.Flush()); err != nil {
		t.Fatal(err)
	}
}

// ask makes one request of the echo server.
func (a *agent) ask(text string) error {
	reply, err := a.conn.Request(wire.ToServer(string(a.id), wire.OpReport), []byte(text), patience)
	if err == nil && string(reply.Data) != text {
		err = fmt.Errorf("asked %q, answered %q", text, reply.Data)
	}
	return err
}

func TestMessagesBothWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.open(t, nil)
	echo(t, b)
	a := w.connect(t, b.Addr().String(), "mi-a")
	if err := a.ask("hello"); err != nil {
		t.Error(err)
	}
	got := make(chan *nats.Msg, 1)
	if _, err := a.conn.ChanSubscribe(wire.ToAgent("mi-a", wire.OpDeliver), got); err != nil {
		t.Fatal(err)
	}
	if err := a.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := b.Clients(); n != 1 {
		t.Errorf("%d clients, want 1", n)
	}
	largest := bytes.Repeat([]byte("x"), wire.MaxMessage)
	if err := b.Publish(wire.ToAgent("mi-a", wire.OpDeliver), largest); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, got, "the message"); !bytes.Equal(m.Data, largest) {
		t.Errorf("got %d bytes, want %d", len(m.Data), len(largest))
	}
	if err := b.Publish(wire.ToAgent("mi-a", wire.OpDeliver), append(largest, 'x')); err == nil {
		t.Error("a message above the limit was accepted")
	}
}

func TestOneOfAQueueGetsEachMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.open(t, nil)
	got := make(chan string, 200)
	for range 2 {
		if _, err := b.Serve(wire.AllToServer(wire.OpAck), "servers", func(_, _ string, data []byte) {
			got <- string(data)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	a := w.connect(t, b.Addr().String(), "mi-a")
	seen := map[string]bool{}
	for i := range 100 {
		if err := a.conn.Publish(wire.ToServer("mi-a", wire.OpAck), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		text := receive(t, got, "a message")
		if seen[text] {
			t.Errorf("message %s came twice", text)
		}
		seen[text] = true
	}
}

func TestServeStopFinishesWhatItHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.open(t, nil)
	started, release := make(chan struct{}), make(chan struct{})
	var handled []string
	stop, err := b.Serve(wire.AllToServer(wire.OpAck), "servers", func(_, _ string, data []byte) {
		if len(handled) == 0 {
			close(started)
			<-release
		}
		handled = append(handled, string(data))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	a := w.connect(t, b.Addr().String(), "mi-a")
	for _, text := range []string{"1", "2", "3"} {
		if err := a.conn.Publish(wire.ToServer("mi-a", wire.OpAck), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(a.conn.Flush(), b.Flush()); err != nil {
		t.Fatal(err)
	}
	receive(t, started, "the first message")
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	close(release)
	receive(t, stopped, "stop")
	if strings.Join(handled, " ") != "1 2 3" {
		t.Errorf("handled %q when stop returned", handled)
	}
	stop()
	_, err = a.conn.Request(wire.ToServer("mi-a", wire.OpAck), nil, patience)
	if !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("after stop: %v, want no responders", err)
	}
}

func TestAgentMayNotSubscribe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.open(t, nil)
	for name, subject := range map[string]string{
		"another's messages":    "wb.1.agent.mi-b.deliver",
		"all of another":        "wb.1.agent.mi-b.>",
		"another's inbox":       "wb.1.agent.mi-b.inbox.>",
		"everyone's deliveries": "wb.1.agent.*.deliver",
		"all agents":            "wb.1.agent.>",
		"everything":            ">",
		"default inboxes":       "_INBOX.>",
		"its own reports":       "wb.1.server.mi-a.*",
		"everyone's reports":    "wb.1.server.*.report",
		"the system":            "$SYS.>",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := w.connect(t, b.Addr().String(), "mi-a")
			if _, err := a.conn.SubscribeSync(subject); err != nil {
				t.Fatal(err)
			}
			if err := receive(t, a.errs, "a refusal"); !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("refused with %v", err)
			}
		})
	}
}

func TestAgentMayNotPublish(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.open(t, nil)
	echo(t, b)
	for name, subject := range map[string]string{
		"as another":              "wb.1.server.mi-b.report",
		"to another":              "wb.1.agent.mi-b.deliver",
		"to itself":               "wb.1.agent.mi-a.deliver",
		"to another's inbox":      "wb.1.agent.mi-b.inbox.x",
		"beyond its subjects":     "wb.1.server.mi-a.report.x",
		"to a default inbox":      "_INBOX.x",
		"new claims":              "$SYS.REQ.CLAIMS.UPDATE",
		"to the server's account": "$SYS.REQ.SERVER.PING",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := w.connect(t, b.Addr().String(), "mi-a")
			overheard := make(chan string, 1)
			stop, err := b.Serve(wire.ToServer("mi-b", wire.OpReport), t.Name(), func(_, _ string, data []byte) {
				select {
				case overheard <- string(data):
				default:
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := a.conn.Publish(subject, []byte("x")); err != nil {
				t.Fatal(err)
			}
			if err := receive(t, a.errs, "a refusal"); !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("refused with %v", err)
			}
			if err := a.ask("still welcome"); err != nil {
				t.Error(err)
			}
			stop()
			if len(overheard) > 0 {
				t.Error("the server heard it")
			}
		})
	}
}

func TestConnectionsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := newWorld(t)
	b := w.open(t, nil)
	addr := b.Addr().String()
	foreign := w
	foreign.op = other.op
	distrustful := w
	distrustful.ca = other.ca
	stolen := w.newAgent(t, "mi-a", time.Now())
	stolen.key = other.newAgent(t, "mi-a", time.Now()).key
	for _, tt := range []struct {
		name  string
		world world
		agent *agent
		opts  []nats.Option
	}{
		{name: "token expired", world: w, agent: w.newAgent(t, "mi-a", time.Now().Add(-61*time.Minute))},
		{name: "token of another operator", world: w, agent: foreign.newAgent(t, "mi-a", time.Now())},
		{name: "token of another key", world: w, agent: stolen},
		{name: "server of another authority", world: distrustful, agent: w.newAgent(t, "mi-a", time.Now())},
		{
			name: "TLS 1.1", world: w, agent: w.newAgent(t, "mi-a", time.Now()),
			opts: []nats.Option{nats.Secure(&tls.Config{
				RootCAs: w.ca.Pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
			})},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conn, err := tt.world.dial(tt.agent, addr, tt.opts...)
			if err == nil {
				conn.Close()
				t.Error("connected")
			}
		})
	}
	t.Run("no token", func(t *testing.T) {
		t.Parallel()
		conn, err := nats.Connect("tls://"+addr, nats.TLSHandshakeFirst(), nats.NoReconnect(),
			nats.Secure(&tls.Config{RootCAs: w.ca.Pool(), MinVersion: tls.VersionTLS12}))
		if err == nil {
			conn.Close()
			t.Error("connected")
		}
	})
	t.Run("no TLS", func(t *testing.T) {
		t.Parallel()
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("CONNECT {\"verbose\":true}\r\nPING\r\n")); err != nil {
			t.Fatal(err)
		}
		var heard bytes.Buffer
		_, err = heard.ReadFrom(conn)
		if errors.Is(err, os.ErrDeadlineExceeded) || bytes.Contains(heard.Bytes(), []byte("INFO")) {
			t.Errorf("heard %q (%v), want to be cut off without a word", &heard, err)
		}
	})
}

func TestTokenEndsWhileConnected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.open(t, nil)
	a := w.newAgent(t, "mi-a", time.Now().Add(-time.Hour+2*time.Second))
	conn, err := w.dial(a, b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	receive(t, a.gone, "the end of the connection")
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.open(t, nil)
	addr := b.Addr().String()
	echo(t, b)
	bad, good := w.connect(t, addr, "mi-bad"), w.connect(t, addr, "mi-good")
	if err := errors.Join(bad.ask("1"), good.ask("1")); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	if err := b.Revoke(bad.publicKey(t), at); err != nil {
		t.Fatal(err)
	}
	receive(t, bad.gone, "the revoked agent to be cut off")
	refuse := func(addr string) {
		t.Helper()
		again := &agent{id: bad.id, key: bad.key, errs: make(chan error, 16), gone: make(chan struct{})}
		again.token = bad.token
		if conn, err := w.dial(again, addr); err == nil {
			conn.Close()
			t.Error("a revoked token was accepted")
		}
	}
	refuse(addr)
	if err := good.ask("2"); err != nil {
		t.Errorf("the other agent: %v", err)
	}

	// An earlier time, repeated late, must not bring the token back.
	if err := b.Revoke(bad.publicKey(t), at.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	refuse(addr)

	// The list outlives the server.
	second := w.open(t, func(cfg *bus.Config) { cfg.Revoked = map[string]time.Time{bad.publicKey(t): at} })
	refuse(second.Addr().String())

	// Enrolled again with the same key: a token from a later second is good.
	eventually(t, "a new token to be accepted", func() bool {
		again := &agent{id: bad.id, key: bad.key, errs: make(chan error, 16), gone: make(chan struct{})}
		again.token = w.issue(t, again, time.Now())
		conn, err := w.dial(again, addr)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

func TestAgentsReturnToRestartedServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.open(t, nil)
	addr := first.Addr().String()
	back := make(chan struct{}, 1)
	a := w.connect(t, addr, "mi-a", nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		func(o *nats.Options) error { o.AllowReconnect = true; return nil },
		nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	first.Close()
	first.Close() // safe to call twice
	if err := first.Publish("wb.1.agent.mi-a.deliver", nil); err == nil {
		t.Error("a closed bus accepted a message")
	}
	op, err := identity.ParseOperator(w.op.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	w.op = op
	second := w.open(t, func(cfg *bus.Config) { cfg.Listen = addr })
	echo(t, second)
	receive(t, back, "the agent to return")
	if err := a.ask("again"); err != nil {
		t.Error(err)
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	busy := w.open(t, nil)
	for name, cfg := range map[string]bus.Config{
		"address in use":   {Listen: busy.Addr().String(), TLS: w.serverTLS(t)},
		"no port":          {Listen: "127.0.0.1", TLS: w.serverTLS(t)},
		"port not numeric": {Listen: "127.0.0.1:agents", TLS: w.serverTLS(t)},
		"no certificate":   {Listen: "127.0.0.1:0"},
		"no cluster there": {URL: "tls://127.0.0.1:1", CredsFile: "absent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := bus.Open(cfg, w.op, slog.New(slog.NewTextHandler(t.Output(), nil)))
			if err == nil {
				b.Close()
				t.Fatal("opened")
			}
			if text := err.Error(); strings.HasSuffix(text, "%!w(<nil>)") {
				t.Errorf("says only %q", text)
			}
			if name != "address in use" {
				return
			}
			if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), cfg.Listen) {
				t.Errorf("%v: want the address, and that it is in use", err)
			}
		})
	}
}

func TestAgentMaySendLess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.open(t, nil)
	echo(t, b)
	a := w.connect(t, b.Addr().String(), "mi-a")
	if err := a.ask(strings.Repeat("x", 64<<10)); err != nil {
		t.Errorf("64 KiB: %v", err)
	}
	// The bus has told its client so.
	err := a.conn.Publish(wire.ToServer("mi-a", wire.OpReport), make([]byte, 64<<10+1))
	if !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("one byte more: %v", err)
	}
}

// warningLog counts warnings and keeps the last one's number of those it stands for.
type warningLog struct {
	slog.Handler

	mu         sync.Mutex
	warnings   int
	suppressed int64
}

func (l *warningLog) Handle(_ context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.warnings++
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "suppressed" {
			l.suppressed += a.Value.Int64()
		}
		return true
	})
	return nil
}

func (l *warningLog) seen() (warnings int, suppressed int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.warnings, l.suppressed
}

func TestStrangersDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	log := &warningLog{Handler: slog.NewTextHandler(t.Output(), nil)}
	b, err := bus.Open(bus.Config{Listen: "127.0.0.1:0", TLS: w.serverTLS(t)}, w.op, slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	start := time.Now()
	stranger := tls.Dialer{Config: &tls.Config{RootCAs: newWorld(t).ca.Pool(), MinVersion: tls.VersionTLS12}}
	handshake := func() {
		conn, err := stranger.DialContext(t.Context(), "tcp", b.Addr().String())
		if err == nil {
			conn.Close()
			t.Fatal("connected")
		}
	}
	for range 200 {
		handshake()
	}
	eventually(t, "the first warnings", func() bool { n, _ := log.seen(); return n >= 10 })
	n, _ := log.seen()
	if most := 11 + int(time.Since(start)/time.Second); n > most {
		t.Errorf("%d warnings, want at most %d", n, most)
	}
	eventually(t, "a warning that tells of the others", func() bool {
		handshake()
		_, suppressed := log.seen()
		return suppressed >= 100
	})
}

// Not parallel: it counts the goroutines of the process.
func TestNothingIsLeftOfAgentsAndServers(t *testing.T) {
	w := newWorld(t)
	b := w.open(t, nil)
	before := runtime.NumGoroutine()
	agents := make(chan *agent, 500)
	for range cap(agents) {
		agents <- w.newAgent(t, "mi-a", time.Now())
	}
	close(agents)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for a := range agents {
				conn, err := w.dial(a, b.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				conn.Close()
			}
		})
	}
	wg.Wait()
	eventually(t, "the agents to be forgotten", func() bool { return b.Clients() == 0 })
	eventually(t, "their goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
	b.Close()
	eventually(t, "the server's goroutines to end", func() bool { return runtime.NumGoroutine() < before })
}

// stuckAgent speaks NATS by hand: it subscribes to its deliveries and then reads no more. It returns its connection.
func (w world) stuckAgent(t *testing.T, addr string, id waybill.InstanceID) net.Conn {
	t.Helper()
	a := w.newAgent(t, id, time.Now())
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: w.ca.Pool(), MinVersion: tls.VersionTLS12}}).
		DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	lines := bufio.NewReader(conn)
	info, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var challenge struct {
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(info, "INFO ")), &challenge); err != nil {
		t.Fatal(err)
	}
	signature, err := a.key.Sign([]byte(challenge.Nonce))
	if err != nil {
		t.Fatal(err)
	}
	hello, err := json.Marshal(map[string]any{
		"jwt": a.token, "sig": base64.RawURLEncoding.EncodeToString(signature), "protocol": 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	subject := wire.ToAgent(string(id), wire.OpDeliver)
	if _, err := fmt.Fprintf(conn, "CONNECT %s\r\nSUB %s 1\r\nPING\r\n", hello, subject); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "PONG") {
			return conn
		}
	}
}

func TestStuckAgentIsCutOffAndBlocksNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.open(t, nil)
	addr := b.Addr().String()
	stuck := w.stuckAgent(t, addr, "mi-stuck")
	healthy := w.connect(t, addr, "mi-ok")
	got := make(chan *nats.Msg, 1)
	if _, err := healthy.conn.ChanSubscribe(wire.ToAgent("mi-ok", wire.OpDeliver), got); err != nil {
		t.Fatal(err)
	}
	if err := healthy.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := b.Clients(); n != 2 {
		t.Fatalf("%d clients, want 2", n)
	}
	big := make([]byte, wire.MaxMessage)
	const sent = 48 // MiB, far more than the server holds for one connection and the system buffers for it
	for range sent {
		err := errors.Join(b.Publish(wire.ToAgent("mi-stuck", wire.OpDeliver), big),
			b.Publish(wire.ToAgent("mi-ok", wire.OpDeliver), []byte("x")))
		if err != nil {
			t.Fatal(err)
		}
		receive(t, got, "the healthy agent's message")
	}
	// When it wakes up it finds what was on its way, and then the end.
	if err := stuck.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, stuck)
	if errors.Is(err, os.ErrDeadlineExceeded) || n >= sent<<20 {
		t.Errorf("read %d bytes (%v): it was not cut off", n, err)
	}
	eventually(t, "the stuck agent to be forgotten", func() bool { return b.Clients() == 1 })
}
