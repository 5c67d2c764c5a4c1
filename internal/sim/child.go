// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openwaybill/waybill/internal/server"
)

// command is what a child is told, a line of JSON on its standard input. The end of the input ends it in good order.
type command struct {
	Server   *serverRole   `json:",omitempty"` // first: what it is
	Machines *machinesRole `json:",omitempty"` // or this

	Cut   int           `json:",omitempty"` // a machine's number plus 1: its connections are cut …
	Split int           `json:",omitempty"` // … or stall for For
	For   time.Duration `json:",omitempty"`
	Run   *machine      `json:",omitempty"` // one more machine
	Die   *string       `json:",omitempty"` // kill yourself at this point
	Calm  bool          `json:",omitempty"` // let messages and disks alone
	Clock time.Duration `json:",omitempty"` // the server's clock is set forward by this in all
}

// notice is what a child says, a line of JSON on its standard output.
type notice struct {
	Addresses map[string]string `json:",omitempty"` // of a server that listens
	Key       *server.Credentials
	Counts    counts `json:",omitempty"` // since it began
}

// counts is how often things happened, by what.
type counts map[string]int64

func (c counts) add(other counts) {
	for what, n := range other {
		c[what] += n
	}
}

// serverRole makes a child the server.
type serverRole struct {
	DataDir   string
	Addresses map[string]string // of the one before; empty: any free ones
	Ahead     time.Duration     // by how much its clock is set forward

	Database, SealKey, NATS, NATSCreds string // empty: its own
}

// Child is the main function of a process of a simulation, as Config.Child starts it. It returns the exit code.
func Child() int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	in := bufio.NewReader(os.Stdin)
	first, err := readCommand(in)
	if err != nil {
		log.Error("this is for processes of a simulation; run: waybill sim", "err", err)
		return 2
	}
	c := &child{out: json.NewEncoder(os.Stdout), log: log}
	switch {
	case first.Server != nil:
		err = c.serve(in, first.Server)
	case first.Machines != nil:
		err = c.host(in, first.Machines)
	default:
		err = errors.New("the first command names no role")
	}
	if err != nil {
		log.Error("ended", "err", err)
		return 1
	}
	return 0
}

type child struct {
	log *slog.Logger

	mu  sync.Mutex
	out *json.Encoder
}

func (c *child) say(n notice) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.out.Encode(n) // whoever listened is gone, and so will this process be
}

// readCommand reads the next command; io.EOF at the end.
func readCommand(in *bufio.Reader) (command, error) {
	var c command
	line, err := in.ReadBytes('\n')
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(line, &c)
}

// obey hands the commands to do until the input ends.
func obey(in *bufio.Reader, do func(command)) error {
	for {
		c, err := readCommand(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read command: %w", err)
		}
		do(c)
	}
}

// serve is a server until the input ends.
func (c *child) serve(in *bufio.Reader, role *serverRole) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cfg := server.DefaultConfig()
	cfg.DataDir = role.DataDir
	cfg.Listen, cfg.AgentListen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0", ""
	if len(role.Addresses) > 0 {
		cfg.Listen, cfg.AgentListen = role.Addresses["https"], role.Addresses["agents"]
	}
	cfg.Database, cfg.SealKey, cfg.NATSURL, cfg.NATSCreds = role.Database, role.SealKey, role.NATS, role.NATSCreds
	cfg.AccountRate, cfg.ActionRate, cfg.PerAddress = 0, 0, 0 // it is all one address, and in a hurry
	var ahead atomic.Int64
	ahead.Store(int64(role.Ahead))
	cfg.Control.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	cfg.Control.Activations.PerRegion = 5000
	s, err := server.Open(ctx, cfg, c.log)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	c.say(notice{Key: s.First(), Addresses: map[string]string{"https": s.Addr("https"), "agents": s.Addr("agents")}})
	told := make(chan error, 1)
	go func() {
		told <- obey(in, func(cmd command) { ahead.Store(int64(cmd.Clock)) })
	}()
	select {
	case err = <-ended:
		return errors.Join(err, s.Close())
	case err = <-told:
	}
	cancel()
	return errors.Join(err, <-ended, s.Close())
}
