// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"flag"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openwaybill/waybill"
)

var (
	interleavings = flag.Int("agent.interleavings", defaultInterleavings, "how many interleavings TestExplore explores")
	exploreSeed   = flag.Uint64("agent.seed", 1, "what TestExplore draws its random walks from")
	replayRun     = flag.String("agent.replay", "", "one run of TestExplore, as it printed it; it is told event by event")
)

// scenarios are what is explored. Two files of one name go to the same path.
var scenarios = []*scenario{
	{name: "pushed", online: true, files: []file{{"f", false, waybill.Success}}},
	{name: "pulled", files: []file{{"f", true, waybill.Success}}},
	{name: "replaces", online: true, existed: true, files: []file{{"f", true, waybill.Success}}},
	{name: "exists", online: true, existed: true, files: []file{{"f", false, waybill.Failed}}},
	{name: "second-replaces", online: true, files: []file{{"f", true, waybill.Success}, {"f", true, waybill.Success}}},
	{name: "second-refused", files: []file{{"f", true, waybill.Success}, {"f", false, waybill.Failed}}},
	{name: "side-by-side", online: true, files: []file{{"f", false, waybill.Success}, {"g", true, waybill.Success}}},
	{name: "three", online: true, existed: true, files: []file{
		{"f", true, waybill.Success}, {"g", false, waybill.Success}, {"f", true, waybill.Success},
	}},
	{name: "stopped", online: true, stops: true, files: []file{{"f", false, waybill.Success}}},
	{name: "stopped-away", existed: true, stops: true, files: []file{{"f", true, waybill.Success}}},
	{name: "stopped-second", online: true, stops: true, files: []file{{"f", true, waybill.Success}, {"f", true, waybill.Success}}},
}

// maxDeviations is how often a run that is enumerated does not do the usual. All with up to so many are explored, if the
// number of interleavings allows it; random walks deviate more often.
const maxDeviations = 2

// job is one run: a scenario and what to choose. Behind prefix the usual is chosen, or what walk draws.
type job struct {
	scenario int
	prefix   string // a digit for each choice
	walk     uint64 // 0: none
}

const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// result is what came of a job.
type result struct {
	choices    string
	widths     []int // from how many events each was chosen
	state      string
	endings    []string
	violations []string
}

func (j job) String() string { return scenarios[j.scenario].name + ":" + j.prefix }

// perform runs j in a world of its own.
func (r *rig) perform(j job, verbose func(string, ...any)) (res result) {
	rng := rand.New(rand.NewPCG(j.walk, 0))
	var choices strings.Builder
	choose := func(width int) int {
		c := 0
		switch at := len(res.widths); {
		case at < len(j.prefix):
			if c = strings.IndexByte(digits, j.prefix[at]); c >= width {
				panic(fmt.Sprintf("%s: choice %d is not among %d", j, at, width))
			}
		case j.walk != 0 && rng.IntN(5) == 0:
			c = rng.IntN(width)
		}
		res.widths = append(res.widths, width)
		choices.WriteByte(digits[c])
		return c
	}
	w := r.newWorld(scenarios[j.scenario], choose, verbose)
	w.run()
	res.choices = strings.TrimRight(choices.String(), digits[:1])
	w.late = len(res.widths)%8 == 0
	w.check(len(res.choices) - strings.Count(res.choices, digits[:1]))
	res.state, res.endings, res.violations = w.endState(), strings.Split(strings.TrimSuffix(w.outcome(), "; "), "; "), w.violations
	w.end()
	return res
}

// deviations returns the jobs that are like j up to some point, and then once not the usual.
func (j job) deviations(res *result) (list []job) {
	for at := len(j.prefix); at < len(res.widths); at++ {
		for c := 1; c < res.widths[at]; c++ {
			list = append(list, j.deviate(at, c))
		}
	}
	return list
}

