// SPDX-License-Identifier: Apache-2.0

package script

import (
	"context"
	"errors"
	"net"
	"sync"
)

// errDown is what a machine finds that has no link.
var errDown = errors.New("the link is down; the script says so")

// link is the connection of a machine to all others. The zero value is up.
type link struct {
	mu    sync.Mutex
	down  bool
	conns []net.Conn // since it is up
}

// dial connects while the link is up.
func (l *link) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if l.isDown() {
		return nil, errDown
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, errors.Join(errDown, conn.Close())
	}
	l.conns = append(l.conns, conn)
	return conn, nil
}

func (l *link) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

// set makes the link up, or down: then it cuts all connections.
func (l *link) set(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	if down {
		for _, c := range l.conns {
			_ = c.Close() // whoever uses it learns that it is closed
		}
		l.conns = nil
	}
}

// flap takes the link down and up again until ctx ends. It begins with the time that it is up.
func (l *link) flap(ctx context.Context, f Flapping) {
	for down := false; ; down = !down {
		l.set(down)
		wait := f.Up
		if down {
			wait = f.Down
		}
		if pause(ctx, wait) != nil {
			l.set(false) // so that the machine can say goodbye
			return
		}
	}
}
