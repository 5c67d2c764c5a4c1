// SPDX-License-Identifier: Apache-2.0

package api

import (
	"maps"
	"slices"
)

// The APIs whose operations are offered, by their versions.
const (
	versionECS = "2014-05-26"
	versionRAM = "2015-05-01"
	versionSTS = "2015-04-01"
	versionRM  = "2020-03-31"
)

// services is what each version is called in actions and documents.
var services = map[string]string{
	versionECS: "ecs", versionRAM: "ram", versionSTS: "sts", versionRM: "resourcemanager",
}

// ARNs of what the operations work on (RAM action tables of ECS, RAM and Resource Manager).
const (
	arnInstance   = "acs:ecs:{RegionId}:{AccountId}:instance/{InstanceId}"
	arnInstances  = "acs:ecs:{RegionId}:{AccountId}:instance/*"
	arnActivation = "acs:ecs:{RegionId}:{AccountId}:activation/{ActivationId}"
	arnAnyCode    = "acs:ecs:{RegionId}:{AccountId}:activation/*"
	arnTagged     = "acs:ecs:{RegionId}:{AccountId}:{ResourceType}/{ResourceId}"
	arnSettings   = "acs:ecs:{RegionId}:{AccountId}:servicesettings/*"
	arnUser       = "acs:ram:*:{AccountId}:user/{UserName}"
	arnUsers      = "acs:ram:*:{AccountId}:user/*"
	arnUserGroup  = "acs:ram:*:{AccountId}:group/{GroupName}"
	arnUserGroups = "acs:ram:*:{AccountId}:group/*"
	arnPolicy     = "acs:ram:*:{PolicyOwner}:policy/{PolicyName}"
	arnPolicies   = "acs:ram:*:{AccountId}:policy/*"
	arnGroup      = "acs:ram:*:{AccountId}:resourcegroup/{ResourceGroupId}"
	arnGroups     = "acs:ram:*:{AccountId}:resourcegroup/*"
	arnServer     = "acs:waybill:*:{AccountId}:server/*"
	arnContents   = "acs:ecs:*:{AccountId}:content/*"
	arnWebhook    = "acs:waybill:{RegionId}:{AccountId}:webhook/{WebhookId}"
	arnWebhooks   = "acs:waybill:{RegionId}:{AccountId}:webhook/*"
	arnAudit      = "acs:waybill:*:{AccountId}:audit/*"
)

// Published codes that many operations share.
var (
	regionalErrors = []string{
		"MissingParameter", "InvalidParameter", "RegionId.ApiNotSupported", "Operation.Forbidden",
		"InvalidRegionId.NotFound", "InternalError.Dispatch",
	}
	tagErrors = []string{
		"NumberExceed.Tags", "MissingParameter.TagKey", "Duplicate.TagKey", "InvalidTagKey.Malformed",
		"InvalidTagValue.Malformed",
	}
	pagingErrors = []string{
		"InvalidParam.PageNumber", "InvalidParam.PageSize", "InvalidParameter.NextToken", "InvalidParameter.MaxResults",
	}
	ramErrors  = []string{"MissingParameter", "InvalidParameter", "InternalError"}
	userErrors = []string{
		"InvalidParameter.UserName.InvalidChars", "InvalidParameter.UserName.Length", "EntityNotExist.User",
	}
	userGroupErrors = []string{
		"InvalidParameter.GroupName.InvalidChars", "InvalidParameter.GroupName.Length", "EntityNotExist.Group",
	}
	policyErrors = []string{
		"InvalidParameter.PolicyType", "InvalidParameter.PolicyName.InvalidChars", "InvalidParameter.PolicyName.Length",
		"EntityNotExist.Policy",
	}
)

// Why published codes do not occur.
const (
	neverRegion    = "every operation is offered in every region of this server"
	neverForbidden = "nothing here forbids it beyond policies, which answer Forbidden.RAM"
	neverChecked   = "a name that is not well formed is that of nothing: the code of what does not exist is answered"
	neverPending   = "resource groups are there, and gone, at once"
	neverLimited   = "there is no such limit here"
	neverTagged    = "everything that is listed as a ResourceType has tags"
)

// neverRegional holds for regional operations that nothing here forbids.
var neverRegional = map[string]string{"RegionId.ApiNotSupported": neverRegion, "Operation.Forbidden": neverForbidden}

// also returns never with more codes, each for the reason given.
func also(never map[string]string, reason string, codes ...string) map[string]string {
	all := maps.Clone(never)
	if all == nil {
		all = make(map[string]string, len(codes))
	}
	for _, code := range codes {
		all[code] = reason
	}
	return all
}

// neverNames holds for operations that only look a name up.
func neverNames(codes ...[]string) map[string]string {
	return also(nil, neverChecked, slices.DeleteFunc(slices.Concat(codes...), func(code string) bool {
		return code == "EntityNotExist.User" || code == "EntityNotExist.Group" || code == "EntityNotExist.Policy" ||
			code == "InvalidParameter.PolicyType"
	})...)
}

// Operations returns the operation table. The caller may keep and change it.
func Operations() []Operation {
	return slices.Concat(
		deliveryOperations(), steeringOperations(), summaryOperations(), activationOperations(), instanceOperations(), tagOperations(), groupOperations(),
		keyOperations(), userOperations(), policyOperations(), auditOperations(), webhookOperations(),
	)
}

