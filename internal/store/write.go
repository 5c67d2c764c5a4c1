// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/batch"
	"github.com/openwaybill/waybill/internal/telemetry"
)

// maxGroup bounds how many writes share a transaction, and so how long the first waits for the last.
const maxGroup = 512

// Bounds of how long what a client asks for waits, together less than the ten seconds after which the classic SDK gives up:
// for those before it, after which it is not tried any more, and then for another process to let go of the database. So
// however many wait for a disk that has become slow, each hears of it while somebody listens. What agents report waits for
// its turn: some of them tell it once only.
const (
	turnPatience = 4 * time.Second
	lockPatience = 4 * time.Second
)

// errTurn is the result of a write whose turn did not come in time.
var errTurn = waybill.Errorf(waybill.Unavailable, "the database is too slow for all that is to be written")

// maxLazy bounds how many lazy writes wait for company before somebody has to commit them.
const maxLazy = 1024

// writer groups writes: those that come while one transaction syncs share the next, in the order they came.
type writer struct {
	session session
	group   *batch.Group[*write]
	chain   *chainer
	log     *slog.Logger

	metrics *metrics

	patience time.Duration // turnPatience
}

// session is the connection on which a process writes: one transaction at a time.
type session interface {
	// begin begins a transaction. Other servers' wait that are to be alone with one of the same things.
	begin(ctx context.Context, alone []string) (*tx, error)
	// commit returns nil once all that t has written is durable. An error means that all is undone, or says that this is
	// not known.
	commit(ctx context.Context, t *tx) error
	rollBack(ctx context.Context, t *tx) error
	// again reports whether a transaction that failed with err, and has left nothing, is to be done once more. It may wait.
	again(err error, since time.Time) bool
	// tidy is called after each transaction.
	tidy()
	close() error
}

type write struct {
	ctx   context.Context
	fn    func(*tx) error
	alone string    // see Store.writeAlone; empty: with nothing
	came  time.Time // zero: it waits for its turn however long that takes
	err   error
	then  func(error) // if not nil, told what became of it
}

// tx is the running transaction as one write sees it. Its statements run to their end whatever becomes of the caller's
// context: an interrupted one would roll back the whole transaction, and with it what others write.
type tx struct {
	*statements
	records []waybill.AuditRecord // to be chained and written before the commit

	send  func(context.Context, []statementCall) error // nil: every statement runs at once
	queue []statementCall
	bound context.Context // ends when the transaction is given up; nil: never
}

// statementCall is a statement whose result is needed for no more than check.
type statementCall struct {
	query string
	args  []any
	check func(changed int64) error // nil: whatever it changes is right
}

func (t *tx) context(ctx context.Context) (context.Context, context.CancelFunc) {
	if t.bound != nil {
		return t.bound, func() {}
	}
	return context.WithoutCancel(ctx), func() {}
}

func (t *tx) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := t.flush(ctx); err != nil {
		return nil, err
	}
	return t.statements.query(ctx, query, args...)
}

// again reports that the statement of a transaction is not run again by itself: the whole transaction is.
func (t *tx) again(context.Context, error, time.Time) bool { return false }

// exec runs a statement and returns how many rows it changed.
func (t *tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	if err := t.flush(ctx); err != nil {
		return 0, err
	}
	ctx, _ = t.context(ctx)
	r, err := t.statements.exec(ctx, query, args...)
	if err != nil {
		return 0, classify(err)
	}
	return r.RowsAffected()
}

// put runs a statement before the next one that is waited for, together with others: over a network that is much faster.
// An error comes then, or at the commit.
func (t *tx) put(ctx context.Context, query string, args ...any) error {
	return t.putChecked(ctx, nil, query, args...)
}

// maxQueue bounds how many statements wait to be sent.
const maxQueue = 1000

// putChecked is put for a statement whose number of changed rows, or of rows found, is looked at.
func (t *tx) putChecked(ctx context.Context, check func(changed int64) error, query string, args ...any) error {
	if t.send == nil {
		n, err := t.exec(ctx, query, args...)
		if err == nil && check != nil {
			err = check(n)
		}
		return err
	}
	t.queue = append(t.queue, statementCall{query, args, check})
	if len(t.queue) >= maxQueue {
		return t.flush(ctx)
	}
	return nil
}

