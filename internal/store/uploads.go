// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/openwaybill/waybill"
)

// Upload is a content that an account uploads. What has come of it is in the store of large contents. While it is here, nobody
// condemns a content of that digest, so it can become one.
type Upload struct {
	ID       string
	Account  waybill.AccountID
	SHA256   [32]byte
	Size     int64 // of the whole, in bytes, as was said at the beginning
	Blob     string
	Received int64
	State    []byte // of a SHA-256 of what was received
	Created  time.Time
}

// UploadPiece is a piece of an upload, as the store of large contents knows it.
type UploadPiece struct {
	Number int
	Mark   string
}

const uploadColumns = `SELECT id, account, digest, size, blob, received, state, created FROM uploads`

func scanUpload(r *sql.Rows) (v Upload, err error) {
	var digest []byte
	var created int64
	err = r.Scan(&v.ID, &v.Account, &digest, &v.Size, &v.Blob, &v.Received, &v.State, &created)
	copy(v.SHA256[:], digest)
	v.Created = instant(created)
	return v, err
}

// Upload returns an upload; ErrNotFound if it is not there.
func (s *Store) Upload(ctx context.Context, id string) (Upload, error) {
	return one(ctx, s.brief, scanUpload, uploadColumns+` WHERE id = ?`, id)
}

// UploadOf returns an account's upload of a content; ErrNotFound if there is none.
func (s *Store) UploadOf(ctx context.Context, account waybill.AccountID, digest [32]byte, size int64) (Upload, error) {
	return one(ctx, s.brief, scanUpload, uploadColumns+` WHERE account = ? AND digest = ? AND size = ?`, account, digest[:], size)
}

