// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzParse checks that no text breaks the parser, that an error has a place and a reason that can be shown, and that
// the statements of a document, as Statement returns them, decide like the document.
func FuzzParse(f *testing.F) {
	for _, p := range SystemPolicies() {
		f.Add(p.Text)
	}
	for _, c := range syntaxErrors {
		f.Add(c.text)
	}
	for _, groups := range readGroups(f) {
		for _, g := range groups {
			for _, p := range g.Policies {
				f.Add(string(p.Document))
			}
		}
	}
	requests := []Request{
		{Action: "ecs:SendFile", Resource: "*"},
		{
			Action: "ecs:SendFile", Resource: "acs:ecs:cn-hangzhou:1234567890123456:instance/mi-1",
			ResourceTags: map[string]string{"env": "dev"}, RequestTags: map[string]string{"team": "a"},
			SourceIP: netip.MustParseAddr("10.1.2.3"), Time: noon, Secure: true,
		},
		{Action: "ecs:DescribeTags", Resource: "acs:ecs:r:1:instance/*", SourceIP: netip.MustParseAddr("2001:db8::1")},
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse(text)
		if err != nil {
			syntax, ok := errors.AsType[*SyntaxError](err)
			if !ok || syntax.Message == "" || !utf8.ValidString(err.Error()) {
				t.Fatalf("error %q", err)
			}
			if strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Fatalf("control character in %q", err)
			}
			return
		}
		if d.Statements() == 0 {
			t.Fatal("no statements")
		}
		wrapped := wrap(statementsOf(d))
		if utf8.RuneCountInString(wrapped) > MaxDocument {
			return // a single statement without a list has become longer
		}
		again, err := Parse(wrapped)
		if err != nil {
			t.Fatalf("%s: %v", wrapped, err)
		}
		if d.UsesResourceTags() != again.UsesResourceTags() {
			t.Fatal("another use of tags")
		}
		for _, r := range requests {
			want := verdictOf(Evaluate([]Policy{{Document: d}}, r))
			if got := verdictOf(Evaluate([]Policy{{Document: again}}, r)); got != want {
				t.Fatalf("%+v\n got %+v\nwant %+v", r, got, want)
			}
		}
	})
}

// FuzzMatch checks that wildcard does what its definition says, and that patterns of actions and resources match no
// more than the same wildcards would without regard to the parts.
func FuzzMatch(f *testing.F) {
	for _, s := range []string{"", "a", "abab", "ecs:SendFile", "acs:ecs:r:1:instance/mi-1", "机器", "*?", "\xff"} {
		for _, pattern := range []string{"", "*", "?", "*a*b", "??", "ecs:*File", "acs:ecs:*:*:instance/*", "机*"} {
			f.Add(pattern, s)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if !utf8.ValidString(pattern) {
			return // Parse lets none through
		}
		got := wildcard(pattern, s)
		if !strings.ContainsAny(pattern, "*?") && got != (pattern == s) {
			t.Fatalf("literal: %v", got)
		}
		// The reference takes exponential time, and each byte that is no UTF-8 for the character U+FFFD.
		small := strings.Count(pattern, "*") <= 5 && len(s) <= 20 && utf8.ValidString(s)
		if small && got != matchReference([]rune(pattern), []rune(s)) {
			t.Fatalf("wildcard: %v", got)
		}
		if !wildcard("*"+pattern+"*", pattern) || !wildcard(pattern, strings.ReplaceAll(pattern, "*", "")) {
			t.Fatal("a pattern does not match itself")
		}
		p, err := parseResource("", pattern)
		if err == nil && p.matches(newSubject(&Request{Resource: s})) && !got {
			t.Fatal("a resource matches that the pattern as a whole does not")
		}
		a, err := parseAction("", pattern)
		if err != nil || !strings.Contains(s, ":") {
			return
		}
		if a.matches(newSubject(&Request{Action: s})) && !wildcard(strings.ToLower(pattern), strings.ToLower(s)) {
			t.Fatal("an action matches that the pattern as a whole does not")
		}
	})
}
