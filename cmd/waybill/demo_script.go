// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/script"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/term"
)

// runScript runs the demo with the machines of a script, which is read before anything is started.
func (o *demoOptions) runScript(ctx context.Context, e env) (err error) {
	b, err := os.ReadFile(o.script)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("read script: %w", err)}
	}
	parts, err := script.Parse(o.script, b)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if o.check {
		table := term.NewTable("MACHINE", "OUTCOME")
		for _, m := range parts.Machines {
			table.Add(m.Name, m.String())
		}
		_, err := table.WriteTo(e.out)
		return err
	}
	if _, err := os.Stat(filepath.Join(o.dir, "server")); o.dir != "" && err == nil {
		return usagef("%s holds an earlier demo, and a script begins anew; name an empty directory, or leave out --dir", o.dir)
	}
	if o.info != "" {
		if o.info, err = filepath.Abs(o.info); err != nil {
			return err
		}
		if err := o.removeInfo(); err != nil { // an earlier demo may have been killed
			return err
		}
		defer func() { err = errors.Join(err, o.removeInfo()) }()
	}
	return o.run(ctx, e, parts)
}

// removeInfo makes it seen that the demo is not ready.
func (o *demoOptions) removeInfo() error {
	if err := os.Remove(o.info); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--info: %w", err)
	}
	return nil
}

// players returns the machines that play parts at the server with the settings cfg.
func (o *demoOptions) players(cfg *server.Config, parts *script.Script, log *slog.Logger) *script.Fleet {
	if o.logLevel == "error" {
		log = slog.New(slog.DiscardHandler) // what goes wrong with these machines is on purpose
	}
	players := script.NewFleet(parts, log)
	cfg.Control.Sending = players.Sending
	if parts.MinTimeout > 0 {
		cfg.Control.Limits.MinTimeout = parts.MinTimeout
	}
	return players
}

// play lets the machines play their parts until ctx ends.
func (o *demoOptions) play(ctx context.Context, e env, s *server.Server, players *script.Fleet) error {
	cred, err := readCredentials(o.credentialsFile())
	if err != nil {
		return err
	}
	beside := &accountsOptions{dataDir: filepath.Dir(o.credentialsFile())}
	return beside.use(ctx, func(operator *control.Operator) error {
		defer players.Close()
		fmt.Fprintf(e.out, "server   %s (data in %s)\n\n", cred.Endpoint, beside.dataDir)
		err := players.Start(ctx, script.Config{
			Dir: filepath.Join(o.dir, "machines"), Server: cred.Endpoint, CAFile: cred.CA, Region: cred.Region,
			Account: waybill.AccountID(cred.AccountID), Key: cred.AccessKeyID, Secret: cred.AccessKeySecret,
			Operator: operator, Version: version,
		})
		if err != nil {
			return err
		}
		members := players.Members()
		tellParts(e, members)
		o.tellHow(e, s, cred, members[0].ID)
		if o.info != "" {
			if err := newDemoInfo(s, cred, members).write(o.info); err != nil {
				return err
			}
		}
		fmt.Fprintln(e.out, "\nIt stays up until you press Ctrl-C.")
		<-ctx.Done()
		return nil
	})
}

// tellParts prints who plays what.
func tellParts(e env, members []script.Member) {
	table := term.NewTable("MACHINE", "INSTANCE", "OUTCOME")
	var own *script.Account
	for _, m := range members {
		table.Add(m.Name, string(m.ID), m.String())
		if m.Own != nil {
			own = m.Own
		}
	}
	_, _ = table.WriteTo(e.out)
	if own != nil {
		fmt.Fprintf(e.out, "\nAccountNotExists belongs to an account of its own, %s, with the key\n"+
			"  ALIBABA_CLOUD_ACCESS_KEY_ID=%s ALIBABA_CLOUD_ACCESS_KEY_SECRET=%s\n", own.ID, own.Key, own.Secret)
	}
}

// demoInfo is the file of --info: a credentials file that also says where plain HTTP is, and what machines there are.
type demoInfo struct {
	credentials
	HTTPEndpoint string                 `json:"http_endpoint,omitempty"`
	Machines     map[string]demoMachine `json:"machines"` // by name
}

type demoMachine struct {
	InstanceID waybill.InstanceID `json:"instance_id"`
	Outcome    string             `json:"outcome"` // for people
	Root       string             `json:"root,omitempty"`

	// Of a machine in another account.
	AccessKeyID     string `json:"access_key_id,omitempty"`
	AccessKeySecret string `json:"access_key_secret,omitempty"`
}

func newDemoInfo(s *server.Server, cred credentials, members []script.Member) *demoInfo {
	info := &demoInfo{credentials: cred, Machines: map[string]demoMachine{}}
	if addr := s.Addr("http"); addr != "" {
		info.HTTPEndpoint = "http://" + addr
	}
	for _, m := range members {
		machine := demoMachine{InstanceID: m.ID, Outcome: m.String(), Root: m.Root}
		if m.Own != nil {
			machine.AccessKeyID, machine.AccessKeySecret = m.Own.Key, m.Own.Secret
		}
		info.Machines[m.Name] = machine
	}
	return info
}

// write writes the file in one step: whoever sees it can read it.
func (i *demoInfo) write(name string) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".waybill-demo-") // mode 0600
	if err != nil {
		return fmt.Errorf("--info: %w", err)
	}
	err = errors.Join(term.WriteJSON(f, i), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("--info: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
