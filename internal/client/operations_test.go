// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/client/clienttest"
)

func checkOperations(t *testing.T, version string, operations []operation) {
	t.Helper()
	for _, o := range operations {
		t.Run(o.action, func(t *testing.T) {
			t.Parallel()
			checkOperation(t, version, o)
		})
	}
}

func TestKeyOperations(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	checkOperations(t, "2015-05-01", []operation{
		{
			action: "ListAccessKeys",
			call:   func(c *client.Client) (any, error) { return c.ListUserAccessKeys(ctx, "alice") },
			sends:  map[string]string{"UserName": "alice"},
			answer: object{"AccessKeys": object{"AccessKey": []object{{"AccessKeyId": "K", "LastUsedDate": "u"}}}},
			want:   []client.AccessKey{{ID: "K", LastUsed: "u"}},
		},
		{
			action: "CreateAccessKey",
			call:   func(c *client.Client) (any, error) { return c.CreateAccessKey(ctx, "alice") },
			sends:  map[string]string{"UserName": "alice"},
			answer: object{"AccessKey": object{"AccessKeyId": "K", "AccessKeySecret": "S"}},
			want:   client.AccessKey{ID: "K", Secret: "S"},
		},
		{
			action: "UpdateAccessKey",
			call: func(c *client.Client) (any, error) {
				return nil, c.UpdateAccessKey(ctx, "alice", "K", client.KeyActive)
			},
			sends: map[string]string{"UserName": "alice", "UserAccessKeyId": "K", "Status": "Active"},
		},
		{
			action: "DeleteAccessKey",
			call:   func(c *client.Client) (any, error) { return nil, c.DeleteAccessKey(ctx, "alice", "K") },
			sends:  map[string]string{"UserName": "alice", "UserAccessKeyId": "K"},
		},
		{
			action: "GetAccessKeyLastUsed",
			call:   func(c *client.Client) (any, error) { return c.GetAccessKeyLastUsed(ctx, "alice", "K") },
			sends:  map[string]string{"UserName": "alice", "UserAccessKeyId": "K"},
			answer: object{"AccessKeyLastUsed": object{"LastUsedDate": "u"}},
			want:   "u",
		},
	})
	checkOperations(t, "2015-04-01", []operation{
		{
			action: "GetCallerIdentity",
			call:   func(c *client.Client) (any, error) { return c.GetCallerIdentity(ctx) },
			sends:  map[string]string{},
			answer: object{
				"AccountId": "1", "UserId": "2", "Arn": "acs:ram::1:user/alice", "IdentityType": "RAMUser", "PrincipalId": "2",
			},
			want: client.Identity{
				Account: "1", UserID: "2", ARN: "acs:ram::1:user/alice", Type: "RAMUser", PrincipalID: "2",
			},
		},
		{
			action: "GetSessionToken",
			call: func(c *client.Client) (any, error) {
				return c.GetSessionToken(ctx, 1500*time.Millisecond, "{}")
			},
			sends: map[string]string{"DurationSeconds": "2", "Policy": "{}"},
			answer: object{"Credentials": object{
				"AccessKeyId": "STS.K", "AccessKeySecret": "S", "SecurityToken": "T", "Expiration": "e",
			}},
			want: client.TemporaryKey{ID: "STS.K", Secret: "S", Token: "T", Expires: "e"},
		},
	})
}

