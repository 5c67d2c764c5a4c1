// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra/doc"
)

var packaging = flag.String("packaging", "", "write manual pages and completions of shells for packages into this `DIR`")

// TestPackaging writes what packages hold beside the program. It is a test, because the program itself is not to link
// what writes manual pages. Their date is that of SOURCE_DATE_EPOCH.
func TestPackaging(t *testing.T) {
	t.Parallel()
	dir := *packaging
	if dir == "" {
		dir = t.TempDir()
	}
	man := filepath.Join(dir, "man")
	if err := os.MkdirAll(man, 0o755); err != nil {
		t.Fatal(err)
	}
	root := newRootCmd()
	root.DisableAutoGenTag = true
	for _, err := range []error{
		doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "Waybill", Manual: "Waybill"}, man),
		root.GenBashCompletionFileV2(filepath.Join(dir, root.Name()+".bash"), true),
		root.GenZshCompletionFile(filepath.Join(dir, "_"+root.Name())),
		root.GenFishCompletionFile(filepath.Join(dir, root.Name()+".fish"), true),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"man/waybill-agent.1", "man/waybill-agent-enroll.1", root.Name() + ".bash"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
