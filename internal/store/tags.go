// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/openwaybill/waybill"
)

func (t *tx) addTags(ctx context.Context, d dialect, account waybill.AccountID, kind waybill.ResourceKind, id string, tags []waybill.Tag) error {
	if len(tags) == 0 {
		return nil
	}
	rows := make([][2]string, len(tags))
	for i, tag := range tags {
		rows[i] = [2]string{tag.Key, tag.Value}
	}
	return t.put(ctx, `INSERT INTO tags (account, kind, resource, key, value)
		SELECT ?, ?, ?, value->>0, value->>1 FROM `+d.rows, account, kind, id, jsonRows(rows))
}

// mustAll returns ErrNotFound unless every one of ids is a resource of that kind in the account and region.
func (t *tx) mustAll(ctx context.Context, d dialect, account waybill.AccountID, region string, kind waybill.ResourceKind, ids []string) error {
	at := tables[kind]
	n, err := one(ctx, t, scanOne[int], d.countOf(at.table, at.there), jsonRows(column(ids)), account, region)
	if err == nil && n < len(ids) {
		err = ErrNotFound
	}
	return err
}

// countOf counts which of some IDs an account has in a region. The + keeps the search on the primary key.
func (d dialect) countOf(table, there string) string {
	return `SELECT COUNT(*) FROM ` + table + ` WHERE id IN (SELECT value->>0 FROM ` + d.rows + `) AND ` + d.unindexed + `account = ? AND ` + d.unindexed + `region = ?` + there
}

// PutTags adds tags to resources, which must be different ones, and replaces the values of keys that are there.
// ErrNotFound if one of the resources is not there, ErrLimit if one would have more than limit tags; then none is changed.
func (s *Store) PutTags(ctx context.Context, account waybill.AccountID, region string, kind waybill.ResourceKind, ids []string, tags []waybill.Tag, limit int) error {
	rows := make([][2]string, len(tags))
	for i, tag := range tags {
		rows[i] = [2]string{tag.Key, tag.Value}
	}
	return s.writeAlone(ctx, accountWide(account), func(t *tx) error {
		if err := t.mustAll(ctx, s.dialect, account, region, kind, ids); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `INSERT INTO tags (account, kind, resource, key, value)
			SELECT ?, ?, r.value->>0, t.value->>0, t.value->>1 FROM `+s.dialect.rows+` r CROSS JOIN `+s.dialect.rows+` t WHERE true
			ON CONFLICT (kind, resource, key) DO UPDATE SET value = excluded.value`,
			account, kind, jsonRows(column(ids)), jsonRows(rows)); err != nil {
			return err
		}
		over, err := all(ctx, t, scanOne[string], `SELECT resource FROM tags WHERE kind = ? AND resource IN (SELECT value->>0 FROM `+s.dialect.rows+`)
			GROUP BY resource HAVING COUNT(*) > ?`, kind, jsonRows(column(ids)), limit)
		if err == nil && len(over) > 0 {
			err = ErrLimit
		}
		return err
	})
}

// RemoveTags removes the tags with the given keys, or all if there are none, from resources. ErrNotFound if one of the
// resources is not there; a tag that is not there is no error.
func (s *Store) RemoveTags(ctx context.Context, account waybill.AccountID, region string, kind waybill.ResourceKind, ids, keys []string) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.mustAll(ctx, s.dialect, account, region, kind, ids); err != nil {
			return err
		}
		query, args := `DELETE FROM tags WHERE kind = ? AND resource IN (SELECT value->>0 FROM `+s.dialect.rows+`)`, []any{kind, jsonRows(column(ids))}
		if len(keys) > 0 {
			query, args = query+` AND key IN (SELECT value->>0 FROM `+s.dialect.rows+`)`, append(args, jsonRows(column(keys)))
		}
		_, err := t.exec(ctx, query, args...)
		return err
	})
}

// Tags returns a page of the tags of one kind of an account's resources, ordered by resource and key. Listing.Total is
// not counted.
func (s *Store) Tags(ctx context.Context, account waybill.AccountID, f waybill.TagFilter, p waybill.Page) (waybill.Listing[waybill.ResourceTag], error) {
	var list waybill.Listing[waybill.ResourceTag]
	at := tables[f.Kind]
	var w filter
	w.add("g.account = ? AND g.kind = ?", account, f.Kind)
	w.add("g.resource IN (SELECT id FROM "+at.table+" WHERE account = ? AND region = ?"+at.there+")", account, f.Region)
	w.in(s.dialect, "g.resource", f.IDs)
	w.tags(s.dialect, f.Kind, "g.resource", account, f.Tags)
	if p.Cursor != "" {
		resource, key, _ := strings.Cut(p.Cursor, " ")
		w.add("(g.resource, g.key) > (?, ?)", resource, key)
	}
	var err error
	list.Items, err = all(ctx, s.reads, func(r *sql.Rows) (v waybill.ResourceTag, err error) {
		v.Kind = f.Kind
		return v, r.Scan(&v.ID, &v.Key, &v.Value)
	}, "SELECT g.resource, g.key, g.value FROM tags g"+w.where()+" ORDER BY g.resource, g.key LIMIT ?", append(w.args, p.Size+1)...)
	if err != nil {
		return list, err
	}
	if len(list.Items) > p.Size {
		list.Items = list.Items[:p.Size]
		last := list.Items[p.Size-1]
		list.Next = last.ID + " " + last.Key
	}
	return list, nil
}

