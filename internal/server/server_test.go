// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
)

func TestValidateNamesEveryProblem(t *testing.T) {
	t.Parallel()
	c := server.DefaultConfig()
	c.HTTPListen, c.TLSCert, c.NATSURL, c.TokenLife = "0.0.0.0:8479", "cert.pem", "tls://bus:4222", time.Second
	c.Assist.Window = time.Second
	err := c.Validate()
	for _, want := range []string{"no data directory", "in the clear", "TLS certificate and its key", "NATS URL", "tokens", "clock window"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing on %q: %v", want, err)
		}
	}
	for addr, ok := range map[string]bool{
		"127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true, "127.3.4.5:1": true,
		":1": false, "192.0.2.1:1": false, "[::]:1": false, "example.com:1": false, "127.0.0.1": false,
	} {
		c := server.DefaultConfig()
		c.DataDir, c.HTTPListen = "x", addr
		if err := c.Validate(); (err == nil) != ok {
			t.Errorf("plain HTTP on %s: %v", addr, err)
		}
	}
}

func TestFilesAreTheOwnersOnly(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	err := filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() == "ca.pem" { // what is public
			return err
		}
		info, err := d.Info()
		if err == nil && d.Type().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(s.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data directory: %v, %v", info.Mode(), err)
	}
	b, err := os.ReadFile(filepath.Join(s.Dir, "waybill.db"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), s.Key.AccessKeySecret) {
		t.Error("the database holds the secret in the clear")
	}
}

// TestRestart stops and starts the server: the same key works, the agents come back by themselves, and what was sent
// meanwhile is theirs.
func TestRestart(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	online, away := s.Agent(), s.Enrol()
	id := s.Send(testenv.File(online, away))
	s.Restart()
	if s.First() != nil {
		t.Error("a second account was made")
	}
	away.Start()
	if d := s.Await(id); d.Status != waybill.OverallSuccess {
		t.Errorf("ended as %+v", d.Targets.Items)
	}
	r := testenv.File(online)
	r.File.Name = "again"
	if d := s.Await(s.Send(r)); d.Status != waybill.OverallSuccess {
		t.Errorf("after the restart: %+v", d.Targets.Items)
	}
}

// TestDrain looks that a server that is told to stop says that it is not ready, and goes on until load balancers have noticed.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, func(cfg *server.Config) { cfg.DrainDelay = 3 * time.Second })
	a := s.Agent()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.Stop()
	}()
	testenv.Eventually(t, "it is not ready", func() bool {
		resp, err := http.Get("http://" + s.Addr("admin") + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(b), "draining")
	})
	if d := s.Await(s.Send(testenv.File(a))); d.Status != waybill.OverallSuccess {
		t.Errorf("sent meanwhile: %+v", d.Targets.Items)
	}
	<-stopped
}

