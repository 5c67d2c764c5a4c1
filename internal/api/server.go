// SPDX-License-Identifier: Apache-2.0

// Package api is the RPC front end: it speaks the protocol of the ECS API (2014-05-26), and operations of RAM
// (2015-05-01), STS (2015-04-01) and Resource Manager (2020-03-31), over the use cases of internal/control.
//
// One table (Operations) says what each operation takes, answers, needs and refuses. One frame (Server) does for all of
// them what is not theirs: signature, clock, nonce, region, decoding, authorization, encoding, logging, counting. What
// is left to an operation's handler knows neither HTTP nor XML nor JSON. The words of the API (Invocation, InvokeId,
// ErrorCode …) live here and nowhere else.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/acs"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/telemetry"
)

// Bounds of a request (validity of a timestamp: RPC request rules; the length of the request line and headers is net/http's to bound).
const (
	timeWindow = 15 * time.Minute // how far the client's clock may be off
	nonceLife  = 31 * time.Minute // after the request's own time
)

// DefaultMaxPageSize is the published maximum of PageSize and MaxResults.
const DefaultMaxPageSize = 50

// Config is how a Server behaves. The zero value is ready to use.
type Config struct {
	// HelpURL, followed by the error code, is the Recommend of an error. If it begins with a slash, it is a path of this
	// server, at the address that the client called. Empty: no recommendation.
	HelpURL string
	// MaxContent is the most bytes of content of a request, as control.Config.Limits has it. Zero: the published limit.
	MaxContent int
	// MaxPageSize bounds PageSize and MaxResults. Zero: DefaultMaxPageSize.
	MaxPageSize int
	// AccountRate bounds the requests of one account, OperationRate those of one account to one operation, each on this
	// server. Zero: not at all.
	AccountRate, OperationRate Rate
	// State tells of the server; nil: it does not tell.
	State func(ctx context.Context) State
	// Tracer traces requests; nil: nobody does.
	Tracer *telemetry.Tracer
}

// service is what this package needs of control.Service, each part beside the operations that use it.
type service interface {
	Now() time.Time
	Regions() []string
	MaxInstances() int // of a delivery
	TokenKey() []byte
	Credential(ctx context.Context, keyID, securityToken string) (control.Credential, error)
	UseNonce(ctx context.Context, c control.Credential, nonce string, until time.Time) (fresh bool, err error)
	Authorize(ctx context.Context, act *waybill.Act, requestTags []waybill.Tag) error
	Record(ctx context.Context, act *waybill.Act, result string) error

	deliveryService
	uploadService
	summaryService
	steeringService
	retryingService
	diffService
	filesService
	waitService
	activationService
	instanceService
	tagService
	groupService
	auditService
	keyService
	userService
	policyService
	webhookService
}

var _ service = (*control.Service)(nil)

// call is what a handler knows of the request it serves.
type call struct {
	service
	op      *Operation
	who     waybill.Principal
	act     *waybill.Act // the same, with what it does
	host    string       // the endpoint as the client sees it
	maxPage int
	maxText int // bytes of the longest content that an answer shows
	state   func(context.Context) State
	place   *place // of the answer; nil: it needs none
}

// Server answers signed requests. It may be used by any number of goroutines at once.
type Server struct {
	cfg        Config
	service    service
	operations map[string]map[string]*Operation // by version and name
	throttle   throttle
	bodies     bodies
	answers    answers
	requests   *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	underWay   prometheus.Gauge
	log        *slog.Logger
}

// New returns a Server over svc, whose metrics are registered with reg.
func New(cfg Config, svc *control.Service, reg prometheus.Registerer, log *slog.Logger) *Server {
	return newServer(cfg, svc, reg, log)
}

