// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
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

	sendBody   = 2 << 10 // bytes of a call with contentBytes of content, about, and of its answer
	sendAnswer = 100
)

// send measures how many signed SendFile calls for one instance are answered in a second, how many are where only the
// store's part of them is done behind HTTPS, and how many bare deliveries the store takes. The instance has enrolled and is not connected: what is measured is acceptance.
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
	st, err := s.openStore(ctx, b.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()

	content := make([]byte, contentBytes)
	var ids identity.DeliveryIDs
	add := func(ctx context.Context, via *store.Store) error {
		return via.AddDelivery(ctx, newDelivery(&ids, s.key.AccountID, s.key.Region, f.ids[0], content))
	}
	accept := func(ctx context.Context) error { // what a signed request needs of the store before it may be answered
		if _, err := st.Key(ctx, s.key.AccessKeyID); err != nil {
			return err
		}
		fresh, err := st.UseNonce(ctx, s.key.AccessKeyID, rand.Text(), time.Now().Add(time.Hour))
		if err != nil || !fresh {
			return cmp.Or(err, errors.New("a nonce came twice"))
		}
		if _, err := st.Recipients(ctx, s.key.AccountID, s.key.Region, f.ids); err != nil {
			return err
		}
		return add(ctx, st.For(&waybill.Act{
			Principal: waybill.Principal{Account: s.key.AccountID, AccessKey: s.key.AccessKeyID, RequestID: rand.Text()},
			Action:    "ecs:SendFile", Region: s.key.Region,
		}, nil))
	}
	exchange := newBareExchange(sendAnswer, func(r *http.Request) error { return accept(r.Context()) })
	defer exchange.end()
	bare := make([]*http.Client, callers)
	for i := range bare {
		bare[i] = exchange.caller()
	}
	body := make([]byte, sendBody)
	request := file("bench", content, f.ids...)
	var api, floor, inStore float64
	for turn := range sendTurns + 1 {
		a, err := b.rate(ctx, "send", func(ctx context.Context, caller int) error {
			_, err := clients[caller].SendFile(ctx, request)
			return err
		})
		if err != nil {
			return err
		}
		least, err := b.rate(ctx, "send-floor", func(ctx context.Context, caller int) error {
			return exchange.call(ctx, bare[caller], body, "")
		})
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		alone, err := b.rate(ctx, "send-in-store", func(ctx context.Context, _ int) error { return add(ctx, st) })
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		if turn > 0 {
			api, floor, inStore = api+a/sendTurns, floor+least/sendTurns, inStore+alone/sendTurns
		}
	}
	b.report.add(fmt.Sprintf("send/%d", callers), api, "1/s")
	b.report.add(fmt.Sprintf("send/%d/in-store", callers), inStore, "1/s")
	b.report.add(fmt.Sprintf("send/%d/floor", callers), floor, "1/s")
	b.report.budgeted(fmt.Sprintf("send/%d/ratio", callers), floor/api, "x", 2)
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
