// SPDX-License-Identifier: Apache-2.0

package waybill_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// This file checks what no linter knows: the layers, the licence, package comments, and the links of the documents.

const (
	module  = "github.com/openwaybill/waybill"
	licence = "// SPDX-License-Identifier: Apache-2.0"
)

// layer is a row of the table in ARCHITECTURE.md.
type layer string

const (
	words     layer = "words"
	tools     layer = "tools"
	resources layer = "resources"
	useCases  layer = "use cases"
	frontEnds layer = "front ends"
	remote    layer = "remote side"
	assembly  layer = "assembly"
)

// layerOf says where each package belongs; the longest directory counts. A new package must be added here.
var layerOf = map[string]layer{
	".":                  words,
	"internal/acs":       tools,
	"internal/attempts":  tools,
	"internal/audit":     tools,
	"internal/batch":     tools,
	"internal/identity":  tools,
	"internal/lockfile":  tools,
	"internal/place":     tools,
	"internal/policy":    tools,
	"internal/telemetry": tools,
	"internal/term":      tools,
	"internal/webhook":   tools,
	"internal/wire":      tools,
	"internal/blob":      resources,
	"internal/bus":       resources,
	"internal/store":     resources,
	"internal/control":   useCases,
	"internal/api":       frontEnds,
	"internal/console":   frontEnds,
	"internal/guide":     tools,
	"internal/samples":   tools,
	"internal/assist":    frontEnds,
	"internal/gateway":   frontEnds,
	"internal/agent":     remote,
	"internal/client":    remote,
	"bench":              assembly,
	"cmd":                assembly,
	"compat":             assembly,
	"internal/pgtest":    assembly,
	"internal/script":    assembly,
	"internal/server":    assembly,
	"internal/sim":       assembly,
	"internal/testenv":   assembly,
}

// mayImport is the dependency rule. What is not listed is forbidden, also within a layer.
var mayImport = map[layer][]layer{
	tools:     {words},
	resources: {words, tools},
	useCases:  {words, tools, resources},
	frontEnds: {words, tools, useCases},
	remote:    {words, tools},
	assembly:  {words, tools, resources, useCases, frontEnds, remote, assembly},
}

// alsoImports holds the exceptions.
var alsoImports = map[string]string{
	"internal/identity": "internal/wire",   // a token names the subjects, a proof the headers
	"internal/console":  "internal/client", // it is a client of the API, inside the process
	"internal/samples":  "internal/acs",    // it shows how requests are signed
}

// cmdAgent must stay small: whatever it reaches ends up on every machine.
const cmdAgent = "cmd/waybill-agent"

var keptFromAgent = []string{
	"database/sql", "modernc.org/", "github.com/pressly/goose", "github.com/jackc/pgx",
	"github.com/nats-io/nats-server", "github.com/prometheus/", "go.opentelemetry.io/",
}

var forbiddenNames = []string{
	"util", "utils", "common", "helper", "helpers", "base", "model", "models", "types", "manager", "service", "misc",
}

// source is a Go file, with its path from the top of the repository.
type source struct {
	path string
	text string
	file *ast.File
}

func parseSource(name, text string) (source, error) {
	f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
	return source{path: name, text: text, file: f}, err
}

func (s source) dir() string { return path.Dir(s.path) }

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s source) imports() []string {
	all := make([]string, len(s.file.Imports))
	for i, spec := range s.file.Imports {
		all[i], _ = strconv.Unquote(spec.Path.Value) // the parser has seen that it is a string
	}
	return all
}

