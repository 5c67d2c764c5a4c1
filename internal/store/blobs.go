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

// MaxContent is the largest content, in bytes, that is kept in the database; larger ones are in internal/blob, and here is
// only noted that they are.
const MaxContent = 1 << 20

// MaxSent is the longest text, in bytes, that is kept in the database because its content does not give it back.
const MaxSent = 128 << 10

// ErrCondemned is the result of AddDelivery if a large content is being removed. Put it again, and try again.
var ErrCondemned = waybill.Errorf(waybill.Unavailable, "a content of that digest is being removed; send it again")

// keepBlob notes that a content is in the store of large contents, and keeps it there from whoever collects. content is nil,
// or the digest of what the text of that digest stands for.
func (s *Store) keepBlob(ctx context.Context, t *tx, digest, content []byte) error {
	var of any
	if content != nil {
		of = content
	}
	if err := t.put(ctx, `INSERT INTO blobs (digest, content) VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET content = excluded.content
		WHERE blobs.content IS NULL AND excluded.content IS NOT NULL`, digest, of); err != nil {
		return err
	}
	return s.useBlob(ctx, t, digest)
}

// useBlob keeps a content that was noted before from whoever collects.
func (s *Store) useBlob(ctx context.Context, t *tx, digest []byte) error {
	query := `SELECT condemned FROM blobs WHERE digest = ?`
	if s.dialect.shared {
		query += ` FOR SHARE` // until what refers to it is there, nobody condemns it
	}
	condemned, err := one(ctx, t, scanOne[int64], query, digest)
	if errors.Is(err, ErrNotFound) || err == nil && condemned != 0 {
		return ErrCondemned
	}
	return err
}

// lockBlob keeps others from using a content: what they did before, the next statement sees.
func (s *Store) lockBlob(ctx context.Context, t *tx, digest []byte) error {
	if !s.dialect.shared {
		return nil
	}
	return t.put(ctx, `SELECT 1 FROM blobs WHERE digest = ? FOR UPDATE`, digest)
}

// blobInUse tells, of a row b of blobs, whether a delivery or an upload refers to it.
const blobInUse = `(EXISTS (SELECT 1 FROM deliveries d WHERE d.digest = b.digest)
	OR EXISTS (SELECT 1 FROM deliveries d WHERE d.digest = b.content AND d.sent_digest = b.digest)
	OR EXISTS (SELECT 1 FROM uploads u WHERE u.digest = b.digest) OR EXISTS (SELECT 1 FROM uploaded u WHERE u.digest = b.digest))`

// Condemn marks a large content as about to be removed, unless a delivery or an upload refers to it: none will, until Removed. It
// reports whether it is marked, also if it was before.
func (s *Store) Condemn(ctx context.Context, digest [32]byte) (condemned bool, err error) {
	used, err := one(ctx, s.brief, scanOne[bool], `SELECT `+blobInUse+` FROM blobs b WHERE b.digest = ?`, digest[:])
	if used || err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	err = s.write(ctx, func(t *tx) error {
		if err := t.put(ctx, `INSERT INTO blobs (digest) VALUES (?) ON CONFLICT DO NOTHING`, digest[:]); err != nil {
			return err
		}
		if err := s.lockBlob(ctx, t, digest[:]); err != nil {
			return err
		}
		n, err := t.exec(ctx, `UPDATE blobs AS b SET condemned = CASE condemned WHEN 0 THEN CAST(? AS BIGINT) ELSE condemned END
			WHERE digest = ? AND NOT `+blobInUse, millis(s.now()), digest[:])
		condemned = n > 0
		return err
	})
	return condemned && err == nil, err
}

// Condemned returns contents that were marked before the given time and not removed since, at most limit.
func (s *Store) Condemned(ctx context.Context, before time.Time, limit int) ([][32]byte, error) {
	return all(ctx, s.reads, func(r *sql.Rows) (v [32]byte, err error) {
		var digest []byte
		if err = r.Scan(&digest); err == nil && copy(v[:], digest) != len(v) {
			err = fmt.Errorf("a digest of %d bytes", len(digest))
		}
		return v, err
	}, `SELECT digest FROM blobs WHERE condemned <> 0 AND condemned < ? ORDER BY condemned LIMIT ?`, millis(before), limit)
}

// Removed notes that a condemned content has been removed.
func (s *Store) Removed(ctx context.Context, digest [32]byte) error {
	return s.write(ctx, func(t *tx) error {
		return t.put(ctx, `DELETE FROM blobs WHERE digest = ? AND condemned <> 0`, digest[:])
	})
}

// Content returns a content that is in the database, and ErrNotFound if it is not there.
func (s *Store) Content(ctx context.Context, digest [32]byte) ([]byte, error) {
	return one(ctx, s.reads, scanOne[[]byte], `SELECT data FROM contents WHERE digest = ?`, digest[:])
}

// OpenContent returns where the content of a delivery is of which that attempt is open for an instance, and until when it is;
// ErrNotFound if it is not open, or not for it.
func (s *Store) OpenContent(ctx context.Context, instance waybill.InstanceID, id waybill.DeliveryID, attempt int) (waybill.Delivery, error) {
	return one(ctx, s.brief, func(r *sql.Rows) (v waybill.Delivery, err error) {
		var deadline int64
		dest, done := deliveryFields(&v)
		if err = r.Scan(append(dest, &deadline)...); err == nil {
			done()
			v.Deadline = instant(deadline)
		}
		return v, err
	}, deliveryColumns+`, t.deadline`+openAttempt, id, instance, attempt)
}

// OpenLarge returns open targets of an instance that are to place a content larger than size bytes, at most limit.
func (s *Store) OpenLarge(ctx context.Context, instance waybill.InstanceID, size int64, limit int) ([]Target, error) {
	return all(ctx, s.reads, scanTarget, targetColumns+` FROM targets t JOIN deliveries d ON d.id = t.delivery
		WHERE t.instance = ? AND t.finished = 0 AND d.size > ? AND d.dry_run = 0 LIMIT ?`, instance, size, limit)
}

// OpenRehearsals returns open targets of an instance that are to place nothing, at most limit.
func (s *Store) OpenRehearsals(ctx context.Context, instance waybill.InstanceID, limit int) ([]Target, error) {
	return all(ctx, s.reads, scanTarget, targetColumns+` FROM targets t JOIN deliveries d ON d.id = t.delivery
		WHERE t.instance = ? AND t.finished = 0 AND d.dry_run <> 0 LIMIT ?`, instance, limit)
}
