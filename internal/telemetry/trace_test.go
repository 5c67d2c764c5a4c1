// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/openwaybill/waybill"
)

const (
	parent   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	parentID = "0af7651916cd43dd8448eb211c80319c"
)

// recorded returns a Tracer whose spans, once ended, are in the recorder.
func recorded() (*Tracer, *tracetest.SpanRecorder) {
	r := tracetest.NewSpanRecorder()
	p := sdk.NewTracerProvider(sdk.WithSpanProcessor(r))
	return &Tracer{tracer: p.Tracer(scope), provider: p}, r
}

// TestNobodyTraces is what a server pays that traces nothing.
func TestNobodyTraces(t *testing.T) {
	var nobody *Tracer
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("traceparent", parent)
	callers := []context.Context{r.Context(), r.Context()}
	failed := errors.New("failed")
	if n := testing.AllocsPerRun(100, func() {
		ctx, request := nobody.Request(r, "request")
		ctx, message := nobody.Message(ctx, parent, "report")
		ctx, child := Child(ctx, Inside, "send")
		_, shared := Shared(len(callers), func(i int) context.Context { return callers[i] }, Asks, "transaction")
		Work(ctx, "place file", time.Time{}, time.Time{})
		for _, s := range []Span{request, message, child, shared} {
			s.Name("other")
			s.String("waybill.delivery.id", "f-1")
			s.Int("waybill.store.writes", 2)
			s.End(failed)
			if id, _ := s.IDs(); s.On() || id != "" || TraceParent(ctx) != "" {
				t.Error("somebody traces")
			}
		}
	}); n != 0 {
		t.Errorf("%g allocations", n)
	}
	if err := nobody.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTracerContinuesTheTraceOfARequest(t *testing.T) {
	t.Parallel()
	tracer, spans := recorded()
	for _, header := range []string{parent, "", "00-nonsense", strings.Replace(parent, "-01", "-00", 1)} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("traceparent", header)
		ctx, s := tracer.Request(r, "request")
		if got := TraceParent(ctx); strings.Contains(got, parentID) != strings.Contains(header, parentID) || len(got) != maxTraceParent {
			t.Errorf("the request came with %q, what comes of it goes on with %q", header, got)
		}
		s.End(nil)
	}
	if n := len(spans.Ended()); n != 3 {
		t.Errorf("%d spans, want 3: one of the traces is not sampled", n)
	}
}

func TestTracerOfMessages(t *testing.T) {
	t.Parallel()
	tracer, spans := recorded()
	for _, word := range []string{"", "x", parent + "-", strings.ToUpper(parent), strings.Repeat("0", maxTraceParent), parent[:maxTraceParent-1] + "\n"} {
		ctx, s := tracer.Message(t.Context(), word, "report")
		if s.On() || TraceParent(ctx) != "" {
			t.Errorf("a message with %q is traced", word)
		}
	}
	ctx, s := tracer.Message(t.Context(), parent, "report")
	Work(ctx, "place file", time.UnixMilli(1000), time.UnixMilli(3000))
	Work(ctx, "turned around", time.UnixMilli(3000), time.UnixMilli(1000))
	s.End(waybill.Errorf(waybill.Unavailable, "a secret"))
	ended := spans.Ended()
	if len(ended) != 2 {
		t.Fatalf("%d spans, want 2", len(ended))
	}
	work, report := ended[0], ended[1]
	if work.Parent().SpanID() != report.SpanContext().SpanID() || report.Parent().TraceID().String() != parentID {
		t.Errorf("the work is within %v, the report within %v", work.Parent(), report.Parent())
	}
	if d := work.EndTime().Sub(work.StartTime()); d != 2*time.Second {
		t.Errorf("the work took %s", d)
	}
	if d := report.Status().Description; d != string(waybill.Unavailable) {
		t.Errorf("the report failed by %q", d)
	}
}

// TestSharedSpan looks at work that three wait for, one of whom is not traced.
func TestSharedSpan(t *testing.T) {
	t.Parallel()
	tracer, spans := recorded()
	first, firstSpan := tracer.Message(t.Context(), parent, "first")
	second, secondSpan := tracer.Message(t.Context(), strings.Replace(parent, "0af", "1af", 1), "second")
	callers := []context.Context{t.Context(), first, second}
	ended, cancel := context.WithCancel(callers[1])
	cancel()
	callers[1] = ended
	ctx, shared := Shared(len(callers), func(i int) context.Context { return callers[i] }, Asks, "transaction")
	if ctx.Err() != nil {
		t.Error("one of the callers ended, and with it what the others wait for")
	}
	shared.End(nil)
	firstSpan.End(nil)
	secondSpan.End(nil)
	list := spans.Ended()
	if len(list) != 3 {
		t.Fatalf("%d spans, want 3", len(list))
	}
	work, one, two := list[0], list[1], list[2]
	if work.Parent().SpanID() != one.SpanContext().SpanID() {
		t.Error("the work is not within the first who is traced")
	}
	if l := work.Links(); len(l) != 1 || l[0].SpanContext.SpanID() != two.SpanContext().SpanID() {
		t.Errorf("the work is linked to %v", l)
	}
	if l := two.Links(); len(l) != 1 || l[0].SpanContext.SpanID() != work.SpanContext().SpanID() {
		t.Errorf("the second is linked to %v", l)
	}
}

// TestCollectorThatRefuses looks that spans that nobody takes are counted, and logged without what is in them.
func TestCollectorThatRefuses(t *testing.T) {
	t.Parallel()
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/prefix/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s of %s", r.URL.Path, r.Header.Get("Content-Type"))
		}
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer collector.Close()
	var log bytes.Buffer
	tracer, err := NewTracer(t.Context(), TraceConfig{Endpoint: collector.URL + "/prefix/"}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, s := tracer.Message(t.Context(), parent, "a name")
	s.End(nil)
	if err := tracer.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := testutil.ToFloat64(tracer.exported.WithLabelValues(spansLost)); n != 1 {
		t.Errorf("%g spans are counted as lost", n)
	}
	if l := log.String(); !strings.Contains(l, "traces were not taken") || strings.Contains(l, "a name") {
		t.Errorf("logged %q", l)
	}
	for _, bad := range []string{"127.0.0.1:4318", "ftp://127.0.0.1", "http://", "http://user:secret@%"} {
		if _, err := NewTracer(t.Context(), TraceConfig{Endpoint: bad}, slog.Default()); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("the endpoint %q: %v", bad, err)
		}
	}
}

func TestTracesWanted(t *testing.T) {
	t.Parallel()
	const url = "http://127.0.0.1:4318"
	for _, tc := range []struct {
		env    []string
		wanted bool
		fail   string
	}{
		{nil, false, ""},
		{[]string{"OTEL_SERVICE_NAME", "x"}, false, ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", url}, true, ""},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url}, true, ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", url, "OTEL_SDK_DISABLED", "True"}, false, ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", url, "OTEL_TRACES_EXPORTER", "none"}, false, ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", url, "OTEL_TRACES_EXPORTER", "zipkin"}, false, "by otlp only"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", url, "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"}, true, ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", url, "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, false, "by http/protobuf only"},
	} {
		wanted, err := TracesWanted(func(name string) string {
			if i := slices.Index(tc.env, name); i >= 0 {
				return tc.env[i+1]
			}
			return ""
		})
		if wanted != tc.wanted || (err == nil) != (tc.fail == "") || err != nil && !strings.Contains(err.Error(), tc.fail) {
			t.Errorf("%q: %t, %v", tc.env, wanted, err)
		}
	}
}
