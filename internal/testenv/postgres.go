// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"context"
	"log/slog"
	"testing"

	"github.com/openwaybill/waybill/internal/pgtest"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/store"
)

// Postgres returns the URL of a new PostgreSQL database with the schema of this program, for a test. Ask pgtest.Available
// first.
func Postgres(t testing.TB) string {
	t.Helper()
	return pgtest.Database(t, "waybill", func(url string) error {
		s, err := store.Open(context.Background(), store.Config{URL: url, AuditKey: make([]byte, 32)}, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		return s.Close()
	})
}

// OnPostgres makes Start start a server on a new PostgreSQL database.
func OnPostgres(t testing.TB) func(*server.Config) {
	url := Postgres(t)
	return func(cfg *server.Config) { cfg.Database = url }
}