// own returns the directories of this repository that s imports.
func (s source) own() []string {
	var dirs []string
	for _, p := range s.imports() {
		if p == module {
			dirs = append(dirs, ".")
		} else if dir, ok := strings.CutPrefix(p, module+"/"); ok {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// rowOf returns the row of layerOf that a directory belongs to.
func rowOf(dir string) (row string, ok bool) {
	for ; dir != "."; dir = path.Dir(dir) {
		if _, ok := layerOf[dir]; ok {
			return dir, true
		}
	}
	return ".", false
}

// checkSource returns what is wrong with one file.
func checkSource(s source) []string {
	var bad []string
	add := func(format string, args ...any) { bad = append(bad, s.path+": "+fmt.Sprintf(format, args...)) }
	if first, _, _ := strings.Cut(s.text, "\n"); first != licence {
		add("the first line is not %q", licence)
	}
	if name := strings.TrimSuffix(s.file.Name.Name, "_test"); slices.Contains(forbiddenNames, name) {
		add("a package called %s says nothing", name)
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if field, isField := sel.X.(*ast.SelectorExpr); isField {
			x, ok = field.Sel, true
		}
		if !ok {
			return true
		}
		switch of := x.Name; {
		case !s.isTest() && s.dir() != "internal/telemetry" && slices.Contains([]string{"log", "slog", "warnings"}, of) && !constantMessage(sel.Sel.Name, call.Args):
			add("a message of the log that is not constant; put what differs into keys")
		case of == "time" && sel.Sel.Name == "Sleep":
			add("time.Sleep; wait for what is awaited")
		case s.isTest() && slices.Contains([]string{"t", "b", "f", "tb"}, of) &&
			(sel.Sel.Name == "SkipNow" || sel.Sel.Name == "Skip" && len(call.Args) == 0):
			add("a test is skipped without a reason")
		}
		return true
	})
	return append(bad, checkLayer(s)...)
}

// logMessages are the methods that log, and which of their arguments is the message.
var logMessages = map[string]int{"Debug": 0, "Info": 0, "Warn": 0, "Error": 0, "Log": 1, "LogAttrs": 2}

func constantMessage(method string, args []ast.Expr) bool {
	i, logs := logMessages[method]
	if !logs || i >= len(args) {
		return true
	}
	_, ok := args[i].(*ast.BasicLit)
	return ok
}

// checkLayer returns the imports of s that the dependency rule forbids. A test may use whatever it needs.
func checkLayer(s source) []string {
	row, ok := rowOf(s.dir())
	if !ok && s.dir() != "." {
		return []string{s.path + ": its package has no layer; give it one in layerOf"}
	}
	if s.isTest() {
		return nil
	}
	var bad []string
	from := layerOf[row]
	for _, dir := range s.own() {
		to, known := rowOf(dir)
		if !known && dir != "." || to == row {
			continue // reported where it is, or a package of the same row
		}
		if !slices.Contains(mayImport[from], layerOf[to]) && alsoImports[row] != to {
			bad = append(bad, fmt.Sprintf("%s: %s (%s) may not import %s (%s)", s.path, row, from, dir, layerOf[to]))
		}
	}
	if from == words {
		for _, p := range s.imports() {
			if host, _, _ := strings.Cut(p, "/"); strings.Contains(host, ".") && !strings.HasPrefix(p, module) {
				bad = append(bad, fmt.Sprintf("%s: root imports %s; it may use the standard library only", s.path, p))
			}
		}
	}
	return bad
}

// checkComments returns the packages that have not exactly one package comment.
func checkComments(all []source) []string {
	comments := map[string]int{}
	for _, s := range all {
		if s.isTest() {
			continue
		}
		n := 0
		if s.file.Doc != nil && strings.TrimSpace(s.file.Doc.Text()) != "" {
			n = 1
		}
		comments[s.dir()] += n
	}
	var bad []string
	for _, dir := range slices.Sorted(maps.Keys(comments)) {
		if n := comments[dir]; n != 1 {
			bad = append(bad, fmt.Sprintf("%s: %d package comments, want one", dir, n))
		}
	}
	return bad
}

// checkReach returns the packages forbidden to the agent that cmdAgent reaches through this repository's packages.
func checkReach(all []source) []string {
	var bad []string
	seen := map[string]bool{}
	var visit func(dir, via string)
	visit = func(dir, via string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		for _, s := range all {
			if s.dir() != dir || s.isTest() {
				continue
			}
			for _, p := range s.imports() {
				for _, kept := range keptFromAgent {
					if strings.HasPrefix(p, kept) {
						bad = append(bad, fmt.Sprintf("%s: %s must not reach %s (via %s)", s.path, cmdAgent, p, via))
					}
				}
			}
			for _, next := range s.own() {
				visit(next, via+" > "+next)
			}
		}
	}
	visit(cmdAgent, cmdAgent)
	return bad
}

var (
	linkPattern  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fencePattern = regexp.MustCompile("(?ms)^```.*?^```$")
	codePattern  = regexp.MustCompile("`[^`\n]*`")
	schema       = regexp.MustCompile(`^[a-z]+:`)
)

// checkLinks returns the relative links of a document that lead nowhere. read returns another document, or an empty
// text for what is no document; ok is false if there is nothing.
func checkLinks(name, text string, read func(name string) (text string, ok bool)) []string {
	var bad []string
	prose := codePattern.ReplaceAllString(fencePattern.ReplaceAllString(text, ""), "")
	for _, m := range linkPattern.FindAllStringSubmatch(prose, -1) {
		link := m[1]
		if schema.MatchString(link) {
			continue
		}
		file, anchor, _ := strings.Cut(link, "#")
		target := text
		if file != "" {
			var ok bool
			if target, ok = read(path.Join(path.Dir(name), file)); !ok {
				bad = append(bad, fmt.Sprintf("%s: the link %s leads nowhere", name, link))
				continue
			}
		}
		if anchor != "" && !slices.Contains(anchors(target), anchor) {
			bad = append(bad, fmt.Sprintf("%s: no heading is meant by the link %s", name, link))
		}
	}
	return bad
}

// anchors returns the names that the headings of a document have in links.
func anchors(text string) []string {
	var all []string
	for line := range strings.Lines(fencePattern.ReplaceAllString(text, "")) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title)))
	}
	return all
}

