// SPDX-License-Identifier: Apache-2.0

// Package bus carries messages between servers and native agents over NATS (design §6). One type, Bus, connects in two
// ways: to a NATS server that it embeds, or to an external cluster.
//
// It knows subjects and bytes, not what they mean: that is internal/wire's and internal/gateway's. It promises no
// delivery: whatever must not be lost is in the store.
package bus

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/openwaybill/waybill/internal/identity"
)

// Times that the bus waits for.
const (
	connectTimeout = 10 * time.Second       // one attempt to reach NATS
	reconnectWait  = 250 * time.Millisecond // between attempts, plus as much jitter
	flushTimeout   = 5 * time.Second        // NATS confirming what was published, or new claims
	drainTimeout   = 5 * time.Second        // handlers finishing and their replies leaving, when closing
	clusterPing    = 5 * time.Second        // of servers to a cluster and within it: twice unanswered, the other is gone
)

// Bounds of what is held for the server's own connection.
const (
	reconnectBytes  = 8 << 20   // published while an external cluster is away; Publish refuses more
	pendingMessages = 128 << 10 // received and not yet handled, for each Serve; more are dropped
	pendingBytes    = 64 << 20  // likewise
)

// Config says where the bus is. With a URL it is an external cluster, otherwise it is embedded.
type Config struct {
	// Listen is the address, host:port, at which the embedded server awaits agents. An empty host is every address;
	// port 0 takes a free one.
	Listen string

	// URL, which may be several with commas between them, and CredsFile reach an external cluster. It must run under the
	// same operator and handshake TLS first (see Cluster).
	URL       string
	CredsFile string

	// TLS is the certificate of the embedded server; for a cluster it says what to trust (nil: the system's roots).
	TLS *tls.Config

	// Revoked holds, for each agent key, up to when issued tokens are refused (see Bus.Revoke). It is in force before
	// the first agent can connect.
	Revoked map[string]time.Time

	// Revocations returns what is revoked now, by whichever server; nil: what Revoked holds and this Bus was told. It is
	// asked for an external cluster only.
	Revocations func(context.Context) (map[string]time.Time, error)
}

// Bus is a connection to NATS. It may be used by several goroutines.
type Bus struct {
	cfg      Config
	operator *identity.Operator
	log      *slog.Logger
	conn     *nats.Conn
	embedded *server.Server // nil when external
	accounts *server.MemAccResolver
	closed   chan struct{} // conn has ended for good
	close    sync.Once
	counts   counts

	revokeMu sync.Mutex // held until NATS has the claims, so that the last list made is the last that counts
	revoked  map[string]time.Time

	systemMu sync.Mutex
	system   *nats.Conn // of the system account of a cluster; nil until it is needed
}

// Open connects to the bus, starting the embedded server first unless cfg has a URL. operator is the material under
// which all its users are known. The caller must Close it.
func Open(cfg Config, operator *identity.Operator, log *slog.Logger) (*Bus, error) {
	b := &Bus{cfg: cfg, operator: operator, log: log, closed: make(chan struct{}), revoked: maps.Clone(cfg.Revoked)}
	if b.revoked == nil {
		b.revoked = map[string]time.Time{}
	}
	open := b.openEmbedded
	if cfg.URL != "" {
		open = b.openExternal
	}
	if err := open(); err != nil {
		return nil, fmt.Errorf("open bus: %w", err)
	}
	return b, nil
}

func (b *Bus) openEmbedded() error {
	if err := b.startEmbedded(); err != nil {
		return err
	}
	token, seed, err := b.operator.ServerCredentials()
	if err == nil {
		err = b.connect("", nats.InProcessServer(b.embedded), nats.UserJWTAndSeed(token, seed))
	}
	if err != nil {
		b.embedded.Shutdown()
	}
	return err
}

func (b *Bus) openExternal() error {
	if err := b.checkCredentials(); err != nil {
		return err
	}
	if len(b.revoked) > 0 {
		if err := b.putClaims(context.Background()); err != nil {
			return err
		}
	}
	err := b.connect(b.cfg.URL, nats.UserCredentials(b.cfg.CredsFile), b.secure(),
		nats.PingInterval(clusterPing), nats.MaxPingsOutstanding(maxPingsOut))
	if err != nil {
		err = fmt.Errorf("connect to %s (--nats): %w; it must name nodes that run with what waybill nats-config wrote", redacted(b.cfg.URL), err)
	}
	return err
}

// redacted returns a list of URLs without the passwords that may be in them.
func redacted(list string) string {
	urls := strings.Split(list, ",")
	for i, text := range urls {
		if u, err := url.Parse(strings.TrimSpace(text)); err == nil {
			urls[i] = u.Redacted()
		} else {
			urls[i] = "(no URL)"
		}
	}
	return strings.Join(urls, ",")
}

