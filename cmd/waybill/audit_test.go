// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/audit"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/client/clienttest"
)

// trail returns n records that follow from one another, the first with the number 5: older ones are gone.
func trail(n int) []waybill.AuditRecord {
	records := make([]waybill.AuditRecord, n)
	for i := range records {
		r := &records[i]
		*r = waybill.AuditRecord{
			Sequence: int64(i) + 5, Time: time.Date(2026, 11, 23, 12, 0, 0, i*1e6, time.UTC), Account: "1", RequestID: "R",
			ActorType: waybill.UserActor, Actor: "alice", AccessKey: "K", SourceIP: "10.0.0.1", Action: "ecs:SendFile",
			Region: "cn-test", Resources: []string{"acs:ecs:cn-test:1:instance/<mi-1>"}, Subject: fmt.Sprint("f-", i),
			Result: "OK",
		}
		if i > 0 {
			r.Previous = records[i-1].Hash
		}
		r.Hash = audit.Hash(r)
	}
	return records
}

// auditServer serves records by two, oldest first, and what it says of them.
func auditServer(t *testing.T, records []waybill.AuditRecord, verdict client.AuditVerdict) *fleet {
	t.Helper()
	return &fleet{Server: clienttest.NewServer(t, map[string]clienttest.Handler{
		"ListAuditRecords": func(c clienttest.Call) any {
			if c.Params["OldestFirst"] != "true" {
				return &client.Error{Status: 400, Code: "InvalidParameter"}
			}
			offset, _ := strconv.Atoi(c.Params["NextToken"])
			end := min(offset+2, len(records))
			lines := []json.RawMessage{}
			for _, r := range records[offset:end] {
				lines = append(lines, audit.Marshal(&r))
			}
			next := ""
			if end < len(records) {
				next = strconv.Itoa(end)
			}
			return object{"AuditRecords": object{"AuditRecord": lines}, "NextToken": next}
		},
		"VerifyAuditRecords": func(clienttest.Call) any { return verdict },
	})}
}

func goodVerdict(records []waybill.AuditRecord) client.AuditVerdict {
	last := records[len(records)-1]
	return client.AuditVerdict{
		Valid: true, Records: int64(len(records)), First: records[0].Sequence, Last: last.Sequence,
		LastHash: hex.EncodeToString(last.Hash[:]),
	}
}

// TestAuditVerifyDoesNotTrustTheServer lets the server say that all is well.
func TestAuditVerifyDoesNotTrustTheServer(t *testing.T) {
	t.Parallel()
	good := trail(5)
	another := trail(5) // as consistent as the first
	for i := range another {
		r := &another[i]
		if r.Actor = "mallory"; i > 0 {
			r.Previous = another[i-1].Hash
		}
		r.Hash = audit.Hash(r)
	}
	altered := slices.Clone(good)
	altered[2].Actor = "mallory"
	tests := []struct {
		name    string
		records []waybill.AuditRecord
		code    int
		want    string
	}{
		{"all is well", good, 0, ""},
		{"one more since", trail(6), 0, ""},
		{"altered", altered, 1, "not valid: record 7 was altered"},
		{"one removed", slices.Concat(good[:2], good[3:]), 1, "not valid: records 7 to 7 are missing"},
		{"the last removed", good[:4], 1, "not valid: the server checked records up to 9, but lists them up to 8 only"},
		{"all removed", nil, 1, "not valid: the server checked records up to 9, but lists them up to 0 only"},
		{"all replaced", another, 1, "not valid: record 9 is not the one that the server checked"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := auditServer(t, tt.records, goodVerdict(good))
			f.run(t, "audit", "verify").expect(t, tt.code, tt.want)
			r := f.run(t, "audit", "verify", "-o", "json")
			r.expect(t, tt.code)
			var v client.AuditVerdict
			if err := json.Unmarshal([]byte(r.out), &v); err != nil || v.Valid != (tt.code == 0) {
				t.Errorf("%v: %s", err, r.out)
			}
		})
	}
}

