// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/pgtest"
)

// cable is a network between a store and its database that a test can break.
type cable struct {
	net.Listener
	to    string
	mu    sync.Mutex
	conns map[net.Conn]bool // both ends
	dead  bool              // nobody gets through
	muted bool              // nothing comes back on any connection
	// noCancel loses requests to cancel a query, as a proxy does that brings them to another database.
	noCancel bool
	// next is asked once what to do with what the store sends next, on any connection: to let it through, and what comes
	// back.
	next func() (through, back bool)
}

// newCable returns a cable to the database at an URL, and the URL of its other end.
func newCable(t *testing.T, database string) (*cable, string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	w := &cable{to: u.Host, conns: map[net.Conn]bool{}}
	if w.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := w.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		w.Close()
		w.cut()
		wg.Wait()
	})
	u.Host = w.Addr().String()
	return w, u.String()
}

func (w *cable) carry(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer s.Close()
	w.mu.Lock()
	if w.dead {
		w.mu.Unlock()
		return
	}
	w.conns[c], w.conns[s] = true, true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.conns, c)
		delete(w.conns, s)
		w.mu.Unlock()
	}()
	var mute atomic.Bool // nothing comes back
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer c.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := s.Read(buf)
			if err != nil || mute.Load() { // what was done with it, the store does not hear
				return
			}
			w.mu.Lock()
			muted := w.muted
			w.mu.Unlock()
			if muted {
				continue
			}
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 1<<20)
	for {
		n, err := c.Read(buf)
		if err != nil {
			break
		}
		w.mu.Lock()
		next := w.next
		w.next = nil
		lose := w.noCancel && bytes.HasPrefix(buf[:n], []byte{0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e})
		w.mu.Unlock()
		if lose {
			break
		}
		if next != nil {
			through, back := next()
			mute.Store(!back)
			if !through {
				break
			}
		}
		if _, err := s.Write(buf[:n]); err != nil {
			break
		}
	}
	s.Close()
	<-done
}

// cut breaks all connections.
func (w *cable) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		c.Close()
	}
}

// arm says what becomes of what the store sends next.
func (w *cable) arm(through, back bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next = func() (bool, bool) { return through, back }
}

func (w *cable) setMute(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.muted = on
}

func (w *cable) setDead(dead bool) {
	w.mu.Lock()
	w.dead = dead
	w.mu.Unlock()
	if dead {
		w.cut()
	}
}

// behind returns a store whose database is behind a cable; nil if there is no PostgreSQL.
func behind(t *testing.T) (*fixture, *cable) {
	t.Helper()
	t.Parallel()
	if !pgtest.Available(t) {
		return nil, nil
	}
	direct := openOnPostgres(t)
	w, url := newCable(t, direct.url)
	f := &fixture{t: t, url: url, at: epoch}
	f.reopen()
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return f, w
}

