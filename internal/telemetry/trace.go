// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/openwaybill/waybill"
)

// scope names this program as the maker of spans.
const scope = "github.com/openwaybill/waybill"

// Tracer begins traces and sends them to a collector. A nil Tracer begins none, and neither it nor what is called with the
// contexts it returns costs an allocation. Its methods may be called by any number of goroutines.
//
// Only what comes from outside (a request, a message) needs the Tracer. Whatever is done for it makes its spans by Child,
// from the context alone.
type Tracer struct {
	tracer   trace.Tracer
	provider *sdk.TracerProvider
	exported *prometheus.CounterVec
}

// TraceConfig says where traces go. What it leaves open, the variables OTEL_… of the environment say as OpenTelemetry
// defines them, such as headers, certificates, the sampler and the service's name.
type TraceConfig struct {
	// Endpoint is the base URL of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318; empty:
	// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT says it.
	Endpoint string
	Version  string // of this program
}

// TracesWanted reports whether the environment asks for traces, as OpenTelemetry has it, but for one thing: without an
// endpoint there are none, instead of some to localhost. It fails if they are wanted in a way that this program does not have.
func TracesWanted(getenv func(string) string) (bool, error) {
	first := func(names ...string) string {
		for _, n := range names {
			if v := getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false, nil
	}
	if first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") == "" {
		return false, nil
	}
	if e := getenv("OTEL_TRACES_EXPORTER"); e != "" && e != "otlp" {
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER is %q; traces are sent by otlp only, or none", e)
	}
	if p := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); p != "" && p != "http/protobuf" {
		return false, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q; traces are sent by http/protobuf only, to port 4318 as a rule", p)
	}
	return true, nil
}

// NewTracer returns a Tracer that sends what it traces from now on. Close it. A collector that cannot be reached is no
// error: traces are lost then, which is logged and counted.
func NewTracer(ctx context.Context, cfg TraceConfig, log *slog.Logger) (*Tracer, error) {
	var opts []otlptracehttp.Option
	if cfg.Endpoint != "" {
		u, err := url.Parse(cfg.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, errors.New("the endpoint of traces is no URL of a collector; give one such as http://127.0.0.1:4318")
		}
		opts = append(opts, otlptracehttp.WithEndpointURL(u.JoinPath("v1/traces").String()))
	}
	client, err := otlptracehttp.New(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("export traces: %w", err)
	}
	who, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "waybill"), attribute.String("service.version", cfg.Version),
	), resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("traces: what OTEL_RESOURCE_ATTRIBUTES says: %w", err), client.Shutdown(ctx))
	}
	t := &Tracer{exported: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "waybill_trace_spans_total", Help: "Spans of traces, by whether the collector took them.",
	}, []string{"result"})}
	for _, r := range []string{spansSent, spansLost} {
		t.exported.WithLabelValues(r)
	}
	t.provider = sdk.NewTracerProvider(sdk.WithResource(who), sdk.WithBatcher(&exporter{client, t.exported, log, NewWarnings()}))
	t.tracer = t.provider.Tracer(scope, trace.WithInstrumentationVersion(cfg.Version))
	return t, nil
}

// Results of spans, as counted.
const (
	spansSent = "sent"
	spansLost = "lost"
)

// exporter logs and counts what becomes of spans, here and not by a handler that the whole process shares.
type exporter struct {
	sdk.SpanExporter
	exported *prometheus.CounterVec
	log      *slog.Logger
	warnings *Warnings
}

// ExportSpans implements sdk.SpanExporter.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	result := spansSent
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		result = spansLost
		e.warnings.Log(e.log, "traces were not taken by the collector", "spans", len(spans), "err", err)
	}
	e.exported.WithLabelValues(result).Add(float64(len(spans)))
	return nil
}

// Describe implements prometheus.Collector.
func (t *Tracer) Describe(ch chan<- *prometheus.Desc) { t.exported.Describe(ch) }

// Collect implements prometheus.Collector.
func (t *Tracer) Collect(ch chan<- prometheus.Metric) { t.exported.Collect(ch) }

// Flush sends what has ended, and returns when it has left or ctx ends.
func (t *Tracer) Flush(ctx context.Context) error { return t.provider.ForceFlush(ctx) }

