// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/script"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/telemetry"
)

type demoOptions struct {
	once        bool
	agents      int
	dir         string
	listen      string
	httpListen  string
	agentListen string
	logLevel    string
	script      string
	check       bool
	info        string
}

func newDemoCmd(e env) *cobra.Command {
	o := &demoOptions{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "run a server with a few machines on this one, and deliver a file to them",
		Long: `Run a server and a few agents, each with a root directory of its own, and deliver a real file to them. It stays
up until Ctrl-C, to be tried with any client.

With --script nothing is delivered: the machines of FILE wait for deliveries, and answer each as FILE says, for tests of
code that calls the API. See docs/testing-with-waybill.md.

Exit codes: 0 ended by Ctrl-C, or with --once: all machines have the file; 1 error, 2 usage, 3 some machines do not
have the file, 4 not final in time.`,
		Example: `  waybill demo
  waybill demo --once --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --agent-listen 127.0.0.1:0
  waybill demo --script machines.yaml --info demo.json`,
		Args: usageArgs(cobra.NoArgs),
	}
	f := cmd.Flags()
	f.BoolVar(&o.once, "once", false, "end after the first delivery")
	f.IntVar(&o.agents, "agents", 3, "`NUMBER` of machines, at most 50")
	f.StringVar(&o.dir, "dir", "",
		"`DIR` for the server's data and the machines' files (default: a temporary one, removed at the end)")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8480", "`ADDRESS` for HTTPS")
	f.StringVar(&o.httpListen, "http-listen", "127.0.0.1:8479", "loopback `ADDRESS` for plain HTTP")
	f.StringVar(&o.agentListen, "agent-listen", "127.0.0.1:8422", "`ADDRESS` for the agents' link")
	f.StringVar(&o.logLevel, "log-level", "error", "debug, info, warn or error")
	f.StringVar(&o.script, "script", "", "YAML `FILE` that says what becomes of the deliveries to each machine")
	f.BoolVar(&o.check, "check", false, "with --script: only check it")
	f.StringVar(&o.info, "info", "",
		"with --script: `FILE` for addresses, keys and machines as JSON, there while the demo is ready")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		if o.script != "" {
			for _, other := range []string{"once", "agents"} {
				if f.Changed(other) {
					return usagef("--%s has no meaning with --script; leave one of them out", other)
				}
			}
			return o.runScript(ctx, e)
		}
		for _, only := range []string{"check", "info"} {
			if f.Changed(only) {
				return usagef("--%s goes with --script FILE", only)
			}
		}
		if most := waybill.DefaultLimits().Instances; o.agents < 1 || o.agents > most {
			return usagef("%d machines: from 1 to %d are possible", o.agents, most)
		}
		return o.run(ctx, e, nil)
	})
	return usageFlags(cmd)
}

