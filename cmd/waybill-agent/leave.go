// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill/internal/agent"
)

func newLeaveCmd() *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "take this machine out of its fleet",
		Long: "leave deregisters this machine at the server and forgets its identity here. A running agent ends.\n" +
			"What was delivered stays where it is.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := agent.Leave(cmd.Context(), stateDir)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s (%s) has left %s\nto come back: waybill-agent enroll%s\n",
				s.Instance, s.Name, s.Server, stateDirArg(stateDir))
			return nil
		},
	}
	addStateDir(cmd.Flags(), &stateDir)
	return cmd
}
