// SPDX-License-Identifier: Apache-2.0

package attempts

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

func TestEnrolmentThatIsGivenUpWaitsNoLonger(t *testing.T) {
	t.Parallel()
	var f Limiter
	now, addr := time.Unix(1_795_434_318, 0), netip.MustParseAddr("192.0.2.1")
	for range Burst {
		if end, _ := f.Begin(t.Context(), addr, now); end == nil {
			t.Fatal("refused")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if end, wait := f.Begin(ctx, addr, now); end != nil || wait != Interval {
		t.Errorf("may begin: %v, must wait %v", end != nil, wait)
	}
}

// fail makes a failed attempt.
func (f *Limiter) fail(t *testing.T, addr netip.Addr, now time.Time) {
	t.Helper()
	end, wait := f.Begin(t.Context(), addr, now)
	if end == nil {
		t.Fatalf("%s must wait %v", addr, wait)
	}
	end(true)
}

func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	var f Limiter
	now := time.Unix(1_795_434_318, 0)
	addr := netip.MustParseAddr("10.0.0.0")
	for range maxAddresses + 100 {
		addr = addr.Next()
		f.fail(t, addr, now)
	}
	if len(f.by) != maxAddresses {
		t.Errorf("%d addresses remembered, want %d", len(f.by), maxAddresses)
	}
	now = now.Add(time.Hour) // all are forgiven
	f.fail(t, addr.Next(), now)
	if len(f.by) != 1 {
		t.Errorf("%d addresses remembered, want 1", len(f.by))
	}
}

func TestFailuresOfOneSite(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_795_434_318, 0)
	for _, tt := range []struct {
		name, a, b string
		same       bool
	}{
		{"one IPv4 address", "192.0.2.1", "192.0.2.1", true},
		{"two IPv4 addresses", "192.0.2.1", "192.0.2.2", false},
		{"one IPv6 network", "2001:db8::1", "2001:db8::ffff:1", true},
		{"two IPv6 networks", "2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"with a zone", "fe80::1%eth0", "fe80::2", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var f Limiter
			for range Burst {
				f.fail(t, netip.MustParseAddr(tt.a), now)
			}
			end, wait := f.Begin(t.Context(), netip.MustParseAddr(tt.b), now)
			if (wait > 0) != tt.same || (end == nil) != tt.same {
				t.Errorf("must wait %v, want it: %v", wait, tt.same)
			}
		})
	}
	var f Limiter
	f.fail(t, netip.Addr{}, now) // no address: still counted, not a crash
	f.fail(t, netip.Addr{}, now)
}
