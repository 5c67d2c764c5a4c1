// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"errors"
	"fmt"
)

// Code classifies an error for programs. The front ends own the only maps from codes to what their clients see.
type Code string

// The codes. A code says what was wrong with a request, never how it happened to be found out.
const (
	Internal    Code = "internal"    // anything unforeseen; the cause is for the operator's log only
	Unavailable Code = "unavailable" // a passing failure: the same request may succeed later
	Forbidden   Code = "forbidden"   // the caller may not do this

	MissingField Code = "missing-field" // Field names what is missing

	InstancesMissing  Code = "instances-missing"
	InstancesTooMany  Code = "instances-too-many"
	InstanceNotFound  Code = "instance-not-found"
	NothingSelected   Code = "nothing-selected" // no instance matches a selector
	TargetsTooMany    Code = "targets-too-many"
	TargetsConflict   Code = "targets-conflict" // they are given in two ways
	NameTooLong       Code = "name-too-long"
	NameInvalid       Code = "name-invalid"
	DirInvalid        Code = "dir-invalid"
	ContentTooLarge   Code = "content-too-large"
	ContentUndecoded  Code = "content-undecoded"
	ContentKind       Code = "content-kind"
	DescriptionLength Code = "description-length"
	ModeInvalid       Code = "mode-invalid"
	OwnerInvalid      Code = "owner-invalid"
	GroupInvalid      Code = "group-invalid"
	TimeoutTooLong    Code = "timeout-too-long"

	TagsTooMany     Code = "tags-too-many"
	TagKeyMissing   Code = "tag-key-missing"
	TagKeyRepeated  Code = "tag-key-repeated"
	TagKeyInvalid   Code = "tag-key-invalid"
	TagValueInvalid Code = "tag-value-invalid"

	ResourceGroupNotFound Code = "resource-group-not-found"

	InstanceNameLength  Code = "instance-name-length"
	InstanceNamePattern Code = "instance-name-pattern"

	ActivationNotFound    Code = "activation-not-found"
	ActivationInUse       Code = "activation-in-use"
	ActivationPrefixLen   Code = "activation-prefix-length"
	ActivationPrefix      Code = "activation-prefix"
	ActivationDescription Code = "activation-description"
	ActivationCount       Code = "activation-count"
	ActivationTTL         Code = "activation-ttl"
	ActivationAddresses   Code = "activation-addresses"
	ActivationQuota       Code = "activation-quota"

	InstanceQuota Code = "instance-quota"

	AccessKeyNotFound Code = "access-key-not-found"
	AccessKeyQuota    Code = "access-key-quota"

	// Of temporary keys.
	TokenMissing  Code = "token-missing"
	TokenExpired  Code = "token-expired"
	TokenInvalid  Code = "token-invalid"  // not one of ours, or altered
	TokenMismatch Code = "token-mismatch" // another key's
	TokenLife     Code = "token-life"     // asked for a life that is not allowed

	// What policies do not allow, and everything about users and policies.
	NotAuthorized     Code = "not-authorized"
	UserNotFound      Code = "user-not-found"
	UserExists        Code = "user-exists"
	UserHasKeys       Code = "user-has-keys"
	UserInGroup       Code = "user-in-group"
	UserHasPolicy     Code = "user-has-policy"
	UserQuota         Code = "user-quota"
	UserNameInvalid   Code = "user-name-invalid"
	GroupNotFound     Code = "group-not-found"
	GroupExists       Code = "group-exists"
	GroupHasUsers     Code = "group-has-users"
	GroupHasPolicy    Code = "group-has-policy"
	GroupQuota        Code = "group-quota"
	GroupNameInvalid  Code = "group-name-invalid"
	MemberNotFound    Code = "member-not-found"
	MemberExists      Code = "member-exists"
	MemberQuota       Code = "member-quota"
	PolicyNotFound    Code = "policy-not-found"
	PolicyExists      Code = "policy-exists"
	PolicyAttached    Code = "policy-attached"
	PolicyQuota       Code = "policy-quota"
	PolicyNameInvalid Code = "policy-name-invalid"
	PolicyDocument    Code = "policy-document-invalid"
	PolicyIsSystem    Code = "policy-is-system" // it comes with the server and cannot be changed
	AttachedAlready   Code = "attached-already"
	NotAttached       Code = "not-attached"
	AttachmentQuota   Code = "attachment-quota"
	TextTooLong       Code = "text-too-long" // Field names it

	// Resource groups and tags of resources.
	ResourceGroupExists Code = "resource-group-exists"
	ResourceGroupInUse  Code = "resource-group-in-use"
	ResourceGroupName   Code = "resource-group-name-invalid"
	ResourceGroupQuota  Code = "resource-group-quota"
	ResourceNotFound    Code = "resource-not-found"
	ResourceTagQuota    Code = "resource-tag-quota"

	// Repetition and pace.
	TokenReused Code = "token-reused" // a ClientToken with other parameters than before

	// Enrolment and renewal, answered to agents.
	EnrolRefused  Code = "enrol-refused"  // the activation does not allow it; Message says why
	ProofInvalid  Code = "proof-invalid"  // the request was not signed by the key it names
	NotRegistered Code = "not-registered" // the instance was deregistered or never existed
	Quarantined   Code = "quarantined"    // two live machines use the same identity

	DeliveryNotOpen  Code = "delivery-not-open" // to a machine that asks for its content
	ContentLost      Code = "content-lost"      // it is not where it is kept, or not what was kept there
	DeliveryNotFound Code = "delivery-not-found"

	// Contents that are sent by their digests, and uploaded before.
	DigestInvalid    Code = "digest-invalid"
	ContentConflict  Code = "content-conflict"  // it is given in two ways
	ContentNotFound  Code = "content-not-found" // the account has neither uploaded nor sent it
	UploadSize       Code = "upload-size"
	UploadQuota      Code = "upload-quota"
	UploadNotFound   Code = "upload-not-found" // it is over, or never was
	UploadExpired    Code = "upload-expired"   // its location is; the upload may go on under another
	UploadMoved      Code = "upload-moved"     // bytes belong elsewhere than was said
	UploadLength     Code = "upload-length"    // too few bytes for a piece, or more than are missing
	UploadMismatch   Code = "upload-mismatch"  // what came has another digest
	StorageFull      Code = "storage-full"
	WebhookNotFound  Code = "webhook-not-found"
	WebhookURL       Code = "webhook-url-invalid"
	WebhookQuota     Code = "webhook-quota"
	EventTypeInvalid Code = "event-type-invalid"
)

// Error is an error that a caller may see. Message is a sentence safe to show; Err is the cause, for the log.
type Error struct {
	Code    Code
	Field   string // the request field at fault, in the words of this package; empty if none
	Message string
	Err     error
}

// Errorf returns an Error whose message is safe to show to the caller.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Missing returns the Error for an absent required field.
func Missing(field string) *Error {
	return &Error{Code: MissingField, Field: field, Message: field + " is required"}
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first Error in err's chain, and Internal for any other non-nil error.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}
