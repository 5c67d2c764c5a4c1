// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
)

// count returns how many rows a query finds.
func (f *fixture) count(from string) int {
	f.t.Helper()
	n, err := one(f.t.Context(), f.reads, scanOne[int], "SELECT COUNT(*) FROM "+from)
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

func (f *fixture) partitions() string {
	f.t.Helper()
	list, err := all(f.t.Context(), f.reads, scanOne[string], `SELECT relname FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid
		WHERE relkind = 'r' AND relname LIKE 'deliveries_%' ORDER BY relname`)
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.ReplaceAll(strings.Join(list, " "), "deliveries_", "")
}

// conclude ends a delivery to one machine.
func (f *fixture) conclude(id waybill.DeliveryID) {
	f.t.Helper()
	f.apply(Change{Delivery: id, Instance: "m0", Event: waybill.Event{To: waybill.Aborted, Cause: waybill.CauseReleased, Finished: f.clock()}})
}

func TestDropBefore(t *testing.T) {
	list := servers(t, 1)
	if list == nil {
		return
	}
	f := list[0]
	if got, want := f.partitions(), "d20261123 d20261124 d20261125 d20261126 other"; got != want {
		t.Fatalf("partitions %s, want %s", got, want)
	}
	const days = 6
	for d := range days {
		for i := range 3 {
			id := f.delivery(fmt.Sprintf("f-%d%d", d, i), 1, func(n *NewDelivery) {
				n.Tags = []waybill.Tag{{Key: "k", Value: "v"}}
				if i == 0 { // the same every day
					n.Data, n.Sent = []byte("same"), "same"
					n.SHA256 = sha256.Sum256(n.Data)
				}
			})
			if d != 2 || i != 1 { // one stays open
				f.conclude(id)
			}
		}
		f.advance(24 * time.Hour)
	}
	if n := f.count("deliveries_other"); n != 0 {
		t.Errorf("%d deliveries are in no partition of their day", n)
	}
	if n, err := f.DropBefore(t.Context(), epoch.Add(4*24*time.Hour-12*time.Hour-time.Second)); err != nil || n != 6 {
		t.Errorf("dropped %d, %v; want the first two days", n, err)
	}
	if got := ids(f.list(waybill.DeliveryFilter{}, waybill.Page{})); got != "f-52 f-51 f-50 f-42 f-41 f-40 f-32 f-31 f-30 f-22 f-21 f-20" {
		t.Errorf("left: %s", got)
	}
	for table, want := range map[string]int{"targets": 12, "tags": 12, "contents": 9} {
		if n := f.count(table); n != want {
			t.Errorf("%d %s are left, want %d", n, table, want)
		}
	}
	// Whoever is interrupted is followed by another: here after the tables were taken out.
	f.conclude("f-21")
	for _, q := range []string{`ALTER TABLE targets DETACH PARTITION targets_d20261125`, `ALTER TABLE deliveries DETACH PARTITION deliveries_d20261125`} {
		if _, err := f.reads.exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := f.DropBefore(t.Context(), epoch.Add(3*24*time.Hour)); err != nil || n != 3 {
		t.Errorf("dropped %d, %v; want the third day", n, err)
	}
	if n, err := f.DropBefore(t.Context(), f.clock().Add(24*time.Hour)); err != nil || n != 9 {
		t.Errorf("dropped %d, %v; want the rest", n, err)
	}
	for _, table := range []string{"deliveries", "targets", "tags", "contents"} {
		if n := f.count(table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	if got := f.partitions(); !strings.Contains(got, "d20261202") {
		t.Errorf("no partitions for the days to come: %s", got)
	}
	// What was made before there were partitions is removed all the same.
	f.conclude(f.delivery("f-early", 1, func(n *NewDelivery) { n.Created = epoch.AddDate(0, -1, 0) }))
	if n := f.count("deliveries_other"); n != 1 {
		t.Errorf("%d in the partition for what fits no other", n)
	}
	if err := f.openPartitions(t.Context(), epoch.AddDate(0, -1, 0)); err != nil {
		t.Errorf("make a partition for a day of which some are kept with others: %v", err)
	}
	if n, err := f.Expire(t.Context(), Scope{"a", region}, epoch, 100, 10); err != nil || n != 1 || f.count("targets") != 0 {
		t.Errorf("expired %d, %v", n, err)
	}
}

// TestPartitionsWhileOthersWork drops and makes partitions while servers write and read: nobody notices.
func TestPartitionsWhileOthersWork(t *testing.T) {
	list := servers(t, 2)
	if list == nil {
		return
	}
	f, other := list[0], list[1]
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("f-%d-%06d", w, i)
				other.delivery(id, 1, func(n *NewDelivery) { n.Created = epoch.AddDate(0, 0, i%3) })
				other.conclude(waybill.DeliveryID(id))
				if got := other.list(waybill.DeliveryFilter{ID: waybill.DeliveryID(id)}, waybill.Page{}); len(got.Items) != 1 && i%3 == 2 {
					t.Errorf("%s is not there", id)
				}
			}
		})
	}
	for i := range 5 {
		if _, err := f.DropBefore(t.Context(), epoch.AddDate(0, 0, 1)); err != nil {
			t.Errorf("drop: %v", err)
		}
		f.advance(24 * time.Hour)
		if err := f.openPartitions(t.Context(), epoch.AddDate(0, 0, 20+4*i)); err != nil {
			t.Errorf("make: %v", err)
		}
	}
	stop()
	wg.Wait()
}
