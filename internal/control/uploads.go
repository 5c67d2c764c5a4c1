// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/blob"
	"github.com/openwaybill/waybill/internal/store"
)

const (
	// locationLife is how long bytes may be sent to a location. The upload itself goes on under the next one.
	locationLife = time.Hour
	// unfinishedFor is how long an upload may take. Then what has come of it is removed; it is less than blob.UploadFor.
	unfinishedFor = 7 * 24 * time.Hour
	// uploadedFor is how long an account has what it has uploaded, or asked to upload again, and has not sent.
	uploadedFor = 7 * 24 * time.Hour
	// maxPieceNumber is the highest number of a part in S3. Whoever needs more has tried in vain for thousands of times.
	maxPieceNumber = 10_000
)

// UploadPlace is where the bytes of a content go.
type UploadPlace struct {
	Exists  bool   // there is nothing to upload: the account has it
	Token   string // names the upload, and allows to go on with it
	Offset  int64  // of the first byte that is missing
	Size    int64
	Expires time.Time // the token
}

// CreateUpload tells where to upload a content, from its first byte or from where the account's upload of it broke off. What
// others have does not count: nobody learns of it.
func (s *Service) CreateUpload(ctx context.Context, act *waybill.Act, digest [32]byte, size int64) (UploadPlace, error) {
	act.Subject = waybill.FormatDigest(digest)
	switch {
	case s.cfg.Blobs == nil:
		return UploadPlace{}, wrongSize("nothing can be uploaded, because this server has no store of large contents (--blob)")
	case size < 1 || size > s.cfg.MaxUpload:
		return UploadPlace{}, wrongSize("%d bytes; 1 to %d can be uploaded", size, s.cfg.MaxUpload)
	}
	for begun := s.now(); ; {
		place, err := s.upload(ctx, act, digest, size)
		switch code := waybill.CodeOf(err); {
		case err == nil:
			return place, nil
		// It has just come, gone, or turned out to be something else; the next look finds what there is.
		case !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrCondemned) && code != waybill.UploadNotFound && code != waybill.UploadMismatch,
			s.now().Sub(begun) > condemnedPatience, !pause(ctx, condemnedPause):
			return place, fmt.Errorf("create upload: %w", err)
		}
	}
}

func wrongSize(format string, args ...any) error {
	return &waybill.Error{Code: waybill.UploadSize, Field: "Size", Message: fmt.Sprintf(format, args...)}
}

// upload is CreateUpload, tried once.
func (s *Service) upload(ctx context.Context, act *waybill.Act, digest [32]byte, size int64) (UploadPlace, error) {
	if there, err := s.stillHeld(ctx, act.Account, digest, size); err != nil || there {
		return UploadPlace{Exists: there}, err
	}
	u, err := s.beginUpload(ctx, act, digest, size)
	if err != nil {
		return UploadPlace{}, err
	}
	if u.Received == u.Size { // whoever had the last of it did not come so far
		err := s.finishUpload(ctx, &u)
		return UploadPlace{Exists: err == nil}, err
	}
	return s.placeOf(&u)
}

// stillHeld reports whether an account has a content, and lets it have it long enough to send it.
func (s *Service) stillHeld(ctx context.Context, account waybill.AccountID, digest [32]byte, size int64) (bool, error) {
	held, err := s.store.Held(ctx, account, digest)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case held != size:
		return false, wrongSize("the content with this digest has %d bytes, not %d", held, size)
	}
	if err := s.store.KeepUploaded(ctx, account, digest, s.now().Add(uploadedFor)); err != nil {
		return false, err
	}
	r, err := s.openContent(ctx, digest, size)
	if waybill.CodeOf(err) == waybill.ContentLost { // uploading it repairs that
		s.log.Warn("a content that is asked for is lost; it is uploaded again", "err", err)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, r.Close()
}

