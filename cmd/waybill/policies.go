// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/policy"
	"github.com/openwaybill/waybill/internal/term"
)

// exitNotAllowed is the exit code of a simulation that came to no.
const exitNotAllowed = 3

func newPoliciesCmd(e env) *cobra.Command {
	f := &clientFlags{}
	cmd := newGroupCmd("policies", "say what users may do", f,
		newPoliciesListCmd(e, f),
		newPoliciesShowCmd(e, f),
		newPoliciesCreateCmd(e, f),
		newPoliciesUpdateCmd(e, f),
		newPoliciesDeleteCmd(e, f),
		newPoliciesAttachCmd(e, f, "attach", "let a policy hold for a user or a group of users", "attached to",
			(*client.Client).AttachPolicyToUser, (*client.Client).AttachPolicyToGroup),
		newPoliciesAttachCmd(e, f, "detach", "let a policy hold no more for a user or a group of users", "detached from",
			(*client.Client).DetachPolicyFromUser, (*client.Client).DetachPolicyFromGroup),
		newPoliciesSimulateCmd(e, f),
	)
	cmd.Long = `Policies are documents of Alibaba Cloud RAM: statements that allow or deny actions on resources. A user may do
what a statement of a policy allows that is attached to it or to one of its groups, and none denies. Some come with
the server (type System); the others are the account's own (type Custom). A change holds from the next request on.`
	return cmd
}

// policyNamed says which policy a name means: one that comes with the server, whatever its case, else one of the
// account's own, which cannot have such a name.
func policyNamed(name string) waybill.PolicyName {
	for _, p := range policy.SystemPolicies() {
		if strings.EqualFold(p.Name, name) {
			return p.PolicyName
		}
	}
	return waybill.PolicyName{Type: waybill.CustomPolicy, Name: name}
}

// readDocument reads a policy document from a file, or standard input if that is "-". No file is no document.
func readDocument(e env, flag, file string) (string, error) {
	var (
		b   []byte
		err error
	)
	switch file {
	case "":
		return "", nil
	case "-":
		b, err = io.ReadAll(e.in)
	default:
		b, err = os.ReadFile(file)
	}
	if err != nil {
		return "", fmt.Errorf("read the policy: %w", err)
	}
	if len(b) == 0 {
		return "", usagef("%s %s holds no policy", flag, file)
	}
	return string(b), nil
}

func newPoliciesListCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "list policies", Args: usageArgs(cobra.NoArgs)}
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		found := client.Policies{Items: []client.Policy{}}
		for p, err := range c.Policies(ctx, "") {
			if err != nil {
				return err
			}
			found.Items = append(found.Items, p)
		}
		return f.write(e, struct{ Policies client.Policies }{found}, func() io.WriterTo { return policyTable(found.Items) })
	})
	return cmd
}

func policyTable(found []client.Policy) *term.Table {
	table := term.NewTable("POLICY", "TYPE", "ATTACHED", "UPDATED", "DESCRIPTION")
	for _, p := range found {
		table.Add(p.Name, string(p.Type), strconv.Itoa(p.Attachments), p.Updated, p.Description)
	}
	return table
}

func newPoliciesShowCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NAME", Short: "show a policy with its document, and what it is attached to",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		var d struct {
			Policy  client.Policy
			Version client.PolicyVersion `json:"DefaultPolicyVersion"`
			client.PolicyEntities
		}
		name := policyNamed(args[0])
		if d.Policy, d.Version, err = c.GetPolicy(ctx, name); err != nil {
			return err
		}
		if d.PolicyEntities, err = c.ListEntitiesForPolicy(ctx, name); err != nil {
			return err
		}
		return f.write(e, d, func() io.WriterTo {
			all := stacked{policyTable([]client.Policy{d.Policy}), text("")}
			if len(d.Users.Items)+len(d.Groups.Items) > 0 {
				table := term.NewTable("ATTACHED TO", "NAME", "SINCE")
				for _, u := range d.Users.Items {
					table.Add("user", u.Name, u.Attached)
				}
				for _, g := range d.Groups.Items {
					table.Add("group", g.Name, g.Attached)
				}
				all = append(all, table, text(""))
			}
			return append(all, cleanText(d.Version.Document))
		})
	})
	return cmd
}

