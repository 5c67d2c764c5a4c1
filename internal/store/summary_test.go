// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
)

// TestSummaries looks at deliveries from afar: heads, targets page by page, and counts.
func TestSummaries(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		f, ctx := open(t), t.Context()
		for i := range 5 {
			f.enrol(string(machine(i)))
		}
		f.advance(time.Hour)
		since := f.clock()
		id := f.delivery("f-1", 5, func(d *NewDelivery) { d.Description = "100% of_it"; d.File.Name = "App.conf" })
		f.delivery("f-2", 1)
		f.apply(changed(ended(id, "m0", waybill.NoCause, f.clock()), waybill.Created), ended(id, "m1", waybill.CauseGroupMissing, f.clock()),
			ended(id, "m2", waybill.CauseGroupMissing, f.clock()), ended(id, "m3", waybill.CauseExists, f.clock()))

		filter := waybill.DeliveryFilter{Region: region}
		for search, want := range map[string]int{"": 2, "app.CONF": 1, "100% of_": 1, "100%of": 0, "f-": 2, "nothing": 0} {
			filter.Search = search
			list, err := f.DeliveryHeads(ctx, "a", filter, waybill.Page{Size: 10}, 0)
			if err != nil || len(list.Items) != want || list.Total != int64(want) {
				t.Errorf("search %q finds %d of %d, %v; want %d", search, len(list.Items), list.Total, err, want)
			}
		}
		one, err := f.DeliveryHeads(ctx, "a", waybill.DeliveryFilter{Region: region, ID: id}, waybill.Page{Size: 10}, 3)
		if err != nil || len(one.Items) != 1 || len(one.Items[0].Preview) != min(3, int(one.Items[0].Size)) || one.Items[0].Counts.Failed != 3 {
			t.Errorf("one head: %+v, %v", one, err)
		}
		if other, err := f.DeliveryHeads(ctx, "b", waybill.DeliveryFilter{Region: region, ID: id}, waybill.Page{Size: 10}, 3); err != nil || len(other.Items) > 0 {
			t.Errorf("another account sees %+v, %v", other, err)
		}

		// Page by page, in the order asked for.
		var seen []string
		for cursor, pages := "", 0; ; pages++ {
			list, err := f.Targets(ctx, "a", region, id, waybill.TargetFilter{}, waybill.Page{Size: 2, Cursor: cursor})
			if err != nil || list.Total != 5 || pages > 3 {
				t.Fatalf("page %d: %+v, %v", pages, list, err)
			}
			for _, v := range list.Items {
				if (v.Change == waybill.Created) != (v.Status == waybill.Success) {
					t.Errorf("%s: %s, changed %q", v.Instance, v.Status, v.Change)
				}
				seen = append(seen, string(v.Instance))
			}
			if cursor = list.Next; cursor == "" {
				break
			}
		}
		if diff := cmp.Diff([]string{"m0", "m1", "m2", "m3", "m4"}, seen); diff != "" {
			t.Errorf("targets (-want +got):\n%s", diff)
		}
		for name, v := range map[string]struct {
			filter waybill.TargetFilter
			want   int
		}{
			"status":  {waybill.TargetFilter{Statuses: []waybill.Status{waybill.Invalid}}, 2},
			"cause":   {waybill.TargetFilter{Causes: []waybill.Cause{waybill.CauseExists, waybill.CauseGroupMissing}}, 3},
			"ID":      {waybill.TargetFilter{Name: "m4"}, 1},
			"nothing": {waybill.TargetFilter{Name: "%"}, 0},
		} {
			list, err := f.Targets(ctx, "a", region, id, v.filter, waybill.Page{Size: 10})
			if err != nil || len(list.Items) != v.want || list.Total != int64(v.want) {
				t.Errorf("%s: %+v, %v; want %d", name, list, err, v.want)
			}
		}
		if _, err := f.Targets(ctx, "b", region, id, waybill.TargetFilter{}, waybill.Page{Size: 10}); err == nil {
			t.Error("another account sees the targets")
		}
		groups, err := f.TargetGroups(ctx, "a", region, id)
		want := []waybill.TargetGroup{
			{Status: waybill.Invalid, Cause: waybill.CauseGroupMissing, Count: 2},
			{Status: waybill.Failed, Cause: waybill.CauseExists, Count: 1},
			{Status: waybill.Pending, Count: 1},
			{Status: waybill.Success, Count: 1},
		}
		if diff := cmp.Diff(want, groups); diff != "" || err != nil {
			t.Errorf("groups (-want +got): %v\n%s", err, diff)
		}
		sum, err := f.DeliverySummary(ctx, "a", region, "f-", since)
		if err != nil || sum.Deliveries[waybill.OverallPending] != 2 || len(sum.Failures) != 2 || sum.Failures[0].Count != 2 {
			t.Errorf("summary %+v, %v", sum, err)
		}
		if later, err := f.DeliverySummary(ctx, "a", region, "f-", f.clock().Add(time.Hour)); err != nil || len(later.Deliveries)+len(later.Failures) > 0 {
			t.Errorf("summary of later %+v, %v", later, err)
		}
		machines, err := f.MachineSummary(ctx, "a", region, f.clock().Add(-time.Hour))
		if err != nil || len(machines) != 1 || machines[0].Count != 5 || machines[0].Connected {
			t.Errorf("machines %+v, %v", machines, err)
		}
		for pattern, want := range map[string]int{"M?": 0, "*": 5, "nothing*": 0} {
			list, err := f.Instances(ctx, "a", waybill.InstanceFilter{Region: region, Name: pattern}, waybill.Page{Size: 10})
			if err != nil || pattern != "M?" && len(list.Items) != want {
				t.Errorf("name %q finds %d, %v; want %d", pattern, len(list.Items), err, want)
			}
		}
	})
}
