// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill/internal/api"
	"github.com/openwaybill/waybill/internal/lockfile"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/telemetry"
)

type serverOptions struct {
	server.Config
	configFile string
	networks   []string
	otlp       string // base URL of a collector of traces
	logLevel   string
	logFormat  string

	agentListenGiven bool
}

func newServerCmd(e env) *cobra.Command {
	o := &serverOptions{Config: server.DefaultConfig()}
	o.Version = version
	cmd := &cobra.Command{
		Use:   "server --data-dir DIR",
		Short: "run a server",
		Long: "Run a server. The first start on an empty data directory makes a CA, an account and its access key, prints\n" +
			"the key once and writes it to DIR/" + server.CredentialsFile + " (mode 0600).\n\n" +
			"Every flag can also be given as WAYBILL_… in the environment, or under its name in the YAML file of --config;\n" +
			"a flag wins over the environment, the environment over the file.\n\n" +
			"Sockets that systemd passes by the names https, http and admin are used instead of the addresses. On SIGUSR2 the\n" +
			"server starts the program again, leaves its sockets to it, and ends; if that fails, it goes on.\n\n" +
			"Exit codes: 0 told to stop by SIGTERM or SIGINT, or succeeded, 1 error, 2 usage or settings.",
		Example: "  waybill server --data-dir /var/lib/waybill --tls-name waybill.example.com\n" +
			"  WAYBILL_DATA_DIR=/var/lib/waybill waybill server --config /etc/waybill.yaml",
		Args: usageArgs(cobra.NoArgs),
	}
	o.addFlags(cmd.Flags())
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		if err := flagsFromFile(cmd.Flags(), o.configFile); err != nil {
			return err
		}
		for _, n := range o.networks {
			network, err := netip.ParsePrefix(n)
			if err != nil {
				return usagef("--webhook-network %q is no network such as 10.1.0.0/16", n)
			}
			o.Control.Webhooks.Networks = append(o.Control.Webhooks.Networks, network)
		}
		o.Settings = settingsOf(cmd.Flags())
		o.agentListenGiven = cmd.Flags().Changed("agent-listen")
		return o.run(ctx, e)
	})
	return usageFlags(cmd)
}

// settingsOf returns the settings in force, for whoever may ask the server. Files with secrets are named; what could itself hold
// a secret, because it is an address, is shown without one.
func settingsOf(flags *pflag.FlagSet) []api.Setting {
	var list []api.Setting
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		list = append(list, api.Setting{Name: f.Name, Value: withoutSecret(f.Value.String())})
	})
	return list
}

var (
	passwordWord = regexp.MustCompile(`(?i)(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)`)
	// inURL finds the password of a URL: whatever is between its user and the last @, for it may hold anything.
	inURL    = regexp.MustCompile(`(?s)^(\w+://[^:/?@]*):.*@`)
	nextURL  = regexp.MustCompile(`,(\w+://)`)
	between  = "\x00" // in no setting
	hideWord = "${1}xxxxx"
)

// withoutSecret hides the password of a URL, or of several with commas between them, and of the keyword form of PostgreSQL.
func withoutSecret(value string) string {
	parts := strings.Split(nextURL.ReplaceAllString(value, between+"$1"), between)
	for i, part := range parts {
		parts[i] = inURL.ReplaceAllString(part, "${1}:xxxxx@")
	}
	return passwordWord.ReplaceAllString(strings.Join(parts, ","), hideWord)
}

