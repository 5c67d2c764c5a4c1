// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

func TestStopTargets(t *testing.T) { onEach(t, testStopTargets) }

func testStopTargets(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	for _, m := range []string{"m0", "m1", "m2", "m3"} {
		f.enrol(m)
		if _, err := f.Greet(t.Context(), waybill.InstanceID(m), "session", waybill.Facts{Capability: wire.Capability}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Greet(t.Context(), "m3", "session", waybill.Facts{Capability: wire.CancelCapability - 1}); err != nil {
		t.Fatal(err)
	}
	d := f.delivery("f-1", 4, func(d *NewDelivery) { d.Targets[1].Given, d.Targets[3].Given = true, true })
	f.apply(ended(d, "m2", waybill.CauseExists, epoch))
	f.advance(time.Second)
	now := f.clock()

	if _, _, err := f.Stop(t.Context(), "b", region, d, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("of another account: %v", err)
	}
	if _, foreign, err := f.Stop(t.Context(), "a", region, d, []waybill.InstanceID{"m0", "m9"}); !errors.Is(err, ErrNotFound) || !slices.Equal(foreign, []waybill.InstanceID{"m9"}) {
		t.Errorf("with no target: %v, %v", foreign, err)
	}
	if c := f.list(waybill.DeliveryFilter{}, waybill.Page{}).Items[0].Counts; c != (waybill.Counts{Pending: 3, Failed: 1}) {
		t.Errorf("what was refused has changed something: %+v", c)
	}
	if list, _, err := f.Stop(t.Context(), "a", region, d, []waybill.InstanceID{"m1"}); err != nil || len(list) != 1 || list[0] != (Stopped{"m1", waybill.StopAsked}) {
		t.Errorf("one: %v, %v", list, err)
	}
	want := []Stopped{{"m0", waybill.StopCancelled}, {"m1", waybill.StopAsked}, {"m2", waybill.StopTooLate}, {"m3", waybill.StopTooLate}}
	for range 2 {
		f.advance(time.Second)
		list, _, err := f.Stop(t.Context(), "a", region, d, nil)
		if diff := cmp.Diff(want, list); diff != "" || err != nil {
			t.Errorf("all: %v %s", err, diff)
		}
	}
	got := f.list(waybill.DeliveryFilter{}, waybill.Page{}).Items[0]
	if got.Counts != (waybill.Counts{Pending: 2, Failed: 2}) || got.Targets[0].Cause != waybill.CauseCancelled || !got.Targets[1].Stopped.Equal(now) {
		t.Errorf("stored: %+v %+v", got.Counts, got.Targets)
	}

	for what, n := range map[string]func() (int, error){
		"offered": func() (int, error) { l, err := f.OpenFor(t.Context(), "m1", "", 9); return len(l), err },
		"missing": func() (int, error) {
			l, err := f.Missing(t.Context(), map[waybill.InstanceID][]waybill.DeliveryID{"m1": nil, "m3": nil})
			return len(l), err
		},
		"pending": func() (int, error) { l, err := f.PendingOf(t.Context(), d); return len(l), err },
		"given": func() (int, error) {
			l, err := f.Give(t.Context(), []Target{{Target: waybill.Target{Delivery: d, Instance: "m1"}}})
			return len(l), err
		},
	} {
		if n, err := n(); n != 0 || err != nil {
			t.Errorf("what is to stop is %s: %d, %v", what, n, err)
		}
	}
	if _, err := f.OfferOne(t.Context(), "m1", d, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("offered by its ID: %v", err)
	}
	if _, err := f.OpenOne(t.Context(), "m1", d, 1); err != nil {
		t.Errorf("not open any more: %v", err)
	}
	asked, err := f.StoppingOf(t.Context(), d)
	if err != nil || len(asked) != 1 || asked[0].Instance != "m1" || !asked[0].Deadline.Equal(epoch.Add(time.Minute)) {
		t.Errorf("to be asked: %+v, %v", asked, err)
	}
	if l, err := f.StoppingFor(t.Context(), "m1", 9); err != nil || len(l) != 1 {
		t.Errorf("to be asked when it comes: %+v, %v", l, err)
	}
	f.apply(Change{Delivery: d, Instance: "m1", Event: waybill.Event{To: waybill.Running, Started: now, Reported: true}}, Change{Delivery: d, Instance: "m3", Event: waybill.Event{To: waybill.Running, Started: now, Reported: true}})
	if m, err := f.PendingDeliveries(t.Context()); err != nil || len(m) != 1 {
		t.Errorf("a server that starts does not know of it: %v, %v", m, err)
	}
}

func TestGive(t *testing.T) { onEach(t, testGive) }

// testGive gives what was given, what was not, and what has ended.
func testGive(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	d := f.delivery("f-1", 3, func(d *NewDelivery) { d.Targets[0].Given = true })
	f.apply(ended(d, "m2", waybill.CauseExists, epoch))
	all := []Target{{Target: waybill.Target{Delivery: d, Instance: "m0"}}, {Target: waybill.Target{Delivery: d, Instance: "m1"}}, {Target: waybill.Target{Delivery: d, Instance: "m2"}}}
	for range 2 {
		given, err := f.Give(t.Context(), all)
		if err != nil || len(given) != 2 || given[0].Instance == "m2" || given[1].Instance == "m2" {
			t.Errorf("%+v, %v", given, err)
		}
	}
	for _, target := range f.list(waybill.DeliveryFilter{}, waybill.Page{}).Items[0].Targets[:2] {
		if !target.Given {
			t.Errorf("not noted: %+v", target)
		}
	}
	list, _, err := f.Stop(t.Context(), "a", region, d, nil)
	if err != nil || list[0].Stopping == waybill.StopCancelled || list[1].Stopping == waybill.StopCancelled {
		t.Errorf("what was given was cancelled without asking: %v, %v", list, err)
	}
}
