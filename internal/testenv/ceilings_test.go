// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/acs"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/assist/assisttest"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
	"github.com/openwaybill/waybill/internal/wire"
)

// The tests here count what the process has, so they are not parallel, but for one that counts what another process has.

// census counts what the process has: goroutines by what they were started to do and by whom, descriptors by what they are.
type census map[string]int

// inode is the number of a socket or a pipe.
var inode = regexp.MustCompile(`:\[\d+\]$`)

func takeCensus() census {
	c := census{}
	stacks := make([]byte, 1<<20)
	for {
		n := runtime.Stack(stacks, true)
		if n < len(stacks) {
			stacks = stacks[:n]
			break
		}
		stacks = make([]byte, 2*len(stacks))
	}
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		started, by, _ := strings.Cut(stack, "\ncreated by ")
		lines := strings.Split(strings.TrimSpace(started), "\n")
		what := lines[max(0, len(lines)-2)] // the last of the calls, each of which is followed by where it is
		what = what[:max(0, strings.LastIndexByte(what, '('))]
		by, _, _ = strings.Cut(by, " in goroutine ")
		c["goroutine "+what+", of "+by]++
	}
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return c // not on this system
	}
	for _, e := range list {
		to, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		// How many connections the database has of the few it may, depends on who read at the same time.
		if err == nil && !strings.Contains(to, "/waybill.db") {
			c["descriptor "+inode.ReplaceAllString(to, "")]++
		}
	}
	return c
}

// more lists what there is more of now than before, in lines.
func (before census) more(now census) string {
	var lines []string
	for what, n := range now {
		if n > before[what] {
			lines = append(lines, fmt.Sprintf("%d more: %s", n-before[what], what))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// comesBack waits until there is no more of anything than there was.
func (before census) comesBack(t *testing.T) {
	t.Helper()
	left := ""
	defer func() {
		if left != "" {
			t.Logf("left:\n%s", left)
		}
	}()
	testenv.Eventually(t, "goroutines and descriptors are as before", func() bool {
		left = before.more(takeCensus())
		return left == ""
	})
}

// heap returns the bytes on the heap that are in use, the least of several looks: a sync.Pool outlives two collections, and what
// is made while a collection runs counts as in use after it, however soon it is let go. On a busy machine that is a lot.
func heap() int64 {
	least := uint64(math.MaxUint64)
	for range 5 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		least = min(least, m.HeapAlloc)
	}
	return int64(least)
}

// sever ends a connection as a network does: by a reset, or as if the other end had ended it.
func sever(conn net.Conn, reset bool) {
	if c, ok := conn.(*net.TCPConn); ok && reset {
		_ = c.SetLinger(0)
	}
	_ = conn.Close()
}

// saw makes connections, and cuts some of them.
type saw struct {
	mu   sync.Mutex
	open []net.Conn // since it cut all
	made int
	left int // of those to be made, how many are to be cut
}

// dial opens a connection that is cut after a few reads, the next one after a few more: in the handshake, before a
// greeting is answered, or when all is said.
func (s *saw) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	s.open = append(s.open, conn)
	if s.left == 0 {
		return conn, nil
	}
	s.left--
	c := &brittle{Conn: conn, reset: s.made%2 == 0}
	c.reads.Store(1 + int64(s.made%mostReads))
	time.AfterFunc(longestLife, func() { sever(conn, c.reset) }) // also if it has nothing more to read
	return c, nil
}

// cut cuts all connections that are open, and the next n. It returns how many were made before.
func (s *saw) cut(n int) (made int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, conn := range s.open {
		sever(conn, i%2 == 0)
	}
	s.open, s.left = nil, n
	return s.made
}

func (s *saw) count() (made, left int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made, s.left
}

// Bounds of what becomes of a connection that is to be cut.
const (
	mostReads   = 8 // about as many as an agent makes until it is idle
	longestLife = 100 * time.Millisecond
)

// brittle is a connection that is cut after some reads.
type brittle struct {
	net.Conn
	reads atomic.Int64
	reset bool
}

func (c *brittle) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.reads.Add(-1) == 0 {
		sever(c.Conn, c.reset)
	}
	return n, err
}

