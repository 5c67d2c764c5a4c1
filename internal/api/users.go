// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// userService is what the operations on users and groups of users need.
type userService interface {
	CreateUser(ctx context.Context, act *waybill.Act, u waybill.User) (waybill.User, error)
	User(ctx context.Context, who waybill.Principal, name string) (waybill.User, error)
	Users(
		ctx context.Context, who waybill.Principal, group string, p control.Page,
	) (control.Listing[waybill.User], error)
	UpdateUser(
		ctx context.Context, act *waybill.Act, name string, displayName, comments *string,
	) (waybill.User, error)
	DeleteUser(ctx context.Context, act *waybill.Act, name string) error

	CreateUserGroup(ctx context.Context, act *waybill.Act, g waybill.UserGroup) (waybill.UserGroup, error)
	UserGroup(ctx context.Context, who waybill.Principal, name string) (waybill.UserGroup, error)
	UserGroups(
		ctx context.Context, who waybill.Principal, user string, p control.Page,
	) (control.Listing[waybill.UserGroup], error)
	DeleteUserGroup(ctx context.Context, act *waybill.Act, name string) error
	AddUserToGroup(ctx context.Context, act *waybill.Act, user, group string) error
	RemoveUserFromGroup(ctx context.Context, act *waybill.Act, user, group string) error
}

type oneUser struct {
	UserName string `required:"true" limits:"1 to 64 letters, digits and . _ -" doc:"the user"`
}

type oneUserGroup struct {
	GroupName string `required:"true" limits:"1 to 64 letters, digits and . _ -" doc:"the group of users"`
}

// user is what operations answer of a user.
type user struct {
	UserId      string
	UserName    string
	DisplayName string
	Comments    string
	CreateDate  string
	UpdateDate  string
}

func userOf(u waybill.User) user {
	return user{u.ID, u.Name, u.DisplayName, u.Comments, stamp(u.Created), stamp(u.Updated)}
}

type userOutput struct {
	envelope
	User user
}

func answerUser(u waybill.User, err error) (*userOutput, error) {
	if err != nil {
		return nil, err
	}
	return &userOutput{User: userOf(u)}, nil
}

type createUserInput struct {
	oneUser
	DisplayName string `limits:"at most 128 characters" doc:"for people; the name if it is not given"`
	Comments    string `limits:"at most 128 characters" doc:"for people"`
}

func (c *call) createUser(ctx context.Context, in *createUserInput) (*userOutput, error) {
	u := waybill.User{Name: in.UserName, DisplayName: in.DisplayName, Comments: in.Comments}
	return answerUser(c.CreateUser(ctx, c.act, u))
}

type getUserInput struct{ oneUser }

func (c *call) getUser(ctx context.Context, in *getUserInput) (*userOutput, error) {
	return answerUser(c.User(ctx, c.who, in.UserName))
}

type updateUserInput struct {
	oneUser
	NewDisplayName *string `limits:"at most 128 characters" doc:"for people"`
	NewComments    *string `limits:"at most 128 characters" doc:"for people"`
}

func (c *call) updateUser(ctx context.Context, in *updateUserInput) (*userOutput, error) {
	return answerUser(c.UpdateUser(ctx, c.act, in.UserName, in.NewDisplayName, in.NewComments))
}

type deleteUserInput struct{ oneUser }

func (c *call) deleteUser(ctx context.Context, in *deleteUserInput) (*nothingOutput, error) {
	return done(c.DeleteUser(ctx, c.act, in.UserName))
}

type listUsersInput struct{ marked }

type listUsersOutput struct {
	envelope
	truncated
	Users struct {
		User list[user]
	}
}

func (c *call) listUsers(ctx context.Context, in *listUsersInput) (*listUsersOutput, error) {
	return c.usersOf(ctx, in.marked, "")
}

