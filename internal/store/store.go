// SPDX-License-Identifier: Apache-2.0

// Package store keeps everything that must survive: accounts, keys, users, policies, activations, instances, deliveries,
// their targets and content, and the audit trail. It is one SQL type; what differs between databases is in dialect. All
// SQL of Waybill is here, and no rule is: which change of status is allowed, and which limits hold, the root package and
// internal/control decide.
//
// Writes are grouped: callers that wait at the same time share one transaction and one sync (see write.go). Reads run
// beside them on connections of their own and see only what is committed. On PostgreSQL other servers write at the same
// time: what a transaction has read and builds upon, it has locked.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/telemetry"
)

// What callers branch on. They stand for themselves, without more words.
var (
	ErrNotFound  = errors.New("not found")               // of lookups and changes of one thing that is not there
	ErrExists    = errors.New("exists already")          // of something new under a name that is taken
	ErrLimit     = errors.New("no room")                 // of something new beyond the limit the caller gave
	ErrQuota     = errors.New("no room in the account")  // likewise, of a limit of the whole account
	ErrTokenUsed = errors.New("the token has been used") // see For
)

// Config says which database to use.
type Config struct {
	// URL is sqlite:PATH, whose directory must exist, or postgres://USER@HOST:PORT/NAME with the parameters of libpq.
	URL string
	Now func() time.Time // nil: time.Now
	// AuditKey seals the heads of the audit trail, so that whoever can write to the database but does not have the key
	// cannot rewrite the trail unnoticed. It must be the same on every server of a database.
	AuditKey []byte
	// KeepSchema refuses a database whose schema is older than this program's, instead of bringing it up to date: a
	// server may be running on it.
	KeepSchema bool
	// Encode returns what webhooks are sent of a notice, as JSON. Nil: nobody is told of what is written, because nothing is
	// that somebody could be told of.
	Encode func(*waybill.Notice) []byte
}

// minAuditKey is the least length of Config.AuditKey in bytes.
const minAuditKey = 32

// Store is the database. Its methods may be called by any number of goroutines.
type Store struct {
	now     func() time.Time
	dialect dialect
	reads   *statements
	brief   brief // the same, for what takes less time than to watch over its context costs
	writes  *writer
	nonces  nonces
	files   map[string]string // of a SQLite database, by what they are
	log     *slog.Logger
	encode  func(*waybill.Notice) []byte

	partitions *partitions

	act    *waybill.Act // what this view of the store writes is written for; nil: nobody's request
	answer []byte       // what act.Token stands for
}

// For returns the store as act uses it: the first transaction that it writes takes along the audit record of act and,
// if act has a token, answer under that token; ErrTokenUsed if the token has an answer already. The view is for the
// goroutine that act belongs to.
func (s *Store) For(act *waybill.Act, answer []byte) *Store {
	view := *s
	view.act, view.answer = act, answer
	return &view
}

// write runs fn in a transaction, see writer.do.
func (s *Store) write(ctx context.Context, fn func(*tx) error) error {
	return s.writeAlone(ctx, "", fn)
}

// accountWide is what a write is to be alone with that counts what an account has, or relies on something of it that
// another might remove: servers do such writes one after the other.
func accountWide(account waybill.AccountID) string { return "account " + string(account) }

// writeAlone is write, while no other server writes what is to be alone with the same thing.
func (s *Store) writeAlone(ctx context.Context, with string, fn func(*tx) error) (err error) {
	within, span := telemetry.Child(ctx, telemetry.Asks, "store write")
	span.String("db.system.name", s.dialect.system)
	defer func() { span.End(err) }()
	op := &write{ctx: within, fn: fn, alone: with}
	if s.act == nil || s.act.Recorded {
		return s.writes.run(op)
	}
	op.came = time.Now()
	op.fn = func(t *tx) error {
		if err := s.useToken(ctx, t); err != nil {
			return err
		}
		if err := fn(t); err != nil {
			return err
		}
		t.record(s.act, waybill.AuditOK)
		return nil
	}
	err = s.writes.run(op)
	s.act.Recorded = err == nil
	return err
}

