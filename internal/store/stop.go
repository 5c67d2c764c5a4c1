// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// Stopped is a target that was to stop, and what that came to.
type Stopped struct {
	Instance waybill.InstanceID
	Stopping waybill.Stopping
}

// Stop asks the targets of a delivery on the given instances, or all of them if none is given, to stop, in one transaction.
// It changes nothing and returns ErrNotFound if the account has no such delivery in that region, and the instances that are no
// target of it, if there are some.
func (s *Store) Stop(
	ctx context.Context, account waybill.AccountID, region string, id waybill.DeliveryID, only []waybill.InstanceID,
) (list []Stopped, foreign []waybill.InstanceID, err error) {
	type row struct {
		Target
		askable, dry, listened bool
	}
	made, err := s.deliveryPeriod(ctx, account, region, id)
	if err != nil {
		return nil, nil, err
	}
	period, times := made.of("t")
	query, args := targetColumns+`, COALESCE(i.agent_kind, ''), COALESCE(i.capability, 0), d.dry_run <> 0, `+listened+`
		FROM targets t LEFT JOIN instances i ON i.id = t.instance JOIN deliveries d ON d.id = t.delivery AND d.created = t.created
		WHERE t.delivery = ?`+period, append([]any{id}, times...)
	if len(only) > 0 {
		query, args = query+` AND t.instance IN (SELECT value->>0 FROM `+s.dialect.rows+`)`, append(args, jsonRows(column(only)))
	}
	err = s.write(ctx, func(t *tx) error {
		rows, err := all(ctx, t, func(r *sql.Rows) (v row, err error) {
			var kind waybill.AgentKind
			var capability int
			dest, done := targetFields(&v.Target)
			if err = r.Scan(append(dest, &kind, &capability, &v.dry, &v.listened)...); err != nil {
				return v, err
			}
			done()
			if kind == waybill.OfficialAgent {
				v.Given = false // it is Running before it is handed out
			} else {
				v.askable = capability >= wire.CancelCapability
			}
			return v, nil
		}, query+s.dialect.lockRows("t.delivery, t.instance", "t"), args...)
		if err != nil {
			return fmt.Errorf("read targets: %w", err)
		}
		list, foreign = nil, nil
		for _, instance := range only {
			if !slices.ContainsFunc(rows, func(v row) bool { return v.Instance == instance }) {
				foreign = append(foreign, instance)
			}
		}
		if len(foreign) > 0 {
			return ErrNotFound
		}
		now := s.now().UTC()
		ended, counts := map[targetKey]heldTarget{}, &waybill.Counts{}
		var asked []Target
		for _, v := range rows {
			next, stopping := v.Target.Target.Stop(v.askable, now)
			list = append(list, Stopped{v.Instance, stopping})
			switch {
			case next.Status != v.Status:
				counts.Add(v.Status, -1)
				counts.Add(next.Status, 1)
				ended[targetKey{id, v.Instance}] = heldTarget{
					Target: next, terms: waybill.Terms{DryRun: v.dry}, account: account, region: region, listened: v.listened,
				}
			case !next.Stopped.Equal(v.Stopped):
				asked = append(asked, Target{Target: next})
			}
		}
		if len(asked) > 0 {
			if err := s.mark(ctx, t, made, "stopped", asked, millis(now)); err != nil {
				return err
			}
		}
		if len(ended) == 0 {
			return nil
		}
		if err := s.updateTargets(ctx, t, made, ended); err != nil {
			return err
		}
		return s.tellOfChanges(ctx, t, made, ended, map[waybill.DeliveryID]*waybill.Counts{id: counts})
	})
	return list, foreign, err
}

