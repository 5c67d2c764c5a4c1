// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/pgtest"
)

const region = "cn-hangzhou"

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// fixture is a store with an account "a" and a clock that stands still until it is set.
type fixture struct {
	*Store
	t    *testing.T
	url  string
	path string // of a SQLite database
	mu   sync.Mutex
	at   time.Time
}

// auditKey is that of every store here.
var auditKey = []byte("0123456789abcdef0123456789abcdef")

// testKey is a key of an account that nobody can use.
func testKey(id string, account waybill.AccountID) Key {
	return Key{AccessKey: waybill.AccessKey{ID: id, Account: account, Active: true, Created: epoch}, Sealed: []byte{1}}
}

// opener makes a fixture on one of the databases.
type opener func(*testing.T) *fixture

// onEach runs a test on every kind of database.
func onEach(t *testing.T, test func(*testing.T, opener)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) { test(t, openOnSQLite) })
	if pgtest.Available(t) {
		t.Run("postgres", func(t *testing.T) { test(t, openOnPostgres) })
	}
}

func openOnSQLite(t *testing.T) *fixture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "waybill.db")
	return openOn(t, &fixture{t: t, url: "sqlite:" + path, path: path, at: epoch})
}

func openOnPostgres(t *testing.T) *fixture {
	t.Helper()
	return openOn(t, &fixture{t: t, url: postgresDatabase(t), at: epoch})
}

