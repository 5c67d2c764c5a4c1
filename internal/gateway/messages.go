// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/telemetry"
	"github.com/openwaybill/waybill/internal/wire"
)

const (
	queue         = "waybill"        // servers share the messages among them
	handleTimeout = 30 * time.Second // agents have repeated their request by then
	maxID         = 64               // bytes of a delivery, a session or a nonce
)

// errMalformed marks a message that is not what its subject says.
var errMalformed = errors.New("malformed message")

// route says how the messages of one kind are handled: width of them at once, and share of them for one instance.
//
// When that many are being handled, a hint is dropped: the next one of its kind makes up for it. A request waits in a
// line whose length is bounded; beyond that it is lost, and its agent repeats it. So nothing here grows without bound,
// and nothing is lost that someone would miss.
type route struct {
	op     string
	width  int
	share  int
	hint   bool
	all    bool // every server gets it, not one of them
	handle func(ctx context.Context, id waybill.InstanceID, data []byte) (answer any, err error)
}

// routes lists every kind of message. Whole fleets report and acknowledge at the same moment, and control writes those
// who wait together in one transaction, so these are wide; each pull may hold wire.MaxPullBytes, so these are few.
//
// An agent asks for one thing of a kind at a time, and again only when it was answered or has given up waiting; of
// deliveries it may tell as many as it can hold at once. The answers to a probe have room for more, because two agents
// that share one identity answer in the same moment, and both must be heard: by the server that has asked, whichever that is.
func (g *Gateway) routes() []route {
	return []route{
		{op: wire.OpHello, width: 1024, share: 1, handle: on(g.hello)},
		{op: wire.OpBye, width: 1024, share: 1, handle: on(g.bye)},
		{op: wire.OpPull, width: 64, share: 1, handle: on(g.pull)},
		{op: wire.OpReport, width: 16 << 10, share: wire.MaxOpen, handle: on(g.report)},
		{op: wire.OpAck, width: 16 << 10, share: wire.MaxOpen, hint: true, handle: on(g.ack)},
		{op: wire.OpBeat, width: 4096, share: 1, hint: true, handle: on(g.beat)},
		{op: wire.OpAlive, width: 256, share: 8, hint: true, all: true, handle: on(g.alive)},
	}
}

// on makes a route's handler of a function that takes messages of type M.
func on[M any](
	h func(context.Context, waybill.InstanceID, *M) (any, error),
) func(context.Context, waybill.InstanceID, []byte) (any, error) {
	return func(ctx context.Context, id waybill.InstanceID, data []byte) (any, error) {
		var m M
		if err := wire.Decode(data, &m); err != nil {
			return nil, fmt.Errorf("%w: %w", errMalformed, err)
		}
		return h(ctx, id, &m)
	}
}

// Run takes the agents' messages until ctx ends, then finishes those it has.
func (g *Gateway) Run(ctx context.Context) error {
	var stops sync.WaitGroup
	defer stops.Wait()
	for _, r := range g.routes() {
		// What has begun is finished even though ctx is over: the agent would only send it again.
		stop, err := g.serve(context.WithoutCancel(ctx), r)
		if err != nil {
			return err
		}
		defer stops.Go(stop)
	}
	<-ctx.Done()
	return nil
}

// serve begins to handle the messages of a route. stop returns when no message is being handled any more.
func (g *Gateway) serve(ctx context.Context, r route) (stop func(), err error) {
	l := newLine(r, func(m message) func() { return g.message(ctx, r, m) })
	dropped := g.messages.WithLabelValues(r.op, resultDropped) // whoever floods us is to cost as little as possible
	g.lines.add(r.op, l)
	group := queue
	if r.all {
		group = ""
	}
	unsubscribe, err := g.bus.Serve(wire.AllToServer(r.op), group, func(subject, reply string, data []byte) {
		instance, _, ok := wire.InstanceOf(subject)
		switch {
		case !ok || reply != "" && !wire.OwnsReply(instance, reply):
			g.count(r.op, resultMalformed)
			g.log.Debug("agent message with foreign subject", "op", r.op, "subject", subject, "reply", reply)
		case !l.take(message{instance: instance, reply: reply, data: data}):
			dropped.Inc()
		}
	})
	if err != nil {
		return nil, err
	}
	return func() {
		unsubscribe()
		l.close()
	}, nil
}

