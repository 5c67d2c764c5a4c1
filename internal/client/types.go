// SPDX-License-Identifier: Apache-2.0

package client

import "github.com/openwaybill/waybill"

// The types below decode answers, and encode to the same JSON: what is printed for programs has the shape of the API.
// Times are the API's text, YYYY-MM-DDThh:mm:ssZ in UTC, and empty when they have not come yet.

// Page is a part of a listing. NextToken asks for the next one and is empty on the last.
type Page[T any] struct {
	Items     []T
	Total     int64
	NextToken string
}

// Paging asks for a page. MaxResults zero means the server's default; NextToken empty means the first.
type Paging struct {
	MaxResults int
	NextToken  string
}

// Tag is a label.
type Tag struct {
	Key   string `json:"TagKey"`
	Value string `json:"TagValue"`
}

// Delivery is one accepted SendFile call (API: Invocation).
type Delivery struct {
	ID          waybill.DeliveryID  `json:"InvokeId"`
	Name        string              `json:"Name"`
	Description string              `json:"Description"`
	TargetDir   string              `json:"TargetDir"`
	ContentType waybill.ContentType `json:"ContentType"`
	Content     string              `json:"Content"` // as it was sent
	Owner       string              `json:"FileOwner"`
	Group       string              `json:"FileGroup"`
	Mode        string              `json:"FileMode"`
	Overwrite   string              `json:"Overwrite"` // "true" or "false"
	DryRun      bool                `json:"DryRun,omitempty"`
	TargetCount int                 `json:"VmCount"`
	Created     string              `json:"CreationTime"`
	Status      waybill.Overall     `json:"InvocationStatus"`
	Targets     Targets             `json:"InvokeInstances"`
	Omitted     bool                `json:"InvokeInstancesOmitted,omitempty"` // Targets are only the first ones
	Tags        Tags                `json:"Tags"`
}

// Deliveries is how the API nests deliveries.
type Deliveries struct {
	Items []Delivery `json:"Invocation"`
}

// Targets is how the API nests targets.
type Targets struct {
	Items []Target `json:"InvokeInstance"`
}

// Tags is how the API nests the tags of a delivery.
type Tags struct {
	Items []Tag `json:"Tag"`
}

// Target is one machine of a delivery (API: InvokeInstance).
type Target struct {
	Instance  waybill.InstanceID `json:"InstanceId"`
	Status    waybill.Status     `json:"InvocationStatus"`
	Created   string             `json:"CreationTime"`
	Started   string             `json:"StartTime"`
	Finished  string             `json:"FinishTime"`
	Updated   string             `json:"UpdateTime"`
	ErrorCode string             `json:"ErrorCode"`
	ErrorInfo string             `json:"ErrorInfo"`
	Detail    string             `json:"Detail"`                 // Waybill's own addition to ErrorInfo; may be empty
	Change    waybill.Change     `json:"Change"`                 // likewise: what a success did
	Attempt   int                `json:"Attempt"`                // which one this is; 0: the server does not tell
	Name      string             `json:"InstanceName,omitempty"` // only of what Complete has filled in
}

// Instance is an enrolled machine.
type Instance struct {
	ID            waybill.InstanceID   `json:"InstanceId"`
	Name          string               `json:"InstanceName"`
	Activation    waybill.ActivationID `json:"ActivationId"`
	MachineID     string               `json:"MachineId"`
	Hostname      string               `json:"Hostname"`
	IntranetIP    string               `json:"IntranetIp"`
	InternetIP    string               `json:"InternetIp"`
	OSType        string               `json:"OsType"`
	OSVersion     string               `json:"OsVersion"`
	AgentVersion  string               `json:"AgentVersion"`
	Connected     bool                 `json:"Connected"`
	AgentKind     waybill.AgentKind    `json:"AgentKind"`
	Channel       string               `json:"ChannelStatus"`   // open, lost or closed
	NextChannel   string               `json:"NextChannelTime"` // when a lost channel is opened again; may be empty
	Registered    string               `json:"RegistrationTime"`
	Deliveries    int64                `json:"InvocationCount"`
	LastDelivery  string               `json:"LastInvokedTime"`
	ResourceGroup string               `json:"ResourceGroupId"`
	Tags          []Tag                `json:"Tags"`
}

// AgentStatus is what DescribeCloudAssistantStatus says of one instance.
type AgentStatus struct {
	Instance       waybill.InstanceID `json:"InstanceId"`
	Connected      string             `json:"CloudAssistantStatus"` // "true" or "false"
	Version        string             `json:"CloudAssistantVersion"`
	OSType         string             `json:"OSType"`
	LastHeartbeat  string             `json:"LastHeartbeatTime"`
	LastDelivery   string             `json:"LastInvokedTime"`
	OpenDeliveries int64              `json:"ActiveTaskCount"`
	Deliveries     int64              `json:"InvocationCount"`
	Sessions       bool               `json:"SupportSessionManager"`
}

// Activation is a code with which machines enrol, without the code.
type Activation struct {
	ID            waybill.ActivationID `json:"ActivationId"`
	InstanceName  string               `json:"InstanceName"` // prefix of the names of its instances
	Description   string               `json:"Description"`
	InstanceCount int                  `json:"InstanceCount"`
	Registered    int                  `json:"RegisteredCount"`
	Deregistered  int                  `json:"DeregisteredCount"`
	Hours         int64                `json:"TimeToLiveInHours"`
	AddressRange  string               `json:"IpAddressRange"`
	Disabled      bool                 `json:"Disabled"`
	Created       string               `json:"CreationTime"`
	ResourceGroup string               `json:"ResourceGroupId"`
	Tags          []Tag                `json:"Tags"`
}

// NewActivation is what CreateActivation answers. The code is never shown again.
type NewActivation struct {
	ID   waybill.ActivationID `json:"ActivationId"`
	Code string               `json:"ActivationCode"`
}

// Region is a region that the server answers for.
type Region struct {
	ID       string `json:"RegionId"`
	Endpoint string `json:"RegionEndpoint"`
	Name     string `json:"LocalName"`
	Status   string `json:"Status"`
}
