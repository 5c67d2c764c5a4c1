// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"context"
	"crypto"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// patience bounds every wait; a test that runs into it has failed.
const patience = 20 * time.Second

// TestMain fails if an agent leaves a goroutine behind.
func TestMain(m *testing.M) {
	code := m.Run()
	deadline, tick := time.After(5*time.Second), time.NewTicker(10*time.Millisecond)
	for left := leaked(); left != "" && code == 0; left = leaked() {
		select {
		case <-deadline:
			fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
			code = 1
		case <-tick.C:
		}
	}
	os.Exit(code)
}

func leaked() string {
	b := make([]byte, 1<<20)
	for _, g := range strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(g, "assisttest.") && !strings.Contains(g, "TestMain") {
			return g
		}
	}
	return ""
}

// testKey is the key of every agent: making one takes long, and no test is about it.
var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// eventually waits until ok returns true, and fails the test if that takes too long.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within %s", what, patience)
		case <-tick.C:
		}
	}
}

// request is a request that the stand-in has seen.
type request struct {
	method, target, proto string
	header                http.Header
	body                  string
}

// path returns the target without its query.
func (r request) path() string {
	p, _, _ := strings.Cut(r.target, "?")
	return p
}

// server is a stand-in for the front end: it knows one machine and its key, and answers what the test says.
type server struct {
	*httptest.Server
	t       *testing.T
	machine string
	key     *rsa.PublicKey
	sockets chan *websocket.Conn // each connection that was upgraded
	replies chan string          // what agents said over them
	pings   chan string
	serving sync.WaitGroup

	mu     sync.Mutex
	seen   []request
	ids    map[string]bool // request IDs
	answer map[string]http.HandlerFunc
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{
		t: t, machine: "machine-1", key: &testKey().PublicKey, sockets: make(chan *websocket.Conn, 10000),
		replies: make(chan string, 10000), pings: make(chan string, 10000), ids: map[string]bool{},
		answer: map[string]http.HandlerFunc{},
	}
	s.Server = httptest.NewUnstartedServer(s)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that agents reset
	s.StartTLS()
	t.Cleanup(func() {
		s.Close()
		s.serving.Wait()
	})
	return s
}

// on makes the stand-in answer requests for a path.
func (s *server) on(path string, h http.HandlerFunc) {
	s.mu.Lock()
	s.answer[path] = h
	s.mu.Unlock()
}

// say makes it answer with a body.
func (s *server) say(path, body string) {
	s.on(path, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })
}

// requests returns the requests for a path so far.
func (s *server) requests(path string) []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []request
	for _, r := range s.seen {
		if r.path() == path {
			all = append(all, r)
		}
	}
	return all
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.serving.Add(1)
	defer s.serving.Done()
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.seen = append(s.seen, request{r.Method, r.RequestURI, r.Proto, r.Header.Clone(), string(body)})
	h := s.answer[r.URL.Path]
	s.mu.Unlock()
	if r.URL.Path != registerPath {
		if err := s.verify(r.Header); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
	}
	switch {
	case h != nil:
		h(w, r)
	case r.URL.Path == socketPath:
		s.upgrade(w, r)
	default:
		io.WriteString(w, `{"code":200}`)
	}
}

const (
	registerPath = "/luban/api/instance/register"
	beatPath     = "/luban/api/heart-beat"
	listPath     = "/luban/api/v1/task/list"
	finishPath   = "/luban/api/v1/task/finish"
	invalidPath  = "/luban/api/v1/task/invalid"
	metricsPath  = "/luban/api/metrics"
	clientPath   = "/luban/api/v1/exception/client_report"
)

