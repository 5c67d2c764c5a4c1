// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"net/netip"
	"time"
)

// Principal is who makes a request: an account, through one of its keys.
type Principal struct {
	Account   AccountID
	AccessKey string     // the key's ID
	SourceIP  netip.Addr // where the request came from
	RequestID string
}

// AccessKey is a key pair of an account. The secret is never part of it.
type AccessKey struct {
	ID       string
	Account  AccountID
	Active   bool
	Created  time.Time
	LastUsed time.Time // zero if never; up to a minute late
}

// Account is a tenant.
type Account struct {
	ID       AccountID
	Name     string
	Disabled bool
	Created  time.Time
}