// counter is something that must not be done twice.
func (f *fixture) counter() int64 {
	f.t.Helper()
	n, err := one(f.t.Context(), f.reads, scanOne[int64], `SELECT until FROM leases WHERE name = 'counter'`)
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// TestCommitsWithoutAnswer breaks the connection around a COMMIT, before it, after it, and in between. The write is done
// once, and the caller hears that it is done.
func TestCommitsWithoutAnswer(t *testing.T) {
	f, w := behind(t)
	if f == nil {
		return
	}
	f.sql(`INSERT INTO leases (name, holder, until) VALUES ('counter', '', 0)`)
	count := func(break_ func()) error {
		var once sync.Once
		return f.writes.do(t.Context(), func(tx *tx) error {
			_, err := tx.exec(t.Context(), `UPDATE leases SET until = until + 1 WHERE name = 'counter'`)
			if err == nil {
				once.Do(break_) // what is sent next is the COMMIT
			}
			return err
		})
	}
	want := int64(0)
	for range 5 {
		for name, break_ := range map[string]func(){
			"nothing":                     func() {},
			"the COMMIT does not get out": func() { w.arm(false, false) },
			"its answer does not come":    func() { w.arm(true, false) },
			"the connection breaks":       w.cut,
		} {
			want++
			if err := count(break_); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got := f.counter(); got != want {
				t.Fatalf("%s: counted to %d, want %d", name, got, want)
			}
		}
	}
}

// lateCommit makes the database wait, with the whole last round of a write, for a lock on table; then the store's connection
// ends, by end or by itself, and the lock goes once the write is either tried again or has ended. It returns what the
// write did when the database has run all that it had.
func (f *fixture) lateCommit(w *cable, table string, end func(), write func() error) error {
	f.t.Helper()
	ctx := f.t.Context()
	w.mu.Lock()
	w.noCancel = true
	w.mu.Unlock()
	u, err := url.Parse(f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	u.Host = w.to
	conf, err := parsePostgres(u.String())
	if err != nil {
		f.t.Fatal(err)
	}
	db := openPool(conf, "a test", 2)
	defer db.Close()
	lock, err := db.BeginTx(ctx, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	defer lock.Rollback()
	if _, err := lock.ExecContext(ctx, `SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
		f.t.Fatal(err)
	}
	if _, err := lock.ExecContext(ctx, `LOCK TABLE `+table+` IN SHARE MODE`); err != nil {
		f.t.Fatal(err)
	}
	// waiting returns a backend of this database, other than one, that waits for a lock; 0: none does.
	waiting := func(other int) (pid int) {
		if err := db.QueryRowContext(ctx, `SELECT COALESCE(MAX(pid), 0) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> $1`, other).Scan(&pid); err != nil {
			f.t.Fatal(err)
		}
		return pid
	}
	ended := make(chan error, 1)
	go func() { ended <- write() }()
	late := 0
	for late == 0 {
		late = waiting(0)
	}
	end()
	var result error
	over := false
	for !over && waiting(late) == 0 {
		select {
		case result = <-ended:
			over = true
		default:
		}
	}
	if err := lock.Commit(); err != nil {
		f.t.Fatal(err)
	}
	if !over {
		result = <-ended
	}
	for busy := true; busy; { // the late one
		if err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $1)`, late).Scan(&busy); err != nil {
			f.t.Fatal(err)
		}
	}
	return result
}

// TestCommitsStillOnTheirWay breaks a connection while the database has the whole last round of a transaction and waits for
// a lock in it: whatever the caller hears then holds when the lock is gone.
func TestCommitsStillOnTheirWay(t *testing.T) {
	for name, patience := range map[string]time.Duration{
		"the connection breaks": groupPatience,
		"the time is over":      time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			f, w := behind(t)
			if f == nil {
				return
			}
			f.sql(`INSERT INTO leases (name, holder, until) VALUES ('counter', '', 0)`)
			count := func() error {
				return f.writes.do(t.Context(), func(tx *tx) error {
					if err := tx.put(t.Context(), `INSERT INTO secrets (name, sealed) VALUES (?, '') ON CONFLICT DO NOTHING`, "x"); err != nil {
						return err
					}
					return tx.put(t.Context(), `UPDATE leases SET until = until + 1 WHERE name = 'counter'`)
				})
			}
			if err := count(); err != nil { // prepares the statements
				t.Fatal(err)
			}
			end, want := w.cut, int64(2)
			if patience < groupPatience {
				end, want = func() {}, 1
				f.writes.session.(*postgresSession).patience = patience
			}
			err := f.lateCommit(w, "secrets", end, count)
			if want == 2 && err != nil || want == 1 && waybill.CodeOf(err) != waybill.Unavailable || errors.Is(err, errUnknown) {
				t.Errorf("the caller hears %v", err)
			}
			if got := f.counter(); got != want {
				t.Errorf("counted to %d, want %d; the caller heard %v", got, want, err)
			}
		})
	}
}

// TestDeliveryStillOnItsWay is the same with a delivery, whose last round has its audit record: it is there once.
func TestDeliveryStillOnItsWay(t *testing.T) {
	f, w := behind(t)
	if f == nil {
		return
	}
	f.delivery("d0", 1)
	l := f.list(waybill.DeliveryFilter{ID: "d0"}, waybill.Page{Size: 1})
	add := func(id waybill.DeliveryID) error {
		d := &NewDelivery{Delivery: l.Items[0].Delivery, Data: []byte("x")}
		d.ID = id
		d.Targets = []waybill.Target{{Delivery: id, Instance: "i", Status: waybill.Pending}}
		return f.For(act("ecs:Send"), nil).AddDelivery(t.Context(), d)
	}
	if err := add("warm"); err != nil {
		t.Fatal(err)
	}
	if err := f.lateCommit(w, "audit_records", w.cut, func() error { return add("d1") }); err != nil {
		t.Errorf("the caller hears %v", err)
	}
	if n := f.count("deliveries WHERE id = 'd1'"); n != 1 {
		t.Errorf("%d deliveries", n)
	}
}

