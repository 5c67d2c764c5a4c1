// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"iter"
	"net/url"

	"github.com/openwaybill/waybill"
)

// ResourceType is what kind of thing has tags, or is in a resource group.
type ResourceType string

// The resource types.
const (
	InstanceType   ResourceType = "instance"
	ActivationType ResourceType = "activation"
	DeliveryType   ResourceType = "invocation" // cannot be moved into a resource group
)

// TagResource is a tag and what it is on.
type TagResource struct {
	Type  ResourceType `json:"ResourceType"`
	ID    string       `json:"ResourceId"`
	Key   string       `json:"TagKey"`
	Value string       `json:"TagValue"`
}

// TagResources is how the API nests tags and what they are on.
type TagResources struct {
	Items []TagResource `json:"TagResource"`
}

// TagResources sets tags on at most 50 things of one type: on all of them or, if one is unknown, on none.
func (c *Client) TagResources(ctx context.Context, kind ResourceType, ids []string, tags []waybill.Tag) error {
	p := params{}
	p.setResources(kind, ids)
	p.setTags(tags)
	return c.Call(ctx, "TagResources", url.Values(p), nil)
}

// UntagResources removes the tags with these keys, or without keys all tags, from at most 50 things of one type.
func (c *Client) UntagResources(ctx context.Context, kind ResourceType, ids, keys []string) error {
	p := params{}
	p.setResources(kind, ids)
	setList(p, "TagKey", keys)
	if len(keys) == 0 {
		p.set("All", "true")
	}
	return c.Call(ctx, "UntagResources", url.Values(p), nil)
}

// TagFilter selects tags: of these things, at most 50, and of things that have all these tags. Only the type is needed.
type TagFilter struct {
	Type ResourceType
	IDs  []string
	Tags []waybill.Tag
}

// ListTagResources returns a page of tags. It has a size of its own and no total.
func (c *Client) ListTagResources(ctx context.Context, f TagFilter, page Paging) (Page[TagResource], error) {
	p := params{}
	p.setResources(f.Type, f.IDs)
	p.setTags(f.Tags)
	p.set("NextToken", page.NextToken)
	var out struct {
		NextToken    string
		TagResources TagResources
	}
	err := c.Call(ctx, "ListTagResources", url.Values(p), &out)
	return Page[TagResource]{Items: out.TagResources.Items, NextToken: out.NextToken}, err
}

// ResourceTags goes through all pages of ListTagResources. An error ends it.
func (c *Client) ResourceTags(ctx context.Context, f TagFilter) iter.Seq2[TagResource, error] {
	return pages(func(page Paging) (Page[TagResource], error) { return c.ListTagResources(ctx, f, page) })
}

func (p params) setResources(kind ResourceType, ids []string) {
	p.set("ResourceType", string(kind))
	setList(p, "ResourceId", ids)
}
