// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// pieces appends a content to an upload from an offset on, the first piece under that number.
func pieces(t *testing.T, s Store, u Upload, b []byte, offset, number int) (all []Piece) {
	t.Helper()
	for ; offset < len(b); offset += PieceSize {
		mark, err := s.Append(t.Context(), u, number, int64(offset), b[offset:min(offset+PieceSize, len(b))])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Piece{number, mark})
		number++
	}
	return all
}

func begin(t *testing.T, s Store, size int) ([]byte, Upload) {
	t.Helper()
	b, digest := content(size)
	id, err := s.Begin(t.Context(), digest, int64(size))
	if err != nil {
		t.Fatal(err)
	}
	return b, Upload{ID: id, Digest: digest, Size: int64(size)}
}

// A content comes in pieces, over a restart and after tries that do not count, and is there at the end and not before.
func TestUpload(t *testing.T) {
	onEach(t, func(t *testing.T, at place) {
		s := open(t, at.url)
		b, u := begin(t, s, 2*PieceSize+1234)
		all := pieces(t, s, u, b[:PieceSize], 0, 1)
		wrong := make([]byte, PieceSize)
		if _, err := s.Append(t.Context(), u, 2, PieceSize, wrong); err != nil { // a try that comes to nothing
			t.Fatal(err)
		}
		absent(t, s, u.Digest)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, at.url)
		all = append(all, pieces(t, s, u, b, PieceSize, 3)...)
		absent(t, s, u.Digest)
		for range 2 {
			if err := s.Finish(t.Context(), u, all); err != nil {
				t.Fatal(err)
			}
			check(t, s, b, 0)
			check(t, s, b, PieceSize+1)
		}
		if age := time.Since(walk(t, s)[u.Digest].Written); age > KeepFor/2 {
			t.Errorf("it seems to be %s old", age)
		}
		if left := at.left(t); len(left) != 0 {
			t.Errorf("%q are left", left)
		}
		if err := s.Abort(t.Context(), u); err != nil {
			t.Error(err)
		}
		check(t, s, b, 0)
	})
}

func TestUploadGivenUp(t *testing.T) {
	onEach(t, func(t *testing.T, at place) {
		s := open(t, at.url)
		b, u := begin(t, s, PieceSize)
		all := pieces(t, s, u, b, 0, 1)
		for range 2 {
			if err := s.Abort(t.Context(), u); err != nil {
				t.Fatal(err)
			}
		}
		if left := at.left(t); len(left) != 0 {
			t.Errorf("%q are left", left)
		}
		if _, err := s.Append(t.Context(), u, 2, 0, b); !errors.Is(err, ErrNotFound) {
			t.Errorf("append: %v", err)
		}
		if err := s.Finish(t.Context(), u, all); !errors.Is(err, ErrNotFound) {
			t.Errorf("finish: %v", err)
		}
		absent(t, s, u.Digest)
	})
}

// Who lost a part of an upload does not make a content of the rest.
func TestUploadNotWhole(t *testing.T) {
	t.Parallel()
	s := open(t, onDisk(t).url)
	b, u := begin(t, s, PieceSize+1)
	all := pieces(t, s, u, b[:PieceSize], 0, 1)
	if err := s.Finish(t.Context(), u, all); !errors.Is(err, ErrMismatch) {
		t.Error(err)
	}
	absent(t, s, u.Digest)
}

func TestOldUploadsOnDisk(t *testing.T) {
	t.Parallel()
	at := onDisk(t)
	s := open(t, at.url).(*disk)
	_, old := begin(t, s, 1000)
	_, young := begin(t, s, 1000)
	for id, age := range map[string]time.Duration{old.ID: UploadFor + time.Hour, young.ID: UploadFor - time.Hour} {
		if err := os.Chtimes(filepath.Join(s.dir, incoming, id), time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	walk(t, s)
	if left := at.left(t); len(left) != 1 || left[0] != young.ID {
		t.Errorf("%q are left, want %s", left, young.ID)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{syscall.ENOSPC: true, syscall.EDQUOT: true, syscall.EIO: false} {
		if got := errors.Is(full(fmt.Errorf("write: %w", err)), ErrFull); got != want {
			t.Errorf("%v is a full disk: %t", err, got)
		}
	}
}
