// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

// Bounds of what the executor holds. A delivery beyond them is not lost: the server still has it, and the agent asks
// again when there is room.
const (
	slots     = 4       // files placed at once
	fetches   = 2       // files fetched at once, which keep no others waiting
	maxHeld   = 4 << 20 // bytes of content waiting or being placed
	maxStarts = 3       // of work on one delivery that never came to an end
)

// executor carries out deliveries: each at most once however often it is offered, those to one path one after the other
// in the order of their IDs, all others side by side. It holds every outcome until the server has confirmed it.
//
// Its methods may be called from several goroutines.
type executor struct {
	placer  *place.Placer
	fetcher *fetcher
	journal *journal
	clock   *clock
	trace   func(event, delivery string)
	log     *slog.Logger
	retry   Backoff // of reports that nobody confirms

	// A task takes one of the slots. A suspect, which was under way when the agent died, waits for the other suspects
	// first: should it be what kills the agent, then the others are not blamed with it.
	slots, fetches, suspects *semaphore.Weighted

	// mu is taken before the journal's locks.
	mu      sync.Mutex
	closed  bool
	held    int                  // bytes of content of all tasks
	busy    map[string]*underway // deliveries taken up and without outcome
	resumed map[string]int       // by path, what an earlier run left there and nobody has looked at yet
	queues  map[string][]task    // tasks that wait, by path and then by delivery; there is one goroutine for each key
	outbox  map[string]*parcel
	missed  bool          // the server has something that we did not take up; nothing else is before it is pulled
	changed chan struct{} // closed at the next change of any of these
}

// underway is what the executor knows of a delivery that is taken up.
type underway struct {
	cancelled bool               // the server has asked to give it up
	stop      context.CancelFunc // stops the work on it, as long as nothing is published; nil: there is none under way that could
}

// task is work on one delivery.
type task struct {
	delivery string
	deadline int64  // server time; 0: the journal has it, or it is over
	path     string // of the final file, as far as words tell
	bytes    int
	fetch    bool // its content is fetched
	suspect  bool // it was under way when the agent died
	resumes  bool // it only finds out what became of the delivery
	run      func(context.Context) *wire.Report
}

// parcel is an outcome on its way to the server.
type parcel struct {
	report *wire.Report
	due    time.Time // when to send it next
	sent   int       // how often it was sent over the present connection
}

func newExecutor(p *place.Placer, f *fetcher, j *journal, c *clock, cfg *Config, log *slog.Logger) *executor {
	return &executor{
		placer: p, fetcher: f, journal: j, clock: c, trace: cfg.Hooks.trace, retry: cfg.Backoff, log: log,
		slots:    semaphore.NewWeighted(slots),
		fetches:  semaphore.NewWeighted(fetches),
		suspects: semaphore.NewWeighted(1),
		busy:     map[string]*underway{},
		resumed:  map[string]int{},
		queues:   map[string][]task{},
		outbox:   map[string]*parcel{},
		changed:  make(chan struct{}),
	}
}

// begin finds out, for everything that an earlier run of the agent left unfinished, what became of it.
func (e *executor) begin(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, was := range e.journal.unfinished() {
		if was.outcome != nil {
			e.outbox[id] = &parcel{report: was.outcome}
			continue
		}
		e.busy[id] = &underway{}
		file := path.Join(was.file.TargetDir, was.file.Name)
		e.resumed[file]++
		e.enqueueLocked(ctx, task{
			delivery: id,
			path:     file,
			resumes:  true,
			run:      func(ctx context.Context) *wire.Report { return e.resume(ctx, id, was) },
		})
	}
}

// watch returns a channel that is closed at the next change. Whoever waits for a condition calls it before looking.
func (e *executor) watch() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

func (e *executor) changedLocked() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// verdict is what becomes of an offered delivery.
type verdict int

const (
	accepted verdict = iota // to be acknowledged and then started
	known                   // nothing to do: it is under way, or confirmed, or its outcome is about to be sent again
	late                    // its deadline is over; that is its outcome now
	blocked                 // an earlier run left something at its path; it is to be pulled once that is clear
	refused                 // no room, or others are to be pulled first, or the agent is ending
)

// offer decides about d. The caller must start what is accepted.
func (e *executor) offer(d *wire.Deliver) verdict {
	v := e.judge(d)
	if v == late {
		now := e.clock.millis()
		e.finish(task{delivery: d.Delivery}, &wire.Report{
			Delivery: d.Delivery, Cause: string(waybill.CauseDeadline), Detail: "it arrived after its deadline",
			Started: now, Finished: now, Trace: echo(d),
		})
	}
	return v
}

