// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"database/sql"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver of the server's database

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/api"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
)

// plain returns parameters with which an operation gets past everything but the question whether they mean anything.
func plain(op string) params {
	p := params{}
	for _, known := range table()[op].Parameters {
		name, isList := strings.CutSuffix(known.Name, ".N")
		if !known.Required && known.Limits != "required" {
			continue
		}
		value, ok := plainValues[name]
		if !ok {
			value = "none"
		}
		if len(known.Values) > 0 {
			value = known.Values[0]
		}
		p[name] = value
		if isList {
			p[name] = list(value)
		}
	}
	maps.Copy(p, plainExtras[op])
	return p
}

var (
	plainValues = map[string]string{
		"RegionId": testenv.Region, "InstanceId": "mi-none", "TargetDir": "/srv", "PolicyDocument": everything,
		"ContentDigest": waybill.FormatDigest([32]byte{}), "Size": "1", "SettingType": "AgentUpgradeConfig", "PolicyAction": "ecs:SendFile", "InstanceName": "till",
		"Url": "https://hooks.example.com",
	}
	plainExtras = map[string]params{
		"SendFile": {"InstanceId": list("mi-none"), "Content": "x"}, "PreviewSendFile": {"ResourceTag": oneTag("k", "v")},
		"TagResources":        {"ResourceId": list("mi-none"), "Tag": oneTag("k", "v")},
		"UntagResources":      {"ResourceId": list("mi-none"), "TagKey": list("k")},
		"CreatePolicyVersion": {"SetAsDefault": true},
		"AttachPolicyToUser":  {"PolicyType": "Custom"}, "DetachPolicyFromUser": {"PolicyType": "Custom"},
		"AttachPolicyToGroup": {"PolicyType": "Custom"}, "DetachPolicyFromGroup": {"PolicyType": "Custom"},
		"ReplayWebhookEvents": {"EventId": list("e-none")},
		"GetPolicy":           {"PolicyType": "Custom"}, "ListEntitiesForPolicy": {"PolicyType": "Custom"},
	}
)

// spoil returns plain parameters with one that is not.
func spoil(op, name string, value any) params {
	p := plain(op)
	p[name] = value
	return p
}

// wrong are parameters that every operation which lists the code refuses with it, unless the operation is in others.
var wrong = []struct {
	code, name string
	value      any
	others     []string
}{
	{code: "InvalidRegionId.NotFound", name: "RegionId", value: "mars-north-1"},
	{code: "MissingParameter.RegionId", name: "RegionId", value: ""},
	{code: "MissingParameter.ResourceType", name: "ResourceType", value: ""},
	{code: "InvalidResourceType.NotFound", name: "ResourceType", value: "spaceship"},
	{code: "NumberExceed.ResourceIds", name: "ResourceId", value: copies(51, "mi-%d")},
	{code: "InvalidParam.PageNumber", name: "PageNumber", value: 0},
	{code: "InvalidParam.PageSize", name: "PageSize", value: 101},
	{code: "InvalidParameter.MaxResults", name: "MaxResults", value: 1001},
	{code: "InvalidParameter.NextToken", name: "NextToken", value: "not-one-of-ours"},
	{code: "InvalidParameter.MaxItems", name: "MaxItems", value: 1001},
	{code: "InvalidParameter.Marker", name: "Marker", value: "not-one-of-ours"},
	{code: "NumberExceed.Tags", name: "Tag", value: manyTags(21), others: []string{"UntagResources"}},
	{code: "MissingParameter.TagKey", name: "Tag", value: list(params{"Value": "v"})},
	{code: "Duplicate.TagKey", name: "Tag", value: list(params{"Key": "k", "Value": "1"}, params{"Key": "k", "Value": "2"})},
	{code: "InvalidTagKey.Malformed", name: "Tag", value: oneTag("acs:k", "v")},
	{code: "InvalidTagValue.Malformed", name: "Tag", value: oneTag("k", "http://v")},
	{code: "InvalidParameter.PolicyType", name: "PolicyType", value: "Foreign"},
	{code: "InvalidParameter.Name.Length", name: "Name", value: longText(51)},
	{code: "InvalidParameter.Name.InvalidChars", name: "Name", value: "1st"},
	{code: "InvalidParameter.UserName.Length", name: "UserName", value: longText(65)},
	{code: "InvalidParameter.UserName.InvalidChars", name: "UserName", value: "a b"},
	{code: "InvalidParameter.GroupName.Length", name: "GroupName", value: longText(65)},
	{code: "InvalidParameter.GroupName.InvalidChars", name: "GroupName", value: "a b"},
	{code: "InvalidParameter.PolicyName.Length", name: "PolicyName", value: longText(129)},
	{code: "InvalidParameter.PolicyName.InvalidChars", name: "PolicyName", value: "a b"},
	{
		code: "InvalidParameter.DisplayName.Length", name: "DisplayName", value: longText(129),
		others: []string{"UpdateResourceGroup"},
	},
	{code: "InvalidParameter.Comments.Length", name: "Comments", value: longText(129)},
	{code: "InvalidParameter.PolicyDocument.Length", name: "PolicyDocument", value: longText(6145)},
	{code: "InvalidParameter.Description.Length", name: "Description", value: longText(1025), others: []string{"ModifyWebhook"}},
	{code: "InvalidParameter.Policy.Length", name: "Policy", value: longText(2049)},
	{code: "MalformedPolicyDocument", name: "PolicyDocument", value: "{}", others: []string{"GetSessionToken"}},
}

