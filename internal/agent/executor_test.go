// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

const testNow = 1_800_000_000_000 // server time, Unix milliseconds

// deliverTo returns a delivery of content to dir/name that the user running the test may place.
func deliverTo(id, dir, name, content string) *wire.Deliver {
	sum := sha256.Sum256([]byte(content))
	return &wire.Deliver{
		Delivery: id, Sent: testNow, Deadline: testNow + time.Hour.Milliseconds(),
		Name: name, TargetDir: dir, Content: []byte(content), SHA256: sum[:],
		Owner: strconv.Itoa(os.Getuid()), Group: strconv.Itoa(os.Getgid()), Mode: 0o640, Overwrite: true,
	}
}

// bench is an executor with a state directory and a root of its own.
type bench struct {
	*executor
	t           *testing.T
	state, root string
	work        context.Context
	stopWork    context.CancelFunc
}

func newBench(t *testing.T, state, root string, trace func(event, delivery string)) *bench {
	t.Helper()
	b := openBench(t, state, root, trace)
	b.begin(b.work)
	return b
}

// openBench returns a bench that has yet to begin.
func openBench(t *testing.T, state, root string, trace func(event, delivery string)) *bench {
	t.Helper()
	if trace == nil {
		trace = func(string, string) {}
	}
	placer, err := place.New(place.Config{Root: root, Trace: func(s place.Step, id string) { trace(string(s), id) }})
	must(t, err)
	j, err := openJournal(state, testLog(t))
	must(t, err)
	c := &clock{}
	c.learn(testNow, time.Time{})
	cfg := &Config{Hooks: Hooks{Trace: trace}, Backoff: Backoff{First: time.Second, Max: time.Second}}
	b := &bench{executor: newExecutor(placer, nil, j, c, cfg, testLog(t)), t: t, state: state, root: root}
	b.work, b.stopWork = context.WithCancel(context.Background())
	t.Cleanup(b.end)
	return b
}

// end ends the executor as a clean end of the agent would.
func (b *bench) end() {
	b.stop()
	b.stopWork()
	b.awaits("nothing is under way", b.awaitIdle)
	b.journal.close()
}

func (b *bench) awaits(what string, await func(context.Context) error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := await(ctx); err != nil {
		b.t.Errorf("%s: %v", what, err)
	}
}

// send offers d and starts it if it is accepted.
func (b *bench) send(d *wire.Deliver) verdict {
	v := b.offer(d)
	if v == accepted {
		b.start(b.work, d, b.clock.millis())
	}
	return v
}

// pulls sends what a pull brings, which begins once something was missed.
func (b *bench) pulls(ds ...*wire.Deliver) {
	b.t.Helper()
	if !b.takeMissed() {
		b.t.Error("the server is not asked again")
	}
	for _, d := range ds {
		if v := b.send(d); v == refused {
			b.t.Errorf("%s: %v", d.Delivery, v)
		}
	}
}

// outcomes waits until nothing is under way and returns all outcomes, by delivery.
func (b *bench) outcomes() map[string]*wire.Report {
	b.t.Helper()
	b.awaits("nothing is under way", b.awaitIdle)
	b.reconnected()
	all := map[string]*wire.Report{}
	rs, _ := b.due(time.Now())
	for _, r := range rs {
		all[r.Delivery] = r
	}
	return all
}

func (b *bench) content(path string) string {
	b.t.Helper()
	c, err := os.ReadFile(filepath.Join(b.root, path))
	if err != nil {
		return err.Error()
	}
	return string(c)
}

