// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"strconv"
	"strings"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// Published maxima of single operations.
const (
	maxManagedInstanceIDs = 50
	maxStatusInstanceIDs  = 100
	maxStatusPageSize     = 100 // 2021; scripts of that time still ask for it
)

// instanceService is what the operations on instances need.
type instanceService interface {
	Instances(
		ctx context.Context, who waybill.Principal, f control.InstanceFilter, p control.Page,
	) (control.Listing[waybill.Instance], error)
	RenameInstance(
		ctx context.Context, act *waybill.Act, id waybill.InstanceID, name string,
	) (waybill.Instance, error)
	Deregister(ctx context.Context, act *waybill.Act, id waybill.InstanceID) (waybill.Instance, error)
	CreateInstanceToken(ctx context.Context, act *waybill.Act, id waybill.InstanceID) (string, error)
	DeleteInstanceToken(ctx context.Context, act *waybill.Act, id waybill.InstanceID) error
}

type describeManagedInstancesInput struct {
	regional
	managedInstanceQuery
	paging
}

type managedInstanceQuery struct {
	InstanceId   []waybill.InstanceID `json:",omitempty" limits:"at most 50" fault:"InstanceIds.ExceedLimit"`
	InstanceName string               `json:",omitempty" doc:"exact name or, with * or ? in it, a pattern"`
	InstanceIp   string               `json:",omitempty" doc:"intranet or internet address"`
	ActivationId waybill.ActivationID `json:",omitempty" doc:"the activation they enrolled with"`
	MachineId    string               `json:",omitempty" doc:"as given at enrolment"`
	OsType       string               `json:",omitempty" limits:"windows, linux, FreeBSD, darwin" doc:"operating system"`
	Connected    *bool                `json:",omitempty" doc:"whether the agent is connected"`
	grouped
	tagged
}

type describeManagedInstancesOutput struct {
	envelope
	paged
	Instances list[describedInstance]
}

type describedInstance struct {
	managedInstance
	Connected       bool   `doc:"a heartbeat within the last two minutes"`
	AgentKind       string `doc:"native (waybill-agent) or official (aliyun_assist_client); not in the ECS API"`
	ChannelStatus   string `doc:"open, lost (heartbeats come, but nothing can be told to the agent) or closed; not in the ECS API"`
	NextChannelTime string `doc:"when an agent that has lost its channel opens it again; may be empty; not in the ECS API"`
	Tags            list[tag]
}

// channelStatus says whether an agent can be told anything.
func channelStatus(p waybill.Presence) string {
	switch p {
	case waybill.Online:
		return "open"
	case waybill.NoChannel:
		return "lost"
	}
	return "closed"
}

// nextChannel is when the agent of an instance opens its channel again.
func nextChannel(i *waybill.Instance) string {
	if i.Presence != waybill.NoChannel {
		return ""
	}
	return stamp(i.NextDial)
}

// managedInstance is what every operation on instances answers.
type managedInstance struct {
	InstanceId       waybill.InstanceID
	InstanceName     string
	ActivationId     waybill.ActivationID
	MachineId        string
	Hostname         string
	IntranetIp       string
	InternetIp       string
	OsType           string
	OsVersion        string
	AgentVersion     string
	RegistrationTime string
	InvocationCount  int64  `doc:"deliveries that ended on it"`
	LastInvokedTime  string `doc:"may be empty"`
	ResourceGroupId  string
}

func managedInstanceOf(i waybill.Instance) managedInstance {
	return managedInstance{
		InstanceId:       i.ID,
		InstanceName:     i.Name,
		ActivationId:     i.Activation,
		MachineId:        i.Facts.MachineID,
		Hostname:         i.Facts.Hostname,
		IntranetIp:       i.Facts.IntranetIP,
		InternetIp:       i.InternetIP,
		OsType:           osType(i.Facts.OSType),
		OsVersion:        i.Facts.OSVersion,
		AgentVersion:     i.Facts.AgentVersion,
		RegistrationTime: stamp(i.Registered),
		InvocationCount:  i.Deliveries,
		LastInvokedTime:  stamp(i.LastDelivery),
		ResourceGroupId:  i.ResourceGroup,
	}
}

