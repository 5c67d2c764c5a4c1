// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"

	"github.com/openwaybill/waybill/internal/telemetry"
)

// What is shipped for Prometheus and Grafana, and what it is held against.
const (
	dashboardFile = "../deploy/observability/grafana-dashboard.json"
	rulesFile     = "../deploy/observability/alerts.yaml"
	metricsDoc    = "../docs/metrics.md"
	operationsDoc = "../docs/operations.md"
)

// metric is a documented one.
type metric struct {
	kind   string
	labels []string
}

var (
	metricRow = regexp.MustCompile("(?m)^\\| `(waybill_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\|")
	quoted    = regexp.MustCompile("`([^`]+)`")
)

// documentedMetrics returns what docs/metrics.md lists, which is itself held against a server by internal/testenv, and
// the metrics of the runtime and the process.
func documentedMetrics(t *testing.T) map[string]metric {
	t.Helper()
	known := map[string]metric{"up": {kind: "gauge"}} // Prometheus's own
	for _, m := range metricRow.FindAllStringSubmatch(read(t, metricsDoc), -1) {
		var names []string
		for _, l := range quoted.FindAllStringSubmatch(m[3], -1) {
			names = append(names, l[1])
		}
		known[m[1]] = metric{m[2], names}
	}
	families, err := telemetry.NewRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		known[f.GetName()] = metric{kind: strings.ToLower(f.GetType().String())}
	}
	if len(known) < 60 {
		t.Fatalf("%d metrics are documented, which is less than there are", len(known))
	}
	return known
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// target finds what a target of Prometheus, or its rules, add to the labels of a metric.
var targetLabels = []string{"instance", "job", labels.MetricName}

// checkExpression parses an expression and returns what is wrong with it: words of PromQL, metrics that are not documented,
// labels that they do not have, counters that are not counted over time. recorded are the names that rules record.
func checkExpression(expr string, known map[string]metric, recorded []string) (bad []string) {
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return []string{err.Error()}
	}
	var all []string // labels of all metrics in it
	parser.Inspect(e, func(node parser.Node, path []parser.Node) error {
		s, ok := node.(*parser.VectorSelector)
		if !ok || slices.Contains(recorded, s.Name) {
			return nil
		}
		m, ok := known[s.Name]
		if part := histogramPart.FindStringSubmatch(s.Name); !ok && part != nil {
			if m, ok = known[part[1]]; ok && m.kind != "histogram" && m.kind != "summary" {
				bad = append(bad, fmt.Sprintf("%s is of no histogram", s.Name))
			}
			m.labels = append(slices.Clone(m.labels), "le")
			m.kind = "counter"
		}
		if !ok {
			bad = append(bad, fmt.Sprintf("nothing is called %q", s.Name))
			return nil
		}
		own := slices.Concat(m.labels, targetLabels)
		if m.kind == "summary" {
			own = append(own, "quantile")
		}
		all = append(all, own...)
		for _, l := range s.LabelMatchers {
			if !slices.Contains(own, l.Name) {
				bad = append(bad, fmt.Sprintf("%s has no label %s", s.Name, l.Name))
			}
		}
		over := false
		for _, p := range path {
			if c, ok := p.(*parser.Call); ok {
				over = over || slices.Contains([]string{"rate", "increase"}, c.Func.Name)
			}
		}
		if over != (m.kind == "counter") {
			bad = append(bad, fmt.Sprintf("%s is a %s; rate and increase are for counters, and nothing else is", s.Name, m.kind))
		}
		return nil
	})
	parser.Inspect(e, func(node parser.Node, _ []parser.Node) error {
		if a, ok := node.(*parser.AggregateExpr); ok {
			for _, l := range a.Grouping {
				if !slices.Contains(all, l) {
					bad = append(bad, fmt.Sprintf("%s is asked for by %s, which nothing there has", a, l))
				}
			}
		}
		return nil
	})
	return bad
}

var histogramPart = regexp.MustCompile(`^(.*)_(bucket|sum|count)$`)

