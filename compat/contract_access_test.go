// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"time"

	"github.com/openwaybill/waybill/internal/testenv"
)

const everything = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

func (c *contract) tags(f *fleet) {
	k := f.root
	k.ok("TagResources", "all parameters", params{
		"ResourceType": "instance", "ResourceId": list(f.till, f.silent), "Tag": list(
			params{"Key": "shop", "Value": "7"}, params{"Key": "floor", "Value": "2"},
		),
	}, nil)
	k.ok("TagResources", "activation", params{
		"ResourceType": "activation", "ResourceId": list(f.used), "Tag": oneTag("shop", "7"),
	}, nil)
	k.ok("TagResources", "invocation", params{
		"ResourceType": "invocation", "ResourceId": list(f.delivery), "Tag": oneTag("shop", "7"),
	}, nil)
	k.ok("ListTagResources", "by tag", params{
		"ResourceType": "instance", "ResourceId": list(f.till, f.silent), "Tag": oneTag("shop", "7"),
	}, want{"TagResources.TagResource.#": 5, "TagResources.TagResource.0.ResourceType": "instance"})
	k.ok("UntagResources", "by key", params{
		"ResourceType": "managedinstance", "ResourceId": list(f.till, f.silent), "TagKey": list("floor"), "All": false,
	}, nil)
	k.ok("UntagResources", "all tags", params{"ResourceType": "instance", "ResourceId": list(f.silent), "All": true}, nil)
	k.ok("ListTagResources", "one resource", params{"ResourceType": "instance", "ResourceId": list(f.till)}, want{
		"TagResources.TagResource.#": 2, "NextToken": "",
	})
	k.ok("ListTagResources", "a delivery", params{"ResourceType": "invocation", "ResourceId": list(f.delivery)}, want{
		"TagResources.TagResource.#": 2, "TagResources.TagResource.0.ResourceId": f.delivery,
	})

	// A page has 50 rows.
	full := make([]any, 3)
	for i := range full {
		full[i] = k.must("CreateActivation", params{"Tag": manyTags(20)}).text("ActivationId")
	}
	page := k.ok("ListTagResources", "first page", params{"ResourceType": "activation", "ResourceId": full}, want{
		"TagResources.TagResource.#": 50,
	})
	k.ok("ListTagResources", "next page", params{
		"ResourceType": "activation", "ResourceId": full, "NextToken": page.text("NextToken"),
	}, want{"TagResources.TagResource.#": 10, "NextToken": ""})
	k.refuse("TagResources", "OperationDenied.QuotaExceed", "", params{
		"ResourceType": "activation", "ResourceId": full, "Tag": oneTag("one-more", "v"),
	}, "")
	for _, op := range []string{"TagResources", "UntagResources"} {
		k.refuse(op, "InvalidResourceId.NotFound", "", params{
			"ResourceType": "instance", "ResourceId": list(f.till, "mi-none"), "Tag": oneTag("k", "v"), "TagKey": list("k"),
		}, "")
		k.refuse(op, "MissingParameter.Tags", "", params{"ResourceType": "instance", "ResourceId": list(f.till)}, "")
		k.refuse(op, "MissingParameter.ResourceIds", "", params{"ResourceType": "instance"}, "")
	}
	k.refuse("UntagResources", "NumberExceed.Tags", "", params{
		"ResourceType": "instance", "ResourceId": list(f.till), "TagKey": copies(21, "key-%d"),
	}, "")
	k.refuse("UntagResources", "InvalidParameter", "", params{
		"ResourceType": "instance", "ResourceId": list(f.till), "All": "perhaps",
	}, "All")
}

