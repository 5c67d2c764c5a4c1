// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"regexp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// The operations below are for scripts that look for machines as they do in ECS before they send files to them. A
// machine here is a managed instance: what only a cloud's own machines have is left empty.

// instanceStatuses says which presences of its agent a machine has in which status.
var instanceStatuses = map[string][]waybill.Presence{
	"Pending":  {waybill.NeverSeen},
	"Running":  {waybill.Online, waybill.Stopped, waybill.Upgrading},
	"Stopped":  {waybill.ShutDown},
	"Starting": {},
	"Stopping": {},
}

// instanceStatus is the status of a machine. One that is silent counts as running: nobody has said otherwise.
func instanceStatus(p waybill.Presence) string {
	for status, presences := range instanceStatuses {
		for _, q := range presences {
			if p == q {
				return status
			}
		}
	}
	return "Running"
}

type describeInstancesInput struct {
	regional
	ecsInstanceQuery
	MaxResults *int64 `limits:"10 to 100, default 10; below and above count as these" doc:"rows of a page, by token"`
	NextToken  string `doc:"token that the previous page returned; it carries the filters and the page size"`
	PageNumber *int64 `limits:"from 1, default 1" fault:"InvalidParam.PageNumber" doc:"no effect with MaxResults"`
	PageSize   *int64 `limits:"1 to 100, default 10" fault:"InvalidParam.PageSize" doc:"rows of a page, by number"`
}

type ecsInstanceQuery struct {
	InstanceIds        string `json:",omitempty" limits:"a JSON array of at most 100" doc:"instance IDs"`
	InstanceName       string `json:",omitempty" doc:"exact name or, with * or ? in it, a pattern"`
	Status             string `json:",omitempty" enum:"Pending|Running|Starting|Stopping|Stopped" fault:"InvalidStatus.NotFound" doc:"status of the machine"`
	PrivateIpAddresses string `json:",omitempty" limits:"a JSON array of at most 100" doc:"intranet addresses"`
	PublicIpAddresses  string `json:",omitempty" limits:"a JSON array of at most 100" doc:"addresses that the machines enrolled from"`
	grouped
	tagged
}

type addresses struct {
	IpAddress list[string]
}

type describeInstancesOutput struct {
	envelope
	paged
	Instances struct {
		Instance list[ecsInstance]
	}
}

type ecsInstance struct {
	InstanceId          waybill.InstanceID
	InstanceName        string
	HostName            string
	Status              string `doc:"Pending before its agent ever connected, Stopped if it said that the machine shuts down, else Running"`
	RegionId            string
	ZoneId              string `doc:"empty"`
	OSType              string `doc:"linux, windows …"`
	OSName              string
	OSNameEn            string
	CreationTime        string `doc:"of the enrolment, in minutes"`
	StartTime           string `doc:"the same"`
	Description         string `doc:"empty"`
	ResourceGroupId     string
	InstanceNetworkType string `doc:"vpc"`
	PublicIpAddress     addresses
	InnerIpAddress      addresses `doc:"empty"`
	EipAddress          struct {
		IpAddress string `doc:"empty"`
	}
	VpcAttributes struct {
		PrivateIpAddress addresses
	}
	Tags struct {
		Tag list[tag]
	}
	SecurityGroupIds struct {
		SecurityGroupId list[string] `doc:"empty"`
	}
	OperationLocks struct {
		LockReason list[lockReason] `doc:"empty"`
	}
}

type lockReason struct{ LockReason string }

func ecsInstanceOf(i waybill.Instance) ecsInstance {
	at := ""
	if !i.Registered.IsZero() {
		at = i.Registered.UTC().Format("2006-01-02T15:04Z")
	}
	v := ecsInstance{
		InstanceId: i.ID, InstanceName: i.Name, HostName: i.Facts.Hostname, Status: instanceStatus(i.Presence),
		RegionId: i.Region, OSType: osType(i.Facts.OSType), OSName: i.Facts.OSVersion, OSNameEn: i.Facts.OSVersion,
		CreationTime: at, StartTime: at, ResourceGroupId: i.ResourceGroup, InstanceNetworkType: "vpc",
	}
	v.PublicIpAddress.IpAddress = notEmpty(i.InternetIP)
	v.VpcAttributes.PrivateIpAddress.IpAddress = notEmpty(i.Facts.IntranetIP)
	v.Tags.Tag = collect(i.Tags, tagOf)
	return v
}

func notEmpty(s string) list[string] {
	if s == "" {
		return nil
	}
	return list[string]{s}
}

// Published bounds of DescribeInstances.
const (
	minInstancesPage = 10
	maxInstancesPage = 100
	maxNamedMachines = 100
)

