// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

func newGroupsCmd(e env) *cobra.Command {
	f := &clientFlags{}
	cmd := newGroupCmd("groups", "list, make and fill resource groups, the parts of a fleet", f,
		newGroupsListCmd(e, f),
		newGroupsCreateCmd(e, f),
		newGroupsRenameCmd(e, f),
		newGroupsAddCmd(e, f),
		newGroupsDeleteCmd(e, f),
	)
	cmd.Long = `A resource group is a part of an account's machines, activations and deliveries. A machine belongs to one at
most, by default to that of the activation it enrols with. Groups of users are another thing: waybill user-groups.`
	return cmd
}

func newGroupsListCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "list resource groups", Args: usageArgs(cobra.NoArgs)}
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		found := client.ResourceGroups{Items: []client.ResourceGroup{}}
		for g, err := range c.ResourceGroups(ctx, client.ResourceGroupFilter{}) {
			if err != nil {
				return err
			}
			found.Items = append(found.Items, g)
		}
		return f.write(e, struct{ ResourceGroups client.ResourceGroups }{found}, func() io.WriterTo {
			table := term.NewTable("RESOURCE GROUP", "NAME", "DISPLAY NAME", "CREATED")
			for _, g := range found.Items {
				table.Add(g.ID, g.Name, g.DisplayName, g.Created)
			}
			return table
		})
	})
	return cmd
}

// oneResourceGroup is the shape of one resource group in answers.
type oneResourceGroup struct{ ResourceGroup client.ResourceGroup }

func newGroupsCreateCmd(e env, f *clientFlags) *cobra.Command {
	var displayName string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "make a resource group and print its ID", Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&displayName, "display-name", "", "what people call it, `TEXT` (default: NAME)")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		g, err := c.CreateResourceGroup(ctx, args[0], displayName)
		if err != nil {
			return err
		}
		return f.write(e, oneResourceGroup{g}, textf("%s", g.ID))
	})
	return cmd
}

func newGroupsRenameCmd(e env, f *clientFlags) *cobra.Command {
	var displayName string
	cmd := &cobra.Command{
		Use: "rename ID --display-name TEXT", Short: "change what people call a resource group",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&displayName, "display-name", "", "what people call it, `TEXT` (required)")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		if displayName == "" {
			return usagef("--display-name is missing: what people are to call the group")
		}
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		g, err := c.UpdateResourceGroup(ctx, args[0], displayName)
		if err != nil {
			return err
		}
		return f.write(e, oneResourceGroup{g}, textf("%s is now called %s", g.ID, term.Clean(g.DisplayName)))
	})
	return cmd
}

func newGroupsDeleteCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete ID", Short: "delete a resource group without machines and activations",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		g, err := c.DeleteResourceGroup(ctx, args[0])
		if err != nil {
			return err
		}
		return f.write(e, oneResourceGroup{g}, textf("deleted %s", args[0]))
	})
	return cmd
}

// moved is what has been moved into a resource group.
type moved struct {
	Group string              `json:"ResourceGroupId"`
	Type  client.ResourceType `json:"ResourceType"`
	IDs   []string            `json:"ResourceIds"`
}

func newGroupsAddCmd(e env, f *clientFlags) *cobra.Command {
	var r resourceFlags
	cmd := &cobra.Command{
		Use:   "add ID (--instance ID... | --activation ID...)",
		Short: "move machines or activations into a resource group, out of the one they are in",
		Args:  usageArgs(cobra.ExactArgs(1)),
	}
	r.addTo(cmd.Flags(), client.InstanceType, client.ActivationType)
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		kind, ids, err := r.chosen()
		if err != nil {
			return err
		}
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := c.JoinResourceGroup(ctx, args[0], kind, id); err != nil {
				return fmt.Errorf("%s is not moved to %s, nor what follows it: %w", id, args[0], err)
			}
		}
		return f.write(e, moved{args[0], kind, ids}, func() io.WriterTo {
			lines := stacked{}
			for _, id := range ids {
				lines = append(lines, text(id+" is in "+args[0]))
			}
			return lines
		})
	})
	return cmd
}