// run runs a server, and either delivers a file to some machines or, if parts are given, leaves the machines to play them.
func (o *demoOptions) run(ctx context.Context, e env, parts *script.Script) (err error) {
	log, err := telemetry.NewLogger(e.err, o.logLevel, "text")
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "waybill-demo-"); err != nil {
			return fmt.Errorf("%w; name a directory that can be written with --dir", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	} else if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return fmt.Errorf("%w; name a directory that can be written with --dir", err)
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	cfg := server.DefaultConfig()
	cfg.DataDir = filepath.Join(o.dir, "server")
	cfg.Listen, cfg.HTTPListen, cfg.AgentListen, cfg.AdminListen = o.listen, o.httpListen, o.agentListen, ""
	if err := checkListeners(&cfg); err != nil {
		return err
	}
	var players *script.Fleet
	if parts != nil {
		players = o.players(&cfg, parts, log)
	}
	s, err := server.Open(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	// The server outlives the agents, so that they can say goodbye; and both the work, whose end is theirs.
	serverCtx, stopServer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServer()
	var serving, fleet errgroup.Group
	serving.Go(func() error { return s.Run(serverCtx) })
	agentCtx, stopAgents := context.WithCancel(ctx)
	defer stopAgents()
	if players != nil {
		err = o.play(ctx, e, s, players)
	} else {
		err = o.show(ctx, agentCtx, e, s, &fleet, log)
	}
	switch {
	case err != nil || players != nil:
	case o.once:
		fmt.Fprintln(e.out, "\nThat was all: with --once the server ends now. Leave it out to go on.")
	default:
		fmt.Fprintln(e.out, "\nIt stays up until you press Ctrl-C.")
		<-ctx.Done()
	}
	if !o.once && ctx.Err() != nil {
		err = nil // Ctrl-C is how it ends, however far it has come
	}
	stopAgents()
	err = errors.Join(err, fleet.Wait())
	stopServer()
	return errors.Join(err, serving.Wait())
}

// show enrols the machines, delivers a file to them and says how to go on.
func (o *demoOptions) show(
	ctx, agentCtx context.Context, e env, s *server.Server, fleet *errgroup.Group, log *slog.Logger,
) error {
	cred, err := readCredentials(o.credentialsFile())
	if err != nil {
		return err
	}
	c, err := client.New(client.Config{
		Endpoint: cred.Endpoint, CAFile: cred.CA, Region: cred.Region,
		AccessKeyID: cred.AccessKeyID, AccessKeySecret: cred.AccessKeySecret,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "server   %s (data in %s)\n", cred.Endpoint, filepath.Join(o.dir, "server"))
	if err := o.enrol(ctx, agentCtx, e, c, cred, fleet, log); err != nil {
		return err
	}
	ids, err := waitOnline(ctx, c, o.agents)
	if err != nil {
		return err
	}
	file := filepath.Join(o.dir, "hello.txt")
	text := fmt.Sprintf("Delivered by Waybill on %s.\n", time.Now().Format(time.RFC1123))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "\n$ waybill send %s --to /srv/demo --all --mode 0640 --overwrite --wait%s\n",
		file, joined(ownerFlags()))
	// The variables that it prints may still be set for an earlier demo.
	send := newSendCmd(env{in: e.in, out: e.out, err: e.err, lookup: func(string) (string, bool) { return "", false }})
	args := []string{
		file, "--to", "/srv/demo", "--mode", "0640", "--overwrite", "--wait",
		"--credentials", o.credentialsFile(),
	}
	for _, id := range ids {
		args = append(args, "--instance", string(id))
	}
	send.SetArgs(append(args, ownerFlags()...))
	send.SilenceErrors, send.SilenceUsage = true, true
	if err := send.ExecuteContext(ctx); err != nil {
		return err
	}
	fmt.Fprintln(e.out, "\nThe file is at")
	for i := range o.agents {
		fmt.Fprintf(e.out, "  %s\n", filepath.Join(o.root(i), "srv", "demo", "hello.txt"))
	}
	o.tellHow(e, s, cred, ids[0])
	return nil
}

func (o *demoOptions) credentialsFile() string {
	return filepath.Join(o.dir, "server", server.CredentialsFile)
}

func (o *demoOptions) root(i int) string {
	return filepath.Join(o.dir, fmt.Sprintf("demo-%03d", i+1), "root")
}

func (o *demoOptions) enrol(
	ctx, agentCtx context.Context, e env, c *client.Client, cred credentials, fleet *errgroup.Group, log *slog.Logger,
) error {
	ca, err := os.ReadFile(cred.CA)
	if err != nil {
		return err
	}
	wanted := client.CreateActivationRequest{InstanceName: "demo", InstanceCount: o.agents}
	activation, err := c.CreateActivation(ctx, wanted)
	if err != nil {
		return err
	}
	for i := range o.agents {
		root := o.root(i)
		if err := os.MkdirAll(root, 0o755); err != nil {
			return err
		}
		state := filepath.Join(filepath.Dir(root), "state")
		was, err := agent.ReadStatus(state)
		elsewhere := err == nil && was.Server != cred.Endpoint
		_, err = agent.Enroll(ctx, agent.EnrollOptions{
			StateDir: state, Server: cred.Endpoint, CA: string(ca), Version: version,
			ActivationID: string(activation.ID), ActivationCode: activation.Code, Tags: map[string]string{"env": "demo"},
			Force: elsewhere,
		})
		if err != nil && !errors.Is(err, agent.ErrEnrolled) { // an earlier demo of this directory had the same address
			return err
		}
		a, err := agent.New(agent.Config{StateDir: state, Root: root, Version: version}, log.With("machine", i+1))
		if err != nil {
			return err
		}
		fmt.Fprintf(e.out, "machine  demo-%03d (its / is %s)\n", i+1, root)
		fleet.Go(func() error { return a.Run(agentCtx) })
	}
	return nil
}

// waitOnline returns the IDs of n machines once all of them are connected.
func waitOnline(ctx context.Context, c *client.Client, n int) ([]waybill.InstanceID, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var ids []waybill.InstanceID
		for i, err := range c.Instances(ctx, client.InstanceFilter{}) {
			if err != nil {
				return nil, err
			}
			if i.Connected {
				ids = append(ids, i.ID)
			}
		}
		if len(ids) >= n {
			return ids, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("only %d of %d machines came online; see what they log with --log-level debug", len(ids), n)
		case <-tick.C:
		}
	}
}

