// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// plotted matches the measures that the plots show.
const plotted = "^(delivery|describe|memory)$"

// plotData is the file with the results that the plots were drawn from, beside them.
const plotData = "performance.json"

// plot is a picture of some results, each of them a point: "*" in the name of a result is its place on the x axis.
type plot struct {
	file, title    string
	xLabel, yLabel string
	series         []series
}

type series struct {
	result, label string
	floor         bool
	points        []point
}

// plots lists what there is to draw.
func plots() []plot {
	return []plot{
		{
			file: "delivery-time.svg", title: "One file of 1 KB to a fleet",
			xLabel: "agents", yLabel: "milliseconds until the last target is final",
			series: []series{
				{result: "delivery/*/from-call", label: "Waybill, from the call of SendFile"},
				{result: "delivery/*/from-answer", label: "Waybill, from its answer"},
				{result: "delivery/*/floor", label: "floor: bare NATS, the same writes with sync, bare SQL", floor: true},
			},
		},
		{
			file: "server-memory.svg", title: "Resident memory of a server with idle agents",
			xLabel: "agents", yLabel: "MB",
			series: []series{
				{result: "memory/*/server", label: "Waybill server"},
				{result: "memory/*/server/floor", label: "floor: NATS server with TLS and without accounts", floor: true},
			},
		},
		{
			file: "query-time.svg", title: "DescribeSendFileResults by InvokeId",
			xLabel: "deliveries in the history", yLabel: "milliseconds",
			series: []series{
				{result: "describe/*/p99", label: "Waybill, signed HTTPS call, p99"},
				{result: "describe/*/p50", label: "Waybill, signed HTTPS call, median"},
				{result: "describe/*/p99/floor", label: "floor: bare SQL, p99", floor: true},
				{result: "describe/*/p50/floor", label: "floor: bare SQL, median", floor: true},
			},
		},
	}
}

// drawAll writes every plot that the results have points for into dir.
func drawAll(dir string, results []result) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("draw: %w", err)
	}
	drawn := 0
	for _, p := range plots() {
		p.take(results)
		if len(p.series) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, p.file), []byte(p.svg()), 0o644); err != nil {
			return fmt.Errorf("draw: %w", err)
		}
		drawn++
	}
	if drawn == 0 {
		return errors.New("nothing to draw: the results have no line of two points; measure some with -plot")
	}
	return nil
}

// take sets the points, and leaves out the series that are no line.
func (p *plot) take(results []result) {
	p.series = slices.DeleteFunc(p.series, func(s series) bool { return len(s.pick(results)) < 2 })
	for i := range p.series {
		p.series[i].points = p.series[i].pick(results)
	}
}

func (s *series) pick(results []result) []point {
	before, after, _ := strings.Cut(s.result, "*")
	var list []point
	for _, r := range results {
		middle, ok := strings.CutPrefix(r.Name, before)
		if !ok {
			continue
		}
		if middle, ok = strings.CutSuffix(middle, after); !ok {
			continue
		}
		// Both axes are logarithmic: they have no place for 0.
		if x, err := strconv.ParseFloat(middle, 64); err == nil && x > 0 && r.Value > 0 {
			list = append(list, point{x, r.Value})
		}
	}
	slices.SortFunc(list, func(a, b point) int { return cmp.Compare(a.x, b.x) })
	return list
}
