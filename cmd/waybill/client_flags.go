// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

// env is the world as commands see it. Only main knows the real one.
type env struct {
	in       io.Reader
	out, err io.Writer                        // results; everything else
	lookup   func(name string) (string, bool) // environment variables
}

// The exit codes besides 0 (all succeeded) and 1 (error); scripts rely on them.
const (
	exitUsage      = 2
	exitSomeFailed = 3
	exitNotFinal   = 4
)

// exitCodesHelp is for the whole program and for the commands that deliver.
const exitCodesHelp = `Exit codes: 0 all succeeded, 1 error, 2 usage, 3 some targets failed, 4 not final in time.`

// exitError is an error that ends the program with a code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// usageArgs makes what check says a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef("%w; see %s --help", err, cmd.CommandPath())
		}
		return nil
	}
}

// usageFlags makes what is wrong with the flags of cmd and its subcommands a usage error.
func usageFlags(cmd *cobra.Command) *cobra.Command {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	return cmd
}

// flagsFromEnvironment sets each flag that was not given from WAYBILL_ and its name in capitals, if that is set. Lists
// are separated by commas.
func flagsFromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var errs []error
	var inFile []string
	if flags.Changed("credentials") { // the environment may mean another server than the file that was named
		inFile = []string{"endpoint", "ca", "region"}
	}
	flags.VisitAll(func(f *pflag.Flag) {
		name := "WAYBILL_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := lookup(name)
		_, typed := f.Annotations[commandLineOnly]
		if !ok || f.Changed || typed || f.Name == "help" || slices.Contains(inFile, f.Name) {
			return
		}
		if list, isList := f.Value.(pflag.SliceValue); isList {
			f.Changed = true
			if err := list.Replace(strings.Split(value, ",")); err != nil {
				errs = append(errs, usagef("%s: %w", name, err))
			}
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			errs = append(errs, usagef("%s: %w", name, err))
		}
	})
	return errors.Join(errs...)
}

// commandLineOnly marks flags that are not taken from the environment.
const commandLineOnly = "command line only"

// onCommandLineOnly marks flags whose variable means something else, so that it does not change what a command does.
func onCommandLineOnly(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		flags.Lookup(name).Annotations = map[string][]string{commandLineOnly: nil}
	}
}

// runE returns what cobra runs: run, after flags that were not given are taken from the environment, and with errors
// that say what to do.
func runE(e env, run func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := flagsFromEnvironment(cmd.Flags(), e.lookup); err != nil {
			return err
		}
		err := run(cmd.Context(), args)
		if cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
			return errors.New("interrupted")
		}
		return explain(err)
	}
}

// newGroupCmd returns a command that does nothing but hold others, which share the client flags.
func newGroupCmd(use, short string, f *clientFlags, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: usageArgs(cobra.NoArgs)}
	f.addTo(cmd)
	cmd.AddCommand(commands...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return sayWhat(cmd)
	}
	return usageFlags(cmd)
}

// sayWhat is the answer to a group that was called without a command.
func sayWhat(group *cobra.Command) error {
	return usagef("say what to do with %s; see %s --help", group.Name(), group.CommandPath())
}

// clientFlags are the flags of all commands that call the API.
type clientFlags struct {
	endpoint    string
	ca          string
	region      string
	credentials string
	output      term.Format
}

// addTo adds the flags to cmd and its subcommands.
func (f *clientFlags) addTo(cmd *cobra.Command) {
	f.output = term.FormatTable
	flags := cmd.PersistentFlags()
	flags.StringVar(&f.endpoint, "endpoint", "", "`URL` of the API (default https://127.0.0.1:8480)")
	flags.StringVar(&f.ca, "ca", "", "PEM `FILE` with the certificate that signed the server's")
	flags.StringVar(&f.region, "region", "", "region `ID` (default: the server's first)")
	flags.StringVar(&f.credentials, "credentials", "", "JSON `FILE` with access key, endpoint, ca and region, "+
		"as the server writes it; it wins over WAYBILL_ENDPOINT and the like "+
		"(default: ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET)")
	flags.VarP(&f.output, "output", "o", "how to write results")
}

