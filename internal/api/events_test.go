// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
)

func TestEncodeNotice(t *testing.T) {
	at := time.Date(2026, 12, 1, 4, 37, 1, 563e6, time.UTC)
	d := &waybill.Delivery{
		ID: "f-1", Account: "1", Region: "cn-hangzhou", File: waybill.FileSpec{Name: "n", TargetDir: "/d", Owner: "root", Group: "root", Mode: "0644"},
		Timeout: time.Minute, Created: at, Deadline: at.Add(time.Minute), TargetCount: 2, Counts: waybill.Counts{Success: 1, Failed: 1},
		Tags: []waybill.Tag{{Key: "k", Value: "v"}},
	}
	target := &waybill.Target{
		Delivery: "f-1", Instance: "mi-1", Attempt: 2, Status: waybill.Failed, Cause: waybill.CauseExists, Detail: "detail", Created: at, Finished: at, Updated: at,
	}
	const stamp = "2026-12-01T04:37:01Z"
	for _, c := range []struct {
		n       waybill.Notice
		subject string
		data    map[string]any
	}{
		{waybill.Notice{Delivery: d}, "f-1", map[string]any{
			"InvokeId": "f-1", "RegionId": "cn-hangzhou", "Name": "n", "Description": "", "TargetDir": "/d", "ContentType": "", "ContentSize": 0.,
			"ContentSha256": "0000000000000000000000000000000000000000000000000000000000000000", "FileOwner": "root", "FileGroup": "root",
			"FileMode": "0644", "Overwrite": "false", "DryRun": false, "Timeout": 60., "ResourceGroupId": "", "VmCount": 2., "PendingCount": 0., "RunningCount": 0.,
			"SuccessCount": 1., "FailedCount": 1., "CreationTime": stamp, "Deadline": "2026-12-01T04:38:01Z", "InvocationStatus": "PartialFailed",
			"Tags": map[string]any{"Tag": []any{map[string]any{"TagKey": "k", "TagValue": "v"}}},
		}},
		{waybill.Notice{Target: target, DryRun: true}, "f-1/mi-1", map[string]any{
			"InvokeId": "f-1", "RegionId": "cn-hangzhou", "DryRun": true, "InstanceId": "mi-1", "InvocationStatus": "Failed", "CreationTime": stamp, "StartTime": "",
			"FinishTime": stamp, "UpdateTime": stamp, "ErrorCode": "FileAlreadyExists", "ErrorInfo": "File already exists", "Detail": "detail", "Change": "", "Attempt": 2.,
		}},
	} {
		c.n.ID, c.n.Type, c.n.Time, c.n.Account, c.n.Region = "e-1", waybill.TargetChanged, at, "1", "cn-hangzhou"
		want := map[string]any{
			"specversion": "1.0", "id": "e-1", "source": "acs:waybill:cn-hangzhou:1", "type": "io.waybill.target.changed", "subject": c.subject,
			"time": "2026-12-01T04:37:01.563Z", "datacontenttype": "application/json", "data": c.data,
		}
		var got map[string]any
		if err := json.Unmarshal(EncodeNotice(&c.n), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	if none := deliveryDataOf(&waybill.Delivery{}).Tags.Tag; none == nil {
		t.Error("no tags are null rather than an empty list")
	}
}
