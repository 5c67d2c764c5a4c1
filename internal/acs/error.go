// SPDX-License-Identifier: Apache-2.0

package acs

import "fmt"

// Reason says what is wrong with the authentication of a request.
type Reason string

// The reasons.
const (
	MissingParameter    Reason = "missing-parameter"     // Error.Parameter is absent or empty
	BadSignatureMethod  Reason = "bad-signature-method"  // another algorithm than HMAC-SHA1 or ACS3-HMAC-SHA256
	BadSignatureVersion Reason = "bad-signature-version" // V1 with another SignatureVersion than 1.0
	BadTimestamp        Reason = "bad-timestamp"         // not YYYY-MM-DDThh:mm:ssZ
	Expired             Reason = "expired"               // signed too long ago, or too far in the future
	Malformed           Reason = "malformed"             // the Authorization header, or its list lacks a required header
	Mismatch            Reason = "mismatch"              // the signature is another one
	BadFormat           Reason = "bad-format"            // a Format other than JSON and XML
	BadEncoding         Reason = "bad-encoding"          // parameters that do not decode, or a name given twice
)

// Error is what every function of this package that fails returns.
type Error struct {
	Reason Reason
	// Parameter is, with MissingParameter, the name as the ECS error page spells it (TimeStamp, not Timestamp); for what
	// exists only as a header, the header.
	Parameter string
	// StringToSign and CanonicalRequest are, with Mismatch, what the signature has to be made of. They hold all
	// parameters of the request: answer them to its sender, never log them.
	StringToSign     string
	CanonicalRequest string // ACS3 only
	Message          string // for people; without parameter values beyond the one at fault
}

func (e *Error) Error() string { return "signature: " + e.Message }

func errorf(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func missing(parameter string) *Error {
	return &Error{Reason: MissingParameter, Parameter: parameter, Message: parameter + " is missing"}
}
