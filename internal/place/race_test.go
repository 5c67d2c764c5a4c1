// SPDX-License-Identifier: Apache-2.0

//go:build unix

package place

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// interfere places a file and calls do right before a step.
func interfere(t *testing.T, f File, step Step, do func(dir string)) (root string, _ Result, _ error) {
	t.Helper()
	root = t.TempDir()
	p := newPlacer(t, Config{Root: root, Trace: func(s Step, _ string) {
		if s == step {
			do(root + f.TargetDir)
		}
	}})
	res, err := p.Place(t.Context(), f)
	checkNoTemp(t, root)
	return root, res, err
}

// Third parties that work in the same directory at the same time.
func TestInterference(t *testing.T) {
	t.Parallel()
	replace := func(content string, mode fs.FileMode) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			write(t, dir+"/other", content, mode)
			if err := os.Rename(dir+"/other", dir+"/app.conf"); err != nil {
				t.Error(err)
			}
		}
	}
	remove := func(t *testing.T, dir string) {
		if err := os.Remove(dir + "/app.conf"); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		name   string
		step   Step
		do     func(t *testing.T, dir string)
		reason Reason // empty: success
		detail string
	}{
		{
			name: "replaced by other content", step: StepVerify, do: replace("theirs", 0o644),
			reason: WriteFailed, detail: "another process has replaced",
		},
		{
			name: "replaced with another mode", step: StepSyncDir, do: replace("ours", 0o600),
			reason: WriteFailed, detail: "another process has replaced",
		},
		{name: "replaced by the same", step: StepVerify, do: replace("ours", 0o644)},
		{name: "removed", step: StepVerify, do: remove, reason: WriteFailed, detail: "another process has replaced"},
		{
			name: "replaced by a pipe", step: StepVerify, reason: WriteFailed, detail: "another process has replaced",
			do: func(t *testing.T, dir string) {
				remove(t, dir)
				if err := syscall.Mkfifo(dir+"/app.conf", 0o644); err != nil {
					t.Error(err)
				}
			},
		},
		{
			name: "replaced by a link to the same", step: StepVerify,
			reason: WriteFailed, detail: "another process has replaced",
			do: func(t *testing.T, dir string) {
				if err := os.Rename(dir+"/app.conf", dir+"/moved"); err != nil {
					t.Error(err)
				}
				symlink(t, "moved", dir+"/app.conf")
			},
		},
		{
			name: "changed in place", step: StepVerify, reason: WriteFailed, detail: "reading it again",
			do: func(t *testing.T, dir string) { write(t, dir+"/app.conf", "theirs", 0o644) },
		},
		{
			name: "mode changed in place", step: StepVerify, reason: WriteFailed, detail: "mode 0600",
			do: func(t *testing.T, dir string) {
				if err := os.Chmod(dir+"/app.conf", 0o600); err != nil {
					t.Error(err)
				}
			},
		},
		{
			name: "temporary replaced", step: StepPublish, reason: WriteFailed, detail: "replaced the temporary",
			do: func(t *testing.T, dir string) {
				write(t, dir+"/other", "half", 0o644)
				if err := os.Rename(dir+"/other", dir+"/"+tempName("f-1")); err != nil {
					t.Error(err)
				}
			},
		},
		{
			name: "temporary removed", step: StepPublish, reason: WriteFailed, detail: "(ENOENT)",
			do: func(t *testing.T, dir string) {
				if err := os.Remove(dir + "/" + tempName("f-1")); err != nil {
					t.Error(err)
				}
			},
		},
		{name: "file appears", step: StepPublish, do: replace("theirs", 0o644), reason: Exists},
		{
			name: "directory appears", step: StepPublish, reason: WriteFailed, detail: "a directory of that name",
			do: func(t *testing.T, dir string) { mkdir(t, dir+"/app.conf") },
		},
		{
			name: "new directory removed", step: StepCreate,
			do: func(t *testing.T, dir string) {
				if err := os.Remove(dir); err != nil {
					t.Error(err)
				}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFile("ours")
			root, _, err := interfere(t, f, c.step, func(dir string) { c.do(t, dir) })
			if c.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				checkPlaced(t, root+"/srv/app.conf", f)
				return
			}
			if e, ok := errors.AsType[*Error](err); !ok || e.Reason != c.reason || !strings.Contains(e.Error(), c.detail) {
				t.Errorf("got %v, want %s with %q", err, c.reason, c.detail)
			}
		})
	}
}

