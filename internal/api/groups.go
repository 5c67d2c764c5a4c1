// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// groupService is what the operations on resource groups need.
type groupService interface {
	CreateResourceGroup(ctx context.Context, act *waybill.Act, name, displayName string) (waybill.ResourceGroup, error)
	ResourceGroup(ctx context.Context, who waybill.Principal, id string) (waybill.ResourceGroup, error)
	ResourceGroups(
		ctx context.Context, who waybill.Principal, ids []string, name string, p control.Page,
	) (control.Listing[waybill.ResourceGroup], error)
	RenameResourceGroup(ctx context.Context, act *waybill.Act, id, displayName string) (waybill.ResourceGroup, error)
	DeleteResourceGroup(ctx context.Context, act *waybill.Act, id string) (waybill.ResourceGroup, error)
	JoinResourceGroup(ctx context.Context, act *waybill.Act, kind waybill.ResourceKind, id, group string) error
}

type oneResourceGroup struct {
	ResourceGroupId string `required:"true" doc:"the resource group"`
}

// resourceGroup is what operations answer of a resource group.
type resourceGroup struct {
	Id          string
	Name        string
	DisplayName string
	AccountId   waybill.AccountID
	Status      string `doc:"always OK: groups are there, and gone, at once"`
	CreateDate  string
}

func (c *call) resourceGroupOf(g waybill.ResourceGroup) resourceGroup {
	return resourceGroup{g.ID, g.Name, g.DisplayName, c.who.Account, "OK", stamp(g.Created)}
}

type resourceGroupOutput struct {
	envelope
	ResourceGroup resourceGroup
}

func (c *call) answerGroup(g waybill.ResourceGroup, err error) (*resourceGroupOutput, error) {
	if err != nil {
		return nil, err
	}
	return &resourceGroupOutput{ResourceGroup: c.resourceGroupOf(g)}, nil
}

type createResourceGroupInput struct {
	Name        string `required:"true" limits:"2 to 50 characters, a letter first" doc:"its name"`
	DisplayName string `limits:"1 to 50 characters" doc:"for people; the name if it is not given"`
}

func (c *call) createResourceGroup(ctx context.Context, in *createResourceGroupInput) (*resourceGroupOutput, error) {
	return c.answerGroup(c.CreateResourceGroup(ctx, c.act, in.Name, in.DisplayName))
}

type getResourceGroupInput struct{ oneResourceGroup }

func (c *call) getResourceGroup(ctx context.Context, in *getResourceGroupInput) (*resourceGroupOutput, error) {
	return c.answerGroup(c.ResourceGroup(ctx, c.who, in.ResourceGroupId))
}

type listResourceGroupsInput struct {
	ResourceGroupIds []string `limits:"at most 100" doc:"these only"`
	ResourceGroupId  string   `doc:"this only; no effect with ResourceGroupIds"`
	Name             string   `doc:"exact name"`
	PageNumber       *int64   `limits:"from 1, default 1" fault:"InvalidParam.PageNumber" doc:"which page"`
	PageSize         *int64   `limits:"1 to 100, default 10" fault:"InvalidParam.PageSize" doc:"rows of a page"`
}

type listResourceGroupsOutput struct {
	envelope
	TotalCount     int32 `doc:"rows of all pages"`
	PageNumber     int32
	PageSize       int32
	ResourceGroups struct {
		ResourceGroup list[resourceGroup]
	}
}

// maxGroupPage is the published maximum of ListResourceGroups.
const maxGroupPage = 100

func (c *call) listResourceGroups(
	ctx context.Context, in *listResourceGroupsInput,
) (*listResourceGroupsOutput, error) {
	pg := page{Page: control.Page{Size: defaultPageSize}, number: 1}
	if err := pg.byNumber(paging{PageNumber: in.PageNumber, PageSize: in.PageSize}, maxGroupPage); err != nil {
		return nil, err
	}
	ids := in.ResourceGroupIds
	if len(ids) > maxGroupPage {
		return nil, refuse("InvalidParameter", "ResourceGroupIds")
	}
	if len(ids) == 0 && in.ResourceGroupId != "" {
		ids = []string{in.ResourceGroupId}
	}
	found, err := c.ResourceGroups(ctx, c.who, ids, in.Name, pg.Page)
	if err != nil {
		return nil, err
	}
	out := &listResourceGroupsOutput{
		TotalCount: int32(found.Total), PageNumber: int32(pg.number), PageSize: int32(pg.Size),
	}
	out.ResourceGroups.ResourceGroup = collect(found.Items, c.resourceGroupOf)
	return out, nil
}

type updateResourceGroupInput struct {
	oneResourceGroup
	NewDisplayName string `required:"true" limits:"1 to 50 characters" doc:"for people"`
}

func (c *call) updateResourceGroup(ctx context.Context, in *updateResourceGroupInput) (*resourceGroupOutput, error) {
	return c.answerGroup(c.RenameResourceGroup(ctx, c.act, in.ResourceGroupId, in.NewDisplayName))
}

type deleteResourceGroupInput struct{ oneResourceGroup }

func (c *call) deleteResourceGroup(ctx context.Context, in *deleteResourceGroupInput) (*resourceGroupOutput, error) {
	return c.answerGroup(c.DeleteResourceGroup(ctx, c.act, in.ResourceGroupId))
}

type joinResourceGroupInput struct {
	regional
	oneResourceGroup
	ResourceType string `required:"true" enum:"instance|managedinstance|activation" fault:"InvalidResourceType.NotFound" doc:"what is moved"`
	ResourceId   string `required:"true" doc:"which one"`
}

func (c *call) joinResourceGroup(ctx context.Context, in *joinResourceGroupInput) (*nothingOutput, error) {
	return done(c.JoinResourceGroup(ctx, c.act, resourceKinds[in.ResourceType], in.ResourceId, in.ResourceGroupId))
}
