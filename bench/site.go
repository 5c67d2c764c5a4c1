// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/store"
)

const maxFleet = 100_000 // instances that a measured server lets one SendFile have, and one activation

// site is a running server, in this process or another, and what is needed to use it.
type site struct {
	dataDir string
	key     server.Credentials
	client  *client.Client
	watch   *sql.DB // its database, read only: looking into it costs the server next to nothing
	stop    func() error
}

// serverConfig is that of a server on free loopback ports, with limits out of the way.
func serverConfig(dataDir string) server.Config {
	cfg := server.DefaultConfig()
	cfg.AccountRate, cfg.ActionRate, cfg.PerAddress = 0, 0, 0 // what is measured is the server, not its limits
	cfg.DataDir = dataDir
	cfg.Listen, cfg.AgentListen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0", ""
	cfg.Control.Limits.Instances = maxFleet
	cfg.Control.Activations.InstanceCount = maxFleet
	return cfg
}

// openSite runs a server in this process. The caller must close it.
func (b *bench) openSite(ctx context.Context, change func(*server.Config)) (*site, error) {
	dir, err := b.scratch("server")
	if err != nil {
		return nil, err
	}
	cfg := serverConfig(dir)
	if change != nil {
		change(&cfg)
	}
	srv, err := server.Open(ctx, cfg, b.log)
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it outlives what is measured with it
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(running) }()
	stop := func() error {
		cancel()
		return errors.Join(<-ended, srv.Close())
	}
	s, err := joinSite(dir, stop)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return s, nil
}

// openChildSite runs a server in a process of its own. The caller must close the site, which ends the process.
func (b *bench) openChildSite(ctx context.Context) (*site, *child, error) {
	dir, err := b.scratch("server")
	if err != nil {
		return nil, nil, err
	}
	c, err := b.startChild(ctx, roleServer, part{Dir: dir})
	if err != nil {
		return nil, nil, err
	}
	s, err := joinSite(dir, c.end)
	if err != nil {
		return nil, nil, errors.Join(err, c.end())
	}
	return s, c, nil
}

// joinSite is a site for a server that runs on dataDir, which stop stops.
func joinSite(dataDir string, stop func() error) (*site, error) {
	key, err := readKey(dataDir)
	if err != nil {
		return nil, err
	}
	s := &site{dataDir: dataDir, key: key, stop: stop}
	if s.client, err = newCaller(&key); err != nil {
		return nil, err
	}
	s.watch, err = openSQLite(filepath.Join(dataDir, databaseName), "query_only(1)")
	return s, err
}

// openStore opens the database of a server that runs, as another of its servers would.
func (s *site) openStore(ctx context.Context, log *slog.Logger) (*store.Store, error) {
	sealer, err := identity.OpenSealer(filepath.Join(s.dataDir, "seal.key"))
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Config{
		URL: "sqlite:" + filepath.Join(s.dataDir, databaseName), AuditKey: control.AuditKey(sealer),
	}, log)
}

// auditKey is for stores without a server: they write no audit records.
var auditKey = make([]byte, 32)

// What a server calls its database, and an authority its certificate.
const (
	databaseName = "waybill.db"
	caName       = "ca.pem"
)

// readKey returns the first access key of the server that runs on dataDir.
func readKey(dataDir string) (key server.Credentials, err error) {
	b, err := os.ReadFile(filepath.Join(dataDir, server.CredentialsFile))
	if err != nil {
		return key, err
	}
	return key, json.Unmarshal(b, &key)
}

// newCaller returns a client with connections of its own, HTTP/1.1 over TLS and kept open.
func newCaller(key *server.Credentials) (*client.Client, error) {
	c, _, err := newTimedCaller(key)
	return c, err
}

// newTimedCaller also tells what the last call took from its being sent to the last byte of its answer. What comes before
// and after, signing and decoding, is the caller's.
func newTimedCaller(key *server.Credentials) (*client.Client, *stopwatch, error) {
	pool, err := poolOf(key.CA)
	if err != nil {
		return nil, nil, err
	}
	w := &stopwatch{over: &http.Transport{TLSClientConfig: clientTLS(pool), MaxIdleConnsPerHost: agentSenders}}
	c, err := client.New(client.Config{
		Endpoint: key.Endpoint, AccessKeyID: key.AccessKeyID, AccessKeySecret: key.AccessKeySecret, Region: key.Region,
		HTTP: &http.Client{Transport: w},
	})
	return c, w, err
}

// stopwatch times exchanges.
type stopwatch struct {
	over http.RoundTripper
	last atomic.Int64 // nanoseconds
}

// RoundTrip implements http.RoundTripper.
func (w *stopwatch) RoundTrip(r *http.Request) (*http.Response, error) {
	start := time.Now()
	resp, err := w.over.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	w.last.Store(int64(time.Since(start)))
	err = errors.Join(err, resp.Body.Close())
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, err
}