func TestExecutorPlaces(t *testing.T) {
	t.Parallel()
	b := newBench(t, t.TempDir(), t.TempDir(), nil)
	d := deliverTo("f-1", "/etc/app", "x.conf", "content")
	if v := b.send(d); v != accepted {
		t.Fatalf("verdict %v", v)
	}
	r := b.outcomes()["f-1"]
	if r == nil || r.Cause != "" || string(r.SHA256) != string(d.SHA256) || r.Started < testNow || r.Finished < r.Started || r.Change != "Created" {
		t.Errorf("outcome %+v", r)
	}
	if got := b.content("etc/app/x.conf"); got != "content" {
		t.Errorf("the file holds %q", got)
	}
	for id, want := range map[string]string{"f-2": "Unchanged", "f-3": "Replaced"} {
		if id == "f-3" {
			must(t, os.WriteFile(filepath.Join(b.root, "etc/app/x.conf"), []byte("other"), 0o600))
		}
		b.send(deliverTo(id, "/etc/app", "x.conf", "content"))
		if r := b.outcomes()[id]; r == nil || r.Change != want || string(r.SHA256) != string(d.SHA256) {
			t.Errorf("%s: outcome %+v, want %s", id, r, want)
		}
	}
}

// TestOwnPublicationIsNotUnchanged ends an agent between publication and outcome, and looks what the next one says: not that
// the file was there already.
func TestOwnPublicationIsNotUnchanged(t *testing.T) {
	t.Parallel()
	for overwrite, want := range map[bool]string{false: "Created", true: ""} {
		reached, proceed := make(chan struct{}), make(chan struct{})
		b := newBench(t, t.TempDir(), t.TempDir(), func(event, _ string) {
			if event == string(place.StepSyncDir) {
				close(reached)
				<-proceed // as if killed: nothing after this happens before the next one is at its end
			}
		})
		d := deliverTo("f-1", "/etc", "x", "content")
		d.Overwrite = overwrite
		b.send(d)
		<-reached
		again := newBench(t, b.state, b.root, nil)
		if r := again.outcomes()["f-1"]; r == nil || r.Cause != "" || string(r.SHA256) != string(d.SHA256) || r.Change != want {
			t.Errorf("overwrite %v: outcome %+v, want %q", overwrite, r, want)
		}
		close(proceed)
	}
}

// TestExecutorOnce offers one delivery in every state that it can be in.
func TestExecutorOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	taken := 0
	reached, proceed := make(chan struct{}), make(chan struct{})
	b := newBench(t, t.TempDir(), t.TempDir(), func(event, _ string) {
		if event == TraceTaken {
			mu.Lock()
			taken++
			mu.Unlock()
			close(reached)
			<-proceed
		}
	})
	d := deliverTo("f-1", "/", "x", "content")
	d.Overwrite = false
	if v := b.send(d); v != accepted {
		t.Fatalf("first: %v", v)
	}
	<-reached
	if v := b.send(d); v != known {
		t.Errorf("under way: %v", v)
	}
	close(proceed)
	if r := b.outcomes()["f-1"]; r == nil || r.Cause != "" {
		t.Fatalf("outcome %+v", r)
	}
	if rs, next := b.due(time.Now()); len(rs) != 0 || next.IsZero() {
		t.Errorf("sent a moment ago: %v due, next %v", rs, next)
	}
	if v := b.send(d); v != known {
		t.Errorf("outcome known: %v", v)
	}
	if rs, _ := b.due(time.Now()); len(rs) != 1 {
		t.Errorf("the server asked again: %d reports due, want 1", len(rs))
	}
	b.confirmed("f-1")
	if v := b.send(d); v != known {
		t.Errorf("confirmed: %v", v)
	}
	if len(b.outcomes()) != 0 {
		t.Error("a confirmed outcome is reported")
	}
	b.end()
	again := newBench(t, b.state, b.root, nil)
	if v := again.send(d); v != known || len(again.outcomes()) != 0 {
		t.Errorf("confirmed before a restart: %v, outcomes %v", v, again.outcomes())
	}
	if taken != 1 {
		t.Errorf("worked on %d times", taken)
	}
}