func TestListeners(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	get := func(url string) (int, string) {
		t.Helper()
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if code, body := get("http://" + s.Addr("admin") + "/readyz"); code != 200 || !strings.Contains(body, "ok") {
		t.Errorf("readyz: %d %s", code, body)
	}
	if code, body := get("http://" + s.Addr("admin") + "/metrics"); code != 200 || !strings.Contains(body, "waybill_deliveries_accepted_total") {
		t.Errorf("metrics: %d %.100s", code, body)
	}
	// Agents' calls carry codes and tokens: they are not answered in the clear.
	if code, _ := get("http://" + s.Addr("http") + "/agent/1/enroll"); code != 404 {
		t.Errorf("enrolment over plain HTTP: %d", code)
	}
	for _, version := range []uint16{tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
		conn, err := tls.Dial("tcp", s.Addr("https"), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if (err == nil) != (version >= tls.VersionTLS12) {
			t.Errorf("TLS %x: %v", version, err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

func TestOneServerForADataDirectory(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	c := server.DefaultConfig()
	c.DataDir, c.Listen, c.AgentListen, c.AdminListen = s.Dir, "127.0.0.1:0", "127.0.0.1:0", ""
	_, err := server.Open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "another server runs on "+s.Dir) {
		t.Errorf("a second server: %v", err)
	}
	s.Stop()
	second, err := server.Open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	b, err := os.ReadFile(filepath.Join(s.Dir, server.CredentialsFile))
	if err != nil || !strings.Contains(string(b), second.Addr("https")) || !strings.Contains(string(b), s.Key.AccessKeySecret) {
		t.Errorf("the credentials file does not name the new address: %s, %v", b, err)
	}
}

func TestOpenFailsCleanly(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	for name, change := range map[string]func(*server.Config){
		"port in use":         func(c *server.Config) { c.Listen = s.Addr("https") },
		"agent port in use":   func(c *server.Config) { c.AgentListen = s.Addr("agents") },
		"no parent directory": func(c *server.Config) { c.DataDir = filepath.Join(c.DataDir, "a", "b") },
		"unknown database":    func(c *server.Config) { c.Database = "oracle:x" },
		"half a key":          func(c *server.Config) { c.BootstrapID = "id" },
		"no certificate":      func(c *server.Config) { c.TLSCert, c.TLSKey = "/none.pem", "/none.key" },
	} {
		c := server.DefaultConfig()
		c.DataDir = filepath.Join(t.TempDir(), "data")
		c.Listen, c.AgentListen, c.AdminListen = "127.0.0.1:0", "127.0.0.1:0", ""
		change(&c)
		if srv, err := server.Open(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: opened", name)
			srv.Close()
		}
	}
}

// TestAnotherKeyFileIsRefused starts a server on a database whose secrets were sealed with a key that is gone.
// TestAnotherKeyFileIsRefused also loses the key file. It is not made anew: that would make the loss look like a mistake in
// the settings, and what operators write with the new one no server could read.
func TestAnotherKeyFileIsRefused(t *testing.T) {
	t.Parallel()
	for want, spoil := range map[string]func(path string) error{
		"is the key file that of this database?": func(path string) error { return os.WriteFile(path, make([]byte, 32), 0o600) },
		"restore it from a backup":               os.Remove,
	} {
		s := testenv.Start(t)
		s.Stop()
		path := filepath.Join(s.Dir, "seal.key")
		if err := spoil(path); err != nil {
			t.Fatal(err)
		}
		c := server.DefaultConfig()
		c.DataDir, c.Listen, c.AgentListen, c.AdminListen = s.Dir, "127.0.0.1:0", "127.0.0.1:0", ""
		if _, err := server.Open(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("opened, want %q: %v", want, err)
		}
		if b, err := os.ReadFile(path); err == nil && string(b) != string(make([]byte, 32)) {
			t.Error("a key file was made")
		}
	}
}

// TestAKeyThatCannotBeKeptIsNotMade starts a server that cannot write the credentials file, and then one that can.
func TestAKeyThatCannotBeKeptIsNotMade(t *testing.T) {
	t.Parallel()
	c := server.DefaultConfig()
	c.DataDir = filepath.Join(t.TempDir(), "data")
	c.Listen, c.AgentListen, c.AdminListen = "127.0.0.1:0", "127.0.0.1:0", ""
	blocked := filepath.Join(c.DataDir, server.CredentialsFile)
	if err := os.MkdirAll(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Open(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("opened without keeping its key")
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	s, err := server.Open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.First() == nil {
		t.Error("nobody knows a key of this server")
	}
}

func TestABootstrapKeyOfOnesOwn(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, func(c *server.Config) { c.BootstrapID, c.BootstrapKey = "my-id", "my-secret" })
	if s.Key.AccessKeyID != "my-id" || s.Key.AccessKeySecret != "my-secret" {
		t.Errorf("key %s", s.Key.AccessKeyID)
	}
	if _, err := s.Client.ListAccessKeys(t.Context()); err != nil {
		t.Error(err)
	}
	wrong, err := client.New(client.Config{Endpoint: s.Key.Endpoint, AccessKeyID: "my-id", AccessKeySecret: "other", CAFile: s.Key.CA})
	if err != nil {
		t.Fatal(err)
	}
	_, err = wrong.ListAccessKeys(context.WithoutCancel(t.Context()))
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "SignatureDoesNotMatch" {
		t.Errorf("a wrong secret: %v", err)
	}
}
