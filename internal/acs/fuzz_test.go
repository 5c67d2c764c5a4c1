// SPDX-License-Identifier: Apache-2.0

package acs

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// FuzzParseV1 checks that no input breaks the parser, that only signed requests verify, and that what SignV1 makes of
// the decoded parameters is accepted and decodes to the same.
func FuzzParseV1(f *testing.F) {
	for _, v := range vectors(f) {
		if v.family() == V1 {
			f.Add(v.request().URL.RawQuery, v.Body)
		}
	}
	f.Add("A=%", ";&=&&A=1&A")
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, query, form string) {
		r := formRequest(query, form)
		q, err := Parse(r, []byte(form))
		checkParsed(t, q, err)

		p, err := readParams(r, []byte(form))
		if err != nil {
			return
		}
		op := p.operation()
		values := url.Values{"Action": {"A"}, "Version": {"V"}}
		for name, value := range op {
			values.Set(name, value)
		}
		signed := SignV1("POST", values, "id", "secret", "token", "nonce", now).Encode()
		q, err = Parse(formRequest("", signed), []byte(signed))
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Verify("secret"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(op, q.Params); diff != "" {
			t.Fatalf("params (-want +got):\n%s", diff)
		}
	})
}

// FuzzParseACS3 is FuzzParseV1 for the headers.
func FuzzParseACS3(f *testing.F) {
	for _, v := range vectors(f) {
		if v.family() == ACS3 {
			f.Add(v.request().URL.RawQuery, v.Body, v.Authorization, v.Headers[headerDate], v.Headers[headerNonce])
		}
	}
	f.Add("A=%", "A=1", "ACS3-HMAC-SHA256 Credential=,,=", "", "")
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, query, form, authorization, date, nonce string) {
		r := formRequest(query, form)
		for name, value := range map[string]string{
			headerAuthorization: acs3Prefix + strings.TrimPrefix(authorization, acs3Prefix),
			headerAction:        "A", headerVersion: "V", headerDate: date, headerNonce: nonce,
			headerDigest: hexSHA256([]byte(form)),
		} {
			r.Header.Set(name, value)
		}
		q, err := Parse(r, []byte(form))
		checkParsed(t, q, err)

		SignACS3(r, []byte(form), "id", "secret", "token", "nonce", now)
		q, err = Parse(r, []byte(form))
		if err != nil {
			return // the parameters themselves do not decode
		}
		if err := q.Verify("secret"); err != nil {
			t.Fatal(err)
		}
	})
}

func formRequest(query, form string) *http.Request {
	r := httptest.NewRequest("POST", "/", bytes.NewReader([]byte(form)))
	r.URL.RawQuery = query
	r.Header.Set(headerContentType, "application/x-www-form-urlencoded")
	return r
}

func checkParsed(t *testing.T, q *Request, err error) {
	t.Helper()
	if q == nil {
		t.Fatal("no request")
	}
	if q.Format != JSON && q.Format != XML {
		t.Fatalf("format %q", q.Format)
	}
	if q.Verify("a secret that signed nothing") == nil {
		t.Fatal("verified")
	}
	if err != nil && q.candidates != nil {
		t.Fatal("refused, yet could verify")
	}
}
