// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/openwaybill/waybill/internal/telemetry"
	"github.com/openwaybill/waybill/internal/wire"
)

// What the embedded server allows one connection.
const (
	handshakeTimeout = 15 * time.Second // a restart brings thousands of handshakes at once
	authTimeout      = 20 * time.Second // includes the handshake
	pingInterval     = time.Minute
	maxPingsOut      = 2
	writeDeadline    = 30 * time.Second // an agent that takes nothing for so long is cut off
	maxPending       = 16 << 20         // bytes that wait for one connection; one that has more is cut off
	maxConnections   = 64 << 10         // at once; more are refused
	maxEnded         = 1                // ended connections, with their tokens, that are remembered; nobody asks for them
)

// startEmbedded starts a NATS server in operator mode. It has no monitoring port, no persistence and no cluster.
func (b *Bus) startEmbedded() error {
	if b.cfg.TLS == nil {
		return errors.New("no certificate for agents")
	}
	host, port, err := net.SplitHostPort(b.cfg.Listen)
	if err != nil {
		return err
	}
	portNumber, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("listen address %s: %w", b.cfg.Listen, err)
	}
	opts := &server.Options{
		Host:              host,
		Port:              int(portNumber),
		NoSigs:            true,
		TLS:               true,
		TLSConfig:         b.cfg.TLS,
		TLSHandshakeFirst: true, // not one byte in clear, and proxies see plain TLS
		TLSTimeout:        handshakeTimeout.Seconds(),
		AuthTimeout:       authTimeout.Seconds(),
		MaxPayload:        wire.MaxMessage,
		MaxPending:        maxPending,
		MaxConn:           maxConnections,
		MaxClosedClients:  maxEnded,
		WriteDeadline:     writeDeadline,
		PingInterval:      pingInterval,
		MaxPingsOut:       maxPingsOut,
		// Or a server that is slow because all dial at once asks a client that still waits for its own first answer, which takes
		// that for an error and dials again.
		DisableShortFirstPing: true,
		SystemAccount:         b.operator.SystemAccount(),
	}
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	if err := b.trustOperator(opts); err != nil {
		return err
	}
	// The server would say why it cannot listen in words only.
	listener, err := net.Listen("tcp", b.cfg.Listen)
	if err != nil {
		return err
	}
	if err := listener.Close(); err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	log := newServerLog(b.log)
	srv.SetLoggerV2(log, false, false, false)
	srv.Start()
	if srv.Addr() == nil {
		srv.Shutdown()
		return fmt.Errorf("start embedded server: %w", log.err())
	}
	log.started.Store(true)
	b.embedded = srv
	return nil
}

// trustOperator makes a server accept the users of our operator's accounts, and no others.
func (b *Bus) trustOperator(opts *server.Options) error {
	operatorJWT, err1 := b.operator.OperatorJWT()
	systemJWT, err2 := b.operator.SystemAccountJWT()
	accountJWT, err3 := b.operator.AccountJWT(b.revoked)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	claims, err := jwt.DecodeOperatorClaims(operatorJWT)
	if err != nil {
		return err
	}
	b.accounts = &server.MemAccResolver{}
	opts.TrustedOperators = []*jwt.OperatorClaims{claims}
	opts.AccountResolver = b.accounts
	return errors.Join(
		b.accounts.Store(b.operator.SystemAccount(), systemJWT),
		b.accounts.Store(b.operator.Account(), accountJWT),
	)
}

// serverLog gives the log of the embedded server to ours. What it calls an error is mostly a stranger's bad handshake,
// so it is a warning here, of which a few are logged and then one in each interval. What it calls fatal is why Open
// fails.
type serverLog struct {
	log     *slog.Logger
	started atomic.Bool // until then it warns of settings that are meant

	warnings *telemetry.Warnings

	mu    sync.Mutex
	fatal error
}

func newServerLog(log *slog.Logger) *serverLog {
	return &serverLog{log: log, warnings: telemetry.NewWarnings()}
}

func (l *serverLog) Tracef(format string, v ...any)  { l.debug(format, v...) }
func (l *serverLog) Debugf(format string, v ...any)  { l.debug(format, v...) }
func (l *serverLog) Noticef(format string, v ...any) { l.debug(format, v...) }
func (l *serverLog) Warnf(format string, v ...any)   { l.warn(format, v...) }
func (l *serverLog) Errorf(format string, v ...any)  { l.warn(format, v...) }

func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fatal = errors.Join(l.fatal, fmt.Errorf(format, v...))
}

func (l *serverLog) debug(format string, v ...any) {
	l.log.Debug("nats", "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) warn(format string, v ...any) {
	if !l.started.Load() {
		l.debug(format, v...)
		return
	}
	l.warnings.Log(l.log, "nats", "text", fmt.Sprintf(format, v...))
}

// err returns what kept the server from starting.
func (l *serverLog) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}
