// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
)

// Hook is a webhook with its sealed secret.
type Hook struct {
	waybill.Webhook
	Sealed []byte
}

const webhookColumns = `SELECT w.id, w.account, w.region, w.url, w.description, w.types, w.secret, w.enabled, w.reason, w.created, w.updated,
	w.failures, w.resume, (SELECT COUNT(*) FROM webhook_events e WHERE e.webhook = w.id AND e.status = 'Waiting') FROM webhooks w`

func scanHook(r *sql.Rows) (h Hook, err error) {
	var types string
	var created, updated, resume int64
	if err = r.Scan(&h.ID, &h.Account, &h.Region, &h.URL, &h.Description, &types, &h.Sealed, &h.Enabled, &h.Reason,
		&created, &updated, &h.Failures, &resume, &h.Waiting); err != nil {
		return h, err
	}
	for t := range strings.FieldsFuncSeq(types, func(r rune) bool { return r == ',' }) {
		h.Types = append(h.Types, waybill.EventType(t))
	}
	h.Created, h.Updated, h.Resume = instant(created), instant(updated), instant(resume)
	return h, nil
}

// eventTypes writes types as the column of that name has them.
func eventTypes(types []waybill.EventType) string {
	if len(types) == 0 {
		return ""
	}
	return "," + strings.Join(texts(types), ",") + ","
}

