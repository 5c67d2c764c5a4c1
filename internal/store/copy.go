// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// CopyProgress tells how far a copy is.
type CopyProgress struct {
	Table string
	Done  int64 // rows
	All   int64
}

// CopyConfig says what to copy where.
type CopyConfig struct {
	From     string // sqlite:PATH; no server may run on it
	To       string // postgres://…
	AuditKey []byte // of the servers of From
	Now      func() time.Time
	Progress func(CopyProgress) // may be nil

	step int // rows; 0: copyRows
}

// CopiedTable is a table that was copied and compared.
type CopiedTable struct {
	Name   string
	Rows   int64
	Digest string // of all its rows, hexadecimal; the same on both sides
}

// Bounds of a step of a copy, which is done as a whole or not at all.
const (
	copyRows  = 2000
	copyBytes = 8 << 20

	copyLock = schemaLock + 2 // key of the advisory lock of whoever copies
)

// notCopied are the tables of which a copy must begin empty: what servers note of themselves, and uploads under way, whose
// pieces are where the server of the original keeps them.
var notCopied = []string{"leases", "servers", "writers", "schema_bounds", "goose_db_version", "copying", "copying_tables", "uploads", "upload_pieces"}

// Copy copies a SQLite database to an empty PostgreSQL database, and compares both. A copy that was interrupted is gone on
// with by the next call. Until it is complete no server starts on the copy. It returns what was copied, by the order it was
// copied in.
func Copy(ctx context.Context, cfg CopyConfig, log *slog.Logger) (_ []CopiedTable, err error) {
	path, ok := strings.CutPrefix(cfg.From, "sqlite:")
	if !ok {
		return nil, errors.New("copy: the source must be sqlite:PATH")
	}
	conf, err := parsePostgres(cfg.To)
	if err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	from, err := openSQLite(path, map[string]string{"query_only": "1"}, 1)
	if err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	pool := openPool(conf, "waybill copies", 2)
	defer func() { err = errors.Join(err, pool.Close()) }()
	c := &copier{
		cfg: cfg, log: log, from: newStatements(sqliteDialect, from, from), to: newStatements(postgresDialect, pool, pool), pool: pool,
	}
	if err := c.prepare(ctx, from); err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	tables, err := c.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("copy: %w", classify(err))
	}
	return tables, nil
}

type copier struct {
	cfg      CopyConfig
	log      *slog.Logger
	from, to *statements
	pool     *sql.DB
}

// prepare brings the schema of the target up to date, and refuses what is no fit pair.
func (c *copier) prepare(ctx context.Context, from *sql.DB) error {
	source, err := schemaOf(ctx, sqliteDialect, from)
	if err != nil {
		return err
	}
	if source.Version != source.Newest {
		return fmt.Errorf("the schema of the source has version %d, this program copies version %d; bring it up to date first: waybill migrate up",
			source.Version, source.Newest)
	}
	chain := &chainer{dialect: postgresDialect, key: c.cfg.AuditKey, now: c.cfg.Now, log: c.log}
	if err := migrate(ctx, postgresDialect, c.pool, chain, false); err != nil {
		return err
	}
	return nil
}

// run copies and compares. The tables copying and copying_tables say how far it is.
func (c *copier) run(ctx context.Context) ([]CopiedTable, error) {
	conn, err := c.pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(copyLock)); err != nil { // of this session: one copy at a time
		return nil, err
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(copyLock))
	}()
	on := newStatements(postgresDialect, nil, conn)
	tables, err := c.tables(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.begin(ctx, on, tables); err != nil {
		return nil, err
	}
	if err := c.makePartitions(ctx, on); err != nil {
		return nil, err
	}
	var copied []CopiedTable
	for _, t := range tables {
		if err := c.copyTable(ctx, conn, on, t); err != nil {
			return nil, fmt.Errorf("table %s: %w", t.name, err)
		}
		result, err := c.compare(ctx, t)
		if errors.Is(err, errDiffers) { // the source was used since an interrupted copy: begin the table anew
			if err = c.forget(ctx, on, t); err == nil {
				if err = c.copyTable(ctx, conn, on, t); err == nil {
					result, err = c.compare(ctx, t)
				}
			}
		}
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", t.name, err)
		}
		copied = append(copied, result)
	}
	if err := c.verifyAudit(ctx); err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, `SELECT setval(pg_get_serial_sequence('webhook_events', 'seq'), MAX(seq)) FROM webhook_events`); err != nil {
		return nil, err // events go on to be numbered after those that were copied
	}
	if _, err := conn.ExecContext(ctx, "ANALYZE"); err != nil {
		return nil, err
	}
	_, err = conn.ExecContext(ctx, "DROP TABLE copying, copying_tables")
	return copied, err
}

