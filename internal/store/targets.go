// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// Change is an event for one target.
type Change struct {
	Delivery waybill.DeliveryID
	Instance waybill.InstanceID
	waybill.Event
	Diff waybill.Diff // of a rehearsal that compares; zero if there is none
}

// Target is a target with its deadline.
type Target struct {
	waybill.Target
	Deadline time.Time
}

const targetColumns = `SELECT t.delivery, t.instance, t.status, t.cause, t.detail, t.change, t.created, t.started, t.finished, t.updated, t.deadline, t.given, t.stopped, t.attempt, t.begun`

func targetFields(t *Target) (dest []any, done func()) {
	var created, started, finished, updated, deadline, stopped, begun int64
	dest = []any{
		&t.Delivery, &t.Instance, &t.Status, &t.Cause, &t.Detail, &t.Change, &created, &started, &finished, &updated, &deadline, &t.Given, &stopped,
		&t.Attempt, &begun,
	}
	return dest, func() {
		t.Created, t.Started, t.Finished = instant(created), instant(started), instant(finished)
		t.Updated, t.Deadline, t.Stopped = instant(updated), instant(deadline), instant(stopped)
		t.Begun = instant(begun)
	}
}

func scanTarget(r *sql.Rows) (t Target, err error) {
	dest, done := targetFields(&t)
	if err = r.Scan(dest...); err == nil {
		done()
	}
	return t, err
}

// heldTarget is a target with what its delivery holds it to.
type heldTarget struct {
	waybill.Target
	terms    waybill.Terms
	account  waybill.AccountID
	region   string
	listened bool // somebody is told of what happens to it
}

const heldColumns = targetColumns + `, d.digest, d.dry_run, d.account, d.region, ` + listened

func scanHeld(r *sql.Rows) (h heldTarget, err error) {
	var t Target
	dest, done := targetFields(&t)
	var digest []byte
	var dry int
	if err = r.Scan(append(dest, &digest, &dry, &h.account, &h.region, &h.listened)...); err != nil {
		return h, err
	}
	done()
	h.terms.DryRun = dry != placed
	h.Target, h.terms.Deadline = t.Target, t.Deadline
	copy(h.terms.SHA256[:], digest)
	return h, nil
}

type targetKey struct {
	delivery waybill.DeliveryID
	instance waybill.InstanceID
}

// Apply applies events to their targets, in order, in one transaction together with the counts of their deliveries, and
// returns which of them changed something. Events of targets that are not there change nothing. What is told of an attempt that
// another has taken the place of can correct what is kept of it.
func (s *Store) Apply(ctx context.Context, changes []Change) (applied []bool, err error) {
	if len(changes) == 0 {
		return nil, nil
	}
	keys := make([][2]string, len(changes))
	named := map[waybill.DeliveryID]bool{}
	for i, c := range changes {
		keys[i] = [2]string{string(c.Delivery), string(c.Instance)}
		named[c.Delivery] = true
	}
	encoded, deliveries := jsonRows(keys), slices.Collect(maps.Keys(named))
	err = s.write(ctx, func(t *tx) error {
		made, err := t.madeWithin(ctx, deliveries)
		if err != nil {
			return fmt.Errorf("read deliveries: %w", err)
		}
		period, times := made.of("t")
		list, err := all(ctx, t, scanHeld, heldColumns+` FROM (
				SELECT DISTINCT value->>0 AS delivery, value->>1 AS instance FROM `+s.dialect.rows+`) k
			`+s.dialect.inOrder+` targets t ON t.delivery = k.delivery AND t.instance = k.instance`+period+`
			`+s.dialect.inOrder+` deliveries d ON d.id = t.delivery AND d.created = t.created`+s.dialect.lockRows("t.delivery, t.instance", "t"),
			append([]any{encoded}, times...)...)
		if err != nil {
			return fmt.Errorf("read targets: %w", err)
		}
		targets := make(map[targetKey]heldTarget, len(list))
		for _, target := range list {
			targets[targetKey{target.Delivery, target.Instance}] = target
		}
		past, err := s.pastAttempts(ctx, t, changes, targets)
		if err != nil {
			return err
		}
		now := s.now().UTC()
		applied = make([]bool, len(changes))
		changed := map[targetKey]heldTarget{}
		counts := map[waybill.DeliveryID]*waybill.Counts{}
		var diffs [][4]string
		for i, c := range changes {
			key := targetKey{c.Delivery, c.Instance}
			target, ok := targets[key]
			if !ok {
				continue
			}
			if old, ok := past[attemptKey{key, c.Attempt}]; ok {
				if old.Target, applied[i] = old.Apply(c.Event, old.terms, now); applied[i] {
					past[attemptKey{key, c.Attempt}] = old
					if err := t.correctAttempt(ctx, &old.Target); err != nil {
						return err
					}
				}
				continue
			}
			next, ok := target.Apply(c.Event, target.terms, now)
			if !ok {
				continue
			}
			applied[i] = true
			if counts[c.Delivery] == nil {
				counts[c.Delivery] = &waybill.Counts{}
			}
			counts[c.Delivery].Add(target.Status, -1)
			counts[c.Delivery].Add(next.Status, 1)
			target.Target = next
			targets[key], changed[key] = target, target
			if next.Status == waybill.Success && c.Diff != (waybill.Diff{}) {
				diffs = append(diffs, [4]string{string(c.Delivery), string(c.Instance), c.Diff.Text, c.Diff.Note})
			}
		}
		if err := s.addDiffs(ctx, t, diffs); err != nil {
			return err
		}
		if err := s.updateTargets(ctx, t, made, changed); err != nil {
			return err
		}
		return s.tellOfChanges(ctx, t, made, changed, counts)
	})
	if err != nil {
		return nil, err
	}
	return applied, nil
}

