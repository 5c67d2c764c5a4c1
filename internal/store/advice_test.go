// SPDX-License-Identifier: Apache-2.0

package store

import (
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/openwaybill/waybill/internal/pgtest"
)

// TestConnectErrorsSayWhatToDo makes the usual mistakes with a real PostgreSQL.
func TestConnectErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	right := pgtest.Database(t, "", nil)
	changed := func(change func(*url.URL)) string {
		u, err := url.Parse(right)
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		return u.String()
	}
	for name, tt := range map[string]struct {
		url  string
		want []string
	}{
		"nothing listens": {"postgres://u:secret@" + free + "/d?sslmode=disable", []string{"nothing listens there", free, "is it running"}},
		"no such host":    {"postgres://u:secret@nowhere.invalid/d?sslmode=disable", []string{"nowhere.invalid", "host"}},
		"no such database": {
			changed(func(u *url.URL) { u.Path = "/no_such_database" }), []string{"there is no such database", "createdb --owner"},
		},
		"TLS that it has not": {
			changed(func(u *url.URL) {
				q := u.Query()
				q.Set("sslmode", "require")
				u.RawQuery = q.Encode()
			}), []string{"it does not speak TLS", "sslmode=disable"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for what, open := range map[string]func() error{
				"open": func() error {
					_, err := Open(t.Context(), Config{URL: tt.url, AuditKey: auditKey}, slog.New(slog.DiscardHandler))
					return err
				},
				"used":   func() error { _, err := Used(t.Context(), tt.url); return err },
				"schema": func() error { _, err := SchemaOf(t.Context(), tt.url); return err },
			} {
				err := open()
				if err == nil {
					t.Fatalf("%s: no error", what)
				}
				for _, text := range tt.want {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("%s: %v; want %q in it", what, err, text)
					}
				}
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("%s shows the password: %v", what, err)
				}
			}
		})
	}
}
