// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/telemetry"
	"github.com/openwaybill/waybill/internal/testenv"
	"github.com/openwaybill/waybill/internal/wire"
)

// receiver takes traces as a collector does: OTLP over HTTP.
type receiver struct {
	t      *testing.T
	tracer *telemetry.Tracer
	mu     sync.Mutex

	spans    []*otlp.Span
	services []string
	raw      bytes.Buffer // all that came
}

func (c *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body := io.Reader(r.Body)
	var m collector.ExportTraceServiceRequest
	var err error
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, err = gzip.NewReader(r.Body)
	}
	var data []byte
	if err == nil {
		data, err = io.ReadAll(body)
	}
	if err == nil {
		err = proto.Unmarshal(data, &m)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		c.t.Errorf("traces at %s: %v", r.URL.Path, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.raw.Write(data)
	for _, from := range m.ResourceSpans {
		for _, a := range from.Resource.Attributes {
			if a.Key == "service.name" {
				c.services = append(c.services, a.Value.GetStringValue())
			}
		}
		for _, s := range from.ScopeSpans {
			c.spans = append(c.spans, s.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// traced starts a server that sends its traces to the receiver returned.
func traced(t *testing.T) (*testenv.Server, *receiver) {
	t.Helper()
	c := &receiver{t: t}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	tracer, err := telemetry.NewTracer(t.Context(), telemetry.TraceConfig{Endpoint: s.URL, Version: "test"}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tracer.Close(context.Background()) }) // its collector may have gone
	c.tracer = tracer
	return testenv.Start(t, func(c *server.Config) { c.Tracer = tracer }), c
}

// trace waits until the trace of that ID has a span of each name, and what each but the request is within, which comes
// later as a rule. It returns the spans by name.
func (c *receiver) trace(id string, names ...string) map[string][]*otlp.Span {
	c.t.Helper()
	var byName map[string][]*otlp.Span
	testenv.Eventually(c.t, "the spans of one trace", func() bool {
		if err := c.tracer.Flush(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		byName = map[string][]*otlp.Span{}
		ended, parents := map[string]bool{}, map[string]bool{}
		for _, s := range c.spans {
			if hex.EncodeToString(s.TraceId) != id {
				continue
			}
			byName[s.Name] = append(byName[s.Name], s)
			ended[string(s.SpanId)] = true
			if s.Kind != otlp.Span_SPAN_KIND_SERVER {
				parents[string(s.ParentSpanId)] = true
			}
		}
		for p := range parents {
			if !ended[p] {
				return false
			}
		}
		return !slices.ContainsFunc(names, func(n string) bool { return byName[n] == nil })
	})
	return byName
}

func attribute(s *otlp.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// asking sends a header along with every request.
type asking struct {
	http.RoundTripper
	traceparent string
}

func (a asking) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("traceparent", a.traceparent)
	return a.RoundTripper.RoundTrip(r)
}

// TestTraceFromCallToReport sends a file to a real agent, and looks for what came of it in the collector: one trace, the
// caller's, whose spans are those of the call, what it did, the message to the agent, and the agent's answers.
func TestTraceFromCallToReport(t *testing.T) {
	t.Parallel()
	s, c := traced(t)
	a := s.Agent()
	s.Await(s.Send(testenv.File(a))) // now it does not pull any more, which would bring a delivery without its trace
	const id, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	// As a service would that is traced itself.
	tracing, err := client.New(client.Config{
		Endpoint: "http://" + s.Addr("http"), AccessKeyID: s.Key.AccessKeyID, AccessKeySecret: s.Key.AccessKeySecret, Region: testenv.Region,
		HTTP: &http.Client{Transport: asking{http.DefaultTransport, "00-" + id + "-" + caller + "-01"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	request := testenv.File(a)
	request.File.Name = "traced"
	request.Content, request.Description = []byte("what nobody else may read"), "confidential"
	delivery, err := tracing.SendFile(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if d := s.Await(delivery); d.Status != waybill.OverallSuccess {
		t.Fatalf("ended as %s", d.Status)
	}
	spans := c.trace(id, "SendFile", "authorize", "send", "store write", "store transaction", "publish deliver", "ack", "report", "place file", "apply reports")

	within := func(s *otlp.Span, parents ...string) bool {
		return slices.ContainsFunc(parents, func(name string) bool {
			return slices.ContainsFunc(spans[name], func(p *otlp.Span) bool { return bytes.Equal(s.ParentSpanId, p.SpanId) })
		})
	}
	for child, parents := range map[string][]string{
		"authorize":       {"SendFile"},
		"send":            {"SendFile"},
		"publish deliver": {"send"},
		"ack":             {"publish deliver"},
		"report":          {"publish deliver"}, // which an agent repeats until it is confirmed
		"place file":      {"report"},
		// Who shares a transaction is within the first, and linked with the others.
		"store write":       {"send", "apply reports", "SendFile"},
		"store transaction": {"store write"},
		"apply reports":     {"ack", "report"},
	} {
		for _, s := range spans[child] {
			if !within(s, parents...) {
				t.Errorf("a %q is within none of %q", child, parents)
			}
			if s.EndTimeUnixNano < s.StartTimeUnixNano {
				t.Errorf("a %q ended before it began", child)
			}
		}
	}
	for _, name := range []string{"SendFile", "authorize", "send", "publish deliver"} {
		if n := len(spans[name]); n != 1 {
			t.Errorf("%d spans are called %q, want one", n, name)
		}
	}
	call := spans["SendFile"][0]
	if p := hex.EncodeToString(call.ParentSpanId); p != caller || call.Kind != otlp.Span_SPAN_KIND_SERVER {
		t.Errorf("the call is within %s, and a %s", p, call.Kind)
	}
	for _, name := range []string{"send", "publish deliver", "ack", "report"} {
		if got := attribute(spans[name][0], "waybill.delivery.id"); got != string(delivery) {
			t.Errorf("%q is about the delivery %q, want %q", name, got, delivery)
		}
	}
	if got := attribute(spans["report"][0], "waybill.instance.id"); got != string(a.ID) {
		t.Errorf("the report is of %q, want %q", got, a.ID)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, secret := range []string{string(request.Content), request.Description, request.File.Name, request.File.TargetDir, s.Key.AccessKeySecret, s.Key.AccessKeyID} {
		if bytes.Contains(c.raw.Bytes(), []byte(secret)) {
			t.Errorf("the collector was told %q", secret)
		}
	}
	if !slices.Contains(c.services, "waybill") && os.Getenv("OTEL_SERVICE_NAME") == "" {
		t.Errorf("the traces are those of %q", c.services)
	}
}

// TestTraceOfAnOldAgent looks that a delivery to an agent that does not know of traces ends as any other; its trace ends
// with the message to it.
func TestTraceOfAnOldAgent(t *testing.T) {
	t.Parallel()
	s, c := traced(t)
	told := make(chan string, 1)
	a := s.Agent(func(cfg *agent.Config) {
		cfg.Hooks.Deliver = func(d *wire.Deliver) bool {
			if d.Trace != "" {
				select {
				case told <- d.Trace:
				default:
				}
			}
			d.Trace = ""
			return true
		}
	})
	s.Await(s.Send(testenv.File(a))) // now it does not pull any more
	request := testenv.File(a)
	request.File.Name = "traced"
	if d := s.Await(s.Send(request)); d.Status != waybill.OverallSuccess {
		t.Fatalf("ended as %s", d.Status)
	}
	_, rest, _ := strings.Cut(<-told, "-")
	id, _, _ := strings.Cut(rest, "-")
	spans := c.trace(id, "SendFile", "send", "publish deliver")
	if spans["ack"] != nil || spans["report"] != nil {
		t.Errorf("an agent that echoes nothing is part of the trace: %v", spans)
	}
}
