// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill"
)

type stopOptions struct {
	clientFlags
	instances []string
}

func newStopCmd(e env) *cobra.Command {
	o := &stopOptions{}
	cmd := &cobra.Command{
		Use:   "stop INVOKE_ID",
		Short: "stop a delivery where the file is not in place yet",
		Long: `Stop ends a delivery on the machines that it was not sent to, and asks those that may have it to give it up. It prints
on how many machines it is cancelled, how many are asked, and for how many it is too late: it has ended there, or their
agents cannot be asked. A file that is in place stays. Stopping twice changes nothing; what became of those that are asked
is told by: waybill results INVOKE_ID --watch`,
		Example: `  waybill stop f-hz0jdfwd9f
  waybill stop f-hz0jdfwd9f --instance mi-hz018jrc1o0`,
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	o.addTo(cmd)
	cmd.Flags().StringSliceVar(&o.instances, "instance", nil, "only on the instance with this `ID` (repeatable)")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error { return o.run(ctx, e, waybill.DeliveryID(args[0])) })
	return usageFlags(cmd)
}

func (o *stopOptions) run(ctx context.Context, e env, id waybill.DeliveryID) error {
	c, err := o.connect(ctx, e)
	if err != nil {
		return err
	}
	n, err := c.StopSendFile(ctx, id, ids[waybill.InstanceID](o.instances))
	if err != nil {
		return err
	}
	return o.write(e, n, func() io.WriterTo {
		return text(fmt.Sprintf("cancelled on %d, asked %d, too late for %d", n.Cancelled, n.Asked, n.TooLate))
	})
}