// TestExpressionsAreChecked checks the check.
func TestExpressionsAreChecked(t *testing.T) {
	t.Parallel()
	known := documentedMetrics(t)
	for expr, want := range map[string]string{
		`sum by (action) (rate(waybill_api_requests_total{instance="x"}[5m]))`:                         "",
		`histogram_quantile(0.9, sum by (le) (rate(waybill_api_request_duration_seconds_bucket[5m])))`: "",
		`sum(rate(waybill_api_requests_total[5m])`:                                                     "unclosed left parenthesis",
		`waybill_gone`:                       "nothing is called",
		`waybill_machines{color="red"}`:      "no label color",
		`sum by (color) (waybill_machines)`:  "by color",
		`waybill_api_requests_total`:         "rate and increase are for counters",
		`rate(waybill_machines[5m])`:         "rate and increase are for counters",
		`rate(waybill_machines_count[5m])`:   "no histogram",
		`waybill:api_requests:rate5m`:        "",
		`process_open_fds / process_max_fds`: "",
		`histogram_quantile(0.9, sum by (color, le) (rate(waybill_store_sync_duration_seconds_bucket[5m])))`: "by color",
	} {
		bad := checkExpression(expr, known, []string{"waybill:api_requests:rate5m"})
		if (want == "") != (len(bad) == 0) || want != "" && !strings.Contains(strings.Join(bad, "\n"), want) {
			t.Errorf("%s: found %q, want %q", expr, bad, want)
		}
	}
}

// dashboard is what we look at of a dashboard of Grafana.
type dashboard struct {
	UID        string `json:"uid"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		ID         int    `json:"id"`
		Type       string `json:"type"`
		Title      string `json:"title"`
		Datasource struct {
			UID string `json:"uid"`
		} `json:"datasource"`
		GridPos struct{ X, Y, W, H int } `json:"gridPos"`
		Targets []struct {
			RefID      string `json:"refId"`
			Expr       string `json:"expr"`
			Legend     string `json:"legendFormat"`
			Datasource struct {
				UID string `json:"uid"`
			} `json:"datasource"`
		} `json:"targets"`
	} `json:"panels"`
}

// grafana stands for what Grafana puts in place of its variables.
var grafana = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*")

var labelValues = regexp.MustCompile(`^label_values\(([a-z_]+), *([a-z_]+)\)$`)

func TestDashboard(t *testing.T) {
	t.Parallel()
	known := documentedMetrics(t)
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID != "waybill" {
		t.Errorf("the dashboard has the UID %q: links to it break", d.UID)
	}
	variables := map[string]string{}
	for _, v := range d.Templating.List {
		variables[v.Name] = v.Type
		if v.Type != "query" {
			continue
		}
		m := labelValues.FindStringSubmatch(v.Definition)
		if m == nil {
			t.Errorf("the variable %s is %q", v.Name, v.Definition)
		} else if bad := checkExpression(fmt.Sprintf("sum by (%s) (%s)", m[2], m[1]), known, nil); len(bad) > 0 {
			t.Errorf("the variable %s: %s", v.Name, bad)
		}
	}
	if variables["datasource"] != "datasource" {
		t.Error("the data source is no variable")
	}
	used := map[string]bool{}
	ids := map[int]bool{}
	var cells [1000][24]string
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the ID %d", p.ID)
		}
		ids[p.ID] = true
		for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				if cells[y][x] != "" {
					t.Fatalf("%q and %q are in one place", p.Title, cells[y][x])
				}
				cells[y][x] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 || p.Title == "" {
			t.Errorf("the panel %d, %q, lacks a title, an expression or the variable of its data source", p.ID, p.Title)
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("%s: the data source of %s is not the variable", p.Title, target.RefID)
			}
			expr := grafana.Replace(target.Expr)
			for _, bad := range checkExpression(expr, known, nil) {
				t.Errorf("%s: %s: %s", p.Title, target.Expr, bad)
			}
			for name := range known {
				if strings.Contains(expr, name) {
					used[name] = true
				}
			}
		}
	}
	for name := range known {
		if strings.HasPrefix(name, "waybill_") && !used[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// rules returns the groups of the shipped rules, with what their recording rules are called.
func rules(t *testing.T) (alerts []rulefmt.Rule, recording map[string]string) {
	t.Helper()
	groups, errs := rulefmt.Parse([]byte(read(t, rulesFile)), false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	recording = map[string]string{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if r.Alert != "" {
				alerts = append(alerts, r)
			} else {
				recording[r.Record] = r.Expr
			}
		}
	}
	return alerts, recording
}

func TestAlertRules(t *testing.T) {
	t.Parallel()
	known, operations := documentedMetrics(t), read(t, operationsDoc)
	alerts, recording := rules(t)
	for name, expr := range recording {
		for _, bad := range checkExpression(expr, known, nil) {
			t.Errorf("%s: %s", name, bad)
		}
	}
	described := map[string]bool{}
	for _, r := range alerts {
		for _, bad := range checkExpression(r.Expr, known, slices.Collect(maps.Keys(recording))) {
			t.Errorf("%s: %s", r.Alert, bad)
		}
		if s := r.Labels["severity"]; !slices.Contains([]string{"critical", "warning", "info"}, s) {
			t.Errorf("%s has the severity %q", r.Alert, s)
		}
		if r.Annotations["runbook"] != "docs/operations.md#"+strings.ToLower(r.Alert) || r.Annotations["summary"] == "" {
			t.Errorf("%s has the annotations %v", r.Alert, r.Annotations)
		}
		if !strings.Contains(operations, "\n#### "+r.Alert+"\n") {
			t.Errorf("docs/operations.md does not say what to do about %s", r.Alert)
		}
		described[r.Alert] = true
	}
	for _, h := range regexp.MustCompile(`(?m)^#### (Waybill\w+)$`).FindAllStringSubmatch(operations, -1) {
		if !described[h[1]] {
			t.Errorf("docs/operations.md tells of %s, which is no alert", h[1])
		}
	}
}

