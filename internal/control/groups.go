// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
)

// groupName is the rule of Resource Manager (CreateResourceGroup, parameter Name), older and newer taken together.
var groupName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]+$`)

const maxGroupName = 50 // characters, also of a display name; likewise

// CreateResourceGroup makes a resource group of the caller's account; an empty display name becomes the name.
func (s *Service) CreateResourceGroup(ctx context.Context, act *waybill.Act, name, displayName string) (waybill.ResourceGroup, error) {
	if displayName == "" {
		displayName = name
	}
	g := waybill.ResourceGroup{ID: identity.NewResourceGroupID(), Name: name, DisplayName: displayName, Created: s.now()}
	if err := cmp.Or(checkText("Name", name, maxGroupName), checkText("DisplayName", displayName, maxGroupName)); err != nil {
		return g, err
	}
	if !groupName.MatchString(name) {
		return g, &waybill.Error{Code: waybill.ResourceGroupName, Field: "Name", Message: "a resource group's name has 2 to 50 characters: a letter first, then letters, digits and . _ -"}
	}
	act.Subject = g.ID
	err := s.store.For(act, nil).AddResourceGroup(ctx, act.Account, g, s.cfg.ResourceGroups)
	switch {
	case errors.Is(err, store.ErrExists):
		return g, waybill.Errorf(waybill.ResourceGroupExists, "there is a resource group %s already", name)
	case errors.Is(err, store.ErrLimit):
		return g, waybill.Errorf(waybill.ResourceGroupQuota, "the account has %d resource groups already", s.cfg.ResourceGroups)
	}
	return g, err
}

func resourceGroupError(err error, id string) error {
	if errors.Is(err, store.ErrNotFound) {
		return &waybill.Error{Code: waybill.ResourceGroupNotFound, Field: "ResourceGroupId", Message: fmt.Sprintf("no resource group %s", id)}
	}
	return err
}

// ResourceGroup returns a resource group of the caller's account.
func (s *Service) ResourceGroup(ctx context.Context, who waybill.Principal, id string) (waybill.ResourceGroup, error) {
	g, err := s.store.ResourceGroup(ctx, who.Account, id)
	return g, resourceGroupError(err, id)
}

// ResourceGroups returns a page of the caller's resource groups by name: those of ids, if there are any, and with that
// name, unless it is empty.
func (s *Service) ResourceGroups(ctx context.Context, who waybill.Principal, ids []string, name string, p Page) (Listing[waybill.ResourceGroup], error) {
	return s.store.ResourceGroups(ctx, who.Account, ids, name, p)
}

// RenameResourceGroup gives a resource group another display name.
func (s *Service) RenameResourceGroup(ctx context.Context, act *waybill.Act, id, displayName string) (waybill.ResourceGroup, error) {
	if err := checkText("DisplayName", displayName, maxGroupName); err != nil {
		return waybill.ResourceGroup{}, err
	}
	act.Subject = id
	if err := s.store.For(act, nil).RenameResourceGroup(ctx, act.Account, id, displayName); err != nil {
		return waybill.ResourceGroup{}, resourceGroupError(err, id)
	}
	return s.ResourceGroup(ctx, act.Principal, id)
}

// DeleteResourceGroup removes a resource group that no instance and no activation belongs to, and returns what it was.
func (s *Service) DeleteResourceGroup(ctx context.Context, act *waybill.Act, id string) (waybill.ResourceGroup, error) {
	g, err := s.ResourceGroup(ctx, act.Principal, id)
	if err != nil {
		return g, err
	}
	act.Subject = id
	err = s.store.For(act, nil).DeleteResourceGroup(ctx, act.Account, id)
	if errors.Is(err, store.ErrLimit) {
		return g, waybill.Errorf(waybill.ResourceGroupInUse, "instances or activations belong to resource group %s; move them first", g.Name)
	}
	return g, resourceGroupError(err, id)
}

// JoinResourceGroup moves a resource of the caller into a resource group.
func (s *Service) JoinResourceGroup(ctx context.Context, act *waybill.Act, kind waybill.ResourceKind, id, group string) error {
	if _, err := s.ResourceGroup(ctx, act.Principal, group); err != nil {
		return err
	}
	act.Subject = group
	err := s.store.For(act, nil).JoinResourceGroup(ctx, act.Account, act.Region, kind, id, group)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return waybill.Errorf(waybill.ResourceNotFound, "no %s %s", kind, id)
	case errors.Is(err, store.ErrLimit):
		return resourceGroupError(store.ErrNotFound, group)
	}
	return err
}

// mustBeGroup refuses a resource group that is not there; the empty one is no group.
func (s *Service) mustBeGroup(ctx context.Context, account waybill.AccountID, id string) error {
	if id == "" {
		return nil
	}
	_, err := s.store.ResourceGroup(ctx, account, id)
	return resourceGroupError(err, id)
}

// PutTags adds tags to resources of the caller, and replaces the values of keys that are there.
func (s *Service) PutTags(ctx context.Context, act *waybill.Act, kind waybill.ResourceKind, ids []string, tags []waybill.Tag) error {
	if err := waybill.CheckResourceTags(tags); err != nil {
		return err
	}
	err := s.store.For(act, nil).PutTags(ctx, act.Account, act.Region, kind, unique(ids), tags, waybill.MaxTags)
	if errors.Is(err, store.ErrLimit) {
		return waybill.Errorf(waybill.ResourceTagQuota, "a resource has at most %d tags", waybill.MaxTags)
	}
	return resourceError(err)
}

// RemoveTags removes the tags with the given keys, or all if there are none, from resources of the caller.
func (s *Service) RemoveTags(ctx context.Context, act *waybill.Act, kind waybill.ResourceKind, ids, keys []string) error {
	return resourceError(s.store.For(act, nil).RemoveTags(ctx, act.Account, act.Region, kind, unique(ids), keys))
}

func resourceError(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return waybill.Errorf(waybill.ResourceNotFound, "not all of the resources exist")
	}
	return err
}

// Tags returns a page of tags of the caller's resources.
func (s *Service) Tags(ctx context.Context, who waybill.Principal, f waybill.TagFilter, p Page) (Listing[waybill.ResourceTag], error) {
	return s.store.Tags(ctx, who.Account, f, p)
}
