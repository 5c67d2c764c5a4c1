// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/openwaybill/waybill/internal/lockfile"
)

// Nobody but the server's user reads contents.
func TestModes(t *testing.T) {
	t.Parallel()
	at := onDisk(t)
	put(t, open(t, at.url), 1000)
	n := 0
	if err := filepath.WalkDir(strings.TrimPrefix(at.url, "file:"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %s", path, info.Mode())
		}
		n++
		return err
	}); err != nil || n != 6 { // blobs, its lock, incoming, two levels and a content
		t.Errorf("%d things are there: %v", n, err)
	}
}

// Two processes at a time would remove each other's unfinished files.
func TestOneProcess(t *testing.T) {
	t.Parallel()
	at := onDisk(t)
	s := open(t, at.url)
	if _, err := Open(t.Context(), at.url); !errors.Is(err, lockfile.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, at.url)
}

func TestOpenDiskRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Open(t.Context(), "file:"+filepath.Join(dir, "no", "parent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no parent: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), "file:"+file); err == nil {
		t.Error("opened a file")
	}
}

// A start removes what is unfinished, and nothing else, even in a directory that is not the store's.
func TestStartRemovesUnfinished(t *testing.T) {
	t.Parallel()
	at := onDisk(t)
	s := open(t, at.url)
	b, _ := put(t, s, 1000)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimPrefix(at.url, "file:"), incoming)
	for _, name := range []string{putPrefix + "1", "note"} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check(t, open(t, at.url), b, 0)
	if left := at.left(t); len(left) != 1 || left[0] != "note" {
		t.Errorf("left: %q", left)
	}
}

// Memory does not grow with what is put and read. It does not run beside other tests, which would be measured too.
func TestConstantMemory(t *testing.T) {
	const size = 64 << 20
	zeros := func() io.Reader {
		return io.LimitReader(readerFunc(func(p []byte) (int, error) {
			clear(p)
			return len(p), nil
		}), size)
	}
	h := sha256.New()
	if _, err := io.Copy(h, zeros()); err != nil {
		t.Fatal(err)
	}
	digest := [sha256.Size]byte(h.Sum(nil))
	s := open(t, onDisk(t).url)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := s.Put(t.Context(), digest, size, zeros()); err != nil {
		t.Fatal(err)
	}
	r, _, err := s.Open(t.Context(), digest, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h.Reset()
	if _, err := io.Copy(h, r); err != nil || !bytes.Equal(h.Sum(nil), digest[:]) {
		t.Errorf("read %x, %v", h.Sum(nil), err)
	}
	runtime.ReadMemStats(&after)
	if all := after.TotalAlloc - before.TotalAlloc; all > 1<<20 {
		t.Errorf("%d bytes were allocated for %d", all, size)
	}
}
