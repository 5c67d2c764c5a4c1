// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/base64"
	"iter"
	"net/url"
	"strconv"
	"time"

	"github.com/openwaybill/waybill"
)

// maxPage is the most that one page of any listing holds.
const maxPage = 50

// SendFileRequest asks for one file on some instances, given in one of three ways. Empty fields take the server's defaults.
type SendFileRequest struct {
	Instances     []waybill.InstanceID // one by one, at most 50
	List          []waybill.InstanceID // as one list, at most 50,000
	Selector      waybill.Selector     // all that match
	File          waybill.FileSpec
	Content       []byte    // any bytes; always sent as Base64
	Digest        *[32]byte // of a content that was uploaded, in place of Content
	Size          int64     // of that, in bytes; only a preview needs it
	Description   string
	Timeout       time.Duration // rounded up to seconds
	ResourceGroup string
	Tags          []waybill.Tag
	ClientToken   string // a repetition with the same one is answered alike, and delivers nothing again
	DryRun        bool   // machines say what would happen, and change nothing
	Diff          bool   // of a dry run: they also compare text line by line
}

// SendFile returns once the delivery is durably accepted, which says nothing of its outcome.
func (c *Client) SendFile(ctx context.Context, r SendFileRequest) (waybill.DeliveryID, error) {
	p := params{}
	p.setTargets(r.Instances, r.List, r.Selector)
	p.set("Name", r.File.Name)
	p.set("TargetDir", r.File.TargetDir)
	p.set("FileOwner", r.File.Owner)
	p.set("FileGroup", r.File.Group)
	p.set("FileMode", r.File.Mode)
	p.set("Overwrite", strconv.FormatBool(r.File.Overwrite))
	if r.Digest != nil {
		p.set("ContentDigest", waybill.FormatDigest(*r.Digest))
	} else {
		p.set("ContentType", string(waybill.Base64))
		// An empty file is a valid file, so this one is sent even when it is empty.
		url.Values(p).Set("Content", base64.StdEncoding.EncodeToString(r.Content))
	}
	p.set("Description", r.Description)
	p.setInt("Timeout", int64((r.Timeout+time.Second-1)/time.Second))
	p.set("ResourceGroupId", r.ResourceGroup)
	p.setTags(r.Tags)
	p.set("ClientToken", r.ClientToken)
	p.setTrue("DryRun", r.DryRun)
	p.setTrue("Diff", r.Diff)
	var out struct {
		ID waybill.DeliveryID `json:"InvokeId"`
	}
	err := c.Call(ctx, "SendFile", url.Values(p), &out)
	return out.ID, err
}

// DeliveryFilter selects deliveries; empty fields select all.
type DeliveryFilter struct {
	ID            waybill.DeliveryID
	Instance      waybill.InstanceID // also narrows Targets to it
	Name          string             // of the file, exactly
	Status        waybill.Overall
	ResourceGroup string
	Tags          []waybill.Tag
	OmitContent   bool // leave out the contents, which may be large; servers before that do not know it send them
}

// DescribeSendFileResults returns a page of deliveries, newest first. An unknown ID is an empty page.
func (c *Client) DescribeSendFileResults(
	ctx context.Context, f DeliveryFilter, page Paging,
) (Page[Delivery], error) {
	p := params{}
	p.set("InvokeId", string(f.ID))
	p.set("InstanceId", string(f.Instance))
	p.set("Name", f.Name)
	p.set("InvocationStatus", string(f.Status))
	p.set("ResourceGroupId", f.ResourceGroup)
	p.setTags(f.Tags)
	p.setPaging(page)
	if f.OmitContent {
		p.set("OmitContent", "true")
	}
	var out struct {
		TotalCount  int64
		NextToken   string
		Invocations Deliveries
	}
	err := c.Call(ctx, "DescribeSendFileResults", url.Values(p), &out)
	return Page[Delivery]{out.Invocations.Items, out.TotalCount, out.NextToken}, err
}

// Deliveries goes through all pages of DescribeSendFileResults. An error ends it.
func (c *Client) Deliveries(ctx context.Context, f DeliveryFilter) iter.Seq2[Delivery, error] {
	return pages(func(page Paging) (Page[Delivery], error) { return c.DescribeSendFileResults(ctx, f, page) })
}