func (e *executor) judge(d *wire.Deliver) verdict {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch p := e.outbox[d.Delivery]; {
	case p != nil:
		p.due = time.Time{}
		e.changedLocked()
		return known
	case e.busy[d.Delivery] != nil, e.journal.isConfirmed(d.Delivery):
		return known
	case e.closed, e.missed:
		return refused
	case e.clock.passed(d.Deadline):
		e.busy[d.Delivery] = &underway{}
		return late
	case e.resumed[path.Join(d.TargetDir, d.Name)] > 0:
		return blocked
	case !e.roomLocked(len(d.Content)):
		e.missed = true
		return refused
	}
	e.busy[d.Delivery] = &underway{}
	e.held += len(d.Content)
	return accepted
}

// start begins work on a delivery that was accepted at the server time started. ctx ends all work: what it cuts off
// leaves nothing behind.
func (e *executor) start(ctx context.Context, d *wire.Deliver, started int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enqueueLocked(ctx, task{
		delivery: d.Delivery,
		deadline: d.Deadline,
		path:     path.Join(d.TargetDir, d.Name),
		bytes:    len(d.Content),
		fetch:    d.Size > 0 && len(d.Rehearse) == 0,
		suspect:  e.journal.starts(d.Delivery) > 0,
		run:      func(ctx context.Context) *wire.Report { return e.place(ctx, d, started) },
	})
}

func (e *executor) enqueueLocked(ctx context.Context, t task) {
	q, running := e.queues[t.path]
	at, _ := slices.BinarySearchFunc(q, t, func(a, b task) int { return cmp.Compare(a.delivery, b.delivery) })
	e.queues[t.path] = slices.Insert(q, at, t)
	if !running {
		go e.work(ctx, t.path)
	}
}

// work carries out the tasks of one path until there is none.
func (e *executor) work(ctx context.Context, path string) {
	for {
		t, ok := e.next(path)
		if !ok {
			return
		}
		e.inTurn(ctx, t)
	}
}

// inTurn runs t when its turn has come, if it comes. The turn lasts until the outcome is in the journal.
func (e *executor) inTurn(ctx context.Context, t task) {
	turns := []*semaphore.Weighted{e.slots}
	if t.fetch {
		turns[0] = e.fetches
	}
	if t.suspect {
		turns = slices.Insert(turns, 0, e.suspects)
	}
	for _, turn := range turns {
		if turn.Acquire(ctx, 1) != nil {
			e.finish(t, nil)
			return
		}
		defer turn.Release(1)
	}
	if e.isClosed() {
		e.finish(t, nil)
		return
	}
	ctx, stop, goOn := e.commence(ctx, t)
	if !goOn {
		e.finish(t, e.givenUp(t.delivery))
		return
	}
	defer stop()
	e.finish(t, e.guard(ctx, t))
}

// next takes the first task of a path, or ends the path's queue.
func (e *executor) next(path string) (task, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.queues[path]
	if len(q) == 0 {
		delete(e.queues, path)
		e.changedLocked()
		return task{}, false
	}
	e.queues[path] = q[1:]
	return q[0], true
}

func (e *executor) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// guard runs t. A panic in it is its outcome.
func (e *executor) guard(ctx context.Context, t task) (report *wire.Report) {
	defer func() {
		if v := recover(); v != nil {
			e.log.Error("panic while working on a delivery", "delivery_id", t.delivery, "panic", v,
				"stack", string(debug.Stack()))
			now := e.clock.millis()
			report = &wire.Report{
				Delivery: t.delivery, Cause: string(waybill.CauseAgentBroke), Detail: detail(fmt.Sprintf("panic: %v", v)),
				Started: now, Finished: now,
			}
		}
	}()
	return t.run(ctx)
}

