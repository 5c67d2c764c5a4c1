// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newWhoamiCmd(e env) *cobra.Command {
	f := &clientFlags{}
	cmd := &cobra.Command{
		Use: "whoami", Short: "show whose key is in use: the account's or a user's", Args: usageArgs(cobra.NoArgs),
	}
	f.addTo(cmd)
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		who, err := c.GetCallerIdentity(ctx)
		if err != nil {
			return err
		}
		return f.write(e, who, textf("%s", who.ARN))
	})
	return usageFlags(cmd)
}
