// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openwaybill/waybill/internal/acs"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/api"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/testenv"
)

// caller calls any operation over plain HTTP, as text.
type caller struct {
	t          *testing.T
	s          *testenv.Server
	id, secret string
	account    string
}

// answer is what a call was answered.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) code() string {
	var v struct{ Code string }
	_ = json.Unmarshal([]byte(a.body), &v) // what has no code has none
	return v.Code
}

// field returns a text of the answer by its path.
func (a answer) field(t *testing.T, path ...string) string {
	t.Helper()
	var at any
	if err := json.Unmarshal([]byte(a.body), &at); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	for _, name := range path {
		if list, ok := at.([]any); ok && len(list) > 0 {
			at = list[0]
		}
		object, ok := at.(map[string]any)
		if !ok {
			t.Fatalf("%s: no %s", a.body, name)
		}
		at = object[name]
	}
	return fmt.Sprint(at)
}

var versions = func() map[string]string {
	m := map[string]string{}
	for _, op := range api.Operations() {
		m[op.Name] = op.Version
	}
	return m
}()

func (c *caller) call(action string, pairs ...string) answer {
	c.t.Helper()
	params := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		params.Set(pairs[i], pairs[i+1])
	}
	if versions[action] == "2014-05-26" && !params.Has("RegionId") {
		params.Set("RegionId", testenv.Region)
	}
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "http://"+c.s.Addr("http")+"/?"+params.Encode(), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("x-acs-action", action)
	r.Header.Set("x-acs-version", versions[action])
	acs.SignACS3(r, nil, c.id, c.secret, "", rand.Text(), time.Now())
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// must is call for what has to succeed.
func (c *caller) must(action string, pairs ...string) answer {
	c.t.Helper()
	a := c.call(action, pairs...)
	if a.status != http.StatusOK {
		c.t.Fatalf("%s: %d %s", action, a.status, a.body)
	}
	return a
}

func firstCaller(t *testing.T, s *testenv.Server) *caller {
	return &caller{t: t, s: s, id: s.Key.AccessKeyID, secret: s.Key.AccessKeySecret, account: string(s.Key.AccountID)}
}