func newServer(cfg Config, svc service, reg prometheus.Registerer, log *slog.Logger) *Server {
	if cfg.MaxPageSize == 0 {
		cfg.MaxPageSize = DefaultMaxPageSize
	}
	if cfg.MaxContent == 0 {
		cfg.MaxContent = waybill.DefaultLimits().ContentBytes
	}
	s := &Server{
		cfg:        cfg,
		service:    svc,
		throttle:   throttle{account: cfg.AccountRate, operation: cfg.OperationRate},
		bodies:     newBodies(cfg.MaxContent),
		answers:    newAnswers(cfg.MaxContent),
		operations: make(map[string]map[string]*Operation),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waybill_api_requests_total",
			Help: "Requests answered, by operation and error code (OK: none).",
		}, []string{"action", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "waybill_api_request_duration_seconds",
			Help:    "Time to answer a request, by operation.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), // 1 ms to 8 s
		}, []string{"action"}),
		underWay: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "waybill_api_requests_under_way", Help: "Requests that are being answered.",
		}),
		log: log,
	}
	for _, op := range Operations() {
		if s.operations[op.Version] == nil {
			s.operations[op.Version] = make(map[string]*Operation)
		}
		s.operations[op.Version][op.Name] = &op
	}
	reg.MustRegister(s.requests, s.duration, s.underWay)
	return s
}

// exchange is one request on its way through the frame, and what is known of it by now.
type exchange struct {
	id     string
	host   string
	scheme string // how it came
	format string
	action string // as the client wrote it
	keyID  string // likewise
	op     *Operation
	wait   time.Duration // of a throttled request: when to come again
	place  *place        // of its answer, if that may be long
	span   telemetry.Span
}

