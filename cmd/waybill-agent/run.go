// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openwaybill/waybill/internal/agent"
)

type runOptions struct {
	stateDir  string
	root      string
	allowDirs []string
	logLevel  string
}

func newRunCmd() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run",
		Short: "take deliveries until told to stop",
		Long: "run connects to the server and places what is delivered, until it gets SIGTERM or SIGINT. Then it finishes\n" +
			"what it is placing, for ten seconds at most, and tells the server why it leaves. A second signal ends it at\n" +
			"once; nothing is lost by that.\n\n" +
			"Exit codes: 0 told to stop, 1 error, 2 wrong usage, 3 the server does not want this machine any more: it was\n" +
			"deregistered, or another machine has its identity. A service manager should not restart it then.\n\n" +
			"In the environment variable of --allow-dir, several directories are separated by " + listSeparator,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runRun(cmd, &o) },
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func (o *runOptions) addFlags(flags *pflag.FlagSet) {
	addStateDir(flags, &o.stateDir)
	flags.StringVar(&o.root, "root", "", "`DIR` that every target directory is below (default: the system's root)")
	flags.StringArrayVar(&o.allowDirs, "allow-dir", nil,
		"`DIR` in and below which files may be placed; may be repeated (default: everywhere)")
	flags.StringVar(&o.logLevel, "log-level", "info", "least `LEVEL` that is logged: debug, info, warn or error")
}

func runRun(cmd *cobra.Command, o *runOptions) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return usagef(cmd, "--log-level %q is not debug, info, warn or error", o.logLevel)
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	a, err := agent.New(agent.Config{
		StateDir:  o.stateDir,
		Root:      o.root,
		AllowDirs: o.allowDirs,
		Version:   version,
		Why:       agent.LeaveReason(),
		Ready:     func() { notify("READY=1", log) },
	}, log)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	context.AfterFunc(ctx, func() { notify("STOPPING=1", log) })
	return a.Run(ctx)
}
