// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

// A world is one server and one agent, both of the real code, with a network between them that delivers, loses, repeats
// and reorders messages as it is told, and time that passes only as it is told. The server is a control.Service on a
// SQLite store with a gateway before it (rig_test.go), the agent a session with its executor, journal and placer.
//
// It lives in a bubble of testing/synctest: between two events everything is blocked, so that the order of the events
// alone decides what happens.
type world struct {
	*rig
	scenario *scenario
	choose   func(width int) int // among that many events; the first is what happens if nothing is in the way
	late     bool                // at the end, all messages come once more
	verbose  func(format string, args ...any)

	dir, state, root string
	open             bool      // deliveries may be sent
	began            time.Time // when the first delivery was sent
	ticks            int       // how many of the instants have come
	faults           int       // how many more there may be
	crashes          int
	current          *node   // nil: no agent is running
	nodes            []*node // all that were started

	mu         sync.Mutex
	messages   []*letter // on their way, in the order they were sent
	settled    int       // how many of those are in their final order
	seen       []*letter // all that ever were
	asked      int       // requests of the agent
	accepted   int       // deliveries taken up by it
	sent       []*sent
	onDisk     map[string]*sent // by path, what was published there last
	estimate   int64            // server time, Unix milliseconds, as the agent must know it at least; 0: not known
	estimated  time.Time        // when that was
	violations []string
}

// scenario is what is to be delivered, and on what it meets.
type scenario struct {
	name    string
	online  bool // the agent is connected when the first delivery is sent
	files   []file
	existed bool // a file is at the path of the first one
	stops   bool // each delivery may be stopped, once, at any time
}

type file struct {
	name      string
	overwrite bool
	want      waybill.Status // where nothing interferes
}

// sent is a delivery and what is known of it without asking the code under test.
type sent struct {
	file
	id        waybill.DeliveryID
	label     string
	content   string
	deadline  time.Time
	accepted  int // its place among those that the agent took up; 0: it did not
	published int
	forgotten bool          // by a machine that died before the journal was synced: its temporary may stay
	reports   []wire.Report // as the server received them
	path      string
	stopped   bool // it was asked to stop …
	cancelled bool // … and the answer was that it is cancelled
}

// existing is the content of a file that was there before.
const existing = "old"

// simTimeout is the timeout of each delivery.
const simTimeout = 10 * time.Second

// The instants that time leaps to after the first delivery was sent: a repeat of the server is due; an answer has been
// waited for in vain; almost the deadline; past it; past the server's grace.
var instants = []time.Duration{
	2100 * time.Millisecond, 5200 * time.Millisecond, 9900 * time.Millisecond, 10_100 * time.Millisecond, 12_500 * time.Millisecond,
}

// maxFaults is how often something may go wrong in one run.
const maxFaults = 4

// letter is a message on its way.
type letter struct {
	toServer       bool
	op             string // see Message.Op
	subject, reply string
	data           []byte
	at             time.Time
	arrived        bool
	link           *simLink // the agent's connection
}

// node is one run of the agent, from its start to its death.
type node struct {
	w        *world
	a        *Agent
	journal  *journal
	placer   *place.Placer
	work     context.Context
	stopWork context.CancelFunc
	link     *simLink // nil: not connected
	dead     bool
	held     bool            // its work waits until it is told to go on
	began    map[string]bool // deliveries of which work has begun in this run
	halts    []*halt
}

// halt is where a goroutine of an agent waits to be told to go on.
type halt struct {
	event, label string
	delivery     string
	next         chan bool // false: it was abandoned
}

// simLink is a connection of the agent.
type simLink struct {
	n       *node
	s       *session
	stop    context.CancelFunc
	cut     bool
	inboxes map[string]inbox
}

// inbox is where an answer is awaited.
type inbox struct {
	op     string // what was asked
	answer chan *nats.Msg
}

var errCut = errors.New("the connection was cut")

// trace is the agent's hook: it notes what is published, and stops at each point where an agent may die.
func (n *node) trace(event, delivery string) {
	w := n.w
	w.mu.Lock()
	d := w.find(delivery)
	if d == nil {
		w.violations = append(w.violations, "the agent works on a delivery of an earlier run, which should have ended")
		w.mu.Unlock()
		return
	}
	switch event {
	case TraceAccepted:
		if d.accepted == 0 {
			w.accepted++
			d.accepted = w.accepted
		}
	case TraceTaken:
		n.began[delivery] = true
	case string(place.StepUnlink):
		w.publishedLocked(d)
	case string(place.StepSyncDir):
		if d.overwrite {
			w.publishedLocked(d)
		}
	}
	stops := event != TraceAccepted && event != TraceReport && event != TraceCancel && (event != TraceFinished || n.began[delivery])
	if !stops || n.dead {
		w.mu.Unlock()
		return
	}
	h := &halt{event: event, delivery: delivery, label: d.label, next: make(chan bool)}
	n.halts = append(n.halts, h)
	slices.SortFunc(n.halts, func(a, b *halt) int { return cmp.Compare(a.label, b.label) })
	w.mu.Unlock()
	if !<-h.next {
		runtime.Goexit()
	}
}

