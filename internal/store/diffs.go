// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"

	"github.com/openwaybill/waybill"
)

// addDiffs stores rows of delivery, instance, diff and note.
func (s *Store) addDiffs(ctx context.Context, t *tx, rows [][4]string) error {
	if len(rows) == 0 {
		return nil
	}
	err := t.put(ctx, `INSERT INTO diffs (delivery, instance, diff, note)
		SELECT value->>0, value->>1, value->>2, value->>3 FROM `+s.dialect.rows+` WHERE true ON CONFLICT DO NOTHING`, jsonRows(rows))
	if err != nil {
		return fmt.Errorf("store diffs: %w", err)
	}
	return nil
}

// dropDiffs removes those of the deliveries in its one parameter.
func (d dialect) dropDiffs() string {
	return `DELETE FROM diffs WHERE delivery IN (SELECT value->>0 FROM ` + d.rows + `)`
}

// Diffs returns a page of what the machines of a rehearsal would change, those of them that compared, in the order of targets;
// of one instance if it is given. It returns ErrNotFound as Targets does. Its cursor is a position in that order.
func (s *Store) Diffs(
	ctx context.Context, account waybill.AccountID, region string, id waybill.DeliveryID, only waybill.InstanceID, p waybill.Page,
) (list waybill.Listing[waybill.NamedDiff], err error) {
	made, err := s.deliveryPeriod(ctx, account, region, id)
	if err != nil {
		return list, err
	}
	var w filter
	period, times := made.of("t")
	w.add("f.delivery = ?"+period, append([]any{id}, times...)...)
	w.eq("f.instance", string(only))
	const from = ` FROM diffs f JOIN targets t ON t.delivery = f.delivery AND t.instance = f.instance`
	if list.Total, err = one(ctx, s.reads, scanOne[int64], "SELECT COUNT(*)"+from+w.where(), w.args...); err != nil {
		return list, fmt.Errorf("count diffs: %w", err)
	}
	if p.Cursor != "" {
		after, err := strconv.ParseInt(p.Cursor, 10, 64)
		if err != nil {
			return list, fmt.Errorf("cursor: %w", err)
		}
		w.add("t.ordinal > ?", after)
	}
	last := map[waybill.InstanceID]int64{}
	list.Items, err = all(ctx, s.reads, func(r *sql.Rows) (v waybill.NamedDiff, err error) {
		var ordinal int64
		err = r.Scan(&v.Instance, &v.Name, &v.Text, &v.Note, &ordinal)
		last[v.Instance] = ordinal
		return v, err
	}, `SELECT f.instance, COALESCE(i.name, ''), f.diff, f.note, t.ordinal`+from+` LEFT JOIN instances i ON i.id = f.instance AND i.account = ?`+
		w.where()+` ORDER BY t.ordinal LIMIT ?`, append(append([]any{account}, w.args...), p.Size+1)...)
	if err != nil {
		return list, fmt.Errorf("list diffs: %w", err)
	}
	if len(list.Items) > p.Size {
		list.Items = list.Items[:p.Size]
		list.Next = strconv.FormatInt(last[list.Items[p.Size-1].Instance], 10)
	}
	return list, nil
}