// deviate returns the job that is like j before the choice at, and makes it so.
func (j job) deviate(at, choice int) job {
	usual := j.prefix + strings.Repeat(digits[:1], at-len(j.prefix))
	return job{scenario: j.scenario, prefix: usual + digits[choice:choice+1]}
}

// exploration is what all jobs together came to.
type exploration struct {
	mu     sync.Mutex
	seed   maphash.Seed
	runs   map[uint64]bool // distinct
	states map[string]int
	// how often a target went through which statuses
	endings map[string]int
	failed  []string
}

func (x *exploration) add(j job, res *result) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.runs[maphash.String(x.seed, scenarios[j.scenario].name+":"+res.choices)] = true
	x.states[scenarios[j.scenario].name+" "+res.state]++
	for _, e := range res.endings {
		x.endings[e]++
	}
	for _, v := range res.violations {
		x.failed = append(x.failed, fmt.Sprintf(
			"%s\n\tagain, event by event: go test ./internal/agent -run 'TestExplore$' -v -agent.replay=%s:%s",
			v, scenarios[j.scenario].name, res.choices))
	}
}

// TestExplore runs the protocol between server and agent, of the real code on both sides, through many interleavings of
// messages, losses, repetitions, overtaking, deaths of either side and deadlines, and looks after each at what must
// never be otherwise. It begins with all runs that deviate from the usual at one point, then at two, and goes on with
// random walks. The same choices make the same run.
func TestExplore(t *testing.T) {
	if *replayRun != "" {
		name, choices, _ := strings.Cut(*replayRun, ":")
		i := slices.IndexFunc(scenarios, func(s *scenario) bool { return s.name == name })
		if i < 0 {
			t.Fatalf("there is no scenario %q", name)
		}
		dir := workDir(t)
		synctest.Test(t, func(t *testing.T) {
			r := newRig(dir)
			defer r.close()
			res := r.perform(job{scenario: i, prefix: choices}, t.Logf)
			t.Logf("state: %s widths %v", res.state, res.widths)
			for _, v := range res.violations {
				t.Error(v)
			}
		})
		return
	}
	t.Parallel()
	began := time.Now()
	x := &exploration{seed: maphash.MakeSeed(), runs: map[uint64]bool{}, states: map[string]int{}, endings: map[string]int{}}
	var level []job
	for i := range scenarios {
		level = append(level, job{scenario: i})
	}
	rng := rand.New(rand.NewPCG(*exploreSeed, 0))
	pool := newPool(t, x)
	defer pool.end()
	room := func() int { return max(0, *interleavings*17/20-len(x.runs)) }
	var results []result
	for depth := 0; depth <= maxDeviations && len(x.failed) == 0; depth++ {
		if depth > 0 {
			var next []job
			for i := range results {
				next = append(next, level[i].deviations(&results[i])...)
			}
			level = next
		}
		all := tally(level)
		level = choose(level, room(), rng)
		kept := tally(level)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			t.Logf("%d deviations: %6d of %6d of %s", depth, kept[name], all[name], name)
		}
		results = pool.run(level)
	}
	if more := further(level, results, room(), rng); len(x.failed) == 0 {
		t.Logf("%d deviations: %6d", maxDeviations+1, len(more))
		pool.run(more)
	}
	enumerated := len(x.runs)
	for len(x.runs) < *interleavings && len(x.failed) == 0 {
		var walks []job
		for range min(1000, *interleavings-len(x.runs)) {
			walks = append(walks, job{scenario: min(rng.IntN(len(scenarios)), rng.IntN(len(scenarios))), walk: rng.Uint64() | 1})
		}
		pool.run(walks)
	}
	for i, f := range x.failed {
		if i == 5 {
			t.Errorf("and %d more", len(x.failed)-i)
			break
		}
		t.Error(f)
	}
	t.Logf("%d interleavings, %d of them enumerated and the rest walks from seed %d, to %d end states in %s",
		len(x.runs), enumerated, *exploreSeed, len(x.states), time.Since(began).Round(time.Second/10))
	for _, e := range slices.Sorted(maps.Keys(x.endings)) {
		t.Logf("%7d × %s", x.endings[e], e)
	}
}

