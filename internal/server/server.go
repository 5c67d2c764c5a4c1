// SPDX-License-Identifier: Apache-2.0

// Package server assembles a whole Waybill server from its parts: store, bus, use cases and front ends on their
// listeners. The waybill command, the demo, the tests and the benchmarks all start this one.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill/internal/api"
	"github.com/openwaybill/waybill/internal/bus"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/gateway"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/lockfile"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/telemetry"
	"github.com/openwaybill/waybill/internal/wire"
)

// Config is everything that can be set. Start from DefaultConfig.
type Config struct {
	Version string // of this program, for the description of the API
	DataDir string // holds the database, the keys and the CA; created if it is not there, its parent must be

	Listen      string // HTTPS: API and agent enrolment
	HTTPListen  string // plain HTTP for the API, on a loopback address only; empty: none
	AgentListen string // TLS: the agents' link
	AdminListen string // plain HTTP: metrics, health, profiles; empty: none

	Database     string // empty: sqlite:DataDir/waybill.db
	NATSURL      string // an external NATS cluster; empty: embedded
	NATSCreds    string
	TLSCert      string // PEM files of the server's certificate; empty: one of the data directory's own CA
	TLSKey       string
	TLSNames     []string      // host names and addresses the own certificate is also good for
	AgentAddress []string      // where agents find the link, tls://host:port; empty: the host they enrolled at
	TokenLife    time.Duration // how long an agent's token is good
	DrainFor     time.Duration // how long requests under way may take when the server stops
	HelpURL      string        // see api.Config
	AccountRate  float64       // requests of an account in a second; 0: no limit
	ActionRate   float64       // requests of an account to one operation in a second; 0: no limit
	// HeaderTimeout is how long a peer may take over the TLS handshake and the header of a request.
	HeaderTimeout time.Duration
	PerAddress    int    // connections of one address to each listener of the API at once; 0: no limit
	BootstrapID   string // the first access key; empty: made up
	BootstrapKey  string
	Control       control.Config
}

// DefaultConfig returns the documented defaults, without a data directory.
func DefaultConfig() Config {
	return Config{
		Version: "dev",
		Listen:  ":8480", AgentListen: ":8422", AdminListen: "127.0.0.1:8481",
		TokenLife: gateway.DefaultTokenLife, DrainFor: 10 * time.Second, Control: control.DefaultConfig(),
		AccountRate: 1000, ActionRate: 500, PerAddress: 8192, HeaderTimeout: 10 * time.Second,
	}
}

// Validate reports every setting that makes no sense.
func (c *Config) Validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("no data directory is given"))
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		errs = append(errs, errors.New("the TLS certificate and its key go together: give both or neither"))
	}
	if (c.NATSURL == "") != (c.NATSCreds == "") {
		errs = append(errs, errors.New("the NATS URL and the credentials file go together: give both or neither"))
	}
	if c.HTTPListen != "" && !loopback(c.HTTPListen) {
		errs = append(errs, fmt.Errorf("plain HTTP on %s would send keys and files in the clear; use a loopback address such as 127.0.0.1:8479", c.HTTPListen))
	}
	if c.AccountRate < 0 || c.ActionRate < 0 || c.PerAddress < 0 {
		errs = append(errs, errors.New("a rate or a number of connections below zero makes no sense; 0 means no limit"))
	}
	if c.HeaderTimeout <= 0 {
		errs = append(errs, errors.New("the time for the header of a request must be above zero"))
	}
	if c.TokenLife < time.Minute {
		errs = append(errs, fmt.Errorf("agent tokens that are good for %s expire before they are renewed; use a minute at least", c.TokenLife))
	}
	if c.TokenLife > maxTokenLife {
		errs = append(errs, fmt.Errorf("agent tokens that are good for %s outlive the list of revoked ones; use %s at most", c.TokenLife, maxTokenLife))
	}
	return errors.Join(append(errs, c.Control.Validate())...)
}

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// Server is a server that listens. Close it, whether it ran or not.
type Server struct {
	cfg       Config
	authority *identity.Authority // nil with a certificate of the operator's
	store     *store.Store
	bus       *bus.Bus
	control   *control.Service
	gateway   *gateway.Gateway
	registry  *prometheus.Registry
	fronts    []*front
	log       *slog.Logger
	first     *Credentials
	unlock    func() // the data directory
}

