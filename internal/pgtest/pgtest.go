// SPDX-License-Identifier: Apache-2.0

// Package pgtest starts real PostgreSQL servers for tests. It knows nothing of Waybill.
//
// The server of a test process is one for all its tests, which get a database each. Tests that stop or kill a server start
// one of their own.
package pgtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// What the environment may say: the URL of a server on which a superuser may make databases, to be used instead of starting
// one; and, separated by commas, what the tests must not do without.
const (
	URLEnv     = "WAYBILL_TEST_POSTGRES"
	RequireEnv = "WAYBILL_TEST_REQUIRE"
)

// patience bounds every wait for a server.
const patience = 60 * time.Second

var shared struct {
	sync.Mutex
	asked  bool
	server *Server // nil: there is none
	root   string  // URL of the server
	err    error
	copies map[string]string // databases to copy from, by what made them
}

// Available reports whether there is a PostgreSQL for the tests, and says so once if there is none. Where it is required,
// its absence fails t.
func Available(t testing.TB) bool {
	t.Helper()
	_, err := sharedURL()
	if err == nil {
		return true
	}
	if slices.Contains(strings.Split(os.Getenv(RequireEnv), ","), "postgres") {
		t.Fatalf("%s asks for PostgreSQL: %v", RequireEnv, err)
	}
	return false
}

// sharedURL returns the URL of the server of this process, and starts it if it is the first that wants it.
func sharedURL() (string, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.asked {
		return shared.root, shared.err
	}
	shared.asked = true
	if shared.root = os.Getenv(URLEnv); shared.root != "" {
		return shared.root, nil
	}
	shared.server, shared.err = start(Options{})
	if shared.err != nil {
		fmt.Fprintln(os.Stderr, "no PostgreSQL, so nothing is tried on it:", shared.err)
		return "", shared.err
	}
	shared.root = shared.server.URL
	return shared.root, nil
}

// Database returns the URL of a new database that is removed when the test ends. The first call with a name prepares one
// with that name, and the others get copies of it; prepare may be nil.
func Database(t testing.TB, name string, prepare func(url string) error) string {
	t.Helper()
	root, err := sharedURL()
	if err != nil {
		t.Fatal(err)
	}
	from := ""
	if prepare != nil {
		if from, err = template(root, name, prepare); err != nil {
			t.Fatalf("prepare a database: %v", err)
		}
	}
	name = "t_" + strings.ToLower(rand.Text())
	create := "CREATE DATABASE " + name
	if from != "" {
		create += " TEMPLATE " + from
	}
	if err := execute(root, create); err != nil {
		t.Fatalf("create a database: %v", err)
	}
	t.Cleanup(func() {
		if err := execute(root, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the database: %v", err)
		}
	})
	return withDatabase(root, name)
}

// template makes the database that others are copies of, unless it is there.
func template(root, name string, prepare func(url string) error) (string, error) {
	shared.Lock()
	defer shared.Unlock()
	if made, ok := shared.copies[name]; ok {
		return made, nil
	}
	made := "m_" + strings.ToLower(rand.Text())
	if err := execute(root, "CREATE DATABASE "+made); err != nil {
		return "", err
	}
	if err := prepare(withDatabase(root, made)); err != nil {
		return "", err
	}
	if shared.copies == nil {
		shared.copies = map[string]string{}
	}
	shared.copies[name] = made
	return made, nil
}

func withDatabase(root, name string) string {
	u, err := url.Parse(root)
	if err != nil {
		panic(err) // it has been used
	}
	u.Path = "/" + name
	return u.String()
}

func execute(url, query string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, query)
	return errors.Join(err, conn.Close(ctx))
}

// Options of a server.
type Options struct {
	Durable  bool              // it waits for the disk, for measurements; what processes do to each other needs no disk
	Settings map[string]string // lines of postgresql.conf
}

// Server is a PostgreSQL server that runs on a port of the loopback address until the process ends, or Close.
type Server struct {
	URL  string // of the database postgres, as a superuser
	Port int
	Dir  string // its data directory

	bin    string
	as     *user.User // nil: whoever we are
	guard  io.Closer  // when it is closed, or this process ends, the server ends and its directory goes
	log    string
	parent string
}

