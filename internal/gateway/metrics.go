// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descHandled = prometheus.NewDesc("waybill_agent_messages_under_way", "Messages of native agents that are being handled.", []string{"op"}, nil)
	descWaiting = prometheus.NewDesc("waybill_agent_messages_waiting", "Messages of native agents that wait for their turn.", []string{"op"}, nil)
)

// lines are the lines of all routes, for whoever asks for metrics.
type lines struct {
	mu sync.Mutex
	m  map[string]*line // by op
}

func (l *lines) add(op string, v *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = map[string]*line{}
	}
	l.m[op] = v
}

// Describe implements prometheus.Collector.
func (l *lines) Describe(ch chan<- *prometheus.Desc) {
	ch <- descHandled
	ch <- descWaiting
}

// Collect implements prometheus.Collector.
func (l *lines) Collect(ch chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for op, v := range l.m {
		handled, waiting := v.load()
		ch <- prometheus.MustNewConstMetric(descHandled, prometheus.GaugeValue, float64(handled), op)
		ch <- prometheus.MustNewConstMetric(descWaiting, prometheus.GaugeValue, float64(waiting), op)
	}
}
