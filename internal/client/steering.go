// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/url"
	"time"

	"github.com/openwaybill/waybill"
)

// StopCounts says what a request to stop a delivery came to, in instances.
type StopCounts struct {
	Cancelled int `json:"CancelledCount"` // nothing was placed, and nothing will be
	Asked     int `json:"AskedCount"`     // their agents answer what it came to
	TooLate   int `json:"TooLateCount"`   // ended otherwise, or not to be asked
}

// StopSendFile asks a delivery to stop, on the given instances or, if there are none, on all that it goes to. It may be called
// again.
func (c *Client) StopSendFile(ctx context.Context, id waybill.DeliveryID, instances []waybill.InstanceID) (n StopCounts, err error) {
	p := params{}
	p.set("InvokeId", string(id))
	p.setInstances(instances)
	err = c.Call(ctx, "StopSendFile", url.Values(p), &n)
	return n, err
}

// RetryRequest asks for a delivery to be tried again where it failed.
type RetryRequest struct {
	Delivery    waybill.DeliveryID
	Instances   []waybill.InstanceID // empty: all that it goes to
	Timeout     time.Duration        // in whole seconds; zero: that of the delivery
	ClientToken string               // a repetition with the same one changes nothing, and is answered alike
}

// RetryCounts says what a request to retry a delivery came to, in instances.
type RetryCounts struct {
	Retried   int `json:"RetriedCount"`   // a new attempt has begun
	Skipped   int `json:"SkippedCount"`   // open, or succeeded
	Exhausted int `json:"ExhaustedCount"` // tried as often as it may be
}

// RetrySendFile tries a delivery again where it failed.
func (c *Client) RetrySendFile(ctx context.Context, r RetryRequest) (n RetryCounts, err error) {
	p := params{}
	p.set("InvokeId", string(r.Delivery))
	p.setInstances(r.Instances)
	p.setInt("Timeout", int64(r.Timeout/time.Second))
	p.set("ClientToken", r.ClientToken)
	err = c.Call(ctx, "RetrySendFile", url.Values(p), &n)
	return n, err
}

// Attempt is one of the attempts at a delivery on one instance.
type Attempt struct {
	Number    int            `json:"Attempt"` // from 1
	Status    waybill.Status `json:"InvocationStatus"`
	Created   string         `json:"CreationTime"` // when it began
	Started   string         `json:"StartTime"`
	Finished  string         `json:"FinishTime"`
	Updated   string         `json:"UpdateTime"`
	ErrorCode string         `json:"ErrorCode"`
	ErrorInfo string         `json:"ErrorInfo"`
	Cause     waybill.Cause  `json:"Cause"`
	Detail    string         `json:"Detail"`
	Change    waybill.Change `json:"Change"`
}

// DescribeSendFileAttempts lists the attempts at a delivery on one instance, the first one first.
func (c *Client) DescribeSendFileAttempts(ctx context.Context, id waybill.DeliveryID, instance waybill.InstanceID) ([]Attempt, error) {
	p := params{}
	p.set("InvokeId", string(id))
	p.set("InstanceId", string(instance))
	var out struct{ Attempts struct{ Attempt []Attempt } }
	err := c.Call(ctx, "DescribeSendFileAttempts", url.Values(p), &out)
	return out.Attempts.Attempt, err
}
