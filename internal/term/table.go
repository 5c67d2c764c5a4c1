// SPDX-License-Identifier: Apache-2.0

// Package term writes results for people (tables), for programs (JSON), and the progress of what takes a while. It
// knows how wide characters are and what must not reach a terminal; it does not know what it shows.
package term

import (
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// gap separates columns.
const gap = "  "

// Table collects rows and writes them aligned. Cells may come from anywhere: line breaks, control characters and
// invalid text in them are written as visible escapes, so that no machine can speak to the terminal through a table.
type Table struct {
	rows   [][]string
	widths []int
	cells  runewidth.Condition
}

// NewTable returns a table with the given column titles.
func NewTable(titles ...string) *Table {
	t := &Table{}
	t.Add(titles...)
	return t
}

// Add adds a row. A row may be shorter than the others; an empty cell is shown as a dash.
func (t *Table) Add(cells ...string) {
	row := make([]string, len(cells))
	for i, c := range cells {
		if row[i] = Clean(c); c == "" {
			row[i] = "-"
		}
		if i == len(t.widths) {
			t.widths = append(t.widths, 0)
		}
		t.widths[i] = max(t.widths[i], t.cells.StringWidth(row[i]))
	}
	t.rows = append(t.rows, row)
}

// WriteTo writes the table, one line for each row, without trailing blanks.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	for _, row := range t.rows {
		for i, c := range row {
			b.WriteString(c)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", t.widths[i]-t.cells.StringWidth(c)))
				b.WriteString(gap)
			}
		}
		b.WriteByte('\n')
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// Clean returns s with everything that is not a visible character or a plain space written as a Go escape, such as \n
// and \x1b.
func Clean(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0 {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(quoted[1 : len(quoted)-1])
}
