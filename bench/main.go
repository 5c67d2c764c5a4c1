// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command bench measures what docs/performance.md budgets, on this machine: real TLS connections, real agents, a real database,
// real syncs. A ratio compares with a floor, the same work without Waybill, measured in the same process and run, turn
// by turn. docs/performance.md says what each row means.
//
// It prints lines of the form "name value unit". A budget that is missed is a number, not an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	only    string
	agents  counts
	history int
	json    string
	dir     string
	bin     string
	profile string
	limit   time.Duration
	verbose bool
}

func (o *options) addFlags(f *flag.FlagSet) {
	f.StringVar(&o.only, "only", "", "measure only what matches this `REGEXP`: "+strings.Join(names(), ", "))
	f.Var(&o.agents, "agents", "`LIST` of fleet sizes for delivery; the largest is the one for memory")
	f.IntVar(&o.history, "history", 0, "`NUMBER` of deliveries at which describe is measured once more, such as 1000000")
	f.StringVar(&o.json, "json", filepath.Join("bench", "results.json"), "`FILE` for the results; empty: none")
	f.StringVar(&o.dir, "dir", "", "`DIR` for data, on the disk to measure (default: the system's temporary one)")
	f.StringVar(&o.bin, "bin", "bin", "`DIR` of the programs waybill and waybill-agent")
	f.StringVar(&o.profile, "cpuprofile", "", "`DIR` for a CPU profile of each timed part")
	f.DurationVar(&o.limit, "limit", 5*time.Minute, "how long the whole may take")
	f.BoolVar(&o.verbose, "v", false, "show the warnings of servers and agents")
}

// counts is a flag: positive numbers, separated by commas.
type counts []int

func (c *counts) String() string {
	s := make([]string, len(*c))
	for i, n := range *c {
		s[i] = strconv.Itoa(n)
	}
	return strings.Join(s, ",")
}

func (c *counts) Set(text string) error {
	var list counts
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is not a number of agents", field)
		}
		list = append(list, n)
	}
	*c = list
	return nil
}

// bench is one run of the program.
type bench struct {
	options
	dir    string // scratch, removed at the end
	report *report
	log    *slog.Logger // of servers and agents
}

// measures lists what there is to measure.
func measures() []measure {
	return []measure{
		{"delivery", (*bench).delivery},
		{"send", (*bench).send},
		{"describe", (*bench).describe},
		{"memory", (*bench).memory},
		{"agent", (*bench).agent},
		{"start", (*bench).start},
	}
}

type measure struct {
	name string
	run  func(*bench, context.Context) error
}

func names() []string {
	var list []string
	for _, m := range measures() {
		list = append(list, m.name)
	}
	return list
}

// run is the program. Called with "child", it is one of the servers whose memory is measured.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) (err error) {
	if len(args) > 0 && args[0] == childArg {
		return runChild(ctx, args[1:], in, out)
	}
	o := options{agents: counts{100, 1000}}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(errs)
	o.addFlags(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("not done within %s", o.limit))
	defer cancel()
	dir, err := os.MkdirTemp(o.dir, "waybill-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := raiseFileLimit(); err != nil {
		return err
	}
	level := slog.LevelError
	if o.verbose {
		level = slog.LevelWarn
	}
	b := &bench{
		options: o, dir: dir, report: &report{out: out},
		log: slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: level})),
	}
	if err := b.machine(); err != nil {
		return err
	}
	var failed []error
	for _, m := range measures() {
		if !only.MatchString(m.name) {
			continue
		}
		if err := m.run(b, ctx); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", m.name, err))
		}
		if ctx.Err() != nil {
			failed = append(failed, context.Cause(ctx))
			break
		}
	}
	if o.json != "" {
		failed = append(failed, b.report.save(o.json))
	}
	return errors.Join(failed...)
}

// raiseFileLimit allows as many open files as the system lets us: each agent in this process takes about seven, those
// of its server and its floor included.
func raiseFileLimit() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read limit of open files: %w", err)
	}
	if l.Cur >= l.Max {
		return nil
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("raise limit of open files: %w", err)
	}
	return nil
}

// scratch makes a directory for one part of a measure.
func (b *bench) scratch(name string) (string, error) { return os.MkdirTemp(b.dir, name+"-") }

// timed runs part and returns how long it took. Its CPU profile goes to a file of its own, if one is wanted.
func (b *bench) timed(name string, part func() error) (took time.Duration, err error) {
	if b.profile != "" {
		f, err := os.CreateTemp(b.profile, name+"-*.pprof")
		if err != nil {
			return 0, fmt.Errorf("profile: %w", err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return 0, fmt.Errorf("profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	start := time.Now()
	err = part()
	return time.Since(start), err
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
