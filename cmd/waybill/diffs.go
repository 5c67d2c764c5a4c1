// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

func collectDiffs(ctx context.Context, c *client.Client, id waybill.DeliveryID) (list []client.FileDiff, err error) {
	for d, err := range c.Diffs(ctx, id) {
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}

// namedMachines is how many machines with the same diff are named.
const namedMachines = 5

// diffText shows each diff once, with the machines that have it.
func diffText(list []client.FileDiff) io.WriterTo {
	type same struct{ diff, note string }
	var order []same
	machines := map[same][]string{}
	for _, d := range list {
		key := same{d.Diff, d.Note}
		if machines[key] == nil {
			order = append(order, key)
		}
		machines[key] = append(machines[key], cmp.Or(d.Name, string(d.Instance)))
	}
	var b strings.Builder
	for _, key := range order {
		names := machines[key]
		fmt.Fprintf(&b, "\non %s", strings.Join(names[:min(len(names), namedMachines)], ", "))
		if more := len(names) - namedMachines; more > 0 {
			fmt.Fprintf(&b, " and %d more", more)
		}
		b.WriteString(":\n")
		switch {
		case key.diff == "" && key.note == "":
			b.WriteString("the same bytes; owner, group or mode would change\n")
		default:
			b.WriteString(key.diff)
		}
		if key.note != "" {
			fmt.Fprintf(&b, "%s\n", key.note)
		}
	}
	return strings.NewReader(b.String())
}
