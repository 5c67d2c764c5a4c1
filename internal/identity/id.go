// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/openwaybill/waybill"
)

// sortable writes bytes as text that sorts like them.
var sortable = base32.NewEncoding(digits + lower[:22]).WithPadding(base32.NoPadding)

// DeliveryIDs makes the IDs of deliveries. The zero value is ready; it may be used by several goroutines.
type DeliveryIDs struct {
	mu   sync.Mutex
	last uint64
}

// Next returns an ID for a delivery accepted at now in the region with the given mark: f-, the mark and a UUIDv7 in
// lower case. IDs of one region sort by time, and each is greater than the one before, even if the clock was set back.
func (d *DeliveryIDs) Next(mark string, now time.Time) waybill.DeliveryID {
	tick := d.tick(now)
	var id uuid.UUID
	rand.Read(id[:]) // never fails
	// RFC 9562: 48 bits of milliseconds, version, 12 bits of fraction (section 6.2, method 3), variant.
	binary.BigEndian.PutUint64(id[:8], tick>>12<<16|0x7000|tick&0xfff)
	id[8] = id[8]&0x3f | 0x80
	return waybill.DeliveryID("f-" + mark + sortable.EncodeToString(id[:]))
}

// tick returns now in 4096ths of a millisecond since 1970, or one more than the last one returned.
func (d *DeliveryIDs) tick(now time.Time) uint64 {
	fraction := now.Nanosecond() % int(time.Millisecond)
	tick := uint64(now.UnixMilli())<<12 | uint64(fraction)<<12/uint64(time.Millisecond)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = max(tick, d.last+1)
	return d.last
}

// NewInstanceID returns an ID for a machine in the region with the given mark.
func NewInstanceID(mark string) waybill.InstanceID {
	return waybill.InstanceID("mi-" + mark + random(digits+lower, 20))
}

// NewActivationID returns an ID for an activation: a UUID in upper case.
func NewActivationID() waybill.ActivationID { return waybill.ActivationID(NewRequestID()) }

// NewRequestID returns an ID for an API request: a UUID in upper case.
func NewRequestID() string { return strings.ToUpper(uuid.NewString()) }

// NewAccountID returns an ID for an account: 16 digits, the first of them not 0.
func NewAccountID() waybill.AccountID {
	return waybill.AccountID(random(digits[1:], 1) + random(digits, 15))
}

// NewUserID returns an ID for a user of an account: 18 digits, the first of them not 0.
func NewUserID() string { return random(digits[1:], 1) + random(digits, 17) }

// NewUserGroupID returns an ID for a group of users.
func NewUserGroupID() string { return "g-" + random(digits+lower, 16) }

// NewResourceGroupID returns an ID for a resource group.
func NewResourceGroupID() string { return "rg-" + random(digits+lower, 15) }

// NewWebhookID returns an ID for a webhook of the region with the given mark.
func NewWebhookID(mark string) string { return "wh-" + mark + random(digits+lower, 20) }

// NewEventID returns an ID for an event that webhooks are told of.
func NewEventID() string { return "e-" + random(digits+lower, 26) }

// RegionMark returns the two lower-case characters that stand for a region in IDs. They help people tell IDs apart and
// need not be unique: those of cities are as published, others are the initials of the last two words of the region ID.
func RegionMark(region string) string {
	switch region {
	case "cn-hangzhou":
		return "hz"
	case "cn-shanghai":
		return "sh"
	case "cn-beijing":
		return "bj"
	case "cn-shenzhen":
		return "sz"
	case "cn-qingdao":
		return "qd"
	case "cn-zhangjiakou":
		return "zj"
	case "cn-huhehaote":
		return "hh"
	case "cn-wulanchabu":
		return "wl"
	case "cn-heyuan":
		return "hy"
	case "cn-guangzhou":
		return "gz"
	case "cn-chengdu":
		return "cd"
	case "cn-nanjing":
		return "nj"
	case "cn-fuzhou":
		return "fz"
	case "cn-hongkong":
		return "hk"
	}
	words := strings.FieldsFunc(strings.ToLower(region), func(r rune) bool {
		return !strings.ContainsRune(digits+lower, r)
	})
	switch n := len(words); n {
	case 0:
		return "00"
	case 1:
		return (words[0] + "0")[:2]
	default:
		return words[n-2][:1] + words[n-1][:1]
	}
}
