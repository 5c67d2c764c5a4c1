// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/wire"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// heard is one call of the service by a message: who, what and with which arguments.
type heard struct {
	ID   waybill.InstanceID
	Op   string
	Args []any
}

// fleet stands in for control.Service: it knows one code and the machines that enrolled with it, and writes down what
// it hears. The real service is behind the gateway in the end-to-end tests.
type fleet struct {
	code string

	mu       sync.Mutex
	now      time.Time
	enrolled map[string]waybill.Instance
	nonces   map[string]bool
	requests []control.EnrollRequest
	left     []waybill.InstanceID

	gate     chan struct{} // if not nil, no enrolment ends before it is closed
	heard    chan heard
	do       func(context.Context, heard) error // what a message meets; nil: success
	contents map[string]string
	opened   func(rest string) (io.ReadCloser, error) // nil: they can be read
}

func newFleet() *fleet {
	return &fleet{
		code: "a-hz-right", now: time.Unix(1_795_434_318, 0), heard: make(chan heard, 20_000),
		enrolled: map[string]waybill.Instance{}, nonces: map[string]bool{},
	}
}

func (f *fleet) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fleet) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fleet) Enroll(_ context.Context, req control.EnrollRequest) (waybill.Instance, error) {
	f.mu.Lock()
	f.requests = append(f.requests, req)
	f.mu.Unlock()
	if f.gate != nil {
		<-f.gate
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case req.Code != f.code:
		return waybill.Instance{}, waybill.Errorf(waybill.EnrolRefused, "the activation ID or the code is wrong")
	case req.Name == "broken":
		return waybill.Instance{}, errors.New("disk on fire")
	case req.Name == "-":
		return waybill.Instance{}, waybill.Errorf(waybill.InstanceNamePattern, "a letter first")
	}
	i := waybill.Instance{ID: "mi-hz1", Name: "web-001", Activation: req.Activation, PublicKey: req.PublicKey}
	f.enrolled[req.PublicKey] = i
	return i, nil
}

func (f *fleet) InstanceByKey(_ context.Context, publicKey string) (waybill.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, ok := f.enrolled[publicKey]
	switch {
	case !ok:
		return i, waybill.Errorf(waybill.NotRegistered, "this machine is not registered")
	case i.State == waybill.Quarantine:
		return i, waybill.Errorf(waybill.Quarantined, "two machines")
	}
	return i, nil
}

func (f *fleet) UseAgentNonce(_ context.Context, publicKey, nonce string, until time.Time) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if until.Before(f.now.Add(proofWindow)) {
		return false, errors.New("the nonce would be forgotten while its proof is good")
	}
	fresh := !f.nonces[publicKey+nonce]
	f.nonces[publicKey+nonce] = true
	return fresh, nil
}

// Fetch knows contents by instance and delivery.
func (f *fleet) Fetch(_ context.Context, id waybill.InstanceID, delivery waybill.DeliveryID) (control.Fetch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	content, ok := f.contents[string(id)+" "+string(delivery)]
	if !ok {
		return control.Fetch{}, waybill.Errorf(waybill.DeliveryNotOpen, "no delivery %s is open for this machine", delivery)
	}
	return control.Fetch{Size: int64(len(content)), Until: f.now.Add(time.Hour), Open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		if f.opened != nil {
			return f.opened(content[offset:])
		}
		return io.NopCloser(strings.NewReader(content[offset:])), ctx.Err()
	}}, nil
}

func (f *fleet) Leave(_ context.Context, id waybill.InstanceID, _ netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = append(f.left, id)
	return nil
}

func (f *fleet) hear(ctx context.Context, id waybill.InstanceID, op string, args ...any) error {
	h := heard{ID: id, Op: op, Args: args}
	f.heard <- h
	if f.do == nil {
		return nil
	}
	return f.do(ctx, h)
}

func (f *fleet) Hello(ctx context.Context, id waybill.InstanceID, session string, facts waybill.Facts) error {
	return f.hear(ctx, id, wire.OpHello, session, facts)
}

func (f *fleet) Beat(ctx context.Context, id waybill.InstanceID, session string, held []waybill.DeliveryID) error {
	return f.hear(ctx, id, wire.OpBeat, session, held)
}

func (f *fleet) Bye(ctx context.Context, id waybill.InstanceID, session string, as waybill.Presence) error {
	return f.hear(ctx, id, wire.OpBye, session, as)
}

func (f *fleet) Alive(ctx context.Context, id waybill.InstanceID, session, nonce string) error {
	return f.hear(ctx, id, wire.OpAlive, session, nonce)
}

func (f *fleet) Pull(ctx context.Context, id waybill.InstanceID, after waybill.DeliveryID) (wire.PullReply, error) {
	page := wire.PullReply{Deliveries: []wire.Deliver{{Delivery: "f-hz2", Name: "app.conf"}}, More: true}
	return page, f.hear(ctx, id, wire.OpPull, after)
}

func (f *fleet) Ack(ctx context.Context, id waybill.InstanceID, delivery waybill.DeliveryID, started time.Time) {
	_ = f.hear(ctx, id, wire.OpAck, delivery, started) // nobody is told
}

func (f *fleet) Report(ctx context.Context, id waybill.InstanceID, o control.Outcome) error {
	return f.hear(ctx, id, wire.OpReport, o)
}

// rig is a gateway in front of a fleet.
type rig struct {
	*Gateway
	fleet   *fleet
	metrics *prometheus.Registry
	log     *logBuffer
}

func newRig(t testing.TB, cfg Config, b messenger, op *identity.Operator) *rig {
	t.Helper()
	r := &rig{fleet: newFleet(), metrics: prometheus.NewRegistry(), log: &logBuffer{w: t.Output()}}
	if cfg.TokenLife == 0 {
		cfg.TokenLife = DefaultTokenLife
	}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.Gateway = New(cfg, r.fleet, b, op, r.metrics, log)
	return r
}

// counted returns the metric for an op and result.
func (r *rig) counted(t *testing.T, op, result string) int {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["op"] == op && labels["result"] == result {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// logBuffer keeps what is logged, and passes it on.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
	w   io.Writer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(b)
	return l.w.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newOperator(t testing.TB) *identity.Operator {
	t.Helper()
	op, err := identity.NewOperator()
	if err != nil {
		t.Fatal(err)
	}
	return op
}

func newKey(t testing.TB) (nkeys.KeyPair, string) {
	t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	key, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return kp, key
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
