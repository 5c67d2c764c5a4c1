// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"strconv"
	"strings"
)

// AttemptID is how agents know an attempt at a delivery: the first by the ID of the delivery, the second by that and "-2". An
// agent carries out what it knows by one ID once for good, so to it every attempt is a delivery of its own.
func AttemptID(delivery string, attempt int) string {
	if attempt <= 1 {
		return delivery
	}
	return delivery + "-" + strconv.Itoa(attempt)
}

// ParseAttemptID is the inverse of AttemptID. IDs of deliveries have one dash, after their kind; what is no ID of a later
// attempt is taken for that of a delivery.
func ParseAttemptID(id string) (delivery string, attempt int) {
	at := strings.LastIndexByte(id, '-')
	if at <= strings.IndexByte(id, '-') {
		return id, 1
	}
	n, err := strconv.Atoi(id[at+1:])
	if err != nil || n < 2 || AttemptID(id[:at], n) != id {
		return id, 1
	}
	return id[:at], n
}
