// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill/internal/sim"
	"github.com/openwaybill/waybill/internal/term"
)

func newSimCmd(e env) *cobra.Command {
	var (
		o    simOptions
		seed uint64
	)
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "break a fleet of simulated machines in every way, and look whether anything is lost",
		Long: `Sim starts a server and processes full of real agents on this machine, sends files to them, and breaks what there is
to break: messages are lost, doubled, late and overtaken, connections are cut and stall, disks are slow and full,
processes kill themselves at each step of placing a file, the server is killed, its clock jumps, machines are cloned and
deregistered. Then it looks at every delivery and every file, and says of each invariant on how many cases it was tried.

It prints its seed; with the same one the same storm comes over the same fleet. Everything is below one directory, which is
removed if every invariant held, and kept otherwise.

Exit code 1: an invariant was broken, or the simulation itself failed.`,
		Example: `  waybill sim
  waybill sim --machines 200 --processes 20 --deliveries 10000 --kills 500
  waybill sim --machines 10000 --processes 1 --kills 0      # needs 15,500 open files`,
		Args: usageArgs(cobra.NoArgs),
	}
	o.Config, o.output = sim.DefaultConfig(), term.FormatTable
	flags := cmd.Flags()
	flags.Uint64Var(&seed, "seed", 0, "`NUMBER` that decides what is sent and what breaks (default: another each time)")
	flags.IntVar(&o.Machines, "machines", o.Machines, "how many machines")
	flags.IntVar(&o.Processes, "processes", o.Processes, "how many processes they are spread over; the machines of one are killed together")
	flags.IntVar(&o.Deliveries, "deliveries", o.Deliveries, "how many files are sent, each to a few machines")
	flags.IntVar(&o.Kills, "kills", o.Kills, "how many processes are killed")
	flags.DurationVar(&o.Duration, "duration", 0, "how long the storm lasts (default: as its kills and deliveries need)")
	flags.DurationVar(&o.MaxTimeout, "max-timeout", o.MaxTimeout, "longest timeout of a delivery")
	flags.StringVar(&o.Dir, "dir", "", "`DIR` for everything, which must not be there yet (default: a temporary one)")
	flags.BoolVar(&o.keep, "keep", false, "keep the directory in any case")
	flags.BoolVar(&o.child, "child", false, "be a process of a simulation")
	_ = flags.MarkHidden("child") // it is there
	flags.VarP(&o.output, "output", "o", "how to write the report")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		if o.child {
			if code := sim.Child(); code != 0 {
				return &exitError{code, errors.New("the process of the simulation ended with an error")}
			}
			return nil
		}
		if !flags.Changed("processes") {
			o.Processes = min(o.Processes, o.Machines)
		}
		o.Seed = seed
		if !flags.Changed("seed") {
			o.Seed = rand.Uint64N(1e9) // short enough to be typed
		}
		return o.run(ctx, e)
	})
	return cmd
}

type simOptions struct {
	sim.Config
	clientFlags // of which only the output is used
	keep, child bool
}

func (o *simOptions) run(ctx context.Context, e env) (err error) {
	if err := o.Validate(); err != nil {
		return &exitError{exitUsage, err}
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	o.Child = func() *exec.Cmd { return exec.Command(exe, "sim", "--child") }
	o.Progress = e.err
	all := o.Dir // what is removed in the end
	if o.Dir == "" {
		if all, err = os.MkdirTemp("", "waybill-sim-"); err != nil {
			return err
		}
		o.Dir = filepath.Join(all, "sim")
	} else if _, err := os.Lstat(o.Dir); err == nil {
		return usagef("--dir %s is there already; name a directory that is not", o.Dir)
	}
	report, err := sim.Run(ctx, o.Config)
	if ctx.Err() != nil && !o.keep { // whoever interrupts it has seen enough
		return errors.Join(err, os.RemoveAll(all))
	}
	if err != nil {
		return fmt.Errorf("the simulation failed; what it left is in %s: %w", o.Dir, err)
	}
	if err := o.write(e, report, func() io.WriterTo { return report }); err != nil {
		return err
	}
	if !report.Held() {
		return fmt.Errorf("an invariant was broken or not tried; repeat it with --seed %d; logs, database and files are in %s", o.Seed, o.Dir)
	}
	if o.keep {
		fmt.Fprintln(e.err, "everything is in", o.Dir)
		return nil
	}
	return os.RemoveAll(all)
}
