// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/openwaybill/waybill/internal/lockfile"
)

// disk is a directory. The content abcdef… is at ab/cd/abcdef…; what is being written is in incoming.
type disk struct {
	dir    string
	unlock func()
	mu     sync.Mutex // makes of looking at a content and touching, replacing or removing it one step
	trace  func(step) // nil, or told what comes next
}

// step is a moment of a Put, for tests that end the process there.
type step string

const (
	stepSync    step = "sync"
	stepRename  step = "rename"
	stepSyncDir step = "sync directories"
)

const (
	incoming     = "incoming"
	putPrefix    = "put-"
	uploadPrefix = "upload-"
	copyBuffer   = 256 << 10 // bytes
	dirBatch     = 256       // names read at a time
)

func openDisk(dir string) (Store, error) {
	for _, d := range []string{dir, filepath.Join(dir, incoming)} {
		if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("open the directory of large contents: %w", err)
		}
	}
	unlock, err := lockfile.TryLock(filepath.Join(dir, "lock"))
	if errors.Is(err, lockfile.ErrLocked) {
		return nil, fmt.Errorf("the directory %s is used by another process; stop that first, or use s3:// for several servers: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the directory of large contents: %w", err)
	}
	d := &disk{dir: dir, unlock: unlock}
	if err := errors.Join(d.clear(), syncDir(filepath.Dir(dir))); err != nil {
		unlock()
		return nil, fmt.Errorf("open the directory of large contents: %w", err)
	}
	return d, nil
}

// clear removes what processes that have died left unfinished and nobody can go on with.
func (d *disk) clear() error {
	dir := filepath.Join(d.dir, incoming)
	left, err := os.ReadDir(dir)
	for _, e := range left {
		if strings.HasPrefix(e.Name(), putPrefix) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

func (d *disk) Close() error {
	d.unlock()
	return nil
}

func (d *disk) next(s step) {
	if d.trace != nil {
		d.trace(s)
	}
}

// path returns where a content is, and the directories above it that are the store's, the lowest first.
func (d *disk) path(digest [sha256.Size]byte) (path string, dirs [3]string) {
	name := fmt.Sprintf("%x", digest)
	upper := filepath.Join(d.dir, name[:2])
	lower := filepath.Join(upper, name[2:4])
	return filepath.Join(lower, name), [3]string{lower, upper, d.dir}
}

func (d *disk) Put(ctx context.Context, digest [sha256.Size]byte, size int64, r io.Reader) error {
	if err := checkSize(digest, size); err != nil {
		return err
	}
	path, dirs := d.path(digest)
	there, err := d.touch(path, size)
	if err != nil {
		return fmt.Errorf("put %x: %w", digest, err)
	}
	if !there {
		if err := d.write(newSource(ctx, digest, size, r), path, dirs); err != nil {
			return err
		}
	}
	// Also if it was there: who wrote it may not have come so far yet.
	if err := d.syncDirs(dirs); err != nil {
		return fmt.Errorf("put %x: %w", digest, err)
	}
	return nil
}

func (d *disk) syncDirs(dirs [3]string) error {
	d.next(stepSyncDir)
	for _, dir := range dirs {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// touch makes the content at path look new, and reports whether it is there.
func (d *disk) touch(path string, size int64) (there bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() != size {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, os.Chtimes(path, time.Time{}, time.Now())
}

// write brings a content to path, durable but for the names of it and its directories.
func (d *disk) write(src *source, path string, dirs [3]string) (err error) {
	tmp, err := os.CreateTemp(filepath.Join(d.dir, incoming), putPrefix+"*") // mode 0600
	if err != nil {
		return fmt.Errorf("put %x: %w", src.digest, err)
	}
	defer func() {
		if err != nil {
			tmp.Close()
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	// The file is hidden from CopyBuffer: it would bring a buffer of its own.
	if _, err := io.CopyBuffer(struct{ io.Writer }{tmp}, src, make([]byte, copyBuffer)); err != nil {
		return fmt.Errorf("put %x: %w", src.digest, err)
	}
	if err := src.verify(); err != nil {
		return err
	}
	d.next(stepSync)
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("put %x: %w", src.digest, err)
	}
	if err := d.publish(tmp.Name(), path, dirs); err != nil {
		return fmt.Errorf("put %x: %w", src.digest, err)
	}
	return nil
}

// publish moves a whole content, which is durable, to path.
func (d *disk) publish(from, path string, dirs [3]string) error {
	for _, dir := range []string{dirs[1], dirs[0]} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	d.next(stepRename)
	d.mu.Lock()
	defer d.mu.Unlock()
	return os.Rename(from, path)
}

func (d *disk) Open(ctx context.Context, digest [sha256.Size]byte, offset int64) (io.ReadCloser, int64, error) {
	path, _ := d.path(digest)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, ErrNotFound
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open %x: %w", digest, err)
	}
	info, err := f.Stat()
	if err == nil {
		err = checkOffset(digest, offset, info.Size())
	}
	if err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("open %x: %w", digest, err)
	}
	return &file{ctx: ctx, f: f}, info.Size(), nil
}

// file is a content that is read until its context ends.
type file struct {
	ctx context.Context
	f   *os.File
}

func (f *file) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	return f.f.Read(p)
}

func (f *file) Close() error { return f.f.Close() }

func (d *disk) Delete(_ context.Context, digest [sha256.Size]byte, before time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	path, _ := d.path(digest)
	info, err := os.Stat(path)
	if err == nil && (before.IsZero() || info.ModTime().Before(before)) {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %x: %w", digest, err)
	}
	return nil
}

// Walk also removes uploads that nobody has appended to for UploadFor.
func (d *disk) Walk(ctx context.Context, fn func(Entry) error) error {
	if err := d.clearUploads(time.Now().Add(-UploadFor)); err != nil {
		return fmt.Errorf("remove uploads that were never finished: %w", err)
	}
	return eachName(d.dir, func(upper string) error {
		if len(upper) != 2 {
			return nil
		}
		return eachName(filepath.Join(d.dir, upper), func(lower string) error {
			return eachName(filepath.Join(d.dir, upper, lower), func(name string) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				digest, ok := digestOf(name)
				if !ok || name[:2] != upper || name[2:4] != lower {
					return nil
				}
				info, err := os.Lstat(filepath.Join(d.dir, upper, lower, name))
				if errors.Is(err, fs.ErrNotExist) {
					return nil // deleted meanwhile
				}
				if err != nil {
					return fmt.Errorf("list large contents: %w", err)
				}
				return fn(Entry{Digest: digest, Size: info.Size(), Written: info.ModTime()})
			})
		})
	})
}

// eachName calls fn for what is in a directory, of which it keeps a part in memory only. A file is no error.
func eachName(dir string, fn func(name string) error) error {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list large contents: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.IsDir() {
		return err
	}
	for {
		names, err := f.Readdirnames(dirBatch)
		for _, name := range names {
			if err := fn(name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list large contents: %w", err)
		}
	}
}

// syncDir makes the names in dir durable, where the system can do that.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
