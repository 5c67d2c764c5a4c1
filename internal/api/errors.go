// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/acs"
)

// Fault is an error as a client sees it. In an Operation, %s in Message stands for a limit, a reason or a name.
type Fault struct {
	Status  int
	Code    string
	Message string
}

// refusal is an error named by its code in the API. What status and text go with it depends on the operation.
type refusal struct {
	code string
	arg  string // for the %s of the text
}

func (r *refusal) Error() string { return strings.TrimSpace(r.code + " " + r.arg) }

// refuse returns the error with a published code. arg fills the %s of its text, if it has one.
func refuse(code string, arg ...string) error {
	return &refusal{code: code, arg: strings.Join(arg, " ")}
}

// missing returns the error for a required parameter that was not supplied.
func missing(name string) error {
	if name == "InstanceId" {
		return refuse("MissingParam.InstanceId")
	}
	return refuse("MissingParameter", name)
}

// panicked is the error of a request whose handling panicked.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// codes is the only map from the codes of the domain to those of the API.
var codes = map[waybill.Code]string{
	waybill.Internal:    "InternalError", // or the operation's own, see codeFor
	waybill.Unavailable: "ServiceUnavailable",
	waybill.Forbidden:   "Operation.Forbidden",

	waybill.MissingField: "MissingParameter",

	waybill.InstancesMissing:  "MissingParam.InstanceId",
	waybill.InstancesTooMany:  "InstanceIds.ExceedLimit",
	waybill.InstanceNotFound:  "InvalidInstance.NotFound",
	waybill.NameTooLong:       "FileName.ExceedLimit",
	waybill.NameInvalid:       "InvalidParameter", // none is published for a name that is no file name
	waybill.DirInvalid:        "FileTargetDir.Invalid",
	waybill.ContentTooLarge:   "FileSize.ExceedLimit",
	waybill.ContentUndecoded:  "FileContent.DecodeError",
	waybill.ContentKind:       "FileContentType.Invalid",
	waybill.DescriptionLength: "FileDesc.ExceedLimit",
	waybill.ModeInvalid:       "FileMode.Invalid",
	waybill.OwnerInvalid:      "InvalidParameter.FileOwner",
	waybill.GroupInvalid:      "InvalidParameter.FileGroup",
	waybill.TimeoutTooLong:    "InvalidTimeout.ExceedLimit",

	waybill.TagsTooMany:     "NumberExceed.Tags",
	waybill.TagKeyMissing:   "MissingParameter.TagKey",
	waybill.TagKeyRepeated:  "Duplicate.TagKey",
	waybill.TagKeyInvalid:   "InvalidTagKey.Malformed",
	waybill.TagValueInvalid: "InvalidTagValue.Malformed",

	waybill.ResourceGroupNotFound: "InvalidResourceGroup.NotFound",

	waybill.InstanceNameLength:  "InstanceName.ExceedLimit",
	waybill.InstanceNamePattern: "InstanceName.InvalidPattern",

	waybill.ActivationNotFound:    "ActivationId.NotFound",
	waybill.ActivationInUse:       "ActivationId.InUse",
	waybill.ActivationPrefixLen:   "InstanceName.ExceedLimit",
	waybill.ActivationPrefix:      "InstanceName.InvalidPattern",
	waybill.ActivationDescription: "ActivationDesc.ExceedLimit",
	waybill.ActivationCount:       "ActivationLimitation.Invalid",
	waybill.ActivationTTL:         "ActivationTTL.ExceedLimit",
	waybill.ActivationAddresses:   "AddressRange.InvalidPattern",
	waybill.ActivationQuota:       "ActivationCount.ExceedLimit",

	waybill.AccessKeyNotFound: "EntityNotExist.User.AccessKey",
	waybill.AccessKeyQuota:    "LimitExceeded.User.AccessKey",

	// Only agents are told these; met here, they are a mistake of ours.
	waybill.EnrolRefused:  "InternalError",
	waybill.ProofInvalid:  "InternalError",
	waybill.NotRegistered: "InternalError",
	waybill.Quarantined:   "InternalError",
}

// signatureCodes is the same for the reasons of package acs.
var signatureCodes = map[acs.Reason]string{
	acs.MissingParameter:    "MissingParameter",
	acs.BadSignatureMethod:  "InvalidSignatureMethod",
	acs.BadSignatureVersion: "InvalidParamater",
	acs.BadTimestamp:        "InvalidTimeStamp.Format",
	acs.Expired:             "InvalidTimeStamp.Expired",
	acs.Malformed:           "IncompleteSignature",
	acs.Mismatch:            "SignatureDoesNotMatch",
	acs.BadFormat:           "InvalidParameter.Format",
	acs.BadEncoding:         "InvalidParameter",
}

// published returns the fault that operation op ("" before it is known) answers with code: its own text and status
// where it publishes some, and otherwise those of the common table.
func published(op, code string) Fault {
	w, ok := exceptions[op][code]
	if !ok {
		if w, ok = common[code]; !ok {
			panic("api: no text for error code " + code)
		}
	}
	return Fault{Status: w.status, Code: code, Message: w.message}
}

