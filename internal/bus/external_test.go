// SPDX-License-Identifier: Apache-2.0

package bus_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/openwaybill/waybill/internal/bus"
)

// cluster runs a NATS server as an operator would, with resolver holding the accounts, and returns its address.
func (w world) cluster(t *testing.T, resolver server.AccountResolver) string {
	t.Helper()
	operator, err1 := w.op.OperatorJWT()
	system, err2 := w.op.SystemAccountJWT()
	account, err3 := w.op.AccountJWT(nil)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeOperatorClaims(operator)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(resolver.Store(w.op.SystemAccount(), system), resolver.Store(w.op.Account(), account))
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		TLS: true, TLSConfig: w.serverTLS(t), TLSHandshakeFirst: true,
		TrustedOperators: []*jwt.OperatorClaims{claims}, AccountResolver: resolver, SystemAccount: w.op.SystemAccount(),
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(srv.Shutdown)
	return srv.Addr().String()
}

// join connects a bus to an external cluster.
func (w world) join(t *testing.T, addr string, revoked map[string]time.Time) (*bus.Bus, error) {
	t.Helper()
	return w.joinAs(t, addr, bus.Config{Revoked: revoked})
}

// joinAs is join with the rest of a configuration.
func (w world) joinAs(t *testing.T, addr string, cfg bus.Config) (*bus.Bus, error) {
	t.Helper()
	token, seed, err := w.op.ServerCredentials()
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(token, []byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "server.creds")
	if err := os.WriteFile(file, creds, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.URL, cfg.CredsFile = "tls://"+addr, file
	cfg.TLS = &tls.Config{RootCAs: w.ca.Pool(), MinVersion: tls.VersionTLS12}
	b, err := bus.Open(cfg, w.op, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err == nil {
		t.Cleanup(b.Close)
	}
	return b, err
}

func TestExternalCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	resolver, err := server.NewDirAccResolver(t.TempDir(), 100, time.Minute, server.NoDelete)
	if err != nil {
		t.Fatal(err)
	}
	addr := w.cluster(t, resolver)
	barred := w.newAgent(t, "mi-barred", time.Now())
	b, err := w.join(t, addr, map[string]time.Time{barred.publicKey(t): time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if b.Addr() != nil || b.Clients() != 0 {
		t.Errorf("Addr %v, Clients %d: they are the cluster's to know", b.Addr(), b.Clients())
	}
	if conn, err := w.dial(barred, addr); err == nil {
		conn.Close()
		t.Error("a key revoked from the start was accepted")
	}
	echo(t, b)
	bad, good := w.connect(t, addr, "mi-bad"), w.connect(t, addr, "mi-good")
	if err := errors.Join(bad.ask("1"), good.ask("1")); err != nil {
		t.Fatal(err)
	}
	if err := b.Revoke(bad.publicKey(t), time.Now()); err != nil {
		t.Fatal(err)
	}
	receive(t, bad.gone, "the revoked agent to be cut off")
	if err := good.ask("2"); err != nil {
		t.Error(err)
	}
}

// TestCredentialsOfAnotherCluster opens a bus with what is no credentials file for its agents' cluster.
func TestCredentialsOfAnotherCluster(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	addr := w.cluster(t, &server.MemAccResolver{})
	creds, err := other.op.ServerCredentialsFile()
	if err != nil {
		t.Fatal(err)
	}
	for want, content := range map[string][]byte{"is of another cluster": creds, "nats-config": []byte("none")} {
		file := filepath.Join(t.TempDir(), "server.creds")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := bus.Open(bus.Config{URL: "tls://" + addr, CredsFile: file}, w.op, slog.New(slog.DiscardHandler))
		if err == nil {
			b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestRevokeWithoutTheStore has the list of what is revoked become unreadable between the two looks of a revocation. What
// others had revoked must stay so, and the caller must hear of it.
func TestRevokeWithoutTheStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	resolver, err := server.NewDirAccResolver(t.TempDir(), 100, time.Minute, server.NoDelete)
	if err != nil {
		t.Fatal(err)
	}
	addr := w.cluster(t, resolver)
	barred := w.newAgent(t, "mi-barred", time.Now())
	stored := map[string]time.Time{barred.publicKey(t): time.Now()}
	away := errors.New("the database is away")
	var left atomic.Int64 // looks that succeed
	left.Store(100)
	b, err := w.joinAs(t, addr, bus.Config{Revocations: func(context.Context) (map[string]time.Time, error) {
		if left.Add(-1) < 0 {
			return nil, away
		}
		return maps.Clone(stored), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, looks := range []int64{100, 1} {
		left.Store(looks)
		err := b.Revoke(w.newAgent(t, "mi-a", time.Now()).publicKey(t), time.Now())
		if looks == 1 && !errors.Is(err, away) || looks > 1 && err != nil {
			t.Errorf("%d looks: %v", looks, err)
		}
		if conn, err := w.dial(barred, addr); err == nil {
			conn.Close()
			t.Errorf("%d looks: what was revoked was accepted", looks)
		}
	}
}

func TestExternalClusterWithFixedClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	addr := w.cluster(t, &server.MemAccResolver{})
	b, err := w.join(t, addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Revoke(w.newAgent(t, "mi-a", time.Now()).publicKey(t), time.Now()); err == nil {
		t.Error("Revoke says it revoked where that is impossible")
	}
}
