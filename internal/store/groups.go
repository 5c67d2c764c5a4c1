// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/openwaybill/waybill"
)

const groupColumns = `SELECT g.id, g.name, g.display_name, g.created FROM resource_groups g`

func scanResourceGroup(r *sql.Rows) (g waybill.ResourceGroup, err error) {
	var created int64
	err = r.Scan(&g.ID, &g.Name, &g.DisplayName, &created)
	g.Created = instant(created)
	return g, err
}

// AddResourceGroup stores a new resource group; ErrExists if its name is taken, ErrLimit if the account has limit.
func (s *Store) AddResourceGroup(ctx context.Context, account waybill.AccountID, g waybill.ResourceGroup, limit int) error {
	return s.writeAlone(ctx, accountWide(account), func(t *tx) error {
		n, err := one(ctx, t, scanOne[int], `SELECT COUNT(*) FROM resource_groups WHERE account = ?`, account)
		if err != nil {
			return err
		}
		if n >= limit {
			return ErrLimit
		}
		return mustAdd(t.exec(ctx, `INSERT INTO resource_groups (account, id, name, display_name, created) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO NOTHING`, account, g.ID, g.Name, g.DisplayName, millis(g.Created)))
	})
}

// ResourceGroup returns a resource group; ErrNotFound if it is not there.
func (s *Store) ResourceGroup(ctx context.Context, account waybill.AccountID, id string) (waybill.ResourceGroup, error) {
	return one(ctx, s.brief, scanResourceGroup, groupColumns+` WHERE g.account = ? AND g.id = ?`, account, id)
}

// ResourceGroups returns a page of an account's resource groups by name, which is also the cursor. Those with any of ids,
// if there are any, and with that name, unless it is empty.
func (s *Store) ResourceGroups(ctx context.Context, account waybill.AccountID, ids []string, name string, p waybill.Page) (waybill.Listing[waybill.ResourceGroup], error) {
	var w filter
	w.add("g.account = ?", account)
	w.in(s.dialect, "g.id", ids)
	w.eq("g.name", name)
	return listByName(ctx, s, "resource_groups g", groupColumns, "g.name", w, p, scanResourceGroup,
		func(g waybill.ResourceGroup) string { return g.Name })
}

// listByName returns a page of what is ordered by a unique name, which is the cursor.
func listByName[T any](
	ctx context.Context, s *Store, from, columns, name string, w filter, p waybill.Page,
	scan func(*sql.Rows) (T, error), nameOf func(T) string,
) (list waybill.Listing[T], err error) {
	if list.Total, err = one(ctx, s.reads, scanOne[int64], "SELECT COUNT(*) FROM "+from+w.where(), w.args...); err != nil {
		return list, fmt.Errorf("count %s: %w", from, err)
	}
	if p.Cursor != "" {
		w.add(name+" > ?", p.Cursor)
	}
	list.Items, err = all(ctx, s.reads, scan, columns+w.where()+" ORDER BY "+name+" LIMIT ? OFFSET ?", append(w.args, p.Size+1, p.Offset)...)
	if err != nil {
		return list, fmt.Errorf("list %s: %w", from, err)
	}
	if len(list.Items) > p.Size {
		list.Items = list.Items[:p.Size]
		list.Next = nameOf(list.Items[p.Size-1])
	}
	return list, nil
}

// RenameResourceGroup gives a resource group another display name; ErrNotFound if it is not there.
func (s *Store) RenameResourceGroup(ctx context.Context, account waybill.AccountID, id, displayName string) error {
	return s.write(ctx, func(t *tx) error {
		return mustChange(t.exec(ctx, `UPDATE resource_groups SET display_name = ? WHERE account = ? AND id = ?`, displayName, account, id))
	})
}

// DeleteResourceGroup removes a resource group that no instance and no activation belongs to: ErrLimit if some does,
// ErrNotFound if the group is not there. Deliveries keep its ID.
func (s *Store) DeleteResourceGroup(ctx context.Context, account waybill.AccountID, id string) error {
	return s.writeAlone(ctx, accountWide(account), func(t *tx) error {
		n, err := one(ctx, t, scanOne[int], `SELECT
			(SELECT COUNT(*) FROM instances WHERE account = ? AND resource_group = ? AND resource_group <> '' AND state <> ?) +
			(SELECT COUNT(*) FROM activations WHERE account = ? AND resource_group = ? AND resource_group <> '')`,
			account, id, waybill.Deregistered, account, id)
		if err != nil {
			return err
		}
		if n > 0 {
			return ErrLimit
		}
		return mustChange(t.exec(ctx, `DELETE FROM resource_groups WHERE account = ? AND id = ?`, account, id))
	})
}

// tables is where each kind of resource is kept, and what makes a row count as being there.
var tables = map[waybill.ResourceKind]struct{ table, there string }{
	waybill.DeliveryResource:   {"deliveries", ""},
	waybill.InstanceResource:   {"instances", " AND state <> 'deregistered'"},
	waybill.ActivationResource: {"activations", ""},
}

// JoinResourceGroup moves a resource into a resource group. ErrNotFound if the resource is not there; that the group is,
// the caller has seen, and it may be deleted in the same moment: then ErrLimit.
func (s *Store) JoinResourceGroup(ctx context.Context, account waybill.AccountID, region string, kind waybill.ResourceKind, id, group string) error {
	at := tables[kind]
	return s.writeAlone(ctx, accountWide(account), func(t *tx) error {
		n, err := one(ctx, t, scanOne[int], `SELECT COUNT(*) FROM resource_groups WHERE account = ? AND id = ?`, account, group)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrLimit
		}
		return mustChange(t.exec(ctx, `UPDATE `+at.table+` SET resource_group = ? WHERE id = ? AND account = ? AND region = ?`+at.there,
			group, id, account, region))
	})
}
