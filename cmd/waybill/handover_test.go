// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/lockfile"
	"github.com/openwaybill/waybill/internal/testenv"
)

// succession is a server and its successors: processes of one data directory, of which one serves at a time.
type succession struct {
	t       *testing.T
	dir     string // of the program, the data and the log
	program string
	cmd     *exec.Cmd // the one that the test has started last
	cred    credentials
	ca      *x509.CertPool
}

// newSuccession prepares a server with a program file of its own. It does not start it.
func newSuccession(t *testing.T) *succession {
	t.Helper()
	s := &succession{t: t, dir: t.TempDir()}
	s.program = filepath.Join(s.dir, "waybill")
	path, err := exec.LookPath("waybill") // TestMain's
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.install(string(b))
	t.Cleanup(s.end)
	return s
}

// install replaces the program file, as package managers do.
func (s *succession) install(program string) {
	s.t.Helper()
	// A process that another test starts meanwhile would hold the file open for writing until it runs its own program, and a
	// program that is open for writing cannot be run (go.dev/issue/22315).
	syscall.ForkLock.RLock()
	err := os.WriteFile(s.program+".new", []byte(program), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(s.program+".new", s.program); err != nil {
		s.t.Fatal(err)
	}
}

func (s *succession) data() string { return filepath.Join(s.dir, "data") }

// start starts a server by a command line and returns when it listens.
func (s *succession) start(files []*os.File, command ...string) {
	s.t.Helper()
	s.launch(files, command...)
	var err error
	if s.cred, err = readCredentials(filepath.Join(s.data(), "credentials.json")); err != nil {
		s.t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Join(s.data(), "ca.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.ca = x509.NewCertPool()
	s.ca.AppendCertsFromPEM(pem)
}

// launch is start for a server whose first key is known, or not needed.
func (s *succession) launch(files []*os.File, command ...string) {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(command[0], command[1:]...)
	s.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	s.cmd.Stderr, s.cmd.ExtraFiles = log, files
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	serving := s.count("for=https ")
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.await("for=https ", serving+1)
}

// end kills whoever is left, and waits for the end of those that are not the test's children.
func (s *succession) end() {
	if s.t.Failed() {
		s.t.Logf("log:\n%s", s.log())
	}
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // none may be left
	_ = s.cmd.Wait()                                      // killed, or waited for before
	s.awaitEnd()
}

func (s *succession) awaitEnd() {
	s.t.Helper()
	testenv.Eventually(s.t, "data directory free", func() bool {
		held, err := lockfile.Held(filepath.Join(s.data(), "lock"))
		return err == nil && !held
	})
}

func (s *succession) log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		s.t.Error(err)
	}
	return string(b)
}

func (s *succession) count(text string) int { return strings.Count(s.log(), text) }

func (s *succession) await(text string, n int) {
	s.t.Helper()
	testenv.Eventually(s.t, fmt.Sprintf("%d times %q in the log", n, text), func() bool { return s.count(text) >= n })
}

// serving returns the process that has taken over last.
func (s *succession) serving() int {
	s.t.Helper()
	found := regexp.MustCompile(`successor=(\d+)`).FindAllStringSubmatch(s.log(), -1)
	if found == nil {
		return s.cmd.Process.Pid
	}
	pid, err := strconv.Atoi(found[len(found)-1][1])
	if err != nil {
		s.t.Fatal(err)
	}
	return pid
}

func (s *succession) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(s.serving(), sig); err != nil {
		s.t.Fatal(err)
	}
}

// handOver returns when a successor serves.
func (s *succession) handOver() {
	s.t.Helper()
	serving := s.count("for=https ")
	s.signal(syscall.SIGUSR2)
	s.await("for=https ", serving+1)
}