func deliveryOperations() []Operation {
	return []Operation{
		row(Operation{
			Name: "SendFile", Version: versionECS, Kind: Write,
			Action: "ecs:SendFile", Resources: []string{arnInstance},
			Summary: "Places one file on instances. The answer says that it was accepted, not that it arrived.",
			Never:   neverRegional,
			Differences: []Difference{
				{"authorization", "of every instance; if one is not allowed, the whole call is refused", "same"},
				{"InstanceId.N", "1–50 (`--max-instances`), repeated ones count once", "1–50"},
				{
					"`InstanceIds`, `ResourceTag.N`, `InstanceName`, `ActivationId`, `TargetResourceGroupId`, `AllInstances`",
					"added: targets by a list or by what they have, up to 50,000 (`--max-targets`); several selectors narrow; none beside InstanceId ([why](decisions/0015-targets.md))", "no",
				},
				{"`DryRun`, `Diff`", "added: a rehearsal, which changes nothing ([why](decisions/0021-rehearsal.md)); agents that cannot end it as ClientNeedUpgrade", "no"},
				{"a selector that nothing matches", "404 InvalidInstance.NotFound with what was sought", "no selectors"},
				{"some instances unknown", "accepted; they end as InstanceNotExists", "not stated"},
				{"all unknown", "404 InvalidInstance.NotFound, nothing stored", "same"},
				{"all deregistered", "accepted; they end as InstanceReleased", "not stated"},
				{"absent Name, TargetDir, Content", "400 MissingParameter with the name", "not published"},
				{"Name with a slash, a control character, `.` or `..`", "400 InvalidParameter \"Name\"", "any characters"},
				{"TargetDir not absolute anywhere, with `..`, above 255", "400 FileTargetDir.Invalid", "similar"},
				{"Content", "32 KiB as Base64 (`--max-content`, up to 64 MiB of content); plain text is measured as if it were encoded", "same"},
				{
					"`ContentDigest`", "added: in place of Content and ContentType, the SHA-256 of what the account has uploaded or sent, of up to 16 GiB (`--max-upload`); " +
						"what others have is 404 ContentDigest.NotFound ([why](decisions/0018-uploads.md))", "no",
				},
				{"Content with ContentDigest, or ContentType with it", "400 InvalidParameter.Conflict", "no ContentDigest"},
				{"empty Content", "a valid, empty file. Clients that drop empty values cannot send one", "refused on the machine"},
				{"Base64", "strict: standard alphabet, padding; line breaks are ignored", "not stated"},
				{"Timeout", "60 s; below 10 is 10; above 86,400 (`--max-timeout`) 403 InvalidTimeout.ExceedLimit", "limit not published"},
				{"FileMode", "3 or 4 octal digits; setuid, setgid and sticky are set", "the official agent drops them"},
				{"FileOwner, FileGroup", "name or number, at most 64; no `:`, `/` or control character", "name"},
				{"ResourceGroupId", "must exist, and every known instance must belong to it, else 404 InvalidResourceGroup.NotFound", "same"},
				{"Timeout or Overwrite that cannot be read", "400 InvalidParameter with the name", "not stated"},
				{"status of malformed values", "400, as today", "mid 2021: 403 for FileTargetDir.Invalid, FileMode.Invalid, FileContent.DecodeError, FileContentType.Invalid"},
			},
		}, slices.Concat(regionalErrors, tagErrors, []string{
			"MissingParam.InstanceId", "FileTargetDir.Invalid", "FileMode.Invalid", "FileContent.DecodeError",
			"FileContentType.Invalid", "InvalidParameter.FileOwner", "InvalidParameter.FileGroup", "FileSize.ExceedLimit",
			"FileName.ExceedLimit", "FileDesc.ExceedLimit", "InstanceIds.ExceedLimit", "InvalidTimeout.ExceedLimit",
			"InvalidInstance.NotFound", "InvalidResourceGroup.NotFound", "IdempotentParameterMismatch",
			"InvalidParameter.Conflict", "InstanceCount.ExceedLimit", "InvalidParameter.ContentDigest", "ContentDigest.NotFound",
		}), (*call).sendFile),
		row(Operation{
			Name: "CreateContentUpload", Version: versionECS, Kind: Write,
			Action: "ecs:CreateContentUpload", Resources: []string{arnContents},
			Summary:   "Tells where to upload a content, from its first byte or from where that broke off, so that SendFile can name it by its digest.",
			Extension: "to send files of any size",
		}, []string{
			"MissingParameter", "InvalidParameter.ContentDigest", "InvalidParameter.Size", "LimitExceeded.ContentUpload",
			"InternalError",
		}, (*call).createContentUpload),
		row(Operation{
			Name: "PreviewSendFile", Version: versionECS, Kind: Read,
			Action: "ecs:SendFile", Resources: []string{arnInstance},
			Summary:   "Tells which instances SendFile would reach with the same targets, and what would happen at once. Nothing is sent.",
			Extension: "to look before thousands of machines are hit",
			Never:     neverRegional,
		}, slices.Concat(regionalErrors, tagErrors, []string{
			"MissingParam.InstanceId", "InstanceIds.ExceedLimit", "InvalidInstance.NotFound", "InvalidResourceGroup.NotFound",
			"InvalidParameter.Conflict", "InstanceCount.ExceedLimit", "InvalidParameter.NextToken", "InvalidParameter.MaxResults",
		}), (*call).previewSendFile),
		row(Operation{
			Name: "DescribeSendFileResults", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeSendFileResults", Resources: []string{arnInstance},
			Summary: "Lists deliveries and what became of them on each instance, newest first.",
			Never:   neverRegional,
			Differences: []Difference{
				{"InvalidParam.PageNumber, .PageSize", "403", "the seed: 403; today: 400"},
				{"retention", "14 days and 100,000 per account and region; settings", "the seed: the same; today less, varying"},
				{"NextToken, Tags in the answer", "yes", "not in the seed; today yes"},
				{"TotalCount when paging by token", "the true count", "not meaningful"},
				{"NextToken", "also returned when paging by number, while more rows exist", "same"},
				{"`Overwrite`", "a string", "sample of the seed: a boolean"},
				{"`FileMode`", "a string, as sent", "same"},
				{"`Content`", "exactly as sent", "sample of the seed: Base64 though PlainText"},
				{"times not yet known", "empty strings", "not stated"},
				{"order", "newest first, ties by InvokeId", "not stated"},
				{"InstanceId given", "InvokeInstances holds only it, VmCount stays the total", "not stated"},
				{"more than 500 instances", "InvokeInstances holds the first 500, VmCount stays the total, `InvokeInstancesOmitted` is true; DescribeSendFileTargets pages all", "no delivery has that many"},
				{"unknown InvokeId", "an empty list", "not stated"},
				{
					"contents of one page", "32 MiB, or one delivery: by token the page ends earlier, by number the rest come without Content and with ContentOmitted; " +
						"so does one that is longer than SendFile takes as Content",
					"no content is that long",
				},
				{"`OmitContent`", "added: leaves out every Content", "no"},
				{"`Detail` in InvokeInstance", "added: what happened in our words; clients ignore it", "no"},
				{"`Change` in InvokeInstance", "added: whether a success created, replaced or left the file; clients ignore it", "no"},
				{"`DryRun` in Invocation", "added: true for a rehearsal, whose Success says that nothing would stand in the way, and whose `Change` what would happen; else left out", "no"},
				{"`Attempt` in InvokeInstance", "added: how often it was tried there; clients ignore it", "no"},
				{"`InvocationStatus` that is none", "400 InvalidParameter", "not stated"},
				{"a NextToken with other filters, in another region, of another account or operation", "400 InvalidParameter.NextToken; filters may be left out", "not stated"},
			},
		}, slices.Concat(regionalErrors, tagErrors, pagingErrors), (*call).describeSendFileResults),
	}
}

func steeringOperations() []Operation {
	return []Operation{
		row(Operation{
			Name: "StopSendFile", Version: versionECS, Kind: Write,
			Action: "ecs:StopSendFile", Resources: []string{arnInstance},
			Summary:   "Stops a delivery on instances that have not placed the file yet. May be called again.",
			Extension: "to stop a delivery, as StopInvocation stops a command", Never: neverRegional,
		}, slices.Concat(regionalErrors, []string{
			"InvalidInvokeId.NotFound", "InvalidInstance.NotFound", "InstanceIds.ExceedLimit",
		}), (*call).stopSendFile),
		row(Operation{
			Name: "RetrySendFile", Version: versionECS, Kind: Write,
			Action: "ecs:RetrySendFile", Resources: []string{arnInstance},
			Summary:   "Tries a delivery again, under the same InvokeId, on instances on which it failed.",
			Extension: "to repeat what failed only", Never: neverRegional,
		}, slices.Concat(regionalErrors, []string{
			"InvalidInvokeId.NotFound", "InvalidInstance.NotFound", "InstanceIds.ExceedLimit", "InvalidTimeout.ExceedLimit",
			"IdempotentParameterMismatch",
		}), (*call).retrySendFile),
		row(Operation{
			Name: "DescribeSendFileAttempts", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeSendFileResults", Resources: []string{arnInstance},
			Summary:   "Lists the attempts at a delivery on one of its instances, the first one first.",
			Extension: "to see what became of attempts that were retried", Never: neverRegional,
		}, slices.Concat(regionalErrors, []string{
			"MissingParam.InstanceId", "InvalidInvokeId.NotFound", "InvalidInstance.NotFound",
		}), (*call).describeSendFileAttempts),
	}
}