// verify checks the identity headers of a request (§4).
func (s *server) verify(h http.Header) error {
	id, stamp, request := h.Get("x-acs-instance-id"), h.Get("x-acs-timestamp"), h.Get("x-acs-request-id")
	sig, err := base64.StdEncoding.DecodeString(h.Get("x-acs-signature"))
	if err != nil {
		return err
	}
	if id != "mi-1" {
		return errors.New("unknown instance")
	}
	digest := md5.Sum([]byte(id + s.machine + stamp + request))
	if err := rsa.VerifyPKCS1v15(s.key, crypto.MD5, digest[:], sig); err != nil {
		return err
	}
	ms, err := strconv.ParseInt(stamp, 10, 64)
	if age := time.Since(time.UnixMilli(ms)); err != nil || age.Abs() > 15*time.Minute {
		return errors.New("wrong time")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids[request] {
		return errors.New("replayed")
	}
	s.ids[request] = true
	return nil
}

func (s *server) upgrade(w http.ResponseWriter, r *http.Request) {
	if r.Proto != "HTTP/1.1" || r.Header.Get("Sec-WebSocket-Protocol")+r.Header.Get("Sec-WebSocket-Extensions") != "" {
		s.t.Errorf("upgrade over %s with %v", r.Proto, r.Header)
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{OnPingReceived: func(_ context.Context, b []byte) bool {
		s.pings <- string(b)
		return true
	}})
	if err != nil {
		s.t.Errorf("accept: %v", err)
		return
	}
	defer conn.CloseNow()
	s.sockets <- conn
	for {
		_, b, err := conn.Read(context.Background())
		if err != nil {
			return
		}
		s.replies <- string(b)
	}
}

// socket returns the next connection.
func (s *server) socket() *websocket.Conn {
	s.t.Helper()
	select {
	case c := <-s.sockets:
		return c
	case <-time.After(patience):
		s.t.Fatal("no connection")
		return nil
	}
}

// kick sends a message and returns the reply.
func (s *server) kick(c *websocket.Conn, message string) string {
	s.t.Helper()
	s.push(c, message)
	select {
	case r := <-s.replies:
		return r
	case <-time.After(patience):
		s.t.Fatalf("kick %q: no reply", message)
		return ""
	}
}

func (s *server) push(c *websocket.Conn, message string) {
	s.t.Helper()
	if err := c.Write(s.t.Context(), websocket.MessageText, []byte(message)); err != nil {
		s.t.Fatalf("kick %q: %v", message, err)
	}
}

// process is one life of an agent.
type process struct {
	*Agent
	t    *testing.T
	root string
	stop context.CancelFunc
	done chan error
}

// scale is how much faster than real agents those of the tests are.
const scale = 0.01

func (s *server) network(change ...func(*NetworkConfig)) *Network {
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	cfg := NetworkConfig{Server: s.Listener.Addr().String(), Roots: roots}
	for _, c := range change {
		c(&cfg)
	}
	n := NewNetwork(cfg)
	s.t.Cleanup(n.Close)
	return n
}

// start starts an agent that lives until the test ends.
func (s *server) start(change ...func(*Config)) *process {
	s.t.Helper()
	cfg := Config{
		Network: s.network(), Identity: &Identity{InstanceID: "mi-1", MachineID: s.machine, Key: testKey()},
		Root: s.t.TempDir(), Times: RealTimes().Scaled(scale),
	}
	for _, c := range change {
		c(&cfg)
	}
	ctx, stop := context.WithCancel(context.Background()) // ended by the cleanup
	p := &process{Agent: New(cfg), t: s.t, root: cfg.Root, stop: stop, done: make(chan error, 1)}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		p.done <- p.Run(ctx)
	}()
	s.t.Cleanup(func() {
		stop()
		<-finished
	})
	return p
}

// started waits until the startup fetch is over.
func (p *process) started() {
	p.t.Helper()
	eventually(p.t, "startup fetch", func() bool { return len(p.Snapshot().Fetches) > 0 })
}

// ended waits for the end of the process and returns its reason.
func (p *process) ended() error {
	p.t.Helper()
	select {
	case err := <-p.done:
		return err
	case <-time.After(patience):
		p.t.Fatal("the process lives on")
		return nil
	}
}

// reported waits until the n-th report is sent or lost and returns it.
func (p *process) reported(n int) Report {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("report %d", n), func() bool { return len(p.Snapshot().Reports) >= n })
	return p.Snapshot().Reports[n-1]
}

// task is a file task as a server writes it.
type task map[string]any

// file returns a good task, changed by pairs of field and value. Its signature fits unless it is among them.
func file(id string, pairs ...any) task {
	f := task{
		"taskID": id, "name": id + ".txt", "destination": "/etc/app",
		"content": base64.StdEncoding.EncodeToString([]byte("hello\n")), "contentType": "Base64",
		"owner": "", "group": "", "mode": "0644", "overwrite": true, "timeout": 60,
	}
	for i := 0; i < len(pairs); i += 2 {
		f[pairs[i].(string)] = pairs[i+1]
	}
	if _, ok := f["signature"]; !ok {
		sum := md5.Sum([]byte(f["content"].(string)))
		f["signature"] = hex.EncodeToString(sum[:])
	}
	return f
}

// list returns the reply to a fetch that hands out files.
func list(files ...task) string {
	all := []any{}
	for _, f := range files {
		all = append(all, map[string]any{"task": f, "output": map[string]any{"interval": 1000, "skipEmpty": true}})
	}
	b, err := json.Marshal(map[string]any{"code": 200, "instanceId": "mi-1", "run": []any{}, "file": all})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// offer makes the stand-in hand out a list to fetches that were kicked; the others find nothing.
func (s *server) offer(body string) {
	s.on(listPath, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("reason") == "kickoff" {
			io.WriteString(w, body)
		} else {
			io.WriteString(w, list())
		}
	})
}

func decodePublicKey(t *testing.T, text string) *rsa.PublicKey {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM: %q", text)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PublicKey)
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