// short reports whether the runs of a job are: then many more can be explored.
func (j job) short() bool { return len(scenarios[j.scenario].files) == 1 }

// choose returns up to n of jobs: if they fit, all short ones and up to a sixth as many others; else any.
func choose(jobs []job, n int, rng *rand.Rand) []job {
	rng.Shuffle(len(jobs), func(a, b int) { jobs[a], jobs[b] = jobs[b], jobs[a] })
	long := slices.DeleteFunc(slices.Clone(jobs), job.short)
	short := len(jobs) - len(long)
	if len(jobs) <= n || short > n {
		return jobs[:min(len(jobs), n)]
	}
	long = long[:min(len(long), short/6, n-short)]
	return append(slices.DeleteFunc(jobs, func(j job) bool { return !j.short() }), long...)
}

// further returns up to n runs that deviate once more than one of the short jobs.
func further(jobs []job, results []result, n int, rng *rand.Rand) (list []job) {
	drawn := map[job]bool{}
	for tries := 0; len(list) < n && tries < 10*n; tries++ {
		i := rng.IntN(len(jobs))
		if from := len(jobs[i].prefix); jobs[i].short() && from < len(results[i].widths) {
			at := from + rng.IntN(len(results[i].widths)-from)
			if j := jobs[i].deviate(at, 1+rng.IntN(max(1, results[i].widths[at]-1))); results[i].widths[at] > 1 && !drawn[j] {
				drawn[j] = true
				list = append(list, j)
			}
		}
	}
	return list
}

// tally counts jobs by their scenario.
func tally(jobs []job) map[string]int {
	n := map[string]int{}
	for _, j := range jobs {
		n[scenarios[j.scenario].name]++
	}
	return n
}

// pool runs jobs in as many bubbles as there are processors.
type pool struct {
	x    *exploration
	jobs chan assignment
	done sync.WaitGroup
}

type assignment struct {
	job  job
	res  *result
	done chan<- struct{}
}

func newPool(t *testing.T, x *exploration) *pool {
	p := &pool{x: x, jobs: make(chan assignment)}
	for range runtime.GOMAXPROCS(0) {
		dir := workDir(t)
		p.done.Go(func() {
			synctest.Test(t, func(*testing.T) {
				r := newRig(dir)
				defer r.close()
				for task := range p.jobs {
					*task.res = r.perform(task.job, func(string, ...any) {})
					p.x.add(task.job, task.res)
					task.done <- struct{}{}
				}
			})
		})
	}
	return p
}

// run runs jobs and returns what came of them, in their order.
func (p *pool) run(jobs []job) []result {
	results := make([]result, len(jobs))
	done := make(chan struct{}, len(jobs))
	for i, j := range jobs {
		p.jobs <- assignment{j, &results[i], done}
	}
	for range jobs {
		<-done
	}
	return results
}

func (p *pool) end() {
	close(p.jobs)
	p.done.Wait()
}

// check looks at what must hold at the end of every run (ARCHITECTURE.md, invariants). deviations is how often it was not
// the usual that happened: one of them must not change how a delivery ends.
func (w *world) check(deviations int) {
	for _, d := range w.sent {
		w.checkStored(d)
		if last := w.final(d); deviations <= 1 && last.status != d.want && !(d.stopped && last.cause == waybill.CauseCancelled) {
			w.violate("%s is %s (%s) after %d deviations; want %s", d.label, last.status, last.cause, deviations, d.want)
		}
		if d.published > 1 {
			w.violate("%s was published %d times", d.label, d.published)
		}
	}
	w.checkDisk()
	if w.late {
		w.checkLate()
	}
}

func (w *world) final(d *sent) (c change) {
	if list := w.changes(d.id); len(list) > 0 {
		c = list[len(list)-1]
	}
	return c
}