// client returns a client that makes a connection for each call.
func (s *succession) client(http2 bool) *client.Client {
	s.t.Helper()
	c, err := client.New(client.Config{
		Endpoint: s.cred.Endpoint, AccessKeyID: s.cred.AccessKeyID, AccessKeySecret: s.cred.AccessKeySecret, Region: s.cred.Region,
		HTTP: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: s.ca}, DisableKeepAlives: true, ForceAttemptHTTP2: http2,
		}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *succession) mustAnswer() {
	s.t.Helper()
	if _, err := s.client(false).ListAccessKeys(s.t.Context()); err != nil {
		s.t.Error(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// activated holds a socket as systemd does, and returns what starts a server with it.
func (s *succession) activated() (start func()) {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { socket.Close() })
	return func() {
		s.t.Helper()
		s.start([]*os.File{socket}, "sh", "-c", `export LISTEN_FDS=1 LISTEN_FDNAMES=https LISTEN_PID=$$ SYSTEMD_EXEC_PID=$$; exec "$@"`, "sh",
			s.program, "server", "--data-dir", s.data(), "--listen", l.Addr().String(), "--agent-listen", "127.0.0.1:0", "--admin-listen", "")
	}
}

// TestSocketActivation is what systemd does: the socket is another process's, and servers come and go.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	s := newSuccession(t)
	start := s.activated()
	start()
	s.mustAnswer()

	// A signal that would only end the service is not obeyed.
	s.signal(syscall.SIGUSR2)
	s.await("systemd ends a service with its main process", 1)
	s.mustAnswer()

	s.signal(syscall.SIGKILL)
	_ = s.cmd.Wait() // it was killed
	var dialled atomic.Int32
	var clients errgroup.Group
	const n = 20
	for range n {
		clients.Go(func() error {
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{ConnectDone: func(_, _ string, err error) {
				if err == nil {
					dialled.Add(1)
				}
			}})
			_, err := s.client(false).ListAccessKeys(ctx)
			return err
		})
	}
	testenv.Eventually(t, "connections while nobody serves", func() bool { return dialled.Load() == n })
	start()
	if err := clients.Wait(); err != nil {
		t.Error(err)
	}
}

// TestHandOverUnderLoad hands over again and again while clients call, and a delivery waits for its machine.
func TestHandOverUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSuccession(t)
	s.start(nil, s.program, "server", "--data-dir", s.data(), "--listen", "127.0.0.1:0", "--agent-listen", freeAddress(t), "--admin-listen", "127.0.0.1:0")
	c := s.client(true)
	ctx := t.Context()
	id, root, runAgent := s.enrol(c)
	r := testenv.File()
	r.Instances = []waybill.InstanceID{id}
	delivery, err := c.SendFile(ctx, r)
	if err != nil {
		t.Fatal(err)
	}

	var answered atomic.Int64
	stop := make(chan struct{})
	var clients errgroup.Group
	for i := range 6 {
		c := s.client(i%2 == 0)
		clients.Go(func() error {
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				if _, err := c.ListAccessKeys(ctx); err != nil {
					return fmt.Errorf("client %d: %w", i, err)
				}
				answered.Add(1)
			}
		})
	}
	first := s.cmd
	for range 3 {
		s.handOver()
		now := answered.Load()
		testenv.Eventually(t, "answers of the successor", func() bool { return answered.Load() > now+20 })
	}
	close(stop)
	if err := clients.Wait(); err != nil {
		t.Error(err)
	}
	if err := first.Wait(); err != nil {
		t.Errorf("the first server: %v", err)
	}
	runAgent()
	testenv.Eventually(t, "delivered", func() bool {
		l, err := c.DescribeSendFileResults(ctx, client.DeliveryFilter{ID: delivery}, client.Paging{})
		return err == nil && len(l.Items) == 1 && l.Items[0].Status == waybill.OverallSuccess
	})
	if b, err := os.ReadFile(filepath.Join(root, "srv", "hello.txt")); err != nil || string(b) != "hello\n" {
		t.Errorf("the file: %q, %v", b, err)
	}
	s.signal(syscall.SIGTERM)
	s.awaitEnd()
}

