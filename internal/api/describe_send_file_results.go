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
	OmitContent *bool `limits:"default false" doc:"leaves Content empty; not in the ECS API"`
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
	ContentOmitted   bool   `json:",omitempty" xml:",omitempty" doc:"true where Content is left out, as it is where it is longer than SendFile takes; not in the ECS API"`
	FileOwner        string
	FileGroup        string
	FileMode         string
	Overwrite        string `doc:"true or false"`
	DryRun           bool   `json:",omitempty" xml:",omitempty" doc:"true if it is a rehearsal, which changes nothing; not in the ECS API"`
	VmCount          int32  `doc:"instances of the delivery"`
	CreationTime     string
	InvocationStatus waybill.Overall `doc:"overall"`
	InvokeInstances  struct {
		InvokeInstance list[invokeInstance]
	} `doc:"of a delivery to many, the first 500; DescribeSendFileTargets pages all"`
	InvokeInstancesOmitted bool `json:",omitempty" xml:",omitempty" doc:"true where there are more than these, unless InstanceId was given; not in the ECS API"`
	Tags                   struct {
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
	ErrorCode        string         `doc:"empty unless it failed"`
	ErrorInfo        string         `doc:"likewise"`
	Detail           string         `doc:"what happened in our own words; not in the ECS API"`
	Change           waybill.Change `doc:"of a success: Created, Replaced or Unchanged, of a rehearsal WouldCreate, WouldReplace or WouldKeep, or empty where that cannot be told; not in the ECS API"`
	Attempt          int32          `doc:"which attempt this is: 1, and one more with each RetrySendFile; not in the ECS API"`
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
	omit := in.OmitContent != nil && *in.OmitContent
	byToken := in.NextToken != "" || in.MaxResults != nil
	rows := list[invocation]{}
	carried := int64(0)
	for n := range found.Items {
		d := &found.Items[n]
		size := int64(len(d.Content))
		if d.Left != nil {
			size = d.Left.TextSize()
		}
		if full := n > 0 && carried+size > pageContent; full && byToken && !omit {
			found.Next = string(found.Items[n-1].ID)
			break
		} else if omit || full || size > int64(c.maxText) {
			d.Content, d.Left = "", nil
			rows = append(rows, invocationOf(d, true))
			continue
		}
		carried += size
		if d.Left != nil {
			if err := c.place.grow(ctx, size); err != nil {
				return nil, err
			}
			switch d.Content, err = c.Content(ctx, d.Left); {
			case waybill.CodeOf(err) == waybill.ContentLost: // which is no reason to withhold what became of it
				rows = append(rows, invocationOf(d, true))
				continue
			case err != nil:
				return nil, err
			}
		}
		rows = append(rows, invocationOf(d, false))
	}
	for n := range rows {
		rows[n].InvokeInstancesOmitted = in.InstanceId == "" && len(rows[n].InvokeInstances.InvokeInstance) < int(rows[n].VmCount)
	}
	out := &describeSendFileResultsOutput{paged: page.of(found.Total, found.Next)}
	out.Invocations.Invocation = rows
	return out, nil
}

// pageContent is how many bytes of content a page has at most, unless its first delivery has more. By token, a page ends
// before it would have more. By number, the rest of the deliveries come without theirs: what is on which page must not
// depend on how large they are.
const pageContent = 32 << 20

func invocationOf(d *control.DeliveryResult, omitted bool) invocation {
	i := invocation{
		ContentOmitted:   omitted,
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
		DryRun:           d.DryRun,
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
		Change:           t.Change,
		Attempt:          int32(t.Attempt),
	}
}
