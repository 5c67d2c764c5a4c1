// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/openwaybill/waybill/internal/wire"
)

const (
	requestTimeout = 5 * time.Second  // for one answer of the server
	pingInterval   = 20 * time.Second // how often to ask whether the other end is there
	maxPings       = 2                // unanswered: the connection is dead
	defaultBeat    = time.Minute
	minBeat        = time.Second

	pushBuffer    = 256 // messages received and not looked at; more are dropped, and asked for again
	controlBuffer = 64
	writeBuffer   = 4 << 10 // bytes; an idle agent should be small
)

// errRenewed ends a session for one with the new token.
var errRenewed = errors.New("the token was renewed")

// confirmInbox is the element of an inbox subject before the delivery that a Confirm is about.
const confirmInbox = "confirm"

// session is one connection to the server, from Hello to its end. Its fields belong to the goroutine of serve, but for
// those that take and pull use.
type session struct {
	a        *Agent
	instance string
	conn     link
	server   string // what it is connected to, for people
	log      *slog.Logger

	pushes  chan *nats.Msg // Deliver
	control chan *nats.Msg // Probe, Cancel and Confirm
	lost    chan error     // why the connection ended

	tasks sync.WaitGroup // hello, pull and renew: each ends with the session
}

// link makes a connection and serves it until it ends. welcomed says whether the server accepted it.
func (a *Agent) link(ctx, work context.Context) (welcomed bool, err error) {
	reg := a.registration()
	s := &session{
		a: a, instance: reg.Instance, log: a.log,
		pushes:  make(chan *nats.Msg, pushBuffer),
		control: make(chan *nats.Msg, controlBuffer),
		lost:    make(chan error, 1),
	}
	conn, err := s.connect(ctx, &reg)
	if err != nil {
		return false, fmt.Errorf("connect to %s: %w", strings.Join(reg.NATS, ", "), err)
	}
	defer conn.Close()
	s.conn = conn
	if fate := a.cfg.Hooks.Message; fate != nil {
		s.conn = &unsteady{conn, fate}
	}
	for _, sub := range []struct {
		subject, op string
		ch          chan *nats.Msg
	}{
		{wire.ToAgent(s.instance, wire.OpDeliver), wire.OpDeliver, s.pushes},
		{wire.ToAgent(s.instance, wire.OpProbe), wire.OpProbe, s.control},
		{wire.ToAgent(s.instance, wire.OpCancel), wire.OpCancel, s.control},
		{s.confirmSubject("*"), OpConfirm, s.control},
	} {
		if err := s.subscribe(conn, sub.subject, sub.op, sub.ch); err != nil {
			return false, fmt.Errorf("subscribe: %w", err)
		}
	}
	s.server = conn.ConnectedUrlRedacted()
	return s.serve(ctx, work)
}

// subscribe makes messages arrive in ch. What does not fit into it is dropped, and asked for again.
func (s *session) subscribe(conn *nats.Conn, subject, op string, ch chan *nats.Msg) error {
	fate := s.a.cfg.Hooks.Message
	if fate == nil {
		_, err := conn.ChanSubscribe(subject, ch)
		return err
	}
	_, err := conn.Subscribe(subject, func(m *nats.Msg) {
		fate(Message{Op: op, Data: m.Data}).after(func() {
			select {
			case ch <- m:
			default:
				s.a.exec.miss()
			}
		})
	})
	return err
}

func (s *session) confirmSubject(delivery string) string {
	return wire.InboxPrefix(s.instance) + "." + confirmInbox + "." + delivery
}

// dialFunc lets nats.go use our dialer, under the context of the attempt.
type dialFunc func(network, addr string) (net.Conn, error)

func (f dialFunc) Dial(network, addr string) (net.Conn, error) { return f(network, addr) }

