// SPDX-License-Identifier: Apache-2.0

// Package sim runs a whole fleet on one machine, breaks it in every way that the seed says, and looks whether the
// invariants hold: a real server process, processes full of real agents, real TLS connections, a real database, real
// files.
//
// What breaks: messages between agents and server are lost, doubled, late and overtaken; connections are cut and
// stall; disks are slow and full; processes full of agents kill themselves at a step of placing a file; the server is
// killed; its clock jumps; machines are cloned; machines leave; deliveries are stopped, and rehearsed. What is
// sent, where, and what breaks when, comes from the seed alone (plan.go). How the processes interleave does not: the same
// seed repeats the same storm over the same fleet, not each race in it.
//
// What is looked at, during the storm and after it, through the API and on disk, is in check.go.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Config says what to simulate. Start from DefaultConfig.
type Config struct {
	Seed       uint64
	Machines   int
	Processes  int // that the machines are spread over
	Deliveries int // of the first account; a second one has a tenth of them, on machines of its own
	Kills      int // of processes, one in twenty of them the server
	// Duration is how long the storm lasts; 0: as the kills and deliveries need it.
	Duration time.Duration
	// MaxTimeout is the longest timeout of a delivery; the shortest is the API's. It bounds how long a run takes after
	// its storm.
	MaxTimeout time.Duration
	// Dir holds everything: the server's data, the machines' states and roots, logs. It must not exist.
	Dir string
	// Site, if not nil, is what several servers share; otherwise there is one, with a database and a bus of its own.
	Site *Site
	// Child makes the command of a process that calls Child. Its standard streams are set by Run.
	Child func() *exec.Cmd
	// Progress is told how far the run is, in lines for people; nil: nobody.
	Progress io.Writer
}

// Site is what several servers of one fleet share. Run starts the servers, and nothing else of it.
type Site struct {
	Listen    []string // the address of each server, for HTTPS
	Endpoint  string   // the address of a load balancer before them, which clients and machines use
	Database  string
	SealKey   string // a file
	NATS      string
	NATSCreds string
	Parts     []Part
	// Measure has Run print how many deliveries in a second one server accepts, and how many all of them do.
	Measure int // deliveries of each measurement; 0: none
}

// Part is something of a site that dies, or is cut off, and comes back, such as a database.
type Part struct {
	What  string // happens to it, for the report
	Break func() error
	Mend  func() error
	Needs bool // without it no server can end a target
}

// DefaultConfig returns a run of about a minute and a half.
func DefaultConfig() Config {
	return Config{Machines: 40, Processes: 8, Deliveries: 400, Kills: 20, MaxTimeout: 20 * time.Second}
}

// Validate reports every setting that makes no sense, or is too much for this machine.
func (c *Config) Validate() error {
	var errs []error
	if c.Machines < 4 {
		errs = append(errs, fmt.Errorf("%d machines are too few for a fleet; use 4 at least", c.Machines))
	}
	if c.Processes < 1 || c.Processes > c.Machines {
		errs = append(errs, fmt.Errorf("%d processes for %d machines make no sense", c.Processes, c.Machines))
	}
	if c.Deliveries < 1 || c.Kills < 0 || c.Duration < 0 {
		errs = append(errs, errors.New("at least one delivery is needed, and no number may be below zero"))
	}
	if c.Site != nil && (len(c.Site.Listen) == 0 || len(c.Site.Parts) == 0) {
		errs = append(errs, errors.New("a site without servers, or of which nothing breaks, is none"))
	}
	if c.MaxTimeout < minTimeout {
		errs = append(errs, fmt.Errorf("a timeout of %s is less than the API takes; use %s at least", c.MaxTimeout, minTimeout))
	}
	return errors.Join(append(errs, enoughFiles(c.Machines, mayOpen()))...)
}

// minTimeout is the least that SendFile takes (api.md: Timeout).
const minTimeout = 10 * time.Second

// Run simulates what cfg says and returns what it saw. An error means that the simulation itself failed; broken
// invariants are in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Progress == nil {
		cfg.Progress = io.Discard
	}
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(cfg.Dir, "logs"), 0o700); err != nil {
		return nil, err
	}
	r := &run{cfg: cfg, plan: newPlan(&cfg), counts: counts{}, went: map[spot][]*sent{}, broken: map[int]bool{}}
	r.servers = make([]*process, 1)
	if cfg.Site != nil {
		r.servers = make([]*process, len(cfg.Site.Listen))
	}
	r.fleet = make([]*machine, len(r.plan.machines))
	r.processes, r.lives = make([]*process, cfg.Processes), make([]int, cfg.Processes)
	defer r.killAll()
	if err := r.simulate(ctx); err != nil {
		return nil, err
	}
	return r.report(), nil
}

// spareFiles is how many files a process may need beside what its machines do: for placing, for its own use.
const spareFiles = 500

// enoughFiles returns an error if limit, how many files a process may open, is too low; 0: it has none. A machine is a
// connection, at both ends. Half as many come on top: some of them have two after the first was cut or stalled, and a
// journal is open while there is something to tell. All machines meet at one server, so more processes do not help.
func enoughFiles(machines int, limit uint64) error {
	need := uint64(machines + machines/2 + spareFiles)
	if limit == 0 || need <= limit {
		return nil
	}
	return fmt.Errorf("a process may open %d files here, and a server of %d machines needs %d; raise the limit "+
		"(ulimit -n %d), or use fewer machines", limit, machines, need, need)
}

// simulate goes through the phases of a run.
func (r *run) simulate(ctx context.Context) error {
	began := time.Now()
	r.say("seed %d: %s", r.cfg.Seed, r.plan)
	for i := range r.servers {
		if err := r.startServer(ctx, i); err != nil {
			return err
		}
	}
	if err := r.enrol(ctx); err != nil {
		return err
	}
	for i := range r.cfg.Processes {
		if err := r.startProcess(i); err != nil {
			return err
		}
	}
	if err := r.awaitOnline(ctx); err != nil {
		return err
	}
	if err := r.measure(ctx); err != nil {
		return err
	}
	r.say("%d machines are online after %s; the storm lasts %s", len(r.fleet), since(began), r.plan.storm)

	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	watched := make(chan error, 2)
	go func() { watched <- r.watch(watching) }()
	go func() { watched <- r.readDisks(watching) }()
	if err := errors.Join(r.storm(ctx), r.calm(ctx)); err != nil {
		return err
	}
	r.say("the storm is over after %s; waiting until everything is final", since(began))
	if err := r.awaitFinal(ctx); err != nil {
		return err
	}
	stopWatching()
	if err := errors.Join(<-watched, <-watched); err != nil {
		return err
	}
	if err := r.stopProcesses(ctx); err != nil {
		return err
	}
	r.say("everything has ended after %s; looking at it", since(began))
	err := r.look(ctx)
	r.took = time.Since(began)
	return err
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Second) }

func (r *run) say(format string, args ...any) { fmt.Fprintf(r.cfg.Progress, format+"\n", args...) }
