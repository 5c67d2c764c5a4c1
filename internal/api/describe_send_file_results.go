// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"strconv"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

type describeSendFileResultsInput struct {
	regional
	deliveryQuery
	paging
}

// deliveryQuery selects deliveries. What is empty is left out of its JSON, which is how a page token carries it.
type deliveryQuery struct {
	InvokeId         waybill.DeliveryID `json:",omitempty" doc:"one delivery; an unknown one is no error"`
	InstanceId       waybill.InstanceID `json:",omitempty" doc:"deliveries to that instance, and of their targets only it"`
	Name             string             `json:",omitempty" doc:"exact file name"`
	InvocationStatus waybill.Overall    `json:",omitempty" enum:"Pending|Running|Success|Failed|PartialFailed"`
	grouped
	tagged
}

func (q *deliveryQuery) filter(region string) control.DeliveryFilter {
	return control.DeliveryFilter{
		Region:        region,
		ID:            q.InvokeId,
		Instance:      q.InstanceId,
		Name:          q.Name,
		Status:        q.InvocationStatus,
		ResourceGroup: q.ResourceGroupId,
		Tags:          q.Tag,
	}
}

type describeSendFileResultsOutput struct {
	envelope
	paged
	Invocations struct {
		Invocation list[invocation]
	} `doc:"newest first"`
}

type invocation struct {
	InvokeId         waybill.DeliveryID
	Name             string
	Description      string
	TargetDir        string
	ContentType      waybill.ContentType
	Content          string `doc:"exactly as it was sent"`
	FileOwner        string
	FileGroup        string
	FileMode         string
	Overwrite        string `doc:"true or false"`
	VmCount          int32  `doc:"instances of the delivery"`
	CreationTime     string
	InvocationStatus waybill.Overall `doc:"overall"`
	InvokeInstances  struct {
		InvokeInstance list[invokeInstance]
	}
	Tags struct {
		Tag list[tag]
	}
}

type invokeInstance struct {
	InstanceId       waybill.InstanceID
	InvocationStatus waybill.Status
	CreationTime     string
	StartTime        string `doc:"when the machine took it up; may be empty"`
	FinishTime       string `doc:"may be empty"`
	UpdateTime       string
	ErrorCode        string `doc:"empty unless it failed"`
	ErrorInfo        string `doc:"likewise"`
	Detail           string `doc:"what happened in our own words; not in the ECS API"`
}

type tag struct {
	TagKey   string
	TagValue string
}

func tagOf(t waybill.Tag) tag { return tag{TagKey: t.Key, TagValue: t.Value} }

func (c *call) describeSendFileResults(
	ctx context.Context, in *describeSendFileResultsInput,
) (*describeSendFileResultsOutput, error) {
	page, err := openPage(c, in.RegionId, &in.deliveryQuery, in.paging, c.maxPage)
	if err != nil {
		return nil, err
	}
	if err := waybill.CheckTags(in.Tag); err != nil {
		return nil, err
	}
	found, err := c.Deliveries(ctx, c.who, in.filter(in.RegionId), page.Page)
	if err != nil {
		return nil, err
	}
	out := &describeSendFileResultsOutput{paged: page.of(found.Total, found.Next)}
	out.Invocations.Invocation = collect(found.Items, invocationOf)
	return out, nil
}

func invocationOf(d control.DeliveryResult) invocation {
	i := invocation{
		InvokeId:         d.ID,
		Name:             d.File.Name,
		Description:      d.Description,
		TargetDir:        d.File.TargetDir,
		ContentType:      d.ContentType,
		Content:          d.Content,
		FileOwner:        d.File.Owner,
		FileGroup:        d.File.Group,
		FileMode:         d.File.Mode,
		Overwrite:        strconv.FormatBool(d.File.Overwrite),
		VmCount:          int32(d.TargetCount),
		CreationTime:     stamp(d.Created),
		InvocationStatus: d.Status(),
	}
	i.InvokeInstances.InvokeInstance = collect(d.Targets, invokeInstanceOf)
	i.Tags.Tag = collect(d.Tags, tagOf)
	return i
}

func invokeInstanceOf(t waybill.Target) invokeInstance {
	o := outcomeOf(t.Cause)
	return invokeInstance{
		InstanceId:       t.Instance,
		InvocationStatus: t.Status,
		CreationTime:     stamp(t.Created),
		StartTime:        stamp(t.Started),
		FinishTime:       stamp(t.Finished),
		UpdateTime:       stamp(t.Updated),
		ErrorCode:        o.code,
		ErrorInfo:        o.info,
		Detail:           t.Detail,
	}
}
