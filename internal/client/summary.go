// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/url"
	"time"

	"github.com/openwaybill/waybill"
)

// DeliveryHead is a delivery without its instances.
type DeliveryHead struct {
	ID            waybill.DeliveryID  `json:"InvokeId"`
	Name          string              `json:"Name"`
	Description   string              `json:"Description"`
	TargetDir     string              `json:"TargetDir"`
	ContentType   waybill.ContentType `json:"ContentType"`
	Size          int64               `json:"ContentSize"`   // bytes, decoded
	SHA256        string              `json:"ContentSha256"` // hexadecimal
	Preview       []byte              `json:"ContentPreview"`
	Owner         string              `json:"FileOwner"`
	Group         string              `json:"FileGroup"`
	Mode          string              `json:"FileMode"`
	Overwrite     string              `json:"Overwrite"` // true or false
	DryRun        bool                `json:"DryRun"`
	Diff          bool                `json:"Diff"`
	Timeout       int64               `json:"Timeout"` // seconds
	ResourceGroup string              `json:"ResourceGroupId"`
	Targets       int                 `json:"VmCount"`
	Pending       int                 `json:"PendingCount"`
	Running       int                 `json:"RunningCount"`
	Success       int                 `json:"SuccessCount"`
	Failed        int                 `json:"FailedCount"`
	Created       string              `json:"CreationTime"`
	Deadline      string              `json:"Deadline"`
	Status        waybill.Overall     `json:"InvocationStatus"`
	Tags          struct {
		Items []Tag `json:"Tag"`
	} `json:"Tags"`
}

// DescribeSendFileInvocations returns a page of deliveries, newest first. The search finds part of the name, the directory, the
// description or the ID; empty finds all.
func (c *Client) DescribeSendFileInvocations(ctx context.Context, f DeliveryFilter, search string, page Paging) (Page[DeliveryHead], error) {
	p := params{}
	p.set("InvokeId", string(f.ID))
	p.set("InstanceId", string(f.Instance))
	p.set("Name", f.Name)
	p.set("InvocationStatus", string(f.Status))
	p.set("ResourceGroupId", f.ResourceGroup)
	p.set("Search", search)
	p.setTags(f.Tags)
	p.setPaging(page)
	var out struct {
		TotalCount  int64
		NextToken   string
		Invocations struct{ Invocation []DeliveryHead }
	}
	err := c.Call(ctx, "DescribeSendFileInvocations", url.Values(p), &out)
	return Page[DeliveryHead]{out.Invocations.Invocation, out.TotalCount, out.NextToken}, err
}

// NamedTarget is what became of a delivery on one instance.
type NamedTarget struct {
	Instance  waybill.InstanceID `json:"InstanceId"`
	Name      string             `json:"InstanceName"`
	Status    waybill.Status     `json:"InvocationStatus"`
	Created   string             `json:"CreationTime"`
	Started   string             `json:"StartTime"`
	Finished  string             `json:"FinishTime"`
	Updated   string             `json:"UpdateTime"`
	ErrorCode string             `json:"ErrorCode"`
	ErrorInfo string             `json:"ErrorInfo"`
	Cause     waybill.Cause      `json:"Cause"`
	Detail    string             `json:"Detail"`
	Change    waybill.Change     `json:"Change"`
	Attempt   int                `json:"Attempt"`
}

// TargetGroup counts instances on which a delivery ended, or stands, alike.
type TargetGroup struct {
	Status    waybill.Status `json:"InvocationStatus"`
	ErrorCode string         `json:"ErrorCode"`
	ErrorInfo string         `json:"ErrorInfo"`
	Cause     waybill.Cause  `json:"Cause"`
	Count     int64          `json:"Count"`
}

// TargetFilter selects instances of one delivery; empty fields select all.
type TargetFilter struct {
	Delivery  waybill.DeliveryID // required
	Status    waybill.Status
	ErrorCode string
	Cause     waybill.Cause
	Name      string // part of the instance's name, or its whole ID
	Number    int    // of the page, from 1, unless the paging has a token; zero: the first
}

