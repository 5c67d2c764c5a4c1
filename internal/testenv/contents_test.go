// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/blob"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
	"github.com/openwaybill/waybill/internal/wire"
)

// bucket returns the URL of an S3 store with nothing in it.
func bucket(t *testing.T) string {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("contents"); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(gofakes3.New(backend, gofakes3.WithTimeSkewLimit(0)).Server())
	t.Cleanup(s.Close)
	return "s3://contents/waybill?endpoint=" + s.URL
}

// large lets a server take contents of any size, and keep them where it does by default.
func large(c *server.Config) { c.Control.Limits.ContentBytes = waybill.MaxContent }

// onEachPlace runs test with a function that starts servers, for every place where large contents can be.
func onEachPlace(t *testing.T, test func(*testing.T, starter)) {
	t.Helper()
	t.Run("disk", func(t *testing.T) {
		test(t, func(t testing.TB, change ...func(*server.Config)) *testenv.Server {
			return testenv.Start(t, append(change, large)...)
		})
	})
	t.Run("s3", func(t *testing.T) {
		test(t, func(tb testing.TB, change ...func(*server.Config)) *testenv.Server {
			url := bucket(t)
			return testenv.Start(tb, append(change, large, func(c *server.Config) { c.Blob = url })...)
		})
	})
}

// payload returns bytes that do not repeat themselves.
func payload(size int) []byte {
	b := make([]byte, 0, size+sha256.Size)
	for sum := sha256.Sum256(nil); len(b) < size; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b[:size]
}

// largeFile is a file of size bytes.
func largeFile(size int, to ...*testenv.Agent) client.SendFileRequest {
	r := testenv.File(to...)
	r.Content, r.Timeout = payload(size), 2*time.Minute
	return r
}

func placed(t *testing.T, a *testenv.Agent, r client.SendFileRequest) {
	t.Helper()
	b, err := os.ReadFile(a.Path(r.File.TargetDir, r.File.Name))
	if err != nil || !bytes.Equal(b, r.Content) {
		t.Errorf("on %s are %d bytes, not the %d sent: %v", a.ID, len(b), len(r.Content), err)
	}
}

// TestLargeContents sends contents that the database keeps and the bus does not carry, and such as neither does: they
// arrive, and come back exactly as they were sent.
func TestLargeContents(t *testing.T) {
	t.Parallel()
	onEachPlace(t, func(t *testing.T, start starter) {
		t.Parallel()
		s := start(t)
		agents := []*testenv.Agent{s.Agent(), s.Agent()}
		for _, size := range []int{wire.MaxContent, wire.MaxContent + 1, 1<<20 + 1, 6<<20 + 7} {
			r := largeFile(size, agents...)
			r.File.Name = fmt.Sprint("file-", size)
			d := s.Await(s.Send(r))
			if d.Status != waybill.OverallSuccess {
				t.Fatalf("%d bytes: %+v", size, d.Targets.Items)
			}
			for _, a := range agents {
				placed(t, a, r)
			}
			if d.Content != base64.StdEncoding.EncodeToString(r.Content) {
				t.Errorf("%d bytes come back as %d of Base64", size, len(d.Content))
			}
		}
		text := base64.StdEncoding.EncodeToString(payload(3 << 20))
		var lines strings.Builder
		for len(text) > 0 {
			n := min(76, len(text))
			lines.WriteString(text[:n] + "\r\n")
			text = text[n:]
		}
		plain := strings.Repeat("plain text, <ünd> \"more\"\n", 80_000)
		for kind, content := range map[string]string{"Base64": lines.String(), "PlainText": plain} {
			var sent struct{ InvokeId waybill.DeliveryID }
			if err := s.Client.Call(t.Context(), "SendFile", map[string][]string{
				"InstanceId.1": {string(agents[0].ID)}, "Name": {kind}, "TargetDir": {"/srv"}, "FileOwner": {testenv.File().File.Owner},
				"FileGroup": {testenv.File().File.Group}, "Content": {content}, "ContentType": {kind},
			}, &sent); err != nil {
				t.Fatal(err)
			}
			if d := s.Await(sent.InvokeId); d.Status != waybill.OverallSuccess || d.Content != content {
				t.Errorf("%s ended as %s, and comes back with %d of %d bytes", kind, d.Status, len(d.Content), len(content))
			}
		}
	})
}

