// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"time"

	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/place"
)

// plan is everything that the seed decides.
type plan struct {
	seed       uint64
	machines   []account // whose each is
	processes  int
	deliveries [accounts]int
	storm      time.Duration
	timeouts   time.Duration // the longest
	events     []event       // in the order of their times
	cloned     map[int]bool  // machines
	leaving    map[int]bool
}

// account is one of two, of which the second is small: it shows that neither sees anything of the other.
type account int

const accounts = 2

// event is something that happens to the fleet.
type event struct {
	at      time.Duration // from the start of the storm
	what    string
	process int           // of machines
	machine int           //
	point   string        // of the agent's work, where its process kills itself
	length  time.Duration // until it is started again, or whole again; by how much the clock jumps
}

// What may happen.
const (
	killProcess = "processes killed"
	killServer  = "servers killed"
	cutLink     = "connections cut"
	splitLink   = "connections stalled"
	jumpClock   = "clock jumps"
	clone       = "machines cloned"
	leave       = "machines deregistered"
	breakPart   = "parts of the site broken"
	stopped     = "deliveries stopped"
	rehearsed   = "deliveries rehearsed"
)

// points are where processes kill themselves: at any moment, and at each step between taking a delivery up and telling
// its outcome.
var points = []string{
	"", agent.TraceAccepted, agent.TraceAcked, agent.TraceTaken, string(place.StepOpen), string(place.StepCompare), string(place.StepCreate),
	string(place.StepWrite), string(place.StepChown), string(place.StepChmod), string(place.StepSync),
	string(place.StepPublish), string(place.StepUnlink), string(place.StepSyncDir), string(place.StepVerify),
	agent.TraceFinished, agent.TraceReport,
}

// stream returns the random numbers that belong to seed and words: the same ones whoever asks, whenever.
func stream(seed uint64, words ...any) *rand.Rand {
	sum := sha256.Sum256(fmt.Append(nil, append([]any{seed, " "}, words...)...))
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])))
}

func newPlan(cfg *Config) *plan {
	p := &plan{
		seed: cfg.Seed, machines: make([]account, cfg.Machines), processes: cfg.Processes, timeouts: cfg.MaxTimeout,
		deliveries: [accounts]int{cfg.Deliveries, max(1, cfg.Deliveries/10)},
		cloned:     map[int]bool{}, leaving: map[int]bool{},
	}
	for i := range p.machines {
		if i%10 == 3 { // a tenth, and one at least
			p.machines[i] = 1
		}
	}
	p.storm = cfg.Duration
	if p.storm == 0 {
		p.storm = max(20*time.Second, time.Duration(cfg.Kills)*1300*time.Millisecond, time.Duration(cfg.Deliveries)*50*time.Millisecond)
	}
	p.disturb(cfg)
	return p
}

