// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill/internal/wire"
)

// Link connects to the bus with the identity of an enrolled agent that does not run, for tests that speak the wire
// protocol themselves. It is closed when the test ends.
func (s *Server) Link(a *Agent, opts ...nats.Option) *nats.Conn {
	s.t.Helper()
	nc, err := Link(a.State, s.CA, opts...)
	if err != nil {
		s.t.Fatalf("link as %s: %v", a.ID, err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

// Link connects to the bus with the identity that an agent has in its state directory. ca is what vouches for the bus, in
// PEM form. The caller must close the connection.
func Link(state string, ca []byte, opts ...nats.Option) (*nats.Conn, error) {
	var reg struct {
		Instance string   `json:"instance"`
		NATS     []string `json:"nats"`
		JWT      string   `json:"jwt"`
	}
	b, err := os.ReadFile(filepath.Join(state, "agent.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &reg); err != nil {
		return nil, err
	}
	seed, err := os.ReadFile(filepath.Join(state, "agent.nk"))
	if err != nil {
		return nil, err
	}
	key, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return nats.Connect(reg.NATS[0], append([]nats.Option{
		nats.UserJWT(func() (string, error) { return reg.JWT, nil }, key.Sign),
		nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}), nats.TLSHandshakeFirst(),
		nats.CustomInboxPrefix(wire.InboxPrefix(reg.Instance)), nats.NoReconnect(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // a test sees what it looks for
	}, opts...)...)
}

// DatabaseLock keeps a database from being written.
type DatabaseLock struct {
	t  testing.TB
	db *sql.DB
}

// LockDatabase keeps the server from writing to its database until the lock, which is its one user's, is let go of.
func (s *Server) LockDatabase() *DatabaseLock {
	s.t.Helper()
	l := &DatabaseLock{s.t, s.database()}
	s.t.Cleanup(func() { l.db.Close() })
	l.db.SetMaxOpenConns(1)
	if _, err := l.db.ExecContext(s.t.Context(), "BEGIN IMMEDIATE"); err != nil {
		s.t.Fatal(err)
	}
	return l
}

// Unlock lets go of the database.
func (l *DatabaseLock) Unlock() {
	l.t.Helper()
	if _, err := l.db.ExecContext(l.t.Context(), "ROLLBACK"); err != nil {
		l.t.Fatal(err)
	}
}

// database opens the server's database beside the server.
func (s *Server) database() *sql.DB {
	s.t.Helper()
	driver, source := "pgx", s.Database()
	if path, ok := strings.CutPrefix(source, "sqlite:"); ok {
		driver, source = "sqlite", "file:"+path+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		s.t.Fatal(err)
	}
	return db
}

// DamageContents changes every stored content behind the server's back.
func (s *Server) DamageContents() {
	s.t.Helper()
	db := s.database()
	defer db.Close()
	if _, err := db.ExecContext(s.t.Context(), `UPDATE contents SET data = substr(data, 2)`); err != nil {
		s.t.Fatal(err)
	}
}
