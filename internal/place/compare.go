// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"

	"github.com/openwaybill/waybill"
)

// compare finds out whether the file that may be replaced is what would replace it. If it is, it stays, and the placement
// is at its end: its bytes have been read from the final path, as verify would do.
//
// What cannot be read, or made durable, is not the same: it is replaced, and if that fails, that says what is wrong.
func (w *work) compare(ctx context.Context) error {
	if !w.Overwrite {
		return nil
	}
	file, err := w.reopen()
	if err != nil {
		return nil
	}
	defer file.Close()
	size, same := w.isWanted(ctx, file)
	switch {
	case ctx.Err() != nil:
		return stopped{ctx.Err()}
	case !same || syncFound(file) != nil || syncDirectory(w.dir.top()) != nil: // whoever wrote it may not have synced it
		return nil
	}
	if w.Before != nil {
		if err := w.Before(); err != nil {
			return stopped{err}
		}
	}
	w.result = Result{Path: w.path, SHA256: w.SHA256, Size: size, Change: waybill.Unchanged}
	return nil
}

// isWanted reports whether file, opened at the final path, is what is to be placed, and still there after it was read; and how
// long it is. A file with several names is not: what is placed has one.
func (w *work) isWanted(ctx context.Context, file *os.File) (size int64, same bool) {
	if !w.looksWanted(file) {
		return 0, false
	}
	hash := sha256.New()
	for err := error(nil); !errors.Is(err, io.EOF); {
		if err != nil || ctx.Err() != nil {
			return 0, false
		}
		var n int64
		n, err = io.CopyN(hash, file, copyBuffer)
		size += n
	}
	if [sha256.Size]byte(hash.Sum(nil)) != w.SHA256 || !w.looksWanted(file) {
		return 0, false
	}
	read, err := identityOf(file)
	if err != nil {
		return 0, false
	}
	there, err := identityAt(w.dir.top(), w.Name)
	return size, err == nil && there == read
}

// looksWanted compares all but the bytes.
func (w *work) looksWanted(file *os.File) bool {
	info, err := file.Stat()
	if err != nil || hasOwners && ownershipOf(info) != w.own {
		return false
	}
	if want, known := w.size(); known && info.Size() != want {
		return false
	}
	names, err := namesOf(file)
	return err == nil && names == 1
}

// size returns how long the content is, if that is known before it is read.
func (w *work) size() (bytes int64, known bool) {
	if w.Reader == nil {
		return int64(len(w.Content)), true
	}
	return w.Size, w.Size > 0
}
