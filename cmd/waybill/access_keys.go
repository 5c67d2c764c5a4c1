// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

func newAccessKeysCmd(e env) *cobra.Command {
	f := &clientFlags{}
	o := &keyOptions{clientFlags: f}
	commands := []*cobra.Command{
		newAccessKeysListCmd(e, o),
		newAccessKeysCreateCmd(e, o),
		newAccessKeysSetCmd(e, o, "disable", "make a key unusable until it is enabled again", client.KeyInactive),
		newAccessKeysSetCmd(e, o, "enable", "make a disabled key usable again", client.KeyActive),
		newAccessKeysDeleteCmd(e, o),
	}
	for _, cmd := range commands {
		cmd.Flags().StringVar(&o.user, "user", "", "whose keys, a user's `NAME` (default: those of whoever asks)")
	}
	cmd := newGroupCmd("access-keys", "make, watch and revoke the keys with which the API is called", f,
		append(commands, newAccessKeysIssueCmd(e, f))...)
	cmd.Long = `Access keys belong to the account, which may do everything, or to one of its users, who may do what
policies allow.

To replace a key without anything being refused meanwhile:

  1. make a second one:             waybill access-keys create --user NAME
  2. let its programs use it
  3. see that LAST USED of the old
     one stands still for a while:  waybill access-keys list --user NAME
  4. disable the old one:           waybill access-keys disable ID --user NAME
     (if something fails now, enable it again and look for what still uses it)
  5. delete it:                     waybill access-keys delete ID --user NAME

A program that needs a key for a while only is given one that ends by itself: waybill access-keys issue.`
	return cmd
}

type keyOptions struct {
	*clientFlags
	user string
}

func newAccessKeysListCmd(e env, o *keyOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "list keys and when they were last used, without their secrets", Args: usageArgs(cobra.NoArgs),
	}
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		c, err := o.connectAnywhere(e)
		if err != nil {
			return err
		}
		keys, err := c.ListUserAccessKeys(ctx, o.user)
		if err != nil {
			return err
		}
		all := client.AccessKeys{Items: append([]client.AccessKey{}, keys...)}
		return o.write(e, struct{ AccessKeys client.AccessKeys }{all}, func() io.WriterTo { return keyTable(keys) })
	})
	return cmd
}

func keyTable(keys []client.AccessKey) *term.Table {
	table := term.NewTable("ACCESS KEY", "STATUS", "CREATED", "LAST USED")
	for _, k := range keys {
		table.Add(k.ID, string(k.Status), k.Created, k.LastUsed)
	}
	return table
}

// accessKey is the shape of one key in answers.
type accessKey struct{ AccessKey client.AccessKey }

// exportKey is what a shell takes a new key over with.
func exportKey(k client.AccessKey) string {
	return fmt.Sprintf(
		"export ALIBABA_CLOUD_ACCESS_KEY_ID=%s\nexport ALIBABA_CLOUD_ACCESS_KEY_SECRET=%s  # not shown again",
		shellWord(k.ID), shellWord(k.Secret))
}

func newAccessKeysCreateCmd(e env, o *keyOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "create", Short: "make a key and print its secret, this once", Args: usageArgs(cobra.NoArgs),
	}
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		c, err := o.connectAnywhere(e)
		if err != nil {
			return err
		}
		k, err := c.CreateAccessKey(ctx, o.user)
		if err != nil {
			return err
		}
		return o.write(e, accessKey{k}, textf("%s", exportKey(k)))
	})
	return cmd
}

func newAccessKeysSetCmd(e env, o *keyOptions, verb, short string, status client.KeyStatus) *cobra.Command {
	cmd := &cobra.Command{Use: verb + " ID", Short: short, Args: usageArgs(cobra.ExactArgs(1))}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := o.connectAnywhere(e)
		if err != nil {
			return err
		}
		if err := c.UpdateAccessKey(ctx, o.user, args[0], status); err != nil {
			return err
		}
		k := client.AccessKey{ID: args[0], Status: status}
		return o.write(e, accessKey{k}, textf("%sd %s", verb, args[0]))
	})
	return cmd
}

func newAccessKeysDeleteCmd(e env, o *keyOptions) *cobra.Command {
	cmd := &cobra.Command{Use: "delete ID", Short: "delete a key for good", Args: usageArgs(cobra.ExactArgs(1))}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := o.connectAnywhere(e)
		if err != nil {
			return err
		}
		if err := c.DeleteAccessKey(ctx, o.user, args[0]); err != nil {
			return err
		}
		return o.write(e, accessKey{client.AccessKey{ID: args[0]}}, textf("deleted %s", args[0]))
	})
	return cmd
}

func newAccessKeysIssueCmd(e env, f *clientFlags) *cobra.Command {
	var (
		ttl    time.Duration
		policy string
	)
	cmd := &cobra.Command{
		Use:   "issue",
		Short: "issue a key that ends by itself and print it, this once",
		Long: `Issue makes a temporary key and prints it, this once. It may do what the key may that issues it and, with
--policy, no more than that policy allows. It ends with its time, or when the key that issued it is disabled or
deleted. It cannot change keys, users and policies.`,
		Example: `  eval "$(waybill access-keys issue --ttl 15m)"
  waybill access-keys issue --ttl 8h --policy only-send.json -o json`,
		Args: usageArgs(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.DurationVar(&ttl, "ttl", time.Hour, "how long the key is good for, in whole seconds")
	flags.StringVar(&policy, "policy", "", "`FILE` with a policy that narrows what the key may do; - is standard input")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		if ttl < time.Second || ttl%time.Second != 0 {
			return usagef("--ttl %s is not a number of whole seconds, such as 1h", ttl)
		}
		document, err := readDocument(e, "--policy", policy)
		if err != nil {
			return err
		}
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		k, err := c.GetSessionToken(ctx, ttl, document)
		if err != nil {
			return err
		}
		return f.write(e, struct{ Credentials client.TemporaryKey }{k}, textf(
			"export ALIBABA_CLOUD_ACCESS_KEY_ID=%s\nexport ALIBABA_CLOUD_ACCESS_KEY_SECRET=%s\n"+
				"export ALIBABA_CLOUD_SECURITY_TOKEN=%s\n# good until %s; not shown again",
			shellWord(k.ID), shellWord(k.Secret), shellWord(k.Token), k.Expires))
	})
	return cmd
}
