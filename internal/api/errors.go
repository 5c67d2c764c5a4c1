// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	waybill.NothingSelected:   "InvalidInstance.NotFound", // and what is sought, see faultOf
	waybill.TargetsTooMany:    "InstanceCount.ExceedLimit",
	waybill.TargetsConflict:   "InvalidParameter.Conflict",
	waybill.DeliveryNotFound:  "InvalidInvokeId.NotFound",
	waybill.WebhookNotFound:   "InvalidWebhookId.NotFound",
	waybill.WebhookURL:        "InvalidWebhookUrl.Malformed",
	waybill.WebhookQuota:      "WebhookCount.ExceedLimit",
	waybill.EventTypeInvalid:  "InvalidParameter",
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

	waybill.InstanceQuota: "ManagedInstanceCountExceedLimit",

	waybill.AccessKeyNotFound: "EntityNotExist.User.AccessKey",
	waybill.AccessKeyQuota:    "LimitExceeded.User.AccessKey",

	waybill.TokenMissing:  "MissingSecurityToken",
	waybill.TokenExpired:  "InvalidSecurityToken.Expired",
	waybill.TokenInvalid:  "InvalidSecurityToken.Malformed",
	waybill.TokenMismatch: "InvalidSecurityToken.MismatchWithAccessKey",
	waybill.TokenLife:     "InvalidParameter.DurationSeconds",

	waybill.NotAuthorized:     "Forbidden.RAM",
	waybill.UserNotFound:      "EntityNotExist.User",
	waybill.UserExists:        "EntityAlreadyExists.User",
	waybill.UserHasKeys:       "DeleteConflict.User.AccessKey",
	waybill.UserInGroup:       "DeleteConflict.User.Group",
	waybill.UserHasPolicy:     "DeleteConflict.User.Policy",
	waybill.UserQuota:         "LimitExceeded.User",
	waybill.UserNameInvalid:   "InvalidParameter.UserName.InvalidChars",
	waybill.GroupNotFound:     "EntityNotExist.Group",
	waybill.GroupExists:       "EntityAlreadyExists.Group",
	waybill.GroupHasUsers:     "DeleteConflict.Group.User",
	waybill.GroupHasPolicy:    "DeleteConflict.Group.Policy",
	waybill.GroupQuota:        "LimitExceeded.Group",
	waybill.GroupNameInvalid:  "InvalidParameter.GroupName.InvalidChars",
	waybill.MemberNotFound:    "EntityNotExist.User.Group",
	waybill.MemberExists:      "EntityAlreadyExists.User.Group",
	waybill.MemberQuota:       "LimitExceeded.User.Group",
	waybill.PolicyNotFound:    "EntityNotExist.Policy",
	waybill.PolicyExists:      "EntityAlreadyExists.Policy",
	waybill.PolicyAttached:    "DeleteConflict.Policy.User",
	waybill.PolicyQuota:       "LimitExceeded.Policy",
	waybill.PolicyNameInvalid: "InvalidParameter.PolicyName.InvalidChars",
	waybill.PolicyDocument:    "MalformedPolicyDocument",
	waybill.PolicyIsSystem:    "Operation.Forbidden",
	waybill.AttachedAlready:   "EntityAlreadyExists.User.Policy",
	waybill.NotAttached:       "EntityNotExist.User.Policy",
	waybill.AttachmentQuota:   "LimitExceeded.User.Policy",
	waybill.TextTooLong:       "InvalidParameter.Length", // or the field's own, see codeFor

	waybill.ResourceGroupExists: "EntityAlreadyExists.ResourceGroup",
	waybill.ResourceGroupInUse:  "DeleteConflict.ResourceGroup.Resource",
	waybill.ResourceGroupName:   "InvalidParameter.Name.InvalidChars",
	waybill.ResourceGroupQuota:  "LimitExceeded.ResourceGroup",
	waybill.ResourceNotFound:    "InvalidResourceId.NotFound",
	waybill.ResourceTagQuota:    "OperationDenied.QuotaExceed",

	waybill.DigestInvalid:   "InvalidParameter.ContentDigest",
	waybill.ContentConflict: "InvalidParameter.Conflict",
	waybill.ContentNotFound: "ContentDigest.NotFound",
	waybill.UploadSize:      "InvalidParameter.Size",
	waybill.UploadQuota:     "LimitExceeded.ContentUpload",
	waybill.StorageFull:     "ServiceUnavailable",

	waybill.TokenReused: "IdempotentParameterMismatch",

	// Only agents, and whoever sends bytes to a location, are told these; met here, they are a mistake of ours.
	waybill.EnrolRefused:    "InternalError",
	waybill.DeliveryNotOpen: "InternalError",
	waybill.ContentLost:     "InternalError",
	waybill.UploadNotFound:  "InternalError",
	waybill.UploadExpired:   "InternalError",
	waybill.UploadMoved:     "InternalError",
	waybill.UploadLength:    "InternalError",
	waybill.UploadMismatch:  "InternalError",
	waybill.ProofInvalid:    "InternalError",
	waybill.NotRegistered:   "InternalError",
	waybill.Quarantined:     "InternalError",
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
	arg, field := "", ""
	if e, ok := errors.AsType[*waybill.Error](err); ok {
		arg, field = e.Message, e.Field // the limit or the reason, where the text has a place for one
		if code == waybill.MissingField && e.Field == "InstanceId" {
			code = waybill.InstancesMissing
		}
		if code == waybill.MissingField || code == waybill.NameInvalid || code == waybill.EventTypeInvalid {
			arg = e.Field
		}
	}
	f := published(name, codeFor(op, code, field)).with(arg)
	if code == waybill.NothingSelected { // for which nothing is published: only who wrote the selector can see why
		f.Message = strings.TrimSuffix(f.Message, ".") + ": " + arg + "."
	}
	return f
}

