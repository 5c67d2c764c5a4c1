// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/lockfile"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/term"
)

type copyOptions struct {
	clientFlags // of which nothing but the output is used
	from, to    string
	sealKey     string
}

func newCopyCmd(e env) *cobra.Command {
	o := &copyOptions{clientFlags: clientFlags{output: term.FormatTable}}
	cmd := &cobra.Command{
		Use:   "copy --from sqlite:PATH --to postgres:URL",
		Short: "copy the database of a server from SQLite to PostgreSQL",
		Long: `Copy copies everything in a SQLite database to an empty PostgreSQL database, reads both again and compares them row by
row, and checks every audit trail of the copy up to its seal. The server must be stopped. The source is not changed.

If it is interrupted, run it again: it goes on. No server starts on a copy that is not complete. A target that holds
something else is refused.

The servers of the copy need the key file of the source: what is sealed with it cannot be read without it. Copy seal.key to
the data directory of each. The CA that agents and clients trust, ca.pem and ca-key.pem beside the database, is put into
the copy, sealed with that key.`,
		Example: `  waybill copy --from sqlite:/var/lib/waybill/waybill.db --to postgres://waybill@db.example.com/waybill`,
		Args:    usageArgs(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.from, "from", "", "sqlite:`PATH` of the database to copy (required)")
	flags.StringVar(&o.to, "to", "", "postgres:`URL` of an empty database (required)")
	flags.StringVar(&o.sealKey, "seal-key", "", "key `FILE` of the server (default: "+sealFile+" beside the database)")
	flags.VarP(&o.output, "output", "o", "how to write results")
	onCommandLineOnly(flags, "from", "to")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error { return o.run(ctx, e) })
	return usageFlags(cmd)
}

// copiedTable is a table in results.
type copiedTable struct {
	Name   string `json:"table"`
	Rows   int64  `json:"rows"`
	Digest string `json:"digest"`
}

func (o *copyOptions) run(ctx context.Context, e env) error {
	path, ok := strings.CutPrefix(o.from, "sqlite:")
	if !ok || path == "" {
		return usagef("say what to copy: --from sqlite:PATH")
	}
	if scheme, _, _ := strings.Cut(o.to, ":"); scheme != "postgres" && scheme != "postgresql" {
		return usagef("say where to copy it: --to postgres://USER@HOST/NAME")
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("there is no database: %w", err)
	}
	dir := filepath.Dir(path)
	unlock, err := lockSQLite(path)
	if errors.Is(err, lockfile.ErrLocked) {
		return fmt.Errorf("a server runs on %s; stop it first, for what it writes after the copy would be lost", path)
	}
	if err != nil {
		return err
	}
	defer unlock()
	key := cmp.Or(o.sealKey, filepath.Join(dir, sealFile))
	sealer, err := openSealer(key)
	if err != nil {
		return err
	}
	shown := newMeter(e.err, "copied")
	table := ""
	tables, err := store.Copy(ctx, store.CopyConfig{
		From: o.from, To: o.to, AuditKey: control.AuditKey(sealer), Now: time.Now,
		Progress: func(p store.CopyProgress) {
			if p.Table != table {
				shown.end()
				table, shown.shown = p.Table, -1
			}
			shown.of("the table "+p.Table, int(p.Done), int(p.All))
		},
	}, slog.New(slog.DiscardHandler))
	shown.end()
	if err != nil {
		return err
	}
	kept, err := o.keepAuthority(ctx, sealer, dir)
	if err != nil {
		return fmt.Errorf("the rows are copied, the CA is not; let the first server of the copy start in %s, which brings it: %w", dir, err)
	}
	out := struct {
		Tables  []copiedTable `json:"tables"`
		SealKey string        `json:"seal_key"`
		CA      bool          `json:"ca"` // it is in the copy
	}{SealKey: key, CA: kept}
	for _, t := range tables {
		out.Tables = append(out.Tables, copiedTable(t))
	}
	return o.write(e, out, func() io.WriterTo {
		list := term.NewTable("TABLE", "ROWS", "DIGEST")
		for _, t := range out.Tables {
			list.Add(t.Name, fmt.Sprint(t.Rows), t.Digest[:16])
		}
		ca := "The CA that agents and clients trust came along."
		if !out.CA {
			ca = "There is no CA beside the source: its servers need the certificate that agents and clients trust."
		}
		return both{list, text("\nThe copy is complete: rows and digests are the same, and the audit trails verify.\n" +
			ca + "\nIts servers need the same key file: copy " + key + " to their data directories.")}
	})
}

// keepAuthority puts the CA of the server in dir, if there is one, into the copy.
func (o *copyOptions) keepAuthority(ctx context.Context, sealer *identity.Sealer, dir string) (kept bool, err error) {
	st, err := store.Open(ctx, store.Config{URL: o.to, AuditKey: control.AuditKey(sealer), KeepSchema: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return server.KeepAuthority(ctx, st, sealer, dir)
}

// lockSQLite keeps servers from a SQLite database, or returns lockfile.ErrLocked if there is one. A server locks its data
// directory, and the file beside the database if that is elsewhere.
func lockSQLite(path string) (unlock func(), err error) {
	dir, err := lockfile.TryLock(filepath.Join(filepath.Dir(path), "lock"))
	if err != nil {
		return nil, err
	}
	file, err := lockfile.TryLock(path + ".lock")
	if err != nil {
		dir()
		return nil, err
	}
	return func() { file(); dir() }, nil
}

// both writes one after the other.
type both []io.WriterTo

// WriteTo implements io.WriterTo.
func (b both) WriteTo(w io.Writer) (n int64, err error) {
	for _, part := range b {
		m, err := part.WriteTo(w)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}