// TestNothingIsLeftOfReconnects cuts thousands of connections of all kinds, at any moment of their lives.
func TestNothingIsLeftOfReconnects(t *testing.T) {
	s := testenv.Start(t)
	t.Run("agents", func(t *testing.T) { agentsReconnect(t, s) })
	t.Run("calls", func(t *testing.T) { callersReconnect(t, s) })
	t.Run("official agents", func(t *testing.T) { officialAgentsReconnect(t, s) })
}

// reconnects is how many connections of a kind are cut.
const reconnects = 1000

func agentsReconnect(t *testing.T, s *testenv.Server) {
	var cutter saw
	var agents []*testenv.Agent
	for range 20 {
		agents = append(agents, s.Agent(func(c *agent.Config) {
			c.Hooks.Dial = cutter.dial
			c.Backoff = agent.Backoff{First: time.Millisecond, Max: 10 * time.Millisecond}
		}))
	}
	everybodyGets := func(name string) {
		t.Helper()
		r := testenv.File(agents...)
		r.File.Name = name
		if d := s.Await(s.Send(r)); d.Status != waybill.OverallSuccess {
			t.Fatalf("%s ended as %s", name, d.Status)
		}
	}
	everybodyGets("before")
	before, heapBefore := takeCensus(), heap()
	cutter.cut(reconnects)
	testenv.Eventually(t, "all are cut", func() bool { _, left := cutter.count(); return left == 0 })
	everybodyGets("after")
	before.comesBack(t)
	// A list of those who were here would have their tokens, of more than a kilobyte each.
	if each := (heap() - heapBefore) / reconnects; each > 1<<10 {
		t.Errorf("each reconnect leaves %d bytes", each)
	}
	for _, a := range agents {
		a.Stop()
	}
}

// callersReconnect has clients of the API that hang up: at once, in the middle of a request, without having read its
// answer, or in the middle of that.
func callersReconnect(t *testing.T, s *testenv.Server) {
	const request = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
	hangUp := func(i int) error {
		name := "http"
		if i%4 == 0 {
			name = "https"
		}
		raw, err := net.Dial("tcp", s.Addr(name))
		if err != nil {
			return err
		}
		defer sever(raw, i%2 == 0)
		conn := raw
		if name == "https" {
			conn = tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
		}
		if i/4%5 == 0 {
			return nil
		}
		sent := request
		if i/4%5 == 1 {
			sent = request[:len(request)/2]
		}
		if _, err := io.WriteString(conn, sent); err != nil {
			return err
		}
		if read := []int64{0, 0, 0, 1000, 10_000}[i/4%5]; read > 0 {
			_, err = io.CopyN(io.Discard, conn, read)
		}
		return err
	}
	if err := hangUp(16); err != nil { // what is made once, is made now
		t.Fatal(err)
	}
	before := takeCensus()
	next := make(chan int)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for i := range next {
				if err := hangUp(i); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
			}
		})
	}
	for i := range reconnects {
		next <- i
	}
	close(next)
	callers.Wait()
	before.comesBack(t)
}

// officialAgentsReconnect cuts the WebSockets of official agents, and the HTTP/2 connection of each with it.
func officialAgentsReconnect(t *testing.T, s *testenv.Server) {
	const agents, cuts = 5, 6
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA)
	activation := s.Activate("official")
	cutters := make([]saw, agents)
	var list []*testenv.Official
	start := func() {
		for i := range cutters {
			n := assisttest.NewNetwork(assisttest.NetworkConfig{Server: s.Addr("https"), Roots: roots, Dial: cutters[i].dial})
			t.Cleanup(n.Close)
			o := s.Register(n, activation)
			o.Start()
			list = append(list, o)
		}
	}
	start()
	connected := func(times int) {
		t.Helper()
		for _, o := range list {
			testenv.Eventually(t, fmt.Sprintf("%s connected %d times", o.ID, times), func() bool {
				got := o.Snapshot()
				return got.Connected && got.Connects == times
			})
		}
	}
	everybodyGets := func(name string) {
		t.Helper()
		r := testenv.OfficialFile(list...)
		r.File.Name = name
		if d := s.Await(s.Send(r)); d.Status != waybill.OverallSuccess {
			t.Fatalf("%s ended as %s", name, d.Status)
		}
	}
	connected(1)
	everybodyGets("before")
	before := takeCensus()
	for i := range cuts {
		for i := range cutters {
			cutters[i].cut(0)
		}
		connected(i + 2)
	}
	everybodyGets("after")
	before.comesBack(t)
	for _, o := range list {
		o.Stop()
	}
}