func (w *world) publishedLocked(d *sent) {
	if last := w.onDisk[d.path]; last != nil && last.id > d.id && last.accepted > d.accepted {
		w.violations = append(w.violations, fmt.Sprintf("%s replaced %s, which was sent and taken up after it", d.label, last.label))
	}
	d.published++
	w.onDisk[d.path] = d
	if w.estimate != 0 && w.estimate+time.Since(w.estimated).Milliseconds() >= d.deadline.UnixMilli() {
		w.violations = append(w.violations, d.label+": published after its deadline")
	}
}

// find returns what was sent under an ID, and nil if nothing was.
func (w *world) find(delivery string) *sent {
	for _, d := range w.sent {
		if string(d.id) == delivery {
			return d
		}
	}
	return nil
}

// start starts the agent on what its last run left behind.
func (w *world) start() {
	n := &node{w: w, began: map[string]bool{}}
	n.work, n.stopWork = context.WithCancel(context.Background())
	log := slog.New(slog.DiscardHandler)
	half := func(n time.Duration) time.Duration { return n / 2 }
	n.a = &Agent{
		cfg: Config{
			StateDir: w.state, Root: w.root, Hooks: Hooks{Trace: n.trace},
			Backoff: Backoff{First: time.Second, Max: 4 * time.Second, draw: half},
			Why:     func(context.Context) wire.ByeReason { return wire.ByeStopped },
		},
		log: log, session: strconv.Itoa(w.serial) + "." + strconv.Itoa(len(w.nodes)), reg: registration{Instance: string(w.instance)},
	}
	var err error
	n.journal, err = openJournal(w.state, log)
	w.must(err)
	n.a.clock.learn(n.journal.now(), time.Time{})
	n.placer, err = place.New(place.Config{Root: w.root, Trace: func(s place.Step, id string) { n.trace(string(s), id) }})
	w.must(err)
	for id := range n.journal.unfinished() {
		n.began[id] = true
	}
	n.journal.synced = n.journal.size // what an earlier run wrote has been written out meanwhile
	w.mu.Lock()
	w.estimate = 0
	w.mu.Unlock()
	w.nodes = append(w.nodes, n)
	w.setCurrent(n)
	n.a.exec = newExecutor(n.placer, nil, n.journal, &n.a.clock, &n.a.cfg, log)
	if len(n.began) > 0 { // nothing of what the last run left is looked at before it is told to go on
		n.held = n.a.exec.slots.TryAcquire(slots)
	}
	n.a.exec.begin(n.work)
	w.connect()
}

// connect opens a connection for the agent that is running.
func (w *world) connect() {
	n := w.current
	s := &session{
		a: n.a, instance: string(w.instance), log: n.a.log,
		pushes: make(chan *nats.Msg, pushBuffer), control: make(chan *nats.Msg, controlBuffer), lost: make(chan error, 1),
	}
	l := &simLink{n: n, s: s, inboxes: map[string]inbox{}}
	s.conn = l
	w.mu.Lock()
	n.link = l
	w.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	go func() { _, _ = s.serve(ctx, n.work) }()
	w.settle()
}

// resume lets the agent look at what its last run left.
func (w *world) resume() {
	w.current.held = false
	w.current.a.exec.slots.Release(slots)
	w.settle()
}

// cut ends the agent's connection; what was on its way to it is lost.
func (w *world) cut() {
	w.mu.Lock()
	l := w.current.link
	w.current.link, l.cut = nil, true
	w.messages = slices.DeleteFunc(w.messages, func(m *letter) bool { return !m.toServer })
	w.settled = len(w.messages)
	w.mu.Unlock()
	l.s.lost <- errCut
	w.settle()
}