// InstanceFilter selects instances; empty fields select all.
type InstanceFilter struct {
	IDs           []waybill.InstanceID // at most 50
	Name          string
	IP            string
	Activation    waybill.ActivationID
	MachineID     string
	OSType        string
	Connected     *bool
	ResourceGroup string
	Tags          []waybill.Tag
}

// DescribeManagedInstances returns a page of instances, newest first.
func (c *Client) DescribeManagedInstances(
	ctx context.Context, f InstanceFilter, page Paging,
) (Page[Instance], error) {
	p := params{}
	p.setInstances(f.IDs)
	p.set("InstanceName", f.Name)
	p.set("InstanceIp", f.IP)
	p.set("ActivationId", string(f.Activation))
	p.set("MachineId", f.MachineID)
	p.set("OsType", f.OSType)
	if f.Connected != nil {
		p.set("Connected", strconv.FormatBool(*f.Connected))
	}
	p.set("ResourceGroupId", f.ResourceGroup)
	p.setTags(f.Tags)
	p.setPaging(page)
	var out struct {
		TotalCount int64
		NextToken  string
		Instances  []Instance
	}
	err := c.Call(ctx, "DescribeManagedInstances", url.Values(p), &out)
	return Page[Instance]{out.Instances, out.TotalCount, out.NextToken}, err
}

// Instances goes through all pages of DescribeManagedInstances. An error ends it.
func (c *Client) Instances(ctx context.Context, f InstanceFilter) iter.Seq2[Instance, error] {
	return pages(func(page Paging) (Page[Instance], error) { return c.DescribeManagedInstances(ctx, f, page) })
}

// ModifyManagedInstance renames an instance.
func (c *Client) ModifyManagedInstance(ctx context.Context, id waybill.InstanceID, name string) error {
	p := params{}
	p.set("InstanceId", string(id))
	p.set("InstanceName", name)
	return c.Call(ctx, "ModifyManagedInstance", url.Values(p), nil)
}

// DeregisterManagedInstance takes an instance out of the fleet for good and returns what it was.
func (c *Client) DeregisterManagedInstance(ctx context.Context, id waybill.InstanceID) (Instance, error) {
	return c.DeregisterManagedInstanceOnce(ctx, id, "")
}

// DeregisterManagedInstanceOnce is DeregisterManagedInstance with a client token: a repetition with the same one is
// answered alike, not with an instance that is not there.
func (c *Client) DeregisterManagedInstanceOnce(
	ctx context.Context, id waybill.InstanceID, clientToken string,
) (Instance, error) {
	p := params{}
	p.set("InstanceId", string(id))
	p.set("ClientToken", clientToken)
	var out struct{ Instance Instance }
	err := c.Call(ctx, "DeregisterManagedInstance", url.Values(p), &out)
	return out.Instance, err
}

// CreateInstanceToken returns a new token for the official agent of an instance, which cannot be asked for again. A
// repetition with the same client token is answered with the same.
func (c *Client) CreateInstanceToken(ctx context.Context, id waybill.InstanceID, clientToken string) (string, error) {
	p := params{}
	p.set("InstanceId", string(id))
	p.set("ClientToken", clientToken)
	var out struct{ Token string }
	err := c.Call(ctx, "CreateInstanceToken", url.Values(p), &out)
	return out.Token, err
}

// DeleteInstanceToken ends the token of an instance.
func (c *Client) DeleteInstanceToken(ctx context.Context, id waybill.InstanceID) error {
	p := params{}
	p.set("InstanceId", string(id))
	return c.Call(ctx, "DeleteInstanceToken", url.Values(p), nil)
}

// DescribeCloudAssistantStatus returns a page of what is known of agents. Given IDs, at most 100, it returns those and
// needs no paging.
func (c *Client) DescribeCloudAssistantStatus(
	ctx context.Context, ids []waybill.InstanceID, page Paging,
) (Page[AgentStatus], error) {
	p := params{}
	p.setInstances(ids)
	p.setPaging(page)
	var out struct {
		TotalCount int64
		NextToken  string
		Set        struct {
			Items []AgentStatus `json:"InstanceCloudAssistantStatus"`
		} `json:"InstanceCloudAssistantStatusSet"`
	}
	err := c.Call(ctx, "DescribeCloudAssistantStatus", url.Values(p), &out)
	return Page[AgentStatus]{out.Set.Items, out.TotalCount, out.NextToken}, err
}

