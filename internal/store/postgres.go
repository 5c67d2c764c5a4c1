// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/openwaybill/waybill"
)

// Bounds of what a server asks of PostgreSQL.
const (
	readers = 8 // connections that read; one more writes, and one notes nonces

	// How long what has met a lost connection is tried again: within the ten seconds after which the classic SDK gives up.
	readPatience  = 4 * time.Second
	writePatience = 4 * time.Second
	// scanPatience bounds a query that may go through much.
	scanPatience = 30 * time.Second
	// groupPatience bounds a transaction: a server that has vanished does not answer, and keeps no connection from looking
	// well.
	groupPatience = 10 * time.Second
	// idlePatience bounds how long a transaction waits for its server, which never waits for anybody while one runs.
	idlePatience = 4 * time.Second
	// connectPatience bounds one attempt to connect.
	connectPatience = 3 * time.Second
)

// openPostgres opens a PostgreSQL database. Every server of it does so.
func (s *Store) openPostgres(ctx context.Context, cfg Config) error {
	conf, err := parsePostgres(cfg.URL)
	if err != nil {
		return err
	}
	s.dialect = postgresDialect
	chain := &chainer{dialect: s.dialect, key: cfg.AuditKey, now: s.now, log: s.log}
	m := openPool(conf, "waybill migrates", 2)
	if err := errors.Join(migrate(ctx, s.dialect, m, chain, cfg.KeepSchema), m.Close()); err != nil {
		return classify(advise(err, conf))
	}
	w := openPool(conf, "waybill writes", 1)
	if err := mustNotCopy(ctx, newStatements(s.dialect, w, w)); err != nil {
		return errors.Join(classify(err), w.Close())
	}
	session, err := newPostgresSession(ctx, w, s.log)
	if err != nil {
		return errors.Join(classify(err), w.Close())
	}
	r := openPool(conf, "waybill reads", readers)
	s.reads = newStatements(s.dialect, r, r)
	s.brief = brief{s.reads}
	s.writes = newWriter(session, chain, s.log)
	s.nonces = newSharedNonces(openPool(conf, "waybill nonces", 1))
	s.partitions = &partitions{}
	s.ensurePartition(ctx, s.now())
	return nil
}

// parsePostgres reads the URL of a database. Its errors do not show what may be a password.
func parsePostgres(url string) (*pgx.ConnConfig, error) {
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		why := "it cannot be read"
		if e, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
			if _, after, found := strings.Cut(e.Error(), "`: "); found && !strings.ContainsAny(after, "/@") {
				why = after
			}
		}
		return nil, fmt.Errorf("the URL of the database is not like postgres://USER@HOST:5432/NAME?sslmode=verify-full: %s", why)
	}
	conf.ConnectTimeout = min(cmp.Or(conf.ConnectTimeout, connectPatience), connectPatience)
	// A peer that has vanished is noticed while nothing is sent.
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 3 * time.Second, Count: 3}}
	conf.DialFunc = dialer.DialContext
	return conf, nil
}

// postgresUsed reports whether a server has left secrets in the database.
func postgresUsed(ctx context.Context, url string) (bool, error) {
	conf, err := parsePostgres(url)
	if err != nil {
		return false, err
	}
	db := openPool(conf, "waybill", 1)
	defer db.Close()
	stmts := newStatements(postgresDialect, db, db)
	made, err := one(ctx, stmts, scanOne[bool], `SELECT to_regclass('secrets') IS NOT NULL`)
	if err != nil || !made {
		return false, advise(err, conf)
	}
	return one(ctx, stmts, scanOne[bool], `SELECT EXISTS (SELECT 1 FROM secrets)`)
}

// openPool returns a pool that connects when it is used. name is seen in pg_stat_activity.
func openPool(conf *pgx.ConnConfig, name string, conns int) *sql.DB {
	conf = conf.Copy()
	for k, v := range map[string]string{
		"application_name": name,
		// Every query is written so that one plan is good for all its parameters. Left to itself, the planner prefers to plan
		// anew each time, to leave out partitions that it leaves out anyway when the plan runs.
		"plan_cache_mode": "force_generic_plan",
		// A server that stands still, or has vanished, must not keep what it has locked from the others.
		"idle_in_transaction_session_timeout": strconv.FormatInt(idlePatience.Milliseconds(), 10),
		"client_connection_check_interval":    "2000",
	} {
		if _, ok := conf.RuntimeParams[k]; !ok {
			conf.RuntimeParams[k] = v
		}
	}
	db := stdlib.OpenDB(*conf)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db
}

