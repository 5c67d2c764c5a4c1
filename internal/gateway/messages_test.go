// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/bus"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/wire"
)

// live is a gateway that runs on a real bus.
type live struct {
	*rig
	ca   *identity.Authority
	op   *identity.Operator
	bus  *bus.Bus
	stop context.CancelFunc
	done chan error // what Run returned
}

func goLive(t *testing.T) *live {
	t.Helper()
	ca, err := identity.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	serverTLS, err := ca.ServerTLS([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	op := newOperator(t)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	b, err := bus.Open(bus.Config{Listen: "127.0.0.1:0", TLS: serverTLS}, op, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return &live{rig: newRig(t, Config{}, b, op), ca: ca, op: op, bus: b, done: make(chan error, 1)}
}

// run starts the gateway; whatever the fleet is to do must be set before.
func (l *live) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l.stop = cancel
	ended := make(chan struct{})
	go func() { defer close(ended); l.done <- l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	probe := l.connect(t, "mi-probe")
	for _, r := range l.routes() { // subscriptions begin one after the other
		eventually(t, "the gateway to listen for "+r.op, func() bool {
			_, err := probe.Request(wire.ToServer("mi-probe", r.op), []byte("?"), 20*time.Millisecond)
			return !errors.Is(err, nats.ErrNoResponders)
		})
	}
}

// connect returns the link of an instance, as an agent would have it.
func (l *live) connect(t *testing.T, id waybill.InstanceID) *nats.Conn {
	t.Helper()
	kp, key := newKey(t)
	token, err := l.op.AgentJWT(id, key, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect("tls://"+l.bus.Addr().String(),
		nats.UserJWT(func() (string, error) { return token, nil }, kp.Sign),
		nats.Secure(&tls.Config{RootCAs: l.ca.Pool(), MinVersion: tls.VersionTLS12}),
		nats.TLSHandshakeFirst(), nats.CustomInboxPrefix(wire.InboxPrefix(string(id))), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func TestMessages(t *testing.T) {
	t.Parallel()
	l := goLive(t)
	l.run(t)
	conn := l.connect(t, "mi-hz1")
	now := l.fleet.Now().UnixMilli()
	started, finished := time.UnixMilli(1_795_434_318_913), time.UnixMilli(1_795_434_319_001)
	digest := sha256.Sum256([]byte("content"))
	welcome := &wire.Welcome{Now: now, BeatMillis: 60_000}
	for _, tt := range []struct {
		name  string
		op    string
		send  any
		heard []any
		reply any // nil: none is expected
	}{
		{
			name: "hello", op: wire.OpHello,
			send: &wire.Hello{
				Session: "s", Capability: 1, AgentVersion: "1.0", Hostname: "h", MachineID: "m", IntranetIP: "10.0.0.1",
				OSType: "linux", OSVersion: "13",
			},
			heard: []any{"s", waybill.Facts{
				Hostname: "h", MachineID: "m", IntranetIP: "10.0.0.1", OSType: "linux", OSVersion: "13",
				AgentVersion: "1.0", Capability: 1,
			}},
			reply: welcome,
		},
		{
			name: "beat", op: wire.OpBeat, send: &wire.Beat{Session: "s", Open: []string{"f-1", "f-2"}},
			heard: []any{"s", []waybill.DeliveryID{"f-1", "f-2"}},
		},
		{
			name: "bye: stopped", op: wire.OpBye, send: &wire.Bye{Session: "s", Reason: wire.ByeStopped},
			heard: []any{"s", waybill.Stopped}, reply: &wire.Confirm{Now: now},
		},
		{
			name: "bye: shut down", op: wire.OpBye, send: &wire.Bye{Session: "s", Reason: wire.ByeShutDown},
			heard: []any{"s", waybill.ShutDown}, reply: &wire.Confirm{Now: now},
		},
		{
			name: "bye: upgrading", op: wire.OpBye, send: &wire.Bye{Session: "s", Reason: wire.ByeUpgrading},
			heard: []any{"s", waybill.Upgrading}, reply: &wire.Confirm{Now: now},
		},
		{
			name: "bye of a newer agent", op: wire.OpBye, send: &wire.Bye{Session: "s", Reason: "hibernating"},
			heard: []any{"s", waybill.Stopped}, reply: &wire.Confirm{Now: now},
		},
		{
			name: "pull", op: wire.OpPull, send: &wire.Pull{After: "f-hz1"}, heard: []any{waybill.DeliveryID("f-hz1")},
			reply: &wire.PullReply{Deliveries: []wire.Deliver{{Delivery: "f-hz2", Name: "app.conf"}}, More: true},
		},
		{
			name: "ack", op: wire.OpAck, send: &wire.Ack{Delivery: "f-1", Started: started.UnixMilli()},
			heard: []any{waybill.DeliveryID("f-1"), started},
		},
		{
			name: "ack without a time", op: wire.OpAck, send: &wire.Ack{Delivery: "f-1"},
			heard: []any{waybill.DeliveryID("f-1"), time.Time{}},
		},
		{
			name: "report of success", op: wire.OpReport,
			send: &wire.Report{
				Delivery: "f-1", Started: started.UnixMilli(), Finished: finished.UnixMilli(), SHA256: digest[:],
				Change: "Unchanged",
			},
			heard: []any{control.Outcome{
				Delivery: "f-1", Started: started, Finished: finished, SHA256: digest[:], Change: waybill.Unchanged,
			}},
			reply: &wire.Confirm{Now: now},
		},
		{
			name: "report with a change of a newer agent", op: wire.OpReport,
			send:  &wire.Report{Delivery: "f-1", SHA256: digest[:], Change: "Melted"},
			heard: []any{control.Outcome{Delivery: "f-1", SHA256: digest[:]}},
			reply: &wire.Confirm{Now: now},
		},
		{
			name: "report of failure", op: wire.OpReport,
			send:  &wire.Report{Delivery: "f-1", Cause: "exists", Detail: "/etc/app.conf"},
			heard: []any{control.Outcome{Delivery: "f-1", Cause: waybill.CauseExists, Detail: "/etc/app.conf"}},
			reply: &wire.Confirm{Now: now},
		},
		{
			name: "report with a cause of a newer agent", op: wire.OpReport,
			send: &wire.Report{Delivery: "f-1", Cause: "quota", Detail: "user x"},
			heard: []any{control.Outcome{
				Delivery: "f-1", Cause: waybill.CauseAgentBroke, Detail: `unknown cause "quota": user x`,
			}},
			reply: &wire.Confirm{Now: now},
		},
		{
			name: "alive", op: wire.OpAlive, send: &wire.Alive{Session: "s", Nonce: "n"}, heard: []any{"s", "n"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) { // one after the other: all are heard on one channel
			subject := wire.ToServer("mi-hz1", tt.op)
			if tt.reply == nil {
				if err := conn.Publish(subject, wire.Encode(tt.send)); err != nil {
					t.Fatal(err)
				}
			} else {
				m, err := conn.Request(subject, wire.Encode(tt.send), patience)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(m.Data, wire.Encode(tt.reply)) {
					t.Errorf("answered %x, want that of %+v", m.Data, tt.reply)
				}
			}
			got := receive(t, l.fleet.heard, "the message")
			if diff := cmp.Diff(heard{ID: "mi-hz1", Op: tt.op, Args: tt.heard}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHelloRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		capability int
		err        error
		refused    string // part of it; empty: no answer at all
	}{
		{name: "agent too old", capability: wire.MinCapability - 1, refused: "install a newer waybill-agent"},
		{name: "deregistered", capability: 1, err: waybill.Errorf(waybill.NotRegistered, "gone"), refused: "gone"},
		{name: "quarantined", capability: 1, err: waybill.Errorf(waybill.Quarantined, "twice"), refused: "twice"},
		{name: "fault of our own", capability: 1, err: errors.New("disk on fire")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := goLive(t)
			l.fleet.do = func(context.Context, heard) error { return tt.err }
			l.run(t)
			conn := l.connect(t, "mi-hz1")
			patience := patience
			if tt.refused == "" {
				patience = 100 * time.Millisecond
			}
			m, err := conn.Request(wire.ToServer("mi-hz1", wire.OpHello),
				wire.Encode(&wire.Hello{Session: "s", Capability: tt.capability}), patience)
			receive(t, l.fleet.heard, "the presence to be recorded")
			if tt.refused == "" {
				if err == nil {
					t.Errorf("answered %x", m.Data)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var w wire.Welcome
			if err := wire.Decode(m.Data, &w); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(w.Refused, tt.refused) {
				t.Errorf("refused with %q, want %q in it", w.Refused, tt.refused)
			}
		})
	}
}

func TestBadMessagesAreCounted(t *testing.T) {
	t.Parallel()
	l := goLive(t)
	l.run(t)
	conn := l.connect(t, "mi-hz1")
	long := strings.Repeat("x", maxID+1)
	for _, tt := range []struct {
		name, op string
		data     []byte
	}{
		{"not CBOR", wire.OpReport, []byte("hello")},
		{"nothing", wire.OpHello, nil},
		{"wrong type", wire.OpPull, wire.Encode([]string{"f-1"})},
		{"two messages", wire.OpAck, append(wire.Encode(&wire.Ack{}), wire.Encode(&wire.Ack{})...)},
		{"digest cut short", wire.OpReport, wire.Encode(&wire.Report{Delivery: "f-1", SHA256: []byte("short")})},
		{"cause too long", wire.OpReport, wire.Encode(&wire.Report{Delivery: "f-1", Cause: long})},
		{"report: delivery too long", wire.OpReport, wire.Encode(&wire.Report{Delivery: long})},
		{"ack: delivery too long", wire.OpAck, wire.Encode(&wire.Ack{Delivery: long})},
		{"pull: delivery too long", wire.OpPull, wire.Encode(&wire.Pull{After: long})},
		{"hello: session too long", wire.OpHello, wire.Encode(&wire.Hello{Session: long})},
		{"bye: session too long", wire.OpBye, wire.Encode(&wire.Bye{Session: long})},
		{"alive: nonce too long", wire.OpAlive, wire.Encode(&wire.Alive{Nonce: long})},
		{"beat: delivery too long", wire.OpBeat, wire.Encode(&wire.Beat{Open: []string{long}})},
		{"beat: too many", wire.OpBeat, wire.Encode(&wire.Beat{Open: make([]string, wire.MaxOpen+1)})},
		{"facts too long", wire.OpHello, wire.Encode(&wire.Hello{Hostname: strings.Repeat("h", maxWord+1)})},
	} {
		t.Run(tt.name, func(t *testing.T) { // one after the other: they count
			before := l.counted(t, tt.op, resultMalformed)
			if err := conn.Publish(wire.ToServer("mi-hz1", tt.op), tt.data); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the message to be counted", func() bool {
				return l.counted(t, tt.op, resultMalformed) == before+1
			})
		})
	}
	if len(l.fleet.heard) > 0 {
		t.Errorf("the service heard %+v", <-l.fleet.heard)
	}
	if _, err := conn.Request(wire.ToServer("mi-hz1", wire.OpPull), wire.Encode(&wire.Pull{}), patience); err != nil {
		t.Errorf("a good message afterwards: %v", err)
	}
}

// An agent that could choose where its answer goes could speak to others in the server's name.
func TestAnswersGoToTheSenderOnly(t *testing.T) {
	t.Parallel()
	l := goLive(t)
	l.run(t)
	villain, victim := l.connect(t, "mi-villain"), l.connect(t, "mi-victim")
	got := make(chan *nats.Msg, 8)
	if _, err := victim.ChanSubscribe(wire.AgentSubjects("mi-victim"), got); err != nil {
		t.Fatal(err)
	}
	if err := victim.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, reply := range []string{
		wire.ToAgent("mi-victim", wire.OpDeliver), wire.InboxPrefix("mi-victim") + ".x",
		wire.ToAgent("mi-villain", wire.OpDeliver), "wb.1.agent.mi-villain.inbox",
	} {
		before := l.counted(t, wire.OpPull, resultMalformed)
		err := villain.PublishRequest(wire.ToServer("mi-villain", wire.OpPull), reply, wire.Encode(&wire.Pull{}))
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the message to be counted", func() bool {
			return l.counted(t, wire.OpPull, resultMalformed) == before+1
		})
	}
	if err := l.bus.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := victim.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(got) > 0 {
		t.Errorf("the victim got %q", (<-got).Subject)
	}
	if len(l.fleet.heard) > 0 {
		t.Error("the message was acted upon")
	}
}

func TestPanicEndsOneMessageOnly(t *testing.T) {
	t.Parallel()
	l := goLive(t)
	l.fleet.do = func(_ context.Context, h heard) error {
		if h.ID == "mi-cursed" {
			panic("cursed")
		}
		return nil
	}
	l.run(t)
	cursed, blessed := l.connect(t, "mi-cursed"), l.connect(t, "mi-blessed")
	if err := cursed.Publish(wire.ToServer("mi-cursed", wire.OpReport), wire.Encode(&wire.Report{})); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the panic to be counted", func() bool { return l.counted(t, wire.OpReport, resultFailed) == 1 })
	if !strings.Contains(l.log.String(), "panic=cursed") {
		t.Error("the panic was not logged")
	}
	subject := wire.ToServer("mi-blessed", wire.OpReport)
	if _, err := blessed.Request(subject, wire.Encode(&wire.Report{}), patience); err != nil {
		t.Error(err)
	}
}

// A whole fleet reports at once: control gets all of them together, so that it can write them together.
func TestReportsAreHandledTogether(t *testing.T) {
	t.Parallel()
	const agents, each = 40, wire.MaxOpen
	l := goLive(t)
	var waiting sync.WaitGroup
	waiting.Add(agents * each)
	l.fleet.do = func(context.Context, heard) error {
		waiting.Done()
		waiting.Wait() // nobody is done before all have come
		return nil
	}
	l.run(t)
	confirmed := make(chan *nats.Msg, agents*each)
	for a := range agents {
		id := fmt.Sprintf("mi-%d", a)
		conn := l.connect(t, waybill.InstanceID(id))
		inbox := wire.InboxPrefix(id)
		if _, err := conn.ChanSubscribe(inbox+".*", confirmed); err != nil {
			t.Fatal(err)
		}
		for i := range each {
			report := wire.Encode(&wire.Report{Delivery: fmt.Sprintf("f-%d", i)})
			reply := fmt.Sprintf("%s.%d", inbox, i)
			if err := conn.PublishRequest(wire.ToServer(id, wire.OpReport), reply, report); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for range agents * each {
		receive(t, confirmed, "a confirmation")
	}
}

// One agent that asks without end, and is kept waiting, takes nobody's place.
func TestFloodOfOneLocksOutNobody(t *testing.T) {
	t.Parallel()
	const requestTimeout = 5 * time.Second // an agent's
	for op, m := range map[string]any{
		wire.OpHello: &wire.Hello{Session: "s", Capability: wire.Capability}, wire.OpReport: &wire.Report{Delivery: "f-1"},
	} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			l := goLive(t)
			var share int64
			for _, r := range l.routes() {
				if r.op == op {
					share = int64(r.share)
				}
			}
			release := make(chan struct{})
			var stuck atomic.Int64
			l.fleet.do = func(_ context.Context, h heard) error {
				if h.ID == "mi-villain" {
					stuck.Add(1)
					<-release
				}
				return nil
			}
			l.run(t)
			villain, victim := l.connect(t, "mi-villain"), l.connect(t, "mi-victim")
			over := make(chan struct{})
			var flood sync.WaitGroup
			defer flood.Wait()
			defer close(release)
			defer close(over)
			flood.Go(func() {
				body := wire.Encode(m)
				for {
					select {
					case <-over:
						return
					default:
					}
					var errs []error
					for range 1000 {
						errs = append(errs, villain.Publish(wire.ToServer("mi-villain", op), body))
					}
					if err := errors.Join(append(errs, villain.Flush())...); err != nil {
						t.Error(err)
						return
					}
				}
			})
			eventually(t, "the flood", func() bool { return l.counted(t, op, resultDropped) > 5000 })
			for range 3 {
				if _, err := victim.Request(wire.ToServer("mi-victim", op), wire.Encode(m), requestTimeout); err != nil {
					t.Errorf("the victim: %v", err)
				}
			}
			if n := stuck.Load(); n != share {
				t.Errorf("%d of the villain's messages were being handled, want %d", n, share)
			}
		})
	}
}

// Two agents that share one identity answer a probe in the same moment: only both answers show that there are two.
func TestBothAnswersToAProbeAreHeard(t *testing.T) {
	t.Parallel()
	l := goLive(t)
	var both sync.WaitGroup
	both.Add(2)
	l.fleet.do = func(context.Context, heard) error {
		both.Done()
		both.Wait()
		return nil
	}
	l.run(t)
	for _, session := range []string{"s-1", "s-2"} {
		alive := wire.Encode(&wire.Alive{Session: session, Nonce: "n"})
		if err := l.connect(t, "mi-a").Publish(wire.ToServer("mi-a", wire.OpAlive), alive); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both answers", func() bool { return l.counted(t, wire.OpAlive, resultOK) == 2 })
}

func TestRunFinishesWhatItHas(t *testing.T) {
	t.Parallel()
	l := goLive(t)
	entered, release := make(chan struct{}, 1), make(chan struct{})
	l.fleet.do = func(ctx context.Context, _ heard) error {
		entered <- struct{}{}
		<-release
		return ctx.Err()
	}
	l.run(t)
	conn := l.connect(t, "mi-hz1")
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Request(wire.ToServer("mi-hz1", wire.OpReport), wire.Encode(&wire.Report{}), patience)
		answered <- err
	}()
	receive(t, entered, "the report")
	l.stop()
	eventually(t, "the gateway to stop listening", func() bool {
		_, err := conn.Request(wire.ToServer("mi-hz1", wire.OpPull), []byte("?"), 20*time.Millisecond)
		return errors.Is(err, nats.ErrNoResponders)
	})
	select {
	case <-l.done:
		t.Error("Run returned while a report was being handled")
	default:
	}
	close(release)
	if err := receive(t, answered, "the answer"); err != nil {
		t.Error(err)
	}
	if err := receive(t, l.done, "Run"); err != nil {
		t.Error(err)
	}
}

func TestRunFailsOnClosedBus(t *testing.T) {
	t.Parallel()
	l := goLive(t)
	l.bus.Close()
	if err := l.Run(t.Context()); err == nil {
		t.Error("Run returned nil")
	}
}

// FuzzMessages hands any bytes to the handler of every kind of message.
func FuzzMessages(f *testing.F) {
	r := newRig(f, Config{}, nil, newOperator(f))
	r.Gateway.log = slog.New(slog.DiscardHandler)
	routes := r.routes()
	digest := sha256.Sum256(nil)
	seeds := map[string]any{
		wire.OpHello:  &wire.Hello{Session: "s", Capability: 1, Hostname: "h"},
		wire.OpBeat:   &wire.Beat{Session: "s", Open: []string{"f-1"}},
		wire.OpBye:    &wire.Bye{Session: "s", Reason: wire.ByeStopped},
		wire.OpPull:   &wire.Pull{After: "f-1"},
		wire.OpAck:    &wire.Ack{Delivery: "f-1", Started: 1},
		wire.OpReport: &wire.Report{Delivery: "f-1", Cause: "quota", Started: 1, Finished: 2, SHA256: digest[:]},
		wire.OpAlive:  &wire.Alive{Session: "s", Nonce: "n"},
	}
	for i, route := range routes {
		f.Add(uint8(i), wire.Encode(seeds[route.op]))
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), []byte{0xbf, 0x01, 0xff}) // a map of indefinite length
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		route := routes[int(which)%len(routes)]
		answer, err := route.handle(t.Context(), "mi-hz1", data)
		if err != nil {
			if !errors.Is(err, errMalformed) || answer != nil || len(r.fleet.heard) > 0 {
				t.Errorf("%s: answer %v, error %v", route.op, answer, err)
			}
			return
		}
		h := <-r.fleet.heard
		if h.Op != route.op || h.ID != "mi-hz1" {
			t.Errorf("%s was heard as %+v", route.op, h)
		}
		for _, arg := range h.Args {
			switch v := arg.(type) {
			case string:
				if len(v) > maxID {
					t.Errorf("%s passed %d bytes", route.op, len(v))
				}
			case waybill.DeliveryID:
				if len(v) > maxID {
					t.Errorf("%s passed a delivery of %d bytes", route.op, len(v))
				}
			case control.Outcome:
				if !v.Cause.Known() {
					t.Errorf("passed cause %q", v.Cause)
				}
			case waybill.Facts:
				if tooLongFacts(v) {
					t.Errorf("passed facts %+v", v)
				}
			}
		}
	})
}
