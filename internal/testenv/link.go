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
