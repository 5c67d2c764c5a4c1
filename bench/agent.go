// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	agentFiles   = 1000
	largestFile  = 24 << 10 // bytes; 32 KiB as Base64, the most that the API takes by default
	agentSenders = 8
	idleFor      = 5 * time.Second
)

// agent measures the memory of the agent's program: idle, and while it receives a thousand of the largest files.
func (b *bench) agent(ctx context.Context) (err error) {
	s, err := b.openSite(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	machines, err := b.enrol(ctx, s, 1)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	m := machines[0]
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "waybill-agent"), "run",
		"--state-dir", m.state, "--root", m.root, "--log-level", "warn")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()) }()
	pid := cmd.Process.Pid
	if err := s.awaitOnline(ctx, 1); err != nil {
		return err
	}
	if err := pause(ctx, quiet); err != nil {
		return err
	}
	cpuBefore, err1 := cpuTime(pid)
	waited := pause(ctx, idleFor)
	cpuAfter, err2 := cpuTime(pid)
	idle, err3 := residentBytes(pid)
	if err := errors.Join(waited, err1, err2, err3); err != nil {
		return err
	}
	b.report.budgeted("agent/idle", mb(idle), "MB", 12)
	b.report.add("agent/idle/cpu", 100*float64(cpuAfter-cpuBefore)/float64(idleFor), "%")

	took, err := b.timed("agent", func() error { return s.sendMany(ctx, m) })
	if err != nil {
		return err
	}
	peak, err1 := peakBytes(pid)
	waited = pause(ctx, idleFor)
	after, err2 := residentBytes(pid)
	if err := errors.Join(err1, waited, err2); err != nil {
		return err
	}
	b.report.add("agent/receiving/rate", agentFiles/took.Seconds(), "1/s")
	b.report.add("agent/receiving/peak", mb(peak), "MB")
	b.report.add("agent/receiving/peak-growth", mb(peak-idle), "MB")
	b.report.add("agent/afterwards/growth", mb(after-idle), "MB")
	return nil
}

func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// sendMany sends a thousand large files to one machine and returns once it has all.
func (s *site) sendMany(ctx context.Context, m machine) error {
	content := make([]byte, largestFile)
	rand.Read(content)
	eg, sending := errgroup.WithContext(ctx)
	eg.SetLimit(agentSenders)
	for i := range agentFiles {
		eg.Go(func() error {
			_, err := s.client.SendFile(sending, file("bench-"+strconv.Itoa(i), content, m))
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	return s.await(ctx, agentFiles, `SELECT COUNT(*) FROM targets WHERE status = 'Success'`)
}