func webhookOperations() []Operation {
	const told = "to be told of what happens rather than to ask"
	unknown := append(slices.Clone(regionalErrors), "InvalidWebhookId.NotFound")
	described := []string{"InvalidWebhookUrl.Malformed", "InvalidParameter.Description.Length"}
	neverRead := also(neverRegional, "there are no parameters that can be malformed", "InvalidParameter")
	return []Operation{
		row(Operation{
			Name: "CreateWebhook", Version: versionECS, Kind: Write,
			Action: "waybill:CreateWebhook", Resources: []string{arnWebhooks},
			Summary:   "Creates a webhook: an address that is sent an event for what happens to deliveries of the region.",
			Extension: told, Never: neverRegional,
		}, slices.Concat(regionalErrors, described, []string{"WebhookCount.ExceedLimit", "IdempotentParameterMismatch"}), (*call).createWebhook),
		row(Operation{
			Name: "DescribeWebhooks", Version: versionECS, Kind: Read,
			Action: "waybill:DescribeWebhooks", Resources: []string{arnWebhook},
			Summary: "Lists webhooks, without their secrets.", Extension: told, Never: neverRead,
		}, regionalErrors, (*call).describeWebhooks),
		row(Operation{
			Name: "ModifyWebhook", Version: versionECS, Kind: Write,
			Action: "waybill:ModifyWebhook", Resources: []string{arnWebhook},
			Summary: "Changes a webhook, enables or disables it. What waits for it is tried again at once.", Extension: told, Never: neverRegional,
		}, slices.Concat(unknown, described), (*call).modifyWebhook),
		row(Operation{
			Name: "DeleteWebhook", Version: versionECS, Kind: Write,
			Action: "waybill:DeleteWebhook", Resources: []string{arnWebhook},
			Summary: "Deletes a webhook, with what it has not been sent.", Extension: told, Never: neverRead,
		}, unknown, (*call).deleteWebhook),
		row(Operation{
			Name: "DescribeWebhookEvents", Version: versionECS, Kind: Read,
			Action: "waybill:DescribeWebhookEvents", Resources: []string{arnWebhook},
			Summary: "Lists what a webhook was or is to be sent, and what came of it.", Extension: told, Never: neverRegional,
		}, slices.Concat(unknown, []string{"InvalidParameter.NextToken", "InvalidParameter.MaxResults"}), (*call).describeWebhookEvents),
		row(Operation{
			Name: "ReplayWebhookEvents", Version: versionECS, Kind: Write,
			Action: "waybill:ReplayWebhookEvents", Resources: []string{arnWebhook},
			Summary: "Sends events again that were sent or given up, with the IDs and contents they had.", Extension: told, Never: neverRegional,
		}, unknown, (*call).replayWebhookEvents),
	}
}

func summaryOperations() []Operation {
	const many = "to look at deliveries to thousands of machines"
	return []Operation{
		row(Operation{
			Name: "DescribeSendFileInvocations", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeSendFileResults", Resources: []string{arnInstance},
			Summary: "Lists deliveries without their instances, newest first.", Extension: many, Never: neverRegional,
		}, slices.Concat(regionalErrors, tagErrors, pagingErrors), (*call).describeSendFileInvocations),
		row(Operation{
			Name: "DescribeSendFileTargets", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeSendFileResults", Resources: []string{arnInstances},
			Summary: "Lists what became of one delivery on its instances, and counts them by cause.", Extension: many, Never: neverRegional,
		}, slices.Concat(regionalErrors, []string{
			"InvalidParameter.NextToken", "InvalidParameter.MaxResults", "InvalidParam.PageNumber",
		}), (*call).describeSendFileTargets),
		row(Operation{
			Name: "DescribeSendFileDiffs", Version: versionECS, Kind: Read,
			Action: "waybill:DiffFile", Resources: []string{arnInstances},
			Summary:   "Lists how what a rehearsal would place differs from what is on the instances.",
			Extension: "to see what would change before it does", Never: neverRegional,
		}, slices.Concat(regionalErrors, []string{
			"InvalidParameter.NextToken", "InvalidParameter.MaxResults",
		}), (*call).describeSendFileDiffs),
		row(Operation{
			Name: "WaitSendFileInvocation", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeSendFileResults", Resources: []string{arnInstances},
			Summary:   "Answers once a delivery does not stand any more as it did, or after some seconds.",
			Extension: "to be told of changes rather than to ask again and again", Never: neverRegional,
		}, regionalErrors, (*call).waitSendFileInvocation),
		row(Operation{
			Name: "DescribeManagedFiles", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeSendFileResults", Resources: []string{arnInstances},
			Summary:   "Lists which instances have, or had, a content or a file at a path, from the deliveries that are kept.",
			Extension: "to know who has a file", Never: neverRegional,
		}, slices.Concat(regionalErrors, []string{
			"InvalidParameter.NextToken", "InvalidParameter.MaxResults",
		}), (*call).describeManagedFiles),
		row(Operation{
			Name: "DescribeSendFileSummary", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeSendFileResults", Resources: []string{arnInstances},
			Summary: "Counts recent deliveries by status, and failures by cause.", Extension: many, Never: neverRegional,
		}, regionalErrors, (*call).describeSendFileSummary),
		row(Operation{
			Name: "DescribeManagedInstanceSummary", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeManagedInstances", Resources: []string{arnInstances},
			Summary: "Counts instances by agent, version and connection.", Extension: "to see a fleet at a glance",
			Never: also(neverRegional, "there are no parameters that can be malformed", "InvalidParameter"),
		}, regionalErrors, (*call).describeManagedInstanceSummary),
		row(Operation{
			Name: "DescribeServer", Version: versionECS, Kind: Read,
			Action: "waybill:DescribeServer", Resources: []string{arnServer},
			Summary: "Tells the settings in force and how the server fares.", Extension: "to operate a server",
		}, []string{"InternalError"}, (*call).describeServer),
	}
}