// wrongOf is the same for one operation each.
var wrongOf = []struct {
	op, code, name string
	value          any
	arg            string
}{
	{"UpdateResourceGroup", "InvalidParameter.DisplayName.Length", "NewDisplayName", longText(51), ""},
	{"GetSessionToken", "MalformedPolicyDocument", "Policy", "{}", ""},
	{"DescribeActivations", "InvalidParameter", "Tag.0.Key", "k", "Tag.0.Key"},
	{"DescribeCloudAssistantStatus", "InvalidParameter", "InstanceId.0", "mi-1", "InstanceId.0"},
	{"InstallCloudAssistant", "InvalidParameter", "InstanceId.0", "mi-1", "InstanceId.0"},
	{"DescribeInstanceStatus", "InvalidParameter", "InstanceId.0", "mi-1", "InstanceId.0"},
	{"TagResources", "InvalidParameter", "Tag.0.Key", "k", "Tag.0.Key"},
	{"ListTagResources", "InvalidParameter", "Tag.0.Key", "k", "Tag.0.Key"},
	{"ListResourceGroups", "InvalidParameter", "ResourceGroupIds", copies(101, "rg-%d"), "ResourceGroupIds"},
	{"GetSessionToken", "InvalidParameter", "DurationSeconds", "long", "DurationSeconds"},
	{"UpdateAccessKey", "InvalidParameter", "Status", "Sleepy", "Status"},
	{"ListAccessKeys", "EntityNotExist.User", "UserName", "nobody", ""},
	{"CreateAccessKey", "EntityNotExist.User", "UserName", "nobody", ""},
	{"GetAccessKeyLastUsed", "EntityNotExist.User", "UserName", "nobody", ""},
}

// absent says which parameter, if it names nothing, an operation answers a code for. Everything else it names is there.
var absent = map[string]string{
	"EntityNotExist.User":           "UserName",
	"EntityNotExist.Group":          "GroupName",
	"EntityNotExist.Policy":         "PolicyName",
	"EntityNotExists.ResourceGroup": "ResourceGroupId",
	"ActivationId.NotFound":         "ActivationId",
}

