// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/store"
)

// run is a simulation under way.
type run struct {
	cfg     Config
	plan    *plan
	key     server.Credentials
	clients [accounts]*client.Client
	fleet   []*machine
	clones  []*machine
	took    time.Duration
	found   findings
	ended   map[string]int64

	rehearsals map[string]bool // by ID; of the last look

	mu        sync.Mutex
	addresses map[string]string
	ahead     time.Duration // the server's clock, as it was told last
	upSince   time.Time     // since when all that it takes to end a target is there; zero: something is down
	servers   []*process
	processes []*process
	lives     []int        // of each
	broken    map[int]bool // parts of the site
	counts    counts
	went      map[spot][]*sent // what may be there: its file may come before the call that sends it is answered
	sent      []*sent          // in the order of their answers
}

// spot is a path on a machine.
type spot struct {
	machine int
	path    string
}

// process is a child.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	ended chan struct{} // closed when it has

	doomed bool // it is about to be killed and started again; of the goroutine of the storm

	mu  sync.Mutex // of in
	err error      // of its end; read it once ended is closed
}

// tell sends a command. One that is gone is told nothing.
func (p *process) tell(c command) {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // these types always encode
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = p.in.Write(append(b, '\n'))
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// start starts a child with a role. heard is told what it says, and nothing after ended is closed.
func (r *run) start(name string, role command, heard func(notice)) (*process, error) {
	log, err := os.OpenFile(filepath.Join(r.cfg.Dir, "logs", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := r.cfg.Child()
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a process of the simulation: %w", err)
	}
	p := &process{cmd: cmd, in: in, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				break
			}
			var n notice
			if json.Unmarshal(line, &n) == nil { // a killed process may leave half a line
				heard(n)
			}
		}
		p.err = cmd.Wait()
	}()
	p.tell(role)
	return p, nil
}

// count adds what a process has told since it began; before is what it had told until now.
func (r *run) count(before *counts, now counts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for what, n := range now {
		r.counts[what] += n - (*before)[what]
	}
	*before = now
}

// dataDir is that of the ith server.
func (r *run) dataDir(i int) string {
	if i == 0 {
		return filepath.Join(r.cfg.Dir, "server")
	}
	return filepath.Join(r.cfg.Dir, fmt.Sprint("server-", i))
}

// serverRole says what the ith server is to be.
func (r *run) serverRole(i int) *serverRole {
	r.mu.Lock()
	defer r.mu.Unlock()
	role := &serverRole{DataDir: r.dataDir(i), Addresses: r.addresses, Ahead: r.ahead}
	if s := r.cfg.Site; s != nil {
		role.Addresses = map[string]string{"https": s.Listen[i]}
		role.Database, role.SealKey, role.NATS, role.NATSCreds = s.Database, s.SealKey, s.NATS, s.NATSCreds
	}
	return role
}

// startServer starts the ith server, where it was if it was there before, and returns once it listens.
func (r *run) startServer(ctx context.Context, i int) error {
	listens := make(chan notice, 1)
	p, err := r.start(filepath.Base(r.dataDir(i)), command{Server: r.serverRole(i)}, func(n notice) {
		if n.Addresses != nil {
			listens <- n
		}
	})
	if err != nil {
		return err
	}
	select {
	case n := <-listens:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.servers[i], r.addresses = p, n.Addresses
		r.upLocked()
		if n.Key != nil {
			r.key = *n.Key
			if r.cfg.Site != nil {
				r.key.Endpoint = "https://" + r.cfg.Site.Endpoint
			}
		}
		return nil
	case <-p.ended:
		return fmt.Errorf("the server does not start; see %s", filepath.Join(r.cfg.Dir, "logs", filepath.Base(r.dataDir(i))+".log"))
	case <-ctx.Done():
		p.kill()
		return ctx.Err()
	}
}

