// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// targeted is who a file is meant for. All but InstanceId is not in the ECS API; the ways of RunCommand have their names from
// there, and those of DescribeManagedInstances from there.
type targeted struct {
	InstanceId            []waybill.InstanceID `limits:"1 to 50" fault:"InstanceIds.ExceedLimit" doc:"instances, one by one; required unless they are given otherwise"`
	InstanceIds           string               `limits:"a JSON array of at most 50,000" doc:"instances, as one list; not in the ECS API"`
	ResourceTag           []waybill.Tag        `limits:"at most 20" fault:"NumberExceed.Tags" doc:"instances that have all these tags; not in the ECS API"`
	InstanceName          string               `doc:"instances of this name or, with * or ? in it, of names like this; not in the ECS API"`
	ActivationId          waybill.ActivationID `doc:"instances that enrolled with it; not in the ECS API"`
	TargetResourceGroupId string               `doc:"instances of this resource group; not in the ECS API"`
	AllInstances          *bool                `limits:"default false" doc:"all instances of the region, unless the others narrow it; not in the ECS API"`
}

// selects reports whether other instances are meant than those that InstanceId names. Before they are known policies cannot
// be asked about them, so that is left to control.Service.
func (t *targeted) selects() bool {
	return len(t.InstanceId) == 0 && (t.InstanceIds != "" || !t.selector().Empty())
}

func (t *targeted) selector() *waybill.Selector {
	return &waybill.Selector{
		All: t.AllInstances != nil && *t.AllInstances, Name: t.InstanceName, Activation: t.ActivationId,
		ResourceGroup: t.TargetResourceGroupId, Tags: t.ResourceTag,
	}
}

// maxListText bounds the text of InstanceIds before it is taken apart, in bytes: far more than the instances that there
// may be need, in whatever way they are written.
const maxListText = 8 << 20

func (t *targeted) targets(region, group string) (control.Targets, error) {
	to := control.Targets{Region: region, Instances: t.InstanceId, Selector: *t.selector(), ResourceGroup: group}
	if len(t.InstanceIds) > maxListText {
		return to, refuse("InvalidParameter", "InstanceIds")
	}
	list, err := jsonTexts("InstanceIds", t.InstanceIds, math.MaxInt)
	for _, id := range list {
		to.List = append(to.List, waybill.InstanceID(id))
	}
	return to, err
}

type previewSendFileInput struct {
	regional
	targeted
	ContentSize *int64 `limits:"default 0" doc:"bytes of the content that is to be sent: not every agent takes large ones"`
	grouped
	MaxResults *int64 `limits:"1 to 500, default 50" fault:"InvalidParameter.MaxResults" doc:"rows of a page"`
	NextToken  string `doc:"token that the previous page returned; all other parameters have to be as they were"`
}

type previewSendFileOutput struct {
	envelope
	TotalCount    int64  `doc:"instances that would be hit"`
	NextToken     string `doc:"where the next page starts; empty on the last"`
	PreviewGroups struct {
		PreviewGroup list[previewGroup]
	} `doc:"all of them by what would happen at once; the largest group first"`
	PreviewInstances struct {
		PreviewInstance list[previewInstance]
	} `doc:"by ID"`
}

type previewGroup struct {
	Outlook   control.Outlook `doc:"Reachable: told at once; Held: gets the file if it comes back before the deadline; Ended: cannot get it"`
	ErrorCode string          `doc:"of those that end: as DescribeSendFileResults would tell"`
	ErrorInfo string          `doc:"likewise"`
	Cause     waybill.Cause   `doc:"our own, finer word for why"`
	Count     int64
}

type previewInstance struct {
	InstanceId   waybill.InstanceID
	InstanceName string `doc:"empty if there is no such instance"`
	Outlook      control.Outlook
	ErrorCode    string
	ErrorInfo    string
	Cause        waybill.Cause
	Detail       string `doc:"why it ends, in our own words"`
}

func (c *call) previewSendFile(ctx context.Context, in *previewSendFileInput) (*previewSendFileOutput, error) {
	to, err := in.targets(in.RegionId, in.ResourceGroupId)
	if err != nil {
		return nil, err
	}
	size := int64(0)
	if in.ContentSize != nil {
		size = *in.ContentSize
	}
	// A list of instances may be too long for a token, so that carries a digest, by which it is told whether the rest of the
	// request is as it was.
	asked, err := json.Marshal([]any{to, size})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(asked)
	page, err := c.openTargetPage(in.RegionId, hex.EncodeToString(digest[:]), in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	found, err := c.Preview(ctx, c.act, to, size, page.Page)
	if err != nil {
		return nil, err
	}
	out := &previewSendFileOutput{TotalCount: found.Total}
	if found.Next != "" {
		out.NextToken = page.seal(found.Next)
	}
	out.PreviewGroups.PreviewGroup = collect(found.Groups, func(g control.ForecastGroup) previewGroup {
		o := outcomeOf(g.Cause)
		return previewGroup{g.Outlook, o.code, o.info, g.Cause, g.Count}
	})
	out.PreviewInstances.PreviewInstance = collect(found.Items, func(t control.ForecastTarget) previewInstance {
		o := outcomeOf(t.Cause)
		return previewInstance{t.Instance, t.Name, t.Outlook, o.code, o.info, t.Cause, t.Detail}
	})
	return out, nil
}

// openTargetPage reads the paging parameters of a listing of instances that is asked for again with each page.
func (c *call) openTargetPage(region, asked string, maxResults *int64, token string) (page, error) {
	selected, err := json.Marshal(asked)
	if err != nil {
		return page{}, err
	}
	pg := page{Page: control.Page{Size: defaultTargetsPage}}
	if token != "" {
		t, err := openToken(c.TokenKey(), token)
		if err != nil || t.Operation != c.op.Name || t.Account != c.who.Account || t.Region != region ||
			!bytes.Equal(t.Query, selected) {
			return page{}, refuse("InvalidParameter.NextToken")
		}
		pg.Size, pg.Cursor = t.Size, t.Cursor
	}
	if n := maxResults; n != nil {
		if *n < 1 || *n > maxTargetsPage {
			return page{}, refuse("InvalidParameter.MaxResults")
		}
		pg.Size = int(*n)
	}
	pg.seal = func(cursor string) string {
		return sealToken(c.TokenKey(), pageToken{c.op.Name, c.who.Account, region, selected, pg.Size, cursor})
	}
	return pg, nil
}

// defaultTargetsPage is the size of a page of instances that nobody asked for.
const defaultTargetsPage = 50
