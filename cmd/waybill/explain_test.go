// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"strings"
	"testing"

	"github.com/openwaybill/waybill/internal/guide"
)

// TestExplainedCommandsExist looks that every command of ours that an explanation gives is one, with flags that it has.
func TestExplainedCommandsExist(t *testing.T) {
	t.Parallel()
	for _, e := range guide.All(guide.English) {
		for _, line := range e.Commands {
			words := strings.Fields(line)
			if words[0] != "waybill" {
				continue
			}
			root := newRootCmd(env{in: strings.NewReader(""), out: io.Discard, err: io.Discard, lookup: func(string) (string, bool) { return "", false }})
			cmd, rest, err := root.Find(words[1:])
			if err != nil || cmd == root {
				t.Errorf("%s: %q is no command: %v", e.Code, line, err)
				continue
			}
			for _, w := range rest {
				if name, ok := strings.CutPrefix(w, "--"); ok && name != "help" && cmd.Flag(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
					t.Errorf("%s: %q: %s has no flag --%s", e.Code, line, cmd.CommandPath(), name)
				}
			}
		}
	}
}
