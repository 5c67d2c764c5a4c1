// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill/internal/lockfile"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

// Config says how an agent runs. Only StateDir is required.
type Config struct {
	// StateDir holds the identity that Enroll wrote, and the journal. One agent at a time may use it.
	StateDir string
	// Locks, if not nil, holds StateDir in place of a file that the agent keeps open: for a process full of agents. It
	// keeps other agents off as well, in this process and in others.
	Locks *lockfile.Shared
	// Root and AllowDirs restrict where files may be placed; see place.Config.
	Root      string
	AllowDirs []string
	// Version of the program, as it is told to the server.
	Version string
	// Backoff spaces attempts to reach the server, and repetitions of what it does not answer. Longer delays spare a
	// server that comes back to a large fleet; shorter ones end an interruption sooner.
	Backoff Backoff
	// Why tells the reason of the agent's leaving, asked once when Run's context has ended. Nil: wire.ByeStopped.
	// LeaveReason returns one that knows why a process ends.
	Why func(context.Context) wire.ByeReason
	// Ready, if not nil, is called once the agent holds its state directory and begins to look for the server.
	Ready func()
	// Hooks interfere; see there.
	Hooks Hooks
}

// How long an agent that is told to end takes for it.
const (
	drainTimeout   = 10 * time.Second // for work under way
	abandonTimeout = time.Second      // for work that was cut off to clear up after itself
	settleTimeout  = 2 * time.Second  // for the server to confirm the last outcomes
	byeTimeout     = 2 * time.Second  // for the server to take notice
)

// Agent is one agent. Any number may live in one process, each with its own state directory.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	session string // tells the runs of one identity apart
	key     nkeys.KeyPair
	dialer  *dialer
	calls   *caller
	facts   facts
	clock   clock
	ping    time.Duration // pingInterval, but for tests
	grace   time.Duration // drainTimeout, likewise

	exec *executor // set by Run

	mu  sync.Mutex
	reg registration // its token is replaced now and then
}

// New returns the agent whose identity is in cfg.StateDir. It starts nothing. The error is ErrNotEnrolled where there
// is no identity.
func New(cfg Config, log *slog.Logger) (*Agent, error) {
	reg, err := loadRegistration(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	key, err := loadKey(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	d := newDialer(reg.CA)
	d.direct = cfg.Hooks.Dial
	calls, err := newCaller(reg.Server, reg.CA, key, d)
	if err != nil {
		return nil, err
	}
	cfg.Backoff = cfg.Backoff.withDefaults()
	if cfg.Why == nil {
		cfg.Why = func(context.Context) wire.ByeReason { return wire.ByeStopped }
	}
	return &Agent{
		cfg:     cfg,
		log:     log.With("instance_id", reg.Instance),
		session: rand.Text(),
		key:     key,
		dialer:  d,
		calls:   calls,
		facts:   gatherFacts(),
		ping:    pingInterval,
		grace:   drainTimeout,
		reg:     reg,
	}, nil
}

// Run lives until ctx ends; then it finishes what it is placing, or leaves it without a trace, says goodbye to the
// server and returns nil. It returns an error if the state directory cannot be used, and ErrDeregistered or
// ErrQuarantined if the server does not want this agent any more. It reconnects for ever. It may be called once.
func (a *Agent) Run(ctx context.Context) error {
	try := lockfile.TryLock
	if a.cfg.Locks != nil {
		try = a.cfg.Locks.TryLock
	}
	unlock, err := lockState(ctx, a.cfg.StateDir, try)
	if err != nil {
		return err
	}
	defer unlock()
	j, err := openJournal(a.cfg.StateDir, a.log)
	if err != nil {
		return err
	}
	defer j.close()
	a.clock.learn(j.now(), time.Time{})
	placer, err := place.New(place.Config{
		Root: a.cfg.Root, AllowDirs: a.cfg.AllowDirs,
		Trace: func(s place.Step, id string) { a.cfg.Hooks.trace(string(s), id) },
		Fault: a.cfg.Hooks.Fault,
	})
	if err != nil {
		return err
	}

	// Work and link outlive ctx: both are ended in turn once it is over.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	link, stopLink := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLink()

	a.exec = newExecutor(placer, a.fetcher(), j, &a.clock, &a.cfg, a.log)
	a.exec.begin(work)
	a.note(linkState{Problem: "looking for the server"})
	if a.cfg.Ready != nil {
		a.cfg.Ready()
	}
	linked := make(chan error, 1)
	go func() { linked <- a.stayLinked(link, work) }()

	select {
	case err = <-linked: // the server does not want us
		a.drain(work, stopWork)
	case <-ctx.Done():
		a.drain(work, stopWork)
		a.settle(link)
		stopLink()
		err = <-linked
	}
	return err
}

// fetcher gets contents from the server that the agent enrolled at.
func (a *Agent) fetcher() *fetcher {
	return &fetcher{calls: a.calls, clock: &a.clock, retry: a.cfg.Backoff, stall: fetchStall, now: a.now, log: a.log}
}

// drain stops taking up work and ends what is under way.
func (a *Agent) drain(work context.Context, stopWork context.CancelFunc) {
	a.exec.stop()
	within := func(d time.Duration) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(work), d)
		defer cancel()
		return a.exec.awaitIdle(ctx)
	}
	if within(a.grace) == nil {
		return
	}
	stopWork()
	if within(abandonTimeout) != nil {
		// A disk that does not answer holds the work for ever. The next run finds out what became of it.
		a.log.Warn("work is left behind", "deliveries", a.exec.open())
	}
}

