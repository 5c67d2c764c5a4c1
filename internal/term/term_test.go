// SPDX-License-Identifier: Apache-2.0

package term

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vbauerster/mpb/v8"
)

func TestTableAligns(t *testing.T) {
	t.Parallel()
	table := NewTable("NAME", "STATUS", "DETAIL")
	table.Add("demo-001", "Success", "")
	table.Add("北京一号", "Failed", "磁盘已满")
	table.Add("é", "x")
	var b bytes.Buffer
	if _, err := table.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"NAME      STATUS   DETAIL\n" +
		"demo-001  Success  -\n" +
		"北京一号  Failed   磁盘已满\n" +
		"é         x\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"plain", `C:\dir "x" 你好`, `C:\dir "x" 你好`},
		{"escape sequence", "\x1b[31mred", `\x1b[31mred`},
		{"line break", "a\nb\\c\"d", `a\nb\c"d`},
		{"right to left", "a\u202eb", `a\u202eb`},
		{"not UTF-8", "a\xff", `a\xff`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Clean(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	f := FormatTable
	if err := f.Set("json"); err != nil || f != FormatJSON || f.String() != "json" {
		t.Errorf("%v: %v", f, err)
	}
	if err := f.Set("yaml"); err == nil || f != FormatJSON {
		t.Errorf("yaml accepted: %v, %v", f, err)
	}
}

func TestWriteJSON(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := WriteJSON(&b, map[string]string{"a": "<你&>"}); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"a\": \"<你&>\"\n}\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

// feed tells p a small story with repetitions.
func feed(p *Progress) {
	p.Update(Item{Name: "f-1", Total: 3})
	p.Update(Item{Name: "f-2", Total: 2})
	p.Update(Item{Name: "f-1", Total: 3})
	p.Update(Item{Name: "f-1", Total: 3, Done: 2, Failed: 1})
	p.Update(Item{Name: "f-1", Total: 3, Done: 3, Failed: 1})
	p.Close()
}

func TestProgressLines(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	feed(NewProgress(&b))
	want := "f-1  0/3 done\nf-2  0/2 done\nf-1  2/3 done, 1 failed\nf-1  3/3 done, 1 failed\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProgressBars(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	feed(newProgress(newBars(&b, mpb.WithAutoRefresh())))
	for _, want := range []string{"3/3 done, 1 failed", "0/2 done"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in %q", want, b.String())
		}
	}
}

func TestNoProgress(t *testing.T) {
	t.Parallel()
	feed(NoProgress()) // it has nowhere to write to; closing it must not wait
}
