// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
)

// Bounds of what a look at the metrics costs, however often and by however many it is asked for.
const (
	countEvery  = 15 * time.Second // an older count is made anew
	countWithin = 5 * time.Second  // a count that takes longer is given up
)

// What was removed because it is too old or too much, as counted.
const (
	removedDeliveries = "deliveries"
	removedAudit      = "audit-records"
	removedNonces     = "nonces"
	removedTokens     = "tokens"
	removedSessions   = "sessions"
	removedContents   = "contents"
	removedUploads    = "uploads"
	removedUploaded   = "uploaded"
	removedEvents     = "webhook-events"
)

// metrics is what is counted of the use cases. docs/metrics.md lists all of it.
type metrics struct {
	ended     *prometheus.CounterVec
	accepted  prometheus.Counter
	published *prometheus.CounterVec
	removed   *prometheus.CounterVec
	uncounted prometheus.Counter
	events    *prometheus.CounterVec
}

func newMetrics() metrics {
	m := metrics{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waybill_targets_ended_total", Help: "Targets that reached a final status, by status and cause.",
		}, []string{"status", "cause"}),
		accepted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "waybill_deliveries_accepted_total", Help: "Deliveries accepted.",
		}),
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waybill_deliver_messages_total", Help: "Messages that tell a machine of a delivery: first ones, and repeats to who has not acknowledged.",
		}, []string{"kind"}),
		removed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waybill_retention_removed_total", Help: "Rows of history that were removed, by what they are.",
		}, []string{"kind"}),
		uncounted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "waybill_count_failures_total", Help: "Times that machines and targets could not be counted for a look at the metrics.",
		}),
	}
	m.events = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "waybill_webhook_events_total",
		Help: "Events for webhooks, by what came of them: sent, refused in one attempt (whatever comes of the next), or given_up after the last.",
	}, []string{"outcome"})
	for _, outcome := range []string{eventsSent, eventsRefused, eventsGivenUp} {
		m.events.WithLabelValues(outcome)
	}
	for _, kind := range []string{publishedFirst, publishedRepeat} {
		m.published.WithLabelValues(kind)
	}
	for _, kind := range []string{
		removedDeliveries, removedAudit, removedNonces, removedTokens, removedSessions, removedContents, removedUploads, removedUploaded, removedEvents,
	} {
		m.removed.WithLabelValues(kind)
	}
	return m
}

// What comes of events for webhooks, as counted.
const (
	eventsSent    = "sent"
	eventsRefused = "refused"
	eventsGivenUp = "given_up"
)

// Kinds of Deliver messages, as counted.
const (
	publishedFirst  = "first"
	publishedRepeat = "repeat"
)

func (m *metrics) register(reg prometheus.Registerer, s *Service) {
	reg.MustRegister(m.ended, m.accepted, m.published, m.removed, m.uncounted, m.events, &census{s: s})
}

// presences are what a machine can be counted as: those of the root package, and silent for one that says nothing any more
// and has not said why.
var presences = []string{
	string(waybill.Online), silent, string(waybill.NoChannel), string(waybill.Stopped), string(waybill.ShutDown),
	string(waybill.Upgrading), string(waybill.NeverSeen),
}

const silent = "silent"

var (
	descMachines = prometheus.NewDesc("waybill_machines", "Registered machines of all accounts, by agent and presence.",
		[]string{"agent", "presence"}, nil)
	descTargets    = prometheus.NewDesc("waybill_targets_open", "Targets that have not ended, by status.", []string{"status"}, nil)
	descDeliveries = prometheus.NewDesc("waybill_deliveries_open", "Deliveries with a target that has not ended.", nil, nil)
	descLag        = prometheus.NewDesc("waybill_sweep_lag_seconds",
		"How long the most overdue target has been open past its deadline and the grace; 0 if none is.", nil, nil)
	descEvents   = prometheus.NewDesc("waybill_webhook_events_waiting", "Events that are to be sent to enabled webhooks, for the first time or again.", nil, nil)
	descEventLag = prometheus.NewDesc("waybill_webhook_lag_seconds", "How long ago the oldest of them happened, or was last replayed; 0 if there is none.", nil, nil)
	descRepeats  = prometheus.NewDesc("waybill_repeats_waiting", "Deliveries that are looked at again for who has not acknowledged.", nil, nil)
)

// census counts machines and open targets when somebody asks for metrics, and keeps the count for a while. Every server of
// a database counts the same.
type census struct {
	s *Service

	mu   sync.Mutex // held while counting: who asks meanwhile gets the same count
	at   time.Time
	last store.Census
	ok   bool // last is there
}

// Describe implements prometheus.Collector.
func (c *census) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descMachines, descTargets, descDeliveries, descLag, descRepeats, descEvents, descEventLag} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. What cannot be counted is left out, and counted as such.
func (c *census) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descRepeats, float64(c.s.repeats.len()))
	n, ok := c.count()
	if !ok {
		return
	}
	machines := map[[2]string]int{}
	for _, m := range n.Machines {
		presence := string(m.Presence)
		if !m.Heard && (m.Presence == waybill.Online || m.Presence == waybill.NoChannel) {
			presence = silent
		}
		machines[[2]string{string(m.Agent), presence}] += m.Count
	}
	for _, agent := range []waybill.AgentKind{waybill.NativeAgent, waybill.OfficialAgent} {
		for _, presence := range presences {
			gauge(descMachines, float64(machines[[2]string{string(agent), presence}]), string(agent), presence)
		}
	}
	for _, status := range []waybill.Status{waybill.Pending, waybill.Running} {
		gauge(descTargets, float64(n.Open[status]), string(status))
	}
	gauge(descDeliveries, float64(n.Deliveries))
	lag := 0.0
	if !n.NextDeadline.IsZero() {
		lag = max(0, c.s.now().Sub(n.NextDeadline.Add(c.s.cfg.Grace)).Seconds())
	}
	gauge(descLag, lag)
	gauge(descEvents, float64(n.Events))
	lag = 0
	if !n.OldestEvent.IsZero() {
		lag = max(0, c.s.now().Sub(n.OldestEvent).Seconds())
	}
	gauge(descEventLag, lag)
}

func (c *census) count() (store.Census, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) < countEvery {
		return c.last, c.ok
	}
	ctx, cancel := context.WithTimeout(context.Background(), countWithin)
	defer cancel()
	n, err := c.s.store.Census(ctx, c.s.now().Add(-waybill.SilentAfter))
	if err != nil {
		c.s.metrics.uncounted.Inc()
		c.s.log.Warn("count machines and open targets for the metrics", "err", err)
	}
	c.at, c.last, c.ok = time.Now(), n, err == nil
	return c.last, c.ok
}