// secondAccount makes another account, as an operator does, while the server runs.
func secondAccount(t *testing.T, s *testenv.Server) *caller {
	t.Helper()
	sealer, err := identity.OpenSealer(filepath.Join(s.Dir, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), store.Config{
		URL: s.Database(), AuditKey: control.AuditKey(sealer),
	}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	operator := control.Operator{Name: "test", Store: st, Sealer: sealer}
	account, cred, err := operator.CreateAccount(t.Context(), "second")
	if err != nil {
		t.Fatal(err)
	}
	return &caller{t: t, s: s, id: cred.Key.ID, secret: cred.Secret, account: string(account.ID)}
}

// world is one of everything that has an ID or a name, by the kind of the ID.
type world map[string]string

// furnish makes a world. Names begin with prefix.
func (c *caller) furnish(prefix string) world {
	c.t.Helper()
	w := world{"user": prefix + "-user", "userGroup": prefix + "-ops", "policy": prefix + "-policy"}
	w["group"] = c.must("CreateResourceGroup", "Name", prefix+"-group").field(c.t, "ResourceGroup", "Id")
	created := c.must("CreateActivation", "InstanceCount", "5")
	w["activation"] = created.field(c.t, "ActivationId")
	w["instance"] = enrolWith(c.t, c.s, w["activation"], created.field(c.t, "ActivationCode"))
	w["delivery"] = c.must("SendFile", "InstanceId.1", w["instance"], "Name", prefix+".txt", "TargetDir", "/srv", "Content", "secret of "+prefix).
		field(c.t, "InvokeId")
	w["file"] = prefix + ".txt"
	c.must("TagResources", "ResourceType", "instance", "ResourceId.1", w["instance"], "Tag.1.Key", prefix+"-key", "Tag.1.Value", "v")
	w["tag"] = prefix + "-key"
	c.must("CreateUser", "UserName", w["user"])
	c.must("CreateGroup", "GroupName", w["userGroup"])
	c.must("AddUserToGroup", "UserName", w["user"], "GroupName", w["userGroup"])
	c.must("CreatePolicy", "PolicyName", w["policy"], "PolicyDocument", allowAll)
	c.must("AttachPolicyToUser", "PolicyType", "Custom", "PolicyName", w["policy"], "UserName", w["user"])
	w["key"] = c.must("CreateAccessKey", "UserName", w["user"]).field(c.t, "AccessKey", "AccessKeyId")
	return w
}

const allowAll = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

// kindOf says which kind of ID or name a parameter takes. A list is written with its first index.
var kindOf = map[string]string{
	"InstanceId": "instance", "InstanceId.1": "instance", "InstanceIds": "instances", "InvokeId": "delivery",
	"ActivationId": "activation", "ResourceGroupId": "group", "ResourceGroupIds.1": "group", "UserName": "user",
	"GroupName": "userGroup", "PolicyName": "policy", "UserAccessKeyId": "key", "ResourceId.1": "instance",
	"Resource": "instance", "Tag.1.Key": "tag", "Actor": "user",
}

// required are the parameters that an operation needs beside the one that is tried, from the caller's own world.
func (w world) required(op *api.Operation) map[string]string {
	values := map[string]string{
		"TargetDir": "/srv", "Name": "new.txt", "Content": "x", "InstanceName": "new-name", "Status": "Active", "PolicyType": "Custom",
		"PolicyDocument": allowAll, "SetAsDefault": "true", "NewDisplayName": "new", "SettingType.1": "AgentUpgradeConfig",
		"ResourceType": "instance", "PolicyAction": "ecs:SendFile", "Tag.1.Value": "v", "TagKey.1": "none",
	}
	p := map[string]string{}
	for _, v := range op.Parameters {
		name := strings.Replace(v.Name, ".N", ".1", 1)
		needed := v.Required || op.Name == "TagResources" && strings.HasPrefix(name, "Tag.") || op.Name == "UntagResources" && name == "TagKey.1" ||
			slices.Contains([]string{"ResourceType", "SetAsDefault"}, name) || op.Kind == api.Write && name == "ResourceId.1"
		if !needed || name == "RegionId" {
			continue
		}
		switch kind := kindOf[name]; {
		case op.Name == "CreateResourceGroup" && name == "Name":
			p[name] = "new-group"
		case kind != "":
			p[name] = w[kind]
		default:
			p[name] = values[name]
		}
	}
	return p
}

// TestIsolation tries every ID and name of one account, in every parameter of every operation that takes one, with
// the key of another account: it gets exactly what it gets for one that does not exist, and changes nothing.
func TestIsolation(t *testing.T) { onEach(t, testIsolation) }

func testIsolation(t *testing.T, start starter) {
	t.Parallel()
	s := start(t)
	a, b := firstCaller(t, s), secondAccount(t, s)
	foreign, own := a.furnish("alpha"), b.furnish("beta")
	before := a.inventory(foreign)
	for _, list := range []string{
		"DescribeSendFileResults", "DescribeManagedInstances", "DescribeActivations", "DescribeInstances", "DescribeInstanceStatus",
		"DescribeCloudAssistantStatus", "ListUsers", "ListGroups", "ListPolicies", "ListResourceGroups", "ListAccessKeys", "ListAuditRecords",
	} {
		got := b.must(list).body
		for _, id := range foreign {
			if strings.Contains(got, id) {
				t.Errorf("%s of the other account tells of %s: %s", list, id, got)
			}
		}
	}
	unknown := world{
		"instance": "mi-hz00000000000000000000", "delivery": "f-hz00000000000000000000000000", "activation": "4ECEEE12-56F1-4FBC-9AB1-890F12340000",
		"group": "rg-000000000000000", "user": "nobody", "userGroup": "nothing", "policy": "none", "key": "WB0000000000000000000000", "tag": "nothing",
	}
	for _, w := range []world{foreign, unknown} {
		w["instances"] = `["` + w["instance"] + `"]`
	}
	tried := 0
	for _, op := range api.Operations() {
		for _, parameter := range op.Parameters {
			name := strings.Replace(parameter.Name, ".N", ".1", 1)
			kind := kindOf[name]
			// What is made gets a name of its own, whatever others call theirs.
			if kind == "" || strings.HasPrefix(op.Name, "Create") && strings.HasSuffix(op.Name, strings.TrimSuffix(name, "Name")) ||
				op.Name == "TagResources" && kind == "tag" || op.Name == "CreateActivation" && kind == "tag" || op.Name == "SendFile" && kind == "tag" {
				continue
			}
			tried++
			try := func(w world) string {
				p := own.required(&op)
				p[name] = w[kind]
				if kind == "tag" && p["ResourceType"] == "" && op.Name == "ListTagResources" {
					p["ResourceType"] = "instance"
				}
				pairs := []string{}
				for k, v := range p {
					pairs = append(pairs, k, v)
				}
				got := b.call(op.Name, pairs...)
				return fmt.Sprint(got.status, " ", normal(got, w[kind], w["instance"]))
			}
			mine, none := try(foreign), try(unknown)
			if mine != none {
				t.Errorf("%s with another account's %s:\n%s\nwith one that is not there:\n%s", op.Name, name, mine, none)
			}
			if strings.Contains(mine, "alpha") || strings.Contains(mine, a.account) {
				t.Errorf("%s with %s tells of the other account: %s", op.Name, name, mine)
			}
		}
	}
	if tried < 60 {
		t.Errorf("only %d parameters were tried: are the names in kindOf those of the table?", tried)
	}
	if after := a.inventory(foreign); after != before {
		t.Errorf("the other account's things were changed:\n%s\nbefore:\n%s", after, before)
	}
	// Tokens of pages and of repeated requests are their account's too.
	for range 2 {
		a.must("SendFile", "InstanceId.1", foreign["instance"], "Name", "n", "TargetDir", "/srv", "Content", "x", "ClientToken", "one")
	}
	if got := b.must("SendFile", "InstanceId.1", own["instance"], "Name", "n", "TargetDir", "/srv", "Content", "y", "ClientToken", "one"); got.status != 200 {
		t.Errorf("the other account's ClientToken: %+v", got)
	}
	token := a.must("DescribeSendFileResults", "MaxResults", "1").field(t, "NextToken")
	if got := b.call("DescribeSendFileResults", "NextToken", token); got.code() != "InvalidParameter.NextToken" {
		t.Errorf("the other account's NextToken: %+v", got)
	}
	marker := a.must("ListPolicies", "MaxItems", "1").field(t, "Marker")
	if got := b.call("ListPolicies", "Marker", marker); got.code() != "InvalidParameter.Marker" {
		t.Errorf("the other account's Marker: %+v", got)
	}
}

// normal is a body without what differs between any two answers: the ID of the request, the name that was asked for, and
// times.
func normal(a answer, names ...string) string {
	body := strings.ReplaceAll(a.body, a.header.Get("x-acs-request-id"), "REQUEST")
	for _, name := range names {
		if name != "" {
			quoted, _ := json.Marshal(name) // a text
			body = strings.ReplaceAll(body, strings.Trim(string(quoted), `"`), "NAME")
			body = strings.ReplaceAll(body, name, "NAME")
		}
	}
	for _, field := range []string{`"InvokeId":"`, `"ActivationId":"`, `"ActivationCode":"`, `"UpdateDate":"`, `"CreationTime":"`, `"Time":"`} {
		if before, rest, ok := strings.Cut(body, field); ok {
			_, after, _ := strings.Cut(rest, `"`)
			body = before + field + `"` + after
		}
	}
	return body
}

// inventory is what an account has, as it sees it.
func (c *caller) inventory(w world) string {
	var b strings.Builder
	for _, q := range [][]string{
		{"DescribeSendFileResults", "InvokeId", w["delivery"]},
		{"DescribeManagedInstances"},
		{"DescribeActivations"},
		{"ListTagResources", "ResourceType", "instance"},
		{"ListUsers"},
		{"ListGroups"},
		{"ListUsersForGroup", "GroupName", w["userGroup"]},
		{"GetPolicy", "PolicyType", "Custom", "PolicyName", w["policy"]},
		{"ListPoliciesForUser", "UserName", w["user"]},
		{"ListAccessKeys", "UserName", w["user"]},
		{"ListResourceGroups"},
	} {
		a := c.must(q[0], q[1:]...)
		b.WriteString(q[0] + " " + strings.ReplaceAll(a.body, a.header.Get("x-acs-request-id"), "REQUEST") + "\n")
	}
	return b.String()
}

// enrolWith enrols a machine, whose agent never runs, and returns its ID.
func enrolWith(t *testing.T, s *testenv.Server, id, code string) string {
	t.Helper()
	status, err := agent.Enroll(t.Context(), agent.EnrollOptions{
		StateDir: filepath.Join(t.TempDir(), "state"), Server: s.Key.Endpoint, CA: string(s.CA), Version: "test",
		ActivationID: id, ActivationCode: code,
	})
	if err != nil {
		t.Fatalf("enrol: %v", err)
	}
	return status.Instance
}