// front is an HTTP server on its listener.
type front struct {
	name     string
	listener net.Listener
	server   *http.Server
}

// Open starts what the server rests on, creates what is not there yet, and binds every listener. Requests are answered
// once Run runs.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (_ *Server, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, registry: telemetry.NewRegistry(), log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := os.Mkdir(cfg.DataDir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if s.unlock, err = lockfile.TryLock(filepath.Join(cfg.DataDir, "lock")); errors.Is(err, lockfile.ErrLocked) {
		return nil, fmt.Errorf("another server runs on %s; end it, or take another --data-dir", cfg.DataDir)
	} else if err != nil {
		return nil, err
	}
	sealer, err := identity.OpenSealer(filepath.Join(cfg.DataDir, "seal.key"))
	if err != nil {
		return nil, err
	}
	tlsConfig, ca, err := s.openTLS()
	if err != nil {
		return nil, err
	}
	if cfg.Database == "" {
		s.cfg.Database = "sqlite:" + filepath.Join(cfg.DataDir, "waybill.db")
	}
	if s.store, err = store.Open(ctx, store.Config{
		URL: s.cfg.Database, Now: cfg.Control.Now, AuditKey: control.AuditKey(sealer),
	}, log); err != nil {
		return nil, err
	}
	operator, err := s.openBus(ctx, sealer, tlsConfig)
	if err != nil {
		return nil, err
	}
	if s.control, err = control.New(ctx, cfg.Control, s.store, s.bus, sealer, s.registry, log); err != nil {
		return nil, err
	}
	if err := s.listen(tlsConfig, ca, operator); err != nil {
		return nil, err
	}
	if err := s.bootstrap(ctx); err != nil {
		return nil, err
	}
	return s, s.refreshCredentials()
}

func (s *Server) openTLS() (cfg *tls.Config, ca []byte, err error) {
	if s.cfg.TLSCert != "" {
		cfg, err = identity.FileTLS(s.cfg.TLSCert, s.cfg.TLSKey, s.log)
		return cfg, nil, err
	}
	if s.authority, err = identity.OpenAuthority(s.cfg.DataDir); err != nil {
		return nil, nil, err
	}
	cfg, err = s.authority.ServerTLS(append(localNames(), s.cfg.TLSNames...))
	return cfg, s.authority.PEM(), err
}

// localNames returns the names and addresses under which this machine may be reached.
func localNames() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if h, err := os.Hostname(); err == nil {
		names = append(names, h)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return names // the certificate is good for less, and --tls-name can add to it
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			names = append(names, n.IP.String())
		}
	}
	return names
}

func (s *Server) openBus(ctx context.Context, sealer *identity.Sealer, tlsConfig *tls.Config) (*identity.Operator, error) {
	material, err := control.ServerSecret(ctx, s.store, sealer, "bus-operator", func() ([]byte, error) {
		op, err := identity.NewOperator()
		if err != nil {
			return nil, err
		}
		return op.Marshal(), nil
	})
	if err != nil {
		return nil, err
	}
	operator, err := identity.ParseOperator(material)
	if err != nil {
		return nil, err
	}
	now := time.Now
	if s.cfg.Control.Now != nil {
		now = s.cfg.Control.Now
	}
	revoked, err := s.store.LeftSince(ctx, now().Add(-maxTokenLife))
	if err != nil {
		return nil, fmt.Errorf("read revocations: %w", err)
	}
	cfg := bus.Config{Listen: s.cfg.AgentListen, TLS: tlsConfig, Revoked: revoked, URL: s.cfg.NATSURL, CredsFile: s.cfg.NATSCreds}
	if cfg.URL != "" {
		cfg.TLS = nil // a cluster has certificates of its own
	}
	s.bus, err = bus.Open(cfg, operator, s.log)
	return operator, err
}

// Bounds on how long a peer may take over a request. SendFile is answered well within the ten seconds that the classic
// SDK waits.
const (
	readTimeout  = 30 * time.Second
	writeTimeout = 60 * time.Second
	idleTimeout  = 2 * time.Minute
	maxStreams   = 16        // requests at once on one HTTP/2 connection, which counts as one for its address
	maxHeader    = 256 << 10 // bytes of request line and headers: a full-size SendFile in a query has 74 KB
)

