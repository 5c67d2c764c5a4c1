// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/openwaybill/waybill/internal/api"
)

const documentFile = "../docs/compatibility.md"

// checkGenerated compares the generated part of that name in the document with what it should be, or writes it.
func checkGenerated(t *testing.T, name, want string) {
	t.Helper()
	b, err := os.ReadFile(documentFile)
	if err != nil {
		t.Fatal(err)
	}
	start, end := "<!-- generated: "+name+" -->\n", "<!-- end: "+name+" -->\n"
	before, rest, found := strings.Cut(string(b), start)
	have, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no part %q … %q", documentFile, strings.TrimSpace(start), strings.TrimSpace(end))
	}
	switch {
	case have == want:
	case *update:
		if err := os.WriteFile(documentFile, []byte(before+start+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the part %s of %s is not what the cases have seen; run: make docs\n%s", name, documentFile, firstDifference(have, want))
	}
}

// firstDifference shows where two texts part.
func firstDifference(have, want string) string {
	a, b := strings.Split(have, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d of it\n have: %s\n want: %s", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("it has %d lines; want %d", len(a), len(b))
}

// apis is what the versions are called in the document.
var apis = map[string]string{
	"2014-05-26": "ECS", "2015-05-01": "RAM", "2015-04-01": "STS", "2020-03-31": "Resource Manager",
}

// rows writes tables.
type rows struct{ strings.Builder }

func (r *rows) table(columns ...string) {
	r.row(columns...)
	r.WriteString(strings.Repeat("|---", len(columns)) + "|\n")
}

func (r *rows) row(cells ...string) {
	for _, cell := range cells {
		cell = strings.ReplaceAll(strings.ReplaceAll(cell, "|", `\|`), "\n", " ")
		if cell == "" {
			r.WriteString("| ")
			continue
		}
		r.WriteString("| " + cell + " ")
	}
	r.WriteString("|\n")
}

// proofName is a test without the name that all of them begin with.
func proofName(test string) string {
	if test == "" {
		return ""
	}
	return "`" + strings.TrimPrefix(test, "TestContract/") + "`"
}

// summary counts what was seen.
func (r *record) summary() string {
	parameters, fields, never, pairs, own := 0, 0, 0, 0, 0
	codes := map[string]bool{}
	for _, f := range gatewayFaults {
		codes[f.Code] = true
	}
	for _, o := range api.Operations() {
		parameters += len(o.Parameters)
		walk(o.Response, "", false, func(path string, _ api.Field, _ bool) {
			fields++
			if r.present[part{o.Name, path}] == "" {
				never++
			}
		})
		for _, f := range o.Errors {
			if o.Never[f.Code] != "" {
				continue
			}
			codes[f.Code] = true
			pairs++
			if r.codes[part{o.Name, f.Code}] != "" {
				own++
			}
		}
	}
	allBut := func(n int, why string) string {
		if n == 0 {
			return "all"
		}
		return fmt.Sprintf("all but %d, %s", n, why)
	}
	var b rows
	b.table("", "number", "tried")
	b.row("operations", fmt.Sprint(len(api.Operations())), "all, with success")
	b.row("their parameters", fmt.Sprint(parameters), allBut(len(refusedWhenSent), "with success: whoever sends that one is always refused"))
	b.row("fields of their answers", fmt.Sprint(fields), allBut(never, "which is in a list that is always empty"))
	b.row("error codes", fmt.Sprint(len(codes)), "all")
	b.row("error codes of each operation", fmt.Sprint(pairs), allBut(pairs-own, "which are proven on another operation"))
	return b.String()
}

// gatewayTable lists the answers to requests that reach no operation.
func (r *record) gatewayTable() string {
	var b rows
	b.table("code", "status", "message", "test")
	for _, f := range gatewayFaults {
		b.row(f.Code, fmt.Sprint(f.Status), strings.ReplaceAll(f.Message, "%s", "…"), proofName(r.codes[part{"", f.Code}]))
	}
	return b.String()
}

// document describes every operation.
func (r *record) document() string {
	var b rows
	for _, version := range []string{"2014-05-26", "2015-05-01", "2015-04-01", "2020-03-31"} {
		var links []string
		for _, o := range api.Operations() {
			if o.Version == version {
				links = append(links, fmt.Sprintf("[%s](#%s)", o.Name, strings.ToLower(o.Name)))
			}
		}
		fmt.Fprintf(&b, "\n%s (%s): %s\n", apis[version], version, strings.Join(links, ", "))
	}
	for _, o := range api.Operations() {
		fmt.Fprintf(&b, "\n### %s\n\n%s %s, %s. %s\n", o.Name, apis[o.Version], o.Version, o.Kind, o.Summary)
		switch {
		case o.Action == "":
			b.WriteString("No policy is asked.\n")
		default:
			fmt.Fprintf(&b, "Policies are asked for `%s` on `%s`.\n", o.Action, strings.Join(o.Resources, "` and `"))
		}
		if o.Extension != "" {
			fmt.Fprintf(&b, "**Extension**, not in the published API: %s.\n", o.Extension)
		}
		if len(o.Parameters) > 0 {
			b.WriteString("\n")
			b.table("parameter", "type", "required", "meaning and limits", "test")
			for _, p := range o.Parameters {
				at := part{o.Name, p.Name}
				test := r.parameters[at]
				if code, refused := refusedWhenSent[at]; refused {
					test = r.codes[part{o.Name, code}]
				}
				required := ""
				if p.Required {
					required = "yes"
				}
				b.row(p.Name, p.Type, required, joined(p.Description, strings.Join(p.Values, ", "), p.Limits), proofName(test))
			}
		}
		if len(o.Response) > 0 {
			b.WriteString("\n")
			b.table("field", "type", "meaning", "test")
			walk(o.Response, "", false, func(path string, f api.Field, inEmpty bool) {
				test := r.filled[part{o.Name, path}]
				if test == "" {
					test = r.present[part{o.Name, path}]
				}
				name := proofName(test)
				if name == "" && inEmpty {
					name = "never there"
				}
				b.row(path, f.Type, f.Description, name)
			})
		}
		b.WriteString("\n")
		b.table("error", "status", "test")
		for _, f := range o.Errors {
			name := proofName(r.codes[part{o.Name, f.Code}])
			if name == "" {
				name = "as " + proofName(r.proof(o.Name, f.Code))
			}
			if why := o.Never[f.Code]; why != "" {
				name = "does not occur: " + why
			}
			b.row(f.Code, fmt.Sprint(f.Status), name)
		}
		if len(o.Differences) > 0 {
			b.WriteString("\n")
			b.table("topic", "here", "elsewhere")
			for _, d := range o.Differences {
				b.row(d.Topic, d.Here, d.Elsewhere)
			}
		}
	}
	return b.String() + "\n"
}

// joined joins what is not empty.
func joined(texts ...string) string {
	var all []string
	for _, text := range texts {
		if text != "" {
			all = append(all, text)
		}
	}
	return strings.Join(all, "; ")
}