// faults sends what is wrong with requests of any operation.
func (c *contract) faults(f *fleet) {
	k := f.root
	there := params{"UserName": "kim", "GroupName": "staff", "PolicyName": "tills"}
	for _, o := range api.Operations() {
		lists := func(code string) bool {
			return o.Never[code] == "" && slices.ContainsFunc(o.Errors, func(f api.Fault) bool { return f.Code == code })
		}
		for _, p := range o.Parameters {
			if !p.Required {
				continue
			}
			name := strings.TrimSuffix(p.Name, ".N")
			code := "MissingParameter"
			if name == "InstanceId" {
				code = "MissingParam.InstanceId"
			}
			if lists(code) {
				without := plain(o.Name)
				delete(without, name)
				if name == "RegionId" {
					without[name] = "" // or it would be completed
				}
				k.refuse(o.Name, code, name, without, name)
			}
		}
		for _, w := range wrong {
			if lists(w.code) && !slices.Contains(w.others, o.Name) {
				name := w.name
				if name == "Tag" && o.Name == "SimulatePolicy" {
					name = "RequestTag"
				}
				if name == "Tag" && o.Name == "PreviewSendFile" {
					name = "ResourceTag"
				}
				k.refuse(o.Name, w.code, "", spoil(o.Name, name, w.value), "")
			}
		}
		for _, w := range wrongOf {
			if w.op == o.Name {
				k.refuse(o.Name, w.code, "", spoil(o.Name, w.name, w.value), w.arg)
			}
		}
		for _, code := range slices.Sorted(maps.Keys(absent)) {
			p := plain(o.Name)
			if _, named := p[absent[code]]; !lists(code) || !named {
				continue
			}
			for name, value := range there {
				if _, named := p[name]; named && name != absent[code] {
					p[name] = value
				}
			}
			k.refuse(o.Name, code, "", p, "")
		}
		// Temporary keys may not change who may do what.
		if lists("Operation.Forbidden") && o.Version != "2014-05-26" { // ECS has it for other reasons
			f.temporary.refuse(o.Name, "Operation.Forbidden", "a temporary key", plain(o.Name), "")
		}
	}
	for _, name := range []string{"NewDisplayName", "NewComments"} {
		k.refuse("UpdateUser", "InvalidParameter."+name+".Length", "", params{"UserName": "kim", name: longText(129)}, "")
	}
}

// quotas reaches the limits of an account, on a server that is content with little.
func (c *contract) quotas() {
	s := testenv.Start(c.t, func(cfg *server.Config) {
		l := &cfg.Control
		l.Users, l.UserGroups, l.Policies, l.Attachments, l.ResourceGroups, l.Webhooks.PerRegion = 1, 1, 1, 1, 1, 1
		l.AccessKeys, l.Activations.PerRegion, l.Instances, l.Limits.Targets = 1, 1, 1, 1
		l.Uploads = 1
	})
	k := c.root(s)
	k.must("CreateUser", params{"UserName": "ann"})
	k.refuse("CreateUser", "LimitExceeded.User", "", params{"UserName": "kim"}, "")
	k.must("CreateGroup", params{"GroupName": "staff"})
	k.refuse("CreateGroup", "LimitExceeded.Group", "", params{"GroupName": "others"}, "")
	k.must("CreatePolicy", params{"PolicyName": "all", "PolicyDocument": everything})
	k.refuse("CreatePolicy", "LimitExceeded.Policy", "", params{"PolicyName": "more", "PolicyDocument": everything}, "")
	system := params{"PolicyType": "System", "PolicyName": "AdministratorAccess", "UserName": "ann"}
	k.must("AttachPolicyToUser", params{"PolicyType": "Custom", "PolicyName": "all", "UserName": "ann"})
	k.refuse("AttachPolicyToUser", "LimitExceeded.User.Policy", "", system, "")
	k.must("AttachPolicyToGroup", params{"PolicyType": "Custom", "PolicyName": "all", "GroupName": "staff"})
	k.refuse("AttachPolicyToGroup", "LimitExceeded.Group.Policy", "", params{
		"PolicyType": "System", "PolicyName": "AdministratorAccess", "GroupName": "staff",
	}, "")
	k.must("CreateAccessKey", params{"UserName": "ann"})
	k.refuse("CreateAccessKey", "LimitExceeded.User.AccessKey", "", params{"UserName": "ann"}, "")
	k.must("CreateResourceGroup", params{"Name": "shops"})
	k.refuse("CreateResourceGroup", "LimitExceeded.ResourceGroup", "", params{"Name": "depots"}, "")
	k.must("CreateContentUpload", params{"ContentDigest": waybill.FormatDigest([32]byte{1}), "Size": 1})
	k.refuse("CreateContentUpload", "LimitExceeded.ContentUpload", "", params{"ContentDigest": waybill.FormatDigest([32]byte{2}), "Size": 1}, "")
	k.must("CreateWebhook", params{"Url": "https://hooks.example.com"})
	k.refuse("CreateWebhook", "WebhookCount.ExceedLimit", "", params{"Url": "https://hooks.example.com"}, "the account has 1 webhooks in this region already; delete one first")
	only := k.must("CreateActivation", nil).text("ActivationId")
	k.refuse("CreateActivation", "ActivationCount.ExceedLimit", "", nil, "1")
	k.must("DeleteActivation", params{"ActivationId": only})
	s.Enrol()
	for _, op := range []string{"SendFile", "PreviewSendFile"} {
		p := plain(op)
		delete(p, "InstanceId")
		delete(p, "ResourceTag")
		p["InstanceIds"] = jsonText("mi-1", "mi-2")
		k.refuse(op, "InstanceCount.ExceedLimit", "", p, "2 instances are meant, at most 1 are allowed")
	}
	k.refuse("CreateActivation", "ManagedInstanceCountExceedLimit", "", nil, "1")
}

