// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/bus"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/wire"
)

const region = "cn-hangzhou"

// fixture is a service on a real store and a real bus, with a clock that the test moves.
type fixture struct {
	*Service
	t   *testing.T
	who waybill.Principal
	mu  sync.Mutex
	at  time.Time

	bus      *bus.Bus
	operator *identity.Operator
	trust    *x509.CertPool
	keys     map[string]nkeys.KeyPair // of the machines, by public key
}

func newFixture(t *testing.T, change ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, keys: map[string]nkeys.KeyPair{}, at: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sealer, err := identity.OpenSealer(filepath.Join(dir, "seal.key"))
	check(err)
	st, err := store.Open(t.Context(), store.Config{URL: "sqlite:" + filepath.Join(dir, "waybill.db"), Now: f.clock, AuditKey: AuditKey(sealer)}, log)
	check(err)
	t.Cleanup(func() { st.Close() })
	authority, err := identity.OpenAuthority(dir)
	check(err)
	tlsConfig, err := authority.ServerTLS([]string{"127.0.0.1"})
	check(err)
	f.trust = authority.Pool()
	operator, err := identity.NewOperator()
	check(err)
	f.operator = operator
	b, err := bus.Open(bus.Config{Listen: "127.0.0.1:0", TLS: tlsConfig}, operator, log)
	check(err)
	t.Cleanup(b.Close)
	f.bus = b
	cfg := DefaultConfig()
	cfg.Now = f.clock
	for _, c := range change {
		c(&cfg)
	}
	f.Service, err = New(t.Context(), cfg, st, b, sealer, prometheus.NewRegistry(), log)
	check(err)
	var cred Credential
	created, err := f.Bootstrap(t.Context(), "", "", func(c Credential) error { cred = c; return nil })
	check(err)
	if !created {
		t.Fatal("no account was made")
	}
	f.who = waybill.Principal{Account: cred.Key.Account, Kind: waybill.AccountActor, AccessKey: cred.Key.ID}
	return f
}

// act is an act of f.who in the test's region.
func (f *fixture) act() *waybill.Act { return actOf(f.who) }

// other makes another account and returns it.
func (f *fixture) other() waybill.Principal {
	f.t.Helper()
	a, cred, err := (&Operator{Name: "root", Store: f.store, Sealer: f.sealer}).CreateAccount(f.t.Context(), "other")
	if err != nil {
		f.t.Fatal(err)
	}
	return waybill.Principal{Account: a.ID, Kind: waybill.AccountActor, AccessKey: cred.Key.ID}
}

func actOf(who waybill.Principal) *waybill.Act {
	return &waybill.Act{Principal: who, Action: "ecs:Test", Region: region}
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = f.at.Add(d)
}

// enrol enrols a machine that is online.
func (f *fixture) enrol() waybill.InstanceID {
	f.t.Helper()
	i := f.enrolAs(waybill.Activation{Region: region})
	if err := f.Hello(f.t.Context(), i.ID, "session", waybill.Facts{Capability: wire.Capability}); err != nil {
		f.t.Fatal(err)
	}
	return i.ID
}

func (f *fixture) enrolAs(a waybill.Activation) waybill.Instance {
	f.t.Helper()
	created, err := f.CreateActivation(f.t.Context(), f.act(), a)
	if err != nil {
		f.t.Fatal(err)
	}
	i, err := f.Enroll(f.t.Context(), EnrollRequest{Activation: created.ID, Code: created.Code, PublicKey: f.publicKey(), From: netip.MustParseAddr("192.0.2.1")})
	if err != nil {
		f.t.Fatal(err)
	}
	return i
}

func (f *fixture) publicKey() string {
	f.t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		f.t.Fatal(err)
	}
	key, err := kp.PublicKey()
	if err != nil {
		f.t.Fatal(err)
	}
	f.keys[key] = kp
	return key
}

