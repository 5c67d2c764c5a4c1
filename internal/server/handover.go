// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// readyWithin is how long a successor may take to look at its settings.
const readyWithin = 30 * time.Second

// HandOver starts a successor by cmd, which gets the listeners and, beside the variables that say so, cmd.Env or this
// process's environment. It returns nil when the successor has found its settings good and waits for the data
// directory: the caller then ends Run, calls Close and exits. After an error no successor is left, and s goes on.
func (s *Server) HandOver(ctx context.Context, cmd *exec.Cmd) error {
	if err := canBeSucceeded(); err != nil {
		return err
	}
	ready, err := s.start(cmd)
	if err != nil {
		return fmt.Errorf("start a successor: %w", err)
	}
	defer ready.Close()
	if err := awaitReady(ctx, ready); err != nil {
		_, _ = cmd.Process.Kill(), cmd.Wait() // it may have ended by itself: the state tells
		return fmt.Errorf("successor %d: %w: %s", cmd.Process.Pid, err, cmd.ProcessState)
	}
	close(s.succeeded)
	return nil
}

// canBeSucceeded fails where others take the end of this process for that of its children.
func canBeSucceeded() error {
	pid := os.Getpid()
	if pid == 1 {
		return errors.New("a container ends with its first process; restart the container")
	}
	if os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(pid) {
		return errors.New("systemd ends a service with its main process; use waybill.socket and systemctl restart")
	}
	return nil
}

// start starts cmd, and returns what it will write to when it is ready.
func (s *Server) start(cmd *exec.Cmd) (*os.File, error) {
	var names []string
	defer func() {
		for _, f := range cmd.ExtraFiles {
			_ = f.Close() // the successor has a copy
		}
	}()
	for _, front := range s.fronts {
		f, err := fileOf(front.socket)
		if err != nil {
			return nil, err
		}
		names = append(names, front.name)
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	ready, tell, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, tell)
	cmd.Env = append(cmd.Environ(), envFDs+"="+strconv.Itoa(len(names)), envNames+"="+strings.Join(names, ":"),
		envHandOver+"="+strconv.Itoa(firstFD+len(names)))
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, ready.Close())
	}
	return ready, nil
}

// awaitReady waits for the byte. It must not outlive ctx: a server that is told to stop leaves no successor.
func awaitReady(ctx context.Context, ready *os.File) error {
	if err := ready.SetReadDeadline(time.Now().Add(readyWithin)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })() // a pipe that took one takes another
	switch _, err := ready.Read(make([]byte, 1)); {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF):
		return errors.New("ended before it could take over")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("not ready within %s", readyWithin)
	default:
		return err
	}
}
