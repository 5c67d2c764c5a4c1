// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// NewDelivery is a delivery to store with all its targets.
type NewDelivery struct {
	waybill.Delivery
	Data []byte // decoded content, of digest Delivery.SHA256
	Sent string // the content as the request wrote it
	// Large tells that the store of large contents has Data, and SentLarge, if not nil, that it has Sent under that digest.
	Large     bool
	SentLarge *[32]byte
	// Held tells that Data was not given: the store of large contents had it before, and so must have it still.
	Held bool
	// Targets, in the order asked for. Those whose Status is final end with the delivery's creation.
	Targets []waybill.Target
}

// AddDelivery stores a delivery, its targets, tags and content in one transaction. Counts are computed from Targets.
func (s *Store) AddDelivery(ctx context.Context, d *NewDelivery) error {
	d.Counts, d.TargetCount = waybill.Counts{}, len(d.Targets)
	for _, t := range d.Targets {
		d.Counts.Add(t.Status, 1)
	}
	var sent, sentDigest any
	sentSize := 0
	if d.SentLarge != nil {
		sentDigest, sentSize = d.SentLarge[:], len(d.Sent)
	} else if differs(d) {
		sent = d.Sent
	}
	s.ensurePartition(ctx, d.Created)
	return s.write(ctx, func(t *tx) error {
		if err := s.keepContent(ctx, t, d); err != nil {
			return fmt.Errorf("store content: %w", err)
		}
		f, c := d.File, d.Counts
		if err := t.put(ctx, `INSERT INTO deliveries (id, account, region, name, target_dir, owner, grp, mode, overwrite,
				content_type, digest, size, sent, sent_digest, sent_size, description, resource_group, timeout, created, deadline,
				dry_run, targets, pending, running, success, failed, status)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			d.ID, d.Account, d.Region, f.Name, f.TargetDir, f.Owner, f.Group, f.Mode, f.Overwrite,
			d.ContentType, d.SHA256[:], d.Size, sent, sentDigest, sentSize, d.Description, d.ResourceGroup, d.Timeout.Milliseconds(),
			millis(d.Created), millis(d.Deadline), dryRun(&d.Delivery),
			d.TargetCount, c.Pending, c.Running, c.Success, c.Failed, c.Aggregate()); err != nil {
			return fmt.Errorf("store delivery: %w", err)
		}
		if err := t.putTargets(ctx, s.dialect, d); err != nil {
			return fmt.Errorf("store targets: %w", err)
		}
		if err := t.addTags(ctx, s.dialect, d.Account, waybill.DeliveryResource, string(d.ID), d.Tags); err != nil {
			return err
		}
		return s.tellCreated(ctx, t, d)
	})
}

// targetBatch is how many targets one statement stores: what is encoded at once stays small however many there are.
const targetBatch = 2000

// putTargets stores the targets of a delivery.
func (t *tx) putTargets(ctx context.Context, dialect dialect, d *NewDelivery) error {
	file := fileKey(d.Account, d.Region, d.File.Path())
	if d.DryRun {
		file = []byte{} // no machine gets it
	}
	common := []any{d.ID, millis(d.Created), millis(d.Created), millis(d.Deadline), file}
	for first := 0; first < len(d.Targets); first += targetBatch {
		batch := d.Targets[first:min(first+targetBatch, len(d.Targets))]
		rows := make([][7]any, len(batch))
		for i, v := range batch {
			given := 0
			if v.Given {
				given = 1
			}
			rows[i] = [7]any{v.Instance, first + i, v.Status, v.Cause, v.Detail, millis(v.Finished), given}
		}
		insert, args := dialect.insertTargets(), append(slices.Clone(common), jsonRows(rows))
		if len(d.Targets) == 1 { // the common case, without a list
			insert, args = insertTargets+` VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, append(slices.Clone(common), rows[0][:]...)
		}
		if err := t.put(ctx, insert, args...); err != nil {
			return err
		}
	}
	return nil
}

// differs reports whether a content was sent in another form than encodeContent gives it: Base64 with line breaks.
func differs(d *NewDelivery) bool {
	return d.ContentType == waybill.Base64 && strings.ContainsAny(d.Sent, "\r\n")
}

// keepContent sees to it that what a delivery refers to is there, and stays.
func (s *Store) keepContent(ctx context.Context, t *tx, d *NewDelivery) error {
	if d.SentLarge != nil {
		if err := s.keepBlob(ctx, t, d.SentLarge[:], d.SHA256[:]); err != nil {
			return err
		}
	}
	if d.Held {
		return s.useBlob(ctx, t, d.SHA256[:])
	}
	if d.Large {
		return s.keepBlob(ctx, t, d.SHA256[:], nil)
	}
	return s.putContent(ctx, t, d.SHA256[:], notNil(d.Data))
}

// putContent stores content, unless it is there. Then it also keeps Expire on another server from removing it meanwhile.
func (s *Store) putContent(ctx context.Context, t *tx, digest, data []byte) error {
	const insert = `INSERT INTO contents (digest, data) VALUES (?, ?) ON CONFLICT DO NOTHING`
	if !s.dialect.shared {
		return t.put(ctx, insert, digest, data)
	}
	return t.putChecked(ctx, func(found int64) error {
		if found == 0 {
			return errAgain // another server has just removed it
		}
		return nil
	}, `WITH added AS (`+insert+` RETURNING digest), there AS (SELECT digest FROM contents WHERE digest = ?`+s.dialect.keep+`)
		SELECT digest FROM added UNION ALL SELECT digest FROM there`, digest, data, digest)
}

const insertTargets = `INSERT INTO targets
	(delivery, created, updated, deadline, file, instance, ordinal, status, cause, detail, finished, given)`

// insertTargets inserts any number of targets of one delivery.
func (d dialect) insertTargets() string {
	return insertTargets + ` SELECT ?, ?, ?, ?, ?, value->>0, CAST(value->>1 AS BIGINT), value->>2, value->>3, value->>4,
		CAST(value->>5 AS BIGINT), CAST(value->>6 AS BIGINT) FROM ` + d.rows
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// encodeContent writes data as a request of that content type usually does.
func encodeContent(t waybill.ContentType, data []byte) string {
	if t == waybill.Base64 {
		return base64.StdEncoding.EncodeToString(data)
	}
	return string(data)
}

const deliveryColumns = `SELECT d.id, d.account, d.region, d.name, d.target_dir, d.owner, d.grp, d.mode, d.overwrite,
	d.content_type, d.digest, d.size, d.description, d.resource_group, d.timeout, d.created, d.deadline,
	d.dry_run, d.targets, d.pending, d.running, d.success, d.failed`

// The values of the column dry_run.
const (
	placed = iota
	rehearsed
	compared
)

func dryRun(d *waybill.Delivery) int {
	switch {
	case d.Diff:
		return compared
	case d.DryRun:
		return rehearsed
	}
	return placed
}

func deliveryFields(d *waybill.Delivery) (dest []any, done func()) {
	var digest []byte
	var timeout, created, deadline int64
	var dry int
	dest = []any{
		&d.ID, &d.Account, &d.Region, &d.File.Name, &d.File.TargetDir, &d.File.Owner, &d.File.Group, &d.File.Mode,
		&d.File.Overwrite, &d.ContentType, &digest, &d.Size, &d.Description, &d.ResourceGroup, &timeout, &created, &deadline,
		&dry, &d.TargetCount, &d.Counts.Pending, &d.Counts.Running, &d.Counts.Success, &d.Counts.Failed,
	}
	return dest, func() {
		copy(d.SHA256[:], digest)
		d.Timeout = time.Duration(timeout) * time.Millisecond
		d.Created, d.Deadline = instant(created), instant(deadline)
		d.DryRun, d.Diff = dry != placed, dry == compared
	}
}

// selectDeliveries returns the conditions for what a filter selects.
func (s *Store) selectDeliveries(account waybill.AccountID, f waybill.DeliveryFilter) (w filter) {
	w.eq("d.id", string(f.ID))
	w.add("d.account = ? AND d.region = ?", account, f.Region)
	w.eq("d.name", f.Name)
	w.eq("d.status", string(f.Status))
	w.eq("d.resource_group", f.ResourceGroup)
	if f.Instance != "" {
		w.add("d.id IN (SELECT delivery FROM targets WHERE instance = ?)", f.Instance)
	}
	if f.Search != "" {
		like := "%" + escapeLike(lowerASCII(f.Search)) + "%"
		w.add(`(lower(d.name) LIKE ? ESCAPE '\' OR lower(d.target_dir) LIKE ? ESCAPE '\' OR lower(d.description) LIKE ? ESCAPE '\' OR d.id LIKE ? ESCAPE '\')`,
			like, like, like, like)
	}
	w.tags(s.dialect, waybill.DeliveryResource, "d.id", account, f.Tags)
	return w
}

// lowerASCII changes what both databases change with lower(): Latin letters without marks.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// Deliveries returns a page of an account's deliveries with content and targets, newest first. Its cursor is a delivery ID.
// Of many targets it returns the first MaxListedTargets.
// A content that is long is left where it is: DeliveryResult.Left.
func (s *Store) Deliveries(ctx context.Context, account waybill.AccountID, f waybill.DeliveryFilter, p waybill.Page) (waybill.Listing[waybill.DeliveryResult], error) {
	var list waybill.Listing[waybill.DeliveryResult]
	w := s.selectDeliveries(account, f)
	var err error
	if f.ID == "" || p.Offset > 0 || p.Cursor != "" { // of one ID there is one or none, which the page itself tells
		if list.Total, err = one(ctx, s.reads, scanOne[int64], "SELECT COUNT(*) FROM deliveries d"+w.where(), w.args...); err != nil {
			return list, fmt.Errorf("count deliveries: %w", err)
		}
	}
	if p.Cursor != "" {
		w.add("d.id < ?", p.Cursor)
	}
	var q querier = s.reads
	if f.ID != "" { // it ends at once
		q = s.brief
	}
	list.Items, err = all(ctx, q, scanResult,
		deliveryColumns+`, d.sent, d.sent_digest, d.sent_size, CASE WHEN d.size <= ? THEN c.data END
			FROM deliveries d LEFT JOIN contents c ON c.digest = d.digest`+w.where()+
			` ORDER BY d.id DESC LIMIT ? OFFSET ?`, append(append([]any{maxListed}, w.args...), p.Size+1, p.Offset)...)
	if err != nil {
		return list, fmt.Errorf("list deliveries: %w", err)
	}
	if f.ID != "" && p.Offset == 0 && p.Cursor == "" {
		list.Total = int64(len(list.Items))
	}
	if len(list.Items) > p.Size {
		list.Items = list.Items[:p.Size]
		list.Next = string(list.Items[p.Size-1].ID)
	}
	if err := s.addTargets(ctx, q, list.Items, f.Instance); err != nil {
		return list, err
	}
	// Between the two queries retention may have removed a delivery, which always has targets.
	list.Items = slices.DeleteFunc(list.Items, func(d waybill.DeliveryResult) bool { return len(d.Targets) == 0 })
	return list, nil
}

func scanResult(r *sql.Rows) (v waybill.DeliveryResult, err error) {
	var sent sql.NullString
	var sentDigest, data []byte
	var sentSize int64
	dest, done := deliveryFields(&v.Delivery)
	if err = r.Scan(append(dest, &sent, &sentDigest, &sentSize, &data)...); err != nil {
		return v, err
	}
	done()
	switch {
	case sent.Valid:
		v.Content = sent.String
	case sentDigest != nil:
		v.Left = &waybill.ContentRef{SHA256: [32]byte(sentDigest), Size: sentSize}
	case v.Size > maxListed:
		v.Left = &waybill.ContentRef{SHA256: v.SHA256, Size: v.Size, Base64: v.ContentType == waybill.Base64}
	default:
		v.Content = encodeContent(v.ContentType, data)
	}
	return v, nil
}

// maxListed is the largest content, in bytes, that a listing reads along.
const maxListed = 64 << 10

// MaxListedTargets is how many targets a listing of deliveries holds of each: the first ones. Targets pages all.
const MaxListedTargets = 500

// addTargets fills in targets and tags of a page of deliveries.
func (s *Store) addTargets(ctx context.Context, q querier, items []waybill.DeliveryResult, only waybill.InstanceID) error {
	if len(items) == 0 {
		return nil
	}
	index := make(map[waybill.DeliveryID]*waybill.DeliveryResult, len(items))
	var made *within
	if s.dialect.shared {
		made = &within{}
		for i := range items {
			made.add(millis(items[i].Created))
		}
	}
	ids := make([]string, len(items))
	for i := range items {
		index[items[i].ID] = &items[i]
		ids[i] = string(items[i].ID)
	}
	is, named := s.dialect.named(ids)
	period, times := made.of("t")
	query, args := targetColumns+` FROM targets t WHERE t.delivery`+is+period, append([]any{named}, times...)
	if only != "" {
		query, args = query+` AND t.instance = ?`, append(args, only)
	} else {
		query, args = query+` AND t.ordinal < ?`, append(args, MaxListedTargets)
	}
	targets, err := all(ctx, q, scanTarget, query+` ORDER BY t.delivery, t.ordinal`, args...)
	if err != nil {
		return fmt.Errorf("list targets: %w", err)
	}
	for _, t := range targets {
		d := index[t.Delivery]
		d.Targets = append(d.Targets, t.Target)
	}
	for i := range items { // the targets were read after the counts: what is told of a delivery must not contradict itself
		if len(items[i].Targets) < items[i].TargetCount {
			continue // but these are not all
		}
		items[i].Counts = waybill.Counts{}
		for _, t := range items[i].Targets {
			items[i].Counts.Add(t.Status, 1)
		}
	}
	tags, err := s.tagsOf(ctx, q, waybill.DeliveryResource, ids)
	if err != nil {
		return fmt.Errorf("list tags: %w", err)
	}
	for i := range items {
		items[i].Tags = tags[ids[i]]
	}
	return nil
}

// Dispatch is a delivery as it goes to machines: without tags and targets, with its content, unless that is larger than
// wire.MaxContent: then machines fetch it, and Data is nil. Its Deadline is that of the attempt.
type Dispatch struct {
	waybill.Delivery
	Attempt int
	Data    []byte
}

func scanDispatch(r *sql.Rows) (v Dispatch, err error) {
	var data []byte
	var deadline int64
	dest, done := deliveryFields(&v.Delivery)
	if err = r.Scan(append(dest, &data, &v.Attempt, &deadline)...); err != nil {
		return v, err
	}
	done()
	v.Deadline = instant(deadline)
	if v.Size <= wire.MaxContent {
		v.Data = bytes.Clone(notNil(data))
	}
	return v, nil
}

var dispatchColumns = deliveryColumns + fmt.Sprintf(`, CASE WHEN d.size <= %d THEN c.data END`, wire.MaxContent)

const (
	withContent = ` LEFT JOIN contents c ON c.digest = d.digest`
	// openAttempt is a delivery with an attempt that is open for an instance: delivery, instance and attempt are its parameters.
	openAttempt = ` FROM deliveries d JOIN targets t ON t.delivery = d.id AND t.created = d.created` + withContent + `
		WHERE d.id = ? AND t.instance = ? AND t.attempt = ? AND t.finished = 0`
)

// Dispatch returns a delivery to send, at its first attempt; ErrNotFound if it is not there.
func (s *Store) Dispatch(ctx context.Context, id waybill.DeliveryID) (Dispatch, error) {
	return one(ctx, s.brief, scanDispatch, dispatchColumns+`, 1, d.deadline FROM deliveries d`+withContent+` WHERE d.id = ?`, id)
}

// OpenFor returns deliveries that are open for an instance and not to stop, in order of ID after the given one, at most limit.
func (s *Store) OpenFor(ctx context.Context, instance waybill.InstanceID, after waybill.DeliveryID, limit int) ([]Dispatch, error) {
	return all(ctx, s.reads, scanDispatch, s.openFor(), instance, after, limit)
}

func (s *Store) openFor() string {
	return dispatchColumns + `, t.attempt, t.deadline FROM targets t
		` + s.dialect.inOrder + ` deliveries d ON d.id = t.delivery AND d.created = t.created` + withContent + `
		WHERE t.instance = ? AND t.finished = 0 AND t.stopped = 0 AND t.delivery > ? ORDER BY t.delivery LIMIT ?`
}

// OpenOne returns a delivery if that attempt at it is open for an instance, and ErrNotFound otherwise.
func (s *Store) OpenOne(ctx context.Context, instance waybill.InstanceID, id waybill.DeliveryID, attempt int) (Dispatch, error) {
	return one(ctx, s.brief, scanDispatch, dispatchColumns+`, t.attempt, t.deadline`+openAttempt, id, instance, attempt)
}
