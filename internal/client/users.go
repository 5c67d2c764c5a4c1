// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"iter"
	"net/url"
)

// User is a person or program of the account.
type User struct {
	ID          string `json:"UserId"`
	Name        string `json:"UserName"`
	DisplayName string `json:"DisplayName"`
	Comments    string `json:"Comments"`
	Created     string `json:"CreateDate"`
	Updated     string `json:"UpdateDate"`
}

// Users is how the API nests users.
type Users struct {
	Items []User `json:"User"`
}

// UserGroup is a set of users that policies can be attached to (API: Group).
type UserGroup struct {
	ID       string `json:"GroupId"`
	Name     string `json:"GroupName"`
	Comments string `json:"Comments"`
	Created  string `json:"CreateDate"`
	Updated  string `json:"UpdateDate"`
}

// UserGroups is how the API nests groups of users.
type UserGroups struct {
	Items []UserGroup `json:"Group"`
}

// CreateUserRequest asks for a user. Without a display name it is called by its name.
type CreateUserRequest struct {
	Name        string
	DisplayName string
	Comments    string
}

// CreateUser makes a user, which has no keys and may do nothing yet.
func (c *Client) CreateUser(ctx context.Context, r CreateUserRequest) (User, error) {
	p := params{}
	p.set("UserName", r.Name)
	p.set("DisplayName", r.DisplayName)
	p.set("Comments", r.Comments)
	return c.user(ctx, "CreateUser", p)
}

// GetUser returns one user.
func (c *Client) GetUser(ctx context.Context, name string) (User, error) {
	p := params{}
	p.set("UserName", name)
	return c.user(ctx, "GetUser", p)
}

// UpdateUserRequest says what to change of a user. What is nil stays.
type UpdateUserRequest struct {
	Name        string
	DisplayName *string
	Comments    *string
}

// UpdateUser changes what people read of a user.
func (c *Client) UpdateUser(ctx context.Context, r UpdateUserRequest) (User, error) {
	p := params{}
	p.set("UserName", r.Name)
	p.setText("NewDisplayName", r.DisplayName)
	p.setText("NewComments", r.Comments)
	return c.user(ctx, "UpdateUser", p)
}

func (c *Client) user(ctx context.Context, action string, p params) (User, error) {
	var out struct{ User User }
	err := c.call(ctx, versionRAM, action, url.Values(p), &out)
	return out.User, err
}

// DeleteUser deletes a user that has no keys, groups and policies.
func (c *Client) DeleteUser(ctx context.Context, name string) error {
	p := params{}
	p.set("UserName", name)
	return c.call(ctx, versionRAM, "DeleteUser", url.Values(p), nil)
}

// ListUsers returns a page of users by name. It has no total.
func (c *Client) ListUsers(ctx context.Context, page Paging) (Page[User], error) {
	return c.users(ctx, "ListUsers", params{}, page)
}

// Users goes through all pages of ListUsers. An error ends it.
func (c *Client) Users(ctx context.Context) iter.Seq2[User, error] {
	return pages(func(page Paging) (Page[User], error) { return c.ListUsers(ctx, page) })
}

// ListUsersForGroup returns a page of the users of a group by name. It has no total.
func (c *Client) ListUsersForGroup(ctx context.Context, group string, page Paging) (Page[User], error) {
	p := params{}
	p.set("GroupName", group)
	return c.users(ctx, "ListUsersForGroup", p, page)
}

// UsersOf goes through all pages of ListUsersForGroup. An error ends it.
func (c *Client) UsersOf(ctx context.Context, group string) iter.Seq2[User, error] {
	return pages(func(page Paging) (Page[User], error) { return c.ListUsersForGroup(ctx, group, page) })
}

func (c *Client) users(ctx context.Context, action string, p params, page Paging) (Page[User], error) {
	p.setMarker(page)
	var out struct {
		marked
		Users Users
	}
	err := c.call(ctx, versionRAM, action, url.Values(p), &out)
	return Page[User]{Items: out.Users.Items, NextToken: out.next()}, err
}

// CreateGroup makes a group of users.
func (c *Client) CreateGroup(ctx context.Context, name, comments string) (UserGroup, error) {
	p := params{}
	p.set("GroupName", name)
	p.set("Comments", comments)
	return c.userGroup(ctx, "CreateGroup", p)
}

// GetGroup returns one group of users.
func (c *Client) GetGroup(ctx context.Context, name string) (UserGroup, error) {
	p := params{}
	p.set("GroupName", name)
	return c.userGroup(ctx, "GetGroup", p)
}

func (c *Client) userGroup(ctx context.Context, action string, p params) (UserGroup, error) {
	var out struct{ Group UserGroup }
	err := c.call(ctx, versionRAM, action, url.Values(p), &out)
	return out.Group, err
}

// DeleteGroup deletes a group of users that has no users and no policies.
func (c *Client) DeleteGroup(ctx context.Context, name string) error {
	p := params{}
	p.set("GroupName", name)
	return c.call(ctx, versionRAM, "DeleteGroup", url.Values(p), nil)
}

// ListGroups returns a page of groups of users by name. It has no total.
func (c *Client) ListGroups(ctx context.Context, page Paging) (Page[UserGroup], error) {
	p := params{}
	p.setMarker(page)
	var out struct {
		marked
		Groups UserGroups
	}
	err := c.call(ctx, versionRAM, "ListGroups", url.Values(p), &out)
	return Page[UserGroup]{Items: out.Groups.Items, NextToken: out.next()}, err
}

// Groups goes through all pages of ListGroups. An error ends it.
func (c *Client) Groups(ctx context.Context) iter.Seq2[UserGroup, error] {
	return pages(func(page Paging) (Page[UserGroup], error) { return c.ListGroups(ctx, page) })
}

// ListGroupsForUser returns all groups that a user is in.
func (c *Client) ListGroupsForUser(ctx context.Context, user string) ([]UserGroup, error) {
	p := params{}
	p.set("UserName", user)
	var out struct{ Groups UserGroups }
	err := c.call(ctx, versionRAM, "ListGroupsForUser", url.Values(p), &out)
	return out.Groups.Items, err
}

// AddUserToGroup puts a user into a group.
func (c *Client) AddUserToGroup(ctx context.Context, user, group string) error {
	return c.membership(ctx, "AddUserToGroup", user, group)
}

// RemoveUserFromGroup takes a user out of a group.
func (c *Client) RemoveUserFromGroup(ctx context.Context, user, group string) error {
	return c.membership(ctx, "RemoveUserFromGroup", user, group)
}

func (c *Client) membership(ctx context.Context, action, user, group string) error {
	p := params{}
	p.set("UserName", user)
	p.set("GroupName", group)
	return c.call(ctx, versionRAM, action, url.Values(p), nil)
}
