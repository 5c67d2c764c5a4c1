// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/gateway"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/wire"
)

const simRegion = "cn-hangzhou"

// rig is the server side of the worlds of one bubble, one after the other: the store is the same for all of them, the
// service until it dies. It is also their bus.
type rig struct {
	dir      string
	store    *store.Store
	history  *sql.DB // a connection beside the store's
	sealer   *identity.Sealer
	operator *identity.Operator
	who      waybill.Principal
	instance waybill.InstanceID
	epoch    time.Time
	serial   int // of worlds

	readFinished, readChanges, forget *sql.Stmt

	service  *control.Service
	stop     context.CancelFunc
	stopped  sync.WaitGroup
	handlers map[string]func(subject, reply string, data []byte)
	world    *world // whose turn it is
}

// workDir is where files are fast: durability is not what is tested here.
func workDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "waybill-explore-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// newRig must be called in the bubble.
func newRig(dir string) *rig {
	r := &rig{dir: dir, epoch: time.Now()}
	ctx := context.Background()
	var err error
	r.sealer, err = identity.OpenSealer(filepath.Join(dir, "seal.key"))
	r.must(err)
	r.operator, err = identity.NewOperator()
	r.must(err)
	path := filepath.Join(dir, "waybill.db")
	r.store, err = store.Open(ctx, store.Config{URL: "sqlite:" + path, AuditKey: control.AuditKey(r.sealer)},
		slog.New(slog.DiscardHandler))
	r.must(err)
	// Everything that is ever stored of a target, written down by the database itself.
	r.history, err = sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=synchronous(OFF)")
	r.must(err)
	r.history.SetMaxOpenConns(1)
	for _, q := range []string{
		`CREATE TABLE history (n INTEGER PRIMARY KEY, delivery TEXT, old TEXT, old_cause TEXT, status TEXT, cause TEXT, at INTEGER)`,
		`CREATE INDEX history_delivery ON history (delivery)`,
		`CREATE TRIGGER written AFTER UPDATE OF status ON targets BEGIN
			INSERT INTO history (delivery, old, old_cause, status, cause, at)
			VALUES (new.delivery, old.status, old.cause, new.status, new.cause, new.updated); END`,
		`CREATE TRIGGER ended_at_once AFTER INSERT ON targets WHEN new.finished <> 0 BEGIN
			INSERT INTO history (delivery, old, old_cause, status, cause, at)
			VALUES (new.delivery, 'Pending', '', new.status, new.cause, new.updated); END`,
	} {
		_, err = r.history.ExecContext(ctx, q)
		r.must(err)
	}
	for query, st := range map[string]**sql.Stmt{
		`SELECT finished FROM targets WHERE delivery = ?`: &r.readFinished,
		`SELECT h.old, h.old_cause, h.status, h.cause, h.at, d.status
			FROM history h JOIN deliveries d ON d.id = h.delivery WHERE h.delivery = ? ORDER BY h.n`: &r.readChanges,
		`UPDATE instances SET presence = ?, session = '', last_seen = 0`: &r.forget,
	} {
		*st, err = r.history.PrepareContext(ctx, query)
		r.must(err)
	}
	r.startServer()
	_, err = r.service.Bootstrap(ctx, "", "", func(c control.Credential) error {
		r.who = waybill.Principal{Account: c.Key.Account, Kind: waybill.AccountActor, AccessKey: c.Key.ID}
		return nil
	})
	r.must(err)
	a, err := r.service.CreateActivation(ctx, r.act(), waybill.Activation{Region: simRegion})
	r.must(err)
	key, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, make([]byte, ed25519.SeedSize))
	r.must(err)
	public, err := key.PublicKey()
	r.must(err)
	i, err := r.service.Enroll(ctx, control.EnrollRequest{
		Activation: a.ID, Code: a.Code, PublicKey: public, From: netip.MustParseAddr("192.0.2.1"),
		Facts: waybill.Facts{Capability: wire.Capability},
	})
	r.must(err)
	r.instance = i.ID
	return r
}

