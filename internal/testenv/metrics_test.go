// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/testenv"
)

// documented is a row of docs/metrics.md.
type documented struct{ kind, labels, meaning, since string }

var (
	metricRow = regexp.MustCompile("(?m)^\\| `([a-z_*]+)` \\| ([a-z]+) \\|([^|]*)\\| ([^|]+) \\| ([^|]+) \\|$")
	quoted    = regexp.MustCompile("`([^`]+)`")
)

// documentedMetrics returns the table of docs/metrics.md by name.
func documentedMetrics(t *testing.T) map[string]documented {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]documented{}
	for _, m := range metricRow.FindAllStringSubmatch(string(text), -1) {
		var labels []string
		for _, l := range quoted.FindAllStringSubmatch(m[3], -1) {
			labels = append(labels, l[1])
		}
		if cell := strings.TrimSpace(m[3]); len(labels) == 0 && cell != "" && cell != "any" {
			t.Errorf("labels of %s are written as %q", m[1], m[3])
		}
		slices.Sort(labels)
		if _, ok := rows[m[1]]; ok {
			t.Errorf("%s is documented twice", m[1])
		}
		rows[m[1]] = documented{kind: m[2], labels: strings.Join(labels, " "), meaning: m[4], since: m[5]}
	}
	if n := bytes.Count(text, []byte("\n| `")); n != len(rows) {
		t.Fatalf("%d rows of docs/metrics.md are understood, of %d", len(rows), n)
	}
	return rows
}

// scrape returns the page of a server's metrics.
func scrape(t *testing.T, s *testenv.Server) []byte {
	t.Helper()
	res, err := http.Get("http://" + s.Addr("admin") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("metrics: %s, %v", res.Status, err)
	}
	return page
}

func families(t *testing.T, page []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	found, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestMetricsAreDocumented holds docs/metrics.md against the metrics of a server that has served both kinds of agents:
// what is there must be listed with its type and labels, and what is listed must be there.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	s, _ := traced(t)
	native, official := s.Agent(), s.Official()
	request := testenv.File(native)
	request.Instances = append(request.Instances, official.ID)
	s.Await(s.Send(request))
	if _, err := s.Client.SendFile(t.Context(), client.SendFileRequest{}); err == nil {
		t.Fatal("a request without anything is accepted")
	}
	page := scrape(t, s)

	problems, err := promlint.New(bytes.NewReader(page)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "waybill_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}

	changelog, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, found := documentedMetrics(t), families(t, page)
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		row := rows[name]
		if !bytes.Contains(changelog, []byte("\n## ["+row.since+"]")) {
			t.Errorf("%s is there since %q, which is no heading of the changelog", name, row.since)
		}
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(found)), func(n string) bool { return strings.HasPrefix(n, prefix) }) {
				t.Errorf("%s is listed, and there is none", name)
			}
			maps.DeleteFunc(found, func(n string, _ *dto.MetricFamily) bool { return strings.HasPrefix(n, prefix) })
		} else if found[name] == nil {
			t.Errorf("%s is listed, and is not there", name)
		}
	}
	for name, family := range found {
		labels := map[string]bool{}
		for _, m := range family.Metric {
			for _, l := range m.Label {
				labels[l.GetName()] = true
				if v := l.GetValue(); v == string(native.ID) || v == string(official.ID) || strings.Contains(v, s.Key.AccessKeyID) {
					t.Errorf("%s has an ID as a label: %s", name, v)
				}
			}
		}
		row, ok := rows[name]
		if !ok {
			t.Errorf("%s is not listed in docs/metrics.md", name)
			continue
		}
		if kind := strings.ToLower(family.GetType().String()); row.kind != kind {
			t.Errorf("%s is a %s, and listed as a %s", name, kind, row.kind)
		}
		if have := strings.Join(slices.Sorted(maps.Keys(labels)), " "); row.labels != have {
			t.Errorf("%s has the labels %q, and is listed with %q", name, have, row.labels)
		}
	}
}