// mark sets a column of targets to a value.
func (s *Store) mark(ctx context.Context, t *tx, made *within, column string, targets []Target, value int64) error {
	keys := make([][2]string, len(targets))
	for i, v := range targets {
		keys[i] = [2]string{string(v.Delivery), string(v.Instance)}
	}
	period, times := made.of("targets")
	err := t.put(ctx, `UPDATE targets SET `+column+` = ? FROM (SELECT value->>0 AS delivery, value->>1 AS instance FROM `+s.dialect.rows+`) r
		WHERE targets.delivery = r.delivery AND targets.instance = r.instance`+period, append([]any{value, jsonRows(keys)}, times...)...)
	if err != nil {
		return fmt.Errorf("mark targets: %w", err)
	}
	return nil
}

// Give notes that targets are about to be sent to their machines, and returns those that may be: no longer one that has ended
// or is to stop. After it, a request to stop asks the machine; before it, it ends the target. Most of them are noted already,
// which costs a read only.
func (s *Store) Give(ctx context.Context, targets []Target) ([]Target, error) {
	keys := make([][2]string, len(targets))
	named := map[waybill.DeliveryID]bool{}
	for i, v := range targets {
		keys[i] = [2]string{string(v.Delivery), string(v.Instance)}
		named[v.Delivery] = true
	}
	query := targetColumns + ` FROM (SELECT DISTINCT value->>0 AS delivery, value->>1 AS instance FROM ` + s.dialect.rows + `) k
		` + s.dialect.inOrder + ` targets t ON t.delivery = k.delivery AND t.instance = k.instance WHERE t.finished = 0 AND t.stopped = 0`
	fresh := func(t Target) bool { return !t.Given }
	open, err := all(ctx, s.brief, scanTarget, query, jsonRows(keys))
	if err != nil || !slices.ContainsFunc(open, fresh) {
		return open, err
	}
	deliveries := make([]waybill.DeliveryID, 0, len(named))
	for id := range named {
		deliveries = append(deliveries, id)
	}
	err = s.write(ctx, func(t *tx) error {
		made, err := t.madeWithin(ctx, deliveries)
		if err != nil {
			return fmt.Errorf("read deliveries: %w", err)
		}
		period, times := made.of("t")
		if open, err = all(ctx, t, scanTarget, query+period+s.dialect.lockRows("t.delivery, t.instance", "t"), append([]any{jsonRows(keys)}, times...)...); err != nil {
			return fmt.Errorf("read targets: %w", err)
		}
		return s.mark(ctx, t, made, "given", slices.DeleteFunc(slices.Clone(open), func(t Target) bool { return t.Given }), 1)
	})
	return open, err
}

// StoppingOf returns the targets of a delivery that are to stop, on machines that are online and whose agents can be asked.
func (s *Store) StoppingOf(ctx context.Context, id waybill.DeliveryID) ([]Target, error) {
	return all(ctx, s.brief, scanTarget, targetColumns+` FROM targets t JOIN instances i ON i.id = t.instance
		WHERE t.delivery = ? AND t.finished = 0 AND t.stopped <> 0 AND i.presence = ? AND i.agent_kind <> ? AND i.capability >= ?`,
		id, waybill.Online, waybill.OfficialAgent, wire.CancelCapability)
}

// StoppingFor returns up to limit targets of an instance that are to stop, oldest first.
func (s *Store) StoppingFor(ctx context.Context, instance waybill.InstanceID, limit int) ([]Target, error) {
	return all(ctx, s.brief, scanTarget, targetColumns+` FROM targets t
		WHERE t.instance = ? AND t.finished = 0 AND t.stopped <> 0 ORDER BY t.delivery LIMIT ?`, instance, limit)
}

// OfferOne is OpenOne for a delivery that may still be handed out: not one that is to stop.
func (s *Store) OfferOne(ctx context.Context, instance waybill.InstanceID, id waybill.DeliveryID, attempt int) (Dispatch, error) {
	return one(ctx, s.brief, scanDispatch, dispatchColumns+`, t.attempt, t.deadline`+openAttempt+` AND t.stopped = 0`, id, instance, attempt)
}
