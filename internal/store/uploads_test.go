// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
)

// upload begins an upload of a content of that name.
func (f *fixture) upload(id string, account waybill.AccountID, name string, size int64, limit int) (Upload, error) {
	u := Upload{ID: id, Account: account, SHA256: sha256.Sum256([]byte(name)), Size: size, Blob: "b-" + id, State: []byte("s0"), Created: f.clock()}
	return u, f.AddUpload(f.t.Context(), &u, limit)
}

func (f *fixture) mustUpload(id string, account waybill.AccountID, name string, size int64) Upload {
	f.t.Helper()
	u, err := f.upload(id, account, name, size, 100)
	if err != nil {
		f.t.Fatal(err)
	}
	return u
}

func TestUploads(t *testing.T) { onEach(t, testUploads) }

func testUploads(t *testing.T, open opener) {
	t.Parallel()
	f, ctx := open(t), t.Context()
	u := f.mustUpload("u1", "a", "x", 100)
	for name, got := range map[string]func() (Upload, error){
		"by ID":      func() (Upload, error) { return f.Upload(ctx, "u1") },
		"by content": func() (Upload, error) { return f.UploadOf(ctx, "a", u.SHA256, 100) },
	} {
		if got, err := got(); err != nil || !cmp.Equal(got, u) {
			t.Errorf("%s: %v %s", name, err, cmp.Diff(u, got))
		}
	}
	for name, of := range map[string]Upload{
		"another account's": {Account: "b", SHA256: u.SHA256, Size: 100}, "another size": {Account: "a", SHA256: u.SHA256, Size: 101},
		"another content": {Account: "a", Size: 100},
	} {
		if _, err := f.UploadOf(ctx, of.Account, of.SHA256, of.Size); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.upload("u2", "a", "x", 100, 100); !errors.Is(err, ErrExists) {
		t.Errorf("the same content again: %v", err)
	}
	if _, err := f.upload("u2", "a", "y", 100, 1); !errors.Is(err, ErrQuota) {
		t.Errorf("one too many: %v", err)
	}
	f.mustUpload("u3", "b", "x", 100)

	// Of two that go on from the same place, one counts.
	first, err := f.NumberPiece(ctx, "u1", 0)
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.NumberPiece(ctx, "u1", 0)
	if err != nil || second <= first {
		t.Fatalf("number %d after %d: %v", second, first, err)
	}
	next := u
	next.Received, next.State = 60, []byte("s1")
	if err := f.AddPiece(ctx, &next, 0, UploadPiece{second, "m2"}); err != nil {
		t.Fatal(err)
	}
	if err := f.AddPiece(ctx, &next, 0, UploadPiece{first, "m1"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("the other counts too: %v", err)
	}
	if _, err := f.NumberPiece(ctx, "u1", 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("a number for what is there: %v", err)
	}
	third, err := f.NumberPiece(ctx, "u1", 60)
	if err != nil || third <= second {
		t.Fatalf("number %d after %d: %v", third, second, err)
	}
	last := next
	last.Received, last.State = 100, []byte("s2")
	if err := f.AddPiece(ctx, &last, 60, UploadPiece{third, "m3"}); err != nil {
		t.Fatal(err)
	}
	f.reopen()
	if got, err := f.Upload(ctx, "u1"); err != nil || !cmp.Equal(got, last) {
		t.Errorf("%v %s", err, cmp.Diff(last, got))
	}
	if got, err := f.UploadPieces(ctx, "u1"); err != nil || !slices.Equal(got, []UploadPiece{{second, "m2"}, {third, "m3"}}) {
		t.Errorf("pieces %v, %v", got, err)
	}

	// Who has uploaded it has it for a time; others do not.
	held := func(account waybill.AccountID, want int64) {
		t.Helper()
		got, err := f.Held(ctx, account, u.SHA256)
		if want == 0 && !errors.Is(err, ErrNotFound) || want > 0 && (err != nil || got != want) {
			t.Errorf("%s has %d bytes, %v; want %d", account, got, err, want)
		}
	}
	held("a", 0)
	if err := f.FinishUpload(ctx, &last, f.clock().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := f.FinishUpload(ctx, &last, f.clock().Add(time.Hour)); !errors.Is(err, ErrNotFound) {
		t.Errorf("finished twice: %v", err)
	}
	if got, err := f.UploadPieces(ctx, "u1"); err != nil || len(got) != 0 {
		t.Errorf("pieces %v, %v", got, err)
	}
	held("a", 100)
	held("b", 0)
	if err := f.KeepUploaded(ctx, "a", u.SHA256, f.clock().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	f.advance(90 * time.Minute)
	held("a", 100)
	if n, err := f.ForgetUploaded(ctx, 10); err != nil || n != 0 {
		t.Errorf("%d were forgotten: %v", n, err)
	}
	f.advance(time.Hour)
	held("a", 0)
	if err := f.KeepUploaded(ctx, "a", u.SHA256, f.clock().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	held("a", 0)
	if n, err := f.ForgetUploaded(ctx, 10); err != nil || n != 1 {
		t.Errorf("%d were forgotten: %v", n, err)
	}

	if old, err := f.OldUploads(ctx, f.clock().Add(-3*time.Hour), 10); err != nil || len(old) != 0 {
		t.Errorf("%d are old: %v", len(old), err)
	}
	old, err := f.OldUploads(ctx, f.clock().Add(-time.Hour), 10)
	if err != nil || len(old) != 1 || old[0].ID != "u3" {
		t.Fatalf("old are %v: %v", old, err)
	}
	for range 2 {
		if err := f.DropUpload(ctx, &old[0]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Upload(ctx, "u3"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if n := f.count("blobs"); n != 0 {
		t.Errorf("%d contents are noted, and nobody has any", n)
	}
}

// What an account sent, it has as long as the delivery is kept.
func TestHeldBySending(t *testing.T) { onEach(t, testHeldBySending) }

func testHeldBySending(t *testing.T, open opener) {
	t.Parallel()
	f, ctx := open(t), t.Context()
	id := f.delivery("f-1", 1)
	digest := sha256.Sum256([]byte("content of f-1"))
	if size, err := f.Held(ctx, "a", digest); err != nil || size != int64(len("content of f-1")) {
		t.Errorf("%d bytes, %v", size, err)
	}
	if _, err := f.Held(ctx, "b", digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("another account has it: %v", err)
	}
	f.apply(ended(id, "m0", waybill.CauseDeadline, f.clock()))
	f.advance(48 * time.Hour)
	if _, err := f.DropBefore(ctx, f.clock()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Expire(ctx, Scope{"a", region}, f.clock(), 10, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Held(ctx, "a", digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("the delivery is gone, and it is there: %v", err)
	}
}

// What is being uploaded, and what was, is not condemned; a delivery can name only what is there.
func TestUploadedInUse(t *testing.T) { onEach(t, testUploadedInUse) }

func testUploadedInUse(t *testing.T, open opener) {
	t.Parallel()
	f, ctx := open(t), t.Context()
	condemn := func(digest [32]byte, want bool) {
		t.Helper()
		if got, err := f.Condemn(ctx, digest); err != nil || got != want {
			t.Errorf("condemned: %t, %v; want %t", got, err, want)
		}
	}
	named := func(id string) error {
		return f.AddDelivery(ctx, &NewDelivery{Held: true, Delivery: waybill.Delivery{
			ID: waybill.DeliveryID(id), Account: "a", Region: region, ContentType: waybill.Base64, SHA256: sha256.Sum256([]byte("x")), Size: 3 << 20,
			File:    waybill.FileSpec{Name: "n", TargetDir: "/d", Owner: "root", Group: "root", Mode: "0644"},
			Created: f.clock(), Deadline: f.clock().Add(time.Minute),
		}, Targets: []waybill.Target{{Instance: "m0", Status: waybill.Success, Finished: f.clock()}}})
	}
	if err := named("f-0"); !errors.Is(err, ErrCondemned) {
		t.Errorf("a delivery refers to nothing: %v", err)
	}
	u := f.mustUpload("u1", "a", "x", 3<<20)
	condemn(u.SHA256, false)
	if err := f.FinishUpload(ctx, &u, f.clock().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	condemn(u.SHA256, false)
	if err := named("f-1"); err != nil {
		t.Fatal(err)
	}
	f.advance(2 * time.Hour)
	if n, err := f.ForgetUploaded(ctx, 10); err != nil || n != 1 {
		t.Fatalf("%d were forgotten: %v", n, err)
	}
	condemn(u.SHA256, false)
	f.advance(48 * time.Hour)
	if _, err := f.DropBefore(ctx, f.clock()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Expire(ctx, Scope{"a", region}, f.clock(), 10, 10); err != nil {
		t.Fatal(err)
	}
	condemn(u.SHA256, true)
	if err := named("f-2"); !errors.Is(err, ErrCondemned) {
		t.Errorf("a delivery refers to what is being removed: %v", err)
	}
	if _, err := f.upload("u2", "a", "x", 3<<20, 10); !errors.Is(err, ErrCondemned) {
		t.Errorf("an upload of what is being removed: %v", err)
	}
	if err := f.Removed(ctx, u.SHA256); err != nil {
		t.Fatal(err)
	}
	f.mustUpload("u2", "a", "x", 3<<20)
}
