// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestWildcard(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, pattern, s string
		want             bool
	}{
		{"nothing", "", "", true},
		{"nothing is not something", "", "a", false},
		{"star is nothing", "*", "", true},
		{"stars are nothing", "***", "", true},
		{"question mark is not nothing", "?", "", false},
		{"question mark is a star", "?", "*", true},
		{"a star is no star of the pattern", "a", "*", false},
		{"star at the end", "a*", "a", true},
		{"star at the start", "*a", "aba", true},
		{"the last a", "*a", "abab", false},
		{"second try", "*ab?", "aabab机", true},
		{"second try of the last star", "a*b*c", "axbxbxc", true},
		{"too little for two stars", "*aa*aa", "aaa", false},
		{"the middle only", "*a*", "bab", true},
		{"one character of several bytes", "?", "机", true},
		{"not two", "??", "机", false},
		{"a later try counts characters", "*??ac", "机ac", false},
		{"a byte that is no UTF-8 counts as one", "a?b", "a\xffb", true},
		{"and is not U+FFFD", "\ufffd", "\xff", false},
		{"case", "A", "a", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := wildcard(c.pattern, c.s); got != c.want {
				t.Errorf("wildcard(%q, %q) = %v", c.pattern, c.s, got)
			}
		})
	}
}

// matchReference is the definition of wildcard, without regard to time.
func matchReference(pattern, s []rune) bool {
	switch {
	case len(pattern) == 0:
		return len(s) == 0
	case pattern[0] == '*':
		return matchReference(pattern[1:], s) || len(s) > 0 && matchReference(pattern, s[1:])
	case len(s) == 0:
		return false
	}
	return (pattern[0] == '?' || pattern[0] == s[0]) && matchReference(pattern[1:], s[1:])
}

func TestPropertyWildcard(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		pattern := rapid.StringOfN(rapid.SampledFrom([]rune("ab机*?")), 0, 8, -1).Draw(rt, "pattern")
		s := rapid.StringOfN(rapid.SampledFrom([]rune("ab机*?")), 0, 10, -1).Draw(rt, "s")
		if got, want := wildcard(pattern, s), matchReference([]rune(pattern), []rune(s)); got != want {
			rt.Errorf("got %v, want %v", got, want)
		}
	})
}

// TestWildcardTime ends within the limit of a test only if no star but the last is tried again.
func TestWildcardTime(t *testing.T) {
	t.Parallel()
	pattern := strings.Repeat("*a", 2000) + "b"
	if s := strings.Repeat("a", 10_000); wildcard(pattern, s) || !wildcard(pattern, s+"b") {
		t.Error("wrong")
	}
}