func (c *contract) users(f *fleet) {
	k := f.root
	k.ok("CreateUser", "all parameters", params{"UserName": "ann", "DisplayName": "Ann 安", "Comments": "runs the tills"}, want{
		"User.UserName": "ann", "User.DisplayName": "Ann 安", "User.Comments": "runs the tills",
	})
	k.ok("CreateUser", "name alone", params{"UserName": "kim"}, want{"User.DisplayName": "kim"})
	k.ok("GetUser", "all parameters", params{"UserName": "ann"}, want{"User.UserName": "ann"})
	k.ok("UpdateUser", "all parameters", params{"UserName": "kim", "NewDisplayName": "Kim", "NewComments": "looks"}, want{
		"User.DisplayName": "Kim", "User.Comments": "looks",
	})
	page := k.ok("ListUsers", "first page", params{"MaxItems": 1}, want{"Users.User.#": 1, "IsTruncated": true, "Users.User.0.UserName": "ann"})
	k.ok("ListUsers", "next page", params{"MaxItems": 1, "Marker": page.text("Marker")}, want{
		"Users.User.0.UserName": "kim", "IsTruncated": false,
	})
	k.refuse("CreateUser", "EntityAlreadyExists.User", "", params{"UserName": "ANN"}, "")

	k.ok("CreateGroup", "all parameters", params{"GroupName": "staff", "Comments": "everybody"}, want{
		"Group.GroupName": "staff", "Group.Comments": "everybody",
	})
	k.ok("CreateGroup", "name alone", params{"GroupName": "empty"}, want{"Group.GroupName": "empty"})
	k.ok("GetGroup", "all parameters", params{"GroupName": "staff"}, want{"Group.GroupName": "staff"})
	page = k.ok("ListGroups", "first page", params{"MaxItems": 1}, want{"Groups.Group.#": 1, "IsTruncated": true})
	k.ok("ListGroups", "next page", params{"MaxItems": 1, "Marker": page.text("Marker")}, want{
		"Groups.Group.0.GroupName": "staff", "IsTruncated": false,
	})
	k.refuse("CreateGroup", "EntityAlreadyExists.Group", "", params{"GroupName": "Staff"}, "")

	for _, name := range []string{"ann", "kim"} {
		k.ok("AddUserToGroup", "all parameters, "+name, params{"UserName": name, "GroupName": "staff"}, nil)
	}
	k.refuse("AddUserToGroup", "EntityAlreadyExists.User.Group", "", params{"UserName": "ann", "GroupName": "staff"}, "")
	page = k.ok("ListUsersForGroup", "first page", params{"GroupName": "staff", "MaxItems": 1}, want{
		"Users.User.#": 1, "IsTruncated": true,
	})
	k.ok("ListUsersForGroup", "next page", params{"GroupName": "staff", "MaxItems": 1, "Marker": page.text("Marker")}, want{
		"Users.User.0.UserName": "kim", "IsTruncated": false,
	})
	k.ok("ListGroupsForUser", "all parameters", params{"UserName": "ann"}, want{
		"Groups.Group.#": 1, "Groups.Group.0.GroupName": "staff",
	})
	k.refuse("DeleteUser", "DeleteConflict.User.Group", "", params{"UserName": "kim"}, "")
	k.refuse("DeleteGroup", "DeleteConflict.Group.User", "", params{"GroupName": "staff"}, "")
	k.ok("RemoveUserFromGroup", "all parameters", params{"UserName": "kim", "GroupName": "staff"}, nil)
	k.refuse("RemoveUserFromGroup", "EntityNotExist.User.Group", "", params{"UserName": "kim", "GroupName": "staff"}, "")

	k.must("CreateUser", params{"UserName": "gone"})
	k.ok("DeleteUser", "all parameters", params{"UserName": "gone"}, nil)
	k.ok("DeleteGroup", "all parameters", params{"GroupName": "empty"}, nil)
	for i := range 50 {
		name := fmt.Sprintf("crew-%d", i)
		k.must("CreateGroup", params{"GroupName": name})
		k.must("AddUserToGroup", params{"GroupName": name, "UserName": "kim"})
	}
	k.refuse("AddUserToGroup", "LimitExceeded.User.Group", "", params{"UserName": "kim", "GroupName": "staff"}, "")
}

// newKey makes an access key for a user and returns who calls with it.
func (k *caller) newKey(user string) (id string, holder *caller) {
	key := k.must("CreateAccessKey", params{"UserName": user})
	id = key.text("AccessKey.AccessKeyId")
	return id, k.with(id, key.text("AccessKey.AccessKeySecret"), "")
}

