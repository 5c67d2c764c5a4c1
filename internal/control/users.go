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

// The rules of RAM (CreateUser, CreateGroup): a pattern for names, and lengths in characters.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

const (
	maxName        = 64
	maxDisplayName = 128
	maxComments    = 128
)

// checkName checks the name of a user or of a group of users.
func checkName(field, name string, code waybill.Code) error {
	if err := checkText(field, name, maxName); err != nil {
		return err
	}
	if !namePattern.MatchString(name) {
		return &waybill.Error{Code: code, Field: field, Message: fmt.Sprintf("%s %q: use letters, digits and . _ -", field, name)}
	}
	return nil
}

// CreateUser makes a user of the caller's account. It has no keys and may do nothing yet.
func (s *Service) CreateUser(ctx context.Context, act *waybill.Act, u waybill.User) (waybill.User, error) {
	if err := checkName("UserName", u.Name, waybill.UserNameInvalid); err != nil {
		return u, err
	}
	if u.DisplayName == "" {
		u.DisplayName = u.Name
	}
	if err := checkUser("", u.DisplayName, u.Comments); err != nil {
		return u, err
	}
	u.ID, u.Created = identity.NewUserID(), s.now()
	u.Updated = u.Created
	act.Subject = u.Name
	err := s.store.For(act, nil).AddUser(ctx, act.Account, u, s.cfg.Users)
	if errors.Is(err, store.ErrLimit) {
		return u, waybill.Errorf(waybill.UserQuota, "the account has %d users already", s.cfg.Users)
	}
	return u, userError(err, u.Name)
}

// checkUser checks what people read of a user; prefix begins the names of the fields.
func checkUser(prefix, displayName, comments string) error {
	return cmp.Or(checkText(prefix+"DisplayName", displayName, maxDisplayName), checkText(prefix+"Comments", comments, maxComments))
}

func userError(err error, name string) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return waybill.Errorf(waybill.UserNotFound, "no user %s", name)
	case errors.Is(err, store.ErrExists):
		return waybill.Errorf(waybill.UserExists, "there is a user %s already", name)
	}
	return err
}

// User returns a user of the caller's account.
func (s *Service) User(ctx context.Context, who waybill.Principal, name string) (waybill.User, error) {
	u, err := s.store.User(ctx, who.Account, name)
	return u, userError(err, name)
}

// Users returns a page of the caller's users by name, or of the users in one group.
func (s *Service) Users(ctx context.Context, who waybill.Principal, group string, p Page) (Listing[waybill.User], error) {
	if group != "" {
		if err := s.mustExist(ctx, who.Account, waybill.Entity{Kind: waybill.GroupEntity, Name: group}); err != nil {
			return Listing[waybill.User]{}, err
		}
	}
	return s.store.Users(ctx, who.Account, group, p)
}

// UpdateUser gives a user another display name and other comments; nil leaves one as it is.
func (s *Service) UpdateUser(ctx context.Context, act *waybill.Act, name string, displayName, comments *string) (waybill.User, error) {
	u, err := s.User(ctx, act.Principal, name)
	if err != nil {
		return u, err
	}
	if displayName != nil {
		u.DisplayName = *displayName
	}
	if comments != nil {
		u.Comments = *comments
	}
	if err := checkUser("New", u.DisplayName, u.Comments); err != nil {
		return u, err
	}
	act.Subject = u.Name
	if err := s.store.For(act, nil).UpdateUser(ctx, act.Account, name, u.DisplayName, u.Comments); err != nil {
		return u, userError(err, name)
	}
	return s.User(ctx, act.Principal, name)
}

// DeleteUser removes a user without keys, groups and policies.
func (s *Service) DeleteUser(ctx context.Context, act *waybill.Act, name string) error {
	act.Subject = name
	ties, err := s.store.For(act, nil).DeleteUser(ctx, act.Account, name)
	if !errors.Is(err, store.ErrLimit) {
		return userError(err, name)
	}
	switch {
	case ties.Keys > 0:
		return waybill.Errorf(waybill.UserHasKeys, "user %s has %d access keys; delete them first", name, ties.Keys)
	case ties.Groups > 0:
		return waybill.Errorf(waybill.UserInGroup, "user %s is in %d groups; remove it from them first", name, ties.Groups)
	}
	return waybill.Errorf(waybill.UserHasPolicy, "%d policies are attached to user %s; detach them first", ties.Policies, name)
}