// TestWritesOfUnknownOutcome loses the answer of a COMMIT, and the database with it: the caller hears that nobody knows.
// When the database is back, all goes on.
func TestWritesOfUnknownOutcome(t *testing.T) {
	f, w := behind(t)
	if f == nil {
		return
	}
	warm := func(name string) error { _, err := f.PutSecret(t.Context(), name, []byte{1}); return err }
	if err := warm("warm"); err != nil {
		t.Fatal(err)
	}
	err := f.writes.do(t.Context(), func(tx *tx) error {
		if _, err := tx.exec(t.Context(), `INSERT INTO secrets (name, sealed) VALUES ('x', '')`); err != nil {
			return err
		}
		w.mu.Lock()
		w.dead = true
		w.mu.Unlock()
		w.arm(true, false)
		return nil
	})
	if !errors.Is(err, errUnknown) || waybill.CodeOf(err) != waybill.Unavailable {
		t.Errorf("a write of unknown outcome: %v", err)
	}
	w.cut()
	if _, err := f.Secret(t.Context(), "x"); waybill.CodeOf(err) != waybill.Unavailable {
		t.Errorf("a read without a database: %v", err)
	}
	if _, err := f.UseNonce(t.Context(), "k", "n", epoch.Add(time.Hour)); waybill.CodeOf(err) != waybill.Unavailable {
		t.Errorf("a nonce without a database: %v", err)
	}
	w.setDead(false)
	if err := warm("again"); err != nil {
		t.Errorf("a write when the database is back: %v", err)
	}
	if fresh, err := f.UseNonce(t.Context(), "k", "n2", epoch.Add(time.Hour)); err != nil || !fresh {
		t.Errorf("a nonce when the database is back: %v, %v", fresh, err)
	}
}

// TestADatabaseThatDoesNotAnswer keeps connections open, and nothing comes back.
func TestADatabaseThatDoesNotAnswer(t *testing.T) {
	f, w := behind(t)
	if f == nil {
		return
	}
	f.writes.session.(*postgresSession).patience = 200 * time.Millisecond
	w.setMute(true)
	if _, err := f.PutSecret(t.Context(), "x", []byte{1}); waybill.CodeOf(err) != waybill.Unavailable {
		t.Errorf("a write: %v", err)
	}
	if _, err := f.Account(t.Context(), "a"); waybill.CodeOf(err) != waybill.Unavailable {
		t.Errorf("a read: %v", err)
	}
	w.setMute(false)
	w.cut()
	if _, err := f.PutSecret(t.Context(), "x", []byte{1}); err != nil {
		t.Errorf("a write when it answers again: %v", err)
	}
}

// TestAServerThatStandsStill holds locks, as if its machine had been suspended: the others go on, and so does it when it is
// awake again.
func TestAServerThatStandsStill(t *testing.T) {
	list := servers(t, 2)
	if list == nil {
		return
	}
	still, other := list[0], list[1]
	locked, awake, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		var once sync.Once
		ended <- still.writes.do(t.Context(), func(tx *tx) error {
			if _, err := all(t.Context(), tx, scanHead, headColumns+` WHERE account = 'a' FOR UPDATE`); err != nil {
				return err
			}
			once.Do(func() { close(locked); <-awake })
			tx.record(act("ecs:Still"), waybill.AuditOK)
			return nil
		})
	}()
	<-locked
	if err := other.Record(t.Context(), act("ecs:Other"), waybill.AuditOK); err != nil {
		t.Errorf("another server: %v", err)
	}
	close(awake)
	if err := <-ended; err != nil {
		t.Errorf("the one that stood still: %v", err)
	}
	if v := other.verdict(); v.Problem != "" || v.Records != 2 {
		t.Errorf("audit trail: %+v", v)
	}
}

// TestNoncesOverABrokenConnection loses the answer to a nonce: it is fresh all the same, and used afterwards.
func TestNoncesOverABrokenConnection(t *testing.T) {
	f, w := behind(t)
	if f == nil {
		return
	}
	use := func(nonce string) bool {
		t.Helper()
		fresh, err := f.UseNonce(t.Context(), "k", nonce, epoch.Add(time.Hour))
		if err != nil {
			t.Errorf("%s: %v", nonce, err)
		}
		return fresh
	}
	use("warm")
	for i := range 10 {
		nonce := fmt.Sprint("nonce ", i)
		w.arm(i%2 == 0, false)
		if !use(nonce) {
			t.Errorf("%s is taken for a replay of itself", nonce)
		}
		if use(nonce) {
			t.Errorf("%s is fresh twice", nonce)
		}
	}
}