// connect returns a client for the region asked for, by default the first of the server's.
func (f *clientFlags) connect(ctx context.Context, e env) (*client.Client, error) {
	c, err := f.connectAnywhere(e)
	if err != nil || f.region != "" {
		return c, err
	}
	regions, err := c.DescribeRegions(ctx)
	if err != nil {
		return nil, err
	}
	if len(regions) == 0 {
		return nil, errors.New("the server has no region; name one with --region")
	}
	return c.WithRegion(regions[0].ID), nil
}

// connectAnywhere returns a client for operations that know no region. It calls nothing.
func (f *clientFlags) connectAnywhere(e env) (*client.Client, error) {
	k, err := f.key(e)
	if err != nil {
		return nil, err
	}
	f.ca = cmp.Or(f.ca, k.CA)
	f.region = cmp.Or(f.region, k.Region)
	c, err := client.New(client.Config{
		Endpoint:        cmp.Or(f.endpoint, k.Endpoint, "https://127.0.0.1:8480"),
		AccessKeyID:     k.AccessKeyID,
		AccessKeySecret: k.AccessKeySecret,
		SecurityToken:   k.securityToken,
		Region:          f.region,
		CAFile:          f.ca,
	})
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return c, nil
}

// key returns the access key of the credentials file if one is named, else that of the environment. A file that was
// named for a server wins over variables that may be there for another service.
func (f *clientFlags) key(e env) (credentials, error) {
	if f.credentials != "" {
		return readCredentials(f.credentials)
	}
	k := credentials{}
	k.AccessKeyID, _ = e.lookup("ALIBABA_CLOUD_ACCESS_KEY_ID")
	k.AccessKeySecret, _ = e.lookup("ALIBABA_CLOUD_ACCESS_KEY_SECRET")
	k.securityToken, _ = e.lookup("ALIBABA_CLOUD_SECURITY_TOKEN")
	if k.AccessKeyID == "" || k.AccessKeySecret == "" {
		return k, usagef("no access key; set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, " +
			"or pass --credentials DIR/credentials.json, where DIR is the server's data directory")
	}
	return k, nil
}

// write writes v for programs, or what table returns for people.
func (f *clientFlags) write(e env, v any, table func() io.WriterTo) error {
	if f.output == term.FormatJSON {
		return term.WriteJSON(e.out, v)
	}
	_, err := table().WriteTo(e.out)
	return err
}

// json reports whether results are for programs.
func (f *clientFlags) json() bool { return f.output == term.FormatJSON }

// progress returns what shows progress, which is nothing for programs.
func (f *clientFlags) progress(e env) *term.Progress {
	if f.output == term.FormatJSON {
		return term.NoProgress()
	}
	return term.NewProgress(e.err)
}

// text is a result for people that is no table.
type text string

func textf(format string, args ...any) func() io.WriterTo {
	return func() io.WriterTo { return text(fmt.Sprintf(format, args...)) }
}

// WriteTo writes the text and a newline.
func (t text) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, string(t)+"\n")
	return int64(n), err
}

// credentials is the file that a server writes on its first start.
type credentials struct {
	AccountID       string `json:"account_id"`
	AccessKeyID     string `json:"access_key_id"`
	AccessKeySecret string `json:"access_key_secret"`
	Endpoint        string `json:"endpoint"`
	CA              string `json:"ca"` // path; if relative, to the file's directory
	Region          string `json:"region"`

	securityToken string // of temporary credentials, which come from the environment only
}

func readCredentials(file string) (credentials, error) {
	var k credentials
	b, err := os.ReadFile(file)
	if err != nil {
		return k, fmt.Errorf("read credentials: %w", err)
	}
	if err := json.Unmarshal(b, &k); err != nil {
		return k, fmt.Errorf("read credentials %s: %w", file, err)
	}
	if k.AccessKeyID == "" || k.AccessKeySecret == "" {
		return k, fmt.Errorf("%s holds no access_key_id and access_key_secret", file)
	}
	if k.CA != "" && !filepath.IsAbs(k.CA) {
		k.CA = filepath.Join(filepath.Dir(file), k.CA)
	}
	return k, nil
}

