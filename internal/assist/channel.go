// SPDX-License-Identifier: Apache-2.0

package assist

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/wire"
)

// Bounds of a channel.
const (
	maxMessage   = 4 << 10          // bytes of what an agent says: it repeats what it was told
	writeTimeout = 10 * time.Second // of one message
	byeTimeout   = 15 * time.Second // of noting that a channel is gone, with all others at once
)

// newRun returns a name for a run of a server, of which there is no other.
func newRun() string { return rand.Text() }

// channel is an open WebSocket. One goroutine writes, another reads, a third pings.
type channel struct {
	session string
	opened  time.Time
	facts   *waybill.Facts // of its machine
	woken   chan struct{}  // holds one token while there may be something to tell
	gone    chan struct{}  // closed when another channel has taken its place, its token has changed, or the instance has left
	leave   bool           // set before gone is closed: the instance has left the fleet
}

func (c *channel) wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// notify answers the upgrade. A reason that passes is no reason to refuse it: an agent whose dial fails is deaf for up
// to half an hour, one whose channel is closed comes again after six seconds.
func (s *Server) notify(w http.ResponseWriter, r *http.Request) {
	i, err := s.identify(r)
	if _, refused := errors.AsType[refusal](err); refused {
		s.refuse(w, r, "notify_server", err)
		return
	}
	entered := s.enter()
	if entered {
		defer s.channels.Done()
	}
	conn, acceptErr := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if acceptErr != nil {
		s.warnings.Log(s.log, "upgrade of an official agent failed", "from", r.RemoteAddr, "err", acceptErr)
		return // Accept has answered
	}
	s.calls.WithLabelValues("notify_server", http.StatusText(http.StatusSwitchingProtocols)).Inc()
	if err != nil || !entered {
		s.log.Warn("channel of an official agent closed for now", "err", err)
		_ = conn.Close(websocket.StatusTryAgainLater, "try again")
		return
	}
	s.open.Inc()
	defer s.open.Dec()
	conn.SetReadLimit(maxMessage)
	f := facts(&i, r)
	s.hold(context.WithoutCancel(r.Context()), conn, i.ID, &f)
}

// hold keeps a channel until one side ends it.
func (s *Server) hold(ctx context.Context, conn *websocket.Conn, id waybill.InstanceID, f *waybill.Facts) {
	defer conn.CloseNow()
	log := s.log.With("instance_id", id)
	select { // or what opens now would be taken for a channel of an earlier run
	case <-s.ready:
	case <-s.closing:
	}
	c := &channel{session: s.sessionPrefix() + rand.Text(), opened: s.service.Now(), facts: f, woken: make(chan struct{}, 1), gone: make(chan struct{})}
	if err := s.service.Hello(ctx, id, c.session, *f); err != nil {
		log.Error("greet official agent", "err", err)
		_ = conn.Close(websocket.StatusTryAgainLater, "try again")
		return
	}
	m := s.machine(id)
	m.open(c)
	defer s.lost(m, c)
	s.note(id, wire.Note{Session: c.session})
	// Of its channels on this server one is told, and on other servers too, should it have any there. A queue's name must
	// not hold blanks, as the server's may.
	stop, err := s.bus.Serve(wire.AgentSubjects(string(id)), s.run+"-"+string(id), func(subject, _ string, data []byte) {
		s.told(ctx, m, f, subject, data)
	})
	if err != nil {
		log.Error("listen for deliveries", "err", err)
		return
	}
	defer stop()
	if err := s.recall(ctx, m, f); err != nil {
		log.Error("look for what is open", "err", err) // what is missed here is repeated by heartbeats
	}

	open, cancel := context.WithCancel(ctx) // what is told meanwhile is noted under ctx
	defer cancel()
	ends := make(chan error, 2)
	go func() { ends <- s.listen(open, conn, m, c, f) }()
	go func() { ends <- s.ping(open, conn) }()
	err = s.tell(open, conn, m, c, ends)
	cancel()
	conn.CloseNow()
	for range cap(ends) - 1 {
		<-ends
	}
	log.Info("channel of an official agent ended", "err", err)
}

// open makes c the channel of the machine. An older one ends: its agent is gone, and nobody has noticed yet.
func (m *machine) open(c *channel) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.channel != nil {
		close(m.channel.gone)
	}
	m.channel, m.quiet, m.upgrading = c, time.Time{}, false
	m.unkickLocked()
	c.wake()
}

// release ends the machine's channel, because it has left the fleet.
func (m *machine) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tasks = make(map[waybill.DeliveryID]*task)
	if m.channel != nil {
		m.channel.leave = true
		close(m.channel.gone)
		m.channel = nil
	}
}

// hangUp ends the machine's channel, so that the agent shows who it is again.
func (m *machine) hangUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.channel != nil {
		close(m.channel.gone)
		m.channel = nil
	}
}

// lost notes that a channel is gone.
func (s *Server) lost(m *machine, c *channel) {
	m.mu.Lock()
	if m.channel == c {
		m.channel = nil
	}
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), byeTimeout)
	defer cancel()
	if err := s.service.Bye(ctx, m.id, c.session, waybill.NoChannel); err != nil {
		s.log.Warn("note that a channel is gone", "instance_id", m.id, "err", err)
	}
}