// postgresSession is the connection on which a server writes. Other servers write at the same time.
//
// When it breaks while a transaction commits, nobody has told what became of the transaction. So each one notes its number
// in the row that the writer has in the table writers, where numbers only grow, and a new connection raises the number
// there: see outcome. A transaction that goes on without us, and has not come to that row yet, finds a number that is not
// below its own, fails, and is undone. This holds on a standby that has taken over, too.
type postgresSession struct {
	db     *sql.DB
	stmts  *statements // of one connection; nil: there is none
	writer string
	seq    int64 // of the transaction that runs, or ran last, or what a fence has raised it to
	fenced bool  // there may be a transaction that the row has to stop
	log    *slog.Logger
	cancel context.CancelFunc // ends the context of the transaction

	patience time.Duration // groupPatience
}

func newPostgresSession(ctx context.Context, db *sql.DB, log *slog.Logger) (*postgresSession, error) {
	s := &postgresSession{db: db, writer: rand.Text(), log: log, cancel: func() {}, patience: groupPatience}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	_, err := s.stmts.exec(ctx, `INSERT INTO writers (id, seq, used) VALUES (?, 0, now())`, s.writer)
	return s, err
}

// connect takes a connection that answers.
func (s *postgresSession) connect(ctx context.Context) error {
	if s.stmts != nil {
		return nil
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	s.stmts = newStatements(postgresDialect, s.db, conn)
	return nil
}

// disconnect lets go of a connection that is not to be used any more.
func (s *postgresSession) disconnect() {
	if s.stmts == nil {
		return
	}
	conn := s.stmts.on.(*sql.Conn)
	s.stmts = nil
	_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // removes it from the pool
	_ = conn.Close()
}

func (s *postgresSession) begin(_ context.Context, alone []string) (*tx, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.patience)
	s.cancel = cancel
	if err := s.connect(ctx); err != nil {
		cancel()
		return nil, err
	}
	s.seq++
	t := &tx{statements: s.stmts, bound: ctx, send: s.send}
	t.queue = append(t.queue, statementCall{query: "BEGIN"})
	if len(alone) > 0 {
		// Locks are taken in the order of their names, so that two servers never wait for each other.
		slices.Sort(alone)
		t.queue = append(t.queue, statementCall{
			query: `SELECT pg_advisory_xact_lock(hashtextextended(k, 0)) FROM (SELECT value->>0 AS k FROM ` + postgresDialect.rows + ` ORDER BY 1) names`,
			args:  []any{jsonRows(column(slices.Compact(alone)))},
		})
	}
	return t, nil
}

