// SPDX-License-Identifier: Apache-2.0

//go:build unix

package place

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/openwaybill/waybill"
)

func newPlacer(t testing.TB, cfg Config) *Placer {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if len(p.busy) != 0 || len(p.made) != 0 {
			t.Errorf("left in memory: claims %v, directories %v", p.busy, p.made)
		}
	})
	return p
}

// newFile returns a File that anybody may place.
func newFile(content string) File {
	return File{
		ID: "f-1", Name: "app.conf", TargetDir: "/srv",
		Content: []byte(content), SHA256: sha256.Sum256([]byte(content)),
		Owner: strconv.Itoa(os.Getuid()), Group: strconv.Itoa(os.Getgid()), Mode: 0o644,
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: it changes owners or mounts")
	}
}

// snapshot describes every file below dir.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	tree := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		uid, gid := ownerOf(info)
		what := fmt.Sprintf("%v %d:%d", info.Mode(), uid, gid)
		switch info.Mode().Type() {
		case 0:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %x", sha256.Sum256(b))
		case fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what += " " + link
		}
		rel, err := filepath.Rel(dir, path)
		tree[rel] = what
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func checkSame(t testing.TB, dir string, before map[string]string) {
	t.Helper()
	after := snapshot(t, dir)
	for path, what := range before {
		if after[path] != what {
			t.Errorf("%s was %q, is %q", path, what, after[path])
		}
	}
	for path, what := range after {
		if _, ok := before[path]; !ok {
			t.Errorf("%s was made: %s", path, what)
		}
	}
}

func checkNoTemp(t testing.TB, dir string) {
	t.Helper()
	for path := range snapshot(t, dir) {
		if ours, _ := filepath.Match(tempName("*"), filepath.Base(path)); ours {
			t.Errorf("temporary left: %s", path)
		}
	}
}

// checkPlaced compares the file at path with f.
func checkPlaced(t testing.TB, path string, f File) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Error(err)
		return
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	if !bytes.Equal(b, f.Content) {
		t.Errorf("%s has %d bytes, not the %d placed", path, len(b), len(f.Content))
	}
	if info.Mode() != f.Mode {
		t.Errorf("%s has mode %v, want %v", path, info.Mode(), f.Mode)
	}
	own, err := resolve(&f)
	if err != nil {
		t.Error(err)
	}
	if has := ownershipOf(info); has != own {
		t.Errorf("%s has %v, want %v", path, has, own)
	}
}