// ownerFlags makes the file the user's own where the demo does not run as root, who alone may give files away.
func ownerFlags() []string {
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		return nil
	}
	u, err := user.Current()
	if err != nil {
		return nil // the delivery will say what is missing
	}
	return []string{"--owner", u.Uid, "--group", u.Gid}
}

// joined is what is added to a command line for words.
func joined(words []string) string {
	return strings.Join(append([]string{""}, words...), " ")
}

// tellHow prints how to reach the server with the usual clients.
func (o *demoOptions) tellHow(e env, s *server.Server, cred credentials, instance waybill.InstanceID) {
	exe, err := os.Executable()
	if err != nil {
		exe = "waybill"
	}
	httpAddr := s.Addr("http")
	if _, err := netip.ParseAddrPort(httpAddr); err != nil {
		httpAddr = ""
	}
	fmt.Fprintf(e.out, `
Go on in another terminal
  export ALIBABA_CLOUD_ACCESS_KEY_ID=%s
  export ALIBABA_CLOUD_ACCESS_KEY_SECRET=%s
  export WAYBILL_ENDPOINT=%s
  export WAYBILL_CA=%s

  %s instances list
  %s results
  date | %s send - --name date.txt --to /srv/demo --all --overwrite --wait%s
`, cred.AccessKeyID, cred.AccessKeySecret, cred.Endpoint, cred.CA, exe, exe, exe, joined(ownerFlags()))
	if httpAddr == "" {
		return
	}
	owner := strings.NewReplacer("--owner", "--FileOwner", "--group", "--FileGroup").Replace(joined(ownerFlags()))
	fmt.Fprintf(e.out, `
with the official command line
  aliyun ecs DescribeSendFileResults --region %s --RegionId %s --endpoint %s --insecure
  aliyun ecs SendFile --region %s --RegionId %s --InstanceId.1 %s --Name motd --TargetDir /etc --Content "hello"%s --endpoint %s --insecure

or with the official SDK for Node.js
  npm install @alicloud/pop-core && node -e 'new (require("@alicloud/pop-core").RPCClient)({endpoint:"http://%s",apiVersion:"2014-05-26",accessKeyId:process.env.ALIBABA_CLOUD_ACCESS_KEY_ID,accessKeySecret:process.env.ALIBABA_CLOUD_ACCESS_KEY_SECRET}).request("DescribeSendFileResults",{RegionId:"%s"}).then(r=>console.log(JSON.stringify(r,null,1)))'
`, cred.Region, cred.Region, httpAddr, cred.Region, cred.Region, instance, owner, httpAddr, httpAddr, cred.Region)
}
