// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
)

func TestSelect(t *testing.T) { onEach(t, testSelect) }

func testSelect(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	for i := range 5 {
		f.enrol(string(machine(4 - i)))
		f.advance(time.Second)
	}
	for id, state := range map[waybill.InstanceID]waybill.InstanceState{"m3": waybill.Quarantine, "m4": waybill.Deregistered} {
		if err := f.LeaveFleet(t.Context(), id, state); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name   string
		filter waybill.InstanceFilter
		limit  int
		want   string
		total  int
	}{
		{"all", waybill.InstanceFilter{}, 3, "[m0 m1 m2]", 3},
		{"more than the limit", waybill.InstanceFilter{}, 2, "[]", 3},
		{"pattern", waybill.InstanceFilter{Name: "NAME-m?"}, 9, "[m0 m1 m2]", 3},
		{"tag", waybill.InstanceFilter{Tags: []waybill.Tag{{Key: "id", Value: "m1"}}}, 9, "[m1]", 1},
		{"tag and activation", waybill.InstanceFilter{Activation: "act-m2", Tags: []waybill.Tag{{Key: "id"}}}, 9, "[m2]", 1},
		{"tag of another", waybill.InstanceFilter{Activation: "act-m2", Tags: []waybill.Tag{{Key: "id", Value: "m1"}}}, 9, "[]", 0},
		{"deregistered", waybill.InstanceFilter{Name: "name-m4"}, 9, "[]", 0},
	} {
		tc.filter.Region = region
		list, total, err := f.Select(t.Context(), "a", tc.filter, tc.limit)
		if err != nil {
			t.Fatal(err)
		}
		got := []waybill.InstanceID{}
		for _, i := range list {
			got = append(got, i.ID)
		}
		if fmt.Sprint(got) != tc.want || total != tc.total {
			t.Errorf("%s: %v of %d, want %s of %d", tc.name, got, total, tc.want, tc.total)
		}
	}
	if list, total, err := f.Select(t.Context(), "b", waybill.InstanceFilter{Region: region}, 9); len(list) > 0 || total > 0 || err != nil {
		t.Errorf("another account's: %v of %d, %v", list, total, err)
	}
}

func TestManyTargets(t *testing.T) { onEach(t, testManyTargets) }

// testManyTargets stores more targets than one statement takes.
func testManyTargets(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	const many = 2*targetBatch + 1
	id := f.delivery("f-1", many, func(d *NewDelivery) {
		d.Targets[many-1].Status, d.Targets[many-1].Cause = waybill.Aborted, waybill.CauseUnknown
		d.Targets[many-1].Finished = f.clock()
	})
	list, err := f.Targets(t.Context(), "a", region, id, waybill.TargetFilter{}, waybill.Page{Size: 2, Offset: many - 2})
	if err != nil || list.Total != many || len(list.Items) != 2 {
		t.Fatalf("%d of %d, %v", len(list.Items), list.Total, err)
	}
	if a, b := list.Items[0], list.Items[1]; a.Instance != machine(many-2) || b.Instance != machine(many-1) || b.Cause != waybill.CauseUnknown {
		t.Errorf("the last: %+v, %+v", a, b)
	}
	shown := f.list(waybill.DeliveryFilter{ID: id}, waybill.Page{}).Items[0]
	if len(shown.Targets) != MaxListedTargets || shown.Targets[499].Instance != machine(499) || shown.TargetCount != many ||
		shown.Counts.Pending != many-1 {
		t.Errorf("a listing holds %d of %d targets, counts %+v", len(shown.Targets), shown.TargetCount, shown.Counts)
	}
	if only := f.list(waybill.DeliveryFilter{ID: id, Instance: machine(many - 1)}, waybill.Page{}).Items[0]; len(only.Targets) != 1 {
		t.Errorf("the last: %+v", only.Targets)
	}
	groups, err := f.TargetGroups(t.Context(), "a", region, id)
	if err != nil || len(groups) != 2 || groups[0].Count != many-1 {
		t.Errorf("%+v, %v", groups, err)
	}
}

// TestRetentionTakesLargeDeliveriesInSteps bounds what one transaction removes.
func TestRetentionTakesLargeDeliveriesInSteps(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		targets []int
		want    int
	}{
		{nil, 0}, {[]int{1, 1, 1}, 3}, {[]int{9}, 1}, {[]int{9, 1}, 1}, {[]int{2, 3}, 2}, {[]int{2, 3, 1}, 2}, {[]int{1, 9}, 1},
	} {
		var list []expired
		for _, n := range tc.targets {
			list = append(list, expired{targets: n})
		}
		if got := len(atMost(list, 5)); got != tc.want {
			t.Errorf("of deliveries with %v targets %d are removed at once, want %d", tc.targets, got, tc.want)
		}
	}
}