// checkCredentials refuses credentials of another cluster than the one that our agents' tokens are for: all else would seem to
// work, and no agent could connect.
func (b *Bus) checkCredentials() error {
	const advice = "it is the server.creds that waybill nats-config writes for this database"
	text, err := os.ReadFile(b.cfg.CredsFile)
	if err != nil {
		return fmt.Errorf("credentials file: %w; %s", err, advice)
	}
	token, err := jwt.ParseDecoratedJWT(text)
	if err != nil {
		return fmt.Errorf("credentials file %s: %w; %s", b.cfg.CredsFile, err, advice)
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return fmt.Errorf("credentials file %s: %w; %s", b.cfg.CredsFile, err, advice)
	}
	if claims.IssuerAccount != b.operator.Account() {
		return fmt.Errorf("credentials file %s is of another cluster, in which no agent of this database could connect; %s", b.cfg.CredsFile, advice)
	}
	return nil
}

// secure makes a connection to an external cluster use TLS from its first byte, as agents do.
func (b *Bus) secure() nats.Option {
	return func(o *nats.Options) error {
		for _, set := range []nats.Option{nats.Secure(b.cfg.TLS), nats.TLSHandshakeFirst()} {
			if err := set(o); err != nil {
				return err
			}
		}
		return nil
	}
}

func (b *Bus) connect(address string, how ...nats.Option) error {
	conn, err := nats.Connect(address, append(how,
		nats.Name("waybill server"),
		nats.Timeout(connectTimeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait, reconnectWait),
		nats.ReconnectBufSize(reconnectBytes),
		nats.IgnoreAuthErrorAbort(), // a cluster may be restored in any order
		nats.DrainTimeout(drainTimeout),
		nats.ClosedHandler(func(*nats.Conn) { close(b.closed) }),
		nats.ReconnectHandler(func(*nats.Conn) { b.log.Info("bus connected again") }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil: we are closing
				b.log.Warn("bus disconnected", "err", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			b.counts.errors.Add(1)
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			b.log.Warn("bus error", "subject", subject, "err", err)
		}),
	)...)
	b.conn = conn
	return err
}

// Publish sends a message, or the reply to one, without waiting for it to leave. It does not keep data. An error means
// that it was not sent; its absence does not mean that anyone heard it.
func (b *Bus) Publish(subject string, data []byte) error { return b.conn.Publish(subject, data) }

// Flush waits until NATS has processed everything published, and every Serve begun, before it.
func (b *Bus) Flush() error { return b.conn.FlushTimeout(flushTimeout) }

// Serve calls h for every message on subject, which may hold wildcards; of all who serve it with the same queue, only
// one gets each; without a queue, every one does. reply is empty when the sender wants no answer; h owns data.
//
// h is called for one message at a time and must return quickly, because the others wait: long work belongs on a
// goroutine of the caller's. Messages that find too many waiting are dropped and logged.
//
// stop ends it: no new message is accepted, and stop returns when h has returned from the last one, or five seconds
// later. It is safe to call twice.
func (b *Bus) Serve(subject, queue string, h func(subject, reply string, data []byte)) (stop func(), err error) {
	sub, err := b.conn.QueueSubscribe(subject, queue, func(m *nats.Msg) { h(m.Subject, m.Reply, m.Data) })
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", subject, err)
	}
	done := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(done) })
	if err := sub.SetPendingLimits(pendingMessages, pendingBytes); err != nil {
		return nil, fmt.Errorf("serve %s: %w", subject, err)
	}
	b.counts.begin(sub)
	return func() {
		b.counts.end(sub)
		if err := sub.Drain(); err != nil {
			return // the connection is closed, and the subscription with it
		}
		select {
		case <-done:
		case <-time.After(drainTimeout):
			b.log.Warn("messages left unhandled", "subject", subject)
		}
	}, nil
}

// Addr returns the address at which the embedded server awaits agents, and nil for an external one.
func (b *Bus) Addr() net.Addr {
	if b.embedded == nil {
		return nil
	}
	return b.embedded.Addr()
}

// Clients returns how many connections, other than our own, the embedded server has; for an external one it returns 0.
func (b *Bus) Clients() int {
	if b.embedded == nil {
		return 0
	}
	return max(0, b.embedded.NumClients()-1)
}

// Close lets handlers finish and what was published leave, then closes the connection and the embedded server, cutting
// its agents off. Agents spread their return by themselves, so they are not let go one by one. Close takes ten seconds
// at most, milliseconds as a rule, and is safe to call twice.
func (b *Bus) Close() {
	b.close.Do(func() {
		if b.conn.Drain() == nil {
			select {
			case <-b.closed:
			case <-time.After(2 * drainTimeout):
				b.log.Warn("bus not drained in time")
			}
		}
		b.conn.Close()
		b.closeSystem()
		if b.embedded != nil {
			b.embedded.Shutdown()
		}
	})
}