// settle gives the server a moment to confirm what it has not confirmed yet.
func (a *Agent) settle(link context.Context) {
	ctx, cancel := context.WithTimeout(link, settleTimeout)
	defer cancel()
	if a.exec.awaitConfirmed(ctx) != nil {
		a.log.Info("outcomes will be reported by the next run", "deliveries", a.exec.open())
	}
}

// stayLinked keeps the link to the server until ctx ends, and returns nil then. It returns an error if the server does
// not want this agent any more.
func (a *Agent) stayLinked(ctx, work context.Context) error {
	failures := 0
	for {
		welcomed, err := a.link(ctx, work)
		if ctx.Err() != nil {
			return nil
		}
		if unwanted(err) {
			a.note(linkState{Problem: err.Error()})
			return err
		}
		if welcomed {
			failures = 0
		}
		if errors.Is(err, errRenewed) {
			continue
		}
		a.log.Warn("no link to the server", "err", err)
		a.note(linkState{Problem: err.Error()})
		if a.cfg.Backoff.wait(ctx, failures) != nil {
			continue
		}
		failures++
		switch {
		case isAuthError(err):
			err = a.renew(ctx)
		case failures%askAgain == 0: // the link may be elsewhere by now
			err = a.renewOnce(ctx)
		default:
			continue
		}
		if unwanted(err) {
			a.note(linkState{Problem: err.Error()})
			return err
		}
	}
}

// askAgain is after how many attempts to connect in vain the server is asked where its link is.
const askAgain = 6

func unwanted(err error) bool {
	return errors.Is(err, ErrDeregistered) || errors.Is(err, ErrQuarantined)
}

// note tells people how the link is.
func (a *Agent) note(s linkState) {
	s.Since = time.Now().Round(time.Second)
	if err := s.save(a.cfg.StateDir); err != nil {
		a.log.Warn("the state of the link is not noted", "err", err)
	}
}

// renew replaces the token, for as many attempts as it takes. It returns ctx's error, or an error for which unwanted is
// true.
func (a *Agent) renew(ctx context.Context) error {
	for failures := 0; ; failures++ {
		err := a.renewOnce(ctx)
		if err == nil || unwanted(err) {
			return err
		}
		if err := a.cfg.Backoff.wait(ctx, failures); err != nil {
			return err
		}
	}
}

// renewOnce asks for a new token, and takes it and the addresses that come with it.
func (a *Agent) renewOnce(ctx context.Context) error {
	var reply wire.RenewReply
	err := a.calls.call(ctx, wire.PathRenew, a.now(), struct{}{}, &reply)
	if err == nil && reply.JWT == "" {
		err = errors.New("the answer holds no token")
	}
	if err != nil {
		if !unwanted(err) {
			a.log.Warn("the token is not renewed", "err", err)
		}
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reg.JWT = reply.JWT
	if len(reply.Addresses) > 0 {
		a.reg.NATS = reply.Addresses
	}
	if err := a.reg.save(a.cfg.StateDir); err != nil {
		a.log.Warn("the new token is in memory only", "err", err) // its next run renews it again
	}
	return nil
}

func (a *Agent) registration() registration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reg
}

// now returns the best known time: the server's if it is known, otherwise the machine's.
func (a *Agent) now() time.Time {
	if ms := a.clock.millis(); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Now()
}

// token and sign are what the bus asks for when the agent connects.
func (a *Agent) token() (string, error) { return a.registration().JWT, nil }

func (a *Agent) sign(nonce []byte) ([]byte, error) {
	sig, err := a.key.Sign(nonce)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return sig, nil
}
