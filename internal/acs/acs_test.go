// SPDX-License-Identifier: Apache-2.0

package acs

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// vector is one request of testdata/signature-vectors.json: published examples and requests of official clients.
type vector struct {
	ID               string            `json:"id"`
	Algorithm        string            `json:"algorithm"`
	AccessKeyID      string            `json:"access_key_id"`
	Secret           string            `json:"access_key_secret"`
	SecurityToken    string            `json:"security_token"`
	Method           string            `json:"method"`
	Host             string            `json:"host"`
	RequestURI       string            `json:"request_uri"`
	Headers          map[string]string `json:"headers"`
	Body             string            `json:"body"`
	Action           string            `json:"action"`
	Params           map[string]string `json:"params"`
	CanonicalRequest string            `json:"canonical_request"`
	StringToSign     string            `json:"string_to_sign"`
	Signature        string            `json:"signature"`
	Authorization    string            `json:"authorization"`
}

func (v vector) family() Family {
	if v.Algorithm == acs3Algorithm {
		return ACS3
	}
	return V1
}

// request returns a fresh request as a server sees it.
func (v vector) request() *http.Request {
	r := httptest.NewRequest(v.Method, v.RequestURI, strings.NewReader(v.Body))
	r.Host = v.Host
	for name, value := range v.Headers {
		r.Header.Set(name, value)
	}
	return r
}

func vectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/signature-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs) != 18 {
		t.Fatalf("%d vectors, want 18", len(vs))
	}
	return vs
}

func forEachVector(t *testing.T, f func(t *testing.T, v vector)) {
	t.Helper()
	for _, v := range vectors(t) {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			f(t, v)
		})
	}
}

func TestVectorsVerify(t *testing.T) {
	t.Parallel()
	forEachVector(t, func(t *testing.T, v vector) {
		q, err := Parse(v.request(), []byte(v.Body))
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Verify(v.Secret); err != nil {
			t.Fatal(err)
		}
		if err := q.CheckTime(q.Time, 0); err != nil {
			t.Error(err)
		}
		for _, c := range []struct{ what, got, want string }{
			{"action", q.Action, v.Action},
			{"version", q.Version, "2014-05-26"},
			{"key", q.AccessKeyID, v.AccessKeyID},
			{"token", q.SecurityToken, v.SecurityToken},
			{"signature", q.signature, v.Signature},
			{"string to sign", q.candidates[0].toSign, v.StringToSign},
			{"canonical request", q.candidates[0].canonical, v.CanonicalRequest},
		} {
			if c.got != c.want {
				t.Errorf("%s\n got %q\nwant %q", c.what, c.got, c.want)
			}
		}
		if q.Family != v.family() || q.Method != v.Method || q.Nonce == "" {
			t.Errorf("family %v method %v nonce %q", q.Family, q.Method, q.Nonce)
		}
		if diff := cmp.Diff(v.Params, q.Params); diff != "" {
			t.Errorf("params (-want +got):\n%s", diff)
		}
	})
}

func TestVectorsSign(t *testing.T) {
	t.Parallel()
	forEachVector(t, func(t *testing.T, v vector) {
		q, err := Parse(v.request(), []byte(v.Body))
		if err != nil {
			t.Fatal(err)
		}
		if v.family() == ACS3 {
			r := v.request()
			for _, h := range []string{headerAuthorization, headerDate, headerNonce, headerDigest, headerToken, headerKeyID} {
				r.Header.Del(h)
			}
			SignACS3(r, []byte(v.Body), v.AccessKeyID, v.Secret, v.SecurityToken, q.Nonce, q.Time)
			if got := r.Header.Get(headerAuthorization); got != v.Authorization {
				t.Errorf("authorization\n got %s\nwant %s", got, v.Authorization)
			}
			return
		}
		// What the caller of SignV1 gives: everything but what SignV1 adds.
		given := url.Values{}
		for _, encoded := range []string{v.request().URL.RawQuery, v.Body} {
			values, err := url.ParseQuery(encoded)
			if err != nil {
				t.Fatal(err)
			}
			for name := range values {
				given.Set(name, values.Get(name))
			}
		}
		for _, added := range []string{
			paramAccessKeyID, paramSecurityToken, paramSignature, paramSignatureMethod,
			paramSignatureNonce, paramSignatureVersion, paramTimestamp,
		} {
			given.Del(added)
		}
		signed := SignV1(v.Method, given, v.AccessKeyID, v.Secret, v.SecurityToken, q.Nonce, q.Time)
		if got := signed.Get(paramSignature); got != v.Signature {
			t.Errorf("signature %s, want %s", got, v.Signature)
		}
	})
}