// repository returns the files of the repository with that extension, with their text.
func repository(t *testing.T, extension string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() && name != "." &&
			(strings.HasPrefix(base, ".") || slices.Contains([]string{"bin", "node_modules", "testdata"}, base)) {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(name) != extension {
			return nil
		}
		text, err := os.ReadFile(name)
		files[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestRepositorySources(t *testing.T) {
	t.Parallel()
	var all []source
	for name, text := range repository(t, ".go") {
		s, err := parseSource(name, text)
		if err != nil {
			t.Error(err)
			continue
		}
		all = append(all, s)
		for _, bad := range checkSource(s) {
			t.Error(bad)
		}
	}
	for _, bad := range slices.Concat(checkComments(all), checkReach(all)) {
		t.Error(bad)
	}
}

func TestRepositoryLinks(t *testing.T) {
	t.Parallel()
	documents := repository(t, ".md")
	for name, text := range documents {
		for _, bad := range checkLinks(name, text, func(name string) (string, bool) {
			_, err := os.Stat(name)
			return documents[name], err == nil
		}) {
			t.Error(bad)
		}
	}
}

// TestRepositoryChecks checks the checks: each example breaks one rule, and must be found out.
func TestRepositoryChecks(t *testing.T) {
	t.Parallel()
	// code is a file of the package that its directory is called after.
	code := func(name, use, body string) string {
		if use != "" {
			use = "import " + strconv.Quote(use) + "\n"
		}
		dir := path.Dir(path.Join(module, name))
		return licence + "\n\npackage " + path.Base(dir) + "\n" + use + body
	}
	own := func(dir string) string { return module + "/internal/" + dir }
	for _, tc := range []struct {
		name string
		path string
		use  string // what it imports
		body string
		want string // empty: nothing is wrong
	}{
		{"clean", "internal/store/x.go", own("batch"), "", ""},
		{"empty name", "internal/store/util/x.go", "", "", "says nothing"},
		{"no layer", "internal/novelty/x.go", "", "", "has no layer"},
		{"root uses another's", "x.go", "golang.org/x/sync/errgroup", "", "standard library"},
		{"root uses our own", "x.go", own("wire"), "", "(words) may not import internal/wire"},
		{"tool uses tool", "internal/place/x.go", own("wire"), "", "(tools) may not import internal/wire"},
		{"the exception", "internal/identity/x.go", own("wire"), "", ""},
		{"resource uses resource", "internal/bus/x.go", own("store"), "", "(resources) may not import internal/store"},
		{"front end uses resource", "internal/api/x.go", own("store"), "", "(front ends) may not import"},
		{"front end uses front end", "internal/api/x.go", own("gateway"), "", "(front ends) may not import internal"},
		{"its test may", "internal/api/x_test.go", own("store"), "", ""},
		{"agent uses control", "internal/agent/x.go", own("control"), "", "(remote side) may not import"},
		{"client uses its own part", "internal/client/clienttest/x.go", own("client"), "", ""},
		{"command uses all", "cmd/waybill/x.go", own("api"), "", ""},
		{"sleep", "internal/store/x.go", "time", "func f() { time.Sleep(1) }", "time.Sleep"},
		{"message in parts", "internal/store/x.go", "log/slog", `func f(log *slog.Logger, s string) { log.Warn("it is " + s) }`, "not constant"},
		{"constant message", "internal/store/x.go", "log/slog", `func f(log *slog.Logger, s string) { log.Warn("it is", "what", s) }`, ""},
		{"silent skip", "x_test.go", "testing", "func f(t *testing.T) { t.Skip() }", "skipped"},
		{"silent skip now", "x_test.go", "testing", "func f(b *testing.B) { b.SkipNow() }", "skipped"},
		{"skip with a reason", "x_test.go", "testing", `func f(t *testing.T) { t.Skip("needs root") }`, ""},
	} {
		s, err := parseSource(tc.path, code(tc.path, tc.use, tc.body))
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		expectFinding(t, tc.name, checkSource(s), tc.want)
	}

	example := func(name, text string) source {
		s, err := parseSource(name, text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	expectFinding(t, "no licence", checkSource(example("x.go", "package waybill\n")), "the first line")
	documented := example("a/x.go", "// Package a is there.\npackage a\n")
	expectFinding(t, "one comment", checkComments([]source{documented, example("a/y.go", "package a\n")}), "")
	expectFinding(t, "no comment", checkComments([]source{example("a/y.go", "package a\n")}), "a: 0 package comments")
	expectFinding(t, "two comments", checkComments([]source{documented, documented}), "a: 2 package comments")
	expectFinding(t, "comment of the test", checkComments([]source{
		example("a/y.go", "package a\n"),
		example("a/y_test.go", "// Package a is there.\npackage a\n"),
	}), "a: 0 package comments")

	agent := example(cmdAgent+"/x.go", "package main\nimport \""+own("wire")+"\"\n")
	wire := example("internal/wire/x.go", code("internal/wire/x.go", "database/sql", ""))
	server := example("cmd/waybill/x.go", "package main\nimport \"database/sql\"\n")
	expectFinding(t, "agent reaches a database", checkReach([]source{agent, wire, server}), "must not reach")
	expectFinding(t, "only the server does", checkReach([]source{agent, server}), "")
}

func TestRepositoryChecksLinks(t *testing.T) {
	t.Parallel()
	read := func(name string) (string, bool) {
		return "# The `seed`, and *more*\n```\n# no heading\n```\n", name == "docs/there.md"
	}
	for _, tc := range []struct{ name, text, want string }{
		{"there", "see [it](there.md)", ""},
		{"elsewhere", "see [it](https://example.com/x)", ""},
		{"heading", "see [it](there.md#the-seed-and-more)", ""},
		{"own heading", "## Own\n[it](#own)", ""},
		{"in code", "`[it](gone.md)`\n```\n[it](gone.md)\n```\n", ""},
		{"gone", "see [it](gone.md)", "leads nowhere"},
		{"no such heading", "see [it](there.md#other)", "no heading"},
		{"heading in code", "see [it](there.md#no-heading)", "no heading"},
	} {
		expectFinding(t, tc.name, checkLinks("docs/x.md", tc.text, read), tc.want)
	}
}

// expectFinding fails t unless found is one finding that holds want, or nothing if want is empty.
func expectFinding(t *testing.T, name string, found []string, want string) {
	t.Helper()
	if want == "" && len(found) > 0 || want != "" && (len(found) != 1 || !strings.Contains(found[0], want)) {
		t.Errorf("%s: found %q, want %q", name, found, want)
	}
}
