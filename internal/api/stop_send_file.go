// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"github.com/openwaybill/waybill"
)

// Operations that steer a delivery after it was accepted. No published API has them; they are modelled on StopInvocation, which
// is the same for commands.

// steeringService is what they need.
type steeringService interface {
	Stop(
		ctx context.Context, act *waybill.Act, region string, id waybill.DeliveryID, instances []waybill.InstanceID,
	) (waybill.StopCounts, error)
}

type stopSendFileInput struct {
	regional
	InvokeId   waybill.DeliveryID   `required:"true" doc:"the delivery"`
	InstanceId []waybill.InstanceID `limits:"at most 50" fault:"InstanceIds.ExceedLimit" doc:"only on these instances; default: on all of it"`
}

type stopSendFileOutput struct {
	envelope
	CancelledCount int32 `doc:"instances on which it is cancelled: nothing was placed, and nothing will be"`
	AskedCount     int32 `doc:"instances that may have it, and whose agents are asked: they end as cancelled, or as they really ended"`
	TooLateCount   int32 `doc:"instances on which it has ended otherwise, or whose agents may have it and cannot be asked"`
}

func (c *call) stopSendFile(ctx context.Context, in *stopSendFileInput) (*stopSendFileOutput, error) {
	n, err := c.Stop(ctx, c.act, in.RegionId, in.InvokeId, in.InstanceId)
	if err != nil {
		return nil, err
	}
	return &stopSendFileOutput{
		CancelledCount: int32(n.Cancelled), AskedCount: int32(n.Asked), TooLateCount: int32(n.TooLate),
	}, nil
}
