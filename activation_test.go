// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestActivationValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*Activation)
		want   Code
	}{
		{"as it is", func(*Activation) {}, ""},
		{"no prefix", func(a *Activation) { a.InstanceName = "" }, ""},
		{"prefix of one character", func(a *Activation) { a.InstanceName = "a" }, ActivationPrefixLen},
		{"prefix of 51 characters", func(a *Activation) { a.InstanceName = strings.Repeat("a", 51) }, ActivationPrefixLen},
		{"prefix with a digit first", func(a *Activation) { a.InstanceName = "1web" }, ActivationPrefix},
		{"prefix with a blank", func(a *Activation) { a.InstanceName = "we b" }, ActivationPrefix},
		{"long description", func(a *Activation) { a.Description = strings.Repeat("d", 101) }, ActivationDescription},
		{"no instances", func(a *Activation) { a.InstanceCount = 0 }, ActivationCount},
		{"too many instances", func(a *Activation) { a.InstanceCount = 1001 }, ActivationCount},
		{"too long", func(a *Activation) { a.TTL = 25 * time.Hour }, ActivationTTL},
		{"too short", func(a *Activation) { a.TTL = time.Minute }, ActivationTTL},
		{"IPv4", func(a *Activation) { a.AddressRange = "192.0.2.1" }, ""},
		{"IPv6 CIDR", func(a *Activation) { a.AddressRange = "2001:db8::/32" }, ""},
		{"not an address", func(a *Activation) { a.AddressRange = "host" }, ActivationAddresses},
		{"address with a zone", func(a *Activation) { a.AddressRange = "fe80::1%eth0" }, ActivationAddresses},
		{"mapped CIDR", func(a *Activation) { a.AddressRange = "::ffff:10.0.0.0/104" }, ActivationAddresses},
		{"bad CIDR", func(a *Activation) { a.AddressRange = "10.0.0.0/33" }, ActivationAddresses},
	} {
		a := Activation{InstanceName: "web", InstanceCount: 10, TTL: 4 * time.Hour}
		tc.change(&a)
		err := a.Validate(DefaultActivationLimits())
		if tc.want == "" && err != nil || tc.want != "" && CodeOf(err) != tc.want {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestActivationAllows(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	inside, outside := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.2.0.1")
	for _, tc := range []struct {
		name  string
		a     Activation
		from  netip.Addr
		after time.Duration
		ok    bool
	}{
		{"in range and time", Activation{AddressRange: "10.1.0.0/16"}, inside, time.Hour, true},
		{"mapped IPv4", Activation{AddressRange: "10.1.0.0/16"}, netip.MustParseAddr("::ffff:10.1.2.3"), 0, true},
		{"other address", Activation{AddressRange: "10.1.0.0/16"}, outside, 0, false},
		{"single address", Activation{AddressRange: "10.1.2.3"}, inside, 0, true},
		{"range written as mapped", Activation{AddressRange: "::ffff:10.1.2.3"}, inside, 0, true},
		{"any address", Activation{}, outside, 0, true},
		{"expired to the second", Activation{}, inside, 4 * time.Hour, false},
		{"just in time", Activation{}, inside, 4*time.Hour - 1, true},
		{"disabled", Activation{Disabled: true}, inside, 0, false},
	} {
		tc.a.Created, tc.a.TTL = created, 4*time.Hour
		err := tc.a.Allows(tc.from, created.Add(tc.after))
		if tc.ok != (err == nil) || err != nil && CodeOf(err) != EnrolRefused {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
