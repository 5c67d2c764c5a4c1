// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openwaybill/waybill/internal/agent"
)

type enrollOptions struct {
	agent.EnrollOptions
	caFile string
	tags   []string
}

func newEnrollCmd() *cobra.Command {
	var o enrollOptions
	cmd := &cobra.Command{
		Use:   "enroll",
		Short: "make this machine part of a fleet",
		Long: "enroll makes this machine an instance of the server's fleet, with the ID and code of an activation:\n" +
			"  waybill activations create\n\n" +
			"After a failure on the way, the same command may be repeated: it leads to the same instance. In the\n" +
			"environment variable of --tag, several tags are separated by " + listSeparator,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runEnroll(cmd, &o) },
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func (o *enrollOptions) addFlags(flags *pflag.FlagSet) {
	addStateDir(flags, &o.StateDir)
	flags.StringVar(&o.Server, "server", "", "`URL` of the server, such as https://waybill.example.com:8480")
	flags.StringVar(&o.caFile, "ca", "", "PEM `FILE` with the CA of the server's certificate (default: the system's)")
	flags.StringVar(&o.ActivationID, "activation-id", "", "`ID` of the activation")
	flags.StringVar(&o.ActivationCode, "activation-code", "", "`CODE` of the activation")
	flags.StringVar(&o.Name, "name", "", "`NAME` of the instance (default: the activation's prefix, or the host name)")
	flags.StringArrayVar(&o.tags, "tag", nil, "tag of the instance, `KEY=VALUE`; may be repeated")
	flags.BoolVar(&o.Force, "force", false, "forget the identity that this machine has, and what it had still to report")
}

func runEnroll(cmd *cobra.Command, o *enrollOptions) error {
	for _, f := range []struct{ flag, value string }{
		{"server", o.Server}, {"activation-id", o.ActivationID}, {"activation-code", o.ActivationCode},
	} {
		if f.value == "" {
			return usagef(cmd, "--%s is required", f.flag)
		}
	}
	o.Version = version
	o.Tags = make(map[string]string, len(o.tags))
	for _, t := range o.tags {
		k, v, ok := strings.Cut(t, "=")
		if !ok || k == "" {
			return usagef(cmd, "--tag %q is not KEY=VALUE", t)
		}
		o.Tags[k] = v
	}
	if o.caFile != "" {
		pem, err := os.ReadFile(o.caFile)
		if err != nil {
			return fmt.Errorf("read --ca: %w", err)
		}
		o.CA = string(pem)
	}
	s, err := agent.Enroll(cmd.Context(), o.EnrollOptions)
	switch _, refused := errors.AsType[*agent.Refusal](err); {
	case errors.Is(err, agent.ErrServerURL):
		return usagef(cmd, "--server: %w", err)
	case errors.Is(err, agent.ErrNoCA):
		return usagef(cmd, "--ca %s: %w", o.caFile, err)
	case errors.Is(err, agent.ErrEnrolled), refused, errors.Is(err, os.ErrPermission):
		return err
	case err != nil:
		return fmt.Errorf("%w; when that is mended, run the same command again", err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "enrolled as %s (%s) at %s\nnow start the agent: waybill-agent run%s\n",
		s.Instance, s.Name, s.Server, stateDirArg(o.StateDir))
	return nil
}

// stateDirArg is what must be added to a suggested command so that it finds the same state.
func stateDirArg(dir string) string {
	if dir == defaultStateDir() {
		return ""
	}
	return " --state-dir " + dir
}