func (c *contract) keys(f *fleet) {
	k := f.root
	key := k.ok("CreateAccessKey", "all parameters", params{"UserName": "ann"}, want{"AccessKey.Status": "Active"})
	f.annKey = key.text("AccessKey.AccessKeyId")
	f.ann = k.with(f.annKey, key.text("AccessKey.AccessKeySecret"), "")
	_, f.kim = k.newKey("kim")
	f.ann.ok("GetCallerIdentity", "of a user", nil, want{"IdentityType": "RAMUser"})
	k.ok("GetCallerIdentity", "of an account", nil, want{"IdentityType": "Account"})

	k.ok("ListAccessKeys", "all parameters", params{"UserName": "ann"}, want{
		"AccessKeys.AccessKey.#": 1, "AccessKeys.AccessKey.0.AccessKeyId": f.annKey,
	})
	k.ok("ListAccessKeys", "one's own", nil, want{"AccessKeys.AccessKey.0.AccessKeyId": k.access.ID})
	last := k.ok("GetAccessKeyLastUsed", "all parameters", params{"UserName": "ann", "UserAccessKeyId": f.annKey}, nil)
	if date := last.text("AccessKeyLastUsed.LastUsedDate"); date != "" && !timestamp.MatchString(date) {
		c.t.Errorf("last used at %q", date)
	}
	spare := k.must("CreateAccessKey", params{"UserName": "kim"}).text("AccessKey.AccessKeyId")
	k.ok("UpdateAccessKey", "all parameters", params{"UserName": "kim", "UserAccessKeyId": spare, "Status": "Inactive"}, nil)
	k.ok("DeleteAccessKey", "all parameters", params{"UserName": "kim", "UserAccessKeyId": spare}, nil)
	for _, op := range []string{"UpdateAccessKey", "DeleteAccessKey", "GetAccessKeyLastUsed"} {
		p := params{"UserName": "kim", "UserAccessKeyId": spare}
		if op == "UpdateAccessKey" {
			p["Status"] = "Active"
		}
		k.refuse(op, "EntityNotExist.User.AccessKey", "", p, "")
	}
	k.refuse("UpdateAccessKey", "Operation.Forbidden", "the key of the request", params{
		"UserAccessKeyId": k.access.ID, "Status": "Inactive",
	}, "")
	k.refuse("DeleteAccessKey", "Operation.Forbidden", "the key of the request", params{"UserAccessKeyId": k.access.ID}, "")
	k.refuse("DeleteUser", "DeleteConflict.User.AccessKey", "", params{"UserName": "kim"}, "")

	issued := k.ok("GetSessionToken", "all parameters", params{"DurationSeconds": 900, "Policy": everything}, nil)
	at := func(field string) string { return issued.text("Credentials." + field) }
	f.temporary = k.with(at("AccessKeyId"), at("AccessKeySecret"), at("SecurityToken"))
	for range ways { // with its token in all the places that clients put it
		f.temporary.must("GetCallerIdentity", nil)
	}
	k.refuse("GetSessionToken", "InvalidParameter.DurationSeconds", "zero", params{"DurationSeconds": 0}, "")
	k.refuse("GetSessionToken", "InvalidParameter.DurationSeconds", "too long", params{"DurationSeconds": 43_201}, "")
}