// AddUpload stores a new upload, unless its account has as many as limit: ErrQuota; or one of that content: ErrExists. While
// a content of that digest is being removed, it returns ErrCondemned.
func (s *Store) AddUpload(ctx context.Context, u *Upload, limit int) error {
	return s.writeAlone(ctx, accountWide(u.Account), func(t *tx) error {
		n, err := one(ctx, t, scanOne[int], `SELECT COUNT(*) FROM uploads WHERE account = ?`, u.Account)
		if err != nil {
			return err
		}
		if n >= limit {
			return ErrQuota
		}
		if err := s.keepBlob(ctx, t, u.SHA256[:], nil); err != nil {
			return err
		}
		added, err := t.exec(ctx, `INSERT INTO uploads (id, account, digest, size, blob, received, state, created)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			u.ID, u.Account, u.SHA256[:], u.Size, u.Blob, u.Received, u.State, millis(u.Created))
		if err == nil && added == 0 {
			err = ErrExists
		}
		return err
	})
}

// NumberPiece gives out a number, above all others, for a try to append to an upload of which so much was received. ErrNotFound
// if that has changed, or it is not there.
func (s *Store) NumberPiece(ctx context.Context, id string, received int64) (number int, err error) {
	err = s.write(ctx, func(t *tx) error {
		n, err := t.exec(ctx, `UPDATE uploads SET numbers = numbers + 1 WHERE id = ? AND received = ?`, id, received)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		number, err = one(ctx, t, scanOne[int], `SELECT numbers FROM uploads WHERE id = ?`, id)
		return err
	})
	return number, err
}

// AddPiece notes that a piece is there, and with it as much as u now says; ErrNotFound unless before it so much as from was.
func (s *Store) AddPiece(ctx context.Context, u *Upload, from int64, p UploadPiece) error {
	return s.write(ctx, func(t *tx) error {
		n, err := t.exec(ctx, `UPDATE uploads SET received = ?, state = ? WHERE id = ? AND received = ?`, u.Received, u.State, u.ID, from)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		return t.put(ctx, `INSERT INTO upload_pieces (upload, number, mark) VALUES (?, ?, ?)`, u.ID, p.Number, p.Mark)
	})
}

// UploadPieces returns the pieces of an upload in their order.
func (s *Store) UploadPieces(ctx context.Context, id string) ([]UploadPiece, error) {
	return all(ctx, s.reads, func(r *sql.Rows) (v UploadPiece, err error) { return v, r.Scan(&v.Number, &v.Mark) },
		`SELECT number, mark FROM upload_pieces WHERE upload = ? ORDER BY number`, id)
}

// FinishUpload makes an upload, whose content is there by now, a content that its account has until the given time. ErrNotFound
// if it is not there.
func (s *Store) FinishUpload(ctx context.Context, u *Upload, until time.Time) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.put(ctx, `INSERT INTO uploaded (account, digest, size, created, expires) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (account, digest) DO UPDATE SET size = excluded.size, created = excluded.created, expires = excluded.expires`,
			u.Account, u.SHA256[:], u.Size, millis(s.now()), millis(until)); err != nil {
			return err
		}
		return removeUpload(ctx, t, u.ID)
	})
}

func removeUpload(ctx context.Context, t *tx, id string) error {
	n, err := t.exec(ctx, `DELETE FROM uploads WHERE id = ?`, id)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return err
	}
	return t.put(ctx, `DELETE FROM upload_pieces WHERE upload = ?`, id)
}

// DropUpload removes an upload that comes to nothing. It is no error if it is not there.
func (s *Store) DropUpload(ctx context.Context, u *Upload) error {
	err := s.write(ctx, func(t *tx) error {
		if err := removeUpload(ctx, t, u.ID); err != nil {
			return err
		}
		if err := s.lockBlob(ctx, t, u.SHA256[:]); err != nil {
			return err
		}
		// There may never have been a content, whose collector would remove this. If there is one, its collector does without.
		return t.put(ctx, `DELETE FROM blobs AS b WHERE digest = ? AND condemned = 0 AND NOT `+blobInUse, u.SHA256[:])
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// OldUploads returns uploads that began before the given time, at most limit.
func (s *Store) OldUploads(ctx context.Context, before time.Time, limit int) ([]Upload, error) {
	return all(ctx, s.reads, scanUpload, uploadColumns+` WHERE created < ? ORDER BY created LIMIT ?`, millis(before), limit)
}

// Held returns how long a content is, in bytes, that an account has uploaded, not too long ago, or sent, in a delivery that is
// kept; ErrNotFound if it has done neither.
func (s *Store) Held(ctx context.Context, account waybill.AccountID, digest [32]byte) (size int64, err error) {
	return one(ctx, s.brief, scanOne[int64], `SELECT size FROM (SELECT size FROM uploaded WHERE account = ? AND digest = ? AND expires > ?) u
		UNION ALL SELECT size FROM (SELECT size FROM deliveries WHERE digest = ? AND account = ? LIMIT 1) d LIMIT 1`,
		account, digest[:], millis(s.now()), digest[:], account)
}

// KeepUploaded lets an account have what it has uploaded until the given time at least. Of what it has not, nothing changes.
func (s *Store) KeepUploaded(ctx context.Context, account waybill.AccountID, digest [32]byte, until time.Time) error {
	return s.write(ctx, func(t *tx) error {
		return t.put(ctx, `UPDATE uploaded SET expires = ? WHERE account = ? AND digest = ? AND expires > ? AND expires < ?`,
			millis(until), account, digest[:], millis(s.now()), millis(until))
	})
}

// ForgetUploaded removes up to limit notes of what was uploaded whose time is over, and returns how many. The contents go
// once nobody refers to them.
func (s *Store) ForgetUploaded(ctx context.Context, limit int) (removed int64, err error) {
	err = s.write(ctx, func(t *tx) error {
		removed, err = t.exec(ctx, `DELETE FROM uploaded WHERE (account, digest) IN (
			SELECT account, digest FROM uploaded WHERE expires <= ? LIMIT ?)`, millis(s.now()), limit)
		if err != nil {
			return fmt.Errorf("forget what was uploaded: %w", err)
		}
		return nil
	})
	return removed, err
}