// explain adds to a refusal what to do about it, where that is known.
func explain(err error) error {
	if refused, ok := errors.AsType[*client.Error](err); ok {
		hint := hints[refused.Code]
		if refused.Denied != nil && refused.Denied.Temporary() {
			hint = "" // simulations know nothing of temporary keys
		}
		if hint != "" {
			return fmt.Errorf("%w; %s", err, hint)
		}
	}
	return err
}

// hints is by API error code.
var hints = map[string]string{
	"Forbidden.RAM": "whoever manages policies sees why with: waybill policies simulate",

	"InvalidAccessKeyId.NotFound":   "check ALIBABA_CLOUD_ACCESS_KEY_ID, or pass --credentials DIR/credentials.json",
	"InvalidAccessKeyId.Inactive":   "enable it with another key: waybill access-keys enable ID",
	"SignatureDoesNotMatch":         "check ALIBABA_CLOUD_ACCESS_KEY_SECRET, or pass --credentials DIR/credentials.json",
	"InvalidTimeStamp.Expired":      "set the clock of this machine or of the server",
	"InvalidRegionId.NotFound":      "leave out --region for the server's own",
	"EntityNotExist.User.AccessKey": "list them with: waybill access-keys list",
	"InvalidInstance.NotFound":      "list them with: waybill instances list",
	"ActivationId.NotFound":         "list them with: waybill activations list",
	"ActivationId.InUse":            "machines have enrolled with it; close it with: waybill activations disable ID",

	"InvalidSecurityToken.Expired":               "issue another key with: waybill access-keys issue",
	"InvalidSecurityToken.MismatchWithAccessKey": "unset ALIBABA_CLOUD_SECURITY_TOKEN, which is for another key",
	"MissingSecurityToken":                       "set ALIBABA_CLOUD_SECURITY_TOKEN, which came with the key",

	"EntityNotExist.User":           "list them with: waybill users list",
	"DeleteConflict.User.AccessKey": "delete them with: waybill access-keys delete ID --user NAME",
	"DeleteConflict.User.Group":     "take it out of them with: waybill user-groups remove GROUP NAME",
	"DeleteConflict.User.Policy":    "detach them with: waybill policies detach POLICY --user NAME",
	"EntityNotExist.Group":          "list them with: waybill user-groups list",
	"DeleteConflict.Group.User":     "take them out with: waybill user-groups remove NAME USER...",
	"DeleteConflict.Group.Policy":   "detach them with: waybill policies detach POLICY --group NAME",
	"EntityNotExist.Policy":         "list them with: waybill policies list",
	"DeleteConflict.Policy.User":    "see from whom to detach it with: waybill policies show NAME",
	"DeleteConflict.Policy.Group":   "see from whom to detach it with: waybill policies show NAME",

	"InvalidResourceGroup.NotFound":         "list them with: waybill groups list",
	"EntityNotExists.ResourceGroup":         "list them with: waybill groups list",
	"DeleteConflict.ResourceGroup.Resource": "move what it holds with: waybill groups add OTHER --instance ID",
}

// parseTags reads KEY=VALUE; KEY alone has an empty value.
func parseTags(flags []string) ([]waybill.Tag, error) { return parseTagsOf("--tag ", flags) }

// parseTagsOf is parseTags for values that come after something else than --tag.
func parseTagsOf(after string, values []string) ([]waybill.Tag, error) {
	var tags []waybill.Tag
	for _, v := range values {
		key, value, _ := strings.Cut(v, "=")
		if key == "" {
			return nil, usagef("%s%q has no key; write %[1]sKEY=VALUE", after, v)
		}
		tags = append(tags, waybill.Tag{Key: key, Value: value})
	}
	return tags, nil
}

// ids turns arguments into IDs of one kind.
func ids[ID ~string](args []string) []ID {
	out := make([]ID, len(args))
	for i, a := range args {
		out[i] = ID(a)
	}
	return out
}

func formatTags(tags []client.Tag) string {
	var parts []string
	for _, t := range tags {
		parts = append(parts, t.Key+"="+t.Value)
	}
	return strings.Join(parts, " ")
}

func count(conditions ...bool) int {
	n := 0
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}
