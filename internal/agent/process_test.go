// SPDX-License-Identifier: Apache-2.0

//go:build unix

package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

// The test program is the agent when these say where it lives, and kills itself when it comes to killAt.
const (
	childState = "WAYBILL_TEST_AGENT_STATE"
	childRoot  = "WAYBILL_TEST_AGENT_ROOT"
	childKill  = "WAYBILL_TEST_AGENT_KILL"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childState); dir != "" {
		os.Exit(beAgent(dir, os.Getenv(childRoot), os.Getenv(childKill)))
	}
	os.Exit(m.Run())
}

// beAgent is the agent's program, but for its command line.
func beAgent(dir, root, killAt string) int {
	why := LeaveReason()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	a, err := New(Config{
		StateDir: dir, Root: root, Backoff: quick, Why: why,
		Hooks: Hooks{Trace: func(event, _ string) {
			if event == killAt {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // the signal is on its way
			}
		}},
	}, debugLog(os.Stderr))
	if err == nil {
		err = a.Run(ctx)
	}
	if err != nil {
		io.WriteString(os.Stderr, err.Error()+"\n")
		return 1
	}
	return 0
}

// child is an agent in a process of its own.
type child struct {
	*exec.Cmd
	t   testing.TB
	log *lockedBuffer
}

func startChild(t *testing.T, program, state, root, killAt string, change ...func(*exec.Cmd)) *child {
	t.Helper()
	c := &child{Cmd: exec.Command(program), t: t, log: &lockedBuffer{}}
	c.Env = append(os.Environ(), childState+"="+state, childRoot+"="+root, childKill+"="+killAt)
	c.Stderr = c.log
	for _, f := range change {
		f(c.Cmd)
	}
	must(t, c.Start())
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if t.Failed() {
			t.Logf("the agent said:\n%s", c.log)
		}
	})
	return c
}

// ends waits for the process and returns how it ended.
func (c *child) ends() *os.ProcessState {
	c.t.Helper()
	timer := time.AfterFunc(patience, func() { c.Process.Kill() })
	defer timer.Stop()
	var exit *exec.ExitError
	if err := c.Wait(); err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return c.ProcessState
}

// TestKilled kills the agent at each point of a delivery's life and starts it again: the file is whole, and the server
// hears one and the same outcome.
func TestKilled(t *testing.T) {
	t.Parallel()
	program := must1(os.Executable())
	points := []string{TraceAccepted, TraceAcked, TraceTaken, TraceFinished, TraceReport}
	for _, s := range []place.Step{
		place.StepValidate, place.StepCreate, place.StepWrite, place.StepChown, place.StepChmod, place.StepSync,
		place.StepPublish, place.StepUnlink, place.StepSyncDir, place.StepVerify,
	} {
		points = append(points, string(s))
	}
	for _, overwrite := range []bool{true, false} {
		for _, point := range points {
			if point == string(place.StepUnlink) && overwrite {
				continue // there is no such step
			}
			name := strings.ReplaceAll(point, " ", "-")
			if overwrite {
				name += "-overwriting"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				testKilled(t, program, point, overwrite)
			})
		}
	}
}

func testKilled(t *testing.T, program, point string, overwrite bool) {
	s := newScripted(t)
	dir, _ := s.enroll()
	root := t.TempDir()
	path := filepath.Join(root, "dir", "x")
	content := strings.Repeat("new content\n", 1000)
	d := s.deliverTo("f-1", "/dir", "x", content)
	d.Overwrite = overwrite
	if overwrite {
		must(t, os.Mkdir(filepath.Join(root, "dir"), 0o755))
		must(t, os.WriteFile(path, []byte("old content"), 0o600))
	}
	s.hold(d)

	first := startChild(t, program, dir, root, point)
	if st := first.ends(); st.Success() || st.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the agent ended with %v:\n%s", st, first.log)
	}
	switch got, err := os.ReadFile(path); {
	case overwrite && string(got) == "old content", !overwrite && errors.Is(err, os.ErrNotExist), string(got) == content:
	default:
		t.Errorf("after the kill, the file holds %d bytes, %v", len(got), err)
	}

	second := startChild(t, program, dir, root, "never")
	rs := await[wire.Report](s, wire.OpReport, 1)
	must(t, second.Process.Signal(syscall.SIGTERM))
	if st := second.ends(); !st.Success() {
		t.Errorf("the second agent ended with %v", st)
	}
	rs = await[wire.Report](s, wire.OpReport, len(rs))
	sum := sha256.Sum256([]byte(content))
	for _, r := range rs {
		if r.Delivery != "f-1" || r.Cause != "" || !slices.Equal(r.SHA256, sum[:]) || r.Finished != rs[0].Finished {
			t.Errorf("report %+v", r)
		}
	}
	if got, err := os.ReadFile(path); string(got) != content {
		t.Errorf("the file holds %d bytes, %v", len(got), err)
	}
	if left := must1(os.ReadDir(filepath.Dir(path))); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if j := openTestJournal(t, dir); len(j.unfinished()) != 0 {
		t.Errorf("the journal still holds %v", j.unfinished())
	}
}

// TestKilledAlways has a delivery that kills the agent each time: it ends after three attempts.
func TestKilledAlways(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	dir, _ := s.enroll()
	root := t.TempDir()
	program := must1(os.Executable())
	s.hold(s.deliverTo("f-1", "/", "x", "content"))
	for range maxStarts {
		if st := startChild(t, program, dir, root, string(place.StepWrite)).ends(); st.Success() {
			t.Fatal("the agent survived")
		}
	}
	c := startChild(t, program, dir, root, string(place.StepWrite))
	r := await[wire.Report](s, wire.OpReport, 1)[0]
	if r.Cause != "agent-broke" || r.Detail != "the agent ended 3 times while working on it" {
		t.Errorf("report %+v", r)
	}
	must(t, c.Process.Signal(syscall.SIGTERM))
	if st := c.ends(); !st.Success() {
		t.Errorf("the agent ended with %v", st)
	}
	if left := must1(os.ReadDir(root)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestByeReason(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(t *testing.T, program string) // what happens to the program while it runs
		want   wire.ByeReason
	}{
		"stopped": {func(*testing.T, string) {}, wire.ByeStopped},
		"removed": {func(t *testing.T, program string) { must(t, os.Remove(program)) }, wire.ByeUpgrading},
		"replaced": {func(t *testing.T, program string) {
			must(t, os.WriteFile(program+".new", []byte("a newer one"), 0o755))
			must(t, os.Rename(program+".new", program))
		}, wire.ByeUpgrading},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t)
			dir, _ := s.enroll()
			child := startChild(t, copyOfProgram(t), dir, t.TempDir(), "never")
			await[wire.Pull](s, wire.OpPull, 1)
			c.before(t, child.Path)
			must(t, child.Process.Signal(syscall.SIGTERM))
			if st := child.ends(); !st.Success() {
				t.Errorf("the agent ended with %v", st)
			}
			if bye := await[wire.Bye](s, wire.OpBye, 1)[0]; bye.Reason != c.want {
				t.Errorf("reason %q, want %q", bye.Reason, c.want)
			}
		})
	}
}

// copyOfProgram returns another file with the test program in it.
func copyOfProgram(t *testing.T) string {
	t.Helper()
	b := must1(os.ReadFile(must1(os.Executable())))
	path := filepath.Join(t.TempDir(), "agent")
	// What another test starts meanwhile would hold it open for writing, and then it cannot be run (go.dev/issue/22315).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	must(t, os.WriteFile(path, b, 0o755))
	return path
}
