// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/lockfile"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

// machinesRole makes a child a host of machines.
type machinesRole struct {
	Seed     uint64
	Life     int    // which process of the same machines it is
	Lock     string // the file that holds the locks of its machines
	Machines []*machine
}

// machine is a simulated machine, as its process and Run know it.
type machine struct {
	Number      int
	Instance    string
	State, Root string
}

// published is a file that says what was published on the machine, by all lives of its process.
func (m *machine) published() string { return m.Root + ".published" }

// host runs machines until the input ends.
func (c *child) host(in *bufio.Reader, role *machinesRole) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	locks, err := lockfile.Share(role.Lock)
	if err != nil {
		return err
	}
	defer locks.Close()
	h := &host{child: c, seed: role.Seed, life: role.Life, locks: locks, nets: map[int]*network{}, counts: counts{}}
	for _, m := range role.Machines {
		h.run(ctx, m)
	}
	go h.tell(ctx)
	err = obey(in, func(cmd command) { h.obey(ctx, cmd) })
	stop()
	h.agents.Wait()
	c.say(notice{Counts: h.counted()})
	return err
}

// host is a process full of machines.
type host struct {
	*child
	seed   uint64
	life   int
	locks  *lockfile.Shared
	agents sync.WaitGroup

	mu     sync.Mutex
	nets   map[int]*network // by machine
	counts counts
	calm   bool
	die    string // kill yourself at this point
}

// obey does what the simulation asks for.
func (h *host) obey(ctx context.Context, cmd command) {
	switch {
	case cmd.Cut > 0:
		h.net(cmd.Cut - 1).cut()
	case cmd.Split > 0:
		h.net(cmd.Split - 1).split(cmd.For)
	case cmd.Run != nil:
		h.run(ctx, cmd.Run)
	case cmd.Die != nil && *cmd.Die == "":
		kill()
	case cmd.Die != nil:
		h.mu.Lock()
		h.die = *cmd.Die
		h.mu.Unlock()
	case cmd.Calm:
		h.mu.Lock()
		h.calm = true
		for _, n := range h.nets {
			n.heal()
		}
		h.mu.Unlock()
	}
}

// kill ends this process as nothing else does: there is no end of anything.
func kill() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill()
	}
	select {} // it is on its way
}

// net returns the network of a machine. Who has no machine of that number has one that nobody uses.
func (h *host) net(machine int) *network {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.nets[machine]
	if n == nil {
		n = newNetwork()
		h.nets[machine] = n
	}
	return n
}

// tell says from time to time what has happened so far: a process that is killed says nothing any more.
func (h *host) tell(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.say(notice{Counts: h.counted()})
		}
	}
}

func (h *host) counted() counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := counts{}
	c.add(h.counts)
	return c
}

// run runs the agent of a machine until ctx ends.
func (h *host) run(ctx context.Context, m *machine) {
	log := h.log.With("machine", m.Number)
	f := &fate{host: h, machine: m.Number, published: m.published(), seen: map[string]int{}}
	a, err := agent.New(agent.Config{
		StateDir: m.State, Locks: h.locks, Root: m.Root, Version: "sim",
		Backoff: agent.Backoff{First: 200 * time.Millisecond, Max: 2 * time.Second},
		Hooks: agent.Hooks{
			Trace: f.trace, Fault: f.disk, Message: f.message, Dial: h.net(m.Number).dial,
		},
	}, log)
	if err != nil {
		log.Error("no agent", "err", err)
		return
	}
	h.agents.Go(func() {
		err := a.Run(ctx)
		if errors.Is(err, agent.ErrDeregistered) || errors.Is(err, agent.ErrQuarantined) {
			log.Info("agent ended", "err", err)
		} else if err != nil {
			log.Error("agent ended", "err", err)
		}
	})
}

// fate decides what happens to one machine's messages and disk. What happens to the nth message of a kind in a life of
// its process depends on the seed alone.
type fate struct {
	host      *host
	machine   int
	published string // a file with a line for each delivery whose file got its final name; it outlives the process

	mu   sync.Mutex
	seen map[string]int
}

// draw returns the random numbers for the next thing of that kind, or nil if all is calm.
func (f *fate) draw(what string) *rand.Rand {
	f.host.mu.Lock()
	calm := f.host.calm
	f.host.mu.Unlock()
	if calm {
		return nil
	}
	f.mu.Lock()
	n := f.seen[what]
	f.seen[what]++
	f.mu.Unlock()
	return stream(f.host.seed, "fate", f.machine, f.host.life, what, n)
}

func (f *fate) count(what string) {
	f.host.mu.Lock()
	f.host.counts[what]++
	f.host.mu.Unlock()
}

// What happens to messages and disks.
const (
	lost     = "messages lost"
	doubled  = "messages doubled"
	delayed  = "messages late or overtaken"
	diskSlow = "slow steps of a disk"
	diskFull = "full disks"
	placed   = "files published"
)

// message lets one in twenty messages not arrive as it is.
func (f *fate) message(m agent.Message) agent.Fate {
	r := f.draw(fmt.Sprint(m.ToServer, m.Op))
	if r == nil || m.Op == wire.OpBeat {
		return agent.AsItIs
	}
	late := func() time.Duration {
		if r.IntN(10) == 0 {
			return rand64(r, 12*time.Second) // longer than a timeout
		}
		return rand64(r, 400*time.Millisecond)
	}
	switch r.IntN(60) {
	case 0:
		f.count(lost)
		return nil
	case 1:
		f.count(doubled)
		return agent.Fate{0, late()}
	case 2:
		f.count(delayed)
		return agent.Fate{late()}
	}
	return agent.AsItIs
}

// disk makes one in fifty writes find no room, and some syncs take long.
func (f *fate) disk(step place.Step, _ string) error {
	switch step {
	case place.StepWrite:
		if r := f.draw(string(step)); r != nil && r.IntN(50) == 0 {
			f.count(diskFull)
			return syscall.ENOSPC
		}
	case place.StepSync, place.StepSyncDir:
		if r := f.draw(string(step)); r != nil && r.IntN(50) == 0 {
			f.count(diskSlow)
			pause := time.NewTimer(rand64(r, 2*time.Second))
			<-pause.C
		}
	}
	return nil
}

// trace kills the process where it is to be killed.
func (f *fate) trace(event, delivery string) {
	if event == string(place.StepSyncDir) {
		f.count(placed)
		if err := note(f.published, delivery); err != nil {
			f.host.log.Error("publication is not noted", "err", err)
		}
	}
	f.host.mu.Lock()
	die := f.host.die != "" && f.host.die == event
	f.host.mu.Unlock()
	if die {
		kill()
	}
}

// note appends a line to a file, which is not kept open: of 10,000 machines in a process, each has few files.
func note(name, line string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}
