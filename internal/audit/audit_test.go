// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/openwaybill/waybill"
)

// trail returns n records, the first with the number first.
func trail(first, n int) []waybill.AuditRecord {
	var all []waybill.AuditRecord
	var last [32]byte
	for i := range n {
		r := waybill.AuditRecord{
			Sequence: int64(first + i), Time: time.Date(2026, 11, 23, 12, 0, i, 5e6, time.UTC), Account: "1234567890123456",
			RequestID: fmt.Sprint("R", i), ActorType: waybill.UserActor, Actor: "alice", AccessKey: "WBkey", SourceIP: "192.0.2.1",
			Action: "ecs:SendFile", Region: "cn-hangzhou", Resources: []string{"acs:ecs:cn-hangzhou:1:instance/mi-<1>&"},
			Subject: "f-hz1", Result: waybill.AuditOK, Previous: last,
		}
		r.Hash = Hash(&r)
		last = r.Hash
		all = append(all, r)
	}
	return all
}

func export(records []waybill.AuditRecord) string {
	var b strings.Builder
	for _, r := range records {
		b.Write(Marshal(&r))
		b.WriteByte('\n')
	}
	return b.String()
}

// TestFormat pins what the hash covers: exports that were made once must verify for ever.
func TestFormat(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile(filepath.Join("testdata", "export.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), export(trail(1, 3))); diff != "" {
		t.Errorf("export (-want +got):\n%s", diff)
	}
	c, err := Read(bytes.NewReader(want))
	if err != nil || c.Records != 3 || c.First.Sequence != 1 || c.Last.Sequence != 3 {
		t.Errorf("read: %+v, %v", c, err)
	}
}

func TestMarshalRoundTrip(t *testing.T) {
	t.Parallel()
	for _, r := range append(trail(7, 2), waybill.AuditRecord{}) {
		r.Hash = Hash(&r)
		got, err := Unmarshal(Marshal(&r))
		if err != nil {
			t.Fatal(err)
		}
		if r.Resources == nil {
			r.Resources = []string{}
		}
		if diff := cmp.Diff(r, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestRead reads exports that somebody has changed.
func TestRead(t *testing.T) {
	t.Parallel()
	whole := export(trail(5, 4))
	lines := strings.SplitAfter(strings.TrimSuffix(whole, "\n"), "\n")
	lines[3] += "\n"
	without := func(n int) string { return strings.Join(slices.Delete(slices.Clone(lines), n, n+1), "") }
	forged := trail(5, 4)
	forged[1].Actor = "bob"
	forged[1].Hash = Hash(&forged[1])
	for name, tc := range map[string]struct{ text, want string }{
		"whole":             {whole, ""},
		"empty":             {"", ""},
		"without the last":  {without(3), ""}, // the hash of the last record, noted elsewhere, tells
		"without the first": {without(0), ""}, // as after its retention
		"without a middle":  {without(1), "line 2: records 6 to 6 are missing"},
		"twice":             {lines[0] + lines[0], "line 2: record 5 comes after record 5"},
		"swapped":           {lines[1] + lines[0], "line 2: record 5 comes after record 6"},
		"a word":            {strings.Replace(whole, "alice", "mallory", 1), "line 1: record 5 was altered"},
		"forged hash":       {export(forged), "line 3: record 7 does not follow from record 6"},
		"no record":         {lines[0] + "{}\n", "line 2: not an audit record"},
		"no JSON":           {lines[0] + "x\n", "line 2: not an audit record"},
		"a field more":      {strings.Replace(whole, `{"Sequence"`, `{"Note":1,"Sequence"`, 1), "line 1: not an audit record"},
		"written again":     {strings.Replace(whole, `,"Time"`, `, "Time"`, 1), "line 1: not an audit record as it was exported"},
		"two in a line":     {strings.Replace(whole, "\n", "", 1), "line 1: not an audit record"},
		"another account":   {lines[0] + export(otherAccount(6)), "line 2: record 6 is of another account"},
		"endless line":      {strings.Repeat("x", maxLine+1), "line 1: "},
	} {
		_, err := Read(strings.NewReader(tc.text))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func otherAccount(first int) []waybill.AuditRecord {
	all := trail(first, 1)
	all[0].Account = "6543210987654321"
	all[0].Hash = Hash(&all[0])
	return all
}

// TestAnyChangeIsFound removes, repeats, moves or alters records at random.
func TestAnyChangeIsFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := trail(1, rapid.IntRange(3, 8).Draw(t, "records"))
		i := rapid.IntRange(1, len(all)-2).Draw(t, "which") // neither end: those the head tells
		switch rapid.IntRange(0, 3).Draw(t, "change") {
		case 0:
			all = slices.Delete(all, i, i+1)
		case 1:
			all = slices.Insert(all, i, all[i])
		case 2:
			all[i], all[i+1] = all[i+1], all[i]
		case 3:
			r := &all[i]
			changes := []func(){
				func() { r.Actor += "x" }, func() { r.Result = "x" }, func() { r.Time = r.Time.Add(time.Millisecond) },
				func() { r.Resources = nil }, func() { r.Subject, r.Action = r.Action, r.Subject },
			}
			changes[rapid.IntRange(0, len(changes)-1).Draw(t, "field")]()
			if rapid.Bool().Draw(t, "with a new hash") {
				r.Hash = Hash(r)
			}
		}
		if _, err := Read(strings.NewReader(export(all))); err == nil {
			t.Fatal("not found")
		}
	})
}

func TestSeal(t *testing.T) {
	t.Parallel()
	key := []byte("key")
	seal := func(key []byte, account waybill.AccountID, first, last, broken int64, before, hash byte) string {
		return string(Seal(key, account, first, [32]byte{before}, last, [32]byte{hash}, broken))
	}
	all := map[string]bool{}
	for _, s := range []string{
		seal(key, "a", 1, 2, 0, 3, 4), seal([]byte("x"), "a", 1, 2, 0, 3, 4), seal(key, "b", 1, 2, 0, 3, 4),
		seal(key, "a", 2, 2, 0, 3, 4), seal(key, "a", 1, 3, 0, 3, 4), seal(key, "a", 1, 2, 1, 3, 4),
		seal(key, "a", 1, 2, 0, 4, 4), seal(key, "a", 1, 2, 0, 3, 5),
	} {
		all[s] = true
	}
	if len(all) != 8 {
		t.Errorf("%d different seals of 8: one of the parts does not count", len(all))
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, r := range trail(1, 2) {
		f.Add(Marshal(&r))
	}
	f.Add([]byte(`{"Sequence":1}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Unmarshal(text)
		if err != nil {
			return
		}
		if got := Marshal(&r); !bytes.Equal(got, text) {
			t.Errorf("%q was read as %q", text, got)
		}
	})
}
