// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestDependencies keeps the agent small: of this module it links the vocabulary, the protocol and its own tools, and
// of others no database, server or metrics.
func TestDependencies(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/openwaybill/waybill"
	var own []string
	for dep := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(dep, module) {
			own = append(own, strings.TrimPrefix(dep, module))
		}
		for _, bad := range []string{"modernc.org", "nats-server", "goose", "prometheus", "html/template", "pgx"} {
			if strings.Contains(dep, bad) || dep == "database/sql" {
				t.Errorf("it links %s", dep)
			}
		}
	}
	slices.Sort(own)
	want := []string{
		"", "/cmd/waybill-agent", "/internal/agent", "/internal/identity", "/internal/lockfile", "/internal/place",
		"/internal/wire",
	}
	if !slices.Equal(own, want) {
		t.Errorf("of this module it links %q, want %q", own, want)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	enroll := "enroll --activation-id a --activation-code c --state-dir " + t.TempDir() + " "
	for _, c := range []struct {
		args string
		code int
		text string
	}{
		{"", exitOK, "Available Commands"},
		{"--help", exitOK, "WAYBILL_AGENT_STATE_DIR"},
		{"frobnicate", exitUsage, `unknown argument "frobnicate"`},
		{"run now", exitUsage, `unknown argument "now"`},
		{"run --help", exitOK, "3 the server does not want this machine any more"},
		{"run --frobnicate", exitUsage, "unknown flag: --frobnicate; see waybill-agent run --help"},
		{"--frobnicate", exitUsage, "unknown flag: --frobnicate; see waybill-agent --help"},
		{"run --log-level loud", exitUsage, `--log-level "loud"`},
		{"enroll", exitUsage, "--server is required"},
		{"enroll --server https://s --activation-id a --activation-code c --tag x", exitUsage, `--tag "x" is not KEY=VALUE`},
		{"enroll --server https://s --activation-id a --activation-code c --ca /no/such", exitError, "read --ca"},
		{enroll + "--server waybill.example.com", exitUsage, `"waybill.example.com" is not one like https://`},
		{enroll + "--server http://waybill.example.com", exitUsage, "only https is allowed beyond this machine"},
		{enroll + "--server https://s --ca main_test.go", exitUsage, "--ca main_test.go: no certificate in PEM form"},
		{"status --state-dir /no/such", exitError, "run: waybill-agent enroll"},
		{"leave --state-dir /no/such", exitError, "run: waybill-agent enroll"},
		{"version", exitOK, "dev"},
	} {
		var out bytes.Buffer
		code := run(t.Context(), strings.Fields(c.args), &out, &out)
		if code != c.code || !strings.Contains(out.String(), c.text) {
			t.Errorf("%q: exit code %d, want %d with %q\n%s", c.args, code, c.code, c.text, out.String())
		}
	}
}

func TestFlagsFromEnv(t *testing.T) { // not parallel: it changes the environment
	t.Setenv("WAYBILL_AGENT_STATE_DIR", "/from/env")
	t.Setenv("WAYBILL_AGENT_ROOT", "/from/env")
	t.Setenv("WAYBILL_AGENT_ALLOW_DIR", "/etc/a"+listSeparator+"/srv/b,c")
	var o runOptions
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	o.addFlags(flags)
	if err := flags.Parse([]string{"--root", "/from/flag"}); err != nil {
		t.Fatal(err)
	}
	if err := flagsFromEnv(flags); err != nil {
		t.Fatal(err)
	}
	if o.stateDir != "/from/env" || o.root != "/from/flag" || !slices.Equal(o.allowDirs, []string{"/etc/a", "/srv/b,c"}) {
		t.Errorf("options %+v", o)
	}

	t.Setenv("WAYBILL_AGENT_FORCE", "perhaps")
	var e enrollOptions
	flags = pflag.NewFlagSet("enroll", pflag.ContinueOnError)
	e.addFlags(flags)
	if err := flagsFromEnv(flags); err == nil || !strings.Contains(err.Error(), "WAYBILL_AGENT_FORCE") {
		t.Errorf("a bad value: %v", err)
	}
}
