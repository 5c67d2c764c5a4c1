// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

// choice is whom a file is meant for, as flags say it.
type choice struct {
	instances  []string
	from       string // a file with IDs
	tagFlags   []string
	tags       []waybill.Tag // of tagFlags
	pattern    string
	activation string
	all        bool
}

func (c *choice) addFlags(flags *pflag.FlagSet) {
	flags.StringSliceVar(&c.instances, "instance", nil, "send to the instance with this `ID` (repeatable)")
	flags.StringVar(&c.from, "instances-from", "", "send to the instances whose IDs are in this `FILE`, \"-\" for standard input; # begins a comment")
	flags.StringArrayVar(&c.tagFlags, "tag", nil, "send to instances that have all these tags, `KEY=VALUE` (repeatable)")
	flags.StringVar(&c.pattern, "name-pattern", "", "send to instances of this `NAME`, in which * and ? stand for any characters and any one")
	flags.StringVar(&c.activation, "activation", "", "send to instances that enrolled with the activation with this `ID`")
	flags.BoolVar(&c.all, "all", false, "send to all instances of the region")
}

// check finds what is wrong with a choice before anything is read. group is a resource group, which chooses its instances
// unless they are named.
func (c *choice) check(content, group string) (err error) {
	named := len(c.instances) > 0 || c.from != ""
	selected := len(c.tagFlags) > 0 || c.pattern != "" || c.activation != ""
	switch {
	case named && (selected || c.all):
		return usagef("machines are either named (--instance, --instances-from) or chosen by what they have " +
			"(--tag, --name-pattern, --activation, --all), not both")
	case c.all && selected:
		return usagef("--all and what narrows it (--tag, --name-pattern, --activation) contradict each other")
	case !named && !selected && !c.all && group == "":
		return usagef("say where to send to: --instance, --instances-from, --tag, --name-pattern, --activation, --resource-group or --all")
	case c.from == "-" && content == "-":
		return usagef("standard input cannot be both the file and the list of instances")
	}
	c.tags, err = parseTags(c.tagFlags)
	return err
}

// choose puts into r whom it is meant for. Who is chosen by what it has is found by the server; so many that no request
// names them one by one are sent as one list: it stays one delivery.
func (c *choice) choose(e env, group string, r *client.SendFileRequest) error {
	ids := ids[waybill.InstanceID](c.instances)
	if c.from != "" {
		more, err := readInstances(e, c.from)
		if err != nil {
			return err
		}
		ids = append(ids, more...)
	}
	if len(ids) == 0 {
		r.Selector = waybill.Selector{
			All: c.all, Name: c.pattern, Activation: waybill.ActivationID(c.activation), ResourceGroup: group, Tags: c.tags,
		}
		return nil
	}
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) > waybill.DefaultLimits().Instances {
		r.List = ids
	} else {
		r.Instances = ids
	}
	return nil
}

// hint adds to a refusal of a choice that means nobody what to do about it.
func (c *choice) hint(err error, group string) error {
	refused, ok := errors.AsType[*client.Error](err)
	switch {
	case !ok || refused.Code != "InvalidInstance.NotFound" || len(c.instances) > 0 || c.from != "":
		return err
	case c.all && group == "":
		return fmt.Errorf("%w; make a code to enrol a machine with: waybill activations create", err)
	case group != "":
		return fmt.Errorf("%w; move machines there with: waybill groups add %s --instance ID", err, group)
	}
	return err
}

// maxInstancesFile bounds a list of instances, in bytes: no request could carry more.
const maxInstancesFile = 16 << 20

// readInstances reads a list of IDs, separated by blanks, commas or lines, in which # begins a comment.
func readInstances(e env, file string) ([]waybill.InstanceID, error) {
	in, name := e.in, "standard input"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in, name = f, file
	}
	b, err := io.ReadAll(io.LimitReader(in, maxInstancesFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	case len(b) > maxInstancesFile:
		return nil, fmt.Errorf("%s is longer than any list of instances", name)
	}
	found := parseInstances(string(b))
	if len(found) == 0 {
		return nil, fmt.Errorf("%s names no instance", name)
	}
	return found, nil
}

func parseInstances(text string) (found []waybill.InstanceID) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		for _, id := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" ,\t\r\n", r) }) {
			found = append(found, waybill.InstanceID(id))
		}
	}
	return found
}

// shownTargets is how many machines a preview shows to people. A program gets all of them.
const shownTargets = 20

// previewed is the JSON result of send --preview, in the shape of PreviewSendFile without its paging.
type previewed struct {
	TotalCount    int64
	PreviewGroups struct {
		PreviewGroup []client.PreviewGroup
	}
	PreviewInstances struct {
		PreviewInstance []client.PreviewTarget
	}
}

// showPreview shows whom r would hit.
func (o *sendOptions) showPreview(ctx context.Context, e env, c *client.Client, r client.SendFileRequest) error {
	found, page, err := c.PreviewSendFile(ctx, r, client.Paging{MaxResults: client.MaxTargetsPage})
	if err != nil {
		return o.hint(err, o.group)
	}
	targets := page.Items
	for o.json() && page.NextToken != "" {
		if _, page, err = c.PreviewSendFile(ctx, r, client.Paging{NextToken: page.NextToken}); err != nil {
			return err
		}
		targets = append(targets, page.Items...)
	}
	v := previewed{TotalCount: found.Total}
	v.PreviewGroups.PreviewGroup, v.PreviewInstances.PreviewInstance = found.Groups, targets
	return o.write(e, v, func() io.WriterTo { return previewText(&found, targets) })
}

func previewText(found *client.Preview, targets []client.PreviewTarget) stacked {
	groups := term.NewTable("WOULD BE", "CODE", "MACHINES")
	for _, g := range found.Groups {
		groups.Add(outlookWord(g.Outlook), g.ErrorCode, strconv.FormatInt(g.Count, 10))
	}
	machines := term.NewTable("MACHINE", "NAME", "WOULD BE", "CODE", "DETAIL")
	shown := targets[:min(len(targets), shownTargets)]
	for _, t := range shown {
		machines.Add(string(t.Instance), t.Name, outlookWord(t.Outlook), t.ErrorCode, t.Detail)
	}
	parts := stacked{groups, text(""), machines}
	if rest := found.Total - int64(len(shown)); rest > 0 {
		parts = append(parts, text(fmt.Sprintf("and %d more; -o json shows all", rest)))
	}
	return append(parts, text(fmt.Sprintf("\nnothing was sent; without --preview %d machines are hit", found.Total)))
}

// outlookWord says in a word what would become of a file.
func outlookWord(o client.Outlook) string {
	switch o {
	case client.Reachable:
		return "told"
	case client.Held:
		return "held"
	}
	return "ended"
}
