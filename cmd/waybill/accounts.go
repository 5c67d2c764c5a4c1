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
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/term"
)

// Accounts belong to whoever operates the server, not to any of them: these commands open the database itself, whether
// a server runs on it or not.
func newAccountsCmd(e env) *cobra.Command {
	o := &accountsOptions{clientFlags: clientFlags{output: term.FormatTable}}
	cmd := &cobra.Command{
		Use: "accounts", Short: "list, make, disable and enable accounts, in the database of a server",
		Long: `Accounts are tenants: each has machines, deliveries, users and an audit trail of its own, and sees nothing of
the others. These commands work on the database and the key file of a server, whether it runs or not, as the user it
runs as. What they do is in the audit trail of the account.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return sayWhat(cmd)
		},
	}
	f := cmd.PersistentFlags()
	f.StringVar(&o.dataDir, "data-dir", "", "`DIR` of the server (required)")
	f.StringVar(&o.database, "database", "", "`URL` of the server's database (default sqlite:DIR/waybill.db)")
	f.StringVar(&o.sealKey, "seal-key", "", "key `FILE` of the server (default DIR/seal.key)")
	f.VarP(&o.output, "output", "o", "how to write results")
	add := func(use, short string, args cobra.PositionalArgs, run func(context.Context, env, []string) error) {
		c := &cobra.Command{Use: use, Short: short, Args: usageArgs(args)}
		c.RunE = runE(e, func(ctx context.Context, args []string) error { return run(ctx, e, args) })
		cmd.AddCommand(c)
	}
	add("list", "list accounts", cobra.NoArgs, o.list)
	add("create NAME", "make an account and print its key, this once", cobra.ExactArgs(1), o.create)
	add("key ACCOUNT", "make another key for an account, whose last may be lost, and print it, this once",
		cobra.ExactArgs(1), o.key)
	add("disable ACCOUNT", "refuse an account's keys; what no machine has acknowledged is not delivered any more",
		cobra.ExactArgs(1), o.disable)
	add("enable ACCOUNT", "accept an account's keys again", cobra.ExactArgs(1), o.enable)
	return usageFlags(cmd)
}

// accountsOptions uses nothing of the client flags but the output.
type accountsOptions struct {
	clientFlags
	dataDir  string
	database string
	sealKey  string
}

// use opens the database and the key file, which must be there, for the length of fn.
func (o *accountsOptions) use(ctx context.Context, fn func(*control.Operator) error) (err error) {
	if o.dataDir == "" {
		return usagef("no data directory is given; add --data-dir DIR, that of the server")
	}
	url := o.database
	if url == "" {
		path := filepath.Join(o.dataDir, "waybill.db")
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("there is no database; give --data-dir as the server has it: %w", err)
		}
		url = "sqlite:" + path
	}
	sealer, err := openSealer(cmp.Or(o.sealKey, filepath.Join(o.dataDir, "seal.key")))
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Config{
		URL: url, KeepSchema: true, AuditKey: control.AuditKey(sealer),
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := control.CheckSealer(ctx, s, sealer); err != nil {
		return err
	}
	return fn(&control.Operator{Name: systemUser(), Store: s, Sealer: sealer})
}

// openSealer opens the key file of a server. It never makes one: what is sealed with another key no server can open.
func openSealer(path string) (*identity.Sealer, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("there is no key file; give --data-dir as the server has it, "+
			"or copy seal.key from a server of this database: %w", err)
	}
	return identity.OpenSealer(path)
}

// systemUser names who runs this program, for the audit trail.
func systemUser() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "uid " + strconv.Itoa(os.Getuid())
}

// account is an account in results.
type account struct {
	ID, Name, Status, Created string
}

func newAccount(a waybill.Account) account {
	status := "Active"
	if a.Disabled {
		status = "Disabled"
	}
	return account{string(a.ID), a.Name, status, a.Created.UTC().Format(time.RFC3339)}
}

func (o *accountsOptions) list(ctx context.Context, e env, _ []string) error {
	return o.use(ctx, func(op *control.Operator) error {
		accounts, err := op.Accounts(ctx)
		if err != nil {
			return err
		}
		rows := make([]account, len(accounts))
		for i, a := range accounts {
			rows[i] = newAccount(a)
		}
		return o.write(e, struct{ Accounts []account }{rows}, func() io.WriterTo {
			table := term.NewTable("ACCOUNT", "NAME", "STATUS", "CREATED")
			for _, r := range rows {
				table.Add(r.ID, r.Name, r.Status, r.Created)
			}
			return table
		})
	})
}

func (o *accountsOptions) create(ctx context.Context, e env, args []string) error {
	return o.use(ctx, func(op *control.Operator) error {
		a, c, err := op.CreateAccount(ctx, args[0])
		if err != nil {
			return err
		}
		k := newKey(c)
		return o.write(e, struct {
			Account   account
			AccessKey client.AccessKey
		}{newAccount(a), k}, textf("# account %s\n%s", a.ID, exportKey(k)))
	})
}

func (o *accountsOptions) key(ctx context.Context, e env, args []string) error {
	return o.use(ctx, func(op *control.Operator) error {
		c, err := op.CreateKey(ctx, waybill.AccountID(args[0]))
		if err != nil {
			return err
		}
		k := newKey(c)
		return o.write(e, accessKey{k}, textf("%s", exportKey(k)))
	})
}

// newKey is a key made here as the API shows those it makes.
func newKey(c control.Credential) client.AccessKey {
	return client.AccessKey{
		ID: c.Key.ID, Secret: c.Secret, Status: client.KeyActive, Created: c.Key.Created.UTC().Format(time.RFC3339),
	}
}

func (o *accountsOptions) disable(ctx context.Context, e env, args []string) error {
	return o.set(ctx, e, waybill.AccountID(args[0]), true)
}

func (o *accountsOptions) enable(ctx context.Context, e env, args []string) error {
	return o.set(ctx, e, waybill.AccountID(args[0]), false)
}

func (o *accountsOptions) set(ctx context.Context, e env, id waybill.AccountID, disabled bool) error {
	return o.use(ctx, func(op *control.Operator) error {
		err := op.SetDisabled(ctx, id, disabled)
		if err == nil {
			fmt.Fprintf(e.err, "account %s %s\n", id, map[bool]string{true: "disabled", false: "enabled"}[disabled])
		}
		return err
	})
}