// healthy is half an hour of two servers that have nothing to complain about, a sample a minute.
const healthy = `load 1m
  up{job="waybill",instance="a"} 1x30
  up{job="waybill",instance="b"} 1x30
  waybill_store_writes_total{instance="a",result="ok"} 0+6000x30
  waybill_store_writes_total{instance="a",result="refused"} 0+6x30
  waybill_store_writes_total{instance="a",result="failed"} 3x30
  waybill_store_writes_total{instance="a",result="late"} 0x30
  waybill_store_sync_duration_seconds_bucket{instance="a",le="0.002"} 0+100x30
  waybill_store_sync_duration_seconds_bucket{instance="a",le="2.048"} 0+100x30
  waybill_store_sync_duration_seconds_bucket{instance="a",le="+Inf"} 0+100x30
  waybill_store_size_bytes{instance="a",file="log"} 4e6x30
  waybill_store_size_bytes{instance="a",file="database"} 4e10x30
  waybill_audit_write_failures_total{instance="a"} 0x30
  waybill_api_requests_total{instance="a",action="SendFile",code="OK"} 0+600x30
  waybill_api_requests_total{instance="a",action="SendFile",code="MissingParameter"} 0+60x30
  waybill_api_requests_total{instance="a",action="SendFile",code="Throttling.User"} 0+6x30
  waybill_api_request_duration_seconds_bucket{instance="a",action="SendFile",le="0.008"} 0+600x30
  waybill_api_request_duration_seconds_bucket{instance="a",action="SendFile",le="4.096"} 0+600x30
  waybill_api_request_duration_seconds_bucket{instance="a",action="SendFile",le="+Inf"} 0+600x30
  waybill_connections_refused_total{instance="a",listener="https"} 0x30
  waybill_machines{instance="a",agent="native",presence="online"} 10000-10x30
  waybill_machines{instance="a",agent="native",presence="silent"} 100+1x30
  waybill_machines{instance="a",agent="official",presence="online"} 0x30
  waybill_machines{instance="a",agent="official",presence="silent"} 0x30
  waybill_sweep_lag_seconds{instance="a"} 0.2x30
  waybill_targets_ended_total{instance="a",status="Success",cause=""} 0+1000x30
  waybill_targets_ended_total{instance="a",status="Aborted",cause="agent-silent"} 0+10x30
  waybill_bus_connected{instance="a"} 1x30
  waybill_agent_messages_total{instance="a",op="ack",result="ok"} 0+1000x30
  waybill_agent_messages_total{instance="a",op="ack",result="dropped"} 0+1x30
  waybill_bus_dropped_messages_total{instance="a"} 0x30
  waybill_bus_slow_consumers_total{instance="a"} 2x30
  waybill_certificate_expiry_timestamp_seconds{instance="a",certificate="server"} 5184000x30
  process_open_fds{job="waybill",instance="a"} 10000x30
  process_max_fds{job="waybill",instance="a"} 65536x30
  waybill_count_failures_total{instance="a"} 0x30
`

