// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"time"

	"github.com/openwaybill/waybill"
)

// Session is somebody who is signed in to the console. The token that stands for it is not kept, only its digest.
type Session struct {
	Account   waybill.AccountID
	AccessKey string // ID of the key that was signed in with
	Created   time.Time
	Used      time.Time
	Expires   time.Time
}

func sessionDigest(token string) []byte {
	d := sha256.Sum256([]byte(token))
	return d[:]
}

// AddSession stores a session. No more than most of an access key are kept: the ones least recently used end.
func (s *Store) AddSession(ctx context.Context, token string, v Session, most int) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.put(ctx, `INSERT INTO sessions (token, account, access_key, created, used, expires) VALUES (?, ?, ?, ?, ?, ?)`,
			sessionDigest(token), v.Account, v.AccessKey, millis(v.Created), millis(v.Used), millis(v.Expires)); err != nil {
			return err
		}
		return t.put(ctx, `DELETE FROM sessions WHERE access_key = ? AND token IN (
			SELECT token FROM sessions WHERE access_key = ? ORDER BY used DESC, token LIMIT 1000 OFFSET ?)`, v.AccessKey, v.AccessKey, most)
	})
}

// Session returns the session of a token, be it over or not; ErrNotFound if there is none.
func (s *Store) Session(ctx context.Context, token string) (Session, error) {
	return one(ctx, s.brief, func(r *sql.Rows) (v Session, err error) {
		var created, used, expires int64
		err = r.Scan(&v.Account, &v.AccessKey, &created, &used, &expires)
		v.Created, v.Used, v.Expires = instant(created), instant(used), instant(expires)
		return v, err
	}, `SELECT account, access_key, created, used, expires FROM sessions WHERE token = ?`, sessionDigest(token))
}

// UseSession notes that a session was used.
func (s *Store) UseSession(ctx context.Context, token string, at time.Time) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `UPDATE sessions SET used = ? WHERE token = ? AND used < ?`, millis(at), sessionDigest(token), millis(at))
		return err
	})
}

// EndSession ends a session. One that is not there is no error.
func (s *Store) EndSession(ctx context.Context, token string) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `DELETE FROM sessions WHERE token = ?`, sessionDigest(token))
		return err
	})
}

// EndSessions ends every session of an access key and returns how many there were.
func (s *Store) EndSessions(ctx context.Context, keyID string) (ended int64, err error) {
	err = s.write(ctx, func(t *tx) error {
		ended, err = t.exec(ctx, `DELETE FROM sessions WHERE access_key = ?`, keyID)
		return err
	})
	return ended, err
}

// ForgetSessions removes up to limit sessions that are over, or were not used since idle, and returns how many.
func (s *Store) ForgetSessions(ctx context.Context, idle time.Time, limit int) (removed int64, err error) {
	err = s.write(ctx, func(t *tx) error {
		removed, err = t.exec(ctx, `DELETE FROM sessions WHERE token IN (SELECT token FROM sessions WHERE expires <= ? OR used < ? LIMIT ?)`,
			millis(s.now()), millis(idle), limit)
		return err
	})
	return removed, err
}
