// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

// maxTagged is how many things one call about tags may name.
const maxTagged = 50

func newTagsCmd(e env) *cobra.Command {
	f := &clientFlags{}
	return newGroupCmd("tags", "list, set and remove the tags of machines, activations and deliveries", f,
		newTagsListCmd(e, f),
		newTagsSetCmd(e, f),
		newTagsRemoveCmd(e, f),
	)
}

// resourceFlags say which things of one kind are meant.
type resourceFlags struct {
	kinds []client.ResourceType
	ids   map[client.ResourceType]*[]string
}

// resourceFlagOf is the flag for each kind.
var resourceFlagOf = map[client.ResourceType]string{
	client.InstanceType: "instance", client.ActivationType: "activation", client.DeliveryType: "delivery",
}

func (r *resourceFlags) addTo(flags *pflag.FlagSet, kinds ...client.ResourceType) {
	r.kinds, r.ids = kinds, map[client.ResourceType]*[]string{}
	for _, k := range kinds {
		name := resourceFlagOf[k]
		r.ids[k] = flags.StringSlice(name, nil, "`ID` of "+withArticle(name)+" (repeatable)")
	}
}

func withArticle(noun string) string {
	if strings.ContainsRune("aeiou", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}

// chosen returns the one kind that was named, and which of it, each once.
func (r *resourceFlags) chosen() (client.ResourceType, []string, error) {
	var (
		kind  client.ResourceType
		ids   []string
		named int
		flags []string
	)
	for _, k := range r.kinds {
		flags = append(flags, "--"+resourceFlagOf[k])
		if given := *r.ids[k]; len(given) > 0 {
			kind, named = k, named+1
			for _, id := range given {
				if !slices.Contains(ids, id) {
					ids = append(ids, id)
				}
			}
		}
	}
	if named != 1 {
		last := len(flags) - 1
		return "", nil, usagef("exactly one of %s and %s says what is meant, not %d",
			strings.Join(flags[:last], ", "), flags[last], named)
	}
	return kind, ids, nil
}

const resourcesUsage = "(--instance ID... | --activation ID... | --delivery ID...)"

func newTagsListCmd(e env, f *clientFlags) *cobra.Command {
	var r resourceFlags
	cmd := &cobra.Command{Use: "list " + resourcesUsage, Short: "list tags", Args: usageArgs(cobra.NoArgs)}
	r.addTo(cmd.Flags(), client.InstanceType, client.ActivationType, client.DeliveryType)
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		kind, ids, err := r.chosen()
		if err != nil {
			return err
		}
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		found := client.TagResources{Items: []client.TagResource{}}
		for some := range slices.Chunk(ids, maxTagged) {
			for t, err := range c.ResourceTags(ctx, client.TagFilter{Type: kind, IDs: some}) {
				if err != nil {
					return err
				}
				found.Items = append(found.Items, t)
			}
		}
		return f.write(e, struct{ TagResources client.TagResources }{found}, func() io.WriterTo {
			table := term.NewTable(strings.ToUpper(resourceFlagOf[kind]), "KEY", "VALUE")
			for _, t := range found.Items {
				table.Add(t.ID, t.Key, t.Value)
			}
			return table
		})
	})
	return cmd
}

// tagged is what tags were set on or removed from.
type tagged struct {
	Type client.ResourceType `json:"ResourceType"`
	IDs  []string            `json:"ResourceIds"`
}

func newTagsSetCmd(e env, f *clientFlags) *cobra.Command {
	var r resourceFlags
	cmd := &cobra.Command{
		Use: "set KEY=VALUE... " + resourcesUsage, Short: "set tags, over those that have the same keys",
		Example: "  waybill tags set role=web env=prod --instance mi-hz018jrc1o0,mi-hz018jrc1o1",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
	}
	r.addTo(cmd.Flags(), client.InstanceType, client.ActivationType, client.DeliveryType)
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		tags, err := parseTagsOf("", args)
		if err != nil {
			return err
		}
		return changeTags(ctx, e, f, &r, func(c *client.Client, kind client.ResourceType, ids []string) error {
			return c.TagResources(ctx, kind, ids, tags)
		})
	})
	return cmd
}

func newTagsRemoveCmd(e env, f *clientFlags) *cobra.Command {
	var (
		r   resourceFlags
		all bool
	)
	cmd := &cobra.Command{
		Use: "remove (KEY... | --all) " + resourcesUsage, Short: "remove tags", Args: cobra.ArbitraryArgs,
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove all their tags")
	onCommandLineOnly(cmd.Flags(), "all") // WAYBILL_ALL is for whom to send to
	r.addTo(cmd.Flags(), client.InstanceType, client.ActivationType, client.DeliveryType)
	cmd.RunE = runE(e, func(ctx context.Context, keys []string) error {
		if count(len(keys) > 0, all) != 1 {
			return usagef("either the keys of tags or --all says what to remove")
		}
		return changeTags(ctx, e, f, &r, func(c *client.Client, kind client.ResourceType, ids []string) error {
			return c.UntagResources(ctx, kind, ids, keys)
		})
	})
	return cmd
}

// changeTags calls change for what was chosen, in parts as large as a call may be, and says for what it was done.
func changeTags(
	ctx context.Context, e env, f *clientFlags, r *resourceFlags,
	change func(*client.Client, client.ResourceType, []string) error,
) error {
	kind, ids, err := r.chosen()
	if err != nil {
		return err
	}
	c, err := f.connect(ctx, e)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(ids, maxTagged) {
		if err := change(c, kind, some); err != nil {
			if len(ids) > maxTagged {
				err = fmt.Errorf("nothing is changed from %s on: %w", some[0], err)
			}
			return err
		}
	}
	return f.write(e, tagged{kind, ids}, textf("changed the tags of %s", strings.Join(ids, " ")))
}