func write(t testing.TB, path, content string, mode fs.FileMode) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func symlink(t testing.TB, target, path string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	content := func(b []byte) func(*File) {
		return func(f *File) { f.Content, f.SHA256 = b, sha256.Sum256(b) }
	}
	mode := func(bits uint32) func(*File) {
		return func(f *File) { f.Mode = waybill.ModeFromBits(bits) }
	}
	for _, c := range []struct {
		name  string
		root  bool // needs root
		prep  func(t *testing.T, root string)
		file  func(*File)
		where string // default: srv/app.conf
	}{
		{name: "new file in a new directory"},
		{name: "empty", file: content(nil)},
		{name: "5 MB", file: content(bytes.Repeat([]byte("waybill\n"), 5<<20/8))},
		{
			name: "nested new directories", where: "a/b/c/d/app.conf",
			file: func(f *File) { f.TargetDir = "//a/./b//c/d/" },
		},
		{name: "root directory", where: "app.conf", file: func(f *File) { f.TargetDir = "/" }},
		{
			name: "255 bytes", where: "srv/" + strings.Repeat("n", 255),
			file: func(f *File) { f.Name = strings.Repeat("n", 255) },
		},
		{
			name: "CJK", where: "数据/" + strings.Repeat("配", 85),
			file: func(f *File) { f.TargetDir, f.Name = "/数据", strings.Repeat("配", 85) },
		},
		{name: "blanks", where: "a b/ c ", file: func(f *File) { f.TargetDir, f.Name = "/a b", " c " }},
		{
			name: "replaces another file",
			prep: func(t *testing.T, root string) { write(t, root+"/srv/app.conf", "old", 0o777) },
			file: func(f *File) { f.Overwrite = true },
		},
		{name: "overwrite without another file", file: func(f *File) { f.Overwrite = true }},
		{
			name: "replaces a link, not what it leads to",
			prep: func(t *testing.T, root string) { symlink(t, "../outside/victim", root+"/srv/app.conf") },
			file: func(f *File) { f.Overwrite = true },
		},
		{
			name: "replaces a dangling link",
			prep: func(t *testing.T, root string) { symlink(t, "nowhere", root+"/srv/app.conf") },
			file: func(f *File) { f.Overwrite = true },
		},
		{
			name: "a leftover temporary is removed",
			prep: func(t *testing.T, root string) { write(t, root+"/srv/.waybill-f-1.tmp", "half", 0o600) },
		},
		{
			name: "a link planted as temporary is removed",
			prep: func(t *testing.T, root string) { symlink(t, "../outside/victim", root+"/srv/.waybill-f-1.tmp") },
		},
		{
			name: "relative link to a directory inside", where: "real/app.conf",
			prep: func(t *testing.T, root string) {
				mkdir(t, root+"/real")
				symlink(t, "x/../../real/.", root+"/l/srv")
				mkdir(t, root+"/l/x")
			},
			file: func(f *File) { f.TargetDir = "/l/srv" },
		},
		{
			name: "absolute link is one below the root", where: "real/new/app.conf",
			prep: func(t *testing.T, root string) { mkdir(t, root+"/real"); symlink(t, "/real", root+"/srv") },
			file: func(f *File) { f.TargetDir = "/srv/new" },
		},
		{
			name: "link to a link", where: "real/app.conf",
			prep: func(t *testing.T, root string) {
				mkdir(t, root+"/real")
				symlink(t, "/srv2", root+"/srv")
				symlink(t, "real", root+"/srv2")
			},
		},
		{name: "mode 0000", root: true, file: mode(0)},
		{name: "mode 0200", root: true, file: mode(0o200)},
		{name: "mode 0777", file: mode(0o777)},
		{name: "sticky", root: true, file: mode(0o1644)},
		{name: "setuid", file: mode(0o4755)},
		{name: "setgid", file: mode(0o2755)},
		{name: "all bits of another user", root: true, file: func(f *File) {
			f.Mode, f.Owner, f.Group = waybill.ModeFromBits(0o7777), "12345", "54321"
		}},
		{name: "numeric owner without an account", root: true, file: func(f *File) {
			f.Owner, f.Group = "4294967294", "4294967294"
		}},
		{name: "named owner", root: true, file: func(f *File) {
			f.Owner, f.Group = "nobody", "daemon"
		}},
		{
			name: "owner and mode of the old file do not matter", root: true,
			prep: func(t *testing.T, root string) {
				write(t, root+"/srv/app.conf", "old", 0o777)
				if err := os.Lchown(root+"/srv/app.conf", 77, 77); err != nil {
					t.Fatal(err)
				}
			},
			file: func(f *File) { f.Overwrite, f.Owner, f.Group = true, "root", "0" },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.root {
				needRoot(t)
			}
			top := t.TempDir()
			root := top + "/root"
			mkdir(t, root)
			write(t, top+"/outside/victim", "victim", 0o600)
			if c.prep != nil {
				c.prep(t, root)
			}
			before := snapshot(t, top)
			f := newFile("new content")
			var token Token
			f.Intent = func(got Token) error { token = got; return nil }
			if c.file != nil {
				c.file(&f)
			}
			res, err := newPlacer(t, Config{Root: root}).Place(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			where := c.where
			if where == "" {
				where = "srv/app.conf"
			}
			path := filepath.Join(root, where)
			checkPlaced(t, path, f)
			change := waybill.Created
			if before[filepath.Join("root", where)] != "" {
				change = waybill.Replaced
			}
			if want := (Result{Path: path, SHA256: f.SHA256, Size: int64(len(f.Content)), Change: change}); res != want {
				t.Errorf("result %+v, want %+v", res, want)
			}
			info, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if token != identity(info) {
				t.Errorf("token %v, but the file is %v", token, identity(info))
			}
			// Nothing else may have changed, but for new directories on the way.
			delete(before, "root/"+where)
			delete(before, "root/srv/.waybill-f-1.tmp")
			after := snapshot(t, top)
			delete(after, "root/"+where)
			for dir := filepath.Dir("root/" + where); dir != "root"; dir = filepath.Dir(dir) {
				if _, ok := before[dir]; !ok {
					if !strings.HasPrefix(after[dir], "drwxr-xr-x") {
						t.Errorf("new directory %s is %s", dir, after[dir])
					}
					delete(after, dir)
				}
			}
			if !maps.Equal(before, after) {
				t.Errorf("before %v\nafter %v", before, after)
			}
		})
	}
}

func TestPlaceRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		prep   func(t *testing.T, root string)
		allow  []string
		file   func(*File)
		reason Reason
		step   Step
		detail string // part of the error's text
	}{
		{
			name: "ID", file: func(f *File) { f.ID = "../x" },
			reason: NameInvalid, step: StepValidate, detail: "delivery ID",
		},
		{
			name: "dotdot as name", file: func(f *File) { f.Name = ".." },
			reason: NameInvalid, step: StepValidate, detail: "names a directory",
		},
		{
			name: "name climbs", file: func(f *File) { f.Name = "../../outside/x" },
			reason: NameInvalid, step: StepValidate, detail: "slash",
		},
		{
			name: "NUL in name", file: func(f *File) { f.Name = "a\x00b" },
			reason: NameInvalid, step: StepValidate, detail: "control character",
		},
		{
			name: "256 bytes", file: func(f *File) { f.Name = strings.Repeat("n", 256) },
			reason: NameInvalid, step: StepValidate, detail: "256 bytes",
		},
		{
			name: "86 CJK characters", file: func(f *File) { f.Name = strings.Repeat("配", 86) },
			reason: NameInvalid, step: StepValidate, detail: "258 bytes",
		},
		{
			name: "name of a temporary", file: func(f *File) { f.Name = tempName("f-1") },
			reason: NameInvalid, step: StepValidate, detail: "agent's own",
		},
		{
			name: "dotdot in directory", file: func(f *File) { f.TargetDir = "/srv/../../outside" },
			reason: PathInvalid, step: StepValidate, detail: `".." element`,
		},
		{
			name: "relative directory", file: func(f *File) { f.TargetDir = "srv" },
			reason: PathInvalid, step: StepValidate, detail: "not absolute",
		},
		{
			name: "directory of another system", file: func(f *File) { f.TargetDir = `C:\srv` },
			reason: PathInvalid, step: StepValidate, detail: "not absolute on this system",
		},
		{
			name: "NUL in directory", file: func(f *File) { f.TargetDir = "/srv\x00" },
			reason: PathInvalid, step: StepValidate, detail: "control character",
		},
		{
			name: "content", file: func(f *File) { f.Content = []byte("other") },
			reason: ContentInvalid, step: StepContent, detail: "SHA-256",
		},
		{
			name: "owner", file: func(f *File) { f.Owner = "nobody-of-that-name" },
			reason: OwnerMissing, step: StepResolve, detail: `user "nobody-of-that-name" does not exist; create the user`,
		},
		{
			name: "group", file: func(f *File) { f.Group = "nobody-of-that-name" },
			reason: GroupMissing, step: StepResolve, detail: `group "nobody-of-that-name" does not exist; create the group`,
		},
		{name: "no owner", file: func(f *File) { f.Owner = "" }, reason: OwnerMissing, step: StepResolve},
		{name: "owner -1", file: func(f *File) { f.Owner = "-1" }, reason: OwnerMissing, step: StepResolve},
		{name: "owner 2^32-1", file: func(f *File) { f.Owner = "4294967295" }, reason: OwnerMissing, step: StepResolve},
		{name: "group 2^32", file: func(f *File) { f.Group = "4294967296" }, reason: GroupMissing, step: StepResolve},
		{
			name: "mode of a directory", file: func(f *File) { f.Mode |= fs.ModeDir },
			reason: ModeInapplicable, step: StepResolve, detail: "run the agent as root",
		},
		{
			name:   "directory is a file",
			prep:   func(t *testing.T, root string) { write(t, root+"/srv", "file", 0o644) },
			reason: PathInvalid, step: StepOpen, detail: "(ENOTDIR)",
		},
		{
			name: "directory passes through a file", file: func(f *File) { f.TargetDir = "/srv/file/x" },
			prep:   func(t *testing.T, root string) { write(t, root+"/srv/file", "file", 0o644) },
			reason: PathInvalid, step: StepOpen, detail: "not a directory",
		},
		{
			name: "element of 256 bytes", file: func(f *File) { f.TargetDir = "/" + strings.Repeat("目", 86) },
			reason: PathInvalid, step: StepOpen, detail: "(ENAMETOOLONG)",
		},
		{
			name:   "link out of the root",
			prep:   func(t *testing.T, root string) { symlink(t, "../outside", root+"/srv") },
			reason: PathInvalid, step: StepOpen, detail: "out of the root",
		},
		{
			name: "absolute link to outside", file: func(f *File) { f.TargetDir = "/srv/x" },
			prep:   func(t *testing.T, root string) { symlink(t, filepath.Dir(root)+"/outside", root+"/srv") },
			reason: PathInvalid, step: StepOpen, detail: "does not exist",
		},
		{
			name:   "dangling link",
			prep:   func(t *testing.T, root string) { symlink(t, "missing/dir", root+"/srv") },
			reason: PathInvalid, step: StepOpen, detail: "does not exist",
		},
		{
			name:   "link to itself",
			prep:   func(t *testing.T, root string) { symlink(t, "srv", root+"/srv") },
			reason: PathInvalid, step: StepOpen, detail: "(ELOOP)",
		},
		{
			name: "not allowed", allow: []string{"/opt"},
			reason: PathInvalid, step: StepOpen, detail: "outside those",
		},
		{
			name: "above the allowed", allow: []string{"/srv/app"},
			reason: PathInvalid, step: StepOpen, detail: "outside those",
		},
		{
			name: "link out of the allowed", allow: []string{"/srv"}, file: func(f *File) { f.TargetDir = "/srv/x" },
			prep:   func(t *testing.T, root string) { mkdir(t, root+"/etc"); symlink(t, "../etc", root+"/srv/x") },
			reason: PathInvalid, step: StepOpen, detail: "outside those",
		},
		{
			name:   "exists",
			prep:   func(t *testing.T, root string) { write(t, root+"/srv/app.conf", "old", 0o600) },
			reason: Exists, step: StepOpen, detail: "pass --overwrite",
		},
		{
			name:   "dangling link exists",
			prep:   func(t *testing.T, root string) { symlink(t, "nowhere", root+"/srv/app.conf") },
			reason: Exists, step: StepOpen,
		},
		{
			name:   "name is a directory",
			prep:   func(t *testing.T, root string) { mkdir(t, root+"/srv/app.conf") },
			reason: WriteFailed, step: StepOpen, detail: "a directory of that name",
		},
		{
			name: "name is a directory, overwriting", file: func(f *File) { f.Overwrite = true },
			prep:   func(t *testing.T, root string) { mkdir(t, root+"/srv/app.conf") },
			reason: WriteFailed, step: StepOpen, detail: "a directory of that name",
		},
		{
			name: "name is a pipe", file: func(f *File) { f.Overwrite = true },
			prep: func(t *testing.T, root string) {
				mkdir(t, root+"/srv")
				if err := syscall.Mkfifo(root+"/srv/app.conf", 0o600); err != nil {
					t.Fatal(err)
				}
			},
			reason: WriteFailed, step: StepOpen, detail: "a device, pipe or socket",
		},
		{
			name: "a full directory as temporary",
			prep: func(t *testing.T, root string) { mkdir(t, root+"/srv/.waybill-f-1.tmp/full") },

			reason: WriteFailed, step: StepCreate,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			root := top + "/root"
			mkdir(t, root)
			mkdir(t, top+"/outside")
			if c.prep != nil {
				c.prep(t, root)
			}
			before := snapshot(t, top)
			var at Step
			f := newFile("new content")
			f.Intent = func(Token) error { t.Error("Intent called"); return nil }
			f.Before = func() error { t.Error("Before called"); return nil }
			if c.file != nil {
				c.file(&f)
			}
			p := newPlacer(t, Config{Root: root, AllowDirs: c.allow, Trace: func(s Step, _ string) { at = s }})
			if c.step != StepCreate { // all that can be known without trying
				checkForeseen(t, p, f, c.reason)
				checkSame(t, top, before)
			}
			_, err := p.Place(t.Context(), f)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Reason != c.reason || e.Step != c.step || at != c.step {
				t.Fatalf("got %#v at %s, want %s at %s", err, at, c.reason, c.step)
			}
			if !strings.Contains(e.Error(), c.detail) || !strings.Contains(e.Error(), root) {
				t.Errorf("error %q does not say %q and the path", e, c.detail)
			}
			checkSame(t, top, before)
		})
	}
}

