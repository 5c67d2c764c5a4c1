// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"strings"

	"github.com/openwaybill/waybill/internal/wire"
)

// echo returns what the server wants back with the answers to d.
func echo(d *wire.Deliver) string {
	if len(d.Trace) > wire.MaxTrace {
		return ""
	}
	return d.Trace
}

const (
	maxDeliveryID = 64       // bytes; it becomes part of a file name and of a subject
	maxWords      = 16 << 10 // bytes of name, directory, owner and group together; they go into the journal
	maxModeBits   = 0o7777
)

// checkDeliver refuses a message that no server of ours sends. What a user may have asked for wrongly is not its
// business: that is found out by placing the file, and reported.
func checkDeliver(d *wire.Deliver) error {
	switch {
	case !isDeliveryID(d.Delivery):
		return fmt.Errorf("delivery ID %.80q", d.Delivery)
	case len(d.SHA256) > 0 && len(d.Rehearse) > 0:
		return errors.New("both to be placed and to be rehearsed")
	case len(d.SHA256)+len(d.Rehearse) != 32:
		return fmt.Errorf("digest of %d bytes", len(d.SHA256)+len(d.Rehearse))
	case d.Mode > maxModeBits:
		return fmt.Errorf("mode %#o", d.Mode)
	case d.Size < 0 || d.Size > 0 && len(d.Content) > 0:
		return fmt.Errorf("a size of %d bytes beside a content of %d", d.Size, len(d.Content))
	case d.Deadline <= 0:
		return errors.New("no deadline")
	case len(d.Name)+len(d.TargetDir)+len(d.Owner)+len(d.Group) > maxWords:
		return errors.New("name, directory, owner and group are too long")
	}
	return nil
}

// checkCancel refuses a Cancel of what no delivery can be.
func checkCancel(c *wire.Cancel) error {
	switch {
	case !isDeliveryID(c.Delivery):
		return fmt.Errorf("delivery ID %.80q", c.Delivery)
	case c.Deadline <= 0:
		return errors.New("no deadline")
	}
	return nil
}

func isDeliveryID(id string) bool {
	other := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
	}
	return id != "" && len(id) <= maxDeliveryID && !strings.ContainsFunc(id, other)
}
