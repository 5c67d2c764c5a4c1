// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// Operations that no published API has: deliveries to thousands of machines, looked at without reading all of them, and what
// the console begins with.

// summaryService is what they need.
type summaryService interface {
	DeliveryHeads(
		ctx context.Context, who waybill.Principal, f control.DeliveryFilter, p control.Page,
	) (control.Listing[waybill.DeliveryHead], error)
	Targets(
		ctx context.Context, who waybill.Principal, region string, id waybill.DeliveryID, f waybill.TargetFilter, p control.Page,
	) (control.Listing[waybill.NamedTarget], []waybill.TargetGroup, error)
	MachineSummary(ctx context.Context, who waybill.Principal, region string) ([]waybill.MachineGroup, error)
	DeliverySummary(ctx context.Context, who waybill.Principal, region string, since time.Time) (waybill.DeliverySummary, error)
}

type describeSendFileInvocationsInput struct {
	regional
	headQuery
	paging
}

type headQuery struct {
	deliveryQuery
	Search string `json:",omitempty" doc:"part of the name, the directory, the description or the ID; Latin letters in any case"`
}

type describeSendFileInvocationsOutput struct {
	envelope
	paged
	Invocations struct {
		Invocation list[invocationHead]
	} `doc:"newest first"`
}

// invocationHead is a delivery without its instances.
type invocationHead struct {
	InvokeId         waybill.DeliveryID
	Name             string
	Description      string
	TargetDir        string
	ContentType      waybill.ContentType
	ContentSize      int64  `doc:"bytes of the decoded content"`
	ContentSha256    string `doc:"of the decoded content, hexadecimal"`
	ContentPreview   string `doc:"its first 16 KiB as Base64, if InvokeId was given and they are at hand; else empty"`
	FileOwner        string
	FileGroup        string
	FileMode         string
	Overwrite        string `doc:"true or false"`
	DryRun           bool   `doc:"whether it is a rehearsal"`
	Diff             bool   `doc:"whether its machines compare line by line: DescribeSendFileDiffs"`
	Timeout          int64  `doc:"seconds"`
	ResourceGroupId  string
	VmCount          int32 `doc:"instances of the delivery"`
	PendingCount     int32
	RunningCount     int32
	SuccessCount     int32
	FailedCount      int32 `doc:"instances that ended otherwise"`
	CreationTime     string
	Deadline         string          `doc:"when what is open ends, at the latest"`
	InvocationStatus waybill.Overall `doc:"overall"`
	Tags             struct {
		Tag list[tag]
	}
}

func (c *call) describeSendFileInvocations(
	ctx context.Context, in *describeSendFileInvocationsInput,
) (*describeSendFileInvocationsOutput, error) {
	page, err := openPage(c, in.RegionId, &in.headQuery, in.paging, c.maxPage)
	if err != nil {
		return nil, err
	}
	if err := waybill.CheckTags(in.Tag); err != nil {
		return nil, err
	}
	f := in.filter(in.RegionId)
	f.Search = in.Search
	found, err := c.DeliveryHeads(ctx, c.who, f, page.Page)
	if err != nil {
		return nil, err
	}
	out := &describeSendFileInvocationsOutput{paged: page.of(found.Total, found.Next)}
	out.Invocations.Invocation = collect(found.Items, headOf)
	return out, nil
}

func headOf(d waybill.DeliveryHead) invocationHead {
	i := invocationOf(&control.DeliveryResult{Delivery: d.Delivery}, false)
	h := invocationHead{
		InvokeId: i.InvokeId, Name: i.Name, Description: i.Description, TargetDir: i.TargetDir, ContentType: i.ContentType,
		ContentSize: d.Size, ContentSha256: hex.EncodeToString(d.SHA256[:]), ContentPreview: base64.StdEncoding.EncodeToString(d.Preview),
		FileOwner: i.FileOwner, FileGroup: i.FileGroup, FileMode: i.FileMode, Overwrite: i.Overwrite,
		DryRun: i.DryRun, Diff: d.Diff, Timeout: int64(d.Timeout / time.Second), ResourceGroupId: d.ResourceGroup, VmCount: i.VmCount,
		PendingCount: int32(d.Counts.Pending), RunningCount: int32(d.Counts.Running),
		SuccessCount: int32(d.Counts.Success), FailedCount: int32(d.Counts.Failed),
		CreationTime: i.CreationTime, Deadline: stamp(d.Deadline), InvocationStatus: i.InvocationStatus,
	}
	h.Tags.Tag = i.Tags.Tag
	return h
}

// maxTargetsPage bounds a page of targets: they are small, and there may be thousands.
const maxTargetsPage = 500

