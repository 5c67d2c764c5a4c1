// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"context"
	"net"
	"sync"
	"time"
)

// network is what a machine's connections go through.
type network struct {
	mu    sync.Mutex
	whole chan struct{} // closed while it is
	conns map[*conn]struct{}
}

func newNetwork() *network {
	n := &network{whole: make(chan struct{}), conns: map[*conn]struct{}{}}
	close(n.whole)
	return n
}

// cut ends every connection, as a firewall that forgets or a cable that is pulled and put back.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		c.Conn.Close()
	}
}

// split lets nothing through for a while. Connections stall: what was written meanwhile arrives when it is whole again,
// as it does over TCP.
func (n *network) split(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.whole:
		n.whole = make(chan struct{})
		time.AfterFunc(d, n.heal)
	default: // it is split already
	}
}

// heal makes it whole. It may be called at any time.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.whole:
		return
	default:
	}
	close(n.whole)
	for c := range n.conns {
		go c.flush()
	}
}

func (n *network) gate() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.whole
}

// dial connects once the network is whole.
func (n *network) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	select {
	case <-n.gate():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	inner, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, network: n, closed: make(chan struct{})}
	n.mu.Lock()
	n.conns[c] = struct{}{}
	n.mu.Unlock()
	return c, nil
}

// conn is a connection through a network.
type conn struct {
	net.Conn
	network *network
	once    sync.Once
	closed  chan struct{}

	mu      sync.Mutex
	pending []byte // written while the network was split
}

// Read waits while the network is split.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.network.gate():
	case <-c.closed:
		return 0, net.ErrClosed
	}
	return n, err
}

// Write keeps what is written while the network is split, as the system does for TCP.
func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.network.gate():
	default:
		c.pending = append(c.pending, b...)
		return len(b), nil
	}
	if err := c.flushLocked(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *conn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.flushLocked() // the next Write or Read fails as well
}

func (c *conn) flushLocked() error {
	b := c.pending
	c.pending = nil
	if len(b) == 0 {
		return nil
	}
	_, err := c.Conn.Write(b)
	return err
}

// Close closes the connection. It may be called twice.
func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.network.mu.Lock()
		delete(c.network.conns, c)
		c.network.mu.Unlock()
	})
	return c.Conn.Close()
}
