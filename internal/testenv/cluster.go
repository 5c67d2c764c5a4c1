// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openwaybill/waybill/internal/bus"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/server"
)

// NATS is a cluster of real nats-server processes, configured as waybill nats-config does.
type NATS struct {
	t       testing.TB
	program string
	nodes   []*natsNode
	Cluster *server.NATSCluster // nil if it was configured elsewhere
	Dir     string              // with a directory for each node
	Creds   string              // a file, for servers
}

type natsNode struct {
	bus.Node
	enter []string
	mu    sync.Mutex
	cmd   *exec.Cmd // nil: it does not run
	end   chan struct{}
}

// Place is where a node of a cluster runs.
type Place struct {
	Host  string   // an address
	Enter []string // what begins its command line
}

// StartNATS starts a cluster of n nodes for the servers of a database, which it begins if it is not there. It ends with the
// test.
func StartNATS(t testing.TB, cfg server.NATSConfig, n int) *NATS {
	t.Helper()
	places := make([]Place, n)
	for i := range places {
		places[i].Host = "127.0.0.1"
	}
	return StartNATSAt(t, cfg, places...)
}

// StartNATSAt is StartNATS with a node at each of places.
func StartNATSAt(t testing.TB, cfg server.NATSConfig, places ...Place) *NATS {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "nats")
	cfg.Nodes = NATSNodes(t, dir, places...)
	cluster, err := server.OpenNATSCluster(t.Context(), cfg, Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	c := RunNATS(t, dir, cfg.Nodes, places...)
	c.Cluster = cluster
	return c
}

// NATSNodes returns nodes at places, with files below dir, on free ports.
func NATSNodes(t testing.TB, dir string, places ...Place) (nodes []bus.Node) {
	t.Helper()
	ports := FreePorts(t, 2*len(places))
	for i, p := range places {
		name := fmt.Sprint("n", i)
		nodes = append(nodes, bus.Node{
			Name: name, Host: p.Host, Bind: p.Host, Port: ports[2*i], RoutePort: ports[2*i+1], Dir: filepath.Join(dir, name),
		})
	}
	return nodes
}

// RunNATS starts nodes whose files are there.
func RunNATS(t testing.TB, dir string, nodes []bus.Node, places ...Place) *NATS {
	t.Helper()
	c := &NATS{t: t, program: buildNATS(t), Dir: dir, Creds: filepath.Join(dir, server.NATSCredsFile)}
	for i, n := range nodes {
		c.nodes = append(c.nodes, &natsNode{Node: n, enter: places[i].Enter})
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.Kill(i)
		}
	})
	for i := range c.nodes {
		c.Start(i)
	}
	return c
}

// URL returns the addresses of all nodes, as servers and agents take them.
func (c *NATS) URL() string {
	urls := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		urls[i] = n.URL()
	}
	return strings.Join(urls, ",")
}

// Node returns where a node is.
func (c *NATS) Node(i int) bus.Node { return c.nodes[i].Node }

// Start starts a node that does not run, and returns once it listens.
func (c *NATS) Start(i int) {
	c.t.Helper()
	if err := c.Restart(i); err != nil {
		c.t.Fatal(err)
	}
}

// Restart is Start for goroutines that are not the test's.
func (c *NATS) Restart(i int) error {
	n := c.nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		return nil
	}
	log, err := os.OpenFile(filepath.Join(c.Dir, n.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	line := append(slices.Clone(n.enter), c.program, "--config", filepath.Join(n.Dir, bus.NodeConfigFile))
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start nats-server: %w", err)
	}
	end := make(chan struct{})
	n.cmd, n.end = cmd, end
	go func() {
		defer close(end)
		_ = cmd.Wait() // how it ended, whoever ended it knows; the log tells the rest
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(n.URL(), "tls://"), time.Second)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("NATS node %s does not listen within %s: %w", n.Name, patience, err)
		}
		select {
		case <-end:
			b, _ := os.ReadFile(log.Name())
			return fmt.Errorf("NATS node %s has ended: %s", n.Name, b)
		case <-tick.C:
		}
	}
}

// Kill ends a node at once, with SIGKILL. One that does not run stays so.
func (c *NATS) Kill(i int) {
	n := c.nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return
	}
	if err := n.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.t.Errorf("kill NATS node %s: %v", n.Name, err)
	}
	<-n.end
	n.cmd = nil
}

// Join makes a server use the cluster.
func (c *NATS) Join(cfg *server.Config) {
	cfg.NATSURL, cfg.NATSCreds, cfg.AgentListen = c.URL(), c.Creds, ""
}

