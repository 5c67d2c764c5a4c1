// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

type retryOptions struct {
	clientFlags
	instances []string
	timeout   time.Duration
}

func newRetryCmd(e env) *cobra.Command {
	o := &retryOptions{}
	cmd := &cobra.Command{
		Use:   "retry INVOKE_ID",
		Short: "try a delivery again where it failed",
		Long: `Retry begins a new attempt on each machine on which a delivery failed, for whatever reason, under the same ID. Machines on
which it is open or has succeeded are left alone. It prints on how many machines it is tried again, on how many there was
nothing to retry, and how many have failed ten times, which is the most. What becomes of it is told by: waybill results INVOKE_ID --watch`,
		Example: `  waybill retry f-hz0jdfwd9f
  waybill retry f-hz0jdfwd9f --instance mi-hz018jrc1o0 --timeout 10m`,
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	o.addTo(cmd)
	cmd.Flags().StringSliceVar(&o.instances, "instance", nil, "only on the instance with this `ID` (repeatable)")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 0, "how long the machines have, at least 10s (default: as long as they had)")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error { return o.run(ctx, e, waybill.DeliveryID(args[0])) })
	return usageFlags(cmd)
}

func (o *retryOptions) run(ctx context.Context, e env, id waybill.DeliveryID) error {
	if o.timeout < 0 {
		return usagef("--timeout %s is not a time to wait", o.timeout)
	}
	c, err := o.connect(ctx, e)
	if err != nil {
		return err
	}
	n, err := c.RetrySendFile(ctx, client.RetryRequest{
		Delivery: id, Instances: ids[waybill.InstanceID](o.instances), Timeout: o.timeout, ClientToken: rand.Text(),
	})
	if err != nil {
		return err
	}
	return o.write(e, n, func() io.WriterTo {
		return text(fmt.Sprintf("retried on %d, nothing to retry on %d, failed too often on %d", n.Retried, n.Skipped, n.Exhausted))
	})
}
