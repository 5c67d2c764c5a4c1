// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// residentBytes returns the resident memory of a process.
func residentBytes(pid int) (int64, error) { return status(pid, "VmRSS") }

// peakBytes returns the most resident memory that a process has had.
func peakBytes(pid int) (int64, error) { return status(pid, "VmHWM") }

// resetPeak makes a process' present memory its peak, proc(5).
func resetPeak(pid int) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		return fmt.Errorf("reset the peak of memory: %w", err)
	}
	return nil
}

// status reads a size from /proc/PID/status, proc(5).
func status(pid int, field string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, field)
}

// clockTick is the unit of CPU times in /proc; Linux has the same on every system that Go runs on.
const clockTick = 10 * time.Millisecond

// cpuTime returns how long a process has run on a CPU.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The program's name, the second field, may hold anything but ends with the last parenthesis.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	const user, system = 11, 12 // after the name
	if len(fields) <= system {
		return 0, errors.New("no CPU time in /proc/PID/stat")
	}
	u, err1 := strconv.ParseInt(fields[user], 10, 64)
	s, err2 := strconv.ParseInt(fields[system], 10, 64)
	return time.Duration(u+s) * clockTick, errors.Join(err1, err2)
}

// machine reports what the other numbers depend on: the CPUs, and how long the disk takes for a small durable file.
func (b *bench) machine() error {
	b.report.add("machine/cpus", float64(runtime.NumCPU()), "count")
	dir, err := b.scratch("disk")
	if err != nil {
		return err
	}
	var took samples
	for i := range 50 {
		start := time.Now()
		if err := writeDurably(dir, strconv.Itoa(i), make([]byte, contentBytes)); err != nil {
			return fmt.Errorf("write to %s: %w", filepath.Dir(dir), err)
		}
		took = append(took, time.Since(start))
	}
	b.report.add("machine/durable-file", ms(took.median()), "ms")
	return nil
}
