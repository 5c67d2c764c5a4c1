// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

func newUsersCmd(e env) *cobra.Command {
	f := &clientFlags{}
	cmd := newGroupCmd("users", "list, make and delete the users of the account", f,
		newUsersListCmd(e, f),
		newUsersCreateCmd(e, f),
		newUsersShowCmd(e, f),
		newUsersUpdateCmd(e, f),
		newUsersDeleteCmd(e, f),
	)
	cmd.Long = `Users are people and programs with keys of their own. A new one may do nothing: give it keys with
waybill access-keys create --user NAME, and attach policies to it with waybill policies attach POLICY --user NAME, or
put it into a group that has some with waybill user-groups add GROUP NAME.`
	return cmd
}

func newUsersListCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "list users", Args: usageArgs(cobra.NoArgs)}
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		found := client.Users{Items: []client.User{}}
		for u, err := range c.Users(ctx) {
			if err != nil {
				return err
			}
			found.Items = append(found.Items, u)
		}
		return f.write(e, struct{ Users client.Users }{found}, func() io.WriterTo { return userTable(found.Items) })
	})
	return cmd
}

func userTable(found []client.User) *term.Table {
	table := term.NewTable("USER", "DISPLAY NAME", "CREATED", "COMMENTS")
	for _, u := range found {
		table.Add(u.Name, u.DisplayName, u.Created, u.Comments)
	}
	return table
}

// oneUser is the shape of one user in answers.
type oneUser struct{ User client.User }

func newUsersCreateCmd(e env, f *clientFlags) *cobra.Command {
	var r client.CreateUserRequest
	cmd := &cobra.Command{
		Use: "create NAME", Short: "make a user, who has no keys and may do nothing yet", Args: usageArgs(cobra.ExactArgs(1)),
	}
	flags := cmd.Flags()
	flags.StringVar(&r.DisplayName, "display-name", "", "what people call it, `TEXT` (default: NAME)")
	flags.StringVar(&r.Comments, "comments", "", "`TEXT` kept with the user")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		r.Name = args[0]
		u, err := c.CreateUser(ctx, r)
		if err != nil {
			return err
		}
		return f.write(e, oneUser{u}, textf(
			"made user %s; it has no keys and may do nothing yet:\n\n"+
				"  waybill access-keys create --user %[1]s\n  waybill policies attach POLICY --user %[1]s", u.Name))
	})
	return cmd
}

// heldPolicy is a policy that holds for a user.
type heldPolicy struct {
	client.AttachedPolicy
	Group string `json:"GroupName"` // through which it holds; empty: it is attached to the user
}

// userDetails is all that is known of a user.
type userDetails struct {
	User       client.User
	AccessKeys client.AccessKeys
	Groups     client.UserGroups
	Policies   struct{ Policy []heldPolicy }
}

func newUsersShowCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NAME", Short: "show a user with its keys, its groups, and every policy that holds for it",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		d, err := describeUser(ctx, c, args[0])
		if err != nil {
			return err
		}
		return f.write(e, d, func() io.WriterTo { return userText(d) })
	})
	return cmd
}

func describeUser(ctx context.Context, c *client.Client, name string) (*userDetails, error) {
	d := &userDetails{
		AccessKeys: client.AccessKeys{Items: []client.AccessKey{}}, Groups: client.UserGroups{Items: []client.UserGroup{}},
	}
	d.Policies.Policy = []heldPolicy{}
	var err error
	if d.User, err = c.GetUser(ctx, name); err != nil {
		return nil, err
	}
	keys, err := c.ListUserAccessKeys(ctx, name)
	if err != nil {
		return nil, err
	}
	d.AccessKeys.Items = append(d.AccessKeys.Items, keys...)
	groups, err := c.ListGroupsForUser(ctx, name)
	if err != nil {
		return nil, err
	}
	d.Groups.Items = append(d.Groups.Items, groups...)
	add := func(group string, attached []client.AttachedPolicy) {
		for _, p := range attached {
			d.Policies.Policy = append(d.Policies.Policy, heldPolicy{p, group})
		}
	}
	attached, err := c.ListPoliciesForUser(ctx, name)
	if err != nil {
		return nil, err
	}
	add("", attached)
	for _, g := range groups {
		if attached, err = c.ListPoliciesForGroup(ctx, g.Name); err != nil {
			return nil, err
		}
		add(g.Name, attached)
	}
	return d, nil
}

func userText(d *userDetails) io.WriterTo {
	groups := term.NewTable("GROUP", "COMMENTS")
	for _, g := range d.Groups.Items {
		groups.Add(g.Name, g.Comments)
	}
	policies := term.NewTable("POLICY", "TYPE", "THROUGH", "ATTACHED")
	for _, p := range d.Policies.Policy {
		through := "the user"
		if p.Group != "" {
			through = "group " + p.Group
		}
		policies.Add(p.Name, string(p.Type), through, p.Attached)
	}
	all := stacked{userTable([]client.User{d.User})}
	if len(d.AccessKeys.Items) > 0 {
		all = append(all, text(""), keyTable(d.AccessKeys.Items))
	}
	if len(d.Groups.Items) > 0 {
		all = append(all, text(""), groups)
	}
	if len(d.Policies.Policy) > 0 {
		all = append(all, text(""), policies)
	}
	return all
}