// TestVectorsAltered derives negative cases from every vector. Replay of a nonce is the
// caller's to refuse.
func TestVectorsAltered(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		run  func(t *testing.T, v vector)
	}{
		{"secret", alterSecret},
		{"parameter", alterParameters},
		{"additional parameter", func(t *testing.T, v vector) {
			v.RequestURI += map[bool]string{true: "&", false: "?"}[strings.Contains(v.RequestURI, "?")] + "Added=1"
			expectRefused(t, v, "added", Mismatch)
		}},
		{"method", func(t *testing.T, v vector) {
			v.Method = map[string]string{"GET": "POST", "POST": "GET"}[v.Method]
			expectRefused(t, v, v.Method, Mismatch)
		}},
		{"body", alterBody},
		{"clock", alterClock},
		{"signed headers", alterHeaders},
	}
	forEachVector(t, func(t *testing.T, v vector) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, v)
			})
		}
	})
}

func alterSecret(t *testing.T, v vector) {
	q, err := Parse(v.request(), []byte(v.Body))
	if err != nil {
		t.Fatal(err)
	}
	for i := range v.Secret {
		expectReason(t, q.Verify(alter(v.Secret, i)), Mismatch)
	}
	e := expectReason(t, q.Verify(""), Mismatch)
	if e.StringToSign != v.StringToSign || e.CanonicalRequest != v.CanonicalRequest {
		t.Errorf("mismatch does not say what to sign: %+v", e)
	}
}

func alterParameters(t *testing.T, v vector) {
	for name, value := range v.Params {
		for _, with := range []string{alter(value, 0), alter(value, len(value)-1), value + "x", ""} {
			mutated := v
			mutated.RequestURI = substitute(v.RequestURI, name, with)
			mutated.Body = substitute(v.Body, name, with)
			expectRefused(t, mutated, name+" = "+with, Mismatch)
		}
	}
}

func alterBody(t *testing.T, v vector) {
	if v.Body == "" {
		v.Body = "Name=other"
	} else {
		v.Body = substitute(v.Body, "Name", "other")
	}
	if v.family() == ACS3 || v.Headers[headerContentType] != "" {
		expectRefused(t, v, "body", Mismatch)
		return
	}
	// V1 covers the parameters only. A body that is not a form holds none, so it changes nothing.
	q, err := Parse(v.request(), []byte(v.Body))
	if err != nil || q.Verify(v.Secret) != nil {
		t.Fatalf("a body that is no form counted: %v", err)
	}
	if diff := cmp.Diff(v.Params, q.Params); diff != "" {
		t.Errorf("params (-want +got):\n%s", diff)
	}
}

func alterClock(t *testing.T, v vector) {
	q, err := Parse(v.request(), []byte(v.Body))
	if err != nil {
		t.Fatal(err)
	}
	const window = 15 * time.Minute
	for _, off := range []time.Duration{window, -window} {
		if err := q.CheckTime(q.Time.Add(off), window); err != nil {
			t.Errorf("%s off: %v", off, err)
		}
	}
	for _, off := range []time.Duration{window + time.Second, -window - time.Second, 24 * time.Hour} {
		expectReason(t, q.CheckTime(q.Time.Add(off), window), Expired)
	}
}

