// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/openwaybill/waybill"
)

// TokenLife is how long the answer to a request with a ClientToken is remembered.
const TokenLife = 24 * time.Hour

// useToken stores the answer of the act under its token; ErrTokenUsed if there is one.
func (s *Store) useToken(ctx context.Context, t *tx) error {
	a := s.act
	if a.Token == "" {
		return nil
	}
	now := s.now()
	n, err := t.exec(ctx, `INSERT INTO client_tokens (account, actor, region, action, token, digest, answer, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account, actor, region, action, token) DO UPDATE
		SET digest = excluded.digest, answer = excluded.answer, expires = excluded.expires WHERE client_tokens.expires <= ?`,
		a.Account, a.Name, a.Region, a.Action, a.Token, a.Digest[:], notNil(s.answer), millis(now.Add(TokenLife)), millis(now))
	if err == nil && n == 0 {
		err = ErrTokenUsed
	}
	return err
}

// TokenAnswer is what a token stands for.
type TokenAnswer struct {
	Digest [32]byte // of the parameters of the request that was answered
	Answer []byte
}

// TokenAnswer returns the answer that is remembered for the token of an act; ErrNotFound if there is none.
func (s *Store) TokenAnswer(ctx context.Context, a *waybill.Act) (TokenAnswer, error) {
	return one(ctx, s.brief, func(r *sql.Rows) (v TokenAnswer, err error) {
		var digest []byte
		err = r.Scan(&digest, &v.Answer)
		copy(v.Digest[:], digest)
		return v, err
	}, `SELECT digest, answer FROM client_tokens WHERE account = ? AND actor = ? AND region = ? AND action = ? AND token = ? AND expires > ?`,
		a.Account, a.Name, a.Region, a.Action, a.Token, millis(s.now()))
}

// ForgetTokens removes up to limit answers whose time is over, and returns how many.
func (s *Store) ForgetTokens(ctx context.Context, limit int) (removed int64, err error) {
	err = s.write(ctx, func(t *tx) error {
		removed, err = t.exec(ctx, `DELETE FROM client_tokens WHERE (account, actor, region, action, token) IN (
			SELECT account, actor, region, action, token FROM client_tokens WHERE expires <= ? LIMIT ?)`, millis(s.now()), limit)
		return err
	})
	return removed, err
}
