// SPDX-License-Identifier: Apache-2.0

// Package assist is the front end of the official Cloud Assistant agent (aliyun_assist_client): it speaks that agent's
// protocol, HTTPS calls and a WebSocket that is no more than a doorbell, over the use cases of internal/control. To
// them its machines are agents like any other.
//
// What the agent does wrong is absorbed here. It reports once and forgets; it fetches nothing when it reconnects; one
// refused dial leaves it deaf for up to half an hour; a status of 400 is a success to it. The comments name the trap
// that a rule is for; docs/official-agent.md lists them all, and what is weaker than with our own agent.
package assist

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/attempts"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/telemetry"
	"github.com/openwaybill/waybill/internal/wire"
)

// Config is how a Server behaves. Start from DefaultConfig.
type Config struct {
	// Node begins the names of this server's sessions. It must be the same after a restart, and another on each server.
	Node string
	// Shared says that there are others, which reach the same agents.
	Shared bool
	// Window is how far the clock of a machine may be off. There are hosts without NTP.
	Window time.Duration
	// Ping is how often a channel is probed; after two pings without answer it is closed.
	Ping time.Duration
	// Patience is how long a kick may go without a fetch before it is repeated, and how long something that was handed
	// out is not handed out to another fetch.
	Patience time.Duration
	// Again is how long something that was handed out may go without a report before the agent is kicked for it again.
	Again time.Duration
	// Fallback is how long the second source of a result waits for the first.
	Fallback time.Duration
	// Attempts slows down whoever guesses activation codes.
	Attempts *attempts.Limiter
}

// DefaultConfig returns what suits the agent's own times.
func DefaultConfig() Config {
	return Config{
		Window: 15 * time.Minute, Ping: 25 * time.Second, Patience: 10 * time.Second, Again: 20 * time.Second,
		Fallback: 2500 * time.Millisecond, Attempts: new(attempts.Limiter),
	}
}

// service is what this package needs of control.Service.
type service interface {
	Now() time.Time

	Enroll(ctx context.Context, req control.EnrollRequest) (waybill.Instance, error)
	AnyInstance(ctx context.Context, id waybill.InstanceID) (waybill.Instance, error)
	UseAgentNonce(ctx context.Context, publicKey, nonce string, until time.Time) (fresh bool, err error)
	Leave(ctx context.Context, id waybill.InstanceID, from netip.Addr) error

	Hello(ctx context.Context, id waybill.InstanceID, session string, facts waybill.Facts) error
	Beat(ctx context.Context, id waybill.InstanceID, session string, held []waybill.DeliveryID) error
	Pulse(id waybill.InstanceID, nextDial time.Time)
	Bye(ctx context.Context, id waybill.InstanceID, session string, as waybill.Presence) error
	LoseChannels(ctx context.Context, kind waybill.AgentKind, prefix string) error
	Pull(ctx context.Context, id waybill.InstanceID, after waybill.DeliveryID) (wire.PullReply, error)
	PullOne(ctx context.Context, id waybill.InstanceID, delivery waybill.DeliveryID) (m wire.Deliver, ok bool, err error)
	OfferOne(ctx context.Context, id waybill.InstanceID, delivery waybill.DeliveryID) (m wire.Deliver, ok bool, err error)
	Started(ctx context.Context, id waybill.InstanceID, deliveries []waybill.DeliveryID) (first, open []bool, err error)
	Report(ctx context.Context, id waybill.InstanceID, o control.Outcome) error
}

var _ service = (*control.Service)(nil)

// messenger is what it needs of bus.Bus, which front ends do not import.
type messenger interface {
	Publish(subject string, data []byte) error
	Serve(subject, queue string, h func(subject, reply string, data []byte)) (stop func(), err error)
}

// Server serves official agents.
type Server struct {
	cfg     Config
	service service
	bus     messenger
	log     *slog.Logger
	run     string // names this run of this server

	mu       sync.Mutex
	machines map[waybill.InstanceID]*machine // with a channel here, or something handed out
	channels sync.WaitGroup
	closing  chan struct{} // closed when channels are to end
	spread   time.Duration // over which they end; set before
	ready    chan struct{} // closed when channels of an earlier run are known to be gone

	used requests

	warnings *telemetry.Warnings
	calls    *prometheus.CounterVec
	open     prometheus.Gauge
}

// New returns a Server over svc, which tells by bus what there is for a machine.
func New(cfg Config, svc service, bus messenger, reg prometheus.Registerer, log *slog.Logger) *Server {
	s := &Server{
		cfg: cfg, service: svc, bus: bus, log: log, run: newRun(), machines: make(map[waybill.InstanceID]*machine),
		closing: make(chan struct{}), ready: make(chan struct{}), warnings: telemetry.NewWarnings(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waybill_official_agent_calls_total",
			Help: "HTTPS calls of official agents, by what they ask and how they were answered.",
		}, []string{"call", "status"}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "waybill_official_agent_channels", Help: "WebSockets of official agents that are open on this server.",
		}),
	}
	reg.MustRegister(s.calls, s.open)
	return s
}

