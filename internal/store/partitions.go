// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openwaybill/waybill"
)

// On PostgreSQL, deliveries and their targets are kept in a partition for each day of their creation, UTC.
const (
	partitionSpan  = 24 * time.Hour
	partitionName  = "d20060102" // of a day, after deliveries_ or targets_
	partitionAhead = 3           // days for which there are partitions already

	// ddlPatience bounds how long a change of partitions waits for those that use the table: while it does, others wait for it.
	ddlPatience = 200 * time.Millisecond
	ddlAttempts = 10
	// ensurePatience bounds how long a delivery waits for the partition of its day.
	ensurePatience = 2 * time.Second

	pruneLock = schemaLock + 1 // key of the advisory lock of whoever changes partitions
	indexLock = schemaLock + 3 // likewise, of whoever completes indexes
	pruneStep = 1000           // deliveries whose tags and contents are removed at once
)

// within narrows a query to the partitions of what was made in a period, the ends included.
type within struct{ from, to int64 }

// of returns the condition for a table whose name or alias is given, to be added to others, and its parameters: nothing on
// SQLite, where nothing is gained by it.
func (w *within) of(table string) (cond string, args []any) {
	if w == nil {
		return "", nil
	}
	return " AND " + table + ".created >= ? AND " + table + ".created <= ?", []any{w.from, w.to}
}

// add makes w cover ms, too.
func (w *within) add(ms int64) {
	if w.from == 0 || ms < w.from {
		w.from = ms
	}
	w.to = max(w.to, ms)
}

// madeWithin returns when the deliveries with the given IDs were made.
func (t *tx) madeWithin(ctx context.Context, ids []waybill.DeliveryID) (*within, error) {
	if !t.dialect.shared {
		return nil, nil
	}
	w, err := one(ctx, t, func(r *sql.Rows) (w within, err error) { return w, r.Scan(&w.from, &w.to) },
		`SELECT COALESCE(MIN(created), 0), COALESCE(MAX(created), 0) FROM deliveries WHERE id IN (SELECT value->>0 FROM `+t.dialect.rows+`)`,
		jsonRows(column(ids)))
	return &w, err
}

// partitions makes and drops them. On SQLite there is nothing to do.
type partitions struct {
	mu    sync.Mutex
	until time.Time // there are partitions up to then
}

// RetainsWhole returns how much longer than asked for DropBefore may keep a delivery, because it removes what was made in a
// whole span of time at once; 0 if it removes nothing. What is older is Expire's.
func (s *Store) RetainsWhole() time.Duration {
	if s.dialect.shared {
		return partitionSpan
	}
	return 0
}

