// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// No published API retries; RetrySendFile is shaped as StopSendFile.

// retryingService is what the operations on attempts need.
type retryingService interface {
	Retry(ctx context.Context, act *waybill.Act, req control.RetryRequest) (waybill.RetryCounts, error)
	Attempts(
		ctx context.Context, who waybill.Principal, region string, id waybill.DeliveryID, instance waybill.InstanceID,
	) ([]waybill.Target, error)
}

type retrySendFileInput struct {
	regional
	InvokeId   waybill.DeliveryID   `required:"true" doc:"the delivery"`
	InstanceId []waybill.InstanceID `limits:"at most 50" fault:"InstanceIds.ExceedLimit" doc:"only on these instances; default: on all of it"`
	Timeout    *int64               `limits:"10 to 86400, default that of the delivery; less than 10 is 10" doc:"seconds to the deadline of the new attempts"`
	idempotent
}

type retrySendFileOutput struct {
	envelope
	RetriedCount   int32 `doc:"instances on which it had failed, and a new attempt has begun"`
	SkippedCount   int32 `doc:"instances on which it is open or has succeeded: nothing is changed there"`
	ExhaustedCount int32 `doc:"instances on which it has failed for the tenth time: send it anew"`
}

func (c *call) retrySendFile(ctx context.Context, in *retrySendFileInput) (*retrySendFileOutput, error) {
	n, err := c.Retry(ctx, c.act, control.RetryRequest{
		Region: in.RegionId, Delivery: in.InvokeId, Instances: in.InstanceId, Timeout: duration(in.Timeout, time.Second),
	})
	if err != nil {
		return nil, err
	}
	return &retrySendFileOutput{
		RetriedCount: int32(n.Retried), SkippedCount: int32(n.Skipped), ExhaustedCount: int32(n.Exhausted),
	}, nil
}

type describeSendFileAttemptsInput struct {
	regional
	InvokeId   waybill.DeliveryID `required:"true" doc:"the delivery"`
	InstanceId waybill.InstanceID `required:"true" doc:"one of its instances"`
}

type describeSendFileAttemptsOutput struct {
	envelope
	Attempts struct {
		Attempt list[sendFileAttempt]
	} `doc:"the first one first; the last one is what other operations tell"`
}

type sendFileAttempt struct {
	Attempt          int32 `doc:"1 for the first"`
	InvocationStatus waybill.Status
	CreationTime     string `doc:"when the attempt began"`
	StartTime        string `doc:"when the machine took it up; may be empty"`
	FinishTime       string `doc:"may be empty"`
	UpdateTime       string
	ErrorCode        string `doc:"empty unless it failed"`
	ErrorInfo        string `doc:"likewise"`
	Cause            waybill.Cause
	Detail           string         `doc:"what happened in our own words"`
	Change           waybill.Change `doc:"of a success: Created, Replaced or Unchanged, or empty where that cannot be told"`
}

func (c *call) describeSendFileAttempts(ctx context.Context, in *describeSendFileAttemptsInput) (*describeSendFileAttemptsOutput, error) {
	found, err := c.Attempts(ctx, c.who, in.RegionId, in.InvokeId, in.InstanceId)
	if err != nil {
		return nil, err
	}
	out := &describeSendFileAttemptsOutput{}
	out.Attempts.Attempt = collect(found, func(t waybill.Target) sendFileAttempt {
		i := invokeInstanceOf(t)
		return sendFileAttempt{
			i.Attempt, i.InvocationStatus, stamp(t.Beginning()), i.StartTime, i.FinishTime, i.UpdateTime,
			i.ErrorCode, i.ErrorInfo, t.Cause, i.Detail, i.Change,
		}
	})
	return out, nil
}