// Links in an allowed directory are resolved when the agent starts; afterwards only the place they led to is allowed.
func TestAllowDirs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	mkdir(t, root+"/run/app")
	mkdir(t, root+"/etc")
	symlink(t, "/run", root+"/var")
	p := newPlacer(t, Config{Root: root, AllowDirs: []string{"/var/app", "/opt/new/one"}})
	place := func(id, dir string) error {
		f := newFile(id)
		f.ID, f.TargetDir = id, dir
		_, err := p.Place(t.Context(), f)
		return err
	}
	if err := place("a", "/var/app"); err != nil {
		t.Error(err)
	}
	if err := place("b", "/run/app/deeper"); err != nil {
		t.Error(err)
	}
	if err := place("c", "/opt/new/one/two"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(root + "/var"); err != nil {
		t.Fatal(err)
	}
	mkdir(t, root+"/etc/app")
	symlink(t, "/etc", root+"/var")
	if e, ok := errors.AsType[*Error](place("d", "/var/app")); !ok || e.Reason != PathInvalid {
		t.Errorf("after the link was moved: %v", e)
	}
	for _, dir := range []string{"relative", "/a/../b", `C:\x`, ""} {
		if _, err := New(Config{Root: root, AllowDirs: []string{dir}}); err == nil {
			t.Errorf("allowed directory %q was accepted", dir)
		}
	}
	if _, err := New(Config{Root: root + "/missing"}); err == nil {
		t.Error("a missing root was accepted")
	}
}