// listen connects as an instance and returns the deliveries that are published to it.
func (f *fixture) listen(id waybill.InstanceID) <-chan wire.Deliver {
	f.t.Helper()
	i, err := f.store.Instance(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	token, err := f.operator.AgentJWT(id, i.PublicKey, time.Hour, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	nc, err := nats.Connect("tls://"+f.bus.Addr().String(), nats.TLSHandshakeFirst(),
		nats.Secure(&tls.Config{RootCAs: f.trust, MinVersion: tls.VersionTLS12}),
		nats.UserJWT(func() (string, error) { return token, nil }, f.keys[i.PublicKey].Sign))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(nc.Close)
	got := make(chan wire.Deliver, 16)
	_, err = nc.Subscribe(wire.ToAgent(string(id), wire.OpDeliver), func(m *nats.Msg) {
		var d wire.Deliver
		if err := wire.Decode(m.Data, &d); err != nil {
			f.t.Error(err)
		}
		got <- d
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		f.t.Fatal(err)
	}
	return got
}

func request(instances ...waybill.InstanceID) SendRequest {
	return SendRequest{Targets: Targets{Region: region, Instances: instances}, File: waybill.FileSpec{Name: "n", TargetDir: "/d"}, Content: "hello"}
}

func (f *fixture) send(r SendRequest) waybill.DeliveryID {
	f.t.Helper()
	id, err := f.Send(f.t.Context(), f.act(), r)
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

func (f *fixture) target(id waybill.DeliveryID) waybill.Target {
	f.t.Helper()
	l, err := f.Deliveries(f.t.Context(), f.who, DeliveryFilter{Region: region, ID: id}, Page{Size: 1})
	if err != nil || len(l.Items) != 1 {
		f.t.Fatal(l, err)
	}
	return l.Items[0].Targets[0]
}

func (f *fixture) report(id waybill.DeliveryID, i waybill.InstanceID, cause waybill.Cause, finished time.Time) {
	f.t.Helper()
	sum := sha256.Sum256([]byte("hello"))
	if err := f.Report(f.t.Context(), i, Outcome{Delivery: id, Cause: cause, Finished: finished, SHA256: sum[:]}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) sweepNow() {
	f.t.Helper()
	if err := f.sweep(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

func TestALateReportCorrectsWhatWasInferred(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name        string
		ack         bool
		finished    time.Duration // after the delivery was sent; its deadline is at 60 s
		wantBefore  waybill.Cause
		wantStatus  waybill.Status
		wantOverall waybill.Counts
	}{
		{"a timeout, by work that ended in time", true, 59 * time.Second, waybill.CauseDeadline, waybill.Success, waybill.Counts{Success: 1}},
		{"a timeout, not by work that ended late", true, 61 * time.Second, waybill.CauseDeadline, waybill.Timeout, waybill.Counts{Failed: 1}},
		{"silence, by work that ended in time", false, 59 * time.Second, waybill.CauseAgentSilent, waybill.Success, waybill.Counts{Success: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			i := f.enrol()
			sent := f.clock()
			id := f.send(request(i))
			if tc.ack {
				f.Ack(t.Context(), i, id, sent)
			}
			f.advance(61 * time.Second)
			f.sweepNow()
			if got := f.target(id); got.Status.Final() {
				t.Fatalf("ended within the grace: %+v", got)
			}
			f.advance(2 * time.Second)
			f.sweepNow()
			if got := f.target(id); got.Cause != tc.wantBefore || got.Detail == "" {
				t.Fatalf("at the deadline: %+v", got)
			}
			for range 2 { // twice changes nothing more
				f.report(id, i, waybill.NoCause, sent.Add(tc.finished))
			}
			if got := f.target(id); got.Status != tc.wantStatus {
				t.Errorf("after the report: %+v", got)
			}
			l, err := f.Deliveries(t.Context(), f.who, DeliveryFilter{Region: region}, Page{Size: 1})
			if err != nil || l.Items[0].Counts != tc.wantOverall {
				t.Errorf("counts %+v, %v", l.Items[0].Counts, err)
			}
		})
	}
}

func TestVerdictAtTheDeadline(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		leave func(f *fixture, i waybill.InstanceID)
		want  waybill.Cause
	}{
		{"silent", func(*fixture, waybill.InstanceID) {}, waybill.CauseAgentSilent},
		{"stopped meanwhile", bye(waybill.Stopped), waybill.CauseAgentStopped},
		{"shut down meanwhile", bye(waybill.ShutDown), waybill.CauseShutDown},
		{"upgrading", bye(waybill.Upgrading), waybill.CauseUpgrading},
		{"without a channel", bye(waybill.NoChannel), waybill.CauseAgentSilent},
		{"account disabled", func(f *fixture, _ waybill.InstanceID) {
			if err := f.store.SetAccountDisabled(f.t.Context(), f.who.Account, true); err != nil {
				f.t.Fatal(err)
			}
		}, waybill.CauseAccountGone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			i := f.enrol()
			id := f.send(request(i))
			f.advance(time.Second)
			tc.leave(f, i)
			f.advance(2 * time.Minute)
			f.sweepNow()
			if got := f.target(id); got.Cause != tc.want || got.Status != tc.want.Status() {
				t.Errorf("ended as %s/%s (%s), want %s", got.Status, got.Cause, got.Detail, tc.want)
			}
			if n := testutil.ToFloat64(f.metrics.ended.WithLabelValues(string(tc.want.Status()), string(tc.want))); n != 1 {
				t.Errorf("counted %v times", n)
			}
		})
	}
}

// TestWithoutAChannel sends to an agent that cannot be told: while its heartbeats come it may fetch in time, after two
// minutes without one it is as good as stopped.
func TestWithoutAChannel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.enrol()
	bye(waybill.NoChannel)(f, i)
	f.advance(waybill.SilentAfter + time.Second)
	dial := f.clock().Add(time.Minute).Truncate(time.Second)
	f.Pulse(i, dial)
	f.writeBeats(t.Context())
	if got := f.target(f.send(request(i))); got.Status != waybill.Pending {
		t.Errorf("a moment after a heartbeat: %s, %s", got.Status, got.Detail)
	}
	if l, err := f.Instances(t.Context(), f.who, waybill.InstanceFilter{Region: region, IDs: []waybill.InstanceID{i}}, Page{Size: 1}); err != nil ||
		len(l.Items) != 1 || !l.Items[0].NextDial.Equal(dial) || !l.Items[0].Connected(f.clock()) {
		t.Errorf("instance %+v, %v", l.Items, err)
	}
	f.advance(waybill.SilentAfter + time.Second)
	got := f.target(f.send(request(i)))
	if got.Status != waybill.Aborted || got.Cause != waybill.CauseAgentStopped || !strings.Contains(got.Detail, "systemctl start") {
		t.Errorf("two minutes later: %s %s, %s", got.Status, got.Cause, got.Detail)
	}
}

// TestStartedTellsTheFirstTime hands deliveries out twice.
func TestStartedTellsTheFirstTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i, other := f.enrol(), f.enrol()
	a, b, foreign := f.send(request(i)), f.send(request(i)), f.send(request(other))
	for round, want := range [][]bool{{true}, {false, true, false}} {
		first, _, err := f.Started(t.Context(), i, []waybill.DeliveryID{a, b, foreign}[:len(want)])
		if err != nil || !slices.Equal(first, want) {
			t.Errorf("round %d: %v, %v; want %v", round, first, err, want)
		}
	}
	if got := f.target(foreign); got.Status != waybill.Pending {
		t.Errorf("another instance's: %s", got.Status)
	}
}

func bye(as waybill.Presence) func(*fixture, waybill.InstanceID) {
	return func(f *fixture, i waybill.InstanceID) {
		if err := f.Bye(f.t.Context(), i, "session", as); err != nil {
			f.t.Fatal(err)
		}
	}
}

// TestSweepTakesManyInSteps ends more targets than one step holds.
func TestSweepTakesManyInSteps(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Limits.Instances = 2000 })
	i := f.enrol()
	for range sweepBatch + 10 {
		r := request(i)
		r.Timeout = 10 * time.Second
		f.send(r)
	}
	f.advance(time.Minute)
	f.sweepNow()
	open, err := f.store.OpenTargets(t.Context(), i, 10)
	if err != nil || len(open) != 0 {
		t.Errorf("%d left, %v", len(open), err)
	}
}