func TestExecutorOfferedConcurrently(t *testing.T) {
	t.Parallel()
	b := newBench(t, t.TempDir(), t.TempDir(), nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[verdict]int{}
	for range 32 {
		wg.Go(func() {
			d := deliverTo("f-1", "/", "x", "content")
			d.Overwrite = false // a second placement would fail
			v := b.send(d)
			mu.Lock()
			defer mu.Unlock()
			count[v]++
		})
	}
	wg.Wait()
	if count[accepted] != 1 || count[known] != 31 {
		t.Errorf("verdicts %v", count)
	}
	if r := b.outcomes()["f-1"]; r == nil || r.Cause != "" {
		t.Errorf("outcome %+v", r)
	}
}

func TestExecutorDeadline(t *testing.T) {
	t.Parallel()
	t.Run("passed on arrival", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, t.TempDir(), t.TempDir(), nil)
		d := deliverTo("f-1", "/", "x", "content")
		d.Deadline = testNow
		if v := b.send(d); v != late {
			t.Errorf("verdict %v", v)
		}
		if r := b.outcomes()["f-1"]; r == nil || r.Cause != string(waybill.CauseDeadline) {
			t.Errorf("outcome %+v", r)
		}
		if got := b.content("x"); !strings.Contains(got, "no such file") {
			t.Errorf("the file holds %q", got)
		}
	})
	t.Run("passes before publication", func(t *testing.T) {
		t.Parallel()
		var b *bench
		b = newBench(t, t.TempDir(), t.TempDir(), func(event, _ string) {
			if event == string(place.StepPublish) {
				b.clock.learn(testNow+2*time.Hour.Milliseconds(), time.Time{})
			}
		})
		must(t, os.WriteFile(filepath.Join(b.root, "x"), []byte("before"), 0o600))
		b.send(deliverTo("f-1", "/", "x", "content"))
		if r := b.outcomes()["f-1"]; r == nil || r.Cause != string(waybill.CauseDeadline) || r.Detail == "" {
			t.Errorf("outcome %+v", r)
		}
		if got := b.content("x"); got != "before" {
			t.Errorf("the file holds %q", got)
		}
	})
	t.Run("is ahead again when the clock is set back", func(t *testing.T) {
		t.Parallel()
		var b *bench
		b = newBench(t, t.TempDir(), t.TempDir(), func(event, _ string) {
			if event == string(place.StepVerify) {
				b.clock.learn(testNow-time.Minute.Milliseconds(), time.Now())
			}
		})
		d := deliverTo("f-1", "/", "x", "content")
		over := deliverTo("f-2", "/", "y", "content")
		over.Deadline = testNow
		b.send(over)
		b.send(d)
		all := b.outcomes()
		if r := all["f-1"]; r == nil || r.Cause != "" || r.Started < testNow || r.Finished < r.Started {
			t.Errorf("outcome %+v", r)
		}
		b.clock.learn(d.Deadline, time.Time{})
		for id := range all {
			b.confirmed(id)
		}
		b.tidy()
		b.clock.learn(testNow-time.Minute.Milliseconds(), time.Now())
		for _, d := range []*wire.Deliver{d, over} {
			if v := b.send(d); v != known {
				t.Errorf("a duplicate of %s: %v", d.Delivery, v)
			}
		}
	})
	t.Run("is known after a restart", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, t.TempDir(), t.TempDir(), nil)
		d := deliverTo("f-1", "/", "x", "content")
		b.send(d)
		b.outcomes()
		b.confirmed("f-1")
		b.clock.learn(d.Deadline+lastDuplicate, time.Time{})
		b.tidy()
		b.end()
		j := openTestJournal(t, b.state)
		if j.isConfirmed("f-1") || j.now() < d.Deadline {
			t.Errorf("tombstone %v, known time %d: the duplicate would run", j.isConfirmed("f-1"), j.now())
		}
	})
}

