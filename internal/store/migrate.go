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