// TagsOf returns the tags of those of ids that are an account's, by their IDs. The + keeps the search on the primary key:
// the index by account would go through the tags of all its resources.
func (s *Store) TagsOf(ctx context.Context, account waybill.AccountID, kind waybill.ResourceKind, ids []string) (map[string][]waybill.Tag, error) {
	list, err := all(ctx, s.reads, func(r *sql.Rows) (v waybill.ResourceTag, err error) {
		return v, r.Scan(&v.ID, &v.Key, &v.Value)
	}, s.dialect.tagsOf(), account, kind, jsonRows(column(ids)))
	m := make(map[string][]waybill.Tag, len(ids))
	for _, v := range list {
		m[v.ID] = append(m[v.ID], v.Tag)
	}
	return m, err
}

func (d dialect) tagsOf() string {
	return `SELECT resource, key, value FROM tags WHERE ` + d.unindexed + `account = ? AND kind = ? AND resource IN (SELECT value->>0 FROM ` + d.rows + `)`
}

// tagsOf returns the tags of many things at once, by their IDs, keys in order.
func (s *Store) tagsOf(ctx context.Context, q querier, kind waybill.ResourceKind, ids []string) (map[string][]waybill.Tag, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	type row struct {
		id  string
		tag waybill.Tag
	}
	is, named := s.dialect.named(ids)
	list, err := all(ctx, q, func(r *sql.Rows) (v row, err error) {
		return v, r.Scan(&v.id, &v.tag.Key, &v.tag.Value)
	}, `SELECT resource, key, value FROM tags WHERE kind = ? AND resource`+is+` ORDER BY resource, key`, kind, named)
	if err != nil {
		return nil, err
	}
	m := make(map[string][]waybill.Tag, len(ids))
	for _, v := range list {
		m[v.id] = append(m[v.id], v.tag)
	}
	return m, nil
}

// named returns what follows the name of a column that is to be one of values, and its parameter. One value is compared
// directly: a list costs as much again.
func (d dialect) named(values []string) (is string, arg any) {
	if len(values) == 1 {
		return " = ?", values[0]
	}
	return " IN (SELECT value->>0 FROM " + d.rows + ")", jsonRows(column(values))
}

// column makes rows of one value each.
func column[T ~string](values []T) [][1]string {
	rows := make([][1]string, len(values))
	for i, v := range values {
		rows[i][0] = string(v)
	}
	return rows
}

// texts returns values as plain strings.
func texts[T ~string](values []T) []string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = string(v)
	}
	return all
}

// filter gathers the conditions of a listing.
type filter struct {
	conds []string
	args  []any
}

func (f *filter) add(cond string, args ...any) {
	f.conds = append(f.conds, cond)
	f.args = append(f.args, args...)
}

// eq adds column = value unless value is empty.
func (f *filter) eq(column, value string) {
	if value != "" {
		f.add(column+" = ?", value)
	}
}

// in adds that column is one of values, unless there are none.
func (f *filter) in(d dialect, name string, values []string) {
	if len(values) > 0 {
		is, arg := d.named(values)
		f.add(name+is, arg)
	}
}

// tags adds that all of them match; a tag without value matches any value. It is one text for any tags, so that the
// number of different queries stays small.
func (f *filter) tags(d dialect, kind waybill.ResourceKind, idColumn string, account waybill.AccountID, tags []waybill.Tag) {
	if len(tags) == 0 {
		return
	}
	rows := make([][2]string, len(tags))
	for i, t := range tags {
		rows[i] = [2]string{t.Key, t.Value}
	}
	f.add(idColumn+` IN (SELECT g.resource FROM (SELECT value->>0 AS key, value->>1 AS value FROM `+d.rows+`) r
		`+d.inOrder+` tags g ON g.account = ? AND g.kind = ? AND g.key = r.key AND (r.value = '' OR g.value = r.value)
		GROUP BY g.resource HAVING COUNT(*) = ?)`, jsonRows(rows), account, kind, len(tags))
}

func (f *filter) where() string { return " WHERE " + strings.Join(f.conds, " AND ") }
