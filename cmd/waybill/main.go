// SPDX-License-Identifier: Apache-2.0

// Command waybill is the server, the command line and the demo of Waybill.
//
// Exit codes: 0 all succeeded, 1 error, 2 usage, 3 some targets failed, 4 not final in time. Commands with others say so.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], env{in: os.Stdin, out: os.Stdout, err: os.Stderr, lookup: os.LookupEnv}))
}

// run runs the command line args and returns the exit code.
func run(ctx context.Context, args []string, e env) int {
	root := newRootCmd(e)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(e.err, "waybill:", err)
	if x, ok := errors.AsType[*exitError](err); ok {
		return x.code
	}
	return 1
}

func newRootCmd(e env) *cobra.Command {
	root := &cobra.Command{
		Use:   "waybill",
		Short: "deliver files to fleets of machines, and say for every machine what happened",
		Long: `Waybill delivers files to fleets of machines and says, for every machine, what happened.
It answers the file API of Alibaba Cloud ECS (SendFile, DescribeSendFileResults), so its clients work against it.

` + exitCodesHelp,
		Version: version, SilenceErrors: true, SilenceUsage: true,
		Args: usageArgs(cobra.NoArgs),
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(newHelpCmd(root))
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.SetIn(e.in)
	root.SetOut(e.out)
	root.SetErr(e.err)
	root.AddCommand(
		newServerCmd(e), newDemoCmd(e), newSimCmd(e),
		newSendCmd(e), newResultsCmd(e), newStopCmd(e), newRetryCmd(e), newFilesCmd(e), newInstancesCmd(e), newActivationsCmd(e),
		newTagsCmd(e), newGroupsCmd(e), newUsersCmd(e), newUserGroupsCmd(e), newAccessKeysCmd(e), newPoliciesCmd(e), newWhoamiCmd(e),
		newWebhooksCmd(e),
		newAuditCmd(e), newExplainCmd(e), newAccountsCmd(e), newNATSConfigCmd(e),
		newBackupCmd(e), newRestoreCmd(e), newMigrateCmd(e), newCopyCmd(e),
		newCompletionCmd(e), newVersionCmd(e),
	)
	return usageFlags(root)
}

func newHelpCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "show what a command does and its flags",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("there is no command %q; see %s --help", strings.Join(args, " "), cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
}

func newCompletionCmd(e env) *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish|powershell", Short: "print a script that completes commands in a shell",
		Example:   "  source <(waybill completion bash)\n  waybill completion fish > ~/.config/fish/completions/waybill.fish",
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args:      usageArgs(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(e.out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(e.out)
			case "fish":
				return cmd.Root().GenFishCompletion(e.out, true)
			default:
				return cmd.Root().GenPowerShellCompletionWithDesc(e.out)
			}
		},
	}
}

func newVersionCmd(e env) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(e.out, "waybill %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