// connect opens the connection. nats.go is not to reconnect by itself: every connection begins with Hello and Pull, and
// a lost one may mean that the token must be renewed first.
func (s *session) connect(ctx context.Context, reg *registration) (*nats.Conn, error) {
	config, err := clientTLS(reg.CA)
	if err != nil {
		return nil, err
	}
	// nats.go knows no context. Until it has connected, the end of ctx closes the connection under it.
	var stop []func() bool
	defer func() {
		for _, f := range stop {
			f()
		}
	}()
	dial := func(network, addr string) (net.Conn, error) {
		conn, err := s.a.dialer.DialContext(ctx, network, addr)
		if err == nil {
			stop = append(stop, context.AfterFunc(ctx, func() { conn.Close() }))
		}
		return conn, err
	}
	var refused error // only touched by nats.go's one callback goroutine
	return nats.Connect(strings.Join(reg.NATS, ","),
		nats.Name("waybill-agent "+reg.Instance),
		nats.UserJWT(s.a.token, s.a.sign),
		nats.Secure(config),
		nats.TLSHandshakeFirst(),
		nats.SetCustomDialer(dialFunc(dial)),
		nats.SkipHostLookup(),
		nats.CustomInboxPrefix(wire.InboxPrefix(reg.Instance)),
		nats.UseOldRequestStyle(), // the new style keeps a goroutine for answers that an idle agent does not await
		nats.NoReconnect(),
		nats.Timeout(dialTimeout),
		nats.PingInterval(s.a.ping),
		nats.MaxPingsOutstanding(maxPings),
		nats.FlusherTimeout(requestTimeout),
		nats.WriteBufferSize(writeBuffer),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			switch {
			case errors.Is(err, nats.ErrSlowConsumer):
				s.a.exec.miss()
			case isAuthError(err):
				refused = err
			default:
				s.log.Warn("the bus complains", "err", err)
			}
		}),
		nats.ClosedHandler(func(c *nats.Conn) {
			s.lost <- cmp.Or(refused, c.LastError(), errClosed)
		}),
	)
}

var errClosed = errors.New("the connection ended")

// isAuthError reports whether the bus refused the agent's token.
func isAuthError(err error) bool {
	for _, auth := range []error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
	} {
		if errors.Is(err, auth) {
			return true
		}
	}
	return false
}

// serve does all that the agent does while it is connected, until ctx or the connection ends.
func (s *session) serve(ctx, work context.Context) (welcomed bool, err error) {
	own, cancel := context.WithCancel(ctx) // of the goroutines of this session
	defer s.tasks.Wait()
	defer cancel()
	var (
		welcome = make(chan *wire.Welcome, 1)
		pulled  = make(chan error, 1)
		renewed = make(chan error, 1)

		older   = true // deliveries are to be pulled first …
		pulling bool
		waiting queue // … and what is pushed meanwhile waits
		beatGap time.Duration
		beat    = newStoppedTimer()
		renew   = newStoppedTimer()
		resend  = newStoppedTimer()
	)
	defer beat.Stop()
	defer renew.Stop()
	defer resend.Stop()
	pull := func() {
		pulling, older = true, true
		s.tasks.Go(func() { pulled <- s.pull(own, work) })
	}

	s.tasks.Go(func() {
		if w, err := s.hello(own); err == nil {
			welcome <- w
		}
	})
	for {
		changed := s.a.exec.watch()
		if welcomed {
			s.report(resend)
			if !pulling && s.a.exec.takeMissed() {
				pull()
			}
		}
		select {
		case <-ctx.Done():
			if welcomed {
				s.bye(context.WithoutCancel(ctx))
			}
			return welcomed, ctx.Err()
		case err := <-s.lost:
			return welcomed, err
		case w := <-welcome:
			if w.Refused != "" {
				return false, fmt.Errorf("the server refuses this agent: %s", w.Refused)
			}
			welcomed = true
			s.log.Info("connected", "server", s.server)
			s.a.note(linkState{Connected: true})
			s.a.exec.reconnected()
			s.a.exec.miss() // whatever was sent while nobody listened
			beatGap = beatInterval(w)
			beat.Reset(s.a.cfg.Backoff.jitter(beatGap))
			s.scheduleRenewal(renew)
		case err := <-pulled:
			if err != nil {
				continue // the session is ending
			}
			pulling, older = false, false
			for _, d := range waiting.take() {
				s.take(work, d, time.Time{})
			}
		case m := <-s.pushes:
			if d := s.pushed(m); d == nil {
				continue
			} else if !older {
				s.take(work, d, time.Time{})
			} else if !waiting.add(d, len(m.Data)) {
				s.a.exec.miss() // the next pull brings it
			}
		case m := <-s.control:
			s.controlled(m)
		case <-beat.C:
			s.publish(wire.OpBeat, &wire.Beat{Session: s.a.session, Open: s.a.exec.open()})
			s.a.exec.tidy()
			beat.Reset(s.a.cfg.Backoff.jitter(beatGap))
		case <-renew.C:
			s.tasks.Go(func() { renewed <- s.a.renew(own) })
		case err := <-renewed:
			if err == nil {
				err = errRenewed
			}
			return welcomed, err
		case <-resend.C:
		case <-changed:
		}
	}
}

