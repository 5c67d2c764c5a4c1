// SPDX-License-Identifier: Apache-2.0

//go:build unix

package place

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/openwaybill/waybill"
)

// checkForeseen rehearses f, which fails for that reason, or not if it is empty.
func checkForeseen(t *testing.T, p *Placer, f File, want Reason) {
	t.Helper()
	_, err := p.Rehearse(t.Context(), f, true)
	e, ok := errors.AsType[*Error](err)
	switch {
	case want == "" && err != nil:
		t.Errorf("rehearsed: %v", err)
	case want != "" && (!ok || e.Reason != want):
		t.Errorf("rehearsed: %v, want %s", err, want)
	}
}

// TestRehearse says of every change what it would be, makes none, and is right about it.
func TestRehearse(t *testing.T) {
	t.Parallel()
	const old = "/srv/app.conf"
	changes := map[waybill.Change]waybill.Change{
		waybill.WouldCreate: waybill.Created, waybill.WouldReplace: waybill.Replaced, waybill.WouldKeep: waybill.Unchanged,
	}
	for _, c := range []struct {
		name   string
		prep   func(t *testing.T, root string)
		file   func(*File)
		want   waybill.Change
		diff   string // part of it; with %s for the root
		noDiff string
	}{
		{
			name: "nothing is there", want: waybill.WouldCreate,
			diff: "--- /dev/null\n+++ %s/srv/app.conf\n@@ -0,0 +1,2 @@\n+one\n+two\n",
		},
		{name: "not even the directory", file: func(f *File) { f.TargetDir = "/srv/a/b" }, want: waybill.WouldCreate, diff: "+one"},
		{
			name: "other lines", prep: func(t *testing.T, root string) { write(t, root+old, "one\n2\n", 0o644) }, want: waybill.WouldReplace,
			diff: "--- %s/srv/app.conf\n+++ %s/srv/app.conf\n@@ -1,2 +1,2 @@\n one\n-2\n+two\n",
		},
		{name: "the same", prep: func(t *testing.T, root string) { write(t, root+old, "one\ntwo\n", 0o644) }, want: waybill.WouldKeep},
		{name: "another mode", prep: func(t *testing.T, root string) { write(t, root+old, "one\ntwo\n", 0o600) }, want: waybill.WouldReplace},
		{
			name: "a link", prep: func(t *testing.T, root string) { symlink(t, "nowhere", root+old) }, want: waybill.WouldReplace,
			noDiff: "cannot be read",
		},
		{
			name: "no text", prep: func(t *testing.T, root string) { write(t, root+old, "\x00", 0o644) }, want: waybill.WouldReplace,
			noDiff: "not both text",
		},
		{
			name: "too large", prep: func(t *testing.T, root string) { write(t, root+old, strings.Repeat("x\n", maxDiffed/2+1), 0o644) },
			want: waybill.WouldReplace, noDiff: "too large",
		},
		{
			name: "a long diff", prep: func(t *testing.T, root string) { write(t, root+old, strings.Repeat("x\n", maxDiffed/2), 0o644) },
			want: waybill.WouldReplace, diff: "\n-x\n", noDiff: "only the first part",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			mkdir(t, root+"/srv")
			if c.prep != nil {
				c.prep(t, root)
			}
			before := snapshot(t, root)
			f := newFile("one\ntwo\n")
			f.Overwrite = true
			if c.file != nil {
				c.file(&f)
			}
			f.Intent = func(Token) error { t.Error("Intent called"); return nil }
			f.Before = func() error { t.Error("Before called"); return nil }
			p := newPlacer(t, Config{Root: root})
			got, err := p.Rehearse(t.Context(), f, true)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(c.diff, "%s", root)
			if got.Change != c.want || !strings.Contains(got.Diff.Text, want) || (got.Diff.Text == "") != (c.diff == "") ||
				!strings.Contains(got.Diff.Note, c.noDiff) || (got.Diff.Note == "") != (c.noDiff == "") || len(got.Diff.Text) > maxDiff {
				t.Errorf("got %s, %q, %q; want %s, %q, %q", got.Change, got.Diff.Text, got.Diff.Note, c.want, want, c.noDiff)
			}
			if unasked, err := p.Rehearse(t.Context(), f, false); err != nil || unasked != (Rehearsal{Change: c.want}) {
				t.Errorf("without a diff: %+v, %v", unasked, err)
			}
			checkSame(t, root, before)
			f.Intent, f.Before = nil, nil
			if res, err := p.Place(t.Context(), f); err != nil || res.Change != changes[c.want] {
				t.Errorf("placed: %+v, %v", res, err)
			}
		})
	}
}

// TestRehearseWithoutContent has only the digest and the length of it.
func TestRehearseWithoutContent(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root+"/srv/app.conf", "content", 0o644)
	f := newFile("content")
	f.Overwrite, f.Content, f.Size = true, nil, 7
	p := newPlacer(t, Config{Root: root})
	if r, err := p.Rehearse(t.Context(), f, true); err != nil || r != (Rehearsal{Change: waybill.WouldKeep}) {
		t.Errorf("%+v, %v", r, err)
	}
	f.SHA256[0]++
	if r, err := p.Rehearse(t.Context(), f, true); err != nil || r.Change != waybill.WouldReplace || r.Diff.Note == "" {
		t.Errorf("%+v, %v", r, err)
	}
	f.Size = 1 << 60
	checkForeseen(t, p, f, WriteFailed)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Rehearse(ctx, f, true); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := os.Stat(root + "/srv/app.conf"); err != nil {
		t.Error(err)
	}
}