// TestSending looks that whoever is asked before a delivery is accepted can still change what it meets, is told what
// became of it, and is asked for nothing that is refused anyway or comes again.
func TestSending(t *testing.T) {
	t.Parallel()
	var f *fixture
	var asked []waybill.DeliveryID
	var ended []bool
	var refuse error
	f = newFixture(t, func(c *Config) {
		c.Sending = func(ctx context.Context, d *waybill.Delivery, to []waybill.InstanceID) (func(bool), error) {
			asked = append(asked, d.ID)
			if err := f.Bye(ctx, to[0], "session", waybill.Stopped); err != nil {
				return nil, err
			}
			return func(stored bool) { ended = append(ended, stored) }, refuse
		}
	})
	i := f.enrol()
	act := f.act()
	act.Token = "once"
	id, err := f.Send(t.Context(), act, request(i, i))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.target(id); got.Cause != waybill.CauseAgentStopped {
		t.Errorf("the change came too late: %+v", got)
	}
	if again, err := f.Send(t.Context(), act, request(i, i)); again != id || err != nil {
		t.Errorf("repeated: %s, %v", again, err)
	}
	bad := request(i)
	bad.File.Name = ""
	if _, err := f.Send(t.Context(), f.act(), bad); err == nil {
		t.Error("a file without a name is accepted")
	}
	if _, err := f.Send(t.Context(), f.act(), request("mi-none")); waybill.CodeOf(err) != waybill.InstanceNotFound {
		t.Errorf("unknown instance: %v", err)
	}
	refuse = errors.New("no")
	if _, err := f.Send(t.Context(), f.act(), request(i)); !errors.Is(err, refuse) {
		t.Errorf("refused: %v", err)
	}
	if len(asked) != 2 || asked[0] != id || !slices.Equal(ended, []bool{true}) {
		t.Errorf("asked for %q, ended %v", asked, ended)
	}
}

func TestSendDefaultsAndLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.enrol()
	r := request(i, i, i) // repeated ones count once
	r.Timeout = time.Second
	f.send(r)
	l, err := f.Deliveries(t.Context(), f.who, DeliveryFilter{Region: region}, Page{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	d := l.Items[0]
	if d.File.Owner != "root" || d.File.Group != "root" || d.File.Mode != "0644" || d.ContentType != waybill.PlainText ||
		d.Timeout != 10*time.Second || d.TargetCount != 1 || d.Content != "hello" {
		t.Errorf("defaults: %+v", d)
	}
	if d.Account != f.who.Account {
		t.Errorf("account %s", d.Account)
	}
	for name, tc := range map[string]struct {
		change func(*SendRequest)
		want   waybill.Code
	}{
		"no instances":      {func(r *SendRequest) { r.Instances = nil }, waybill.InstancesMissing},
		"too many":          {func(r *SendRequest) { r.Instances = make([]waybill.InstanceID, 51) }, waybill.InstancesTooMany},
		"none known":        {func(r *SendRequest) { r.Instances = []waybill.InstanceID{"x"} }, waybill.InstanceNotFound},
		"another region":    {func(r *SendRequest) { r.Region = "cn-beijing" }, waybill.InstanceNotFound},
		"long timeout":      {func(r *SendRequest) { r.Timeout = 24*time.Hour + 1 }, waybill.TimeoutTooLong},
		"group of no one's": {func(r *SendRequest) { r.ResourceGroup = "rg" }, waybill.ResourceGroupNotFound},
	} {
		r := request(i)
		tc.change(&r)
		if _, err := f.Send(t.Context(), f.act(), r); waybill.CodeOf(err) != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}

// TestAccountsSeeNothingOfEachOther asks, as one account, for what belongs to another: the answers are those for what
// does not exist.
func TestAccountsSeeNothingOfEachOther(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.enrol()
	id := f.send(request(i))
	a, err := f.CreateActivation(t.Context(), f.act(), waybill.Activation{Region: region})
	if err != nil {
		t.Fatal(err)
	}
	other, ctx := f.other(), t.Context()
	act := func() *waybill.Act { return actOf(other) }
	for name, try := range map[string]func() error{
		"send":       func() error { _, err := f.Send(ctx, act(), request(i)); return err },
		"rename":     func() error { _, err := f.RenameInstance(ctx, act(), i, "name"); return err },
		"deregister": func() error { _, err := f.Deregister(ctx, act(), i); return err },
		"disable":    func() error { _, err := f.DisableActivation(ctx, act(), a.ID); return err },
		"delete":     func() error { _, err := f.DeleteActivation(ctx, act(), a.ID); return err },
		"key":        func() error { return f.SetAccessKey(ctx, act(), "", f.who.AccessKey, false) },
		"delete key": func() error { return f.DeleteAccessKey(ctx, act(), "", f.who.AccessKey) },
	} {
		err := try()
		if err == nil || !strings.Contains(string(waybill.CodeOf(err)), "not-found") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l, err := f.Deliveries(ctx, other, DeliveryFilter{Region: region, ID: id}, Page{Size: 1}); err != nil || len(l.Items)+int(l.Total) != 0 {
		t.Errorf("deliveries: %+v, %v", l, err)
	}
	if l, err := f.Instances(ctx, other, InstanceFilter{Region: region}, Page{Size: 1}); err != nil || len(l.Items)+int(l.Total) != 0 {
		t.Errorf("instances: %+v, %v", l, err)
	}
	if l, err := f.Activations(ctx, other, ActivationFilter{Region: region}, Page{Size: 1}); err != nil || len(l.Items)+int(l.Total) != 0 {
		t.Errorf("activations: %+v, %v", l, err)
	}
}

// TestDeregisteringRacesSending deregisters an instance between the moment that Send looks at it and the one that it
// writes: the target must not stay open until its deadline, which may be a day away.
func TestDeregisteringRacesSending(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.enrol()
	id := f.send(request(i))
	if err := f.store.LeaveFleet(t.Context(), i, waybill.Deregistered); err != nil { // and the server dies before the rest
		t.Fatal(err)
	}
	if again, err := f.repeat(t.Context(), id); again || err != nil {
		t.Errorf("repeated: %v, %v", again, err)
	}
	if got := f.target(id); got.Cause != waybill.CauseReleased {
		t.Errorf("ended as %+v", got)
	}
}

// TestDeregisteringGoesOnWithoutItsCaller hangs up in the middle.
func TestDeregisteringGoesOnWithoutItsCaller(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.enrol()
	id := f.send(request(i))
	instance, err := f.instance(t.Context(), f.who, region, i)
	if err != nil {
		t.Fatal(err)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	f.log = slog.New(&onLog{fn: hangUp}) // leave says when the instance has left
	if err := f.leave(ctx, f.store, instance, waybill.Deregistered, waybill.CauseReleased, "gone"); err != nil {
		t.Errorf("leave: %v", err)
	}
	if got := f.target(id); got.Cause != waybill.CauseReleased {
		t.Errorf("ended as %+v", got)
	}
}

// onLog calls fn when something is logged.
type onLog struct {
	slog.Handler
	fn func()
}

func (h *onLog) Enabled(context.Context, slog.Level) bool  { return true }
func (h *onLog) Handle(context.Context, slog.Record) error { h.fn(); return nil }

// TestProbes asks ever again, as a compromised agent that says hello as ever another session might make us do.
func TestProbes(t *testing.T) {
	t.Parallel()
	var p probes
	for range 10_000 {
		p.open("m")
	}
	if len(p.m) != 1 {
		t.Errorf("%d questions are open", len(p.m))
	}
	first := p.open("m")
	if p.answer("m", "killed", first) {
		t.Error("one answer proved a clone")
	}
	second := p.open("m") // its successor has said hello
	for _, nonce := range []string{second, second, first} {
		if p.answer("m", "successor", nonce) {
			t.Error("an agent that was restarted counts as a clone")
		}
	}
	if p.answer("other", "clone", second) || !p.answer("m", "clone", second) {
		t.Error("two different answers to one question prove a clone, and nothing else does")
	}
}

// TestAnAgentAnswersForItselfOnly reports, acknowledges and pulls as a machine that is no target.
func TestAnAgentAnswersForItselfOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	target, other := f.enrol(), f.enrol()
	id := f.send(request(target))
	f.Ack(t.Context(), other, id, f.clock())
	f.report(id, other, waybill.CauseExists, f.clock())
	if got := f.target(id); got.Status != waybill.Pending {
		t.Errorf("another machine moved it to %s", got.Status)
	}
	if p, err := f.Pull(t.Context(), other, ""); err != nil || len(p.Deliveries) != 0 {
		t.Errorf("another machine pulled %d, %v", len(p.Deliveries), err)
	}
}

func TestPullGivesPagesWithinOneMessage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.enrol()
	var want []string
	for n := range wire.MaxPull + 3 {
		r := request(i)
		r.Content = strings.Repeat("x", 24000)
		r.File.Name = fmt.Sprint(n)
		want = append(want, string(f.send(r)))
	}
	var got []string
	after := waybill.DeliveryID("")
	for {
		p, err := f.Pull(t.Context(), i, after)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(wire.Encode(p)); n > wire.MaxMessage {
			t.Errorf("a reply of %d bytes", n)
		}
		for _, d := range p.Deliveries {
			got = append(got, d.Delivery)
		}
		if !p.More {
			break
		}
		after = waybill.DeliveryID(got[len(got)-1])
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("pulled %d in this order: %v", len(got), got)
	}
}

// TestALostMessageIsRepeated looks that what an agent does not acknowledge is published again by itself, and no more once
// it is acknowledged.
func TestALostMessageIsRepeated(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.enrol()
	got := f.listen(i)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f.runRepeats(ctx) }()
	id := f.send(request(i))
	receive(t, got, id) // at once
	f.repeatsPass(repeatFirst)
	receive(t, got, id) // again
	f.Ack(t.Context(), i, id, f.clock())
	f.changes.Flush()
	if again, err := f.repeat(t.Context(), id); again || err != nil {
		t.Errorf("repeated after the acknowledgement: %v, %v", again, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// repeatsPass lets time pass and wakes whoever waits for it: the fixture's clock does not run by itself.
func (f *fixture) repeatsPass(d time.Duration) {
	f.advance(d)
	select {
	case f.repeats.alarm.wake <- struct{}{}:
	default:
	}
}

func receive(t *testing.T, from <-chan wire.Deliver, id waybill.DeliveryID) {
	t.Helper()
	select {
	case d := <-from:
		if d.Delivery != string(id) {
			t.Errorf("received %s, want %s", d.Delivery, id)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s was not published", id)
	}
}

// TestABeatBringsWhatTheAgentLacks sends heartbeats that name what the agent holds.
func TestABeatBringsWhatTheAgentLacks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.enrol()
	has := f.send(request(i))
	lacks := f.send(request(i))
	f.advance(repeatFirst + time.Second)
	got := f.listen(i)
	if err := f.Beat(t.Context(), i, "session", []waybill.DeliveryID{has}); err != nil {
		t.Fatal(err)
	}
	f.writeBeats(t.Context())
	receive(t, got, lacks)
	if err := f.bus.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(got) != 0 {
		t.Errorf("%d more were sent", len(got))
	}
}

func TestEnrolNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := waybill.Activation{InstanceCount: 10}
	for _, tc := range []struct {
		req    EnrollRequest
		prefix string
		count  int
		before int
		want   string
	}{
		{EnrollRequest{Name: "own"}, "web", 10, 0, "own"},
		{EnrollRequest{}, "web", 10, 0, "web-001"},
		{EnrollRequest{}, "web", 1000, 41, "web-0042"},
		{EnrollRequest{Facts: waybill.Facts{Hostname: "host-7"}}, "", 10, 0, "host-7"},
		{EnrollRequest{Facts: waybill.Facts{Hostname: "7 of 9"}}, "", 10, 6, "instance-007"},
	} {
		a.InstanceName, a.InstanceCount = tc.prefix, tc.count
		if got := instanceName(tc.req, a, tc.before); got != tc.want {
			t.Errorf("%+v: %s, want %s", tc, got, tc.want)
		}
	}
	group, err := f.CreateResourceGroup(t.Context(), f.act(), "web", "")
	if err != nil {
		t.Fatal(err)
	}
	act, err := f.CreateActivation(t.Context(), f.act(), waybill.Activation{
		Region: region, Tags: []waybill.Tag{{Key: "env", Value: "prod"}, {Key: "team", Value: "a"}}, ResourceGroup: group.ID,
	})
	if err != nil {
		t.Fatal(err)
	}
	code := act.Code
	req := EnrollRequest{Activation: act.ID, Code: code, PublicKey: f.publicKey(), Tags: []waybill.Tag{{Key: "env", Value: "test"}, {Key: "rack", Value: "7"}}}
	i, err := f.Enroll(t.Context(), req)
	if err != nil || i.ResourceGroup != group.ID || len(i.Tags) != 3 || i.Tags[0].Value != "prod" || i.Tags[2].Value != "7" {
		t.Errorf("instance %+v, %v", i, err)
	}
	again, err := f.Enroll(t.Context(), req)
	if err != nil || again.ID != i.ID {
		t.Errorf("the same key again: %s, %v; want %s", again.ID, err, i.ID)
	}
	other, err := f.CreateActivation(t.Context(), f.act(), waybill.Activation{Region: region})
	if err != nil {
		t.Fatal(err)
	}
	taken := EnrollRequest{Activation: other.ID, Code: other.Code, PublicKey: req.PublicKey}
	if _, err := f.Enroll(t.Context(), taken); waybill.CodeOf(err) != waybill.EnrolRefused {
		t.Errorf("the same key with another activation: %v", err)
	}
	l, err := f.AuditRecords(t.Context(), f.who, waybill.AuditFilter{Action: actionEnrol, OldFirst: true}, Page{Size: 10})
	if err != nil {
		t.Fatal(err)
	}
	var recorded []string
	for _, r := range l.Items {
		recorded = append(recorded, r.Subject+" "+r.Result)
	}
	if want := []string{string(i.ID) + " " + waybill.AuditOK, string(i.ID) + " " + waybill.AuditRepeated}; !slices.Equal(recorded, want) {
		t.Errorf("recorded %q, want %q", recorded, want)
	}
	for name, bad := range map[string]EnrollRequest{
		"wrong code": {Activation: act.ID, Code: code + "x", PublicKey: f.publicKey()},
		"unknown ID": {Activation: "none", Code: code, PublicKey: f.publicKey()},
	} {
		if _, err := f.Enroll(t.Context(), bad); waybill.CodeOf(err) != waybill.EnrolRefused || !strings.Contains(err.Error(), "ID or the code is wrong") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRetentionRemovesWhatIsTooOldOrTooMuch(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.RetainCount = 3 })
	i := f.enrol()
	if err := f.Bye(t.Context(), i, "session", waybill.Stopped); err != nil {
		t.Fatal(err)
	}
	count := func() int64 {
		l, err := f.Deliveries(t.Context(), f.who, DeliveryFilter{Region: region}, Page{Size: 1})
		if err != nil {
			t.Fatal(err)
		}
		return l.Total
	}
	for range 5 {
		f.send(request(i)) // ends at once: the agent is stopped
	}
	if err := f.retain(t.Context()); err != nil || count() != 3 {
		t.Errorf("%d left, %v; want 3", count(), err)
	}
	f.advance(15 * 24 * time.Hour)
	f.send(request(i))
	if err := f.retain(t.Context()); err != nil || count() != 1 {
		t.Errorf("%d left, %v; want the new one", count(), err)
	}
}

func TestKeysGuardThemselves(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.AccessKeys = 2 })
	ctx := t.Context()
	for name, try := range map[string]error{
		"disable": f.SetAccessKey(ctx, f.act(), "", f.who.AccessKey, false), "delete": f.DeleteAccessKey(ctx, f.act(), "", f.who.AccessKey),
	} {
		if waybill.CodeOf(try) != waybill.Forbidden {
			t.Errorf("%s itself: %v", name, try)
		}
	}
	k, secret, err := f.CreateAccessKey(ctx, f.act(), "")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := f.Credential(ctx, k.ID, ""); err != nil || c.Secret != secret || c.Key.Account != f.who.Account {
		t.Errorf("credential %+v, %v", c.Key, err)
	}
	if _, _, err := f.CreateAccessKey(ctx, f.act(), ""); waybill.CodeOf(err) != waybill.AccessKeyQuota {
		t.Errorf("a third key: %v", err)
	}
	if created, err := f.Bootstrap(ctx, "id", "", nil); created || err != nil {
		t.Errorf("bootstrap of a database with accounts does nothing: %v, %v", created, err)
	}
}

func TestConfigValidateNamesEveryProblem(t *testing.T) {
	t.Parallel()
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	c.Regions, c.Limits.Instances, c.RetainFor, c.Limits.ContentBytes = nil, 0, time.Hour, 1<<30
	err := c.Validate()
	for _, want := range []string{"region", "instances of a delivery", "kept for 1h", "content bytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing on %q: %v", want, err)
		}
	}
}
