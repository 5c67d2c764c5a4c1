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

// Targets returns a page of the targets of a delivery, in the order asked for, with the names of their instances; ErrNotFound
// if the account has no such delivery in that region. Its cursor is a position in that order.
func (s *Store) Targets(ctx context.Context, account waybill.AccountID, region string, id waybill.DeliveryID, f waybill.TargetFilter, p waybill.Page) (list waybill.Listing[waybill.NamedTarget], err error) {
	made, err := s.deliveryPeriod(ctx, account, region, id)
	if err != nil {
		return list, err
	}
	var w filter
	period, times := made.of("t")
	w.add("t.delivery = ?"+period, append([]any{id}, times...)...)
	w.in(s.dialect, "t.status", texts(f.Statuses))
	w.in(s.dialect, "t.cause", texts(f.Causes))
	if f.Name != "" {
		w.add(`(t.instance = ? OR lower(i.name) LIKE ? ESCAPE '\')`, f.Name, "%"+escapeLike(lowerASCII(f.Name))+"%")
	}
	// Names are looked up for the targets of the page alone, unless they decide which those are.
	const named = " LEFT JOIN instances i ON i.id = t.instance AND i.account = ?"
	from, args := " FROM targets t", w.args
	if f.Name != "" {
		from, args = from+named, append([]any{account}, args...)
	}
	if list.Total, err = one(ctx, s.reads, scanOne[int64], "SELECT COUNT(*)"+from+w.where(), args...); err != nil {
		return list, fmt.Errorf("count targets: %w", err)
	}
	where := w.where()
	if p.Cursor != "" {
		after, err := strconv.ParseInt(p.Cursor, 10, 64)
		if err != nil {
			return list, fmt.Errorf("cursor: %w", err)
		}
		where, args = where+" AND t.ordinal > ?", append(args, after)
	}
	type row struct {
		waybill.NamedTarget
		ordinal int64
	}
	rows, err := all(ctx, s.reads, func(r *sql.Rows) (v row, err error) {
		var t Target
		dest, done := targetFields(&t)
		if err = r.Scan(append(dest, &v.Name, &v.ordinal)...); err != nil {
			return v, err
		}
		done()
		v.Target = t.Target
		return v, nil
	}, targetColumns+`, COALESCE(i.name, ''), t.ordinal FROM (SELECT t.*`+from+where+` ORDER BY t.ordinal LIMIT ? OFFSET ?) t`+named+
		` ORDER BY t.ordinal`, append(args, p.Size+1, p.Offset, account)...)
	if err != nil {
		return list, fmt.Errorf("list targets: %w", err)
	}
	if len(rows) > p.Size {
		rows = rows[:p.Size]
		list.Next = strconv.FormatInt(rows[p.Size-1].ordinal, 10)
	}
	for _, v := range rows {
		list.Items = append(list.Items, v.NamedTarget)
	}
	return list, nil
}

// DeliveryHeads returns a page of an account's deliveries without targets, newest first; preview is how many bytes of their
// contents are wanted. Its cursor is a delivery ID.
func (s *Store) DeliveryHeads(ctx context.Context, account waybill.AccountID, f waybill.DeliveryFilter, p waybill.Page, preview int) (list waybill.Listing[waybill.DeliveryHead], err error) {
	w := s.selectDeliveries(account, f)
	if list.Total, err = one(ctx, s.reads, scanOne[int64], "SELECT COUNT(*) FROM deliveries d"+w.where(), w.args...); err != nil {
		return list, fmt.Errorf("count deliveries: %w", err)
	}
	if p.Cursor != "" {
		w.add("d.id < ?", p.Cursor)
	}
	query, args := deliveryColumns+` FROM deliveries d`, w.args
	if preview > 0 {
		query = deliveryColumns + `, substr(c.data, 1, CAST(? AS INTEGER)) FROM deliveries d LEFT JOIN contents c ON c.digest = d.digest`
		args = append([]any{preview}, args...)
	}
	list.Items, err = all(ctx, s.reads, func(r *sql.Rows) (v waybill.DeliveryHead, err error) {
		dest, done := deliveryFields(&v.Delivery)
		if preview > 0 {
			dest = append(dest, &v.Preview)
		}
		if err = r.Scan(dest...); err == nil {
			done()
		}
		return v, err
	}, query+w.where()+` ORDER BY d.id DESC LIMIT ? OFFSET ?`, append(args, p.Size+1, p.Offset)...)
	if err != nil {
		return list, fmt.Errorf("list deliveries: %w", err)
	}
	if len(list.Items) > p.Size {
		list.Items = list.Items[:p.Size]
		list.Next = string(list.Items[p.Size-1].ID)
	}
	ids := make([]string, len(list.Items))
	for i := range list.Items {
		ids[i] = string(list.Items[i].ID)
	}
	tags, err := s.tagsOf(ctx, s.reads, waybill.DeliveryResource, ids)
	if err != nil {
		return list, fmt.Errorf("list tags: %w", err)
	}
	for i := range list.Items {
		list.Items[i].Tags = tags[ids[i]]
	}
	return list, nil
}

