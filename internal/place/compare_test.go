// SPDX-License-Identifier: Apache-2.0

//go:build unix

package place

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/openwaybill/waybill"
)

// TestUnchanged places a file where something is, with Overwrite.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	const old = "/srv/app.conf"
	for _, c := range []struct {
		name string
		prep func(t *testing.T, root string)
		file func(*File)
		want waybill.Change
	}{
		{name: "the same", want: waybill.Unchanged},
		{name: "the same, its content from a Reader", file: read(7), want: waybill.Unchanged},
		{name: "the same, its content from a Reader of unknown length", file: read(0), want: waybill.Unchanged},
		{name: "nothing", prep: func(t *testing.T, root string) { remove(t, root+old) }, want: waybill.Created},
		{name: "other bytes", prep: func(t *testing.T, root string) { write(t, root+old, "tnetnoc", 0o644) }, want: waybill.Replaced},
		{name: "fewer bytes", prep: func(t *testing.T, root string) { write(t, root+old, "conten", 0o644) }, want: waybill.Replaced},
		{name: "another mode", prep: func(t *testing.T, root string) { write(t, root+old, "content", 0o600) }, want: waybill.Replaced},
		{name: "another mode, of the upper bits", file: func(f *File) { f.Mode |= os.ModeSticky }, want: waybill.Replaced},
		{
			name: "a link to the same", prep: func(t *testing.T, root string) {
				write(t, root+"/srv/other", "content", 0o644)
				remove(t, root+old)
				symlink(t, "other", root+old)
			}, want: waybill.Replaced,
		},
		{
			name: "the same with a second name", prep: func(t *testing.T, root string) {
				if err := os.Link(root+old, root+"/srv/other"); err != nil {
					t.Fatal(err)
				}
			}, want: waybill.Replaced,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			write(t, root+old, "content", 0o644)
			if c.prep != nil {
				c.prep(t, root)
			}
			f := newFile("content")
			f.Overwrite = true
			if c.file != nil {
				c.file(&f)
			}
			before, _ := os.Lstat(root + old) // there may be none
			intents := 0
			f.Intent = func(Token) error { intents++; return nil }
			res, err := newPlacer(t, Config{Root: root}).Place(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if want := (Result{Path: root + old, SHA256: f.SHA256, Size: 7, Change: c.want}); res != want {
				t.Errorf("got %+v, want %+v", res, want)
			}
			f.Content = []byte("content")
			checkPlaced(t, root+old, f)
			checkNoTemp(t, root)
			after, err := os.Lstat(root + old)
			if err != nil {
				t.Fatal(err)
			}
			if kept := before != nil && os.SameFile(before, after) && before.ModTime().Equal(after.ModTime()); kept != (c.want == waybill.Unchanged) {
				t.Errorf("the file was left alone: %v", kept)
			}
			if c.want == waybill.Unchanged && intents != 0 {
				t.Error("a publication was announced")
			}
		})
	}
}

// read makes the content of a File come from a Reader.
func read(size int64) func(*File) {
	return func(f *File) { f.Reader, f.Size, f.Content = strings.NewReader(string(f.Content)), size, nil }
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestUnchangedReadsNothing: a content that is there already is not fetched.
func TestUnchangedReadsNothing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root+"/srv/app.conf", "content", 0o644)
	f := newFile("content")
	f.Overwrite, f.Size = true, 7
	f.Reader = failing{errOwn}
	res, err := newPlacer(t, Config{Root: root}).Place(t.Context(), f)
	if err != nil || res.Change != waybill.Unchanged {
		t.Errorf("%+v, %v", res, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestUnchangedOwner: the same bytes of another owner are not the same file.
func TestUnchangedOwner(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for name, own := range map[string][2]int{"owner": {12, 0}, "group": {0, 12}} {
		root := t.TempDir()
		write(t, root+"/srv/app.conf", "content", 0o644)
		if err := os.Chown(root+"/srv/app.conf", own[0], own[1]); err != nil {
			t.Fatal(err)
		}
		f := newFile("content")
		f.Overwrite = true
		res, err := newPlacer(t, Config{Root: root}).Place(t.Context(), f)
		if err != nil || res.Change != waybill.Replaced {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
		checkPlaced(t, root+"/srv/app.conf", f)
	}
}

// TestUnchangedSteps: what is there already is placed by looking, and stopped like any other.
func TestUnchangedSteps(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root+"/srv/app.conf", "content", 0o644)
	f := newFile("content")
	f.Overwrite = true
	var got []Step
	p := newPlacer(t, Config{Root: root, Trace: func(s Step, _ string) { got = append(got, s) }})
	if _, err := p.Place(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if want := []Step{StepValidate, StepContent, StepResolve, StepOpen, StepCompare}; !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
	f.Before = func() error { return errOwn }
	if _, err := p.Place(t.Context(), f); !errors.Is(err, errOwn) {
		t.Errorf("after the deadline: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := newWork(p, f)
	defer w.end()
	for _, do := range []func() error{func() error { return w.validate(ctx) }, w.resolve, w.open} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := w.compare(ctx); !errors.Is(w.fail(err), context.Canceled) {
		t.Errorf("cut off: %v", err)
	}
}

// TestReplacedWhileCompared replaces the file after its bytes were read, as another process may at any moment.
func TestReplacedWhileCompared(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root+"/srv/app.conf", "content", 0o644)
	f := newFile("content")
	f.Overwrite = true
	w := newWork(newPlacer(t, Config{Root: root}), f)
	defer w.end()
	for _, do := range []func() error{func() error { return w.validate(t.Context()) }, w.resolve, w.open} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	file, err := w.reopen()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	write(t, root+"/srv/other", "content", 0o644)
	if err := os.Rename(root+"/srv/other", root+"/srv/app.conf"); err != nil {
		t.Fatal(err)
	}
	if _, same := w.isWanted(t.Context(), file); same {
		t.Error("a file that is not there any more is the wanted one")
	}
}
