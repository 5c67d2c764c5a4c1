// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/audit"
)

// act is an act of account "a".
func act(action string) *waybill.Act {
	return &waybill.Act{
		Principal: waybill.Principal{Account: "a", Kind: waybill.UserActor, Name: "alice", AccessKey: "k", RequestID: "r"},
		Action:    action, Region: region, Resources: []string{"acs:ecs:r:a:instance/mi-1"},
	}
}

func (f *fixture) record(n int) {
	f.t.Helper()
	for i := range n {
		if err := f.Record(f.t.Context(), act(fmt.Sprint("ecs:Act", i)), waybill.AuditOK); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fixture) verdict() waybill.AuditVerdict {
	f.t.Helper()
	v, err := f.VerifyAudit(f.t.Context(), "a")
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

// sql runs a statement behind the store's back.
func (f *fixture) sql(query string, args ...any) {
	f.t.Helper()
	err := f.writes.do(f.t.Context(), func(t *tx) error {
		n, err := t.exec(f.t.Context(), query, args...)
		if err == nil && n == 0 {
			err = errors.New("nothing was changed")
		}
		return err
	})
	if err != nil {
		f.t.Fatalf("%s: %v", query, err)
	}
}

// TestAuditTamper changes a trail of ten records in every way that whoever can write to the database may think of.
func TestAuditTamper(t *testing.T) { onEach(t, testAuditTamper) }

func testAuditTamper(t *testing.T, open opener) {
	t.Parallel()
	swap := `UPDATE audit_records SET seq = CASE seq WHEN 4 THEN -5 ELSE -4 END WHERE account = 'a' AND seq IN (4, 5)`
	for name, tc := range map[string]struct {
		change []string
		want   string
	}{
		"untouched":        {nil, ""},
		"action":           {[]string{`UPDATE audit_records SET action = 'ecs:Nothing' WHERE seq = 4`}, "record 4 was altered"},
		"time":             {[]string{`UPDATE audit_records SET time = time + 1 WHERE seq = 4`}, "record 4 was altered"},
		"request":          {[]string{`UPDATE audit_records SET request_id = 'x' WHERE seq = 4`}, "record 4 was altered"},
		"kind of actor":    {[]string{`UPDATE audit_records SET actor_type = 'Server' WHERE seq = 4`}, "record 4 was altered"},
		"actor":            {[]string{`UPDATE audit_records SET actor = 'bob' WHERE seq = 10`}, "record 10 was altered"},
		"key":              {[]string{`UPDATE audit_records SET access_key = 'x' WHERE seq = 4`}, "record 4 was altered"},
		"address":          {[]string{`UPDATE audit_records SET source_ip = '192.0.2.1' WHERE seq = 1`}, "record 1 was altered"},
		"region":           {[]string{`UPDATE audit_records SET region = 'x' WHERE seq = 4`}, "record 4 was altered"},
		"resources":        {[]string{`UPDATE audit_records SET resources = '[]' WHERE seq = 4`}, "record 4 was altered"},
		"no resources":     {[]string{`UPDATE audit_records SET resources = 'x' WHERE seq = 4`}, "record 4 was altered"},
		"subject":          {[]string{`UPDATE audit_records SET subject = 'x' WHERE seq = 4`}, "record 4 was altered"},
		"result":           {[]string{`UPDATE audit_records SET result = 'Forbidden.RAM' WHERE seq = 4`}, "record 4 was altered"},
		"hash":             {[]string{`UPDATE audit_records SET hash = previous WHERE seq = 4`}, "record 4 was altered"},
		"no hash":          {[]string{`UPDATE audit_records SET hash = 'x' WHERE seq = 4`}, "record 4 was altered"},
		"removed":          {[]string{`DELETE FROM audit_records WHERE seq IN (4, 5)`}, "records 4 to 5 are missing"},
		"removed first":    {[]string{`DELETE FROM audit_records WHERE seq = 1`}, "begins with record 2, not with record 1"},
		"removed last":     {[]string{`DELETE FROM audit_records WHERE seq >= 9`}, "records 9 to 10 are missing at the end"},
		"removed all":      {[]string{`DELETE FROM audit_records`}, "records 1 to 10 are missing at the end"},
		"reordered":        {[]string{swap, `UPDATE audit_records SET seq = -seq WHERE seq < 0`}, "record 4 was altered"},
		"another's":        {[]string{`UPDATE audit_records SET account = 'b' WHERE seq = 4`}, "records 4 to 4 are missing"},
		"head moved back":  {[]string{`UPDATE audit_heads SET last = 8, hash = 'x'`}, "the head of the trail was altered"},
		"seal":             {[]string{`UPDATE audit_heads SET seal = 'x'`}, "the head of the trail was altered"},
		"beginning forged": {[]string{`DELETE FROM audit_records WHERE seq = 1`, `UPDATE audit_heads SET first = 2`}, "begins with record 2"},
		"head removed":     {[]string{`DELETE FROM audit_heads`}, "the head of the trail is missing"},
		"all of it":        {[]string{`DELETE FROM audit_records`, `DELETE FROM audit_heads`}, "the head of the trail is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			f.record(10)
			for _, q := range tc.change {
				f.sql(q)
			}
			v := f.verdict()
			if tc.want == "" && v.Problem == "" {
				if v.Records != 10 || v.First != 1 || v.Last != 10 {
					t.Errorf("verdict %+v", v)
				}
				return
			}
			if !strings.Contains(v.Problem, tc.want) {
				t.Errorf("problem %q, want %q", v.Problem, tc.want)
			}
			// What was spoiled once stays so, however the trail goes on.
			f.record(2)
			if v := f.verdict(); v.Problem == "" {
				t.Error("two records later the trail is taken for good")
			}
		})
	}
}

// TestAuditHeadForged gives the trail another end, with a seal that somebody without the key could make.
func TestAuditHeadForged(t *testing.T) { onEach(t, testAuditHeadForged) }

func testAuditHeadForged(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	f.record(10)
	h, err := one(t.Context(), f.reads, scanHead, headColumns)
	if err != nil {
		t.Fatal(err)
	}
	r, err := one(t.Context(), f.reads, scanRecord, recordColumns+` WHERE r.seq = 8`)
	if err != nil {
		t.Fatal(err)
	}
	f.sql(`DELETE FROM audit_records WHERE seq > 8`)
	seal := audit.Seal([]byte("another key, also with 32 bytes."), "a", h.first, h.before, 8, r.Hash, 0)
	f.sql(`UPDATE audit_heads SET last = 8, hash = ?, seal = ?`, r.Hash[:], seal)
	f.record(1)
	if v := f.verdict(); !strings.Contains(v.Problem, "which was noticed before record 9") {
		t.Errorf("problem %q", v.Problem)
	}
	f.sql(`UPDATE audit_heads SET broken = 0`)
	if v := f.verdict(); !strings.Contains(v.Problem, "seal") {
		t.Errorf("the note of it was taken out, and the problem is %q", v.Problem)
	}
}

// TestAuditGoesAlong writes changes for acts, of which some fail, from many goroutines at once: each change that is there
// has its record, and none that is not.
func TestAuditGoesAlong(t *testing.T) { onEach(t, testAuditGoesAlong) }

func testAuditGoesAlong(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	const n = 100
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			a := act("ecs:CreateActivation")
			a.Subject = fmt.Sprint("act", i)
			err := f.For(a, nil).AddActivation(context.Background(), waybill.Activation{
				ID: waybill.ActivationID(a.Subject), Account: "a", Region: region, Created: epoch,
			}, []byte{1}, n/2)
			if (err == nil) != a.Recorded || err != nil && !errors.Is(err, ErrLimit) {
				t.Errorf("%s: %v, recorded %v", a.Subject, err, a.Recorded)
			}
		})
	}
	wg.Wait()
	l, err := f.AuditRecords(t.Context(), "a", waybill.AuditFilter{}, waybill.Page{Size: 2 * n})
	if err != nil || len(l.Items) != n/2 {
		t.Fatalf("%d records, %v", len(l.Items), err)
	}
	for _, r := range l.Items {
		if _, _, err := f.Activation(t.Context(), waybill.ActivationID(r.Subject)); err != nil {
			t.Errorf("record %d is of %s, which is not there", r.Sequence, r.Subject)
		}
	}
	if v := f.verdict(); v.Problem != "" {
		t.Error(v.Problem)
	}
}

