// SPDX-License-Identifier: Apache-2.0

// Package server assembles a whole Waybill server from its parts: store, bus, use cases and front ends on their
// listeners. The waybill command, the demo, the tests and the benchmarks all start this one.
package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill/internal/api"
	"github.com/openwaybill/waybill/internal/assist"
	"github.com/openwaybill/waybill/internal/attempts"
	"github.com/openwaybill/waybill/internal/blob"
	"github.com/openwaybill/waybill/internal/bus"
	"github.com/openwaybill/waybill/internal/console"
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
	Blob         string // URL of the store of large contents, see blob.Open; empty: file:DataDir/blobs
	SealKey      string // the key file; empty: DataDir/seal.key
	NATSURL      string // an external NATS cluster, its nodes with commas between them; empty: embedded
	NATSCreds    string
	TLSCert      string // PEM files of the server's certificate; empty: one of the data directory's own CA
	TLSKey       string
	TLSNames     []string      // host names and addresses the own certificate is also good for
	AgentAddress []string      // where agents find the link, tls://host:port; empty: the host they enrolled at, or NATSURL
	TokenLife    time.Duration // how long an agent's token is good
	DrainDelay   time.Duration // how long it goes on as before when it is told to stop, while it says that it is not ready
	DrainFor     time.Duration // how long requests under way may take when the server stops
	HelpURL      string        // see api.Config; empty: the console's pages about errors, at the address that was called
	Settings     []api.Setting // that are in force, for whoever may ask; none of them secret
	AccountRate  float64       // requests of an account in a second; 0: no limit
	ActionRate   float64       // requests of an account to one operation in a second; 0: no limit
	// HeaderTimeout is how long a peer may take over the TLS handshake and the header of a request.
	HeaderTimeout time.Duration
	// ReadTimeout and WriteTimeout are how long a peer may take over a whole request, and over taking the answer;
	// IdleTimeout is how long it may keep a connection without a request.
	ReadTimeout, WriteTimeout, IdleTimeout time.Duration

	PerAddress   int    // connections of one address to each listener of the API at once; 0: no limit
	BootstrapID  string // the first access key; empty: made up
	BootstrapKey string
	Control      control.Config
	Tracer       *telemetry.Tracer // of what is done; nil: nobody traces. Closing it is its owner's
	Assist       assist.Config     // of official agents; Node and Attempts are set by Open
	// Inherited listeners are used instead of binding their addresses, and belong to the server; nil: none.
	Inherited *Inherited
}

