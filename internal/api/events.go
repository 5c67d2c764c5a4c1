// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"github.com/openwaybill/waybill"
)

// cloudEvent is an event as webhooks are sent it: CloudEvents 1.0 in JSON.
type cloudEvent struct {
	SpecVersion     string            `json:"specversion"`
	ID              string            `json:"id"`
	Source          string            `json:"source"`
	Type            waybill.EventType `json:"type"`
	Subject         string            `json:"subject"`
	Time            string            `json:"time"`
	DataContentType string            `json:"datacontenttype"`
	Data            any               `json:"data"`
}

// deliveryData is what an event tells of a delivery, in the words of DescribeSendFileInvocations. There is no content in it.
type deliveryData struct {
	InvokeId         waybill.DeliveryID
	RegionId         string
	Name             string
	Description      string
	TargetDir        string
	ContentType      waybill.ContentType
	ContentSize      int64
	ContentSha256    string
	FileOwner        string
	FileGroup        string
	FileMode         string
	Overwrite        string
	DryRun           bool
	Timeout          int64
	ResourceGroupId  string
	VmCount          int32
	PendingCount     int32
	RunningCount     int32
	SuccessCount     int32
	FailedCount      int32
	CreationTime     string
	Deadline         string
	InvocationStatus waybill.Overall
	Tags             struct {
		Tag list[tag]
	}
}

// targetData is what an event tells of a target, in the words of DescribeSendFileResults.
type targetData struct {
	InvokeId waybill.DeliveryID
	RegionId string
	DryRun   bool
	invokeInstance
}

// EncodeNotice writes what webhooks are sent of n.
func EncodeNotice(n *waybill.Notice) []byte {
	e := cloudEvent{
		SpecVersion: "1.0", ID: n.ID, Source: "acs:waybill:" + n.Region + ":" + string(n.Account), Type: n.Type,
		Subject: n.Subject(), Time: n.Time.UTC().Format(time.RFC3339Nano), DataContentType: "application/json",
	}
	if n.Target != nil {
		e.Data = targetData{n.Target.Delivery, n.Region, n.DryRun, invokeInstanceOf(*n.Target)}
	} else {
		e.Data = deliveryDataOf(n.Delivery)
	}
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and numbers
	}
	return b
}

func deliveryDataOf(d *waybill.Delivery) deliveryData {
	v := deliveryData{
		InvokeId: d.ID, RegionId: d.Region, Name: d.File.Name, Description: d.Description, TargetDir: d.File.TargetDir,
		ContentType: d.ContentType, ContentSize: d.Size, ContentSha256: hex.EncodeToString(d.SHA256[:]),
		FileOwner: d.File.Owner, FileGroup: d.File.Group, FileMode: d.File.Mode, Overwrite: strconv.FormatBool(d.File.Overwrite),
		DryRun: d.DryRun, Timeout: int64(d.Timeout / time.Second), ResourceGroupId: d.ResourceGroup, VmCount: int32(d.TargetCount),
		PendingCount: int32(d.Counts.Pending), RunningCount: int32(d.Counts.Running),
		SuccessCount: int32(d.Counts.Success), FailedCount: int32(d.Counts.Failed),
		CreationTime: stamp(d.Created), Deadline: stamp(d.Deadline), InvocationStatus: d.Status(),
	}
	v.Tags.Tag = collect(d.Tags, tagOf)
	return v
}
