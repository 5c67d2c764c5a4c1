// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/policy"
)

// user makes a user with a policy document and returns it as a principal with a key.
func (f *fixture) user(name, document string) waybill.Principal {
	f.t.Helper()
	ctx := f.t.Context()
	if _, err := f.CreateUser(ctx, f.act(), waybill.User{Name: name}); err != nil {
		f.t.Fatal(err)
	}
	if document != "" {
		if _, err := f.CreatePolicy(ctx, f.act(), "of-"+name, "", document); err != nil {
			f.t.Fatal(err)
		}
		n := waybill.PolicyName{Type: waybill.CustomPolicy, Name: "of-" + name}
		if err := f.AttachPolicy(ctx, f.act(), n, waybill.Entity{Kind: waybill.UserEntity, Name: name}); err != nil {
			f.t.Fatal(err)
		}
	}
	k, _, err := f.CreateAccessKey(ctx, f.act(), name)
	if err != nil {
		f.t.Fatal(err)
	}
	return waybill.Principal{
		Account: f.who.Account, Kind: waybill.UserActor, Name: name, AccessKey: k.ID,
		SourceIP: netip.MustParseAddr("192.0.2.1"), Secure: true,
	}
}

// ask returns what Authorize says of a principal that does something to instances.
func (f *fixture) ask(who waybill.Principal, action string, instances ...waybill.InstanceID) error {
	act := &waybill.Act{Principal: who, Action: action, Region: region}
	for _, i := range instances {
		act.Resources = append(act.Resources, fmt.Sprintf("acs:ecs:%s:%s:instance/%s", region, who.Account, i))
	}
	return f.Authorize(f.t.Context(), act, nil)
}

func statement(effect, action, resource, condition string) string {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return fmt.Sprintf(`{"Effect":%q,"Action":%q,"Resource":%q%s}`, effect, action, resource, condition)
}

func document(statements ...string) string {
	return `{"Version":"1","Statement":[` + strings.Join(statements, ",") + `]}`
}

