// SPDX-License-Identifier: Apache-2.0

// Package lockfile lets one process at a time use a directory. The system frees a lock when its process ends, however it
// ends, so there is nothing stale to clean up.
package lockfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// ErrLocked says that another process, or another part of this one, holds the lock.
var ErrLocked = errors.New("locked by another process")

// TryLock takes the lock at path, a file that is made if it is not there and stays, or returns ErrLocked at once.
func TryLock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = lock(f, true)
	if err == nil && !standsAt(f, path) {
		err = ErrLocked // it was replaced or removed since it was opened; whoever did that held it
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// standsAt reports whether f is what path names.
func standsAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(opened, named)
}

// lookEvery is how often Lock looks whether the lock is free: the systems have no wait that can be given up.
const lookEvery = 10 * time.Millisecond

// Lock is TryLock, but waits for a lock that is held until ctx ends; the error is then ErrLocked and that of ctx.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		unlock, err := TryLock(path)
		if !errors.Is(err, ErrLocked) {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}

// Held reports whether the lock at path is taken.
func Held(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at lock: %w", err)
	}
	defer f.Close()
	err = lock(f, false)
	if errors.Is(err, ErrLocked) {
		return true, nil
	}
	return false, err
}
