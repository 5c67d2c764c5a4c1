// SPDX-License-Identifier: Apache-2.0

package place

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openwaybill/waybill"
)

// The tests that need another process run this test binary again. This variable tells it what to do there.
const childEnv = "WAYBILL_PLACE_TEST_CHILD"

func child(t *testing.T, test, task string) *exec.Cmd {
	t.Helper()
	// The link needs no permission on the directories that lead to the binary.
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+task)
	return cmd
}

// mountTmpfs mounts a small file system at a new directory.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	err := unix.Mount("waybill-test", dir, "tmpfs", 0, options)
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs the right to mount")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestBadDisk(t *testing.T) {
	t.Parallel()
	big := bytes.Repeat([]byte("x"), 200_000)
	for _, c := range []struct {
		name      string
		options   string
		readOnly  bool
		content   []byte
		dir       string
		overwrite bool
		step      Step
		detail    string
	}{
		{"full, replacing", "size=64k", false, big, "/srv", true, StepWrite, "(ENOSPC)"},
		{"full, new file", "size=64k", false, big, "/srv/a/b", false, StepWrite, "(ENOSPC)"},
		{"no inode for the temporary", "nr_inodes=3", false, nil, "/srv", true, StepCreate, "(ENOSPC)"},
		{"no inode for the second directory", "nr_inodes=4", false, nil, "/srv/a/b", false, StepOpen, "(ENOSPC)"},
		{"read-only, replacing", "size=64k", true, nil, "/srv", true, StepCreate, "(EROFS)"},
		{"read-only, new directory", "size=64k", true, nil, "/srv/a", false, StepOpen, "(EROFS)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := mountTmpfs(t, c.options)
			write(t, root+"/srv/app.conf", "old", 0o640)
			if c.readOnly {
				if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
					t.Fatal(err)
				}
			}
			before := snapshot(t, root)
			f := newFile(string(c.content))
			f.TargetDir, f.Overwrite = c.dir, c.overwrite
			p := newPlacer(t, Config{Root: root})
			checkForeseen(t, p, f, WriteFailed)
			checkSame(t, root, before)
			_, err := p.Place(t.Context(), f)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Reason != WriteFailed || e.Step != c.step || !strings.Contains(e.Error(), c.detail) {
				t.Errorf("got %v, want %s at %s with %s", err, WriteFailed, c.step, c.detail)
			}
			checkSame(t, root, before)
		})
	}
}

// A disk that is full only by others' files takes the file once there is room: nothing of the first try is in the way.
func TestFullDiskThenRoom(t *testing.T) {
	t.Parallel()
	root := mountTmpfs(t, "size=256k")
	write(t, root+"/filler", strings.Repeat("x", 150_000), 0o600)
	p := newPlacer(t, Config{Root: root})
	f := newFile(strings.Repeat("y", 150_000))
	if e, ok := errors.AsType[*Error](second(p.Place(t.Context(), f))); !ok || e.Reason != WriteFailed {
		t.Fatalf("got %v", e)
	}
	if err := os.Remove(root + "/filler"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Place(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	checkPlaced(t, root+"/srv/app.conf", f)
}

func second(_ Result, err error) error { return err }

// Somebody exchanges a directory on the way with a link to outside, again and again, while files are placed.
func TestSwappedDirectory(t *testing.T) {
	t.Parallel()
	const rounds = 1500
	for _, c := range []struct {
		name  string
		link  func(top string) string
		allow []string
		dir   string
	}{
		{"relative link out of the root", func(string) string { return "../../outside" }, nil, "/srv/a"},
		{"relative link, below it", func(string) string { return "../../outside" }, nil, "/srv/a/b"},
		{"absolute link out of the root", func(top string) string { return top + "/outside" }, nil, "/srv/a/b"},
		{"new directories below it", func(string) string { return "../../outside" }, nil, "/srv/a/new/dir"},
		{"out of the allowed", func(string) string { return "/secret" }, []string{"/srv"}, "/srv/a/b"},
		{"the allowed itself", func(string) string { return "../secret" }, []string{"/srv/a"}, "/srv/a"},
		{"new below the allowed itself", func(string) string { return "secret" }, []string{"/srv/a"}, "/srv/a/new"},
		{"a pipe, which would block", func(string) string { return "" }, nil, "/srv/a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			root := top + "/root"
			mkdir(t, root+"/srv/a/b")
			mkdir(t, root+"/secret/b")
			mkdir(t, root+"/srv/secret/b")
			mkdir(t, top+"/outside/b")
			p := newPlacer(t, Config{Root: root, AllowDirs: c.allow})
			forbidden := map[string]map[string]string{top + "/outside": nil}
			if c.allow != nil {
				forbidden[root+"/secret"], forbidden[root+"/srv/secret"] = nil, nil
			}
			for dir := range forbidden {
				forbidden[dir] = snapshot(t, dir)
			}
			if link := c.link(top); link != "" {
				symlink(t, link, root+"/srv/l")
			} else if err := syscall.Mkfifo(root+"/srv/l", 0o600); err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			var swapper sync.WaitGroup
			swapper.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					a, l := root+"/srv/a", root+"/srv/l"
					if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, l, unix.RENAME_EXCHANGE); err != nil {
						t.Errorf("exchange: %v", err)
						return
					}
				}
			})
			placed := 0
			for i := range rounds {
				f := newFile("content")
				f.ID, f.Name, f.TargetDir, f.Overwrite = fmt.Sprint("f-", i), fmt.Sprint("x", i%3), c.dir, true
				_, err := p.Place(t.Context(), f)
				if e, ok := errors.AsType[*Error](err); ok && e.Reason == PathInvalid {
					continue
				}
				if err != nil {
					t.Error(err)
				}
				placed++
			}
			close(stop)
			swapper.Wait()
			for dir, before := range forbidden {
				checkSame(t, dir, before)
			}
			checkNoTemp(t, top)
			t.Logf("placed %d of %d", placed, rounds)
		})
	}
}