// DropBefore removes the deliveries that were made before the given time and before others of the same day that are not too
// old, as far as none of that day is open, with their targets, tags and contents. It costs little, however many they are,
// and returns how many deliveries there were. It also makes partitions for the days to come. On SQLite it does nothing.
func (s *Store) DropBefore(ctx context.Context, before time.Time) (removed int, err error) {
	if !s.dialect.shared {
		return 0, nil
	}
	conn, err := s.reads.db.Conn(ctx)
	if err != nil {
		return 0, classify(err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	on := newStatements(s.dialect, nil, conn)
	if err := whileLocked(ctx, on, indexLock, func() error { return completeIndexes(ctx, on) }); err != nil {
		return 0, fmt.Errorf("complete indexes: %w", err)
	}
	err = whileLocked(ctx, on, pruneLock, func() error {
		removed, err = s.dropPartitions(ctx, on, before)
		return err
	})
	return removed, err
}

// whileLocked runs fn while it holds an advisory lock, unless another server does so already.
func whileLocked(ctx context.Context, on *statements, key int64, fn func() error) (err error) {
	mine, err := one(ctx, on, scanOne[bool], `SELECT pg_try_advisory_lock(?)`, key)
	if err != nil || !mine {
		return err
	}
	defer func() {
		_, unlock := on.exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock(?)`, key)
		err = errors.Join(err, classify(unlock))
	}()
	return fn()
}

// completeIndexes makes the indexes that a migration has declared of tables with partitions, on the partitions that were there
// before. It keeps nobody waiting, whatever it takes; if it is interrupted, the next call goes on. What indexLock is for
// nobody waits for: this waits for all that waits.
func completeIndexes(ctx context.Context, on *statements) error {
	type missing struct{ index, definition, part string }
	list, err := all(ctx, on, func(r *sql.Rows) (v missing, err error) { return v, r.Scan(&v.index, &v.definition, &v.part) },
		`SELECT x.indexrelid::regclass::text, pg_get_indexdef(x.indexrelid), p.inhrelid::regclass::text
		FROM pg_index x JOIN pg_inherits p ON p.inhparent = x.indrelid
		WHERE x.indrelid IN ('deliveries'::regclass, 'targets'::regclass) AND NOT x.indisvalid AND NOT EXISTS (
			SELECT 1 FROM pg_inherits c JOIN pg_index y ON y.indexrelid = c.inhrelid WHERE c.inhparent = x.indexrelid AND y.indrelid = p.inhrelid)
		ORDER BY 1, 3`)
	if err != nil {
		return err
	}
	for _, v := range list {
		_, columns, ok := strings.Cut(v.definition, " USING ")
		if !ok {
			return fmt.Errorf("index %s is defined as %q", v.index, v.definition)
		}
		name := v.part + strings.TrimPrefix(v.index, strings.SplitN(v.index, "_", 2)[0]) // targets_d20260102_file
		for _, change := range []string{
			`DROP INDEX CONCURRENTLY IF EXISTS ` + name, // what somebody left who was interrupted
			`CREATE INDEX CONCURRENTLY ` + name + ` ON ` + v.part + ` USING ` + columns,
			`ALTER INDEX ` + v.index + ` ATTACH PARTITION ` + name,
		} {
			if _, err := on.exec(ctx, change); err != nil {
				return classify(err)
			}
		}
	}
	return nil
}

// dropPartitions does what DropBefore does. The caller holds pruneLock.
func (s *Store) dropPartitions(ctx context.Context, on *statements, before time.Time) (removed int, err error) {
	if err := makePartitions(ctx, on, s.now(), partitionAhead); err != nil {
		return 0, err
	}
	if _, err := on.exec(ctx, `DELETE FROM writers WHERE used < now() - interval '7 days'`); err != nil { // of servers that were killed
		return 0, classify(err)
	}
	list, err := all(ctx, on, scanOne[string], `SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'deliveries\_d________' AND pg_table_is_visible(oid) ORDER BY 1`)
	if err != nil {
		return 0, err
	}
	for _, table := range list {
		name := strings.TrimPrefix(table, "deliveries_")
		day, err := time.Parse(partitionName, name)
		if err != nil || day.Add(partitionSpan).After(before) {
			continue
		}
		n, err := s.dropPartition(ctx, on, name)
		removed += n
		if err != nil {
			return removed, fmt.Errorf("drop the deliveries of %s: %w", day.Format(time.DateOnly), err)
		}
	}
	return removed, nil
}

// dropPartition removes what was made on one day. If it is interrupted, the next call goes on: what is detached is seen by
// nobody else.
func (s *Store) dropPartition(ctx context.Context, on *statements, name string) (removed int, err error) {
	deliveries, targets := "deliveries_"+name, "targets_"+name
	// A delivery whose targets are gone is not shown any more.
	for _, table := range []string{"targets", "deliveries"} {
		part := table + "_" + name
		attached, err := one(ctx, on, scanOne[bool], `SELECT EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = to_regclass(?))`, part)
		if err != nil {
			return 0, err
		}
		if !attached {
			continue
		}
		if table == "targets" {
			open, err := one(ctx, on, scanOne[bool], `SELECT EXISTS (SELECT 1 FROM `+part+` WHERE finished = 0)`)
			if err != nil || open {
				return 0, err // Expire removes what has ended
			}
		}
		err = changeTable(ctx, on, `ALTER TABLE `+table+` DETACH PARTITION `+part)
		if state(err) == lockTimeout {
			s.log.Info("old deliveries are not removed yet, because somebody reads them all, a backup for one", "table", part)
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
	}
	for after := ""; ; {
		list, err := all(ctx, on, func(r *sql.Rows) (v expired, err error) { return v, r.Scan(&v.id, &v.digest) },
			`SELECT id, digest FROM `+deliveries+` WHERE id > ? ORDER BY id LIMIT ?`, after, pruneStep)
		if err != nil {
			return removed, err
		}
		if len(list) > 0 {
			ids := make([]string, len(list))
			for i, v := range list {
				ids[i] = v.id
			}
			if err := s.writes.do(ctx, func(t *tx) error {
				if err := t.put(ctx, s.dialect.dropDiffs(), jsonRows(column(ids))); err != nil {
					return err
				}
				if err := t.put(ctx, `DELETE FROM attempts WHERE delivery IN (SELECT value->>0 FROM `+s.dialect.rows+`)`, jsonRows(column(ids))); err != nil {
					return err
				}
				if err := t.put(ctx, `DELETE FROM tags WHERE kind = 'delivery' AND resource IN (SELECT value->>0 FROM `+s.dialect.rows+`)`, jsonRows(column(ids))); err != nil {
					return err
				}
				return s.dropContents(ctx, t, list)
			}); err != nil {
				return removed, err
			}
			after = list[len(list)-1].id
		}
		removed += len(list)
		if len(list) < pruneStep {
			break
		}
	}
	_, err = on.exec(ctx, `DROP TABLE IF EXISTS `+targets+`, `+deliveries)
	return removed, classify(err)
}

// dropSharedContents is dropContents where other servers write at the same time.
func (s *Store) dropSharedContents(ctx context.Context, t *tx, digests []string) error {
	rows := make([][1]string, len(digests))
	for i, d := range digests {
		rows[i][0] = hex.EncodeToString([]byte(d))
	}
	these := `(SELECT decode(value->>0, 'hex') FROM ` + s.dialect.rows + `)`
	// What another server adds to one of them meanwhile, the second statement sees.
	if err := t.put(ctx, `SELECT 1 FROM contents WHERE digest IN `+these+s.dialect.lockRows("digest", "contents"), jsonRows(rows)); err != nil {
		return err
	}
	return t.put(ctx, `DELETE FROM contents c WHERE digest IN `+these+` AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.digest = c.digest)`, jsonRows(rows))
}

// ensurePartition makes partitions before the first delivery of a day that has none. Without one it would be kept in the
// partition for all that fits no other, from where only Expire removes it.
func (s *Store) ensurePartition(ctx context.Context, created time.Time) {
	if !s.dialect.shared {
		return
	}
	p := s.partitions
	p.mu.Lock()
	defer p.mu.Unlock()
	if created.Before(p.until) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ensurePatience)
	defer cancel()
	if err := s.openPartitions(ctx, created); err != nil {
		s.log.Warn("make a partition for deliveries; they are kept with others", "err", err)
	}
	p.until = day(created).Add(partitionSpan) // whatever became of it: once a day is enough
}

func (s *Store) openPartitions(ctx context.Context, at time.Time) (err error) {
	conn, err := s.reads.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	on := newStatements(s.dialect, nil, conn)
	if _, err := on.exec(ctx, `SELECT pg_advisory_lock(?)`, int64(pruneLock)); err != nil {
		return err
	}
	defer func() {
		_, unlock := on.exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock(?)`, int64(pruneLock))
		err = errors.Join(err, unlock)
	}()
	return makePartitions(ctx, on, at, partitionAhead)
}

