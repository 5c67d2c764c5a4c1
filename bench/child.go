// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/pprof"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/server"
)

// childArg, a role and a part make this program one side of what another run of it measures, in a process of its own: so
// its memory is its own, and large fleets stay below the limit of open files that a process has. The two talk through
// the child's standard streams, one line for each thing said. The child says where it listens, or only that it is there;
// then it answers each order once it is carried out. The end of its input ends it, so that it never outlives its parent.
const (
	childArg = "child"

	roleServer  = "server"  // a whole Waybill
	roleNATS    = "nats"    // NATS and TLS, and an operator
	roleAgents  = "agents"  // some of the machines, each with an agent
	roleClients = "clients" // some of the machines, each with a bare client
	roleIdle    = "idle"    // the same with tokens, and nothing to do

	orderTrim    = "trim"    // give back the memory that is not used
	orderProfile = "profile" // with a file: write a CPU profile to it; without: end the profile

	done = "done"
)

// part is what a child is to be, besides its role.
type part struct {
	Dir      string `json:"dir"` // its data, or the machines'
	First    int    `json:"first,omitempty"`
	Count    int    `json:"count,omitempty"`    // of machines, from First
	Address  string `json:"address,omitempty"`  // of the bare server
	CA       string `json:"ca,omitempty"`       // its certificate authority's file
	Operator []byte `json:"operator,omitempty"` // whose users the bare server trusts, as identity.Operator.Marshal writes it
	Verbose  bool   `json:"verbose,omitempty"`
}

func runChild(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) error {
	if len(args) != 2 {
		return errors.New("a child needs a role and a part")
	}
	var p part
	if err := json.Unmarshal([]byte(args[1]), &p); err != nil {
		return fmt.Errorf("the part of a child: %w", err)
	}
	log := newLog(errs, p.Verbose)
	switch role := args[0]; role {
	case roleServer:
		srv, err := server.Open(ctx, serverConfig(p.Dir), log)
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
		op, err := identity.ParseOperator(p.Operator)
		if err != nil {
			return err
		}
		srv, err := startBareNATS(p.Dir, op)
		if err != nil {
			return err
		}
		defer srv.Shutdown()
		return obey(in, out, srv.Addr().String())
	case roleAgents:
		stop, err := runAgents(ctx, p.machines(), log)
		if err != nil {
			return err
		}
		defer stop()
		return obey(in, out, done)
	case roleClients:
		pool, err := poolOf(p.CA)
		if err != nil {
			return err
		}
		machines := make([]*bareMachine, p.Count)
		for i, m := range p.machines() {
			if machines[i], err = newBareMachine(p.First+i, m); err != nil {
				return err
			}
		}
		conns, err := connectBare(ctx, p.Address, clientTLS(pool), p.First, p.Count, func(i int, c *nats.Conn, m *nats.Msg) {
			machines[i].receive(c, m)
		})
		if err != nil {
			return err
		}
		defer closeAll(conns)
		return obey(in, out, done)
	case roleIdle:
		pool, err1 := poolOf(p.CA)
		op, err2 := identity.ParseOperator(p.Operator)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		conns, err := connectIdle(ctx, p.Address, clientTLS(pool), op, p.First, p.Count)
		if err != nil {
			return err
		}
		defer closeAll(conns)
		return obey(in, out, done)
	default:
		return fmt.Errorf("no child plays %q", role)
	}
}

// machines are those that the child plays.
func (p *part) machines() []machine {
	list := make([]machine, p.Count)
	for i := range list {
		list[i] = machineIn(p.Dir, p.First+i)
	}
	return list
}

// obey says what there is to say first, and does what it is told until there is nothing more to hear.
func obey(in io.Reader, out io.Writer, first string) error {
	if _, err := fmt.Fprintln(out, first); err != nil {
		return err
	}
	defer pprof.StopCPUProfile() // if there is one
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		switch order, file, _ := strings.Cut(lines.Text(), " "); order {
		case orderTrim:
			debug.FreeOSMemory()
		case orderProfile:
			if err := profile(file); err != nil {
				return err
			}
		default:
			return fmt.Errorf("no child knows how to %q", order)
		}
		if _, err := fmt.Fprintln(out, done); err != nil {
			return err
		}
	}
	return lines.Err()
}

// profile begins a CPU profile, or ends the one that there is if file is empty.
func profile(file string) error {
	if file == "" {
		pprof.StopCPUProfile()
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil { // f is closed with the process: a profile is a rare thing
		return fmt.Errorf("profile: %w", errors.Join(err, f.Close()))
	}
	return nil
}

// child is another run of this program.
type child struct {
	*exec.Cmd
	role    string
	address string
	in      io.WriteCloser
	out     *bufio.Scanner
	forget  func()
}

func (b *bench) startChild(ctx context.Context, role string, p part) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p.Verbose = b.verbose
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	c := &child{Cmd: exec.CommandContext(ctx, program, childArg, role, string(text)), role: role}
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
	b.children[c] = true
	c.forget = func() { delete(b.children, c) }
	if c.address, err = c.hear(); err != nil {
		return nil, fmt.Errorf("%s: %w", role, errors.Join(err, c.end()))
	}
	return c, nil
}

// machinesOfChild bounds how many machines share a process. An agent takes four files, a bare client one.
const machinesOfChild = 2000

// startMachines starts as many children as n machines need.
func (b *bench) startMachines(ctx context.Context, role string, p part, n int) (stop func() error, err error) {
	var list []*child
	stop = func() error {
		var errs []error
		for _, c := range list {
			errs = append(errs, c.in.Close()) // all of them, so that they end at the same time
		}
		for _, c := range list {
			errs = append(errs, c.end())
		}
		return errors.Join(errs...)
	}
	for ; p.First < n; p.First += machinesOfChild {
		p.Count = min(machinesOfChild, n-p.First)
		c, err := b.startChild(ctx, role, p)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		list = append(list, c)
	}
	return stop, nil
}

func (c *child) hear() (string, error) {
	if !c.out.Scan() {
		return "", errors.Join(errors.New("the child says nothing"), c.out.Err())
	}
	return c.out.Text(), nil
}

// tell returns once the child has done what it is told.
func (c *child) tell(order ...string) error {
	if _, err := fmt.Fprintln(c.in, strings.Join(order, " ")); err != nil {
		return err
	}
	_, err := c.hear()
	return err
}

// memory returns what the child holds once it has given back all it can.
func (c *child) memory() (bytes int64, err error) {
	if err := c.tell(orderTrim); err != nil {
		return 0, err
	}
	return residentBytes(c.Process.Pid)
}

// end may follow a close of c.in.
func (c *child) end() error {
	c.forget()
	_ = c.in.Close() // whether it ends well is what Wait says
	return c.Wait()
}