// DefaultConfig returns the documented defaults, without a data directory.
func DefaultConfig() Config {
	return Config{
		Version: "dev",
		Listen:  ":8480", AgentListen: ":8422", AdminListen: "127.0.0.1:8481",
		TokenLife: gateway.DefaultTokenLife, DrainFor: 10 * time.Second, Control: control.DefaultConfig(),
		Assist: assist.DefaultConfig(), AccountRate: 1000, ActionRate: 500, PerAddress: 8192, HeaderTimeout: 10 * time.Second,
		ReadTimeout: 30 * time.Second, WriteTimeout: 60 * time.Second, IdleTimeout: 2 * time.Minute,
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
	if a := c.address("http", c.HTTPListen); a != "" && !loopback(a) {
		errs = append(errs, fmt.Errorf("plain HTTP on %s would send keys and files in the clear; use a loopback address such as 127.0.0.1:8479", a))
	}
	if c.DrainDelay < 0 {
		errs = append(errs, fmt.Errorf("a delay of %s before the server stops makes no sense", c.DrainDelay))
	}
	if c.AccountRate < 0 || c.ActionRate < 0 || c.PerAddress < 0 {
		errs = append(errs, errors.New("a rate or a number of connections below zero makes no sense; 0 means no limit"))
	}
	if c.HeaderTimeout <= 0 {
		errs = append(errs, errors.New("the time for the header of a request must be above zero"))
	}
	if min(c.ReadTimeout, c.WriteTimeout, c.IdleTimeout) <= 0 {
		errs = append(errs, errors.New("the times for a request, its answer and the pause after it must be above zero"))
	}
	if c.Assist.Window < time.Minute || c.Assist.Window > maxClockWindow {
		errs = append(errs, fmt.Errorf("a clock window of %s for official agents makes no sense; use a minute to %s", c.Assist.Window, maxClockWindow))
	}
	if c.TokenLife < time.Minute {
		errs = append(errs, fmt.Errorf("agent tokens that are good for %s expire before they are renewed; use a minute at least", c.TokenLife))
	}
	if c.TokenLife > maxTokenLife {
		errs = append(errs, fmt.Errorf("agent tokens that are good for %s outlive the list of revoked ones; use %s at most", c.TokenLife, maxTokenLife))
	}
	return errors.Join(append(errs, c.Control.Validate())...)
}

// address returns where the listener of that name is, or is to be; empty: there is none.
func (c *Config) address(name, configured string) string {
	if l := c.Inherited.Listener(name); l != nil {
		return l.Addr().String()
	}
	return configured
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
	blobs     blob.Store   // nil: this server shares a bus and has no store that it could share
	busClaim  *control.Bus // nil beside SQLite, which no other server uses
	bus       *bus.Bus
	control   *control.Service
	gateway   *gateway.Gateway
	assist    *assist.Server
	registry  *prometheus.Registry
	fronts    []*front
	log       *slog.Logger
	first     *Credentials
	unlock    func() // the data directory
	draining  atomic.Bool
	succeeded chan struct{} // closed when a successor has the listeners
}

// front is an HTTP server on its listener.
type front struct {
	name     string
	socket   *net.TCPListener // what listener is made of
	listener net.Listener
	server   *http.Server
	unasked  sync.Map // the connections that have brought no request yet: net.Conn to nothing
}

// Open starts what the server rests on, creates what is not there yet, and binds every listener. Requests are answered
// once Run runs.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (_ *Server, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, registry: telemetry.NewRegistry(), log: log, succeeded: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.makeDataDir(); err != nil {
		return nil, err
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	sealer, err := s.openStore(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.openBlobs(ctx); err != nil {
		return nil, err
	}
	tlsConfig, ca, err := s.openTLS(ctx, sealer)
	if err != nil {
		return nil, err
	}
	if err := s.share(ctx); err != nil {
		return nil, err
	}
	operator, err := s.openBus(ctx, sealer, tlsConfig)
	if err != nil {
		return nil, err
	}
	if s.control, err = control.New(ctx, s.cfg.Control, s.store, s.bus, sealer, s.registry, log); err != nil {
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

func (s *Server) makeDataDir() error {
	if err := os.Mkdir(s.cfg.DataDir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// sqliteFile returns the file of the database; false if it is of another kind, which several servers may share.
func (s *Server) sqliteFile() (path string, ok bool) {
	return strings.CutPrefix(s.cfg.Database, "sqlite:")
}

// openStore opens the key file and the database. It makes a key file for a new database only: another one than it was
// sealed with is of no use.
func (s *Server) openStore(ctx context.Context) (*identity.Sealer, error) {
	if s.cfg.Database == "" {
		s.cfg.Database = "sqlite:" + filepath.Join(s.cfg.DataDir, "waybill.db")
	}
	path := cmp.Or(s.cfg.SealKey, filepath.Join(s.cfg.DataDir, "seal.key"))
	made := !exists(path)
	if made {
		used, err := store.Used(ctx, s.cfg.Database)
		if err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		if file, ok := s.sqliteFile(); used && ok {
			return nil, fmt.Errorf("the key file %s of the database %s is missing: restore it from a backup, for what is sealed "+
				"with it cannot be read without it; to begin anew, move the database away", path, file)
		}
		if used {
			return nil, fmt.Errorf("the key file of this database is missing: copy seal.key of another server of the database, "+
				"or of a backup, to %s", path)
		}
	}
	sealer, err := identity.OpenSealer(path)
	if err != nil {
		return nil, err
	}
	if s.store, err = store.Open(ctx, store.Config{
		URL: s.cfg.Database, Now: s.cfg.Control.Now, AuditKey: control.AuditKey(sealer),
		Encode: api.EncodeNotice,
	}, s.log); err != nil {
		return nil, err
	}
	sealed, err := s.store.Secret(ctx, operatorSecret)
	if errors.Is(err, store.ErrNotFound) {
		return sealer, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := sealer.Open(sealed, []byte(operatorSecret)); err != nil {
		err = fmt.Errorf("is the key file that of this database? %s cannot open what is sealed in it; copy seal.key of another "+
			"server of the database, or of a backup", path)
		if made { // and another server was faster: the next start must not take it for the right one
			err = errors.Join(err, os.Remove(path))
		}
		return nil, err
	}
	return sealer, nil
}

// openBlobs opens the store of large contents. One in a directory is no use to servers that share a bus, because agents
// fetch from any of them: those go without one, as long as all that they accept fits into the database.
func (s *Server) openBlobs(ctx context.Context) (err error) {
	url := cmp.Or(s.cfg.Blob, "file:"+filepath.Join(s.cfg.DataDir, "blobs"))
	if s.cfg.NATSURL != "" && strings.HasPrefix(url, "file:") {
		switch {
		case s.cfg.Blob != "":
			return errors.New("servers that share a NATS cluster share large contents too: a directory of one does not do; use --blob s3://BUCKET/PREFIX?endpoint=URL")
		case s.cfg.Control.Limits.ContentBytes > control.MaxInDatabase:
			return fmt.Errorf("contents of more than %d bytes as Base64 (--max-content) need a place that all servers of the NATS cluster reach: "+
				"set --blob s3://BUCKET/PREFIX?endpoint=URL", control.MaxInDatabase)
		}
		return nil
	}
	if s.blobs, err = blob.Open(ctx, url); err != nil {
		return fmt.Errorf("--blob: %w", err)
	}
	s.cfg.Control.Blobs = s.blobs
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// lock takes the data directory. A successor first tells its predecessor to stop, and waits for that.
func (s *Server) lock(ctx context.Context) (err error) {
	path := filepath.Join(s.cfg.DataDir, "lock")
	if !s.cfg.Inherited.FromPredecessor() {
		s.unlock, err = lockfile.TryLock(path)
	} else {
		if s.cfg.TLSCert != "" { // the predecessor must not stop for a successor without a certificate
			if _, err := identity.FileTLS(s.cfg.TLSCert, s.cfg.TLSKey, s.log); err != nil {
				return err
			}
		}
		s.log.Info("waiting for the predecessor to end")
		s.cfg.Inherited.tellReady(s.log)
		ctx, cancel := context.WithTimeout(ctx, s.cfg.DrainFor+lockWait)
		defer cancel()
		s.unlock, err = lockfile.Lock(ctx, path)
	}
	if errors.Is(err, lockfile.ErrLocked) {
		return fmt.Errorf("another server runs on %s; end it, or take another --data-dir", s.cfg.DataDir)
	}
	if err != nil {
		return err
	}
	return s.lockDatabase()
}

// lockDatabase takes a SQLite database that is not in the data directory, where another server might use it too.
func (s *Server) lockDatabase() error {
	file, ok := s.sqliteFile()
	if !ok || filepath.Dir(file) == filepath.Clean(s.cfg.DataDir) {
		return nil
	}
	unlock, err := lockfile.TryLock(file + ".lock")
	if errors.Is(err, lockfile.ErrLocked) {
		return fmt.Errorf("another server runs on the database %s; several servers need PostgreSQL and a NATS cluster", file)
	}
	if err != nil {
		return err
	}
	dir := s.unlock
	s.unlock = func() { unlock(); dir() }
	return nil
}

// lockWait is how long a predecessor may take to end after its requests have.
const lockWait = time.Minute

func (s *Server) openTLS(ctx context.Context, sealer *identity.Sealer) (cfg *tls.Config, ca []byte, err error) {
	if s.cfg.TLSCert != "" {
		cfg, err = identity.FileTLS(s.cfg.TLSCert, s.cfg.TLSKey, s.log)
		return cfg, nil, err
	}
	if s.authority, err = s.openAuthority(ctx, sealer); err != nil {
		return nil, nil, err
	}
	cfg, err = s.authority.ServerTLS(append(localNames(), s.cfg.TLSNames...))
	return cfg, s.authority.PEM(), err
}

// openAuthority opens the CA. Beside SQLite it is in files of the data directory. Servers that share a database share the
// CA in it, sealed; the first of them brings what it has in its files, and all leave the certificate there.
func (s *Server) openAuthority(ctx context.Context, sealer *identity.Sealer) (*identity.Authority, error) {
	if _, ok := s.sqliteFile(); ok {
		return identity.OpenAuthority(s.cfg.DataDir)
	}
	a, err := sharedAuthority(ctx, s.store, sealer, s.cfg.DataDir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.cfg.DataDir, identity.CAFile)
	have, err := os.ReadFile(path)
	if err == nil && bytes.Equal(have, a.PEM()) {
		return a, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		s.log.Warn("the CA of this directory is not that of the database, which counts; the file is replaced", "path", path)
	}
	return a, writeWhole(path, a.PEM(), 0o644)
}

// sharedAuthority returns the CA that servers share in their database. If there is none yet, it is the one in dir, which is
// made if it is not there.
func sharedAuthority(ctx context.Context, st *store.Store, sealer *identity.Sealer, dir string) (*identity.Authority, error) {
	shared, err := control.ServerSecret(ctx, st, sealer, "authority", func() ([]byte, error) {
		own, err := identity.OpenAuthority(dir)
		if err != nil {
			return nil, err
		}
		return own.Marshal()
	})
	if err != nil {
		return nil, err
	}
	return identity.ParseAuthority(shared)
}

// KeepAuthority puts the CA in dir, a server's data directory, into a database that servers are to share. It reports whether
// there was one in dir, and fails if the database has another.
func KeepAuthority(ctx context.Context, st *store.Store, sealer *identity.Sealer, dir string) (kept bool, err error) {
	pem, err := os.ReadFile(filepath.Join(dir, identity.CAFile))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	a, err := sharedAuthority(ctx, st, sealer, dir)
	if err == nil && !bytes.Equal(pem, a.PEM()) {
		err = fmt.Errorf("the database has another CA than %s", filepath.Join(dir, identity.CAFile))
	}
	return err == nil, err
}

// share claims the bus of a database that several servers can share, and makes this one a part of them.
func (s *Server) share(ctx context.Context) (err error) {
	if _, ok := s.sqliteFile(); ok {
		return nil
	}
	s.cfg.Control.Node, s.cfg.Control.Version = s.nodeName(), s.cfg.Version
	s.cfg.Control.Returned = func(ctx context.Context) { s.assist.Greet(ctx) }
	s.busClaim, err = control.ClaimBus(ctx, s.store, s.nodeName(), s.cfg.NATSURL == "")
	return err
}

// nodeName names this server among those of a database, the same after a restart.
func (s *Server) nodeName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	dir, err := filepath.Abs(s.cfg.DataDir)
	if err != nil {
		dir = s.cfg.DataDir
	}
	return host + ":" + dir
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

// operatorSecret is the name of the bus's keys among the secrets of a database, of which they are the first.
const operatorSecret = "bus-operator"

func (s *Server) openOperator(ctx context.Context, sealer *identity.Sealer) (*identity.Operator, error) {
	material, err := control.ServerSecret(ctx, s.store, sealer, operatorSecret, func() ([]byte, error) {
		op, err := identity.NewOperator()
		if err != nil {
			return nil, err
		}
		return op.Marshal(), nil
	})
	if err != nil {
		return nil, err
	}
	return identity.ParseOperator(material)
}

func (s *Server) openBus(ctx context.Context, sealer *identity.Sealer, tlsConfig *tls.Config) (*identity.Operator, error) {
	operator, err := s.openOperator(ctx, sealer)
	if err != nil {
		return nil, err
	}
	now := time.Now
	if s.cfg.Control.Now != nil {
		now = s.cfg.Control.Now
	}
	current := revocations(s.store, now)
	revoked, err := current(ctx)
	if err != nil {
		return nil, err
	}
	cfg := bus.Config{
		Listen: s.cfg.AgentListen, TLS: tlsConfig, Revoked: revoked, Revocations: current, URL: s.cfg.NATSURL, CredsFile: s.cfg.NATSCreds,
	}
	if cfg.URL != "" { // a cluster has certificates of its own
		if cfg.TLS, err = s.clusterTrust(); err != nil {
			return nil, err
		}
	}
	s.bus, err = bus.Open(cfg, operator, s.log)
	return operator, err
}

// clusterTrust says whom the server takes for a node of its NATS cluster: whoever has a certificate of the CA, as agents
// do, or of the system's roots.
func (s *Server) clusterTrust() (*tls.Config, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a system without any
	}
	if s.authority != nil && !roots.AppendCertsFromPEM(s.authority.PEM()) {
		return nil, errors.New("the CA of this server cannot be used")
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// Bounds of a connection.
const (
	maxStreams = 16        // requests at once on one HTTP/2 connection, which counts as one for its address
	maxHeader  = 256 << 10 // bytes of request line and headers: a full-size SendFile in a query has 74 KB
)

// maxClockWindow bounds how long a signed call of an official agent can be replayed unchanged, and its request ID is kept.
const maxClockWindow = 24 * time.Hour

// maxTokenLife bounds Config.TokenLife, whatever it was when a token was issued: revocations are kept that long.
const maxTokenLife = 7 * 24 * time.Hour

func (s *Server) listen(tlsConfig *tls.Config, ca []byte, operator *identity.Operator) error {
	rpc := api.New(api.Config{
		HelpURL: cmp.Or(s.cfg.HelpURL, console.ErrorPath), AccountRate: api.Rate{PerSecond: s.cfg.AccountRate}, OperationRate: api.Rate{PerSecond: s.cfg.ActionRate},
		State: s.state, Tracer: s.cfg.Tracer, MaxContent: s.cfg.Control.Limits.ContentBytes,
	}, s.control, s.registry, s.log)
	s.registry.MustRegister(telemetry.BuildInfo(s.cfg.Version), newExpiry(tlsConfig, ca), s.store, s.bus)
	if s.cfg.Tracer != nil {
		s.registry.MustRegister(s.cfg.Tracer)
	}
	refused := connectionsRefused()
	s.registry.MustRegister(refused)
	guesses := new(attempts.Limiter) // whichever door they try
	gw := gateway.Config{CA: ca, Addresses: s.cfg.AgentAddress, TokenLife: s.cfg.TokenLife, Attempts: guesses, Tracer: s.cfg.Tracer}
	if a, ok := s.bus.Addr().(*net.TCPAddr); ok {
		gw.AgentPort = a.Port
	} else if len(gw.Addresses) == 0 {
		gw.Addresses = natsAddresses(s.cfg.NATSURL)
	}
	s.gateway = gateway.New(gw, s.control, s.bus, operator, s.registry, s.log)
	official := s.cfg.Assist
	official.Node, official.Attempts = s.nodeName(), guesses
	official.Shared = s.cfg.Control.Node != "" && s.cfg.NATSURL != ""
	s.assist = assist.New(official, s.control, s.bus, s.registry, s.log)

	pages, err := console.New(console.Config{
		Version: s.cfg.Version, Operations: explored(), Attempts: guesses, CA: string(ca),
	}, s.control, rpc, s.log)
	if err != nil {
		return err
	}
	plain := http.NewServeMux()
	plain.Handle("/", rpc)
	plain.Handle(api.UploadPath, rpc.Uploads())
	plain.Handle(console.Path, pages)
	plain.Handle(strings.TrimSuffix(console.Path, "/"), http.RedirectHandler(console.Path, http.StatusMovedPermanently))
	plain.Handle(api.DescriptionPath, api.Description(s.cfg.Version))
	public := http.NewServeMux()
	public.Handle("/", plain)
	agents := s.gateway.Handler()
	for _, path := range []string{wire.PathEnroll, wire.PathRenew, wire.PathLeave, wire.PathContent} {
		public.Handle(path, agents)
	}
	root := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, assist.Path) { // beside the mux, which cleans paths
			s.assist.Handler().ServeHTTP(w, r)
			return
		}
		public.ServeHTTP(w, r)
	})
	for _, f := range []struct {
		name, address string
		handler       http.Handler
		tls           *tls.Config
	}{
		{"https", s.cfg.Listen, root, tlsConfig},
		{"http", s.cfg.HTTPListen, plain, nil},
		{"admin", s.cfg.AdminListen, telemetry.AdminHandler(s.registry, s.ready, loopback(s.cfg.address("admin", s.cfg.AdminListen))), nil},
	} {
		socket := s.cfg.Inherited.Listener(f.name)
		if socket == nil && f.address == "" {
			continue
		}
		if socket == nil {
			l, err := net.Listen("tcp", f.address)
			if err != nil {
				return fmt.Errorf("listen for %s: %w", f.name, err)
			}
			socket = l.(*net.TCPListener)
		}
		var l net.Listener = socket
		if s.cfg.PerAddress > 0 && f.name != "admin" {
			l = newFairListener(l, s.cfg.PerAddress, refused.WithLabelValues(f.name), s.log)
		}
		srv := &http.Server{
			Handler: f.handler, TLSConfig: f.tls.Clone(), ReadHeaderTimeout: s.cfg.HeaderTimeout, ReadTimeout: s.cfg.ReadTimeout,
			WriteTimeout: s.cfg.WriteTimeout, IdleTimeout: s.cfg.IdleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
			// Of HTTP/2, WriteTimeout ends requests; a connection that takes nothing would stay, and its requests with it.
			HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: s.cfg.WriteTimeout},
		}
		srv.RegisterOnShutdown(pages.Close)
		srv.RegisterOnShutdown(s.control.EndWaits)
		srv.RegisterOnShutdown(s.control.EndUploads)
		front := &front{name: f.name, socket: socket, listener: l, server: srv}
		front.noteUnasked()
		s.fronts = append(s.fronts, front)
	}
	return nil
}

// Run answers requests until ctx ends, then says for DrainDelay that it is not ready, and lets the requests under way
// finish. The first part that fails ends all.
func (s *Server) Run(ctx context.Context) error {
	told := ctx
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error {
		select {
		case <-ctx.Done(): // a part has failed
			return nil
		case <-told.Done():
		}
		s.draining.Store(true)
		s.log.Info("told to stop", "delay", s.cfg.DrainDelay.String())
		delay := time.NewTimer(s.cfg.DrainDelay)
		defer delay.Stop()
		select {
		case <-ctx.Done():
		case <-s.succeeded: // whoever connects is answered by the successor
		case <-delay.C:
		}
		stop()
		return nil
	})
	if s.busClaim != nil {
		eg.Go(func() error { return s.busClaim.Run(ctx) })
	}
	if s.cfg.Control.Node != "" && s.cfg.NATSURL != "" {
		stop, err := s.bus.Serve(wire.SubjectHint, "", func(_, _ string, data []byte) { s.control.Heed(data) })
		if err != nil {
			return fmt.Errorf("hear the other servers: %w", err)
		}
		defer stop()
	}
	eg.Go(func() error { return s.control.Run(ctx) })
	eg.Go(func() error { return s.bus.Run(ctx) })
	eg.Go(func() error { return s.gateway.Run(ctx) })
	eg.Go(func() error { return s.assist.Run(ctx) })
	for _, f := range s.fronts {
		s.log.Info("listening", "for", f.name, "address", f.listener.Addr().String())
		eg.Go(func() error { return f.run(ctx, s.cfg.DrainFor) })
	}
	if a := s.bus.Addr(); a != nil {
		s.log.Info("listening", "for", "agents", "address", a.String())
	}
	return eg.Wait()
}

// run serves until ctx ends. Then it accepts no more, and ends when what was accepted is answered.
func (f *front) run(ctx context.Context, drainFor time.Duration) error {
	defer context.AfterFunc(ctx, func() { _ = f.listener.Close() })() // Close finds it closed already
	if err := f.serve(); ctx.Err() == nil || !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve %s: %w", f.name, err)
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainFor)
	defer cancel()
	f.awaitFirstRequests(drain)
	return f.server.Shutdown(drain)
}

func (f *front) serve() error {
	if f.server.TLSConfig != nil {
		return f.server.ServeTLS(f.listener, "", "")
	}
	return f.server.Serve(f.listener)
}

// firstRequestWithin is how long a stopping server leaves new connections to bring their first request; Shutdown waits as
// long for them.
const firstRequestWithin = 5 * time.Second

// noteUnasked keeps f.unasked. Shutdown waits for such connections, but drops the request that they then bring, and takes
// those of HTTP/2 for idle: a client that had been accepted would get no answer.
func (f *front) noteUnasked() {
	type connKey struct{}
	f.server.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	f.server.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			f.unasked.Store(c, nil)
		case http.StateClosed, http.StateHijacked:
			f.unasked.Delete(c)
		}
	}
	h := f.server.Handler
	f.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.unasked.Delete(r.Context().Value(connKey{}))
		h.ServeHTTP(w, r)
	})
}