// jsonTexts reads a parameter that is a JSON array of at most most texts.
func jsonTexts(name, text string, most int) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	var all []string
	if err := json.Unmarshal([]byte(text), &all); err != nil || len(all) > most {
		return nil, refuse("InvalidParameter", name)
	}
	return all, nil
}

func (c *call) describeInstances(ctx context.Context, in *describeInstancesInput) (*describeInstancesOutput, error) {
	p := paging{NextToken: in.NextToken, PageNumber: in.PageNumber, PageSize: in.PageSize}
	if n := in.MaxResults; n != nil {
		bounded := max(minInstancesPage, min(*n, maxInstancesPage))
		p.MaxResults = &bounded
	}
	c.maxPage = maxInstancesPage
	page, err := openPage(c, in.RegionId, &in.ecsInstanceQuery, p, maxInstancesPage)
	if err != nil {
		return nil, err
	}
	switch err := waybill.CheckTags(in.Tag); waybill.CodeOf(err) {
	case waybill.TagsTooMany:
		return nil, refuse("InvalidTagCount")
	case waybill.TagKeyMissing:
		return nil, refuse("InvalidTag.Mismatch")
	default:
		if err != nil {
			return nil, err
		}
	}
	f := control.InstanceFilter{
		Region: in.RegionId, Name: in.InstanceName, ResourceGroup: in.ResourceGroupId, Tags: in.Tag,
	}
	ids, err := jsonTexts("InstanceIds", in.InstanceIds, maxNamedMachines)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		f.IDs = append(f.IDs, waybill.InstanceID(id))
	}
	if f.IntranetIPs, err = jsonTexts("PrivateIpAddresses", in.PrivateIpAddresses, maxNamedMachines); err != nil {
		return nil, err
	}
	if f.InternetIPs, err = jsonTexts("PublicIpAddresses", in.PublicIpAddresses, maxNamedMachines); err != nil {
		return nil, err
	}
	var found control.Listing[waybill.Instance]
	presences, ok := instanceStatuses[in.Status]
	if none := ok && len(presences) == 0 || in.InstanceIds != "" && len(ids) == 0; !none {
		f.Presences = presences
		if found, err = c.Instances(ctx, c.who, f, page.Page); err != nil {
			return nil, err
		}
	}
	out := &describeInstancesOutput{paged: page.of(found.Total, found.Next)}
	out.Instances.Instance = collect(found.Items, ecsInstanceOf)
	return out, nil
}

type describeInstanceStatusInput struct {
	regional
	InstanceId []waybill.InstanceID `limits:"at most 100" fault:"InvalidParameter.TooManyInstanceIds" doc:"these only"`
	ZoneId     string               `doc:"there are no zones here: none is found"`
	ClusterId  string               `doc:"no effect"`
	PageNumber *int64               `limits:"from 1, default 1" fault:"InvalidParam.PageNumber" doc:"which page"`
	PageSize   *int64               `limits:"1 to 50, default 10" fault:"InvalidParam.PageSize" doc:"rows of a page"`
}

type describeInstanceStatusOutput struct {
	envelope
	TotalCount       int64 `doc:"rows of all pages"`
	PageNumber       int64
	PageSize         int64
	InstanceStatuses struct {
		InstanceStatus list[machineStatus]
	}
}

type machineStatus struct {
	InstanceId waybill.InstanceID
	Status     string `doc:"as in DescribeInstances"`
}

// instanceIDPattern is what an instance ID of ECS or of a managed instance looks like.
var instanceIDPattern = regexp.MustCompile(`^m?i-[0-9A-Za-z]+$`)

func (c *call) describeInstanceStatus(
	ctx context.Context, in *describeInstanceStatusInput,
) (*describeInstanceStatusOutput, error) {
	switch {
	case len(in.InstanceId) > maxNamedMachines:
		return nil, refuse("InvalidParameter.TooManyInstanceIds")
	case in.ZoneId != "":
		return nil, refuse("InvalidZoneId.NotFound")
	}
	for _, id := range in.InstanceId {
		if !instanceIDPattern.MatchString(string(id)) {
			return nil, refuse("Abs.InvalidInstanceIds.MalFormed")
		}
	}
	pg := page{Page: control.Page{Size: defaultPageSize}, number: 1}
	if err := pg.byNumber(paging{PageNumber: in.PageNumber, PageSize: in.PageSize}, DefaultMaxPageSize); err != nil {
		return nil, err
	}
	found, err := c.Instances(ctx, c.who, control.InstanceFilter{Region: in.RegionId, IDs: in.InstanceId}, pg.Page)
	if err != nil {
		return nil, err
	}
	out := &describeInstanceStatusOutput{
		TotalCount: found.Total, PageNumber: int64(pg.number), PageSize: int64(pg.Size),
	}
	out.InstanceStatuses.InstanceStatus = collect(found.Items, func(i waybill.Instance) machineStatus {
		return machineStatus{i.ID, instanceStatus(i.Presence)}
	})
	return out, nil
}

