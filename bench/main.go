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
	history counts

	received int
	plot     bool
	redraw   string
	images   string
	json     string
	dir      string
	bin      string
	profile  string
	limit    time.Duration
	verbose  bool
}

func (o *options) addFlags(f *flag.FlagSet) {
	f.StringVar(&o.only, "only", "", "measure only what matches this `REGEXP`: "+strings.Join(names(), ", "))
	f.Var(&o.agents, "agents", "`LIST` of fleet sizes for delivery, the largest also for memory (default 100,1000,8000)")
	f.Var(&o.history, "history", "`LIST` of numbers of deliveries stored for describe (default 10000,1000000)")
	f.IntVar(&o.received, "received", 1000, "`NUMBER` of times its own size that the agent receives; 0: none")
	f.BoolVar(&o.plot, "plot", false, "measure what the plots show, with more sizes, and draw them; their data goes with them")
	f.StringVar(&o.redraw, "redraw", "", "measure nothing, but draw the plots from the results in this `FILE`")
	f.StringVar(&o.images, "images", filepath.Join("docs", "images"), "`DIR` for the plots")
	f.StringVar(&o.json, "json", filepath.Join("bench", "results.json"), "`FILE` for the results; empty: none")
	f.StringVar(&o.dir, "dir", "", "`DIR` for data, on the disk to measure (default: the system's temporary one)")
	f.StringVar(&o.bin, "bin", "bin", "`DIR` of the programs waybill and waybill-agent")
	f.StringVar(&o.profile, "cpuprofile", "", "`DIR` for a CPU profile of each timed part")
	f.DurationVar(&o.limit, "limit", time.Hour, "how long the whole may take")
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
			return fmt.Errorf("%q is not a number above 0", field)
		}
		list = append(list, n)
	}
	*c = list
	return nil
}

// setDefaults sets what no flag has set.
func (o *options) setDefaults() {
	agents, history, only := counts{100, 1000, 8000}, counts{10_000, 1_000_000}, ""
	if o.plot {
		agents, history, only = counts{100, 300, 1000, 3000, 10_000}, counts{10_000, 100_000, 1_000_000}, plotted
	}
	if o.agents == nil {
		o.agents = agents
	}
	if o.history == nil {
		o.history = history
	}
	if o.only == "" {
		o.only = only
	}
}

// bench is one run of the program.
type bench struct {
	options
	dir      string // scratch, removed at the end
	report   *report
	log      *slog.Logger    // of servers in this process
	children map[*child]bool // those that run
}

func newLog(to io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelError
	if verbose {
		level = slog.LevelWarn
	}
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: level}))
}

// measures lists what there is to measure.
func measures() []measure {
	return []measure{
		{"delivery", (*bench).delivery},
		{"send", (*bench).send},
		{"describe", (*bench).describe},
		{"preview", (*bench).preview},
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

// run is the program. Called with "child", it is one side of what is measured.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) (err error) {
	if len(args) > 0 && args[0] == childArg {
		return runChild(ctx, args[1:], in, out, errs)
	}
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(errs)
	o.addFlags(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.redraw != "" {
		results, err := load(o.redraw)
		if err != nil {
			return err
		}
		return drawAll(o.images, results)
	}
	o.setDefaults()
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
	b := &bench{
		options: o, dir: dir, report: &report{out: out}, log: newLog(errs, o.verbose), children: map[*child]bool{},
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
	if o.plot {
		failed = append(failed, drawAll(o.images, b.report.results), b.report.save(filepath.Join(o.images, plotData)))
	}
	return errors.Join(failed...)
}

// raiseFileLimit allows as many open files as the system lets us, in this process and its children: a server takes one for
// each machine, and a child with agents four for each of them.
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

// timed runs part and returns how long it took. CPU profiles of this process and of its children go to files of their own,
// if they are wanted.
func (b *bench) timed(name string, part func() error) (took time.Duration, err error) {
	if b.profile != "" {
		if err := b.profiles(name); err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, b.profiles("")) }()
	}
	start := time.Now()
	err = part()
	return time.Since(start), err
}

// profiles begins a CPU profile in each process, or ends them all if name is empty.
func (b *bench) profiles(name string) error {
	file := func(role string) (string, error) {
		if name == "" {
			return "", nil
		}
		f, err := os.CreateTemp(b.profile, name+role+"-*.pprof")
		if err != nil {
			return "", fmt.Errorf("profile: %w", err)
		}
		return filepath.Abs(f.Name())
	}
	for c := range b.children {
		path, err := file("-" + c.role)
		if err != nil {
			return err
		}
		if err := c.tell(orderProfile, path); err != nil {
			return fmt.Errorf("profile: %w", err)
		}
	}
	path, err := file("")
	if err != nil {
		return err
	}
	return profile(path)
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
