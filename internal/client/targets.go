// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/url"

	"github.com/openwaybill/waybill"
)

// setTargets sets the parameters that say whom a file is meant for.
func (p params) setTargets(instances, list []waybill.InstanceID, s waybill.Selector) {
	p.setInstances(instances)
	if len(list) > 0 {
		b, err := json.Marshal(list)
		if err != nil {
			panic(fmt.Sprintf("client: encode instances: %v", err)) // they are strings
		}
		p.set("InstanceIds", string(b))
	}
	p.setTagList("ResourceTag", s.Tags)
	p.set("InstanceName", s.Name)
	p.set("ActivationId", string(s.Activation))
	p.set("TargetResourceGroupId", s.ResourceGroup)
	p.setTrue("AllInstances", s.All)
}

// Outlook is what would become at once of a file on an instance.
type Outlook string

// The outlooks.
const (
	Reachable Outlook = "Reachable" // the machine is told at once
	Held      Outlook = "Held"      // it gets the file if it comes back before the deadline
	Ended     Outlook = "Ended"     // it cannot get it
)

// Preview counts whom a delivery would hit.
type Preview struct {
	Total  int64
	Groups []PreviewGroup // the largest first
}

// Count returns how many instances have an outlook.
func (p *Preview) Count(o Outlook) (n int64) {
	for _, g := range p.Groups {
		if g.Outlook == o {
			n += g.Count
		}
	}
	return n
}

// PreviewGroup counts instances that would fare alike.
type PreviewGroup struct {
	Outlook   Outlook       `json:"Outlook"`
	ErrorCode string        `json:"ErrorCode"`
	ErrorInfo string        `json:"ErrorInfo"`
	Cause     waybill.Cause `json:"Cause"`
	Count     int64         `json:"Count"`
}

// PreviewTarget is one instance that a delivery would hit.
type PreviewTarget struct {
	Instance  waybill.InstanceID `json:"InstanceId"`
	Name      string             `json:"InstanceName"`
	Outlook   Outlook            `json:"Outlook"`
	ErrorCode string             `json:"ErrorCode"`
	ErrorInfo string             `json:"ErrorInfo"`
	Cause     waybill.Cause      `json:"Cause"`
	Detail    string             `json:"Detail"`
}

// PreviewSendFile returns whom a delivery would hit, and a page of them by ID. Of r it looks at the instances, the resource
// group and how long the content is. A page has at most 500, and a token is good for the same request only.
func (c *Client) PreviewSendFile(ctx context.Context, r SendFileRequest, page Paging) (Preview, Page[PreviewTarget], error) {
	p := params{}
	p.setTargets(r.Instances, r.List, r.Selector)
	p.set("ResourceGroupId", r.ResourceGroup)
	p.setInt("ContentSize", max(r.Size, int64(len(r.Content))))
	p.setPaging(page)
	var out struct {
		TotalCount       int64
		NextToken        string
		PreviewGroups    struct{ PreviewGroup []PreviewGroup }
		PreviewInstances struct{ PreviewInstance []PreviewTarget }
	}
	err := c.Call(ctx, "PreviewSendFile", url.Values(p), &out)
	items := out.PreviewInstances.PreviewInstance
	return Preview{out.TotalCount, out.PreviewGroups.PreviewGroup}, Page[PreviewTarget]{items, out.TotalCount, out.NextToken}, err
}

// MaxTargetsPage is the most that a page of targets holds.
const MaxTargetsPage = 500

// Targets goes through all pages of DescribeSendFileTargets. An error ends it.
func (c *Client) Targets(ctx context.Context, f TargetFilter) iter.Seq2[NamedTarget, error] {
	return pagesOf(MaxTargetsPage, func(page Paging) (Page[NamedTarget], error) {
		found, _, err := c.DescribeSendFileTargets(ctx, f, page)
		return found, err
	})
}

// Complete fills in all targets of a delivery of which only the first ones were told.
func (c *Client) Complete(ctx context.Context, d *Delivery) error {
	if !d.Omitted {
		return nil
	}
	all := make([]Target, 0, d.TargetCount)
	for t, err := range c.Targets(ctx, TargetFilter{Delivery: d.ID}) {
		if err != nil {
			return err
		}
		all = append(all, Target{
			Instance: t.Instance, Status: t.Status, Created: t.Created, Started: t.Started, Finished: t.Finished, Updated: t.Updated,
			ErrorCode: t.ErrorCode, ErrorInfo: t.ErrorInfo, Detail: t.Detail, Name: t.Name,
		})
	}
	d.Targets.Items, d.Omitted = all, false
	return nil
}