// ask asks the server for the content of a delivery with the identity of an agent.
func ask(t *testing.T, s *testenv.Server, as *testenv.Agent, id waybill.DeliveryID) (status int, code string) {
	t.Helper()
	seed, err := os.ReadFile(filepath.Join(as.State, "agent.nk"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Key.Endpoint+wire.PathContent+string(id), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.SignRequest(key, req, nil, time.Now(), identity.NewRequestID()); err != nil {
		t.Fatal(err)
	}
	resp, err := httpClient(t, s).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e wire.ErrorReply
	if resp.StatusCode != http.StatusOK && json.Unmarshal(body, &e) != nil {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	return resp.StatusCode, e.Code
}

// TestLargeContentIsForItsMachine asks for contents of others, and of what is over.
func TestLargeContentIsForItsMachine(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, large)
	away, other := s.Enrol(), s.Agent()
	id := s.Send(largeFile(2<<20, away))
	if status, code := ask(t, s, away, id); status != http.StatusOK {
		t.Errorf("its own machine: %d %s", status, code)
	}
	if status, code := ask(t, s, other, id); status != http.StatusNotFound || code != string(waybill.DeliveryNotOpen) {
		t.Errorf("another machine: %d %s", status, code)
	}
	away.Start()
	s.Await(id)
	if status, code := ask(t, s, away, id); status != http.StatusNotFound || code != string(waybill.DeliveryNotOpen) {
		t.Errorf("when it is over: %d %s", status, code)
	}
	away.Stop() // it would end with an error once it learns that it was deregistered
	if _, err := s.Client.DeregisterManagedInstance(t.Context(), away.ID); err != nil {
		t.Fatal(err)
	}
	if status, code := ask(t, s, away, id); status != http.StatusGone {
		t.Errorf("when it was deregistered: %d %s", status, code)
	}
}

// TestLargeContentCannotGo sends what an old agent and the official one do not take.
func TestLargeContentCannotGo(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, large)
	old := s.Agent(func(c *agent.Config) { c.Hooks.Capability = wire.FetchCapability - 1 })
	later := s.Enrol(func(c *agent.Config) { c.Hooks.Capability = wire.FetchCapability - 1 })
	official := s.Official()
	r := largeFile(wire.MaxContent+1, old, later)
	r.Instances = append(r.Instances, official.ID)
	id := s.Send(r)
	later.Start() // what it enrolled with was newer
	for _, target := range s.Await(id).Targets.Items {
		if got := of(target); got.ErrorCode != "ClientNeedUpgrade" || !strings.Contains(target.Detail, fmt.Sprint(wire.MaxContent)) {
			t.Errorf("%s ended as %+v: %s", target.Instance, got, target.Detail)
		}
	}
	if d := s.Await(s.Send(largeFile(wire.MaxContent, old))); d.Status != waybill.OverallSuccess {
		t.Errorf("what it takes ended as %s", d.Status)
	}
}

// TestLargeContentDamaged damages a content where it is kept.
func TestLargeContentDamaged(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, large)
	a := s.Enrol()
	r := largeFile(2<<20, a)
	id := s.Send(r)
	f, err := os.OpenFile(kept(t, s, r.Content), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("other"), 1<<20); err != nil {
		t.Fatal(err)
	}
	a.Start()
	d := s.Await(id)
	if target := d.Targets.Items[0]; target.ErrorCode != "FileContentInvalid" {
		t.Errorf("ended as %+v: %s", of(target), target.Detail)
	}
	if d.Content != "" {
		t.Error("what is damaged comes back as if it were what was sent")
	}
}