// beginUpload returns the account's upload of a content, a new one if there is none.
func (s *Service) beginUpload(ctx context.Context, act *waybill.Act, digest [32]byte, size int64) (store.Upload, error) {
	u, err := s.store.UploadOf(ctx, act.Account, digest, size)
	if !errors.Is(err, store.ErrNotFound) {
		return u, err
	}
	u = store.Upload{ID: rand.Text(), Account: act.Account, SHA256: digest, Size: size, Created: s.now()}
	if u.State, err = stateOf(sha256.New()); err != nil {
		return u, err
	}
	if u.Blob, err = s.cfg.Blobs.Begin(ctx, digest, size); err != nil {
		return u, storageError(err)
	}
	if err = s.store.For(act, nil).AddUpload(ctx, &u, s.cfg.Uploads); err == nil {
		return u, nil
	}
	if errors.Is(err, store.ErrQuota) {
		err = waybill.Errorf(waybill.UploadQuota, "%d are unfinished; finish one, or wait until they end, a week after they began", s.cfg.Uploads)
	}
	if abortErr := s.cfg.Blobs.Abort(context.WithoutCancel(ctx), blobOf(&u)); abortErr != nil {
		s.log.Warn("give up an upload; its store will remove it", "err", abortErr)
	}
	return u, err
}

func blobOf(u *store.Upload) blob.Upload {
	return blob.Upload{ID: u.Blob, Digest: u.SHA256, Size: u.Size}
}

// storageError is an error of the store of large contents as those who upload are told it.
func storageError(err error) error {
	if errors.Is(err, blob.ErrFull) {
		return &waybill.Error{Code: waybill.StorageFull, Message: "the server has no space left for the content", Err: err}
	}
	return err
}

// location is what a token holds, sealed.
type location struct {
	Upload  string `json:"u"`
	Expires int64  `json:"e"` // Unix seconds
}

var locationOwner = []byte("upload 1")

func (s *Service) placeOf(u *store.Upload) (UploadPlace, error) {
	expires := s.now().Add(locationLife).Truncate(time.Second)
	plain, err := json.Marshal(location{u.ID, expires.Unix()})
	if err != nil {
		return UploadPlace{}, fmt.Errorf("create upload: %w", err)
	}
	return UploadPlace{
		Token:  base64.RawURLEncoding.EncodeToString(s.sealer.Seal(plain, locationOwner)),
		Offset: u.Received, Size: u.Size, Expires: expires,
	}, nil
}

var errNoUpload = waybill.Errorf(waybill.UploadNotFound, "there is no such upload; begin it again with CreateContentUpload")

// openUpload returns the upload of a token, and until when that is good.
func (s *Service) openUpload(ctx context.Context, token string) (store.Upload, time.Time, error) {
	var l location
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err == nil {
		var plain []byte
		if plain, err = s.sealer.Open(sealed, locationOwner); err == nil {
			err = json.Unmarshal(plain, &l)
		}
	}
	if err != nil {
		return store.Upload{}, time.Time{}, errNoUpload
	}
	expires := time.Unix(l.Expires, 0).UTC()
	if !s.now().Before(expires) {
		return store.Upload{}, expires, waybill.Errorf(waybill.UploadExpired, "the location has expired; get another with CreateContentUpload")
	}
	u, err := s.store.Upload(ctx, l.Upload)
	if errors.Is(err, store.ErrNotFound) {
		return u, expires, errNoUpload
	}
	if err != nil {
		return u, expires, fmt.Errorf("read an upload: %w", err)
	}
	gone, err := s.accountGone(ctx, u.Account)
	if err == nil && gone {
		err = errNoUpload
	}
	return u, expires, err
}

// Incoming tells how far the upload of a token is.
func (s *Service) Incoming(ctx context.Context, token string) (UploadPlace, error) {
	u, expires, err := s.openUpload(ctx, token)
	return UploadPlace{Token: token, Offset: u.Received, Size: u.Size, Expires: expires}, err
}

// Chunk is bytes of an upload on their way.
type Chunk struct {
	Offset int64 // where the first belongs
	Length int64 // how many there are; -1: that is not known
	Body   io.Reader
	// Stop makes Body return an error soon. It is called by another goroutine, at most once.
	Stop func()
}