func activationOperations() []Operation {
	return []Operation{
		row(Operation{
			Name: "CreateActivation", Version: versionECS, Kind: Write,
			Action: "ecs:CreateActivation", Resources: []string{arnAnyCode},
			Summary: "Creates a code with which machines enrol.",
			Never:   also(neverRegional, neverPending, "InvalidStatus.ResourceGroup"),
			Differences: []Difference{
				{"limits", "the widest published; settings", "changed often"},
				{"IpAddressRange", "IPv4 or IPv6 address or CIDR", "texts name IPv4"},
				{"InstanceName", "a letter of any script first, then letters, digits, `.` `_` `:` `-`", "similar"},
				{"names of instances", "prefix, dash, number of at least three digits; without prefix the host name", "similar"},
				{"Tag.N", "also given to the machines that enrol, over tags of their own", "similar"},
				{"managed instances of a region", "no limit, or `--max-managed-instances`", "limited"},
				{"the code", "shown once, here; a repetition with the same ClientToken shows it again", "same"},
			},
		}, slices.Concat(regionalErrors, tagErrors, []string{
			"InstanceName.ExceedLimit", "InstanceName.InvalidPattern", "ActivationDesc.ExceedLimit",
			"ActivationLimitation.Invalid", "AddressRange.InvalidPattern", "ActivationCount.ExceedLimit",
			"ActivationTTL.ExceedLimit", "InvalidStatus.ResourceGroup", "ManagedInstanceCountExceedLimit",
			"InvalidResourceGroup.NotFound", "IdempotentParameterMismatch",
		}), (*call).createActivation),
		row(Operation{
			Name: "DescribeActivations", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeActivations", Resources: []string{arnActivation},
			Summary: "Lists activations, without their codes.",
			Never:   neverRegional,
		}, slices.Concat(regionalErrors, tagErrors, pagingErrors), (*call).describeActivations),
		row(Operation{
			Name: "DisableActivation", Version: versionECS, Kind: Write,
			Action: "ecs:DisableActivation", Resources: []string{arnActivation},
			Summary: "Lets nobody else enrol with an activation. Who has stays.",
			Never:   also(neverRegional, "there are no parameters that can be malformed", "InvalidParameter"),
		}, slices.Concat(regionalErrors, []string{"ActivationId.NotFound"}), (*call).disableActivation),
		row(Operation{
			Name: "DeleteActivation", Version: versionECS, Kind: Write,
			Action: "ecs:DeleteActivation", Resources: []string{arnActivation},
			Summary: "Deletes an activation that nobody has enrolled with.",
			Never:   also(neverRegional, "there are no parameters that can be malformed", "InvalidParameter"),
			Differences: []Difference{
				{"in use", "403 ActivationId.InUse, also when its machines have left", "similar"},
			},
		}, slices.Concat(regionalErrors, []string{"ActivationId.NotFound", "ActivationId.InUse"}), (*call).deleteActivation),
	}
}

func instanceOperations() []Operation {
	return []Operation{
		row(Operation{
			Name: "DescribeManagedInstances", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeManagedInstances", Resources: []string{arnInstance},
			Summary: "Lists the enrolled machines.",
			Never:   neverRegional,
			Differences: []Difference{
				{"instance IDs", "begin with `mi-`; there are no `i-…` instances", "both"},
				{"deregistered instances", "not listed; unknown InstanceId.N are left out", "not stated"},
				{"`MachineId`", "what the system calls the machine", "a serial number in a cloud"},
			},
		}, slices.Concat(regionalErrors, tagErrors, pagingErrors, []string{"InstanceIds.ExceedLimit"}), (*call).describeManagedInstances),
		row(Operation{
			Name: "ModifyManagedInstance", Version: versionECS, Kind: Write,
			Action: "ecs:ModifyManagedInstance", Resources: []string{arnInstance},
			Summary: "Renames an instance.",
			Never:   also(neverRegional, "there are no parameters that can be malformed", "InvalidParameter"),
		}, slices.Concat(regionalErrors, []string{
			"MissingParam.InstanceId", "InstanceName.ExceedLimit", "InstanceName.InvalidPattern", "InvalidInstance.NotFound",
		}), (*call).modifyManagedInstance),
		row(Operation{
			Name: "DeregisterManagedInstance", Version: versionECS, Kind: Write,
			Action: "ecs:DeregisterManagedInstance", Resources: []string{arnInstance},
			Summary: "Takes a machine out of the fleet: it receives nothing any more, and its agent is cut off.",
			Never:   also(neverRegional, "an absent InstanceId has a code of its own", "MissingParameter"),
		}, slices.Concat(regionalErrors, []string{
			"MissingParam.InstanceId", "InvalidInstance.NotFound", "IdempotentParameterMismatch",
		}), (*call).deregisterManagedInstance),
		row(Operation{
			Name: "CreateInstanceToken", Version: versionECS, Kind: Write,
			Action: "ecs:CreateInstanceToken", Resources: []string{arnInstance},
			Summary:   "Makes a token by which the official agent of an instance is known in place of its signature.",
			Extension: "an official agent with a provider file sends fixed headers, and cannot sign",
			Never:     also(nil, neverRegion, "RegionId.ApiNotSupported"),
		}, slices.Concat(regionalErrors, []string{
			"MissingParam.InstanceId", "InvalidInstance.NotFound", "IdempotentParameterMismatch",
		}), (*call).createInstanceToken),
		row(Operation{
			Name: "DeleteInstanceToken", Version: versionECS, Kind: Write,
			Action: "ecs:DeleteInstanceToken", Resources: []string{arnInstance},
			Summary:   "Ends the token of an instance. Its agent is known by its signature alone again.",
			Extension: "the other half of CreateInstanceToken",
			Never:     also(nil, neverRegion, "RegionId.ApiNotSupported"),
		}, slices.Concat(regionalErrors, []string{
			"MissingParam.InstanceId", "InvalidInstance.NotFound",
		}), (*call).deleteInstanceToken),
		row(Operation{
			Name: "DescribeCloudAssistantStatus", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeCloudAssistantStatus", Resources: []string{arnInstance},
			Summary: "Says of instances whether their agents are connected.",
			Never: also(also(neverRegional, "without InstanceId.N all instances are listed", "MissingParam.InstanceId"),
				"RegionId is the only required parameter, and the frame's to check", "MissingParameter"),
			Differences: []Difference{
				{"InstanceId.N without PageNumber and PageSize", "all that are named are in one answer", "not stated"},
				{"unknown InstanceId.N", "left out, unless there are no others: 404 InvalidInstance.NotFound", "not stated"},
				{"PageSize", "up to 100, as in 2021", "today: 50"},
				{"`CloudAssistantVersion`", "of the agent that runs there; empty while it is not connected", "same"},
			},
		}, slices.Concat(regionalErrors, pagingErrors, []string{
			"MissingParam.InstanceId", "InstanceIds.ExceedLimit", "InvalidInstance.NotFound", "ServiceUnavailable",
		}), (*call).describeCloudAssistantStatus),
		row(Operation{
			Name: "DescribeCloudAssistantSettings", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeCloudAssistantSettings", Resources: []string{arnSettings},
			Summary: "Says that nothing is delivered elsewhere, upgraded or open for sessions.",
			Differences: []Difference{
				{"the answer", "fixed, and only the parts that are asked for; no bucket, project and encryption fields", "settings of the account"},
			},
		}, []string{
			"MissingParameter", "InvalidParameter.SettingType", "InvalidRegionId.NotFound", "InternalError",
		}, (*call).describeCloudAssistantSettings),
		row(Operation{
			Name: "InstallCloudAssistant", Version: versionECS, Kind: Write,
			Action: "ecs:InstallCloudAssistant", Resources: []string{arnInstance},
			Summary: "Does nothing where the agent is connected, and is refused elsewhere: a server cannot reach into a machine.",
			Never: also(also(nil, neverRegion, "RegionId.ApiNotSupported"), "the agent runs on every system that can enrol",
				"InvalidInstanceId.OSTypeUnsupported"),
			Differences: []Difference{
				{"an instance whose agent is not connected", "403 Operation.Forbidden, and nothing is done to any of them", "the agent is installed"},
			},
		}, []string{
			"RegionId.ApiNotSupported", "MissingParam.InstanceId", "InvalidParameter", "InstanceIds.ExceedLimit", "Operation.Forbidden",
			"InvalidInstanceId.OSTypeUnsupported", "InvalidRegionId.NotFound", "InvalidInstance.NotFound", "InternalError.Dispatch",
		}, (*call).installCloudAssistant),
		row(Operation{
			Name: "DescribeInstances", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeInstances", Resources: []string{arnInstances},
			Summary: "Lists the enrolled machines as ECS lists its instances, with the fields that users of Cloud Assistant read.",
			Differences: []Difference{
				{"fields", "those listed here; what only a cloud's machines have is empty", "many more"},
				{"`Status`", "Pending before the agent ever connected, Stopped after it said that the machine shuts down, else Running", "of the machine"},
				{"InstanceName", "exact", "also with `*`"},
				{"InstanceIds that is an empty array", "an empty list", "not stated"},
			},
		}, slices.Concat([]string{
			"MissingParameter", "InvalidParameter", "InvalidRegionId.NotFound", "InternalError", "InvalidStatus.NotFound",
			"InvalidTag.Mismatch", "InvalidTagCount", "Duplicate.TagKey", "InvalidTagKey.Malformed", "InvalidTagValue.Malformed",
			"InvalidParam.PageNumber", "InvalidParam.PageSize", "InvalidParameter.NextToken",
		}), (*call).describeInstances),
		row(Operation{
			Name: "DescribeInstanceStatus", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeInstanceStatus", Resources: []string{"*"},
			Summary: "Lists the status of machines.",
		}, []string{
			"MissingParameter", "InvalidParameter", "InvalidRegionId.NotFound", "InternalError",
			"InvalidParameter.TooManyInstanceIds", "Abs.InvalidInstanceIds.MalFormed", "InvalidZoneId.NotFound",
			"InvalidParam.PageNumber", "InvalidParam.PageSize",
		}, (*call).describeInstanceStatus),
		row(Operation{
			Name: "DescribeRegions", Version: versionECS, Kind: Read,
			Summary: "Lists the regions this server answers for.",
			Never: map[string]string{
				"Unauthorized.EmptyRegion": "every account may use every region",
			},
			Differences: []Difference{
				{"InstanceChargeType, ResourceType, AcceptLanguage", "checked, without effect", "select"},
				{"the regions", "those of `--region`; `LocalName` is the ID, `RegionEndpoint` the host that was called", "of the vendor"},
			},
		}, []string{
			"Unauthorized.EmptyRegion", "Invalid.InstanceChargeType", "InvalidAcceptLanguage.NotFound",
			"InvalidResourceType.NotFound", "InternalError",
		}, (*call).describeRegions),
	}
}