// finish ends the work on t, with an outcome or without one.
func (e *executor) finish(t task, report *wire.Report) {
	if report != nil {
		e.trace(TraceFinished, t.delivery)
		if err := e.journal.outcome(report, t.deadline); err != nil {
			e.log.Warn("outcome is in memory only", "delivery_id", t.delivery, "err", err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.busy, t.delivery)
	e.held -= t.bytes
	if report != nil {
		e.outbox[t.delivery] = &parcel{report: report}
	}
	if t.resumes {
		if e.resumed[t.path]--; e.resumed[t.path] == 0 {
			delete(e.resumed, t.path)
		}
	}
	if t.resumes || report == nil {
		e.missed = true // the server may have offered it meanwhile, or what was blocked by it
	}
	e.changedLocked()
}

// errDeadline is why a file whose deadline is over is not published.
var errDeadline = errors.New("the deadline passed before the file was in place; raise the timeout")

// errJournal is why a file is not published whose fate could not be told after a crash.
var errJournal = errors.New("the agent's journal cannot be written; see to the disk of its state directory")

// place carries out d. It returns nil if ctx cut it off.
func (e *executor) place(ctx context.Context, d *wire.Deliver, started int64) *wire.Report {
	before, started, err := e.journal.taken(d, started)
	report := &wire.Report{Delivery: d.Delivery, Started: started, Trace: echo(d)}
	switch {
	case err != nil:
		err = fmt.Errorf("%w: %w", errJournal, err)
	case before >= maxStarts:
		report.Cause = string(waybill.CauseAgentBroke)
		report.Detail = fmt.Sprintf("the agent ended %d times while working on it", before)
		report.Finished = e.finished(started)
		return report
	default:
		e.trace(TraceTaken, d.Delivery)
		if len(d.Rehearse) > 0 {
			err = e.rehearse(ctx, d, report)
			break
		}
		var from io.Reader
		if d.Size > 0 {
			c := e.fetcher.open(ctx, d)
			defer c.Close()
			from = c
		}
		var res place.Result
		res, err = e.placer.Place(ctx, place.File{
			ID:        d.Delivery,
			Name:      d.Name,
			TargetDir: d.TargetDir,
			Content:   d.Content,
			Reader:    from,
			Size:      d.Size,
			SHA256:    [32]byte(d.SHA256),
			Owner:     d.Owner,
			Group:     d.Group,
			Mode:      waybill.ModeFromBits(d.Mode),
			Overwrite: d.Overwrite,
			Intent: func(t place.Token) error {
				if err := e.journal.intent(d.Delivery, t, e.clock.millis()); err != nil {
					return fmt.Errorf("%w: %w", errJournal, err)
				}
				return nil
			},
			Before: func() error {
				if e.clock.passed(d.Deadline) {
					return errDeadline
				}
				return nil
			},
		})
		report.SHA256, report.Change = res.SHA256[:], string(res.Change)
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		if e.isCancelled(d.Delivery) {
			report.Cause, report.Detail, report.SHA256 = string(waybill.CauseCancelled), detailGivenUp, nil
			report.Finished = e.finished(started)
			return report
		}
		if err := e.journal.released(d.Delivery); err != nil {
			e.log.Warn("work is given up unrecorded", "delivery_id", d.Delivery, "err", err)
		}
		return nil
	}
	if err != nil {
		report.SHA256, report.Change = nil, ""
		report.Cause, report.Detail = string(causeOf(err)), detail(err.Error())
	}
	report.Finished = e.finished(started)
	return report
}

// rehearse finds out what place would do with d, and puts it into report.
func (e *executor) rehearse(ctx context.Context, d *wire.Deliver, report *wire.Report) error {
	if e.clock.passed(d.Deadline) {
		return errDeadline
	}
	r, err := e.placer.Rehearse(ctx, place.File{
		ID:        d.Delivery,
		Name:      d.Name,
		TargetDir: d.TargetDir,
		Content:   d.Content,
		Size:      d.Size,
		SHA256:    [32]byte(d.Rehearse),
		Owner:     d.Owner,
		Group:     d.Group,
		Mode:      waybill.ModeFromBits(d.Mode),
		Overwrite: d.Overwrite,
	}, d.Diff)
	report.Change, report.Diff, report.NoDiff = string(r.Change), r.Diff.Text, r.Diff.Note
	return err
}

// finished returns the time of an end that comes now, of what began at the server time started. It is not before that,
// wherever the server's clock was set meanwhile.
func (e *executor) finished(started int64) int64 { return max(started, e.clock.millis()) }

// resume finds out what became of a delivery that an earlier run of the agent began. It returns nil if nothing did: the
// server offers it again for as long as it matters.
func (e *executor) resume(ctx context.Context, id string, was entry) *wire.Report {
	if was.intent == nil || len(was.file.SHA256) != 32 {
		if err := e.placer.Sweep(ctx, was.file.TargetDir, id); err != nil {
			e.log.Warn("a temporary file may be left", "delivery_id", id, "dir", was.file.TargetDir, "err", err)
		}
		return e.giveUp(id, was)
	}
	report := &wire.Report{Delivery: id, Started: was.started}
	res, outcome, err := e.placer.Recover(ctx, place.File{
		ID:        id,
		Name:      was.file.Name,
		TargetDir: was.file.TargetDir,
		SHA256:    [32]byte(was.file.SHA256),
		Owner:     was.file.Owner,
		Group:     was.file.Group,
		Mode:      waybill.ModeFromBits(was.file.Mode),
		Overwrite: was.file.Overwrite,
	}, was.intent.token)
	switch {
	case outcome == place.Unpublished:
		return e.giveUp(id, was)
	case outcome == place.Published && err == nil:
		report.SHA256, report.Change = res.SHA256[:], string(res.Change)
		// Publication follows the intent at once and never after the deadline; no more is known of its time.
		report.Finished = max(was.started, was.intent.at)
		return report
	case outcome == place.Published:
		report.Cause, report.Detail = string(causeOf(err)), detail(err.Error())
	case ctx.Err() != nil:
		return nil
	case err == nil:
		report.Cause = string(waybill.CauseAgentBroke)
		report.Detail = "the agent ended while it published the file, and another file is in its place now"
	default:
		report.Cause = string(waybill.CauseAgentBroke)
		report.Detail = detail(fmt.Sprintf("the agent ended while it published the file, and now cannot tell: %v", err))
	}
	report.Finished = e.finished(was.started)
	return report
}

// giveUp ends what left no trace. Unless the deadline is over, the journal still counts its starts. It returns the outcome if
// that is to remain so.
func (e *executor) giveUp(id string, was entry) *wire.Report {
	if e.isCancelled(id) {
		return e.givenUp(id)
	}
	if e.clock.passed(was.deadline) {
		if err := e.journal.released(id); err != nil {
			e.log.Warn("work is given up unrecorded", "delivery_id", id, "err", err)
		}
	}
	return nil
}

// due returns the outcomes to send at the time now, and the time to ask again: zero if there is nothing to wait for. A
// returned one is due again after a delay that grows as long as nothing confirms it.
func (e *executor) due(now time.Time) (reports []*wire.Report, next time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(e.outbox)) {
		p := e.outbox[id]
		if !p.due.After(now) {
			p.due = now.Add(e.retry.jitter(e.retry.bound(p.sent)))
			p.sent++
			reports = append(reports, p.report)
		}
		if next.IsZero() || p.due.Before(next) {
			next = p.due
		}
	}
	return reports, next
}

// reconnected makes every outcome due at once.
func (e *executor) reconnected() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.outbox {
		p.due, p.sent = time.Time{}, 0
	}
}