// alterHeaders changes, drops, doubles and unlists each signed header in turn.
func alterHeaders(t *testing.T, v vector) {
	if v.family() == V1 {
		return // signs no header
	}
	auth, err := parseAuthorization(v.Authorization)
	if err != nil {
		t.Fatal(err)
	}
	missingAs := map[string]string{
		headerAction: "Action", headerVersion: "Version", headerDate: "TimeStamp", headerNonce: "SignatureNonce",
		headerDigest: headerDigest,
	}
	for _, name := range auth.signedHeaders {
		r := v.request()
		if name == headerHost {
			r.Host = alter(r.Host, 0)
			expectRequestRefused(t, r, v, "altered host", Mismatch)
			continue
		}
		value := r.Header.Get(name)
		if name == headerDate {
			r.Header.Set(name, strings.Replace(value, "T", "t", 1))
			expectRequestRefused(t, r, v, "misspelt date", BadTimestamp)
			r.Header.Set(name, "2001-01-01T00:00:00Z")
		} else {
			r.Header.Set(name, alter(value, len(value)-1))
		}
		expectRequestRefused(t, r, v, "altered "+name, Mismatch)

		r = v.request()
		r.Header.Add(name, "second")
		expectRequestRefused(t, r, v, "second "+name, Mismatch)

		r = v.request()
		r.Header.Del(name)
		if spelling, required := missingAs[name]; required {
			if e := expectRequestRefused(t, r, v, "dropped "+name, MissingParameter); e.Parameter != spelling {
				t.Errorf("dropped %s: parameter %q, want %q", name, e.Parameter, spelling)
			}
		} else {
			expectRequestRefused(t, r, v, "dropped "+name, Mismatch)
		}
	}
	for i, name := range auth.signedHeaders {
		rest := append(append([]string{}, auth.signedHeaders[:i]...), auth.signedHeaders[i+1:]...)
		r := v.request()
		r.Header.Set(headerAuthorization, strings.Replace(v.Authorization,
			strings.Join(auth.signedHeaders, ";"), strings.Join(rest, ";"), 1))
		want := Mismatch
		switch name {
		case headerHost, headerAction, headerVersion, headerDate, headerNonce, headerDigest, headerToken:
			want = Malformed
		}
		expectRequestRefused(t, r, v, "unlisted "+name, want)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const at = "2026-11-23T12:00:00Z"
	v1 := func(change func(url.Values)) *http.Request {
		now, err := time.Parse(timeLayout, at)
		if err != nil {
			t.Fatal(err)
		}
		p := SignV1("GET", url.Values{"Action": {"A"}, "Version": {"V"}}, "id", "secret", "", "nonce", now)
		change(p)
		return httptest.NewRequest("GET", "/?"+p.Encode(), nil)
	}
	acs3 := func(change func(http.Header)) *http.Request {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set(headerAction, "A")
		r.Header.Set(headerVersion, "V")
		now, err := time.Parse(timeLayout, at)
		if err != nil {
			t.Fatal(err)
		}
		SignACS3(r, nil, "id", "secret", "", "nonce", now)
		change(r.Header)
		return r
	}
	authorization := func(s string) *http.Request {
		return acs3(func(h http.Header) { h.Set(headerAuthorization, s) })
	}
	authorized := func(fields string) *http.Request { return authorization("ACS3-HMAC-SHA256 " + fields) }
	raw := func(query string) *http.Request {
		r := v1(func(url.Values) {})
		r.URL.RawQuery += "&" + query
		return r
	}
	set := func(name, value string) *http.Request {
		return v1(func(p url.Values) { p.Set(name, value) })
	}

	tests := []struct {
		name      string
		r         *http.Request
		reason    Reason
		parameter string
		format    string
	}{
		{"nothing", httptest.NewRequest("GET", "/", nil), MissingParameter, "Action", XML},
		{"no action", set("Action", ""), MissingParameter, "Action", JSON},
		{"no key", set("AccessKeyId", ""), MissingParameter, "AccessKeyId", JSON},
		{"no signature", set("Signature", ""), MissingParameter, "Signature", JSON},
		{"no time", set("Timestamp", ""), MissingParameter, "TimeStamp", JSON},
		{"no version", set("Version", ""), MissingParameter, "Version", JSON},
		{"no method", set("SignatureMethod", ""), MissingParameter, "SignatureMethod", JSON},
		{"no signature version", set("SignatureVersion", ""), MissingParameter, "SignatureVersion", JSON},
		{"no nonce", set("SignatureNonce", ""), MissingParameter, "SignatureNonce", JSON},
		{"other method", set("SignatureMethod", "HMAC-SHA256"), BadSignatureMethod, "", JSON},
		{"other signature version", set("SignatureVersion", "2.0"), BadSignatureVersion, "", JSON},
		{"time without zone", set("Timestamp", "2026-11-23T12:00:00"), BadTimestamp, "", JSON},
		{"time with fraction", set("Timestamp", "2026-11-23T12:00:00.5Z"), BadTimestamp, "", JSON},
		{"time of other zone", set("Timestamp", "2026-11-23T12:00:00+08:00"), BadTimestamp, "", JSON},
		{"time of no calendar", set("Timestamp", "2026-13-23T12:00:00Z"), BadTimestamp, "", JSON},
		{"format", set("Format", "YAML"), BadFormat, "", XML},
		{"format after all else", v1(func(p url.Values) {
			p.Set("Format", "YAML")
			p.Del("Action")
		}), MissingParameter, "Action", XML},
		{"truncated escape", raw("A=%2"), BadEncoding, "", JSON},
		{"escape in a name", raw("%zz=1"), BadEncoding, "", JSON},
		{"not UTF-8", raw("A=%ff"), BadEncoding, "", JSON},
		{"twice", raw("A=1&A=2"), BadEncoding, "", JSON},
		{"twice, spelt differently", raw("A=1&%41=1"), BadEncoding, "", JSON},

		{"other algorithm", authorization("ACS3-HMAC-SM3 Credential=a"), BadSignatureMethod, "", JSON},
		{"algorithm only", authorization("ACS3-HMAC-SHA256"), Malformed, "", JSON},
		{"no credential", authorized("SignedHeaders=host,Signature=00"), Malformed, "", JSON},
		{"empty credential", authorized("Credential=,SignedHeaders=host,Signature=00"), Malformed, "", JSON},
		{"no list", authorized("Credential=a,Signature=00"), Malformed, "", JSON},
		{"unknown field", authorized("Credential=a,SignedHeaders=host,Signature=00,X=y"), Malformed, "", JSON},
		{"repeated field", authorized("Credential=a,Credential=b,SignedHeaders=host,Signature=00"), Malformed, "", JSON},
		{"short list", authorized("Credential=a,SignedHeaders=host,Signature=00"), Malformed, "", JSON},
		{"unsigned token", acs3(func(h http.Header) { h.Set(headerToken, "token") }), Malformed, "", JSON},
		{"no digest", acs3(func(h http.Header) { h.Del(headerDigest) }), MissingParameter, headerDigest, JSON},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q, err := Parse(tt.r, nil)
			e := expectReason(t, err, tt.reason)
			if e.Parameter != tt.parameter {
				t.Errorf("parameter %q, want %q", e.Parameter, tt.parameter)
			}
			if q == nil || q.Format != tt.format {
				t.Fatalf("request %+v, want format %s", q, tt.format)
			}
			expectReason(t, q.Verify("secret"), Mismatch)
		})
	}
}

