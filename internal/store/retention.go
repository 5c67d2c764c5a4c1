// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/openwaybill/waybill"
)

// Scope is one account in one region: what retention counts by.
type Scope struct {
	Account waybill.AccountID
	Region  string
}

// Scopes returns every scope that has deliveries.
func (s *Store) Scopes(ctx context.Context) ([]Scope, error) {
	return all(ctx, s.reads, func(r *sql.Rows) (v Scope, err error) { return v, r.Scan(&v.Account, &v.Region) },
		`SELECT DISTINCT account, region FROM deliveries`)
}

type expired struct {
	id      string
	digest  []byte
	targets int
}

// maxExpired is how many targets one transaction removes, unless a single delivery has more.
const maxExpired = 50_000

// atMost returns the first of list that have that many targets together, and at least one.
func atMost(list []expired, targets int) []expired {
	for n, v := range list {
		if targets -= v.targets; targets < 0 && n > 0 {
			return list[:n]
		}
	}
	return list
}

// Expire removes up to limit ended deliveries of a scope that are older than before, or beyond the newest keep ones, with
// their targets and tags, oldest first; fewer if they have very many targets. It returns how many, 0 when none is left. What to remove is looked up beside the writer, which only
// deletes what was not retried meanwhile.
func (s *Store) Expire(ctx context.Context, scope Scope, before time.Time, keep, limit int) (removed int, err error) {
	// The newest delivery that is beyond keep; empty while there are fewer.
	beyond, err := one(ctx, s.reads, scanOne[string], `SELECT id FROM deliveries WHERE account = ? AND region = ?
		ORDER BY id DESC LIMIT 1 OFFSET ?`, scope.Account, scope.Region, keep)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	old, err := all(ctx, s.reads, func(r *sql.Rows) (v expired, err error) { return v, r.Scan(&v.id, &v.digest, &v.targets) },
		`SELECT id, digest, targets FROM deliveries WHERE account = ? AND region = ? AND (created < ? OR id <= ?)
			AND pending = 0 AND running = 0 ORDER BY id LIMIT ?`, scope.Account, scope.Region, millis(before), beyond, limit)
	if err != nil || len(old) == 0 {
		return 0, err
	}
	old = atMost(old, maxExpired)
	err = s.write(ctx, func(t *tx) error {
		ids := make([]string, len(old))
		for i, v := range old {
			ids[i] = v.id
		}
		if ids, err = all(ctx, t, scanOne[string], `SELECT id FROM deliveries WHERE pending = 0 AND running = 0
			AND id IN (SELECT value->>0 FROM `+s.dialect.rows+`)`+s.dialect.lockRows("id", "deliveries"), jsonRows(column(ids))); err != nil {
			return fmt.Errorf("read deliveries: %w", err)
		}
		removed = len(ids)
		for _, q := range []string{
			`DELETE FROM targets WHERE delivery IN (SELECT value->>0 FROM ` + s.dialect.rows + `)`,
			s.dialect.dropDiffs(),
			`DELETE FROM attempts WHERE delivery IN (SELECT value->>0 FROM ` + s.dialect.rows + `)`,
			`DELETE FROM tags WHERE kind = 'delivery' AND resource IN (SELECT value->>0 FROM ` + s.dialect.rows + `)`,
			`DELETE FROM deliveries WHERE id IN (SELECT value->>0 FROM ` + s.dialect.rows + `)`,
		} {
			if _, err := t.exec(ctx, q, jsonRows(column(ids))); err != nil {
				return fmt.Errorf("remove deliveries: %w", err)
			}
		}
		return s.dropContents(ctx, t, old)
	})
	return removed, err
}

// dropContents removes the contents of deliveries that are gone, unless another delivery has them.
func (s *Store) dropContents(ctx context.Context, t *tx, gone []expired) error {
	digests := map[string]bool{}
	for _, v := range gone {
		digests[string(v.digest)] = true
	}
	sorted := slices.Sorted(maps.Keys(digests))
	if s.dialect.shared {
		return s.dropSharedContents(ctx, t, sorted)
	}
	for _, digest := range sorted {
		if err := t.put(ctx, `DELETE FROM contents WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.digest = ?)`,
			[]byte(digest), []byte(digest)); err != nil {
			return fmt.Errorf("remove content: %w", err)
		}
	}
	return nil
}

// ForgetNonces removes up to limit nonces that have expired, and returns how many.
func (s *Store) ForgetNonces(ctx context.Context, limit int) (removed int64, err error) {
	s.nonces.forget(s.now())
	err = s.write(ctx, func(t *tx) error {
		removed, err = t.exec(ctx, `DELETE FROM nonces WHERE digest IN (SELECT digest FROM nonces WHERE expires < ? LIMIT ?)`, millis(s.now()), limit)
		return err
	})
	return removed, err
}