func TestUserOperations(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	empty := ""
	userJSON := object{
		"UserId": "2", "UserName": "alice", "DisplayName": "Alice", "Comments": "c", "CreateDate": "d", "UpdateDate": "u",
	}
	user := client.User{ID: "2", Name: "alice", DisplayName: "Alice", Comments: "c", Created: "d", Updated: "u"}
	groupJSON := object{"GroupId": "g-1", "GroupName": "ops", "Comments": "c", "CreateDate": "d", "UpdateDate": "u"}
	group := client.UserGroup{ID: "g-1", Name: "ops", Comments: "c", Created: "d", Updated: "u"}
	member := map[string]string{"UserName": "alice", "GroupName": "ops"}
	page := client.Paging{MaxResults: 7, NextToken: "m"}

	checkOperations(t, "2015-05-01", []operation{
		{
			action: "CreateUser",
			call: func(c *client.Client) (any, error) {
				return c.CreateUser(ctx, client.CreateUserRequest{Name: "alice", DisplayName: "Alice", Comments: "c"})
			},
			sends:  map[string]string{"UserName": "alice", "DisplayName": "Alice", "Comments": "c"},
			answer: object{"User": userJSON},
			want:   user,
		},
		{
			action: "GetUser",
			call:   func(c *client.Client) (any, error) { return c.GetUser(ctx, "alice") },
			sends:  map[string]string{"UserName": "alice"},
			answer: object{"User": userJSON},
			want:   user,
		},
		{
			action: "UpdateUser",
			call: func(c *client.Client) (any, error) {
				return c.UpdateUser(ctx, client.UpdateUserRequest{Name: "alice", Comments: &empty})
			},
			sends:  map[string]string{"UserName": "alice", "NewComments": ""},
			answer: object{"User": userJSON},
			want:   user,
		},
		{
			action: "DeleteUser",
			call:   func(c *client.Client) (any, error) { return nil, c.DeleteUser(ctx, "alice") },
			sends:  map[string]string{"UserName": "alice"},
		},
		{
			action: "ListUsers",
			call:   func(c *client.Client) (any, error) { return c.ListUsers(ctx, page) },
			sends:  map[string]string{"MaxItems": "7", "Marker": "m"},
			answer: object{"IsTruncated": true, "Marker": "n", "Users": object{"User": []object{userJSON}}},
			want:   client.Page[client.User]{Items: []client.User{user}, NextToken: "n"},
		},
		{
			action: "CreateGroup",
			call:   func(c *client.Client) (any, error) { return c.CreateGroup(ctx, "ops", "c") },
			sends:  map[string]string{"GroupName": "ops", "Comments": "c"},
			answer: object{"Group": groupJSON},
			want:   group,
		},
		{
			action: "GetGroup",
			call:   func(c *client.Client) (any, error) { return c.GetGroup(ctx, "ops") },
			sends:  map[string]string{"GroupName": "ops"},
			answer: object{"Group": groupJSON},
			want:   group,
		},
		{
			action: "DeleteGroup",
			call:   func(c *client.Client) (any, error) { return nil, c.DeleteGroup(ctx, "ops") },
			sends:  map[string]string{"GroupName": "ops"},
		},
		{
			action: "ListGroups",
			call:   func(c *client.Client) (any, error) { return c.ListGroups(ctx, page) },
			sends:  map[string]string{"MaxItems": "7", "Marker": "m"},
			// Only IsTruncated says that there is more.
			answer: object{"IsTruncated": false, "Marker": "n", "Groups": object{"Group": []object{groupJSON}}},
			want:   client.Page[client.UserGroup]{Items: []client.UserGroup{group}},
		},
		{
			action: "AddUserToGroup",
			call:   func(c *client.Client) (any, error) { return nil, c.AddUserToGroup(ctx, "alice", "ops") },
			sends:  member,
		},
		{
			action: "RemoveUserFromGroup",
			call:   func(c *client.Client) (any, error) { return nil, c.RemoveUserFromGroup(ctx, "alice", "ops") },
			sends:  member,
		},
		{
			action: "ListUsersForGroup",
			call:   func(c *client.Client) (any, error) { return c.ListUsersForGroup(ctx, "ops", page) },
			sends:  map[string]string{"GroupName": "ops", "MaxItems": "7", "Marker": "m"},
			answer: object{"Users": object{"User": []object{userJSON}}},
			want:   client.Page[client.User]{Items: []client.User{user}},
		},
		{
			action: "ListGroupsForUser",
			call:   func(c *client.Client) (any, error) { return c.ListGroupsForUser(ctx, "alice") },
			sends:  map[string]string{"UserName": "alice"},
			answer: object{"Groups": object{"Group": []object{groupJSON}}},
			want:   []client.UserGroup{group},
		},
	})
}

