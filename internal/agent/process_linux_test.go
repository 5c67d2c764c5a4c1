// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/openwaybill/waybill/internal/wire"
)

// TestByeReasonOfInit has the agent as PID 1 of its own PID namespace, as it is in most containers: its end is the
// machine's.
func TestByeReasonOfInit(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("a PID namespace needs root")
	}
	s := newScripted(t)
	dir, _ := s.enroll()
	child := startChild(t, must1(os.Executable()), dir, t.TempDir(), "never", func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	})
	await[wire.Pull](s, wire.OpPull, 1)
	must(t, child.Process.Signal(syscall.SIGTERM))
	if st := child.ends(); !st.Success() {
		t.Errorf("the agent ended with %v", st)
	}
	if bye := await[wire.Bye](s, wire.OpBye, 1)[0]; bye.Reason != wire.ByeShutDown {
		t.Errorf("reason %q, want %q", bye.Reason, wire.ByeShutDown)
	}
}
