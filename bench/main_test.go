// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openwaybill/waybill/internal/identity"
)

// TestMain lets the test's program be a child of itself, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childArg {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestDelivery runs the program for a small fleet: it measures, prints and saves every line of that measure.
func TestDelivery(t *testing.T) {
	t.Parallel()
	file, data := filepath.Join(t.TempDir(), "results.json"), t.TempDir()
	var out strings.Builder
	args := []string{"-only", "^delivery$", "-agents", "3", "-dir", data, "-json", file, "-v"}
	if err := run(t.Context(), args, strings.NewReader(""), &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	results, err := load(file)
	if err != nil {
		t.Fatal(err)
	}
	budgets := map[string]float64{}
	for _, r := range results {
		budgets[r.Name] = r.Budget
		if r.Value <= 0 || r.Unit == "" || !strings.Contains(out.String(), r.Name+" ") {
			t.Errorf("%+v in:\n%s", r, out.String())
		}
	}
	for name, want := range map[string]float64{
		"machine/cpus": 0, "delivery/3/from-answer": 0, "delivery/3/floor": 0,
		"delivery/3/ratio": 1.5, "delivery/3/ratio-from-call": 0,
	} {
		if got, ok := budgets[name]; !ok || got != want {
			t.Errorf("%s: budget %g, there %t; want %g", name, got, ok, want)
		}
	}
	if left, err := os.ReadDir(data); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"no number of agents":  {"-agents", "many"},
		"no agents at all":     {"-agents", "0"},
		"half a list":          {"-agents", "1,"},
		"no regexp":            {"-only", "("},
		"no such directory":    {"-dir", "/nonexistent"},
		"no number of files":   {"-history", "0"},
		"nothing to draw from": {"-redraw", "/nonexistent"},
		"a child without role": {childArg},
		"a child of no kind":   {childArg, "none", "{}"},
		"a child of no part":   {childArg, roleNATS, "/nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := run(t.Context(), args, strings.NewReader(""), io.Discard, io.Discard); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// TestChild tells a child to trim its memory, and then to end.
func TestChild(t *testing.T) {
	t.Parallel()
	for _, role := range []string{roleServer, roleNATS} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			op, err := identity.NewOperator()
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(part{Dir: t.TempDir(), Operator: op.Marshal()})
			if err != nil {
				t.Fatal(err)
			}
			args := []string{childArg, role, string(text)}
			if err := run(t.Context(), args, strings.NewReader("trim\n"), &out, io.Discard); err != nil {
				t.Fatal(err)
			}
			address, rest, _ := strings.Cut(out.String(), "\n")
			if !strings.HasPrefix(address, "127.0.0.1:") || rest != "done\n" {
				t.Errorf("said %q", out.String())
			}
			if err := run(t.Context(), args, strings.NewReader("dance\n"), io.Discard, io.Discard); err == nil {
				t.Error("does whatever it is told")
			}
		})
	}
}

// TestProfile has a CPU profile written of this process and of each child.
func TestProfile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"-only", "^delivery$", "-agents", "1", "-dir", t.TempDir(), "-json", "", "-cpuprofile", dir}
	if err := run(t.Context(), args, strings.NewReader(""), io.Discard, t.Output()); err != nil {
		t.Fatal(err)
	}
	for _, of := range []string{"", "-server", "-agents", "-clients"} {
		files, err := filepath.Glob(filepath.Join(dir, "delivery-1"+of+"-[0-9]*.pprof"))
		if err != nil || len(files) != deliveryRounds+1 {
			t.Errorf("delivery-1%s: %d profiles, %v", of, len(files), err)
			continue
		}
		if info, err := os.Stat(files[0]); err != nil || info.Size() == 0 {
			t.Errorf("%s is empty, %v", files[0], err)
		}
	}
}

// TestResults reads results as they were written; a budget is there only where there is one.
func TestResults(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "results.json")
	r := report{out: io.Discard}
	r.add("a/1", 0.125, "ms")
	r.budgeted("a/ratio", 3, "x", 1.5)
	if err := r.save(file); err != nil {
		t.Fatal(err)
	}
	got, err := load(file)
	if err != nil || !slices.Equal(got, r.results) {
		t.Errorf("%v, %v; want %v", got, err, r.results)
	}
	if b, err := os.ReadFile(file); err != nil || strings.Count(string(b), "budget") != 1 {
		t.Errorf("%v:\n%s", err, b)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 0.0123: "0.012", 1.234: "1.23", 12.34: "12.3", 1234.5: "1234", -2: "-2.00",
	} {
		if got := number(v); got != want {
			t.Errorf("%g: %q, want %q", v, got, want)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	var s samples
	for i := 100; i > 0; i-- {
		s = append(s, time.Duration(i))
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 51, 0.99: 100, 1: 100} {
		if got := s.quantile(q); got != want {
			t.Errorf("%g: %d, want %d", q, got, want)
		}
	}
	if got := (samples{7}).median(); got != 7 {
		t.Errorf("median of one: %d", got)
	}
}

func TestProc(t *testing.T) {
	t.Parallel()
	pid := os.Getpid()
	now, err1 := residentBytes(pid)
	peak, err2 := peakBytes(pid)
	if err1 != nil || err2 != nil || now < 1<<20 || peak < 1<<20 {
		t.Errorf("memory %d, at most %d: %v, %v", now, peak, err1, err2)
	}
	if _, err := cpuTime(pid); err != nil {
		t.Error(err)
	}
	if _, err := residentBytes(-1); err == nil {
		t.Error("a process that is not there has memory")
	}
}
