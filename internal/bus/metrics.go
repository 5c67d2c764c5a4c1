// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

// What Collect looks at. docs/metrics.md lists all of it.
var (
	descConnected  = prometheus.NewDesc("waybill_bus_connected", "1 while this server has its connection to NATS.", nil, nil)
	descReconnects = prometheus.NewDesc("waybill_bus_reconnects_total", "Times that this server's connection to NATS was made anew.", nil, nil)
	descErrors     = prometheus.NewDesc("waybill_bus_errors_total", "Errors that NATS told of this server's connection.", nil, nil)
	descMessages   = prometheus.NewDesc("waybill_bus_messages_total", "Messages of this server's connection to NATS.", []string{"direction"}, nil)
	descBytes      = prometheus.NewDesc("waybill_bus_bytes_total", "Bytes of messages of this server's connection to NATS.", []string{"direction"}, nil)
	descDropped    = prometheus.NewDesc("waybill_bus_dropped_messages_total", "Messages that found too many waiting for this server to take them.", nil, nil)
	descWaiting    = prometheus.NewDesc("waybill_bus_messages_waiting", "Messages that have come and wait for this server to take them.", nil, nil)
	descAgents     = prometheus.NewDesc("waybill_bus_agent_connections", "Connections of agents to the embedded NATS server.", nil, nil)
	descSlow       = prometheus.NewDesc("waybill_bus_slow_consumers_total", "Connections that the embedded NATS server cut off because they took too little.", nil, nil)
)

// counts is what Collect cannot ask NATS for.
type counts struct {
	errors atomic.Int64

	mu      sync.Mutex
	served  map[*nats.Subscription]struct{}
	dropped int // of those that have ended
}

func (c *counts) begin(s *nats.Subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.served == nil {
		c.served = map[*nats.Subscription]struct{}{}
	}
	c.served[s] = struct{}{}
}

func (c *counts) end(s *nats.Subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.served[s]; !ok {
		return
	}
	if n, err := s.Dropped(); err == nil { // else the connection is closed, and with it all of this
		c.dropped += n
	}
	delete(c.served, s)
}

// queues returns how many messages wait to be handled, and how many were dropped because too many did.
func (c *counts) queues() (waiting, dropped int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dropped = c.dropped
	for s := range c.served {
		if n, err := s.Dropped(); err == nil {
			dropped += n
		}
		if n, _, err := s.Pending(); err == nil {
			waiting += n
		}
	}
	return waiting, dropped
}

// Describe implements prometheus.Collector.
func (b *Bus) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descConnected, descReconnects, descErrors, descMessages, descBytes, descDropped, descWaiting, descAgents, descSlow} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Of an external cluster it knows this server's connection only.
func (b *Bus) Collect(ch chan<- prometheus.Metric) {
	put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	connected := 0.0
	if b.conn.Status() == nats.CONNECTED {
		connected = 1
	}
	put(descConnected, prometheus.GaugeValue, connected)
	stats := b.conn.Stats()
	put(descReconnects, prometheus.CounterValue, float64(stats.Reconnects))
	put(descErrors, prometheus.CounterValue, float64(b.counts.errors.Load()))
	put(descMessages, prometheus.CounterValue, float64(stats.InMsgs), "in")
	put(descMessages, prometheus.CounterValue, float64(stats.OutMsgs), "out")
	put(descBytes, prometheus.CounterValue, float64(stats.InBytes), "in")
	put(descBytes, prometheus.CounterValue, float64(stats.OutBytes), "out")
	waiting, dropped := b.counts.queues()
	put(descWaiting, prometheus.GaugeValue, float64(waiting))
	put(descDropped, prometheus.CounterValue, float64(dropped))
	if b.embedded != nil {
		put(descAgents, prometheus.GaugeValue, float64(b.Clients()))
		put(descSlow, prometheus.CounterValue, float64(b.embedded.NumSlowConsumers()))
	}
}
