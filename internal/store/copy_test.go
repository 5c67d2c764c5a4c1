// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/pgtest"
)

// furnished returns a SQLite store in which every table has something.
func furnished(t *testing.T) *fixture {
	t.Helper()
	f, ctx := openOnSQLite(t), t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := f.PutSecret(ctx, "bus-operator", []byte("sealed \x00\xff"))
	must(err)
	must(f.AddAccount(ctx, waybill.Account{ID: "b", Name: "second", Disabled: true, Created: epoch}, testKey("b-key", "b")))
	must(f.AddUser(ctx, "a", user("alice"), 10))
	must(f.AddUserGroup(ctx, "a", group("ops"), 10))
	must(f.AddMember(ctx, "a", "ops", "alice", 10))
	must(f.AddPolicy(ctx, "a", waybill.Policy{PolicyName: custom("read"), Document: "{}", Version: 1}, 10))
	must(f.Attach(ctx, "a", userEntity("alice"), custom("read"), 10))
	must(f.AddResourceGroup(ctx, "a", waybill.ResourceGroup{ID: "rg-1", Name: "web"}, 10))
	for i := range 7 {
		f.enrol(string(machine(i)))
	}
	f.webhook("hook")
	for i := range 20 {
		id := f.delivery(fmt.Sprintf("f-%02d", i), i%7+1, func(d *NewDelivery) {
			d.Tags = []waybill.Tag{{Key: "k", Value: "文"}}
			if i%3 == 0 {
				d.ContentType, d.Sent = waybill.Base64, "in other\nlines"
			}
			if i%5 == 0 {
				sent := sha256.Sum256([]byte(d.Sent))
				d.Large, d.SentLarge = true, &sent
			}
			d.DryRun, d.Diff = i == 7, i == 7
		})
		if i%2 == 0 {
			f.apply(ended(id, "m0", waybill.NoCause, f.clock()))
		} else {
			f.apply(ended(id, "m0", waybill.CauseExists, f.clock()))
			f.retry(id)
		}
		if i == 7 {
			c := ended(id, "m0", waybill.NoCause, f.clock())
			c.Change, c.Diff = waybill.WouldReplace, waybill.Diff{Text: "-alt\n+neu 文\n", Note: "not all"}
			f.apply(c)
		}
		a := act("ecs:SendFile")
		a.Token, a.Subject = fmt.Sprint("token", i), string(id)
		must(f.For(a, []byte("answer")).AddKey(ctx, testKey(fmt.Sprint("key-", i), "a"), 100))
		_, err := f.UseNonce(ctx, "k", fmt.Sprint(i), f.clock().Add(time.Hour))
		must(err)
		f.advance(7 * time.Hour)
	}
	must(f.AddSession(ctx, "token", Session{Account: "a", AccessKey: "key-1", Created: f.clock(), Used: f.clock(), Expires: f.clock().Add(time.Hour)}, 5))
	up := f.mustUpload("u1", "a", "uploaded", 5<<20)
	must(f.FinishUpload(ctx, &up, f.clock().Add(time.Hour)))
	f.mustUpload("u2", "a", "not finished", 5<<20) // stays behind
	f.writes.group.Flush()
	return f
}

func (f *fixture) copyTo(ctx context.Context, url string, progress func(CopyProgress)) ([]CopiedTable, error) {
	return Copy(ctx, CopyConfig{From: f.url, To: url, AuditKey: auditKey, Now: f.clock, Progress: progress, step: 5}, slog.New(slog.DiscardHandler))
}

// openCopy opens a copy as a server does.
func (f *fixture) openCopy(url string) *fixture {
	f.t.Helper()
	c := &fixture{t: f.t, url: url, at: f.clock()}
	c.reopen()
	f.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			f.t.Errorf("close: %v", err)
		}
	})
	return c
}

