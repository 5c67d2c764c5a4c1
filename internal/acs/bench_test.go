// SPDX-License-Identifier: Apache-2.0

package acs

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// benchSecret is that of the key of these benchmarks.
const benchSecret = "secret"

// BenchmarkVerify reads and verifies a SendFile of 1 KB in both families.
func BenchmarkVerify(b *testing.B) {
	params := url.Values{
		"RegionId": {"cn-hangzhou"}, "InstanceId.1": {"mi-hz0123456789abcdef0123456789ab"}, "Name": {"bench"}, "TargetDir": {"/srv"},
		"FileOwner": {"root"}, "FileGroup": {"root"}, "ContentType": {"Base64"}, "Content": {strings.Repeat("QUJD", 341)}, "Timeout": {"3600"},
	}
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	const form = "application/x-www-form-urlencoded"

	acs3 := []byte(params.Encode())
	signed := httptest.NewRequest(http.MethodPost, "https://127.0.0.1:8480/", nil)
	signed.Header.Set("Content-Type", form)
	signed.Header.Set("x-acs-action", "SendFile")
	signed.Header.Set("x-acs-version", "2014-05-26")
	SignACS3(signed, acs3, "key", benchSecret, "", "0123456789abcdef0123456789abcdef", now)

	params.Set("Action", "SendFile")
	params.Set("Version", "2014-05-26")
	v1 := []byte(SignV1(http.MethodPost, params, "key", benchSecret, "", "0123456789abcdef0123456789abcdef", now).Encode())
	plain := httptest.NewRequest(http.MethodPost, "https://127.0.0.1:8480/", nil)
	plain.Header.Set("Content-Type", form)

	for _, q := range []struct {
		name string
		r    *http.Request
		body []byte
	}{{"ACS3", signed, acs3}, {"V1", plain, v1}} {
		b.Run(q.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				parsed, err := Parse(q.r, q.body)
				if err == nil {
					err = parsed.Verify(benchSecret)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
