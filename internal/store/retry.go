// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/openwaybill/waybill"
)

// ErrChanged means that what was to be changed is not any more what it was when it was looked at.
var ErrChanged = errors.New("changed meanwhile")

// Retriable returns a delivery with its targets on the given instances, or all of them if none is given, in the order in which
// they were asked for, as a request to retry looks at them. Of instances that are no targets there are none. It returns
// ErrNotFound if the account has no such delivery in that region.
func (s *Store) Retriable(
	ctx context.Context, account waybill.AccountID, region string, id waybill.DeliveryID, only []waybill.InstanceID,
) (d waybill.Delivery, targets []Target, err error) {
	d, err = one(ctx, s.brief, func(r *sql.Rows) (v waybill.Delivery, err error) {
		dest, done := deliveryFields(&v)
		if err = r.Scan(dest...); err == nil {
			done()
		}
		return v, err
	}, deliveryColumns+` FROM deliveries d WHERE d.id = ? AND d.account = ? AND d.region = ?`, id, account, region)
	if err != nil {
		return d, nil, err
	}
	query, args := targetColumns+` FROM targets t WHERE t.delivery = ? AND t.created = ?`, []any{id, millis(d.Created)}
	if len(only) > 0 {
		query, args = query+` AND t.instance IN (SELECT value->>0 FROM `+s.dialect.rows+`)`, append(args, jsonRows(column(only)))
	}
	targets, err = all(ctx, s.reads, scanTarget, query+` ORDER BY t.ordinal`, args...)
	return d, targets, err
}

// Retry lets new attempts of targets of a delivery take the place of those before them, which are kept, in one transaction. It
// returns ErrChanged, and changes nothing, if one of them could not be retried any more.
func (s *Store) Retry(ctx context.Context, d *waybill.Delivery, next []Target) error {
	made := &within{}
	made.add(millis(d.Created))
	period, times := made.of("t")
	keys := make([][2]string, len(next))
	for i, v := range next {
		keys[i] = [2]string{string(d.ID), string(v.Instance)}
	}
	return s.write(ctx, func(t *tx) error {
		if len(next) == 0 {
			return nil // but the request is recorded
		}
		found, err := all(ctx, t, scanHeld, heldColumns+` FROM (SELECT value->>0 AS delivery, value->>1 AS instance FROM `+s.dialect.rows+`) k
			`+s.dialect.inOrder+` targets t ON t.delivery = k.delivery AND t.instance = k.instance`+period+`
			`+s.dialect.inOrder+` deliveries d ON d.id = t.delivery AND d.created = t.created`+s.dialect.lockRows("t.delivery, t.instance", "t"),
			append([]any{jsonRows(keys)}, times...)...)
		if err != nil {
			return fmt.Errorf("read targets: %w", err)
		}
		was := make(map[waybill.InstanceID]heldTarget, len(found))
		for _, v := range found {
			was[v.Instance] = v
		}
		begun, counts := map[targetKey]heldTarget{}, &waybill.Counts{}
		for _, v := range next {
			old := was[v.Instance]
			if old.Attempt+1 != v.Attempt {
				return ErrChanged
			}
			if _, retrying := old.Retry(v.Begun); retrying != waybill.RetryBegun {
				return ErrChanged
			}
			counts.Add(old.Status, -1)
			counts.Add(v.Status, 1)
			old.Target = v.Target
			begun[targetKey{d.ID, v.Instance}] = old
		}
		if err := s.beginAttempts(ctx, t, made, d.ID, next); err != nil {
			return err
		}
		ends := millis(slices.MaxFunc(next, func(a, b Target) int { return a.Deadline.Compare(b.Deadline) }).Deadline)
		if err := t.put(ctx, `UPDATE deliveries SET deadline = ? WHERE id = ? AND created = ? AND deadline < ?`, ends, d.ID, millis(d.Created), ends); err != nil {
			return fmt.Errorf("extend deadline: %w", err)
		}
		return s.tellOfChanges(ctx, t, made, begun, map[waybill.DeliveryID]*waybill.Counts{d.ID: counts})
	})
}

// attemptColumns are those that attempts has of targets.
const attemptColumns = `delivery, instance, attempt, status, cause, detail, change, created, begun, started, finished, updated, deadline, given, stopped`

