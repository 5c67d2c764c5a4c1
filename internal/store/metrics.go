// SPDX-License-Identifier: Apache-2.0

package store

import (
	"os"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of a write, as counted.
const (
	writeOK      = "ok"
	writeRefused = "refused" // by a rule or a limit, or its caller had gone: it left nothing, the others of its group went on
	writeFailed  = "failed"  // with its whole group
	writeLate    = "late"    // its turn did not come in time
)

// metrics is what is counted of writing. docs/metrics.md lists all of it.
type metrics struct {
	writes        *prometheus.CounterVec
	group         prometheus.Histogram
	transaction   prometheus.Histogram
	sync          prometheus.Histogram
	auditFailures prometheus.Counter
}

func newMetrics() *metrics {
	times := prometheus.ExponentialBuckets(0.0005, 2, 15) // 0.5 ms to 8 s
	m := &metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waybill_store_writes_total", Help: "Writes to the database, by what became of them.",
		}, []string{"result"}),
		group: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "waybill_store_transaction_writes", Help: "Writes that shared a transaction, and with it a sync.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10), // to maxGroup
		}),
		transaction: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "waybill_store_transaction_duration_seconds", Help: "Time of a transaction that writes, its commit included.", Buckets: times,
		}),
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "waybill_store_sync_duration_seconds", Help: "Time of a commit, which is mostly the sync of the disk.", Buckets: times,
		}),
		auditFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "waybill_audit_write_failures_total",
			Help: "Failed attempts to write audit records. What they were about was not done, or was refused without a record.",
		}),
	}
	for _, result := range []string{writeOK, writeRefused, writeFailed, writeLate} {
		m.writes.WithLabelValues(result)
	}
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.writes, m.group, m.transaction, m.sync, m.auditFailures}
}

// What is looked at only when somebody asks.
var (
	descWaiting = prometheus.NewDesc("waybill_store_writes_waiting", "Writes that wait for their transaction.", nil, nil)
	descNonces  = prometheus.NewDesc("waybill_store_nonces_unstored", "Nonces of requests that are in memory and not yet in the database.", nil, nil)
	descSize    = prometheus.NewDesc("waybill_store_size_bytes", "Size of the files of the database (SQLite).", []string{"file"}, nil)
)

// Describe implements prometheus.Collector.
func (s *Store) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range s.writes.metrics.collectors() {
		c.Describe(ch)
	}
	ch <- descWaiting
	ch <- descNonces
	ch <- descSize
}

// Collect implements prometheus.Collector. It asks the database nothing.
func (s *Store) Collect(ch chan<- prometheus.Metric) {
	for _, c := range s.writes.metrics.collectors() {
		c.Collect(ch)
	}
	ch <- prometheus.MustNewConstMetric(descWaiting, prometheus.GaugeValue, float64(s.writes.group.Len()))
	ch <- prometheus.MustNewConstMetric(descNonces, prometheus.GaugeValue, float64(s.nonces.len()))
	for file, path := range s.files {
		if info, err := os.Stat(path); err == nil {
			ch <- prometheus.MustNewConstMetric(descSize, prometheus.GaugeValue, float64(info.Size()), file)
		}
	}
}
