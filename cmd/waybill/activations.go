// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

func newActivationsCmd(e env) *cobra.Command {
	f := &clientFlags{}
	return newGroupCmd("activations", "make and revoke the codes with which machines enrol", f,
		newActivationsCreateCmd(e, f),
		newActivationsListCmd(e, f),
		newActivationsEndCmd(e, f, "disable", "let no further machine enrol with a code; its machines stay",
			"disabled", (*client.Client).DisableActivation),
		newActivationsEndCmd(e, f, "delete", "delete a code that no machine has used",
			"deleted", (*client.Client).DeleteActivation),
	)
}

func newActivationsCreateCmd(e env, f *clientFlags) *cobra.Command {
	var (
		r    client.CreateActivationRequest
		tags []string
	)
	cmd := &cobra.Command{
		Use:   "create",
		Short: "make a code with which machines enrol",
		Long:  `Create makes an activation code and prints it, this once, with the command that enrols a machine.`,
		Example: `  waybill activations create --count 20 --ttl 8h --tag role=web
  waybill activations create -o json | jq -r .EnrollCommand`,
		Args: usageArgs(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.IntVar(&r.InstanceCount, "count", waybill.DefaultInstanceCount, "how many machines may enrol")
	flags.DurationVar(&r.TTL, "ttl", waybill.DefaultActivationTTL, "how long the code is good for, in whole hours")
	flags.StringVar(&r.InstanceName, "name", "", "`PREFIX` of the machines' names (default: their host names)")
	flags.StringVar(&r.Description, "description", "", "`TEXT` kept with the activation")
	flags.StringVar(&r.AddressRange, "address-range", "", "`IP` address or CIDR that machines enrol from (default: any)")
	flags.StringVar(&r.ResourceGroup, "resource-group", "",
		"`ID` of the resource group of the activation and its machines")
	flags.StringArrayVar(&tags, "tag", nil, "tag of the activation, `KEY=VALUE` (repeatable)")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		if r.InstanceCount < 1 {
			return usagef("--count %d lets no machine enrol", r.InstanceCount)
		}
		if r.TTL < time.Hour || r.TTL%time.Hour != 0 {
			return usagef("--ttl %s is not a number of whole hours, such as 4h", r.TTL)
		}
		var err error
		if r.Tags, err = parseTags(tags); err != nil {
			return err
		}
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		r.ClientToken = rand.Text()
		created, err := persist(ctx, e.err, func() (client.NewActivation, error) { return c.CreateActivation(ctx, r) })
		if err != nil {
			return err
		}
		if isLoopback(c.Endpoint()) {
			fmt.Fprintf(e.err, "note: only this machine reaches %s; elsewhere, name another --server\n", c.Endpoint())
		}
		enroll := enrollCommand(c.Endpoint(), f.ca, created)
		return f.write(e, struct {
			client.NewActivation
			EnrollCommand string
		}{created, enroll}, textf(
			"activation ID    %s\nactivation code  %s  (not shown again)\n\nrun on each machine:\n\n  %s",
			created.ID, created.Code, enroll))
	})
	return cmd
}

// enrollCommand is what makes a machine enrol, ready for a shell.
func enrollCommand(server, ca string, a client.NewActivation) string {
	words := []string{"waybill-agent", "enroll", "--server", server}
	if ca != "" {
		words = append(words, "--ca", ca)
	}
	words = append(words, "--activation-id", string(a.ID), "--activation-code", a.Code)
	for i, w := range words {
		words[i] = shellWord(w)
	}
	return strings.Join(words, " ")
}

// shellWord quotes s for a POSIX shell unless it needs no quotes.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:+=@%,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func isLoopback(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
}

func newActivationsListCmd(e env, f *clientFlags) *cobra.Command {
	var (
		filter client.ActivationFilter
		tags   []string
	)
	cmd := &cobra.Command{Use: "list", Short: "list activations, without their codes", Args: usageArgs(cobra.NoArgs)}
	flags := cmd.Flags()
	flags.StringVar(&filter.ResourceGroup, "resource-group", "", "only activations of the resource group with this `ID`")
	flags.StringArrayVar(&tags, "tag", nil, "only activations that have all these tags, each `KEY=VALUE` (repeatable)")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		var err error
		if filter.Tags, err = parseTags(tags); err != nil {
			return err
		}
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		found := []client.Activation{}
		for a, err := range c.Activations(ctx, filter) {
			if err != nil {
				return err
			}
			found = append(found, a)
		}
		return f.write(e, struct{ ActivationList []client.Activation }{found}, func() io.WriterTo {
			return activationTable(found)
		})
	})
	return cmd
}

func activationTable(found []client.Activation) *term.Table {
	table := term.NewTable("ACTIVATION", "NAME", "ENROLLED", "OF", "HOURS", "DISABLED", "CREATED", "DESCRIPTION")
	for _, a := range found {
		table.Add(string(a.ID), a.InstanceName, strconv.Itoa(a.Registered), strconv.Itoa(a.InstanceCount),
			strconv.FormatInt(a.Hours, 10), yesNo(a.Disabled), a.Created, a.Description)
	}
	return table
}

// newActivationsEndCmd makes the commands that end an activation, which differ in the operation only.
func newActivationsEndCmd(
	e env, f *clientFlags, verb, short, done string,
	end func(*client.Client, context.Context, waybill.ActivationID) (client.Activation, error),
) *cobra.Command {
	cmd := &cobra.Command{Use: verb + " ID", Short: short, Args: usageArgs(cobra.ExactArgs(1))}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		a, err := end(c, ctx, waybill.ActivationID(args[0]))
		if err != nil {
			return err
		}
		return f.write(e, struct{ Activation client.Activation }{a}, textf("%s %s", done, args[0]))
	})
	return cmd
}
