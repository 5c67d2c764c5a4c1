// SPDX-License-Identifier: Apache-2.0

package lockfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Shared holds any number of locks with one open file: it is at all their paths, by hard links, and a lock belongs to the
// file. So to others each of these locks is held as if TryLock had taken it. On Windows each takes a file after all.
//
// Its methods may be called concurrently.
type Shared struct {
	path string
	file *os.File

	mu   sync.Mutex
	held map[string]bool // by path
}

// Share takes the lock at path, on the file system of all that it is to hold, or returns ErrLocked at once.
func Share(path string) (*Shared, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := lock(f, true); err != nil {
		f.Close()
		return nil, err
	}
	return &Shared{path: path, file: f, held: map[string]bool{}}, nil
}

// Close lets go of all locks.
func (s *Shared) Close() error { return s.file.Close() }

// TryLock takes the lock at path, or returns ErrLocked at once. Whoever took one may not take it again.
func (s *Shared) TryLock(path string) (unlock func(), err error) {
	if !linkLocks {
		return TryLock(path)
	}
	if path, err = plain(path); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[path] {
		return nil, ErrLocked
	}
	if !standsAt(s.file, path) { // else an earlier process, which was killed, left it there
		if err := s.link(path); err != nil {
			return nil, err
		}
	}
	s.held[path] = true
	return func() { s.unlock(path) }, nil
}

// plain returns the one path by which a lock is known here, however its directory is named.
func plain(path string) (string, error) {
	dir, err := filepath.Abs(filepath.Dir(path))
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	return filepath.Join(dir, filepath.Base(path)), err
}

// link puts the file at path. Whatever is there is locked until then: who has that lock keeps it.
func (s *Shared) link(path string) error {
	unlock, err := TryLock(path)
	if err != nil {
		return err
	}
	defer unlock()
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("lock: %w", err)
	}
	if err := os.Link(s.path, temp); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}

// unlock takes the file away from path. If that fails, the lock is held until Close.
func (s *Shared) unlock(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if os.Remove(path) == nil {
		delete(s.held, path)
	}
}