// killTask is what a child does before it kills itself.
type killTask struct {
	Root      string
	Journal   string
	Overwrite bool
	Step      Step // killed before it
}

// stepIntent is a moment of the test: right after the intent was written down.
const stepIntent Step = "intent"

func (k killTask) file() File {
	f := newFile(strings.Repeat("new content\n", 1000))
	f.TargetDir, f.Overwrite, f.Mode = "/srv/new", k.Overwrite, 0o640
	return f
}

func (k killTask) run(t *testing.T) {
	dieBefore := func(s Step) {
		if s != k.Step {
			return
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		select {}
	}
	f := k.file()
	f.Intent = func(token Token) error {
		b, err := json.Marshal(token)
		if err == nil {
			err = os.WriteFile(k.Journal, b, 0o600)
		}
		dieBefore(stepIntent)
		return err
	}
	p := newPlacer(t, Config{Root: k.Root, Trace: func(s Step, _ string) { dieBefore(s) }})
	_, err := p.Place(t.Context(), f)
	t.Errorf("not killed before %s: %v", k.Step, err)
}

// Killed before any step, the file is whole, absent or what it was, and what the next start does about it is right.
func TestKilled(t *testing.T) {
	if task := os.Getenv(childEnv); task != "" {
		var k killTask
		if err := json.Unmarshal([]byte(task), &k); err != nil {
			t.Fatal(err)
		}
		k.run(t)
		return
	}
	t.Parallel()
	all := slices.Insert(steps(), slices.Index(steps(), StepPublish), stepIntent)
	for _, c := range []struct {
		name           string
		overwrite, old bool
	}{
		{"nothing there", false, false},
		{"nothing to overwrite", true, false},
		{"overwriting", true, true},
	} {
		for i, step := range all {
			if step == StepUnlink && c.overwrite {
				continue
			}
			t.Run(c.name+", "+string(step), func(t *testing.T) {
				t.Parallel()
				published := i > slices.Index(all, StepPublish)
				top := t.TempDir()
				k := killTask{Root: top + "/root", Journal: top + "/journal", Overwrite: c.overwrite, Step: step}
				mkdir(t, k.Root)
				path := k.Root + "/srv/new/app.conf"
				if c.old {
					write(t, path, "old", 0o604)
				}
				killed(t, k)

				switch _, err := os.Lstat(path); {
				case published:
					checkPlaced(t, path, k.file())
				case c.old:
					old := newFile("old")
					old.Mode = 0o604
					checkPlaced(t, path, old)
				case !errors.Is(err, fs.ErrNotExist):
					t.Errorf("is there: %v", err)
				}

				p := newPlacer(t, Config{Root: k.Root})
				if i < slices.Index(all, stepIntent) {
					if err := p.Sweep(t.Context(), k.file().TargetDir, k.file().ID); err != nil {
						t.Fatal(err)
					}
				} else {
					want := Unpublished
					if published {
						want = Published
					}
					res, got, err := p.Recover(t.Context(), k.file(), journaled(t, k))
					if err != nil || got != want {
						t.Errorf("recover: %s, %v; want %s", got, err, want)
					}
					if published && (res.SHA256 != k.file().SHA256 || res.Path != path) {
						t.Errorf("recover: %+v", res)
					}
				}
				checkNoTemp(t, top)
				if published {
					checkPlaced(t, path, k.file())
					return
				}
				if _, err := p.Place(t.Context(), k.file()); err != nil {
					t.Fatal(err)
				}
				checkPlaced(t, path, k.file())
			})
		}
	}
}

// killed runs k in a child and waits for its end.
func killed(t *testing.T, k killTask) {
	t.Helper()
	task, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "TestKilled", string(task))
	out, err := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended with %v:\n%s", err, out)
	}
}

