// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/openwaybill/waybill"
)

const (
	contentBytes   = 1 << 10
	deliveryRounds = 7 // after one to warm up
	largeRounds    = 3 // of a large fleet, whose rounds take long
	largeFleet     = 1000
	settle         = 250 * time.Millisecond
)

// delivery measures the time from an answered SendFile until every target is final in the store, for each fleet size,
// and the same without Waybill.
func (b *bench) delivery(ctx context.Context) error {
	for _, n := range b.agents {
		if err := b.deliverTo(ctx, n); err != nil {
			return fmt.Errorf("%d agents: %w", n, err)
		}
	}
	return nil
}

func (b *bench) deliverTo(ctx context.Context, n int) (err error) {
	s, _, err := b.openChildSite(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	f, err := b.enrol(ctx, s, n)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	stop, err := b.startAgents(ctx, s, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	bare, err := b.openBareFleet(ctx, n)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	defer func() { err = errors.Join(err, bare.close()) }()

	name, rounds := fmt.Sprintf("delivery/%d", n), deliveryRounds
	if n > largeFleet {
		rounds = largeRounds
	}
	var called, answered, floor samples
	for round := range rounds + 1 { // turn by turn, so that whatever else the machine does falls on both
		content := make([]byte, contentBytes)
		rand.Read(content)
		var sent, all time.Duration
		if err := pause(ctx, settle); err != nil {
			return err
		}
		all, err := b.timed(fmt.Sprintf("delivery-%d", n), func() (err error) {
			sent, err = s.deliver(ctx, f, content)
			return err
		})
		if err != nil {
			return err
		}
		if err := pause(ctx, settle); err != nil {
			return err
		}
		least, err := b.timed(fmt.Sprintf("delivery-%d-floor", n), func() error { return bare.deliver(ctx, content) })
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		if round > 0 {
			called, answered, floor = append(called, all), append(answered, all-sent), append(floor, least)
		}
	}
	b.report.add(name+"/from-answer", ms(answered.median()), "ms")
	b.report.add(name+"/from-call", ms(called.median()), "ms")
	b.report.add(name+"/floor", ms(floor.median()), "ms")
	b.report.budgeted(name+"/ratio", ratio(answered.median(), floor.median()), "x", 1.5)
	b.report.add(name+"/ratio-from-call", ratio(called.median(), floor.median()), "x")
	return nil
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// deliver sends content to all machines in one SendFile, and returns once all have it. sent is when it was answered.
func (s *site) deliver(ctx context.Context, to *fleet, content []byte) (sent time.Duration, err error) {
	start := time.Now()
	id, err := s.client.SendFile(ctx, file("bench", content, to.ids...))
	sent = time.Since(start)
	if err != nil {
		return sent, err
	}
	if err := s.await(ctx, 0, `SELECT pending + running FROM deliveries WHERE id = ?`, id); err != nil {
		return sent, err
	}
	return sent, s.succeeded(ctx, id, len(to.ids))
}

// succeeded fails unless all n targets of a delivery did.
func (s *site) succeeded(ctx context.Context, id waybill.DeliveryID, n int) error {
	var ok int
	err := s.watch.QueryRowContext(ctx, `SELECT success FROM deliveries WHERE id = ?`, id).Scan(&ok)
	if err == nil && ok != n {
		err = fmt.Errorf("delivery %s reached %d of %d machines", id, ok, n)
	}
	return err
}