// kept returns where a server keeps a content on its disk.
func kept(t *testing.T, s *testenv.Server, content []byte) string {
	t.Helper()
	name := fmt.Sprintf("%x", sha256.Sum256(content))
	path := filepath.Join(s.Dir, "blobs", name[:2], name[2:4], name)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	return path
}

// fragile is the network of an agent: it breaks each connection after so many bytes were received, and counts all.
type fragile struct {
	after atomic.Int64 // 0: never
	came  atomic.Int64
	conns atomic.Int64
	broke func() // nil, or called before one breaks
}

func (f *fragile) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	f.conns.Add(1)
	return &fragileConn{Conn: c, f: f}, nil
}

type fragileConn struct {
	net.Conn
	f    *fragile
	came int64
}

func (c *fragileConn) Read(p []byte) (int, error) {
	if after := c.f.after.Load(); after > 0 {
		if c.came >= after {
			if c.f.broke != nil {
				c.f.broke()
			}
			return 0, fmt.Errorf("the connection broke: %w", net.ErrClosed)
		}
		p = p[:min(int64(len(p)), after-c.came)]
	}
	n, err := c.Conn.Read(p)
	c.came += int64(n)
	c.f.came.Add(int64(n))
	return n, err
}

// TestLargeContentGoesOn breaks the connection again and again: what has come is not asked for again.
func TestLargeContentGoesOn(t *testing.T) {
	t.Parallel()
	onEachPlace(t, func(t *testing.T, start starter) {
		t.Parallel()
		s := start(t)
		var network fragile
		a := s.Agent(func(c *agent.Config) {
			c.Hooks.Dial = network.dial
			c.Backoff = agent.Backoff{First: time.Millisecond, Max: 10 * time.Millisecond}
		})
		const size = 4 << 20
		network.after.Store(500 << 10)
		before, conns := network.came.Load(), network.conns.Load()
		r := largeFile(size, a)
		if d := s.Await(s.Send(r)); d.Status != waybill.OverallSuccess {
			t.Fatalf("ended as %+v", d.Targets.Items[0])
		}
		placed(t, a, r)
		if n := network.conns.Load() - conns; n < size/(500<<10) {
			t.Errorf("%d connections", n)
		}
		if n := network.came.Load() - before; n > size*5/4 {
			t.Errorf("%d bytes came for a content of %d", n, size)
		}
	})
}

// TestLargeContentTooSlow has a server that goes away in the middle: the deadline bounds the fetch, and nothing is left.
func TestLargeContentTooSlow(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, large, quick)
	var network fragile
	a := s.Agent(func(c *agent.Config) {
		c.Hooks.Dial = network.dial
		c.Backoff = agent.Backoff{First: time.Millisecond, Max: 10 * time.Millisecond}
		c.Hooks.Trace = func(event, _ string) {
			if event == "write" {
				network.after.Store(1) // no answer begins
			}
		}
	})
	r := largeFile(2<<20, a)
	r.Timeout = 3 * time.Second
	target := s.Await(s.Send(r)).Targets.Items[0]
	if target.ErrorCode != "DeliveryTimeout" {
		t.Errorf("ended as %+v: %s", of(target), target.Detail)
	}
	testenv.Eventually(t, "nothing is left", func() bool {
		left, err := os.ReadDir(a.Path(r.File.TargetDir, ""))
		return err == nil && len(left) == 0 || os.IsNotExist(err)
	})
}