// copyTable is a table with its columns, in the order of the target.
type copyTable struct {
	name    string
	columns []copyColumn
	key     []string // columns of the primary key of the source
}

type copyColumn struct{ name, kind string }

func (t *copyTable) names() string {
	list := make([]string, len(t.columns))
	for i, c := range t.columns {
		list[i] = c.name
	}
	return strings.Join(list, ", ")
}

// tables returns what is to be copied, those first that others refer to.
func (c *copier) tables(ctx context.Context) ([]copyTable, error) {
	names, err := all(ctx, c.from, scanOne[string], `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name <> 'accounts', name`)
	if err != nil {
		return nil, err
	}
	var tables []copyTable
	for _, name := range names {
		if slices.Contains(notCopied, name) {
			continue
		}
		t := copyTable{name: name}
		if t.key, err = all(ctx, c.from, scanOne[string], `SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk`, name); err != nil {
			return nil, err
		}
		there, err := all(ctx, c.from, scanOne[string], `SELECT name FROM pragma_table_info(?)`, name)
		if err != nil {
			return nil, err
		}
		columns, err := all(ctx, c.to, func(r *sql.Rows) (v copyColumn, err error) { return v, r.Scan(&v.name, &v.kind) },
			`SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, name)
		if err != nil {
			return nil, err
		}
		for _, col := range columns {
			if slices.Contains(there, col.name) {
				t.columns = append(t.columns, col)
			}
		}
		if len(t.columns) != len(there) || len(t.key) == 0 {
			return nil, fmt.Errorf("the table %s is not the same in both schemas", name)
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// begin makes sure that the target is empty, or a copy of the same source that was interrupted.
func (c *copier) begin(ctx context.Context, on *statements, tables []copyTable) error {
	secrets, err := all(ctx, c.from, func(r *sql.Rows) (v [2]string, err error) {
		var sealed []byte
		err = r.Scan(&v[0], &sealed)
		v[1] = hex.EncodeToString(sealed)
		return v, err
	}, `SELECT name, sealed FROM secrets ORDER BY name`)
	if err != nil {
		return err
	}
	source := fmt.Sprintf("%x", sha256.Sum256([]byte(jsonRows(secrets)))) // random ones, which no other database has
	if len(secrets) == 0 {
		return errors.New("no server has run on the source yet; start one on the target instead")
	}
	began, err := one(ctx, on, scanOne[bool], `SELECT to_regclass('copying') IS NOT NULL`)
	if err != nil {
		return err
	}
	if began {
		was, err := one(ctx, on, scanOne[string], `SELECT source FROM copying`)
		if err != nil {
			return err
		}
		if was != source {
			return errors.New("the target holds an unfinished copy of another database; name another target")
		}
		return nil
	}
	for _, t := range tables {
		n, err := one(ctx, on, scanOne[int], `SELECT COUNT(*) FROM (SELECT 1 FROM `+t.name+` LIMIT 1) r`)
		if err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("the target is not empty: there is something in the table %s. If it is a copy that was complete, there is "+
				"nothing left to do; if not, name an empty database", t.name)
		}
	}
	return inTransaction(ctx, on, func() error {
		for _, q := range []string{
			`CREATE TABLE copying (source TEXT NOT NULL)`,
			`CREATE TABLE copying_tables (name TEXT PRIMARY KEY, last TEXT NOT NULL, complete BOOLEAN NOT NULL)`,
		} {
			if _, err := on.exec(ctx, q); err != nil {
				return err
			}
		}
		_, err := on.exec(ctx, `INSERT INTO copying (source) VALUES (?)`, source)
		return err
	})
}

// inTransaction runs fn between BEGIN and COMMIT on one connection.
func inTransaction(ctx context.Context, on *statements, fn func() error) error {
	if _, err := on.exec(ctx, "BEGIN"); err != nil {
		return err
	}
	if err := fn(); err != nil {
		_, rollBack := on.exec(context.WithoutCancel(ctx), "ROLLBACK")
		return errors.Join(err, rollBack)
	}
	_, err := on.exec(ctx, "COMMIT")
	return err
}

// makePartitions makes one for each day of which there are deliveries.
func (c *copier) makePartitions(ctx context.Context, on *statements) error {
	days, err := all(ctx, c.from, scanOne[int64], `SELECT DISTINCT created / ? FROM deliveries ORDER BY 1`, partitionSpan.Milliseconds())
	if err != nil {
		return err
	}
	for _, d := range days {
		if err := makePartitions(ctx, on, time.UnixMilli(d*partitionSpan.Milliseconds()), 0); err != nil {
			return err
		}
	}
	return nil
}

// rows reads rows of a table after a key, in order of the key, up to the bounds of a step; more tells whether there are
// others.
func (c *copier) rows(ctx context.Context, t *copyTable, after []any) (rows [][]any, more bool, err error) {
	limit := cmp.Or(c.cfg.step, copyRows)
	query, args := `SELECT `+t.names()+` FROM `+t.name, after
	if len(after) > 0 {
		query += ` WHERE (` + strings.Join(t.key, ", ") + `) > (` + strings.TrimSuffix(strings.Repeat("?, ", len(after)), ", ") + `)`
	}
	found, err := c.from.query(ctx, query+` ORDER BY `+strings.Join(t.key, ", ")+` LIMIT ?`, append(slices.Clone(args), limit)...)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	size := 0
	for found.Next() {
		row, n, err := t.scan(found)
		if err != nil {
			return nil, false, err
		}
		rows = append(rows, row)
		if size += n; size > copyBytes {
			return rows, true, nil
		}
	}
	return rows, len(rows) == limit, found.Err()
}

// scan reads a row as both databases have it, and how many bytes it takes.
func (t *copyTable) scan(r *sql.Rows) (row []any, size int, err error) {
	row = make([]any, len(t.columns))
	dest := make([]any, len(row))
	for i := range row {
		dest[i] = &row[i]
	}
	if err := r.Scan(dest...); err != nil {
		return nil, 0, err
	}
	for i, c := range t.columns {
		var bad bool
		switch v := row[i].(type) {
		case nil:
		case int64:
			if c.kind == "boolean" {
				row[i] = v != 0
			}
			bad = c.kind != "bigint" && c.kind != "boolean"
			size += 8
		case bool:
			bad = c.kind != "boolean"
			size++
		case string:
			size += len(v)
			row[i] = clean(v)
			if c.kind == "bytea" {
				row[i] = []byte(v)
			}
			bad = c.kind != "text" && c.kind != "bytea"
		case []byte:
			size += len(v)
			row[i] = append([]byte{}, v...) // nil would be none, and an empty one is something else
			if c.kind == "text" {
				row[i] = clean(string(v))
			}
			bad = c.kind != "text" && c.kind != "bytea"
		default:
			bad = true
		}
		if bad {
			return nil, 0, fmt.Errorf("column %s has a value that is no %s", c.name, c.kind)
		}
	}
	return row, size, nil
}

// copyTable copies what is not copied yet.
func (c *copier) copyTable(ctx context.Context, conn *sql.Conn, on *statements, t copyTable) error {
	all, err := one(ctx, c.from, scanOne[int64], `SELECT COUNT(*) FROM `+t.name)
	if err != nil {
		return err
	}
	type state struct {
		last     string
		complete bool
	}
	at, err := one(ctx, on, func(r *sql.Rows) (v state, err error) { return v, r.Scan(&v.last, &v.complete) },
		`SELECT last, complete FROM copying_tables WHERE name = ?`, t.name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	after, err := t.decodeKey(at.last)
	if err != nil {
		return err
	}
	done := int64(0)
	if at.last != "" {
		if done, err = one(ctx, on, scanOne[int64], `SELECT COUNT(*) FROM `+t.name); err != nil {
			return err
		}
	}
	for more := !at.complete; more; {
		var rows [][]any
		if rows, more, err = c.rows(ctx, &t, after); err != nil {
			return err
		}
		if len(rows) > 0 {
			after = t.keyOf(rows[len(rows)-1])
		}
		if err := inTransaction(ctx, on, func() error {
			if err := t.insert(ctx, conn, rows); err != nil {
				return err
			}
			_, err := on.exec(ctx, `INSERT INTO copying_tables (name, last, complete) VALUES (?, ?, ?)
				ON CONFLICT (name) DO UPDATE SET last = excluded.last, complete = excluded.complete`, t.name, t.encodeKey(after), !more)
			return err
		}); err != nil {
			return err
		}
		done += int64(len(rows))
		if c.cfg.Progress != nil {
			c.cfg.Progress(CopyProgress{t.name, done, all})
		}
	}
	return nil
}

// insert puts rows into the target. nonces there have a column more.
func (t *copyTable) insert(ctx context.Context, conn *sql.Conn, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	columns := make([]string, len(t.columns))
	for i, c := range t.columns {
		columns[i] = c.name
	}
	if t.name == "nonces" {
		columns = append(columns, "claim")
		for i := range rows {
			rows[i] = append(rows[i], int64(0))
		}
	}
	return conn.Raw(func(dc any) error {
		n, err := dc.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{t.name}, columns, pgx.CopyFromRows(rows))
		if err == nil && n != int64(len(rows)) {
			err = fmt.Errorf("%d of %d rows were stored", n, len(rows))
		}
		return err
	})
}

// keyOf returns the values of the primary key in a row.
func (t *copyTable) keyOf(row []any) []any {
	key := make([]any, len(t.key))
	for i, name := range t.key {
		key[i] = row[slices.IndexFunc(t.columns, func(c copyColumn) bool { return c.name == name })]
	}
	return key
}

// encodeKey writes a key as text, and decodeKey reads it.
func (t *copyTable) encodeKey(key []any) string {
	list := make([]any, len(key))
	for i, v := range key {
		if b, ok := v.([]byte); ok {
			v = hex.EncodeToString(b)
		}
		list[i] = v
	}
	return jsonRows(list)
}

func (t *copyTable) decodeKey(text string) ([]any, error) {
	if text == "" {
		return nil, nil
	}
	var list []any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&list); err != nil {
		return nil, err
	}
	if len(list) == 0 { // the table was empty
		return nil, nil
	}
	for i, name := range t.key {
		var err error
		switch v := list[i].(type) {
		case json.Number:
			list[i], err = v.Int64()
		case string:
			if c := slices.IndexFunc(t.columns, func(c copyColumn) bool { return c.name == name }); t.columns[c].kind == "bytea" {
				list[i], err = hex.DecodeString(v)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// forget removes what was copied of a table.
func (c *copier) forget(ctx context.Context, on *statements, t copyTable) error {
	return inTransaction(ctx, on, func() error {
		if _, err := on.exec(ctx, `TRUNCATE `+t.name+` CASCADE`); err != nil {
			return err
		}
		_, err := on.exec(ctx, `DELETE FROM copying_tables WHERE name = ?`, t.name)
		return err
	})
}

// errDiffers is the result of comparing two tables.
var errDiffers = errors.New("the copy is not the same as the source; is a server running on one of them? Stop it, and copy again")

// compare reads a table on both sides and compares the digests of all rows.
func (c *copier) compare(ctx context.Context, t copyTable) (CopiedTable, error) {
	have, err := t.digest(ctx, c.from)
	if err != nil {
		return have, err
	}
	got, err := t.digest(ctx, c.to)
	if err == nil && got != have {
		err = errDiffers
	}
	return have, err
}

// digest adds up the digests of all rows, so that their order does not matter.
func (t *copyTable) digest(ctx context.Context, on *statements) (v CopiedTable, err error) {
	v.Name = t.name
	rows, err := on.query(ctx, `SELECT `+t.names()+` FROM `+t.name)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var sum [4]uint64
	h := sha256.New()
	for rows.Next() {
		row, _, err := t.scan(rows)
		if err != nil {
			return v, err
		}
		h.Reset()
		for _, value := range row {
			var b []byte
			kind := byte('0')
			switch value := value.(type) {
			case bool:
				kind, b = 'b', []byte{map[bool]byte{true: 1}[value]}
			case int64:
				kind, b = 'i', binary.BigEndian.AppendUint64(nil, uint64(value))
			case string:
				kind, b = 's', []byte(value)
			case []byte:
				kind, b = 'x', value
			}
			h.Write(binary.BigEndian.AppendUint64([]byte{kind}, uint64(len(b))))
			h.Write(b)
		}
		for i, one := 0, h.Sum(nil); i < len(sum); i++ {
			sum[i] += binary.BigEndian.Uint64(one[8*i:])
		}
		v.Rows++
	}
	v.Digest = fmt.Sprintf("%016x%016x%016x%016x", sum[0], sum[1], sum[2], sum[3])
	return v, rows.Err()
}

// verifyAudit checks every audit trail of the copy up to its seal.
func (c *copier) verifyAudit(ctx context.Context) error {
	s := &Store{
		now: c.cfg.Now, dialect: postgresDialect, reads: c.to, brief: brief{c.to}, log: c.log,
		writes: &writer{chain: &chainer{dialect: postgresDialect, key: c.cfg.AuditKey, now: c.cfg.Now, log: c.log}},
	}
	accounts, err := s.AuditedAccounts(ctx)
	if err != nil {
		return err
	}
	for _, account := range accounts {
		v, err := s.VerifyAudit(ctx, account)
		if err != nil {
			return err
		}
		if v.Problem != "" {
			return fmt.Errorf("the audit trail of account %s does not verify in the copy: %s; see what waybill audit verify says of the source", account, v.Problem)
		}
	}
	return nil
}

// mustNotCopy returns an error while a copy into the database is not complete.
func mustNotCopy(ctx context.Context, on *statements) error {
	copying, err := one(ctx, on, scanOne[bool], `SELECT to_regclass('copying') IS NOT NULL`)
	if err == nil && copying {
		err = errors.New("a copy into this database is not complete; run waybill copy again, or name another database")
	}
	return err
}
