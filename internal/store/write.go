// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/batch"
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

// writer groups writes: those that come while one transaction syncs share the next, in the order they came. Its statements
// are those of one connection, so that a transaction is simply what runs between BEGIN and COMMIT.
type writer struct {
	stmts *statements
	group *batch.Group[*write]
	chain *chainer
	log   *slog.Logger

	metrics *metrics

	patience time.Duration // turnPatience

	logFile string // the write-ahead log
	groups  int    // committed; only the leader of the group touches it
}

type write struct {
	ctx  context.Context
	fn   func(*tx) error
	came time.Time // zero: it waits for its turn however long that takes
	err  error
	then func(error) // if not nil, told what became of it
}

// tx is the running transaction as one write sees it. Its statements run to their end whatever becomes of the caller's
// context: an interrupted one would roll back the whole transaction, and with it what others write.
type tx struct {
	*statements
	records []waybill.AuditRecord // to be chained and written before the commit
}

func (t *tx) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return t.statements.query(context.WithoutCancel(ctx), query, args...)
}

// exec runs a statement and returns how many rows it changed.
func (t *tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	ctx = context.WithoutCancel(ctx)
	st, err := t.prepare(ctx, query)
	if err != nil {
		return 0, err
	}
	r, err := st.ExecContext(ctx, args...)
	if err != nil {
		return 0, classify(err)
	}
	return r.RowsAffected()
}

func newWriter(stmts *statements, logFile string, chain *chainer, log *slog.Logger) *writer {
	w := &writer{stmts: stmts, logFile: logFile, chain: chain, log: log, metrics: newMetrics(), patience: turnPatience}
	w.group = batch.New(maxGroup, w.commit)
	return w
}

// do runs fn in a transaction and returns once it is durable, or has failed and left nothing behind. fn shares the
// transaction with others' and may be run twice, so it must set what it returns anew each time.
func (w *writer) do(ctx context.Context, fn func(*tx) error) error {
	op := &write{ctx: ctx, fn: fn}
	w.group.Do(op)
	return op.err
}

// doInTime is do, unless the turn of fn does not come within turnPatience: then it is not run.
func (w *writer) doInTime(ctx context.Context, fn func(*tx) error) error {
	op := &write{ctx: ctx, fn: fn, came: time.Now()}
	w.group.Do(op)
	return op.err
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
	begun := time.Now()
	err := classify(w.run(context.Background(), ops))
	w.metrics.transaction.Observe(time.Since(begun).Seconds())
	w.metrics.group.Observe(float64(len(ops)))
	if err != nil {
		w.log.Error("commit failed", "writes", len(ops), "err", err)
	}
	w.tidy()
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

// The write-ahead log is brought back to its beginning when it has become long. SQLite does that by itself only in a
// moment without readers, which a busy server does not have.
const (
	tidyEvery = 256      // groups
	maxLog    = 64 << 20 // bytes
)

// tidyPatience is how long those who write wait for readers meanwhile. A backup reads for longer than anybody can wait for;
// the log grows until it ends.
const tidyPatience = 100 * time.Millisecond

// tidy waits for the readers of the moment if the log is too long; as a rule they are quick.
func (w *writer) tidy() {
	if w.groups++; w.groups%tidyEvery != 0 {
		return
	}
	info, err := os.Stat(w.logFile)
	if err != nil || info.Size() < maxLog {
		return // no log: the database is not of the kind that has one
	}
	t := &tx{statements: w.stmts}
	for _, pragma := range []string{
		fmt.Sprintf("PRAGMA busy_timeout(%d)", tidyPatience.Milliseconds()), "PRAGMA wal_checkpoint(RESTART)",
		fmt.Sprintf("PRAGMA busy_timeout(%d)", lockPatience.Milliseconds()),
	} {
		if _, err := t.exec(context.Background(), pragma); err != nil {
			w.log.Warn("bring the write-ahead log to its beginning", "bytes", info.Size(), "err", err)
		}
	}
}

// run runs the writes of a group in one transaction. As a rule none fails, so it is tried without savepoints first; if
// one does fail, all is undone and done again with them.
func (w *writer) run(ctx context.Context, ops []*write) error {
	again, err := w.transaction(ctx, ops, func(t *tx, op *write) (bool, error) {
		op.err = op.fn(t)
		return op.err == nil, nil
	})
	if again {
		_, err = w.transaction(ctx, ops, func(t *tx, op *write) (bool, error) { return true, savepoint(ctx, t, op) })
	}
	return err
}

// transaction runs each write through one, and commits. It rolls back, and reports so, if one of them says not to go on.
func (w *writer) transaction(ctx context.Context, ops []*write, step func(*tx, *write) (goOn bool, err error)) (rolledBack bool, err error) {
	t := &tx{statements: w.stmts}
	if _, err := t.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return false, fmt.Errorf("begin: %w", err)
	}
	committed := false
	defer func() { // also when a write panics
		if !committed {
			if _, rb := t.exec(ctx, "ROLLBACK"); rb != nil && err == nil && !rolledBack {
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
	begun := time.Now()
	_, err = t.exec(ctx, "COMMIT")
	w.metrics.sync.Observe(time.Since(begun).Seconds())
	if err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	committed = true
	return false, nil
}

// savepoint runs one write so that its failure undoes only itself. The error is one that ends the whole transaction.
func savepoint(ctx context.Context, t *tx, op *write) error {
	if _, err := t.exec(ctx, "SAVEPOINT w"); err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	if op.err = op.fn(t); op.err != nil { // before it has recorded anything: see Store.write
		if _, err := t.exec(ctx, "ROLLBACK TO w"); err != nil {
			return op.err // what failed, a full disk for one, has ended the transaction itself
		}
	}
	if _, err := t.exec(ctx, "RELEASE w"); err != nil {
		return fmt.Errorf("release savepoint: %w", err)
	}
	return nil
}

func (w *writer) close() error {
	w.group.Flush()
	return w.stmts.close()
}

// jsonRows encodes rows for a "FROM rows(?)" clause: one parameter, however many rows.
func jsonRows(rows any) string {
	b, err := json.Marshal(rows)
	if err != nil {
		panic(fmt.Sprintf("store: encode rows: %v", err)) // rows are strings and integers
	}
	return string(b)
}