// inferred are the causes that docs/state-machine.md calls so.
var inferred = []waybill.Cause{
	waybill.CauseShutDown, waybill.CauseAgentStopped, waybill.CauseAgentSilent, waybill.CauseUpgrading, waybill.CauseDeadline,
}

// checkStored looks that what was stored of a target is what the machine told, and changed only as it may.
func (w *world) checkStored(d *sent) {
	list := w.changes(d.id)
	ended, corrected := false, false
	for i, c := range list {
		final := c.status != waybill.Running && c.status != waybill.Pending
		switch {
		case i == 0 && c.old != waybill.Pending, i > 0 && (c.old != list[i-1].status || c.oldCause != list[i-1].cause):
			w.violate("%s: the history has a gap: %+v", d.label, list)
		case !ended && c.old == waybill.Pending && c.status == waybill.Running:
		case !ended && final:
			ended = true
			switch after := c.at.Sub(d.deadline); {
			case after > 2*time.Second+10*time.Millisecond:
				w.violate("%s ended only %s after its deadline", d.label, after)
			case slices.Contains(inferred, c.cause) && c.cause != waybill.CauseAgentStopped && after < 0,
				slices.Contains(inferred, c.cause) && c.cause != waybill.CauseAgentStopped && after < 2*time.Second && len(d.reports) == 0:
				w.violate("%s was given up %s after its deadline", d.label, after)
			}
		case ended && !corrected && final && slices.Contains(inferred, c.oldCause) && !slices.Contains(inferred, c.cause):
			corrected = true
		default:
			w.violate("%s went from %s (%s) to %s (%s) as change %d of %+v", d.label, c.old, c.oldCause, c.status, c.cause, i, list)
		}
	}
	if !ended {
		w.violate("%s never ended: %+v", d.label, list)
		return
	}
	// The first report of work that ended in time counts; without one, the server has inferred something.
	last := list[len(list)-1]
	want, told := waybill.Status(""), false
	for _, r := range d.reports {
		if c := waybill.Cause(r.Cause); r.Finished <= d.deadline.UnixMilli() && c != waybill.CauseDeadline {
			if told = true; want == "" {
				want = statusOf[c]
			}
		}
	}
	switch {
	case d.cancelled || last.cause == waybill.CauseCancelled:
		// What was told to whoever stopped it stands; otherwise the machine has said so. In any case, nothing is there.
		if last.cause != waybill.CauseCancelled || d.published != 0 || !d.stopped || !d.cancelled && (!told || want != waybill.Aborted) {
			w.violate("%s is %s (%s), stopped %v, answered that it is cancelled %v, published %d times, reported %q",
				d.label, last.status, last.cause, d.stopped, d.cancelled, d.published, want)
		}
	case told && last.status != want:
		w.violate("%s is %s (%s), and was reported as %s", d.label, last.status, last.cause, want)
	case !told && !slices.Contains(inferred, last.cause):
		w.violate("%s is %s (%s), and nothing was reported in time", d.label, last.status, last.cause)
	}
	switch last.status {
	case waybill.Success:
		if d.published != 1 {
			w.violate("%s is said to be in place, and was published %d times", d.label, d.published)
		}
	case waybill.Failed, waybill.Invalid:
		if d.published != 0 {
			w.violate("%s is said not to be in place (%s), and was published", d.label, last.cause)
		}
	case waybill.Errored:
		if w.crashes == 0 {
			w.violate("%s is said to have broken an agent that never died", d.label)
		}
	}
	if overall := map[bool]string{true: "Success", false: "Failed"}[last.status == waybill.Success]; last.overall != overall {
		w.violate("%s is %s, its delivery %s", d.label, last.status, last.overall)
	}
}

// statusOf is the table of docs/state-machine.md, of what an agent here may report.
var statusOf = map[waybill.Cause]waybill.Status{
	"": waybill.Success, waybill.CauseExists: waybill.Failed, waybill.CauseWriteFailed: waybill.Failed,
	waybill.CauseAgentBroke: waybill.Errored, waybill.CauseCancelled: waybill.Aborted,
}