// disturb plans the storm.
func (p *plan) disturb(cfg *Config) {
	r := stream(p.seed, "storm")
	add := func(n int, what string, more func(*event)) {
		for range n {
			e := event{at: rand64(r, p.storm), what: what, process: r.IntN(p.processes), machine: r.IntN(len(p.machines))}
			more(&e)
			p.events = append(p.events, e)
		}
	}
	servers := (cfg.Kills + 19) / 20
	if cfg.Site != nil {
		servers = max(len(cfg.Site.Listen), cfg.Kills/4)
	}
	next := r.IntN(len(points)) // each point has its turn
	add(cfg.Kills-servers, killProcess, func(e *event) {
		e.point, next = points[next%len(points)], next+1
		e.length = outage(r)
	})
	add(servers, killServer, func(e *event) { e.length = outage(r) / 2 })
	if cfg.Site != nil { // each kind has its turn
		turn := r.IntN(len(cfg.Site.Parts))
		add(max(len(cfg.Site.Parts), cfg.Kills/4), breakPart, func(e *event) {
			e.machine, turn = turn, turn+1
			e.length = outage(r)
		})
	}
	add(cfg.Kills, cutLink, func(*event) {})
	add(cfg.Kills/4, splitLink, func(e *event) { e.length = time.Second + rand64(r, 15*time.Second) })
	add(min(6, cfg.Kills), jumpClock, func(e *event) { e.length = rand64(r, 30*time.Second) - 10*time.Second })
	few := min(3, len(p.machines)/20)
	fresh := func(e *event, taken map[int]bool) {
		for p.cloned[e.machine] || p.leaving[e.machine] {
			e.machine = (e.machine + 1) % len(p.machines)
		}
		taken[e.machine] = true
	}
	add(few, clone, func(e *event) { fresh(e, p.cloned) })
	add(few, leave, func(e *event) { fresh(e, p.leaving) })
	slices.SortStableFunc(p.events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
}

// outage is how long something is away: mostly about as long as a restart takes, now and then longer than a timeout.
func outage(r *rand.Rand) time.Duration {
	if r.IntN(10) == 0 {
		return 5*time.Second + rand64(r, 10*time.Second)
	}
	return rand64(r, time.Second)
}

// rand64 returns a duration below d.
func rand64(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

func (p *plan) String() string {
	return fmt.Sprintf("%d machines in %d processes, %d and %d deliveries of two accounts, %d events",
		len(p.machines), p.processes, p.deliveries[0], p.deliveries[1], len(p.events))
}

// kind is what becomes of a delivery where nothing breaks.
type kind int

const (
	sound     kind = iota // Success
	ownerless             // the owner does not exist: FileAuthorityInvalid
	astray                // the directory is a file: FilePathInvalid
)

// delivery is a file to send.
type delivery struct {
	account   account
	n         int
	at        time.Duration // from the start of the storm
	targets   []int         // machines
	dir, name string
	mode      string
	uid, gid  int
	overwrite bool
	timeout   time.Duration
	kind      kind
	shared    bool // other deliveries go to the same path
	size      int
	stops     bool          // it is to stop …
	stopAfter time.Duration // … so long after it was answered
	dryRun    bool          // it is a rehearsal
}

// Where deliveries go. strayDir is a file on every machine.
const (
	ownDir    = "/srv/files"
	sharedDir = "/srv/shared"
	strayDir  = "/srv/stray"
)

const (
	maxTargets   = 12
	maxSize      = 20_000 // bytes; the API takes 24,576
	sharedNames  = 8
	maxStopAfter = 2 * time.Second
)

// delivery returns the nth delivery of an account.
func (p *plan) delivery(a account, n int) *delivery {
	r := stream(p.seed, "delivery", int(a), n)
	d := &delivery{
		account: a, n: n, at: p.storm * time.Duration(n) / time.Duration(p.deliveries[a]),
		overwrite: r.IntN(2) == 0, // either way a repetition shows: it finds the file there
		dir:       path.Join(ownDir, fmt.Sprint(n%20)), name: fmt.Sprintf("a%d-%06d", a, n),
		mode:    []string{"0644", "0600", "0755", "0440"}[r.IntN(4)],
		timeout: minTimeout + rand64(r, p.timeouts-minTimeout+1), size: 1 + r.IntN(1000),
	}
	if d.uid, d.gid = os.Geteuid(), os.Getegid(); d.uid == 0 { // root alone may give files away
		d.uid, d.gid = 1000+r.IntN(3), 1000+r.IntN(3)
	}
	if r.IntN(10) == 0 {
		d.size = r.IntN(maxSize) + 1
	}
	for i, m := range r.Perm(len(p.machines)) {
		if p.machines[m] == a && len(d.targets) < maxTargets && (len(d.targets) == 0 || r.IntN(i+1) == 0) {
			d.targets = append(d.targets, m)
		}
	}
	switch r.IntN(20) {
	case 0:
		d.kind = ownerless
	case 1:
		d.kind, d.dir = astray, strayDir
	case 2, 3, 4, 5:
		d.shared, d.overwrite, d.mode = true, true, "0644"
		d.dir, d.name = sharedDir, fmt.Sprint("s", r.IntN(sharedNames))
		d.uid, d.gid = os.Geteuid(), os.Getegid()
	}
	if d.stops = r.IntN(12) == 0; d.stops && r.IntN(2) == 0 {
		d.stopAfter = rand64(r, maxStopAfter)
	}
	d.dryRun = r.IntN(12) == 0
	return d
}

// content returns what the file holds. It begins with what it is, for whoever looks at a broken one.
func (p *plan) content(d *delivery) []byte {
	b := fmt.Appendf(make([]byte, 0, d.size+32), "account %d delivery %d\n", d.account, d.n)
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], p.seed)
	binary.BigEndian.PutUint64(seed[8:], uint64(d.n))
	more := make([]byte, d.size)
	_, _ = rand.NewChaCha8(seed).Read(more) // never fails
	return append(b, more...)
}

// processOf returns which process runs a machine, a clone being beside it.
func (p *plan) processOf(machine int) int { return machine % p.processes }