func TestPolicyOperations(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	policyJSON := object{
		"PolicyName": "p", "PolicyType": "Custom", "Description": "d", "DefaultVersion": "v2", "AttachmentCount": 3,
		"CreateDate": "c", "UpdateDate": "u",
	}
	policy := client.Policy{
		Name: "p", Type: waybill.CustomPolicy, Description: "d", Version: "v2", Attachments: 3, Created: "c", Updated: "u",
	}
	versionJSON := object{"VersionId": "v2", "IsDefaultVersion": true, "PolicyDocument": "{}", "CreateDate": "c"}
	version := client.PolicyVersion{ID: "v2", Default: true, Document: "{}", Created: "c"}
	attachedJSON := object{"Policies": object{"Policy": []object{{
		"PolicyName": "p", "PolicyType": "Custom", "Description": "d", "DefaultVersion": "v2", "AttachDate": "a",
	}}}}
	attached := []client.AttachedPolicy{{
		Name: "p", Type: waybill.CustomPolicy, Description: "d", Version: "v2", Attached: "a",
	}}
	name := waybill.PolicyName{Type: waybill.CustomPolicy, Name: "p"}
	toUser := map[string]string{"PolicyType": "Custom", "PolicyName": "p", "UserName": "alice"}
	toGroup := map[string]string{"PolicyType": "Custom", "PolicyName": "p", "GroupName": "ops"}
	entities := client.PolicyEntities{}
	entities.Users.Items = []client.AttachedUser{{Name: "alice", Attached: "a"}}
	entities.Groups.Items = []client.AttachedGroup{{Name: "ops", Attached: "b"}}

	checkOperations(t, "2015-05-01", []operation{
		{
			action: "CreatePolicy",
			call:   func(c *client.Client) (any, error) { return c.CreatePolicy(ctx, "p", "{}", "d") },
			sends:  map[string]string{"PolicyName": "p", "PolicyDocument": "{}", "Description": "d"},
			answer: object{"Policy": policyJSON},
			want:   policy,
		},
		{
			action: "GetPolicy",
			call: func(c *client.Client) (any, error) {
				p, v, err := c.GetPolicy(ctx, name)
				return []any{p, v}, err
			},
			sends:  map[string]string{"PolicyType": "Custom", "PolicyName": "p"},
			answer: object{"Policy": policyJSON, "DefaultPolicyVersion": versionJSON},
			want:   []any{policy, version},
		},
		{
			action: "ListPolicies",
			call: func(c *client.Client) (any, error) {
				return c.ListPolicies(ctx, waybill.SystemPolicy, client.Paging{MaxResults: 7, NextToken: "m"})
			},
			sends:  map[string]string{"PolicyType": "System", "MaxItems": "7", "Marker": "m"},
			answer: object{"IsTruncated": true, "Marker": "n", "Policies": object{"Policy": []object{policyJSON}}},
			want:   client.Page[client.Policy]{Items: []client.Policy{policy}, NextToken: "n"},
		},
		{
			action: "CreatePolicyVersion",
			call:   func(c *client.Client) (any, error) { return c.CreatePolicyVersion(ctx, "p", "{}") },
			sends:  map[string]string{"PolicyName": "p", "PolicyDocument": "{}", "SetAsDefault": "true"},
			answer: object{"PolicyVersion": versionJSON},
			want:   version,
		},
		{
			action: "DeletePolicy",
			call:   func(c *client.Client) (any, error) { return nil, c.DeletePolicy(ctx, "p") },
			sends:  map[string]string{"PolicyName": "p"},
		},
		{
			action: "AttachPolicyToUser",
			call:   func(c *client.Client) (any, error) { return nil, c.AttachPolicyToUser(ctx, name, "alice") },
			sends:  toUser,
		},
		{
			action: "DetachPolicyFromUser",
			call:   func(c *client.Client) (any, error) { return nil, c.DetachPolicyFromUser(ctx, name, "alice") },
			sends:  toUser,
		},
		{
			action: "AttachPolicyToGroup",
			call:   func(c *client.Client) (any, error) { return nil, c.AttachPolicyToGroup(ctx, name, "ops") },
			sends:  toGroup,
		},
		{
			action: "DetachPolicyFromGroup",
			call:   func(c *client.Client) (any, error) { return nil, c.DetachPolicyFromGroup(ctx, name, "ops") },
			sends:  toGroup,
		},
		{
			action: "ListPoliciesForUser",
			call:   func(c *client.Client) (any, error) { return c.ListPoliciesForUser(ctx, "alice") },
			sends:  map[string]string{"UserName": "alice"},
			answer: attachedJSON,
			want:   attached,
		},
		{
			action: "ListPoliciesForGroup",
			call:   func(c *client.Client) (any, error) { return c.ListPoliciesForGroup(ctx, "ops") },
			sends:  map[string]string{"GroupName": "ops"},
			answer: attachedJSON,
			want:   attached,
		},
		{
			action: "ListEntitiesForPolicy",
			call:   func(c *client.Client) (any, error) { return c.ListEntitiesForPolicy(ctx, name) },
			sends:  map[string]string{"PolicyType": "Custom", "PolicyName": "p"},
			answer: object{
				"Users":  object{"User": []object{{"UserName": "alice", "AttachDate": "a"}}},
				"Groups": object{"Group": []object{{"GroupName": "ops", "AttachDate": "b"}}},
			},
			want: entities,
		},
		{
			action: "SimulatePolicy",
			call: func(c *client.Client) (any, error) {
				return c.SimulatePolicy(ctx, client.SimulatePolicyRequest{
					User: "alice", Action: "ecs:SendFile", Resource: "mi-1", Region: "cn-test",
					RequestTags: []waybill.Tag{{Key: "k", Value: "v"}}, SourceIP: netip.MustParseAddr("10.0.0.1"),
					Time: time.Date(2026, 11, 23, 12, 0, 0, 0, time.FixedZone("", 3600)), Insecure: true,
				})
			},
			sends: map[string]string{
				"UserName": "alice", "PolicyAction": "ecs:SendFile", "Resource": "mi-1", "ResourceRegion": "cn-test",
				"RequestTag.1.Key": "k", "RequestTag.1.Value": "v", "RequestSourceIp": "10.0.0.1",
				"CurrentTime": "2026-11-23T11:00:00Z", "Secure": "false",
			},
			answer: object{
				"Decision": "ExplicitDeny", "Resource": "acs:…", "ResourceTags": []object{{"TagKey": "k", "TagValue": "v"}},
				"PolicyType": "Custom", "PolicyName": "p", "Statement": 2, "Text": "{}",
			},
			want: client.Simulation{
				Decision: client.ExplicitDeny, Resource: "acs:…", ResourceTags: []client.Tag{{Key: "k", Value: "v"}},
				PolicyType: waybill.CustomPolicy, PolicyName: "p", Statement: 2, Text: "{}",
			},
		},
	})
}

