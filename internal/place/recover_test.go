// SPDX-License-Identifier: Apache-2.0

//go:build unix

package place

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/openwaybill/waybill"
)

func TestRecover(t *testing.T) {
	t.Parallel()
	const dir = "/srv/new"
	for _, c := range []struct {
		name   string
		kill   Step // where the first placement ends, as if killed
		prep   func(t *testing.T, dir string)
		file   func(*File)
		token  func(*Token)
		want   Outcome
		reason Reason
	}{
		{name: "killed before publication", kill: StepPublish, want: Unpublished},
		{name: "killed between link and unlink", kill: StepUnlink, want: Published},
		{name: "killed after publication", kill: StepSyncDir, want: Published},
		{
			name: "killed between link and unlink, then the device got another number", kill: StepUnlink, want: Published,
			token: func(t *Token) { t.Dev++ },
		},
		{
			name: "killed before publication, then the device got another number", kill: StepPublish, want: Unpublished,
			token: func(t *Token) { t.Dev++ },
		},
		{
			name: "killed after publication, then the device got another number", kill: StepVerify, want: Unknown,
			token: func(t *Token) { t.Dev++ },
		},
		{
			name: "replaced after publication", kill: StepVerify, want: Unknown,
			prep: func(t *testing.T, dir string) {
				write(t, dir+"/other", "theirs", 0o644)
				if err := os.Rename(dir+"/other", dir+"/app.conf"); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "replaced between link and unlink", kill: StepUnlink, want: Unpublished,
			prep: func(t *testing.T, dir string) {
				write(t, dir+"/other", "theirs", 0o644)
				if err := os.Rename(dir+"/other", dir+"/app.conf"); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "removed after publication", kill: StepVerify, want: Unpublished,
			prep: func(t *testing.T, dir string) {
				if err := os.Remove(dir + "/app.conf"); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "directory removed", kill: StepVerify, want: Unpublished,
			prep: func(t *testing.T, dir string) {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "changed in place", kill: StepVerify, want: Published, reason: WriteFailed,
			prep: func(t *testing.T, dir string) { write(t, dir+"/app.conf", "theirs", 0o644) },
		},
		{
			name: "directory is a file now", kill: StepVerify, want: Unknown, reason: PathInvalid,
			prep: func(t *testing.T, dir string) {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				write(t, dir, "file", 0o644)
			},
		},
		{
			name: "owner is gone", kill: StepVerify, want: Published, reason: OwnerMissing,
			file: func(f *File) { f.Owner = "nobody-of-that-name" },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			// A copy of the tree at the moment of the kill is what is found after it.
			var token Token
			f := newFile("ours")
			f.TargetDir = dir
			f.Intent = func(got Token) error { token = got; return nil }
			saved := func(name string) string { return root + dir + "/" + name + ".saved" }
			p := newPlacer(t, Config{Root: root, Trace: func(s Step, _ string) {
				if s != c.kill {
					return
				}
				for _, name := range []string{tempName(f.ID), f.Name} {
					err := os.Link(root+dir+"/"+name, saved(name))
					if err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Error(err)
					}
				}
				panic(errOwn)
			}})
			func() {
				defer func() { _ = recover() }()
				_, err := p.Place(t.Context(), f)
				t.Errorf("not killed: %v", err)
			}()
			if err := os.RemoveAll(root + dir + "/" + f.Name); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{tempName(f.ID), f.Name} {
				err := os.Rename(saved(name), root+dir+"/"+name)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
			if c.prep != nil {
				c.prep(t, root+dir)
			}
			if c.file != nil {
				c.file(&f)
			}
			if c.token != nil {
				c.token(&token)
			}
			f.Content = nil
			res, got, err := p.Recover(t.Context(), f, token)
			e, _ := errors.AsType[*Error](err)
			if got != c.want || (err == nil) != (c.reason == "") || e != nil && e.Reason != c.reason {
				t.Errorf("got %s, %v; want %s, %q", got, err, c.want, c.reason)
			}
			want := Result{Path: root + dir + "/app.conf", SHA256: f.SHA256, Size: 4, Change: waybill.Created}
			if err == nil && got == Published && res != want {
				t.Errorf("got %+v, want %+v", res, want)
			}
			checkNoTemp(t, root)
		})
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root+"/srv/.waybill-f-1.tmp", "half", 0o600)
	write(t, root+"/srv/.waybill-f-2.tmp", "half", 0o600)
	write(t, root+"/srv/app.conf", "old", 0o600)
	symlink(t, "../../outside", root+"/l")
	p := newPlacer(t, Config{Root: root})
	for range 2 { // the second time there is nothing to do
		if err := p.Sweep(t.Context(), "/srv", "f-1"); err != nil {
			t.Error(err)
		}
	}
	if err := p.Sweep(t.Context(), "/missing/dir", "f-1"); err != nil {
		t.Error(err)
	}
	tree := snapshot(t, root+"/srv")
	if got := slices.Sorted(maps.Keys(tree)); !slices.Equal(got, []string{".", ".waybill-f-2.tmp", "app.conf"}) {
		t.Errorf("left: %v", got)
	}
	for _, c := range []struct {
		name, dir, id string
		reason        Reason
	}{
		{"link to outside", "/l", "f-1", PathInvalid},
		{"a file", "/srv/app.conf", "f-1", PathInvalid},
		{"ID", "/srv", "../x", NameInvalid},
	} {
		if e, ok := errors.AsType[*Error](p.Sweep(t.Context(), c.dir, c.id)); !ok || e.Reason != c.reason {
			t.Errorf("%s: %v, want %s", c.name, e, c.reason)
		}
	}
}