// Open opens the database, creates it if it is not there and of the kind that can be, and brings its schema up to date.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Store, error) {
	if len(cfg.AuditKey) < minAuditKey {
		return nil, fmt.Errorf("open store: the audit key has %d bytes, %d at least are needed", len(cfg.AuditKey), minAuditKey)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Store{now: cfg.Now, log: log, encode: cfg.Encode}
	var err error
	switch scheme, rest, _ := strings.Cut(cfg.URL, ":"); scheme {
	case "sqlite":
		err = s.openSQLite(ctx, rest, cfg)
	case "postgres", "postgresql":
		err = s.openPostgres(ctx, cfg)
	default:
		err = unsupported(scheme)
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

// Used reports whether there is a database at url, see Config.URL, that a server has used. It creates and changes nothing.
func Used(ctx context.Context, url string) (bool, error) {
	scheme, path, _ := strings.Cut(url, ":")
	switch scheme {
	case "sqlite":
		_, err := os.Stat(path)
		return err == nil, nil
	case "postgres", "postgresql":
		return postgresUsed(ctx, url)
	}
	return false, unsupported(scheme)
}

// unsupported never shows more of a URL than its scheme: there may be a password. What is no URL has none.
func unsupported(scheme string) error {
	if strings.ContainsFunc(scheme, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '+' }) {
		return errors.New("the database is not given as a URL; use sqlite:PATH or postgres://USER@HOST/NAME")
	}
	return fmt.Errorf("unsupported database %q; use sqlite:PATH or postgres://USER@HOST/NAME", scheme)
}

// Close ends all connections. Calls under way fail.
func (s *Store) Close() error {
	return errors.Join(s.nonces.close(), s.writes.close(), s.reads.close())
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.reads.db.PingContext(ctx) }

// statements runs queries on a pool or on one connection of it. It prepares each text once, or leaves that to a driver
// that does so itself.
type statements struct {
	dialect dialect
	db      *sql.DB
	on      runner
	mu      sync.Mutex
	m       map[string]statement
}

// runner is *sql.DB, *sql.Conn or *sql.Tx.
type runner interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// statement is a query as the database wants it, and prepared where the driver does not do that.
type statement struct {
	text     string
	prepared *sql.Stmt
}

func newStatements(d dialect, db *sql.DB, on runner) *statements {
	return &statements{dialect: d, db: db, on: on, m: map[string]statement{}}
}

// prepare returns the statement for query. Query texts are constants or one of few combinations, so the map is bounded.
func (s *statements) prepare(ctx context.Context, query string) (statement, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st, ok := s.m[query]; ok {
		return st, nil
	}
	st := statement{text: s.dialect.text(query)}
	if !s.dialect.shared {
		var err error
		if st.prepared, err = s.on.PrepareContext(ctx, st.text); err != nil {
			return st, fmt.Errorf("prepare: %w", err)
		}
	}
	s.m[query] = st
	return st, nil
}

func (s *statements) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	st, err := s.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	if st.prepared != nil {
		return st.prepared.QueryContext(ctx, args...)
	}
	return s.on.QueryContext(ctx, st.text, s.dialect.values(args)...)
}

func (s *statements) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	st, err := s.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	if st.prepared != nil {
		return st.prepared.ExecContext(ctx, args...)
	}
	return s.on.ExecContext(ctx, st.text, s.dialect.values(args)...)
}

// again reports whether a query that has failed is to be tried once more: on another connection, if there is a choice.
func (s *statements) again(ctx context.Context, err error, since time.Time) bool {
	_, pool := s.on.(*sql.DB)
	return pool && s.dialect.shared && lost(err) && waitToRetry(ctx, since, readPatience)
}

func (s *statements) context(ctx context.Context) (context.Context, context.CancelFunc) {
	if !s.dialect.shared {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, scanPatience)
}

// brief runs queries that end at once, such as those by a key, to their end whatever becomes of the caller's context: for
// every query that could be interrupted, two goroutines wait; and over a network, a connection is lost. There it is also
// the network that may never answer.
type brief struct{ *statements }

func (b brief) context(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return ctx, func() {}
	}
	ctx = context.WithoutCancel(ctx)
	if !b.dialect.shared {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, readPatience)
}

func (s *statements) close() error {
	if conn, ok := s.on.(*sql.Conn); ok {
		return errors.Join(conn.Close(), s.db.Close())
	}
	return s.db.Close()
}

// querier is the read pool or a transaction.
type querier interface {
	context(context.Context) (context.Context, context.CancelFunc) // in which query is to run until its rows are read
	query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	again(ctx context.Context, err error, since time.Time) bool
}

// all runs query and scans every row. It tries again where a connection was lost and that can do no harm.
func all[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	since := time.Now()
	for {
		list, err := scanAll(ctx, q, scan, query, args...)
		if err == nil || !q.again(ctx, err, since) {
			return list, err
		}
	}
}

func scanAll[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) (_ []T, err error) {
	callers := ctx
	ctx, cancel := q.context(ctx)
	defer cancel()
	defer func() {
		if errors.Is(err, context.DeadlineExceeded) && callers.Err() == nil { // it is ours
			err = unavailable(err)
		}
	}()
	rows, err := q.query(ctx, query, args...)
	if err != nil {
		return nil, classify(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var list []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("scan: %w", err)
		}
		list = append(list, v)
	}
	return list, classify(rows.Err())
}

// one runs a query for one row; ErrNotFound if there is none.
func one[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) (T, error) {
	list, err := all(ctx, q, scan, query, args...)
	if err != nil || len(list) == 0 {
		var zero T
		if err == nil {
			err = ErrNotFound
		}
		return zero, err
	}
	return list[0], nil
}

func scanOne[T any](rows *sql.Rows) (v T, err error) { return v, rows.Scan(&v) }

// classify turns driver errors that may pass into waybill.Unavailable, by the driver's code.
func classify(err error) error {
	switch {
	case err == nil, waybill.CodeOf(err) == waybill.Unavailable, !passes(err) && !lost(err),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return unavailable(err)
}

func unavailable(err error) error {
	return &waybill.Error{Code: waybill.Unavailable, Message: "the database cannot be used right now", Err: err}
}

// millis and instant convert between times and the integers they are stored as.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func instant(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
