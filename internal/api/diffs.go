// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// diffService is what asking for the diffs of rehearsals needs.
type diffService interface {
	Diffs(
		ctx context.Context, who waybill.Principal, region string, id waybill.DeliveryID, only waybill.InstanceID, p control.Page,
	) (control.Listing[waybill.NamedDiff], error)
}

// A page of diffs: each may have 32 KiB.
const (
	maxDiffPage     = 50
	defaultDiffPage = 20
)

type describeSendFileDiffsInput struct {
	regional
	diffQuery
	MaxResults *int64 `limits:"1 to 50, default 20" fault:"InvalidParameter.MaxResults" doc:"rows of a page"`
	NextToken  string `doc:"token that the previous page returned; it carries the filters and the page size"`
}

type diffQuery struct {
	InvokeId   waybill.DeliveryID `json:",omitempty" doc:"the delivery; required, unless NextToken carries it. An unknown one is no error"`
	InstanceId waybill.InstanceID `json:",omitempty" doc:"only what this instance would change"`
}

type describeSendFileDiffsOutput struct {
	envelope
	TotalCount int64  `doc:"rows of all pages"`
	NextToken  string `doc:"where the next page starts; empty on the last"`
	FileDiffs  struct {
		FileDiff list[fileDiff]
	} `doc:"of the instances that would change something, in the order they were given"`
}

type fileDiff struct {
	InstanceId   waybill.InstanceID
	InstanceName string
	Diff         string `doc:"unified; empty where only owner, group or mode would change"`
	Note         string `doc:"why Diff is empty, or not whole; else empty"`
}

func (c *call) describeSendFileDiffs(ctx context.Context, in *describeSendFileDiffsInput) (*describeSendFileDiffsOutput, error) {
	size := int64(defaultDiffPage)
	if in.MaxResults != nil {
		size = *in.MaxResults
	}
	c.maxPage = maxDiffPage
	page, err := openPage(c, in.RegionId, &in.diffQuery, paging{MaxResults: &size, NextToken: in.NextToken}, maxDiffPage)
	if err != nil {
		return nil, err
	}
	if in.InvokeId == "" {
		return nil, missing("InvokeId")
	}
	found, err := c.Diffs(ctx, c.who, in.RegionId, in.InvokeId, in.InstanceId, page.Page)
	if err != nil {
		return nil, err
	}
	out := &describeSendFileDiffsOutput{TotalCount: found.Total}
	if found.Next != "" {
		out.NextToken = page.seal(found.Next)
	}
	out.FileDiffs.FileDiff = collect(found.Items, func(d waybill.NamedDiff) fileDiff {
		return fileDiff{d.Instance, d.Name, d.Text, d.Note}
	})
	return out, nil
}