// AddWebhook stores a new webhook; ErrLimit if the account has limit in that region.
func (s *Store) AddWebhook(ctx context.Context, h Hook, limit int) error {
	return s.writeAlone(ctx, accountWide(h.Account), func(t *tx) error {
		n, err := one(ctx, t, scanOne[int], `SELECT COUNT(*) FROM webhooks WHERE account = ? AND region = ?`, h.Account, h.Region)
		if err != nil {
			return err
		}
		if n >= limit {
			return ErrLimit
		}
		_, err = t.exec(ctx, `INSERT INTO webhooks (id, account, region, url, description, types, secret, enabled, created, updated)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			h.ID, h.Account, h.Region, h.URL, h.Description, eventTypes(h.Types), h.Sealed, h.Enabled, millis(h.Created), millis(h.Updated))
		return err
	})
}

// Webhooks returns the webhooks of an account in a region, oldest first; only that of an ID, unless it is empty.
func (s *Store) Webhooks(ctx context.Context, account waybill.AccountID, region, id string) ([]waybill.Webhook, error) {
	var w filter
	w.add("w.account = ? AND w.region = ?", account, region)
	w.eq("w.id", id)
	list, err := all(ctx, s.reads, scanHook, webhookColumns+w.where()+` ORDER BY w.created, w.id`, w.args...)
	hooks := make([]waybill.Webhook, len(list))
	for i, h := range list {
		hooks[i] = h.Webhook
	}
	return hooks, err
}

// ChangeWebhook changes a webhook as change says, and returns what it is then; ErrNotFound if it is not there. Its next attempt
// is made at once.
func (s *Store) ChangeWebhook(
	ctx context.Context, account waybill.AccountID, region, id string, change func(*waybill.Webhook) error,
) (w waybill.Webhook, err error) {
	err = s.write(ctx, func(t *tx) error {
		h, err := one(ctx, t, scanHook, webhookColumns+` WHERE w.id = ? AND w.account = ? AND w.region = ?`+s.dialect.lockRows("w.id", "w"), id, account, region)
		if err != nil {
			return err
		}
		if err := change(&h.Webhook); err != nil {
			return err
		}
		w = h.Webhook
		w.Failures, w.Resume, w.Updated = 0, time.Time{}, s.now().UTC()
		_, err = t.exec(ctx, `UPDATE webhooks SET url = ?, description = ?, types = ?, enabled = ?, reason = ?, updated = ?, failures = 0, resume = 0
			WHERE id = ?`, w.URL, w.Description, eventTypes(w.Types), w.Enabled, w.Reason, millis(w.Updated), id)
		return err
	})
	return w, err
}

// DeleteWebhook removes a webhook; ErrNotFound if it is not there. Its events go with ForgetEvents.
func (s *Store) DeleteWebhook(ctx context.Context, account waybill.AccountID, region, id string) error {
	return s.write(ctx, func(t *tx) error {
		return mustChange(t.exec(ctx, `DELETE FROM webhooks WHERE id = ? AND account = ? AND region = ?`, id, account, region))
	})
}

const eventColumns = `SELECT e.seq, e.id, e.type, e.subject, e.time, e.status, e.attempts, e.tried, e.next, e.answer`

func eventFields(v *waybill.WebhookEvent) (dest []any, done func()) {
	var at, tried, next int64
	return []any{&v.Sequence, &v.ID, &v.Type, &v.Subject, &at, &v.Status, &v.Attempts, &tried, &next, &v.Answer}, func() {
		v.Time, v.Tried, v.Next = instant(at), instant(tried), instant(next)
	}
}

// WebhookEvents returns a page of the events of a webhook, newest first, only those of a status unless it is empty; ErrNotFound if
// there is no such webhook.
func (s *Store) WebhookEvents(
	ctx context.Context, account waybill.AccountID, region, id string, status waybill.EventStatus, p waybill.Page,
) (list waybill.Listing[waybill.WebhookEvent], err error) {
	if err := mustBeWebhook(ctx, s.brief, account, region, id); err != nil {
		return list, err
	}
	var w filter
	w.add("e.webhook = ?", id)
	w.eq("e.status", string(status))
	if p.Cursor != "" {
		before, err := strconv.ParseInt(p.Cursor, 10, 64)
		if err != nil {
			return list, fmt.Errorf("cursor: %w", err)
		}
		w.add("e.seq < ?", before)
	}
	list.Items, err = all(ctx, s.reads, func(r *sql.Rows) (v waybill.WebhookEvent, err error) {
		dest, done := eventFields(&v)
		if err = r.Scan(dest...); err == nil {
			done()
		}
		return v, err
	}, eventColumns+` FROM webhook_events e`+w.where()+` ORDER BY e.seq DESC LIMIT ?`, append(w.args, p.Size+1)...)
	if err == nil && len(list.Items) > p.Size {
		list.Items = list.Items[:p.Size]
		list.Next = strconv.FormatInt(list.Items[p.Size-1].Sequence, 10)
	}
	return list, err
}

func mustBeWebhook(ctx context.Context, q querier, account waybill.AccountID, region, id string) error {
	_, err := one(ctx, q, scanOne[int], `SELECT 1 FROM webhooks WHERE id = ? AND account = ? AND region = ?`, id, account, region)
	return err
}

// Replay makes events of a webhook wait that have been sent or given up, and returns how many; ErrNotFound if there is no such
// webhook.
func (s *Store) Replay(
	ctx context.Context, account waybill.AccountID, region, id string, which waybill.EventSelection,
) (n int64, err error) {
	err = s.write(ctx, func(t *tx) error {
		if err := mustBeWebhook(ctx, t, account, region, id); err != nil {
			return err
		}
		now := s.now()
		set := []any{millis(now), millis(now.Add(AttemptsFor))}
		var w filter
		w.add("webhook = ? AND status <> 'Waiting'", id)
		if len(which.IDs) > 0 {
			w.in(s.dialect, "id", which.IDs)
		} else {
			w.add("time >= ?", millis(which.Since))
			if !which.Until.IsZero() {
				w.add("time < ?", millis(which.Until))
			}
		}
		n, err = t.exec(ctx, `UPDATE webhook_events SET status = 'Waiting', attempts = 0, next = ?, until = ?, answer = ''`+w.where(), append(set, w.args...)...)
		return err
	})
	return n, err
}

// DueWebhooks returns the IDs of up to limit webhooks that have something to send now.
func (s *Store) DueWebhooks(ctx context.Context, limit int) ([]string, error) {
	now := millis(s.now())
	return all(ctx, s.reads, scanOne[string], `SELECT w.id FROM webhooks w JOIN accounts a ON a.id = w.account
		WHERE w.enabled AND NOT a.disabled AND w.resume <= ?
			AND EXISTS (SELECT 1 FROM webhook_events e WHERE e.webhook = w.id AND e.status = 'Waiting' AND e.next <= ?)
		ORDER BY w.resume, w.id LIMIT ?`, now, now, limit)
}

// DueEvent is an event that is to be sent, with what is sent.
type DueEvent struct {
	waybill.WebhookEvent
	Body []byte
}

// DueEvents returns a webhook and up to limit of its events that are to be sent now: of each subject only the earliest that waits, and
// first what was tried the least, so that the receiver is not asked again and again with the one that it cannot digest. There are none if it is disabled or not to be tried yet; ErrNotFound if it is not there.
func (s *Store) DueEvents(ctx context.Context, id string, limit int) (h Hook, due []DueEvent, err error) {
	if h, err = one(ctx, s.brief, scanHook, webhookColumns+` WHERE w.id = ?`, id); err != nil {
		return h, nil, err
	}
	now := s.now()
	if !h.Enabled || h.Resume.After(now) {
		return h, nil, nil
	}
	due, err = all(ctx, s.reads, func(r *sql.Rows) (v DueEvent, err error) {
		dest, done := eventFields(&v.WebhookEvent)
		if err = r.Scan(append(dest, &v.Body)...); err == nil {
			done()
		}
		return v, err
	}, eventColumns+`, e.body FROM webhook_events e WHERE e.webhook = ? AND e.status = 'Waiting' AND e.next <= ? AND NOT EXISTS (
			SELECT 1 FROM webhook_events b WHERE b.webhook = e.webhook AND b.subject = e.subject AND b.status = 'Waiting' AND b.seq < e.seq)
		ORDER BY e.attempts, e.seq LIMIT ?`, id, millis(now), limit)
	return h, due, err
}

// Attempted is what came of an attempt to send an event.
type Attempted struct {
	Sequence int64
	Attempts int // before this one; if there were others meanwhile, this one changes nothing
	Sent     bool
	Answer   string
	Next     time.Time // if it was not sent: not before this
}

// Settle notes what came of attempts. The next one to that webhook is made after resume, unless that is zero: then the webhook
// works. A reason that is not empty disables it. It returns how many events were given up.
func (s *Store) Settle(ctx context.Context, id string, list []Attempted, resume time.Time, reason string) (gaveUp int64, err error) {
	now := millis(s.now())
	err = s.write(ctx, func(t *tx) error {
		gaveUp = 0
		for _, a := range list {
			if a.Sent {
				if err := t.put(ctx, `UPDATE webhook_events SET status = 'Sent', attempts = attempts + 1, tried = ?, answer = ?
					WHERE seq = ? AND status = 'Waiting' AND attempts = ?`, now, a.Answer, a.Sequence, a.Attempts); err != nil {
					return err
				}
				continue
			}
			if _, err := t.exec(ctx, `UPDATE webhook_events SET attempts = attempts + 1, tried = ?, answer = ?, next = ?
				WHERE seq = ? AND status = 'Waiting' AND attempts = ?`, now, a.Answer, millis(a.Next), a.Sequence, a.Attempts); err != nil {
				return err
			}
			n, err := t.exec(ctx, `UPDATE webhook_events SET status = 'Failed' WHERE seq = ? AND status = 'Waiting' AND until <= ?`, a.Sequence, now)
			if err != nil {
				return err
			}
			gaveUp += n
		}
		switch {
		case reason != "":
			return t.put(ctx, `UPDATE webhooks SET enabled = ?, reason = ?, updated = ? WHERE id = ?`, false, reason, now, id)
		case !resume.IsZero():
			return t.put(ctx, `UPDATE webhooks SET failures = failures + 1, resume = ? WHERE id = ?`, millis(resume), id)
		}
		return t.put(ctx, `UPDATE webhooks SET failures = 0, resume = 0 WHERE id = ? AND failures > 0`, id)
	})
	return gaveUp, err
}

// ForgetEvents removes up to limit events that happened before t, or whose webhook is gone, and returns how many.
func (s *Store) ForgetEvents(ctx context.Context, before time.Time, limit int) (removed int64, err error) {
	err = s.write(ctx, func(t *tx) error {
		removed, err = t.exec(ctx, `DELETE FROM webhook_events WHERE seq IN (SELECT seq FROM webhook_events e
			WHERE e.time < ? OR NOT EXISTS (SELECT 1 FROM webhooks w WHERE w.id = e.webhook) LIMIT ?)`, millis(before), limit)
		return err
	})
	return removed, err
}
