// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/url"

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