// Run notes that the channels of an earlier run are gone, and forgets from time to time what is over. Until it has, a
// channel that opens is not greeted. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	stop, err := s.heed()
	if err != nil {
		return err
	}
	defer stop()
	if err := s.service.LoseChannels(ctx, waybill.OfficialAgent, s.sessionPrefix()); err != nil && ctx.Err() == nil {
		s.log.Error("note that channels are gone", "err", err) // a machine shows as online until it dials or is silent
	}
	close(s.ready)
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.forget()
			s.used.age()
		}
	}
}

// Close ends all channels and waits for them. Call it when a successor listens, or just before the end: an agent whose
// dial is refused is deaf for up to half an hour. It is safe to call twice.
//
// Every agent dials once, six seconds after the end of its channel. If thousands do so at the same moment, handshakes take
// longer than a front end gives them, or the agent. So the ends of many channels are spread over some time, and with them
// the dials. It stays below the six seconds, for a server whose port nobody holds open must be back by then.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.isClosing() {
		s.spread = min(time.Duration(len(s.machines))*spreadEach, maxSpread)
		close(s.closing)
	}
	s.mu.Unlock()
	s.channels.Wait()
}

const (
	spreadEach = 2 * time.Millisecond // what a dial may take of a core: handshake, signature, hello
	maxSpread  = 4 * time.Second
)

// turn returns after which time a channel is to end. Call it once s.closing is closed.
func (s *Server) turn() time.Duration { return time.Duration(rand.Int64N(int64(s.spread) + 1)) }

func (s *Server) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// enter counts a channel that is about to open, which ends with channels.Done; false once channels are to end.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosing() {
		return false
	}
	s.channels.Add(1)
	return true
}

func (s *Server) sessionPrefix() string { return s.cfg.Node + "/" }

// machine returns what is known here of an instance.
func (s *Server) machine(id waybill.InstanceID) *machine {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.machines[id]
	if m == nil {
		m = newMachine(id)
		s.machines[id] = m
	}
	m.touch(s.service.Now())
	return m
}

// forget drops machines without a channel of which nothing is under way, and that no call has in its hands.
func (s *Server) forget() {
	now := s.service.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, m := range s.machines {
		if m.idle(now) {
			delete(s.machines, id)
		}
	}
}

// Path is below what everything is that an official agent asks for.
const Path = "/luban/"

// maxBody bounds the body of a call in bytes; the longest are reports of crashes.
const maxBody = 256 << 10

// Handler serves everything below Path.
func (s *Server) Handler() http.Handler {
	// Not a mux of net/http: that would clean paths and redirect.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		route, ok := routes[r.Method+" "+r.URL.Path]
		if !ok {
			s.answer(w, "unknown", refusal{http.StatusNotFound, "there is nothing here"})
			return
		}
		if route.upgrade {
			s.notify(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		reply, err := route.serve(s, r)
		if err != nil {
			s.refuse(w, r, route.name, err)
			return
		}
		s.answer(w, route.name, reply)
	})
}

// route is one thing that agents ask for.
type route struct {
	name    string
	serve   func(*Server, *http.Request) (any, error)
	upgrade bool
}

// refusal is an answer with another status than 200. It is never 400, which the agent takes for success.
type refusal struct {
	Status int    `json:"code"`
	ErrMsg string `json:"errMsg"`
}

func (r refusal) Error() string { return r.ErrMsg }

func unauthorized(why string) error { return refusal{http.StatusUnauthorized, why} }

// refuse answers an error, and logs it: at length if it is ours, rarely if anybody can cause it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, name string, err error) {
	if answer, ok := errors.AsType[refusal](err); ok {
		s.warnings.Log(s.log, "call of an official agent refused", "call", name, "from", r.RemoteAddr,
			"instance_id", clip(r.Header.Get(headerInstance)), "status", answer.Status, "err", answer.ErrMsg)
		s.answer(w, name, answer)
		return
	}
	if r.Context().Err() != nil {
		s.warnings.Log(s.log, "official agent hung up", "call", name, "instance_id", clip(r.Header.Get(headerInstance)))
		s.answer(w, name, refusal{http.StatusServiceUnavailable, "too late"})
		return
	}
	status := http.StatusInternalServerError
	if waybill.CodeOf(err) == waybill.Unavailable {
		status = http.StatusServiceUnavailable
	}
	s.log.Error("call of an official agent failed", "call", name, "instance_id", clip(r.Header.Get(headerInstance)), "err", err)
	s.answer(w, name, refusal{status, "the server could not do this; its log says why"})
}

// clip bounds what a stranger can write into the log.
func clip(s string) string { return s[:min(len(s), 64)] }

// answer writes a reply as JSON; one that is a refusal has its status.
func (s *Server) answer(w http.ResponseWriter, name string, reply any) {
	status := http.StatusOK
	if r, ok := reply.(refusal); ok {
		status = r.Status
	}
	s.calls.WithLabelValues(name, http.StatusText(status)).Inc()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(reply) // an agent that is gone cannot be told
}

// done is the answer wherever nothing is to be said. The code must be a number.
type done struct {
	Code int `json:"code"`
}

var ok200 = done{http.StatusOK}