func (f *front) awaitFirstRequests(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstRequestWithin)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		waiting := false
		f.unasked.Range(func(any, any) bool {
			waiting = true
			return false
		})
		if !waiting {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Close ends everything that Open began. It is safe to call twice.
//
// The order is that of a restart. The listeners are first: a successor that inherited them answers whoever comes back. A
// front end that took connections over from its HTTP server (WebSockets) closes them next, after every request was
// answered, and while the bus and the store it needs are still there. The lock of the data directory is last, because a
// successor opens the database, and binds the agents' link, as soon as it has that.
func (s *Server) Close() error {
	var errs []error
	for _, f := range s.fronts {
		errs = append(errs, ignoreClosed(f.server.Close()), ignoreClosed(f.listener.Close()))
	}
	s.fronts = nil
	errs = append(errs, s.cfg.Inherited.close()) // those that no front had taken yet
	// Last of what clients are connected to: the agents dial at once, and must find a server that listens, or a socket
	// that a successor has.
	if s.assist != nil {
		s.assist.Close()
	}
	if s.bus != nil {
		s.bus.Close()
	}
	if s.busClaim != nil {
		ctx, cancel := context.WithTimeout(context.Background(), firstRequestWithin)
		errs = append(errs, s.busClaim.Release(ctx))
		cancel()
		s.busClaim = nil
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
		s.store = nil
	}
	if s.blobs != nil {
		errs = append(errs, s.blobs.Close())
		s.blobs = nil
	}
	if s.unlock != nil {
		s.unlock()
		s.unlock = nil
	}
	return errors.Join(errs...)
}

// ready says why no more requests should come here.
func (s *Server) ready(ctx context.Context) error {
	if s.draining.Load() {
		return errors.New("draining")
	}
	return s.store.Ping(ctx)
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
