// SPDX-License-Identifier: Apache-2.0

// Command waybill is the server, the command line and the demo of Waybill.
//
// Exit codes: 0 all succeeded, 1 error, 2 usage, 3 some targets failed, 4 not final in time.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
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
		Long: "Waybill delivers files to fleets of machines and says, for every machine, what happened.\n" +
			"It answers the file API of Alibaba Cloud ECS (SendFile, DescribeSendFileResults), so its clients work against it.\n\n" +
			"Exit codes: 0 all succeeded, 1 error, 2 usage, 3 some targets failed, 4 not final in time.",
		Version: version, SilenceErrors: true, SilenceUsage: true,
		Args: usageArgs(cobra.NoArgs),
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.SetIn(e.in)
	root.SetOut(e.out)
	root.SetErr(e.err)
	root.AddCommand(
		newServerCmd(e), newDemoCmd(e),
		newSendCmd(e), newResultsCmd(e), newInstancesCmd(e), newActivationsCmd(e), newAccessKeysCmd(e), newAccountsCmd(e),
		newVersionCmd(e),
	)
	return usageFlags(root)
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