// ofField holds the codes that depend on the field at fault: the name of a field, or what a policy is attached to.
var ofField = map[waybill.Code]map[string]string{
	waybill.PolicyAttached:    {"Group": "DeleteConflict.Policy.Group"},
	waybill.AttachedAlready:   {string(waybill.GroupEntity): "EntityAlreadyExists.Group.Policy"},
	waybill.NotAttached:       {string(waybill.GroupEntity): "EntityNotExist.Group.Policy"},
	waybill.AttachmentQuota:   {string(waybill.GroupEntity): "LimitExceeded.Group.Policy"},
	waybill.ResourceGroupName: {"DisplayName": "InvalidParameter.DisplayName"},
}

// codeFor returns the code of the API for code and the field at fault. ECS operations publish a name of their own for an
// internal error, and Resource Manager has one for a group that is not there.
func codeFor(op *Operation, code waybill.Code, field string) string {
	c, ok := codes[code]
	switch {
	case !ok:
		c = codes[waybill.Internal]
	case ofField[code][field] != "":
		c = ofField[code][field]
	case code == waybill.TextTooLong:
		if own := "InvalidParameter." + field + ".Length"; common[own].status != 0 {
			c = own
		}
	case code == waybill.ResourceGroupNotFound && op != nil && op.Version == versionRM:
		c = "EntityNotExists.ResourceGroup"
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
	"InvalidAccessKeyId.NotFound":    {404, "Specified access key is not found."},
	"InvalidAccessKeyId.Inactive":    {400, "Specified access key is disabled."},
	"InvalidTimeStamp.Format":        {400, "Specified time stamp or date value is not well formatted."},
	"InvalidTimeStamp.Expired":       {400, "Specified time stamp or date value is expired."},
	"SignatureNonceUsed":             {400, "Specified signature nonce was used already."},
	"SignatureDoesNotMatch":          {400, "Specified signature is not matched with our calculation."},
	"IncompleteSignature":            {400, "The request signature does not conform to Aliyun standards."},
	"InvalidSignatureMethod":         {400, "Specified signature method is not valid."},
	"InvalidParamater":               {400, `The specified parameter "SignatureVersion" is not valid.`}, // sic
	"InvalidVersion":                 {400, "Specified parameter Version is not valid."},
	"InvalidAction.NotFound":         {404, "Specified api is not found, please check your url and method."},
	"InvalidParameter.Format":        {400, "Specified parameter format is not valid."},
	"UnsupportedHTTPMethod":          {403, "This HTTP method is not supported."},
	"MissingSecurityToken":           {400, "SecurityToken is mandatory for this action."},
	"InvalidSecurityToken.Expired":   {400, "Specified SecurityToken is expired."},
	"InvalidSecurityToken.Malformed": {400, "Specified SecurityToken is malformed."},
	"InvalidSecurityToken.MismatchWithAccessKey": {
		400,
		"Specified SecurityToken mismatch with the AccessKey.",
	},
	"Throttling.User": {400, "Request was denied due to user flow control."},
	"Throttling.Api":  {400, "Request was denied due to api flow control."},

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

	"IdempotentParameterMismatch": {400, "The request is retried with updated parameters."},

	// SendFile.
	"MissingParam.InstanceId":       {400, "The parameter instanceId is missing or empty."},
	"InstanceIds.ExceedLimit":       {403, "The number of instance IDs exceeds the upper limit."},
	"InvalidInstance.NotFound":      {404, "The specified instance does not exist."},
	"InvalidParameter.Conflict":     {400, "The specified parameters conflict: %s."},               // RunInstances, whose text is free
	"InstanceCount.ExceedLimit":     {403, "The number of instances exceeds the upper limit: %s."}, // ours
	"InvalidInvokeId.NotFound":      {404, "The specified InvokeId does not exist."},               // ours
	"InvalidWebhookId.NotFound":     {404, "The specified WebhookId does not exist."},              // ours, as the next two
	"InvalidWebhookUrl.Malformed":   {400, "The specified Url is not valid: %s."},
	"WebhookCount.ExceedLimit":      {403, "The number of webhooks exceeds the upper limit: %s."},
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

	// Instances as ECS lists them, and the settings of Cloud Assistant.
	"InvalidStatus.NotFound":              {404, "The specified Status is not found"},
	"InvalidTag.Mismatch":                 {400, "The specified Tag.n.Key and Tag.n.Value are not match."},
	"InvalidTagCount":                     {400, "The specified tags are beyond the permitted range."},
	"InvalidParameter.TooManyInstanceIds": {403, "Instance ids cannot be more than 100."},
	"Abs.InvalidInstanceIds.MalFormed":    {403, "The specified instanceIds is not valid."},
	"InvalidZoneId.NotFound":              {404, "The ZoneId provided does not exist in our records."},
	"InvalidParameter.SettingType":        {400, "The specified parameter SettingType is not valid."},
	"InvalidInstanceId.OSTypeUnsupported": {
		403,
		"The OS type of the instance %s corresponding to the parameter InstanceId does not support the operation.",
	},

	// Tags of resources.
	"NumberExceed.ResourceIds":       {400, "The ResourceIds parameter's number is exceed , Valid : 50."},
	"OperationDenied.QuotaExceed":    {400, "The quota of tags on resource is beyond permitted range."},
	"InvalidResourceId.NotSupported": {403, "The specified ResourceId does not support tagging."},
	"NoPermission.Tag":               {403, "The operator is not permission for the tag."},
	"MissingParameter.ResourceIds":   {404, "The parameter - ResourceIds.N should not be null."},
	"MissingParameter.ResourceType":  {404, "The parameter - ResourceType should not be null."},
	"MissingParameter.Tags":          {404, "The parameter - Tags should not be null."},
	"MissingParameter.RegionId":      {404, "The parameter - RegionId should not be null."},
	"InvalidResourceId.NotFound":     {404, "The specified ResourceIds are not found in our records."},

	// RAM.
	"InvalidParameter.UserName.InvalidChars":   {400, `The parameter - "UserName" contains invalid chars.`},
	"InvalidParameter.UserName.Length":         {400, `The parameter - "UserName" beyond the length limit.`},
	"InvalidParameter.DisplayName.Length":      {400, `The parameter - "DisplayName" beyond the length limit.`},
	"InvalidParameter.NewDisplayName.Length":   {400, `The parameter - "NewDisplayName" beyond the length limit.`},
	"InvalidParameter.Comments.Length":         {400, `The parameter - "Comments" beyond the length limit.`},
	"InvalidParameter.NewComments.Length":      {400, `The parameter - "NewComments" beyond the length limit.`},
	"InvalidParameter.GroupName.InvalidChars":  {400, `The parameter - "GroupName" contains invalid chars.`},
	"InvalidParameter.GroupName.Length":        {400, `The parameter - "GroupName" beyond the length limit.`},
	"InvalidParameter.PolicyType":              {400, `The parameter - "PolicyType" is incorrect.`},
	"InvalidParameter.PolicyName.InvalidChars": {400, `The parameter - "PolicyName" contains invalid chars.`},
	"InvalidParameter.PolicyName.Length":       {400, `The parameter - "PolicyName" beyond the length limit.`},
	"InvalidParameter.PolicyDocument.Length":   {400, `The parameter - "PolicyDocument" beyond the length limit.`},
	"InvalidParameter.Description.Length":      {400, `The parameter - "Description" beyond the length limit.`},
	"InvalidParameter.Policy.Length":           {400, `The parameter - "Policy" beyond the length limit.`},
	"InvalidParameter.MaxItems":                {400, `The parameter - "MaxItems" is incorrect.`},
	"InvalidParameter.Marker":                  {400, `The parameter - "Marker" is incorrect.`},
	"InvalidParameter.Length":                  {400, "A parameter is beyond the length limit."},
	"InvalidParameter.DurationSeconds":         {400, "The specified DurationSeconds is not valid: %s."},
	"MalformedPolicyDocument":                  {400, "%s"},
	"EntityNotExist.User":                      {404, "The user does not exist."},
	"EntityNotExist.User.AccessKey":            {404, "The user access key does not exist."},
	"EntityNotExist.User.Policy":               {404, "The indicate policy of the user does not exist."},
	"EntityNotExist.User.Group":                {404, "The user has not joined the group."},
	"EntityNotExist.Group":                     {404, "The group does not exist."},
	"EntityNotExist.Group.Policy":              {404, "The indicate policy attached to the group does not exist."},
	"EntityNotExist.Policy":                    {404, "The policy does not exist."},
	"EntityAlreadyExists.User":                 {409, "The user does already EXIST."},
	"EntityAlreadyExists.User.Group":           {409, "The user has already joined the group."},
	"EntityAlreadyExists.User.Policy":          {409, "The user has already been attached this policy."},
	"EntityAlreadyExists.Group":                {409, "The group does already EXIST."},
	"EntityAlreadyExists.Group.Policy":         {409, "The group has already been attached this policy."},
	"EntityAlreadyExists.Policy":               {409, "The policy does already EXIST."},
	"DeleteConflict.User.Group":                {409, "The user CAN NOT be in any group while deleting the user."},
	"DeleteConflict.User.AccessKey":            {409, "The user CAN NOT has any access key while deleting the user."},
	"DeleteConflict.User.Policy":               {409, "The user CAN NOT has any attached policy while deleting the user."},
	"DeleteConflict.Group.User":                {409, "The group CAN NOT has any user member while deleting the group."},
	"DeleteConflict.Group.Policy":              {409, "The entity CAN NOT has any attached policy while deleting the group."},
	"DeleteConflict.Policy.User":               {409, "The policy CAN NOT been attached to any user while deleting the policy."},
	"DeleteConflict.Policy.Group":              {409, "The policy CAN NOT been attached to any group while deleting the policy."},
	"LimitExceeded.User":                       {409, "The count of users beyond the current limits."},
	"LimitExceeded.User.AccessKey":             {409, "The access key count of the user access keys beyond the current limits."},
	"LimitExceeded.User.Group":                 {409, "The count of groups the target user joined beyond the current limits."},
	"LimitExceeded.User.Policy":                {409, "The policy count of the user attached policies beyond the current limits."},
	"LimitExceeded.Group":                      {409, "The count of groups beyond the current limits."},
	"LimitExceeded.Group.Policy":               {409, "The policy count of the group beyond the current limits."},
	"LimitExceeded.Policy":                     {409, "The count of policy beyond the current limits."},
	"LimitExceeded.Policy.Version":             {409, "The count of policy version beyond the current limits."},
	"DeleteConflict.Policy.Version":            {409, "The policy CAN NOT has any version except the default version."},

	// Resource Manager.
	"InvalidParameter.Name.InvalidChars": {400, "The Name is invalid."},
	"InvalidParameter.Name.Length":       {400, "The maximum length of Name is exceeded."},
	"InvalidParameter.ResourceGroupId":   {400, "The ResourceGroupId is invalid."},
	"InvalidParameter.DisplayName":       {400, "The DisplayName is invalid."},
	"EntityNotExists.ResourceGroup": {
		404,
		"The specified resource group does not exist. You must first create a resource group.",
	},
	"EntityAlreadyExists.ResourceGroup": {409, "The resource group already exists."}, // none is published
	"LimitExceeded.ResourceGroup":       {409, "The count of resource groups beyond the current limits."},
	"DeleteConflict.ResourceGroup.Resource": {
		409,
		"Failed to delete the resource group because one or more cloud resources exist in the resource group. Try again " +
			"later after you release the cloud resources.",
	},

	// Ours: contents that are uploaded, and sent by their digests.
	"InvalidParameter.ContentDigest": {400, "The specified parameter ContentDigest is not valid: %s."},
	"InvalidParameter.Size":          {400, "The specified parameter Size is not valid: %s."},
	"LimitExceeded.ContentUpload":    {403, "The account has too many uploads: %s."},
	"ContentDigest.NotFound": {
		404,
		"The account has neither uploaded nor sent a content with this digest, or too long ago. Upload it: CreateContentUpload.",
	},

	// Ours: the service publishes nothing for a body that is too long.
	"RequestBody.TooLarge": {413, "The request body is longer than %s bytes."},
}

// forbiddenBecause is for operations that are refused by a rule of ours.
var forbiddenBecause = map[string]wording{"Operation.Forbidden": {403, "The operation is not permitted: %s."}}

// longDisplayName is how Resource Manager says it.
var longDisplayName = map[string]wording{
	"InvalidParameter.DisplayName.Length": {400, "The maximum length of DisplayName is exceeded."},
}

// Codes returns every error code that this API knows, sorted, those of the locations of uploads included.
func Codes() []string {
	all := maps.Clone(common)
	for _, f := range uploadFaults {
		all[f.code] = wording{}
	}
	for _, f := range []uploadFault{errTusVersion, errTusMethod, errTusMedia, errTusOffset, errTusLength, errUploadFailed, errUploadCut} {
		all[f.code] = wording{}
	}
	return slices.Sorted(maps.Keys(all))
}

// exceptions holds what single operations publish otherwise.
var exceptions = map[string]map[string]wording{
	"SendFile": {
		"InvalidInstance.NotFound": {404, "The specified instances not found."},
	},
	"PreviewSendFile": {
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
	"TagResources": {
		"NumberExceed.Tags":  {400, "The Tags parameter's number is exceed , Valid : 20."},
		"ServiceUnavailable": {500, "The service is unavailable, please try again later."},
	},
	"UntagResources": {
		"NumberExceed.Tags":  {400, "The Tags parameter's number is exceed , Valid : 20."},
		"ServiceUnavailable": {500, "The service is unavailable, please try again later."},
	},
	"ListTagResources": {
		"NumberExceed.Tags":  {400, "The Tags parameter's number is exceed , Valid : 20."},
		"ServiceUnavailable": {500, "The service is unavailable, please try again later."},
	},
	"DescribeCloudAssistantSettings": {
		"InvalidRegionId.NotFound": {404, "The specified parameter RegionId does not exist."},
		"InternalError":            {500, "An error occurred when you dispatched the request."},
	},
	"CreateResourceGroup": longDisplayName,
	"UpdateResourceGroup": longDisplayName,
	// These say why: RAM has no such rule.
	"UpdateAccessKey":     forbiddenBecause,
	"DeleteAccessKey":     forbiddenBecause,
	"CreateAccessKey":     forbiddenBecause,
	"GetSessionToken":     forbiddenBecause,
	"CreatePolicyVersion": forbiddenBecause,
	"DeletePolicy":        forbiddenBecause,
	"CreateInstanceToken": forbiddenBecause,
	"DeleteInstanceToken": forbiddenBecause,
	"DeregisterManagedInstance": {
		"InvalidInstance.NotFound": {404, "The specified instance id does not exist."},
	},
}