func TestAuthorizeByTagsOfEachTarget(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	prod, test, plain := f.enrol(), f.enrol(), f.enrol()
	for id, env := range map[waybill.InstanceID]string{prod: "prod", test: "test"} {
		if err := f.PutTags(ctx, f.act(), waybill.InstanceResource, []string{string(id)}, []waybill.Tag{{Key: "env", Value: env}}); err != nil {
			t.Fatal(err)
		}
	}
	alice := f.user("alice", document(
		statement("Allow", "ecs:SendFile", "*", `{"StringEquals":{"acs:ResourceTag/env":"test"}}`),
		statement("Allow", "ecs:Describe*", "*", ""),
	))
	for _, tc := range []struct {
		name      string
		action    string
		instances []waybill.InstanceID
		resource  waybill.InstanceID // that is denied; empty: allowed
	}{
		{"with the tag", "ecs:SendFile", []waybill.InstanceID{test}, ""},
		{"with another value", "ecs:SendFile", []waybill.InstanceID{prod}, prod},
		{"without the tag", "ecs:SendFile", []waybill.InstanceID{plain}, plain},
		{"one of two", "ecs:SendFile", []waybill.InstanceID{test, prod}, prod},
		{"not there", "ecs:SendFile", []waybill.InstanceID{"mi-none"}, "mi-none"},
		{"without condition", "ecs:DescribeInstances", []waybill.InstanceID{prod}, ""},
		{"not named", "ecs:CreateActivation", []waybill.InstanceID{test}, test},
	} {
		err := f.ask(alice, tc.action, tc.instances...)
		if tc.resource == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		d, ok := errors.AsType[*Denial](err)
		if !ok || d.Explicit || !strings.HasSuffix(d.Resource, string(tc.resource)) || waybill.CodeOf(err) != waybill.NotAuthorized {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	// Another account's instance has no tags, as one that is not there.
	bob := f.other()
	bob.Kind, bob.Name = waybill.UserActor, "nobody"
	if err := f.ask(bob, "ecs:SendFile", test); waybill.CodeOf(err) != waybill.NotAuthorized {
		t.Errorf("a user without policies: %v", err)
	}
}

func TestAuthorizeWhoMayWhat(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	all := document(statement("Allow", "*", "*", ""))
	alice := f.user("alice", all)
	nobody := f.user("nobody", "")
	if err := f.ask(f.who, "ecs:SendFile", "mi-1"); err != nil {
		t.Errorf("the account itself: %v", err)
	}
	if err := f.ask(alice, "ecs:SendFile", "mi-1"); err != nil {
		t.Errorf("a user with a policy: %v", err)
	}
	for name, who := range map[string]waybill.Principal{
		"no policy": nobody, "zero": {}, "agent": {Account: f.who.Account, Kind: waybill.AgentActor},
		"operator": {Account: f.who.Account, Kind: waybill.OperatorActor},
	} {
		if err := f.ask(who, "ecs:DescribeInstances", "mi-1"); waybill.CodeOf(err) != waybill.NotAuthorized {
			t.Errorf("%s: %v", name, err)
		}
	}

	// By a group, and by a system policy; each change holds at once.
	if _, err := f.CreateUserGroup(ctx, f.act(), waybill.UserGroup{Name: "readers"}); err != nil {
		t.Fatal(err)
	}
	reader := waybill.PolicyName{Type: waybill.SystemPolicy, Name: "AliyunECSAssistantReadonlyAccess"}
	if err := f.AttachPolicy(ctx, f.act(), reader, waybill.Entity{Kind: waybill.GroupEntity, Name: "readers"}); err != nil {
		t.Fatal(err)
	}
	if err := f.AddUserToGroup(ctx, f.act(), "nobody", "readers"); err != nil {
		t.Fatal(err)
	}
	if err := f.ask(nobody, "ecs:DescribeInstances", "mi-1"); err != nil {
		t.Errorf("through its group: %v", err)
	}
	if err := f.ask(nobody, "ecs:SendFile", "mi-1"); waybill.CodeOf(err) != waybill.NotAuthorized {
		t.Errorf("through its group, beyond it: %v", err)
	}
	deny := document(statement("Allow", "*", "*", ""), statement("Deny", "ecs:SendFile", "acs:ecs:*:*:instance/mi-1", ""))
	if _, err := f.UpdatePolicy(ctx, f.act(), "of-alice", deny); err != nil {
		t.Fatal(err)
	}
	d, ok := errors.AsType[*Denial](f.ask(alice, "ecs:SendFile", "mi-2", "mi-1"))
	if !ok || !d.Explicit || d.Policy.Name != "of-alice" || d.Statement != 1 || !strings.HasSuffix(d.Resource, "mi-1") {
		t.Errorf("denied by %+v", d)
	}
	if err := f.RemoveUserFromGroup(ctx, f.act(), "nobody", "readers"); err != nil {
		t.Fatal(err)
	}
	if err := f.ask(nobody, "ecs:DescribeInstances", "mi-1"); waybill.CodeOf(err) != waybill.NotAuthorized {
		t.Errorf("after leaving the group: %v", err)
	}
}

// TestAnotherCaseIsAnotherName guards a user and its policy with a Deny that names them.
func TestAnotherCaseIsAnotherName(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.user("ann", "")
	for _, name := range []string{"ANN", "Ann"} {
		if _, err := f.User(ctx, f.who, name); waybill.CodeOf(err) != waybill.UserNotFound {
			t.Errorf("user %s: %v", name, err)
		}
		if _, _, err := f.CreateAccessKey(ctx, f.act(), name); waybill.CodeOf(err) != waybill.UserNotFound {
			t.Errorf("key of %s: %v", name, err)
		}
	}
	n := waybill.PolicyName{Type: waybill.SystemPolicy, Name: "administratoraccess"}
	if err := f.AttachPolicy(ctx, f.act(), n, waybill.Entity{Kind: waybill.UserEntity, Name: "ann"}); waybill.CodeOf(err) != waybill.PolicyNotFound {
		t.Errorf("a system policy in lower case: %v", err)
	}
	if _, err := f.CreatePolicy(ctx, f.act(), n.Name, "", document(statement("Allow", "*", "*", ""))); waybill.CodeOf(err) != waybill.PolicyExists {
		t.Errorf("a policy named almost like a system policy: %v", err)
	}
}

func TestAuthorizeByRequest(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	alice := f.user("alice", document(
		statement("Allow", "ecs:SendFile", "*", `{"IpAddress":{"acs:SourceIp":"192.0.2.0/24"},"Bool":{"acs:SecureTransport":"true"},
			"DateLessThan":{"acs:CurrentTime":"2026-11-23T13:00:00Z"},"StringEquals":{"acs:RequestTag/team":"a"}}`),
	))
	try := func(change func(*waybill.Act), tags ...waybill.Tag) bool {
		act := &waybill.Act{Principal: alice, Action: "ecs:SendFile", Region: region, Resources: []string{"acs:ecs:r:1:instance/mi-1"}}
		change(act)
		return f.Authorize(t.Context(), act, tags) == nil
	}
	team := waybill.Tag{Key: "team", Value: "a"}
	same := func(*waybill.Act) {}
	if !try(same, team) {
		t.Error("all conditions hold")
	}
	if try(same) || try(same, waybill.Tag{Key: "team", Value: "b"}) {
		t.Error("without the tag in the request")
	}
	if try(func(a *waybill.Act) { a.SourceIP = netip.MustParseAddr("198.51.100.1") }, team) {
		t.Error("from elsewhere")
	}
	if try(func(a *waybill.Act) { a.Secure = false }, team) {
		t.Error("in the clear")
	}
	f.advance(time.Hour)
	if try(same, team) {
		t.Error("too late")
	}
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	i := f.enrol()
	if err := f.PutTags(ctx, f.act(), waybill.InstanceResource, []string{string(i)}, []waybill.Tag{{Key: "env", Value: "prod"}}); err != nil {
		t.Fatal(err)
	}
	f.user("alice", document(
		statement("Allow", "ecs:SendFile", "*", ""), statement("Deny", "*", "*", `{"StringEquals":{"acs:ResourceTag/env":"prod"}}`),
	))
	ask := func(action, resource string) Answer {
		t.Helper()
		a, err := f.Simulate(ctx, f.who, Question{User: "alice", Action: action, Resource: resource, Region: region})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := ask("ecs:SendFile", string(i))
	if a.Effect != policy.ExplicitDeny || a.Statement != 1 || a.Policy.Name != "of-alice" || !strings.Contains(a.Text, "ResourceTag/env") ||
		len(a.ResourceTags) != 1 || !strings.HasSuffix(a.Resource, ":instance/"+string(i)) {
		t.Errorf("of a tagged instance: %+v", a)
	}
	if a := ask("ecs:SendFile", "acs:ecs:r:1:instance/mi-none"); a.Effect != policy.Allow || a.Statement != 0 {
		t.Errorf("of another: %+v", a)
	}
	if a := ask("ecs:DescribeInstances", "acs:ecs:r:1:instance/*"); a.Effect != policy.ImplicitDeny || a.Statement != -1 || a.Policy.Name != "" {
		t.Errorf("of what no statement names: %+v", a)
	}
	mistyped := Question{User: "alice", Action: "ecs:SendFile", Resource: "mi-none", Region: region}
	if _, err := f.Simulate(ctx, f.who, mistyped); waybill.CodeOf(err) != waybill.InstanceNotFound {
		t.Errorf("of an instance that is not there: %v", err)
	}
	if _, err := f.Simulate(ctx, f.who, Question{User: "bob"}); waybill.CodeOf(err) != waybill.UserNotFound {
		t.Errorf("of nobody: %v", err)
	}
}

func TestTemporaryKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	alice := f.user("alice", document(statement("Allow", "ecs:*", "*", "")))
	k, err := f.IssueTemporaryKey(ctx, actOf(alice), 10*time.Minute, document(statement("Allow", "ecs:Describe*", "*", "")))
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Credential(ctx, k.ID, k.Token)
	if err != nil || c.Secret != k.Secret || c.Key.User != "alice" || c.Issuer != alice.AccessKey || !c.Key.Active || c.Policy == "" {
		t.Fatalf("credential %+v, %v", c.Key, err)
	}
	temporary := alice
	temporary.AccessKey, temporary.Issuer, temporary.Session = k.ID, c.Issuer, c.Policy
	if err := f.ask(temporary, "ecs:DescribeInstances", "mi-1"); err != nil {
		t.Errorf("what both policies allow: %v", err)
	}
	d, ok := errors.AsType[*Denial](f.ask(temporary, "ecs:SendFile", "mi-1"))
	if !ok || !d.Session {
		t.Errorf("what only the user's policy allows: %+v", d)
	}
	// A policy cannot widen what the user may.
	wide, err := f.IssueTemporaryKey(ctx, actOf(alice), 0, document(statement("Allow", "*", "*", "")))
	if err != nil {
		t.Fatal(err)
	}
	c, err = f.Credential(ctx, wide.ID, wide.Token)
	if err != nil {
		t.Fatal(err)
	}
	temporary.AccessKey, temporary.Session = wide.ID, c.Policy
	d, ok = errors.AsType[*Denial](f.ask(temporary, "ram:CreateUser", "x"))
	if !ok || d.Session {
		t.Errorf("what only the key's policy allows: %+v", d)
	}

	flip := func(s string) string { // of the last character the lowest bits may not count
		return s[:10] + string(s[10]^1) + s[11:]
	}
	for name, tc := range map[string]struct {
		id, token string
		want      waybill.Code
	}{
		"no token":         {k.ID, "", waybill.TokenMissing},
		"altered":          {k.ID, flip(k.Token), waybill.TokenInvalid},
		"no text of ours":  {k.ID, "!", waybill.TokenInvalid},
		"empty text":       {k.ID, "AAAA", waybill.TokenInvalid},
		"of another key":   {k.ID, wide.Token, waybill.TokenMismatch},
		"with a lasting":   {alice.AccessKey, k.Token, waybill.TokenMismatch},
		"unknown, no rest": {"STS.none", "", waybill.TokenMissing},
	} {
		if _, err := f.Credential(ctx, tc.id, tc.token); waybill.CodeOf(err) != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
	for name, tc := range map[string]struct {
		who  waybill.Principal
		life time.Duration
		doc  string
		want waybill.Code
	}{
		"by a temporary key": {temporary, 0, "", waybill.Forbidden},
		"too long":           {alice, 12*time.Hour + time.Second, "", waybill.TokenLife},
		"too short":          {alice, time.Millisecond, "", waybill.TokenLife},
		"malformed policy":   {alice, 0, "{}", waybill.PolicyDocument},
		"endless policy":     {alice, 0, strings.Repeat(" ", 2049), waybill.TextTooLong},
	} {
		if _, err := f.IssueTemporaryKey(ctx, actOf(tc.who), tc.life, tc.doc); waybill.CodeOf(err) != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}

	// It ends with the key that issued it, and by itself.
	if err := f.SetAccessKey(ctx, f.act(), "alice", alice.AccessKey, false); err != nil {
		t.Fatal(err)
	}
	if c, err := f.Credential(ctx, k.ID, k.Token); err != nil || c.Key.Active {
		t.Errorf("after its issuer was disabled: %+v, %v", c.Key, err)
	}
	f.advance(10 * time.Minute)
	if _, err := f.Credential(ctx, k.ID, k.Token); waybill.CodeOf(err) != waybill.TokenExpired {
		t.Errorf("after its time: %v", err)
	}
	if err := f.DeleteAccessKey(ctx, f.act(), "alice", alice.AccessKey); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Credential(ctx, wide.ID, wide.Token); waybill.CodeOf(err) != waybill.AccessKeyNotFound {
		t.Errorf("after its issuer was deleted: %v", err)
	}
}

// TestOnce repeats requests with a token: many at once, with other parameters, in another scope, and late.
func TestOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	act := func(action, token string, digest byte) *waybill.Act {
		return &waybill.Act{Principal: f.who, Action: action, Region: region, Token: token, Digest: [32]byte{digest}}
	}
	i := f.enrol()
	t.Run("send", func(t *testing.T) {
		var mu sync.Mutex
		ids, repeated := map[waybill.DeliveryID]int{}, 0
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				a := act("ecs:SendFile", "token", 1)
				id, err := f.Send(context.Background(), a, request(i))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				ids[id]++
				if a.Repeated {
					repeated++
				}
			})
		}
		wg.Wait()
		l, err := f.Deliveries(ctx, f.who, DeliveryFilter{Region: region}, Page{Size: 10})
		if err != nil || len(ids) != 1 || l.Total != 1 || repeated != 63 {
			t.Errorf("64 with one token made %v, %d deliveries, %d repeated, %v", ids, l.Total, repeated, err)
		}
		if _, err := f.Send(ctx, act("ecs:SendFile", "token", 2), request(i)); waybill.CodeOf(err) != waybill.TokenReused {
			t.Errorf("other parameters: %v", err)
		}
		for name, a := range map[string]*waybill.Act{
			"other token": act("ecs:SendFile", "Token", 1), "other action": act("ecs:Other", "token", 1), "no token": act("ecs:SendFile", "", 1),
		} {
			id, err := f.Send(ctx, a, request(i))
			if err != nil || ids[id] != 0 {
				t.Errorf("%s: %s, %v", name, id, err)
			}
			ids[id]++
		}
		f.advance(24 * time.Hour)
		id, err := f.Send(ctx, act("ecs:SendFile", "token", 2), request(i))
		if err != nil || ids[id] != 0 {
			t.Errorf("a day later: %s, %v", id, err)
		}
	})
	t.Run("what was refused may be tried again", func(t *testing.T) {
		bad := request(i)
		bad.File.Name = ""
		if _, err := f.Send(ctx, act("ecs:SendFile", "again", 1), bad); waybill.CodeOf(err) != waybill.MissingField {
			t.Error(err)
		}
		if _, err := f.Send(ctx, act("ecs:SendFile", "again", 1), request(i)); err != nil {
			t.Error(err)
		}
	})
	t.Run("activation", func(t *testing.T) {
		first, err := f.CreateActivation(ctx, act("ecs:CreateActivation", "token", 1), waybill.Activation{Region: region})
		if err != nil {
			t.Fatal(err)
		}
		again, err := f.CreateActivation(ctx, act("ecs:CreateActivation", "token", 1), waybill.Activation{Region: region})
		if err != nil || again.ID != first.ID || again.Code != first.Code || first.Code == "" {
			t.Errorf("again: %s, %v; want %s with the same code", again.ID, err, first.ID)
		}
	})
	t.Run("deregister", func(t *testing.T) {
		first, err := f.Deregister(ctx, act("ecs:Deregister", "token", 1), i)
		if err != nil {
			t.Fatal(err)
		}
		again, err := f.Deregister(ctx, act("ecs:Deregister", "token", 1), i)
		if err != nil || again.ID != i || again.Name != first.Name {
			t.Errorf("again: %+v, %v", again, err)
		}
		if _, err := f.Deregister(ctx, act("ecs:Deregister", "", 1), i); waybill.CodeOf(err) != waybill.InstanceNotFound {
			t.Errorf("without token: %v", err)
		}
	})
}