// ServeHTTP implements http.Handler. It answers every path; all but "/" with an error.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	s.underWay.Inc()
	defer s.underWay.Dec()
	x := &exchange{id: strings.ToUpper(uuid.NewString()), host: r.Host, scheme: "https", format: acs.JSON}
	if r.TLS == nil {
		x.scheme = "http"
	}
	ctx, span := s.cfg.Tracer.Request(r, "request")
	if x.span = span; span.On() {
		r = r.WithContext(ctx)
	}
	out, err := guard(func() (reply, error) { return s.serve(w, r, x) })
	status, code, body, err := s.encode(x, out, err)
	defer x.place.leave()
	if x.place != nil && !x.place.fit(len(body)) {
		status, code, body, err = s.encode(x, nil, errNoRoom)
		x.place.fit(len(body))
	}

	h := w.Header()
	h.Set("Content-Type", formats[x.format].contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("x-acs-request-id", x.id)
	if code == "FileSize.ExceedLimit" || code == "RequestBody.TooLarge" {
		h.Set("x-waybill-max-content", strconv.Itoa(s.cfg.MaxContent)) // whose words are fixed
	}
	if x.wait > 0 {
		h.Set("x-acs-retry-after", strconv.FormatInt(x.wait.Milliseconds()+1, 10))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone cannot be told

	s.report(r.Context(), x, status, code, err, time.Since(start))
}

// report logs and counts an answered request. Nothing that a stranger chooses becomes a label, and no parameter or
// signature reaches the log.
func (s *Server) report(ctx context.Context, x *exchange, status int, code string, err error, took time.Duration) {
	label := "unknown"
	if x.op != nil {
		label = x.op.Name
	}
	s.requests.WithLabelValues(label, code).Inc()
	s.duration.WithLabelValues(label).Observe(took.Seconds())
	x.endSpan(label, status, code)

	attrs := []slog.Attr{
		slog.String("action", clip(x.action)),
		slog.String("request_id", x.id),
		slog.String("key_id", clip(x.keyID)),
		slog.Int("status", status),
		slog.String("code", code),
		slog.Duration("duration", took),
	}
	if traceID, spanID := x.span.IDs(); traceID != "" {
		attrs = append(attrs, slog.String("trace_id", traceID), slog.String("span_id", spanID))
	}
	level := slog.LevelInfo
	if status >= http.StatusInternalServerError {
		level = slog.LevelError
		if code == "ServiceUnavailable" {
			level = slog.LevelWarn // it passes
		}
		attrs = append(attrs, slog.Any("err", err))
	}
	if p, ok := errors.AsType[*panicked](err); ok {
		attrs = append(attrs, slog.String("stack", string(p.stack)))
	}
	s.log.LogAttrs(ctx, level, "api request", attrs...)
}

// endSpan ends the span of a request, under the name of its operation.
func (x *exchange) endSpan(label string, status int, code string) {
	if x.op != nil {
		x.span.Name(label)
	}
	x.span.String("waybill.request.id", x.id)
	x.span.Int("http.response.status_code", status)
	if status >= http.StatusInternalServerError {
		x.span.Fail(code)
	} else if status >= http.StatusBadRequest {
		x.span.String("error.type", code) // the client's, which is no failure of ours
	}
	x.span.End(nil)
}

// clip bounds what a stranger can write into the log with one request.
func clip(s string) string {
	if len(s) > 128 {
		return strings.ToValidUTF8(s[:128], "") + "…"
	}
	return s
}

// errorBody is the body of every error. All of it is text: the classic Go SDK insists.
type errorBody struct {
	RequestId string
	HostId    string
	Code      string
	Message   string
	Recommend string

	AccessDeniedDetail *accessDenied `json:",omitempty" xml:",omitempty"`
}

// encode turns the outcome of a request into its answer. The error it returns is the one to log.
func (s *Server) encode(x *exchange, out reply, err error) (status int, code string, body []byte, logged error) {
	encode := formats[x.format].encode
	if err == nil {
		out.setRequestID(x.id)
		if body, err = encode(x.op.Name+"Response", out); err == nil {
			return http.StatusOK, "OK", body, nil
		}
	}
	f := faultOf(x.op, err)
	e := errorBody{
		RequestId: x.id, HostId: x.host, Code: f.Code, Message: f.Message, AccessDeniedDetail: deniedDetail(err),
	}
	if s.cfg.HelpURL != "" {
		e.Recommend = s.cfg.HelpURL + url.QueryEscape(f.Code)
	}
	if strings.HasPrefix(e.Recommend, "/") {
		e.Recommend = x.scheme + "://" + x.host + e.Recommend
	}
	body, encodeErr := encode("Error", e)
	if encodeErr != nil {
		panic(encodeErr) // strings
	}
	return f.Status, f.Code, body, err
}

// guard runs f. A panic in it is an error.
func guard(f func() (reply, error)) (out reply, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, &panicked{value: p, stack: debug.Stack()}
		}
	}()
	return f()
}

// serve takes one request through the steps that all operations share.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, x *exchange) (out reply, err error) {
	body, release, bodyErr := s.bodies.read(w, r)
	defer release()
	q, err := acs.Parse(r, body)
	x.format, x.action, x.keyID = q.Format, q.Action, q.AccessKeyID
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		return nil, refuse("UnsupportedHTTPMethod")
	case r.URL.Path != "/":
		return nil, refuse("InvalidAction.NotFound")
	case bodyErr != nil:
		return nil, bodyErr
	case err != nil:
		return nil, err
	}
	ctx := r.Context()
	cred, err := s.authenticate(ctx, q)
	if err != nil {
		return nil, err
	}
	who := principalOf(cred)
	who.RequestID, who.SourceIP, who.Secure = x.id, sourceIP(r.RemoteAddr), r.TLS != nil

	byName, ok := s.operations[q.Version]
	if !ok {
		return nil, refuse("InvalidVersion")
	}
	op, ok := byName[q.Action]
	if !ok {
		return nil, refuse("InvalidAction.NotFound")
	}
	x.op = op
	if x.wait, err = s.throttle.admit(who.Account, op, s.service.Now()); err != nil {
		return nil, err
	}
	if err := s.useNonce(ctx, cred, q); err != nil {
		return nil, err
	}
	if op.Kind == Read {
		if x.place, err = s.answers.take(ctx, who.Account); err != nil {
			return nil, err
		}
	}
	c := &call{
		service: s.service, op: op, who: who, host: x.host, maxPage: s.cfg.MaxPageSize, maxText: s.cfg.MaxContent, state: s.cfg.State, place: x.place,
	}
	c.act = &waybill.Act{Principal: who, Action: op.acts(), Region: q.Params["RegionId"]}
	out, err = guard(func() (reply, error) {
		if op.requires("RegionId") {
			if err := c.checkRegion(q.Params["RegionId"]); err != nil {
				return nil, err
			}
		}
		return op.serve(ctx, c, q.Params)
	})
	if op.Kind == Write {
		err = s.record(ctx, c, err)
	}
	return out, err
}