func (r *rig) act() *waybill.Act {
	return &waybill.Act{Principal: r.who, Action: "ecs:SendFile", Region: simRegion}
}

// noMetrics takes no notice of metrics.
type noMetrics struct{ prometheus.Registerer }

func (noMetrics) MustRegister(...prometheus.Collector) {}

func (r *rig) startServer() {
	ctx, stop := context.WithCancel(context.Background())
	log := slog.New(slog.DiscardHandler)
	cfg := control.DefaultConfig()
	cfg.RetainCount = 20
	var err error
	r.service, err = control.New(ctx, cfg, r.store, r, r.sealer, noMetrics{}, log)
	r.must(err)
	r.handlers = map[string]func(subject, reply string, data []byte){}
	g := gateway.New(gateway.Config{}, r.service, r, r.operator, noMetrics{}, log)
	r.stop = stop
	r.stopped.Go(func() { _ = r.service.Run(ctx) })
	r.stopped.Go(func() { _ = g.Run(ctx) })
	synctest.Wait()
}

func (r *rig) stopServer() {
	r.stop()
	r.stopped.Wait()
}

// close ends everything.
func (r *rig) close() {
	r.stopServer()
	r.must(r.history.Close())
	r.must(r.store.Close())
}

// Publish is the bus's, of messages to the agent.
func (r *rig) Publish(subject string, data []byte) error {
	if r.world != nil {
		r.world.fromServer(subject, data)
	}
	return nil
}

// Revoke is the bus's. No agent is revoked here.
func (r *rig) Revoke(key string, _ time.Time) error { return fmt.Errorf("%s was revoked", key) }

// Serve is the bus's, of messages to the server.
func (r *rig) Serve(subject, _ string, h func(subject, reply string, data []byte)) (stop func(), err error) {
	_, op, _ := wire.InstanceOf(subject)
	r.handlers[op] = h
	return func() {}, nil
}

// handle gives a message to the server.
func (r *rig) handle(m *letter) { r.handlers[m.op](m.subject, m.reply, m.data) }

// newWorld begins a world, after the last one has been forgotten.
func (r *rig) newWorld(s *scenario, choose func(int) int, verbose func(string, ...any)) *world {
	_, err := r.forget.Exec(waybill.NeverSeen)
	r.must(err)
	if r.serial%100 == 0 { // nobody looks at these, and a database that does not grow stays fast
		_, err = r.history.Exec(`DELETE FROM history; DELETE FROM audit_records`)
		r.must(err)
	}
	_ = pause(context.Background(), time.Second)
	r.serial++
	w := &world{
		rig: r, scenario: s, choose: choose, verbose: verbose, faults: maxFaults, onDisk: map[string]*sent{},
		dir: filepath.Join(r.dir, strconv.Itoa(r.serial)),
	}
	w.state, w.root = filepath.Join(w.dir, "state"), filepath.Join(w.dir, "root")
	r.must(os.MkdirAll(w.state, 0o700))
	r.must(os.MkdirAll(w.root, 0o755))
	r.epoch, r.world = time.Now(), w
	return w
}

// storedFinal reports whether a target of that delivery has ended in the database.
func (r *rig) storedFinal(delivery string) bool {
	var finished int64
	r.must(r.readFinished.QueryRow(delivery).Scan(&finished))
	return finished != 0
}

// change is a row of the history.
type change struct {
	old, status     waybill.Status
	oldCause, cause waybill.Cause
	overall         string
	at              time.Time
}

// changes returns what was ever stored of a delivery's target, and the overall status of the delivery now.
func (r *rig) changes(delivery waybill.DeliveryID) (list []change) {
	rows, err := r.readChanges.Query(delivery)
	r.must(err)
	defer rows.Close()
	for rows.Next() {
		var c change
		var at int64
		r.must(rows.Scan(&c.old, &c.oldCause, &c.status, &c.cause, &at, &c.overall))
		c.at = time.UnixMilli(at)
		list = append(list, c)
	}
	r.must(rows.Err())
	return list
}
