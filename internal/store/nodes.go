// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"

	"github.com/openwaybill/waybill"
)

// Node is a server of several that share a database.
type Node struct {
	Name    string // the same after a restart
	Run     string // another one for each
	Version string
	Beat    int64 // grows while it lives
}

// BeatNode notes that a server lives. It reports whether it is new: it has just started, or the others had taken it for
// dead.
func (s *Store) BeatNode(ctx context.Context, n Node) (joined bool, err error) {
	err = s.write(ctx, func(t *tx) error {
		known, err := t.exec(ctx, `UPDATE servers SET beat = beat + 1, version = ? WHERE name = ? AND run = ?`, n.Version, n.Name, n.Run)
		if joined = known == 0; err != nil || !joined {
			return err
		}
		_, err = t.exec(ctx, `INSERT INTO servers (name, run, version, beat) VALUES (?, ?, ?, 1)
			ON CONFLICT (name) DO UPDATE SET run = excluded.run, version = excluded.version, beat = servers.beat + 1`,
			n.Name, n.Run, n.Version)
		return err
	})
	return joined, err
}

// Nodes returns the servers that have noted that they live and were not removed, by name.
func (s *Store) Nodes(ctx context.Context) ([]Node, error) {
	return all(ctx, s.reads, func(r *sql.Rows) (n Node, err error) {
		return n, r.Scan(&n.Name, &n.Run, &n.Version, &n.Beat)
	}, `SELECT name, run, version, beat FROM servers ORDER BY name`)
}

// RemoveNode removes a server that has ended, whatever its last sign of life. It reports whether that run of it was there.
func (s *Store) RemoveNode(ctx context.Context, n Node) (removed bool, err error) {
	err = s.write(ctx, func(t *tx) error {
		count, err := t.exec(ctx, `DELETE FROM servers WHERE name = ? AND run = ?`, n.Name, n.Run)
		removed = count > 0
		return err
	})
	return removed && err == nil, err
}

// BuryNode removes a server that is taken for dead and, in the same transaction, marks as without a channel the instances
// of that kind whose session begins with prefix; see LoseChannels. So a server that lives all the same finds both or
// neither, and greets again for its channels. If it has started anew or given a sign of life since n was read, nothing
// happens, and removed is false. After an error it may have happened or not.
func (s *Store) BuryNode(ctx context.Context, n Node, kind waybill.AgentKind, prefix string) (removed bool, lost int64, err error) {
	err = s.write(ctx, func(t *tx) error {
		removed, lost = false, 0 // the transaction may run again
		count, err := t.exec(ctx, `DELETE FROM servers WHERE name = ? AND run = ? AND beat = ?`, n.Name, n.Run, n.Beat)
		if err != nil || count == 0 {
			return err
		}
		removed = true
		lost, err = loseChannels(ctx, t, kind, prefix)
		return err
	})
	return removed && err == nil, lost, err
}