// cleanText is text that others wrote, in lines. What could speak to a terminal is shown as what it is.
func cleanText(s string) text {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		indent := line[:len(line)-len(strings.TrimLeft(line, "\t"))]
		lines[i] = indent + term.Clean(line[len(indent):])
	}
	return text(strings.Join(lines, "\n"))
}

func newPoliciesCreateCmd(e env, f *clientFlags) *cobra.Command {
	var file, description string
	cmd := &cobra.Command{
		Use: "create NAME --document FILE", Short: "make a policy of the account",
		Example: `  waybill policies create send-to-web --document - <<'EOF'
  {"Version": "1", "Statement": [{"Effect": "Allow", "Action": "ecs:SendFile", "Resource": "*",
    "Condition": {"StringEquals": {"acs:ResourceTag/role": "web"}}}]}
  EOF`,
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	flags := cmd.Flags()
	flags.StringVar(&file, "document", "", "`FILE` with the policy document; - is standard input (required)")
	flags.StringVar(&description, "description", "", "`TEXT` kept with the policy")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		document, err := requireDocument(e, file)
		if err != nil {
			return err
		}
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		p, err := c.CreatePolicy(ctx, args[0], document, description)
		if err != nil {
			return err
		}
		return f.write(e, struct{ Policy client.Policy }{p}, textf(
			"made policy %s; let it hold with: waybill policies attach %[1]s --user USER", p.Name))
	})
	return cmd
}

func requireDocument(e env, file string) (string, error) {
	if file == "" {
		return "", usagef("--document is missing: the file with the policy document, or - for standard input")
	}
	return readDocument(e, "--document", file)
}

func newPoliciesUpdateCmd(e env, f *clientFlags) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "update NAME --document FILE", Short: "replace the document of a policy of the account",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&file, "document", "", "`FILE` with the policy document; - is standard input (required)")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		document, err := requireDocument(e, file)
		if err != nil {
			return err
		}
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		v, err := c.CreatePolicyVersion(ctx, args[0], document)
		if err != nil {
			return err
		}
		return f.write(e, struct{ PolicyVersion client.PolicyVersion }{v},
			textf("policy %s is now %s; it holds from the next request on", args[0], v.ID))
	})
	return cmd
}

func newPoliciesDeleteCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "delete a policy of the account that is attached to nothing",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		if err := c.DeletePolicy(ctx, args[0]); err != nil {
			return err
		}
		gone := client.Policy{Name: args[0], Type: waybill.CustomPolicy}
		return f.write(e, struct{ Policy client.Policy }{gone}, textf("deleted policy %s", args[0]))
	})
	return cmd
}

// attachment is what changed of where a policy holds.
type attachment struct {
	Type  waybill.PolicyType `json:"PolicyType"`
	Name  string             `json:"PolicyName"`
	User  string             `json:"UserName,omitempty"`
	Group string             `json:"GroupName,omitempty"`
}

// newPoliciesAttachCmd makes the commands that change where a policy holds, which differ in the operations only.
func newPoliciesAttachCmd(
	e env, f *clientFlags, verb, short, done string,
	user, group func(*client.Client, context.Context, waybill.PolicyName, string) error,
) *cobra.Command {
	a := attachment{}
	cmd := &cobra.Command{
		Use: verb + " NAME (--user USER | --group GROUP)", Short: short, Args: usageArgs(cobra.ExactArgs(1)),
	}
	flags := cmd.Flags()
	flags.StringVar(&a.User, "user", "", "the user's `NAME`")
	flags.StringVar(&a.Group, "group", "", "the `NAME` of the group of users")
	onCommandLineOnly(flags, "user", "group") // WAYBILL_GROUP is that of files
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		if count(a.User != "", a.Group != "") != 1 {
			return usagef("exactly one of --user and --group says for whom")
		}
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		name := policyNamed(args[0])
		a.Type, a.Name = name.Type, name.Name
		whom := "user " + a.User
		if a.User != "" {
			err = user(c, ctx, name, a.User)
		} else {
			whom = "group " + a.Group
			err = group(c, ctx, name, a.Group)
		}
		if err != nil {
			return err
		}
		return f.write(e, a, textf("%s %s %s", a.Name, done, whom))
	})
	return cmd
}

type simulateOptions struct {
	client.SimulatePolicyRequest
	sourceIP string
	at       string
	tags     []string
}

