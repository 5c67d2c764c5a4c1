// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
)

// This file writes what webhooks are told, in the transaction of what it tells of. Whether anybody is to be told is a column of
// a query that is run anyway, so an account without webhooks pays for none of it but one statement that a delivery sends along.

// listened is a column that says whether somebody is told of what happens to the delivery d.
const listened = `EXISTS (SELECT 1 FROM webhooks w WHERE w.account = d.account AND w.region = d.region AND w.enabled)`

// AttemptsFor is for how long an event is tried to be sent.
const AttemptsFor = 3 * 24 * time.Hour

// putNotices writes notices for every webhook that is to be told of them, in their order.
func (s *Store) putNotices(ctx context.Context, t *tx, notices []waybill.Notice) error {
	now := s.now()
	for batch := range slices.Chunk(notices, targetBatch) {
		rows := make([][7]any, len(batch))
		for i := range batch {
			n := &batch[i]
			n.ID = identity.NewEventID()
			rows[i] = [7]any{n.Account, n.Region, n.ID, n.Type, n.Subject(), string(s.encode(n)), millis(n.Time)}
		}
		// Read in the order of the list, and numbered so.
		err := t.put(ctx, `INSERT INTO webhook_events (webhook, id, type, subject, body, time, status, next, until)
			SELECT w.id, r.value->>2, r.value->>3, r.value->>4, r.value->>5, CAST(r.value->>6 AS BIGINT), 'Waiting', CAST(? AS BIGINT), CAST(? AS BIGINT)
			FROM `+s.dialect.numberedRows()+` `+s.dialect.inOrder+` webhooks w ON w.account = r.value->>0 AND w.region = r.value->>1
				AND w.enabled AND (w.types = '' OR w.types LIKE '%,' || (r.value->>3) || ',%')
			ORDER BY r.n, w.id`, millis(now), millis(now.Add(AttemptsFor)), jsonRows(rows))
		if err != nil {
			return fmt.Errorf("store events: %w", err)
		}
	}
	return nil
}

// numberedRows is rows under the name r, with a column n by which they are in the order of the array.
func (d dialect) numberedRows() string {
	if d.shared {
		return "jsonb_array_elements(CAST(? AS jsonb)) WITH ORDINALITY AS r (value, n)"
	}
	return "(SELECT key AS n, value FROM json_each(?)) r"
}

// tellCreated writes that a delivery was accepted, what has become of its targets at once and, if nothing is left, that it has
// ended.
func (s *Store) tellCreated(ctx context.Context, t *tx, d *NewDelivery) error {
	if s.encode == nil {
		return nil
	}
	accepted := d.Delivery
	accepted.Counts = waybill.Counts{Pending: d.TargetCount}
	if d.Counts.Pending == d.TargetCount {
		return s.putNotices(ctx, t, []waybill.Notice{deliveryNotice(waybill.DeliveryCreated, &accepted, d.Created)})
	}
	told, err := one(ctx, t, scanOne[bool], `SELECT EXISTS (SELECT 1 FROM webhooks WHERE account = ? AND region = ? AND enabled)`, d.Account, d.Region)
	if err != nil || !told {
		return err
	}
	notices := []waybill.Notice{deliveryNotice(waybill.DeliveryCreated, &accepted, d.Created)}
	for _, v := range d.Targets {
		if v.Status.Final() {
			v.Delivery, v.Attempt, v.Created, v.Updated = d.ID, 1, d.Created, d.Created
			notices = append(notices, targetNotice(d.Account, d.Region, v, d.DryRun))
		}
	}
	if d.Counts.Pending+d.Counts.Running == 0 {
		notices = append(notices, deliveryNotice(waybill.DeliveryEnded, &d.Delivery, d.Created))
	}
	return s.putNotices(ctx, t, notices)
}

func deliveryNotice(kind waybill.EventType, d *waybill.Delivery, at time.Time) waybill.Notice {
	return waybill.Notice{Type: kind, Time: at, Account: d.Account, Region: d.Region, Delivery: d, DryRun: d.DryRun}
}

func targetNotice(account waybill.AccountID, region string, v waybill.Target, dry bool) waybill.Notice {
	return waybill.Notice{Type: waybill.TargetChanged, Time: v.Updated, Account: account, Region: region, Target: &v, DryRun: dry}
}

// tellChanged writes what has become of targets. What happened to one of them since the transaction began is told once, as it is now.
func (s *Store) tellChanged(ctx context.Context, t *tx, changed map[targetKey]heldTarget) error {
	if s.encode == nil {
		return nil
	}
	var notices []waybill.Notice
	for _, v := range slices.SortedFunc(maps.Values(changed), func(a, b heldTarget) int {
		return cmp.Or(cmp.Compare(a.Delivery, b.Delivery), cmp.Compare(a.Instance, b.Instance))
	}) {
		if v.listened {
			notices = append(notices, targetNotice(v.account, v.region, v.Target, v.terms.DryRun))
		}
	}
	return s.putNotices(ctx, t, notices)
}

// tellEnded writes of those deliveries that somebody is told of that nothing is left of them to do. Their counts are written.
func (s *Store) tellEnded(ctx context.Context, t *tx, made *within, ended []waybill.DeliveryID, changed map[targetKey]heldTarget) error {
	if s.encode == nil || len(ended) == 0 {
		return nil
	}
	told := map[waybill.DeliveryID]bool{}
	for k, v := range changed {
		told[k.delivery] = v.listened
	}
	ids := texts(slices.DeleteFunc(slices.Clone(ended), func(id waybill.DeliveryID) bool { return !told[id] }))
	if len(ids) == 0 {
		return nil
	}
	period, times := made.of("d")
	list, err := all(ctx, t, func(r *sql.Rows) (d waybill.Delivery, err error) {
		dest, done := deliveryFields(&d)
		if err = r.Scan(dest...); err == nil {
			done()
		}
		return d, err
	}, deliveryColumns+` FROM deliveries d WHERE d.id IN (SELECT value->>0 FROM `+s.dialect.rows+`)`+period+` ORDER BY d.id`,
		append([]any{jsonRows(column(ids))}, times...)...)
	if err != nil {
		return fmt.Errorf("read deliveries that have ended: %w", err)
	}
	tags, err := s.tagsOf(ctx, t, waybill.DeliveryResource, ids)
	if err != nil {
		return fmt.Errorf("read tags of deliveries that have ended: %w", err)
	}
	notices := make([]waybill.Notice, len(list))
	for i := range list {
		list[i].Tags = tags[string(list[i].ID)]
		notices[i] = deliveryNotice(waybill.DeliveryEnded, &list[i], s.now().UTC())
	}
	return s.putNotices(ctx, t, notices)
}