func TestParseDecodes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name  string
		query string
		form  string
		want  map[string]string
	}{
		{"plus is a space", "A=a+b", "", map[string]string{"A": "a b"}},
		{"escaped space and plus", "A=a%20b%2Bc", "", map[string]string{"A": "a b+c"}},
		{"raw asterisk and tilde", "A=*~", "", map[string]string{"A": "*~"}},
		{"semicolon is a character", "A=1;B=2", "", map[string]string{"A": "1;B=2"}},
		{"no value", "A&B=", "", map[string]string{"A": "", "B": ""}},
		{"equals sign in a value", "A=b=c", "", map[string]string{"A": "b=c"}},
		{"empty pairs", "&&A=1&", "", map[string]string{"A": "1"}},
		{"form beside query", "A=1", "B=2", map[string]string{"A": "1", "B": "2"}},
		{"form over query", "A=1", "A=2", map[string]string{"A": "2"}},
		{"region stays, the rest does not", "RegionId=r&OwnerId=1&SourceIp=x", "", map[string]string{"RegionId": "r"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("POST", "/?"+tt.query, nil)
			r.Header.Set(headerAction, "A")
			r.Header.Set(headerVersion, "V")
			if tt.form != "" {
				r.Header.Set(headerContentType, "Application/X-WWW-Form-urlencoded; charset=utf-8")
			}
			SignACS3(r, []byte(tt.form), "id", "secret", "", "nonce", now)
			q, err := Parse(r, []byte(tt.form))
			if err != nil {
				t.Fatal(err)
			}
			if err := q.Verify("secret"); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tt.want, q.Params); diff != "" {
				t.Errorf("params (-want +got):\n%s", diff)
			}
		})
	}
}