func newPoliciesSimulateCmd(e env, f *clientFlags) *cobra.Command {
	o := &simulateOptions{}
	cmd := &cobra.Command{
		Use:   "simulate --user USER --action ACTION --resource ARN",
		Short: "say whether a user may do something, and which statement decides",
		Long: `Simulate asks the server whether a user may do something, without doing it, and shows the statement that
decides. What is not said of the request is as if it came from here, now, over TLS.

Exit codes: 0 allowed, 1 error, 2 usage, 3 not allowed.`,
		Example: `  waybill policies simulate --user alice --action ecs:SendFile --resource mi-hz018jrc1o0
  waybill policies simulate --user alice --action ecs:SendFile --resource mi-hz018jrc1o0 \
    --source-ip 192.0.2.1 --time 2026-12-24T18:00:00Z
  waybill policies simulate --user alice --action ram:CreateUser --resource '*'`,
		Args: usageArgs(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.User, "user", "", "the user's `NAME` (required)")
	flags.StringVar(&o.Action, "action", "", "`ACTION` as policies name it, such as ecs:SendFile (required)")
	flags.StringVar(&o.Resource, "resource", "", "`ARN` of what it is done to, or the ID of an instance (required)")
	flags.StringVar(&o.sourceIP, "source-ip", "",
		"`IP` address that the request comes from (default: that of this machine)")
	flags.StringVar(&o.at, "time", "", "`TIME` of the request, such as 2026-12-24T18:00:00Z (default: now)")
	flags.StringArrayVar(&o.tags, "request-tag", nil, "tag that the request sets, `KEY=VALUE` (repeatable)")
	flags.BoolVar(&o.Insecure, "insecure", false, "the request comes over plain HTTP")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error { return o.run(ctx, e, f) })
	return cmd
}

func (o *simulateOptions) run(ctx context.Context, e env, f *clientFlags) error {
	for _, required := range []struct{ flag, value, example string }{
		{"--user", o.User, "the name of a user; list them with: waybill users list"},
		{"--action", o.Action, "what the user would do, such as ecs:SendFile"},
		{"--resource", o.Resource, "to what, an ARN or the ID of an instance"},
	} {
		if required.value == "" {
			return usagef("%s is missing: %s", required.flag, required.example)
		}
	}
	var err error
	if o.sourceIP != "" {
		if o.SourceIP, err = netip.ParseAddr(o.sourceIP); err != nil {
			return usagef("--source-ip %q is not an IP address", o.sourceIP)
		}
	}
	if o.at != "" {
		if o.Time, err = time.Parse(time.RFC3339, o.at); err != nil {
			return usagef("--time %q is not a time such as 2026-12-24T18:00:00Z", o.at)
		}
	}
	if o.RequestTags, err = parseTagsOf("--request-tag ", o.tags); err != nil {
		return err
	}
	c, err := f.connectAnywhere(e)
	if err != nil {
		return err
	}
	o.Region = f.region
	s, err := c.SimulatePolicy(ctx, o.SimulatePolicyRequest)
	if err != nil {
		return err
	}
	verdict := decisionText(o.User, o.Action, s)
	err = f.write(e, s, func() io.WriterTo {
		all := stacked{text(term.Clean(verdict))}
		if s.Text != "" {
			all = append(all, text(""), cleanText(s.Text))
		}
		tags := "none"
		if len(s.ResourceTags) > 0 {
			tags = term.Clean(formatTags(s.ResourceTags))
		}
		return append(all, text("\nresource tags: "+tags))
	})
	if err == nil && s.Decision != client.Allow {
		err = &exitError{exitNotAllowed, fmt.Errorf("%s may not %s", o.User, o.Action)}
	}
	return err
}

// decisionText says in a sentence what a simulation came to.
func decisionText(user, action string, s client.Simulation) string {
	decides := "statement " + strconv.Itoa(s.Statement) + " of " + strings.ToLower(string(s.PolicyType)) +
		" policy " + s.PolicyName
	switch s.Decision {
	case client.Allow:
		return fmt.Sprintf("%s may %s on %s: %s allows it", user, action, s.Resource, decides)
	case client.ExplicitDeny:
		return fmt.Sprintf("%s may not %s on %s: %s denies it", user, action, s.Resource, decides)
	default:
		return fmt.Sprintf("%s may not %s on %s: no policy allows it", user, action, s.Resource)
	}
}
