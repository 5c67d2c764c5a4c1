// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net"
	"testing"
)

// peer is a connection from an address.
type peer struct {
	net.Conn
	addr net.Addr
}

func (p peer) RemoteAddr() net.Addr { return p.addr }

func TestAddressesOfOneHolderCountTogether(t *testing.T) {
	t.Parallel()
	at := func(ip string) string {
		return addrOf(peer{addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1, Zone: ""}}).String()
	}
	for ip, want := range map[string]string{
		"192.0.2.7":         "192.0.2.7",
		"::ffff:192.0.2.7":  "192.0.2.7",
		"2001:db8:1:2::7":   "2001:db8:1:2::",
		"2001:db8:1:2:ff::": "2001:db8:1:2::",
		"2001:db8:1:3::7":   "2001:db8:1:3::",
		"::1":               "::",
	} {
		if got := at(ip); got != want {
			t.Errorf("%s counts as %s, want %s", ip, got, want)
		}
	}
	if got := addrOf(peer{addr: &net.UnixAddr{Name: "x"}}); got.IsValid() {
		t.Errorf("a peer without address counts as %s", got)
	}
}
