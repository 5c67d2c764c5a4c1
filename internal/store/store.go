// SPDX-License-Identifier: Apache-2.0

// Package store keeps everything that must survive: accounts, keys, users, policies, activations, instances, deliveries,
// their targets and content, and the audit trail. It is one SQL type; what differs between databases is in dialect. All SQL of Waybill is here, and no rule
// is: which change of status is allowed, and which limits hold, the root package and internal/control decide.
//
// Writes are grouped: callers that wait at the same time share one transaction and one sync (see write.go). Reads run
// beside them on connections of their own and see only what is committed.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite" // also registers the driver

	"github.com/openwaybill/waybill"
)

//go:embed migrations
var migrations embed.FS

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
	URL string           // sqlite:PATH; PATH's directory must exist
	Now func() time.Time // nil: time.Now
	// AuditKey seals the heads of the audit trail, so that whoever can write to the database but does not have the key
	// cannot rewrite the trail unnoticed. It must be the same on every server of a database.
	AuditKey []byte
	// KeepSchema refuses a database whose schema is older than this program's, instead of bringing it up to date: a
	// server may be running on it.
	KeepSchema bool
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
	nonces  *nonceSet
	log     *slog.Logger

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
	if s.act == nil || s.act.Recorded {
		return s.writes.do(ctx, fn)
	}
	err := s.writes.doInTime(ctx, func(t *tx) error {
		if err := s.useToken(ctx, t); err != nil {
			return err
		}
		if err := fn(t); err != nil {
			return err
		}
		t.record(s.act, waybill.AuditOK)
		return nil
	})
	s.act.Recorded = err == nil
	return err
}

// dialect is what differs between the databases we run on.
type dialect struct {
	driver string
	goose  goose.Dialect
	folder string // of its migrations
	rows   string // a FROM item with one parameter: the elements of a JSON array, as a column named value
}

var sqliteDialect = dialect{driver: "sqlite", goose: goose.DialectSQLite3, folder: "migrations/sqlite", rows: "json_each(?)"}

// Open opens the database, creates it if it is not there, and brings its schema up to date.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Store, error) {
	path, ok := strings.CutPrefix(cfg.URL, "sqlite:")
	if !ok {
		scheme, _, _ := strings.Cut(cfg.URL, ":") // never the rest: it may hold a password
		return nil, fmt.Errorf("open store: unsupported database %q; use sqlite:PATH", scheme)
	}
	if len(cfg.AuditKey) < minAuditKey {
		return nil, fmt.Errorf("open store: the audit key has %d bytes, %d at least are needed", len(cfg.AuditKey), minAuditKey)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := createPrivate(path); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{now: cfg.Now, dialect: sqliteDialect, nonces: &nonceSet{}, log: log}
	// One connection writes; synchronous=FULL makes a commit durable before it is answered.
	w, err := openSQLite(path, map[string]string{"synchronous": "FULL"}, 1)
	if err != nil {
		return nil, err
	}
	chain := &chainer{dialect: s.dialect, key: cfg.AuditKey, now: s.now, log: log}
	if err := s.migrate(ctx, w, chain, cfg.KeepSchema); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	r, err := openSQLite(path, map[string]string{"query_only": "1"}, 4)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	conn, err := w.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, w.Close(), r.Close())
	}
	s.reads = newStatements(r, r)
	s.brief = brief{s.reads}
	s.writes = newWriter(newStatements(w, conn), path+"-wal", chain, log)
	return s, nil
}

func openSQLite(path string, pragmas map[string]string, conns int) (*sql.DB, error) {
	q := url.Values{}
	for _, p := range []string{
		"journal_mode(WAL)", fmt.Sprintf("busy_timeout(%d)", lockPatience.Milliseconds()), "foreign_keys(1)", "temp_store(MEMORY)",
		"journal_size_limit(67108864)",
	} {
		q.Add("_pragma", p)
	}
	for k, v := range pragmas {
		q.Add("_pragma", k+"("+v+")")
	}
	db, err := sql.Open(sqliteDialect.driver, "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	if err := db.Ping(); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), db.Close())
	}
	return db, nil
}

// createPrivate makes an empty database that only its owner can read, unless there is one: it will hold file content.
// SQLite gives its other files the same mode.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// headsMigration gives the accounts of a database that has no audit trail yet the heads of theirs. It is not SQL because
// the database does not have the key that seals them.
const headsMigration = 4

func (s *Store) migrate(ctx context.Context, db *sql.DB, chain *chainer, keep bool) error {
	dir, err := fs.Sub(migrations, s.dialect.folder)
	if err != nil {
		return fmt.Errorf("migrate store: %w", err)
	}
	heads := goose.NewGoMigration(headsMigration, &goose.GoFunc{RunTx: func(ctx context.Context, sqlTx *sql.Tx) error {
		return chain.beginAll(ctx, &tx{statements: newStatements(nil, sqlTx)})
	}}, nil)
	p, err := goose.NewProvider(s.dialect.goose, db, dir, goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(heads))
	if err != nil {
		return fmt.Errorf("migrate store: %w", err)
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("migrate store: %w", err)
	}
	sources := p.ListSources()
	newest := sources[len(sources)-1].Version
	if have > newest {
		return fmt.Errorf("migrate store: the database has version %d, this program knows %d; run a newer waybill", have, newest)
	}
	if keep && have < newest {
		return fmt.Errorf("migrate store: the database has version %d, this program needs %d; start waybill server of this version first", have, newest)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate store: %w", err)
	}
	return nil
}

// Close ends all connections. Calls under way fail.
func (s *Store) Close() error {
	return errors.Join(s.writes.close(), s.reads.close())
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.reads.db.PingContext(ctx) }

// statements prepares each query text once, on a pool or on one connection of it.
type statements struct {
	db *sql.DB
	on preparer
	mu sync.Mutex
	m  map[string]*sql.Stmt
}

// preparer is *sql.DB, *sql.Conn or *sql.Tx.
type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

func newStatements(db *sql.DB, on preparer) *statements {
	return &statements{db: db, on: on, m: map[string]*sql.Stmt{}}
}

// prepare returns the statement for query. Query texts are constants or one of few combinations, so the map is bounded.
func (s *statements) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st, ok := s.m[query]; ok {
		return st, nil
	}
	st, err := s.on.PrepareContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	s.m[query] = st
	return st, nil
}

func (s *statements) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	st, err := s.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

// brief runs queries that end at once, such as those by a key, to their end whatever becomes of the caller's context: for
// every query that could be interrupted, two goroutines wait.
type brief struct{ *statements }

func (b brief) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return b.statements.query(context.WithoutCancel(ctx), query, args...)
}

func (s *statements) close() error {
	if conn, ok := s.on.(*sql.Conn); ok {
		return errors.Join(conn.Close(), s.db.Close())
	}
	return s.db.Close()
}

// querier is the read pool or a transaction.
type querier interface {
	query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// all runs query and scans every row.
func all[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) (_ []T, err error) {
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

// SQLite result codes that pass: busy, locked, full, I/O (https://sqlite.org/rescode.html).
const (
	sqliteBusy, sqliteLocked, sqliteIOErr, sqliteFull = 5, 6, 10, 13
)

// classify turns driver errors that may pass into waybill.Unavailable, by the driver's code.
func classify(err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff {
		case sqliteBusy, sqliteLocked, sqliteIOErr, sqliteFull:
			return &waybill.Error{Code: waybill.Unavailable, Message: "the database cannot be used right now", Err: err}
		}
	}
	return err
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