// maxTokenLife bounds Config.TokenLife, whatever it was when a token was issued: revocations are kept that long.
const maxTokenLife = 7 * 24 * time.Hour

func (s *Server) listen(tlsConfig *tls.Config, ca []byte, operator *identity.Operator) error {
	rpc := api.New(api.Config{
		HelpURL: s.cfg.HelpURL, AccountRate: api.Rate{PerSecond: s.cfg.AccountRate}, OperationRate: api.Rate{PerSecond: s.cfg.ActionRate},
	}, s.control, s.registry, s.log)
	gw := gateway.Config{CA: ca, Addresses: s.cfg.AgentAddress, TokenLife: s.cfg.TokenLife}
	if a, ok := s.bus.Addr().(*net.TCPAddr); ok {
		gw.AgentPort = a.Port
	}
	s.gateway = gateway.New(gw, s.control, s.bus, operator, s.registry, s.log)

	plain := http.NewServeMux()
	plain.Handle("/", rpc)
	plain.Handle(api.DescriptionPath, api.Description(s.cfg.Version))
	public := http.NewServeMux()
	public.Handle("/", plain)
	agents := s.gateway.Handler()
	for _, path := range []string{wire.PathEnroll, wire.PathRenew, wire.PathLeave} {
		public.Handle(path, agents)
	}
	for _, f := range []struct {
		name, address string
		handler       http.Handler
		tls           *tls.Config
	}{
		{"https", s.cfg.Listen, public, tlsConfig},
		{"http", s.cfg.HTTPListen, plain, nil},
		{"admin", s.cfg.AdminListen, telemetry.AdminHandler(s.registry, s.store.Ping, loopback(s.cfg.AdminListen)), nil},
	} {
		if f.address == "" {
			continue
		}
		l, err := net.Listen("tcp", f.address)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", f.name, err)
		}
		if s.cfg.PerAddress > 0 && f.name != "admin" {
			l = newFairListener(l, s.cfg.PerAddress, s.log)
		}
		srv := &http.Server{
			Handler: f.handler, TLSConfig: f.tls.Clone(), ReadHeaderTimeout: s.cfg.HeaderTimeout, ReadTimeout: readTimeout,
			WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
			HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		}
		s.fronts = append(s.fronts, &front{f.name, l, srv})
	}
	return nil
}

// Run answers requests until ctx ends, then lets those under way finish. The first part that fails ends all.
func (s *Server) Run(ctx context.Context) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return s.control.Run(ctx) })
	eg.Go(func() error { return s.gateway.Run(ctx) })
	for _, f := range s.fronts {
		s.log.Info("listening", "for", f.name, "address", f.listener.Addr().String())
		eg.Go(f.serve)
		eg.Go(func() error {
			<-ctx.Done()
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainFor)
			defer cancel()
			return f.server.Shutdown(drain)
		})
	}
	if a := s.bus.Addr(); a != nil {
		s.log.Info("listening", "for", "agents", "address", a.String())
	}
	return eg.Wait()
}

func (f *front) serve() error {
	var err error
	if f.server.TLSConfig != nil {
		err = f.server.ServeTLS(f.listener, "", "")
	} else {
		err = f.server.Serve(f.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", f.name, err)
}

// Close ends everything that Open began. It is safe to call twice.
func (s *Server) Close() error {
	var errs []error
	for _, f := range s.fronts {
		errs = append(errs, ignoreClosed(f.server.Close()), ignoreClosed(f.listener.Close()))
	}
	s.fronts = nil
	if s.bus != nil {
		s.bus.Close()
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
		s.store = nil
	}
	if s.unlock != nil {
		s.unlock()
		s.unlock = nil
	}
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Addr returns the address of a listener: https, http, admin or agents; empty if there is none.
func (s *Server) Addr(name string) string {
	if name == "agents" {
		if a := s.bus.Addr(); a != nil {
			return a.String()
		}
		return ""
	}
	for _, f := range s.fronts {
		if f.name == name {
			return f.listener.Addr().String()
		}
	}
	return ""
}