func (c *contract) policies(f *fleet) {
	k := f.root
	till := `{"Version":"1","Statement":[{"Effect":"Allow","Action":"ecs:SendFile","Resource":"*",` +
		`"Condition":{"StringEquals":{"acs:ResourceTag/env":["prod"],"acs:RequestTag/why":["test"]},` +
		`"IpAddress":{"acs:SourceIp":["192.0.2.0/24"]},"Bool":{"acs:SecureTransport":["false"]},` +
		`"DateLessThan":{"acs:CurrentTime":["2030-01-01T00:00:00Z"]}}}]}`
	k.ok("CreatePolicy", "all parameters", params{"PolicyName": "tills", "PolicyDocument": everything, "Description": "for tills"}, want{
		"Policy.PolicyName": "tills", "Policy.PolicyType": "Custom", "Policy.Description": "for tills", "Policy.DefaultVersion": "v1",
	})
	k.ok("CreatePolicyVersion", "all parameters", params{"PolicyName": "tills", "PolicyDocument": till, "SetAsDefault": true}, want{
		"PolicyVersion.VersionId": "v2", "PolicyVersion.IsDefaultVersion": true, "PolicyVersion.PolicyDocument": till,
	})
	k.ok("GetPolicy", "all parameters", params{"PolicyType": "Custom", "PolicyName": "tills"}, want{
		"Policy.DefaultVersion": "v2", "DefaultPolicyVersion.PolicyDocument": till,
	})
	k.ok("GetPolicy", "of the system", params{"PolicyType": "System", "PolicyName": "AdministratorAccess"}, want{
		"Policy.PolicyType": "System", "DefaultPolicyVersion.VersionId": "v1",
	})
	k.must("CreatePolicy", params{"PolicyName": "spare", "PolicyDocument": everything})
	page := k.ok("ListPolicies", "first page", params{"PolicyType": "Custom", "MaxItems": 1}, want{
		"Policies.Policy.#": 1, "IsTruncated": true,
	})
	k.ok("ListPolicies", "next page", params{"PolicyType": "Custom", "MaxItems": 1, "Marker": page.text("Marker")}, want{
		"Policies.Policy.0.PolicyName": "tills", "IsTruncated": false,
	})
	k.ok("ListPolicies", "of both types", nil, want{
		"Policies.Policy.#": 5, "Policies.Policy.0.PolicyType": "System", "Policies.Policy.4.PolicyName": "tills",
	})
	k.ok("DeletePolicy", "all parameters", params{"PolicyName": "spare"}, nil)
	for _, name := range []string{"tills", "AdministratorAccess"} {
		k.refuse("CreatePolicy", "EntityAlreadyExists.Policy", name, params{"PolicyName": name, "PolicyDocument": everything}, "")
	}
	for _, op := range []string{"CreatePolicyVersion", "DeletePolicy"} {
		k.refuse(op, "Operation.Forbidden", "a system policy", params{
			"PolicyName": "AdministratorAccess", "PolicyDocument": everything, "SetAsDefault": true,
		}, "")
	}
	k.refuse("CreatePolicyVersion", "InvalidParameter", "", params{
		"PolicyName": "tills", "PolicyDocument": everything, "SetAsDefault": false,
	}, "SetAsDefault")

	toKim := params{"PolicyType": "Custom", "PolicyName": "tills", "UserName": "kim"}
	toStaff := params{"PolicyType": "Custom", "PolicyName": "tills", "GroupName": "staff"}
	k.ok("AttachPolicyToUser", "all parameters", toKim, nil)
	k.refuse("AttachPolicyToUser", "EntityAlreadyExists.User.Policy", "", toKim, "")
	k.refuse("DeletePolicy", "DeleteConflict.Policy.User", "", params{"PolicyName": "tills"}, "")
	k.ok("AttachPolicyToGroup", "all parameters", toStaff, nil)
	k.refuse("AttachPolicyToGroup", "EntityAlreadyExists.Group.Policy", "", toStaff, "")
	k.ok("ListPoliciesForUser", "all parameters", params{"UserName": "kim"}, want{
		"Policies.Policy.#": 1, "Policies.Policy.0.PolicyName": "tills", "Policies.Policy.0.DefaultVersion": "v2",
	})
	k.ok("ListPoliciesForGroup", "all parameters", params{"GroupName": "staff"}, want{
		"Policies.Policy.#": 1, "Policies.Policy.0.PolicyName": "tills",
	})
	k.ok("ListEntitiesForPolicy", "all parameters", params{"PolicyType": "Custom", "PolicyName": "tills"}, want{
		"Users.User.0.UserName": "kim", "Groups.Group.0.GroupName": "staff",
	})
	question := params{
		"UserName": "kim", "PolicyAction": "ecs:SendFile", "Resource": f.till, "ResourceRegion": testenv.Region,
		"RequestTag": oneTag("why", "test"), "RequestSourceIp": "192.0.2.7", "CurrentTime": "2029-12-31T23:59:59Z", "Secure": false,
	}
	k.ok("SimulatePolicy", "all parameters", question, want{
		"Decision": "Allow", "PolicyType": "Custom", "PolicyName": "tills", "Statement": 1, "ResourceTags.0.TagKey": "env",
		"Resource": fmt.Sprintf("acs:ecs:%s:%s:instance/%s", testenv.Region, f.account(), f.till),
	})
	question["Secure"] = true
	k.ok("SimulatePolicy", "nothing allows it", question, want{"Decision": "ImplicitDeny", "Statement": 0})
	for _, name := range []string{"CurrentTime", "RequestSourceIp", "Secure"} {
		k.refuse("SimulatePolicy", "InvalidParameter", name, params{
			"UserName": "kim", "PolicyAction": "ecs:SendFile", "Resource": "*", name: "perhaps",
		}, name)
	}
	k.refuse("SimulatePolicy", "InvalidInstance.NotFound", "", params{
		"UserName": "kim", "PolicyAction": "ecs:SendFile", "Resource": "mi-none",
	}, "")
	k.must("CreateUser", params{"UserName": "bound"})
	k.must("AttachPolicyToUser", params{"PolicyType": "System", "PolicyName": "AdministratorAccess", "UserName": "bound"})
	k.refuse("DeleteUser", "DeleteConflict.User.Policy", "", params{"UserName": "bound"}, "")
	k.must("CreateGroup", params{"GroupName": "bound"})
	k.must("AttachPolicyToGroup", params{"PolicyType": "System", "PolicyName": "AdministratorAccess", "GroupName": "bound"})
	k.refuse("DeleteGroup", "DeleteConflict.Group.Policy", "", params{"GroupName": "bound"}, "")

	k.ok("DetachPolicyFromUser", "all parameters", toKim, nil)
	k.refuse("DetachPolicyFromUser", "EntityNotExist.User.Policy", "", toKim, "")
	k.refuse("DeletePolicy", "DeleteConflict.Policy.Group", "", params{"PolicyName": "tills"}, "")
	k.ok("DetachPolicyFromGroup", "all parameters", toStaff, nil)
	k.refuse("DetachPolicyFromGroup", "EntityNotExist.Group.Policy", "", toStaff, "")
}

