// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Config says how an agent is. Network, Identity and Root are required.
type Config struct {
	Network *Network
	// Identity is not changed: an agent that is deregistered forgets it.
	Identity *Identity
	// Root is the directory below which the agent places its files: the destination "/etc/app" is Root/etc/app, and
	// what is relative to the agent's directory is relative to Root. ".." in a name does not lead out of Root; a
	// symbolic link does.
	Root  string
	Times Times // RealTimes() if zero
	Facts Facts

	ColdStart bool // this is the first start since the machine booted
	Packaged  bool // it has an updater, and so asks for updates

	// Provider is the provider file of the machine: the headers that it prints are sent in place of the identity
	// headers, on the upgrade too (§2.2). Nil: it has none.
	Provider http.Header
	// Forge changes the identity headers of a request to target, if not nil. It is called by several goroutines.
	Forge func(target string, s *Stamp)
	// At decides what happens at a point of the agent's work, if not nil. It is called by several goroutines. The task
	// is empty where the point is about no single one.
	At func(p Point, taskID string) Action
	// Events is told what the agent does, in words for people, if not nil. It is called by several goroutines.
	Events func(event string)
}

// Point is a point of the agent's work at which Config.At decides.
type Point string

// The points, in the order of a delivery.
const (
	BeforeFetch  Point = "before fetch"  // nothing is asked for yet
	AfterFetch   Point = "after fetch"   // the reply is here, nothing is done yet
	AfterWrite   Point = "after write"   // the content is in the file, mode and owner are not set
	BeforeMetric Point = "before metric" // of a failed task
	BeforeReport Point = "before report" // all is done, and known to nobody else
)

// Action is what happens at a Point.
type Action int

// The actions.
const (
	Proceed Action = iota
	Die            // the process is killed: nothing follows, connections are reset
	Drop           // what is about to be sent is lost; at BeforeReport and BeforeMetric only
)

// Reasons for which Run ends by itself.
var (
	ErrKilled     = errors.New("killed")
	ErrSelfKilled = errors.New("killed itself, being too big") // §12
	ErrStopped    = errors.New("told to stop or to remove itself")
)

// Agent is one process of the agent, from its start to its death.
type Agent struct {
	cfg   Config
	facts Facts
	t     Times

	work    sync.WaitGroup // everything that Run has started
	wake    chan struct{}  // the agenda has changed
	dialing chan struct{}  // holds a token while somebody looks for a channel

	mu        sync.Mutex
	seen      Snapshot
	end       context.CancelCauseFunc // ends Run; nil before it
	ended     error                   // the reason if that was before Run
	identity  *Identity
	agenda    []errand
	conn      *socket   // the last one, open or not
	working   bool      // what the agent believes of its channel
	coolUntil time.Time // no dial before
	enabled   bool      // it has started, and may fetch
	updating  bool
	full      bool // beats carry the full set of parameters
	interval  time.Duration
	retries   int       // of beats, since retriesAt
	retriesAt time.Time // zero: never
	quota     int       // metrics sent since quotaAt
	quotaAt   time.Time
}

// errand is something to be done at a time, in a goroutine of its own.
type errand struct {
	at time.Time
	do func(context.Context)
}

// New returns an agent that is about to start.
func New(cfg Config) *Agent {
	if cfg.Times == (Times{}) {
		cfg.Times = RealTimes()
	}
	return &Agent{
		cfg: cfg, facts: cfg.Facts.withDefaults(), t: cfg.Times,
		wake: make(chan struct{}, 1), dialing: make(chan struct{}, 1),
		identity: cfg.Identity, interval: cfg.Times.Beat,
		seen: Snapshot{Runs: map[string]int{}},
	}
}

// Run is the life of the process. It returns nil when ctx has ended, at which the agent drops everything at once, as it
// does at SIGTERM; and otherwise one of the errors of this package. It may be called once.
func (a *Agent) Run(ctx context.Context) error {
	if a.cfg.Network == nil || a.cfg.Root == "" {
		return errors.New("assisttest: an agent needs a network and a root")
	}
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	a.mu.Lock()
	if a.ended != nil {
		cancel(a.ended)
	}
	a.end = cancel
	start := time.Now()
	a.seen.Started = start
	a.mu.Unlock()

	a.live(ctx, start)
	cancel(nil)
	cause := context.Cause(ctx)
	a.mu.Lock()
	conn := a.conn
	a.working, a.seen.Connected = false, false
	a.mu.Unlock()
	if conn != nil {
		if errors.Is(cause, ErrKilled) {
			conn.kill()
		}
		conn.close()
	}
	a.work.Wait()
	if outer.Err() != nil && errors.Is(cause, context.Cause(outer)) {
		return nil
	}
	return cause
}

// Kill ends the process at once, without a goodbye, and resets its WebSocket connection. Run returns ErrKilled. Calls
// under way are cut off. It does not wait.
func (a *Agent) Kill() { a.die(ErrKilled) }

