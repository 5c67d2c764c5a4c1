// SPDX-License-Identifier: Apache-2.0

package server

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openwaybill/waybill/internal/telemetry"
)

// fairListener lets each address have so many connections at once and closes what goes beyond, so that one peer that
// opens connections and says little on them does not use up all that the process may have. It takes no part in what the
// connections carry.
type fairListener struct {
	net.Listener
	max      int
	log      *slog.Logger
	warnings *telemetry.Warnings
	refused  prometheus.Counter

	mu   sync.Mutex
	open map[netip.Addr]int
}

func newFairListener(l net.Listener, most int, refused prometheus.Counter, log *slog.Logger) *fairListener {
	return &fairListener{Listener: l, max: most, log: log, refused: refused, warnings: telemetry.NewWarnings(), open: make(map[netip.Addr]int)}
}

// Accept implements net.Listener.
func (l *fairListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr := addrOf(conn)
		if l.enter(addr) {
			return &fairConn{Conn: conn, leave: sync.OnceFunc(func() { l.leave(addr) })}, nil
		}
		l.refused.Inc()
		l.warnings.Log(l.log, "connection refused: its address has too many", "from", addr, "most", l.max)
		_ = conn.Close() // it was never used
	}
}

func (l *fairListener) enter(addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[addr] >= l.max {
		return false
	}
	l.open[addr]++
	return true
}

func (l *fairListener) leave(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[addr]--; l.open[addr] == 0 {
		delete(l.open, addr)
	}
}

// addrOf returns the address of a peer. Of IPv6 that is its /64: whoever has one has all of it.
func addrOf(conn net.Conn) netip.Addr {
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := a.AddrPort().Addr().Unmap().WithZone("")
	if addr.Is6() {
		prefix, _ := addr.Prefix(64) // of an IPv6 address it cannot fail
		addr = prefix.Addr()
	}
	return addr
}

// fairConn gives its place back when it is closed.
type fairConn struct {
	net.Conn
	leave func()
}

func (c *fairConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