// osType writes an operating system as DescribeManagedInstances does: lower case but for one.
func osType(s string) string {
	if strings.EqualFold(s, "freebsd") {
		return "FreeBSD"
	}
	return s
}

func (c *call) describeManagedInstances(
	ctx context.Context, in *describeManagedInstancesInput,
) (*describeManagedInstancesOutput, error) {
	page, err := openPage(c, in.RegionId, &in.managedInstanceQuery, in.paging, c.maxPage)
	if err != nil {
		return nil, err
	}
	if len(in.InstanceId) > maxManagedInstanceIDs {
		return nil, refuse("InstanceIds.ExceedLimit")
	}
	if err := waybill.CheckTags(in.Tag); err != nil {
		return nil, err
	}
	found, err := c.Instances(ctx, c.who, control.InstanceFilter{
		Region:        in.RegionId,
		IDs:           in.InstanceId,
		Name:          in.InstanceName,
		IP:            in.InstanceIp,
		Activation:    in.ActivationId,
		MachineID:     in.MachineId,
		OSType:        in.OsType,
		Connected:     in.Connected,
		ResourceGroup: in.ResourceGroupId,
		Tags:          in.Tag,
	}, page.Page)
	if err != nil {
		return nil, err
	}
	now := c.Now()
	return &describeManagedInstancesOutput{
		paged: page.of(found.Total, found.Next),
		Instances: collect(found.Items, func(i waybill.Instance) describedInstance {
			return describedInstance{
				managedInstance: managedInstanceOf(i),
				Connected:       i.Connected(now),
				AgentKind:       string(i.Agent),
				ChannelStatus:   channelStatus(i.Presence),
				NextChannelTime: nextChannel(&i),
				Tags:            collect(i.Tags, tagOf),
			}
		}),
	}, nil
}

type modifyManagedInstanceInput struct {
	regional
	InstanceId   waybill.InstanceID `required:"true" doc:"the instance"`
	InstanceName string             `required:"true" limits:"2 to 128 characters, a letter first" doc:"its new name"`
}

type modifyManagedInstanceOutput struct {
	envelope
	Instance struct {
		InstanceId   waybill.InstanceID
		InstanceName string
	}
}

func (c *call) modifyManagedInstance(
	ctx context.Context, in *modifyManagedInstanceInput,
) (*modifyManagedInstanceOutput, error) {
	i, err := c.RenameInstance(ctx, c.act, in.InstanceId, in.InstanceName)
	if err != nil {
		return nil, err
	}
	out := new(modifyManagedInstanceOutput)
	out.Instance.InstanceId, out.Instance.InstanceName = i.ID, i.Name
	return out, nil
}

type deregisterManagedInstanceInput struct {
	regional
	InstanceId waybill.InstanceID `required:"true" doc:"the instance"`
	idempotent
}

type deregisterManagedInstanceOutput struct {
	envelope
	Instance managedInstance
}

func (c *call) deregisterManagedInstance(
	ctx context.Context, in *deregisterManagedInstanceInput,
) (*deregisterManagedInstanceOutput, error) {
	i, err := c.Deregister(ctx, c.act, in.InstanceId)
	if err != nil {
		return nil, err
	}
	return &deregisterManagedInstanceOutput{Instance: managedInstanceOf(i)}, nil
}

type createInstanceTokenInput struct {
	regional
	InstanceId waybill.InstanceID `required:"true" doc:"an instance with the official agent"`
	idempotent
}

type createInstanceTokenOutput struct {
	envelope
	InstanceId waybill.InstanceID
	Token      string `doc:"shown only here, never again"`
}