// message handles one message and returns what answers it, nil if no answer is due.
func (g *Gateway) message(ctx context.Context, r route, m message) (send func()) {
	ctx, cancel := context.WithTimeout(ctx, handleTimeout)
	defer cancel()
	log := g.log.With("op", r.op, "instance_id", m.instance)
	defer func() {
		if p := recover(); p != nil {
			g.count(r.op, resultFailed)
			log.Error("agent message panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	begun := time.Now()
	answer, err := r.handle(ctx, waybill.InstanceID(m.instance), m.data)
	g.duration.WithLabelValues(r.op).Observe(time.Since(begun).Seconds())
	switch code := waybill.CodeOf(err); {
	case err == nil:
		g.count(r.op, resultOK)
	case errors.Is(err, errMalformed):
		g.count(r.op, resultMalformed)
		log.Debug("agent message not understood", "err", err)
	case code == waybill.Internal || code == waybill.Unavailable:
		g.count(r.op, resultFailed)
		log.Warn("agent message failed", "err", err)
	default:
		g.count(r.op, resultRefused)
		log.Debug("agent message refused", "err", err)
	}
	if answer == nil || m.reply == "" {
		return nil
	}
	body := wire.Encode(answer)
	return func() {
		if err := g.bus.Publish(m.reply, body); err != nil {
			log.Warn("agent not answered", "err", err)
		}
	}
}

// trace begins the span of a message about a delivery, if the agent says that it is traced.
func (g *Gateway) trace(ctx context.Context, op string, id waybill.InstanceID, delivery, parent string) (context.Context, telemetry.Span) {
	ctx, span := g.cfg.Tracer.Message(ctx, parent, op)
	span.String("messaging.system", "nats")
	span.String("messaging.operation.type", "process")
	span.String("waybill.instance.id", string(id))
	span.String("waybill.delivery.id", delivery)
	return ctx, span
}

// malformed returns errMalformed if one of ids is longer than any of ours.
func malformed(ids ...string) error {
	for _, id := range ids {
		if len(id) > maxID {
			return fmt.Errorf("%w: an ID of %d bytes", errMalformed, len(id))
		}
	}
	return nil
}

func (g *Gateway) hello(ctx context.Context, id waybill.InstanceID, m *wire.Hello) (any, error) {
	facts := waybill.Facts{
		Hostname: m.Hostname, MachineID: m.MachineID, IntranetIP: m.IntranetIP, OSType: m.OSType,
		OSVersion: m.OSVersion, AgentVersion: m.AgentVersion, Capability: m.Capability,
	}
	if err := malformed(m.Session); err != nil {
		return nil, err
	}
	if tooLongFacts(facts) {
		return nil, fmt.Errorf("%w: facts", errMalformed)
	}
	err := g.service.Hello(ctx, id, m.Session, facts)
	welcome := &wire.Welcome{Now: g.service.Now().UnixMilli(), BeatMillis: control.BeatEvery.Milliseconds()}
	switch e, _ := errors.AsType[*waybill.Error](err); {
	case err == nil && m.Capability < wire.MinCapability:
		welcome.Refused = fmt.Sprintf("this agent speaks version %d of the protocol and the server needs at least %d; "+
			"install a newer waybill-agent", m.Capability, wire.MinCapability)
	case e != nil && (e.Code == waybill.NotRegistered || e.Code == waybill.Quarantined):
		welcome.Refused = e.Message
	case err != nil:
		return nil, err // passing: the agent asks again
	}
	return welcome, err
}

func (g *Gateway) beat(ctx context.Context, id waybill.InstanceID, m *wire.Beat) (any, error) {
	if len(m.Open) > wire.MaxOpen {
		return nil, fmt.Errorf("%w: %d open deliveries", errMalformed, len(m.Open))
	}
	if err := malformed(append(m.Open, m.Session)...); err != nil {
		return nil, err
	}
	held := make([]waybill.DeliveryID, len(m.Open))
	for i, d := range m.Open {
		held[i] = waybill.DeliveryID(d)
	}
	return nil, g.service.Beat(ctx, id, m.Session, held)
}

func (g *Gateway) bye(ctx context.Context, id waybill.InstanceID, m *wire.Bye) (any, error) {
	if err := malformed(m.Session); err != nil {
		return nil, err
	}
	as := waybill.Stopped // also for the reasons of newer agents: whatever it is, it is gone
	switch m.Reason {
	case wire.ByeStopped:
	case wire.ByeShutDown:
		as = waybill.ShutDown
	case wire.ByeUpgrading:
		as = waybill.Upgrading
	}
	return g.confirm(g.service.Bye(ctx, id, m.Session, as))
}

func (g *Gateway) pull(ctx context.Context, id waybill.InstanceID, m *wire.Pull) (any, error) {
	if err := malformed(m.After); err != nil {
		return nil, err
	}
	page, err := g.service.Pull(ctx, id, waybill.DeliveryID(m.After))
	if err != nil {
		return nil, err
	}
	return &page, nil
}

func (g *Gateway) ack(ctx context.Context, id waybill.InstanceID, m *wire.Ack) (_ any, err error) {
	if err := malformed(m.Delivery); err != nil {
		return nil, err
	}
	ctx, span := g.trace(ctx, wire.OpAck, id, m.Delivery, m.Trace)
	defer func() { span.End(err) }()
	g.service.Ack(ctx, id, waybill.DeliveryID(m.Delivery), moment(m.Started))
	return nil, nil
}

func (g *Gateway) report(ctx context.Context, id waybill.InstanceID, m *wire.Report) (_ any, err error) {
	if err := malformed(m.Delivery, m.Cause); err != nil {
		return nil, err
	}
	if n := len(m.SHA256); n != 0 && n != sha256.Size {
		return nil, fmt.Errorf("%w: a digest of %d bytes", errMalformed, n)
	}
	ctx, span := g.trace(ctx, wire.OpReport, id, m.Delivery, m.Trace)
	defer func() { span.End(err) }()
	o := control.Outcome{
		Delivery: waybill.DeliveryID(m.Delivery), Cause: waybill.Cause(m.Cause), Detail: m.Detail,
		Started: moment(m.Started), Finished: moment(m.Finished), SHA256: m.SHA256, Change: waybill.Change(m.Change),
		Diff: waybill.Diff{Text: m.Diff, Note: m.NoDiff},
	}
	if len(m.Diff) > wire.MaxDiff || len(m.NoDiff) > wire.MaxDetail {
		o.Diff = waybill.Diff{Note: "the machine told of more than is kept"}
	}
	if !o.Change.Known() { // the agent is newer than we are
		o.Change = ""
	}
	if !o.Cause.Known() { // the agent is newer than we are
		o.Detail = fmt.Sprintf("unknown cause %q: %s", o.Cause, o.Detail)
		o.Cause = waybill.CauseAgentBroke
	}
	span.String("waybill.target.cause", string(o.Cause))
	telemetry.Work(ctx, "place file", o.Started, o.Finished)
	return g.confirm(g.service.Report(ctx, id, o))
}

func (g *Gateway) alive(ctx context.Context, id waybill.InstanceID, m *wire.Alive) (any, error) {
	if err := malformed(m.Session, m.Nonce); err != nil {
		return nil, err
	}
	return nil, g.service.Alive(ctx, id, m.Session, m.Nonce)
}

// confirm answers a request unless it failed: then the agent asks again.
func (g *Gateway) confirm(err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return &wire.Confirm{Now: g.service.Now().UnixMilli()}, nil
}

// moment converts Unix milliseconds; zero means not known.
func moment(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis)
}
