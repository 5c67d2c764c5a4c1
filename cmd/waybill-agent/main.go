// SPDX-License-Identifier: Apache-2.0

// Command waybill-agent is the agent of Waybill: it makes a machine part of a fleet and places the files that are
// delivered to it. It links neither database nor server.
//
// Exit codes: 0 done, or told to stop; 1 error; 2 wrong usage; 3 the server does not want this machine any more.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill/internal/agent"
)

// version is set by the linker.
var version = "dev"

const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitUnwanted = 3
)

// An agent holds little for long and must be small: it collects its garbage early.
const (
	gcPercent   = 25
	memoryLimit = 48 << 20 // bytes
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the command line args and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := newRootCmd()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "waybill-agent:", err)
	switch _, isUsage := errors.AsType[usageError](err); {
	case isUsage:
		return exitUsage
	case errors.Is(err, agent.ErrDeregistered), errors.Is(err, agent.ErrQuarantined):
		return exitUnwanted
	}
	return exitError
}

// usageError is a command line that cannot be meant.
type usageError struct{ error }

// usagef returns an error about the command line of cmd, which says where to read how it is meant.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	return usageError{fmt.Errorf(format+"; see %s --help", append(args, cmd.CommandPath())...)}
}

func newRootCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "waybill-agent",
		Short: "take deliveries of files on this machine",
		Long: "waybill-agent makes this machine part of a Waybill fleet and places the files that are delivered to it.\n\n" +
			"Every flag can be given as an environment variable: --state-dir is WAYBILL_AGENT_STATE_DIR. The proxy\n" +
			"variables HTTPS_PROXY and NO_PROXY are honoured for every connection.\n\n" +
			"Exit codes: 0 done or told to stop, 1 error, 2 wrong usage, 3 the server does not want this machine any more.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := flagsFromEnv(cmd.Flags()); err != nil {
				return usagef(cmd, "%w", err)
			}
			return nil
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef(cmd, "%w", err) })
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.AddCommand(newEnrollCmd(), newRunCmd(), newLeaveCmd(), newStatusCmd(), newVersionCmd())
	return cmd
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef(cmd, "unknown argument %q", args[0])
	}
	return nil
}

func newVersionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: noArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version) },
	}
}
