// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/openwaybill/waybill/internal/identity"
)

// quiet is how long connections are left alone before memory is read: what a greeting took has been done with by then.
const quiet = 3 * time.Second

// memory measures what an idle agent takes of a server, by the difference that a fleet makes, and what an idle
// connection takes of a NATS server that keeps its clients apart as ours does. One fleet is enough for the budget: the largest.
func (b *bench) memory(ctx context.Context) error {
	sizes := b.agents
	if !b.plot {
		sizes = counts{slices.Max(b.agents)}
	}
	for _, n := range sizes {
		if err := b.memoryWith(ctx, n); err != nil {
			return fmt.Errorf("%d agents: %w", n, err)
		}
	}
	return nil
}

func (b *bench) memoryWith(ctx context.Context, n int) error {
	ours, err := b.memoryOfAgents(ctx, n)
	if err != nil {
		return err
	}
	bare, err := b.memoryOfBare(ctx, n)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	name := fmt.Sprintf("memory/%d", n)
	b.report.add(name+"/per-agent", ours.each(n), "KB")
	b.report.add(name+"/floor", bare.each(n), "KB")
	b.report.budgeted(name+"/ratio", ours.each(n)/bare.each(n), "x", 1.15)
	b.report.add(name+"/server", mb(ours.after), "MB")
	b.report.add(name+"/server/floor", mb(bare.after), "MB")
	return nil
}

func (b *bench) memoryOfAgents(ctx context.Context, n int) (g growth, err error) {
	s, c, err := b.openChildSite(ctx)
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	f, err := b.enrol(ctx, s, n)
	if err != nil {
		return g, fmt.Errorf("enrol: %w", err)
	}
	return c.growth(ctx, func() (func() error, error) { return b.startAgents(ctx, s, f) })
}

func (b *bench) memoryOfBare(ctx context.Context, n int) (g growth, err error) {
	dir, err := b.scratch("nats")
	if err != nil {
		return g, err
	}
	op, err := identity.NewOperator()
	if err != nil {
		return g, err
	}
	c, err := b.startChild(ctx, roleNATS, part{Dir: dir, Operator: op.Marshal()})
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	p := part{Dir: dir, Address: c.address, CA: filepath.Join(dir, caName), Operator: op.Marshal()}
	return c.growth(ctx, func() (func() error, error) { return b.startMachines(ctx, roleIdle, p, n) })
}

// growth is the memory of a server without its clients and with them, in bytes.
type growth struct{ before, after int64 }

// each returns how many KB are for each of n clients.
func (g growth) each(n int) float64 { return float64(g.after-g.before) / 1024 / float64(n) }

// growth measures the child without clients and with those that connect brings.
func (c *child) growth(ctx context.Context, connect func() (disconnect func() error, err error)) (g growth, err error) {
	if err := pause(ctx, quiet); err != nil {
		return g, err
	}
	if g.before, err = c.memory(); err != nil {
		return g, err
	}
	disconnect, err := connect()
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, disconnect()) }()
	if err := pause(ctx, quiet); err != nil {
		return g, err
	}
	g.after, err = c.memory()
	return g, err
}