// breakdowns are failures of the server. Their cause is its database, to which this test has a connection of its own.
func (c *contract) breakdowns() {
	s := testenv.Start(c.t)
	k := c.root(s)
	k.must("CreateUser", params{"UserName": "ann"})
	k.must("AttachPolicyToUser", params{"PolicyType": "System", "PolicyName": "AdministratorAccess", "UserName": "ann"})
	_, ann := k.newKey("ann")
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.Dir, "waybill.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		c.t.Fatal(err)
	}
	db.SetMaxOpenConns(1) // a PRAGMA is a connection's
	c.t.Cleanup(func() { db.Close() })
	exec := func(statement string) {
		c.t.Helper()
		if _, err := db.ExecContext(c.t.Context(), statement); err != nil {
			c.t.Fatalf("%s: %v", statement, err)
		}
	}
	without := func(table string, f func()) {
		exec("PRAGMA legacy_alter_table = ON") // the foreign keys of others stay with the name
		exec("ALTER TABLE " + table + " RENAME TO gone")
		f()
		exec("ALTER TABLE gone RENAME TO " + table)
	}
	internal := func(k *caller, op string) {
		for _, code := range []string{"InternalError", "InternalError.Dispatch"} {
			if slices.ContainsFunc(table()[op].Errors, func(f api.Fault) bool { return f.Code == code }) {
				k.refuse(op, code, "", plain(op), "")
			}
		}
	}
	// The table that says what users may do is not there.
	without("attachments", func() {
		for _, o := range api.Operations() {
			if o.Action != "" {
				internal(ann, o.Name)
			}
		}
	})
	without("users", func() { internal(ann, "GetCallerIdentity") })
	without("audit_records", func() { internal(k, "GetSessionToken") })
	// Without the keys nobody is known, so any operation is answered so.
	without("access_keys", func() {
		internal(k, "DescribeRegions")
		k.refuseGateway("InternalError", "", "DescribeRegions", nil)
	})

	// The database is slow, and the client gives up: the same table takes its time.
	exec("ALTER TABLE attachments RENAME TO kept")
	exec(`CREATE VIEW attachments AS SELECT * FROM kept WHERE (
		WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000000000) SELECT max(n) FROM c) > 0`)
	for _, op := range []string{"DescribeCloudAssistantStatus", "TagResources", "UntagResources", "ListTagResources"} {
		c.run(op+"/ServiceUnavailable", func(t *testing.T) { c.unavailable(t, ann, op, 500) })
	}
	c.run("gateway/ServiceUnavailable", func(t *testing.T) { c.unavailable(t, ann, "DescribeManagedInstances", 503) })
	exec("DROP VIEW attachments")
	exec("ALTER TABLE kept RENAME TO attachments")
	k.must("DescribeManagedInstances", nil)
}

// unavailable calls an operation for whose answer the client does not wait: see hangUp. If it hangs up too soon, before
// the operation has begun, it waits longer the next time.
func (c *contract) unavailable(t *testing.T, k *caller, op string, status int) {
	after := 100 * time.Millisecond
	var r *refusal
	testenv.Eventually(t, fmt.Sprintf("%s answered %d ServiceUnavailable", op, status), func() bool {
		cl := openCommon(t, between(t, k.access, nil, hangUp{after}), "GET", "JSON")
		after *= 2
		_, err := cl.call(op, complete(op, plain(op)))
		var ok bool
		if r, ok = err.(*refusal); !ok {
			t.Fatalf("%v; want it refused", err)
		}
		return r.Status == status
	})
	i := slices.IndexFunc(table()[op].Errors, func(f api.Fault) bool { return f.Code == "ServiceUnavailable" })
	if i < 0 {
		checkRefusal(t, "classic", r, gatewayFault(t, "ServiceUnavailable"), "")
		c.seen.refusal(t, "", "ServiceUnavailable")
		return
	}
	checkRefusal(t, "classic", r, table()[op].Errors[i], "")
	c.seen.refusal(t, op, "ServiceUnavailable")
}