// upLocked notes whether all is there that it takes to end a target: a server, and what servers need. r.mu is held.
func (r *run) upLocked() {
	up := slices.ContainsFunc(r.servers, func(p *process) bool { return p != nil })
	for i := range r.broken {
		up = up && !(r.broken[i] && r.cfg.Site.Parts[i].Needs)
	}
	switch {
	case !up:
		r.upSince = time.Time{}
	case r.upSince.IsZero():
		r.upSince = time.Now()
	}
}

// restartServer starts a server again, and once more where what it rests on is away: so does a service manager.
func (r *run) restartServer(ctx context.Context, i int) error {
	for {
		err := r.startServer(context.WithoutCancel(ctx), i)
		if err == nil || r.cfg.Site == nil {
			return err
		}
		r.happened("starts of servers that failed")
		if !pauseUntil(ctx, time.Now().Add(500*time.Millisecond)) {
			return err
		}
	}
}

// startProcess starts the ith process of machines, or starts it again.
func (r *run) startProcess(i int) error {
	r.mu.Lock()
	r.lives[i]++
	role := machinesRole{
		Seed: r.plan.seed, Life: r.lives[i], Lock: filepath.Join(r.cfg.Dir, fmt.Sprintf("machines-%d.lock", i)),
	}
	for _, m := range slices.Concat(r.fleet, r.clones) {
		if r.plan.processOf(m.Number) == i {
			role.Machines = append(role.Machines, m)
		}
	}
	r.mu.Unlock()
	var before counts
	p, err := r.start(fmt.Sprint("machines-", i), command{Machines: &role}, func(n notice) { r.count(&before, n.Counts) })
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.processes[i] = p
	return nil
}

func (r *run) process(i int) *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.processes[i]
}

// killAll leaves no process behind.
func (r *run) killAll() {
	r.mu.Lock()
	all := slices.Concat(r.processes, r.servers)
	r.mu.Unlock()
	for _, p := range all {
		if p != nil {
			p.kill()
		}
	}
}