// The Go and Node SDKs do not encode parameter names.
func TestVerifyUnencodedNames(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	r := httptest.NewRequest("POST", "/?na%20me=1", nil)
	r.Header.Set(headerAction, "A")
	r.Header.Set(headerVersion, "V")
	SignACS3(r, nil, "id", "secret", "", "nonce", now)
	signed := []string{headerHost, headerAction, headerDigest, headerDate, headerNonce, headerVersion}
	sign := func(query string) {
		s := newACS3Signable(r, query, signed, hexSHA256(nil))
		r.Header.Set(headerAuthorization, "ACS3-HMAC-SHA256  Credential=id, SignedHeaders="+strings.Join(signed, ";")+
			", Signature="+ACS3.sign("secret", s.toSign))
	}
	for query, ok := range map[string]bool{"na%20me=1": true, "na me=1": true, "name=1": false} {
		sign(query)
		q, err := Parse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Verify("secret"); (err == nil) != ok {
			t.Errorf("signed over %q: %v", query, err)
		}
	}
}

// A client that signs the true digest but declares another is refused, although its signature is right.
func TestVerifyDeclaredDigest(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set(headerAction, "A")
	r.Header.Set(headerVersion, "V")
	SignACS3(r, nil, "id", "secret", "", "nonce", time.Now())
	r.Header.Set(headerDigest, hexSHA256([]byte("other")))
	signed := []string{headerHost, headerAction, headerDigest, headerDate, headerNonce, headerVersion}
	s := newACS3Signable(r, "", signed, hexSHA256(nil))
	r.Header.Set(headerAuthorization, "ACS3-HMAC-SHA256 Credential=id,SignedHeaders="+strings.Join(signed, ";")+
		",Signature="+ACS3.sign("secret", s.toSign))
	q, err := Parse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	expectReason(t, q.Verify("secret"), Mismatch)
}

// Who strips or adds the Content-Type decides whether the body holds parameters.
func TestParseFormNeedsSignedContentType(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set(headerAction, "A")
	r.Header.Set(headerVersion, "V")
	body := []byte("A=1")
	SignACS3(r, body, "id", "secret", "", "nonce", time.Now())
	r.Header.Set(headerContentType, "application/x-www-form-urlencoded")
	_, err := Parse(r, body)
	expectReason(t, err, Malformed)
}

func TestErrorHoldsNoParameters(t *testing.T) {
	t.Parallel()
	v := vectors(t)[3]
	q, err := Parse(v.request(), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = q.Verify("wrong")
	if s := err.Error(); strings.Contains(s, "hello") || strings.Contains(s, v.StringToSign) {
		t.Errorf("%q must be safe to log", s)
	}
}

func expectReason(t *testing.T, err error, want Reason) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Reason != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	return e
}

func expectRefused(t *testing.T, v vector, what string, want Reason) {
	t.Helper()
	expectRequestRefused(t, v.request(), v, what, want)
}

func expectRequestRefused(t *testing.T, r *http.Request, v vector, what string, want Reason) *Error {
	t.Helper()
	q, err := Parse(r, []byte(v.Body))
	if err == nil {
		err = q.Verify(v.Secret)
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Reason != want {
		t.Fatalf("%s: got %v, want %s", what, err, want)
	}
	return e
}

// alter changes the character of s at byte i.
func alter(s string, i int) string {
	b := []byte(s)
	if b[i] == '0' {
		b[i] = '1'
	} else {
		b[i] = '0'
	}
	return string(b)
}

// substitute replaces the value of a parameter in a query string or form, if it is there.
func substitute(encoded, name, value string) string {
	before, query, isURI := strings.Cut(encoded, "?")
	if !isURI {
		before, query = "", encoded
	}
	parts := strings.Split(query, "&")
	for i, part := range parts {
		n, _, _ := strings.Cut(part, "=")
		if n == name {
			parts[i] = n + "=" + url.QueryEscape(value)
		}
	}
	if isURI {
		before += "?"
	}
	return before + strings.Join(parts, "&")
}

// TestTooManyParameters sends more of them than any legal request has: they are refused before they cost much.
func TestTooManyParameters(t *testing.T) {
	t.Parallel()
	var query strings.Builder
	for i := range maxParams + 1000 {
		fmt.Fprintf(&query, "&p%d=", i)
	}
	values, err := decode(query.String()[1:])
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != BadEncoding || len(values) != maxParams {
		t.Errorf("%d values, %v", len(values), err)
	}
}
