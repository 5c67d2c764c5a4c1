// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]location{
		"file:/var/lib/waybill/blobs": {dir: "/var/lib/waybill/blobs"},
		"file:///srv/blobs/":          {dir: "/srv/blobs"},
		"file:blobs/../x":             {dir: "x"},
		"s3://contents":               {bucket: "contents", endpoint: amazon},
		"s3://contents/a/b_c-d.e/?region=eu-central-1&path-style=false": {
			bucket: "contents", prefix: "a/b_c-d.e", endpoint: amazon, region: "eu-central-1", lookup: minio.BucketLookupDNS,
		},
		"s3://contents?endpoint=https%3A%2F%2Fs3.example.com%3A9000%2F&path-style=true": {
			bucket: "contents", endpoint: "s3.example.com:9000", lookup: minio.BucketLookupPath,
		},
		"s3://contents?endpoint=s3.example.com":        {bucket: "contents", endpoint: "s3.example.com"},
		"s3://contents?endpoint=https://[2001:db8::1]": {bucket: "contents", endpoint: "[2001:db8::1]"},
		"s3://contents?endpoint=http://127.0.0.1:9000": {bucket: "contents", endpoint: "127.0.0.1:9000", plain: true},
		"s3://contents?endpoint=http://[::1]:9000":     {bucket: "contents", endpoint: "[::1]:9000", plain: true},
		"s3://contents?endpoint=http://localhost:9000": {bucket: "contents", endpoint: "localhost:9000", plain: true},
	} {
		got, err := parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(location{})); diff != "" {
			t.Errorf("%s:\n%s", text, diff)
		}
		if again, err := parse(got.String()); err != nil || again != got {
			t.Errorf("%s: written as %s, which means %+v, %v", text, got, again, err)
		}
	}
	for text, want := range map[string]string{
		"":                     "known kind",
		"contents":             "known kind",
		"https://contents":     "known kind",
		"file:":                "no directory",
		"file://host/dir":      "another machine's",
		"s3:contents":          "cannot be read",
		"s3://contents/%zz":    "cannot be read",
		"s3://contents#x":      "cannot be read",
		"s3://":                "bucket",
		"s3://Contents":        "bucket",
		"s3://contents:80":     "bucket",
		"s3://10.0.0.1":        "bucket",
		"s3://contents/a/../b": "prefix",
		"s3://contents/a//b":   "prefix",
		"s3://contents/a%20b":  "prefix",
		"s3://contents/" + strings.Repeat("a", maxPrefix+1):   "prefix",
		"s3://hunter2:hunter2@contents":                       "keys do not belong",
		"s3://contents?access-key=hunter2":                    "not known",
		"s3://contents?region=a&region=b":                     "twice",
		"s3://contents?region=a/b":                            "region",
		"s3://contents?region=":                               "region",
		"s3://contents?path-style=1":                          "path-style",
		"s3://contents?endpoint=":                             "endpoint",
		"s3://contents?endpoint=ftp://h":                      "endpoint",
		"s3://contents?endpoint=https://h/x":                  "endpoint",
		"s3://contents?endpoint=https://h:0":                  "endpoint",
		"s3://contents?endpoint=https://h:":                   "endpoint",
		"s3://contents?endpoint=https://hunter2@h":            "endpoint",
		"s3://contents?endpoint=http://s3.example.com":        "without TLS",
		"s3://contents?endpoint=http://localhost.example.com": "without TLS",
		"s3://contents?endpoint=http://10.0.0.1:9000":         "without TLS",
		"s3://contents?a;b":                                   "parameters",
	} {
		_, err := parse(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"file:/srv/blobs", "file:///srv", "s3://contents/a/b?endpoint=https://h:9000&region=r&path-style=true",
		"s3://contents?endpoint=http://[::1]:9000", "s3://k:s@contents", "s3://contents/../x?endpoint=http%3A%2F%2F10.0.0.1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, err := parse(text)
		if err != nil {
			return
		}
		if again, err := parse(at.String()); err != nil || again != at {
			t.Errorf("%q: %+v is written as %s, which means %+v, %v", text, at, at, again, err)
		}
		if (at.dir == "") == (at.bucket == "") {
			t.Errorf("%q is %+v", text, at)
		}
		if at.bucket == "" {
			return
		}
		if strings.Contains("/"+at.prefix+"/", "/../") || strings.Contains(at.prefix, "//") || len(at.prefix) > maxPrefix {
			t.Errorf("%q has the prefix %q", text, at.prefix)
		}
		u, err := url.Parse("https://" + at.endpoint)
		if err != nil || u.Host != at.endpoint {
			t.Errorf("%q has the endpoint %q", text, at.endpoint)
		} else if host := u.Hostname(); at.plain && host != "localhost" && !strings.HasPrefix(host, "127.") && !strings.HasSuffix(host, "1") {
			t.Errorf("%q goes to %s without TLS", text, host)
		}
		if _, err := newS3(at, stallPatience); err != nil {
			t.Errorf("%q: no client: %v", text, err)
		}
	})
}