// beginAttempts keeps what targets are, and makes them what they are to be.
func (s *Store) beginAttempts(ctx context.Context, t *tx, made *within, id waybill.DeliveryID, next []Target) error {
	period, times := made.of("targets")
	for batch := range slices.Chunk(next, targetBatch) {
		rows := make([][9]any, len(batch))
		for i, v := range batch {
			given := 0
			if v.Given {
				given = 1
			}
			rows[i] = [9]any{
				v.Instance, v.Attempt, v.Status, v.Cause, v.Detail, millis(v.Begun), millis(v.Finished), millis(v.Deadline), given,
			}
		}
		encoded := jsonRows(rows)
		if err := t.put(ctx, `INSERT INTO attempts (`+attemptColumns+`) SELECT `+attemptColumns+` FROM targets
			WHERE delivery = ? AND instance IN (SELECT value->>0 FROM `+s.dialect.rows+`)`+period,
			append([]any{id, encoded}, times...)...); err != nil {
			return fmt.Errorf("keep attempts: %w", err)
		}
		if err := t.put(ctx, `UPDATE targets SET attempt = r.attempt, status = r.status, cause = r.cause, detail = r.detail,
				change = '', begun = r.begun, started = 0, finished = r.finished, updated = r.begun, deadline = r.deadline,
				given = r.given, stopped = 0
			FROM (SELECT value->>0 AS instance, CAST(value->>1 AS BIGINT) AS attempt, value->>2 AS status, value->>3 AS cause,
				value->>4 AS detail, CAST(value->>5 AS BIGINT) AS begun, CAST(value->>6 AS BIGINT) AS finished,
				CAST(value->>7 AS BIGINT) AS deadline, CAST(value->>8 AS BIGINT) AS given FROM `+s.dialect.rows+`) r
			WHERE targets.delivery = ? AND targets.instance = r.instance`+period,
			append([]any{encoded, id}, times...)...); err != nil {
			return fmt.Errorf("begin attempts: %w", err)
		}
	}
	return nil
}

// Attempts returns the attempts at a delivery on an instance, the first one first, and ErrNotFound if the account has no such
// delivery in that region. Of an instance that it does not go to there are none.
func (s *Store) Attempts(
	ctx context.Context, account waybill.AccountID, region string, id waybill.DeliveryID, instance waybill.InstanceID,
) ([]Target, error) {
	_, now, err := s.Retriable(ctx, account, region, id, []waybill.InstanceID{instance})
	if err != nil || len(now) == 0 {
		return nil, err
	}
	past, err := all(ctx, s.reads, scanTarget, targetColumns+` FROM attempts t WHERE t.delivery = ? AND t.instance = ? AND t.attempt < ? ORDER BY t.attempt`,
		id, instance, now[0].Attempt)
	return append(past, now[0]), err
}

// pastAttempts returns, of attempts that changes are of, those that another has taken the place of.
func (s *Store) pastAttempts(ctx context.Context, t *tx, changes []Change, targets map[targetKey]heldTarget) (map[attemptKey]heldTarget, error) {
	past := map[attemptKey]heldTarget{}
	for _, c := range changes {
		now, ok := targets[targetKey{c.Delivery, c.Instance}]
		if !ok || c.Attempt == 0 || c.Attempt >= now.Attempt {
			continue
		}
		key := attemptKey{targetKey{c.Delivery, c.Instance}, c.Attempt}
		if _, known := past[key]; known {
			continue
		}
		v, err := one(ctx, t, scanTarget, targetColumns+` FROM attempts t WHERE t.delivery = ? AND t.instance = ? AND t.attempt = ?`+s.dialect.lockRows("t.attempt", "t"),
			c.Delivery, c.Instance, c.Attempt)
		if err != nil {
			return nil, fmt.Errorf("read a past attempt: %w", err)
		}
		now.Target, now.terms.Deadline = v.Target, v.Deadline
		past[key] = now
	}
	return past, nil
}

type attemptKey struct {
	targetKey
	attempt int
}

// correctAttempt stores what a past attempt has turned out to be.
func (t *tx) correctAttempt(ctx context.Context, v *waybill.Target) error {
	err := t.put(ctx, `UPDATE attempts SET status = ?, cause = ?, detail = ?, change = ?, started = ?, finished = ?, updated = ?
		WHERE delivery = ? AND instance = ? AND attempt = ?`, v.Status, v.Cause, v.Detail, v.Change, millis(v.Started), millis(v.Finished),
		millis(v.Updated), v.Delivery, v.Instance, v.Attempt)
	if err != nil {
		return fmt.Errorf("correct a past attempt: %w", err)
	}
	return nil
}