// TestDatabaseKilled kills the database again and again while servers write and read: what was answered is there, once, and
// who is not served hears that it passes.
func TestDatabaseKilled(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	pg := pgtest.Start(t, pgtest.Options{})
	database := pg.Database(t)
	var stores []*Store
	for range 2 {
		s, err := Open(t.Context(), Config{URL: database, AuditKey: auditKey}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		stores = append(stores, s)
	}
	if err := stores[0].AddAccount(t.Context(), waybill.Account{ID: "a", Name: "first", Created: epoch}, testKey("a-key", "a")); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var done sync.Map // subjects of answered acts
	var answered, refused atomic.Int64
	progress := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for w := range 8 {
		s := stores[w%2]
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				a := act("ecs:CreateActivation")
				a.Subject = fmt.Sprintf("act-%d-%d", w, i)
				err := s.For(a, nil).AddActivation(context.Background(), waybill.Activation{
					ID: waybill.ActivationID(a.Subject), Account: "a", Region: region, Created: epoch,
				}, []byte{1}, 1e9)
				switch {
				case err == nil:
					done.Store(a.Subject, true)
					answered.Add(1)
					select {
					case progress <- struct{}{}:
					default:
					}
					if _, _, err := s.Activation(context.Background(), waybill.ActivationID(a.Subject)); err != nil && waybill.CodeOf(err) != waybill.Unavailable {
						t.Errorf("read: %v", err)
					}
				case waybill.CodeOf(err) == waybill.Unavailable:
					refused.Add(1)
				default:
					t.Errorf("write: %v", err)
				}
			}
		})
	}
	for round := range 4 {
		reached := answered.Load() + 100
		for answered.Load() < reached {
			<-progress
		}
		end := pg.Kill
		if round%2 == 1 {
			end = pg.Stop
		}
		if err := errors.Join(end(), pg.Restart()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	wg.Wait()
	t.Logf("%d answered, %d refused", answered.Load(), refused.Load())
	s := stores[0]
	done.Range(func(subject, _ any) bool {
		if _, _, err := s.Activation(t.Context(), waybill.ActivationID(subject.(string))); err != nil {
			t.Errorf("%s was answered: %v", subject, err)
		}
		return true
	})
	// Each has one record, whether its answer came or not.
	n, err := one(t.Context(), s.reads, scanOne[int], `SELECT (SELECT COUNT(*) FROM activations) - (SELECT COUNT(DISTINCT subject) FROM audit_records)
		+ (SELECT COUNT(*) FROM audit_records) - (SELECT COUNT(DISTINCT subject) FROM audit_records)`)
	if err != nil || n != 0 {
		t.Errorf("changes and records do not match: %d, %v", n, err)
	}
	if v, err := s.VerifyAudit(t.Context(), "a"); err != nil || v.Problem != "" {
		t.Errorf("audit trail: %+v, %v", v, err)
	}
}

// TestTheOtherHost opens a database of which the first host that is named is not there.
func TestTheOtherHost(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	u, err := url.Parse(postgresDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	u.Host = gone.Addr().String() + "," + u.Host
	u.RawQuery += "&target_session_attrs=read-write"
	s, err := Open(t.Context(), Config{URL: u.String(), AuditKey: auditKey}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Ping(t.Context()), s.Close()); err != nil {
		t.Error(err)
	}
}

// TestAPrimaryThatHasBecomeAStandby takes no writes; when one does again, all goes on.
func TestAPrimaryThatHasBecomeAStandby(t *testing.T) {
	f, w := behind(t)
	if f == nil {
		return
	}
	put := func(name string) error { _, err := f.PutSecret(t.Context(), name, []byte{1}); return err }
	u, err := url.Parse(f.url)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"on", "off"} {
		// What is read-only takes this change, too, from who asks for it.
		conn, err := f.reads.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{`SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE`, `ALTER DATABASE ` + u.Path[1:] + ` SET default_transaction_read_only = ` + set} {
			if _, err := conn.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		conn.Close()
		w.cut()
		err = put("secret " + set)
		if set == "on" && waybill.CodeOf(err) != waybill.Unavailable || set == "off" && err != nil {
			t.Errorf("read-only %s: %v", set, err)
		}
	}
}