// Each Placer stands for a process of its own: they share nothing but the disk.
func TestExclusiveRace(t *testing.T) {
	t.Parallel()
	const callers = 32
	for _, c := range []struct {
		name   string
		shared bool
	}{{"one placer", true}, {"a placer each", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			// All are held before publication until all are there; but within one Placer only one at a time gets so far.
			var arrived sync.WaitGroup
			arrived.Add(callers)
			trace := func(s Step, _ string) {
				if s == StepPublish {
					arrived.Done()
					arrived.Wait()
				}
			}
			shared := newPlacer(t, Config{Root: root, Trace: trace})
			errs := make([]error, callers)
			var wg sync.WaitGroup
			for i := range callers {
				p := shared
				if !c.shared {
					p = newPlacer(t, Config{Root: root, Trace: trace})
				}
				wg.Go(func() {
					f := newFile(fmt.Sprint("content of ", i))
					f.ID, f.TargetDir = fmt.Sprint("f-", i), "/srv/new"
					_, errs[i] = p.Place(t.Context(), f)
				})
			}
			wg.Wait()
			winner := -1
			for i, err := range errs {
				e, _ := errors.AsType[*Error](err)
				switch {
				case err == nil && winner < 0:
					winner = i
				case err == nil:
					t.Errorf("both %d and %d succeeded", winner, i)
				case e == nil || e.Reason != Exists:
					t.Errorf("caller %d: %v", i, err)
				}
			}
			if winner < 0 {
				t.Fatal("nobody succeeded")
			}
			checkPlaced(t, root+"/srv/new/app.conf", newFile(fmt.Sprint("content of ", winner)))
			checkNoTemp(t, root)
		})
	}
}

// Deliveries of different content to one path, and of one ID twice, wait for each other: all succeed.
func TestConcurrentOverwrite(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	p := newPlacer(t, Config{Root: root})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			f := newFile(strings.Repeat(fmt.Sprint(i), 1000))
			f.ID, f.Overwrite = fmt.Sprint("f-", i/2), true
			if _, err := p.Place(t.Context(), f); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	checkNoTemp(t, root)
}

// A call that waits for another with its ID ends with its context.
func TestClaimEnds(t *testing.T) {
	t.Parallel()
	holding, release := make(chan struct{}), make(chan struct{})
	p := newPlacer(t, Config{Root: t.TempDir()})
	f := newFile("content")
	f.Before = func() error { close(holding); <-release; return nil }
	done := make(chan error)
	go func() {
		_, err := p.Place(t.Context(), f)
		done <- err
	}()
	<-holding
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Sweep(ctx, f.TargetDir, f.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for the ID: %v", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A reader sees the old file or the new one, each with its own content, owner and mode, and never nothing.
func TestOverwriteIsAtomic(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	p := newPlacer(t, Config{Root: root})
	version := func(i int) File {
		f := newFile(strings.Repeat(string(rune('a'+i%2)), 100_000*(1+i%2)))
		f.ID, f.Overwrite, f.Mode = fmt.Sprint("f-", i), true, [...]fs.FileMode{0o600, 0o644}[i%2]
		if os.Getuid() == 0 {
			f.Owner = [...]string{"0", "12345"}[i%2]
		}
		return f
	}
	if _, err := p.Place(t.Context(), version(0)); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := whole(root+"/srv/app.conf", version(0), version(1)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 100 {
		if _, err := p.Place(t.Context(), version(i)); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	readers.Wait()
}

// whole opens path once and says how what it opened differs from each of the versions.
func whole(path string, versions ...File) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(f); err != nil {
		return err
	}
	for _, v := range versions {
		own, err := resolve(&v)
		if err != nil {
			return err
		}
		if bytes.Equal(b.Bytes(), v.Content) && ownershipOf(info) == own {
			return nil
		}
	}
	return fmt.Errorf("%d bytes, %v", b.Len(), ownershipOf(info))
}

// Placements that share directories they had to make, and all fail, leave none of them.
func TestMadeDirectories(t *testing.T) {
	t.Parallel()
	for _, oneSucceeds := range []bool{false, true} {
		t.Run(fmt.Sprint("one succeeds: ", oneSucceeds), func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			mkdir(t, root+"/srv")
			before := snapshot(t, root)
			p := newPlacer(t, Config{Root: root})
			for round := range 20 {
				var wg sync.WaitGroup
				for i := range 16 {
					wg.Go(func() {
						f := newFile("content")
						f.ID, f.Name = fmt.Sprintf("f-%d-%d", round, i), fmt.Sprint("file-", i)
						f.TargetDir = "/srv/a/b/" + strings.Repeat("c/", i%3)
						succeed := oneSucceeds && i == 7
						if !succeed {
							f.Before = func() error { return errOwn }
						}
						_, err := p.Place(t.Context(), f)
						if succeed && err != nil || !succeed && !errors.Is(err, errOwn) {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if oneSucceeds {
					want := root + "/srv/a/b/c"
					checkPlaced(t, want+"/file-7", newFile("content"))
					if err := os.RemoveAll(root + "/srv/a"); err != nil {
						t.Fatal(err)
					}
				}
				checkSame(t, root, before)
			}
		})
	}
}