// TestLargeContentIsCollected waits until no delivery refers to a content, and then a day.
func TestLargeContentIsCollected(t *testing.T) {
	t.Parallel()
	onEachPlace(t, func(t *testing.T, start starter) {
		t.Parallel()
		var cfg *server.Config
		s := start(t, func(c *server.Config) { cfg = c })
		has := func(r client.SendFileRequest) bool {
			digest := sha256.Sum256(r.Content)
			if cfg.Blob == "" {
				_, err := os.Stat(filepath.Join(s.Dir, "blobs", fmt.Sprintf("%x/%x/%x", digest[:1], digest[1:2], digest)))
				return err == nil
			}
			b, err := blob.Open(t.Context(), cfg.Blob)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			from, _, err := b.Open(t.Context(), digest, 0)
			if err == nil {
				from.Close()
			}
			return err == nil
		}
		a := s.Agent()
		r := largeFile(2<<20, a)
		s.Await(s.Send(r))
		a.Stop()
		s.Later(13 * 24 * time.Hour) // the delivery is kept for 14
		s.Restart()
		if !has(r) {
			t.Error("a content is gone that a delivery has")
		}
		s.Later(3 * 24 * time.Hour)
		s.Restart()
		testenv.Eventually(t, "it is gone", func() bool { return !has(r) })
	})
}

// TestServersShareLargeContents says what several servers need.
func TestServersShareLargeContents(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*server.Config){
		"too much for the database": large,
		"a directory":               func(c *server.Config) { c.Blob = "file:" + t.TempDir() },
	} {
		cfg := server.DefaultConfig()
		cfg.DataDir, cfg.Listen, cfg.AdminListen = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", ""
		cfg.NATSURL, cfg.NATSCreds = "tls://127.0.0.1:1", "none"
		change(&cfg)
		if s, err := server.Open(t.Context(), cfg, testenv.Logger(t)); err == nil {
			t.Errorf("%s: it starts", name)
			s.Close()
		} else if !strings.Contains(err.Error(), "--blob s3://") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestServerKilledRightAfterLargeContent kills the server as soon as it has answered: the content is there.
func TestServerKilledRightAfterLargeContent(t *testing.T) {
	t.Parallel()
	p := newServerProcess(t, "--max-content", fmt.Sprint(waybill.MaxContent))
	id, root, start := p.agent()
	r := largeFile(3 << 20)
	r.Instances = []waybill.InstanceID{id}
	invoke, err := p.client.SendFile(t.Context(), r)
	p.kill()
	if err != nil {
		t.Fatal(err)
	}
	p.start()
	p.awaitUp()
	start()
	testenv.Eventually(t, "the file", func() bool {
		b, err := os.ReadFile(filepath.Join(root, r.File.TargetDir, r.File.Name))
		return err == nil && bytes.Equal(b, r.Content)
	})
	if d, err := p.client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{ID: invoke}, client.Paging{}); err != nil ||
		d.Items[0].Content != base64.StdEncoding.EncodeToString(r.Content) {
		t.Errorf("it does not come back: %v", err)
	}
}

// TestAgentKilledWhileItFetches kills an agent, a process of its own, in the middle of a content.
func TestAgentKilledWhileItFetches(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, large)
	a := s.Enrol()
	r := largeFile(8<<20, a)
	id := s.Send(r)
	killed(t, a, killAfterEnv+"="+fmt.Sprint(4<<20))
	if _, err := os.Stat(a.Path(r.File.TargetDir, r.File.Name)); !os.IsNotExist(err) {
		t.Errorf("the file is there: %v", err)
	}
	a.Start()
	if d := s.Await(id); d.Status != waybill.OverallSuccess {
		t.Errorf("ended as %+v", d.Targets.Items[0])
	}
	placed(t, a, r)
	left, err := filepath.Glob(a.Path(r.File.TargetDir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// killed runs an agent as a process of its own that kills itself as env says.
func killed(t *testing.T, a *testenv.Agent, env string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), killerEnv+"="+a.State, killRootEnv+"="+a.Root, env)
	if err := cmd.Run(); err == nil {
		t.Fatal("the agent was not killed")
	}
}

// httpClient returns a client that trusts a server.
func httpClient(t *testing.T, s *testenv.Server) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CA)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