func TestGroupOperations(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	groupJSON := object{
		"Id": "rg-1", "Name": "prod", "DisplayName": "Production", "AccountId": "1", "Status": "OK", "CreateDate": "c",
	}
	group := client.ResourceGroup{
		ID: "rg-1", Name: "prod", DisplayName: "Production", Account: "1", Status: "OK", Created: "c",
	}
	one := map[string]string{"ResourceGroupId": "rg-1"}
	answer := object{"ResourceGroup": groupJSON}
	checkOperations(t, "2020-03-31", []operation{
		{
			action: "CreateResourceGroup",
			call:   func(c *client.Client) (any, error) { return c.CreateResourceGroup(ctx, "prod", "Production") },
			sends:  map[string]string{"Name": "prod", "DisplayName": "Production"},
			answer: answer, want: group,
		},
		{
			action: "GetResourceGroup",
			call:   func(c *client.Client) (any, error) { return c.GetResourceGroup(ctx, "rg-1") },
			sends:  one, answer: answer, want: group,
		},
		{
			action: "UpdateResourceGroup",
			call:   func(c *client.Client) (any, error) { return c.UpdateResourceGroup(ctx, "rg-1", "P") },
			sends:  map[string]string{"ResourceGroupId": "rg-1", "NewDisplayName": "P"},
			answer: answer, want: group,
		},
		{
			action: "DeleteResourceGroup",
			call:   func(c *client.Client) (any, error) { return c.DeleteResourceGroup(ctx, "rg-1") },
			sends:  one, answer: answer, want: group,
		},
		{
			action: "ListResourceGroups",
			call: func(c *client.Client) (any, error) {
				return c.ListResourceGroups(ctx, client.ResourceGroupFilter{IDs: []string{"rg-1"}, Name: "prod"}, 3)
			},
			sends: map[string]string{
				"ResourceGroupIds.1": "rg-1", "Name": "prod", "PageNumber": "3", "PageSize": "100",
			},
			answer: object{"TotalCount": 201, "ResourceGroups": object{"ResourceGroup": []object{groupJSON}}},
			want:   client.Page[client.ResourceGroup]{Items: []client.ResourceGroup{group}, Total: 201},
		},
	})
}

