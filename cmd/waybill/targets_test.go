// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/openwaybill/waybill"
)

func TestParseInstances(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]waybill.InstanceID{
		"":                                nil,
		"# only this\n\n":                 nil,
		"mi-1":                            {"mi-1"},
		"mi-1,mi-2 mi-3\tmi-4\r\nmi-5":    {"mi-1", "mi-2", "mi-3", "mi-4", "mi-5"},
		"mi-1 # web\n#mi-2\nmi-3#mi-4\n,": {"mi-1", "mi-3"},
	} {
		if got := parseInstances(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzParseInstances(f *testing.F) {
	for _, text := range []string{"", "mi-1, mi-2", "a # b\nc", "#\n,\r\n \x00\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		found := parseInstances(text)
		for _, id := range found {
			if id == "" || strings.ContainsAny(string(id), " ,#\t\r\n") {
				t.Errorf("%q is an ID in %q", id, text)
			}
		}
		var again []string
		for _, id := range found {
			again = append(again, string(id))
		}
		if got := parseInstances(strings.Join(again, "\n")); !slices.Equal(got, found) {
			t.Errorf("%q, then %q", found, got)
		}
	})
}
