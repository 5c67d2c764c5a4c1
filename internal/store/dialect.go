// SPDX-License-Identifier: Apache-2.0

package store

import (
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pressly/goose/v3"
)

// dialect is what differs between the databases we run on. Queries are written for both, with ? for parameters.
type dialect struct {
	name   string
	system string // its name in OpenTelemetry
	goose  goose.Dialect
	folder string // of its migrations
	rows   string // a FROM item with one parameter: the elements of a JSON array, as a column named value
	// inOrder joins what is on its left with a table that is to be searched for each row of it.
	inOrder string
	// unindexed is put before a column whose index must not be used, because there is a better one.
	unindexed string
	// lock ends a query for rows that are going to be changed: nobody else changes them before the transaction ends. keep
	// ends one for rows that must stay. Both are empty where there is only one writer.
	lock, keep string
	// shared tells that other processes write at the same time.
	shared bool
}

var (
	sqliteDialect = dialect{
		name: "sqlite", system: "sqlite", goose: goose.DialectSQLite3, folder: "migrations/sqlite",
		rows: "json_each(?)", inOrder: "CROSS JOIN", unindexed: "+",
	}
	postgresDialect = dialect{
		name: "postgres", system: "postgresql", goose: goose.DialectPostgres, folder: "migrations/postgres",
		rows: "jsonb_array_elements(CAST(? AS jsonb))", inOrder: "JOIN", lock: " FOR UPDATE", keep: " FOR KEY SHARE", shared: true,
	}
)

// text returns query as the database wants it.
func (d dialect) text(query string) string {
	if !d.shared {
		return query
	}
	var b strings.Builder
	n := 0
	for {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		n++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
		query = after
	}
}

// values returns args as the database wants them. PostgreSQL takes neither NUL nor invalid UTF-8 in a text, and whoever
// makes a request may send both; it also wants to see the kinds that ours are made of.
func (d dialect) values(args []any) []any {
	if !d.shared {
		return args
	}
	list := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case nil, []byte, int64, bool:
			list[i] = v
		case string:
			list[i] = clean(v)
		default:
			switch r := reflect.ValueOf(a); {
			case r.Kind() == reflect.String:
				list[i] = clean(r.String())
			case r.CanInt():
				list[i] = r.Int()
			case r.Kind() == reflect.Slice && r.Type().Elem().Kind() == reflect.Uint8:
				list[i] = r.Bytes()
			default:
				list[i] = a
			}
		}
	}
	return list
}

// clean replaces every byte of s that is not part of a character, and every NUL, by U+FFFD.
func clean(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r == 0 {
			return utf8.RuneError
		}
		return r
	}, s)
}

// lockRows ends a query for rows of table that are going to be changed, see dialect.lock. All servers lock in the order of
// the given columns, so that no two wait for each other.
func (d dialect) lockRows(by, table string) string {
	if d.lock == "" {
		return ""
	}
	return " ORDER BY " + by + d.lock + " OF " + table
}
