// SPDX-License-Identifier: Apache-2.0

package api

import "slices"

// The APIs whose operations are offered.
const (
	versionECS = "2014-05-26"
	versionRAM = "2015-05-01"
)

// ARNs of what the operations work on (RAM action table of ECS).
const (
	arnInstance   = "acs:ecs:{RegionId}:{AccountId}:instance/{InstanceId}"
	arnActivation = "acs:ecs:{RegionId}:{AccountId}:activation/{ActivationId}"
	arnAnyCode    = "acs:ecs:{RegionId}:{AccountId}:activation/*"
	arnUser       = "acs:ram:*:{AccountId}:user/*"
)

// Operations returns the operation table. The caller may keep and change it.
func Operations() []Operation {
	regional := []string{
		"MissingParameter", "InvalidParameter", "RegionId.ApiNotSupported", "Operation.Forbidden",
		"InvalidRegionId.NotFound", "InternalError.Dispatch",
	}
	tags := []string{
		"NumberExceed.Tags", "MissingParameter.TagKey", "Duplicate.TagKey", "InvalidTagKey.Malformed",
		"InvalidTagValue.Malformed",
	}
	paging := []string{
		"InvalidParam.PageNumber", "InvalidParam.PageSize", "InvalidParameter.NextToken", "InvalidParameter.MaxResults",
	}
	keys := []string{"MissingParameter", "InvalidParameter", "InternalError"}

	return []Operation{
		row(Operation{
			Name: "SendFile", Version: versionECS, Kind: Write,
			Action: "ecs:SendFile", Resource: arnInstance,
			Summary: "Places one file on instances. The answer says that it was accepted, not that it arrived.",
		}, slices.Concat(regional, tags, []string{
			"MissingParam.InstanceId", "FileTargetDir.Invalid", "FileMode.Invalid", "FileContent.DecodeError",
			"FileContentType.Invalid", "InvalidParameter.FileOwner", "InvalidParameter.FileGroup", "FileSize.ExceedLimit",
			"FileName.ExceedLimit", "FileDesc.ExceedLimit", "InstanceIds.ExceedLimit", "InvalidTimeout.ExceedLimit",
			"InvalidInstance.NotFound", "InvalidResourceGroup.NotFound",
		}), (*call).sendFile),
		row(Operation{
			Name: "DescribeSendFileResults", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeSendFileResults", Resource: arnInstance,
			Summary: "Lists deliveries and what became of them on each instance, newest first.",
		}, slices.Concat(regional, tags, paging), (*call).describeSendFileResults),

		row(Operation{
			Name: "CreateActivation", Version: versionECS, Kind: Write,
			Action: "ecs:CreateActivation", Resource: arnAnyCode,
			Summary: "Creates a code with which machines enrol.",
		}, slices.Concat(regional, tags, []string{
			"InstanceName.ExceedLimit", "InstanceName.InvalidPattern", "ActivationDesc.ExceedLimit",
			"ActivationLimitation.Invalid", "AddressRange.InvalidPattern", "ActivationCount.ExceedLimit",
			"ActivationTTL.ExceedLimit", "InvalidStatus.ResourceGroup", "ManagedInstanceCountExceedLimit",
			"InvalidResourceGroup.NotFound",
		}), (*call).createActivation),
		row(Operation{
			Name: "DescribeActivations", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeActivations", Resource: arnActivation,
			Summary: "Lists activations, without their codes.",
		}, slices.Concat(regional, tags, paging), (*call).describeActivations),
		row(Operation{
			Name: "DisableActivation", Version: versionECS, Kind: Write,
			Action: "ecs:DisableActivation", Resource: arnActivation,
			Summary: "Lets nobody else enrol with an activation. Who has stays.",
		}, slices.Concat(regional, []string{"ActivationId.NotFound"}), (*call).disableActivation),
		row(Operation{
			Name: "DeleteActivation", Version: versionECS, Kind: Write,
			Action: "ecs:DeleteActivation", Resource: arnActivation,
			Summary: "Deletes an activation that nobody has enrolled with.",
		}, slices.Concat(regional, []string{"ActivationId.NotFound", "ActivationId.InUse"}), (*call).deleteActivation),

		row(Operation{
			Name: "DescribeManagedInstances", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeManagedInstances", Resource: arnInstance,
			Summary: "Lists the enrolled machines.",
		}, slices.Concat(regional, tags, paging, []string{"InstanceIds.ExceedLimit"}), (*call).describeManagedInstances),
		row(Operation{
			Name: "ModifyManagedInstance", Version: versionECS, Kind: Write,
			Action: "ecs:ModifyManagedInstance", Resource: arnInstance,
			Summary: "Renames an instance.",
		}, slices.Concat(regional, []string{
			"MissingParam.InstanceId", "InstanceName.ExceedLimit", "InstanceName.InvalidPattern", "InvalidInstance.NotFound",
		}), (*call).modifyManagedInstance),
		row(Operation{
			Name: "DeregisterManagedInstance", Version: versionECS, Kind: Write,
			Action: "ecs:DeregisterManagedInstance", Resource: arnInstance,
			Summary: "Takes a machine out of the fleet: it receives nothing any more, and its agent is cut off.",
		}, slices.Concat(regional, []string{
			"MissingParam.InstanceId", "InvalidInstance.NotFound",
		}), (*call).deregisterManagedInstance),
		row(Operation{
			Name: "DescribeCloudAssistantStatus", Version: versionECS, Kind: Read,
			Action: "ecs:DescribeCloudAssistantStatus", Resource: arnInstance,
			Summary: "Says of instances whether their agents are connected.",
		}, slices.Concat(regional, paging, []string{
			"MissingParam.InstanceId", "InstanceIds.ExceedLimit", "InvalidInstance.NotFound", "ServiceUnavailable",
		}), (*call).describeCloudAssistantStatus),
		row(Operation{
			Name: "DescribeRegions", Version: versionECS, Kind: Read,
			Summary: "Lists the regions this server answers for.",
		}, []string{
			"Unauthorized.EmptyRegion", "Invalid.InstanceChargeType", "InvalidAcceptLanguage.NotFound",
			"InvalidResourceType.NotFound", "InternalError",
		}, (*call).describeRegions),

		row(Operation{
			Name: "ListAccessKeys", Version: versionRAM, Kind: Read,
			Action: "ram:ListAccessKeys", Resource: arnUser,
			Summary: "Lists the access keys of the account, without their secrets.",
		}, keys, (*call).listAccessKeys),
		row(Operation{
			Name: "CreateAccessKey", Version: versionRAM, Kind: Write,
			Action: "ram:CreateAccessKey", Resource: arnUser,
			Summary: "Creates an access key.",
		}, slices.Concat(keys, []string{"LimitExceeded.User.AccessKey"}), (*call).createAccessKey),
		row(Operation{
			Name: "UpdateAccessKey", Version: versionRAM, Kind: Write,
			Action: "ram:UpdateAccessKey", Resource: arnUser,
			Summary: "Enables or disables an access key other than the one that signs the request.",
		}, slices.Concat(keys, []string{
			"EntityNotExist.User.AccessKey", "Operation.Forbidden",
		}), (*call).updateAccessKey),
		row(Operation{
			Name: "DeleteAccessKey", Version: versionRAM, Kind: Write,
			Action: "ram:DeleteAccessKey", Resource: arnUser,
			Summary: "Deletes an access key other than the one that signs the request.",
		}, slices.Concat(keys, []string{
			"EntityNotExist.User.AccessKey", "Operation.Forbidden",
		}), (*call).deleteAccessKey),
	}
}
