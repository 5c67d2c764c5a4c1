// SPDX-License-Identifier: Apache-2.0

package bus_test

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
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
	b, err := bus.Open(bus.Config{
		URL: "tls://" + addr, CredsFile: file, Revoked: revoked,
		TLS: &tls.Config{RootCAs: w.ca.Pool(), MinVersion: tls.VersionTLS12},
	}, w.op, slog.New(slog.NewTextHandler(t.Output(), nil)))
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