func tagOperations() []Operation {
	tagging := []string{
		"NumberExceed.ResourceIds", "NumberExceed.Tags", "Duplicate.TagKey", "InvalidTagKey.Malformed",
		"InvalidTagValue.Malformed", "OperationDenied.QuotaExceed", "InvalidResourceId.NotSupported", "NoPermission.Tag",
		"MissingParameter.ResourceIds", "MissingParameter.ResourceType", "MissingParameter.Tags", "MissingParameter.RegionId",
		"InvalidResourceId.NotFound", "InvalidResourceType.NotFound", "InvalidRegionId.NotFound", "ServiceUnavailable",
		"InvalidParameter", "InternalError",
	}
	without := func(codes ...string) []string {
		return slices.DeleteFunc(slices.Clone(tagging), func(code string) bool { return slices.Contains(codes, code) })
	}
	never := also(also(nil, neverTagged, "InvalidResourceId.NotSupported"),
		"policies decide, and answer Forbidden.RAM", "NoPermission.Tag")
	types := Difference{"ResourceType", "instance and managedinstance mean the same; activation, invocation (a delivery)", "many more"}
	return []Operation{
		row(Operation{
			Name: "TagResources", Version: versionECS, Kind: Write,
			Action: "ecs:TagResources", Resources: []string{arnTagged},
			Summary: "Sets tags on instances, activations or deliveries.",
			Never:   never,
			Differences: []Difference{
				types,
				{"a tag without a key", "400 MissingParameter.TagKey", "not stated"},
				{"one of several resources unknown", "404 InvalidResourceId.NotFound, and none is tagged", "not stated"},
			},
		}, slices.Concat(without(), []string{"MissingParameter.TagKey"}), (*call).tagResources),
		row(Operation{
			Name: "UntagResources", Version: versionECS, Kind: Write,
			Action: "ecs:UntagResources", Resources: []string{arnTagged},
			Summary: "Removes tags from instances, activations or deliveries.",
			Never:   never,
			Differences: []Difference{
				types,
				{"neither TagKey.N nor All", "404 MissingParameter.Tags", "not stated"},
				{"All with TagKey.N", "All has no effect", "same"},
			},
		}, without("Duplicate.TagKey", "InvalidTagKey.Malformed", "InvalidTagValue.Malformed", "OperationDenied.QuotaExceed"),
			(*call).untagResources),
		row(Operation{
			Name: "ListTagResources", Version: versionECS, Kind: Read,
			Action: "ecs:ListTagResources", Resources: []string{"*"},
			Summary:     "Lists the tags of instances, activations or deliveries.",
			Never:       never,
			Differences: []Difference{types, {"rows of a page", "50", "not stated"}},
		}, slices.Concat(without("OperationDenied.QuotaExceed", "MissingParameter.ResourceIds", "MissingParameter.Tags",
			"InvalidResourceId.NotFound"), []string{"MissingParameter.TagKey", "InvalidParameter.NextToken"}),
			(*call).listTagResources),
	}
}

