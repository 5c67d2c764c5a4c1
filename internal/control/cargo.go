// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// cargo is what of a delivery decides which agents can carry it out.
type cargo struct {
	size   int64 // bytes of the content
	dryRun bool
}

func cargoOf(d *waybill.Delivery) cargo { return cargo{d.Size, d.DryRun} }

// refusal says why the agent of an instance cannot carry it out; empty if it can.
func (c cargo) refusal(i *waybill.Instance) string {
	official, has := i.Agent == waybill.OfficialAgent, i.Facts.Capability
	switch {
	case c.dryRun && official:
		return "the official agent cannot rehearse; install ours"
	case c.dryRun && has < wire.RehearseCapability:
		return tooOldFor(&i.Facts, "a rehearsal", wire.RehearseCapability)
	case c.dryRun || c.size <= wire.MaxContent: // a content that is rehearsed is not fetched
	case official:
		return fmt.Sprintf("files of more than %d bytes do not go to the official agent; install ours", wire.MaxContent)
	case has < wire.FetchCapability:
		return tooOldFor(&i.Facts, fmt.Sprintf("files of more than %d bytes", wire.MaxContent), wire.FetchCapability)
	}
	return ""
}

func tooOldFor(f *waybill.Facts, what string, need int) string {
	return fmt.Sprintf("the agent, version %s, has capability %d, for %s %d is needed; install a newer agent",
		f.AgentVersion, f.Capability, what, need)
}