// AgentStatuses goes through all pages of DescribeCloudAssistantStatus. An error ends it.
func (c *Client) AgentStatuses(ctx context.Context, ids []waybill.InstanceID) iter.Seq2[AgentStatus, error] {
	return pages(func(page Paging) (Page[AgentStatus], error) {
		return c.DescribeCloudAssistantStatus(ctx, ids, page)
	})
}

// CreateActivationRequest asks for an activation. Empty fields take the server's defaults.
type CreateActivationRequest struct {
	InstanceName  string // prefix of the names of its instances
	InstanceCount int
	TTL           time.Duration // rounded up to hours
	Description   string
	AddressRange  string // an IP address or CIDR
	ResourceGroup string
	Tags          []waybill.Tag
	ClientToken   string // a repetition with the same one makes nothing, and is answered with the same code
}

// CreateActivation returns the activation's ID and its code, which cannot be asked for again.
func (c *Client) CreateActivation(ctx context.Context, r CreateActivationRequest) (NewActivation, error) {
	p := params{}
	p.set("InstanceName", r.InstanceName)
	p.setInt("InstanceCount", int64(r.InstanceCount))
	p.setInt("TimeToLiveInHours", int64((r.TTL+time.Hour-1)/time.Hour))
	p.set("Description", r.Description)
	p.set("IpAddressRange", r.AddressRange)
	p.set("ResourceGroupId", r.ResourceGroup)
	p.setTags(r.Tags)
	p.set("ClientToken", r.ClientToken)
	var out NewActivation
	err := c.Call(ctx, "CreateActivation", url.Values(p), &out)
	return out, err
}

// ActivationFilter selects activations; empty fields select all.
type ActivationFilter struct {
	ID            waybill.ActivationID
	InstanceName  string
	ResourceGroup string
	Tags          []waybill.Tag
}

// DescribeActivations returns a page of activations, newest first.
func (c *Client) DescribeActivations(
	ctx context.Context, f ActivationFilter, page Paging,
) (Page[Activation], error) {
	p := params{}
	p.set("ActivationId", string(f.ID))
	p.set("InstanceName", f.InstanceName)
	p.set("ResourceGroupId", f.ResourceGroup)
	p.setTags(f.Tags)
	p.setPaging(page)
	var out struct {
		TotalCount     int64
		NextToken      string
		ActivationList []Activation
	}
	err := c.Call(ctx, "DescribeActivations", url.Values(p), &out)
	return Page[Activation]{out.ActivationList, out.TotalCount, out.NextToken}, err
}

// Activations goes through all pages of DescribeActivations. An error ends it.
func (c *Client) Activations(ctx context.Context, f ActivationFilter) iter.Seq2[Activation, error] {
	return pages(func(page Paging) (Page[Activation], error) { return c.DescribeActivations(ctx, f, page) })
}

// DisableActivation lets no further machine enrol with an activation. Its instances stay.
func (c *Client) DisableActivation(ctx context.Context, id waybill.ActivationID) (Activation, error) {
	return c.endActivation(ctx, "DisableActivation", id)
}

// DeleteActivation removes an activation that no machine has used.
func (c *Client) DeleteActivation(ctx context.Context, id waybill.ActivationID) (Activation, error) {
	return c.endActivation(ctx, "DeleteActivation", id)
}

func (c *Client) endActivation(ctx context.Context, action string, id waybill.ActivationID) (Activation, error) {
	p := params{}
	p.set("ActivationId", string(id))
	var out struct{ Activation Activation }
	err := c.Call(ctx, action, url.Values(p), &out)
	return out.Activation, err
}

// DescribeRegions returns the regions that the server answers for, its default first.
func (c *Client) DescribeRegions(ctx context.Context) ([]Region, error) {
	var out struct {
		Regions struct{ Region []Region }
	}
	err := c.Call(ctx, "DescribeRegions", nil, &out)
	return out.Regions.Region, err
}

// pages goes through a listing. After an error, which comes with a zero T, it ends.
func pages[T any](fetch func(Paging) (Page[T], error)) iter.Seq2[T, error] {
	return pagesOf(maxPage, fetch)
}

// pagesOf is pages for listings with pages of another size.
func pagesOf[T any](size int, fetch func(Paging) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for paging := (Paging{MaxResults: size}); ; {
			page, err := fetch(paging)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if paging.NextToken = page.NextToken; paging.NextToken == "" {
				return
			}
		}
	}
}
