// SPDX-License-Identifier: Apache-2.0

package lockfile

import (
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