// DescribeSendFileTargets returns a page of what became of a delivery on its instances, in the order they were given, and all of
// them counted by how they ended. A page has at most 500.
func (c *Client) DescribeSendFileTargets(ctx context.Context, f TargetFilter, page Paging) (Page[NamedTarget], []TargetGroup, error) {
	p := params{}
	p.set("InvokeId", string(f.Delivery))
	p.set("InvocationStatus", string(f.Status))
	p.set("ErrorCode", f.ErrorCode)
	p.set("Cause", string(f.Cause))
	p.set("InstanceName", f.Name)
	p.setInt("PageNumber", int64(f.Number))
	p.setPaging(page)
	var out struct {
		TotalCount       int64
		NextToken        string
		InvocationGroups struct{ InvocationGroup []TargetGroup }
		InvokeInstances  struct{ InvokeInstance []NamedTarget }
	}
	err := c.Call(ctx, "DescribeSendFileTargets", url.Values(p), &out)
	return Page[NamedTarget]{out.InvokeInstances.InvokeInstance, out.TotalCount, out.NextToken}, out.InvocationGroups.InvocationGroup, err
}

// DeliveryProgress is where a delivery stands.
type DeliveryProgress struct {
	Mark    string          `json:"Mark"` // empty: there is no such delivery
	Status  waybill.Overall `json:"InvocationStatus"`
	Targets int             `json:"VmCount"`
	Pending int             `json:"PendingCount"`
	Running int             `json:"RunningCount"`
	Success int             `json:"SuccessCount"`
	Failed  int             `json:"FailedCount"`
}

// WaitSendFileInvocation returns where a delivery stands once that is not as mark says any more, or when the wait is over, 20
// seconds at most, or sooner, with the same mark. Without a mark it does not wait.
func (c *Client) WaitSendFileInvocation(ctx context.Context, id waybill.DeliveryID, mark string, wait time.Duration) (d DeliveryProgress, err error) {
	p := params{}
	p.set("InvokeId", string(id))
	p.set("Mark", mark)
	p.setInt("WaitSeconds", int64(wait/time.Second))
	err = c.Call(ctx, "WaitSendFileInvocation", url.Values(p), &d)
	return d, err
}

// DeliverySummary counts what was sent in some time.
type DeliverySummary struct {
	Counts   map[waybill.Overall]int64
	Failures []TargetGroup // the largest first
}

// DescribeSendFileSummary counts what was sent from a time on.
func (c *Client) DescribeSendFileSummary(ctx context.Context, since time.Time) (DeliverySummary, error) {
	p := params{}
	p.setTime("StartTime", since)
	var out struct {
		Invocations struct {
			InvocationCount []struct {
				InvocationStatus waybill.Overall
				Count            int64
			}
		}
		InvocationGroups struct{ InvocationGroup []TargetGroup }
	}
	err := c.Call(ctx, "DescribeSendFileSummary", url.Values(p), &out)
	s := DeliverySummary{Counts: map[waybill.Overall]int64{}, Failures: out.InvocationGroups.InvocationGroup}
	for _, n := range out.Invocations.InvocationCount {
		s.Counts[n.InvocationStatus] = n.Count
	}
	return s, err
}

// MachineGroup counts instances that are alike.
type MachineGroup struct {
	Agent     waybill.AgentKind `json:"AgentKind"`
	Version   string            `json:"AgentVersion"`
	Connected bool              `json:"Connected"`
	Count     int64             `json:"Count"`
}

// DescribeManagedInstanceSummary counts the instances of the region.
func (c *Client) DescribeManagedInstanceSummary(ctx context.Context) ([]MachineGroup, error) {
	var out struct {
		InstanceGroups struct{ InstanceGroup []MachineGroup }
	}
	err := c.Call(ctx, "DescribeManagedInstanceSummary", nil, &out)
	return out.InstanceGroups.InstanceGroup, err
}

// ServerState is what a server tells of itself.
type ServerState struct {
	Version  string
	Settings struct {
		Setting []struct{ Name, Value string }
	}
	Checks struct {
		Check []struct {
			Name   string
			Passed bool
			Detail string
		}
	}
	Servers []string
}

// DescribeServer returns the settings in force and how the server fares.
func (c *Client) DescribeServer(ctx context.Context) (s ServerState, err error) {
	err = c.call(ctx, versionECS, "DescribeServer", nil, &s)
	return s, err
}

// Do calls an operation with parameters as they stand, none added, and returns the answer as it came, be it a refusal or not.
func (c *Client) Do(ctx context.Context, version, action string, params url.Values) (status int, body []byte, err error) {
	answer, body, err := c.exchange(ctx, version, action, params)
	if err != nil {
		return 0, nil, err
	}
	return answer.StatusCode, body, nil
}