// deaf is a connection that can be made to take nothing more from its socket.
type deaf struct {
	net.Conn
	hears chan struct{} // closed when it is to read again
	stuck atomic.Bool
}

func (d *deaf) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	if d.stuck.Load() {
		<-d.hears
	}
	return n, err
}

func (d *deaf) Dial(network, addr string) (conn net.Conn, err error) {
	if d.Conn, err = net.Dial(network, addr); err != nil {
		return nil, err
	}
	return d, d.Conn.(*net.TCPConn).SetReadBuffer(64 << 10) // so that what is not read waits at the server's end
}

// TestStuckAgentCostsTheServerLittle has an agent that does not read what is sent to it, and goes on asking for more: far
// more than the bus holds for it. Meanwhile others are served; afterwards what was sent to it is delivered when it comes
// back, or has ended by its deadline.
func TestStuckAgentCostsTheServerLittle(t *testing.T) {
	const size = 384 << 10 // bytes of each content: 512 KiB as Base64, the most that a server can be told to allow
	const pages = 120      // 45 MiB; the bus holds 16, and the system a few
	s := testenv.Start(t, func(c *server.Config) {
		c.Control.Limits.ContentBytes = size * 4 / 3
		c.Control.Limits.MinTimeout = time.Second
	})
	healthy := s.Agent()
	a := s.Enrol()
	wall := &deaf{hears: make(chan struct{})}
	ended := make(chan struct{})
	nc := s.Link(a, nats.SetCustomDialer(wall), nats.ClosedHandler(func(*nats.Conn) { close(ended) }))
	for _, subject := range []string{wire.ToAgent(string(a.ID), wire.OpDeliver), wire.InboxPrefix(string(a.ID)) + ".pulled"} {
		if _, err := nc.Subscribe(subject, func(*nats.Msg) {}); err != nil {
			t.Fatal(err)
		}
	}
	hello := wire.Encode(&wire.Hello{Session: "stuck", Capability: wire.Capability, AgentVersion: "test", OSType: "linux"})
	if _, err := nc.Request(wire.ToServer(string(a.ID), wire.OpHello), hello, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	s.AwaitOnline(a)
	wall.stuck.Store(true)

	send := func(name string, timeout time.Duration) waybill.DeliveryID {
		r := testenv.File(a)
		r.File.Name, r.Timeout = name, timeout
		r.Content = bytes.Repeat([]byte{'x'}, size)
		return s.Send(r)
	}
	served := func(name string) {
		t.Helper()
		r := testenv.File(healthy)
		r.File.Name = name
		if d := s.Await(s.Send(r)); d.Status != waybill.OverallSuccess {
			t.Errorf("another agent: %s ended as %s", name, d.Status)
		}
	}
	lost, kept := send("lost", time.Second), []waybill.DeliveryID{send("kept-1", time.Hour), send("kept-2", time.Hour)}
	before, most := heap(), int64(0)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for next, done := 0, 0; done < pages; done = handled(t, s, wire.OpPull) {
		err := nc.PublishRequest(wire.ToServer(string(a.ID), wire.OpPull), wire.InboxPrefix(string(a.ID))+".pulled", wire.Encode(&wire.Pull{}))
		if err == nil {
			err = nc.LastError()
		}
		if err != nil { // cut off, which takes until the bus gives up writing
			break
		}
		if done >= next {
			most = max(most, heap()-before)
			served(fmt.Sprint("meanwhile-", done))
			next += 10
		}
		<-tick.C
	}
	// What may wait in the bus, and what some requests and messages of this size take on both their sides.
	const bound = 16<<20 + 8<<20
	t.Logf("the heap grew by %d bytes at most", most)
	if most > bound {
		t.Errorf("more than the %d that follow from what may wait for one connection", bound)
	}
	if d := s.Await(lost).Targets.Items[0]; d.ErrorCode != "ClientNotResponse" {
		t.Errorf("what nobody acknowledged ended as %s, %s", d.Status, d.ErrorCode)
	}
	close(wall.hears) // it finds what was on its way, and then the end
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("it was not cut off")
	}
	a.Start()
	for i, id := range kept {
		if d := s.Await(id); d.Status != waybill.OverallSuccess {
			t.Errorf("delivery %d ended as %+v", i, d.Targets.Items[0])
		}
	}
}