// Close sends what has ended, and makes t trace no more.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Request begins the span of a request. Its parent is what the headers traceparent and tracestate name, if they do.
func (t *Tracer) Request(r *http.Request, name string) (context.Context, Span) {
	if t == nil {
		return r.Context(), Span{}
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, s := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
	return ctx, Span{s}
}

// maxTraceParent is the length of a traceparent of version 00 (W3C Trace Context).
const maxTraceParent = 55

// Message begins the span of handling a message that carries parent, the words of TraceParent. A message that carries
// nothing, or anything else, has none.
func (t *Tracer) Message(ctx context.Context, parent, name string) (context.Context, Span) {
	if t == nil || len(parent) != maxTraceParent {
		return ctx, Span{}
	}
	in := propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
	if !trace.SpanContextFromContext(in).IsRemote() {
		return ctx, Span{}
	}
	in, s := t.tracer.Start(in, name, trace.WithSpanKind(trace.SpanKindConsumer))
	return in, Span{s}
}

// Work notes what others did between two times, as they tell, as a child of what ctx is for.
func Work(ctx context.Context, name string, from, to time.Time) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() || from.IsZero() || to.Before(from) {
		return
	}
	_, s := parent.TracerProvider().Tracer(scope).Start(ctx, name, trace.WithTimestamp(from))
	s.End(trace.WithTimestamp(to))
}

// Kind says which side of a conversation a span is.
type Kind int

// The kinds of Child.
const (
	Inside   Kind = iota // work of this process
	Asks                 // a request to another part, and the wait for its answer
	Produces             // a message that somebody will handle
)

// Child begins a span within the one of ctx. If there is none, or it is not sampled, there is no new one either.
func Child(ctx context.Context, kind Kind, name string) (context.Context, Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	return child(ctx, parent, kind, name)
}

func child(ctx context.Context, parent trace.Span, kind Kind, name string, links ...trace.Link) (context.Context, Span) {
	k := trace.SpanKindInternal
	switch kind {
	case Inside:
	case Asks:
		k = trace.SpanKindClient
	case Produces:
		k = trace.SpanKindProducer
	}
	ctx, s := parent.TracerProvider().Tracer(scope).Start(ctx, name, trace.WithSpanKind(k), trace.WithLinks(links...))
	return ctx, Span{s}
}

// Shared begins the span of work that n others wait for, whose contexts of returns. It is a child of the first of them that
// is traced; it and the others are linked in both ways. The context returned is nobody's: it never ends, and carries the
// span only.
func Shared(n int, of func(int) context.Context, kind Kind, name string) (context.Context, Span) {
	for i := range n {
		if parent := trace.SpanFromContext(of(i)); parent.IsRecording() {
			return shared(parent, i, n, of, kind, name)
		}
	}
	return context.Background(), Span{}
}

// maxLinks bounds the links of a span.
const maxLinks = 64

func shared(parent trace.Span, first, n int, of func(int) context.Context, kind Kind, name string) (context.Context, Span) {
	var others []trace.Span
	var links []trace.Link
	for i := first + 1; i < n && len(links) < maxLinks; i++ {
		if s := trace.SpanFromContext(of(i)); s.IsRecording() {
			others, links = append(others, s), append(links, trace.Link{SpanContext: s.SpanContext()})
		}
	}
	ctx, s := child(trace.ContextWithSpan(context.Background(), parent), parent, kind, name, links...)
	for _, o := range others {
		o.AddLink(trace.Link{SpanContext: s.span.SpanContext()})
	}
	return ctx, s
}

// TraceParent returns the span of ctx as W3C Trace Context writes it, for a message; empty if there is none.
func TraceParent(ctx context.Context) string {
	c := trace.SpanContextFromContext(ctx)
	if !c.IsValid() {
		return ""
	}
	return fmt.Sprintf("00-%s-%s-%s", c.TraceID(), c.SpanID(), c.TraceFlags()&trace.FlagsSampled)
}

// Span is one piece of work in a trace; the zero value is none, and takes everything. Attributes must hold neither content
// nor secrets, nor what strangers can make long.
type Span struct{ span trace.Span }

// On reports whether there is a span: if not, nothing needs to be found out for it.
func (s Span) On() bool { return s.span != nil && s.span.IsRecording() }

// Name replaces the name.
func (s Span) Name(name string) {
	if s.span != nil {
		s.span.SetName(name)
	}
}

// String sets an attribute.
func (s Span) String(key, value string) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// Int sets an attribute.
func (s Span) Int(key string, value int) {
	if s.span != nil {
		s.span.SetAttributes(attribute.Int(key, value))
	}
}

// Fail says that the work failed, and by which code. Words of errors may hold what is nobody's business.
func (s Span) Fail(code string) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String("error.type", code))
		s.span.SetStatus(codes.Error, code)
	}
}

// End ends the span. Of err, its code is kept; nil is success.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.Fail(string(waybill.CodeOf(err)))
	}
	s.span.End()
}

// IDs returns the IDs of trace and span in hexadecimal, for the log; empty if there is none.
func (s Span) IDs() (traceID, spanID string) {
	if s.span == nil {
		return "", ""
	}
	c := s.span.SpanContext()
	return c.TraceID().String(), c.SpanID().String()
}
