// SPDX-License-Identifier: Apache-2.0

package script

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
)

// atOnce is how many machines are enrolled, or change, at the same time.
const atOnce = 8

// lookAgain is how often to look whether the server has ended something.
const lookAgain = 20 * time.Millisecond

// goneName is the name of the account whose machines end with AccountNotExists.
const goneName = "scripted, disabled while it delivers"

// Config says where a fleet plays. All but Version is required.
type Config struct {
	Dir      string // of the machines; what an earlier fleet left there must be gone
	Server   string // https://host:port
	CAFile   string // PEM file with what vouches for the server's certificate
	Region   string
	Account  waybill.AccountID
	Key      string // of the account
	Secret   string
	Operator *control.Operator // of the server
	Version  string            // that agents tell
}

// Fleet is the machines of a script. Its methods may be called by several goroutines.
type Fleet struct {
	script *Script
	log    *slog.Logger
	cfg    Config

	// The machines live until stop.
	living context.Context
	stop   context.CancelFunc
	loops  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	machines []*machine
	byID     map[waybill.InstanceID]*machine
	gone     *Account // of machines that end with AccountNotExists; nil if there are none
}

// Account is an account with its key.
type Account struct {
	ID     waybill.AccountID
	Key    string
	Secret string
	client *client.Client
}

// NewFleet returns a fleet that does nothing yet. Its Sending must be given to the server that Start is then given.
func NewFleet(s *Script, log *slog.Logger) *Fleet {
	f := &Fleet{script: s, log: log, byID: map[waybill.InstanceID]*machine{}}
	f.living, f.stop = context.WithCancel(context.Background())
	return f
}

// Start enrols the machines and returns once each is what its first delivery is to meet.
func (f *Fleet) Start(ctx context.Context, cfg Config) error {
	f.cfg = cfg
	ca, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return err
	}
	main := &Account{ID: cfg.Account, Key: cfg.Key, Secret: cfg.Secret}
	if err := f.connect(main); err != nil {
		return err
	}
	machines := make([]*machine, len(f.script.Machines))
	count := map[*Account]int{}
	var gone *Account
	for i, part := range f.script.Machines {
		m := &machine{
			Machine: part, fleet: f, account: main, dir: filepath.Join(cfg.Dir, part.Name),
			turn: make(chan struct{}, 1), plans: map[string]*plan{},
		}
		machines[i] = m
		switch first := part.Steps[0].cause; first {
		case waybill.CauseUnknown:
			m.id = identity.NewInstanceID(identity.RegionMark(cfg.Region))
			continue
		case waybill.CauseAccountGone:
			if gone == nil {
				if gone, err = f.newAccount(ctx); err != nil {
					return err
				}
			}
			m.account = gone
		}
		count[m.account]++
	}
	activations := map[*Account]client.NewActivation{}
	for account, n := range count {
		activations[account], err = account.client.CreateActivation(ctx, client.CreateActivationRequest{
			InstanceName: "scripted", InstanceCount: n,
		})
		if err != nil {
			return err
		}
	}
	err = each(ctx, machines, func(ctx context.Context, m *machine) error {
		if m.id == "" {
			activation := activations[m.account]
			if err := m.enrol(ctx, cfg.Server, string(ca), activation.ID, activation.Code, cfg.Version); err != nil {
				return err
			}
		}
		return m.become(ctx, m.Steps[0].presence())
	})
	if err != nil {
		return err
	}
	for _, m := range machines {
		if m.Flapping != nil {
			if err := f.loop(func() { m.link.flap(f.living, *m.Flapping) }); err != nil {
				return err
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.machines, f.gone = machines, gone
	for _, m := range machines {
		f.byID[m.id] = m
	}
	return nil
}

// loop runs do until the fleet is closed. do must end soon after that.
func (f *Fleet) loop(do func()) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errors.New("the machines are being stopped")
	}
	f.loops.Go(do)
	return nil
}

func (f *Fleet) connect(a *Account) (err error) {
	a.client, err = client.New(client.Config{
		Endpoint: f.cfg.Server, CAFile: f.cfg.CAFile, Region: f.cfg.Region, AccessKeyID: a.Key, AccessKeySecret: a.Secret,
	})
	return err
}

