// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/server"
)

const (
	agentFiles   = 1000
	largestFile  = 24 << 10 // bytes; 32 KiB as Base64, the most that the API takes by default
	agentSenders = 8
	idleFor      = 5 * time.Second

	// Much more than the agent is large arrives, in files near the most that a message carries; larger ones are fetched.
	floodFile    = 384 << 10 // bytes; 512 KiB as Base64
	floodAtOnce  = 50        // files
	floodVariety = 7         // contents; the server stores each once
	floodParts   = 10        // of the whole; memory in the last is compared with memory in the first
)

// agent measures the memory of the agent's program: idle, while it receives a thousand of the largest files that the API
// takes by default, and while it receives a
// multiple of its own size.
func (b *bench) agent(ctx context.Context) (err error) {
	s, err := b.openSite(ctx, func(c *server.Config) {
		c.Control.Limits.ContentBytes = base64.StdEncoding.EncodedLen(floodFile)
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	f, err := b.enrol(ctx, s, 1)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	m := machineIn(f.dir, 0)
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

	took, err := b.timed("agent", func() error { return s.sendMany(ctx, agentFiles, agentFiles, largestFile, f.ids[0]) })
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
	if b.received == 0 {
		return nil
	}
	return b.flood(ctx, s, f.ids[0], pid, idle)
}

func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// flood sends a multiple of the agent's size, and compares its peaks in the first part of that time and in the last.
func (b *bench) flood(ctx context.Context, s *site, to waybill.InstanceID, pid int, size int64) error {
	total := int64(b.received) * size
	n := int(total/floodFile/floodParts) + 1 // files of a part
	var took time.Duration
	var peaks []int64
	for range floodParts {
		if err := resetPeak(pid); err != nil {
			return err
		}
		d, err := b.timed("agent-flood", func() error { return s.sendMany(ctx, n, floodAtOnce, floodFile, to) })
		if err != nil {
			return err
		}
		peak, err := peakBytes(pid)
		if err != nil {
			return err
		}
		took, peaks = took+d, append(peaks, peak)
	}
	name := fmt.Sprintf("agent/receiving-%dx", b.received)
	b.report.add(name+"/total", mb(total), "MB")
	b.report.add(name+"/rate", float64(floodParts*n)/took.Seconds(), "1/s")
	b.report.add(name+"/peak", mb(slices.Max(peaks)), "MB")
	b.report.budgeted(name+"/last-to-first", float64(peaks[floodParts-1])/float64(peaks[0]), "x", flat)
	return nil
}

// sendMany sends n files to one machine and returns once it has them all. It sends a number of them at once, waits until
// they have arrived, and replaces them by the next.
func (s *site) sendMany(ctx context.Context, n, atOnce, size int, to waybill.InstanceID) error {
	contents := make([][]byte, floodVariety)
	for i := range contents {
		contents[i] = make([]byte, size)
		rand.Read(contents[i])
	}
	for sent := 0; sent < n; sent += atOnce {
		eg, sending := errgroup.WithContext(ctx)
		eg.SetLimit(agentSenders)
		for i := range min(atOnce, n-sent) {
			eg.Go(func() error {
				_, err := s.client.SendFile(sending, file("bench-"+strconv.Itoa(i), contents[(sent+i)%floodVariety], to))
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			return err
		}
		if err := s.await(ctx, 0, `SELECT COUNT(*) FROM targets WHERE finished = 0`); err != nil {
			return err
		}
	}
	var failed int
	err := s.watch.QueryRowContext(ctx, `SELECT COUNT(*) FROM deliveries WHERE success < targets`).Scan(&failed)
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d files did not arrive", failed)
	}
	return err
}