// queue is what was pushed and waits. It is bounded in bytes: what is pushed while there is no room for it may be many
// times what an agent is to need.
type queue struct {
	list  []*wire.Deliver
	bytes int
}

const maxPushed = 1 << 20 // bytes of pushed messages that wait

func (q *queue) add(d *wire.Deliver, bytes int) bool {
	if q.bytes+bytes > maxPushed {
		return false
	}
	q.list, q.bytes = append(q.list, d), q.bytes+bytes
	return true
}

func (q *queue) take() []*wire.Deliver {
	list := q.list
	*q = queue{}
	return list
}

func newStoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func beatInterval(w *wire.Welcome) time.Duration {
	if w.BeatMillis <= 0 {
		return defaultBeat
	}
	return max(time.Duration(w.BeatMillis)*time.Millisecond, minBeat)
}

// scheduleRenewal sets t to when the token should be replaced.
func (s *session) scheduleRenewal(t *time.Timer) {
	reg := s.a.registration()
	at, err := reg.renewAt()
	if err != nil {
		s.log.Warn("the token is used until it is refused", "err", err)
		return
	}
	t.Reset(max(s.a.cfg.Backoff.jitter(at.Sub(s.a.now())), minBeat))
}

// hello says who is here, until the server answers.
func (s *session) hello(ctx context.Context) (*wire.Welcome, error) {
	f := s.a.facts
	hello := wire.Hello{
		Session: s.a.session, Capability: s.a.cfg.Hooks.capability(), AgentVersion: s.a.cfg.Version,
		Hostname: f.Hostname, MachineID: f.MachineID, IntranetIP: f.IntranetIP,
		OSType: f.OSType, OSVersion: f.OSVersion,
	}
	w, asked, err := insist[wire.Welcome](ctx, s, wire.OpHello, &hello)
	if err != nil {
		return nil, err
	}
	s.a.clock.learn(w.Now, asked)
	return w, nil
}

// pull takes up all that the server holds for this instance, oldest first, a page whenever there is room for one. It
// ends early where one is refused: from there on, another pull brings them in the same order.
func (s *session) pull(ctx, work context.Context) error {
	for after := ""; ; {
		if err := s.a.exec.awaitRoom(ctx); err != nil {
			return err
		}
		page, asked, err := insist[wire.PullReply](ctx, s, wire.OpPull, &wire.Pull{After: after})
		if err != nil {
			return err
		}
		for i := range page.Cancels {
			s.cancel(&page.Cancels[i], asked)
		}
		for i := range page.Deliveries {
			d := &page.Deliveries[i]
			if s.heard(d, asked) && s.take(work, d, asked) == refused {
				return nil
			}
			after = d.Delivery
		}
		if !page.More || len(page.Deliveries) == 0 {
			return nil
		}
	}
}

// pushed returns the delivery that the server pushed, or nil.
func (s *session) pushed(m *nats.Msg) *wire.Deliver {
	var d wire.Deliver
	if err := wire.Decode(m.Data, &d); err != nil {
		s.log.Warn("message is ignored", "op", wire.OpDeliver, "err", err)
		return nil
	}
	if !s.heard(&d, time.Time{}) {
		return nil
	}
	return &d
}

// heard learns the server's time from a delivery that has just come, however long that waits then, and reports whether it may
// be taken up. asked is when the agent pulled it, and zero if it was pushed.
func (s *session) heard(d *wire.Deliver, asked time.Time) bool {
	if err := checkDeliver(d); err != nil {
		s.log.Warn("message is ignored", "op", wire.OpDeliver, "err", err)
		return false
	}
	s.a.clock.learn(d.Sent, asked)
	return true
}

// take takes up d, which was heard, unless it is known already. asked is when the agent pulled it, and zero if it was pushed.
// take may be called from several goroutines.
func (s *session) take(work context.Context, d *wire.Deliver, asked time.Time) verdict {
	if f := s.a.cfg.Hooks.Deliver; f != nil && !f(d) {
		return known
	}
	if asked.IsZero() && s.a.clock.passed(d.Deadline) {
		s.a.exec.miss() // it may be the estimate that is wrong: the answer to a pull tells
		return refused
	}
	if v := s.a.exec.offer(d); v != accepted {
		return v
	}
	started := s.a.clock.millis()
	s.a.cfg.Hooks.trace(TraceAccepted, d.Delivery)
	s.publish(wire.OpAck, &wire.Ack{Delivery: d.Delivery, Started: started, Trace: echo(d)})
	s.a.cfg.Hooks.trace(TraceAcked, d.Delivery)
	s.a.exec.start(work, d, started)
	return accepted
}

