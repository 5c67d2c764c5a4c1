// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Error is a call that the API refused.
type Error struct {
	Action     string
	Status     int // of HTTP
	Code       string
	Message    string
	RequestID  string
	Recommend  string        // a link to help; may be empty
	Denied     *AccessDenied // with Forbidden.RAM only
	RetryAfter time.Duration // how long to wait before the next call; zero if the server does not say
	MaxContent int           // bytes of content that the server takes, as Base64; zero if it does not say
}

// AccessDenied says what is not allowed to whom (API: AccessDeniedDetail).
type AccessDenied struct {
	PolicyType  string // see Temporary
	DisplayName string `json:"AuthPrincipalDisplayName"` // of the user, or the account's ID
	Type        string `json:"NoPermissionType"`         // ImplicitDeny: nothing allows it; ExplicitDeny
	Action      string `json:"AuthAction"`
	Resource    string `json:"AuthResource"` // the first that is not allowed
}

// Temporary reports whether it is the policy of a temporary key that does not allow it.
func (d *AccessDenied) Temporary() bool { return d.PolicyType == "SessionPolicy" }

func (d *AccessDenied) String() string {
	why := "no policy allows it"
	switch explicit := d.Type == "ExplicitDeny"; {
	case d.Temporary() && explicit:
		why = "the policy of the temporary key denies it"
	case d.Temporary():
		why = "the policy of the temporary key does not allow it"
	case explicit:
		why = "a policy denies it"
	}
	return fmt.Sprintf("%s may not %s on %s: %s", d.DisplayName, d.Action, d.Resource, why)
}

// maxShown is how much of a message is shown. That of a wrong signature repeats the whole request.
const maxShown = 300

func (e *Error) Error() string {
	s := fmt.Sprintf("%s refused: %s: %s", e.Action, e.Code, shorten(strings.TrimSuffix(e.Message, ".")))
	if e.Denied != nil {
		s += " (" + e.Denied.String() + ")"
	}
	if e.RequestID != "" {
		s += " (request " + e.RequestID + ")"
	}
	return s
}

// foreignError is an answer that is none of the API's, such as a proxy's.
type foreignError struct {
	status int
	text   string
}

func (e *foreignError) Error() string { return e.text }

// cutOff is an answer that ended too early.
type cutOff struct{ err error }

func (e *cutOff) Error() string { return e.err.Error() }
func (e *cutOff) Unwrap() error { return e.err }

// Transient reports whether the same call could succeed later: there was no answer, or it came from a server that has
// trouble or is asked too much. A call without an answer may have been carried out.
func Transient(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status/100 == 5 || strings.HasPrefix(e.Code, "Throttling")
	}
	if e, ok := errors.AsType[*foreignError](err); ok {
		return e.status/100 == 5
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, http.ErrSchemeMismatch) ||
		isType[x509.UnknownAuthorityError](err) || isType[x509.HostnameError](err) {
		return false
	}
	return isType[*url.Error](err) || isType[*cutOff](err)
}

// refusal decodes an answer that is not a success.
func (c *Client) refusal(action string, answer *http.Response, content []byte) error {
	var body struct {
		Code, Message, Recommend string
		RequestID                string        `json:"RequestId"`
		Denied                   *AccessDenied `json:"AccessDeniedDetail"`
	}
	if err := json.Unmarshal(content, &body); err != nil || body.Code == "" {
		return &foreignError{answer.StatusCode, fmt.Sprintf("call %s: %s did not answer as a Waybill API: HTTP %s: %s",
			action, c.endpoint, answer.Status, shorten(strings.TrimSpace(string(content))))}
	}
	return &Error{
		Action:     action,
		Status:     answer.StatusCode,
		Code:       body.Code,
		Message:    body.Message,
		RequestID:  body.RequestID,
		Recommend:  body.Recommend,
		Denied:     body.Denied,
		RetryAfter: retryAfter(answer.Header),
		MaxContent: maxContent(answer.Header),
	}
}

// retryAfter reads the header in which a server that is asked too much says how many milliseconds to wait.
func retryAfter(h http.Header) time.Duration {
	ms, err := strconv.ParseUint(h.Get("x-acs-retry-after"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

// maxContent reads the header in which a server that is sent too much says what it takes.
func maxContent(h http.Header) int {
	n, err := strconv.ParseUint(h.Get("x-waybill-max-content"), 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

func shorten(s string) string {
	if len(s) <= maxShown {
		return s
	}
	cut := maxShown
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