// addFlags adds every setting of a server. Their names are those of the settings file and, with WAYBILL_, of the
// environment, so they are the one list that docs/configuration.md is checked against.
func (o *serverOptions) addFlags(f *pflag.FlagSet) {
	c := &o.Control
	f.StringVar(&o.configFile, "config", "", "YAML `FILE` with settings, one key for each of these flags")
	f.StringVar(&o.DataDir, "data-dir", "",
		"`DIR` of the database, the keys and the CA; created if it is not there (required)")
	f.StringVar(&o.Listen, "listen", o.Listen, "`ADDRESS` for HTTPS: the API, and the enrolment of agents")
	f.StringVar(&o.HTTPListen, "http-listen", "", "loopback `ADDRESS` for the API over plain HTTP; none by default")
	f.StringVar(&o.AgentListen, "agent-listen", o.AgentListen, "`ADDRESS` for the agents' link (TLS)")
	f.StringVar(&o.AdminListen, "admin-listen", o.AdminListen,
		"`ADDRESS` for metrics, health and profiles over plain HTTP; empty: none")
	f.StringVar(&o.Database, "database", "", "`URL` of the database (default sqlite:DIR/waybill.db)")
	f.StringVar(&o.Blob, "blob", "", "`URL` of the place for contents above 1 MiB: file:DIR, or s3://BUCKET/PREFIX?endpoint=URL for several "+
		"servers (default file:DIR/blobs)")
	f.StringVar(&o.SealKey, "seal-key", "", "key `FILE` with which secrets in the database are sealed (default DIR/seal.key)")
	f.StringVar(&o.NATSURL, "nats", "",
		"`URL` of an external NATS cluster, those of its nodes with commas between them; embedded by default")
	f.StringVar(&o.NATSCreds, "nats-creds", "", "credentials `FILE` for the NATS cluster")
	f.StringSliceVar(&c.Regions, "region", c.Regions,
		"region `ID` to answer for; may be repeated, the first is the default")
	f.StringVar(&o.TLSCert, "tls-cert", "", "PEM `FILE` with the server's certificate; one of DIR's own CA by default")
	f.StringVar(&o.TLSKey, "tls-key", "", "PEM `FILE` with its key")
	f.StringSliceVar(&o.TLSNames, "tls-name", nil,
		"host `NAME` or address the own certificate is also good for; may be repeated")
	f.StringSliceVar(&o.AgentAddress, "agent-address", nil,
		"`URL` tls://host:port at which agents find their link; may be repeated (default: the host they enrolled at, or --nats)")
	f.DurationVar(&o.TokenLife, "agent-token-life", o.TokenLife,
		"how long an agent may use the link before it renews its token")
	f.DurationVar(&o.DrainDelay, "drain-delay", o.DrainDelay,
		"how long the server goes on when it is told to stop, while /readyz answers 503: until load balancers have noticed")
	f.DurationVar(&o.DrainFor, "drain", o.DrainFor, "how long requests under way may take when the server stops")
	f.Float64Var(&o.AccountRate, "rate-limit", o.AccountRate, "requests of an account in a second; 0: no limit")
	f.Float64Var(&o.ActionRate, "operation-rate-limit", o.ActionRate,
		"requests of an account to one operation in a second; 0: no limit")
	f.IntVar(&o.PerAddress, "max-connections-per-address", o.PerAddress,
		"connections of one address to each listener of the API at once; 0: no limit")
	f.DurationVar(&o.HeaderTimeout, "header-timeout", o.HeaderTimeout,
		"how long a peer may take over the TLS handshake and the header of a request")
	f.DurationVar(&o.Assist.Window, "official-agent-clock-window", o.Assist.Window,
		"how far the clock of a machine with the official agent may be off")
	f.StringVar(&o.HelpURL, "help-url", "", "`URL` that, followed by an error code, is recommended in error answers; "+
		"by default that of the console's page about it")
	f.StringVar(&o.BootstrapID, "bootstrap-access-key-id", "", "`ID` of the first access key; made up by default")
	f.StringVar(&o.BootstrapKey, "bootstrap-access-key-secret-file", "",
		"`FILE` with the secret of the first access key (or WAYBILL_BOOTSTRAP_ACCESS_KEY_SECRET)")
	f.IntVar(&c.Limits.Instances, "max-instances", c.Limits.Instances, "instances that one SendFile names one by one")
	f.IntVar(&c.Limits.Targets, "max-targets", c.Limits.Targets, "instances that one SendFile reaches by a list or a selector")
	f.IntVar(&c.Limits.ContentBytes, "max-content", c.Limits.ContentBytes,
		"bytes of the content of one SendFile, as Base64")
	f.Int64Var(&c.MaxUpload, "max-upload", c.MaxUpload, "bytes of the largest content that may be uploaded, to be sent by its digest")
	f.IntVar(&c.Uploads, "max-uploads", c.Uploads, "uploads of an account that are not finished")
	f.DurationVar(&c.Limits.MaxTimeout, "max-timeout", c.Limits.MaxTimeout, "longest timeout of a delivery")
	f.IntVar(&c.Activations.InstanceCount, "max-activation-instances", c.Activations.InstanceCount,
		"machines of one activation")
	f.DurationVar(&c.Activations.TTL, "max-activation-life", c.Activations.TTL, "longest life of an activation")
	f.IntVar(&c.Activations.PerRegion, "max-activations", c.Activations.PerRegion, "activations of an account in a region")
	f.IntVar(&c.Instances, "max-managed-instances", c.Instances,
		"enrolled machines of an account in a region; 0: no limit")
	f.IntVar(&c.Users, "max-users", c.Users, "users of an account")
	f.IntVar(&c.UserGroups, "max-user-groups", c.UserGroups, "groups of users of an account")
	f.IntVar(&c.AccessKeys, "max-access-keys", c.AccessKeys, "access keys of a user, or of an account itself")
	f.DurationVar(&c.TemporaryLife, "max-temporary-key-life", c.TemporaryLife, "longest life of a temporary key")
	f.IntVar(&c.Policies, "max-policies", c.Policies, "policies of an account's own")
	f.IntVar(&c.Attachments, "max-attached-policies", c.Attachments, "policies attached to one user or group of users")
	f.IntVar(&c.ResourceGroups, "max-resource-groups", c.ResourceGroups, "resource groups of an account")
	f.IntVar(&c.Webhooks.PerRegion, "max-webhooks", c.Webhooks.PerRegion, "webhooks of an account in a region")
	f.StringSliceVar(&o.networks, "webhook-network", nil, "`CIDR` of a network that webhooks may reach although it is not public, "+
		"also by plain HTTP; may be repeated")
	f.DurationVar(&c.RetainFor, "retain-for", c.RetainFor, "how long ended deliveries are kept")
	f.IntVar(&c.RetainCount, "retain-count", c.RetainCount, "how many deliveries of an account in a region are kept")
	f.DurationVar(&c.RetainAuditFor, "audit-retain-for", c.RetainAuditFor, "how long audit records are kept")
	f.StringVar(&o.otlp, "otlp-endpoint", "", "base `URL` of a collector to send traces to, by OTLP over HTTP, such as http://127.0.0.1:4318; "+
		"none by default (or OTEL_EXPORTER_OTLP_ENDPOINT)")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
}