// postgresDatabase returns the URL of a new database with our schema.
func postgresDatabase(t testing.TB) string {
	t.Helper()
	return pgtest.Database(t, "waybill", func(url string) error {
		now := func() time.Time { return epoch }
		s, err := Open(context.Background(), Config{URL: url, AuditKey: auditKey, Now: now}, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		return s.Close()
	})
}

func openOn(t *testing.T, f *fixture) *fixture {
	t.Helper()
	f.reopen()
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if err := f.AddAccount(t.Context(), waybill.Account{ID: "a", Name: "first", Created: epoch}, testKey("a-key", "a")); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) reopen() {
	f.t.Helper()
	s, err := Open(f.t.Context(), Config{URL: f.url, Now: f.clock, AuditKey: auditKey, Encode: encodeNotice}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.t.Fatal(err)
	}
	f.Store = s
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = f.at.Add(d)
}

// delivery stores a delivery with the given number of pending targets m0, m1 …
func (f *fixture) delivery(id string, targets int, change ...func(*NewDelivery)) waybill.DeliveryID {
	f.t.Helper()
	data := []byte("content of " + id)
	d := &NewDelivery{Data: data, Sent: string(data), Delivery: waybill.Delivery{
		ID: waybill.DeliveryID(id), Account: "a", Region: region, ContentType: waybill.PlainText,
		File:   waybill.FileSpec{Name: "n", TargetDir: "/d", Owner: "root", Group: "root", Mode: "0644"},
		SHA256: sha256.Sum256(data), Size: int64(len(data)), Timeout: time.Minute, Created: f.at, Deadline: f.at.Add(time.Minute),
	}}
	for i := range targets {
		d.Targets = append(d.Targets, waybill.Target{Instance: machine(i), Status: waybill.Pending})
	}
	for _, c := range change {
		c(d)
	}
	if err := f.AddDelivery(f.t.Context(), d); err != nil {
		f.t.Fatal(err)
	}
	return d.ID
}

func machine(i int) waybill.InstanceID { return waybill.InstanceID(fmt.Sprintf("m%d", i)) }

func (f *fixture) list(filter waybill.DeliveryFilter, p waybill.Page) waybill.Listing[waybill.DeliveryResult] {
	f.t.Helper()
	filter.Region = region
	if p.Size == 0 {
		p.Size = 50
	}
	l, err := f.Deliveries(f.t.Context(), "a", filter, p)
	if err != nil {
		f.t.Fatal(err)
	}
	return l
}

func ids(l waybill.Listing[waybill.DeliveryResult]) string {
	var s []string
	for _, d := range l.Items {
		s = append(s, string(d.ID))
	}
	return strings.Join(s, " ")
}

func ended(d waybill.DeliveryID, i waybill.InstanceID, c waybill.Cause, at time.Time) Change {
	sum := sha256.Sum256([]byte("content of " + string(d)))
	return Change{Delivery: d, Instance: i, Event: waybill.Event{To: c.Status(), Cause: c, Finished: at, Reported: true, SHA256: sum[:]}}
}

// changed is c with what it did on the machine.
func changed(c Change, what waybill.Change) Change {
	c.Change = what
	return c
}

func (f *fixture) apply(changes ...Change) []bool {
	f.t.Helper()
	applied, err := f.Apply(f.t.Context(), changes)
	if err != nil {
		f.t.Fatal(err)
	}
	return applied
}

func TestDeliveryComesBackAsStored(t *testing.T) { onEach(t, testDeliveryComesBackAsStored) }

func testDeliveryComesBackAsStored(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	want := waybill.DeliveryResult{Content: "aGVs\nbG8=", Delivery: waybill.Delivery{
		ID: "f-1", Account: "a", Region: region, ContentType: waybill.Base64,
		File:   waybill.FileSpec{Name: "n 文", TargetDir: "/d", Owner: "o", Group: "g", Mode: "4755", Overwrite: true},
		SHA256: sha256.Sum256([]byte("hello")), Size: 5, Description: "words", ResourceGroup: "rg-1",
		Tags: []waybill.Tag{{Key: "a", Value: "1"}, {Key: "b"}}, Timeout: 90 * time.Second, Created: epoch,
		Deadline: epoch.Add(90 * time.Second), Counts: waybill.Counts{Pending: 1, Failed: 1}, TargetCount: 2,
	}, Targets: []waybill.Target{
		{Delivery: "f-1", Instance: "z", Attempt: 1, Status: waybill.Pending, Created: epoch, Updated: epoch},
		{Delivery: "f-1", Instance: "b", Attempt: 1, Status: waybill.Aborted, Cause: waybill.CauseUnknown, Detail: "why", Created: epoch, Finished: epoch, Updated: epoch},
	}}
	in := NewDelivery{Delivery: want.Delivery, Data: []byte("hello"), Sent: want.Content, Targets: want.Targets}
	if err := f.AddDelivery(t.Context(), &in); err != nil {
		t.Fatal(err)
	}
	f.Close()
	f.reopen() // durable
	got := f.list(waybill.DeliveryFilter{}, waybill.Page{})
	if diff := cmp.Diff([]waybill.DeliveryResult{want}, got.Items); diff != "" {
		t.Error(diff)
	}
	d, err := f.Dispatch(t.Context(), "f-1")
	if err != nil || string(d.Data) != "hello" {
		t.Errorf("dispatch: %q, %v", d.Data, err)
	}
}

func TestDeliveriesFiltersAndPages(t *testing.T) { onEach(t, testDeliveriesFiltersAndPages) }

func testDeliveriesFiltersAndPages(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	for i := 1; i <= 7; i++ {
		f.delivery(fmt.Sprintf("f-%d", i), i%3+1, func(d *NewDelivery) {
			d.File.Name = []string{"even", "odd"}[i%2]
			if i > 5 {
				d.Tags = []waybill.Tag{{Key: "env", Value: fmt.Sprint(i)}}
				d.ResourceGroup = "rg"
			}
		})
	}
	f.apply(ended("f-3", "m0", waybill.NoCause, epoch))
	if err := f.AddAccount(t.Context(), waybill.Account{ID: "b"}, testKey("b-key", "b")); err != nil {
		t.Fatal(err)
	}
	f.delivery("f-9", 1, func(d *NewDelivery) { d.Account = "b"; d.Tags = []waybill.Tag{{Key: "env"}} })
	f.delivery("f-8", 1, func(d *NewDelivery) { d.Region = "cn-beijing" })
	for _, tc := range []struct {
		name   string
		filter waybill.DeliveryFilter
		page   waybill.Page
		want   string
		total  int64
		next   string
	}{
		{"all", waybill.DeliveryFilter{}, waybill.Page{}, "f-7 f-6 f-5 f-4 f-3 f-2 f-1", 7, ""},
		{"first page", waybill.DeliveryFilter{}, waybill.Page{Size: 3}, "f-7 f-6 f-5", 7, "f-5"},
		{"second page by cursor", waybill.DeliveryFilter{}, waybill.Page{Size: 3, Cursor: "f-5"}, "f-4 f-3 f-2", 7, "f-2"},
		{"third page by offset", waybill.DeliveryFilter{}, waybill.Page{Size: 3, Offset: 6}, "f-1", 7, ""},
		{"full last page", waybill.DeliveryFilter{Name: "even"}, waybill.Page{Size: 3}, "f-6 f-4 f-2", 3, ""},
		{"by ID", waybill.DeliveryFilter{ID: "f-2"}, waybill.Page{}, "f-2", 1, ""},
		{"by foreign ID", waybill.DeliveryFilter{ID: "f-9"}, waybill.Page{}, "", 0, ""},
		{"by instance", waybill.DeliveryFilter{Instance: "m2"}, waybill.Page{}, "f-5 f-2", 2, ""},
		{"by status", waybill.DeliveryFilter{Status: waybill.OverallSuccess}, waybill.Page{}, "f-3", 1, ""},
		{"by tag key", waybill.DeliveryFilter{Tags: []waybill.Tag{{Key: "env"}}}, waybill.Page{}, "f-7 f-6", 2, ""},
		{"by tag", waybill.DeliveryFilter{Tags: []waybill.Tag{{Key: "env", Value: "6"}}}, waybill.Page{}, "f-6", 1, ""},
		{"by group and name", waybill.DeliveryFilter{ResourceGroup: "rg", Name: "odd"}, waybill.Page{}, "f-7", 1, ""},
	} {
		got := f.list(tc.filter, tc.page)
		if ids(got) != tc.want || got.Total != tc.total || got.Next != tc.next {
			t.Errorf("%s: %q total %d next %q, want %q %d %q", tc.name, ids(got), got.Total, got.Next, tc.want, tc.total, tc.next)
		}
	}
	if got := f.list(waybill.DeliveryFilter{Instance: "m1", ID: "f-2"}, waybill.Page{}).Items[0]; len(got.Targets) != 1 || got.TargetCount != 3 {
		t.Errorf("narrowed to %d of %d targets, want 1 of 3", len(got.Targets), got.TargetCount)
	}
}

func TestApplyKeepsCountsInStep(t *testing.T) { onEach(t, testApplyKeepsCountsInStep) }

func testApplyKeepsCountsInStep(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	d1, d2 := f.delivery("f-1", 3), f.delivery("f-2", 1)
	f.advance(time.Second)
	now := f.clock()
	applied := f.apply(
		Change{Delivery: d1, Instance: "m0", Event: waybill.Event{To: waybill.Running, Started: now, Reported: true}},
		changed(ended(d1, "m0", waybill.NoCause, now), waybill.Unchanged),
		ended(d1, "m0", waybill.CauseExists, now),                            // twice: the first counts
		changed(ended(d1, "m1", waybill.CauseExists, now), waybill.Replaced), // which no failure does
		ended(d1, "nobody", waybill.CauseExists, now),
		ended("f-none", "m0", waybill.CauseExists, now),
		ended(d2, "m0", waybill.NoCause, now),
	)
	if diff := cmp.Diff([]bool{true, true, false, true, false, false, true}, applied); diff != "" {
		t.Errorf("applied: %s", diff)
	}
	l := f.list(waybill.DeliveryFilter{}, waybill.Page{})
	if c := l.Items[1].Counts; c != (waybill.Counts{Pending: 1, Success: 1, Failed: 1}) {
		t.Errorf("counts of %s: %+v", d1, c)
	}
	if got := l.Items[1].Targets; got[0].Change != waybill.Unchanged || got[1].Change != "" {
		t.Errorf("what changed: %q and %q", got[0].Change, got[1].Change)
	}
	if got := l.Items[1].Targets[0]; got.Status != waybill.Success || !got.Started.Equal(now) || !got.Finished.Equal(now) || !got.Updated.Equal(now) {
		t.Errorf("target: %+v", got)
	}
	if s := f.list(waybill.DeliveryFilter{Status: waybill.OverallSuccess}, waybill.Page{}); ids(s) != "f-2" {
		t.Errorf("successful: %q, want f-2", ids(s))
	}
	f.apply(ended(d1, "m2", waybill.CauseExists, now))
	if s := f.list(waybill.DeliveryFilter{Status: waybill.OverallPartial}, waybill.Page{}); ids(s) != "f-1" {
		t.Errorf("partly failed: %q, want f-1", ids(s))
	}
}

// TestApplyConcurrently ends every target of a delivery ten times over, from many goroutines: each ends once.
func TestApplyConcurrently(t *testing.T) { onEach(t, testApplyConcurrently) }

func testApplyConcurrently(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	d := f.delivery("f-1", 50)
	var mu sync.Mutex
	applied := map[waybill.InstanceID]int{}
	var wg sync.WaitGroup
	for range 10 {
		for i := range 50 {
			wg.Go(func() {
				ok, err := f.Apply(t.Context(), []Change{ended(d, machine(i), waybill.NoCause, epoch)})
				if err != nil {
					t.Error(err)
					return
				}
				if ok[0] {
					mu.Lock()
					applied[machine(i)]++
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	for i := range 50 {
		if applied[machine(i)] != 1 {
			t.Errorf("%s ended %d times", machine(i), applied[machine(i)])
		}
	}
	if c := f.list(waybill.DeliveryFilter{}, waybill.Page{}).Items[0].Counts; c != (waybill.Counts{Success: 50}) {
		t.Errorf("counts: %+v", c)
	}
}

func TestAFailedWriteLeavesTheOthersOfItsGroup(t *testing.T) {
	onEach(t, testAFailedWriteLeavesTheOthersOfItsGroup)
}

func testAFailedWriteLeavesTheOthersOfItsGroup(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			err := f.writes.do(t.Context(), func(tx *tx) error {
				if _, err := tx.exec(t.Context(), `INSERT INTO secrets (name, sealed) VALUES (?, ?)`, fmt.Sprint(i), []byte{1}); err != nil {
					return err
				}
				if i%2 == 1 {
					return errors.New("no")
				}
				return nil
			})
			if (err != nil) != (i%2 == 1) {
				t.Errorf("write %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for i := range 200 {
		_, err := f.Secret(t.Context(), fmt.Sprint(i))
		if errors.Is(err, ErrNotFound) != (i%2 == 1) {
			t.Errorf("secret %d: %v", i, err)
		}
	}
}

func TestACancelledWriteDoesNothing(t *testing.T) { onEach(t, testACancelledWriteDoesNothing) }

func testACancelledWriteDoesNothing(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.PutSecret(ctx, "x", []byte{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	if _, err := f.Secret(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("secret: %v", err)
	}
}

func TestAPanickingWriteDoesNotStopOthers(t *testing.T) {
	onEach(t, testAPanickingWriteDoesNotStopOthers)
}

func testAPanickingWriteDoesNotStopOthers(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic did not reach its caller")
			}
		}()
		f.writes.do(t.Context(), func(*tx) error { panic("broken") })
	}()
	if _, err := f.PutSecret(t.Context(), "x", []byte{1}); err != nil {
		t.Errorf("the next write: %v", err)
	}
}

func TestOpenAndOverdue(t *testing.T) { onEach(t, testOpenAndOverdue) }

func testOpenAndOverdue(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	f.enrol("m0")
	f.enrol("m1")
	d1 := f.delivery("f-1", 2)
	f.advance(10 * time.Second)
	d2 := f.delivery("f-2", 1)
	list, err := f.OpenFor(t.Context(), "m0", "", 10)
	if err != nil || len(list) != 2 || list[0].ID != d1 || string(list[1].Data) != "content of f-2" {
		t.Errorf("open: %+v, %v", list, err)
	}
	if list, err = f.OpenFor(t.Context(), "m0", d1, 10); err != nil || len(list) != 1 || list[0].ID != d2 {
		t.Errorf("open after %s: %+v, %v", d1, list, err)
	}
	if next, err := f.NextDeadline(t.Context()); err != nil || !next.Equal(epoch.Add(time.Minute)) {
		t.Errorf("next deadline %v, %v", next, err)
	}
	overdue, err := f.Overdue(t.Context(), epoch.Add(time.Minute+1e6), 10)
	if err != nil || len(overdue) != 2 || overdue[0].Presence != waybill.NeverSeen {
		t.Errorf("overdue: %+v, %v", overdue, err)
	}
	if n, err := f.Overdue(t.Context(), epoch.Add(time.Minute), 10); err != nil || len(n) != 0 {
		t.Errorf("overdue at the deadline itself: %d, %v", len(n), err)
	}
	missing, err := f.Missing(t.Context(), map[waybill.InstanceID][]waybill.DeliveryID{"m0": {d1}, "m1": nil})
	if err != nil || len(missing) != 2 || missing[0].Instance != "m1" || missing[1].Delivery != d2 {
		t.Errorf("missing: %+v, %v", missing, err)
	}
	f.apply(ended(d1, "m0", waybill.NoCause, epoch), ended(d1, "m1", waybill.NoCause, epoch), ended(d2, "m0", waybill.NoCause, epoch))
	if next, err := f.NextDeadline(t.Context()); err != nil || !next.IsZero() {
		t.Errorf("next deadline when all ended: %v, %v", next, err)
	}
}

func (f *fixture) enrol(id string) {
	f.t.Helper()
	a := waybill.Activation{ID: waybill.ActivationID("act-" + id), Account: "a", Region: region, InstanceCount: 1, TTL: time.Hour, Created: f.at}
	if err := f.AddActivation(f.t.Context(), a, []byte("hash"), 100); err != nil {
		f.t.Fatal(err)
	}
	_, err := f.Enrol(f.t.Context(), waybill.Instance{
		ID: waybill.InstanceID(id), Account: "a", Region: region, Activation: a.ID, State: waybill.Registered,
		PublicKey: "key-" + id, Registered: f.at, Presence: waybill.NeverSeen, Tags: []waybill.Tag{{Key: "id", Value: id}},
	}, 0, func(int) string { return "name-" + id })
	if err != nil {
		f.t.Fatal(err)
	}
}

func TestEnrolTakesPlacesOnce(t *testing.T) { onEach(t, testEnrolTakesPlacesOnce) }

func testEnrolTakesPlacesOnce(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	a := waybill.Activation{ID: "act", Account: "a", Region: region, InstanceCount: 5, TTL: time.Hour, Created: epoch}
	if err := f.AddActivation(t.Context(), a, []byte{1}, 1); err != nil {
		t.Fatal(err)
	}
	second := waybill.Activation{ID: "act2", Account: "a", Region: region}
	if err := f.AddActivation(t.Context(), second, []byte{1}, 1); !errors.Is(err, ErrLimit) {
		t.Errorf("one activation too many: %v", err)
	}
	var mu sync.Mutex
	names, full := map[string]int{}, 0
	var wg sync.WaitGroup
	for i := range 16 { // eight keys, each twice
		wg.Go(func() {
			res, err := f.Enrol(t.Context(), waybill.Instance{
				ID: waybill.InstanceID(fmt.Sprintf("mi-%d", i)), Account: "a", Region: region, Activation: "act",
				State: waybill.Registered, PublicKey: fmt.Sprint(i % 8),
			}, 0, func(before int) string { return fmt.Sprintf("web-%d", before+1) })
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, ErrLimit):
				full++
			case err != nil && !errors.Is(err, ErrExists):
				t.Error(err)
			default:
				names[res.Name]++
			}
		})
	}
	wg.Wait()
	if len(names) != 5 || full != 6 {
		t.Errorf("names %v, %d refused; want 5 names each twice, 6 refused", names, full)
	}
	got, _, err := f.Activation(t.Context(), "act")
	if err != nil || got.Registered != 5 {
		t.Errorf("registered %d, %v", got.Registered, err)
	}
	if err := f.DeleteActivation(t.Context(), "a", region, "act"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an activation in use was deleted: %v", err)
	}
}

func TestInstancesListing(t *testing.T) { onEach(t, testInstancesListing) }

func testInstancesListing(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	for i := range 5 {
		f.enrol(string(machine(i)))
		f.advance(time.Second)
	}
	facts := waybill.Facts{Hostname: "h", OSType: "linux", IntranetIP: "192.0.2.7", MachineID: "mid", Capability: 1}
	if _, err := f.Greet(t.Context(), "m2", "s", facts); err != nil {
		t.Fatal(err)
	}
	f.delivery("f-1", 3)
	f.delivery("f-2", 3)
	f.apply(ended("f-1", "m2", waybill.NoCause, f.clock()))
	if err := f.LeaveFleet(t.Context(), "m4", waybill.Deregistered); err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	for _, tc := range []struct {
		name   string
		filter waybill.InstanceFilter
		want   string
	}{
		{"all of the fleet", waybill.InstanceFilter{}, "m3 m2 m1 m0"},
		{"by IDs", waybill.InstanceFilter{IDs: []waybill.InstanceID{"m0", "m4", "none"}}, "m0"},
		{"by name", waybill.InstanceFilter{Name: "name-m1"}, "m1"},
		{"by address", waybill.InstanceFilter{IP: "192.0.2.7"}, "m2"},
		{"by machine ID", waybill.InstanceFilter{MachineID: "mid"}, "m2"},
		{"by system in other case", waybill.InstanceFilter{OSType: "Linux"}, "m2"},
		{"connected", waybill.InstanceFilter{Connected: &yes}, "m2"},
		{"not connected", waybill.InstanceFilter{Connected: &no}, "m3 m1 m0"},
		{"by tag", waybill.InstanceFilter{Tags: []waybill.Tag{{Key: "id", Value: "m3"}}}, "m3"},
		{"by activation", waybill.InstanceFilter{Activation: "act-m0"}, "m0"},
	} {
		tc.filter.Region = region
		var got []string
		for p := (waybill.Page{Size: 2}); ; {
			l, err := f.Instances(t.Context(), "a", tc.filter, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range l.Items {
				got = append(got, string(i.ID))
			}
			if p.Cursor = l.Next; l.Next == "" {
				break
			}
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, got, tc.want)
		}
	}
	l, err := f.Instances(t.Context(), "a", waybill.InstanceFilter{Region: region, Name: "name-m2"}, waybill.Page{Size: 1})
	if err != nil || len(l.Items) != 1 {
		t.Fatal(l, err)
	}
	if i := l.Items[0]; i.Deliveries != 1 || i.OpenTargets != 1 || i.Facts != facts || i.Presence != waybill.Online || len(i.Tags) != 1 {
		t.Errorf("instance: %+v", i)
	}
	a, _, err := f.Activation(t.Context(), "act-m4")
	if err != nil || a.Deregistered != 1 {
		t.Errorf("deregistered %d, %v", a.Deregistered, err)
	}
	if err := f.LeaveFleet(t.Context(), "m4", waybill.Deregistered); !errors.Is(err, ErrNotFound) {
		t.Errorf("deregistered twice: %v", err)
	}
	if left, err := f.LeftSince(t.Context(), epoch); err != nil || !left["key-m4"].Equal(f.clock()) || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestSightingsOfAnotherSessionChangeNothing(t *testing.T) {
	onEach(t, testSightingsOfAnotherSessionChangeNothing)
}

func testSightingsOfAnotherSessionChangeNothing(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	f.enrol("m0")
	if _, err := f.Greet(t.Context(), "m0", "one", waybill.Facts{}); err != nil {
		t.Fatal(err)
	}
	f.advance(time.Minute)
	before, err := f.Greet(t.Context(), "m0", "two", waybill.Facts{})
	if err != nil || before.Session != "one" || before.Presence != waybill.Online || !before.At.Equal(epoch) {
		t.Fatalf("before: %+v, %v", before, err)
	}
	for _, s := range []Sighting{
		{"m0", "one", waybill.Stopped, f.clock().Add(time.Second)}, // the old process says goodbye after the new one came
	} {
		if err := f.Sight(t.Context(), []Sighting{s}); err != nil {
			t.Fatal(err)
		}
		if i, err := f.Instance(t.Context(), "m0"); err != nil || i.Presence != waybill.Online {
			t.Errorf("after %+v: %s, %v", s, i.Presence, err)
		}
	}
	if err := f.Sight(t.Context(), []Sighting{{"m0", "two", waybill.ShutDown, f.clock().Add(time.Second)}}); err != nil {
		t.Fatal(err)
	}
	if err := f.Sight(t.Context(), []Sighting{{"m0", "two", waybill.Online, f.clock().Add(2 * time.Second)}}); err != nil {
		t.Fatal(err) // a heartbeat that is handled after the goodbye
	}
	if i, _ := f.Instance(t.Context(), "m0"); i.Presence != waybill.ShutDown {
		t.Errorf("presence %s", i.Presence)
	}
}

func TestNonces(t *testing.T) { onEach(t, testNonces) }

func testNonces(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	use := func(owner, nonce string) bool {
		t.Helper()
		fresh, err := f.UseNonce(t.Context(), owner, nonce, f.clock().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return fresh
	}
	if !use("k", "n") || use("k", "n") || !use("l", "n") {
		t.Error("a nonce is fresh once for each owner")
	}
	f.delivery("f-1", 1) // a write by the same request: the nonce is durable with it
	f.abandon()
	f.reopen()
	if use("k", "n") {
		t.Error("fresh again after a restart")
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	fresh := 0
	for range 64 {
		wg.Go(func() {
			ok, err := f.UseNonce(t.Context(), "k", "race", f.clock().Add(time.Hour))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			} else if ok {
				fresh++
			}
		})
	}
	wg.Wait()
	if fresh != 1 {
		t.Errorf("fresh %d times among 64", fresh)
	}
	f.writes.group.Flush()
	f.advance(2 * time.Hour)
	if n, err := f.ForgetNonces(t.Context(), 100); err != nil || n != 3 {
		t.Errorf("forgot %d, %v", n, err)
	}
}

func TestRetention(t *testing.T) { onEach(t, testRetention) }

func testRetention(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	same := func(d *NewDelivery) { d.Data, d.Sent = []byte("same"), "same"; d.SHA256 = sha256.Sum256(d.Data) }
	for i := 1; i <= 9; i++ {
		id := f.delivery(fmt.Sprintf("f-%d", i), 1, same, func(d *NewDelivery) { d.Tags = []waybill.Tag{{Key: "k"}} })
		if i != 2 { // the second stays open
			f.apply(Change{Delivery: id, Instance: "m0", Event: waybill.Event{To: waybill.Aborted, Cause: waybill.CauseReleased, Finished: f.clock()}})
		}
		f.advance(time.Hour)
	}
	scopes, err := f.Scopes(t.Context())
	if err != nil || len(scopes) != 1 {
		t.Fatal(scopes, err)
	}
	expire := func(before time.Time, keep, limit, want int) {
		t.Helper()
		n, err := f.Expire(t.Context(), scopes[0], before, keep, limit)
		if err != nil || n != want {
			t.Errorf("removed %d, %v; want %d", n, err, want)
		}
	}
	expire(epoch.Add(3*time.Hour), 100, 100, 2) // by age: 1 and 3 (which is older than 3 h), not the open one
	if got := ids(f.list(waybill.DeliveryFilter{}, waybill.Page{})); got != "f-9 f-8 f-7 f-6 f-5 f-4 f-2" {
		t.Errorf("left %q", got)
	}
	expire(epoch, 2, 3, 3) // by count, in bounded steps
	expire(epoch, 2, 3, 1)
	expire(epoch, 2, 3, 0)
	if got := ids(f.list(waybill.DeliveryFilter{}, waybill.Page{})); got != "f-9 f-8 f-2" {
		t.Errorf("left %q", got)
	}
	f.apply(Change{Delivery: "f-2", Instance: "m0", Event: waybill.Event{To: waybill.Aborted, Cause: waybill.CauseReleased, Finished: f.clock()}})
	expire(f.clock(), 2, 100, 3)
	for _, table := range []string{"deliveries", "targets", "tags", "contents"} {
		n, err := one(t.Context(), f.reads, scanOne[int], "SELECT COUNT(*) FROM "+table)
		if err != nil || n != 0 {
			t.Errorf("%d rows left in %s, %v", n, table, err)
		}
	}
}

func TestKeys(t *testing.T) { onEach(t, testKeys) }

func testKeys(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	for i, want := range []bool{true, true, false} {
		err := f.AddKey(t.Context(), testKey(fmt.Sprint("k", i), "a"), 3) // there is one already
		if (err == nil) != want || err != nil && !errors.Is(err, ErrLimit) {
			t.Errorf("key %d: %v", i, err)
		}
	}
	if err := f.SetKeyActive(t.Context(), "other", "", "k0", false); !errors.Is(err, ErrNotFound) {
		t.Errorf("another account's key was changed: %v", err)
	}
	if err := f.SetKeyActive(t.Context(), "a", "", "k0", false); err != nil {
		t.Error(err)
	}
	f.TouchKey("k1", epoch.Add(time.Minute))
	f.writes.group.Flush()
	keys, err := f.Keys(t.Context(), "a", "")
	if err != nil || len(keys) != 3 || keys[1].Active || !keys[2].Active || !keys[2].LastUsed.Equal(epoch.Add(time.Minute)) {
		t.Errorf("keys: %+v, %v", keys, err)
	}
	if err := f.SetAccountDisabled(t.Context(), "a", true); err != nil {
		t.Error(err)
	}
	if k, err := f.Key(t.Context(), "k1"); err != nil || !k.AccountDisabled {
		t.Errorf("key: %+v, %v", k, err)
	}
	if err := f.DeleteKey(t.Context(), "a", "", "k1"); err != nil {
		t.Error(err)
	}
	if _, err := f.Key(t.Context(), "k1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted key: %v", err)
	}
}

// TestStatementsStayFew lists by ever other combinations of filters: the number of prepared statements must not grow with
// what a caller makes up.
func TestStatementsStayFew(t *testing.T) { onEach(t, testStatementsStayFew) }

func testStatementsStayFew(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	list := func(n int) {
		var tags []waybill.Tag
		for bit := range 10 {
			tag := waybill.Tag{Key: fmt.Sprint("k", bit)}
			if n&(1<<bit) != 0 {
				tag.Value = "v"
			}
			tags = append(tags, tag)
		}
		f.list(waybill.DeliveryFilter{Tags: tags[:n%10+1]}, waybill.Page{})
	}
	list(1)
	before := len(f.reads.m)
	for n := range 300 {
		list(n)
	}
	if after := len(f.reads.m); after != before {
		t.Errorf("%d statements became %d", before, after)
	}
}

// together runs writes as one group: the first one holds the transaction until all the others wait.
func (f *fixture) together(writes ...func(*tx) error) []error {
	errs := make([]error, len(writes))
	entered, release := make(chan struct{}), make(chan struct{})
	var first sync.Once
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = f.writes.do(f.t.Context(), func(*tx) error {
			first.Do(func() { close(entered); <-release })
			return nil
		})
	})
	<-entered
	for i, w := range writes {
		ready := make(chan struct{})
		wg.Go(func() {
			close(ready)
			errs[i] = f.writes.do(f.t.Context(), w)
		})
		<-ready
	}
	f.writes.group.Later(&write{ctx: f.t.Context(), fn: func(*tx) error { return nil }})
	close(release)
	wg.Wait()
	return errs
}

// TestARefusalUndoesNobodysWrite refuses writes before, between and after others, with and without having asked for
// anything.
func TestARefusalUndoesNobodysWrite(t *testing.T) {
	onEach(t, testARefusalUndoesNobodysWrite)
}

func testARefusalUndoesNobodysWrite(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	no := errors.New("no")
	put := func(name string) func(*tx) error {
		return func(tx *tx) error {
			_, err := tx.exec(t.Context(), `INSERT INTO secrets (name, sealed) VALUES (?, ?)`, name, []byte{1})
			return err
		}
	}
	refuse := func(*tx) error { return no }
	undo := func(tx *tx) error { return errors.Join(put("undone")(tx), no) }
	errs := f.together(refuse, put("first"), undo, refuse, put("last"), refuse)
	for i, want := range []error{no, nil, no, no, nil, no} {
		if !errors.Is(errs[i], want) {
			t.Errorf("write %d: %v, want %v", i, errs[i], want)
		}
	}
	for name, want := range map[string]error{"first": nil, "last": nil, "undone": ErrNotFound} {
		if _, err := f.Secret(t.Context(), name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// TestACallerThatHangsUpUndoesNobodysWrite ends a caller's context while its write runs.
func TestACallerThatHangsUpUndoesNobodysWrite(t *testing.T) {
	onEach(t, testACallerThatHangsUpUndoesNobodysWrite)
}

func testACallerThatHangsUpUndoesNobodysWrite(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	put := func(ctx context.Context, name string, tx *tx) error {
		_, err := tx.exec(ctx, `INSERT INTO secrets (name, sealed) VALUES (?, ?)`, name, []byte{1})
		return err
	}
	ctx, hangUp := context.WithCancel(t.Context())
	errs := f.together(
		func(tx *tx) error { return put(t.Context(), "before", tx) },
		func(tx *tx) error { hangUp(); return put(ctx, "hung up", tx) },
		func(tx *tx) error { return put(t.Context(), "after", tx) },
	)
	for i, err := range errs {
		if err != nil {
			t.Errorf("write %d: %v", i, err)
		}
	}
	for _, name := range []string{"before", "hung up", "after"} {
		if _, err := f.Secret(t.Context(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAFullDisk fills the database up to a bound: the answer says that it passes, and it does.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	f := openOnSQLite(t)
	pages := func(most string) {
		t.Helper()
		if err := f.writes.do(t.Context(), func(tx *tx) error {
			_, err := all(t.Context(), tx, scanOne[int], "PRAGMA max_page_count = "+most)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	pages("1") // no less than there are
	big := func(name string) func(*tx) error {
		return func(tx *tx) error {
			_, err := tx.exec(t.Context(), `INSERT INTO secrets (name, sealed) VALUES (?, zeroblob(1000000))`, name)
			return err
		}
	}
	for i, err := range f.together(big("a"), big("b")) {
		if waybill.CodeOf(err) != waybill.Unavailable {
			t.Errorf("write %d to a full disk: %v", i, err)
		}
	}
	if fresh, err := f.UseNonce(t.Context(), "k", "n", f.clock().Add(time.Minute)); !fresh || err != nil {
		t.Errorf("nonce: %v, %v", fresh, err)
	}
	pages("1000000")
	if err := f.writes.do(t.Context(), big("c")); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// TestADiskThatIsTooSlow has many more writes than share a transaction wait for a lock that is not let go of. Each is told
// after few attempts, not after as many as there are groups of them; and when the lock is free again, all is well.
func TestADiskThatIsTooSlow(t *testing.T) {
	t.Parallel()
	f := openOnSQLite(t)
	const patience = 100 * time.Millisecond
	if err := f.writes.do(t.Context(), func(tx *tx) error {
		_, err := all(t.Context(), tx, scanOne[int], fmt.Sprintf("PRAGMA busy_timeout = %d", patience.Milliseconds()))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	f.writes.patience = patience
	other, err := openSQLite(f.path, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	put := func(name string) error {
		return f.writes.doInTime(t.Context(), func(tx *tx) error {
			_, err := tx.exec(t.Context(), `INSERT INTO secrets (name, sealed) VALUES (?, ?)`, name, []byte{1})
			return err
		})
	}
	const groups = 10
	var late, refused atomic.Int64
	var writers sync.WaitGroup
	for i := range groups * maxGroup {
		writers.Go(func() {
			switch err := put(fmt.Sprint(i)); {
			case errors.Is(err, errTurn):
				late.Add(1)
			case waybill.CodeOf(err) == waybill.Unavailable:
				refused.Add(1)
			default:
				t.Errorf("write %d to a locked database: %v", i, err)
			}
		})
	}
	writers.Wait()
	if n := refused.Load(); n > groups*maxGroup/2 {
		t.Errorf("%d writes waited for the lock, and %d only for their turn", n, late.Load())
	}
	if _, err := other.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := put("afterwards"); err != nil {
		t.Errorf("when the lock is free again: %v", err)
	}
}

func TestNoncesThatCouldNotBeStoredAreForgottenInTime(t *testing.T) {
	t.Parallel()
	f := openOnSQLite(t)
	for i := range 10 {
		if _, err := f.UseNonce(t.Context(), "k", fmt.Sprint(i), f.clock().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	f.advance(time.Hour) // and nothing was committed meanwhile
	set := f.nonces.(*nonceSet)
	set.forget(f.clock())
	if n := len(set.m); n != 0 {
		t.Errorf("%d are remembered for nothing", n)
	}
}

// TestEveryQueryHasItsIndex runs each listing through the planner: none may scan a table that grows.
func TestEveryQueryHasItsIndex(t *testing.T) { onEach(t, testEveryQueryHasItsIndex) }

func testEveryQueryHasItsIndex(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	none := strings.ReplaceAll(f.dialect.rows, "?", "'[]'")
	for name, query := range map[string]string{
		"deliveries": deliveryColumns + ` FROM deliveries d WHERE d.account = 'a' AND d.region = 'r' ORDER BY d.id DESC LIMIT 10`,
		"counts of an instance": `SELECT t.instance, SUM(CASE WHEN t.finished > 0 THEN 1 ELSE 0 END), MAX(t.created) FROM targets t
			WHERE t.instance IN ('a', 'b') GROUP BY t.instance`,
		"gone":             overdueColumns + ` WHERE t.delivery = 'd' AND t.finished = 0 AND (i.state <> 'x' OR a.disabled AND t.status = 'y')`,
		"by name":          deliveryColumns + ` FROM deliveries d WHERE d.account = 'a' AND d.region = 'r' AND d.name = 'n' ORDER BY d.id DESC LIMIT 10`,
		"by status":        deliveryColumns + ` FROM deliveries d WHERE d.account = 'a' AND d.region = 'r' AND d.status = 's' ORDER BY d.id DESC LIMIT 10`,
		"open":             strings.NewReplacer("LIMIT ?", "LIMIT 1", "?", "'i'").Replace(f.openFor()),
		"one that is open": strings.ReplaceAll(dispatchColumns+`, t.attempt, t.deadline`+strings.ReplaceAll(openAttempt, "attempt = ?", "attempt = 1"), "?", "'x'"),
		"past attempts":    targetColumns + ` FROM attempts t WHERE t.delivery = 'd' AND t.instance = 'i' AND t.attempt < 2 ORDER BY t.attempt`,
		"overdue":          targetColumns + ` FROM targets t JOIN instances i ON i.id = t.instance JOIN accounts a ON a.id = i.account WHERE t.finished = 0 AND t.deadline < 1 ORDER BY t.deadline LIMIT 1`,
		"next deadline":    `SELECT MIN(deadline) FROM targets WHERE finished = 0`,
		"missing": targetColumns + ` FROM (SELECT value->>0 AS instance FROM ` + none + `) k
			` + f.dialect.inOrder + ` targets t ON t.instance = k.instance WHERE t.finished = 0 ORDER BY t.delivery`,
		"instances":       instanceColumns + ` FROM instances i WHERE i.account = 'a' AND i.region = 'r' AND i.state <> 'x' ORDER BY i.registered DESC, i.id DESC LIMIT 1`,
		"page of targets": targetColumns + ` FROM targets t WHERE t.delivery IN (SELECT value->>0 FROM ` + none + `) ORDER BY t.delivery, t.ordinal`,
		"retention":       `SELECT id, digest FROM deliveries WHERE account = 'a' AND region = 'r' AND (created < 1 OR id <= 'x') AND pending = 0 AND running = 0 ORDER BY id LIMIT 1`,
		"nonces":          `SELECT digest FROM nonces WHERE expires < 1 LIMIT 1`,
		"left":            `SELECT public_key, released FROM instances WHERE released > 0 AND released > 1`,
	} {
		for _, step := range f.plan(query) {
			scan := strings.HasPrefix(step, "SCAN") && !strings.Contains(step, "USING") && !strings.Contains(step, "json_each") && !strings.Contains(step, "VIRTUAL TABLE")
			if scan || strings.Contains(step, "Seq Scan") {
				t.Errorf("%s: %s", name, step)
			}
		}
	}
}

// plan returns how the database goes about a query. PostgreSQL takes an index if there is any that helps.
func (f *fixture) plan(query string) []string {
	f.t.Helper()
	if f.dialect.shared {
		var plan []string
		err := f.writes.do(f.t.Context(), func(tx *tx) error {
			if _, err := tx.exec(f.t.Context(), "SET LOCAL enable_seqscan = off"); err != nil {
				return err
			}
			var err error
			plan, err = all(f.t.Context(), tx, scanOne[string], "EXPLAIN "+query)
			return err
		})
		if err != nil {
			f.t.Errorf("%s: %v", query, err)
		}
		return plan
	}
	plan, err := all(f.t.Context(), f.reads, func(r *sql.Rows) (s string, err error) {
		var a, b, c int
		return s, r.Scan(&a, &b, &c, &s)
	}, "EXPLAIN QUERY PLAN "+query)
	if err != nil {
		f.t.Errorf("%s: %v", query, err)
	}
	return plan
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"oracle://u:secret@h/db":           `unsupported database "oracle"`,
		"sqlite:/nonexistent-dir/x/way.db": "no such file or directory",
		"":                                 "unsupported database",
	} {
		_, err := Open(t.Context(), Config{URL: url, AuditKey: auditKey}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestKeepSchemaRefusesAnOlderDatabase(t *testing.T) {
	t.Parallel()
	_, err := Open(t.Context(), Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "new.db"), KeepSchema: true, AuditKey: auditKey}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "start waybill server of this version first") {
		t.Errorf("opened: %v", err)
	}
}

func TestANewerDatabaseIsRefused(t *testing.T) { onEach(t, testANewerDatabaseIsRefused) }

func testANewerDatabaseIsRefused(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	f.sql(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)`)
	if f.dialect.shared { // until the schema says that this program is too old for it, a newer one is a server's of the next version
		s, err := Open(t.Context(), Config{URL: f.url, AuditKey: auditKey}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("open a database that a newer program has migrated: %v", err)
		}
		s.Close()
		f.sql(`UPDATE schema_bounds SET oldest = 9999`)
	}
	_, err := Open(t.Context(), Config{URL: f.url, AuditKey: auditKey}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "run a newer waybill") {
		t.Errorf("opened: %v", err)
	}
}

// TestRequestsSearchByKey matters because every request of a user, or every SendFile, waits for these: by account alone
// they would go through all that the account has.
func TestRequestsSearchByKey(t *testing.T) {
	t.Parallel()
	f := openOnSQLite(t)
	one, _ := f.dialect.named([]string{"a"})
	many, _ := f.dialect.named([]string{"a", "b"})
	for query, want := range map[string][]string{
		effectivePolicies:                  {"(account=? AND entity_kind=? AND entity=?)", "(account=? AND user_name=?)", "(account=? AND entity_kind=? AND entity=?)"},
		f.dialect.tagsOf():                 {"(kind=? AND resource=?)"},
		f.dialect.recipientsNamed(one):     {"(id=?)"},
		f.dialect.recipientsNamed(many):    {"(id=?)"},
		f.dialect.countOf("instances", ""): {"(id=?)"},
	} {
		plan := f.plan(strings.ReplaceAll(query, "?", "'[]'"))
		steps := strings.Join(plan, "\n")
		for _, w := range want {
			if !strings.Contains(steps, w) {
				t.Errorf("no search by %s:\n%s", w, steps)
			}
		}
		if strings.Contains(steps, "(account=?)") || strings.Contains(steps, "(account=? AND region=?)") {
			t.Errorf("a search by the account alone:\n%s", steps)
		}
	}
}

func TestPulses(t *testing.T) { onEach(t, testPulses) }

func testPulses(t *testing.T, open opener) {
	t.Parallel()
	for before, want := range map[waybill.Presence]waybill.Presence{
		waybill.NeverSeen: waybill.NoChannel, waybill.Stopped: waybill.NoChannel, waybill.ShutDown: waybill.NoChannel,
		waybill.NoChannel: waybill.NoChannel, waybill.Online: waybill.Online, waybill.Upgrading: waybill.Upgrading,
	} {
		t.Run(string(before), func(t *testing.T) {
			t.Parallel()
			f := open(t)
			f.enrol("m0")
			f.enrol("m1")
			if before != waybill.NeverSeen {
				if _, err := f.Greet(t.Context(), "m0", "s", waybill.Facts{}); err != nil {
					t.Fatal(err)
				}
				if err := f.Sight(t.Context(), []Sighting{{"m0", "s", before, epoch}}); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.LeaveFleet(t.Context(), "m1", waybill.Deregistered); err != nil {
				t.Fatal(err)
			}
			at, dial := epoch.Add(time.Minute), epoch.Add(time.Hour)
			if err := f.Pulses(t.Context(), []Pulse{{"m0", at, dial}, {"m1", at, dial}, {"none", at, dial}}); err != nil {
				t.Fatal(err)
			}
			i, err := f.Instance(t.Context(), "m0")
			if err != nil || i.Presence != want || !i.LastSeen.Equal(at) || !i.NextDial.Equal(dial) {
				t.Errorf("%s, last seen %s, dials %s, %v", i.Presence, i.LastSeen, i.NextDial, err)
			}
			if gone, err := f.Instance(t.Context(), "m1"); err != nil || gone.Presence == waybill.NoChannel {
				t.Errorf("one that has left: %s, %v", gone.Presence, err)
			}
			// One that is written late takes nothing back.
			if err := f.Pulses(t.Context(), []Pulse{{"m0", epoch, dial}}); err != nil {
				t.Fatal(err)
			}
			if i, err := f.Instance(t.Context(), "m0"); err != nil || !i.LastSeen.Equal(at) {
				t.Errorf("last seen %s, %v", i.LastSeen, err)
			}
		})
	}
}

func TestLoseChannels(t *testing.T) { onEach(t, testLoseChannels) }

func testLoseChannels(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	for id, session := range map[string]string{"mine": "node:1", "other": "node2:1", "native": "node:2", "stopped": "node:3"} {
		f.enrol(id)
		if _, err := f.Greet(t.Context(), waybill.InstanceID(id), session, waybill.Facts{}); err != nil {
			t.Fatal(err)
		}
	}
	f.sql(`UPDATE instances SET agent_kind = ? WHERE id <> 'native'`, waybill.OfficialAgent)
	if err := f.Sight(t.Context(), []Sighting{{"stopped", "node:3", waybill.Stopped, epoch}}); err != nil {
		t.Fatal(err)
	}
	n, err := f.LoseChannels(t.Context(), waybill.OfficialAgent, "node:")
	if err != nil || n != 1 {
		t.Errorf("%d lost, %v", n, err)
	}
	for id, want := range map[waybill.InstanceID]waybill.Presence{
		"mine": waybill.NoChannel, "other": waybill.Online, "native": waybill.Online, "stopped": waybill.Stopped,
	} {
		if i, err := f.Instance(t.Context(), id); err != nil || i.Presence != want {
			t.Errorf("%s: %s, %v", id, i.Presence, err)
		}
	}
}

func TestOpenOne(t *testing.T) { onEach(t, testOpenOne) }

func testOpenOne(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	f.enrol("m0")
	f.enrol("m1")
	d := f.delivery("f-1", 1)
	if open, err := f.OpenOne(t.Context(), "m0", d, 1); err != nil || open.ID != d || string(open.Data) != "content of f-1" {
		t.Errorf("%+v, %v", open, err)
	}
	if _, err := f.OpenOne(t.Context(), "m1", d, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("of another instance: %v", err)
	}
	f.apply(ended(d, "m0", waybill.NoCause, epoch))
	if _, err := f.OpenOne(t.Context(), "m0", d, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("after its end: %v", err)
	}
}

// abandon lets go of the database as a process does that is killed.
func (f *fixture) abandon() {
	switch s := f.writes.session.(type) {
	case *sqliteSession:
		s.close()
	case *postgresSession:
		s.disconnect()
		s.db.Close()
	}
	f.reads.close()
	f.nonces.close()
}
