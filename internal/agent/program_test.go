// SPDX-License-Identifier: Apache-2.0

//go:build linux

package agent

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// program is cmd/waybill-agent, built as a release is.
type program struct {
	t    testing.TB
	path string
}

func buildProgram(t testing.TB) *program {
	t.Helper()
	p := &program{t: t, path: filepath.Join(t.TempDir(), "waybill-agent")}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=v9.8.7", "-o", p.path,
		"github.com/openwaybill/waybill/cmd/waybill-agent")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return p
}

// run runs a command that ends by itself.
func (p *program) run(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		p.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (p *program) want(code int, text string, args ...string) {
	p.t.Helper()
	stdout, stderr, got := p.run(args...)
	if got != code || !strings.Contains(stdout+stderr, text) {
		p.t.Errorf("%s: exit code %d, want %d with %q\n%s%s", strings.Join(args, " "), got, code, text, stdout, stderr)
	}
}

// daemon runs the agent.
func (p *program) daemon(env []string, args ...string) *child {
	p.t.Helper()
	c := &child{Cmd: exec.Command(p.path, append([]string{"run"}, args...)...), t: p.t, log: &lockedBuffer{}}
	c.Env = append(os.Environ(), env...)
	c.Stderr = c.log
	must(p.t, c.Start())
	p.t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	return c
}

// rss returns the resident memory of a process in bytes.
func rss(t testing.TB, pid int) int64 {
	t.Helper()
	for line := range strings.Lines(string(must1(os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")))) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return must1(strconv.ParseInt(strings.Fields(v)[0], 10, 64)) << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// TestProgram uses the program as people do.
func TestProgram(t *testing.T) {
	t.Parallel()
	p := buildProgram(t)
	s := newScripted(t)
	dir, root := filepath.Join(t.TempDir(), "state"), t.TempDir()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, s.ca.PEM(), 0o600))
	enrol := []string{
		"enroll", "--state-dir", dir, "--server", s.url(), "--ca", ca,
		"--activation-id", "A-1", "--activation-code", "secret", "--tag", "env=test",
	}

	p.want(0, "v9.8.7", "version")
	p.want(1, "not enrolled; run: waybill-agent enroll", "status", "--state-dir", dir)
	p.want(1, "not enrolled; run: waybill-agent enroll", "run", "--state-dir", dir)
	p.want(2, "--activation-code is required", "enroll", "--server", s.url(), "--activation-id", "A-1")
	p.want(0, "now start the agent: waybill-agent run --state-dir "+dir, enrol...)
	p.want(1, "enrolled already; to give it a new identity, add --force", enrol...)
	p.want(0, "not running; start it with: waybill-agent run --state-dir "+dir, "status", "--state-dir", dir)

	sock := filepath.Join(t.TempDir(), "notify")
	manager := must1(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: sock, Net: "unixgram"}))
	defer manager.Close()
	c := p.daemon([]string{"NOTIFY_SOCKET=" + sock, "WAYBILL_AGENT_ROOT=" + root}, "--state-dir", dir)
	ready := make([]byte, 64)
	must(t, manager.SetReadDeadline(time.Now().Add(patience)))
	if n := must1(manager.Read(ready)); string(ready[:n]) != "READY=1" {
		t.Errorf("the service manager is told %q", ready[:n])
	}
	st, err := ReadStatus(dir)
	must(t, err)
	await[wire.Pull](s, wire.OpPull, 1)
	p.want(0, "running, connected since", "status", "--state-dir", dir)
	if hello := await[wire.Hello](s, wire.OpHello, 1)[0]; hello.AgentVersion != "v9.8.7" {
		t.Errorf("hello %+v", hello)
	}
	s.send(st.Instance, s.deliverTo("f-1", "/dir", "x", "content"))
	if r := await[wire.Report](s, wire.OpReport, 1)[0]; r.Cause != "" {
		t.Errorf("report %+v", r)
	}
	if b, err := os.ReadFile(filepath.Join(root, "dir", "x")); string(b) != "content" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if n, official := rss(t, c.Process.Pid), int64(23<<20); n >= official {
		t.Errorf("the agent takes %d bytes of memory, the official one %d", n, official)
	}
	if info := must1(os.Stat(p.path)); info.Size() >= 36<<20/2 {
		t.Errorf("the program has %d bytes, more than half of the official one", info.Size())
	}
	must(t, c.Process.Signal(syscall.SIGTERM))
	if st := c.ends(); !st.Success() {
		t.Errorf("after SIGTERM: %v\n%s", st, c.log)
	}

	p.want(0, "has left", "leave", "--state-dir", dir)
	p.want(1, "not enrolled", "run", "--state-dir", dir)
}

// TestProgramUnwanted shows the exit code that keeps a service manager from starting the agent again.
func TestProgramUnwanted(t *testing.T) {
	t.Parallel()
	p := buildProgram(t)
	s := newScripted(t)
	s.life = func(int) (time.Time, time.Duration) { return time.Now().Add(-48 * time.Hour), time.Hour }
	dir, _ := s.enroll()
	s.set(func(s *scripted) {
		s.refuse = func(string) (int, waybill.Code) { return http.StatusGone, waybill.NotRegistered }
	})
	p.want(3, "waybill-agent enroll --force", "run", "--state-dir", dir)
}

// BenchmarkIdleProgram measures the resident memory of a connected agent with nothing to do.
func BenchmarkIdleProgram(b *testing.B) {
	p := buildProgram(b)
	s := newScripted(b)
	s.beat = minBeat
	dir, _ := s.enroll()
	c := p.daemon(nil, "--state-dir", dir)
	for b.Loop() {
		s.set(func(s *scripted) { s.messages = nil })
		await[wire.Beat](s, wire.OpBeat, 5)
		b.ReportMetric(float64(rss(b, c.Process.Pid))/(1<<20), "MB-RSS")
	}
	b.ReportMetric(float64(must1(os.Stat(p.path)).Size())/(1<<20), "MB-program")
}