func groupOperations() []Operation {
	group := []string{"MissingParameter", "InternalError", "InvalidParameter.ResourceGroupId", "EntityNotExists.ResourceGroup"}
	never := also(nil, neverChecked, "InvalidParameter.ResourceGroupId")
	return []Operation{
		row(Operation{
			Name: "CreateResourceGroup", Version: versionRM, Kind: Write,
			Action: "ram:CreateResourceGroup", Resources: []string{arnGroups},
			Summary: "Creates a resource group.",
			Never:   also(nil, "any characters are allowed", "InvalidParameter.DisplayName"),
			Differences: []Difference{
				{"DisplayName", "the name if it is not given", "required"},
				{"a name that is taken", "409 EntityAlreadyExists.ResourceGroup", "not published"},
				{"`Status`", "OK", "Creating, then OK"},
				{"a default resource group", "none: what belongs to no group has an empty ResourceGroupId", "default"},
			},
		}, []string{
			"MissingParameter", "InternalError", "InvalidParameter.Name.InvalidChars", "InvalidParameter.Name.Length",
			"InvalidParameter.DisplayName", "InvalidParameter.DisplayName.Length",
			"EntityAlreadyExists.ResourceGroup", "LimitExceeded.ResourceGroup",
		}, (*call).createResourceGroup),
		row(Operation{
			Name: "GetResourceGroup", Version: versionRM, Kind: Read,
			Action: "ram:GetResourceGroup", Resources: []string{arnGroup},
			Summary: "Describes a resource group.",
			Never:   never,
		}, group, (*call).getResourceGroup),
		row(Operation{
			Name: "ListResourceGroups", Version: versionRM, Kind: Read,
			Action: "ram:ListResourceGroups", Resources: []string{arnGroups},
			Summary:     "Lists resource groups by name.",
			Differences: []Difference{{"Name", "exact", "also part of it"}},
		}, []string{"InvalidParameter", "InternalError", "InvalidParam.PageNumber", "InvalidParam.PageSize"}, (*call).listResourceGroups),
		row(Operation{
			Name: "UpdateResourceGroup", Version: versionRM, Kind: Write,
			Action: "ram:UpdateResourceGroup", Resources: []string{arnGroup},
			Summary: "Changes the display name of a resource group.",
			Never:   also(never, "any characters are allowed", "InvalidParameter.DisplayName"),
		}, slices.Concat(group, []string{"InvalidParameter.DisplayName", "InvalidParameter.DisplayName.Length"}),
			(*call).updateResourceGroup),
		row(Operation{
			Name: "DeleteResourceGroup", Version: versionRM, Kind: Write,
			Action: "ram:DeleteResourceGroup", Resources: []string{arnGroup},
			Summary: "Deletes a resource group that no instance and no activation belongs to.",
			Never:   never,
			Differences: []Difference{
				{"deliveries of the group", "do not keep it, and keep its ID", "not stated"},
			},
		}, slices.Concat(group, []string{"DeleteConflict.ResourceGroup.Resource"}), (*call).deleteResourceGroup),
		row(Operation{
			Name: "JoinResourceGroup", Version: versionECS, Kind: Write,
			Action: "ecs:JoinResourceGroup", Resources: []string{arnTagged, arnGroup},
			Summary: "Moves an instance or an activation into a resource group.",
			Differences: []Difference{
				{"unknown resource or group", "404 InvalidResourceId.NotFound, InvalidResourceGroup.NotFound", "not published"},
			},
		}, []string{
			"MissingParameter", "InvalidRegionId.NotFound", "InvalidResourceType.NotFound", "InvalidResourceId.NotFound",
			"InvalidResourceGroup.NotFound", "InternalError",
		}, (*call).joinResourceGroup),
	}
}

func keyOperations() []Operation {
	looked := neverNames(userErrors)
	own := Difference{"without UserName", "the caller's own keys: of the user, or of the account", "same"}
	return []Operation{
		row(Operation{
			Name: "ListAccessKeys", Version: versionRAM, Kind: Read,
			Action: "ram:ListAccessKeys", Resources: []string{arnUser},
			Summary: "Lists access keys, without their secrets.",
			Never:   looked,
			Differences: []Difference{
				own,
				{"key IDs", "begin with `WB`, temporary ones with `STS.WB`", "`LTAI`, `STS.`"},
				{"`LastUsedDate`", "added", "no"},
			},
		}, slices.Concat([]string{"InternalError"}, userErrors), (*call).listAccessKeys),
		row(Operation{
			Name: "CreateAccessKey", Version: versionRAM, Kind: Write,
			Action: "ram:CreateAccessKey", Resources: []string{arnUser},
			Summary:     "Creates an access key. It is shown with its secret, this once.",
			Never:       looked,
			Differences: []Difference{own, {"keys of a user", "20 (`--max-access-keys`)", "2"}},
		}, slices.Concat([]string{"InternalError"}, userErrors, []string{"LimitExceeded.User.AccessKey", "Operation.Forbidden"}),
			(*call).createAccessKey),
		row(Operation{
			Name: "UpdateAccessKey", Version: versionRAM, Kind: Write,
			Action: "ram:UpdateAccessKey", Resources: []string{arnUser},
			Summary: "Enables or disables an access key other than the one that signs the request.",
			Never:   also(looked, "the keys of a user that is not there are not there", "EntityNotExist.User"),
			Differences: []Difference{
				own, {"a key that disables itself", "403 Operation.Forbidden, with the reason", "allowed"},
			},
		}, slices.Concat(ramErrors, userErrors, []string{"EntityNotExist.User.AccessKey", "Operation.Forbidden"}),
			(*call).updateAccessKey),
		row(Operation{
			Name: "DeleteAccessKey", Version: versionRAM, Kind: Write,
			Action: "ram:DeleteAccessKey", Resources: []string{arnUser},
			Summary: "Deletes an access key other than the one that signs the request.",
			Never:   also(looked, "the keys of a user that is not there are not there", "EntityNotExist.User"),
			Differences: []Difference{
				own, {"a key that deletes itself", "403 Operation.Forbidden, with the reason", "allowed"},
			},
		}, slices.Concat([]string{"MissingParameter", "InternalError"}, userErrors,
			[]string{"EntityNotExist.User.AccessKey", "Operation.Forbidden"}), (*call).deleteAccessKey),
		row(Operation{
			Name: "GetAccessKeyLastUsed", Version: versionRAM, Kind: Read,
			Action: "ram:GetAccessKeyLastUsed", Resources: []string{arnUser},
			Summary:     "Says when an access key was last used.",
			Never:       looked,
			Differences: []Difference{own},
		}, slices.Concat([]string{"MissingParameter", "InternalError"}, userErrors,
			[]string{"EntityNotExist.User.AccessKey"}), (*call).getAccessKeyLastUsed),
		row(Operation{
			Name: "GetCallerIdentity", Version: versionSTS, Kind: Read,
			Summary: "Says whose key signed the request.",
			Differences: []Difference{
				{"temporary keys", "are whoever they were issued for", "a role"},
			},
		}, []string{"InternalError"}, (*call).getCallerIdentity),
		row(Operation{
			Name: "GetSessionToken", Version: versionSTS, Kind: Write,
			Summary:   "Issues a temporary key that may at most what the caller may.",
			Extension: "AssumeRole without roles: who calls gets keys for themselves, narrowed by a policy if they wish",
		}, []string{
			"InternalError", "InvalidParameter", "InvalidParameter.DurationSeconds", "InvalidParameter.Policy.Length", "MalformedPolicyDocument",
			"Operation.Forbidden",
		}, (*call).getSessionToken),
	}
}