// flagsFromFile sets each flag that was given neither on the command line nor in the environment from a YAML file.
func flagsFromFile(flags *pflag.FlagSet, path string) error {
	if path == "" {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("read settings: %w", err)}
	}
	settings := map[string]yaml.Node{}
	if err := yaml.Unmarshal(b, &settings); err != nil {
		return usagef("read settings from %s: %w", path, err)
	}
	var errs []error
	byLine := func(a, b string) int { return cmp.Compare(settings[a].Line, settings[b].Line) }
	for _, name := range slices.SortedFunc(maps.Keys(settings), byLine) {
		node := settings[name]
		f := flags.Lookup(name)
		if f == nil || name == "config" || name == "help" {
			errs = append(errs, usagef("%s:%d: no setting is called %q; see waybill server --help", path, node.Line, name))
			continue
		}
		if f.Changed {
			continue
		}
		if err := setFromYAML(f, &node); err != nil {
			errs = append(errs, usagef("%s:%d: %s: %w", path, node.Line, name, err))
		}
	}
	return errors.Join(errs...)
}

func setFromYAML(f *pflag.Flag, node *yaml.Node) error {
	if list, ok := f.Value.(pflag.SliceValue); ok && node.Kind == yaml.SequenceNode {
		var values []string
		if err := node.Decode(&values); err != nil {
			return err
		}
		return list.Replace(values)
	}
	if node.Kind != yaml.ScalarNode {
		return errors.New("a single value is needed")
	}
	return f.Value.Set(node.Value)
}

func (o *serverOptions) run(ctx context.Context, e env) error {
	log, err := telemetry.NewLogger(e.err, o.logLevel, o.logFormat)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if o.DataDir == "" {
		return usagef("no data directory is given; add --data-dir DIR")
	}
	if o.Inherited, err = server.Inherit(); err != nil {
		return &exitError{exitUsage, err}
	}
	if o.BootstrapKey, err = o.bootstrapSecret(e); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		return &exitError{exitUsage, err}
	}
	if held, err := lockfile.Held(filepath.Join(o.DataDir, "lock")); err == nil && held && !o.Inherited.FromPredecessor() {
		return fmt.Errorf("another server runs on %s; end it, or take another --data-dir", o.DataDir)
	}
	if o.NATSURL != "" && o.agentListenGiven {
		return usagef("--agent-listen is of no use with --nats: agents connect to the nodes of the cluster; leave it out")
	}
	if err := checkListeners(&o.Config); err != nil {
		return err
	}
	closeTracer, err := o.trace(ctx, e, log)
	if err != nil {
		return err
	}
	defer closeTracer()
	s, err := server.Open(ctx, o.Config, log)
	if err != nil {
		return err
	}
	switch c := s.First(); {
	case c == nil:
	case o.BootstrapID != "": // whoever gave it knows it, and what is printed is kept by whoever runs containers
		fmt.Fprintf(e.out, "made the first account, %s, with the access key %s that was given (also in %s)\n",
			c.AccountID, c.AccessKeyID, filepath.Join(o.DataDir, server.CredentialsFile))
	default:
		fmt.Fprintf(e.out, "made the first account, %s, and its access key (also in %s):\n\n"+
			"  export ALIBABA_CLOUD_ACCESS_KEY_ID=%s\n  export ALIBABA_CLOUD_ACCESS_KEY_SECRET=%s\n"+
			"  export WAYBILL_ENDPOINT=%s\n",
			c.AccountID, filepath.Join(o.DataDir, server.CredentialsFile), c.AccessKeyID, c.AccessKeySecret, c.Endpoint)
		if c.CA != "" {
			fmt.Fprintf(e.out, "  export WAYBILL_CA=%s\n", c.CA)
		}
		fmt.Fprintln(e.out)
	}
	told := make(chan os.Signal, 1)
	notifyHandOver(told)
	defer signal.Stop(told)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var eg errgroup.Group
	eg.Go(func() error {
		defer stop()
		return s.Run(ctx)
	})
	eg.Go(func() error {
		defer stop()
		handOver(ctx, told, s, e, log)
		return nil
	})
	return errors.Join(eg.Wait(), s.Close())
}

