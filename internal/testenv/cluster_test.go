// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/bus"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
)

// TestNATSCluster delivers through a cluster of three nodes, of which any may be gone, and looks that a deregistered machine
// is refused by all of them: also by one that was away when it was deregistered.
func TestNATSCluster(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "server")
	cluster := testenv.StartNATS(t, server.NATSConfig{DataDir: dir}, 3)
	s := testenv.Start(t, func(cfg *server.Config) {
		cfg.DataDir = dir
		cluster.Join(cfg)
	})
	var agents []*testenv.Agent
	for range 6 {
		agents = append(agents, s.Agent())
	}
	for _, target := range s.Await(s.Send(testenv.File(agents...))).Targets.Items {
		if target.Status != waybill.Success {
			t.Errorf("%s: %s %s", target.Instance, target.ErrorCode, target.Detail)
		}
	}
	// A node dies, and is not there when a machine leaves.
	cluster.Kill(1)
	s.AwaitOnline(agents...)
	gone := agents[0]
	gone.Stop() // or it would end with an error
	if _, err := s.Client.DeregisterManagedInstance(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	r := testenv.File(agents[1:]...)
	r.File.Name = "again.txt"
	for _, target := range s.Await(s.Send(r)).Targets.Items {
		if target.Status != waybill.Success {
			t.Errorf("%s, with a node down: %s %s", target.Instance, target.ErrorCode, target.Detail)
		}
	}
	cluster.Start(1)
	testenv.Eventually(t, "the node that was away refuses the machine too", func() bool {
		return refuses(t, cluster, 1, gone) && !refuses(t, cluster, 1, agents[1])
	})
	for i := range 3 {
		if !refuses(t, cluster, i, gone) {
			t.Errorf("node %d lets the deregistered machine in", i)
		}
	}
}

// TestMoveToACluster takes a server from its embedded bus to a cluster: its machines learn where their link is, and come.
func TestMoveToACluster(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	a := s.Agent()
	cluster := testenv.StartNATS(t, server.NATSConfig{DataDir: s.Dir}, 3)
	s.Restart(cluster.Join)
	if d := s.Await(s.Send(testenv.File(a))); d.Status != waybill.OverallSuccess {
		t.Errorf("after the move: %+v", d.Targets.Items)
	}
}

// refuses reports whether a node refuses an agent's token.
func refuses(t *testing.T, c *testenv.NATS, node int, a *testenv.Agent) bool {
	t.Helper()
	var identity struct{ JWT, CA string }
	b, err := os.ReadFile(filepath.Join(a.State, "agent.json"))
	if err == nil {
		err = json.Unmarshal(b, &identity)
	}
	seed, err2 := os.ReadFile(filepath.Join(a.State, "agent.nk"))
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	at := c.Node(node)
	conn, err := dialNATS(at.URL(), identity.CA, nats.UserJWTAndSeed(identity.JWT, strings.TrimSpace(string(seed))))
	if err == nil {
		conn.Close()
		return false
	}
	if !errors.Is(err, nats.ErrAuthorization) && !errors.Is(err, nats.ErrAuthRevoked) {
		t.Fatalf("node %d: %v", node, err)
	}
	return true
}

func dialNATS(url, ca string, how ...nats.Option) (*nats.Conn, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca))
	return nats.Connect(url, append(how, nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}),
		nats.TLSHandshakeFirst(), nats.NoReconnect(), nats.SkipHostLookup())...)
}

// TestRevocationsOfSeveralServers lets three servers, each of which knows only what it revokes itself and what the store
// says, revoke keys at once, while a node is gone. In the end every node refuses all of them.
func TestRevocationsOfSeveralServers(t *testing.T) {
	t.Parallel()
	c := testenv.StartNATS(t, server.NATSConfig{DataDir: filepath.Join(t.TempDir(), "server")}, 3)
	ca, err := os.ReadFile(filepath.Join(c.Node(0).Dir, bus.NodeCAFile))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	var mu sync.Mutex
	stored := map[string]time.Time{}
	const servers, keys = 3, 8
	buses := make([]*bus.Bus, servers)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for i := range buses {
		buses[i], err = bus.Open(bus.Config{
			URL: c.URL(), CredsFile: c.Creds, TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			Revocations: func(context.Context) (map[string]time.Time, error) {
				mu.Lock()
				defer mu.Unlock()
				return maps.Clone(stored), nil
			},
		}, c.Cluster.Operator, testenv.Logger(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(buses[i].Close)
		running.Go(func() { _ = buses[i].Run(ctx) })
	}
	c.Kill(2)
	var revoking sync.WaitGroup
	for _, b := range buses {
		revoking.Go(func() {
			for range keys {
				pair, err := nkeys.CreateUser()
				if err != nil {
					t.Error(err)
					return
				}
				key, _ := pair.PublicKey() // it was just made
				now := time.Now()
				mu.Lock()
				stored[key] = now
				mu.Unlock()
				if err := b.Revoke(key, now); err != nil {
					t.Error(err)
				}
			}
		})
	}
	revoking.Wait()
	c.Start(2)
	user, seed, err := c.Cluster.Operator.SystemCredentials()
	if err != nil {
		t.Fatal(err)
	}
	for i := range servers {
		node := c.Node(i)
		lookup := fmt.Sprintf("$SYS.REQ.ACCOUNT.%s.CLAIMS.LOOKUP", c.Cluster.Operator.Account())
		testenv.Eventually(t, "node "+node.Name+" refuses every key", func() bool {
			conn, err := dialNATS(node.URL(), string(ca), nats.UserJWTAndSeed(user, seed))
			if err != nil {
				t.Log(err)
				return false
			}
			defer conn.Close()
			// The node that is asked answers before any other does: each answers, and it is the nearest.
			answer, err := conn.Request(lookup, nil, time.Second)
			if err != nil {
				t.Log(err)
				return false
			}
			claims, err := jwt.DecodeAccountClaims(string(answer.Data))
			return err == nil && len(claims.Revocations) == servers*keys
		})
	}
}