func TestAuditListing(t *testing.T) { onEach(t, testAuditListing) }

func testAuditListing(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	for i := range 5 {
		a := act(fmt.Sprint("ecs:Act", i%2))
		a.Name, a.RequestID = fmt.Sprint("user", i), fmt.Sprint("r", i)
		if err := f.Record(t.Context(), a, fmt.Sprint("Code", i)); err != nil {
			t.Fatal(err)
		}
		f.advance(time.Minute)
	}
	other := act("ecs:Act0")
	other.Account = "b"
	if err := f.Record(t.Context(), other, waybill.AuditOK); err != nil {
		t.Fatal(err)
	}
	list := func(filter waybill.AuditFilter, size int) string {
		t.Helper()
		var all []string
		for p := (waybill.Page{Size: size}); ; {
			l, err := f.AuditRecords(t.Context(), "a", filter, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range l.Items {
				all = append(all, fmt.Sprint(r.Sequence))
			}
			if p.Cursor = l.Next; p.Cursor == "" {
				return strings.Join(all, " ")
			}
		}
	}
	for want, filter := range map[string]waybill.AuditFilter{
		"5 4 3 2 1": {}, "1 2 3 4 5": {OldFirst: true}, "5 3 1": {Action: "ecs:Act0"}, "3": {Actor: "user2"},
		"4": {RequestID: "r3"}, "2": {Result: "Code1"}, "": {AccessKey: "none"},
		"4 3": {From: epoch.Add(2 * time.Minute), To: epoch.Add(4 * time.Minute)},
	} {
		for _, size := range []int{1, 2, 10} {
			if got := list(filter, size); got != want {
				t.Errorf("%+v by %d: %q, want %q", filter, size, got, want)
			}
		}
	}
}

// TestAuditRecordsAreBounded refuses a request that names a thousand things, each of a kilobyte.
func TestAuditRecordsAreBounded(t *testing.T) { onEach(t, testAuditRecordsAreBounded) }

func testAuditRecordsAreBounded(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	for _, result := range []string{"InstanceIds.ExceedLimit", waybill.AuditOK} {
		a := act("ecs:SendFile")
		a.Resources, a.Region, a.Subject = nil, strings.Repeat("é", 1000), strings.Repeat("x", 1000)
		for range 1000 {
			a.Resources = append(a.Resources, strings.Repeat("é", 500))
		}
		if err := f.Record(t.Context(), a, result); err != nil {
			t.Fatal(err)
		}
	}
	l, err := f.AuditRecords(t.Context(), "a", waybill.AuditFilter{OldFirst: true}, waybill.Page{Size: 10})
	if err != nil || len(l.Items) != 2 {
		t.Fatal(len(l.Items), err)
	}
	refused, done := l.Items[0], l.Items[1]
	if n := len(refused.Resources); n != maxRefusedResource+1 || refused.Resources[n-1] != "and 990 more" {
		t.Errorf("%d resources of what was refused", n)
	}
	if len(done.Resources) != 1000 || len(done.Resources[0]) > maxRecordText+3 || len(done.Region) > maxRecordText+3 || len(done.Subject) > maxRecordText+3 {
		t.Errorf("%d resources of what was done, the first of %d bytes", len(done.Resources), len(done.Resources[0]))
	}
	if v := f.verdict(); v.Problem != "" {
		t.Error(v.Problem)
	}
}

func TestAuditRetention(t *testing.T) { onEach(t, testAuditRetention) }

func testAuditRetention(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	expire := func(want int) {
		t.Helper()
		if n, err := f.ExpireAudit(t.Context(), "a", f.clock().Add(-time.Hour), 3); err != nil || n != want {
			t.Errorf("removed %d, %v; want %d", n, err, want)
		}
		if v := f.verdict(); v.Problem != "" {
			t.Errorf("after it: %s", v.Problem)
		}
	}
	expire(0)
	f.record(5)
	f.advance(2 * time.Hour)
	f.record(2)
	expire(3)
	expire(2)
	expire(0)
	if v := f.verdict(); v.First != 6 || v.Last != 7 || v.Records != 2 {
		t.Errorf("left: %+v", v)
	}
	f.advance(2 * time.Hour)
	expire(2) // all of them
	f.record(1)
	if v := f.verdict(); v.Problem != "" || v.First != 8 || v.Last != 8 {
		t.Errorf("after all were removed: %+v", v)
	}
	f.sql(`DELETE FROM audit_records WHERE seq = 8`)
	if v := f.verdict(); v.Problem == "" {
		t.Error("retention has made the trail blind")
	}
}

func TestTokens(t *testing.T) { onEach(t, testTokens) }

func testTokens(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	add := func(id, token string, answer string) error {
		a := act("ecs:CreateActivation")
		a.Token, a.Digest = token, [32]byte{1}
		return f.For(a, []byte(answer)).AddActivation(t.Context(), waybill.Activation{
			ID: waybill.ActivationID(id), Account: "a", Region: region, Created: epoch,
		}, []byte{1}, 100)
	}
	recall := func(token string) (string, error) {
		a := act("ecs:CreateActivation")
		a.Token = token
		v, err := f.TokenAnswer(t.Context(), a)
		return string(v.Answer), err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := []string{}
	for i := range 64 {
		wg.Go(func() {
			id := fmt.Sprint("act", i)
			switch err := add(id, "token", id); {
			case err == nil:
				mu.Lock()
				defer mu.Unlock()
				done = append(done, id)
			case !errors.Is(err, ErrTokenUsed):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l, err := f.Activations(t.Context(), "a", waybill.ActivationFilter{Region: region}, waybill.Page{Size: 100})
	if err != nil || len(done) != 1 || len(l.Items) != 1 || string(l.Items[0].ID) != done[0] {
		t.Fatalf("of 64 with one token these were done: %v; these are there: %+v, %v", done, l.Items, err)
	}
	if got, err := recall("token"); err != nil || got != done[0] {
		t.Errorf("recalled %q, %v", got, err)
	}
	if _, err := recall("Token"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a token in other case: %v", err)
	}
	f.advance(TokenLife - time.Second)
	if err := add("late", "token", ""); !errors.Is(err, ErrTokenUsed) {
		t.Errorf("within a day: %v", err)
	}
	if n, err := f.ForgetTokens(t.Context(), 10); n != 0 || err != nil {
		t.Errorf("forgot %d too early, %v", n, err)
	}
	f.advance(time.Second)
	if _, err := recall("token"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after a day: %v", err)
	}
	if err := add("next", "token", "next"); err != nil {
		t.Errorf("the token after a day: %v", err)
	}
	f.advance(TokenLife)
	if n, err := f.ForgetTokens(t.Context(), 10); n != 1 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
}