// The SettingTypes of DescribeCloudAssistantSettings.
const (
	settingSessions   = "SessionManagerDelivery"
	settingDeliveries = "InvocationDelivery"
	settingUpgrade    = "AgentUpgradeConfig"
	settingManager    = "SessionManagerConfig"
)

type describeCloudAssistantSettingsInput struct {
	regional
	SettingType []string `required:"true" limits:"SessionManagerDelivery, InvocationDelivery, AgentUpgradeConfig, SessionManagerConfig" fault:"InvalidParameter.SettingType" doc:"which settings"`
}

// The parts of the answer are pointers, because only those asked for are there.
type describeCloudAssistantSettingsOutput struct {
	envelope
	OssDeliveryConfigs   *ossDeliveries  `json:",omitempty" xml:",omitempty" doc:"of the two deliveries"`
	SlsDeliveryConfigs   *slsDeliveries  `json:",omitempty" xml:",omitempty" doc:"of the two deliveries"`
	AgentUpgradeConfig   *agentUpgrade   `json:",omitempty" xml:",omitempty"`
	SessionManagerConfig *sessionManager `json:",omitempty" xml:",omitempty"`
}

type ossDeliveries struct {
	OssDeliveryConfig list[deliveryConfig]
}

type slsDeliveries struct {
	SlsDeliveryConfig list[deliveryConfig]
}

type deliveryConfig struct {
	DeliveryType string `doc:"SessionManager or Invocation"`
	Enabled      bool   `doc:"false: nothing is delivered to other services"`
}

type agentUpgrade struct {
	Enabled               bool `doc:"false: agents are upgraded by whoever runs the machine"`
	AllowedUpgradeWindows struct {
		AllowedUpgradeWindow list[string] `doc:"empty"`
	}
	TimeZone         string `doc:"UTC"`
	BootstrapUpgrade bool   `doc:"false"`
	DisableUpgrade   bool   `doc:"true"`
}

type sessionManager struct {
	SessionManagerEnabled bool `doc:"false: there are no sessions here"`
}

func (c *call) describeCloudAssistantSettings(
	_ context.Context, in *describeCloudAssistantSettingsInput,
) (*describeCloudAssistantSettingsOutput, error) {
	out := new(describeCloudAssistantSettingsOutput)
	deliver := func(kind string) {
		if out.OssDeliveryConfigs == nil {
			out.OssDeliveryConfigs, out.SlsDeliveryConfigs = new(ossDeliveries), new(slsDeliveries)
		}
		config := deliveryConfig{DeliveryType: kind}
		out.OssDeliveryConfigs.OssDeliveryConfig = append(out.OssDeliveryConfigs.OssDeliveryConfig, config)
		out.SlsDeliveryConfigs.SlsDeliveryConfig = append(out.SlsDeliveryConfigs.SlsDeliveryConfig, config)
	}
	for _, setting := range in.SettingType {
		switch setting {
		case settingSessions:
			deliver("SessionManager")
		case settingDeliveries:
			deliver("Invocation")
		case settingUpgrade:
			out.AgentUpgradeConfig = &agentUpgrade{TimeZone: "UTC", DisableUpgrade: true}
		case settingManager:
			out.SessionManagerConfig = new(sessionManager)
		default:
			return nil, refuse("InvalidParameter.SettingType")
		}
	}
	return out, nil
}

type installCloudAssistantInput struct {
	regional
	InstanceId []waybill.InstanceID `required:"true" limits:"1 to 50" fault:"InstanceIds.ExceedLimit" doc:"where"`
}

// installCloudAssistant has nothing to do where the agent is connected, and cannot reach a machine where it is not.
func (c *call) installCloudAssistant(ctx context.Context, in *installCloudAssistantInput) (*nothingOutput, error) {
	if len(in.InstanceId) > maxManagedInstanceIDs {
		return nil, refuse("InstanceIds.ExceedLimit")
	}
	found, err := c.Instances(ctx, c.who, control.InstanceFilter{Region: in.RegionId, IDs: in.InstanceId},
		control.Page{Size: maxManagedInstanceIDs})
	if err != nil {
		return nil, err
	}
	known := make(map[waybill.InstanceID]waybill.Instance, len(found.Items))
	for _, i := range found.Items {
		known[i.ID] = i
	}
	for _, id := range in.InstanceId {
		i, ok := known[id]
		if !ok {
			return nil, refuse("InvalidInstance.NotFound")
		}
		if !i.Connected(c.Now()) {
			return nil, refuse("Operation.Forbidden")
		}
	}
	return new(nothingOutput), nil
}
