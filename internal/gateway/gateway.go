// SPDX-License-Identifier: Apache-2.0

// Package gateway is the front end of the native agents: their HTTPS calls (enrol, renew, leave) and their messages on
// the bus. It translates between internal/wire and internal/control, and decides nothing.
package gateway

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/attempts"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/telemetry"
	"github.com/openwaybill/waybill/internal/wire"
)

// Config says what agents are told.
type Config struct {
	// CA is the certificate, in PEM form, that agents are to trust; empty if the server's has a public issuer.
	CA []byte
	// Addresses are those of the bus, tls://host:port. If there are none, agents use the host by which they reached the
	// server, with AgentPort.
	Addresses []string
	AgentPort int
	// TokenLife is how long an agent may use the bus before it must renew its token. A short one makes a server that
	// stays down for longer lose more agents; a long one counts only where tokens cannot be revoked (see bus.Revoke).
	TokenLife time.Duration
	// Attempts slows down whoever guesses codes; nil: a limiter of its own.
	Attempts *attempts.Limiter
	// Tracer traces what agents answer to what was traced; nil: nobody does.
	Tracer *telemetry.Tracer
}

// DefaultTokenLife lets a server be down for most of a day.
const DefaultTokenLife = 24 * time.Hour

// service is what the gateway uses of control.Service.
type service interface {
	Now() time.Time

	Enroll(ctx context.Context, req control.EnrollRequest) (waybill.Instance, error)
	InstanceByKey(ctx context.Context, publicKey string) (waybill.Instance, error)
	UseAgentNonce(ctx context.Context, publicKey, nonce string, until time.Time) (fresh bool, err error)
	Leave(ctx context.Context, id waybill.InstanceID, from netip.Addr) error

	Hello(ctx context.Context, id waybill.InstanceID, session string, facts waybill.Facts) error
	Beat(ctx context.Context, id waybill.InstanceID, session string, held []waybill.DeliveryID) error
	Bye(ctx context.Context, id waybill.InstanceID, session string, as waybill.Presence) error
	Fetch(ctx context.Context, id waybill.InstanceID, delivery waybill.DeliveryID) (control.Fetch, error)
	Alive(ctx context.Context, id waybill.InstanceID, session, nonce string) error
	Pull(ctx context.Context, id waybill.InstanceID, after waybill.DeliveryID) (wire.PullReply, error)
	Ack(ctx context.Context, id waybill.InstanceID, delivery waybill.DeliveryID, started time.Time)
	Report(ctx context.Context, id waybill.InstanceID, o control.Outcome) error
}

var _ service = (*control.Service)(nil)

// messenger is what the gateway uses of bus.Bus, which front ends do not import (design §5).
type messenger interface {
	Publish(subject string, data []byte) error
	Serve(subject, queue string, h func(subject, reply string, data []byte)) (stop func(), err error)
}

// Gateway serves the native agents.
type Gateway struct {
	cfg      Config
	service  service
	bus      messenger
	operator *identity.Operator
	log      *slog.Logger
	messages *prometheus.CounterVec
	duration *prometheus.HistogramVec
	lines    lines
	fetches  fetches

	contentRefusals *telemetry.Warnings
}

// New returns a gateway that hands what agents ask to svc, and issues their tokens in the name of op.
func New(
	cfg Config, svc service, bus messenger, op *identity.Operator, reg prometheus.Registerer, log *slog.Logger,
) *Gateway {
	if cfg.Attempts == nil {
		cfg.Attempts = new(attempts.Limiter)
	}
	g := &Gateway{
		cfg: cfg, service: svc, bus: bus, operator: op, log: log,
		fetches: fetches{places: semaphore.NewWeighted(maxFetches)}, contentRefusals: telemetry.NewWarnings(),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waybill_agent_messages_total",
			Help: "Messages and calls of native agents, by what they ask and what became of it.",
		}, []string{"op", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "waybill_agent_message_duration_seconds",
			Help:    "Time to handle a message of a native agent, by what it asks.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), // 1 ms to 8 s
		}, []string{"op"}),
	}
	reg.MustRegister(g.messages, g.duration, &g.lines)
	return g
}

// Results of a message or call, as counted.
const (
	resultOK        = "ok"
	resultRefused   = "refused"   // understood, and answered with no
	resultMalformed = "malformed" // not understood
	resultFailed    = "failed"    // for a reason of our own
	resultDropped   = "dropped"   // came while its sender, or all together, had too many being handled
)

func (g *Gateway) count(op, result string) { g.messages.WithLabelValues(op, result).Inc() }