func userOperations() []Operation {
	texts := []string{"InvalidParameter.DisplayName.Length", "InvalidParameter.Comments.Length"}
	temporary := Difference{"temporary keys", "403 Operation.Forbidden", "as policies say"}
	contact := Difference{"MobilePhone, Email", "not kept", "kept"}
	return []Operation{
		row(Operation{
			Name: "CreateUser", Version: versionRAM, Kind: Write,
			Action: "ram:CreateUser", Resources: []string{arnUsers},
			Summary:     "Creates a user. It has no keys and may do nothing yet.",
			Differences: []Difference{temporary, contact, {"names", "differ in more than case, and are known exactly as they were given", "not stated"}, {"users", "1,000 (`--max-users`)", "5,000"}},
		}, slices.Concat([]string{"MissingParameter", "InternalError", "Operation.Forbidden"}, userErrors[:2], texts,
			[]string{"EntityAlreadyExists.User", "LimitExceeded.User"}), (*call).createUser),
		row(Operation{
			Name: "GetUser", Version: versionRAM, Kind: Read,
			Action: "ram:GetUser", Resources: []string{arnUser},
			Summary: "Describes a user.",
			Never:   neverNames(userErrors),
		}, slices.Concat([]string{"MissingParameter", "InternalError"}, userErrors), (*call).getUser),
		row(Operation{
			Name: "UpdateUser", Version: versionRAM, Kind: Write,
			Action: "ram:UpdateUser", Resources: []string{arnUser},
			Summary:     "Changes what people read of a user.",
			Never:       neverNames(userErrors),
			Differences: []Difference{temporary, contact, {"NewUserName", "no effect: a user keeps its name", "renames"}},
		}, slices.Concat([]string{"MissingParameter", "InternalError", "Operation.Forbidden"}, userErrors,
			[]string{"InvalidParameter.NewDisplayName.Length", "InvalidParameter.NewComments.Length"}), (*call).updateUser),
		row(Operation{
			Name: "DeleteUser", Version: versionRAM, Kind: Write,
			Action: "ram:DeleteUser", Resources: []string{arnUser},
			Summary:     "Deletes a user without keys, groups and policies.",
			Never:       neverNames(userErrors),
			Differences: []Difference{temporary},
		}, slices.Concat([]string{"MissingParameter", "InternalError", "Operation.Forbidden"}, userErrors, []string{
			"DeleteConflict.User.AccessKey", "DeleteConflict.User.Group", "DeleteConflict.User.Policy",
		}), (*call).deleteUser),
		row(Operation{
			Name: "ListUsers", Version: versionRAM, Kind: Read,
			Action: "ram:ListUsers", Resources: []string{arnUsers},
			Summary: "Lists users by name.",
		}, []string{"InternalError", "InvalidParameter.MaxItems", "InvalidParameter.Marker"}, (*call).listUsers),

		row(Operation{
			Name: "CreateGroup", Version: versionRAM, Kind: Write,
			Action: "ram:CreateGroup", Resources: []string{arnUserGroups},
			Summary:     "Creates a group of users.",
			Differences: []Difference{temporary, {"groups", "50 (`--max-user-groups`)", "300"}},
		}, slices.Concat([]string{"MissingParameter", "InternalError", "Operation.Forbidden"}, userGroupErrors[:2], []string{
			"InvalidParameter.Comments.Length", "EntityAlreadyExists.Group", "LimitExceeded.Group",
		}), (*call).createGroup),
		row(Operation{
			Name: "GetGroup", Version: versionRAM, Kind: Read,
			Action: "ram:GetGroup", Resources: []string{arnUserGroup},
			Summary: "Describes a group of users.",
			Never:   neverNames(userGroupErrors),
		}, slices.Concat([]string{"MissingParameter", "InternalError"}, userGroupErrors), (*call).getGroup),
		row(Operation{
			Name: "DeleteGroup", Version: versionRAM, Kind: Write,
			Action: "ram:DeleteGroup", Resources: []string{arnUserGroup},
			Summary:     "Deletes a group without users and policies.",
			Never:       neverNames(userGroupErrors),
			Differences: []Difference{temporary},
		}, slices.Concat([]string{"MissingParameter", "InternalError", "Operation.Forbidden"}, userGroupErrors, []string{
			"DeleteConflict.Group.User", "DeleteConflict.Group.Policy",
		}), (*call).deleteGroup),
		row(Operation{
			Name: "ListGroups", Version: versionRAM, Kind: Read,
			Action: "ram:ListGroups", Resources: []string{arnUserGroups},
			Summary:     "Lists groups of users by name.",
			Differences: []Difference{{"MaxItems", "up to 1,000", "up to 100"}},
		}, []string{"InternalError", "InvalidParameter.MaxItems", "InvalidParameter.Marker"}, (*call).listGroups),
		row(Operation{
			Name: "AddUserToGroup", Version: versionRAM, Kind: Write,
			Action: "ram:AddUserToGroup", Resources: []string{arnUser, arnUserGroup},
			Summary:     "Puts a user into a group.",
			Never:       neverNames(userErrors, userGroupErrors),
			Differences: []Difference{temporary, {"groups of a user", "50", "10"}},
		}, slices.Concat([]string{"MissingParameter", "InternalError", "Operation.Forbidden"}, userErrors, userGroupErrors, []string{
			"EntityAlreadyExists.User.Group", "LimitExceeded.User.Group",
		}), (*call).addUserToGroup),
		row(Operation{
			Name: "RemoveUserFromGroup", Version: versionRAM, Kind: Write,
			Action: "ram:RemoveUserFromGroup", Resources: []string{arnUser, arnUserGroup},
			Summary:     "Takes a user out of a group.",
			Never:       neverNames(userErrors, userGroupErrors),
			Differences: []Difference{temporary},
		}, slices.Concat([]string{"MissingParameter", "InternalError", "Operation.Forbidden"}, userErrors, userGroupErrors, []string{
			"EntityNotExist.User.Group",
		}), (*call).removeUserFromGroup),
		row(Operation{
			Name: "ListUsersForGroup", Version: versionRAM, Kind: Read,
			Action: "ram:ListUsersForGroup", Resources: []string{arnUserGroup},
			Summary:     "Lists the users of a group by name.",
			Never:       neverNames(userGroupErrors),
			Differences: []Difference{{"`JoinDate`", "not told; all of a user is", "told"}},
		}, slices.Concat([]string{"MissingParameter", "InternalError", "InvalidParameter.MaxItems", "InvalidParameter.Marker"},
			userGroupErrors), (*call).listUsersForGroup),
		row(Operation{
			Name: "ListGroupsForUser", Version: versionRAM, Kind: Read,
			Action: "ram:ListGroupsForUser", Resources: []string{arnUser},
			Summary:     "Lists the groups of a user by name.",
			Never:       neverNames(userErrors),
			Differences: []Difference{{"`JoinDate`", "not told; all of a group is", "told"}},
		}, slices.Concat([]string{"MissingParameter", "InternalError"}, userErrors), (*call).listGroupsForUser),
	}
}

