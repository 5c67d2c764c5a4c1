// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"
)

// Claim takes what is called name, such as a chore, for holder and the time ttl, or takes it for longer if holder has it.
// It reports whether holder has it now; otherwise another has, and its time is not over. On PostgreSQL the clock is that
// of the database, so that servers with other clocks agree. A holder must count ttl from before its call.
func (s *Store) Claim(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error) {
	at, times := "?", []any{millis(s.now())}
	if s.dialect.shared {
		at, times = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)", nil
	}
	args := append(append([]any{name, holder}, times...), ttl.Milliseconds())
	args = append(args, times...)
	err = s.writes.do(ctx, func(t *tx) error {
		n, err := t.exec(ctx, `INSERT INTO leases (name, holder, until) VALUES (?, ?, `+at+` + ?)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
			WHERE leases.holder = excluded.holder OR leases.until <= `+at, args...)
		held = n > 0
		return err
	})
	return held && err == nil, err
}

// Release gives back what holder has claimed. It is no error if it has nothing of that name.
func (s *Store) Release(ctx context.Context, name, holder string) error {
	return s.writes.do(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `DELETE FROM leases WHERE name = ? AND holder = ?`, name, holder)
		return err
	})
}