// account is the ID of the account.
func (f *fleet) account() string { return f.root.must("GetCallerIdentity", nil).text("AccountId") }

func (c *contract) audit(f *fleet) {
	k := f.root
	k.must("AttachPolicyToUser", params{"PolicyType": "System", "PolicyName": "AdministratorAccess", "UserName": "ann"})
	var requests []string
	for range 2 {
		sent := f.ann.must("SendFile", params{"InstanceId": list(f.silent), "Name": "f", "TargetDir": "/srv", "Content": "x"})
		requests = append(requests, sent.text("RequestId"))
	}
	all := params{
		"StartTime": "2020-01-01T00:00:00Z", "EndTime": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		"EventAction": "ecs:SendFile", "Actor": "ann", "UserAccessKeyId": f.annKey, "Result": "OK", "OldestFirst": true,
		"MaxResults": 1,
	}
	page := k.ok("ListAuditRecords", "first page", all, want{
		"AuditRecords.AuditRecord.#": 1, "AuditRecords.AuditRecord.0.RequestId": requests[0],
		"AuditRecords.AuditRecord.0.ActorType": "User", "AuditRecords.AuditRecord.0.Actor": "ann",
		"AuditRecords.AuditRecord.0.Action": "ecs:SendFile", "AuditRecords.AuditRecord.0.RegionId": testenv.Region,
		"AuditRecords.AuditRecord.0.Resources.#": 1, "AuditRecords.AuditRecord.0.SourceIp": "127.0.0.1",
	})
	all["NextToken"] = page.text("NextToken")
	k.ok("ListAuditRecords", "next page", all, want{"AuditRecords.AuditRecord.0.RequestId": requests[1], "NextToken": ""})
	k.ok("ListAuditRecords", "one request", params{"EventRequestId": requests[0]}, want{
		"AuditRecords.AuditRecord.#": 1, "AuditRecords.AuditRecord.0.AccessKeyId": f.annKey,
	})
	for _, name := range []string{"StartTime", "EndTime", "OldestFirst"} {
		k.refuse("ListAuditRecords", "InvalidParameter", name, params{name: "yesterday"}, name)
	}
	k.ok("VerifyAuditRecords", "nothing is wrong", nil, want{"Valid": true, "Problem": "", "FirstSequence": 1})
}