// Start starts a server of its own for a test, which may stop and kill it. Ask Available first.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := start(o)
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// binaries returns the directory of PostgreSQL's programs.
func binaries() (string, error) {
	for _, name := range []string{"postgres", "initdb"} {
		if path, err := exec.LookPath(name); err == nil {
			if path, err = filepath.EvalSymlinks(path); err == nil && isFile(filepath.Join(filepath.Dir(path), "pg_ctl")) {
				return filepath.Dir(path), nil
			}
		}
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		if dir := strings.TrimSpace(string(out)); isFile(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		return "", errors.New("no program postgres is in PATH or /usr/lib/postgresql/*/bin; install PostgreSQL, or set " + URLEnv)
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func start(o Options) (_ *Server, err error) {
	s := &Server{}
	if s.bin, err = binaries(); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 { // it refuses to run as root
		for _, name := range []string{"postgres", "nobody"} {
			if s.as, err = user.Lookup(name); err == nil {
				break
			}
		}
		if err != nil {
			return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no other user: %w", err)
		}
	}
	if s.parent, err = os.MkdirTemp("", "wbpg"); err != nil { // short: the path of a socket has at most 107 bytes
		return nil, err
	}
	s.Dir, s.log = filepath.Join(s.parent, "data"), filepath.Join(s.parent, "log")
	if err := s.own(s.parent); err != nil {
		return nil, err
	}
	if err := s.run(filepath.Join(s.bin, "initdb"), "-D", s.Dir, "-U", "waybill", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.parent))
	}
	if s.Port, err = freePort(); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("listen_addresses = '127.0.0.1'\nport = %d\nunix_socket_directories = '%s'\nmax_connections = 300\n"+
		"shared_buffers = 128MB\nsynchronous_commit = on\nfsync = %s\nautovacuum_naptime = 5s\n",
		s.Port, s.parent, map[bool]string{true: "on", false: "off"}[o.Durable])
	for k, v := range o.Settings {
		conf += k + " = " + v + "\n"
	}
	f, err := os.OpenFile(filepath.Join(s.Dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(conf)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	s.URL = fmt.Sprintf("postgres://waybill@127.0.0.1:%d/postgres?sslmode=disable", s.Port)
	if err := s.watch(); err != nil {
		return nil, err
	}
	if err := s.Restart(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// own gives a file to the user that the server runs as.
func (s *Server) own(path string) error {
	if s.as == nil {
		return nil
	}
	uid, err := strconv.Atoi(s.as.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(s.as.Gid)
	if err != nil {
		return err
	}
	return os.Chown(path, uid, gid)
}

// run runs one of PostgreSQL's programs to its end.
func (s *Server) run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.parent
	cmd.SysProcAttr = asUser(s.as)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // a server it has started may hold its output
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		log, _ := os.ReadFile(s.log)
		return fmt.Errorf("%s: %w\n%s%s", filepath.Base(name), err, out.Bytes(), log[max(0, len(log)-2000):])
	}
	return nil
}

// watch starts a process that ends the server, and removes its directory, when this one ends, however it ends.
func (s *Server) watch() error {
	cmd := exec.Command("/bin/sh", "-c", `read -r line; "$1/pg_ctl" -D "$2/data" -m immediate -w stop >/dev/null 2>&1; rm -rf "$2"`,
		"sh", s.bin, s.parent)
	cmd.Dir = "/"
	cmd.SysProcAttr = apart(s.as)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.guard = closer(func() error {
		return errors.Join(in.Close(), cmd.Wait())
	})
	return nil
}

type closer func() error

func (c closer) Close() error { return c() }

// Close ends the server and removes its data.
func (s *Server) Close() {
	if s.guard != nil {
		_ = s.guard.Close()
		s.guard = nil
	}
	_ = os.RemoveAll(s.parent)
}

func (s *Server) control(args ...string) error {
	return s.run(filepath.Join(s.bin, "pg_ctl"), append([]string{"-D", s.Dir, "-w", "-t", strconv.Itoa(int(patience.Seconds()))}, args...)...)
}

// Stop stops the server as an administrator would: sessions are ended, what is committed is on the disk.
func (s *Server) Stop() error { return s.control("-m", "fast", "stop") }

// Kill ends the server at once, as a crash does: it recovers when it is started again.
func (s *Server) Kill() error { return s.control("-m", "immediate", "stop") }

// Restart starts a server that does not run, and returns when it takes connections.
func (s *Server) Restart() error { return s.control("-l", s.log, "start") }

// Database makes a database on the server and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "t_" + strings.ToLower(rand.Text())
	if err := execute(s.URL, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create a database: %v", err)
	}
	return withDatabase(s.URL, name)
}