// confirmed forgets an outcome that the server has stored.
func (e *executor) confirmed(delivery string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.outbox[delivery] == nil {
		return
	}
	if err := e.journal.confirmed(delivery, e.clock.millis()); err != nil {
		e.log.Warn("confirmation is in memory only", "delivery_id", delivery, "err", err)
	}
	delete(e.outbox, delivery)
	e.changedLocked()
}

// open returns the deliveries that the agent has and that are not confirmed, at most wire.MaxOpen of them.
func (e *executor) open() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	ids := slices.AppendSeq(slices.Collect(maps.Keys(e.busy)), maps.Keys(e.outbox))
	slices.Sort(ids)
	return ids[:min(len(ids), wire.MaxOpen)]
}

// miss notes that a delivery may have been lost on its way here.
func (e *executor) miss() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.missed = true
	e.changedLocked()
}

// takeMissed reports whether deliveries were missed and there is room for them now. It says so once.
func (e *executor) takeMissed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.missed || e.closed || !e.roomLocked(wire.MaxPullBytes) {
		return false
	}
	e.missed = false
	return true
}

// awaitRoom waits until there is room for a page of deliveries.
func (e *executor) awaitRoom(ctx context.Context) error {
	return e.await(ctx, func() bool { return e.roomLocked(wire.MaxPullBytes) })
}

// roomLocked reports whether content of n bytes may be taken up. Anything may when there is nothing.
func (e *executor) roomLocked(n int) bool {
	return len(e.busy)+len(e.outbox) < wire.MaxOpen && (e.held == 0 || e.held+n <= maxHeld)
}

// tidy lets the journal forget what does not matter any more.
func (e *executor) tidy() {
	if err := e.journal.tidy(e.clock.millis()); err != nil {
		e.log.Warn("journal is not tidied", "err", err)
	}
}

// stop takes up nothing any more and starts nothing that waits.
func (e *executor) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.changedLocked()
}

// awaitIdle waits until no work is under way.
func (e *executor) awaitIdle(ctx context.Context) error {
	return e.await(ctx, func() bool { return len(e.queues) == 0 })
}

// awaitConfirmed waits until the server has confirmed every outcome.
func (e *executor) awaitConfirmed(ctx context.Context) error {
	return e.await(ctx, func() bool { return len(e.outbox) == 0 })
}

// await waits until reachedLocked is true.
func (e *executor) await(ctx context.Context, reachedLocked func() bool) error {
	for {
		e.mu.Lock()
		ok, changed := reachedLocked(), e.changed
		e.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