func journaled(t *testing.T, k killTask) (token Token) {
	t.Helper()
	b, err := os.ReadFile(k.Journal)
	if err == nil {
		err = json.Unmarshal(b, &token)
	}
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// An agent that is not root: the test runs itself as nobody, in directories prepared for it.
func TestUnprivileged(t *testing.T) {
	const nobody = 65534
	if root := os.Getenv(childEnv); root != "" {
		testUnprivileged(t, root)
		return
	}
	t.Parallel()
	needRoot(t)
	root := t.TempDir()
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []struct {
		name     string
		uid, gid int
		mode     fs.FileMode
	}{
		{"own", nobody, nobody, 0o755},
		{"foreign-group", nobody, 12345, 0o777 | fs.ModeSetgid},
		{"own-group", 0, nobody, 0o777 | fs.ModeSetgid},
		{"foreign", 0, 0, 0o755},
		{"unreadable", 0, 0, 0o711},
	} {
		path := root + "/" + d.name
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chown(path, d.uid, d.gid), os.Chmod(path, d.mode)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := child(t, "TestUnprivileged", root)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestUnprivileged/")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func testUnprivileged(t *testing.T, root string) {
	syscall.Umask(0o077) // of this process only: directories are 0755 all the same
	for _, c := range []struct {
		name   string
		dir    string
		file   func(*File)
		reason Reason // empty: success
		step   Step
		detail string
	}{
		{name: "own numbers", dir: "/own/new/dir"},
		{name: "own names", dir: "/own", file: func(f *File) { f.Owner = "nobody" }},
		{
			name: "root as owner", dir: "/own/new", file: func(f *File) { f.Owner, f.Group = "root", "0" },
			reason: ModeInapplicable, step: StepChown,
			detail: "owner root and group 0: operation not permitted (EPERM); run the agent as root",
		},
		{
			name: "foreign group", dir: "/own/new", file: func(f *File) { f.Group = "12345" },
			reason: ModeInapplicable, step: StepChown, detail: "--group",
		},
		{name: "setgid with the own group", dir: "/own", file: func(f *File) { f.Mode = waybill.ModeFromBits(0o2755) }},
		{name: "setuid", dir: "/own", file: func(f *File) { f.Mode = waybill.ModeFromBits(0o4711) }},
		{
			name: "the directory's group is the one asked for", dir: "/foreign-group",
			file: func(f *File) { f.Group = "12345" },
		},
		{name: "the directory's group is not the one asked for", dir: "/foreign-group"},
		{
			name: "setgid dropped without a word", dir: "/foreign-group",
			file:   func(f *File) { f.Group, f.Mode = "12345", waybill.ModeFromBits(0o2755) },
			reason: ModeInapplicable, step: StepChmod, detail: "mode 0755; run the agent as root",
		},
		{name: "unreadable even for its owner", dir: "/own", file: func(f *File) { f.Mode = 0o200 }},
		{name: "no permissions at all", dir: "/own", file: func(f *File) { f.Mode = 0 }},
		{
			name: "no write permission", dir: "/foreign",
			reason: WriteFailed, step: StepCreate, detail: "(EACCES); run the agent as root",
		},
		{
			name: "no permission to make a directory", dir: "/foreign/new",
			reason: WriteFailed, step: StepOpen, detail: "(EACCES)",
		},
		{name: "no read permission", dir: "/unreadable", reason: WriteFailed, step: StepOpen, detail: "(EACCES)"},
	} {
		t.Run(c.name, func(t *testing.T) { // not parallel: each compares directories that all use
			before := names(t, root)
			f := newFile("content of " + c.name)
			f.Name, f.TargetDir = c.name, c.dir
			if c.file != nil {
				c.file(&f)
			}
			p := newPlacer(t, Config{Root: root})
			checkForeseen(t, p, f, c.reason)
			res, err := p.Place(t.Context(), f)
			if c.reason != "" {
				e, ok := errors.AsType[*Error](err)
				if !ok || e.Reason != c.reason || e.Step != c.step || !strings.Contains(e.Error(), c.detail) {
					t.Errorf("got %v, want %s at %s with %q", err, c.reason, c.step, c.detail)
				}
				if after := names(t, root); !slices.Equal(before, after) {
					t.Errorf("before %v, after %v", before, after)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := (Result{Path: root + c.dir + "/" + c.name, SHA256: f.SHA256, Size: int64(len(f.Content)), Change: waybill.Created}); res != want {
				t.Errorf("got %+v, want %+v", res, want)
			}
			info, err := os.Lstat(res.Path)
			if err != nil {
				t.Fatal(err)
			}
			if own, err := resolve(&f); err != nil || ownershipOf(info) != own {
				t.Errorf("has %v, want %v, %v", ownershipOf(info), own, err)
			}
		})
	}
	checkMode(t, root+"/own/new/dir", 0o755|fs.ModeDir)
	f := newFile("content")
	f.TargetDir = "/own-group/made"
	if _, err := newPlacer(t, Config{Root: root}).Place(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	checkMode(t, root+"/own-group/made", 0o755|fs.ModeDir|fs.ModeSetgid) // as the group, it is inherited
}

// names lists what is below dir, as far as it may be read.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		all = append(all, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
