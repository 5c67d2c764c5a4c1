// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// headsMigration gives the accounts of a SQLite database that has no audit trail yet the heads of theirs. It is not SQL
// because the database does not have the key that seals them.
const headsMigration = 4

func newMigrations(d dialect, db *sql.DB, chain *chainer) (*goose.Provider, error) {
	dir, err := fs.Sub(migrations, d.folder)
	if err != nil {
		return nil, err
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if !d.shared {
		options = append(options, goose.WithGoMigrations(goose.NewGoMigration(headsMigration, &goose.GoFunc{
			RunTx: func(ctx context.Context, sqlTx *sql.Tx) error {
				return chain.beginAll(ctx, &tx{statements: newStatements(d, nil, sqlTx)})
			},
		}, nil)))
	}
	return goose.NewProvider(d.goose, db, dir, options...)
}

// Schema is what there is to know of the schema of a database.
type Schema struct {
	Version    int64 // of the database; 0: there is none yet
	Newest     int64 // that this program knows
	Migrations []Migration
}

// Migration is a step from one version of the schema to the next.
type Migration struct {
	Version int64
	Name    string
	Applied bool
}

// SchemaOf looks at the schema of the database at url, see Config.URL, and changes nothing.
func SchemaOf(ctx context.Context, url string) (Schema, error) {
	var info Schema
	err := withDatabase(ctx, url, func(d dialect, db *sql.DB) (err error) {
		info, err = schemaOf(ctx, d, db)
		return err
	})
	return info, err
}

func schemaOf(ctx context.Context, d dialect, db *sql.DB) (Schema, error) {
	var info Schema
	p, err := newMigrations(d, db, nil)
	if err != nil {
		return info, err
	}
	there := `SELECT COUNT(*) FROM sqlite_schema WHERE name = 'goose_db_version'`
	if d.shared {
		there = `SELECT COUNT(to_regclass('goose_db_version'))`
	}
	on := newStatements(d, db, db)
	applied := map[int64]bool{}
	n, err := one(ctx, on, scanOne[int], there)
	if err != nil {
		return info, err
	}
	if n > 0 {
		list, err := all(ctx, on, scanOne[int64], `SELECT version_id FROM goose_db_version WHERE is_applied AND version_id > 0 ORDER BY version_id`)
		if err != nil {
			return info, err
		}
		for _, v := range list {
			applied[v] = true
			info.Version = v
		}
	}
	for _, source := range p.ListSources() {
		info.Newest = source.Version
		name := filepath.Base(source.Path)
		if source.Version == headsMigration && !d.shared {
			name = "heads of the audit trails"
		}
		info.Migrations = append(info.Migrations, Migration{Version: source.Version, Name: name, Applied: applied[source.Version]})
	}
	return info, nil
}

// Migrate brings the schema of a database up to date, and makes it if there is none. SQLite needs Config.AuditKey.
func Migrate(ctx context.Context, cfg Config, log *slog.Logger) error {
	return withDatabase(ctx, cfg.URL, func(d dialect, db *sql.DB) error {
		now := cfg.Now
		if now == nil {
			now = time.Now
		}
		return migrate(ctx, d, db, &chainer{dialect: d, key: cfg.AuditKey, now: now, log: log}, false)
	})
}

// withDatabase opens the database at url, which must be there, for the length of fn.
func withDatabase(ctx context.Context, url string, fn func(dialect, *sql.DB) error) (err error) {
	var d dialect
	var db *sql.DB
	switch scheme, path, _ := strings.Cut(url, ":"); scheme {
	case "sqlite":
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("there is no database: %w", err)
		}
		d = sqliteDialect
		if db, err = openSQLite(path, nil, 1); err != nil {
			return err
		}
	case "postgres", "postgresql":
		conf, refused := parsePostgres(url)
		if refused != nil {
			return refused
		}
		d, db = postgresDialect, openPool(conf, "waybill migrates", 2)
		defer func() { err = advise(err, conf) }()
	default:
		return unsupported(scheme)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return fn(d, db)
}

// migrate brings the schema up to date, or refuses a database whose schema is older if keep is set. db must have a second
// connection where others may migrate at the same time: one does, the others wait for it.
func migrate(ctx context.Context, d dialect, db *sql.DB, chain *chainer, keep bool) error {
	unlock, err := lockSchema(ctx, d, db)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer unlock()
	p, err := newMigrations(d, db, chain)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	sources := p.ListSources()
	newest := sources[len(sources)-1].Version
	if have > newest {
		return newerSchema(ctx, d, db, have, newest)
	}
	if keep && have < newest {
		return fmt.Errorf("migrate: the database has version %d, this program needs %d; start waybill server of this version first", have, newest)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// schemaLock is the key of the advisory lock that whoever migrates a PostgreSQL database holds.
const schemaLock = 0x77617962696c6c // "waybill"

func lockSchema(ctx context.Context, d dialect, db *sql.DB) (unlock func(), err error) {
	if !d.shared {
		return func() {}, nil
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(schemaLock)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return func() {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // the lock is the session's
		_ = conn.Close()
	}, nil
}

// newerSchema returns an error unless programs that know no more than version newest can work on the database, whose
// schema is of version have.
func newerSchema(ctx context.Context, d dialect, db *sql.DB, have, newest int64) error {
	if d.shared {
		oldest, err := one(ctx, newStatements(d, db, db), scanOne[int64], `SELECT oldest FROM schema_bounds`)
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		if oldest <= newest {
			return nil
		}
	}
	return fmt.Errorf("migrate: the database has version %d, this program knows %d; run a newer waybill", have, newest)
}