func newUsersUpdateCmd(e env, f *clientFlags) *cobra.Command {
	var displayName, comments string
	cmd := &cobra.Command{
		Use: "update NAME (--display-name TEXT | --comments TEXT)", Short: "change what people read of a user",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	flags := cmd.Flags()
	flags.StringVar(&displayName, "display-name", "", "what people call it, `TEXT`")
	flags.StringVar(&comments, "comments", "", "`TEXT` kept with the user")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		r := client.UpdateUserRequest{Name: args[0]}
		if flags.Changed("display-name") {
			r.DisplayName = &displayName
		}
		if flags.Changed("comments") {
			r.Comments = &comments
		}
		if cmp.Or(r.DisplayName, r.Comments) == nil {
			return usagef("say what to change: --display-name or --comments")
		}
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		u, err := c.UpdateUser(ctx, r)
		if err != nil {
			return err
		}
		return f.write(e, oneUser{u}, func() io.WriterTo { return userTable([]client.User{u}) })
	})
	return cmd
}

func newUsersDeleteCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "delete a user that has no keys, groups and policies any more",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		if err := c.DeleteUser(ctx, args[0]); err != nil {
			return err
		}
		return f.write(e, oneUser{client.User{Name: args[0]}}, textf("deleted user %s", args[0]))
	})
	return cmd
}

func newUserGroupsCmd(e env) *cobra.Command {
	f := &clientFlags{}
	cmd := newGroupCmd("user-groups", "list, make and delete groups of users, and say who is in them", f,
		newUserGroupsListCmd(e, f),
		newUserGroupsCreateCmd(e, f),
		newUserGroupsShowCmd(e, f),
		newUserGroupsMembersCmd(e, f, "add", "put users into a group", "added to", (*client.Client).AddUserToGroup),
		newUserGroupsMembersCmd(e, f, "remove", "take users out of a group", "removed from",
			(*client.Client).RemoveUserFromGroup),
		newUserGroupsDeleteCmd(e, f),
	)
	cmd.Long = `A policy that is attached to a group holds for all users in it. Groups of machines are another thing:
waybill groups.`
	return cmd
}

func newUserGroupsListCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "list groups of users", Args: usageArgs(cobra.NoArgs)}
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		found := client.UserGroups{Items: []client.UserGroup{}}
		for g, err := range c.Groups(ctx) {
			if err != nil {
				return err
			}
			found.Items = append(found.Items, g)
		}
		return f.write(e, struct{ Groups client.UserGroups }{found}, func() io.WriterTo {
			return userGroupTable(found.Items)
		})
	})
	return cmd
}

func userGroupTable(found []client.UserGroup) *term.Table {
	table := term.NewTable("GROUP", "CREATED", "COMMENTS")
	for _, g := range found {
		table.Add(g.Name, g.Created, g.Comments)
	}
	return table
}

// oneUserGroup is the shape of one group of users in answers.
type oneUserGroup struct{ Group client.UserGroup }

func newUserGroupsCreateCmd(e env, f *clientFlags) *cobra.Command {
	var comments string
	cmd := &cobra.Command{Use: "create NAME", Short: "make a group of users", Args: usageArgs(cobra.ExactArgs(1))}
	cmd.Flags().StringVar(&comments, "comments", "", "`TEXT` kept with the group")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		g, err := c.CreateGroup(ctx, args[0], comments)
		if err != nil {
			return err
		}
		return f.write(e, oneUserGroup{g}, textf("made group %s; fill it with: waybill user-groups add %[1]s USER", g.Name))
	})
	return cmd
}

func newUserGroupsShowCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show GROUP", Short: "show a group with its users and its policies", Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		var d struct {
			Group    client.UserGroup
			Users    client.Users
			Policies struct{ Policy []client.AttachedPolicy }
		}
		if d.Group, err = c.GetGroup(ctx, args[0]); err != nil {
			return err
		}
		d.Users.Items = []client.User{}
		for u, err := range c.UsersOf(ctx, args[0]) {
			if err != nil {
				return err
			}
			d.Users.Items = append(d.Users.Items, u)
		}
		attached, err := c.ListPoliciesForGroup(ctx, args[0])
		if err != nil {
			return err
		}
		d.Policies.Policy = append([]client.AttachedPolicy{}, attached...)
		return f.write(e, d, func() io.WriterTo {
			all := stacked{userGroupTable([]client.UserGroup{d.Group})}
			if len(d.Users.Items) > 0 {
				all = append(all, text(""), userTable(d.Users.Items))
			}
			if len(attached) > 0 {
				table := term.NewTable("POLICY", "TYPE", "ATTACHED")
				for _, p := range attached {
					table.Add(p.Name, string(p.Type), p.Attached)
				}
				all = append(all, text(""), table)
			}
			return all
		})
	})
	return cmd
}

// membership is what changed of who is in a group.
type membership struct {
	Group string   `json:"GroupName"`
	Users []string `json:"UserNames"`
}

// newUserGroupsMembersCmd makes the commands that change who is in a group, which differ in the operation only. They
// stop at the first user that is refused.
func newUserGroupsMembersCmd(
	e env, f *clientFlags, verb, short, done string,
	change func(c *client.Client, ctx context.Context, user, group string) error,
) *cobra.Command {
	cmd := &cobra.Command{Use: verb + " GROUP USER...", Short: short, Args: usageArgs(cobra.MinimumNArgs(2))}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		group, users := args[0], args[1:]
		lines := stacked{}
		for _, u := range users {
			if err := change(c, ctx, u, group); err != nil {
				return fmt.Errorf("%s is not %s group %s, nor who follows: %w", u, done, group, err)
			}
			lines = append(lines, text(u+" "+done+" group "+group))
		}
		return f.write(e, membership{group, users}, func() io.WriterTo { return lines })
	})
	return cmd
}

func newUserGroupsDeleteCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "delete a group that has no users and no policies any more",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		if err := c.DeleteGroup(ctx, args[0]); err != nil {
			return err
		}
		return f.write(e, oneUserGroup{client.UserGroup{Name: args[0]}}, textf("deleted group %s", args[0]))
	})
	return cmd
}
