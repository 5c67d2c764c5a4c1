// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/pgtest"
)

// servers returns n stores on one PostgreSQL database, as several servers have them; nil if there is no PostgreSQL.
func servers(t *testing.T, n int) []*fixture {
	t.Helper()
	t.Parallel()
	if !pgtest.Available(t) {
		return nil
	}
	list := []*fixture{openOnPostgres(t)}
	for range n - 1 {
		f := &fixture{t: t, url: list[0].url, at: epoch}
		f.reopen()
		t.Cleanup(func() {
			if err := f.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		list = append(list, f)
	}
	return list
}

// TestServersApplyConcurrently ends every target of several deliveries many times over, on three servers, in batches that
// overlap in ever other orders: each ends once, and the counts are right.
func TestServersApplyConcurrently(t *testing.T) {
	list := servers(t, 3)
	if list == nil {
		return
	}
	const deliveries, targets = 4, 25
	var all []Change
	for d := range deliveries {
		id := list[0].delivery(fmt.Sprint("f-", d), targets)
		for i := range targets {
			all = append(all, ended(id, machine(i), waybill.NoCause, epoch))
		}
	}
	var mu sync.Mutex
	applied := map[string]int{}
	var wg sync.WaitGroup
	for round := range 24 {
		wg.Go(func() {
			f := list[round%len(list)]
			var batch []Change
			for i := range all { // a third of all, from another end
				if k := (i*7 + round*13) % len(all); k%3 == round%3 {
					batch = append(batch, all[k])
				}
			}
			ok, err := f.Apply(t.Context(), batch)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for i, c := range batch {
				if ok[i] {
					applied[string(c.Delivery)+" "+string(c.Instance)]++
				}
			}
		})
	}
	wg.Wait()
	for _, c := range all {
		if n := applied[string(c.Delivery)+" "+string(c.Instance)]; n != 1 {
			t.Errorf("%s of %s ended %d times", c.Instance, c.Delivery, n)
		}
	}
	for _, d := range list[1].list(waybill.DeliveryFilter{Status: waybill.OverallSuccess}, waybill.Page{}).Items {
		if n, err := one(t.Context(), list[1].reads, scanOne[int], `SELECT success FROM deliveries WHERE id = ?`, d.ID); err != nil || n != targets {
			t.Errorf("%s counts %d, %v", d.ID, n, err)
		}
	}
}

// TestServersAgreeOnNonces sends replays to three servers at the same moment: each passes once.
func TestServersAgreeOnNonces(t *testing.T) {
	list := servers(t, 3)
	if list == nil {
		return
	}
	const nonces = 20
	var fresh [nonces]atomic.Int32
	var wg sync.WaitGroup
	for _, f := range list {
		for range 4 {
			for n := range nonces {
				wg.Go(func() {
					ok, err := f.UseNonce(t.Context(), "k", fmt.Sprint(n), epoch.Add(time.Hour))
					if err != nil {
						t.Error(err)
					}
					if ok {
						fresh[n].Add(1)
					}
				})
			}
		}
	}
	wg.Wait()
	for n := range fresh {
		if fresh[n].Load() != 1 {
			t.Errorf("nonce %d is fresh %d times", n, fresh[n].Load())
		}
	}
}

// TestServersKeepLimits makes more than there is room for, on three servers, with tokens that come twice.
func TestServersKeepLimits(t *testing.T) {
	list := servers(t, 3)
	if list == nil {
		return
	}
	const room = 10
	first := waybill.Activation{ID: "act", Account: "a", Region: region, InstanceCount: 1000, TTL: time.Hour, Created: epoch}
	if err := list[0].AddActivation(t.Context(), first, []byte{1}, room); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var once atomic.Int32
	for i := range 30 {
		f := list[i%len(list)]
		wg.Go(func() {
			a := waybill.Activation{ID: waybill.ActivationID(fmt.Sprint("act", i)), Account: "a", Region: region, Created: epoch}
			if err := f.AddActivation(t.Context(), a, []byte{1}, room); err != nil && !errors.Is(err, ErrLimit) {
				t.Error(err)
			}
		})
		wg.Go(func() { // ten keys, each on all three
			_, err := f.Enrol(t.Context(), waybill.Instance{
				ID: waybill.InstanceID(fmt.Sprint("mi-", i)), Account: "a", Region: region, Activation: "act", State: waybill.Registered,
				PublicKey: fmt.Sprint("key", i/3), Registered: epoch,
			}, 5, func(before int) string { return fmt.Sprint("web-", before) })
			if err != nil && !errors.Is(err, ErrExists) && !errors.Is(err, ErrQuota) {
				t.Error(err)
			}
		})
		wg.Go(func() {
			u := user(fmt.Sprint("user", i/3))
			if err := f.AddUser(t.Context(), "a", u, 5); err != nil && !errors.Is(err, ErrExists) && !errors.Is(err, ErrLimit) {
				t.Error(err)
			}
		})
		wg.Go(func() {
			a := act("ecs:CreateActivation")
			a.Token, a.Digest = "token", sha256.Sum256(nil)
			switch err := f.For(a, []byte("answer")).AddUserGroup(t.Context(), "a", group(fmt.Sprint("group", i)), 100); {
			case err == nil:
				once.Add(1)
			case !errors.Is(err, ErrTokenUsed):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for query, want := range map[string]int{
		`SELECT COUNT(*) FROM activations`:                       room,
		`SELECT COUNT(*) FROM instances`:                         5,
		`SELECT registered FROM activations WHERE id = 'act'`:    5,
		`SELECT COUNT(DISTINCT name) FROM instances`:             5,
		`SELECT COUNT(*) FROM users`:                             5,
		`SELECT COUNT(*) FROM user_groups`:                       1,
		`SELECT COUNT(*) FROM audit_records WHERE result = 'OK'`: 1,
	} {
		if n, err := one(t.Context(), list[0].reads, scanOne[int], query); err != nil || n != want {
			t.Errorf("%s: %d, %v; want %d", query, n, err, want)
		}
	}
	if once.Load() != 1 {
		t.Errorf("the token was good %d times", once.Load())
	}
}

// TestServersMakeOneFirstAccount starts servers on an empty database at once.
func TestServersMakeOneFirstAccount(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	url := pgtest.Database(t, "", nil)
	var made atomic.Int32
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			s, err := Open(t.Context(), Config{URL: url, AuditKey: auditKey}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			defer s.Close()
			id := waybill.AccountID(fmt.Sprint("account", i))
			switch err := s.AddFirst(t.Context(), waybill.Account{ID: id, Name: string(id)}, testKey("key-"+string(id), id)); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, ErrExists):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("%d accounts are the first", made.Load())
	}
}

// TestServersChainOneTrail writes audit records on three servers: they are one chain.
func TestServersChainOneTrail(t *testing.T) {
	list := servers(t, 3)
	if list == nil {
		return
	}
	if err := list[0].AddAccount(t.Context(), waybill.Account{ID: "b", Name: "b"}, testKey("b-key", "b")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 120 {
		wg.Go(func() {
			a := act("ecs:SendFile")
			a.Account = []waybill.AccountID{"a", "b"}[i%2]
			if err := list[i%3].Record(context.Background(), a, waybill.AuditOK); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, account := range []waybill.AccountID{"a", "b"} {
		if v, err := list[2].VerifyAudit(t.Context(), account); err != nil || v.Problem != "" || v.Records != 60 {
			t.Errorf("trail of %s: %+v, %v", account, v, err)
		}
	}
}

// TestServersShareContent removes the deliveries of a content on one server while another adds new ones: none is without.
func TestServersShareContent(t *testing.T) {
	list := servers(t, 2)
	if list == nil {
		return
	}
	same := func(d *NewDelivery) { d.Data, d.Sent = []byte("same"), "same"; d.SHA256 = sha256.Sum256(d.Data) }
	var wg sync.WaitGroup
	for i := range 40 {
		id := list[0].delivery(fmt.Sprintf("f-old%02d", i), 1, same)
		list[0].apply(Change{Delivery: id, Instance: "m0", Event: waybill.Event{To: waybill.Aborted, Cause: waybill.CauseReleased, Finished: epoch}})
		wg.Go(func() {
			if _, err := list[0].Expire(t.Context(), Scope{"a", region}, epoch.Add(time.Hour), 1000, 1); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			list[1].delivery(fmt.Sprintf("f-new%02d", i), 1, same)
		})
	}
	wg.Wait()
	n, err := one(t.Context(), list[0].reads, scanOne[int], `SELECT COUNT(*) FROM deliveries d WHERE NOT EXISTS (SELECT 1 FROM contents c WHERE c.digest = d.digest)`)
	if err != nil || n != 0 {
		t.Errorf("%d deliveries are without their content, %v", n, err)
	}
}

// TestAnyText stores what a request may bring and PostgreSQL does not take.
func TestAnyText(t *testing.T) { onEach(t, testAnyText) }

func testAnyText(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	const text = "a\x00b\xff\\u0000c"
	a := act("ecs:" + text)
	a.Region, a.Resources, a.Name = text, []string{text}, text
	if err := f.Record(t.Context(), a, "Code"+text); err != nil {
		t.Error(err)
	}
	if v := f.verdict(); v.Problem != "" || v.Records != 1 {
		t.Errorf("audit trail: %+v", v)
	}
	id := f.delivery("f-1", 2, func(d *NewDelivery) { d.Tags = []waybill.Tag{{Key: "k", Value: text}} })
	e := ended(id, "m0", waybill.CauseExists, epoch)
	e.Detail = text
	f.apply(e, ended(id, "m1", waybill.NoCause, epoch))
	if got := f.list(waybill.DeliveryFilter{}, waybill.Page{}).Items[0]; !strings.HasSuffix(got.Targets[0].Detail, `\u0000c`) || !strings.HasPrefix(got.Tags[0].Value, "a\ufffdb") {
		t.Errorf("detail %q, tags %q", got.Targets[0].Detail, got.Tags)
	}
	for _, filter := range []waybill.DeliveryFilter{{Name: text}, {ID: text}, {Instance: text}, {Tags: []waybill.Tag{{Key: text}}}} {
		if n := len(f.list(filter, waybill.Page{}).Items); n != 0 {
			t.Errorf("%+v finds %d", filter, n)
		}
	}
	if _, err := f.Key(t.Context(), text); !errors.Is(err, ErrNotFound) {
		t.Errorf("key: %v", err)
	}
}

// TestPasswordsAreNotShown opens databases that are not there, or whose URL is none.
func TestPasswordsAreNotShown(t *testing.T) {
	t.Parallel()
	const password = "pa55w0rd"
	for _, url := range []string{
		"postgres://u:" + password + "@127.0.0.1:1/db",
		"postgres://u:" + password + "@127.0.0.1:1/db?sslmode=nonsense",
		"postgres://u:" + password + "@127.0.0.1:port/db",
		"postgres://u:" + password + "%zz@127.0.0.1/db",
		"postgres://u:" + password + "/x@127.0.0.1/db",
		"postgres://u:x" + password + "#@127.0.0.1/db",
		"postgres://127.0.0.1:1/db?user=u&password=" + password + "&connect_timeout=soon",
		"postgresql://u@[::1/db?password=" + password,
		"postgres://u:" + password + "\x7f@h/db",
		"host=127.0.0.1 user=u password=" + password + " dbname=db",
	} {
		var log strings.Builder
		_, err := Open(t.Context(), Config{URL: url, AuditKey: auditKey}, slog.New(slog.NewTextHandler(&log, nil)))
		if err == nil || strings.Contains(err.Error()+log.String(), password) {
			t.Errorf("%q: %v", url, err)
		}
	}
}
