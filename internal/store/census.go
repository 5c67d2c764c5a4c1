// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/openwaybill/waybill"
)

// Census is how much there is, over all accounts and regions.
type Census struct {
	Machines     []MachineCount
	Open         map[waybill.Status]int // open targets by status
	Deliveries   int                    // with open targets
	NextDeadline time.Time              // the earliest of all open targets; zero if none is open
	Events       int                    // that enabled webhooks are to be sent
	OldestEvent  time.Time              // when the earliest of them happened, or was last to be sent again; zero if there is none
}

// MachineCount is a number of registered machines that have the same in common.
type MachineCount struct {
	Agent    waybill.AgentKind
	Presence waybill.Presence
	Heard    bool // of since the time that was asked for
	Count    int
}

// Census counts. It reads every instance and every open target, so ask rarely: 10,000 machines take milliseconds, a
// million about a second.
func (s *Store) Census(ctx context.Context, since time.Time) (c Census, err error) {
	c.Machines, err = all(ctx, s.reads, func(r *sql.Rows) (m MachineCount, err error) {
		return m, r.Scan(&m.Agent, &m.Presence, &m.Heard, &m.Count)
	}, `SELECT agent_kind, presence, CASE WHEN last_seen >= ? THEN 1 ELSE 0 END, COUNT(*) FROM instances WHERE state = ? GROUP BY 1, 2, 3`,
		millis(since), waybill.Registered)
	if err != nil {
		return c, fmt.Errorf("count machines: %w", err)
	}
	type row struct {
		status            waybill.Status
		targets, earliest int64
	}
	open, err := all(ctx, s.reads, func(r *sql.Rows) (v row, err error) { return v, r.Scan(&v.status, &v.targets, &v.earliest) },
		`SELECT status, COUNT(*), MIN(deadline) FROM targets WHERE finished = 0 GROUP BY status`)
	if err != nil {
		return c, fmt.Errorf("count open targets: %w", err)
	}
	c.Open = map[waybill.Status]int{}
	for _, v := range open {
		c.Open[v.status] = int(v.targets)
		if t := instant(v.earliest); c.NextDeadline.IsZero() || t.Before(c.NextDeadline) {
			c.NextDeadline = t
		}
	}
	c.Deliveries, err = one(ctx, s.reads, scanOne[int], `SELECT COUNT(DISTINCT delivery) FROM targets WHERE finished = 0`)
	if err != nil {
		return c, fmt.Errorf("count open deliveries: %w", err)
	}
	type waiting struct{ count, until int64 }
	events, err := one(ctx, s.reads, func(r *sql.Rows) (v waiting, err error) { return v, r.Scan(&v.count, &v.until) },
		`SELECT COUNT(*), COALESCE(MIN(e.until), 0) FROM webhook_events e JOIN webhooks w ON w.id = e.webhook WHERE e.status = 'Waiting' AND w.enabled`)
	if err != nil {
		return c, fmt.Errorf("count events: %w", err)
	}
	if c.Events = int(events.count); c.Events > 0 {
		c.OldestEvent = instant(events.until).Add(-AttemptsFor)
	}
	return c, nil
}
