// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/openwaybill/waybill/internal/wire"
)

// askSystemd is how long systemd may take to say what it is doing.
const askSystemd = time.Second

// LeaveReason looks at the running program and returns a function that tells, later, why the process is made to end:
//
//   - the machine is going down: systemd says so, or the process is PID 1, whose end is that of its container;
//   - the agent is being replaced: its executable is not any more the file that it was when LeaveReason was called;
//   - otherwise it was stopped.
//
// A machine without systemd that goes down looks like an agent that was stopped. So does a container in which another
// program is PID 1.
func LeaveReason() func(context.Context) wire.ByeReason {
	replaced := watchExecutable()
	return func(ctx context.Context) wire.ByeReason {
		switch {
		case os.Getpid() == 1 || systemdStopping(ctx):
			return wire.ByeShutDown
		case replaced():
			return wire.ByeUpgrading
		}
		return wire.ByeStopped
	}
}

// watchExecutable returns a function that reports whether the executable was replaced or removed meanwhile.
func watchExecutable() func() bool {
	path, err := os.Executable()
	if err != nil {
		return func() bool { return false }
	}
	before, err := os.Stat(path)
	if err != nil {
		return func() bool { return false }
	}
	return func() bool {
		after, err := os.Stat(path)
		return err != nil || !os.SameFile(before, after)
	}
}

// systemdStopping reports whether systemd, if it runs this machine, is stopping it.
func systemdStopping(ctx context.Context) bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil { // see sd_booted(3)
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, askSystemd)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output() // its exit code repeats the word
	return strings.TrimSpace(string(out)) == "stopping"
}
