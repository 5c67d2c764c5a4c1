// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"

	"github.com/prometheus/client_golang/prometheus"
)

func connectionsRefused() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "waybill_connections_refused_total", Help: "Connections closed at once because their address had too many, by listener.",
	}, []string{"listener"})
}

var descExpiry = prometheus.NewDesc("waybill_certificate_expiry_timestamp_seconds",
	"Until when a certificate is good, in seconds since 1970: that of the listeners, and that of the data directory's own CA.",
	[]string{"certificate"}, nil)

// expiry tells until when certificates are good, as they are when somebody asks.
type expiry struct {
	current func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	ca      *x509.Certificate // nil with a certificate of the operator's
}

func newExpiry(cfg *tls.Config, ca []byte) *expiry {
	e := &expiry{current: cfg.GetCertificate}
	if block, _ := pem.Decode(ca); block != nil {
		e.ca, _ = x509.ParseCertificate(block.Bytes) // it is our own and was read before; nil leaves the metric out
	}
	return e
}

// Describe implements prometheus.Collector.
func (e *expiry) Describe(ch chan<- *prometheus.Desc) { ch <- descExpiry }

// Collect implements prometheus.Collector.
func (e *expiry) Collect(ch chan<- prometheus.Metric) {
	put := func(name string, c *x509.Certificate) {
		ch <- prometheus.MustNewConstMetric(descExpiry, prometheus.GaugeValue, float64(c.NotAfter.Unix()), name)
	}
	if pair, err := e.current(&tls.ClientHelloInfo{}); err == nil && pair.Leaf != nil {
		put("server", pair.Leaf)
	}
	if e.ca != nil {
		put("ca", e.ca)
	}
}