// record writes the audit record of a request that may change something, unless it was written with the change. What
// cannot be recorded is not answered as done. What the database did not take is not recorded: it would not take the record
// either, and the client waits.
func (s *Server) record(ctx context.Context, c *call, err error) error {
	result := waybill.AuditOK
	switch {
	case waybill.CodeOf(err) == waybill.Unavailable:
		return err
	case err != nil:
		result = faultOf(c.op, err).Code
	case c.act.Recorded:
		return nil
	case c.act.Repeated:
		result = waybill.AuditRepeated
	}
	recordErr := s.service.Record(context.WithoutCancel(ctx), c.act, result)
	if recordErr != nil {
		s.log.Error("write audit record", "request_id", c.who.RequestID, "err", recordErr)
	}
	if err != nil {
		return err
	}
	return recordErr
}

// authenticate finds out with which key q was signed, and refuses what was sent too early or too late.
func (s *Server) authenticate(ctx context.Context, q *acs.Request) (control.Credential, error) {
	nobody := control.Credential{}
	if err := q.CheckTime(s.service.Now(), timeWindow); err != nil {
		return nobody, err
	}
	cred, err := s.service.Credential(ctx, q.AccessKeyID, q.SecurityToken)
	switch code := waybill.CodeOf(err); {
	case err == nil:
	case code == waybill.AccessKeyNotFound:
		return nobody, refuse("InvalidAccessKeyId.NotFound")
	default:
		return nobody, fmt.Errorf("look up access key: %w", err)
	}
	if !cred.Key.Active {
		return nobody, refuse("InvalidAccessKeyId.Inactive")
	}
	if err := q.Verify(cred.Secret); err != nil {
		return nobody, err
	}
	return cred, nil
}

// useNonce refuses what was sent before. It comes after the limits of pace, so that they bound what is remembered too.
func (s *Server) useNonce(ctx context.Context, cred control.Credential, q *acs.Request) error {
	fresh, err := s.service.UseNonce(ctx, cred, q.Nonce, q.Time.Add(nonceLife))
	if err != nil {
		return fmt.Errorf("remember nonce: %w", err)
	}
	if !fresh {
		return refuse("SignatureNonceUsed")
	}
	return nil
}

// principalOf returns who holds a key.
func principalOf(cred control.Credential) waybill.Principal {
	who := waybill.Principal{
		Account: cred.Key.Account, Kind: waybill.AccountActor, AccessKey: cred.Key.ID, Issuer: cred.Issuer, Session: cred.Policy,
	}
	if cred.Key.User != "" {
		who.Kind, who.Name = waybill.UserActor, cred.Key.User
	}
	return who
}

func (c *call) checkRegion(region string) error {
	if region == "" {
		return missing("RegionId")
	}
	if !slices.Contains(c.Regions(), region) {
		return refuse("InvalidRegionId.NotFound")
	}
	return nil
}

// sourceIP returns the address of a peer, and the zero Addr for one without (a listener that is not TCP).
func sourceIP(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