// crash ends the agent wherever it is: what it was doing is not undone. If the machine dies with it, so does what the
// journal has not synced.
func (w *world) crash(machine bool) {
	n := w.current
	w.mu.Lock()
	n.dead = true
	w.mu.Unlock()
	if n.link != nil {
		w.cut()
	}
	w.crashes++
	w.setCurrent(nil)
	if machine {
		path := filepath.Join(w.state, journalName)
		w.must(os.Truncate(path, n.journal.synced))
		b, err := os.ReadFile(path)
		w.must(err)
		left, _, _ := replay(b)
		for id := range n.journal.unfinished() {
			if left.open[id] == nil {
				w.find(id).forgotten = true
			}
		}
	}
}

// leave ends the agent in good order, while it has nothing to do.
func (w *world) leave() {
	n := w.current
	n.a.exec.stop()
	n.link.stop()
	w.settle() // it says goodbye
	w.mu.Lock()
	n.dead = true
	w.mu.Unlock()
	w.cut()
	w.setCurrent(nil)
}

func (w *world) setCurrent(n *node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current = n
}

// restart ends the server and starts another on its store. Its bus ends with it, so all that was on its way is lost.
func (w *world) restart() {
	w.mu.Lock()
	w.messages, w.settled = nil, 0
	w.mu.Unlock()
	if w.current != nil && w.current.link != nil {
		w.cut()
	}
	w.stopServer()
	w.startServer()
	w.settle()
}

// send sends the next delivery of the scenario.
func (w *world) send() {
	f := w.scenario.files[len(w.sent)]
	d := &sent{
		file: f, label: "d" + strconv.Itoa(len(w.sent)+1), content: fmt.Sprintf("content %d", len(w.sent)+1),
		path: filepath.Join(w.root, "etc", f.name),
	}
	_ = pause(context.Background(), time.Millisecond) // what servers sent in one instant would have no order
	if len(w.sent) == 0 {
		w.began = time.Now()
	}
	d.deadline = time.Now().Truncate(time.Millisecond).Add(simTimeout)
	var err error
	d.id, err = w.service.Send(context.Background(), w.act(), control.SendRequest{
		Targets: control.Targets{Region: simRegion, Instances: []waybill.InstanceID{w.instance}}, Content: d.content, Timeout: simTimeout,
		File: waybill.FileSpec{
			Name: f.name, TargetDir: "/etc", Overwrite: f.overwrite, Mode: "0640",
			Owner: strconv.Itoa(os.Getuid()), Group: strconv.Itoa(os.Getgid()),
		},
	})
	w.must(err)
	w.mu.Lock()
	w.sent = append(w.sent, d)
	w.mu.Unlock()
	w.settle()
}

// stop asks the server to stop a delivery.
func (w *world) stop(d *sent) {
	n, err := w.service.Stop(context.Background(), w.act(), simRegion, d.id, nil)
	w.must(err)
	d.stopped, d.cancelled = true, n.Cancelled > 0
	w.settle()
}

// fromServer takes a message that the server publishes. Nobody listens where no agent is connected.
func (w *world) fromServer(subject string, data []byte) {
	m := &letter{subject: subject, data: data, at: time.Now()}
	inbox, answers := strings.CutPrefix(subject, wire.InboxPrefix(string(w.instance))+".")
	delivery, confirms := strings.CutPrefix(inbox, confirmInbox+".")
	switch {
	case answers && confirms:
		m.op = OpConfirm
		if !w.storedFinal(delivery) {
			w.violate("%s was confirmed before its outcome was stored", delivery)
		}
	case answers:
		m.op = OpAnswer
	default:
		m.op = subject[strings.LastIndexByte(subject, '.')+1:]
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == nil || w.current.link == nil {
		return
	}
	m.link = w.current.link
	w.messages = append(w.messages, m)
	w.seen = append(w.seen, m)
}

func (l *simLink) publish(subject, reply string, data []byte) {
	_, op, _ := wire.InstanceOf(subject)
	w := l.n.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.cut || l.n.dead {
		return
	}
	m := &letter{toServer: true, op: op, subject: subject, reply: reply, data: data, at: time.Now(), link: l}
	w.messages = append(w.messages, m)
	w.seen = append(w.seen, m)
}

func (l *simLink) Publish(subject string, data []byte) error {
	l.publish(subject, "", data)
	return nil
}

func (l *simLink) PublishRequest(subject, reply string, data []byte) error {
	l.publish(subject, reply, data)
	return nil
}

func (l *simLink) RequestWithContext(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	w := l.n.w
	answer := make(chan *nats.Msg, 1)
	_, op, _ := wire.InstanceOf(subject)
	w.mu.Lock()
	w.asked++
	reply := wire.InboxPrefix(string(w.instance)) + "." + strconv.Itoa(w.asked)
	l.inboxes[reply] = inbox{op, answer}
	w.mu.Unlock()
	l.publish(subject, reply, data)
	select {
	case m := <-answer:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *simLink) Close() {}

// settle waits until nothing happens by itself, and brings what was sent meanwhile into an order that does not depend on
// which goroutine was faster.
func (w *world) settle() {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(w.messages[w.settled:], func(a, b *letter) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.op, b.op))
	})
	w.settled = len(w.messages)
}