// ills are what each alert is for, each with what takes the place of, or comes to, the healthy series.
var ills = map[string]string{
	"WaybillDown":               `up{job="waybill",instance="b"} 1x20 0x10`,
	"WaybillWritesFail":         `waybill_store_writes_total{instance="a",result="late"} 0+1x30`,
	"WaybillSyncSlow":           `waybill_store_sync_duration_seconds_bucket{instance="a",le="0.002"} 0+90x30`,
	"WaybillLogGrows":           `waybill_store_size_bytes{instance="a",file="log"} 2e9x30`,
	"WaybillAuditNotWritten":    `waybill_audit_write_failures_total{instance="a"} 0x25 1x5`,
	"WaybillErrors":             `waybill_api_requests_total{instance="a",action="SendFile",code="ServiceUnavailable"} 0+60x30`,
	"WaybillSlow":               `waybill_api_request_duration_seconds_bucket{instance="a",action="SendFile",le="0.008"} 0+500x30`,
	"WaybillThrottles":          `waybill_api_requests_total{instance="a",action="SendFile",code="Throttling.User"} 0+600x30`,
	"WaybillConnectionsRefused": `waybill_connections_refused_total{instance="a",listener="https"} 0+600x30`,
	"WaybillMachinesLost":       `waybill_machines{instance="a",agent="native",presence="online"} 10000x20 7000x10`,
	"WaybillMachinesSilent":     `waybill_machines{instance="a",agent="native",presence="silent"} 1000x30`,
	"WaybillSweepStuck":         `waybill_sweep_lag_seconds{instance="a"} 0x20 60x10`,
	"WaybillAgentsBreak":        `waybill_targets_ended_total{instance="a",status="Error",cause="agent-broke"} 0x20 1x10`,
	"WaybillAgentsUnreached":    `waybill_targets_ended_total{instance="a",status="Aborted",cause="agent-silent"} 0+300x30`,
	"WaybillBusDisconnected":    `waybill_bus_connected{instance="a"} 0x30`,
	"WaybillMessagesDropped":    `waybill_bus_dropped_messages_total{instance="a"} 0+100x30`,
	"WaybillMessagesFail":       `waybill_agent_messages_total{instance="a",op="report",result="failed"} 0+1x30`,
	"WaybillSlowConsumers":      `waybill_bus_slow_consumers_total{instance="a"} 0+5x30`,
	"WaybillCertificateExpires": `waybill_certificate_expiry_timestamp_seconds{instance="a",certificate="ca"} 864000x30`,
	"WaybillFilesRunOut":        `process_open_fds{job="waybill",instance="a"} 60000x30`,
	"WaybillUncounted":          `waybill_count_failures_total{instance="a"} 0+1x30`,
}

// TestAlertsFire evaluates every alert over half an hour of healthy servers, over which none may be true, and over one in
// which what it is for has happened. How long that must last (for:) is Prometheus's to count.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	alerts, recording := rules(t)
	at := time.Unix(0, 0).Add(30 * time.Minute)
	firing := func(load string) (names []string) {
		data := promqltest.LoadedStorage(t, load)
		defer data.Close()
		engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000)
		for _, expr := range recording {
			if v := evaluate(t, engine, data, expr, at); len(v) == 0 {
				t.Errorf("%s records nothing", expr)
			}
		}
		for _, r := range alerts {
			if v := evaluate(t, engine, data, r.Expr, at); len(v) > 0 {
				names = append(names, r.Alert)
			}
		}
		return names
	}
	if names := firing(healthy); len(names) > 0 {
		t.Errorf("healthy servers, and %q", names)
	}
	for _, r := range alerts {
		ill, ok := ills[r.Alert]
		if !ok {
			t.Errorf("nothing is tried that %s is for", r.Alert)
			continue
		}
		series, _, _ := strings.Cut(ill, "} ")
		var lines []string
		for line := range strings.Lines(healthy) {
			if !strings.Contains(line, series+"}") {
				lines = append(lines, line)
			}
		}
		names := firing(strings.Join(lines, "") + "  " + ill + "\n")
		if !slices.Equal(names, []string{r.Alert}) {
			t.Errorf("%s: what fires is %q, want %s alone", ill, names, r.Alert)
		}
	}
}

func evaluate(t *testing.T, engine *promql.Engine, data storage.Queryable, expr string, at time.Time) promql.Vector {
	t.Helper()
	q, err := engine.NewInstantQuery(t.Context(), data, nil, expr, at)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	defer q.Close()
	v, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return slices.Clone(v)
}
