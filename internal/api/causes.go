// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/openwaybill/waybill"

// outcome is what DescribeSendFileResults says of why a target ended as it did.
type outcome struct {
	code string // ErrorCode
	info string // ErrorInfo
}

// outcomes is the only map from causes to the words of the API: the table of docs/state-machine.md, letter for letter.
var outcomes = map[waybill.Cause]outcome{
	waybill.NoCause:            {},
	waybill.CauseUnknown:       {"InstanceNotExists", "the specified instance does not exists"},
	waybill.CauseReleased:      {"InstanceReleased", "the instance has released when create task"},
	waybill.CauseShutDown:      {"InstanceNotRunning", "the instance is not running when create task"},
	waybill.CauseAccountGone:   {"AccountNotExists", "the specified account does not exists"},
	waybill.CauseAgentStopped:  {"ClientNotRunning", "the aliyun service is not running on the instance"},
	waybill.CauseAgentSilent:   {"ClientNotResponse", "the aliyun service in the instance does not response"},
	waybill.CauseUpgrading:     {"ClientIsUpgrading", "the aliyun service in the instance is upgrading now"},
	waybill.CauseAgentTooOld:   {"ClientNeedUpgrade", "the aliyun service in the instance need upgrade"},
	waybill.CauseDeadline:      {"DeliveryTimeout", "the command delivery has been timeout"},
	waybill.CauseWriteFailed:   {"FileCreateFail", "Unexpected error during creating"},
	waybill.CauseExists:        {"FileAlreadyExists", "File already exists"},
	waybill.CauseContent:       {"FileContentInvalid", "File content error"},
	waybill.CauseName:          {"FileNameInvalid", "File name is invalid"},
	waybill.CausePath:          {"FilePathInvalid", "File path is invalid"},
	waybill.CauseOwnerMissing:  {"FileAuthorityInvalid", "Owner not exists"},
	waybill.CauseGroupMissing:  {"FileAuthorityInvalid", "Group not exists"},
	waybill.CauseModeUnapplied: {"FileAuthorityInvalid", "Mode is invalid"},
	waybill.CauseAgentBroke:    {"FileCreateFail", "Unexpected error during creating"},
	waybill.CauseCancelled:     {"DeliveryCancelled", "the command delivery has been cancelled"}, // ours
}

// Words returns the ErrorCode and the ErrorInfo of a target that ended for that cause.
func Words(c waybill.Cause) (code, info string) {
	o := outcomeOf(c)
	return o.code, o.info
}

// outcomeOf returns the words for c. A cause that only a newer agent knows reads like any unforeseen failure.
func outcomeOf(c waybill.Cause) outcome {
	if o, ok := outcomes[c]; ok {
		return o
	}
	return outcomes[waybill.CauseAgentBroke]
}