// send sends statements together and checks their results. The first error is returned.
func (s *postgresSession) send(ctx context.Context, calls []statementCall) error {
	if s.stmts == nil {
		return io.ErrUnexpectedEOF
	}
	b := &pgx.Batch{}
	for _, c := range calls {
		st, err := s.stmts.prepare(ctx, c.query)
		if err != nil {
			return err
		}
		b.Queue(st.text, postgresDialect.values(c.args)...)
	}
	return s.stmts.on.(*sql.Conn).Raw(func(dc any) (err error) {
		results := dc.(*stdlib.Conn).Conn().SendBatch(ctx, b)
		defer func() { err = errors.Join(err, results.Close()) }()
		for _, c := range calls {
			tag, err := results.Exec()
			if err != nil {
				return err
			}
			if c.check != nil {
				if err := c.check(tag.RowsAffected()); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// errUnknown is the result of writes of which nobody can tell whether they were done.
var errUnknown = waybill.Errorf(waybill.Unavailable, "the database was lost while it stored this, and nobody can tell yet whether it has; "+
	"look, or ask again with the same ClientToken")

func (s *postgresSession) commit(ctx context.Context, t *tx) error {
	defer s.cancel()
	// It divides by zero where a fence was faster.
	if err := t.put(ctx, `INSERT INTO writers (id, seq, used) VALUES (?, ?, now())
		ON CONFLICT (id) DO UPDATE SET seq = excluded.seq / CAST(writers.seq < excluded.seq AS int), used = excluded.used`, s.writer, s.seq); err != nil {
		return errors.Join(err, s.rollBack(ctx, t))
	}
	// In one round with what is waiting: after an error, the database skips the rest of it.
	t.queue = append(t.queue, statementCall{query: "COMMIT"})
	err := t.flush(ctx)
	if err == nil {
		return nil
	}
	if !lost(err) {
		return errors.Join(err, s.rollBack(ctx, t))
	}
	s.disconnect()
	done, unknown := s.outcome()
	switch {
	case unknown != nil:
		s.log.Error("the database was lost during a commit, and does not come back to say what became of it", "err", unknown)
		return errUnknown
	case done:
		return nil
	}
	return err
}

// outcome tells whether the last transaction is committed. If it is not, it never will be: the database may have all of it,
// with its COMMIT, and still be about to run it, so its number is fenced off before anybody hears of it. A transaction that
// has come to the row is waited for.
//
// An error says that the fence could not be written, for the database does not answer. Then nothing holds: the transaction
// may be committed, even after the caller has heard that nobody knows, until the next one of this writer is.
func (s *postgresSession) outcome() (committed bool, err error) {
	since := time.Now()
	ctx, cancel := context.WithDeadline(context.Background(), since.Add(writePatience))
	defer cancel()
	// Two numbers, so that a fence that is written twice, because its answer was lost, tells the same both times. One that
	// comes late finds a higher number, and leaves it.
	last, was, wasNot := s.seq, s.seq+1, s.seq+2
	s.seq, s.fenced = wasNot, true
	for {
		if err = s.connect(ctx); err == nil {
			var seq int64
			if seq, err = one(ctx, s.stmts, scanOne[int64], `INSERT INTO writers AS w (id, seq, used) VALUES (?, ?, now())
				ON CONFLICT (id) DO UPDATE SET seq = CASE WHEN w.seq IN (?, ?) THEN ? ELSE excluded.seq END, used = excluded.used
				WHERE w.seq <= excluded.seq RETURNING seq`, s.writer, wasNot, last, was, was); err == nil {
				return seq == was, nil
			}
			s.disconnect()
		}
		if !waitToRetry(ctx, since, writePatience) {
			return false, err
		}
	}
}

func (s *postgresSession) rollBack(ctx context.Context, t *tx) error {
	defer s.cancel()
	if s.stmts == nil {
		return nil
	}
	t.queue = nil
	if _, err := t.exec(ctx, "ROLLBACK"); err != nil {
		s.disconnect() // the database rolls back by itself
	}
	return nil
}

// again reports that a transaction is to be done once more that lost its connection, or was in another's way.
func (s *postgresSession) again(err error, since time.Time) bool {
	if lost(err) {
		s.disconnect()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return false // it has had its time
	}
	return err != errUnknown && (undone(err) || collided(err)) && waitToRetry(context.Background(), since, writePatience) //nolint:errorlint // that one
}

func (s *postgresSession) tidy() {}

func (s *postgresSession) close() error {
	if s.stmts == nil {
		return s.db.Close()
	}
	if s.fenced { // a fence stands for as long as what it stops may come; retention removes it
		return s.stmts.close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectPatience)
	defer cancel()
	if _, err := s.stmts.exec(ctx, `DELETE FROM writers WHERE id = ?`, s.writer); err != nil {
		s.disconnect() // retention removes it
		return s.db.Close()
	}
	return s.stmts.close()
}

// waitToRetry pauses before another attempt, longer from time to time. It returns false, at once, if there is to be none.
func waitToRetry(ctx context.Context, since time.Time, patience time.Duration) bool {
	gone := time.Since(since)
	pause := min(max(gone/2, 10*time.Millisecond), 250*time.Millisecond)
	if gone+pause > patience {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// state returns the SQLSTATE of an error, and nothing if PostgreSQL did not give one.
func state(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// lost reports whether err means that the connection is gone, or leads to a server that does not take writes any more.
func lost(err error) bool {
	if err == nil {
		return false
	}
	switch code := state(err); {
	case code == "":
	case code[:2] == "08": // connection exceptions
		return true
	default:
		switch code {
		case "57P01", "57P02", "57P03", // shut down, crashed, starting
			"57P05", "25P03", "53300", // idle for too long, in a transaction too; too many connections
			"25006": // a primary that has become a standby
			return true
		}
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	for _, e := range []error{
		io.EOF, io.ErrUnexpectedEOF, driver.ErrBadConn, sql.ErrConnDone, net.ErrClosed, os.ErrDeadlineExceeded,
		syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.EPIPE,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return strings.Contains(err.Error(), "conn closed") // pgconn's has no type of its own
}

// undone reports whether err has ended a whole transaction that may succeed when it is run again.
func undone(err error) bool {
	switch state(err) {
	case "40001", "40P01": // serialization failure, deadlock
		return true
	}
	return errors.Is(err, errAgain) || lost(err)
}

// errAgain is the result of a statement that met what another server was about to change.
var errAgain = errors.New("another server was faster")

// collided reports whether err is about a key that is there already.
func collided(err error) bool { return state(err) == "23505" }

// refused reports whether PostgreSQL did not like a statement, whichever of a transaction that was.
func refused(err error) bool { return state(err) != "" && !undone(err) }
