// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
)

// TestRehearsals stores what machines would change, pages it, and forgets it with the delivery. Nobody has a file by it.
func TestRehearsals(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		t.Parallel()
		f := open(t)
		f.enrol("m1")
		data := []byte("content")
		sum := sha256.Sum256(data)
		rehearse := func(n *NewDelivery) {
			n.DryRun, n.Diff = true, true
			n.Data, n.Sent, n.SHA256, n.Size = data, "content", sum, int64(len(data))
		}
		id := f.delivery("f-1", 4, rehearse)
		d, err := f.Dispatch(t.Context(), id)
		if err != nil || !d.DryRun || !d.Diff {
			t.Fatalf("%+v, %v", d.Delivery, err)
		}
		if l, err := f.OpenRehearsals(t.Context(), "m1", 9); err != nil || len(l) != 1 {
			t.Errorf("open: %+v, %v", l, err)
		}
		if l, err := f.OpenLarge(t.Context(), "m1", 0, 9); err != nil || len(l) != 0 {
			t.Errorf("to be fetched: %+v, %v", l, err)
		}
		says := func(m string, change waybill.Change, diff waybill.Diff) Change {
			c := ended(id, waybill.InstanceID(m), waybill.NoCause, f.clock())
			c.SHA256, c.Change, c.Diff = nil, change, diff
			return c
		}
		first := waybill.Diff{Text: "--- a\n+++ b\n", Note: "not all of it"}
		f.apply(says("m0", waybill.WouldReplace, first), says("m1", waybill.WouldCreate, waybill.Diff{Note: "no text"}),
			says("m2", waybill.WouldKeep, waybill.Diff{}), says("m3", waybill.Created, first))
		f.apply(says("m0", waybill.WouldReplace, waybill.Diff{Text: "again"}))
		if got := f.list(waybill.DeliveryFilter{ID: id, Region: region}, waybill.Page{Size: 1}).Items[0]; !got.DryRun || got.Targets[0].Change != waybill.WouldReplace ||
			got.Targets[3].Status != waybill.Errored {
			t.Errorf("%+v", got)
		}
		page, err := f.Diffs(t.Context(), "a", region, id, "", waybill.Page{Size: 1})
		if err != nil || page.Total != 2 || len(page.Items) != 1 || page.Items[0].Instance != "m0" || page.Items[0].Diff != first {
			t.Fatalf("%+v, %v", page, err)
		}
		page, err = f.Diffs(t.Context(), "a", region, id, "", waybill.Page{Size: 1, Cursor: page.Next})
		if err != nil || len(page.Items) != 1 || page.Items[0].Instance != "m1" || page.Items[0].Note != "no text" || page.Next != "" {
			t.Errorf("%+v, %v", page, err)
		}
		if page, err = f.Diffs(t.Context(), "a", region, id, "m2", waybill.Page{Size: 9}); err != nil || page.Total != 0 {
			t.Errorf("of one that keeps it: %+v, %v", page, err)
		}
		if _, err = f.Diffs(t.Context(), "b", region, id, "", waybill.Page{Size: 9}); !errors.Is(err, ErrNotFound) {
			t.Errorf("of another account: %v", err)
		}
		for _, by := range []waybill.FileFilter{{Region: region, SHA256: &sum}, {Region: region, Path: d.File.Path()}} {
			if l, err := f.Files(t.Context(), "a", by, waybill.Page{Size: 9}); err != nil || len(l.Items) > 0 {
				t.Errorf("who has it: %+v, %v", l.Items, err)
			}
		}
		f.advance(time.Hour)
		if n, err := f.Expire(t.Context(), Scope{"a", region}, f.clock(), 100, 10); err != nil || n != 1 || f.count("diffs") != 0 {
			t.Errorf("forgotten: %d, %v, %d left", n, err, f.count("diffs"))
		}
	})
}
