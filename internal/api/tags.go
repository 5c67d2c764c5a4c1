// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// tagService is what the operations on tags need.
type tagService interface {
	PutTags(ctx context.Context, act *waybill.Act, kind waybill.ResourceKind, ids []string, tags []waybill.Tag) error
	RemoveTags(ctx context.Context, act *waybill.Act, kind waybill.ResourceKind, ids, keys []string) error
	Tags(
		ctx context.Context, who waybill.Principal, f waybill.TagFilter, p control.Page,
	) (control.Listing[waybill.ResourceTag], error)
}

// resourceKinds says what a ResourceType is here.
var resourceKinds = map[string]waybill.ResourceKind{
	"instance":        waybill.InstanceResource,
	"managedinstance": waybill.InstanceResource,
	"activation":      waybill.ActivationResource,
	"invocation":      waybill.DeliveryResource,
}

// arnType returns the type that a ResourceType has in ARNs: managed instances are instances there.
func arnType(resourceType string) string {
	if resourceType == "managedinstance" {
		return "instance"
	}
	return resourceType
}

// Published maxima (TagResources).
const (
	maxTaggedResources = 50
	maxTagKeys         = 20
)

// taggable is what the operations on tags have in common. Which of its parameters are required they say with codes of
// their own.
type taggable struct {
	RegionId     string   `limits:"required" doc:"region of the resources"`
	ResourceType string   `limits:"required" enum:"instance|managedinstance|activation|invocation" fault:"InvalidResourceType.NotFound" doc:"what they are; a delivery is an invocation"`
	ResourceId   []string `limits:"at most 50" fault:"NumberExceed.ResourceIds" doc:"which ones"`
}

func (t *taggable) check(c *call, ids bool) (waybill.ResourceKind, error) {
	switch {
	case t.RegionId == "":
		return "", refuse("MissingParameter.RegionId")
	case t.ResourceType == "":
		return "", refuse("MissingParameter.ResourceType")
	case ids && len(t.ResourceId) == 0:
		return "", refuse("MissingParameter.ResourceIds")
	case len(t.ResourceId) > maxTaggedResources:
		return "", refuse("NumberExceed.ResourceIds")
	}
	if err := c.checkRegion(t.RegionId); err != nil {
		return "", err
	}
	return resourceKinds[t.ResourceType], nil
}

type tagResourcesInput struct {
	taggable
	Tag []waybill.Tag `limits:"1 to 20; key and value at most 128 characters" fault:"NumberExceed.Tags" doc:"tags to set"`
}

func (c *call) tagResources(ctx context.Context, in *tagResourcesInput) (*nothingOutput, error) {
	kind, err := in.check(c, true)
	if err != nil {
		return nil, err
	}
	if len(in.Tag) == 0 {
		return nil, refuse("MissingParameter.Tags")
	}
	return done(c.PutTags(ctx, c.act, kind, in.ResourceId, in.Tag))
}

type untagResourcesInput struct {
	taggable
	TagKey []string `limits:"at most 20" fault:"NumberExceed.Tags" doc:"keys of the tags to remove"`
	All    *bool    `limits:"default false" doc:"remove all tags; only without TagKey"`
}

func (c *call) untagResources(ctx context.Context, in *untagResourcesInput) (*nothingOutput, error) {
	kind, err := in.check(c, true)
	if err != nil {
		return nil, err
	}
	all := in.All != nil && *in.All
	switch {
	case len(in.TagKey) > maxTagKeys:
		return nil, refuse("NumberExceed.Tags")
	case len(in.TagKey) == 0 && !all:
		return nil, refuse("MissingParameter.Tags")
	}
	return done(c.RemoveTags(ctx, c.act, kind, in.ResourceId, in.TagKey))
}

type listTagResourcesInput struct {
	RegionId string `limits:"required" doc:"region of the resources"`
	tagQuery
	NextToken string `doc:"token that the previous page returned"`
}

// tagQuery selects tags; a page token carries it.
type tagQuery struct {
	ResourceType string        `json:",omitempty" limits:"required" enum:"instance|managedinstance|activation|invocation" fault:"InvalidResourceType.NotFound" doc:"what they are; a delivery is an invocation"`
	ResourceId   []string      `json:",omitempty" limits:"at most 50" fault:"NumberExceed.ResourceIds" doc:"which ones; all if none is given"`
	Tag          []waybill.Tag `json:",omitempty" limits:"at most 20" fault:"NumberExceed.Tags" doc:"those that have all these"`
}

type listTagResourcesOutput struct {
	envelope
	NextToken    string `doc:"where the next page starts; empty on the last"`
	TagResources struct {
		TagResource list[tagResource]
	}
}

type tagResource struct {
	ResourceType string
	ResourceId   string
	TagKey       string
	TagValue     string
}

func (c *call) listTagResources(ctx context.Context, in *listTagResourcesInput) (*listTagResourcesOutput, error) {
	if in.RegionId == "" {
		return nil, refuse("MissingParameter.RegionId")
	}
	size := int64(c.maxPage)
	page, err := openPage(c, in.RegionId, &in.tagQuery, paging{MaxResults: &size, NextToken: in.NextToken}, c.maxPage)
	if err != nil {
		return nil, err
	}
	t := taggable{in.RegionId, in.ResourceType, in.ResourceId}
	kind, err := t.check(c, false)
	if err != nil {
		return nil, err
	}
	if err := waybill.CheckResourceTags(in.Tag); err != nil {
		return nil, err
	}
	found, err := c.Tags(ctx, c.who, waybill.TagFilter{
		Region: in.RegionId, Kind: kind, IDs: in.ResourceId, Tags: in.Tag,
	}, page.Page)
	if err != nil {
		return nil, err
	}
	out := &listTagResourcesOutput{NextToken: page.of(0, found.Next).NextToken}
	out.TagResources.TagResource = collect(found.Items, func(v waybill.ResourceTag) tagResource {
		return tagResource{in.ResourceType, v.ID, v.Key, v.Value}
	})
	return out, nil
}