// checkDisk looks that each file is whole, and that nothing else is there.
func (w *world) checkDisk() {
	files := w.files()
	for _, d := range w.sent {
		if d.forgotten {
			delete(files, filepath.Join(filepath.Dir(d.path), ".waybill-"+string(d.id)+".tmp"))
		}
	}
	for path, got := range files {
		want := ""
		if d := w.onDisk[path]; d != nil {
			want = d.content
		} else if w.scenario.existed && filepath.Base(path) == w.scenario.files[0].name {
			want = existing
		}
		if got != want {
			w.violate("%s holds %q, want %q", filepath.Base(path), got, want)
		}
	}
	for path, d := range w.onDisk {
		if _, ok := files[path]; !ok {
			w.violate("%s was published, and is not there", d.label)
		}
	}
}

// files returns all files below the root, with their content.
func (w *world) files() map[string]string {
	all := map[string]string{}
	dir := filepath.Join(w.root, "etc")
	list, err := os.ReadDir(dir)
	if err != nil {
		return all
	}
	for _, e := range list {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		w.must(err)
		all[filepath.Join(dir, e.Name())] = string(b)
	}
	return all
}

// checkLate lets all messages of the run that arrived come once more, to an agent that knows what time it is, because it has only just
// connected, and that may have been restarted: they change nothing.
func (w *world) checkLate() {
	before, files := w.outcome(), w.files()
	seen := slices.DeleteFunc(slices.Clone(w.seen), func(m *letter) bool { return !m.arrived })
	if len(seen)%2 == 0 {
		w.crash(false)
	} else {
		w.cut()
	}
	w.calm()
	for _, m := range seen {
		switch m.op {
		case "ack", "report", "deliver", "cancel", OpConfirm:
			m.link = w.current.link
			w.arrive(m, true)
			w.calm()
		}
	}
	if after := w.outcome(); after != before {
		w.violate("messages that came again changed what is stored from %s to %s", before, after)
	}
	if after := w.files(); !maps.Equal(after, files) {
		w.violate("messages that came again changed the files from %v to %v", files, after)
	}
	for _, d := range w.sent {
		if d.published > 1 {
			w.violate("%s was published again when messages came again", d.label)
		}
	}
}

// outcome tells all that was ever stored.
func (w *world) outcome() string {
	var b strings.Builder
	for _, d := range w.sent {
		for _, c := range w.changes(d.id) {
			fmt.Fprintf(&b, "%s ", c.status)
			if c.cause != "" {
				fmt.Fprintf(&b, "(%s) ", c.cause)
			}
		}
		fmt.Fprintf(&b, "published %d×; ", d.published)
	}
	return b.String()
}

// endState tells what people see at the end.
func (w *world) endState() string {
	var b strings.Builder
	b.WriteString(w.outcome())
	files := w.files()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&b, "%s=%q ", filepath.Base(path), files[path])
	}
	state := b.String()
	for _, d := range w.sent {
		state = strings.ReplaceAll(state, string(d.id), d.label)
	}
	return state
}

// TestExploreRepeats runs the same choices twice: the run is the same, event by event.
func TestExploreRepeats(t *testing.T) {
	t.Parallel()
	dir := workDir(t)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(dir)
		defer r.close()
		rng := rand.New(rand.NewPCG(*exploreSeed, 1))
		for range 1 + *interleavings/100 {
			j := job{scenario: rng.IntN(len(scenarios)), walk: rng.Uint64() | 1}
			var told [2]strings.Builder
			for i := range told {
				r.perform(j, func(format string, args ...any) { fmt.Fprintf(&told[i], format+"\n", args...) })
			}
			if a, b := told[0].String(), told[1].String(); a != b {
				t.Fatalf("%s, walk %d: the first time\n%s\nthe second time\n%s", j, j.walk, a, b)
			}
		}
	})
}