// stopProcesses ends the processes of machines in good order: what they know is reported by then.
func (r *run) stopProcesses(ctx context.Context) error {
	for i := range r.processes {
		p := r.process(i)
		p.in.Close()
		select {
		case <-p.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
		if p.err != nil {
			return fmt.Errorf("process %d of machines: %w; see its log", i, p.err)
		}
	}
	return nil
}

// enrol makes the accounts and enrols every machine.
func (r *run) enrol(ctx context.Context) error {
	second, err := r.secondAccount(ctx)
	if err != nil {
		return err
	}
	for a, k := range [accounts][2]string{{r.key.AccessKeyID, r.key.AccessKeySecret}, second} {
		if r.clients[a], err = client.New(client.Config{
			Endpoint: r.key.Endpoint, AccessKeyID: k[0], AccessKeySecret: k[1], Region: r.key.Region, CAFile: r.key.CA,
		}); err != nil {
			return err
		}
	}
	ca, err := os.ReadFile(r.key.CA)
	if err != nil {
		return err
	}
	var codes [accounts]client.NewActivation
	made := 0
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(16)
	for number, a := range r.plan.machines {
		if number%perActivation == 0 {
			for a, c := range r.clients {
				codes[a], err = c.CreateActivation(ctx, client.CreateActivationRequest{
					InstanceName: fmt.Sprintf("sim%d-%d", a, made), InstanceCount: perActivation,
				})
				if err != nil {
					return errors.Join(err, eg.Wait())
				}
			}
			made++
		}
		code := codes[a]
		eg.Go(func() error {
			dir := filepath.Join(r.cfg.Dir, "machines", strconv.Itoa(number))
			m := &machine{Number: number, State: filepath.Join(dir, "state"), Root: filepath.Join(dir, "root")}
			if err := m.makeRoot(); err != nil {
				return err
			}
			status, err := agent.Enroll(ctx, agent.EnrollOptions{
				StateDir: m.State, Server: r.key.Endpoint, CA: string(ca), Version: "sim",
				ActivationID: string(code.ID), ActivationCode: code.Code,
			})
			m.Instance = status.Instance
			r.fleet[number] = m
			return err
		})
	}
	return eg.Wait()
}

const perActivation = 1000

// makeRoot makes the directory tree of a machine that no delivery makes.
func (m *machine) makeRoot() error {
	for _, dir := range []string{m.State, filepath.Join(m.Root, "srv")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(m.Root, strayDir), nil, 0o600)
}

// secondAccount makes another account in the database, as its operator would, and returns a key of it.
func (r *run) secondAccount(ctx context.Context) (key [2]string, err error) {
	file, url := filepath.Join(r.dataDir(0), "seal.key"), "sqlite:"+filepath.Join(r.dataDir(0), "waybill.db")
	if s := r.cfg.Site; s != nil {
		file, url = s.SealKey, s.Database
	}
	sealer, err := identity.OpenSealer(file)
	if err != nil {
		return key, err
	}
	s, err := store.Open(ctx, store.Config{
		URL: url, KeepSchema: true, AuditKey: control.AuditKey(sealer),
	}, discard)
	if err != nil {
		return key, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	_, c, err := (&control.Operator{Name: "sim", Store: s, Sealer: sealer}).CreateAccount(ctx, "other")
	return [2]string{c.Key.ID, c.Secret}, err
}

// awaitOnline waits until every machine is connected.
func (r *run) awaitOnline(ctx context.Context) error {
	yes := true
	want := [accounts]int64{}
	for _, a := range r.plan.machines {
		want[a]++
	}
	for a, c := range r.clients {
		err := r.until(ctx, "the machines are online", func() (bool, error) {
			page, err := c.DescribeManagedInstances(ctx, client.InstanceFilter{Connected: &yes}, client.Paging{MaxResults: 1})
			return page.Total == want[a], err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// until waits until ok says yes. It gives up when nothing can still be on its way.
func (r *run) until(ctx context.Context, what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, fmt.Errorf("%s: not within five minutes", what))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := ok()
		if done && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// storm sends the deliveries and lets happen what the plan says.
func (r *run) storm(ctx context.Context) error {
	start := time.Now()
	eg, ctx := errgroup.WithContext(ctx)
	for a := range accounts {
		eg.Go(func() error { return r.send(ctx, account(a), start) })
	}
	var restarts errgroup.Group
	eg.Go(func() error {
		for _, e := range r.plan.events {
			if !pauseUntil(ctx, start.Add(e.at)) {
				return ctx.Err()
			}
			if err := r.happen(ctx, e, &restarts); err != nil {
				return fmt.Errorf("%s: %w", e.what, err)
			}
		}
		if !pauseUntil(ctx, start.Add(r.plan.storm)) {
			return ctx.Err()
		}
		return nil
	})
	return errors.Join(eg.Wait(), restarts.Wait())
}

// pauseUntil reports whether the time has come; false: ctx has ended.
func pauseUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// patience is how long a process that is to kill itself at a point may not get there.
const patience = 2 * time.Second

// happen makes an event happen. What it takes away is brought back by restarts.
func (r *run) happen(ctx context.Context, e event, restarts *errgroup.Group) error {
	switch e.what {
	case killServer:
		i := e.machine % len(r.servers)
		r.mu.Lock()
		p := r.servers[i]
		r.servers[i] = nil
		r.upLocked()
		r.mu.Unlock()
		if p == nil {
			return nil // another event's outage lasts
		}
		p.kill()
		r.happened(e.what)
		restarts.Go(func() error {
			pauseUntil(ctx, time.Now().Add(e.length))
			return r.restartServer(ctx, i)
		})
	case breakPart:
		i := e.machine % len(r.cfg.Site.Parts)
		part := r.cfg.Site.Parts[i]
		r.mu.Lock()
		broken := r.broken[i]
		r.broken[i] = true
		r.upLocked()
		r.mu.Unlock()
		if broken {
			return nil
		}
		if err := part.Break(); err != nil {
			return err
		}
		r.happened(part.What)
		restarts.Go(func() error {
			pauseUntil(ctx, time.Now().Add(e.length))
			err := part.Mend()
			r.mu.Lock()
			defer r.mu.Unlock()
			r.broken[i] = false
			r.upLocked()
			return err
		})
	case killProcess:
		p := r.process(e.process)
		if p.doomed { // it is away already, or about to be
			return nil
		}
		p.doomed = true
		p.tell(command{Die: &e.point})
		restarts.Go(func() error {
			select {
			case <-p.ended:
				r.happened(fmt.Sprintf("%s at %s", e.what, nameOf(e.point)))
			case <-time.After(patience):
				r.happened(e.what + " at any moment")
			}
			p.kill()
			r.happened(e.what)
			pauseUntil(ctx, time.Now().Add(e.length))
			return r.startProcess(e.process)
		})
	case cutLink:
		r.process(r.plan.processOf(e.machine)).tell(command{Cut: e.machine + 1})
		r.happened(e.what)
	case splitLink:
		r.process(r.plan.processOf(e.machine)).tell(command{Split: e.machine + 1, For: e.length})
		r.happened(e.what)
	case jumpClock:
		r.mu.Lock()
		r.ahead = e.length
		for _, p := range r.servers {
			if p != nil {
				p.tell(command{Clock: e.length})
			}
		}
		r.mu.Unlock()
		r.happened(e.what)
	case clone:
		return r.clone(e.machine)
	case leave:
		a := r.plan.machines[e.machine]
		err := r.insist(ctx, func(ctx context.Context) error {
			_, err := r.clients[a].DeregisterManagedInstanceOnce(ctx, waybill.InstanceID(r.fleet[e.machine].Instance), fmt.Sprint("leave-", e.machine))
			return err
		})
		r.happened(e.what)
		return err
	}
	return nil
}

func nameOf(point string) string {
	if point == "" {
		return "any moment"
	}
	return point
}

func (r *run) happened(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what]++
}

// clone copies a machine and runs the copy beside it, in another process.
func (r *run) clone(number int) error {
	m := r.fleet[number]
	r.mu.Lock()
	twin := &machine{Number: len(r.fleet) + len(r.clones), Instance: m.Instance}
	r.mu.Unlock()
	for r.plan.processOf(twin.Number) == r.plan.processOf(number) && r.plan.processes > 1 {
		twin.Number++
	}
	dir := filepath.Join(r.cfg.Dir, "clones", strconv.Itoa(number))
	twin.State, twin.Root = filepath.Join(dir, "state"), filepath.Join(dir, "root")
	if err := twin.makeRoot(); err != nil {
		return err
	}
	for _, name := range []string{"agent.json", "agent.nk"} {
		b, err := os.ReadFile(filepath.Join(m.State, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(twin.State, name), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.clones = append(r.clones, twin)
	r.mu.Unlock()
	r.process(r.plan.processOf(twin.Number)).tell(command{Run: twin})
	r.happened(clone)
	return nil
}

// calm ends what breaks, and brings everything back.
func (r *run) calm(ctx context.Context) error {
	for i := range r.processes {
		p := r.process(i)
		select {
		case <-p.ended:
			if err := r.startProcess(i); err != nil {
				return err
			}
		default:
		}
		r.process(i).tell(command{Calm: true})
	}
	for i, p := range r.servers {
		select {
		case <-p.ended:
			return fmt.Errorf("a server has ended by itself: %w; see %s", p.err,
				filepath.Join(r.cfg.Dir, "logs", filepath.Base(r.dataDir(i))+".log"))
		default:
		}
	}
	return ctx.Err()
}