// TargetGroups counts the targets of a delivery by status and cause, the largest group first; ErrNotFound as of Targets.
func (s *Store) TargetGroups(ctx context.Context, account waybill.AccountID, region string, id waybill.DeliveryID) ([]waybill.TargetGroup, error) {
	made, err := s.deliveryPeriod(ctx, account, region, id)
	if err != nil {
		return nil, err
	}
	period, times := made.of("t")
	return all(ctx, s.reads, scanGroup, `SELECT t.status, t.cause, COUNT(*) FROM targets t WHERE t.delivery = ?`+period+
		` GROUP BY t.status, t.cause ORDER BY 3 DESC, 1, 2`, append([]any{id}, times...)...)
}

func scanGroup(r *sql.Rows) (g waybill.TargetGroup, err error) {
	return g, r.Scan(&g.Status, &g.Cause, &g.Count)
}

// deliveryPeriod returns when a delivery of the account was made, for the partitions of its targets; ErrNotFound if there is none.
func (s *Store) deliveryPeriod(ctx context.Context, account waybill.AccountID, region string, id waybill.DeliveryID) (*within, error) {
	created, err := one(ctx, s.brief, scanOne[int64], `SELECT created FROM deliveries WHERE id = ? AND account = ? AND region = ?`, id, account, region)
	if err != nil || !s.dialect.shared {
		return nil, err
	}
	w := &within{}
	w.add(created)
	return w, nil
}

// escapeLike makes a text that LIKE takes for itself.
func escapeLike(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}

// MachineSummary counts the machines of an account in a region by agent, version and whether they were heard of since a time.
// It reads every one of them.
func (s *Store) MachineSummary(ctx context.Context, account waybill.AccountID, region string, since time.Time) ([]waybill.MachineGroup, error) {
	return all(ctx, s.reads, func(r *sql.Rows) (g waybill.MachineGroup, err error) {
		return g, r.Scan(&g.Agent, &g.Version, &g.Connected, &g.Count)
	}, `SELECT agent_kind, agent_version, CASE WHEN state = ? AND presence IN (?, ?) AND last_seen >= ? THEN 1 ELSE 0 END = 1, COUNT(*)
		FROM instances WHERE account = ? AND region = ? AND state <> ? GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3`,
		waybill.Registered, waybill.Online, waybill.NoChannel, millis(since), account, region, waybill.Deregistered)
}

// DeliverySummary counts what an account has sent in a region since a time: deliveries by overall status, and failed targets by
// cause. first is an ID that sorts before every one of that time. It reads all of them.
func (s *Store) DeliverySummary(ctx context.Context, account waybill.AccountID, region, first string, since time.Time) (v waybill.DeliverySummary, err error) {
	v.Deliveries = map[waybill.Overall]int64{}
	type row struct {
		status waybill.Overall
		count  int64
	}
	period, times := s.since("d", since)
	args := append([]any{account, region, first, millis(since)}, times...)
	rows, err := all(ctx, s.reads, func(r *sql.Rows) (v row, err error) { return v, r.Scan(&v.status, &v.count) },
		`SELECT d.status, COUNT(*) FROM deliveries d WHERE d.account = ? AND d.region = ? AND d.id >= ? AND d.created >= ?`+period+` GROUP BY d.status`, args...)
	if err != nil {
		return v, fmt.Errorf("count deliveries: %w", err)
	}
	for _, r := range rows {
		v.Deliveries[r.status] = r.count
	}
	also, more := s.since("t", since)
	v.Failures, err = all(ctx, s.reads, scanGroup, `SELECT t.status, t.cause, COUNT(*) FROM deliveries d JOIN targets t ON t.delivery = d.id
		WHERE d.account = ? AND d.region = ? AND d.id >= ? AND d.created >= ?`+period+also+` AND d.failed > 0 AND t.finished > 0 AND t.cause <> ''
		GROUP BY t.status, t.cause ORDER BY 3 DESC, 1, 2`, append(args, more...)...)
	if err != nil {
		return v, fmt.Errorf("count failures: %w", err)
	}
	return v, nil
}

// since narrows a query to the partitions from a time on.
func (s *Store) since(table string, t time.Time) (cond string, args []any) {
	if !s.dialect.shared {
		return "", nil
	}
	return " AND " + table + ".created >= ?", []any{millis(t)}
}
