// SPDX-License-Identifier: Apache-2.0

package script

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

// maxOpen bounds how many open deliveries of a machine are looked at.
const maxOpen = 1000

// ackAgain is how much later an acknowledgement is sent again that must not be lost: nothing else makes up for it.
const ackAgain = time.Second

// errScripted is why a machine refuses what the script has it refuse.
var errScripted = errors.New("the script says so")

// plan is what is to become of one delivery on one machine.
type plan struct {
	Step
	file waybill.FileSpec
	turn bool // it counts as a delivery of its step
	cut  bool // the machine ended while it waited; its outcome is never told
}

// machine is one machine of a fleet.
type machine struct {
	Machine
	fleet   *Fleet
	account *Account
	id      waybill.InstanceID
	dir     string
	link    link

	// turn is held while the machine changes, and from before a delivery is accepted until after.
	turn     chan struct{}
	presence presence // empty: not known
	agent    *running // nil: none runs
	taken    int      // deliveries that counted

	mu    sync.Mutex
	plans map[string]*plan // by delivery
}

func (m *machine) root() string  { return filepath.Join(m.dir, "root") }
func (m *machine) state() string { return filepath.Join(m.dir, "state") }

// next returns the step that the next delivery is for.
func (m *machine) next() Step {
	n := m.taken
	for _, s := range m.Steps {
		if s.Deliveries == 0 || n < s.Deliveries {
			return s
		}
		n -= s.Deliveries
	}
	return m.Steps[len(m.Steps)-1]
}

func (m *machine) plan(delivery string) *plan {
	m.mu.Lock()
	defer m.mu.Unlock()
	first, _ := wire.ParseAttemptID(delivery) // a retry meets what the first attempt met
	return m.plans[first]
}