// value returns the sum of the series of a metric that have all of these labels, given as name and value in turn.
func value(t *testing.T, found map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	family := found[name]
	if family == nil {
		t.Fatalf("there is no %s", name)
	}
	sum := 0.0
	for _, m := range family.Metric {
		match := 0
		for _, l := range m.Label {
			for i := 0; i < len(labels); i += 2 {
				if l.GetName() == labels[i] && l.GetValue() == labels[i+1] {
					match++
				}
			}
		}
		if 2*match == len(labels) {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// TestMetricsTell looks at what an operator would: that the numbers are those of what has happened.
func TestMetricsTell(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	native, official, stopped, away := s.Agent(), s.Official(), s.Agent(), s.Enrol()
	stopped.Stop()
	both := testenv.File(native)
	both.Instances = append(both.Instances, official.ID)
	s.Await(s.Send(both))
	s.Send(testenv.File(away, stopped)) // which stays open for one of them
	var found map[string]*dto.MetricFamily
	testenv.Eventually(t, "the connection of the stopped agent gone, and the last request", func() bool {
		found = families(t, scrape(t, s))
		return value(t, found, "waybill_bus_agent_connections") == 1 && value(t, found, "waybill_api_requests_under_way") == 0
	})
	for _, tc := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"waybill_machines", []string{"agent", "native", "presence", "online"}, 1},
		{"waybill_machines", []string{"agent", "native", "presence", "stopped"}, 1},
		{"waybill_machines", []string{"agent", "native", "presence", "never-seen"}, 1},
		{"waybill_machines", []string{"agent", "official", "presence", "online"}, 1},
		{"waybill_machines", nil, 4},
		{"waybill_targets_open", []string{"status", "Pending"}, 1},
		{"waybill_targets_open", []string{"status", "Running"}, 0},
		{"waybill_deliveries_open", nil, 1},
		{"waybill_deliveries_accepted_total", nil, 2},
		{"waybill_targets_ended_total", []string{"status", "Success"}, 2},
		{"waybill_targets_ended_total", []string{"cause", "agent-stopped"}, 1},
		{"waybill_sweep_lag_seconds", nil, 0},
		{"waybill_official_agent_channels", nil, 1},
		{"waybill_bus_connected", nil, 1},
		{"waybill_bus_agent_connections", nil, 1},
		{"waybill_bus_dropped_messages_total", nil, 0},
		{"waybill_bus_slow_consumers_total", nil, 0},
		{"waybill_api_requests_under_way", nil, 0},
		{"waybill_api_requests_total", []string{"action", "SendFile", "code", "OK"}, 2},
		{"waybill_store_writes_total", []string{"result", "failed"}, 0},
		{"waybill_audit_write_failures_total", nil, 0},
		{"waybill_agent_messages_waiting", nil, 0},
	} {
		if got := value(t, found, tc.name, tc.labels...); got != tc.want {
			t.Errorf("%s%q is %g, want %g", tc.name, tc.labels, got, tc.want)
		}
	}
	for _, name := range []string{
		"waybill_store_writes_total", "waybill_store_transaction_writes", "waybill_store_sync_duration_seconds", "waybill_store_size_bytes",
		"waybill_agent_message_duration_seconds", "waybill_deliver_messages_total", "waybill_bus_messages_total", "waybill_bus_bytes_total",
	} {
		if value(t, found, name) <= 0 {
			t.Errorf("%s is 0", name)
		}
	}
	expiry := value(t, found, "waybill_certificate_expiry_timestamp_seconds", "certificate", "ca")
	if leaf := value(t, found, "waybill_certificate_expiry_timestamp_seconds", "certificate", "server"); leaf <= 0 || expiry <= leaf {
		t.Errorf("the certificate is good until %g, the CA until %g", leaf, expiry)
	}
}