// TestExecutorOneAfterTheOther gives one path many deliveries in a wild order while the first is held: the others
// follow in the order of their IDs, never two at a time, while other paths go on.
func TestExecutorOneAfterTheOther(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []string
	held, proceed := make(chan struct{}), make(chan struct{})
	b := newBench(t, t.TempDir(), t.TempDir(), func(event, id string) {
		switch {
		case id == "f-other":
		case event == TraceTaken:
			mu.Lock()
			order = append(order, "+"+id)
			first := len(order) == 1
			mu.Unlock()
			if first {
				close(held)
				<-proceed
			}
		case event == TraceFinished:
			mu.Lock()
			order = append(order, "-"+id)
			mu.Unlock()
		}
	})
	b.send(deliverTo("f-5", "/dir", "x", "5"))
	<-held
	for _, n := range []int{9, 2, 7, 1, 8} {
		b.send(deliverTo(fmt.Sprintf("f-%d", n), "/dir/", "x", strconv.Itoa(n)))
	}
	b.send(deliverTo("f-other", "/dir", "y", "other"))
	b.awaits("the other path is done", func(ctx context.Context) error {
		return b.await(ctx, func() bool { return b.outbox["f-other"] != nil })
	})
	close(proceed)
	if n := len(b.outcomes()); n != 7 {
		t.Errorf("%d outcomes", n)
	}
	want := strings.Fields("+f-5 -f-5 +f-1 -f-1 +f-2 -f-2 +f-7 -f-7 +f-8 -f-8 +f-9 -f-9")
	if !slices.Equal(order, want) {
		t.Errorf("order %v\nwant  %v", order, want)
	}
	if got := b.content("dir/x"); got != "9" {
		t.Errorf("the last word is %q", got)
	}
}

func TestExecutorBoundsConcurrency(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now, most := 0, 0
	full, proceed := make(chan struct{}), make(chan struct{})
	b := newBench(t, t.TempDir(), t.TempDir(), func(event, _ string) {
		mu.Lock()
		switch event {
		case TraceTaken:
			now++
			most = max(most, now)
			if most == slots && now == slots {
				select {
				case <-full:
				default:
					close(full)
				}
			}
			mu.Unlock()
			<-proceed
			return
		case TraceFinished:
			now--
		}
		mu.Unlock()
	})
	for n := range 20 {
		b.send(deliverTo(fmt.Sprintf("f-%d", n), "/", strconv.Itoa(n), "x"))
	}
	<-full
	close(proceed)
	if n := len(b.outcomes()); n != 20 {
		t.Errorf("%d outcomes", n)
	}
	if most != slots {
		t.Errorf("%d at once, want %d", most, slots)
	}
}

func TestExecutorPanic(t *testing.T) {
	t.Parallel()
	b := newBench(t, t.TempDir(), t.TempDir(), func(event, id string) {
		if event == string(place.StepWrite) && id == "f-1" {
			panic("out of cheese")
		}
	})
	b.send(deliverTo("f-1", "/", "x", "content"))
	b.send(deliverTo("f-2", "/", "x", "content"))
	all := b.outcomes()
	if r := all["f-1"]; r == nil || r.Cause != string(waybill.CauseAgentBroke) ||
		!strings.Contains(r.Detail, "out of cheese") {
		t.Errorf("outcome %+v", r)
	}
	if r := all["f-2"]; r == nil || r.Cause != "" {
		t.Errorf("the next one: %+v", r)
	}
	if left, _ := filepath.Glob(filepath.Join(b.root, ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestExecutorGivesUpAfterStarts(t *testing.T) {
	t.Parallel()
	state, root := t.TempDir(), t.TempDir()
	d := deliverTo("f-1", "/", "x", "content")
	for range maxStarts {
		j := openTestJournal(t, state)
		if _, _, err := j.taken(d, testNow); err != nil {
			t.Fatal(err)
		}
		j.close()
	}
	b := newBench(t, state, root, nil)
	b.awaits("what was left is looked at", b.awaitIdle)
	b.pulls(d)
	r := b.outcomes()["f-1"]
	if r == nil || r.Cause != string(waybill.CauseAgentBroke) ||
		r.Detail != "the agent ended 3 times while working on it" {
		t.Errorf("outcome %+v", r)
	}
	if got := b.content("x"); !strings.Contains(got, "no such file") {
		t.Errorf("the file holds %q", got)
	}
}

// TestExecutorRefusesWhatItCannotHold fills the executor while it may not work.
func TestExecutorRefusesWhatItCannotHold(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"by bytes": 300 << 10, "by number": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proceed := make(chan struct{})
			b := newBench(t, t.TempDir(), t.TempDir(), func(event, _ string) {
				if event == TraceTaken {
					<-proceed
				}
			})
			content := strings.Repeat("x", size)
			n := 0
			for ; n <= wire.MaxOpen; n++ {
				if v := b.send(deliverTo(fmt.Sprintf("f-%03d", n), "/", strconv.Itoa(n), content)); v != accepted {
					if v != refused {
						t.Errorf("delivery %d: %v", n, v)
					}
					break
				}
			}
			if want := min(maxHeld/size, wire.MaxOpen); n != want {
				t.Errorf("%d accepted, want %d", n, want)
			}
			if b.takeMissed() {
				t.Error("the server is asked for more although there is no room")
			}
			close(proceed)
			for id := range b.outcomes() {
				b.confirmed(id)
			}
			if !b.takeMissed() || b.takeMissed() {
				t.Error("the server is not asked once for what was refused")
			}
		})
	}
}

