// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
)

const (
	callers   = 64
	sendTurns = 4 // after one to warm up
	sendTurn  = 1500 * time.Millisecond
)

// send measures how many signed SendFile calls for one instance are answered in a second, and how many deliveries the
// store alone takes. The instance has enrolled and is not connected: what is measured is acceptance.
func (b *bench) send(ctx context.Context) (err error) {
	s, err := b.openSite(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	f, err := b.enrol(ctx, s, 1)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	clients := make([]*client.Client, callers)
	for i := range clients {
		if clients[i], err = newCaller(&s.key); err != nil {
			return err
		}
	}
	dir, err := b.scratch("store")
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, store.Config{URL: "sqlite:" + filepath.Join(dir, "floor.db"), AuditKey: auditKey}, b.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()

	content := make([]byte, contentBytes)
	request := file("bench", content, f.ids...)
	var ids identity.DeliveryIDs
	var api, bare float64
	for turn := range sendTurns + 1 {
		a, err := b.rate(ctx, "send", func(ctx context.Context, caller int) error {
			_, err := clients[caller].SendFile(ctx, request)
			return err
		})
		if err != nil {
			return err
		}
		least, err := b.rate(ctx, "send-floor", func(ctx context.Context, _ int) error {
			return st.AddDelivery(ctx, newDelivery(&ids, s.key.AccountID, s.key.Region, f.ids[0], content))
		})
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		if turn > 0 {
			api, bare = api+a/sendTurns, bare+least/sendTurns
		}
	}
	b.report.add(fmt.Sprintf("send/%d", callers), api, "1/s")
	b.report.add(fmt.Sprintf("send/%d/floor", callers), bare, "1/s")
	b.report.budgeted(fmt.Sprintf("send/%d/ratio", callers), bare/api, "x", 2)
	return nil
}

// rate lets all callers call for one turn and returns how many calls ended in a second.
func (b *bench) rate(
	ctx context.Context, name string, call func(ctx context.Context, caller int) error,
) (perSecond float64, err error) {
	done := make([]int, callers)
	took, err := b.timed(name, func() error {
		end := time.Now().Add(sendTurn)
		eg, ctx := errgroup.WithContext(ctx)
		for i := range callers {
			eg.Go(func() error {
				for ; time.Now().Before(end); done[i]++ {
					if err := call(ctx, i); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return eg.Wait()
	})
	sum := 0
	for _, n := range done {
		sum += n
	}
	return float64(sum) / took.Seconds(), err
}

// newDelivery is what control hands to the store for such a request.
func newDelivery(
	ids *identity.DeliveryIDs, account waybill.AccountID, region string, to waybill.InstanceID, content []byte,
) *store.NewDelivery {
	now := time.Now().UTC().Truncate(time.Millisecond)
	id := ids.Next(identity.RegionMark(region), now)
	return &store.NewDelivery{
		Delivery: waybill.Delivery{
			ID: id, Account: account, Region: region,
			File:        waybill.FileSpec{Name: "bench", TargetDir: targetDir, Owner: "0", Group: "0", Mode: "0644"},
			ContentType: waybill.PlainText, SHA256: sha256.Sum256(content), Size: int64(len(content)),
			Timeout: time.Hour, Created: now, Deadline: now.Add(time.Hour),
		},
		Data: content, Sent: string(content),
		Targets: []waybill.Target{{Delivery: id, Instance: to, Status: waybill.Pending}},
	}
}
