// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill/internal/agent"
)

func newStatusCmd() *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show which instance this machine is, and whether its agent is connected",
		Long:  "status reads the files of the state directory only. It exits with 1 where nothing is enrolled.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := agent.ReadStatus(stateDir)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "instance  %s\nname      %s\nserver    %s\nagent     %s\n",
				s.Instance, s.Name, s.Server, agentLine(s, stateDir))
			return nil
		},
	}
	addStateDir(cmd.Flags(), &stateDir)
	return cmd
}

func agentLine(s agent.Status, stateDir string) string {
	since := s.Since.Local().Format(time.DateTime)
	switch {
	case !s.Running:
		return "not running; start it with: waybill-agent run" + stateDirArg(stateDir)
	case s.Connected:
		return "running, connected since " + since
	}
	return fmt.Sprintf("running, not connected since %s: %s", since, s.Problem)
}