// arrive hands over a message; it stays under way if it is to come again.
func (w *world) arrive(m *letter, again bool) {
	if !again {
		w.lose(m)
	}
	m.arrived = true
	if m.toServer {
		if m.op == wire.OpReport {
			var r wire.Report
			w.must(wire.Decode(m.data, &r))
			if d := w.find(r.Delivery); d != nil {
				d.reports = append(d.reports, r)
			}
		}
		w.handle(m)
		w.settle()
		return
	}
	msg := &nats.Msg{Subject: m.subject, Data: m.data}
	switch m.op {
	case OpAnswer:
		select {
		case m.link.inboxes[m.subject].answer <- msg:
		default: // it has one
		}
	case wire.OpDeliver:
		m.link.s.pushes <- msg
	default:
		m.link.s.control <- msg
	}
	w.settle()
	if len(m.link.s.pushes) == 0 && len(m.link.inboxes[m.subject].answer) == 0 { // it looked at it
		w.learn(m)
	}
}

// lose takes a message off its way.
func (w *world) lose(m *letter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.messages, m)
	w.messages = slices.Delete(w.messages, i, i+1)
	w.settled = len(w.messages)
}

// learn notes the server's time that a message names.
func (w *world) learn(m *letter) {
	var now int64
	switch op := m.op; {
	case op == wire.OpDeliver:
		var d wire.Deliver
		w.must(wire.Decode(m.data, &d))
		now = d.Sent
	case op == OpConfirm:
		var c wire.Confirm
		w.must(wire.Decode(m.data, &c))
		now = c.Now
	case op == OpAnswer && m.link.inboxes[m.subject].op == wire.OpHello:
		var v wire.Welcome
		w.must(wire.Decode(m.data, &v))
		now = v.Now
	default:
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.estimate == 0 || now > w.estimate+time.Since(w.estimated).Milliseconds() {
		w.estimate, w.estimated = now, time.Now()
	}
}

// step lets a goroutine of the agent go on to its next halt.
func (w *world) step(n *node, h *halt) {
	w.mu.Lock()
	n.halts = slices.DeleteFunc(n.halts, func(o *halt) bool { return o == h })
	w.mu.Unlock()
	h.next <- true
	w.settle()
}

// tick lets time pass.
func (w *world) tick(d time.Duration) {
	_ = pause(context.Background(), d)
	w.settle()
}

// event is something that can happen next.
type event struct {
	name  string
	about string
	do    func()
}

// listening reports whether the agent looks at what it receives: not while it has only just sent an acknowledgement.
func (n *node) listening() bool {
	return !slices.ContainsFunc(n.halts, func(h *halt) bool { return h.event == TraceAcked })
}

// maxOvertaking is how many messages may be next, of those on their way.
const maxOvertaking = 4

// events lists what can happen next, the usual first.
func (w *world) events() (list []event) {
	w.mu.Lock() // between two events nothing runs, but the race detector does not know what time has to do with it
	defer w.mu.Unlock()
	add := func(name, about string, do func()) { list = append(list, event{name, about, do}) }
	n := w.current
	if w.open && len(w.sent) < len(w.scenario.files) {
		add("send", "", w.send)
	}
	var ready []*letter
	for _, m := range w.messages {
		if (m.toServer || n != nil && m.link == n.link && n.listening()) && len(ready) < maxOvertaking {
			ready = append(ready, m)
		}
	}
	for _, m := range ready {
		add("arrive", m.op, func() { w.arrive(m, false) })
	}
	switch {
	case n == nil:
		add("start", "", w.start)
	case n.link == nil:
		add("connect", "", w.connect)
	}
	if n != nil {
		if n.held {
			add("resume", "", w.resume)
		}
		for _, h := range n.halts {
			add("step", h.label+" "+h.event, func() { w.step(n, h) })
		}
	}
	if w.ticks < len(instants) && len(w.sent) > 0 {
		add("tick", instants[w.ticks].String(), func() {
			w.ticks++
			w.tick(time.Until(w.began.Add(instants[w.ticks-1])))
		})
	}
	for _, d := range w.sent {
		if w.open && w.scenario.stops && !d.stopped && len(list) > 0 {
			add("stop", d.label, func() { w.stop(d) })
		}
	}
	if w.faults == 0 || len(list) == 0 {
		return list
	}
	fault := func(name, about string, do func()) {
		add(name, about, func() {
			w.faults--
			do()
		})
	}
	for _, m := range ready {
		fault("lose", m.op, func() { w.lose(m) })
		fault("repeat", m.op, func() { w.arrive(m, true) })
	}
	if n != nil {
		fault("agent dies", "", func() { w.crash(false) })
		if n.journal.synced < n.journal.size {
			fault("machine dies", "", func() { w.crash(true) })
		}
		if n.link != nil {
			fault("cut", "", w.cut)
		}
		if n.link != nil && len(n.halts) == 0 && !n.held {
			fault("agent stops", "", w.leave)
		}
	}
	fault("server dies", "", w.restart)
	return list
}

// quiet reports whether nothing is to happen any more, but by the passing of time.
func (w *world) quiet() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.current
	return n != nil && n.link != nil && !n.held && len(w.messages) == 0 && len(n.halts) == 0
}