func (s *Store) updateTargets(ctx context.Context, t *tx, made *within, changed map[targetKey]heldTarget) error {
	if len(changed) == 0 {
		return nil
	}
	rows := make([][9]any, 0, len(changed))
	for k, v := range changed {
		rows = append(rows, [9]any{k.delivery, k.instance, v.Status, v.Cause, v.Detail, millis(v.Started), millis(v.Finished), millis(v.Updated), v.Change})
	}
	period, times := made.of("targets")
	err := t.putChecked(ctx, func(n int64) error {
		if n != int64(len(rows)) {
			return fmt.Errorf("changed %d of %d", n, len(rows))
		}
		return nil
	}, `UPDATE targets SET status = r.status, cause = r.cause, detail = r.detail, started = r.started,
			finished = r.finished, updated = r.updated, change = r.change
		FROM (SELECT value->>0 AS delivery, value->>1 AS instance, value->>2 AS status, value->>3 AS cause, value->>4 AS detail,
			CAST(value->>5 AS BIGINT) AS started, CAST(value->>6 AS BIGINT) AS finished, CAST(value->>7 AS BIGINT) AS updated,
			value->>8 AS change
			FROM `+s.dialect.rows+`) r
		WHERE targets.delivery = r.delivery AND targets.instance = r.instance`+period, append([]any{jsonRows(rows)}, times...)...)
	if err != nil {
		return fmt.Errorf("update targets: %w", err)
	}
	return nil
}

// tellOfChanges brings the counts of deliveries in step with targets that were changed, and writes what webhooks are told of it.
func (s *Store) tellOfChanges(
	ctx context.Context, t *tx, made *within, changed map[targetKey]heldTarget, differences map[waybill.DeliveryID]*waybill.Counts,
) error {
	ended, err := s.updateCounts(ctx, t, made, differences)
	if err != nil {
		return err
	}
	if err := s.tellChanged(ctx, t, changed); err != nil {
		return err
	}
	return s.tellEnded(ctx, t, made, ended, changed)
}

// updateCounts adds differences to the counts of deliveries, and keeps their overall status in step. It returns those that have
// ended by that, or have ended otherwise than it had seemed.
func (s *Store) updateCounts(
	ctx context.Context, t *tx, made *within, differences map[waybill.DeliveryID]*waybill.Counts,
) (ended []waybill.DeliveryID, err error) {
	if len(differences) == 0 {
		return nil, nil
	}
	ids := make([]waybill.DeliveryID, 0, len(differences))
	for id := range differences {
		ids = append(ids, id)
	}
	type row struct {
		id waybill.DeliveryID
		c  waybill.Counts
	}
	period, times := made.of("deliveries")
	list, err := all(ctx, t, func(r *sql.Rows) (v row, err error) {
		return v, r.Scan(&v.id, &v.c.Pending, &v.c.Running, &v.c.Success, &v.c.Failed)
	}, `SELECT id, pending, running, success, failed FROM deliveries WHERE id IN (SELECT value->>0 FROM `+s.dialect.rows+`)`+period+s.dialect.lockRows("id", "deliveries"),
		append([]any{jsonRows(column(ids))}, times...)...)
	if err != nil {
		return nil, fmt.Errorf("read counts: %w", err)
	}
	rows := make([][6]any, len(list))
	for i, v := range list {
		d := differences[v.id]
		c := waybill.Counts{
			Pending: v.c.Pending + d.Pending, Running: v.c.Running + d.Running,
			Success: v.c.Success + d.Success, Failed: v.c.Failed + d.Failed,
		}
		if c.Pending+c.Running == 0 && *d != (waybill.Counts{}) {
			ended = append(ended, v.id)
		}
		rows[i] = [6]any{v.id, c.Pending, c.Running, c.Success, c.Failed, c.Aggregate()}
	}
	err = t.put(ctx, `UPDATE deliveries SET pending = r.pending, running = r.running, success = r.success, failed = r.failed, status = r.status
		FROM (SELECT value->>0 AS id, CAST(value->>1 AS BIGINT) AS pending, CAST(value->>2 AS BIGINT) AS running,
			CAST(value->>3 AS BIGINT) AS success, CAST(value->>4 AS BIGINT) AS failed, value->>5 AS status FROM `+s.dialect.rows+`) r
		WHERE deliveries.id = r.id`+period, append([]any{jsonRows(rows)}, times...)...)
	if err != nil {
		return nil, fmt.Errorf("update counts: %w", err)
	}
	return ended, nil
}