// flush sends what was put, and waits for it.
func (t *tx) flush(ctx context.Context) error {
	if len(t.queue) == 0 {
		return nil
	}
	calls := t.queue
	t.queue = nil
	ctx, _ = t.context(ctx)
	return classify(t.send(ctx, calls))
}

func newWriter(session session, chain *chainer, log *slog.Logger) *writer {
	w := &writer{session: session, chain: chain, log: log, metrics: newMetrics(), patience: turnPatience}
	w.group = batch.New(maxGroup, w.commit)
	return w
}

// run runs op in a transaction and returns once it is durable, or has failed and left nothing behind. op.fn shares the
// transaction with others' and may be run several times, so it must set what it returns anew each time.
func (w *writer) run(op *write) error {
	w.group.Do(op)
	return op.err
}

// do is run for a write that waits for its turn however long that takes.
func (w *writer) do(ctx context.Context, fn func(*tx) error) error {
	return w.run(&write{ctx: ctx, fn: fn})
}

// doInTime is do, unless the turn of fn does not come within turnPatience: then it is not run.
func (w *writer) doInTime(ctx context.Context, fn func(*tx) error) error {
	return w.run(&write{ctx: ctx, fn: fn, came: time.Now()})
}

// later queues fn for the next transaction and returns at once. Whatever a later call of do writes is committed with it
// or after it, never before. then hears the result.
func (w *writer) later(fn func(*tx) error, then func(error)) {
	if n := w.group.Later(&write{ctx: context.Background(), fn: fn, then: then}); n > maxLazy {
		w.group.Flush()
	}
}

// errChain marks a transaction whose audit records could not be written.
var errChain = errors.New("audit")

// errNotRun is the result of a write until its group has committed.
var errNotRun = errors.New("the transaction did not end")

// commit runs one group. Its context is its own: no caller's end may roll back another's write.
func (w *writer) commit(ops []*write) {
	late := 0
	ops = slices.DeleteFunc(ops, func(op *write) bool {
		if op.came.IsZero() || time.Since(op.came) <= w.patience {
			op.err = errNotRun // stands if a panic leaves this function
			return false
		}
		late++
		op.err = errTurn
		return true
	})
	if late > 0 {
		w.metrics.writes.WithLabelValues(writeLate).Add(float64(late))
		w.log.Warn("the database is too slow", "writes", late, "waited", w.patience)
	}
	if len(ops) == 0 {
		return
	}
	_, span := telemetry.Shared(len(ops), func(i int) context.Context { return ops[i].ctx }, telemetry.Asks, "store transaction")
	span.Int("waybill.store.writes", len(ops))
	begun := time.Now()
	err := classify(w.together(context.Background(), ops))
	span.End(err)
	w.metrics.transaction.Observe(time.Since(begun).Seconds())
	w.metrics.group.Observe(float64(len(ops)))
	if errors.Is(err, context.DeadlineExceeded) { // the group's own
		err = unavailable(err)
	}
	if err != nil {
		w.log.Error("commit failed", "writes", len(ops), "err", err)
	}
	w.session.tidy()
	done := 0
	for _, op := range ops {
		if err != nil {
			op.err = err
		}
		if op.err == nil {
			done++
		}
		if op.then != nil {
			op.then(op.err)
		}
	}
	other := writeRefused
	if err != nil {
		other = writeFailed
	}
	w.metrics.writes.WithLabelValues(writeOK).Add(float64(done))
	w.metrics.writes.WithLabelValues(other).Add(float64(len(ops) - done))
}

// together runs the writes of a group in one transaction, again if it failed for a reason that passes.
func (w *writer) together(ctx context.Context, ops []*write) error {
	var since time.Time // of the first failure
	for {
		err := w.attempt(ctx, ops)
		if err == nil {
			return nil
		}
		if since.IsZero() {
			since = time.Now()
		}
		if !w.session.again(err, since) {
			return err
		}
	}
}