// Receive takes bytes of the upload of a token, in pieces of blob.PieceSize, each durable before the next is read, and
// returns what it has then. When it has all, the content is verified and the account has it. Of a piece that does not come
// whole nothing is kept. It holds one piece in memory. Whoever comes for the same upload while this is under way takes over.
func (s *Service) Receive(ctx context.Context, token string, c Chunk) (received int64, err error) {
	u, _, err := s.openUpload(ctx, token)
	if err != nil {
		return 0, err
	}
	done, err := s.uploading.begin(ctx, u.ID, c.Stop)
	if err != nil {
		return 0, err
	}
	defer done()
	// Whoever was before may have moved it.
	if u, err = s.store.Upload(ctx, u.ID); errors.Is(err, store.ErrNotFound) {
		return 0, errNoUpload
	} else if err != nil {
		return 0, fmt.Errorf("read an upload: %w", err)
	}
	left := u.Size - u.Received
	switch {
	case c.Offset != u.Received:
		return u.Received, waybill.Errorf(waybill.UploadMoved, "the next byte belongs at %d, not at %d", u.Received, c.Offset)
	case c.Length > left:
		return u.Received, waybill.Errorf(waybill.UploadLength, "%d bytes are missing, not %d", left, c.Length)
	case c.Length > 0 && c.Length < min(left, blob.PieceSize):
		return u.Received, errShort
	}
	if err := s.receive(ctx, &u, c.Body); err != nil {
		return u.Received, err
	}
	if u.Received < u.Size {
		if u.Received == c.Offset {
			return u.Received, errShort
		}
		return u.Received, nil
	}
	return u.Received, s.finishUpload(ctx, &u)
}

var errShort = waybill.Errorf(waybill.UploadLength, "bytes are kept in pieces of %d; send as many at least, or all that are missing", blob.PieceSize)

// receive takes pieces until there are no more.
func (s *Service) receive(ctx context.Context, u *store.Upload, body io.Reader) error {
	sum, err := hashOf(u.State)
	if err != nil {
		return fmt.Errorf("go on with an upload: %w", err)
	}
	buffer := make([]byte, min(u.Size-u.Received, blob.PieceSize))
	for u.Received < u.Size {
		piece := buffer[:min(u.Size-u.Received, blob.PieceSize)]
		switch _, err := io.ReadFull(body, piece); {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
		sum.Write(piece)
		if err := s.addPiece(ctx, u, sum, piece); err != nil {
			return err
		}
	}
	return nil
}

// addPiece makes a piece durable, and then part of the upload, unless that has moved.
func (s *Service) addPiece(ctx context.Context, u *store.Upload, sum hash.Hash, piece []byte) error {
	moved := waybill.Errorf(waybill.UploadMoved, "somebody else goes on with the upload")
	number, err := s.store.NumberPiece(ctx, u.ID, u.Received)
	if errors.Is(err, store.ErrNotFound) {
		return moved
	}
	if err != nil {
		return fmt.Errorf("keep a piece: %w", err)
	}
	if number > maxPieceNumber {
		return s.dropUpload(ctx, u, errNoUpload)
	}
	mark, err := s.cfg.Blobs.Append(ctx, blobOf(u), number, u.Received, piece)
	if errors.Is(err, blob.ErrNotFound) { // its store has lost it
		return s.dropUpload(ctx, u, errNoUpload)
	}
	if err != nil {
		return storageError(err)
	}
	next := *u
	next.Received += int64(len(piece))
	if next.State, err = stateOf(sum); err != nil {
		return fmt.Errorf("keep a piece: %w", err)
	}
	if err := s.store.AddPiece(ctx, &next, u.Received, store.UploadPiece{Number: number, Mark: mark}); errors.Is(err, store.ErrNotFound) {
		return moved
	} else if err != nil {
		return fmt.Errorf("keep a piece: %w", err)
	}
	*u = next
	return nil
}

// finishUpload makes a content of an upload that is whole, if it is what was announced; else it throws it away.
func (s *Service) finishUpload(ctx context.Context, u *store.Upload) error {
	sum, err := hashOf(u.State)
	if err != nil {
		return fmt.Errorf("finish an upload: %w", err)
	}
	if got := [32]byte(sum.Sum(nil)); got != u.SHA256 {
		return s.dropUpload(ctx, u, waybill.Errorf(waybill.UploadMismatch, "the %d bytes that came have the digest %s, not %s",
			u.Size, waybill.FormatDigest(got), waybill.FormatDigest(u.SHA256)))
	}
	pieces, err := s.store.UploadPieces(ctx, u.ID)
	if err != nil {
		return fmt.Errorf("finish an upload: %w", err)
	}
	parts := make([]blob.Piece, len(pieces))
	for i, p := range pieces {
		parts[i] = blob.Piece(p)
	}
	err = s.cfg.Blobs.Finish(ctx, blobOf(u), parts)
	if errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrMismatch) { // its store has lost it
		return s.dropUpload(ctx, u, errNoUpload)
	}
	if err != nil {
		return fmt.Errorf("finish an upload: %w", err)
	}
	if err := s.store.FinishUpload(ctx, u, s.now().Add(uploadedFor)); errors.Is(err, store.ErrNotFound) {
		return errNoUpload // another server has finished it, which the next CreateUpload tells
	} else if err != nil {
		return fmt.Errorf("finish an upload: %w", err)
	}
	s.log.Info("a content was uploaded", "account", u.Account, "size", u.Size)
	return nil
}