// cancel gives a delivery up, if that is still possible. asked is as for take.
func (s *session) cancel(c *wire.Cancel, asked time.Time) {
	if err := checkCancel(c); err != nil {
		s.log.Warn("message is ignored", "op", wire.OpCancel, "err", err)
		return
	}
	s.a.clock.learn(c.Sent, asked)
	s.a.cfg.Hooks.trace(TraceCancel, c.Delivery)
	s.a.exec.cancel(c)
}

// controlled handles a Probe, a Cancel or a Confirm.
func (s *session) controlled(m *nats.Msg) {
	if delivery, ok := strings.CutPrefix(m.Subject, s.confirmSubject("")); ok {
		var c wire.Confirm
		if len(m.Data) == 0 && m.Header.Get("Status") != "" {
			return // the bus says that no server listens; the report is repeated
		}
		if err := wire.Decode(m.Data, &c); err != nil {
			s.log.Warn("message is ignored", "op", confirmInbox, "err", err)
			return
		}
		s.a.clock.learn(c.Now, time.Time{})
		s.a.exec.confirmed(delivery)
		return
	}
	if m.Subject == wire.ToAgent(s.instance, wire.OpCancel) {
		var c wire.Cancel
		if err := wire.Decode(m.Data, &c); err != nil {
			s.log.Warn("message is ignored", "op", wire.OpCancel, "err", err)
			return
		}
		s.cancel(&c, time.Time{})
		return
	}
	var p wire.Probe
	if err := wire.Decode(m.Data, &p); err != nil {
		s.log.Warn("message is ignored", "op", wire.OpProbe, "err", err)
		return
	}
	s.publish(wire.OpAlive, &wire.Alive{Session: s.a.session, Nonce: p.Nonce})
}

// report sends the outcomes that are due, and sets t to when the next will be.
func (s *session) report(t *time.Timer) {
	now := time.Now()
	reports, next := s.a.exec.due(now)
	for _, r := range reports {
		s.a.cfg.Hooks.trace(TraceReport, r.Delivery)
		subject := wire.ToServer(s.instance, wire.OpReport)
		if err := s.conn.PublishRequest(subject, s.confirmSubject(r.Delivery), wire.Encode(r)); err != nil {
			s.log.Debug("message is not sent", "op", wire.OpReport, "err", err)
		}
	}
	if next.IsZero() {
		t.Stop()
		return
	}
	t.Reset(next.Sub(now))
}

// bye tells the server why the agent leaves. It does not matter much if it is not heard: silence will tell.
func (s *session) bye(ctx context.Context) {
	reason := s.a.cfg.Why(ctx)
	ctx, cancel := context.WithTimeout(ctx, byeTimeout)
	defer cancel()
	bye := wire.Encode(&wire.Bye{Session: s.a.session, Reason: reason})
	if _, err := s.conn.RequestWithContext(ctx, wire.ToServer(s.instance, wire.OpBye), bye); err != nil {
		s.log.Info("the server did not answer the goodbye", "reason", reason, "err", err)
		return
	}
	s.log.Info("said goodbye", "reason", reason)
}

// publish sends a message that needs no answer. One that is lost is made good for by the next beat or connection.
func (s *session) publish(op string, m any) {
	if err := s.conn.Publish(wire.ToServer(s.instance, op), wire.Encode(m)); err != nil {
		s.log.Debug("message is not sent", "op", op, "err", err)
	}
}

// insist asks until an answer comes that can be read, or ctx ends. It also returns when the question was asked.
func insist[T any](ctx context.Context, s *session, op string, m any) (_ *T, asked time.Time, _ error) {
	body := wire.Encode(m)
	for failures := 0; ; failures++ {
		asked = time.Now()
		reply, err := ask[T](ctx, s, op, body)
		if err == nil {
			return reply, asked, nil
		}
		if ctx.Err() != nil {
			return nil, asked, ctx.Err()
		}
		s.log.Warn("the server does not answer", "op", op, "err", err)
		if err := s.a.cfg.Backoff.wait(ctx, failures); err != nil {
			return nil, asked, err
		}
	}
}

func ask[T any](ctx context.Context, s *session, op string, body []byte) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m, err := s.conn.RequestWithContext(ctx, wire.ToServer(s.instance, op), body)
	if err != nil {
		return nil, err
	}
	reply := new(T)
	return reply, wire.Decode(m.Data, reply)
}
