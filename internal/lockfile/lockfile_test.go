// SPDX-License-Identifier: Apache-2.0

package lockfile

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	held := func(want bool) {
		t.Helper()
		if got, err := Held(path); got != want || err != nil {
			t.Errorf("held: %v, %v; want %v", got, err, want)
		}
	}
	held(false)
	unlock, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	held(true)
	if _, err := TryLock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	unlock()
	held(false)
	if unlock, err = TryLock(path); err != nil {
		t.Errorf("after it was freed: %v", err)
	} else {
		unlock()
	}
	if _, err := TryLock(filepath.Join(path, "no", "directory")); err == nil {
		t.Error("locked what cannot be")
	}
}

func TestLockWaits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Lock(ended, path); !errors.Is(err, ErrLocked) || !errors.Is(err, context.Canceled) {
		t.Errorf("when the wait is over: %v", err)
	}
	type result struct {
		unlock func()
		err    error
	}
	taken := make(chan result, 1)
	go func() {
		unlock, err := Lock(t.Context(), path)
		taken <- result{unlock, err}
	}()
	select {
	case r := <-taken:
		t.Fatalf("taken while it was held: %v", r.err)
	default:
	}
	unlock()
	r := <-taken
	if r.err != nil {
		t.Fatal(r.err)
	}
	if held, err := Held(path); !held || err != nil {
		t.Errorf("after the wait: held %v, %v", held, err)
	}
	r.unlock()
	if _, err := Lock(t.Context(), filepath.Join(path, "no", "directory")); err == nil {
		t.Error("locked what cannot be")
	}
}
