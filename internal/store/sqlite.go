// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	"modernc.org/sqlite" // also registers the driver
)

// openSQLite opens the embedded database at path.
func (s *Store) openSQLite(ctx context.Context, path string, cfg Config) error {
	if err := createPrivate(path); err != nil {
		return err
	}
	s.dialect, s.nonces = sqliteDialect, &nonceSet{store: s}
	s.files = map[string]string{"database": path, "log": path + "-wal"}
	// One connection writes; synchronous=FULL makes a commit durable before it is answered.
	w, err := openSQLite(path, map[string]string{"synchronous": "FULL"}, 1)
	if err != nil {
		return err
	}
	chain := &chainer{dialect: s.dialect, key: cfg.AuditKey, now: s.now, log: s.log}
	if err := migrate(ctx, s.dialect, w, chain, cfg.KeepSchema); err != nil {
		return errors.Join(err, w.Close())
	}
	r, err := openSQLite(path, map[string]string{"query_only": "1"}, 4)
	if err != nil {
		return errors.Join(err, w.Close())
	}
	conn, err := w.Conn(ctx)
	if err != nil {
		return errors.Join(err, w.Close(), r.Close())
	}
	s.reads = newStatements(s.dialect, r, r)
	s.brief = brief{s.reads}
	s.writes = newWriter(&sqliteSession{stmts: newStatements(s.dialect, w, conn), logFile: path + "-wal", log: s.log}, chain, s.log)
	return nil
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
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	if err := db.Ping(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), db.Close())
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

// SQLite result codes that pass: busy, locked, full, I/O (https://sqlite.org/rescode.html).
const (
	sqliteBusy, sqliteLocked, sqliteIOErr, sqliteFull = 5, 6, 10, 13
)

// passes reports whether err is one of SQLite's that may not come again.
func passes(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	switch e.Code() & 0xff {
	case sqliteBusy, sqliteLocked, sqliteIOErr, sqliteFull:
		return true
	}
	return false
}

// sqliteSession is the one connection that writes. Its statements are those of that connection, so that a transaction is
// simply what runs between BEGIN and COMMIT.
type sqliteSession struct {
	stmts   *statements
	logFile string // the write-ahead log
	groups  int    // committed; only the leader of the group touches it
	log     *slog.Logger
}

func (s *sqliteSession) begin(ctx context.Context, _ []string) (*tx, error) {
	t := &tx{statements: s.stmts}
	_, err := t.exec(ctx, "BEGIN IMMEDIATE")
	return t, err
}

func (s *sqliteSession) commit(ctx context.Context, t *tx) error {
	_, err := t.exec(ctx, "COMMIT")
	if err != nil {
		return errors.Join(err, s.rollBack(ctx, t))
	}
	return nil
}

func (s *sqliteSession) rollBack(ctx context.Context, t *tx) error {
	_, err := t.exec(ctx, "ROLLBACK")
	return err
}

// again reports that nothing is tried again: the database itself waits for others.
func (s *sqliteSession) again(error, time.Time) bool { return false }

func (s *sqliteSession) close() error { return s.stmts.close() }

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
func (s *sqliteSession) tidy() {
	if s.groups++; s.groups%tidyEvery != 0 {
		return
	}
	info, err := os.Stat(s.logFile)
	if err != nil || info.Size() < maxLog {
		return
	}
	for _, pragma := range []string{
		fmt.Sprintf("PRAGMA busy_timeout(%d)", tidyPatience.Milliseconds()), "PRAGMA wal_checkpoint(RESTART)",
		fmt.Sprintf("PRAGMA busy_timeout(%d)", lockPatience.Milliseconds()),
	} {
		if _, err := s.stmts.exec(context.Background(), pragma); err != nil {
			s.log.Warn("bring the write-ahead log to its beginning", "bytes", info.Size(), "err", err)
		}
	}
}