func TestTagOperations(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	ids := []string{"mi-1", "mi-2"}
	checkOperations(t, "2014-05-26", []operation{
		{
			action: "TagResources",
			call: func(c *client.Client) (any, error) {
				return nil, c.TagResources(ctx, client.InstanceType, ids, []waybill.Tag{{Key: "k", Value: "v"}})
			},
			sends: map[string]string{
				"ResourceType": "instance", "ResourceId.1": "mi-1", "ResourceId.2": "mi-2", "Tag.1.Key": "k",
				"Tag.1.Value": "v", "RegionId": "cn-test",
			},
		},
		{
			action: "UntagResources",
			call: func(c *client.Client) (any, error) {
				return nil, c.UntagResources(ctx, client.ActivationType, []string{"A1"}, []string{"k"})
			},
			sends: map[string]string{
				"ResourceType": "activation", "ResourceId.1": "A1", "TagKey.1": "k", "RegionId": "cn-test",
			},
		},
		{
			action: "UntagResources",
			call: func(c *client.Client) (any, error) {
				return nil, c.UntagResources(ctx, client.DeliveryType, []string{"f-1"}, nil)
			},
			sends: map[string]string{
				"ResourceType": "invocation", "ResourceId.1": "f-1", "All": "true", "RegionId": "cn-test",
			},
		},
		{
			action: "ListTagResources",
			call: func(c *client.Client) (any, error) {
				return c.ListTagResources(ctx, client.TagFilter{
					Type: client.InstanceType, IDs: []string{"mi-1"}, Tags: []waybill.Tag{{Key: "k"}},
				}, client.Paging{NextToken: "t"})
			},
			sends: map[string]string{
				"ResourceType": "instance", "ResourceId.1": "mi-1", "Tag.1.Key": "k", "NextToken": "t", "RegionId": "cn-test",
			},
			answer: object{"NextToken": "u", "TagResources": object{"TagResource": []object{
				{"ResourceType": "instance", "ResourceId": "mi-1", "TagKey": "k", "TagValue": "v"},
			}}},
			want: client.Page[client.TagResource]{
				Items: []client.TagResource{{Type: client.InstanceType, ID: "mi-1", Key: "k", Value: "v"}}, NextToken: "u",
			},
		},
		{
			action: "JoinResourceGroup",
			call: func(c *client.Client) (any, error) {
				return nil, c.JoinResourceGroup(ctx, "rg-1", client.InstanceType, "mi-1")
			},
			sends: map[string]string{
				"ResourceGroupId": "rg-1", "ResourceType": "instance", "ResourceId": "mi-1", "RegionId": "cn-test",
			},
		},
	})
}

func TestAuditOperations(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	checkOperations(t, "2014-05-26", []operation{
		{
			action: "ListAuditRecords",
			call: func(c *client.Client) (any, error) {
				return c.ListAuditRecords(ctx, waybill.AuditFilter{
					From: at, To: at.Add(time.Hour), Action: "ecs:SendFile", Actor: "alice", AccessKey: "K", RequestID: "R",
					Result: "OK", OldFirst: true,
				}, client.Paging{MaxResults: 7, NextToken: "t"})
			},
			sends: map[string]string{
				"StartTime": "2026-11-23T12:00:00Z", "EndTime": "2026-11-23T13:00:00Z", "EventAction": "ecs:SendFile",
				"Actor": "alice", "UserAccessKeyId": "K", "EventRequestId": "R", "Result": "OK", "OldestFirst": "true",
				"MaxResults": "7", "NextToken": "t",
			},
			answer: object{"NextToken": "u", "AuditRecords": object{"AuditRecord": []object{{
				"Sequence": 7, "Time": "x", "AccountId": "1", "RequestId": "R", "ActorType": "User", "Actor": "alice",
				"AccessKeyId": "K", "SourceIp": "10.0.0.1", "Action": "ecs:SendFile", "RegionId": "cn-test",
				"Resources": []string{"acs:…"}, "Subject": "f-1", "Result": "OK", "PreviousHash": "p", "Hash": "h",
			}}}},
			want: client.Page[client.AuditRecord]{Items: []client.AuditRecord{{
				Sequence: 7, Time: "x", Account: "1", RequestID: "R", ActorType: waybill.UserActor, Actor: "alice",
				AccessKey: "K", SourceIP: "10.0.0.1", Action: "ecs:SendFile", Region: "cn-test", Resources: []string{"acs:…"},
				Subject: "f-1", Result: "OK", Previous: "p", Hash: "h",
			}}, NextToken: "u"},
		},
		{
			action: "VerifyAuditRecords",
			call:   func(c *client.Client) (any, error) { return c.VerifyAuditRecords(ctx) },
			sends:  map[string]string{},
			answer: object{
				"Valid": false, "Problem": "p", "RecordCount": 3, "FirstSequence": 1, "LastSequence": 3, "LastHash": "h",
			},
			want: client.AuditVerdict{Problem: "p", Records: 3, First: 1, Last: 3, LastHash: "h"},
		},
	})
}

