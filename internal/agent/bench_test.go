// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/openwaybill/waybill/internal/wire"
)

// BenchmarkIdleAgent measures what one connected agent takes beyond a bare NATS connection to the same server, in this
// process: bytes of heap and stack, and goroutines. The server's share is the same for both, so it cancels out.
func BenchmarkIdleAgent(b *testing.B) {
	const n = 100
	s := newScripted(b)
	dirs := make([]string, n)
	for i := range dirs {
		dirs[i] = filepath.Join(b.TempDir(), "state")
		_, err := Enroll(b.Context(), EnrollOptions{StateDir: dirs[i], Server: s.url(), CA: string(s.ca.PEM())})
		must(b, err)
	}
	for b.Loop() {
		bytes0, goroutines0 := usage()
		var conns []*nats.Conn
		for _, dir := range dirs {
			conns = append(conns, bareConn(b, s, dir))
		}
		bytes1, goroutines1 := usage()
		for _, c := range conns {
			c.Close()
		}
		conns = nil

		s.set(func(s *scripted) { s.messages = nil })
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan error, n)
		bytes2, goroutines2 := usage()
		for _, dir := range dirs {
			a, err := New(Config{StateDir: dir, Root: b.TempDir(), Backoff: quick}, slog.New(slog.DiscardHandler))
			must(b, err)
			go func() { ended <- a.Run(ctx) }()
		}
		await[wire.Pull](s, wire.OpPull, n)
		bytes3, goroutines3 := usage()
		b.ReportMetric(float64(bytes1-bytes0)/n, "bare-B/agent")
		b.ReportMetric(float64(bytes3-bytes2)/n, "B/agent")
		b.ReportMetric(float64(goroutines1-goroutines0)/n, "bare-goroutines/agent")
		b.ReportMetric(float64(goroutines3-goroutines2)/n, "goroutines/agent")
		cancel()
		for range n {
			<-ended
		}
	}
}

func bareConn(b *testing.B, s *scripted, dir string) *nats.Conn {
	b.Helper()
	a, err := New(Config{StateDir: dir}, slog.New(slog.DiscardHandler))
	must(b, err)
	config, err := clientTLS(a.reg.CA)
	must(b, err)
	c, err := nats.Connect(strings.Join(a.reg.NATS, ","), nats.UserJWT(a.token, a.sign), nats.Secure(config),
		nats.TLSHandshakeFirst())
	must(b, err)
	return c
}

func usage() (bytes int64, goroutines int) {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse), runtime.NumGoroutine()
}
