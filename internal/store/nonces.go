// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/openwaybill/waybill/internal/batch"
)

// nonces remembers what must not be used twice.
type nonces interface {
	use(ctx context.Context, digest [sha256.Size]byte, until time.Time) (fresh bool, err error)
	len() int // of those that are used and not in the database
	forget(now time.Time)
	close() error
}

// UseNonce reports whether owner uses nonce for the first time, on whichever server of the database, and remembers it until
// the given time. It does not wait for the disk: the nonce is durable no later than the next write made through the store,
// so whatever a request writes never outlives the memory of its nonce.
func (s *Store) UseNonce(ctx context.Context, owner, nonce string, until time.Time) (fresh bool, err error) {
	return s.nonces.use(ctx, sha256.Sum256([]byte(owner+"\x00"+nonce)), until)
}

// nonceSet holds the nonces that are used and not yet in the database, of which this is the only server.
type nonceSet struct {
	store *Store
	mu    sync.Mutex
	m     map[[sha256.Size]byte]time.Time // until when it counts
}

func (n *nonceSet) len() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.m)
}

// forget drops what has expired: the nonces that could not be stored while the disk was full, for one.
func (n *nonceSet) forget(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.m, func(_ [sha256.Size]byte, until time.Time) bool { return until.Before(now) })
}

func (n *nonceSet) close() error { return nil }

// use commits the nonce before or with the next write.
func (n *nonceSet) use(ctx context.Context, digest [sha256.Size]byte, until time.Time) (fresh bool, err error) {
	n.mu.Lock()
	_, used := n.m[digest]
	if !used {
		if n.m == nil {
			n.m = map[[sha256.Size]byte]time.Time{}
		}
		n.m[digest] = until
	}
	n.mu.Unlock()
	if used {
		return false, nil
	}
	release := func() {
		n.mu.Lock()
		delete(n.m, digest)
		n.mu.Unlock()
	}
	_, err = one(ctx, n.store.brief, scanOne[int64], `SELECT expires FROM nonces WHERE digest = ?`, digest[:])
	if !errors.Is(err, ErrNotFound) {
		release()
		return false, err
	}
	n.store.writes.later(func(t *tx) error {
		_, err := t.exec(context.Background(), `INSERT INTO nonces (digest, expires) VALUES (?, ?) ON CONFLICT DO NOTHING`, digest[:], millis(until))
		return err
	}, func(err error) {
		if err != nil {
			n.store.log.Error("store nonce", "err", err) // and keep it in memory: better to refuse a replay
			return
		}
		release()
	})
	return true, nil
}

// sharedNonces lets PostgreSQL decide, for all servers: whoever inserts a nonce first has used it. Those who wait at the
// same time share one statement. Its transaction is committed without waiting for the disk: the log is one, so whatever
// any server commits later, and waits for, is written after it.
type sharedNonces struct {
	stmts *statements
	group *batch.Group[*nonceUse]
}

type nonceUse struct {
	ctx    context.Context
	digest [sha256.Size]byte
	until  int64
	fresh  bool
	err    error
}

func newSharedNonces(db *sql.DB) *sharedNonces {
	n := &sharedNonces{stmts: newStatements(postgresDialect, db, db)}
	n.group = batch.New(maxGroup, n.insert)
	return n
}

func (n *sharedNonces) use(ctx context.Context, digest [sha256.Size]byte, until time.Time) (bool, error) {
	u := &nonceUse{ctx: ctx, digest: digest, until: millis(until)}
	n.group.Do(u)
	return u.fresh, u.err
}

func (n *sharedNonces) len() int { return 0 }

func (n *sharedNonces) forget(time.Time) {}

func (n *sharedNonces) close() error { return n.stmts.close() }

var insertNonces = `WITH soon AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
	r AS (SELECT decode(value->>0, 'hex') AS digest, CAST(value->>1 AS BIGINT) AS expires FROM soon, ` + postgresDialect.rows + `)
	INSERT INTO nonces (digest, expires, claim) SELECT digest, expires, CAST(? AS BIGINT) FROM r ORDER BY digest
		ON CONFLICT DO NOTHING RETURNING digest`

// insert tells for each of uses whether it is the first of its digest. claim marks the rows of this call: if it has to be
// made again because the connection broke, they are known again.
func (n *sharedNonces) insert(uses []*nonceUse) {
	first := map[[sha256.Size]byte]*nonceUse{}
	for _, u := range uses {
		if u.err = u.ctx.Err(); u.err == nil && first[u.digest] == nil {
			first[u.digest] = u
		}
	}
	if len(first) == 0 {
		return
	}
	var random [8]byte
	rand.Read(random[:])
	claim := int64(binary.BigEndian.Uint64(random[:]))
	// In one order on every server, so that no two wait for each other.
	rows := make([][2]any, 0, len(first))
	for _, digest := range slices.SortedFunc(maps.Keys(first), func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) }) {
		rows = append(rows, [2]any{hex.EncodeToString(digest[:]), first[digest].until})
	}
	ctx, cancel := context.WithTimeout(context.Background(), readPatience)
	defer cancel()
	since := time.Now()
	fresh, err := scanAll(ctx, n.stmts, scanOne[[]byte], insertNonces, jsonRows(rows), claim)
	for n.stmts.again(ctx, err, since) {
		if _, err = scanAll(ctx, n.stmts, scanOne[[]byte], insertNonces, jsonRows(rows), claim); err == nil {
			fresh, err = scanAll(ctx, n.stmts, scanOne[[]byte], `SELECT n.digest FROM nonces n JOIN (SELECT decode(value->>0, 'hex') AS digest
				FROM `+postgresDialect.rows+`) r ON n.digest = r.digest WHERE n.claim = ?`, jsonRows(rows), claim)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || lost(err) {
		err = unavailable(err)
	}
	for _, u := range first {
		u.err = err
	}
	for _, digest := range fresh {
		if u := first[[sha256.Size]byte(digest)]; u != nil {
			u.fresh = true
		}
	}
}
