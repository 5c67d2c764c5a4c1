// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"iter"
	"net/url"

	"github.com/openwaybill/waybill"
)

// maxGroupPage is the most resource groups that one page holds.
const maxGroupPage = 100

// ResourceGroup is a part of an account's instances, activations and deliveries.
type ResourceGroup struct {
	ID          string            `json:"Id"`
	Name        string            `json:"Name"`
	DisplayName string            `json:"DisplayName"`
	Account     waybill.AccountID `json:"AccountId"`
	Status      string            `json:"Status"`
	Created     string            `json:"CreateDate"`
}

// ResourceGroups is how the API nests resource groups.
type ResourceGroups struct {
	Items []ResourceGroup `json:"ResourceGroup"`
}

// CreateResourceGroup makes a resource group. Without a display name it is called by its name.
func (c *Client) CreateResourceGroup(ctx context.Context, name, displayName string) (ResourceGroup, error) {
	p := params{}
	p.set("Name", name)
	p.set("DisplayName", displayName)
	return c.resourceGroup(ctx, "CreateResourceGroup", p)
}

// GetResourceGroup returns one resource group.
func (c *Client) GetResourceGroup(ctx context.Context, id string) (ResourceGroup, error) {
	p := params{}
	p.set("ResourceGroupId", id)
	return c.resourceGroup(ctx, "GetResourceGroup", p)
}

// UpdateResourceGroup changes the display name of a resource group.
func (c *Client) UpdateResourceGroup(ctx context.Context, id, displayName string) (ResourceGroup, error) {
	p := params{}
	p.set("ResourceGroupId", id)
	p.set("NewDisplayName", displayName)
	return c.resourceGroup(ctx, "UpdateResourceGroup", p)
}

// DeleteResourceGroup deletes a resource group that no instance and no activation belongs to, and returns what it was.
func (c *Client) DeleteResourceGroup(ctx context.Context, id string) (ResourceGroup, error) {
	p := params{}
	p.set("ResourceGroupId", id)
	return c.resourceGroup(ctx, "DeleteResourceGroup", p)
}

func (c *Client) resourceGroup(ctx context.Context, action string, p params) (ResourceGroup, error) {
	var out struct{ ResourceGroup ResourceGroup }
	err := c.call(ctx, versionRM, action, url.Values(p), &out)
	return out.ResourceGroup, err
}

// ResourceGroupFilter selects resource groups; empty fields select all.
type ResourceGroupFilter struct {
	IDs  []string // at most 100
	Name string
}

// ListResourceGroups returns a page of resource groups by name. Pages are numbered from 1, and have no token.
func (c *Client) ListResourceGroups(
	ctx context.Context, f ResourceGroupFilter, number int,
) (Page[ResourceGroup], error) {
	p := params{}
	setList(p, "ResourceGroupIds", f.IDs)
	p.set("Name", f.Name)
	p.setInt("PageNumber", int64(number))
	p.setInt("PageSize", maxGroupPage)
	var out struct {
		TotalCount     int64
		ResourceGroups ResourceGroups
	}
	err := c.call(ctx, versionRM, "ListResourceGroups", url.Values(p), &out)
	return Page[ResourceGroup]{Items: out.ResourceGroups.Items, Total: out.TotalCount}, err
}

// ResourceGroups goes through all pages of ListResourceGroups. An error ends it.
func (c *Client) ResourceGroups(ctx context.Context, f ResourceGroupFilter) iter.Seq2[ResourceGroup, error] {
	return func(yield func(ResourceGroup, error) bool) {
		for number := 1; ; number++ {
			page, err := c.ListResourceGroups(ctx, f, number)
			if err != nil {
				yield(ResourceGroup{}, err)
				return
			}
			for _, g := range page.Items {
				if !yield(g, nil) {
					return
				}
			}
			if len(page.Items) == 0 || int64(number)*maxGroupPage >= page.Total {
				return
			}
		}
	}
}

// JoinResourceGroup moves an instance or an activation into a resource group.
func (c *Client) JoinResourceGroup(ctx context.Context, group string, kind ResourceType, id string) error {
	p := params{}
	p.set("ResourceGroupId", group)
	p.set("ResourceType", string(kind))
	p.set("ResourceId", id)
	return c.Call(ctx, "JoinResourceGroup", url.Values(p), nil)
}