func poolOf(caFile string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	return pool, nil
}

func clientTLS(pool *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

func (s *site) close() error { return errors.Join(s.watch.Close(), s.stop()) }

// openSQLite opens a database with one connection, without the store.
func openSQLite(path string, pragmas ...string) (*sql.DB, error) {
	dsn := "file:" + path + "?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)"
	for _, p := range pragmas {
		dsn += "&_pragma=" + p
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	return db, db.Ping()
}

// lookEvery is how often a database is looked into, and so how exact the end of a delivery is known. Where a look takes
// long, as when it waits for a CPU, it is done less often, but never less than every lookAtLeast.
const (
	lookEvery   = time.Millisecond
	lookShare   = 20
	lookAtLeast = 5 * time.Millisecond
)

// await waits until query, which counts something, returns want.
func (s *site) await(ctx context.Context, want int, query string, args ...any) error {
	look, err := s.watch.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	defer look.Close()
	for n := -1; ; {
		begin := time.Now()
		if err := look.QueryRowContext(ctx, args...).Scan(&n); err != nil {
			return err
		}
		if n == want {
			return nil
		}
		if err := pause(ctx, min(max(lookEvery, lookShare*time.Since(begin)), lookAtLeast)); err != nil {
			return fmt.Errorf("%s: %d instead of %d: %w", query, n, want, err)
		}
	}
}

// machine is a directory that stands for a machine.
type machine struct {
	root  string
	state string
}

// machineIn is one of the machines in a directory.
func machineIn(dir string, number int) machine {
	home := filepath.Join(dir, "machines", strconv.Itoa(number))
	return machine{root: filepath.Join(home, "root"), state: filepath.Join(home, "state")}
}

// fleet is machines that a server knows.
type fleet struct {
	dir string
	ids []waybill.InstanceID // by the machines' numbers
}

const enrolAtOnce = 8

// enrol makes n machines known to the server, through its HTTPS endpoint as any machine does.
func (b *bench) enrol(ctx context.Context, s *site, n int) (*fleet, error) {
	dir, err := b.scratch("fleet")
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(s.key.CA)
	if err != nil {
		return nil, err
	}
	act, err := s.client.CreateActivation(ctx, client.CreateActivationRequest{InstanceName: "bench", InstanceCount: n})
	if err != nil {
		return nil, err
	}
	f := &fleet{dir: dir, ids: make([]waybill.InstanceID, n)}
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(enrolAtOnce)
	for i := range n {
		eg.Go(func() error {
			m := machineIn(dir, i)
			if err := os.MkdirAll(m.root, 0o755); err != nil {
				return err
			}
			st, err := agent.Enroll(ctx, agent.EnrollOptions{
				StateDir: m.state, Server: s.key.Endpoint, CA: string(ca), Version: "bench",
				ActivationID: string(act.ID), ActivationCode: act.Code,
			})
			f.ids[i] = waybill.InstanceID(st.Instance)
			return err
		})
	}
	return f, eg.Wait()
}

// startAgents runs an agent for each machine until stop is called, in other processes, and returns once the server sees
// all of them.
func (b *bench) startAgents(ctx context.Context, s *site, f *fleet) (stop func() error, err error) {
	if stop, err = b.startMachines(ctx, roleAgents, part{Dir: f.dir}, len(f.ids)); err != nil {
		return nil, err
	}
	if err := s.awaitOnline(ctx, len(f.ids)); err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// runAgents runs an agent for each machine, in this process, until stop is called.
func runAgents(ctx context.Context, machines []machine, log *slog.Logger) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var agents sync.WaitGroup
	stop = func() {
		cancel()
		agents.Wait()
	}
	for _, m := range machines {
		a, err := agent.New(agent.Config{StateDir: m.state, Root: m.root, Version: "bench"}, log)
		if err != nil {
			stop()
			return nil, err
		}
		agents.Go(func() {
			if err := a.Run(ctx); err != nil {
				log.Error("agent ended", "state_dir", m.state, "err", err)
			}
		})
	}
	return stop, nil
}

func (s *site) awaitOnline(ctx context.Context, n int) error {
	return s.await(ctx, n, `SELECT COUNT(*) FROM instances WHERE presence = ?`, waybill.Online)
}

// file is a request for a file that whoever runs this may place.
func file(name string, content []byte, to ...waybill.InstanceID) client.SendFileRequest {
	return client.SendFileRequest{Content: content, Timeout: time.Hour, Instances: to, File: waybill.FileSpec{
		Name: name, TargetDir: targetDir, Overwrite: true,
		Owner: strconv.Itoa(os.Geteuid()), Group: strconv.Itoa(os.Getegid()),
	}}
}

const targetDir = "/srv"
