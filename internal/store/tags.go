// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/openwaybill/waybill"
)

// Kinds of tagged things, as stored.
const (
	kindDelivery   = "delivery"
	kindInstance   = "instance"
	kindActivation = "activation"
)

func (t *tx) addTags(ctx context.Context, d dialect, account waybill.AccountID, kind, id string, tags []waybill.Tag) error {
	if len(tags) == 0 {
		return nil
	}
	rows := make([][2]string, len(tags))
	for i, tag := range tags {
		rows[i] = [2]string{tag.Key, tag.Value}
	}
	_, err := t.exec(ctx, `INSERT INTO tags (account, kind, resource, key, value)
		SELECT ?, ?, ?, value->>0, value->>1 FROM `+d.rows, account, kind, id, jsonRows(rows))
	return err
}

// tagsOf returns the tags of many things at once, by their IDs, keys in order.
func (s *Store) tagsOf(ctx context.Context, kind string, ids []string) (map[string][]waybill.Tag, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	type row struct {
		id  string
		tag waybill.Tag
	}
	list, err := all(ctx, s.reads, func(r *sql.Rows) (v row, err error) {
		return v, r.Scan(&v.id, &v.tag.Key, &v.tag.Value)
	}, `SELECT resource, key, value FROM tags WHERE kind = ? AND resource IN (SELECT value->>0 FROM `+s.dialect.rows+`)
		ORDER BY resource, key`, kind, jsonRows(column(ids)))
	if err != nil {
		return nil, err
	}
	m := make(map[string][]waybill.Tag, len(ids))
	for _, v := range list {
		m[v.id] = append(m[v.id], v.tag)
	}
	return m, nil
}

// column makes rows of one value each.
func column[T ~string](values []T) [][1]string {
	rows := make([][1]string, len(values))
	for i, v := range values {
		rows[i][0] = string(v)
	}
	return rows
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

// tags adds that all of them match; a tag without value matches any value. It is one text for any tags, so that the
// number of different queries stays small.
func (f *filter) tags(d dialect, kind, idColumn string, account waybill.AccountID, tags []waybill.Tag) {
	if len(tags) == 0 {
		return
	}
	rows := make([][2]string, len(tags))
	for i, t := range tags {
		rows[i] = [2]string{t.Key, t.Value}
	}
	f.add(idColumn+` IN (SELECT g.resource FROM (SELECT value->>0 AS key, value->>1 AS value FROM `+d.rows+`) r
		CROSS JOIN tags g ON g.account = ? AND g.kind = ? AND g.key = r.key AND (r.value = '' OR g.value = r.value)
		GROUP BY g.resource HAVING COUNT(*) = ?)`, jsonRows(rows), account, kind, len(tags))
}

func (f *filter) where() string { return " WHERE " + strings.Join(f.conds, " AND ") }
