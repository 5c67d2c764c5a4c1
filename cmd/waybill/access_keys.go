// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

func newAccessKeysCmd(e env) *cobra.Command {
	f := &clientFlags{}
	return newGroupCmd("access-keys", "make and revoke the keys with which the API is called", f,
		newAccessKeysListCmd(e, f),
		newAccessKeysCreateCmd(e, f),
		newAccessKeysSetCmd(e, f, "disable", "make a key unusable until it is enabled again", client.KeyInactive),
		newAccessKeysSetCmd(e, f, "enable", "make a disabled key usable again", client.KeyActive),
		newAccessKeysDeleteCmd(e, f),
	)
}

func newAccessKeysListCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "list keys, without their secrets", Args: usageArgs(cobra.NoArgs)}
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		keys, err := c.ListAccessKeys(ctx)
		if err != nil {
			return err
		}
		all := client.AccessKeys{Items: append([]client.AccessKey{}, keys...)}
		return f.write(e, struct{ AccessKeys client.AccessKeys }{all}, func() io.WriterTo {
			table := term.NewTable("ACCESS KEY", "STATUS", "CREATED")
			for _, k := range keys {
				table.Add(k.ID, string(k.Status), k.Created)
			}
			return table
		})
	})
	return cmd
}

// accessKey is the shape of one key in answers.
type accessKey struct{ AccessKey client.AccessKey }

func newAccessKeysCreateCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "create", Short: "make a key and print its secret, this once", Args: usageArgs(cobra.NoArgs),
	}
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		k, err := c.CreateAccessKey(ctx)
		if err != nil {
			return err
		}
		return f.write(e, accessKey{k}, textf(
			"export ALIBABA_CLOUD_ACCESS_KEY_ID=%s\nexport ALIBABA_CLOUD_ACCESS_KEY_SECRET=%s  # not shown again",
			shellWord(k.ID), shellWord(k.Secret)))
	})
	return cmd
}

func newAccessKeysSetCmd(e env, f *clientFlags, verb, short string, status client.KeyStatus) *cobra.Command {
	cmd := &cobra.Command{Use: verb + " ID", Short: short, Args: usageArgs(cobra.ExactArgs(1))}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		if err := c.UpdateAccessKey(ctx, args[0], status); err != nil {
			return err
		}
		k := client.AccessKey{ID: args[0], Status: status}
		return f.write(e, accessKey{k}, textf("%sd %s", verb, args[0]))
	})
	return cmd
}

func newAccessKeysDeleteCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "delete ID", Short: "delete a key for good", Args: usageArgs(cobra.ExactArgs(1))}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		if err := c.DeleteAccessKey(ctx, args[0]); err != nil {
			return err
		}
		return f.write(e, accessKey{client.AccessKey{ID: args[0]}}, textf("deleted %s", args[0]))
	})
	return cmd
}
