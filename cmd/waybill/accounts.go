// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/term"
)

// Accounts belong to whoever operates the server, not to any of them: these commands open the database itself, whether
// a server runs on it or not.
func newAccountsCmd(e env) *cobra.Command {
	o := &accountsOptions{output: term.FormatTable}
	cmd := &cobra.Command{
		Use: "accounts", Short: "list, disable and enable accounts, in the database of a server",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return sayWhat(cmd)
		},
	}
	f := cmd.PersistentFlags()
	f.StringVar(&o.dataDir, "data-dir", "", "`DIR` of the server (required)")
	f.StringVar(&o.database, "database", "", "`URL` of the server's database (default sqlite:DIR/waybill.db)")
	f.VarP(&o.output, "output", "o", "how to write results")
	list := &cobra.Command{Use: "list", Short: "list accounts", Args: usageArgs(cobra.NoArgs)}
	list.RunE = runE(e, func(ctx context.Context, _ []string) error { return o.list(ctx, e) })
	cmd.AddCommand(list, newAccountsSetCmd(e, o, true), newAccountsSetCmd(e, o, false))
	return usageFlags(cmd)
}

func newAccountsSetCmd(e env, o *accountsOptions, disable bool) *cobra.Command {
	cmd := &cobra.Command{
		Use: "disable ACCOUNT", Args: usageArgs(cobra.ExactArgs(1)),
		Short: "refuse an account's keys; what no machine has acknowledged is not delivered any more",
	}
	if !disable {
		cmd.Use, cmd.Short = "enable ACCOUNT", "accept an account's keys again"
	}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		return o.set(ctx, e, waybill.AccountID(args[0]), disable)
	})
	return cmd
}

type accountsOptions struct {
	dataDir  string
	database string
	output   term.Format
}

// use opens the database, which must be there, for the length of fn.
func (o *accountsOptions) use(ctx context.Context, fn func(*store.Store) error) (err error) {
	url := o.database
	if url == "" {
		if o.dataDir == "" {
			return usagef("no data directory is given; add --data-dir DIR, that of the server")
		}
		path := filepath.Join(o.dataDir, "waybill.db")
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("there is no database; give --data-dir as the server has it: %w", err)
		}
		url = "sqlite:" + path
	}
	s, err := store.Open(ctx, store.Config{URL: url, KeepSchema: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return fn(s)
}

func (o *accountsOptions) list(ctx context.Context, e env) error {
	return o.use(ctx, func(s *store.Store) error {
		accounts, err := s.Accounts(ctx)
		if err != nil {
			return err
		}
		type row struct {
			ID, Name, Status, Created string
		}
		rows := make([]row, len(accounts))
		for i, a := range accounts {
			rows[i] = row{string(a.ID), a.Name, "Active", a.Created.Format(time.RFC3339)}
			if a.Disabled {
				rows[i].Status = "Disabled"
			}
		}
		if o.output == term.FormatJSON {
			return term.WriteJSON(e.out, struct{ Accounts []row }{rows})
		}
		table := term.NewTable("ACCOUNT", "NAME", "STATUS", "CREATED")
		for _, r := range rows {
			table.Add(r.ID, r.Name, r.Status, r.Created)
		}
		_, err = io.WriterTo(table).WriteTo(e.out)
		return err
	})
}

func (o *accountsOptions) set(ctx context.Context, e env, id waybill.AccountID, disable bool) error {
	return o.use(ctx, func(s *store.Store) error {
		err := s.SetAccountDisabled(ctx, id, disable)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("there is no account %s; list them with: waybill accounts list", id)
		}
		if err == nil {
			fmt.Fprintf(e.err, "account %s %s\n", id, map[bool]string{true: "disabled", false: "enabled"}[disable])
		}
		return err
	})
}
