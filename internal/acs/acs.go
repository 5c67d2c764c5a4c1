// SPDX-License-Identifier: Apache-2.0

// Package acs reads, verifies and makes the request signatures of the public API: V1 (HMAC-SHA1, in the parameters) and
// ACS3 (HMAC-SHA256, in the headers).
//
// It consists of pure functions over one request and the time it is given. It keeps nothing: looking up keys and
// remembering nonces is the caller's. The safe order is Parse, CheckTime, look up the key, Verify, then the nonce.
package acs

import (
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// Family is one of the two ways in which a request is signed.
type Family int

// The families. They share one endpoint; only the Authorization header tells them apart.
const (
	V1   Family = iota // action, key and signature are parameters; answered in XML unless asked otherwise
	ACS3               // action, key and signature are headers; answered in JSON unless asked otherwise
)

// The values of Request.Format.
const (
	JSON = "JSON"
	XML  = "XML"
)

// Request is one signed request, decoded. It is not verified until Verify has returned nil.
type Request struct {
	Family        Family
	Method        string
	Action        string
	Version       string
	Format        string // JSON or XML, never empty: what was asked for, else the default of the family
	AccessKeyID   string
	SecurityToken string // empty without STS
	Nonce         string
	Time          time.Time // when the client says it signed
	// Params holds the decoded operation parameters. The common ones are left out, except RegionId. Where a name is both
	// in the query and in the form, the form has won.
	Params map[string]string

	signature  string // as sent
	candidates []signable
	digestOff  bool // the declared digest of the body is not that of the body
}

// signable is a text that the client may have signed.
type signable struct {
	canonical string // ACS3 only: the canonical request
	toSign    string
}

// timeLayout is the only form of time on the wire: UTC, whole seconds.
const timeLayout = "2006-01-02T15:04:05Z"

// Parse reads the request r with its complete body, in any of the four layouts that official clients use. It checks
// that everything an authentication needs is there and well formed, and neither the time nor the signature.
//
// The error is an *Error. The Request is never nil: after an error it holds what could be read, at least Family, Method
// and Format, so that the error can be answered in the right format.
func Parse(r *http.Request, body []byte) (*Request, error) {
	q := &Request{Method: r.Method}
	if strings.HasPrefix(r.Header.Get(headerAuthorization), acs3Prefix) {
		q.Family = ACS3
	}
	params, err := readParams(r, body)
	// A format that is no format is reported last, so that the more basic error is seen first.
	formatErr := q.readFormat(params.merged)
	if q.Family == ACS3 {
		err = firstError(err, q.parseACS3(r, body, params))
	} else {
		err = firstError(err, q.parseV1(params))
	}
	if err = firstError(err, formatErr); err != nil {
		q.candidates = nil
	}
	return q, err
}

// Verify recomputes the signature with secret and compares it in constant time. A difference is an *Error with Reason
// Mismatch that says what was to be signed. A Request that Parse returned with an error never verifies.
func (q *Request) Verify(secret string) error {
	matched := 0
	for _, c := range q.candidates {
		want := q.Family.sign(secret, c.toSign)
		matched |= subtle.ConstantTimeCompare([]byte(want), []byte(q.signature))
	}
	if matched == 1 && !q.digestOff {
		return nil
	}
	e := &Error{Reason: Mismatch, Message: "the signature does not match"}
	if q.digestOff {
		e.Message = headerDigest + " is not the digest of the body"
	}
	if len(q.candidates) > 0 {
		e.StringToSign, e.CanonicalRequest = q.candidates[0].toSign, q.candidates[0].canonical
	}
	return e
}

// CheckTime returns an *Error with Reason Expired when the request was signed more than window before or after now.
func (q *Request) CheckTime(now time.Time, window time.Duration) error {
	if off := now.Sub(q.Time).Abs(); off > window {
		return errorf(Expired, "signed at %s, %s away from the clock here", q.Time.Format(timeLayout), off.Round(time.Second))
	}
	return nil
}

func (q *Request) readFormat(params map[string]string) error {
	q.Format = XML
	if q.Family == ACS3 {
		q.Format = JSON
	}
	switch f := strings.ToUpper(params[paramFormat]); f {
	case JSON, XML:
		q.Format = f
	case "":
	default:
		return errorf(BadFormat, "format %q is neither JSON nor XML", params[paramFormat])
	}
	return nil
}

// parseTime accepts the documented form only; time.Parse alone would allow a fraction of a second.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeLayout, s)
	if err != nil || len(s) != len(timeLayout) {
		return time.Time{}, errorf(BadTimestamp, "time %q is not of the form YYYY-MM-DDThh:mm:ssZ", s)
	}
	return t, nil
}

func (f Family) sign(secret, toSign string) string {
	if f == ACS3 {
		return hex.EncodeToString(hmacSHA256(secret, toSign))
	}
	return signV1(secret, toSign)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkUTF8(name, value string) error {
	if !utf8.ValidString(name) || !utf8.ValidString(value) {
		return errorf(BadEncoding, "parameter %q is not UTF-8", fmt.Sprintf("%.64s", name))
	}
	return nil
}