type describeSendFileTargetsInput struct {
	regional
	targetQuery
	MaxResults *int64 `limits:"1 to 500, default 50" fault:"InvalidParameter.MaxResults" doc:"rows of a page"`
	NextToken  string `doc:"token that the previous page returned; it carries the filters and the page size"`
	PageNumber *int64 `limits:"from 1, default 1" fault:"InvalidParam.PageNumber" doc:"no effect with NextToken"`
}

type targetQuery struct {
	InvokeId         waybill.DeliveryID `json:",omitempty" doc:"the delivery; required, unless NextToken carries it. An unknown one is no error"`
	InvocationStatus waybill.Status     `json:",omitempty" enum:"Pending|Running|Success|Failed|Invalid|Aborted|Timeout|Error" doc:"of the instances"`
	ErrorCode        string             `json:",omitempty" doc:"such as FileAuthorityInvalid"`
	Cause            waybill.Cause      `json:",omitempty" doc:"as in InvocationGroup; finer than ErrorCode"`
	InstanceName     string             `json:",omitempty" doc:"part of the name, Latin letters in any case, or the whole ID"`
}

type describeSendFileTargetsOutput struct {
	envelope
	TotalCount       int64  `doc:"rows of all pages"`
	NextToken        string `doc:"where the next page starts; empty on the last"`
	InvocationGroups struct {
		InvocationGroup list[invocationGroup]
	} `doc:"all instances of the delivery by how they ended, or stand; the largest group first"`
	InvokeInstances struct {
		InvokeInstance list[namedInstance]
	} `doc:"in the order they were given"`
}

type invocationGroup struct {
	InvocationStatus waybill.Status
	ErrorCode        string
	ErrorInfo        string
	Cause            waybill.Cause `doc:"our own, finer word for why"`
	Count            int64
}

func groupOf(g waybill.TargetGroup) invocationGroup {
	o := outcomeOf(g.Cause)
	return invocationGroup{g.Status, o.code, o.info, g.Cause, g.Count}
}

type namedInstance struct {
	InstanceId       waybill.InstanceID
	InstanceName     string
	InvocationStatus waybill.Status
	CreationTime     string
	StartTime        string `doc:"when the machine took it up; may be empty"`
	FinishTime       string `doc:"may be empty"`
	UpdateTime       string
	ErrorCode        string `doc:"empty unless it failed"`
	ErrorInfo        string `doc:"likewise"`
	Cause            waybill.Cause
	Detail           string         `doc:"what happened in our own words"`
	Change           waybill.Change `doc:"of a success: Created, Replaced or Unchanged, of a rehearsal WouldCreate, WouldReplace or WouldKeep, or empty where that cannot be told"`
	Attempt          int32          `doc:"which attempt this is: 1, and one more with each RetrySendFile"`
}

func (c *call) describeSendFileTargets(
	ctx context.Context, in *describeSendFileTargetsInput,
) (*describeSendFileTargetsOutput, error) {
	size := int64(defaultAuditPage)
	if in.MaxResults != nil {
		size = *in.MaxResults
	}
	c.maxPage = maxTargetsPage
	page, err := openPage(c, in.RegionId, &in.targetQuery, paging{MaxResults: &size, NextToken: in.NextToken}, maxTargetsPage)
	if err != nil {
		return nil, err
	}
	if n := in.PageNumber; n != nil && in.NextToken == "" {
		if *n < 1 || *n > maxPageNumber {
			return nil, refuse("InvalidParam.PageNumber")
		}
		page.Offset = (int(*n) - 1) * page.Size
	}
	if in.InvokeId == "" {
		return nil, missing("InvokeId")
	}
	f := waybill.TargetFilter{Name: in.InstanceName}
	if in.InvocationStatus != "" {
		f.Statuses = []waybill.Status{in.InvocationStatus}
	}
	if f.Causes = causesOf(in.ErrorCode, in.Cause); in.ErrorCode+string(in.Cause) != "" && len(f.Causes) == 0 {
		return nil, refuse("InvalidParameter", "ErrorCode")
	}
	found, groups, err := c.Targets(ctx, c.who, in.RegionId, in.InvokeId, f, page.Page)
	if err != nil {
		return nil, err
	}
	out := &describeSendFileTargetsOutput{TotalCount: found.Total}
	if found.Next != "" {
		out.NextToken = page.seal(found.Next)
	}
	out.InvocationGroups.InvocationGroup = collect(groups, groupOf)
	out.InvokeInstances.InvokeInstance = collect(found.Items, func(t waybill.NamedTarget) namedInstance {
		i := invokeInstanceOf(t.Target)
		return namedInstance{
			i.InstanceId, t.Name, i.InvocationStatus, i.CreationTime, i.StartTime, i.FinishTime, i.UpdateTime,
			i.ErrorCode, i.ErrorInfo, t.Cause, i.Detail, i.Change, i.Attempt,
		}
	})
	return out, nil
}