// CreateUserGroup makes a group of users of the caller's account.
func (s *Service) CreateUserGroup(ctx context.Context, act *waybill.Act, g waybill.UserGroup) (waybill.UserGroup, error) {
	if err := checkName("GroupName", g.Name, waybill.GroupNameInvalid); err != nil {
		return g, err
	}
	if err := checkText("Comments", g.Comments, maxComments); err != nil {
		return g, err
	}
	g.ID, g.Created = identity.NewUserGroupID(), s.now()
	g.Updated = g.Created
	act.Subject = g.Name
	err := s.store.For(act, nil).AddUserGroup(ctx, act.Account, g, s.cfg.UserGroups)
	if errors.Is(err, store.ErrLimit) {
		return g, waybill.Errorf(waybill.GroupQuota, "the account has %d groups already", s.cfg.UserGroups)
	}
	return g, userGroupError(err, g.Name)
}

func userGroupError(err error, name string) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return waybill.Errorf(waybill.GroupNotFound, "no group %s", name)
	case errors.Is(err, store.ErrExists):
		return waybill.Errorf(waybill.GroupExists, "there is a group %s already", name)
	}
	return err
}

// UserGroup returns a group of users.
func (s *Service) UserGroup(ctx context.Context, who waybill.Principal, name string) (waybill.UserGroup, error) {
	g, err := s.store.UserGroup(ctx, who.Account, name)
	return g, userGroupError(err, name)
}

// UserGroups returns a page of the caller's groups by name, or of the groups that a user is in.
func (s *Service) UserGroups(ctx context.Context, who waybill.Principal, user string, p Page) (Listing[waybill.UserGroup], error) {
	if user != "" {
		if _, err := s.User(ctx, who, user); err != nil {
			return Listing[waybill.UserGroup]{}, err
		}
	}
	return s.store.UserGroups(ctx, who.Account, user, p)
}

// DeleteUserGroup removes a group without users and policies.
func (s *Service) DeleteUserGroup(ctx context.Context, act *waybill.Act, name string) error {
	act.Subject = name
	ties, err := s.store.For(act, nil).DeleteUserGroup(ctx, act.Account, name)
	if !errors.Is(err, store.ErrLimit) {
		return userGroupError(err, name)
	}
	if ties.Users > 0 {
		return waybill.Errorf(waybill.GroupHasUsers, "group %s has %d users; remove them first", name, ties.Users)
	}
	return waybill.Errorf(waybill.GroupHasPolicy, "%d policies are attached to group %s; detach them first", ties.Policies, name)
}

// maxGroups is how many groups one user is in at most.
const maxGroups = 50

// AddUserToGroup puts a user into a group.
func (s *Service) AddUserToGroup(ctx context.Context, act *waybill.Act, user, group string) error {
	if err := s.mustExistBoth(ctx, act, user, group); err != nil {
		return err
	}
	err := s.store.For(act, nil).AddMember(ctx, act.Account, group, user, maxGroups)
	switch {
	case errors.Is(err, store.ErrExists):
		return waybill.Errorf(waybill.MemberExists, "user %s is in group %s already", user, group)
	case errors.Is(err, store.ErrLimit):
		return waybill.Errorf(waybill.MemberQuota, "user %s is in %d groups already", user, maxGroups)
	}
	return userError(err, user)
}

// RemoveUserFromGroup takes a user out of a group.
func (s *Service) RemoveUserFromGroup(ctx context.Context, act *waybill.Act, user, group string) error {
	if err := s.mustExistBoth(ctx, act, user, group); err != nil {
		return err
	}
	err := s.store.For(act, nil).RemoveMember(ctx, act.Account, group, user)
	if errors.Is(err, store.ErrNotFound) {
		return waybill.Errorf(waybill.MemberNotFound, "user %s is not in group %s", user, group)
	}
	return err
}

func (s *Service) mustExistBoth(ctx context.Context, act *waybill.Act, user, group string) error {
	act.Subject = user
	if err := s.mustExist(ctx, act.Account, waybill.Entity{Kind: waybill.UserEntity, Name: user}); err != nil {
		return err
	}
	return s.mustExist(ctx, act.Account, waybill.Entity{Kind: waybill.GroupEntity, Name: group})
}
