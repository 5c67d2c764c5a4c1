// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const starts = 7

// start measures the time from the start of the server's program, on an empty directory, to its first answer.
func (b *bench) start(ctx context.Context) error {
	var took samples
	for range starts {
		d, err := b.startOnce(ctx)
		if err != nil {
			return err
		}
		took = append(took, d)
	}
	b.report.budgeted("start/first-answer", ms(took.median()), "ms", 300)
	return nil
}

func (b *bench) startOnce(ctx context.Context) (took time.Duration, err error) {
	dir, err := b.scratch("start")
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "waybill"), "server", "--data-dir", dir,
		"--listen", "127.0.0.1:0", "--agent-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-level", "error")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(out)
	defer func() {
		err = errors.Join(err, cmd.Process.Signal(syscall.SIGTERM))
		for lines.Scan() { // a pipe that is full would keep the server from ending
		}
		err = errors.Join(err, cmd.Wait())
	}()
	// It listens by the time it prints where, and the credentials are written by then.
	for !strings.Contains(lines.Text(), "WAYBILL_ENDPOINT=") {
		if !lines.Scan() {
			return 0, errors.New("the server does not say where it listens")
		}
	}
	key, err := readKey(dir)
	if err != nil {
		return 0, err
	}
	caller, err := newCaller(&key)
	if err != nil {
		return 0, err
	}
	if err := caller.Call(ctx, "DescribeRegions", url.Values{}, nil); err != nil {
		return 0, fmt.Errorf("first call: %w", err)
	}
	return time.Since(begin), nil
}
