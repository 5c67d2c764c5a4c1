// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"time"

	"github.com/openwaybill/waybill"
)

// waitService is what is needed to wait for a delivery.
type waitService interface {
	Await(
		ctx context.Context, who waybill.Principal, region string, id waybill.DeliveryID, mark string, patience time.Duration,
	) (d waybill.Delivery, now string, err error)
}

// maxWait is less than any timeout on the way: those of clients, proxies, and the server's own for reading a request.
const maxWait = 20 // seconds

type waitSendFileInvocationInput struct {
	regional
	InvokeId    waybill.DeliveryID `required:"true" doc:"the delivery"`
	Mark        string             `doc:"that of the answer before; without one the answer comes at once"`
	WaitSeconds *int64             `limits:"1 to 20, default 20" doc:"how long to wait for a change"`
}

type waitSendFileInvocationOutput struct {
	envelope
	Mark             string          `doc:"of how the delivery stands; empty if there is none with that InvokeId. It may be the one that was sent: nothing has changed yet"`
	InvocationStatus waybill.Overall `doc:"overall; empty if there is no such delivery"`
	VmCount          int32           `doc:"instances of the delivery"`
	PendingCount     int32
	RunningCount     int32
	SuccessCount     int32
	FailedCount      int32 `doc:"instances that ended otherwise"`
}

func (c *call) waitSendFileInvocation(ctx context.Context, in *waitSendFileInvocationInput) (*waitSendFileInvocationOutput, error) {
	wait := int64(maxWait)
	if in.WaitSeconds != nil {
		wait = *in.WaitSeconds
	}
	if wait < 1 || wait > maxWait {
		return nil, refuse("InvalidParameter", "WaitSeconds")
	}
	d, mark, err := c.Await(ctx, c.who, in.RegionId, in.InvokeId, in.Mark, time.Duration(wait)*time.Second)
	if err != nil {
		return nil, err
	}
	out := &waitSendFileInvocationOutput{Mark: mark}
	if mark != "" {
		out.InvocationStatus, out.VmCount = d.Status(), int32(d.TargetCount)
		out.PendingCount, out.RunningCount = int32(d.Counts.Pending), int32(d.Counts.Running)
		out.SuccessCount, out.FailedCount = int32(d.Counts.Success), int32(d.Counts.Failed)
	}
	return out, nil
}
