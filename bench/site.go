// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/server"
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

// auditKey is for stores that are opened beside a server, or without one: they write no audit records.
var auditKey = make([]byte, 32)

// databaseName is what a server calls its database.
const databaseName = "waybill.db"

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
	pool, err := poolOf(key.CA)
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{
		Endpoint: key.Endpoint, AccessKeyID: key.AccessKeyID, AccessKeySecret: key.AccessKeySecret, Region: key.Region,
		HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS(pool), MaxIdleConnsPerHost: agentSenders}},
	})
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

// lookEvery is how often a database is looked into, and so how exact the end of a delivery is known.
const lookEvery = time.Millisecond

// await waits until query, which counts something, returns want.
func (s *site) await(ctx context.Context, want int, query string, args ...any) error {
	look, err := s.watch.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	defer look.Close()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for n := -1; ; {
		if err := look.QueryRowContext(ctx, args...).Scan(&n); err != nil {
			return err
		}
		if n == want {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %d instead of %d: %w", query, n, want, context.Cause(ctx))
		}
	}
}

// machine is a directory that stands for a machine.
type machine struct {
	id    waybill.InstanceID
	root  string
	state string
}

const enrolAtOnce = 8

// enrol makes n machines known to the server, through its HTTPS endpoint as any machine does.
func (b *bench) enrol(ctx context.Context, s *site, n int) ([]machine, error) {
	dir, err := b.scratch("machines")
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
	machines := make([]machine, n)
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(enrolAtOnce)
	for i := range machines {
		eg.Go(func() error {
			home := filepath.Join(dir, strconv.Itoa(i))
			m := machine{root: filepath.Join(home, "root"), state: filepath.Join(home, "state")}
			if err := os.MkdirAll(m.root, 0o755); err != nil {
				return err
			}
			st, err := agent.Enroll(ctx, agent.EnrollOptions{
				StateDir: m.state, Server: s.key.Endpoint, CA: string(ca), Version: "bench",
				ActivationID: string(act.ID), ActivationCode: act.Code,
			})
			m.id = waybill.InstanceID(st.Instance)
			machines[i] = m
			return err
		})
	}
	return machines, eg.Wait()
}

// runAgents runs an agent for each machine until stop is called, and returns once the server sees all of them.
func runAgents(ctx context.Context, s *site, machines []machine, log *slog.Logger) (stop func(), err error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx)) // they outlive what is measured with them
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
			if err := a.Run(running); err != nil {
				log.Error("agent ended", "instance_id", m.id, "err", err)
			}
		})
	}
	if err := s.awaitOnline(ctx, len(machines)); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

func (s *site) awaitOnline(ctx context.Context, n int) error {
	return s.await(ctx, n, `SELECT COUNT(*) FROM instances WHERE presence = ?`, waybill.Online)
}

// file is a request for a file that whoever runs this may place.
func file(name string, content []byte, to ...machine) client.SendFileRequest {
	r := client.SendFileRequest{Content: content, File: waybill.FileSpec{
		Name: name, TargetDir: targetDir, Overwrite: true,
		Owner: strconv.Itoa(os.Geteuid()), Group: strconv.Itoa(os.Getegid()),
	}}
	for _, m := range to {
		r.Instances = append(r.Instances, m.id)
	}
	return r
}

const targetDir = "/srv"
