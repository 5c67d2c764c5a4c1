// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"
)

// result is one line.
type result struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Budget float64 `json:"budget,omitempty"` // the most that Value may be; 0: nobody says
}

// report prints results as they come and keeps them.
type report struct {
	out     io.Writer
	results []result
}

// add reports a value that has no budget.
func (r *report) add(name string, value float64, unit string) { r.print(result{name, value, unit, 0}) }

// budgeted reports a value that has one.
func (r *report) budgeted(name string, value float64, unit string, budget float64) {
	r.print(result{name, value, unit, budget})
}

func (r *report) print(v result) {
	r.results = append(r.results, v)
	line := fmt.Sprintf("%-34s %10s %s", v.Name, number(v.Value), v.Unit)
	if v.Budget != 0 {
		verdict := "met"
		if v.Value > v.Budget {
			verdict = "missed"
		}
		line += fmt.Sprintf("  (budget %s: %s)", number(v.Budget), verdict)
	}
	fmt.Fprintln(r.out, line)
}

// save writes all results to a file, as a JSON array.
func (r *report) save(path string) error {
	b, err := json.MarshalIndent(r.results, "", "  ")
	if err != nil {
		return fmt.Errorf("save results: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("save results: %w", err)
	}
	return nil
}

// load reads what save wrote.
func load(path string) (results []result, err error) {
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &results)
	}
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	return results, nil
}

// number writes v with three significant digits at least, and never as a power of ten.
func number(v float64) string {
	switch {
	case v >= 100 || v == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 1 || v < 0:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// samples are durations of the same thing.
type samples []time.Duration

// quantile returns the duration that a share q of the samples does not exceed. There must be one.
func (s samples) quantile(q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func (s samples) median() time.Duration { return s.quantile(0.5) }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
