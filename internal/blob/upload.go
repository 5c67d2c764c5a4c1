// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"
)

// On a disk an upload is a file among what is incoming, which is written where the pieces belong.

func (d *disk) uploading(id string) string { return filepath.Join(d.dir, incoming, id) }

func (d *disk) Begin(_ context.Context, digest [sha256.Size]byte, _ int64) (string, error) {
	f, err := os.CreateTemp(filepath.Join(d.dir, incoming), uploadPrefix+"*") // mode 0600
	if err == nil {
		err = errors.Join(f.Close(), syncDir(filepath.Join(d.dir, incoming)))
	}
	if err != nil {
		return "", fmt.Errorf("begin the upload of %x: %w", digest, full(err))
	}
	return filepath.Base(f.Name()), nil
}

func (d *disk) Append(_ context.Context, u Upload, _ int, offset int64, piece []byte) (string, error) {
	f, err := os.OpenFile(d.uploading(u.ID), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrNotFound
	}
	if err == nil {
		_, err = f.WriteAt(piece, offset)
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return "", fmt.Errorf("append to the upload of %x: %w", u.Digest, full(err))
	}
	return "", nil
}

func (d *disk) Finish(_ context.Context, u Upload, _ []Piece) error {
	path, dirs := d.path(u.Digest)
	from := d.uploading(u.ID)
	info, err := os.Stat(from)
	switch {
	case errors.Is(err, fs.ErrNotExist): // unless it was finished before
		there, err := d.touch(path, u.Size)
		if err != nil {
			return fmt.Errorf("finish the upload of %x: %w", u.Digest, err)
		}
		if !there {
			return ErrNotFound
		}
	case err != nil:
		return fmt.Errorf("finish the upload of %x: %w", u.Digest, err)
	case info.Size() != u.Size:
		return fmt.Errorf("finish the upload of %x: there are %d of %d bytes: %w", u.Digest, info.Size(), u.Size, ErrMismatch)
	default:
		if err := errors.Join(os.Chtimes(from, time.Time{}, time.Now()), d.publish(from, path, dirs)); err != nil {
			return fmt.Errorf("finish the upload of %x: %w", u.Digest, err)
		}
	}
	if err := d.syncDirs(dirs); err != nil {
		return fmt.Errorf("finish the upload of %x: %w", u.Digest, err)
	}
	return nil
}

func (d *disk) Abort(_ context.Context, u Upload) error {
	if err := os.Remove(d.uploading(u.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("give up the upload of %x: %w", u.Digest, err)
	}
	return nil
}

// clearUploads removes uploads that were last appended to before the given time.
func (d *disk) clearUploads(before time.Time) error {
	dir := filepath.Join(d.dir, incoming)
	return eachName(dir, func(name string) error {
		if !strings.HasPrefix(name, uploadPrefix) {
			return nil
		}
		info, err := os.Lstat(filepath.Join(dir, name))
		if err == nil && info.ModTime().Before(before) {
			err = os.Remove(filepath.Join(dir, name))
		}
		if errors.Is(err, fs.ErrNotExist) { // finished meanwhile
			return nil
		}
		return err
	})
}

// full tells of an error that is a full disk's.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return errors.Join(ErrFull, err)
	}
	return err
}

// In an S3 store an upload is one of S3's own. No part is ever sent again with other bytes under the same number, so what
// Finish joins is what Append has sent, whoever else tried to go on with the upload.

func (s *s3) Begin(ctx context.Context, digest [sha256.Size]byte, _ int64) (id string, err error) {
	if err := s.retry(ctx, func() (err error) {
		id, err = s.client.NewMultipartUpload(ctx, s.at.bucket, s.key(digest), minio.PutObjectOptions{})
		return err
	}); err != nil {
		return "", fmt.Errorf("begin the upload of %x: %w", digest, err)
	}
	return id, nil
}

func (s *s3) Append(ctx context.Context, u Upload, number int, _ int64, piece []byte) (string, error) {
	sent, err := s.sendPart(ctx, s.key(u.Digest), u.ID, number, piece)
	if isCode(err, codeNoSuchUpload) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("append to the upload of %x: %w", u.Digest, err)
	}
	return sent.ETag, nil
}

func (s *s3) Finish(ctx context.Context, u Upload, pieces []Piece) error {
	parts := make([]minio.CompletePart, len(pieces))
	for i, p := range pieces {
		parts[i] = minio.CompletePart{PartNumber: p.Number, ETag: p.Mark}
	}
	err := s.complete(ctx, u.Digest, u.Size, u.ID, parts)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("finish the upload of %x: %w", u.Digest, err)
	}
	return err
}

func (s *s3) Abort(ctx context.Context, u Upload) error {
	if err := s.retry(ctx, func() error {
		return s.client.AbortMultipartUpload(ctx, s.at.bucket, s.key(u.Digest), u.ID)
	}); err != nil && !isCode(err, codeNoSuchUpload) {
		return fmt.Errorf("give up the upload of %x: %w", u.Digest, err)
	}
	return nil
}
