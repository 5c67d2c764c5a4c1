// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"iter"
	"net/url"

	"github.com/openwaybill/waybill"
)

// FileDiff is how what a rehearsal would place differs from what is on an instance.
type FileDiff struct {
	Instance waybill.InstanceID `json:"InstanceId"`
	Name     string             `json:"InstanceName"`
	Diff     string             `json:"Diff"` // unified
	Note     string             `json:"Note"` // why Diff is empty, or not whole
}

// DescribeSendFileDiffs returns a page of what the instances of a rehearsal would change, at most 50; of one of them if it is
// given.
func (c *Client) DescribeSendFileDiffs(ctx context.Context, id waybill.DeliveryID, only waybill.InstanceID, page Paging) (Page[FileDiff], error) {
	p := params{}
	p.set("InvokeId", string(id))
	p.set("InstanceId", string(only))
	p.setPaging(page)
	var out struct {
		TotalCount int64
		NextToken  string
		FileDiffs  struct{ FileDiff []FileDiff }
	}
	err := c.Call(ctx, "DescribeSendFileDiffs", url.Values(p), &out)
	return Page[FileDiff]{out.FileDiffs.FileDiff, out.TotalCount, out.NextToken}, err
}

// Diffs goes through all pages of DescribeSendFileDiffs. An error ends it.
func (c *Client) Diffs(ctx context.Context, id waybill.DeliveryID) iter.Seq2[FileDiff, error] {
	return pagesOf(50, func(page Paging) (Page[FileDiff], error) { return c.DescribeSendFileDiffs(ctx, id, "", page) })
}
