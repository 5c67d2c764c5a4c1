// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime/debug"

	"github.com/openwaybill/waybill/internal/server"
)

// childArg, a role and a directory make this program a server for another run of it. The two talk through the child's
// standard streams, one line for each thing said: the child says where it listens; "trim" makes it give back the memory
// that it does not use, which it answers; the end of its input ends it, so that it never outlives its parent.
const (
	childArg = "child"

	roleServer = "server" // a whole Waybill
	roleNATS   = "nats"   // NATS and TLS, nothing else
)

func runChild(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("a child needs a role and a directory")
	}
	switch role, dir := args[0], args[1]; role {
	case roleServer:
		srv, err := server.Open(ctx, serverConfig(dir), slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		ctx, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- srv.Run(ctx) }()
		err = obey(in, out, srv.Addr("agents"))
		stop()
		return errors.Join(err, <-ended, srv.Close())
	case roleNATS:
		srv, _, err := startBareNATS(dir)
		if err != nil {
			return err
		}
		defer srv.Shutdown()
		return obey(in, out, srv.Addr().String())
	default:
		return fmt.Errorf("no child plays %q", role)
	}
}

// obey says where the child listens, and does what it is told until there is nothing more to hear.
func obey(in io.Reader, out io.Writer, address string) error {
	if _, err := fmt.Fprintln(out, address); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		debug.FreeOSMemory()
		if _, err := fmt.Fprintln(out, "trimmed"); err != nil {
			return err
		}
	}
	return lines.Err()
}

// child is a server in a process of its own.
type child struct {
	*exec.Cmd
	address string
	in      io.WriteCloser
	out     *bufio.Scanner
}

func (b *bench) startChild(ctx context.Context, role, dir string) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{Cmd: exec.CommandContext(ctx, program, childArg, role, dir)}
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewScanner(out)
	if c.in, err = c.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	if c.address, err = c.hear(); err != nil {
		return nil, errors.Join(err, c.end())
	}
	return c, nil
}

func (c *child) hear() (string, error) {
	if !c.out.Scan() {
		return "", errors.Join(errors.New("the child says nothing"), c.out.Err())
	}
	return c.out.Text(), nil
}

// memory returns what the child holds once it has given back all it can.
func (c *child) memory() (bytes int64, err error) {
	if _, err := io.WriteString(c.in, "trim\n"); err != nil {
		return 0, err
	}
	if _, err := c.hear(); err != nil {
		return 0, err
	}
	return residentBytes(c.Process.Pid)
}

func (c *child) end() error { return errors.Join(c.in.Close(), c.Wait()) }
