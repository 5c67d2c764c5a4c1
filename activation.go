// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// Activation is a code with which machines enrol. The code itself is known only to whoever created it.
type Activation struct {
	ID            ActivationID
	Account       AccountID
	Region        string
	InstanceName  string // prefix of the names of its instances; empty: their host names
	InstanceCount int    // how many machines may enrol
	Registered    int    // how many have
	Deregistered  int    // how many of those have left
	TTL           time.Duration
	Description   string
	AddressRange  string // an IP address or CIDR; empty: any
	Disabled      bool
	ResourceGroup string
	Tags          []Tag
	Created       time.Time
}

// ActivationLimits bounds activations. The published numbers changed often, so all are settings.
type ActivationLimits struct {
	InstanceCount int           // machines of one activation
	TTL           time.Duration // life of one activation
	PerRegion     int           // activations of one account in one region
}

// DefaultActivationLimits returns the widest published limits (CreateActivation, 2021 to 2025).
func DefaultActivationLimits() ActivationLimits {
	return ActivationLimits{InstanceCount: 1000, TTL: 24 * time.Hour, PerRegion: 5000}
}

// Defaults of CreateActivation.
const (
	DefaultInstanceCount = 10
	DefaultActivationTTL = 4 * time.Hour
)

// Validate applies the rules of CreateActivation.
func (a *Activation) Validate(limits ActivationLimits) error {
	if a.InstanceName != "" {
		if n := utf8.RuneCountInString(a.InstanceName); n < 2 || n > 50 {
			return &Error{Code: ActivationPrefixLen, Field: "InstanceName", Message: "the name prefix has 2 to 50 characters"}
		}
		if !namePattern.MatchString(a.InstanceName) || strings.HasPrefix(a.InstanceName, "http://") || strings.HasPrefix(a.InstanceName, "https://") {
			return &Error{Code: ActivationPrefix, Field: "InstanceName", Message: fmt.Sprintf("name prefix %q: a letter first, then letters, digits and . _ - :", a.InstanceName)}
		}
	}
	if utf8.RuneCountInString(a.Description) > 100 {
		return &Error{Code: ActivationDescription, Field: "Description", Message: "the description has at most 100 characters"}
	}
	if a.InstanceCount < 1 || a.InstanceCount > limits.InstanceCount {
		return &Error{Code: ActivationCount, Field: "InstanceCount", Message: fmt.Sprint(limits.InstanceCount)}
	}
	if a.TTL < time.Hour || a.TTL > limits.TTL {
		return &Error{Code: ActivationTTL, Field: "TimeToLiveInHours", Message: fmt.Sprint(int(limits.TTL.Hours()))}
	}
	if a.AddressRange != "" {
		if _, err := parseRange(a.AddressRange); err != nil {
			return &Error{Code: ActivationAddresses, Field: "IpAddressRange", Message: fmt.Sprintf("%q is not an IP address or CIDR", a.AddressRange), Err: err}
		}
	}
	return CheckTags(a.Tags)
}

// Allows returns nil when a machine at addr may enrol with a at the time now, and otherwise an EnrolRefused error that
// says why. It does not look at how many have enrolled.
func (a *Activation) Allows(addr netip.Addr, now time.Time) error {
	if a.Disabled {
		return Errorf(EnrolRefused, "activation %s is disabled", a.ID)
	}
	if end := a.Created.Add(a.TTL); !now.Before(end) {
		return Errorf(EnrolRefused, "activation %s expired at %s; create another", a.ID, end.UTC().Format(time.RFC3339))
	}
	if a.AddressRange != "" {
		r, err := parseRange(a.AddressRange)
		if err != nil || !r.Contains(addr.Unmap()) {
			return Errorf(EnrolRefused, "activation %s does not allow address %s", a.ID, addr)
		}
	}
	return nil
}

// parseRange reads an address or a CIDR. IPv4 in IPv6 clothes is IPv4: machines are compared that way too.
func parseRange(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err == nil && p.Addr().Is4In6() {
			return netip.Prefix{}, errors.New("an IPv4 range is written as such")
		}
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	if a.Zone() != "" {
		return netip.Prefix{}, errors.New("an address with a zone is known to one machine only")
	}
	a = a.Unmap()
	return a.Prefix(a.BitLen())
}
