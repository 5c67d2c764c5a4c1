// SPDX-License-Identifier: Apache-2.0

package lockfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestShared(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(n int) string { return filepath.Join(dir, fmt.Sprint("lock", n)) }
	before, err := TryLock(path(0)) // an agent that runs by itself
	if err != nil {
		t.Fatal(err)
	}
	s, err := Share(filepath.Join(dir, "all"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Share(filepath.Join(dir, "all")); !errors.Is(err, ErrLocked) {
		t.Errorf("shared twice: %v", err)
	}
	if _, err := s.TryLock(path(0)); !errors.Is(err, ErrLocked) {
		t.Errorf("what another holds: %v", err)
	}
	before()
	var unlock [3]func()
	for n := range unlock {
		if unlock[n], err = s.TryLock(path(n)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range unlock {
		if held, err := Held(path(n)); !held || err != nil {
			t.Errorf("lock %d: held %v, %v", n, held, err)
		}
		if _, err := TryLock(path(n)); !errors.Is(err, ErrLocked) {
			t.Errorf("lock %d taken by another: %v", n, err)
		}
		if _, err := s.TryLock(path(n)); !errors.Is(err, ErrLocked) {
			t.Errorf("lock %d taken again: %v", n, err)
		}
	}
	if err := os.Symlink(dir, filepath.Join(dir, "alias")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.TryLock(filepath.Join(dir, "alias", "lock1")); !errors.Is(err, ErrLocked) {
		t.Errorf("taken again under another name of its directory: %v", err)
	}
	unlock[0]()
	free, err := TryLock(path(0))
	if err != nil {
		t.Fatalf("after it was freed: %v", err)
	}
	free()

	// The end of a process frees all and leaves the links: others may have them, and so may its next life.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	alone, err := TryLock(path(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Share(filepath.Join(dir, "all")); !errors.Is(err, ErrLocked) {
		t.Errorf("shared while another holds a part of it: %v", err)
	}
	alone()
	again, err := Share(filepath.Join(dir, "all"))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for n := range unlock {
		if unlock[n], err = again.TryLock(path(n)); err != nil {
			t.Errorf("lock %d in another life: %v", n, err)
		}
	}
	if _, err := again.TryLock(filepath.Join(dir, "no", "lock")); err == nil {
		t.Error("locked what cannot be")
	}
}

// TestReplaced shows that a lock counts only where it stands.
func TestReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !standsAt(f, path) {
		t.Error("not where it is")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if standsAt(f, path) {
		t.Error("stands where nothing is")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if standsAt(f, path) {
		t.Error("stands where another is")
	}
}
