// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/openwaybill/waybill/internal/api"
	"github.com/openwaybill/waybill/internal/testenv"
)

// user returns a caller with the key of a new user that has a policy of its own.
func (c *caller) user(name, document string) *caller {
	c.t.Helper()
	c.must("CreateUser", "UserName", name)
	c.must("CreatePolicy", "PolicyName", "p-"+name, "PolicyDocument", document)
	c.must("AttachPolicyToUser", "PolicyType", "Custom", "PolicyName", "p-"+name, "UserName", name)
	k := c.must("CreateAccessKey", "UserName", name)
	return &caller{
		t: c.t, s: c.s, account: c.account,
		id: k.field(c.t, "AccessKey", "AccessKeyId"), secret: k.field(c.t, "AccessKey", "AccessKeySecret"),
	}
}

// TestDenyCannotBeSpelledAround writes the names of what a user must not touch in other letters that fold to the same.
func TestDenyCannotBeSpelledAround(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	a := firstCaller(t, s)
	a.must("CreateUser", "UserName", "kate")
	m := a.user("manager", `{"Version":"1","Statement":[{"Effect":"Allow","Action":"ram:*","Resource":"*"},{"Effect":"Deny","Action":"*",
		"Resource":["acs:ram:*:*:user/kate","acs:ram:*:system:policy/AdministratorAccess","acs:ram:*:*:policy/p-manager"]}]}`)
	for _, q := range [][]string{
		{"CreateAccessKey", "UserName", "kate"},
		{"CreateAccessKey", "UserName", "Kate"},
		{"CreateAccessKey", "UserName", "\u212aate"}, // the Kelvin sign
		{"AttachPolicyToUser", "PolicyType", "System", "UserName", "manager", "PolicyName", "AdministratorAccess"},
		{"AttachPolicyToUser", "PolicyType", "System", "UserName", "manager", "PolicyName", "administratoraccess"},
		{"AttachPolicyToUser", "PolicyType", "System", "UserName", "manager", "PolicyName", "Admini\u017ftratorAccess"}, // long s
		{"CreatePolicyVersion", "PolicyName", "p-manager", "PolicyDocument", allowAll, "SetAsDefault", "true"},
		{"CreatePolicyVersion", "PolicyName", "P-MANAGER", "PolicyDocument", allowAll, "SetAsDefault", "true"},
	} {
		if got := m.call(q[0], q[1:]...); got.status == http.StatusOK {
			t.Errorf("%q was allowed: %s", q, got.body)
		}
	}
	if got := a.must("ListAccessKeys", "UserName", "kate"); strings.Contains(got.body, "AccessKeyId") {
		t.Errorf("kate has a key: %s", got.body)
	}
}

// TestNoOperationTakesMoreNamesThanAreAuthorized matters because a list with more names is authorized as a whole, not
// name by name.
func TestNoOperationTakesMoreNamesThanAreAuthorized(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	a := firstCaller(t, s)
	w := a.furnish("own")
	tried := 0
	for _, op := range api.Operations() {
		for _, p := range op.Parameters {
			name, isList := strings.CutSuffix(p.Name, ".N")
			if !isList || !strings.Contains(strings.Join(op.Resources, " "), "{"+name+"}") {
				continue
			}
			tried++
			pairs := []string{"Version", op.Version}
			for k, v := range w.required(&op) {
				pairs = append(pairs, k, v)
			}
			for i := range 101 {
				pairs = append(pairs, fmt.Sprintf("%s.%d", name, i+1), fmt.Sprint(w["instance"], i))
			}
			pairs = append(pairs, name+".1", w["instance"])
			if got := a.call(op.Name, pairs...); got.status == http.StatusOK {
				t.Errorf("%s takes 101 of %s", op.Name, name)
			}
		}
	}
	if tried == 0 {
		t.Error("no operation has a list of names")
	}
}

// TestClientTokenIsTheUsersOwn sends the same request with the same token as two users: the answer of one, which may hold
// a secret, is not the other's.
func TestClientTokenIsTheUsersOwn(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	a := firstCaller(t, s)
	seen := map[string]bool{}
	for _, c := range []*caller{a, a.user("alice", allowAll), a.user("bob", allowAll)} {
		first := c.must("CreateActivation", "ClientToken", "token", "InstanceCount", "1").field(t, "ActivationCode")
		again := c.must("CreateActivation", "ClientToken", "token", "InstanceCount", "1").field(t, "ActivationCode")
		if first != again || seen[first] {
			t.Errorf("%s, then %s; seen before: %v", first, again, seen[first])
		}
		seen[first] = true
	}
}