// faultOf says how op (nil before it is known) answers err.
func faultOf(op *Operation, err error) Fault {
	name := ""
	if op != nil {
		name = op.Name
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return published(name, r.code).with(r.arg)
	}
	if a, ok := errors.AsType[*acs.Error](err); ok {
		f := published(name, signatureCodes[a.Reason]).with(a.Parameter)
		if a.Reason == acs.Mismatch {
			if a.CanonicalRequest != "" {
				f.Message += " server canonical request is:" + a.CanonicalRequest
			}
			// The classic Go SDK compares all that follows this colon with its own string, so nothing may be added.
			f.Message += " server string to sign is:" + a.StringToSign
		}
		return f
	}
	if _, ok := errors.AsType[*panicked](err); ok {
		return published(name, "InternalError")
	}
	code := waybill.CodeOf(err)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		code = waybill.Unavailable // the client went away, or the server is shutting down
	}
	arg := ""
	if e, ok := errors.AsType[*waybill.Error](err); ok {
		arg = e.Message // the limit or the reason, where the text has a place for one
		if code == waybill.MissingField && e.Field == "InstanceId" {
			code = waybill.InstancesMissing
		}
		if code == waybill.MissingField || code == waybill.NameInvalid {
			arg = e.Field
		}
	}
	return published(name, codeFor(op, code)).with(arg)
}

// codeFor returns the code of the API for code: ECS operations publish a name of their own for an internal error.
func codeFor(op *Operation, code waybill.Code) string {
	c, ok := codes[code]
	if !ok {
		c = codes[waybill.Internal]
	}
	if c == "InternalError" && op != nil && op.publishes("InternalError.Dispatch") {
		return "InternalError.Dispatch"
	}
	return c
}

// with puts arg into the text, if that has a place for it. A parameter that cannot be named is left out.
func (f Fault) with(arg string) Fault {
	if arg == "" {
		f.Message = strings.ReplaceAll(f.Message, ` "%s"`, "")
	}
	f.Message = strings.ReplaceAll(f.Message, "%s", arg)
	return f
}

// wording is the status and message of an error code.
type wording struct {
	status  int
	message string
}

