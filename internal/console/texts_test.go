// SPDX-License-Identifier: Apache-2.0

package console

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/openwaybill/waybill"
)

// Where texts for people stand: in templates, and in what Go code complains of or calls a page.
var textForms = map[string]*regexp.Regexp{
	".html": regexp.MustCompile(`(?:\bt |"text" |"(?:list|name|tag|group|all)" )("(?:[^"\\]|\\.)*")`),
	".go":   regexp.MustCompile(`(?:complain\(|translate\(|again\([^"]*|v\.show\("[a-z-]+", )("(?:[^"\\]|\\.)*")`),
}

// TestEveryTextIsTranslated looks that each text of the pages, and each status, has a Chinese one with the same verbs, and that no
// other is there.
func TestEveryTextIsTranslated(t *testing.T) {
	t.Parallel()
	b, err := fs.ReadFile(files, "templates/zh.json")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]string{}
	if err := json.Unmarshal(b, &known); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{
		"native": true, "official": true, "Active": true, "Inactive": true, "Custom": true, "System": true, "Timeout": true, "Error": true,
	}
	for _, s := range statuses {
		used[string(s)] = true
	}
	used[string(waybill.OverallPartial)] = true
	for _, pattern := range []string{"templates/*.html", "*.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range textForms[filepath.Ext(name)].FindAllSubmatch(source, -1) {
				text, err := strconv.Unquote(string(m[1]))
				if err != nil {
					t.Fatalf("%s: %s: %v", name, m[1], err)
				}
				used[text] = true
			}
		}
	}
	verbs := regexp.MustCompile(`%[a-z]`)
	for text := range used {
		zh, ok := known[text]
		if !ok {
			t.Errorf("%q is not translated", text)
		} else if a, b := verbs.FindAllString(text, -1), verbs.FindAllString(zh, -1); strings.Join(a, "") != strings.Join(b, "") {
			t.Errorf("%q and %q format differently", text, zh)
		}
	}
	for text := range known {
		if !used[text] {
			t.Errorf("%q is translated and not used", text)
		}
	}
}

// TestContrast computes the contrast of what is read against what is behind it from the style sheet (WCAG 2.2, 1.4.3: 4.5 to 1).
func TestContrast(t *testing.T) {
	t.Parallel()
	b, err := fs.ReadFile(files, "assets/console.css")
	if err != nil {
		t.Fatal(err)
	}
	themes := 0
	for _, block := range regexp.MustCompile(`\{[^{}]*--bg:[^{}]*\}`).FindAll(b, -1) {
		themes++
		colour := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z-]+):#([0-9a-f]{3,6})`).FindAllStringSubmatch(string(block), -1) {
			colour[m[1]] = luminance(t, m[2])
		}
		for _, pair := range []struct{ text, behind string }{
			{"text", "bg"},
			{"text", "card"},
			{"text", "code"},
			{"quiet", "bg"},
			{"quiet", "card"},
			{"link", "bg"},
			{"link", "card"},
			{"on-main", "main"},
			{"good", "good-bg"},
			{"bad", "bad-bg"},
			{"bad", "card"},
			{"run", "run-bg"},
			{"wait", "wait-bg"},
			{"text", "good-bg"},
			{"quiet", "good-bg"},
			{"link", "good-bg"},
			{"text", "wait-bg"},
		} {
			light, dark := max(colour[pair.text], colour[pair.behind]), min(colour[pair.text], colour[pair.behind])
			if ratio := (light + 0.05) / (dark + 0.05); ratio < 4.5 {
				t.Errorf("theme %d: %s on %s: %.2f to 1", themes, pair.text, pair.behind, ratio)
			}
		}
	}
	if themes != 3 {
		t.Errorf("%d themes, want light, dark by preference and dark by choice", themes)
	}
}
