// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill/internal/bus"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/telemetry"
)

// Ports of a node unless others are given: that of agents is the same as with the embedded server.
const (
	nodePort  = 8422
	routePort = 6222
)

type natsOptions struct {
	server.NATSConfig
	nodes                           []string
	bind, out, configDir, cert, key string
}

// newNATSConfigCmd works on the database itself, as accounts does: it needs the keys of the bus, which are in it.
func newNATSConfigCmd(e env) *cobra.Command {
	o := &natsOptions{}
	cmd := &cobra.Command{
		Use:   "nats-config --data-dir DIR --node NAME=HOST...",
		Short: "write what an external NATS cluster needs for the servers of a database",
		Long: `Nats-config prints the configuration of each node, for nats-server as it is. With --out it writes, for every node, a
directory with its configuration, certificate, key and CA, and server.creds for waybill server --nats-creds.

It takes the keys of the bus, and the CA, from the database of the servers, and begins one that is not there yet. Run
it as the servers' user. Run it again to add a node or to renew certificates, then restart the nodes one by one; the
keys of the bus stay the same.

A node is HOST, NAME=HOST, or NAME=HOST:PORT/ROUTEPORT; the ports are ` + strconv.Itoa(nodePort) + ` and ` + strconv.Itoa(routePort) + ` by default.`,
		Example: `  waybill nats-config --data-dir /var/lib/waybill --database postgres://waybill@db/waybill \
    --node n1=n1.example.com --node n2=n2.example.com --node n3=n3.example.com --config-dir /etc/nats --out nats
  waybill server --data-dir /var/lib/waybill --database postgres://waybill@db/waybill \
    --nats tls://n1.example.com:8422,tls://n2.example.com:8422,tls://n3.example.com:8422 --nats-creds nats/server.creds`,
		Args: usageArgs(cobra.NoArgs),
	}
	f := cmd.Flags()
	f.StringVar(&o.DataDir, "data-dir", "", "`DIR` of the server (required)")
	f.StringVar(&o.Database, "database", "", "`URL` of the server's database (default sqlite:DIR/waybill.db)")
	f.StringVar(&o.SealKey, "seal-key", "", "key `FILE` of the server (default DIR/seal.key)")
	f.StringArrayVar(&o.nodes, "node", nil, "`NODE` of the cluster; may be repeated")
	f.StringSliceVar(&o.Names, "tls-name", nil, "host `NAME` or address that every certificate is also good for; may be repeated")
	f.StringVar(&o.bind, "bind", "", "`ADDRESS` that every node listens on (default: all)")
	f.StringVar(&o.cert, "tls-cert", "", "PEM `FILE`, on every node, of another certificate for agents and servers; goes with waybill server --tls-cert")
	f.StringVar(&o.key, "tls-key", "", "PEM `FILE`, on every node, of its key")
	f.StringVar(&o.out, "out", "", "`DIR` to write files to (default: print the configurations)")
	f.StringVar(&o.configDir, "config-dir", "", "`DIR` in which every node will have its files (default: where they are written)")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error { return o.run(ctx, e) })
	return usageFlags(cmd)
}

func (o *natsOptions) run(ctx context.Context, e env) error {
	if o.DataDir == "" {
		return usagef("no data directory is given; add --data-dir DIR, that of the server")
	}
	if len(o.nodes) == 0 {
		return usagef("no node is given; add --node NAME=HOST for each")
	}
	if (o.cert == "") != (o.key == "") {
		return usagef("--tls-cert and --tls-key go together; give both or neither")
	}
	for _, text := range o.nodes {
		n, err := parseNode(text)
		if err != nil {
			return err
		}
		n.Bind, n.CertFile, n.KeyFile, n.Dir = o.bind, o.cert, o.key, o.configDir
		if n.Dir == "" {
			if n.Dir, err = filepath.Abs(filepath.Join(o.out, n.Name)); err != nil {
				return err
			}
		}
		o.Nodes = append(o.Nodes, n)
	}
	log, err := telemetry.NewLogger(e.err, slog.LevelWarn.String(), "text")
	if err != nil {
		return err
	}
	_, missing := os.Stat(filepath.Join(o.DataDir, "waybill.db"))
	c, err := server.OpenNATSCluster(ctx, o.NATSConfig, log)
	if err != nil {
		return err
	}
	if o.Database == "" && missing != nil {
		fmt.Fprintf(e.err, "waybill: %s/waybill.db was not there and has been begun; if the servers use another database, run this again with its --database\n", o.DataDir)
	}
	if o.out == "" {
		return c.WriteConfigs(e.out)
	}
	until, err := c.WriteFiles(o.out)
	if err != nil {
		return err
	}
	urls := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		urls[i] = n.URL()
		fmt.Fprintf(e.out, "node %s: copy %s to %s there, then: nats-server --config %s/%s\n",
			n.Name, filepath.Join(o.out, n.Name), n.Dir, n.Dir, bus.NodeConfigFile)
	}
	fmt.Fprintf(e.out, "servers: --nats %s --nats-creds %s\nthe certificates end on %s; run this again before\n",
		strings.Join(urls, ","), filepath.Join(o.out, server.NATSCredsFile), until.UTC().Format(time.DateOnly))
	return nil
}

// parseNode reads NAME=HOST:PORT/ROUTEPORT, of which only HOST must be there.
func parseNode(text string) (bus.Node, error) {
	n := bus.Node{Port: nodePort, RoutePort: routePort}
	bad := func() (bus.Node, error) {
		return n, usagef("--node %s: write it as NAME=HOST or NAME=HOST:PORT/ROUTEPORT", text)
	}
	name, at, named := strings.Cut(text, "=")
	if !named {
		at = text
	}
	at, route, ported := strings.Cut(at, "/")
	if ported {
		port, err := strconv.ParseUint(route, 10, 16)
		if err != nil {
			return bad()
		}
		n.RoutePort = int(port)
	}
	n.Host = at
	if host, port, err := net.SplitHostPort(at); err == nil {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return bad()
		}
		n.Host, n.Port = host, int(number)
	}
	n.Host = strings.Trim(n.Host, "[]")
	if n.Name = name; !named {
		n.Name = n.Host
	}
	if n.Host == "" || n.Name == "" || strings.ContainsAny(n.Name+n.Host, "/\\ \"\t\n") {
		return bad()
	}
	return n, nil
}
