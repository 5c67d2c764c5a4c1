// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// large makes a delivery one whose content, and text unless it is empty, are in the store of large contents.
func large(size int64, text string) func(*NewDelivery) {
	return func(d *NewDelivery) {
		d.Large, d.Size, d.ContentType = true, size, waybill.Base64
		if text != "" {
			sent := sha256.Sum256([]byte(text))
			d.Sent, d.SentLarge = text, &sent
		}
	}
}

func TestLargeContents(t *testing.T) { onEach(t, testLargeContents) }

func testLargeContents(t *testing.T, open opener) {
	t.Parallel()
	f, ctx := open(t), t.Context()
	const text = "bGFy\nZ2U="
	digest, sent := sha256.Sum256([]byte("content of f-1")), sha256.Sum256([]byte(text))
	f.delivery("f-0", 1, large(3<<20, ""), func(d *NewDelivery) { d.SHA256 = digest })
	f.delivery("f-1", 1, large(3<<20, text))
	f.delivery("f-2", 1, func(d *NewDelivery) { // in the database, and too long for a message
		d.Data = []byte(strings.Repeat("x", wire.MaxContent+1))
		d.Sent, d.Size, d.SHA256 = string(d.Data), int64(len(d.Data)), sha256.Sum256(d.Data)
	})
	var got []*waybill.ContentRef
	for _, d := range f.list(waybill.DeliveryFilter{}, waybill.Page{}).Items {
		got = append(got, d.Left)
		if d.Content != "" {
			t.Errorf("the listing of %s has a content of %d bytes", d.ID, len(d.Content))
		}
	}
	whole := sha256.Sum256([]byte(strings.Repeat("x", wire.MaxContent+1)))
	want := []*waybill.ContentRef{
		{SHA256: whole, Size: wire.MaxContent + 1},
		{SHA256: sent, Size: int64(len(text))},
		{SHA256: digest, Size: 3 << 20, Base64: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if b, err := f.Content(ctx, whole); err != nil || sha256.Sum256(b) != whole {
		t.Errorf("read %d bytes: %v", len(b), err)
	}
	if _, err := f.Content(ctx, digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("a large one is in the database: %v", err)
	}
	open3, err := f.OpenFor(ctx, "m0", "", 10)
	if err != nil || len(open3) != 3 || slices.ContainsFunc(open3, func(d Dispatch) bool { return d.Data != nil }) {
		t.Errorf("%d are open: %v", len(open3), err)
	}
	found, err := f.OpenLarge(ctx, "m0", wire.MaxContent+1, 10)
	if err != nil || len(found) != 2 {
		t.Errorf("%d are large: %v", len(found), err)
	}
	if d, err := f.OpenContent(ctx, "m0", "f-1", 1); err != nil || d.SHA256 != digest || d.Size != 3<<20 {
		t.Errorf("open for its machine: %+v, %v", d, err)
	}
	f.apply(ended("f-1", "m0", waybill.CauseDeadline, f.clock()))
	for what, of := range map[string][2]string{"another machine": {"m1", "f-2"}, "over": {"m0", "f-1"}, "no delivery": {"m0", "f-9"}} {
		if _, err := f.OpenContent(ctx, waybill.InstanceID(of[0]), waybill.DeliveryID(of[1]), 1); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What a delivery refers to is not condemned; what is condemned no delivery comes to refer to, until it is removed.
func TestCondemn(t *testing.T) { onEach(t, testCondemn) }

func testCondemn(t *testing.T, open opener) {
	t.Parallel()
	f, ctx := open(t), t.Context()
	const text = "bGFy\nZ2U="
	digest, sent := sha256.Sum256([]byte("content of f-1")), sha256.Sum256([]byte(text))
	condemn := func(digest [32]byte, want bool) {
		t.Helper()
		if got, err := f.Condemn(ctx, digest); err != nil || got != want {
			t.Errorf("condemned: %t, %v; want %t", got, err, want)
		}
	}
	id := f.delivery("f-1", 1, large(3<<20, text))
	condemn(digest, false)
	condemn(sent, false)
	f.apply(ended(id, "m0", waybill.CauseDeadline, f.clock()))
	f.advance(48 * time.Hour)
	if _, err := f.DropBefore(ctx, f.clock()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Expire(ctx, Scope{"a", region}, f.clock(), 10, 10); err != nil {
		t.Fatal(err)
	}
	condemn(sent, true)
	condemn(digest, true)
	condemn(digest, true) // still
	condemn(sha256.Sum256([]byte("nobody's")), true)

	again := &NewDelivery{Data: []byte("content of f-1"), Sent: text, Large: true, SentLarge: &sent, Delivery: waybill.Delivery{
		ID: "f-2", Account: "a", Region: region, ContentType: waybill.Base64, SHA256: digest, Size: 3 << 20,
		File:    waybill.FileSpec{Name: "n", TargetDir: "/d", Owner: "root", Group: "root", Mode: "0644"},
		Created: f.clock(), Deadline: f.clock().Add(time.Minute),
	}, Targets: []waybill.Target{{Instance: "m0", Status: waybill.Pending}}}
	if err := f.AddDelivery(ctx, again); !errors.Is(err, ErrCondemned) {
		t.Errorf("a delivery refers to what is being removed: %v", err)
	}
	if l := f.list(waybill.DeliveryFilter{}, waybill.Page{}); len(l.Items) != 0 {
		t.Errorf("stored all the same: %s", ids(l))
	}
	if list, err := f.Condemned(ctx, f.clock(), 10); err != nil || len(list) != 0 {
		t.Errorf("%d are condemned for long: %v", len(list), err)
	}
	list, err := f.Condemned(ctx, f.clock().Add(time.Millisecond), 10)
	if err != nil || len(list) != 3 {
		t.Fatalf("%d are condemned: %v", len(list), err)
	}
	for _, d := range list {
		if err := f.Removed(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.AddDelivery(ctx, again); err != nil {
		t.Fatal(err)
	}
	condemn(digest, false)
	if err := f.Removed(ctx, digest); err != nil {
		t.Fatal(err)
	}
	condemn(digest, false)
}

// TestCondemnAndSendAtOnce has servers that collect while others send: a content is never condemned that a delivery has.
func TestCondemnAndSendAtOnce(t *testing.T) { onEach(t, testCondemnAndSendAtOnce) }

func testCondemnAndSendAtOnce(t *testing.T, open opener) {
	t.Parallel()
	f, ctx := open(t), t.Context()
	digest := sha256.Sum256([]byte("shared"))
	for i := range 30 {
		id := "f-" + string(rune('A'+i))
		condemned := make(chan bool)
		go func() {
			got, err := f.Condemn(ctx, digest)
			if err != nil {
				t.Error(err)
			}
			condemned <- got
		}()
		d := &NewDelivery{Data: []byte("shared"), Sent: "shared", Large: true, Delivery: waybill.Delivery{
			ID: waybill.DeliveryID(id), Account: "a", Region: region, ContentType: waybill.PlainText, SHA256: digest, Size: 3 << 20,
			File:    waybill.FileSpec{Name: "n", TargetDir: "/d", Owner: "root", Group: "root", Mode: "0644"},
			Created: f.clock(), Deadline: f.clock().Add(time.Minute),
		}, Targets: []waybill.Target{{Instance: "m0", Status: waybill.Success, Finished: f.clock()}}}
		err := f.AddDelivery(ctx, d)
		marked := <-condemned
		if marked == (err == nil) {
			t.Fatalf("round %d: condemned %t, and a delivery refers to it: %v", i, marked, err)
		}
		if err != nil && !errors.Is(err, ErrCondemned) {
			t.Fatal(err)
		}
		f.advance(48 * time.Hour)
		if _, err := f.DropBefore(ctx, f.clock()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Expire(ctx, Scope{"a", region}, f.clock(), 10, 10); err != nil {
			t.Fatal(err)
		}
		if err := f.Removed(ctx, digest); err != nil {
			t.Fatal(err)
		}
	}
}
