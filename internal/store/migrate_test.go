// SPDX-License-Identifier: Apache-2.0

package store

import (
	"io/fs"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/openwaybill/waybill"
)

// TestUpgradeFromTheFirstSchema opens a database as the first release left it.
func TestUpgradeFromTheFirstSchema(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "old.db")
	db, err := openSQLite(path, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := fs.Sub(migrations, sqliteDialect.folder)
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(sqliteDialect.goose, db, dir, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		`INSERT INTO accounts (id, name, created) VALUES ('a', 'first', 1)`,
		`INSERT INTO access_keys (id, account, secret, created) VALUES ('k', 'a', x'01', 1)`,
		`INSERT INTO activations (id, account, region, code_hash, instance_name, instance_count, ttl, description, address_range, resource_group, created)
			VALUES ('act', 'a', 'cn-hangzhou', x'01', '', 1, 1000, '', '', 'team-web', 5)`,
		`INSERT INTO instances (id, account, region, name, activation, state, hostname, machine_id, intranet_ip, internet_ip, os_type, os_version,
			agent_version, capability, public_key, resource_group, registered, presence)
			VALUES ('mi-1', 'a', 'cn-hangzhou', 'm', 'act', 'registered', '', '', '', '', '', '', '', 1, 'pk', 'team-web', 7, 'online')`,
	} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	s, err := Open(t.Context(), Config{URL: "sqlite:" + path, AuditKey: auditKey}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if k, err := s.Key(t.Context(), "k"); err != nil || k.User != "" || !k.Active {
		t.Errorf("key %+v, %v", k, err)
	}
	if g, err := s.ResourceGroup(t.Context(), "a", "team-web"); err != nil || g.Name != "team-web" || g.Created.UnixMilli() != 5 {
		t.Errorf("the label has become the group %+v, %v", g, err)
	}
	if err := s.DeleteResourceGroup(t.Context(), "a", "team-web"); err == nil {
		t.Error("the group of an instance was deleted")
	}
	l, err := s.Instances(t.Context(), "a", waybill.InstanceFilter{Region: "cn-hangzhou", ResourceGroup: "team-web"}, waybill.Page{Size: 5})
	if err != nil || len(l.Items) != 1 {
		t.Errorf("instances %+v, %v", l, err)
	}
	if v, err := s.VerifyAudit(t.Context(), "a"); err != nil || v.Problem != "" || v.Records != 0 {
		t.Errorf("audit trail %+v, %v", v, err)
	}
}