func (c *call) usersOf(ctx context.Context, m marked, group string) (*listUsersOutput, error) {
	page, err := c.openMarker(m, group)
	if err != nil {
		return nil, err
	}
	found, err := c.Users(ctx, c.who, group, page.Page)
	if err != nil {
		return nil, err
	}
	out := &listUsersOutput{truncated: page.truncated(found.Next)}
	out.Users.User = collect(found.Items, userOf)
	return out, nil
}

// userGroup is what operations answer of a group of users.
type userGroup struct {
	GroupId    string
	GroupName  string
	Comments   string
	CreateDate string
	UpdateDate string
}

func userGroupOf(g waybill.UserGroup) userGroup {
	return userGroup{g.ID, g.Name, g.Comments, stamp(g.Created), stamp(g.Updated)}
}

type userGroupOutput struct {
	envelope
	Group userGroup
}

func answerUserGroup(g waybill.UserGroup, err error) (*userGroupOutput, error) {
	if err != nil {
		return nil, err
	}
	return &userGroupOutput{Group: userGroupOf(g)}, nil
}

type createGroupInput struct {
	oneUserGroup
	Comments string `limits:"at most 128 characters" doc:"for people"`
}

func (c *call) createGroup(ctx context.Context, in *createGroupInput) (*userGroupOutput, error) {
	g := waybill.UserGroup{Name: in.GroupName, Comments: in.Comments}
	return answerUserGroup(c.CreateUserGroup(ctx, c.act, g))
}

type getGroupInput struct{ oneUserGroup }

func (c *call) getGroup(ctx context.Context, in *getGroupInput) (*userGroupOutput, error) {
	return answerUserGroup(c.UserGroup(ctx, c.who, in.GroupName))
}

type deleteGroupInput struct{ oneUserGroup }

func (c *call) deleteGroup(ctx context.Context, in *deleteGroupInput) (*nothingOutput, error) {
	return done(c.DeleteUserGroup(ctx, c.act, in.GroupName))
}

type listGroupsInput struct{ marked }

type listGroupsOutput struct {
	envelope
	truncated
	Groups struct {
		Group list[userGroup]
	}
}

func (c *call) listGroups(ctx context.Context, in *listGroupsInput) (*listGroupsOutput, error) {
	page, err := c.openMarker(in.marked, "")
	if err != nil {
		return nil, err
	}
	found, err := c.UserGroups(ctx, c.who, "", page.Page)
	if err != nil {
		return nil, err
	}
	out := &listGroupsOutput{truncated: page.truncated(found.Next)}
	out.Groups.Group = collect(found.Items, userGroupOf)
	return out, nil
}

type memberInput struct {
	oneUser
	oneUserGroup
}

func (c *call) addUserToGroup(ctx context.Context, in *memberInput) (*nothingOutput, error) {
	return done(c.AddUserToGroup(ctx, c.act, in.UserName, in.GroupName))
}

func (c *call) removeUserFromGroup(ctx context.Context, in *memberInput) (*nothingOutput, error) {
	return done(c.RemoveUserFromGroup(ctx, c.act, in.UserName, in.GroupName))
}

type listUsersForGroupInput struct {
	oneUserGroup
	marked
}

func (c *call) listUsersForGroup(ctx context.Context, in *listUsersForGroupInput) (*listUsersOutput, error) {
	return c.usersOf(ctx, in.marked, in.GroupName)
}

type listGroupsForUserInput struct{ oneUser }

type listGroupsForUserOutput struct {
	envelope
	Groups struct {
		Group list[userGroup]
	}
}

// maxGroupsOfUser is more than a user can be in: the operation is not paged.
const maxGroupsOfUser = 1000

func (c *call) listGroupsForUser(ctx context.Context, in *listGroupsForUserInput) (*listGroupsForUserOutput, error) {
	found, err := c.UserGroups(ctx, c.who, in.UserName, control.Page{Size: maxGroupsOfUser})
	if err != nil {
		return nil, err
	}
	out := new(listGroupsForUserOutput)
	out.Groups.Group = collect(found.Items, userGroupOf)
	return out, nil
}
