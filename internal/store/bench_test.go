// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/pgtest"
)

// callers is how many callers these benchmarks have at once.
const callers = 64

// onEachBench runs a benchmark on every kind of database, with the URL of an empty one for each call.
func onEachBench(b *testing.B, bench func(b *testing.B, url func(*testing.B) string)) {
	b.Run("db=sqlite", func(b *testing.B) {
		bench(b, func(b *testing.B) string { return "sqlite:" + filepath.Join(b.TempDir(), "waybill.db") })
	})
	if !pgtest.Available(b) {
		return
	}
	b.Run("db=postgres", func(b *testing.B) {
		server := pgtest.Start(b, pgtest.Options{Durable: true})
		bench(b, func(b *testing.B) string { return server.Database(b) })
	})
}

// benchStore is a store on a real disk with an account, a key and n instances.
func benchStore(b *testing.B, url string, n int) *Store {
	b.Helper()
	s, err := Open(b.Context(), Config{URL: url, AuditKey: auditKey}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	if err := s.AddAccount(b.Context(), waybill.Account{ID: "a", Name: "first", Created: epoch}, testKey("a-key", "a")); err != nil {
		b.Fatal(err)
	}
	if err := s.AddActivation(b.Context(), waybill.Activation{ID: "act", Account: "a", Region: region, InstanceCount: n, Created: epoch}, []byte("hash"), n); err != nil {
		b.Fatal(err)
	}
	for i := range n {
		if _, err := s.Enrol(b.Context(), waybill.Instance{
			ID: machine(i), Account: "a", Region: region, Activation: "act", State: waybill.Registered, Agent: waybill.NativeAgent,
			PublicKey: fmt.Sprintf("key %d", i), Registered: epoch, Presence: waybill.NeverSeen,
			Facts: waybill.Facts{Hostname: "host", MachineID: strings.Repeat("0", 32), IntranetIP: "10.0.0.1", OSType: "Linux", OSVersion: "Debian 13", AgentVersion: "1.0.0", Capability: 1},
		}, 0, func(before int) string { return fmt.Sprintf("host-%d", before) }); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

var benchContent = []byte(strings.Repeat("x", 1024))

func benchDelivery(n int64) *NewDelivery {
	now := time.Now().UTC().Truncate(time.Millisecond)
	return &NewDelivery{Data: benchContent, Sent: string(benchContent), Delivery: waybill.Delivery{
		ID: waybill.DeliveryID(fmt.Sprintf("f-hz%024d", n)), Account: "a", Region: region, ContentType: waybill.PlainText,
		File:   waybill.FileSpec{Name: "n", TargetDir: "/srv", Owner: "root", Group: "root", Mode: "0644"},
		SHA256: sha256.Sum256(benchContent), Size: int64(len(benchContent)), Timeout: time.Minute, Created: now, Deadline: now.Add(time.Minute),
	}, Targets: []waybill.Target{{Instance: "m0", Status: waybill.Pending}}}
}

func benchAct(n int64) *waybill.Act {
	return &waybill.Act{
		Principal: waybill.Principal{
			Account: "a", Kind: waybill.AccountActor, AccessKey: "a-key", RequestID: fmt.Sprintf("%036d", n),
			SourceIP: netip.MustParseAddr("192.0.2.1"), Secure: true,
		},
		Action: "ecs:SendFile", Region: region, Resources: []string{"acs:ecs:cn-hangzhou:1234567890123456:instance/m0"},
		Subject: fmt.Sprintf("f-hz%024d", n),
	}
}

// BenchmarkAddDelivery stores deliveries to one instance: alone, with the audit record of a request, and with its nonce
// too.
func BenchmarkAddDelivery(b *testing.B) { onEachBench(b, benchmarkAddDelivery) }

func benchmarkAddDelivery(b *testing.B, url func(*testing.B) string) {
	for _, with := range []string{"nothing", "audit", "audit,nonce"} {
		b.Run("with="+with, func(b *testing.B) {
			s := benchStore(b, url(b), 1)
			var next atomic.Int64
			b.ResetTimer()
			b.ReportAllocs()
			b.SetParallelism(callers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					n := next.Add(1)
					view := s
					if strings.Contains(with, "nonce") {
						if fresh, err := s.UseNonce(b.Context(), "key:a-key", fmt.Sprint(n), time.Now().Add(time.Hour)); err != nil || !fresh {
							b.Errorf("nonce: %v, %v", fresh, err)
						}
					}
					if strings.Contains(with, "audit") {
						view = s.For(benchAct(n), nil)
					}
					if err := view.AddDelivery(b.Context(), benchDelivery(n)); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkApply ends a thousand targets of twenty deliveries at once.
func BenchmarkApply(b *testing.B) { onEachBench(b, benchmarkApply) }

func benchmarkApply(b *testing.B, url func(*testing.B) string) {
	const deliveries, targets = 20, 50
	s := benchStore(b, url(b), 1)
	var n int64
	for b.Loop() {
		b.StopTimer()
		var list []Change
		for range deliveries {
			n++
			d := benchDelivery(n)
			d.Targets = nil
			for i := range targets {
				d.Targets = append(d.Targets, waybill.Target{Instance: machine(i), Status: waybill.Pending})
				list = append(list, Change{Delivery: d.ID, Instance: machine(i), Event: waybill.Event{To: waybill.Success, Finished: d.Created, Reported: true, SHA256: d.SHA256[:]}})
			}
			if err := s.AddDelivery(b.Context(), d); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		if applied, err := s.Apply(b.Context(), list); err != nil || !applied[len(list)-1] {
			b.Fatal(applied, err)
		}
	}
}

// BenchmarkRead looks up what a request needs, while somebody writes.
func BenchmarkRead(b *testing.B) { onEachBench(b, benchmarkRead) }

func benchmarkRead(b *testing.B, url func(*testing.B) string) {
	s := benchStore(b, url(b), 1000)
	var n atomic.Int64
	for range 1000 {
		if err := s.AddDelivery(b.Context(), benchDelivery(n.Add(1))); err != nil {
			b.Fatal(err)
		}
	}
	for _, q := range []struct {
		name string
		read func() error
	}{
		{"Key", func() error { _, err := s.Key(b.Context(), "a-key"); return err }},
		{"Recipients", func() error {
			_, err := s.Recipients(b.Context(), "a", region, []waybill.InstanceID{"m500"})
			return err
		}},
		{"Deliveries", func() error {
			_, err := s.Deliveries(b.Context(), "a", waybill.DeliveryFilter{Region: region, ID: benchDelivery(500).ID}, waybill.Page{Size: 10})
			return err
		}},
	} {
		for _, quiet := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/quiet=%t", q.name, quiet), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i++ {
						if !quiet && i%16 == 0 {
							s.TouchKey("a-key", time.Now())
							s.writes.group.Flush()
						}
						if err := q.read(); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}

// BenchmarkRows inserts a thousand targets into PostgreSQL in the ways that there are, to tell what one JSON parameter costs.
func BenchmarkRows(b *testing.B) {
	if !pgtest.Available(b) {
		return
	}
	url := pgtest.Start(b, pgtest.Options{Durable: true}).Database(b)
	benchStore(b, url, 1)
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	const rows = 1000
	instances, ordinals := make([]string, rows), make([]int64, rows)
	encoded, copied := make([][7]any, rows), make([][]any, rows)
	for i := range rows {
		instances[i], ordinals[i] = string(machine(i)), int64(i)
		encoded[i] = [7]any{instances[i], i, "Pending", "", "", 0, 0}
	}
	created := time.Now().UnixMilli()
	n := 0
	for _, way := range []struct {
		name string
		do   func(id string) error
	}{
		{"json", func(id string) error {
			_, err := conn.Exec(b.Context(), postgresDialect.text(postgresDialect.insertTargets()), id, created, created, created, []byte{}, jsonRows(encoded))
			return err
		}},
		{"unnest", func(id string) error {
			_, err := conn.Exec(b.Context(), insertTargets+` SELECT $1, $2, $2, $2, '', i, o, 'Pending', '', '', 0, 0 FROM unnest($3::text[], $4::bigint[]) r (i, o)`,
				id, created, instances, ordinals)
			return err
		}},
		{"copy", func(id string) error {
			for i := range copied {
				copied[i] = []any{id, created, created, created, []byte{}, instances[i], ordinals[i], "Pending", "", "", int64(0)}
			}
			_, err := conn.CopyFrom(b.Context(), pgx.Identifier{"targets"},
				[]string{"delivery", "created", "updated", "deadline", "file", "instance", "ordinal", "status", "cause", "detail", "finished"}, pgx.CopyFromRows(copied))
			return err
		}},
	} {
		b.Run("by="+way.name, func(b *testing.B) {
			for b.Loop() {
				n++
				if err := way.do(fmt.Sprint("f-", n)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