func (c *call) createInstanceToken(ctx context.Context, in *createInstanceTokenInput) (*createInstanceTokenOutput, error) {
	token, err := c.CreateInstanceToken(ctx, c.act, in.InstanceId)
	if err != nil {
		return nil, err
	}
	return &createInstanceTokenOutput{InstanceId: in.InstanceId, Token: token}, nil
}

type deleteInstanceTokenInput struct {
	regional
	InstanceId waybill.InstanceID `required:"true" doc:"an instance with the official agent"`
}

func (c *call) deleteInstanceToken(ctx context.Context, in *deleteInstanceTokenInput) (*nothingOutput, error) {
	return done(c.DeleteInstanceToken(ctx, c.act, in.InstanceId))
}

type describeCloudAssistantStatusInput struct {
	regional
	statusQuery
	paging
}

type statusQuery struct {
	InstanceId []waybill.InstanceID `json:",omitempty" limits:"at most 100" fault:"InstanceIds.ExceedLimit"`
	OSType     string               `json:",omitempty" limits:"Windows, Linux, FreeBSD, Darwin" doc:"operating system"`
}

type describeCloudAssistantStatusOutput struct {
	envelope
	paged
	InstanceCloudAssistantStatusSet struct {
		InstanceCloudAssistantStatus list[assistantStatus]
	}
}

type assistantStatus struct {
	InstanceId            waybill.InstanceID
	CloudAssistantStatus  string `doc:"true: a heartbeat within the last two minutes; else false"`
	CloudAssistantVersion string `doc:"empty unless the agent is connected"`
	OSType                string
	LastHeartbeatTime     string `doc:"may be empty"`
	LastInvokedTime       string `doc:"may be empty"`
	ActiveTaskCount       int64  `doc:"deliveries under way"`
	InvocationCount       int64  `doc:"deliveries that ended on it"`
	SupportSessionManager bool   `doc:"always false: there are no sessions here"`
}

// describeCloudAssistantStatus answers for all the instances that are named at once, unless they are paged by number.
// As with SendFile, unknown ones are an error only when there are no others.
func (c *call) describeCloudAssistantStatus(
	ctx context.Context, in *describeCloudAssistantStatusInput,
) (*describeCloudAssistantStatusOutput, error) {
	page, err := openPage(c, in.RegionId, &in.statusQuery, in.paging, max(c.maxPage, maxStatusPageSize))
	if err != nil {
		return nil, err
	}
	named := len(in.InstanceId) > 0
	if len(in.InstanceId) > maxStatusInstanceIDs {
		return nil, refuse("InstanceIds.ExceedLimit")
	}
	if named && in.PageNumber == nil && in.PageSize == nil {
		page.Size = len(in.InstanceId)
	}
	found, err := c.Instances(ctx, c.who, control.InstanceFilter{
		Region: in.RegionId,
		IDs:    in.InstanceId,
		OSType: in.OSType,
	}, page.Page)
	if err != nil {
		return nil, err
	}
	if named && found.Total == 0 && in.OSType == "" {
		return nil, refuse("InvalidInstance.NotFound")
	}
	now := c.Now()
	out := &describeCloudAssistantStatusOutput{paged: page.of(found.Total, found.Next)}
	out.InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus = collect(found.Items,
		func(i waybill.Instance) assistantStatus {
			s := assistantStatus{
				InstanceId:           i.ID,
				CloudAssistantStatus: strconv.FormatBool(i.Connected(now)),
				OSType:               assistantOSType(i.Facts.OSType),
				LastHeartbeatTime:    stamp(i.LastSeen),
				LastInvokedTime:      stamp(i.LastDelivery),
				ActiveTaskCount:      i.OpenTargets,
				InvocationCount:      i.Deliveries,
			}
			if i.Connected(now) {
				s.CloudAssistantVersion = i.Facts.AgentVersion
			}
			return s
		})
	return out, nil
}

// assistantOSType writes an operating system as DescribeCloudAssistantStatus does: with a capital letter.
func assistantOSType(s string) string {
	if s = osType(s); s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
