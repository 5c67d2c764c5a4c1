// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/hmac"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/audit"
)

// Bounds of what a refused request can write into the trail: it may name anything, as long and as often as it likes.
const (
	maxRecordText      = 512 // bytes of any one text
	maxRefusedResource = 10  // resources of what was not done
)

// record adds the audit record of act to those that the transaction writes before it commits.
func (t *tx) record(act *waybill.Act, result string) {
	r := waybill.AuditRecord{
		Account: act.Account, RequestID: act.RequestID, ActorType: act.Kind, Actor: act.Name, AccessKey: act.AccessKey,
		Action: act.Action, Region: clip(act.Region), Subject: clip(act.Subject), Result: result,
	}
	// As every database gives it back: the hash covers it.
	for _, text := range []*string{&r.RequestID, &r.Actor, &r.AccessKey, &r.Action, &r.Region, &r.Subject, &r.Result} {
		*text = clean(*text)
	}
	for _, arn := range act.Resources {
		if result != waybill.AuditOK && len(r.Resources) == maxRefusedResource {
			r.Resources = append(r.Resources, fmt.Sprintf("and %d more", len(act.Resources)-maxRefusedResource))
			break
		}
		r.Resources = append(r.Resources, clean(clip(arn)))
	}
	if result != waybill.AuditOK && result != waybill.AuditRepeated {
		r.Subject = "" // what was to be made is not there; the resources say what it was about
	}
	if act.SourceIP.IsValid() {
		r.SourceIP = act.SourceIP.String()
	}
	t.records = append(t.records, r)
}

// clip cuts a text at a character.
func clip(s string) string {
	if len(s) <= maxRecordText {
		return s
	}
	return strings.ToValidUTF8(s[:maxRecordText], "") + "…"
}

// Record writes the audit record of an act that no transaction has taken along: one that was refused, or changed nothing.
func (s *Store) Record(ctx context.Context, act *waybill.Act, result string) error {
	err := s.writes.do(ctx, func(t *tx) error {
		t.record(act, result)
		return nil
	})
	act.Recorded = act.Recorded || err == nil
	if err != nil && !errors.Is(err, errChain) { // which is counted already
		s.writes.metrics.auditFailures.Inc()
	}
	return err
}

// chainer numbers and chains the audit records of a transaction. Only the writer's leader uses it.
type chainer struct {
	dialect dialect
	key     []byte
	now     func() time.Time
	log     *slog.Logger
}

// head is where the records of an account begin and end.
type head struct {
	account waybill.AccountID
	first   int64
	before  [32]byte
	last    int64
	hash    [32]byte
	// broken is the number of the record before which somebody else has changed the head; 0: nobody has. It is sealed
	// with the rest, so that it stays.
	broken int64
	seal   []byte
}

func (c *chainer) sealed(h *head) []byte {
	return audit.Seal(c.key, h.account, h.first, h.before, h.last, h.hash, h.broken)
}

const headColumns = `SELECT account, first, before, last, hash, broken, seal FROM audit_heads`

func scanHead(r *sql.Rows) (h head, err error) {
	var before, hash []byte
	err = r.Scan(&h.account, &h.first, &before, &h.last, &hash, &h.broken, &h.seal)
	copy(h.before[:], before)
	copy(h.hash[:], hash)
	return h, err
}