// TestExecutorEnds ends the agent while one delivery is being written and one waits: neither leaves a trace, and the
// next run does both.
func TestExecutorEnds(t *testing.T) {
	t.Parallel()
	state, root := t.TempDir(), t.TempDir()
	writing, proceed := make(chan struct{}), make(chan struct{})
	b := newBench(t, state, root, func(event, _ string) {
		if event == string(place.StepWrite) {
			close(writing)
			<-proceed
		}
	})
	first, second := deliverTo("f-1", "/", "x", "1"), deliverTo("f-2", "/", "x", "2")
	b.send(first)
	b.send(second)
	<-writing
	b.stop()
	b.stopWork()
	close(proceed)
	if n := len(b.outcomes()); n != 0 {
		t.Errorf("%d outcomes", n)
	}
	if v := b.offer(deliverTo("f-3", "/", "y", "3")); v != refused {
		t.Errorf("an ending executor: %v", v)
	}
	b.end()
	if left, _ := os.ReadDir(root); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	again := newBench(t, state, root, nil)
	if n := again.journal.starts("f-1"); n != 0 {
		t.Errorf("a clean end counts as %d crashes", n)
	}
	again.send(first)
	again.send(second)
	if all := again.outcomes(); len(all) != 2 || again.content("x") != "2" {
		t.Errorf("outcomes %v, content %q", all, again.content("x"))
	}
}

// TestExecutorOrderAfterDeath kills the agent at the older of two deliveries to one path. The newer one waits until the
// older has been offered again, so the newer has the last word; other paths do not wait.
func TestExecutorOrderAfterDeath(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]place.Step{
		"runs again": place.StepWrite, "had been published": place.StepVerify,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state, root := t.TempDir(), t.TempDir()
			first, second := deliverTo("f-1", "/dir", "x", "1"), deliverTo("f-2", "/dir/", "x", "2")
			die(t, state, root, first, string(step))
			b := openBench(t, state, root, nil)
			must(t, b.slots.Acquire(t.Context(), slots)) // nothing is looked at yet
			b.begin(b.work)
			if v := b.send(first); v != known {
				t.Errorf("the older one: %v", v)
			}
			if v := b.send(second); v != blocked {
				t.Errorf("the newer one: %v", v)
			}
			if v := b.send(deliverTo("f-3", "/dir", "y", "3")); v != accepted {
				t.Errorf("one to another path: %v", v)
			}
			if b.takeMissed() {
				t.Error("the server is asked again before it helps")
			}
			b.slots.Release(slots)
			b.awaits("what was left is looked at", b.awaitIdle)
			if v := b.send(second); v != refused {
				t.Errorf("the newer one, pushed before the older one is pulled: %v", v)
			}
			b.pulls(first, second)
			if all := b.outcomes(); len(all) != 3 || b.content("dir/x") != "2" || b.takeMissed() {
				t.Errorf("%d outcomes, the last word is %q", len(all), b.content("dir/x"))
			}
		})
	}
}

