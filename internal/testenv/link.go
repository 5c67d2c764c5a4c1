// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill/internal/wire"
)

// Link connects to the bus with the identity of an enrolled agent that does not run, for tests that speak the wire
// protocol themselves. It is closed when the test ends.
func (s *Server) Link(a *Agent) *nats.Conn {
	s.t.Helper()
	var reg struct {
		NATS []string `json:"nats"`
		JWT  string   `json:"jwt"`
	}
	b, err := os.ReadFile(filepath.Join(a.State, "agent.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(b, &reg); err != nil {
		s.t.Fatal(err)
	}
	seed, err := os.ReadFile(filepath.Join(a.State, "agent.nk"))
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := nkeys.FromSeed(seed)
	if err != nil {
		s.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CA)
	nc, err := nats.Connect(reg.NATS[0],
		nats.UserJWT(func() (string, error) { return reg.JWT, nil }, key.Sign),
		nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}), nats.TLSHandshakeFirst(),
		nats.CustomInboxPrefix(wire.InboxPrefix(string(a.ID))), nats.NoReconnect(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // a test sees what it looks for
	if err != nil {
		s.t.Fatalf("link as %s: %v", a.ID, err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

// DamageContents changes every stored content behind the server's back.
func (s *Server) DamageContents() {
	s.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.Dir, "waybill.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(s.t.Context(), `UPDATE contents SET data = x'00'`); err != nil {
		s.t.Fatal(err)
	}
}
