// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

// maxStatusIDs is how many instances one DescribeCloudAssistantStatus may name.
const maxStatusIDs = 100

func newInstancesCmd(e env) *cobra.Command {
	f := &clientFlags{}
	return newGroupCmd("instances", "list, rename and deregister machines", f,
		newInstancesListCmd(e, f),
		newInstancesRenameCmd(e, f),
		newInstancesDeregisterCmd(e, f),
		newInstancesStatusCmd(e, f),
		newInstancesCreateTokenCmd(e, f),
		newInstancesDeleteTokenCmd(e, f),
	)
}

func newInstancesListCmd(e env, f *clientFlags) *cobra.Command {
	var (
		name      string
		group     string
		tags      []string
		connected bool
	)
	cmd := &cobra.Command{Use: "list", Short: "list machines", Args: usageArgs(cobra.NoArgs)}
	flags := cmd.Flags()
	flags.StringVar(&name, "name", "", "only instances with this `NAME`")
	flags.StringVar(&group, "resource-group", "", "only instances of the resource group with this `ID`")
	flags.StringArrayVar(&tags, "tag", nil, "only instances that have all these tags, each `KEY=VALUE` (repeatable)")
	flags.BoolVar(&connected, "connected", false, "only instances that are connected; with =false, those that are not")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		filter := client.InstanceFilter{Name: name, ResourceGroup: group}
		var err error
		if filter.Tags, err = parseTags(tags); err != nil {
			return err
		}
		if flags.Changed("connected") {
			filter.Connected = &connected
		}
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		found := []client.Instance{}
		for i, err := range c.Instances(ctx, filter) {
			if err != nil {
				return err
			}
			found = append(found, i)
		}
		return f.write(e, instanceList{found}, func() io.WriterTo { return instanceTable(found) })
	})
	return cmd
}

// instanceList is the shape of DescribeManagedInstances, without the paging.
type instanceList struct{ Instances []client.Instance }

func instanceTable(found []client.Instance) *term.Table {
	table := term.NewTable("INSTANCE", "NAME", "CONNECTED", "CHANNEL", "OS", "ADDRESS", "AGENT", "REGISTERED", "TAGS")
	for _, i := range found {
		table.Add(string(i.ID), i.Name, yesNo(i.Connected), formatChannel(i), i.OSType, i.IntranetIP,
			strings.TrimSpace(string(i.AgentKind)+" "+i.AgentVersion), i.Registered, formatTags(i.Tags))
	}
	return table
}

// formatChannel says whether an agent can be told anything and, if not, when it can be again.
func formatChannel(i client.Instance) string {
	if i.NextChannel != "" {
		return i.Channel + " until " + i.NextChannel
	}
	return i.Channel
}

func newInstancesRenameCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "rename ID NAME", Short: "give a machine another name", Args: usageArgs(cobra.ExactArgs(2))}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		id, name := waybill.InstanceID(args[0]), args[1]
		if err := waybill.CheckInstanceName(name); err != nil {
			return &exitError{exitUsage, err}
		}
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		if err := c.ModifyManagedInstance(ctx, id, name); err != nil {
			return err
		}
		var renamed struct {
			Instance struct {
				ID   waybill.InstanceID `json:"InstanceId"`
				Name string             `json:"InstanceName"`
			}
		}
		renamed.Instance.ID, renamed.Instance.Name = id, name
		return f.write(e, renamed, textf("%s is now called %s", id, name))
	})
	return cmd
}

func newInstancesDeregisterCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deregister ID...",
		Short: "take machines out of the fleet for good",
		Long: `Deregister takes machines out of the fleet for good. They are disconnected at once, and open deliveries to them
are aborted. To come back a machine has to enrol again.`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
	}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		gone, err := deregister(ctx, e, c, ids[waybill.InstanceID](args))
		if len(gone) == 0 {
			return err
		}
		return errors.Join(err, f.write(e, instanceList{gone}, func() io.WriterTo { return instanceTable(gone) }))
	})
	return cmd
}

// deregister stops at the first that it cannot deregister, and returns those that are gone.
func deregister(
	ctx context.Context, e env, c *client.Client, wanted []waybill.InstanceID,
) ([]client.Instance, error) {
	gone := []client.Instance{}
	for _, id := range wanted {
		token := rand.Text()
		i, err := persist(ctx, e.err, func() (client.Instance, error) {
			return c.DeregisterManagedInstanceOnce(ctx, id, token)
		})
		if err != nil {
			return gone, fmt.Errorf("%s is not deregistered, nor what follows it: %w", id, err)
		}
		gone = append(gone, i)
	}
	return gone, nil
}

func newInstancesStatusCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "status [ID...]", Short: "show what is known of the agents", Args: cobra.ArbitraryArgs}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		wanted := slices.Collect(slices.Chunk(ids[waybill.InstanceID](args), maxStatusIDs))
		if len(wanted) == 0 {
			wanted = [][]waybill.InstanceID{nil} // no ID asks for all
		}
		found := []client.AgentStatus{}
		for _, some := range wanted {
			for s, err := range c.AgentStatuses(ctx, some) {
				if err != nil {
					return err
				}
				found = append(found, s)
			}
		}
		return f.write(e, newAgentList(found), func() io.WriterTo { return agentTable(found) })
	})
	return cmd
}

// agentList is the shape of DescribeCloudAssistantStatus, without the paging.
type agentList struct {
	InstanceCloudAssistantStatusSet struct{ InstanceCloudAssistantStatus []client.AgentStatus }
}

func newAgentList(found []client.AgentStatus) agentList {
	var l agentList
	l.InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus = found
	return l
}

func agentTable(found []client.AgentStatus) *term.Table {
	table := term.NewTable("INSTANCE", "CONNECTED", "OS", "AGENT", "LAST HEARTBEAT", "OPEN", "DONE", "LAST DELIVERY")
	for _, s := range found {
		table.Add(string(s.Instance), yesNo(s.Connected == "true"), s.OSType, s.Version, s.LastHeartbeat,
			strconv.FormatInt(s.OpenDeliveries, 10), strconv.FormatInt(s.Deliveries, 10), s.LastDelivery)
	}
	return table
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
