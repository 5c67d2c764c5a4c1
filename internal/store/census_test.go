// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/openwaybill/waybill"
)

func TestCensus(t *testing.T) { onEach(t, testCensus) }

func testCensus(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	count := func() Census {
		t.Helper()
		c, err := f.Census(t.Context(), f.clock().Add(-time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if diff := cmp.Diff(Census{Open: map[waybill.Status]int{}}, count(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("of nothing: %s", diff)
	}
	for _, id := range []string{"m0", "m1", "m2", "m3"} {
		f.enrol(id)
	}
	for _, id := range []waybill.InstanceID{"m0", "m1"} {
		if _, err := f.Greet(t.Context(), id, "s", waybill.Facts{}); err != nil {
			t.Fatal(err)
		}
	}
	f.advance(2 * time.Minute)
	if err := f.Sight(t.Context(), []Sighting{{Instance: "m1", Session: "s", Presence: waybill.Online, At: f.clock()}}); err != nil {
		t.Fatal(err)
	}
	first, now := f.delivery("f-1", 2), f.clock()
	f.apply(
		Change{Delivery: first, Instance: machine(0), Event: waybill.Event{To: waybill.Running, Started: now, Reported: true}},
		ended(first, machine(1), waybill.CauseExists, now),
	)
	f.advance(time.Second)
	f.delivery("f-2", 2)
	f.apply(ended(f.delivery("f-3", 1), machine(0), waybill.CauseExists, f.clock()))
	want := Census{
		Machines: []MachineCount{
			{"", waybill.NeverSeen, false, 2}, {"", waybill.Online, false, 1}, {"", waybill.Online, true, 1},
		},
		Open: map[waybill.Status]int{waybill.Pending: 2, waybill.Running: 1}, Deliveries: 2, NextDeadline: now.Add(time.Minute),
	}
	byPresence := cmpopts.SortSlices(func(a, b MachineCount) bool {
		return a.Presence < b.Presence || a.Presence == b.Presence && !a.Heard && b.Heard
	})
	if diff := cmp.Diff(want, count(), byPresence); diff != "" {
		t.Error(diff)
	}
}

// TestWritesAreCounted looks that each write is counted once, by what became of it.
func TestWritesAreCounted(t *testing.T) { onEach(t, testWritesAreCounted) }

func testWritesAreCounted(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	m := f.writes.metrics
	counts := func() (all [4]float64) {
		for i, result := range []string{writeOK, writeRefused, writeFailed, writeLate} {
			all[i] = testutil.ToFloat64(m.writes.WithLabelValues(result))
		}
		return all
	}
	before := counts()
	f.delivery("f-1", 1)
	refusal := errors.New("against the rules")
	if err := f.write(t.Context(), func(t *tx) error {
		if _, err := one(f.t.Context(), t, scanOne[int], "SELECT 1"); err != nil {
			return err
		}
		return refusal
	}); !errors.Is(err, refusal) {
		t.Fatal(err)
	}
	f.writes.patience = -time.Second
	if err := f.writes.doInTime(t.Context(), func(*tx) error { return nil }); !errors.Is(err, errTurn) {
		t.Fatal(err)
	}
	f.writes.patience = turnPatience
	after := counts()
	for i, want := range [4]float64{1, 1, 0, 1} {
		if got := after[i] - before[i]; got != want {
			t.Errorf("result %d: %g more, want %g", i, got, want)
		}
	}
	if n := testutil.CollectAndCount(f.Store, "waybill_store_transaction_writes", "waybill_store_sync_duration_seconds"); n != 2 {
		t.Errorf("%d histograms, want 2", n)
	}
}
