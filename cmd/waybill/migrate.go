// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/lockfile"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/term"
)

type migrateOptions struct {
	clientFlags // of which nothing but the output is used
	dataDir     string
	database    string
	sealKey     string
}

func newMigrateCmd(e env) *cobra.Command {
	o := &migrateOptions{clientFlags: clientFlags{output: term.FormatTable}}
	cmd := &cobra.Command{
		Use: "migrate", Short: "show the schema of a database, or bring it up to date",
		Long: `A server brings the schema of its database up to date when it starts; where several do, one does it and the others wait.
Migrate does it ahead of them, for example with another user of PostgreSQL, who may change tables. Servers of the version
before go on working on the new schema.

A SQLite database is only changed while no server runs on it, and needs the server's key file.`,
		Example: `  waybill migrate status --database postgres://waybill@db.example.com/waybill
  waybill migrate up --database postgres://waybill@db.example.com/waybill`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return sayWhat(cmd) },
	}
	f := cmd.PersistentFlags()
	f.StringVar(&o.database, "database", "", "`URL` of the database (default sqlite:DIR/"+databaseFile+")")
	f.StringVar(&o.dataDir, "data-dir", "", "`DIR` of the server, for a SQLite database")
	f.StringVar(&o.sealKey, "seal-key", "", "key `FILE` of the server, for a SQLite database (default DIR/"+sealFile+")")
	f.VarP(&o.output, "output", "o", "how to write results")
	add := func(use, short string, run func(context.Context, env) error) {
		c := &cobra.Command{Use: use, Short: short, Args: usageArgs(cobra.NoArgs)}
		c.RunE = runE(e, func(ctx context.Context, _ []string) error {
			if o.database == "" && o.dataDir == "" {
				return usagef("say which database: --database URL, or --data-dir DIR")
			}
			o.database = cmp.Or(o.database, "sqlite:"+filepath.Join(o.dataDir, databaseFile))
			return run(ctx, e)
		})
		cmd.AddCommand(c)
	}
	add("status", "show which version the schema has, and which steps are missing", o.status)
	add("up", "bring the schema up to date", o.up)
	return usageFlags(cmd)
}

// schema is a schema in results.
type schema struct {
	Version    int64       `json:"version"`
	Newest     int64       `json:"newest"`
	Migrations []migration `json:"migrations"`
}

type migration struct {
	Version int64  `json:"version"`
	Name    string `json:"name"`
	Applied bool   `json:"applied"`
}

func (o *migrateOptions) status(ctx context.Context, e env) error {
	info, err := store.SchemaOf(ctx, o.database)
	if err != nil {
		return err
	}
	out := schema{Version: info.Version, Newest: info.Newest}
	for _, m := range info.Migrations {
		out.Migrations = append(out.Migrations, migration(m))
	}
	return o.write(e, out, func() io.WriterTo {
		t := term.NewTable("VERSION", "APPLIED", "NAME")
		for _, m := range out.Migrations {
			t.Add(fmt.Sprint(m.Version), map[bool]string{true: "yes", false: "no"}[m.Applied], m.Name)
		}
		missing := 0
		for _, m := range out.Migrations {
			if !m.Applied && m.Version > out.Version {
				missing++
			}
		}
		if missing == 0 {
			return lastLine{t, "the schema is up to date"}
		}
		return lastLine{t, fmt.Sprintf("%d to apply: run waybill migrate up, or start a server of this version", missing)}
	})
}

// lastLine is a table with a line below.
type lastLine struct {
	io.WriterTo
	text string
}

func (l lastLine) WriteTo(w io.Writer) (int64, error) {
	n, err := l.WriterTo.WriteTo(w)
	if err != nil {
		return n, err
	}
	m, err := fmt.Fprintln(w, l.text)
	return n + int64(m), err
}

func (o *migrateOptions) up(ctx context.Context, e env) error {
	before, err := store.SchemaOf(ctx, o.database)
	if err != nil {
		return err
	}
	cfg := store.Config{URL: o.database}
	if path, ok := strings.CutPrefix(o.database, "sqlite:"); ok {
		dir := filepath.Dir(path)
		unlock, err := lockSQLite(path)
		if errors.Is(err, lockfile.ErrLocked) {
			return fmt.Errorf("a server runs on %s; stop it first, or start one of this version, which migrates by itself", path)
		}
		if err != nil {
			return err
		}
		defer unlock()
		sealer, err := openSealer(cmp.Or(o.sealKey, filepath.Join(cmp.Or(o.dataDir, dir), sealFile)))
		if err != nil {
			return err
		}
		cfg.AuditKey = control.AuditKey(sealer)
	}
	if err := store.Migrate(ctx, cfg, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	after, err := store.SchemaOf(ctx, o.database)
	if err != nil {
		return err
	}
	out := struct {
		From int64 `json:"from"`
		To   int64 `json:"to"`
	}{before.Version, after.Version}
	said := textf("the schema is now of version %d; it was %d", out.To, out.From)
	if out.From == out.To {
		said = textf("the schema is up to date, of version %d", out.To)
	}
	return o.write(e, out, said)
}