// over reports whether all has been done that was to be done.
func (w *world) over() bool {
	if len(w.sent) < len(w.scenario.files) || !w.quiet() {
		return false
	}
	for _, d := range w.sent {
		if len(d.reports) == 0 && !d.cancelled {
			return false
		}
	}
	return w.current.idle()
}

// idle reports whether the agent has nothing to do and nothing to tell.
func (n *node) idle() bool {
	e := n.a.exec
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.busy) == 0 && len(e.outbox) == 0 && len(e.queues) == 0
}

// run lets events happen as they are chosen, until all is done or no time is left; then it lets all that is under way
// come to its end.
func (w *world) run() {
	if w.scenario.existed {
		path := filepath.Join(w.root, "etc", w.scenario.files[0].name)
		w.must(os.MkdirAll(filepath.Dir(path), 0o755))
		w.must(os.WriteFile(path, []byte(existing), 0o640))
	}
	if w.scenario.online {
		w.start()
		w.calm()
	}
	w.open = true
	for !w.over() {
		list := w.events()
		if len(list) == 0 || w.ticks == len(instants) {
			break
		}
		e := list[w.choose(len(list))]
		w.verbose("%8s  %s %s", time.Since(w.epoch).Round(time.Millisecond), e.name, e.about)
		e.do()
	}
	w.drain()
}

// calm lets the usual happen until nothing does.
func (w *world) calm() {
	faults := w.faults
	w.faults = 0
	for !w.quiet() {
		list := w.events()
		w.verbose("%8s  (%s %s)", time.Since(w.epoch).Round(time.Millisecond), list[0].name, list[0].about)
		list[0].do()
	}
	w.faults = faults
}

// longest is how long after the last deadline everything must have settled: the agent repeats a request of the server
// or a report within 7 s.
const longest = 30 * time.Second

// drain lets the usual happen until all is done.
func (w *world) drain() {
	w.ticks = len(instants) // no leaps any more
	for len(w.sent) < len(w.scenario.files) {
		w.send()
	}
	last := w.sent[len(w.sent)-1].deadline
	for {
		w.calm()
		if w.current.idle() && (w.over() || time.Since(last) > 2*time.Second+100*time.Millisecond && w.complete()) {
			return
		}
		if time.Since(last) > longest {
			w.violate("not settled %s after the last deadline: the agent holds %v", longest, w.current.a.exec.open())
			return
		}
		w.tick(500 * time.Millisecond)
	}
}

// complete reports whether the agent has asked for all that it missed.
func (w *world) complete() bool {
	e := w.current.a.exec
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.missed
}

// end ends the agent, and whatever earlier ones were doing.
func (w *world) end() {
	for _, n := range w.nodes {
		w.mu.Lock()
		n.dead = true
		halts := n.halts
		w.mu.Unlock()
		for _, h := range halts {
			h.next <- false
		}
		synctest.Wait()
		n.a.exec.stop()
		n.stopWork()
		if n.link != nil {
			w.mu.Lock()
			n.link.cut = true
			w.mu.Unlock()
			n.link.s.lost <- errCut
		}
		synctest.Wait()
		n.journal.close()
	}
	w.must(os.RemoveAll(w.dir))
}

func (w *world) violate(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	for _, d := range w.sent {
		text = strings.ReplaceAll(text, string(d.id), d.label)
	}
	w.violations = append(w.violations, text)
}

// must ends the test: what fails here is no part of what is looked at.
func (r *rig) must(err error) {
	if err != nil {
		panic(err)
	}
}