func TestAuditRecordIsDecoded(t *testing.T) {
	t.Parallel()
	const hash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	good := client.AuditRecord{Sequence: 7, Time: "2026-11-23T12:00:00.120Z", Previous: hash, Hash: hash}
	r, err := good.Decode()
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 11, 23, 12, 0, 0, 120e6, time.UTC); !r.Time.Equal(want) || r.Hash[1] != 0x23 ||
		r.Previous != r.Hash {
		t.Errorf("decoded as %+v", r)
	}
	for name, spoil := range map[string]func(*client.AuditRecord){
		"time":          func(r *client.AuditRecord) { r.Time = "today" },
		"short hash":    func(r *client.AuditRecord) { r.Hash = "01" },
		"previous hash": func(r *client.AuditRecord) { r.Previous = "x" + hash[1:] },
	} {
		bad := good
		spoil(&bad)
		if _, err := bad.Decode(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestMarkedListingsFollowPages is for what is not paged by token.
func TestMarkedListingsFollowPages(t *testing.T) {
	t.Parallel()
	page := func(c clienttest.Call, list, one, id string) any {
		if c.Params["Marker"] == "" {
			return object{"IsTruncated": true, "Marker": "m", list: object{one: []object{{id: "1"}}}}
		}
		return object{"IsTruncated": false, list: object{one: []object{{id: "2"}}}}
	}
	users := func(c clienttest.Call) any { return page(c, "Users", "User", "UserName") }
	s := clienttest.NewServer(t, map[string]clienttest.Handler{
		"ListUsers": users, "ListUsersForGroup": users,
		"ListGroups":   func(c clienttest.Call) any { return page(c, "Groups", "Group", "GroupName") },
		"ListPolicies": func(c clienttest.Call) any { return page(c, "Policies", "Policy", "PolicyName") },
		"ListResourceGroups": func(c clienttest.Call) any {
			return object{"TotalCount": 101, "ResourceGroups": object{"ResourceGroup": []object{{"Id": c.Params["PageNumber"]}}}}
		},
		"ListTagResources": func(c clienttest.Call) any {
			if c.Params["NextToken"] == "" {
				return object{"NextToken": "t", "TagResources": object{"TagResource": []object{{"TagKey": "1"}}}}
			}
			return object{"TagResources": object{"TagResource": []object{{"TagKey": "2"}}}}
		},
		"ListAuditRecords": func(c clienttest.Call) any {
			if c.Params["NextToken"] == "" {
				return object{"NextToken": "t", "AuditRecords": object{"AuditRecord": []object{{"Actor": c.Params["MaxResults"]}}}}
			}
			return object{"AuditRecords": object{"AuditRecord": []object{{"Actor": "2"}}}}
		},
	})
	c, ctx := connect(t, s.Config()), t.Context()
	got := map[string][]string{}
	add := func(list, id string, err error) { got[list] = append(got[list], id+errText(err)) }
	for u, err := range c.Users(ctx) {
		add("users", u.Name, err)
	}
	for u, err := range c.UsersOf(ctx, "ops") {
		add("members", u.Name, err)
	}
	for g, err := range c.Groups(ctx) {
		add("groups", g.Name, err)
	}
	for p, err := range c.Policies(ctx, "") {
		add("policies", p.Name, err)
	}
	for g, err := range c.ResourceGroups(ctx, client.ResourceGroupFilter{}) {
		add("resource groups", g.ID, err)
	}
	for r, err := range c.ResourceTags(ctx, client.TagFilter{Type: client.InstanceType}) {
		add("tags", r.Key, err)
	}
	for r, err := range c.AuditRecords(ctx, waybill.AuditFilter{}) {
		add("audit", r.Actor, err)
	}
	both := []string{"1", "2"}
	want := map[string][]string{
		"users": both, "members": both, "groups": both, "policies": both, "resource groups": both, "tags": both,
		"audit": {"1000", "2"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
}

func TestDenialSaysWhatIsNotAllowed(t *testing.T) {
	t.Parallel()
	tests := []struct{ policyType, kind, why string }{
		{"AccountLevelIdentityBasedPolicy", "ImplicitDeny", "no policy allows it"},
		{"AccountLevelIdentityBasedPolicy", "ExplicitDeny", "a policy denies it"},
		{"SessionPolicy", "ImplicitDeny", "the policy of the temporary key does not allow it"},
		{"SessionPolicy", "ExplicitDeny", "the policy of the temporary key denies it"},
	}
	for _, tt := range tests {
		s := clienttest.NewServer(t, map[string]clienttest.Handler{
			"SendFile": func(clienttest.Call) any {
				return &client.Error{Status: 403, Code: "Forbidden.RAM", Message: "no.", Denied: &client.AccessDenied{
					PolicyType: tt.policyType, DisplayName: "alice", Type: tt.kind, Action: "ecs:SendFile",
					Resource: "acs:ecs:cn-test:1:instance/mi-1",
				}}
			},
		})
		_, err := connect(t, s.Config()).SendFile(t.Context(), client.SendFileRequest{})
		want := "SendFile refused: Forbidden.RAM: no (alice may not ecs:SendFile on acs:ecs:cn-test:1:instance/mi-1: " +
			tt.why + ") (request 473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E)"
		if errText(err) != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestThrottledCallSaysHowLongToWait(t *testing.T) {
	t.Parallel()
	s := clienttest.NewServer(t, map[string]clienttest.Handler{
		"DescribeRegions": func(clienttest.Call) any {
			return &client.Error{Status: 400, Code: "Throttling.User", RetryAfter: 1500 * time.Millisecond}
		},
	})
	_, err := connect(t, s.Config()).DescribeRegions(t.Context())
	if e, ok := errors.AsType[*client.Error](err); !ok || e.RetryAfter != 1500*time.Millisecond {
		t.Errorf("got %#v", err)
	}
}

func TestTransient(t *testing.T) {
	t.Parallel()
	handler := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	refusing := func(status int, code string) string {
		return handler(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			if _, err := w.Write([]byte(`{"Code":"` + code + `"}`)); err != nil {
				t.Error(err)
			}
		})
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name     string
		ctx      context.Context
		endpoint string
		want     bool
	}{
		{"server's trouble", t.Context(), refusing(500, "InternalError"), true},
		{"throttled", t.Context(), refusing(400, "Throttling.Api"), true},
		{"refused", t.Context(), refusing(403, "Forbidden.RAM"), false},
		{"a proxy without a server", t.Context(), refusing(502, ""), true},
		{"another site", t.Context(), refusing(404, ""), false},
		{"nothing listens", t.Context(), gone.URL, true},
		{"cut off", t.Context(), handler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(200)
		}), true},
		{"unknown issuer", t.Context(), clienttest.NewServer(t, nil).URL, false},
		{"canceled", canceled, gone.URL, false},
	}
	for _, tt := range tests {
		c := connect(t, client.Config{Endpoint: tt.endpoint, AccessKeyID: "a", AccessKeySecret: "b"})
		_, err := c.DescribeRegions(tt.ctx)
		if err == nil || client.Transient(err) != tt.want {
			t.Errorf("%s: %v: transient is %v", tt.name, err, !tt.want)
		}
	}
}
