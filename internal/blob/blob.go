// SPDX-License-Identifier: Apache-2.0

// Package blob keeps contents that are too large for the database: immutable, each under its SHA-256, on the disk of one
// server or in an S3-compatible store for several. It knows nothing of deliveries: whoever uses it decides what is kept,
// and collects what nobody refers to with Walk and Delete.
//
// A content comes whole, with Put, or in pieces, however long that takes and whoever goes on with it: Begin, Append, Finish.
//
// Every Put of a content that is there already counts as writing it, within RenewAfter. So a collector that leaves alone
// what was written less than KeepFor ago never takes away what somebody has just relied on and not yet noted.
package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/openwaybill/waybill"
)

// What callers branch on.
var (
	ErrNotFound = errors.New("not found")                                // of Open, and of an upload that is no more
	ErrMismatch = errors.New("the content has another digest or length") // of Put
	ErrFull     = errors.New("there is no space left")                   // of Begin and Append, on a disk
)

const (
	// RenewAfter is how old a content may look at most although it has just been put again.
	RenewAfter = time.Hour
	// KeepFor is the least age of what a collector may delete. It allows for RenewAfter, for what a Put and the writing
	// of who refers to it may take, and for clocks that differ.
	KeepFor = 24 * time.Hour
	// UploadFor is how long after Begin an upload is there at least. Then Walk removes what there is of it.
	UploadFor = 8 * 24 * time.Hour
)

// PieceSize is the length of every piece of an upload but the last: S3 takes 10,000 parts of 5 MiB or more.
const PieceSize = 8 << 20

// Upload is a content that comes in pieces.
type Upload struct {
	ID     string // from Begin
	Digest [sha256.Size]byte
	Size   int64 // of the whole, in bytes
}

// Piece is a piece that the store has.
type Piece struct {
	Number int    // it was appended under
	Mark   string // what Append returned
}

// Entry is a content that is there.
type Entry struct {
	Digest  [sha256.Size]byte
	Size    int64     // in bytes
	Written time.Time // when it was last written, by the clock of the disk or of the S3 store
}

// Store is a set of contents. Its methods may be called by any number of goroutines and use constant memory, however large
// a content is. What fails in passing and does not come right while the context lasts is a waybill.Error with the code
// Unavailable.
type Store interface {
	// Put reads r to its end and keeps what it read, which is size bytes with that digest; else it keeps nothing and
	// returns ErrMismatch. When it returns without an error, the content is durable. If it is there already, r may be left
	// unread.
	Put(ctx context.Context, digest [sha256.Size]byte, size int64, r io.Reader) error
	// Begin begins an upload, and returns its ID.
	Begin(ctx context.Context, digest [sha256.Size]byte, size int64) (id string, err error)
	// Append keeps a piece, whose first byte belongs at offset, a multiple of PieceSize. When it returns without an error, the
	// piece is durable; the mark it returns is for Finish. A try whose piece may not count, because another may go on with the
	// upload meanwhile, must leave the number, from 1 on, to none that counts; of those that count, the numbers rise with the
	// offsets. On a disk, nobody may append to the upload at the same time.
	Append(ctx context.Context, u Upload, number int, offset int64, piece []byte) (mark string, err error)
	// Finish makes a content of its pieces, which are all of it, in their order. Their digest is for the caller to know before.
	// When it returns without an error, the content is durable. It may be called again.
	Finish(ctx context.Context, u Upload, pieces []Piece) error
	// Abort removes what there is of an upload. It is no error if there is nothing.
	Abort(ctx context.Context, u Upload) error
	// Open returns a content from an offset on, which is at most its size, and its whole size, both in bytes; or
	// ErrNotFound. Reading ends with ctx. The reader must be closed. What it gives is not verified again: only who reads
	// the whole can do that.
	Open(ctx context.Context, digest [sha256.Size]byte, offset int64) (io.ReadCloser, int64, error)
	// Delete removes a content that was last written before that time; the zero time means always. It is no error if
	// there is none. On a disk nothing can come between looking at the time and removing; an S3 store has no such step,
	// so there it takes two requests, one right after the other.
	Delete(ctx context.Context, digest [sha256.Size]byte, before time.Time) error
	// Walk calls fn for every content, in no order that can be relied on, until it returns an error, which Walk then
	// returns. What is put or deleted meanwhile may be among them. fn may call the methods of the store.
	Walk(ctx context.Context, fn func(Entry) error) error
	// Close frees what the store holds. What was put stays.
	Close() error
}

// Open opens the store at a URL: file:DIR, a directory that is made if it is not there and that one process at a time may
// use; or s3://BUCKET/PREFIX?endpoint=URL&region=NAME&path-style=BOOL, where the bucket must be there. The keys for S3 come
// from the variables and files of the AWS command line, never from the URL.
func Open(ctx context.Context, url string) (Store, error) {
	at, err := parse(url)
	if err != nil {
		return nil, err
	}
	if at.bucket == "" {
		return openDisk(at.dir)
	}
	return openS3(ctx, at)
}

// away is the Error for what failed in passing.
func away(err error) error {
	return &waybill.Error{
		Code: waybill.Unavailable, Message: "the store of large contents does not answer; try again later", Err: err,
	}
}

// source reads what a Put is given, and tells in the end whether it was what was promised.
type source struct {
	ctx    context.Context
	r      io.Reader
	hash   hash.Hash
	digest [sha256.Size]byte
	left   int64 // bytes that are still to come
}

func newSource(ctx context.Context, digest [sha256.Size]byte, size int64, r io.Reader) *source {
	return &source{ctx: ctx, r: r, hash: sha256.New(), digest: digest, left: size}
}

// Read gives no more than was promised; what follows is for verify to find.
func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	s.hash.Write(p[:n])
	s.left -= int64(n)
	return n, err
}

// verify returns ErrMismatch unless what was read, and all of it, is what was promised.
func (s *source) verify() error {
	if s.left > 0 {
		return fmt.Errorf("put %x: %d bytes are missing: %w", s.digest, s.left, ErrMismatch)
	}
	switch n, err := io.ReadFull(s.r, make([]byte, 1)); {
	case n > 0:
		return fmt.Errorf("put %x: it is longer than was said: %w", s.digest, ErrMismatch)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("put %x: %w", s.digest, err)
	}
	if got := s.hash.Sum(nil); [sha256.Size]byte(got) != s.digest {
		return fmt.Errorf("put %x: what was read is %x: %w", s.digest, got, ErrMismatch)
	}
	return nil
}

// digestOf reads the name of a content; ok is false if it is no such name.
func digestOf(name string) (digest [sha256.Size]byte, ok bool) {
	b, err := hex.DecodeString(name)
	if err != nil || len(b) != len(digest) || hex.EncodeToString(b) != name {
		return digest, false
	}
	return [sha256.Size]byte(b), true
}

func checkSize(digest [sha256.Size]byte, size int64) error {
	if size < 0 {
		return fmt.Errorf("put %x: a size of %d bytes: %w", digest, size, ErrMismatch)
	}
	return nil
}

func checkOffset(digest [sha256.Size]byte, offset, size int64) error {
	if offset < 0 || offset > size {
		return fmt.Errorf("open %x: the offset %d is outside of its %d bytes", digest, offset, size)
	}
	return nil
}