func (f *Fleet) newAccount(ctx context.Context) (*Account, error) {
	a, c, err := f.cfg.Operator.CreateAccount(ctx, goneName)
	if err != nil {
		return nil, err
	}
	account := &Account{ID: a.ID, Key: c.Key.ID, Secret: c.Secret}
	return account, f.connect(account)
}

// each calls do for all machines, some of them at the same time.
func each(ctx context.Context, machines []*machine, do func(context.Context, *machine) error) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(atOnce)
	for _, m := range machines {
		eg.Go(func() error {
			if err := do(ctx, m); err != nil {
				return fmt.Errorf("machine %s: %w", m.Name, err)
			}
			return nil
		})
	}
	return eg.Wait()
}

// Close ends the machines and waits for that.
func (f *Fleet) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.stop()
	f.loops.Wait()
}

// Member is a machine as those know it who send to it.
type Member struct {
	Machine
	ID   waybill.InstanceID
	Root string   // its / directory; empty if it is never enrolled
	Own  *Account // whose it is, if it is not that of the others
}

// Members returns the machines in the order of the script, once Start has returned.
func (f *Fleet) Members() []Member {
	f.mu.Lock()
	defer f.mu.Unlock()
	members := make([]Member, len(f.machines))
	for i, m := range f.machines {
		members[i] = Member{Machine: m.Machine, ID: m.id}
		if m.Steps[0].presence() != absent {
			members[i].Root = m.root()
		}
		if m.account == f.gone {
			members[i].Own = m.account
		}
	}
	return members
}

// Sending is for control.Config. It makes each machine what the next step of its part asks for, and remembers which step
// the delivery is for. Deliveries to one machine are prepared one after the other.
func (f *Fleet) Sending(
	ctx context.Context, d *waybill.Delivery, to []waybill.InstanceID,
) (done func(stored bool), err error) {
	machines := f.meant(d.Account, to)
	locked := 0
	release := func() {
		for _, m := range machines[:locked] {
			<-m.turn
		}
	}
	for _, m := range machines { // all in the same order, so that nobody waits in a circle
		select {
		case m.turn <- struct{}{}:
			locked++
		case <-ctx.Done():
			release()
			return nil, ctx.Err()
		}
	}
	if err := each(ctx, machines, func(ctx context.Context, m *machine) error { return m.prepare(ctx, d) }); err != nil {
		for _, m := range machines {
			m.take(d.ID, false)
		}
		release()
		return nil, err
	}
	return func(stored bool) {
		defer release()
		for _, m := range machines {
			m.take(d.ID, stored)
		}
		if stored && len(machines) > 0 && machines[0].account == f.gone {
			if err := f.endAccount(context.WithoutCancel(ctx), d.ID, machines); err != nil {
				f.log.Error("the account of a scripted machine stays as it is", "delivery_id", d.ID, "err", err)
			}
		}
	}, nil
}

// meant returns the machines of that account which are among to, in the order of their IDs.
func (f *Fleet) meant(account waybill.AccountID, to []waybill.InstanceID) []*machine {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []*machine
	for _, id := range to {
		if m := f.byID[id]; m != nil && m.account.ID == account && m.Steps[0].presence() != absent {
			found = append(found, m)
		}
	}
	slices.SortFunc(found, func(a, b *machine) int { return cmp.Compare(a.id, b.id) })
	return found
}

// endAccount disables the account of machines for as long as it takes the server to notice and end the delivery to them.
func (f *Fleet) endAccount(ctx context.Context, d waybill.DeliveryID, machines []*machine) (err error) {
	if err := f.cfg.Operator.SetDisabled(ctx, f.gone.ID, true); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.cfg.Operator.SetDisabled(ctx, f.gone.ID, false)) }()
	for _, m := range machines {
		if err := m.awaitEnd(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// enrol makes m an instance.
func (m *machine) enrol(
	ctx context.Context, server, ca string, id waybill.ActivationID, code, version string,
) error {
	if err := os.MkdirAll(m.root(), 0o755); err != nil {
		return err
	}
	status, err := agent.Enroll(ctx, agent.EnrollOptions{
		StateDir: m.state(), Server: server, CA: ca, Version: version,
		ActivationID: string(id), ActivationCode: code, Name: m.Name, Tags: map[string]string{"env": "demo"},
	})
	m.id = waybill.InstanceID(status.Instance)
	return err
}
