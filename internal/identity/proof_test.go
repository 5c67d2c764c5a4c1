// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/wire"
)

// proofVector is a request and the signature it must get. They were made with Ed25519 directly, not with this package.
type proofVector struct {
	Name      string `json:"name"`
	Seed      string `json:"seed"`
	Method    string `json:"method"`
	URL       string `json:"url"`
	Timestamp int64  `json:"timestamp"`
	Nonce     string `json:"nonce"`
	Body      []byte `json:"body"`
	Key       string `json:"key"`
	Signature string `json:"signature"`
}

func proofVectors(tb testing.TB) []proofVector {
	tb.Helper()
	text, err := os.ReadFile("testdata/proofs.json")
	if err != nil {
		tb.Fatal(err)
	}
	var vectors []proofVector
	if err := json.Unmarshal(text, &vectors); err != nil {
		tb.Fatal(err)
	}
	return vectors
}

const window = 15 * time.Minute

func TestSignRequestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range proofVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			kp, err := nkeys.FromSeed([]byte(v.Seed))
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(v.Method, v.URL, nil)
			if err := identity.SignRequest(kp, r, v.Body, time.UnixMilli(v.Timestamp), v.Nonce); err != nil {
				t.Fatal(err)
			}
			if got := r.Header.Get(wire.HeaderSignature); got != v.Signature {
				t.Errorf("signature %s, want %s", got, v.Signature)
			}
			key, nonce, err := identity.VerifyRequest(r, v.Body, time.UnixMilli(v.Timestamp), window)
			if err != nil || key != v.Key || nonce != v.Nonce {
				t.Errorf("VerifyRequest = %q, %q, %v", key, nonce, err)
			}
		})
	}
}

func TestVerifyRequest(t *testing.T) {
	t.Parallel()
	kp, key := newUser(t)
	_, otherKey := newUser(t)
	now := time.UnixMilli(1_795_434_318_913)
	set := func(header, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(header, value) }
	}
	stamp := func(at time.Time) string { return strconv.FormatInt(at.UnixMilli(), 10) }
	for _, tt := range []struct {
		name   string
		signed time.Time
		nonce  string
		tamper func(*http.Request)
		body   string // empty: the body that was signed
		ok     bool
	}{
		{name: "as signed", ok: true},
		{name: "15 minutes old", signed: now.Add(-window), ok: true},
		{name: "15 minutes ahead", signed: now.Add(window), ok: true},
		{name: "longest nonce", nonce: strings.Repeat("n", 64), ok: true},
		{name: "too old", signed: now.Add(-window - time.Millisecond)},
		{name: "too far ahead", signed: now.Add(window + time.Millisecond)},
		{name: "other body", body: `{"a":2}`},
		{name: "other method", tamper: func(r *http.Request) { r.Method = http.MethodPut }},
		{name: "other path", tamper: func(r *http.Request) { r.URL.Path = wire.PathLeave }},
		{name: "other key", tamper: set(wire.HeaderKey, otherKey)},
		{name: "no key", tamper: set(wire.HeaderKey, "")},
		{name: "lower-case key", tamper: set(wire.HeaderKey, strings.ToLower(key))},
		{name: "other nonce", tamper: set(wire.HeaderNonce, "n-2")},
		{name: "other timestamp", tamper: set(wire.HeaderTimestamp, stamp(now.Add(time.Second)))},
		{name: "timestamp not a number", tamper: set(wire.HeaderTimestamp, "yesterday")},
		{name: "timestamp beyond time", tamper: set(wire.HeaderTimestamp, "9223372036854775807")},
		{name: "timestamp before time", tamper: set(wire.HeaderTimestamp, "-9223372036854775808")},
		{name: "no signature", tamper: set(wire.HeaderSignature, "")},
		{name: "signature not Base64", tamper: set(wire.HeaderSignature, "%%%")},
		{name: "signature cut short", tamper: set(wire.HeaderSignature, "AAAA")},
		{name: "no nonce", tamper: func(r *http.Request) { r.Header.Del(wire.HeaderNonce) }},
		{name: "nonce too long", nonce: strings.Repeat("n", 65)},
		{name: "nonce with a newline", nonce: "a\nb"},
		{name: "nonce with a space", nonce: "a b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			signed, nonce, body := tt.signed, tt.nonce, []byte(`{"a":1}`)
			if signed.IsZero() {
				signed = now
			}
			if nonce == "" {
				nonce = "n-1"
			}
			r := httptest.NewRequest(http.MethodPost, wire.PathRenew, nil)
			if err := identity.SignRequest(kp, r, body, signed, nonce); err != nil {
				t.Fatal(err)
			}
			if tt.tamper != nil {
				tt.tamper(r)
			}
			if tt.body != "" {
				body = []byte(tt.body)
			}
			gotKey, gotNonce, err := identity.VerifyRequest(r, body, now, window)
			if tt.ok {
				if err != nil || gotKey != key || gotNonce != nonce {
					t.Errorf("VerifyRequest = %q, %q, %v", gotKey, gotNonce, err)
				}
				return
			}
			if waybill.CodeOf(err) != waybill.ProofInvalid || gotKey != "" {
				t.Errorf("VerifyRequest = %q, %v, want ProofInvalid", gotKey, err)
			}
		})
	}
}

func FuzzVerifyRequest(f *testing.F) {
	for _, v := range proofVectors(f) {
		f.Add(v.Key, strconv.FormatInt(v.Timestamp, 10), v.Nonce, v.Signature, v.Body)
	}
	good := proofVectors(f)[0]
	f.Fuzz(func(t *testing.T, key, timestamp, nonce, signature string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, wire.PathEnroll, nil)
		r.Header.Set(wire.HeaderKey, key)
		r.Header.Set(wire.HeaderTimestamp, timestamp)
		r.Header.Set(wire.HeaderNonce, nonce)
		r.Header.Set(wire.HeaderSignature, signature)
		got, _, err := identity.VerifyRequest(r, body, time.UnixMilli(good.Timestamp), window)
		if err == nil && (got != key || !bytes.Equal(body, good.Body)) {
			t.Errorf("accepted a request nobody signed: key %q", key)
		}
		if err != nil && waybill.CodeOf(err) != waybill.ProofInvalid {
			t.Errorf("refused with %v", err)
		}
	})
}