// recall notes all that is open for the machine. One that has left the fleet before its channel could be told of that is
// told now.
func (s *Server) recall(ctx context.Context, m *machine, f *waybill.Facts) error {
	i, err := s.service.AnyInstance(ctx, m.id)
	if err != nil {
		return err
	}
	if i.State != waybill.Registered {
		m.release()
		return nil
	}
	return s.eachOpen(ctx, m.id, "", func(d wire.Deliver) (bool, error) { return true, s.expect(ctx, m, f, &d) })
}

// expect notes a delivery that the agent is to be kicked for. What it would mishandle ends here, before it is told.
func (s *Server) expect(ctx context.Context, m *machine, f *waybill.Facts, d *wire.Deliver) error {
	id := waybill.DeliveryID(d.Delivery)
	if cause, why := unsuitable(d, f); cause != waybill.NoCause {
		return s.end(ctx, m, id, control.Outcome{Cause: cause, Detail: why})
	}
	m.expect(id, time.UnixMilli(d.Deadline))
	return nil
}

// told takes a message for the machine from the bus.
func (s *Server) told(ctx context.Context, m *machine, f *waybill.Facts, subject string, data []byte) {
	switch subject[strings.LastIndexByte(subject, '.')+1:] {
	case wire.OpDeliver:
		var d wire.Deliver
		if err := wire.Decode(data, &d); err != nil {
			s.log.Error("message of the bus", "subject", subject, "err", err)
			return
		}
		if err := s.expect(ctx, m, f, &d); err != nil {
			s.log.Warn("end what the agent would mishandle", "instance_id", m.id, "delivery_id", d.Delivery, "err", err)
		}
	case wire.OpReleased:
		m.release()
	case wire.OpRenew:
		m.hangUp()
	}
}

// tell writes kicks until the channel ends, and returns why.
func (s *Server) tell(ctx context.Context, conn *websocket.Conn, m *machine, c *channel, ends <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	closing := s.closing
	var turn <-chan time.Time // to close the channel, once it is to end
	for {
		select {
		case err := <-ends:
			return err
		case <-closing:
			closing, turn = nil, time.After(s.turn())
			continue
		case <-turn:
			_ = conn.Close(websocket.StatusGoingAway, "the server restarts")
			<-ends
			return errors.New("the server ends")
		case <-c.gone:
			return s.dismiss(ctx, conn, c, ends)
		case <-c.woken:
		case <-timer.C:
		}
		if closing == nil {
			continue // nobody would answer its fetch in time
		}
		message, wait := m.next(s.service.Now(), &s.cfg)
		if message != "" {
			if err := write(ctx, conn, message); err != nil {
				<-ends
				return err
			}
			wait = s.cfg.Patience
		}
		timer.Stop()
		if wait >= 0 {
			timer.Reset(wait)
		}
	}
}

// dismiss ends a channel that is not to be any more. If the instance has left the fleet, it tells the agent, so that it forgets its
// identity.
func (s *Server) dismiss(ctx context.Context, conn *websocket.Conn, c *channel, ends <-chan error) error {
	if !c.leave {
		const why = "another channel or token has taken its place"
		_ = conn.Close(websocket.StatusPolicyViolation, why)
		<-ends
		return errors.New(why)
	}
	if err := write(ctx, conn, "kick_vm agent deregister"); err != nil {
		<-ends
		return err
	}
	patience := time.NewTimer(writeTimeout)
	defer patience.Stop()
	select { // it may close the channel itself
	case err := <-ends:
		return err
	case <-patience.C:
	case <-s.closing:
	}
	conn.CloseNow()
	<-ends
	return errors.New("the instance has left the fleet")
}

func write(ctx context.Context, conn *websocket.Conn, message string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, []byte(message))
}

// answer is how an agent answers a message.
type answer int

const (
	notUnderstood answer = iota
	accepted             // understood; how it ends, it does not say
	rejected             // it is in the critical part of replacing itself
)

// readAnswer reads what an agent says: one word, a colon, and what it was told.
func readAnswer(message []byte) answer {
	switch word, _, colon := bytes.Cut(message, []byte(":")); {
	case !colon:
		return notUnderstood
	case string(word) == "accept":
		return accepted
	case string(word) == "reject":
		return rejected
	}
	return notUnderstood
}

// listen reads the agent's answers until the channel ends.
func (s *Server) listen(ctx context.Context, conn *websocket.Conn, m *machine, c *channel, f *waybill.Facts) error {
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		switch readAnswer(message) {
		case accepted:
			if m.calm() {
				err = s.service.Hello(ctx, m.id, c.session, *f)
			}
		case rejected:
			if m.hush(s.service.Now().Add(s.cfg.Patience)) {
				err = s.service.Bye(ctx, m.id, c.session, waybill.Upgrading)
			}
			c.wake()
		case notUnderstood:
			s.warnings.Log(s.log, "official agent did not understand", "instance_id", m.id, "answer", clip(string(message)))
		}
		if err != nil {
			s.log.Warn("note what an official agent said", "instance_id", m.id, "err", err)
		}
	}
}

// ping probes the channel until it does not answer.
func (s *Server) ping(ctx context.Context, conn *websocket.Conn) error {
	tick := time.NewTicker(s.cfg.Ping)
	defer tick.Stop()
	for missed := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		probe, cancel := context.WithTimeout(ctx, s.cfg.Ping)
		err := conn.Ping(probe)
		cancel()
		switch {
		case err == nil:
			missed = 0
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			if missed++; missed == maxMissed {
				return errors.New("the agent does not answer pings")
			}
		}
	}
}

// maxMissed is how many pings in a row may go without answer.
const maxMissed = 2