func policyOperations() []Operation {
	named := policyErrors[1:] // operations that take no PolicyType
	temporary := Difference{"temporary keys", "403 Operation.Forbidden", "as policies say"}
	system := Difference{"a system policy", "403 Operation.Forbidden, with the reason", "not stated"}
	attach := slices.Concat([]string{"MissingParameter", "InternalError", "Operation.Forbidden"}, policyErrors)
	return []Operation{
		row(Operation{
			Name: "CreatePolicy", Version: versionRAM, Kind: Write,
			Action: "ram:CreatePolicy", Resources: []string{arnPolicies},
			Summary: "Creates a policy.",
			Differences: []Difference{
				temporary,
				{"MalformedPolicyDocument", "says which part is wrong, and what is allowed there", "texts are not published"},
				{"condition keys", "acs:ResourceTag/…, acs:RequestTag/…, acs:SourceIp, acs:CurrentTime, acs:SecureTransport, acs:MFAPresent; any other is refused", "many more"},
				{"EntityAlreadyExists.Policy", "`The policy does already EXIST.`", "says group instead of policy"},
			},
		}, []string{
			"MissingParameter", "InternalError", "Operation.Forbidden", "InvalidParameter.PolicyName.InvalidChars",
			"InvalidParameter.PolicyName.Length", "InvalidParameter.PolicyDocument.Length", "InvalidParameter.Description.Length",
			"MalformedPolicyDocument", "EntityAlreadyExists.Policy", "LimitExceeded.Policy",
		}, (*call).createPolicy),
		row(Operation{
			Name: "GetPolicy", Version: versionRAM, Kind: Read,
			Action: "ram:GetPolicy", Resources: []string{arnPolicy},
			Summary: "Describes a policy, with its document.",
			Never:   neverNames(policyErrors),
		}, slices.Concat([]string{"MissingParameter", "InternalError"}, policyErrors), (*call).getPolicy),
		row(Operation{
			Name: "ListPolicies", Version: versionRAM, Kind: Read,
			Action: "ram:ListPolicies", Resources: []string{arnPolicies},
			Summary:     "Lists policies: the system's, then the account's own by name.",
			Differences: []Difference{{"system policies", "AliyunECSAssistantFullAccess, AliyunECSAssistantReadonlyAccess, AdministratorAccess", "hundreds"}},
		}, []string{"InternalError", "InvalidParameter.PolicyType", "InvalidParameter.MaxItems", "InvalidParameter.Marker"},
			(*call).listPolicies),
		row(Operation{
			Name: "CreatePolicyVersion", Version: versionRAM, Kind: Write,
			Action: "ram:CreatePolicyVersion", Resources: []string{arnPolicy},
			Summary: "Replaces the document of a policy. It holds from the next request on.",
			Never:   also(neverNames(policyErrors), neverLimited, "LimitExceeded.Policy.Version"),
			Differences: []Difference{
				temporary, system,
				{"versions", "one: the former document is not kept, and SetAsDefault must be true", "five"},
			},
		}, slices.Concat(ramErrors, []string{
			"Operation.Forbidden", "InvalidParameter.PolicyDocument.Length", "MalformedPolicyDocument", "LimitExceeded.Policy.Version",
		}, named), (*call).createPolicyVersion),
		row(Operation{
			Name: "DeletePolicy", Version: versionRAM, Kind: Write,
			Action: "ram:DeletePolicy", Resources: []string{arnPolicy},
			Summary:     "Deletes a policy that is attached to nothing.",
			Never:       also(neverNames(policyErrors), "there is one version of a policy", "DeleteConflict.Policy.Version"),
			Differences: []Difference{temporary, system},
		}, slices.Concat([]string{"MissingParameter", "InternalError", "Operation.Forbidden"}, named, []string{
			"DeleteConflict.Policy.User", "DeleteConflict.Policy.Group", "DeleteConflict.Policy.Version",
		}), (*call).deletePolicy),
		row(Operation{
			Name: "AttachPolicyToUser", Version: versionRAM, Kind: Write,
			Action: "ram:AttachPolicyToUser", Resources: []string{arnUser, arnPolicy},
			Summary:     "Attaches a policy to a user. It holds from the next request on.",
			Never:       neverNames(policyErrors, userErrors),
			Differences: []Difference{temporary, {"policies of a user", "20", "20 of the system's, 10 of one's own"}},
		}, slices.Concat(attach, userErrors, []string{"EntityAlreadyExists.User.Policy", "LimitExceeded.User.Policy"}),
			(*call).attachPolicyToUser),
		row(Operation{
			Name: "DetachPolicyFromUser", Version: versionRAM, Kind: Write,
			Action: "ram:DetachPolicyFromUser", Resources: []string{arnUser, arnPolicy},
			Summary:     "Detaches a policy from a user.",
			Never:       neverNames(policyErrors, userErrors),
			Differences: []Difference{temporary},
		}, slices.Concat(attach, userErrors, []string{"EntityNotExist.User.Policy"}), (*call).detachPolicyFromUser),
		row(Operation{
			Name: "AttachPolicyToGroup", Version: versionRAM, Kind: Write,
			Action: "ram:AttachPolicyToGroup", Resources: []string{arnUserGroup, arnPolicy},
			Summary:     "Attaches a policy to a group of users.",
			Never:       neverNames(policyErrors, userGroupErrors),
			Differences: []Difference{temporary},
		}, slices.Concat(attach, userGroupErrors, []string{"EntityAlreadyExists.Group.Policy", "LimitExceeded.Group.Policy"}),
			(*call).attachPolicyToGroup),
		row(Operation{
			Name: "DetachPolicyFromGroup", Version: versionRAM, Kind: Write,
			Action: "ram:DetachPolicyFromGroup", Resources: []string{arnUserGroup, arnPolicy},
			Summary:     "Detaches a policy from a group of users.",
			Never:       neverNames(policyErrors, userGroupErrors),
			Differences: []Difference{temporary},
		}, slices.Concat(attach, userGroupErrors, []string{"EntityNotExist.Group.Policy"}), (*call).detachPolicyFromGroup),
		row(Operation{
			Name: "ListPoliciesForUser", Version: versionRAM, Kind: Read,
			Action: "ram:ListPoliciesForUser", Resources: []string{arnUser},
			Summary: "Lists the policies that are attached to a user itself.",
			Never:   neverNames(userErrors),
		}, slices.Concat([]string{"MissingParameter", "InternalError"}, userErrors), (*call).listPoliciesForUser),
		row(Operation{
			Name: "ListPoliciesForGroup", Version: versionRAM, Kind: Read,
			Action: "ram:ListPoliciesForGroup", Resources: []string{arnUserGroup},
			Summary: "Lists the policies that are attached to a group of users.",
			Never:   neverNames(userGroupErrors),
		}, slices.Concat([]string{"MissingParameter", "InternalError"}, userGroupErrors), (*call).listPoliciesForGroup),
		row(Operation{
			Name: "ListEntitiesForPolicy", Version: versionRAM, Kind: Read,
			Action: "ram:ListEntitiesForPolicy", Resources: []string{arnPolicy},
			Summary:     "Lists what a policy is attached to.",
			Never:       neverNames(policyErrors),
			Differences: []Difference{{"Roles, and what else a user has", "not told", "told"}},
		}, slices.Concat([]string{"MissingParameter", "InternalError"}, policyErrors), (*call).listEntitiesForPolicy),
		row(Operation{
			Name: "SimulatePolicy", Version: versionRAM, Kind: Read,
			Action: "ram:SimulatePolicy", Resources: []string{arnUser},
			Summary:   "Says whether a user may do something, and which statement decides.",
			Extension: "to try policies before they count",
		}, slices.Concat(ramErrors, tagErrors, []string{"EntityNotExist.User", "InvalidInstance.NotFound"}), (*call).simulatePolicy),
	}
}

func auditOperations() []Operation {
	return []Operation{
		row(Operation{
			Name: "ListAuditRecords", Version: versionECS, Kind: Read,
			Action: "waybill:ListAuditRecords", Resources: []string{arnAudit},
			Summary:   "Lists who did what, when, to what, and how it ended.",
			Extension: "the audit trail of this server",
		}, []string{
			"InvalidParameter", "InvalidParameter.MaxResults", "InvalidParameter.NextToken", "InternalError",
		}, (*call).listAuditRecords),
		row(Operation{
			Name: "VerifyAuditRecords", Version: versionECS, Kind: Read,
			Action: "waybill:VerifyAuditRecords", Resources: []string{arnAudit},
			Summary:   "Checks the whole audit trail of the account, record by record.",
			Extension: "the audit trail of this server",
		}, []string{"InternalError"}, (*call).verifyAuditRecords),
	}
}