func TestAuditVerifySaysWhatTheServerFound(t *testing.T) {
	t.Parallel()
	f := auditServer(t, trail(2), client.AuditVerdict{Problem: "record 3 was altered"})
	f.run(t, "audit", "verify").expect(t, 1, "not valid: record 3 was altered")
}

func TestAuditExport(t *testing.T) {
	t.Parallel()
	records := trail(5)
	var want []byte
	for _, r := range records {
		want = append(append(want, audit.Marshal(&r)...), '\n')
	}
	f := auditServer(t, records, goodVerdict(records))
	r := f.run(t, "audit", "export", "--since", "2026-11-23", "--until", "2026-11-24T12:00:00+01:00")
	r.expect(t, 0)
	if diff := cmp.Diff(string(want), r.out); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	p := f.Calls("ListAuditRecords")[0].Params
	if p["StartTime"] != "2026-11-23T00:00:00Z" || p["EndTime"] != "2026-11-24T11:00:00Z" || p["MaxResults"] != "1000" {
		t.Errorf("sent %v", p)
	}

	dir := t.TempDir()
	file := filepath.Join(dir, "export.jsonl")
	f.run(t, "audit", "export", "--file", file).expect(t, 0)
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: exported\n%s", err, got)
	}
	environment := map[string]string{} // no server, no key
	runIn(t.Context(), environment, "", "audit", "verify", "--file", file).expect(t, 0)

	// What fails leaves the export before as it was, and nothing else.
	broken := &fleet{Server: clienttest.NewServer(t, map[string]clienttest.Handler{
		"ListAuditRecords": func(c clienttest.Call) any {
			if c.Params["NextToken"] != "" {
				return &client.Error{Status: 500, Code: "InternalError"}
			}
			return object{"NextToken": "t", "AuditRecords": object{"AuditRecord": []json.RawMessage{audit.Marshal(&records[0])}}}
		},
	})}
	broken.run(t, "audit", "export", "--file", file).expect(t, 1, "InternalError")
	if again, err := os.ReadFile(file); err != nil || !bytes.Equal(again, want) {
		t.Errorf("%v: left\n%s", err, again)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v: left %v", err, entries)
	}
}

func TestAuditListAsksForNoMoreThanItNeeds(t *testing.T) {
	t.Parallel()
	records := trail(5)
	f := &fleet{Server: clienttest.NewServer(t, map[string]clienttest.Handler{
		"ListAuditRecords": func(c clienttest.Call) any {
			lines := []json.RawMessage{}
			for _, r := range records {
				lines = append(lines, audit.Marshal(&r))
			}
			if c.Params["NextToken"] != "" {
				return object{"AuditRecords": object{"AuditRecord": lines}}
			}
			return object{"AuditRecords": object{"AuditRecord": lines}, "NextToken": "t"}
		},
	})}
	list := func(limit string) int {
		r := f.run(t, "audit", "list", "--limit", limit, "-o", "json")
		r.expect(t, 0)
		var got struct{ AuditRecords client.AuditRecords }
		if err := json.Unmarshal([]byte(r.out), &got); err != nil {
			t.Error(err)
		}
		return len(got.AuditRecords.Items)
	}
	if n := list("5"); n != 5 || len(f.Calls("ListAuditRecords")) != 1 {
		t.Errorf("%d records in %d calls", n, len(f.Calls("ListAuditRecords")))
	}
	if n := list("0"); n != 10 {
		t.Errorf("%d records without a limit", n)
	}
	f.run(t, "audit", "list", "--limit", "5").expect(t, 0, "only the newest 5 are shown")
	f.run(t, "audit", "list", "--limit", "-1").expect(t, 2, "--limit -1")
}

func TestParsePast(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]string{
		"":                          "0001-01-01T00:00:00Z",
		"90m":                       "2026-11-23T10:30:00Z",
		"2026-11-22":                "2026-11-22T00:00:00Z",
		"2026-11-22T10:00:00+02:00": "2026-11-22T08:00:00Z",
	} {
		got, err := parsePast("--since", value, now)
		if err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q: %s, %v; want %s", value, got, err, want)
		}
	}
	for _, bad := range []string{"-1h", "yesterday", "22.11.2026"} {
		if _, err := parsePast("--since", bad, now); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