// tracesWithin bounds how long a server that ends tries to get rid of the traces it has.
const tracesWithin = 3 * time.Second

// trace begins to trace if a flag or the environment says so. The returned function sends what is left.
func (o *serverOptions) trace(ctx context.Context, e env, log *slog.Logger) (closeTracer func(), err error) {
	getenv := func(name string) string {
		v, _ := e.lookup(name)
		return v
	}
	wanted, err := telemetry.TracesWanted(getenv)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	if !wanted && o.otlp == "" {
		return func() {}, nil
	}
	if o.Tracer, err = telemetry.NewTracer(ctx, telemetry.TraceConfig{Endpoint: o.otlp, Version: version}, log); err != nil {
		return nil, &exitError{exitUsage, err}
	}
	log.Info("traces are sent")
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracesWithin)
		defer cancel()
		if err := o.Tracer.Close(ctx); err != nil {
			log.Warn("the last traces were not sent", "err", err)
		}
	}, nil
}

// handOver leaves the sockets of s to a successor when it is told to, and returns when one has them, or ctx ends.
func handOver(ctx context.Context, told <-chan os.Signal, s *server.Server, e env, log *slog.Logger) {
	exe, err := os.Executable() // now: if the file is renamed later, it is what takes its place that is wanted
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
		}
		cmd := &exec.Cmd{Path: exe, Args: os.Args, Err: err, Stdin: e.in, Stdout: e.out, Stderr: e.err}
		if err := s.HandOver(ctx, cmd); err != nil {
			if ctx.Err() != nil {
				return // told to stop meanwhile
			}
			log.Error("not handed over, this server goes on; correct what the successor said and send SIGUSR2 again", "err", err)
			continue
		}
		log.Info("handed over, this server ends", "successor", cmd.Process.Pid)
		return
	}
}

// checkListeners finds addresses that cannot be listened on before anything is made, and names the flag to change.
func checkListeners(c *server.Config) error {
	agents := c.AgentListen
	if c.NATSURL != "" {
		agents = "" // they come to the cluster
	}
	var errs []error
	if c.Inherited.FromPredecessor() {
		agents = "" // it listens still
	}
	for _, f := range []struct{ name, flag, address string }{
		{"https", "listen", c.Listen},
		{"http", "http-listen", c.HTTPListen},
		{"", "agent-listen", agents},
		{"admin", "admin-listen", c.AdminListen},
	} {
		if f.address == "" || c.Inherited.Listener(f.name) != nil {
			continue
		}
		l, err := net.Listen("tcp", f.address)
		switch {
		case err == nil:
			errs = append(errs, l.Close())
		case errors.Is(err, syscall.EADDRINUSE):
			errs = append(errs, fmt.Errorf("another program listens on %s; end it, or take another port, such as a free one: "+
				"--%s 127.0.0.1:0", f.address, f.flag))
		default:
			errs = append(errs, fmt.Errorf("--%s: %w", f.flag, err))
		}
	}
	return errors.Join(errs...)
}

// bootstrapSecret returns the secret of the first key, from the environment or a file: a flag would show it to others.
func (o *serverOptions) bootstrapSecret(e env) (string, error) {
	if secret, ok := e.lookup("WAYBILL_BOOTSTRAP_ACCESS_KEY_SECRET"); ok {
		return secret, nil
	}
	if o.BootstrapKey == "" {
		return "", nil
	}
	b, err := os.ReadFile(o.BootstrapKey)
	if err != nil {
		return "", fmt.Errorf("read the secret of the first access key: %w", err)
	}
	return string(trimNewline(b)), nil
}

func trimNewline(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return b
}