// append chains the records of t to those that are there, and writes all of them with one statement, and one for the head
// of each account.
func (c *chainer) append(ctx context.Context, t *tx) error {
	if len(t.records) == 0 {
		return nil
	}
	heads, err := c.heads(ctx, t)
	if err != nil {
		return err
	}
	now := instant(millis(c.now()))
	for i := range t.records {
		r := &t.records[i]
		h := heads[r.Account]
		r.Sequence, r.Time, r.Previous = h.last+1, now, h.hash
		r.Hash = audit.Hash(r)
		h.last, h.hash = r.Sequence, r.Hash
		resources, err := json.Marshal(notNilTexts(r.Resources))
		if err != nil {
			return err
		}
		if err := t.put(ctx, `INSERT INTO audit_records (account, seq, time, request_id, actor_type, actor, access_key, source_ip,
				action, region, resources, subject, result, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			r.Account, r.Sequence, millis(r.Time), r.RequestID, r.ActorType, r.Actor, r.AccessKey, r.SourceIP, r.Action,
			r.Region, string(resources), r.Subject, r.Result, hex.EncodeToString(r.Previous[:]), hex.EncodeToString(r.Hash[:])); err != nil {
			return err
		}
	}
	for _, h := range heads {
		if err := c.put(ctx, t, h); err != nil {
			return err
		}
	}
	return nil
}

// heads returns the heads of the accounts that t has records of.
func (c *chainer) heads(ctx context.Context, t *tx) (map[waybill.AccountID]*head, error) {
	heads := map[waybill.AccountID]*head{}
	for _, r := range t.records {
		heads[r.Account] = nil
	}
	is, named := c.dialect.named(texts(slices.Sorted(maps.Keys(heads))))
	list, err := all(ctx, t, scanHead, headColumns+` WHERE account`+is+c.dialect.lockRows("account", "audit_heads"), named)
	if err != nil {
		return nil, err
	}
	for i := range list {
		heads[list[i].account] = &list[i]
	}
	for account, h := range heads {
		if heads[account], err = c.checked(ctx, t, account, h); err != nil {
			return nil, err
		}
	}
	return heads, nil
}

// begin gives a new account the head of its trail, so that a trail without head is one that somebody has removed.
func (c *chainer) begin(ctx context.Context, t *tx, account waybill.AccountID) error {
	return c.put(ctx, t, &head{account: account, first: 1})
}

// beginAll is begin for the accounts of a database from before there were audit trails.
func (c *chainer) beginAll(ctx context.Context, t *tx) error {
	accounts, err := all(ctx, t, scanOne[waybill.AccountID], `SELECT id FROM accounts WHERE id NOT IN (SELECT account FROM audit_heads)`)
	if err != nil {
		return err
	}
	for _, account := range accounts {
		if err := c.begin(ctx, t, account); err != nil {
			return err
		}
	}
	return nil
}

// head returns the head of an account, see checked, which no other server changes before the transaction ends.
func (c *chainer) head(ctx context.Context, t *tx, account waybill.AccountID) (*head, error) {
	h, err := one(ctx, t, scanHead, headColumns+` WHERE account = ?`+c.dialect.lock, account)
	switch {
	case errors.Is(err, ErrNotFound):
		return c.checked(ctx, t, account, nil)
	case err != nil:
		return nil, err
	}
	return c.checked(ctx, t, account, &h)
}

// checked returns the head h of an account; nil if there is none. One that is missing, or not as it was left, is marked as
// broken, for good, and the trail goes on: whoever can spoil it must not be able to stop the server.
func (c *chainer) checked(ctx context.Context, q querier, account waybill.AccountID, h *head) (*head, error) {
	if h != nil && hmac.Equal(h.seal, c.sealed(h)) {
		return h, nil
	}
	last, err := one(ctx, q, scanOne[sql.NullInt64], `SELECT MAX(seq) FROM audit_records WHERE account = ?`, account)
	if err != nil {
		return nil, err
	}
	if h == nil {
		h = &head{account: account, first: 1, last: last.Int64, broken: last.Int64 + 1}
	} else {
		if h.broken == 0 {
			h.broken = h.last + 1
		}
		h.last = max(h.last, last.Int64) // a record that is there already would stop every transaction
	}
	c.log.Error("the audit trail was tampered with: its head is not as it was left", "account", account, "record", h.broken)
	return h, nil
}

func (c *chainer) put(ctx context.Context, t *tx, h *head) error {
	return t.put(ctx, `INSERT INTO audit_heads (account, first, before, last, hash, broken, seal) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account) DO UPDATE SET first = excluded.first, before = excluded.before, last = excluded.last,
			hash = excluded.hash, broken = excluded.broken, seal = excluded.seal`,
		h.account, h.first, h.before[:], h.last, h.hash[:], h.broken, c.sealed(h))
}

func notNilTexts(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

const recordColumns = `SELECT r.account, r.seq, r.time, r.request_id, r.actor_type, r.actor, r.access_key, r.source_ip, r.action,
	r.region, r.resources, r.subject, r.result, r.previous, r.hash FROM audit_records r`

func scanRecord(r *sql.Rows) (v waybill.AuditRecord, err error) {
	var at int64
	var resources, previous, hash string
	if err = r.Scan(&v.Account, &v.Sequence, &at, &v.RequestID, &v.ActorType, &v.Actor, &v.AccessKey, &v.SourceIP, &v.Action,
		&v.Region, &resources, &v.Subject, &v.Result, &previous, &hash); err != nil {
		return v, err
	}
	v.Time = instant(at)
	v.Previous, v.Hash = parseHash(previous), parseHash(hash)
	// What was altered into no JSON shows as a record with another hash.
	_ = json.Unmarshal([]byte(resources), &v.Resources)
	return v, nil
}

// parseHash reads a hash in hexadecimal; one that is none becomes zero, which is the hash of nothing.
func parseHash(text string) (hash [32]byte) {
	var b []byte
	if n, err := fmt.Sscanf(text, "%x", &b); n == 1 && err == nil && len(b) == len(hash) {
		copy(hash[:], b)
	}
	return hash
}

// AuditRecords returns a page of an account's audit records. Its cursor is a sequence number. Listing.Total is not counted.
func (s *Store) AuditRecords(ctx context.Context, account waybill.AccountID, f waybill.AuditFilter, p waybill.Page) (waybill.Listing[waybill.AuditRecord], error) {
	var list waybill.Listing[waybill.AuditRecord]
	var w filter
	w.add("r.account = ?", account)
	if !f.From.IsZero() {
		w.add("r.time >= ?", millis(f.From))
	}
	if !f.To.IsZero() {
		w.add("r.time < ?", millis(f.To))
	}
	w.eq("r.action", f.Action)
	w.eq("r.actor", f.Actor)
	w.eq("r.access_key", f.AccessKey)
	w.eq("r.request_id", f.RequestID)
	w.eq("r.result", f.Result)
	beyond, order := "r.seq < ?", "r.seq DESC"
	if f.OldFirst {
		beyond, order = "r.seq > ?", "r.seq"
	}
	if p.Cursor != "" {
		seq, err := strconv.ParseInt(p.Cursor, 10, 64)
		if err != nil {
			seq = 0 // front ends sign cursors
		}
		w.add(beyond, seq)
	}
	var err error
	list.Items, err = all(ctx, s.reads, scanRecord, recordColumns+w.where()+" ORDER BY "+order+" LIMIT ?", append(w.args, p.Size+1)...)
	if err != nil {
		return list, fmt.Errorf("list audit records: %w", err)
	}
	if len(list.Items) > p.Size {
		list.Items = list.Items[:p.Size]
		list.Next = strconv.FormatInt(list.Items[p.Size-1].Sequence, 10)
	}
	return list, nil
}

// verifyBatch bounds how many records are held while a trail is checked.
const verifyBatch = 1000

// VerifyAudit checks the audit trail of an account: every record against its hash, the one before and the one after, and
// both ends against the sealed head.
func (s *Store) VerifyAudit(ctx context.Context, account waybill.AccountID) (waybill.AuditVerdict, error) {
	for {
		h, err := one(ctx, s.reads, scanHead, headColumns+` WHERE account = ?`, account)
		if errors.Is(err, ErrNotFound) {
			return waybill.AuditVerdict{Problem: "the head of the trail is missing"}, nil
		}
		if err != nil {
			return waybill.AuditVerdict{}, err
		}
		v, err := s.verify(ctx, &h)
		if err != nil || v.Problem == "" {
			return v, err
		}
		// Retention may have moved the beginning while the records were read.
		now, err := one(ctx, s.reads, scanHead, headColumns+` WHERE account = ?`, account)
		if errors.Is(err, ErrNotFound) || err == nil && now.first == h.first {
			return v, nil
		}
		if err != nil {
			return v, err
		}
	}
}

func (s *Store) verify(ctx context.Context, h *head) (v waybill.AuditVerdict, err error) {
	var chain audit.Chain
	problem := ""
	for at := int64(0); problem == ""; {
		// Records after the head's last came while this ran, or were put there by somebody: the head tells which.
		batch, err := all(ctx, s.reads, scanRecord, recordColumns+` WHERE r.account = ? AND r.seq > ? AND r.seq <= ? ORDER BY r.seq LIMIT ?`,
			h.account, at, h.last, verifyBatch)
		if err != nil {
			return v, fmt.Errorf("read audit records: %w", err)
		}
		for _, r := range batch {
			at = r.Sequence
			if chain.Records == 0 && (r.Sequence != h.first || r.Previous != h.before) {
				problem = fmt.Sprintf("the trail begins with record %d, not with record %d as it was left", r.Sequence, h.first)
				break
			}
			if err := chain.Add(r); err != nil {
				problem = err.Error()
				break
			}
		}
		if len(batch) < verifyBatch {
			break
		}
	}
	last, hash := chain.Last.Sequence, chain.Last.Hash
	if chain.Records == 0 {
		last, hash = h.first-1, h.before
	}
	switch {
	case problem != "":
	case !hmac.Equal(h.seal, s.writes.chain.sealed(h)):
		problem = "the head of the trail was altered: its seal is not this server's"
	case h.broken > 0:
		problem = fmt.Sprintf("the head of the trail was altered, which was noticed before record %d was written", h.broken)
	case last != h.last:
		problem = fmt.Sprintf("records %d to %d are missing at the end", last+1, h.last)
	case hash != h.hash:
		problem = fmt.Sprintf("record %d is not the one that was written last", last)
	}
	v = waybill.AuditVerdict{Records: chain.Records, Last: last, Head: hash, Problem: problem}
	if chain.Records > 0 {
		v.First = chain.First.Sequence
	}
	return v, nil
}

// AuditedAccounts returns the accounts that have audit records.
func (s *Store) AuditedAccounts(ctx context.Context) ([]waybill.AccountID, error) {
	return all(ctx, s.reads, scanOne[waybill.AccountID], `SELECT account FROM audit_heads ORDER BY account`)
}

// ExpireAudit removes up to limit of the oldest audit records of an account that are older than before, and moves the
// beginning of the trail. It returns how many.
func (s *Store) ExpireAudit(ctx context.Context, account waybill.AccountID, before time.Time, limit int) (removed int, err error) {
	type row struct {
		seq  int64
		at   int64
		hash string
	}
	err = s.write(ctx, func(t *tx) error {
		removed = 0
		h, err := s.writes.chain.head(ctx, t, account)
		if err != nil {
			return err
		}
		// By number, not by time: a clock that was set back must leave no gap.
		old, err := all(ctx, t, func(r *sql.Rows) (v row, err error) { return v, r.Scan(&v.seq, &v.at, &v.hash) },
			`SELECT seq, time, hash FROM audit_records WHERE account = ? AND seq >= ? ORDER BY seq LIMIT ?`, account, h.first, limit)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(old, func(v row) bool { return v.at >= millis(before) }); i >= 0 {
			old = old[:i]
		}
		if removed = len(old); removed == 0 {
			return nil
		}
		last := old[removed-1]
		h.first, h.before = last.seq+1, parseHash(last.hash)
		if _, err := t.exec(ctx, `DELETE FROM audit_records WHERE account = ? AND seq <= ?`, account, last.seq); err != nil {
			return err
		}
		return s.writes.chain.put(ctx, t, h)
	})
	return removed, err
}