// TestAuditTellsWhat reads the records of what happens without a request of a user.
func TestAuditTellsWhat(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	i := f.enrol()
	if err := f.Leave(ctx, i, netip.MustParseAddr("192.0.2.7")); err != nil {
		t.Fatal(err)
	}
	operator := &Operator{Name: "root", Store: f.store, Sealer: f.sealer}
	if _, err := operator.CreateKey(ctx, f.who.Account); err != nil {
		t.Fatal(err)
	}
	for _, disabled := range []bool{true, false} {
		if err := operator.SetDisabled(ctx, f.who.Account, disabled); err != nil {
			t.Fatal(err)
		}
	}
	l, err := f.AuditRecords(ctx, f.who, waybill.AuditFilter{OldFirst: true}, Page{Size: 100})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range l.Items {
		got = append(got, fmt.Sprintf("%s %s %s %s", r.ActorType, r.Action, r.SourceIP, r.Result))
	}
	want := []string{
		"Server waybill:CreateAccount  OK", "Account ecs:Test  OK", "Agent waybill:Enroll 192.0.2.1 OK",
		"Agent waybill:Leave 192.0.2.7 OK", "Operator waybill:CreateAccountKey  OK",
		"Operator waybill:DisableAccount  OK", "Operator waybill:EnableAccount  OK",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("records\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if v, err := f.VerifyAudit(ctx, f.who); err != nil || v.Problem != "" || v.Records != int64(len(want)) {
		t.Errorf("verdict %+v, %v", v, err)
	}
	f.advance(DefaultRetainAuditFor + time.Hour)
	if err := f.retain(ctx); err != nil {
		t.Fatal(err)
	}
	if v, err := f.VerifyAudit(ctx, f.who); err != nil || v.Problem != "" || v.Records != 0 {
		t.Errorf("after its retention: %+v, %v", v, err)
	}
}

func TestPoliciesListing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, name := range []string{"b", "a", "c"} {
		if _, err := f.CreatePolicy(t.Context(), f.act(), name, "", document(statement("Allow", "*", "*", ""))); err != nil {
			t.Fatal(err)
		}
	}
	for typ, want := range map[waybill.PolicyType]string{
		"":                   "AliyunECSAssistantFullAccess AliyunECSAssistantReadonlyAccess AdministratorAccess a b c",
		waybill.SystemPolicy: "AliyunECSAssistantFullAccess AliyunECSAssistantReadonlyAccess AdministratorAccess",
		waybill.CustomPolicy: "a b c",
	} {
		for size := 1; size <= 7; size++ {
			var names []string
			for p := (Page{Size: size}); ; {
				l, err := f.Policies(t.Context(), f.who, typ, p)
				if err != nil || len(l.Items) > size {
					t.Fatal(len(l.Items), err)
				}
				for _, v := range l.Items {
					names = append(names, v.Name)
				}
				if p.Cursor = l.Next; p.Cursor == "" {
					break
				}
			}
			if got := strings.Join(names, " "); got != want {
				t.Errorf("%q by %d: %s", typ, size, got)
			}
		}
	}
}

// TestFewReadTrailsAtOnce matters because a trail may have millions of records, and the database few connections.
func TestFewReadTrailsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if err := f.trails.Acquire(t.Context(), maxTrails); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.AuditRecords(gone, f.who, waybill.AuditFilter{}, Page{Size: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("a listing beside %d others: %v", maxTrails, err)
	}
	if _, err := f.VerifyAudit(gone, f.who); !errors.Is(err, context.Canceled) {
		t.Errorf("a check beside %d others: %v", maxTrails, err)
	}
	f.trails.Release(maxTrails)
	if _, err := f.VerifyAudit(t.Context(), f.who); err != nil {
		t.Error(err)
	}
}