// TestExecutorSuspects shows that what ran when the agent died runs one by one afterwards, so that the culprit is found
// and the others are not.
func TestExecutorSuspects(t *testing.T) {
	t.Parallel()
	state, root := t.TempDir(), t.TempDir()
	j := openTestJournal(t, state)
	for _, id := range []string{"f-1", "f-2", "f-3"} {
		if _, _, err := j.taken(deliverTo(id, "/", id, "x"), testNow); err != nil {
			t.Fatal(err)
		}
	}
	j.close()
	var mu sync.Mutex
	now, most := 0, 0
	b := newBench(t, state, root, func(event, _ string) {
		mu.Lock()
		defer mu.Unlock()
		switch event {
		case TraceTaken:
			now++
			most = max(most, now)
		case TraceFinished:
			now--
		}
	})
	b.awaits("what was left is looked at", b.awaitIdle)
	b.pulls(deliverTo("f-1", "/", "f-1", "x"), deliverTo("f-2", "/", "f-2", "x"), deliverTo("f-3", "/", "f-3", "x"))
	if n := len(b.outcomes()); n != 3 || most != 1 {
		t.Errorf("%d outcomes, %d at once", n, most)
	}
}

// TestExecutorWithoutJournal shows that nothing is published whose fate could not be told after a crash.
func TestExecutorWithoutJournal(t *testing.T) {
	t.Parallel()
	b := newBench(t, t.TempDir(), t.TempDir(), nil)
	must(t, b.journal.openLocked())
	must(t, b.journal.file.Close())
	b.send(deliverTo("f-1", "/", "x", "content"))
	if r := b.outcomes()["f-1"]; r == nil || r.Cause != string(waybill.CauseWriteFailed) {
		t.Errorf("outcome %+v", r)
	}
	if got := b.content("x"); !strings.Contains(got, "no such file") {
		t.Errorf("the file holds %q", got)
	}
}

// TestExecutorResumes gives the executor what crashes leave behind.
func TestExecutorResumes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		die   string // the placing step before which the agent dies
		after func(t *testing.T, root string)
		want  waybill.Cause
		runs  bool // the delivery runs again
	}{
		"before the intent":   {die: string(place.StepWrite), runs: true},
		"before publication":  {die: string(place.StepPublish), runs: true},
		"after publication":   {die: string(place.StepSyncDir)},
		"before verification": {die: string(place.StepVerify)},
		"file replaced by others": {
			die: string(place.StepVerify),
			after: func(t *testing.T, root string) {
				must(t, os.WriteFile(filepath.Join(root, "other"), []byte("theirs"), 0o600))
				must(t, os.Rename(filepath.Join(root, "other"), filepath.Join(root, "x")))
			},
			want: waybill.CauseAgentBroke,
		},
		"file changed by others": {
			die:   string(place.StepVerify),
			after: func(t *testing.T, root string) { must(t, os.WriteFile(filepath.Join(root, "x"), []byte("theirs"), 0)) },
			want:  waybill.CauseWriteFailed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state, root := t.TempDir(), t.TempDir()
			d := deliverTo("f-1", "/", "x", "content")
			die(t, state, root, d, c.die)
			if c.after != nil {
				c.after(t, root)
			}
			b := newBench(t, state, root, nil)
			before := b.outcomes()["f-1"]
			if !b.takeMissed() {
				t.Error("the server is not asked for what was blocked meanwhile")
			}
			if v := b.send(d); v == accepted != c.runs {
				t.Errorf("offered again: %v", v)
			}
			r := b.outcomes()["f-1"]
			if c.runs != (before == nil) || r == nil || r.Cause != string(c.want) {
				t.Errorf("outcome %+v, then %+v", before, r)
			}
			if left, _ := os.ReadDir(root); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
			if c.want == "" && b.content("x") != "content" {
				t.Errorf("the file holds %q", b.content("x"))
			}
		})
	}
}

// die places d as far as the given step and leaves everything as the death of the process would.
func die(t *testing.T, state, root string, d *wire.Deliver, step string) {
	t.Helper()
	reached := make(chan struct{})
	placer, err := place.New(place.Config{Root: root, Trace: func(s place.Step, _ string) {
		if string(s) == step {
			close(reached)
			select {} // until the test program ends
		}
	}})
	must(t, err)
	j := openTestJournal(t, state)
	c := &clock{}
	c.learn(testNow, time.Time{})
	e := newExecutor(placer, nil, j, c, &Config{Backoff: Backoff{}.withDefaults()}, testLog(t))
	if e.offer(d) != accepted {
		t.Fatal("not accepted")
	}
	e.start(context.Background(), d, testNow)
	<-reached
}
