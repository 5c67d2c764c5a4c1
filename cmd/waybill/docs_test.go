// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the generated parts of the documents again")

const configurationFile = "../../docs/configuration.md"

// TestDocsConfiguration checks that docs/configuration.md lists the settings of a server as they are.
func TestDocsConfiguration(t *testing.T) {
	t.Parallel()
	cmd, _, err := newRootCmd(env{}).Find([]string{"server"})
	if err != nil {
		t.Fatal(err)
	}
	checkGenerated(t, "waybill server", settings(cmd.Flags()))
}

// settings writes flags as the document does: name, environment variable, default and purpose of each.
func settings(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		kind, purpose := pflag.UnquoteUsage(f)
		fmt.Fprintf(&b, "- `--%s`", f.Name)
		if kind != "" && kind != "string" && kind != "strings" {
			fmt.Fprintf(&b, " *%s*", kind)
		}
		fmt.Fprintf(&b, ", `WAYBILL_%s`", strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")))
		if d := strings.Trim(f.DefValue, "[]"); d != "" {
			fmt.Fprintf(&b, ", default `%s`", d)
		}
		fmt.Fprintf(&b, "\\\n  %s\n", purpose)
	})
	return b.String()
}

// checkGenerated compares the generated part of that name in the document with what it should be, or writes it.
func checkGenerated(t *testing.T, name, want string) {
	t.Helper()
	b, err := os.ReadFile(configurationFile)
	if err != nil {
		t.Fatal(err)
	}
	start, end := "<!-- generated: "+name+" -->\n", "<!-- end: "+name+" -->\n"
	before, rest, found := strings.Cut(string(b), start)
	have, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no part %q … %q", configurationFile, strings.TrimSpace(start), strings.TrimSpace(end))
	}
	switch {
	case have == want:
	case *update:
		if err := os.WriteFile(configurationFile, []byte(before+start+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s does not tell of the flags of %s as they are; run: make docs\n have:\n%s\n want:\n%s",
			configurationFile, name, have, want)
	}
}
