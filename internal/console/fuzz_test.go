// SPDX-License-Identifier: Apache-2.0

package console

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzHome looks that whatever a link says, whoever has signed in stays in the console.
func FuzzHome(f *testing.F) {
	for _, s := range []string{
		"", "/console/", "/console/deliveries?q=x", "//elsewhere/console/", "https://elsewhere/console/", `/console/\elsewhere`, "/console/../x",
		"javascript:alert(1)", "/console/%2e%2e/x", "\t//elsewhere", "/console/\r\nLocation: //elsewhere",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		to := home(s)
		u, err := url.Parse(to)
		if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(to, Path) || strings.ContainsAny(to, "\\\r\n\t") {
			t.Errorf("%q leads to %q", s, to)
		}
	})
}

// FuzzForms gives what people write into forms to what reads it: whatever it is, it is read or refused.
func FuzzForms(f *testing.F) {
	f.Add("env=prod, role", "a\nb=c\n", `{"a":[1]}`)
	f.Add("=x", strings.Repeat("x\n", 600), "<a><b>x</b></a>")
	f.Fuzz(func(t *testing.T, tags, lines, answer string) {
		list, err := parseTags(tags)
		for _, tag := range list {
			if err == nil && tag.Key == "" {
				t.Errorf("%q has a tag without a key", tags)
			}
		}
		if _, err := machineFilter(url.Values{"q": {tags}, "connected": {lines}}); err != nil && !strings.Contains(tags, "=") {
			t.Errorf("search %q: %v", tags, err)
		}
		fields := []field{{Label: "InstanceId", List: true, Value: lines}, {Label: "Tag", Pairs: true, Value: lines}, {Label: "Name", Value: tags}}
		if params, err := parametersOf(fields); err == nil && len(params) > maxExplored {
			t.Errorf("%d parameters", len(params))
		}
		for _, format := range []string{"JSON", "XML"} {
			if answer != "" && strings.TrimSpace(answer) != "" && indented(format, []byte(answer)) == "" && format == "JSON" {
				t.Errorf("%q is shown as nothing", answer)
			}
		}
		_ = previewText([]byte(answer))
		_ = inert(tags)
	})
}