// TestCopyGoesOnAfterEmptyTables interrupts a copy that has passed tables without rows.
func TestCopyGoesOnAfterEmptyTables(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	f, url := openOnSQLite(t), pgtest.Database(t, "", nil)
	if _, err := f.PutSecret(t.Context(), "bus-operator", []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	f.writes.group.Flush()
	for n := 1; ; n++ {
		ctx, interrupt := context.WithCancel(t.Context())
		left := 2
		_, err := f.copyTo(ctx, url, func(CopyProgress) {
			if left--; left == 0 {
				interrupt()
			}
		})
		interrupt()
		if err == nil {
			break
		}
		if n > 100 || !errors.Is(err, context.Canceled) {
			t.Fatalf("attempt %d: %v", n, err)
		}
	}
}

// TestCopy copies a database, in one go and with an interruption at every step: the copy is the same, and serves.
func TestCopy(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	f := furnished(t)
	steps := 0
	whole := pgtest.Database(t, "", nil)
	tables, err := f.copyTo(t.Context(), whole, func(CopyProgress) { steps++ })
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if table.Rows == 0 {
			t.Errorf("nothing was in %s, so nothing is proven by it", table.Name)
		}
	}
	if len(tables) < 19 || steps < 30 {
		t.Errorf("%d tables in %d steps", len(tables), steps)
	}

	// Whatever it was doing when it was interrupted, the next one goes on; a server does not start meanwhile.
	url := pgtest.Database(t, "", nil)
	interrupted := 0
	for n := 0; ; n++ {
		ctx, interrupt := context.WithCancel(t.Context())
		left := 3
		again, err := f.copyTo(ctx, url, func(CopyProgress) {
			if left--; left == 0 {
				interrupt()
			}
		})
		interrupt()
		if err == nil {
			if diff := cmp.Diff(tables, again); diff != "" {
				t.Errorf("after interruptions: %s", diff)
			}
			break
		}
		if interrupted++; n > steps || !errors.Is(err, context.Canceled) {
			t.Fatalf("attempt %d: %v", n, err)
		}
		if _, err := Open(t.Context(), Config{URL: url, AuditKey: auditKey}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "run waybill copy again") {
			t.Fatalf("a server on half a copy: %v", err)
		}
		if n == 3 { // a server ran on the source meanwhile
			f.conclude("f-01")
			if tables, err = f.copyTo(t.Context(), pgtest.Database(t, "", nil), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if interrupted < 5 {
		t.Errorf("interrupted %d times", interrupted)
	}

	c := f.openCopy(url)
	if v := c.verdict(); v.Problem != "" || v.Records != 20 {
		t.Errorf("audit trail: %+v", v)
	}
	if diff := cmp.Diff(f.list(waybill.DeliveryFilter{}, waybill.Page{}), c.list(waybill.DeliveryFilter{}, waybill.Page{})); diff != "" {
		t.Errorf("deliveries: %s", diff)
	}
	if fresh, err := c.UseNonce(t.Context(), "k", "3", c.clock()); err != nil || fresh {
		t.Errorf("a nonce that was used: %v, %v", fresh, err)
	}
	if n := c.count("deliveries_other"); n != 0 {
		t.Errorf("%d deliveries are in no partition of their day", n)
	}
	c.conclude("f-03")
	c.record(1)
	if v := c.verdict(); v.Problem != "" {
		t.Errorf("audit trail after a server has gone on with it: %+v", v)
	}
	if _, err := f.copyTo(t.Context(), url, nil); err == nil || !strings.Contains(err.Error(), "the target is not empty") {
		t.Errorf("a copy over a copy: %v", err)
	}
}

func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	f, other := furnished(t), furnished(t)
	if _, err := f.copyTo(t.Context(), openOnPostgres(t).url, nil); err == nil || !strings.Contains(err.Error(), "the target is not empty") {
		t.Errorf("a target in use: %v", err)
	}
	if _, err := openOnSQLite(t).copyTo(t.Context(), pgtest.Database(t, "", nil), nil); err == nil || !strings.Contains(err.Error(), "no server has run") {
		t.Errorf("an unused source: %v", err)
	}
	other.sql(`UPDATE secrets SET sealed = x'01'`)
	url := pgtest.Database(t, "", nil)
	ctx, interrupt := context.WithCancel(t.Context())
	if _, err := other.copyTo(ctx, url, func(CopyProgress) { interrupt() }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := f.copyTo(t.Context(), url, nil); err == nil || !strings.Contains(err.Error(), "unfinished copy of another database") {
		t.Errorf("another's unfinished copy: %v", err)
	}
	f.sql(`UPDATE audit_records SET actor = 'bob' WHERE seq = 3`)
	if _, err := f.copyTo(t.Context(), pgtest.Database(t, "", nil), nil); err == nil || !strings.Contains(err.Error(), "record 3 was altered") {
		t.Errorf("a trail that does not verify: %v", err)
	}
}

func TestSchemaOf(t *testing.T) { onEach(t, testSchemaOf) }

func testSchemaOf(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	info, err := SchemaOf(t.Context(), f.url)
	if err != nil || info.Version != info.Newest || info.Version < 6 {
		t.Errorf("%+v, %v", info, err)
	}
	for _, m := range info.Migrations {
		if !m.Applied || m.Name == "" {
			t.Errorf("%+v", m)
		}
	}
	if !f.dialect.shared {
		return
	}
	empty := pgtest.Database(t, "", nil)
	if info, err = SchemaOf(t.Context(), empty); err != nil || info.Version != 0 || info.Migrations[0].Applied {
		t.Errorf("of an empty database: %+v, %v", info, err)
	}
	if err := Migrate(t.Context(), Config{URL: empty}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if info, err = SchemaOf(t.Context(), empty); err != nil || info.Version != info.Newest {
		t.Errorf("after it: %+v, %v", info, err)
	}
}