// Overdue is an open target that is to end, with what tells why.
type Overdue struct {
	Target
	Agent           waybill.AgentKind
	Presence        waybill.Presence
	State           waybill.InstanceState
	LastSeen        time.Time
	NextDial        time.Time
	AccountDisabled bool
}

const overdueColumns = targetColumns + `, i.agent_kind, i.presence, i.state, i.last_seen, i.next_dial, a.disabled
	FROM targets t JOIN instances i ON i.id = t.instance JOIN accounts a ON a.id = i.account`

func scanOverdue(r *sql.Rows) (o Overdue, err error) {
	var seen, dial int64
	dest, done := targetFields(&o.Target)
	if err = r.Scan(append(dest, &o.Agent, &o.Presence, &o.State, &seen, &dial, &o.AccountDisabled)...); err == nil {
		done()
		o.LastSeen, o.NextDial = instant(seen), instant(dial)
	}
	return o, err
}

// Overdue returns up to limit open targets whose deadline lies before t, the longest overdue first.
func (s *Store) Overdue(ctx context.Context, t time.Time, limit int) ([]Overdue, error) {
	return all(ctx, s.reads, scanOverdue, overdueColumns+` WHERE t.finished = 0 AND t.deadline < ? ORDER BY t.deadline LIMIT ?`,
		millis(t), limit)
}

// Gone returns the open targets of a delivery whose instance has left the fleet, or whose account was disabled before the
// instance acknowledged.
func (s *Store) Gone(ctx context.Context, id waybill.DeliveryID) ([]Overdue, error) {
	return all(ctx, s.brief, scanOverdue, overdueColumns+` WHERE t.delivery = ? AND t.finished = 0
		AND (i.state <> ? OR a.disabled AND t.status = ?)`, id, waybill.Registered, waybill.Pending)
}

// NextDeadline returns the earliest deadline of all open targets, and zero if none is open.
func (s *Store) NextDeadline(ctx context.Context) (time.Time, error) {
	ms, err := one(ctx, s.reads, scanOne[sql.NullInt64], `SELECT MIN(deadline) FROM targets WHERE finished = 0`)
	return instant(ms.Int64), err
}

// OpenTargets returns up to limit open targets of an instance.
func (s *Store) OpenTargets(ctx context.Context, instance waybill.InstanceID, limit int) ([]Target, error) {
	return all(ctx, s.reads, scanTarget, targetColumns+` FROM targets t WHERE t.instance = ? AND t.finished = 0 ORDER BY t.delivery LIMIT ?`, instance, limit)
}

// PendingOf returns the instances of a delivery that are online, have not acknowledged it and may have it. The others ask for
// what they missed when they come.
func (s *Store) PendingOf(ctx context.Context, id waybill.DeliveryID) ([]waybill.InstanceID, error) {
	return all(ctx, s.brief, scanOne[waybill.InstanceID], `SELECT t.instance FROM targets t JOIN instances i ON i.id = t.instance
		WHERE t.delivery = ? AND t.finished = 0 AND t.stopped = 0 AND t.status = ? AND i.presence = ?`, id, waybill.Pending, waybill.Online)
}

// PendingDeliveries returns the deliveries that some machine has not acknowledged, or is to stop, and the last of the
// deadlines of those.
func (s *Store) PendingDeliveries(ctx context.Context) (map[waybill.DeliveryID]time.Time, error) {
	type row struct {
		id       waybill.DeliveryID
		deadline int64
	}
	list, err := all(ctx, s.reads, func(r *sql.Rows) (v row, err error) { return v, r.Scan(&v.id, &v.deadline) },
		`SELECT t.delivery, MAX(t.deadline) FROM targets t WHERE t.finished = 0 AND (t.status = ? OR t.stopped <> 0) GROUP BY t.delivery`, waybill.Pending)
	m := make(map[waybill.DeliveryID]time.Time, len(list))
	for _, v := range list {
		m[v.id] = instant(v.deadline)
	}
	return m, err
}

// Missing returns, of the open targets of the given instances that are not to stop, those whose delivery the instance does not
// name as held.
// held maps each instance to what its agent has, see wire.AttemptID.
func (s *Store) Missing(ctx context.Context, held map[waybill.InstanceID][]waybill.DeliveryID) ([]Target, error) {
	ids := make([]waybill.InstanceID, 0, len(held))
	for id := range held {
		ids = append(ids, id)
	}
	open, err := all(ctx, s.reads, scanTarget, targetColumns+` FROM (SELECT value->>0 AS instance FROM `+s.dialect.rows+`) k
		`+s.dialect.inOrder+` targets t ON t.instance = k.instance WHERE t.finished = 0 AND t.stopped = 0 ORDER BY t.delivery`, jsonRows(column(ids)))
	if err != nil {
		return nil, err
	}
	missing := open[:0]
	for _, t := range open {
		if !slices.Contains(held[t.Instance], waybill.DeliveryID(wire.AttemptID(string(t.Delivery), t.Attempt))) {
			missing = append(missing, t)
		}
	}
	return missing, nil
}
