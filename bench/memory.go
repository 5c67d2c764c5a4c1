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

	"github.com/nats-io/nats.go"
)

// quiet is how long connections are left alone before memory is read: what a greeting took has been done with by then.
const quiet = 3 * time.Second

// memory measures what an idle agent takes of a server, by the difference that the largest fleet makes, and what an
// idle connection takes of a bare NATS server.
func (b *bench) memory(ctx context.Context) error {
	n := slices.Max(b.agents)
	ours, err := b.memoryOfAgents(ctx, n)
	if err != nil {
		return err
	}
	bare, err := b.memoryOfBare(ctx, n)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	name := fmt.Sprintf("memory/%d", n)
	b.report.add(name+"/per-agent", ours, "KB")
	b.report.add(name+"/floor", bare, "KB")
	b.report.budgeted(name+"/ratio", ours/bare, "x", 1.15)
	return nil
}

func (b *bench) memoryOfAgents(ctx context.Context, n int) (kb float64, err error) {
	dir, err := b.scratch("server")
	if err != nil {
		return 0, err
	}
	c, err := b.startChild(ctx, roleServer, dir)
	if err != nil {
		return 0, err
	}
	s, err := joinSite(dir, c.end)
	if err != nil {
		return 0, errors.Join(err, c.end())
	}
	defer func() { err = errors.Join(err, s.close()) }()
	machines, err := b.enrol(ctx, s, n)
	if err != nil {
		return 0, fmt.Errorf("enrol: %w", err)
	}
	return c.growth(ctx, n, func() (func(), error) { return runAgents(ctx, s, machines, b.log) })
}

func (b *bench) memoryOfBare(ctx context.Context, n int) (kb float64, err error) {
	dir, err := b.scratch("nats")
	if err != nil {
		return 0, err
	}
	c, err := b.startChild(ctx, roleNATS, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	pool, err := poolOf(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return 0, err
	}
	return c.growth(ctx, n, func() (func(), error) {
		conns, err := connectBare(ctx, c.address, clientTLS(pool), n, func(int, *nats.Conn, *nats.Msg) {})
		return func() { closeAll(conns) }, err
	})
}

// growth returns how much more memory the child has, for each of n, after connect.
func (c *child) growth(
	ctx context.Context, n int, connect func() (disconnect func(), err error),
) (kb float64, err error) {
	if err := pause(ctx, quiet); err != nil {
		return 0, err
	}
	before, err := c.memory()
	if err != nil {
		return 0, err
	}
	disconnect, err := connect()
	if err != nil {
		return 0, err
	}
	defer disconnect()
	if err := pause(ctx, quiet); err != nil {
		return 0, err
	}
	after, err := c.memory()
	return float64(after-before) / 1024 / float64(n), err
}