// dropUpload removes an upload and returns why.
func (s *Service) dropUpload(ctx context.Context, u *store.Upload, why error) error {
	ctx = context.WithoutCancel(ctx)
	if err := errors.Join(s.cfg.Blobs.Abort(ctx, blobOf(u)), s.store.DropUpload(ctx, u)); err != nil {
		return fmt.Errorf("throw away an upload: %w", err)
	}
	return why
}

// dropUploads removes uploads that nobody has finished in time.
func (s *Service) dropUploads(ctx context.Context) error {
	for n := sweepBatch; n == sweepBatch && ctx.Err() == nil; {
		list, err := s.store.OldUploads(ctx, s.now().Add(-unfinishedFor), sweepBatch)
		if err != nil {
			return err
		}
		for i := range list {
			if err := s.dropUpload(ctx, &list[i], nil); err != nil {
				return err
			}
		}
		s.metrics.removed.WithLabelValues(removedUploads).Add(float64(len(list)))
		n = len(list)
	}
	return nil
}

// stateOf and hashOf keep a SHA-256 between two pieces.
func stateOf(sum hash.Hash) ([]byte, error) { return sum.(encoding.BinaryMarshaler).MarshalBinary() }

func hashOf(state []byte) (hash.Hash, error) {
	sum := sha256.New()
	return sum, sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}

// errNotHeld tells nothing of what others have.
var errNotHeld = waybill.Errorf(waybill.ContentNotFound,
	"the account has neither uploaded nor sent a content with this digest, or too long ago; upload it with CreateContentUpload")

// held returns what SendFile takes in place of a content: its size, and its bytes if the database is to hold them.
func (s *Service) held(ctx context.Context, account waybill.AccountID, digest [32]byte) (size int64, data []byte, err error) {
	size, err = s.store.Held(ctx, account, digest)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil, errNotHeld
	}
	if err != nil || size > store.MaxContent {
		return size, nil, err
	}
	r, err := s.openContent(ctx, digest, 0)
	if waybill.CodeOf(err) == waybill.ContentLost {
		return 0, nil, errNotHeld
	}
	if err != nil {
		return 0, nil, err
	}
	defer r.Close()
	if data, err = io.ReadAll(io.LimitReader(r, store.MaxContent+1)); err == nil && sha256.Sum256(data) != digest {
		s.log.Error("a content is damaged", "digest", waybill.FormatDigest(digest))
		err = errNotHeld
	}
	return size, data, err
}

// uploading is who sends bytes to this server, one for each upload. The zero value is ready.
type uploading struct {
	mu     sync.Mutex
	over   bool
	active map[string]*sender
}

type sender struct {
	stop func()
	gone chan struct{}
}

// begin waits until nobody else sends to the upload, after telling whoever does to stop: a client that comes again has given
// up its connection of before, of which the server may not know for long. done must be called.
func (a *uploading) begin(ctx context.Context, id string, stop func()) (done func(), err error) {
	me := &sender{stop: sync.OnceFunc(stop), gone: make(chan struct{})}
	for {
		a.mu.Lock()
		before := a.active[id]
		if a.over {
			a.mu.Unlock()
			return nil, waybill.Errorf(waybill.Unavailable, "the server is about to stop; try again")
		}
		if before == nil {
			if a.active == nil {
				a.active = map[string]*sender{}
			}
			a.active[id] = me
			a.mu.Unlock()
			return func() {
				a.mu.Lock()
				defer a.mu.Unlock()
				delete(a.active, id)
				close(me.gone)
			}, nil
		}
		a.mu.Unlock()
		before.stop()
		select {
		case <-before.gone:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// EndUploads cuts off everybody who sends bytes: the server is about to stop. They go on later, or with another.
func (s *Service) EndUploads() {
	a := &s.uploading
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	for _, sender := range a.active {
		sender.stop()
	}
}