// handled returns how many messages of a kind the server has done what they ask for.
func handled(t *testing.T, s *testenv.Server, op string) int {
	t.Helper()
	return int(metric(t, s.Addr("admin"), fmt.Sprintf(`waybill_agent_messages_total{op=%q,result="ok"}`, op)))
}

// metric returns a metric of the server with that admin listener, and zero for one that is not there.
func metric(t *testing.T, admin, name string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return 0
}

// connections lists what the HTTP servers of this process do for connections, in lines.
func (c census) connections() string {
	served := census{}
	for what, n := range c {
		if strings.Contains(what, "net/http.(*Server)") || strings.Contains(what, "net/http.(*conn)") || strings.Contains(what, "http2serverConn") {
			served[what] = n
		}
	}
	return census{}.more(served)
}

// signed returns a signed request that the server at that listener answers.
func signed(t *testing.T, s *testenv.Server, listener, action string, pairs ...string) *http.Request {
	t.Helper()
	params := url.Values{"RegionId": {testenv.Region}}
	for i := 0; i < len(pairs); i += 2 {
		params.Set(pairs[i], pairs[i+1])
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, listener+"://"+s.Addr(listener)+"/?"+params.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("x-acs-action", action)
	r.Header.Set("x-acs-version", versions[action])
	acs.SignACS3(r, nil, s.Key.AccessKeyID, s.Key.AccessKeySecret, "", rand.Text(), time.Now())
	return r
}

// TestClientsThatDoNotReadAreGivenUp asks for long lists, over and over, and reads none of them; and sends requests byte
// by byte. While those clients stay, all that the server has for them ends, and others are served meanwhile.
func TestClientsThatDoNotReadAreGivenUp(t *testing.T) {
	const pageBytes = 50 * 24 << 10 * 4 / 3 // of contents, in Base64
	s := testenv.Start(t, func(c *server.Config) {
		c.ReadTimeout, c.WriteTimeout, c.IdleTimeout = 6*time.Second, 6*time.Second, 3*time.Second
	})
	a := s.Enrol()
	for i := range 50 {
		r := testenv.File(a)
		r.File.Name, r.Content = fmt.Sprint(i), bytes.Repeat([]byte{'x'}, 24<<10)
		s.Send(r)
	}
	list := func(listener string) *http.Request {
		return signed(t, s, listener, "DescribeSendFileResults", "MaxResults", "50", "PageSize", "50")
	}
	others := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := others.Do(list("http"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if err != nil || n < pageBytes {
		t.Fatalf("a page has %d bytes, %v", n, err)
	}
	before := heap()

	const plain, multiplexed, atOnce = 2, 1, 5
	var clients sync.WaitGroup
	for range multiplexed {
		wall := &deaf{hears: make(chan struct{})}
		transport := &http.Transport{
			DialContext:       func(_ context.Context, network, addr string) (net.Conn, error) { return wall.Dial(network, addr) },
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
			ForceAttemptHTTP2: true,
		}
		resp, err := transport.RoundTrip(signed(t, s, "https", "DescribeRegions"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.ProtoMajor != 2 {
			t.Fatalf("%s, %v", resp.Proto, err)
		}
		wall.stuck.Store(true)
		for range atOnce {
			r := list("https")
			clients.Go(func() {
				if resp, err := transport.RoundTrip(r); err == nil {
					resp.Body.Close()
				}
			})
		}
		t.Cleanup(func() {
			close(wall.hears)
			clients.Wait()
			transport.CloseIdleConnections()
		})
	}
	for range plain {
		conn := dial(t, s, "http")
		var requests bytes.Buffer
		for range 8 { // one after the other, as long as answers find room between here and there
			if err := list("http").Write(&requests); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := conn.Write(requests.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	const body = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100000\r\n\r\n"
	for range plain {
		conn := dial(t, s, "http")
		clients.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			_, err := io.WriteString(conn, body)
			for err == nil {
				<-tick.C
				_, err = conn.Write([]byte{'x'})
			}
		})
	}

	most, served := int64(0), 0
	left := takeCensus().connections()
	t.Logf("at first:\n%s", left)
	defer func() { t.Logf("others were served %d times meanwhile; left:\n%s", served, left) }()
	testenv.Eventually(t, "all of them are given up", func() bool {
		most = max(most, heap()-before)
		resp, err := others.Do(signed(t, s, "http", "CreateActivation"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			served++
		}
		left = takeCensus().connections()
		return left == ""
	})
	// Each client has one answer made for it at a time, or one on each of its streams; a page takes some times its size
	// while it is made.
	const bound = (plain + multiplexed*atOnce + 1) * 6 * pageBytes
	t.Logf("the heap grew by %d bytes at most", most)
	if most > bound {
		t.Errorf("more than %d", bound)
	}
	if served == 0 {
		t.Error("nobody else was served")
	}
	if resp, err = others.Do(list("http")); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("a list afterwards: %v, %v", resp, err)
	}
	resp.Body.Close()
}

// TestSlowDatabase keeps the database locked, as a disk that hangs does, while many send and a fleet reports. Who sends is
// told that it is not possible now; what was answered is done when the database is free again, and nothing else is.
func TestSlowDatabase(t *testing.T) {
	const senders = 64
	s := testenv.Start(t)
	gate := make(chan struct{})
	var held, unheld []*testenv.Agent // some have a file to report when the database is locked
	for range 5 {
		held = append(held, s.Agent(func(c *agent.Config) {
			c.Hooks.Fault = func(place.Step, string) error { <-gate; return nil }
		}))
	}
	unheld = append(unheld, s.Agent())
	early := s.Send(testenv.File(held...))
	testenv.Eventually(t, "all have begun", func() bool { return s.Delivery(early).Status == waybill.OverallRunning })
	before, heapBefore := runtime.NumGoroutine(), heap()

	lock := s.LockDatabase()
	close(gate)
	var mu sync.Mutex
	accepted, refused := map[waybill.DeliveryID]bool{}, make(chan struct{}, senders)
	free := make(chan struct{}) // closed when the database is
	var sending sync.WaitGroup
	for i := range senders {
		sending.Go(func() {
			for n, told, more := 0, false, 1; more > 0; n++ {
				r := testenv.File(unheld...)
				r.File.Name = fmt.Sprintf("%d-%d", i, n)
				id, err := s.Client.SendFile(t.Context(), r)
				switch e, _ := errors.AsType[*client.Error](err); {
				case err == nil:
					mu.Lock()
					accepted[id] = true
					mu.Unlock()
				case e == nil || e.Status != http.StatusServiceUnavailable || e.Code != "ServiceUnavailable":
					t.Errorf("send: %v", err)
					return
				case !told:
					told = true
					refused <- struct{}{}
				}
				select {
				case <-free:
					more--
				default:
				}
			}
		})
	}
	for range senders {
		select {
		case <-refused:
		case <-time.After(30 * time.Second):
			t.Fatal("not everybody is told that the database cannot be written")
		}
	}
	// A request takes ten with what serves its connection on both sides; the reports of five agents take a few.
	if n := runtime.NumGoroutine() - before; n > 16*senders {
		t.Errorf("%d goroutines more", n)
	}
	if n := heap() - heapBefore; n > 32<<20 {
		t.Errorf("%d bytes more on the heap", n)
	}
	lock.Unlock()
	close(free)
	sending.Wait()
	if d := s.Await(early); d.Status != waybill.OverallSuccess {
		t.Errorf("what was reported meanwhile ended as %s", d.Status)
	}
	if len(accepted) == 0 {
		t.Error("nothing is accepted afterwards")
	}
	for id := range accepted {
		if d := s.Await(id); d.Status != waybill.OverallSuccess {
			t.Errorf("%s ended as %s", id, d.Status)
		}
	}
	l, err := s.Client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{}, client.Paging{})
	if err != nil || int(l.Total) != len(accepted)+1 {
		t.Errorf("%d deliveries are stored, %d were answered; %v", l.Total, len(accepted)+1, err)
	}
}

var links = flag.Int("links", 300, "how many agents TestLinks connects")

// TestLinks connects many agents, as far as the bus is concerned, to one server process, and counts what each costs it.
func TestLinks(t *testing.T) {
	t.Parallel()
	n := *links
	p := newServerProcess(t)
	ca, err := os.ReadFile(filepath.Join(p.dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	const atOnce = 8
	each := func(do func(i int) error) {
		t.Helper()
		eg, _ := errgroup.WithContext(t.Context())
		eg.SetLimit(atOnce)
		for i := range n {
			eg.Go(func() error { return do(i) })
		}
		if err := eg.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	var activations []client.NewActivation
	for range (n + 999) / 1000 {
		a, err := p.client.CreateActivation(t.Context(), client.CreateActivationRequest{InstanceName: "link", InstanceCount: 1000})
		if err != nil {
			t.Fatal(err)
		}
		activations = append(activations, a)
	}
	states, ids := t.TempDir(), make([]string, n)
	state := func(i int) string { return filepath.Join(states, strconv.Itoa(i)) }
	each(func(i int) error {
		a := activations[i/1000]
		status, err := agent.Enroll(t.Context(), agent.EnrollOptions{
			StateDir: state(i), Server: p.client.Endpoint(), CA: string(ca), Version: "test",
			ActivationID: string(a.ID), ActivationCode: a.Code,
		})
		ids[i] = status.Instance
		return err
	})
	before := p.cost(t)
	conns := make([]*nats.Conn, n)
	each(func(i int) (err error) {
		if conns[i], err = testenv.Link(state(i), ca, nats.Timeout(time.Minute)); err != nil {
			return err
		}
		for _, subject := range []string{wire.ToAgent(ids[i], wire.OpDeliver), wire.ToAgent(ids[i], wire.OpProbe), wire.InboxPrefix(ids[i]) + ".confirm.*"} {
			if _, err := conns[i].SubscribeSync(subject); err != nil {
				return err
			}
		}
		hello := wire.Encode(&wire.Hello{Session: "link", Capability: wire.Capability, AgentVersion: "test", OSType: "linux"})
		_, err = conns[i].Request(wire.ToServer(ids[i], wire.OpHello), hello, time.Minute)
		return err
	})
	var with cost
	// NATS has a goroutine that reads a connection and one that writes it. Some more come and go.
	const some = 20
	testenv.Eventually(t, "each takes two goroutines and one descriptor", func() bool {
		with = p.cost(t)
		return with.goroutines-before.goroutines <= 2*n+some && with.files-before.files <= n+some
	})
	perLink := (with.bytes - before.bytes) / n
	t.Logf("%d agents: each takes %d bytes of heap and stacks, %d of resident memory, %.1f goroutines, %.1f descriptors of the server",
		n, perLink, (with.resident-before.resident)/n, float64(with.goroutines-before.goroutines)/float64(n), float64(with.files-before.files)/float64(n))
	// 46 KB were measured, most of them buffers of TLS and NATS; what does not fit into this is new.
	if most := 64 << 10; perLink > most {
		t.Errorf("each takes %d bytes, more than %d", perLink, most)
	}
	for _, c := range conns {
		c.Close()
	}
	testenv.Eventually(t, "nothing is left of them", func() bool {
		now := p.cost(t)
		return now.goroutines-before.goroutines <= some && now.files-before.files <= some
	})
}

// cost is what a server process takes.
type cost struct {
	goroutines, files int
	bytes             int // heap and stacks in use
	resident          int // bytes
}

func (p *serverProcess) cost(t *testing.T) cost {
	t.Helper()
	admin := p.addrs[2]
	resp, err := http.Get("http://" + admin + "/debug/pprof/heap?gc=1") // collects what is not in use
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	of := func(name string) int { return int(metric(t, admin, name)) }
	return cost{
		goroutines: of("go_goroutines"), files: of("process_open_fds"),
		bytes: of("go_memstats_heap_alloc_bytes") + of("go_memstats_stack_inuse_bytes"), resident: of("process_resident_memory_bytes"),
	}
}
