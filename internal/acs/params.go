// SPDX-License-Identifier: Apache-2.0

package acs

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Names of common parameters (RPC common request parameters).
const (
	paramAction           = "Action"
	paramVersion          = "Version"
	paramFormat           = "Format"
	paramAccessKeyID      = "AccessKeyId"
	paramSignature        = "Signature"
	paramSignatureMethod  = "SignatureMethod"
	paramSignatureVersion = "SignatureVersion"
	paramSignatureNonce   = "SignatureNonce"
	paramTimestamp        = "Timestamp"
	paramSecurityToken    = "SecurityToken"
)

// isCommon reports whether a parameter belongs to every operation, hence to none. RegionId is left to the operations.
func isCommon(name string) bool {
	switch name {
	case paramAction, paramVersion, paramFormat, paramAccessKeyID, paramSignature, paramSignatureMethod,
		paramSignatureVersion, paramSignatureNonce, paramTimestamp, paramSecurityToken, "SignatureType",
		// Sent by some clients, without a meaning here.
		"OwnerAccount", "OwnerId", "ResourceOwnerAccount", "ResourceOwnerId", "SourceIp", "SecureTransport":
		return true
	}
	return false
}

// params are the decoded parameters of one request.
type params struct {
	query  map[string]string
	merged map[string]string // query and form; the form wins
	form   bool              // the body has been read as a form and was not empty
}

// operation returns what is not common.
func (p params) operation() map[string]string {
	op := make(map[string]string, len(p.merged))
	for name, value := range p.merged {
		if !isCommon(name) {
			op[name] = value
		}
	}
	return op
}

// readParams decodes the query and, by its Content-Type, the body. It returns what it could decode before an error.
func readParams(r *http.Request, body []byte) (params, error) {
	p := params{}
	var err error
	p.query, err = decode(r.URL.RawQuery)
	p.merged = p.query
	if len(body) == 0 || !isForm(r.Header.Get(headerContentType)) {
		return p, err
	}
	p.form = true
	form, formErr := decode(string(body))
	p.merged = form
	if len(p.query) > 0 { // which few clients send beside a form
		p.merged = maps.Clone(p.query)
		maps.Copy(p.merged, form)
	}
	return p, firstError(err, formErr)
}

func isForm(contentType string) bool {
	const form = "application/x-www-form-urlencoded"
	return len(contentType) >= len(form) && strings.EqualFold(contentType[:len(form)], form)
}

// maxParams is above what any legal request has: a SendFile to ten thousand instances.
const maxParams = 12_000

// usualParams is how many parameters there is room for before any was read.
const usualParams = 32

// decode splits a query string or form. Unlike url.ParseQuery it takes ";" for a character like any other, as clients
// and the signature do, and refuses a name that occurs twice: which of its values counts would be anybody's guess.
// After an error it goes on, so that the rest can still tell how the error is to be answered; but it does not go beyond
// maxParams, because each costs memory before anybody knows who asks.
func decode(s string) (map[string]string, error) {
	values := make(map[string]string, min(strings.Count(s, "&")+1, usualParams))
	var first error
	for part := range strings.SplitSeq(s, "&") {
		if part == "" {
			continue
		}
		if len(values) == maxParams {
			return values, firstError(first, errorf(BadEncoding, "more than %d parameters are given", maxParams))
		}
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			first = firstError(first, errorf(BadEncoding, "a parameter name does not decode: %v", err))
			continue
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			first = firstError(first, errorf(BadEncoding, "the value of parameter %q does not decode: %v", name, err))
			continue
		}
		first = firstError(first, checkUTF8(name, value))
		if _, repeated := values[name]; repeated {
			first = firstError(first, errorf(BadEncoding, "parameter %q is given twice", name))
			continue
		}
		values[name] = value
	}
	return values, first
}

// escape is the percent-encoding that both families sign: all but letters, digits and - _ . ~
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// canonicalQuery writes the parameters sorted by their decoded names, each value escaped, each name by encodeName.
func canonicalQuery(values map[string]string, encodeName func(string) string) string {
	names := make([]string, 0, len(values))
	size := 0
	for name, value := range values {
		names = append(names, name)
		size += len(name) + len(value) + 2
	}
	slices.Sort(names)
	var b strings.Builder
	b.Grow(size)
	for i, name := range names {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(encodeName(name))
		b.WriteByte('=')
		b.WriteString(escape(values[name]))
	}
	return b.String()
}