// TestRootReplaced shows that nothing is placed in a directory that is not the one that New was given.
func TestRootReplaced(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "root")
	mkdir(t, root)
	p := newPlacer(t, Config{Root: root})
	if err := os.Rename(root, root+".old"); err != nil {
		t.Fatal(err)
	}
	f := newFile("content")
	if _, err := p.Place(t.Context(), f); !errors.Is(err, errNoRoot) {
		t.Errorf("without the root: %v", err)
	}
	mkdir(t, root)
	if _, err := p.Place(t.Context(), f); !errors.Is(err, errNoRoot) {
		t.Errorf("in another's place: %v", err)
	}
	if err := os.Remove(root); err != nil {
		t.Errorf("something was placed: %v", err)
	}
	if err := os.Rename(root+".old", root); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Place(t.Context(), f); err != nil {
		t.Errorf("back in place: %v", err)
	}
}

// Without a Root, paths are those of the system.
func TestSystemRoot(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := newFile("content")
	f.TargetDir = dir + "/sub"
	res, err := newPlacer(t, Config{AllowDirs: []string{dir}}).Place(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if res.Path != dir+"/sub/app.conf" {
		t.Errorf("path %s", res.Path)
	}
	checkPlaced(t, res.Path, f)
}

var errOwn = errors.New("the caller's own")

// steps are those that Trace sees of a placement that finds nothing, without Overwrite.
func steps() []Step {
	return []Step{
		StepValidate, StepContent, StepResolve, StepOpen, StepCompare, StepCreate, StepWrite, StepChown, StepChmod,
		StepSync, StepPublish, StepUnlink, StepSyncDir, StepVerify,
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	for overwrite, want := range map[bool][]Step{
		false: steps(),
		true:  slices.DeleteFunc(steps(), func(s Step) bool { return s == StepUnlink }),
	} {
		var got []Step
		f := newFile("content")
		f.Overwrite = overwrite
		f.Intent = func(Token) error { got = append(got, "intent"); return nil }
		f.Before = func() error { got = append(got, "before"); return nil }
		p := newPlacer(t, Config{Root: t.TempDir(), Trace: func(s Step, id string) { got = append(got, s) }})
		if _, err := p.Place(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		want = slices.Insert(want, slices.Index(want, StepSync)+1, "intent")
		want = slices.Insert(want, slices.Index(want, StepPublish)+1, "before")
		if !slices.Equal(got, want) {
			t.Errorf("overwrite %v: steps %q, want %q", overwrite, got, want)
		}
	}
}

// What the caller stops before publication leaves nothing; what it stops later is finished.
func TestStopped(t *testing.T) {
	t.Parallel()
	for _, overwrite := range []bool{false, true} {
		run := func(name string, published bool, want error, arm func(*File, context.CancelFunc, *Config)) {
			t.Run(fmt.Sprintf("%s, overwrite %v", name, overwrite), func(t *testing.T) {
				t.Parallel()
				root := t.TempDir()
				if overwrite {
					write(t, root+"/srv/new/app.conf", "old", 0o600)
				}
				before := snapshot(t, root)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				f := newFile("content")
				f.TargetDir, f.Overwrite = "/srv/new", overwrite
				cfg := Config{Root: root}
				arm(&f, cancel, &cfg)
				_, err := newPlacer(t, cfg).Place(ctx, f)
				if published {
					if err != nil {
						t.Fatal(err)
					}
					checkPlaced(t, root+"/srv/new/app.conf", f)
					checkNoTemp(t, root)
					return
				}
				if _, ok := errors.AsType[*Error](err); ok || !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				checkSame(t, root, before)
			})
		}
		run("intent", false, errOwn, func(f *File, _ context.CancelFunc, _ *Config) {
			f.Intent = func(Token) error { return errOwn }
		})
		run("before", false, errOwn, func(f *File, _ context.CancelFunc, _ *Config) {
			f.Before = func() error { return errOwn }
		})
		for i, step := range steps() {
			if step == StepUnlink && overwrite {
				continue
			}
			published := i > slices.Index(steps(), StepPublish)
			run("cancel at "+string(step), published, context.Canceled,
				func(_ *File, cancel context.CancelFunc, cfg *Config) {
					cfg.Trace = func(s Step, _ string) {
						if s == step {
							cancel()
						}
					}
				})
		}
	}
}

// A panic takes back what is not published, like an error.
func TestPanic(t *testing.T) {
	t.Parallel()
	for i, step := range steps() {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			mkdir(t, root+"/srv")
			before := snapshot(t, root)
			p := newPlacer(t, Config{Root: root, Trace: func(s Step, _ string) {
				if s == step {
					panic(errOwn)
				}
			}})
			f := newFile("content")
			f.TargetDir = "/srv/a/b"
			func() {
				defer func() {
					if r := recover(); r != errOwn {
						t.Errorf("recovered %v", r)
					}
				}()
				_, err := p.Place(t.Context(), f)
				t.Errorf("no panic: %v", err)
			}()
			if i <= slices.Index(steps(), StepPublish) {
				checkSame(t, root, before)
			} else {
				checkPlaced(t, root+"/srv/a/b/app.conf", f)
				checkNoTemp(t, root)
			}
		})
	}
}

// Nobody but the agent can read the temporary before it has its final owner and mode; nothing has the final name before
// it is published.
func TestTemporaryIsPrivate(t *testing.T) {
	t.Parallel()
	for _, overwrite := range []bool{false, true} {
		root := t.TempDir()
		f := newFile("content")
		f.Mode, f.Overwrite = waybill.ModeFromBits(0o6777), overwrite
		if os.Getuid() == 0 {
			f.Owner, f.Group = "12345", "12345"
		}
		want := map[Step]fs.FileMode{
			StepWrite: 0o600, StepChown: 0o600, StepChmod: 0o600, StepSync: f.Mode, StepPublish: f.Mode,
		}
		p := newPlacer(t, Config{Root: root, Trace: func(s Step, _ string) {
			mode, ok := want[s]
			if !ok {
				return
			}
			delete(want, s)
			checkMode(t, root+"/srv/"+tempName(f.ID), mode)
			if _, err := os.Lstat(root + "/srv/app.conf"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("at %s, the final name is taken: %v", s, err)
			}
		}})
		if _, err := p.Place(t.Context(), f); err != nil || len(want) != 0 {
			t.Errorf("%v, not seen: %v", err, want)
		}
	}
}

// What must be durable is synced: each handle that is closed beforehand makes a step fail.
func TestSynced(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		step  Step
		close func(w *work) error
	}{
		{"the file", StepSync, func(w *work) error { return w.tmp.Close() }},
		{"its directory", StepSyncDir, func(w *work) error { return w.dir.chain[3].Close() }},
		{"the directory of a new directory", StepSyncDir, func(w *work) error { return w.dir.chain[2].Close() }},
		{"the first of these", StepSyncDir, func(w *work) error { return w.dir.chain[1].Close() }},
		{"no directory that was there", "", func(w *work) error { return w.dir.chain[0].Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			mkdir(t, root+"/srv")
			f := newFile("content")
			f.TargetDir = "/srv/new/newer"
			w := newWork(newPlacer(t, Config{Root: root}), f)
			defer w.end()
			ctx := t.Context()
			for _, do := range []func() error{
				func() error { return w.validate(ctx) }, w.resolve, w.open, w.create, w.write, func() error { return c.close(w) },
			} {
				if err := do(); err != nil {
					t.Fatal(err)
				}
			}
			for step, do := range map[Step]func() error{StepSync: w.sync, StepSyncDir: w.syncDir} {
				if err := do(); (err != nil) != (step == c.step) || err != nil && !errors.Is(err, os.ErrClosed) {
					t.Errorf("%s: %v", step, err)
				}
			}
		})
	}
}

func checkMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Error(err)
	} else if info.Mode() != want {
		t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
	}
}

func TestHints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  Error
		want string
	}{
		{
			"no space",
			Error{StepWrite, "/srv/x", WriteFailed, &fs.PathError{Op: "write", Path: "t", Err: syscall.ENOSPC}},
			`"/srv/x": no space left on device (ENOSPC); free some space there, or choose another directory`,
		},
		{
			"read-only",
			Error{StepCreate, "/srv/x", WriteFailed, os.NewSyscallError("link", &os.LinkError{Op: "link", Err: syscall.EROFS})},
			`"/srv/x": read-only file system (EROFS); mount the file system for writing, or choose another directory`,
		},
		{
			"wrapped",
			Error{StepSyncDir, "/srv/x", WriteFailed, fmt.Errorf("not safe: %w", syscall.EIO)},
			`"/srv/x": not safe: input/output error (EIO); check the disk`,
		},
		{
			"permission",
			Error{StepOpen, "/srv", WriteFailed, syscall.EACCES},
			`"/srv": permission denied (EACCES); run the agent as root, or let its user write there`,
		},
		{
			"no hint",
			Error{StepContent, "/srv/x", ContentInvalid, errOwn},
			`"/srv/x": the caller's own`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := c.err.Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// A directory that is not empty was not made by the agent, whatever it looks like, and keeps its mode.
func TestWiden(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		full bool
		want fs.FileMode
	}{{"empty", false, 0o755}, {"not empty", true, 0o700}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if c.full {
				write(t, dir+"/theirs", "secret", 0o644)
			}
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := widen(root); err != nil {
				t.Fatal(err)
			}
			checkMode(t, dir, c.want|fs.ModeDir)
		})
	}
}
