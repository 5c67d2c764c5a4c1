// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/acs"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/assist/assisttest"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/pgtest"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/testenv"
	"github.com/openwaybill/waybill/internal/wire"
)

// several starts n servers on one PostgreSQL database and one NATS cluster.
func several(t *testing.T, n int, change ...func(*server.Config)) ([]*testenv.Server, *testenv.NATS) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a server") // nothing that is named after it may mind the blank
	url := testenv.Postgres(t)
	cluster := testenv.StartNATS(t, server.NATSConfig{DataDir: dir, Database: url}, 3)
	servers := []*testenv.Server{testenv.Start(t, append([]func(*server.Config){func(cfg *server.Config) {
		cfg.DataDir, cfg.Database = dir, url
		cluster.Join(cfg)
	}}, change...)...)}
	for len(servers) < n {
		servers = append(servers, servers[0].Join())
	}
	return servers, cluster
}

// TestSeveralServers looks that what was done at one of three servers holds at the others at once.
func TestSeveralServers(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	servers, _ := several(t, 3, quick)
	a, b, c := servers[0], servers[1], servers[2]
	if !bytes.Equal(a.CA, read(t, filepath.Join(b.Dir, "ca.pem"))) {
		t.Error("two servers have two CAs")
	}
	if b.First() != nil {
		t.Error("the second server made an account")
	}

	// A delivery is accepted by one, told by another, listed by the third.
	at, there := a.Agent(), c.Agent()
	b.AwaitOnline(at, there)
	for i, s := range servers {
		r := testenv.File(at, there)
		r.File.Overwrite = true
		if d := servers[(i+1)%3].Await(s.Send(r)); d.Status != waybill.OverallSuccess {
			t.Errorf("sent at server %d: %+v", i, d.Targets.Items)
		}
	}

	// A machine that was never there ends at its deadline, whoever has accepted the delivery.
	never := a.Enrol()
	for i, s := range servers {
		r := testenv.File(never)
		r.Timeout = time.Second
		if d := a.Await(s.Send(r)); d.Targets.Items[0].ErrorCode != "ClientNotResponse" {
			t.Errorf("sent at server %d: %+v", i, d.Targets.Items)
		}
	}

	// Page tokens and temporary keys are good everywhere.
	page, err := a.Client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{}, client.Paging{MaxResults: 1})
	if err == nil {
		page, err = b.Client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{}, client.Paging{MaxResults: 1, NextToken: page.NextToken})
	}
	if err != nil || len(page.Items) != 1 {
		t.Errorf("a page token at another server: %d deliveries, %v", len(page.Items), err)
	}
	key, err := a.Client.GetSessionToken(t.Context(), time.Hour, "")
	if err != nil {
		t.Fatal(err)
	}
	temporary, err := client.New(client.Config{
		Endpoint: c.Key.Endpoint, AccessKeyID: key.ID, AccessKeySecret: key.Secret, SecurityToken: key.Token, Region: testenv.Region, CAFile: c.Key.CA,
	})
	if err == nil {
		_, err = temporary.DescribeRegions(t.Context())
	}
	if err != nil {
		t.Errorf("a temporary key at another server: %v", err)
	}

	// A repetition is known, and a request that was signed once is answered once.
	r := testenv.File(at)
	r.File.Name, r.ClientToken = "once.txt", "a token"
	first := a.Send(r)
	if second := b.Send(r); second != first {
		t.Errorf("the repetition at another server is %s, not %s", second, first)
	}
	signed := acs.SignV1(http.MethodGet, url.Values{
		"Action": {"DescribeRegions"}, "Version": {"2014-05-26"}, "Format": {"JSON"},
	}, a.Key.AccessKeyID, a.Key.AccessKeySecret, "", "a nonce", time.Now())
	for i, want := range []string{"", "SignatureNonceUsed"} {
		if got := get(t, servers[i+1], signed); want == "" && strings.Contains(got, "Code") || !strings.Contains(got, want) {
			t.Errorf("request %d: %s", i, got)
		}
	}

	// What one server allows and forbids, the others do from the next request on.
	if _, err := a.Client.CreateUser(t.Context(), client.CreateUserRequest{Name: "eve"}); err != nil {
		t.Fatal(err)
	}
	own, err := b.Client.CreateAccessKey(t.Context(), "eve")
	if err != nil {
		t.Fatal(err)
	}
	eve, err := client.New(client.Config{
		Endpoint: c.Key.Endpoint, AccessKeyID: own.ID, AccessKeySecret: own.Secret, Region: testenv.Region, CAFile: c.Key.CA,
	})
	if err != nil {
		t.Fatal(err)
	}
	all := waybill.PolicyName{Type: waybill.SystemPolicy, Name: "AdministratorAccess"}
	for i := range 3 {
		_, err := eve.DescribeManagedInstances(t.Context(), client.InstanceFilter{}, client.Paging{})
		if refused(err) != (i%2 == 0) {
			t.Errorf("step %d: %v", i, err)
		}
		change := a.Client.AttachPolicyToUser
		if i%2 == 1 {
			change = b.Client.DetachPolicyFromUser
		}
		if err := change(t.Context(), all, "eve"); err != nil && i < 2 {
			t.Fatal(err)
		}
	}

	// The server that does the chores goes; another does them.
	a.Stop()
	r = testenv.File(never)
	r.Timeout = time.Second
	if d := b.Await(c.Send(r)); d.Targets.Items[0].ErrorCode != "ClientNotResponse" {
		t.Errorf("after a server has gone: %+v", d.Targets.Items)
	}
}