// FreePorts returns ports of the loopback interface that nobody listens on now. They are below those that systems give to
// connections, so that none takes one before its listener does.
func FreePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for tries := 0; len(ports) < n; tries++ {
		port := 10_000 + rand.IntN(20_000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil && tries < 1000 {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all at the end, or one might come twice
		ports = append(ports, port)
	}
	return ports
}

// natsProgram is nats-server as it is, built once from the module that this one requires.
var natsProgram struct {
	sync.Once
	path string
	err  error
}

func buildNATS(t testing.TB) string {
	t.Helper()
	natsProgram.Do(func() {
		dir, err := os.MkdirTemp("", "waybill-nats-")
		if err != nil {
			natsProgram.err = err
			return
		}
		natsProgram.path = filepath.Join(dir, "nats-server")
		cmd := exec.Command("go", "build", "-o", natsProgram.path, "github.com/nats-io/nats-server/v2")
		cmd.Stderr = os.Stderr
		natsProgram.err = cmd.Run()
	})
	if natsProgram.err != nil {
		t.Fatalf("build nats-server: %v", natsProgram.err)
	}
	return natsProgram.path
}

// RemovePrograms removes what was built for tests. Call it when all of them have ended.
func RemovePrograms() error {
	if natsProgram.path == "" {
		return nil
	}
	return os.RemoveAll(filepath.Dir(natsProgram.path))
}

// Balancer gives each connection to the next of several addresses that takes it, as a load balancer before servers does.
// It knows nothing of what goes over them.
type Balancer struct {
	listener net.Listener
	closed   chan struct{}
	conns    sync.WaitGroup

	mu   sync.Mutex
	next int
	to   []string
	open map[net.Conn]struct{}
}

// StartBalancer starts a balancer on a port of the loopback interface, until the test ends.
func StartBalancer(t testing.TB, to ...string) *Balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &Balancer{listener: l, closed: make(chan struct{}), to: to, open: map[net.Conn]struct{}{}}
	b.conns.Go(b.accept)
	t.Cleanup(b.close)
	return b
}

// Addr is where it listens.
func (b *Balancer) Addr() string { return b.listener.Addr().String() }

// To changes where connections go that come from now on.
func (b *Balancer) To(addresses ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.to = addresses
}

func (b *Balancer) close() {
	close(b.closed)
	b.listener.Close()
	b.mu.Lock()
	for c := range b.open {
		c.Close()
	}
	b.mu.Unlock()
	b.conns.Wait()
}

func (b *Balancer) accept() {
	for {
		c, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.conns.Go(func() { b.serve(c) })
	}
}

// keep notes an open connection; false: all are being closed.
func (b *Balancer) keep(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.closed:
		c.Close()
		return false
	default:
	}
	b.open[c] = struct{}{}
	return true
}

func (b *Balancer) drop(c net.Conn) {
	c.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, c)
}

func (b *Balancer) serve(c net.Conn) {
	if !b.keep(c) {
		return
	}
	defer b.drop(c)
	s := b.dial()
	if s == nil || !b.keep(s) {
		return
	}
	defer b.drop(s)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, s}, {s, c}} {
		both.Go(func() {
			_, _ = io.Copy(way[1], way[0]) // either end of it ends both
			way[0].Close()
			way[1].Close()
		})
	}
	both.Wait()
}

// dial connects to the next address that takes it.
func (b *Balancer) dial() net.Conn {
	b.mu.Lock()
	to := b.to
	b.next++
	first := b.next
	b.mu.Unlock()
	for i := range to {
		if c, err := net.DialTimeout("tcp", to[(first+i)%len(to)], time.Second); err == nil {
			return c
		}
	}
	return nil
}

// Join starts another server of the same database and the same NATS cluster, with a data directory of its own.
func (s *Server) Join(change ...func(*server.Config)) *Server {
	s.t.Helper()
	cfg := s.cfg
	cfg.DataDir = filepath.Join(s.t.TempDir(), "server")
	cfg.SealKey = filepath.Join(s.Dir, "seal.key")
	cfg.Listen, cfg.HTTPListen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	for _, c := range change {
		c(&cfg)
	}
	o := &Server{t: s.t, cfg: cfg, log: s.log, ahead: s.ahead, Dir: cfg.DataDir, CA: s.CA, Key: s.Key}
	o.open()
	s.t.Cleanup(o.Stop)
	o.Key.Endpoint = "https://" + o.Addr("https")
	o.Client = o.client(o.Key.AccessKeyID, o.Key.AccessKeySecret)
	return o
}

func (s *Server) client(id, secret string) *client.Client {
	s.t.Helper()
	c, err := client.New(client.Config{
		Endpoint: s.Key.Endpoint, AccessKeyID: id, AccessKeySecret: secret, Region: Region, CAFile: s.Key.CA,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}
