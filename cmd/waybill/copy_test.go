// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/pgtest"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
)

// command runs a command line and returns what it says.
func command(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	var b bytes.Buffer
	code = run(t.Context(), args, env{in: strings.NewReader(""), out: &b, err: &b, lookup: func(string) (string, bool) { return "", false }})
	return b.String(), code
}

// TestDatabaseElsewhere leaves a SQLite database alone that is not in the data directory of the server that runs on it.
func TestDatabaseElsewhere(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "elsewhere.db")
	s := testenv.Start(t, func(c *server.Config) { c.Database = "sqlite:" + file })
	seal := filepath.Join(s.Dir, sealFile)
	for _, args := range [][]string{
		{"copy", "--from", "sqlite:" + file, "--to", "postgres://waybill@127.0.0.1:1/waybill", "--seal-key", seal},
		{"migrate", "up", "--database", "sqlite:" + file, "--seal-key", seal},
	} {
		if out, code := command(t, args...); code != 1 || !strings.Contains(out, "a server runs on "+file) {
			t.Errorf("%s while the server runs: %d, %s", args[0], code, out)
		}
	}
	s.Stop()
	if out, code := command(t, "migrate", "up", "--database", "sqlite:"+file, "--seal-key", seal); code != 0 || !strings.Contains(out, "up to date") {
		t.Errorf("migrate when it is stopped: %d, %s", code, out)
	}
}

// TestCopyToPostgres moves a server from SQLite to PostgreSQL: agents and clients go on as before.
func TestCopyToPostgres(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	database := pgtest.Database(t, "", nil)
	s := testenv.Start(t)
	a := s.Agent()
	before := s.Await(s.Send(testenv.File(a)))
	from := "sqlite:" + filepath.Join(s.Dir, databaseFile)
	if out, code := command(t, "copy", "--from", from, "--to", database); code != 1 || !strings.Contains(out, "a server runs on") {
		t.Errorf("while the server runs: %d, %s", code, out)
	}
	s.Stop()
	if out, code := command(t, "migrate", "status", "--database", database); code != 0 || !strings.Contains(out, "no") {
		t.Errorf("status of an empty database: %d, %s", code, out)
	}
	for _, want := range []string{"the schema is now of version", "the schema is up to date"} {
		if out, code := command(t, "migrate", "up", "--database", database); code != 0 || !strings.Contains(out, want) {
			t.Errorf("migrate up: %d, %s", code, out)
		}
	}
	if out, code := command(t, "migrate", "up", "--data-dir", s.Dir); code != 0 || !strings.Contains(out, "up to date") {
		t.Errorf("migrate up of SQLite: %d, %s", code, out)
	}
	out, code := command(t, "copy", "--from", from, "--to", database, "-o", "json")
	var copied struct {
		Tables []copiedTable `json:"tables"`
		CA     bool          `json:"ca"`
	}
	if err := json.Unmarshal([]byte(out), &copied); err != nil || code != 0 || !copied.CA {
		t.Fatalf("copy: %d, %v, %s", code, err, out)
	}
	for _, table := range copied.Tables {
		if table.Name == "targets" && table.Rows != 1 || table.Digest == "" {
			t.Errorf("%+v", table)
		}
	}
	if out, code := command(t, "copy", "--from", from, "--to", database); code != 1 || !strings.Contains(out, "the target is not empty") {
		t.Errorf("once more: %d, %s", code, out)
	}

	// Another directory, with the key file and nothing else: the CA, which the agent trusts, came along.
	dir := t.TempDir()
	key, err := os.ReadFile(filepath.Join(s.Dir, sealFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, sealFile), key, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Restart(func(c *server.Config) { c.DataDir, c.Database = dir, database })
	s.AwaitOnline(a)
	got := s.Delivery(before.ID)
	if got.Status != before.Status || got.Targets.Items[0].Status != before.Targets.Items[0].Status {
		t.Errorf("on PostgreSQL: %+v, want %+v", got, before)
	}
	file := testenv.File(a)
	file.File.Overwrite = true
	if d := s.Await(s.Send(file)); d.Targets.Items[0].ErrorCode != "" {
		t.Errorf("a delivery afterwards: %+v", d.Targets.Items[0])
	}
	if v, code := command(t, "accounts", "list", "--data-dir", s.Dir, "--database", database); code != 0 || !strings.Contains(v, string(s.Key.AccountID)) {
		t.Errorf("accounts: %d, %s", code, v)
	}
}

// TestKeyFileOfPostgres starts servers on a database with another key file than its own, and with none: neither starts,
// and neither leaves a key file behind that the next start would take for the right one.
func TestKeyFileOfPostgres(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	database := pgtest.Database(t, "", nil)
	on := func(c *server.Config) { c.Database = database }
	first := testenv.Start(t, on)
	dir := filepath.Join(t.TempDir(), "second")
	open := func() error {
		cfg := server.DefaultConfig()
		cfg.DataDir, cfg.Listen, cfg.AgentListen, cfg.AdminListen = dir, "127.0.0.1:0", "127.0.0.1:0", ""
		cfg.Database = database
		s, err := server.Open(t.Context(), cfg, testenv.Logger(t))
		if err != nil {
			return err
		}
		return s.Close()
	}
	key := filepath.Join(dir, sealFile)
	if err := open(); err == nil || !strings.Contains(err.Error(), "copy seal.key of another server of the database") {
		t.Errorf("without a key file: %v", err)
	}
	if _, err := os.Stat(key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key file was left: %v", err)
	}
	if _, err := identity.OpenSealer(key); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "is the key file that of this database?") {
		t.Errorf("with another key file: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(first.Dir, sealFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := first.Client.ListAccessKeys(t.Context()); err != nil || len(l) != 1 {
		t.Errorf("the first server: %v, %v", l, err)
	}
	first.Stop() // two servers would need a NATS cluster
	if err := open(); err != nil {
		t.Errorf("with the key file of the first server: %v", err)
	}
}