// enrol returns a machine and what runs its agent until the test ends.
func (s *succession) enrol(c *client.Client) (id waybill.InstanceID, root string, run func()) {
	s.t.Helper()
	a, err := c.CreateActivation(s.t.Context(), client.CreateActivationRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(s.data(), "ca.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	state := filepath.Join(s.dir, "agent")
	st, err := agent.Enroll(s.t.Context(), agent.EnrollOptions{
		StateDir: state, Server: c.Endpoint(), CA: string(ca), Version: "test", ActivationID: string(a.ID), ActivationCode: a.Code,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	root = s.t.TempDir()
	return waybill.InstanceID(st.Instance), root, func() {
		a, err := agent.New(agent.Config{StateDir: state, Root: root, Version: "test"}, testenv.Logger(s.t))
		if err != nil {
			s.t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background()) // the test's has ended when cleanups run
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		s.t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				s.t.Error(err)
			}
		})
	}
}

// TestHandOverFinishesRequests holds a request open while a successor waits: it is answered by the server that has it,
// which keeps the data directory so long, and whoever comes meanwhile is answered by the successor.
func TestHandOverFinishesRequests(t *testing.T) {
	t.Parallel()
	s := newSuccession(t)
	s.start(nil, s.program, "server", "--data-dir", s.data(), "--listen", "127.0.0.1:0", "--agent-listen", freeAddress(t), "--admin-listen", "", "--drain", "1m")
	body, write := io.Pipe()
	reading := make(chan struct{})
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(reading) }})
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cred.Endpoint+"/?Action=DescribeRegions", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Expect", "100-continue")
	var requests errgroup.Group
	requests.Go(func() error {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.ca}, DisableKeepAlives: true, ExpectContinueTimeout: time.Minute}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			return err
		}
		return resp.Body.Close() // it is not signed, so it is refused; but answered
	})
	<-reading
	s.signal(syscall.SIGUSR2)
	s.await("waiting for the predecessor to end", 1)
	s.await("handed over, this server ends", 1)
	dialled := make(chan struct{})
	requests.Go(func() error {
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{ConnectDone: func(string, string, error) { close(dialled) }})
		_, err := s.client(false).ListAccessKeys(ctx)
		return err
	})
	<-dialled
	if held, err := lockfile.Held(filepath.Join(s.data(), "lock")); !held || err != nil || s.count("for=https ") != 1 {
		t.Errorf("before the request is answered: lock held %v, %v; %d servers", held, err, s.count("for=https "))
	}
	if _, err := write.Write([]byte("Version=2014-05-26")); err != nil {
		t.Error(err)
	}
	if err := errors.Join(write.Close(), requests.Wait(), s.cmd.Wait()); err != nil {
		t.Error(err)
	}
}

// TestHandOverFails gives a server successors that cannot succeed it.
func TestHandOverFails(t *testing.T) {
	t.Parallel()
	s := newSuccession(t)
	program, err := os.ReadFile(s.program)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(s.dir, "config.yaml")
	good := fmt.Sprintf("data-dir: %s\nlisten: 127.0.0.1:0\nagent-listen: %s\nadmin-listen: ''\n", s.data(), freeAddress(t))
	set := func(settings string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set(good)
	s.start(nil, s.program, "server", "--config", config)
	for i, c := range []struct{ name, settings, program, want string }{
		{"settings", good + "drain: soon\n", string(program), "ended before it could take over: exit status 2"},
		{"another port that is taken", good + "http-listen: " + strings.TrimPrefix(s.cred.Endpoint, "https://") + "\n", string(program), "exit status 1"},
		{"certificate", good + "tls-cert: /none.pem\ntls-key: /none.key\n", string(program), "exit status 1"},
		{"program ends", good, "#!/bin/sh\nexit 7\n", "exit status 7"},
		{"program cannot be run", good, "no program", "start a successor: fork/exec "},
	} {
		set(c.settings)
		s.install(c.program)
		s.signal(syscall.SIGUSR2)
		s.await("not handed over, this server goes on; correct what the successor said and send SIGUSR2 again", i+1)
		if !strings.Contains(s.log(), c.want) {
			t.Errorf("%s: nothing on %q", c.name, c.want)
		}
		s.mustAnswer()
	}
	set(good)
	s.install(string(program))
	s.handOver()
	s.mustAnswer()
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the server that was succeeded at last: %v", err)
	}
}