// common holds every error code of this API with its usual status and message (the gateway's list and the error tables of the operations, RAM's own error
// list, and one of ours).
var common = map[string]wording{
	// Authentication and protocol.
	"MissingParameter": {
		400,
		`The input parameter "%s" that is mandatory for processing this request is not supplied`,
	},
	"InvalidAccessKeyId.NotFound": {404, "Specified access key is not found."},
	"InvalidAccessKeyId.Inactive": {400, "Specified access key is disabled."},
	"InvalidTimeStamp.Format":     {400, "Specified time stamp or date value is not well formatted."},
	"InvalidTimeStamp.Expired":    {400, "Specified time stamp or date value is expired."},
	"SignatureNonceUsed":          {400, "Specified signature nonce was used already."},
	"SignatureDoesNotMatch":       {400, "Specified signature is not matched with our calculation."},
	"IncompleteSignature":         {400, "The request signature does not conform to Aliyun standards."},
	"InvalidSignatureMethod":      {400, "Specified signature method is not valid."},
	"InvalidParamater":            {400, `The specified parameter "SignatureVersion" is not valid.`}, // sic
	"InvalidVersion":              {400, "Specified parameter Version is not valid."},
	"InvalidAction.NotFound":      {404, "Specified api is not found, please check your url and method."},
	"InvalidParameter.Format":     {400, "Specified parameter format is not valid."},
	"UnsupportedHTTPMethod":       {403, "This HTTP method is not supported."},
	"InvalidSecurityToken.MismatchWithAccessKey": {
		400,
		"Specified SecurityToken mismatch with the AccessKey.",
	},

	// Parameters, authorization, server.
	"InvalidParameter":         {400, `The specified parameter "%s" is not valid.`},
	"InvalidRegionId.NotFound": {404, "The RegionId provided does not exist in our records."},
	"RegionId.ApiNotSupported": {400, "The api is not supported in this region."},
	"Forbidden.RAM": {
		403,
		"User not authorized to operate on the specified resource, or this API doesn't support RAM.",
	},
	"Operation.Forbidden": {403, "The operation is not permitted."},
	"InternalError": {
		500,
		"The request processing has failed due to some unknown error, exception or failure.",
	},
	"InternalError.Dispatch": {500, "An error occurred when you dispatched the request."},
	"ServiceUnavailable":     {503, "The request has failed due to a temporary failure of the server."},

	// SendFile.
	"MissingParam.InstanceId":       {400, "The parameter instanceId is missing or empty."},
	"InstanceIds.ExceedLimit":       {403, "The number of instance IDs exceeds the upper limit."},
	"InvalidInstance.NotFound":      {404, "The specified instance does not exist."},
	"FileTargetDir.Invalid":         {400, "The target directory of file is invalid."},
	"FileMode.Invalid":              {400, "The mode of file is invalid."},
	"FileContent.DecodeError":       {400, "The Content can not be base64 decoded."},
	"FileContentType.Invalid":       {400, "The ContentType of file is invalid."},
	"InvalidParameter.FileOwner":    {400, "The specified parameter FileOwner is not valid."},
	"InvalidParameter.FileGroup":    {400, "The specified parameter FileGroup is not valid."},
	"FileSize.ExceedLimit":          {403, "The length of file content exceeds limit."},
	"FileName.ExceedLimit":          {403, "The length of file name exceeds limit."},
	"FileDesc.ExceedLimit":          {403, "The length of file description exceeds limit."},
	"InvalidTimeout.ExceedLimit":    {403, "The specified parameter Timeout exceeds the upper limit."},
	"InvalidResourceGroup.NotFound": {404, "The ResourceGroup provided does not exist in our records."},

	// Tags.
	"NumberExceed.Tags":         {400, "The Tags parameter number is exceed."},
	"MissingParameter.TagKey":   {400, "You must specify Tag.N.Key."},
	"Duplicate.TagKey":          {400, "The Tag.N.Key contain duplicate key."},
	"InvalidTagKey.Malformed":   {400, "The specified Tag.n.Key is not valid."},
	"InvalidTagValue.Malformed": {400, "The specified Tag.n.Value is not valid."},

	// Paging.
	"InvalidParam.PageNumber":     {400, "The specified parameter is invalid."},
	"InvalidParam.PageSize":       {400, "The specified parameter is invalid."},
	"InvalidParameter.NextToken":  {400, "The specified parameter NextToken is not valid."},
	"InvalidParameter.MaxResults": {400, "The specified parameter MaxResults is not valid."},

	// Managed instances and activations.
	"InstanceName.ExceedLimit":    {400, "The specified instance name exceed limit."},
	"InstanceName.InvalidPattern": {400, "The specified instance name pattern invalid."},
	"ActivationId.NotFound":       {404, "The specified activation id does not exist."},
	"ActivationId.InUse":          {403, "The specified activation id is in use."},
	"ActivationDesc.ExceedLimit":  {400, "Activation description length exceeds."},
	"ActivationLimitation.Invalid": {
		400,
		"The specified parameter InstanceCount exceeds the limit of %s.",
	},
	"ActivationTTL.ExceedLimit": {
		400,
		"The specified parameter TimeToLiveInHours exceeds the limit of %s.",
	},
	"ActivationCount.ExceedLimit": {
		400,
		"The count of activation in current region exceeds the limit of %s.",
	},
	"AddressRange.InvalidPattern": {400, "Address range should be ipv4 address or cidr."},
	"InvalidStatus.ResourceGroup": {
		403,
		"You cannot perform an operation on a resource group that is being created or deleted.",
	},
	"ManagedInstanceCountExceedLimit": {
		403,
		"The count of managed instance in current region exceeds the limit of %s.",
	},

	// DescribeRegions.
	"Unauthorized.EmptyRegion": {
		403,
		"The specified account has no access authority to any region.",
	},
	"Invalid.InstanceChargeType": {403, "The specified instanceChargeType is not valid."},
	"InvalidAcceptLanguage.NotFound": {
		404,
		"Only Chinese (zh-CN), English (en-US), and Japanese (ja) are allowed.",
	},
	"InvalidResourceType.NotFound": {404, "The ResourceType provided does not exist in our records."},

	// RAM.
	"EntityNotExist.User.AccessKey": {404, "The Access Key does not exist."},
	"LimitExceeded.User.AccessKey": {
		409,
		"The access key count of the user access keys beyond the current limits.",
	},

	// Ours: the service publishes nothing for a body that is too long.
	"RequestBody.TooLarge": {413, "The request body is longer than %s bytes."},
}

// exceptions holds what single operations publish otherwise.
var exceptions = map[string]map[string]wording{
	"SendFile": {
		"InvalidInstance.NotFound": {404, "The specified instances not found."},
	},
	"DescribeSendFileResults": { // the seed
		"InvalidParam.PageNumber": {403, "The specified parameter is invalid."},
		"InvalidParam.PageSize":   {403, "The specified parameter is invalid."},
	},
	"CreateActivation": {
		"InstanceName.ExceedLimit":    {400, "Default instance name prefix length exceeds."},
		"InstanceName.InvalidPattern": {400, "Default instance name prefix pattern invalid."},
		"InternalError.Dispatch":      {500, "An error occurred when dispatch the request."},
	},
	"DescribeCloudAssistantStatus": {
		"ServiceUnavailable": {500, "The request has failed due to a temporary failure of the server."},
	},
	"ModifyManagedInstance": {
		"InvalidInstance.NotFound": {404, "The specified instances id does not exist."},
	},
	// RAM lets a key end itself; we do not, and say why.
	"UpdateAccessKey": {"Operation.Forbidden": {403, "The operation is not permitted: %s."}},
	"DeleteAccessKey": {"Operation.Forbidden": {403, "The operation is not permitted: %s."}},
	"DeregisterManagedInstance": {
		"InvalidInstance.NotFound": {404, "The specified instance id does not exist."},
	},
}