// causesOf returns the causes that have an ErrorCode and are the given one; empty means any. There may be none.
func causesOf(code string, cause waybill.Cause) (list []waybill.Cause) {
	if code == "" && cause == "" {
		return nil
	}
	for _, c := range waybill.Causes() {
		if (code == "" || outcomeOf(c).code == code) && (cause == "" || c == cause) {
			list = append(list, c)
		}
	}
	slices.Sort(list)
	return list
}

type describeSendFileSummaryInput struct {
	regional
	StartTime string `limits:"YYYY-MM-DDThh:mm:ssZ, default 24 hours ago" doc:"what was sent from then on"`
}

type describeSendFileSummaryOutput struct {
	envelope
	Invocations struct {
		InvocationCount list[invocationCount]
	} `doc:"deliveries by overall status"`
	InvocationGroups struct {
		InvocationGroup list[invocationGroup]
	} `doc:"instances that failed, by cause; the largest group first"`
}

type invocationCount struct {
	InvocationStatus waybill.Overall
	Count            int64
}

func (c *call) describeSendFileSummary(
	ctx context.Context, in *describeSendFileSummaryInput,
) (*describeSendFileSummaryOutput, error) {
	since := c.Now().Add(-24 * time.Hour)
	if in.StartTime != "" {
		var err error
		if since, err = time.Parse(time.RFC3339, in.StartTime); err != nil {
			return nil, refuse("InvalidParameter", "StartTime")
		}
	}
	found, err := c.DeliverySummary(ctx, c.who, in.RegionId, since)
	if err != nil {
		return nil, err
	}
	out := &describeSendFileSummaryOutput{}
	for _, status := range []waybill.Overall{
		waybill.OverallPending, waybill.OverallRunning, waybill.OverallSuccess, waybill.OverallPartial, waybill.OverallFailed,
	} {
		out.Invocations.InvocationCount = append(out.Invocations.InvocationCount, invocationCount{status, found.Deliveries[status]})
	}
	out.InvocationGroups.InvocationGroup = collect(found.Failures, groupOf)
	return out, nil
}

type describeManagedInstanceSummaryInput struct{ regional }

type describeManagedInstanceSummaryOutput struct {
	envelope
	InstanceGroups struct {
		InstanceGroup list[instanceGroup]
	} `doc:"the largest first"`
}

type instanceGroup struct {
	AgentKind    waybill.AgentKind `doc:"native or official"`
	AgentVersion string
	Connected    bool
	Count        int64
}

func (c *call) describeManagedInstanceSummary(
	ctx context.Context, in *describeManagedInstanceSummaryInput,
) (*describeManagedInstanceSummaryOutput, error) {
	found, err := c.MachineSummary(ctx, c.who, in.RegionId)
	if err != nil {
		return nil, err
	}
	out := &describeManagedInstanceSummaryOutput{}
	out.InstanceGroups.InstanceGroup = collect(found, func(g waybill.MachineGroup) instanceGroup {
		return instanceGroup{g.Agent, g.Version, g.Connected, g.Count}
	})
	return out, nil
}

// State is what a server tells of itself: how it is set, and how it fares. No secret is in it.
type State struct {
	Version  string
	Settings []Setting
	Checks   []Check
	Servers  []string // that share its database, with their versions; empty: it is the only one
}

// Setting is one that is in force.
type Setting struct{ Name, Value string }

// Check is one part of a server that may fail.
type Check struct {
	Name   string
	Detail string // what is wrong; empty: nothing
}

type describeServerInput struct{}

type describeServerOutput struct {
	envelope
	Version  string
	Settings struct {
		Setting list[setting]
	}
	Checks struct {
		Check list[checked]
	}
	Servers []string `doc:"that share the database; empty: it is the only one"`
}

type setting struct{ Name, Value string }

type checked struct {
	Name   string
	Passed bool
	Detail string `doc:"what is wrong; empty if nothing is"`
}

func (c *call) describeServer(ctx context.Context, _ *describeServerInput) (*describeServerOutput, error) {
	if c.state == nil {
		return nil, waybill.Errorf(waybill.Unavailable, "this server does not tell")
	}
	v := c.state(ctx)
	out := &describeServerOutput{Version: v.Version, Servers: append([]string{}, v.Servers...)}
	out.Settings.Setting = collect(v.Settings, func(s Setting) setting { return setting(s) })
	out.Checks.Check = collect(v.Checks, func(k Check) checked { return checked{k.Name, k.Detail == "", k.Detail} })
	return out, nil
}