// prepare makes m ready for a delivery.
func (m *machine) prepare(ctx context.Context, d *waybill.Delivery) error {
	p := &plan{Step: m.next(), file: d.File, turn: true}
	if to := p.presence(); to != m.presence || m.agent != nil && m.agent.ended() {
		held, err := m.settle(ctx)
		if err != nil {
			return err
		}
		if held != nil {
			p.Step, p.turn = *held, false
		} else if err := m.become(ctx, to); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.plans[string(d.ID)] = p
	return nil
}

// take counts a delivery that was prepared, or forgets it.
func (m *machine) take(id waybill.DeliveryID, stored bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch p := m.plans[string(id)]; {
	case p == nil:
	case !stored:
		delete(m.plans, string(id))
	case p.turn:
		m.taken++
	}
}

// settle waits until nothing is open for m, so that no delivery sees it change. It does not wait for a deadline: where
// only that ends a delivery, its step is returned, and what comes meanwhile shares it.
func (m *machine) settle(ctx context.Context) (held *Step, err error) {
	for {
		open, err := m.fleet.cfg.Operator.Store.OpenTargets(ctx, m.id, maxOpen)
		if err != nil {
			return nil, err
		}
		for _, t := range open {
			if p := m.plan(string(t.Delivery)); p != nil && p.byDeadline() {
				return &p.Step, nil
			}
		}
		if len(open) == 0 {
			return nil, nil
		}
		if err := pause(ctx, lookAgain); err != nil {
			return nil, err
		}
	}
}

// awaitEnd waits until a delivery is not open any more for m.
func (m *machine) awaitEnd(ctx context.Context, d waybill.DeliveryID) error {
	for {
		open, err := m.fleet.cfg.Operator.Store.OpenTargets(ctx, m.id, maxOpen)
		if err != nil {
			return err
		}
		is := false
		for _, t := range open {
			is = is || t.Delivery == d
		}
		if !is {
			return nil
		}
		if err := pause(ctx, lookAgain); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// become makes the server see m as p. It returns once the server has that in its store.
func (m *machine) become(ctx context.Context, p presence) error {
	m.presence = ""
	if p == absent {
		m.presence = p
		return nil
	}
	for {
		heard := m.end(p)
		switch {
		case p == released:
			if _, err := m.account.client.DeregisterManagedInstance(ctx, m.id); err != nil {
				return err
			}
		case !p.away():
			if err := m.start(ctx, p); err != nil {
				return err
			}
		case !heard: // nobody was there to say goodbye, or it was not answered
			if err := m.start(ctx, online); err != nil {
				return err
			}
			continue
		}
		m.presence = p
		return nil
	}
}

// tooOldCapability is what no server supports.
const tooOldCapability = -1

// start runs the agent of m until the server has greeted it, or refused it for its age.
func (m *machine) start(ctx context.Context, as presence) error {
	run := &running{machine: m, done: make(chan struct{}), greeted: make(chan string, 1)}
	cfg := agent.Config{
		StateDir: m.state(), Root: m.root(), Version: m.fleet.cfg.Version,
		Backoff: agent.Backoff{First: 50 * time.Millisecond, Max: 200 * time.Millisecond},
		Why:     func(context.Context) wire.ByeReason { return run.why },
		Hooks:   agent.Hooks{Deliver: m.deliver, Message: run.message, Fault: run.fault},
	}
	if m.Flapping != nil {
		cfg.Hooks.Dial = m.link.dial
	}
	if as == tooOld {
		cfg.Hooks.Capability = tooOldCapability
		cfg.Backoff = agent.Backoff{} // it is refused for ever, and need not ask often
	}
	a, err := agent.New(cfg, m.fleet.log.With("machine", m.Name))
	if err != nil {
		return err
	}
	run.living, run.cancel = context.WithCancel(m.fleet.living)
	if err := m.fleet.loop(func() {
		defer close(run.done)
		run.err = a.Run(run.living)
	}); err != nil {
		run.cancel()
		return err
	}
	m.agent = run
	select {
	case refusal := <-run.greeted:
		if (refusal != "") != (as == tooOld) {
			return fmt.Errorf("the server greets its agent with %q", refusal)
		}
		return nil
	case <-run.done:
		return fmt.Errorf("its agent ended: %w", run.err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end ends the agent of m, if one runs, to be p, and reports whether the server has heard its goodbye.
func (m *machine) end(p presence) (heard bool) {
	run := m.agent
	if run == nil {
		return false
	}
	run.why = wire.ByeReason(p)
	if !p.away() {
		run.why = wire.ByeStopped
	}
	run.cancel()
	<-run.done
	m.agent = nil
	run.mu.Lock()
	defer run.mu.Unlock()
	return run.heard
}

// running is one run of an agent.
type running struct {
	*machine
	living  context.Context
	cancel  context.CancelFunc
	why     wire.ByeReason // set before cancel is called
	done    chan struct{}
	err     error       // once done is closed
	greeted chan string // of 1, what becomes of the first Hello: why the agent is refused, or nothing

	mu    sync.Mutex
	asked string // the last request
	heard bool   // the goodbye was
}

func (r *running) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// deliver lets in what the script has the machine take up. Whatever owner and directory entries are there, what is to
// succeed does.
func (m *machine) deliver(d *wire.Deliver) bool {
	p := m.plan(d.Delivery)
	if p == nil || !p.reported() && !p.taken() {
		return false
	}
	d.Overwrite = true
	if uid := os.Geteuid(); uid >= 0 {
		d.Owner, d.Group = strconv.Itoa(uid), strconv.Itoa(os.Getegid())
	}
	return true
}

// message watches the conversation, and loses or delays what the script says.
func (r *running) message(msg agent.Message) agent.Fate {
	switch {
	case msg.Op == agent.OpAnswer:
		r.answered(msg.Data)
	case msg.Op == wire.OpAck:
		var ack wire.Ack
		if wire.Decode(msg.Data, &ack) != nil {
			break
		}
		if p := r.plan(ack.Delivery); p != nil && p.taken() {
			return agent.Fate{0, ackAgain}
		} else if p != nil {
			return agent.Fate{p.Pending}
		}
	case msg.Op == wire.OpReport:
		var report wire.Report
		if wire.Decode(msg.Data, &report) != nil {
			break
		}
		if p := r.plan(report.Delivery); p == nil || p.taken() || r.isCut(p) {
			return nil
		}
	case msg.ToServer:
		if msg.Op == wire.OpPull { // which comes once it knows that it is greeted, and so will say goodbye
			r.greet("")
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.asked = msg.Op
	}
	return agent.AsItIs
}

// greet notes, the first time, how the server greets the agent.
func (r *running) greet(refusal string) {
	select {
	case r.greeted <- refusal:
	default:
	}
}

// answered notes what the server answers to the last request. That may be the answer to an earlier one, which then has no
// time of the server in it.
func (r *running) answered(data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.asked {
	case wire.OpHello:
		var w wire.Welcome
		if wire.Decode(data, &w) == nil && w.Refused != "" {
			r.greet(w.Refused)
		}
	case wire.OpBye:
		var c wire.Confirm
		r.heard = r.heard || wire.Decode(data, &c) == nil && c.Now != 0
	}
}

func (m *machine) isCut(p *plan) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return p.cut
}

// fault is where work ends otherwise than well. It is the first step that does, so that nothing else can.
func (r *running) fault(step place.Step, delivery string) error {
	if step != place.StepValidate {
		return nil
	}
	p := r.plan(delivery)
	if p == nil {
		return errScripted
	}
	select {
	case <-time.After(p.Pending + p.Delay):
	case <-r.living.Done():
		r.machine.mu.Lock()
		defer r.machine.mu.Unlock()
		p.cut = true
		return errScripted
	}
	switch p.cause {
	case waybill.NoCause:
		return makeWay(r.root(), p.file)
	case waybill.CauseAgentBroke:
		panic(errScripted)
	case waybill.CauseWriteFailed:
		return syscall.ENOSPC
	case waybill.CauseDeadline:
		return errScripted // nobody will hear of it
	}
	return &place.Error{Reason: place.Reason(p.cause), Err: errScripted} // both have the same words
}

// makeWay removes what earlier deliveries left where a file or its directories are to be.
func makeWay(dir string, file waybill.FileSpec) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	final := path.Join("/", file.TargetDir, file.Name)[1:]
	for at := range prefixes(final) {
		info, err := root.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || info.IsDir() != (at == final) {
			continue // as it should be, or for the agent to find out
		}
		return root.RemoveAll(at)
	}
	return nil
}

// prefixes returns the directories above a path, the highest first, and then the path.
func prefixes(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i, r := range name {
			if r == '/' && !yield(name[:i]) {
				return
			}
		}
		yield(name)
	}
}
