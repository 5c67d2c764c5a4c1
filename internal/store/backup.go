// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"

	"modernc.org/sqlite"
)

// backupStep is how many pages are copied between two looks at the context, 4 MiB with pages of 4 KiB.
const backupStep = 1024

// CopySQLite copies the SQLite database in the file from, which servers may be writing to, to the file to, which must not
// be there and gets mode 0600. The copy is the database as it was at one moment, shortly after the call: all that was
// committed before, and nothing that was committed later. It is durable and has been checked when this returns.
//
// progress, if not nil, hears of the pages that are copied. While a copy is made the write-ahead log of the database grows
// by what is written, because it is read from one moment on.
func CopySQLite(ctx context.Context, from, to string, progress func(done, all int)) (err error) {
	if _, err := os.Stat(from); err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(to))
		}
	}()
	if err := f.Close(); err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	if err := copySQLite(ctx, from, to, progress); err != nil {
		return err
	}
	return CheckSQLite(ctx, to)
}

// copySQLite copies the database in the file from into the empty file to.
func copySQLite(ctx context.Context, from, to string, progress func(done, all int)) (err error) {
	db, err := openSQLite(from, map[string]string{"query_only": "1"}, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	// Reading fixes the moment. Without that, whatever a server commits between two steps makes SQLite begin again.
	if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	defer func() {
		_, end := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		err = errors.Join(err, end)
	}()
	var schema int
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&schema); err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	if err := conn.Raw(func(driver any) error { return copyPages(ctx, driver, to, progress) }); err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	return nil
}

func copyPages(ctx context.Context, driver any, to string, progress func(done, all int)) (err error) {
	from, ok := driver.(interface {
		NewBackup(dst string) (*sqlite.Backup, error)
	})
	if !ok {
		return errors.New("this SQLite has no online backup")
	}
	b, err := from.NewBackup(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Finish()) }()
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if more, err = b.Step(backupStep); err != nil {
			return err
		}
		if progress != nil {
			progress(b.PageCount()-b.Remaining(), b.PageCount())
		}
	}
	return nil
}

// maxProblems bounds how many problems of a database are told.
const maxProblems = 5

// CheckSQLite lets SQLite look at every page, row and index of the database in a file. An error says what is wrong with it.
func CheckSQLite(ctx context.Context, path string) (err error) {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	db, err := openSQLite(path, map[string]string{"query_only": "1"}, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, fmt.Sprintf("PRAGMA integrity_check(%d)", maxProblems))
	if err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var problems []string
	for rows.Next() {
		line, err := scanOne[sql.NullString](rows)
		if err != nil {
			return fmt.Errorf("check database: %w", err)
		}
		if line.String != "ok" {
			problems = append(problems, line.String)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	if problems != nil {
		return fmt.Errorf("the database %s is damaged: %s", path, strings.Join(problems, "; "))
	}
	return nil
}