func (a *Agent) die(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.end != nil {
		a.end(why)
	} else if a.ended == nil {
		a.ended = why
	}
}

// Forget makes the process go on without an identity, as one does whose machine was deregistered (§5.2).
func (a *Agent) Forget() {
	a.mu.Lock()
	a.identity = nil
	a.mu.Unlock()
}

// Updating says whether the agent is in the critical part of an update of itself, in which it rejects every kick (§6).
func (a *Agent) Updating(yes bool) {
	a.mu.Lock()
	a.updating = yes
	a.mu.Unlock()
}

// live does what the agent does from its start on until ctx ends, in the order of §1. Everything else is started from
// here and counted in work.
func (a *Agent) live(ctx context.Context, start time.Time) {
	a.spawn(ctx, func(ctx context.Context) {
		kind := "not cold start"
		if a.cfg.ColdStart {
			kind = "cold start"
		}
		a.metric(ctx, "agent.startup", map[string]string{"type": kind})
	})
	if a.cfg.Packaged {
		a.checkUpdates(ctx)
	}
	if a.selectChannel(ctx) != nil {
		a.note(func(s *Snapshot) { s.Deaf = true }, "deaf until the next tick")
	}
	a.firstBeat(ctx)
	a.mu.Lock()
	a.enabled = true // and the startup fetch is the first one
	a.mu.Unlock()
	a.spawn(ctx, func(ctx context.Context) { a.fetch(ctx, "startup", "") })
	a.after(rand.N(a.t.State+1), a.queryState)
	a.tickFrom(start)
	a.errands(ctx)
}

// tickFrom looks after the channel at each multiple of Tick after the start.
func (a *Agent) tickFrom(start time.Time) {
	next := a.t.Tick - time.Since(start)%a.t.Tick
	a.after(next, func(ctx context.Context) {
		a.tickFrom(start)
		a.tick(ctx)
	})
}

// after does something in d, unless the process has ended by then.
func (a *Agent) after(d time.Duration, do func(context.Context)) {
	a.mu.Lock()
	a.agenda = append(a.agenda, errand{time.Now().Add(d), do})
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// errands does what is on the agenda until ctx ends. An idle agent has one goroutine here and one that reads.
func (a *Agent) errands(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
		}
		due, next := a.due()
		for _, do := range due {
			a.spawn(ctx, do)
		}
		timer.Reset(next)
	}
}

// due takes what is due from the agenda. It returns that and the time until the rest.
func (a *Agent) due() (due []func(context.Context), next time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	next = time.Hour
	rest := a.agenda[:0]
	for _, e := range a.agenda {
		if d := e.at.Sub(now); d > 0 {
			next = min(next, d)
			rest = append(rest, e)
		} else {
			due = append(due, e.do)
		}
	}
	clear(a.agenda[len(rest):])
	a.agenda = rest
	return due, next
}

// spawn does something in a goroutine that Run waits for. Whoever calls it is one, or Run.
func (a *Agent) spawn(ctx context.Context, do func(context.Context)) {
	a.work.Go(func() {
		if ctx.Err() == nil {
			do(ctx)
		}
	})
}

// at asks what happens at a point.
func (a *Agent) at(p Point, taskID string) Action {
	if a.cfg.At == nil {
		return Proceed
	}
	action := a.cfg.At(p, taskID)
	if action == Die {
		a.tell("killed " + string(p) + " " + taskID)
		a.Kill()
	}
	return action
}

// header returns the headers of a request to target: those of every request, and those of the identity if there is one.
func (a *Agent) header(target string) (http.Header, error) {
	a.mu.Lock()
	id := a.identity
	a.mu.Unlock()
	h := http.Header{}
	if a.cfg.Provider != nil {
		h = a.cfg.Provider.Clone()
	} else if id != nil {
		s := id.Stamp(time.Now())
		if a.cfg.Forge != nil {
			a.cfg.Forge(target, &s)
		}
		var err error
		if h, err = s.Header(); err != nil {
			return nil, err
		}
		if !s.None {
			h.Set("X-Client-IP", a.facts.IntranetIP)
		}
	}
	h.Set("User-Agent", a.facts.userAgent())
	return h, nil
}

// post makes a POST with the agent's headers. Its error is that of Network.Do.
func (a *Agent) post(ctx context.Context, target, content string, body []byte, limit time.Duration) (Answer, error) {
	return a.call(ctx, Call{Method: http.MethodPost, Target: target, ContentType: content, Body: body, Limit: limit})
}

func (a *Agent) call(ctx context.Context, c Call) (Answer, error) {
	h, err := a.header(c.Target)
	if err != nil {
		return Answer{}, err
	}
	c.Header = h
	return a.cfg.Network.Do(ctx, c)
}