func refused(err error) bool {
	no, ok := errors.AsType[*client.Error](err)
	return ok && no.Status == http.StatusForbidden
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// get makes a signed request over plain HTTP and returns the answer.
func get(t *testing.T, s *testenv.Server, query url.Values) string {
	t.Helper()
	resp, err := http.Get("http://" + s.Addr("http") + "/?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestClonesAtSeveralServers runs one identity twice: whichever server asks who is there, the answers come to it.
func TestClonesAtSeveralServers(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	servers, _ := several(t, 3)
	for range 3 {
		a := servers[0].Enrol()
		clone := filepath.Join(t.TempDir(), "state")
		if err := os.CopyFS(clone, os.DirFS(a.State)); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 2)
		for i, dir := range []string{a.State, clone} {
			ag, err := agent.New(agent.Config{StateDir: dir, Root: a.Root, Backoff: agent.Backoff{First: 20 * time.Millisecond, Max: 100 * time.Millisecond}}, testenv.Logger(t))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			go func() { ended <- ag.Run(ctx) }()
			if i == 0 {
				servers[1].AwaitOnline(a)
			}
		}
		for range 2 {
			select {
			case err := <-ended:
				if !errors.Is(err, agent.ErrQuarantined) {
					t.Errorf("the agent ended with %v", err)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("an agent of a cloned machine goes on")
			}
		}
	}
}

// TestOfficialAgentAtSeveralServers lets the calls of an official agent come to any server, while one has its channel: it
// gets each file once, and is kicked for none that it has fetched elsewhere. When its server ends, it goes to another.
func TestOfficialAgentAtSeveralServers(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	servers, _ := several(t, 3)
	front := testenv.StartBalancer(t)
	addresses := func(list []*testenv.Server) (to []string) {
		for _, s := range list {
			to = append(to, s.Addr("https"))
		}
		return to
	}
	front.To(addresses(servers)...)
	s := servers[0]
	n := s.NetworkTo(front.Addr())
	o := s.Register(n, s.Activate("official"), func(c *assisttest.Config) { c.Times = testenv.OfficialTimes() })
	o.Start()
	s.AwaitChannel(o, "open")
	send := func(s *testenv.Server, name string) {
		t.Helper()
		r := testenv.OfficialFile(o)
		r.File.Name = name // without Overwrite: a second time would find the first's file
		if d := servers[2].Await(s.Send(r)); d.Status != waybill.OverallSuccess {
			t.Errorf("%s: %+v", name, d.Targets.Items)
		}
	}
	for i := range 9 {
		send(servers[i%3], "file-"+string(rune('a'+i)))
	}
	kicks := map[string]int{}
	for _, k := range o.Snapshot().Kicks {
		if kicks[k.Message]++; kicks[k.Message] == 2 {
			t.Errorf("the second %q: one server knew that it had been fetched", k.Message)
		}
	}
	for id, runs := range o.Snapshot().Runs {
		if runs != 1 {
			t.Errorf("%s was begun %d times", id, runs)
		}
	}
	// The servers end, one after the other, but for the last.
	for i := range 2 {
		front.To(addresses(servers[i+1:])...)
		servers[i].Stop()
		servers[2].AwaitChannel(o, "open")
		send(servers[2], "after-"+string(rune('a'+i)))
	}
}

// TestOneBusForADatabase looks that no server uses a database by a bus that the others do not.
func TestOneBusForADatabase(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	config := func(url, key string) server.Config {
		cfg := server.DefaultConfig()
		cfg.DataDir, cfg.Database, cfg.SealKey = filepath.Join(t.TempDir(), "other"), url, key
		cfg.Listen, cfg.AgentListen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0", ""
		return cfg
	}
	open := func(cfg server.Config) error {
		s, err := server.Open(t.Context(), cfg, testenv.Logger(t))
		if err == nil {
			err = errors.Join(errors.New("it starts"), s.Close())
		}
		return err
	}
	t.Run("two embedded", func(t *testing.T) {
		t.Parallel()
		s := testenv.Start(t, testenv.OnPostgres(t))
		cfg := config(s.Database(), filepath.Join(s.Dir, "seal.key"))
		if err := open(cfg); err == nil || !strings.Contains(err.Error(), "--nats") {
			t.Errorf("a second server with an embedded bus: %v", err)
		}
		s.Restart() // it has its own bus back at once
	})
	t.Run("embedded beside a cluster", func(t *testing.T) {
		t.Parallel()
		servers, _ := several(t, 1)
		if err := open(config(servers[0].Database(), filepath.Join(servers[0].Dir, "seal.key"))); err == nil || !strings.Contains(err.Error(), "--nats") {
			t.Errorf("a server with an embedded bus: %v", err)
		}
	})
	t.Run("without the key file", func(t *testing.T) {
		t.Parallel()
		s := testenv.Start(t, testenv.OnPostgres(t))
		if err := open(config(s.Database(), "")); err == nil || !strings.Contains(err.Error(), "copy seal.key of another server") {
			t.Errorf("a server with no key file: %v", err)
		}
	})
}

// TestDeadServers looks that servers notice when another dies, and what was connected to it alone; and that one that was
// taken for dead by mistake shows what is connected to it again.
func TestDeadServers(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	servers, _ := several(t, 2)
	s := servers[0]
	live, orphan := s.Official(), s.Register(s.Network(), s.Activate("orphan"))
	sealer, err := identity.OpenSealer(filepath.Join(s.Dir, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), store.Config{URL: s.Database(), KeepSchema: true, AuditKey: control.AuditKey(sealer)}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()

	// A server that had a channel gives no sign of life any more.
	ghost := store.Node{Name: "ghost", Run: "its only one"}
	if _, err := st.BeatNode(t.Context(), ghost); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Greet(t.Context(), orphan.ID, "ghost/channel", waybill.Facts{Capability: wire.Capability}); err != nil {
		t.Fatal(err)
	}
	s.AwaitChannel(orphan, "open")
	s.AwaitChannel(orphan, "lost")
	nodes, err := st.Nodes(t.Context())
	if err != nil || len(nodes) != 2 || slices.ContainsFunc(nodes, func(n store.Node) bool { return n.Name == ghost.Name }) {
		t.Errorf("the servers are %+v, %v", nodes, err)
	}

	// The one that has the channel is taken for dead.
	for _, n := range nodes {
		if removed, err := st.RemoveNode(t.Context(), store.Node{Name: n.Name, Run: n.Run}); err != nil || !removed {
			t.Fatalf("remove %s: %t, %v", n.Name, removed, err)
		}
		if _, err := st.LoseChannels(t.Context(), waybill.OfficialAgent, n.Name+"/"); err != nil {
			t.Fatal(err)
		}
	}
	s.AwaitChannel(live, "open")
	testenv.Eventually(t, "both servers are there again", func() bool {
		nodes, err := st.Nodes(t.Context())
		return err == nil && len(nodes) == 2
	})
	s.AwaitChannel(live, "open")
	if d := servers[1].Await(servers[1].Send(testenv.OfficialFile(live))); d.Status != waybill.OverallSuccess {
		t.Errorf("after that: %+v", d.Targets.Items)
	}
}