func day(t time.Time) time.Time { return t.UTC().Truncate(partitionSpan) }

// makePartitions makes those that are missing for the day of at and some more. The caller holds pruneLock.
func makePartitions(ctx context.Context, on *statements, at time.Time, ahead int) error {
	there, err := all(ctx, on, scanOne[string], `SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent IN ('deliveries'::regclass, 'targets'::regclass)`)
	if err != nil {
		return err
	}
	for i := range ahead + 1 {
		from := day(at).Add(time.Duration(i) * partitionSpan)
		for _, table := range []string{"deliveries", "targets"} {
			part := table + "_" + from.Format(partitionName)
			if slices.Contains(there, part) {
				continue
			}
			// To attach a table disturbs others less than to create a partition. One that is there already was left by somebody
			// who was interrupted.
			if err := changeTable(ctx, on, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s (LIKE %s INCLUDING DEFAULTS)`, part, table)); err != nil {
				return fmt.Errorf("make a partition for %s: %w", from.Format(time.DateOnly), err)
			}
			err := changeTable(ctx, on, fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)`,
				table, part, millis(from), millis(from.Add(partitionSpan))))
			if state(err) == "23514" { // some of that day are kept with others already, and so will be the rest
				continue
			}
			if err != nil {
				return fmt.Errorf("make a partition for %s: %w", from.Format(time.DateOnly), err)
			}
		}
	}
	return nil
}

// lockTimeout is the SQLSTATE of a lock that was not to be had in time.
const lockTimeout = "55P03"

// changeTable runs a statement that changes a table, again if it does not get its lock at once: whoever waits for one keeps
// all others waiting. One table at a time, so that nobody who uses two can be in the way of it.
func changeTable(ctx context.Context, on *statements, change string) error {
	for attempt := 1; ; attempt++ {
		err := changeTableOnce(ctx, on, change)
		if err == nil {
			return nil
		}
		if state(err) != lockTimeout && !undone(err) || attempt == ddlAttempts {
			return err
		}
		select { // let those that waited go first
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(attempt) * ddlPatience / 4):
		}
	}
}

func changeTableOnce(ctx context.Context, on *statements, change string) error {
	for _, q := range []string{"BEGIN", fmt.Sprintf("SET LOCAL lock_timeout = '%dms'", ddlPatience.Milliseconds()), change, "COMMIT"} {
		if _, err := on.on.ExecContext(ctx, q); err != nil {
			_, rollBack := on.on.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			return errors.Join(err, rollBack)
		}
	}
	return nil
}
