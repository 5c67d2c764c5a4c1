// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestWeaknesses checks that the list in the package comment is complete and names tests that exist.
func TestWeaknesses(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	for _, pkg := range []string{"agent", "place", "identity"} {
		files, err := filepath.Glob(filepath.Join("..", pkg, "*_test.go"))
		must(t, err)
		for _, f := range files {
			for _, m := range declared.FindAllStringSubmatch(string(must1(os.ReadFile(f))), -1) {
				tests[pkg+"."+m[1]] = true
			}
		}
	}
	next := 1
	rows := regexp.MustCompile(`(?m)^//	W(\d+) .*`)
	for _, row := range rows.FindAllStringSubmatch(string(must1(os.ReadFile("doc.go"))), -1) {
		if row[1] != strconv.Itoa(next) {
			t.Errorf("row W%s follows row W%d", row[1], next-1)
		}
		next++
		named := 0
		for _, word := range strings.Fields(row[0]) {
			if strings.Contains(word, ".") {
				named++
				if !tests[word] {
					t.Errorf("W%s: there is no test %s", row[1], word)
				}
			}
		}
		if named == 0 {
			t.Errorf("W%s has no test", row[1])
		}
	}
	if next != 28 {
		t.Errorf("the list ends with W%d", next-1)
	}
}