// attempt runs the writes of a group in one transaction. As a rule none fails, so it is tried without savepoints first;
// if one does fail, all is undone and done again with them.
func (w *writer) attempt(ctx context.Context, ops []*write) error {
	again, err := w.transaction(ctx, ops, func(t *tx, op *write) (bool, error) {
		op.err = op.fn(t)
		return op.err == nil, nil
	})
	if again || refused(err) {
		_, err = w.transaction(ctx, ops, func(t *tx, op *write) (bool, error) { return true, savepoint(ctx, t, op) })
	}
	return err
}

// transaction runs each write through one, and commits. It rolls back, and reports so, if one of them says not to go on.
func (w *writer) transaction(ctx context.Context, ops []*write, step func(*tx, *write) (goOn bool, err error)) (rolledBack bool, err error) {
	var alone []string
	for _, op := range ops {
		if op.alone != "" {
			alone = append(alone, op.alone)
		}
	}
	t, err := w.session.begin(ctx, alone)
	if err != nil {
		return false, fmt.Errorf("begin: %w", err)
	}
	committed := false
	defer func() { // also when a write panics
		if !committed {
			if rb := w.session.rollBack(ctx, t); rb != nil && err == nil && !rolledBack {
				err = fmt.Errorf("roll back: %w", rb)
			}
		}
	}()
	for _, op := range ops {
		if op.err = op.ctx.Err(); op.err != nil {
			continue
		}
		if goOn, err := step(t, op); err != nil || !goOn {
			return err == nil, err
		}
	}
	if err := w.chain.append(ctx, t); err != nil {
		w.metrics.auditFailures.Inc()
		return false, fmt.Errorf("%w: %w", errChain, err)
	}
	committed = true // or has failed, and with it all is undone
	begun := time.Now()
	err = w.session.commit(ctx, t)
	w.metrics.sync.Observe(time.Since(begun).Seconds())
	if err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	return false, nil
}

// savepoint runs one write so that its failure undoes only itself. The error is one that ends the whole transaction.
func savepoint(ctx context.Context, t *tx, op *write) error {
	for again := false; ; again = true {
		// Not put with what follows: should fn fail before it asks for anything, there must be something to go back to.
		if _, err := t.exec(ctx, "SAVEPOINT w"); err != nil {
			return fmt.Errorf("savepoint: %w", err)
		}
		if op.err = op.fn(t); op.err == nil {
			op.err = t.flush(ctx)
		}
		if op.err == nil {
			break
		}
		t.queue = nil
		if undone(op.err) {
			return op.err
		}
		// It fails before it has recorded anything: see Store.write.
		if _, err := t.exec(ctx, "ROLLBACK TO w"); err != nil {
			return op.err // what failed, a full disk for one, has ended the transaction itself
		}
		// What another server wrote under the same key is committed by now, and a second run sees it.
		if again || !collided(op.err) {
			break
		}
	}
	if err := t.put(ctx, "RELEASE w"); err != nil {
		return fmt.Errorf("release savepoint: %w", err)
	}
	return nil
}

func (w *writer) close() error {
	w.group.Flush()
	return w.session.close()
}

// jsonRows encodes rows for a "FROM rows(?)" clause: one parameter, however many rows.
func jsonRows(rows any) string {
	b, err := json.Marshal(rows)
	if err != nil {
		panic(fmt.Sprintf("store: encode rows: %v", err)) // rows are strings and integers
	}
	return string(withoutNUL(b))
}

// withoutNUL replaces every escaped NUL in JSON by U+FFFD: PostgreSQL has no text with one.
func withoutNUL(b []byte) []byte {
	if !bytes.Contains(b, []byte(`\u0000`)) {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] != '\\':
			out = append(out, b[i])
		case bytes.HasPrefix(b[i:], []byte(`\u0000`)):
			out = append(out, `\ufffd`...)
			i += len(`\u0000`) - 1
		default: // an escape of at least two bytes, of which the second may be a backslash
			out = append(out, b[i], b[i+1])
			i++
		}
	}
	return out
}
