// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill"
)

func newInstancesCreateTokenCmd(e env, f *clientFlags) *cobra.Command {
	var server string
	cmd := &cobra.Command{
		Use:   "create-token ID",
		Short: "make the provider file of a machine with the official agent",
		Long: `Create-token makes a token by which the official agent of a machine is known in place of its signature, and prints
the provider file that makes the agent use it: an executable that is put at config/apiserver-provider below the
agent's directory. The token is not shown again. An earlier token of the machine ends.

Whoever reads the file can act for the machine until the token or the machine is removed. Where the server can be named
by environment variables, do that: the agent then signs what it sends.`,
		Example: `  waybill instances create-token mi-1 >apiserver-provider
  waybill instances create-token mi-1 --server waybill.example.com:8480 >apiserver-provider`,
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&server, "server", "", "`HOST:PORT` that the machine calls (default: that of --endpoint)")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		u, err := url.Parse(c.Endpoint())
		if err != nil {
			return err
		}
		if server == "" && u.Scheme != "https" {
			return usagef("the agent calls by HTTPS, and --endpoint is %s; name the address with --server", c.Endpoint())
		}
		if strings.Contains(server, "/") {
			return usagef("--server %s: give host and port alone, as in waybill.example.com:8480", server)
		}
		var ca []byte
		if f.ca != "" {
			if ca, err = os.ReadFile(f.ca); err != nil {
				return err
			}
		}
		id, once := waybill.InstanceID(args[0]), rand.Text()
		token, err := persist(ctx, e.err, func() (string, error) { return c.CreateInstanceToken(ctx, id, once) })
		if err != nil {
			return err
		}
		if server == "" && isLoopback(c.Endpoint()) {
			fmt.Fprintf(e.err, "note: only this machine reaches %s; for another, name it with --server\n", u.Host)
		}
		file, err := providerFile(provider{
			CACertificate: string(ca), ServerDomain: cmp.Or(server, u.Host), RegionID: c.Region(),
			ExtraHTTPHeaders: map[string]string{"Authorization": "Bearer " + token},
		})
		if err != nil {
			return err
		}
		return f.write(e, struct {
			InstanceID waybill.InstanceID `json:"InstanceId"`
			Token      string
			Provider   string
		}{id, token, file}, func() io.WriterTo { return strings.NewReader(file) })
	})
	return cmd
}

// provider is what a provider file tells the official agent (docs/official-agent.md, section 2.2).
type provider struct {
	CACertificate    string            `json:"caCertificate"` // PEM
	ServerDomain     string            `json:"serverDomain"`  // host:port
	ExtraHTTPHeaders map[string]string `json:"extraHTTPHeaders"`
	RegionID         string            `json:"regionId"`
}

// providerFile returns a shell script that prints p. The shell takes it as it is up to a line that says END, and JSON is
// one line.
func providerFile(p provider) (string, error) {
	b, err := json.Marshal(struct {
		SchemaVersion string   `json:"schemaVersion"`
		Result        provider `json:"result"`
	}{"1.0", p})
	if err != nil {
		return "", fmt.Errorf("provider file: %w", err)
	}
	return "#!/bin/sh\ncat <<'END'\n" + string(b) + "\nEND\n", nil
}

func newInstancesDeleteTokenCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete-token ID",
		Short: "end the token of a machine with the official agent",
		Long: `Delete-token ends the token of a machine's provider file. The agent is refused until the file is replaced, or
removed and the agent restarted: then it signs again.`,
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		id := waybill.InstanceID(args[0])
		if err := c.DeleteInstanceToken(ctx, id); err != nil {
			return err
		}
		return f.write(e, struct {
			InstanceID waybill.InstanceID `json:"InstanceId"`
		}{id}, textf("%s has no token any more", id))
	})
	return cmd
}
