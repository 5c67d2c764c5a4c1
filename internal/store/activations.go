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

const activationColumns = `SELECT a.id, a.account, a.region, a.instance_name, a.instance_count, a.registered, a.deregistered,
	a.ttl, a.description, a.address_range, a.disabled, a.resource_group, a.created, a.code_hash`

type activationRow struct {
	waybill.Activation
	hash []byte
}

func scanActivation(r *sql.Rows) (a activationRow, err error) {
	var ttl, created int64
	err = r.Scan(&a.ID, &a.Account, &a.Region, &a.InstanceName, &a.InstanceCount, &a.Registered, &a.Deregistered,
		&ttl, &a.Description, &a.AddressRange, &a.Disabled, &a.ResourceGroup, &created, &a.hash)
	a.TTL, a.Created = time.Duration(ttl)*time.Millisecond, instant(created)
	return a, err
}

// AddActivation stores a new activation with the hash of its code; ErrLimit if the account has limit activations in that
// region.
func (s *Store) AddActivation(ctx context.Context, a waybill.Activation, hash []byte, limit int) error {
	return s.writeAlone(ctx, accountWide(a.Account), func(t *tx) error {
		n, err := t.exec(ctx, `INSERT INTO activations (id, account, region, code_hash, instance_name, instance_count, ttl, description,
				address_range, resource_group, created)
			SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE (SELECT COUNT(*) FROM activations WHERE account = ? AND region = ?) < ?`,
			a.ID, a.Account, a.Region, hash, a.InstanceName, a.InstanceCount, a.TTL.Milliseconds(), a.Description,
			a.AddressRange, a.ResourceGroup, millis(a.Created), a.Account, a.Region, limit)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrLimit
		}
		return t.addTags(ctx, s.dialect, a.Account, waybill.ActivationResource, string(a.ID), a.Tags)
	})
}

// Activation returns an activation and the hash of its code; ErrNotFound if it is not there.
func (s *Store) Activation(ctx context.Context, id waybill.ActivationID) (waybill.Activation, []byte, error) {
	a, err := one(ctx, s.reads, scanActivation, activationColumns+` FROM activations a WHERE a.id = ?`, id)
	if err != nil {
		return waybill.Activation{}, nil, err
	}
	tags, err := s.tagsOf(ctx, s.reads, waybill.ActivationResource, []string{string(id)})
	a.Tags = tags[string(id)]
	return a.Activation, a.hash, err
}

// Activations returns a page of an account's activations with tags, newest first.
func (s *Store) Activations(ctx context.Context, account waybill.AccountID, f waybill.ActivationFilter, p waybill.Page) (waybill.Listing[waybill.Activation], error) {
	var list waybill.Listing[waybill.Activation]
	var w filter
	w.add("a.account = ? AND a.region = ?", account, f.Region)
	w.eq("a.id", string(f.ID))
	w.eq("a.instance_name", f.InstanceName)
	w.eq("a.resource_group", f.ResourceGroup)
	w.tags(s.dialect, waybill.ActivationResource, "a.id", account, f.Tags)
	var err error
	if list.Total, err = one(ctx, s.reads, scanOne[int64], "SELECT COUNT(*) FROM activations a"+w.where(), w.args...); err != nil {
		return list, fmt.Errorf("count activations: %w", err)
	}
	after(&w, "a.created", "a.id", p.Cursor)
	rows, err := all(ctx, s.reads, scanActivation, activationColumns+" FROM activations a"+w.where()+
		" ORDER BY a.created DESC, a.id DESC LIMIT ? OFFSET ?", append(w.args, p.Size+1, p.Offset)...)
	if err != nil {
		return list, fmt.Errorf("list activations: %w", err)
	}
	if len(rows) > p.Size {
		rows = rows[:p.Size]
		last := rows[p.Size-1]
		list.Next = cursor(last.Created, string(last.ID))
	}
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = string(r.ID)
	}
	tags, err := s.tagsOf(ctx, s.reads, waybill.ActivationResource, ids)
	if err != nil {
		return list, fmt.Errorf("list tags: %w", err)
	}
	for _, r := range rows {
		r.Tags = tags[string(r.ID)]
		list.Items = append(list.Items, r.Activation)
	}
	return list, nil
}

// DisableActivation disables an activation; ErrNotFound if it is not there.
func (s *Store) DisableActivation(ctx context.Context, account waybill.AccountID, region string, id waybill.ActivationID) error {
	return s.write(ctx, func(t *tx) error {
		return mustChange(t.exec(ctx, `UPDATE activations SET disabled = TRUE WHERE id = ? AND account = ? AND region = ?`, id, account, region))
	})
}

// DeleteActivation removes an activation with which no machine has enrolled; ErrNotFound if there is no such one.
func (s *Store) DeleteActivation(ctx context.Context, account waybill.AccountID, region string, id waybill.ActivationID) error {
	return s.write(ctx, func(t *tx) error {
		if err := mustChange(t.exec(ctx, `DELETE FROM activations WHERE id = ? AND account = ? AND region = ? AND registered = 0`, id, account, region)); err != nil {
			return err
		}
		_, err := t.exec(ctx, `DELETE FROM tags WHERE kind = ? AND resource = ?`, waybill.ActivationResource, id)
		return err
	})
}

// cursor is the keyset position of a listing that is ordered by a time and an ID.
func cursor(at time.Time, id string) string { return strconv.FormatInt(at.UnixMilli(), 10) + " " + id }

// after adds that rows come after cursor c, newest first. A cursor comes from an earlier Listing: front ends sign them.
func after(w *filter, timeColumn, idColumn, c string) {
	if c == "" {
		return
	}
	ms, id, _ := strings.Cut(c, " ")
	at, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		at = 0 // matches nothing
	}
	w.add("("+timeColumn+", "+idColumn+") < (?, ?)", at, id)
}
