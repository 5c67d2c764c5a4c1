// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// The example of the specification's reference libraries.
func TestSign(t *testing.T) {
	const secret, id, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", `{"test": 2432232314}`
	got, err := Sign(secret, id, time.Unix(1614265330, 0), []byte(body))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want || err != nil {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	for _, bad := range []string{"", "secret", secretPrefix + "%"} {
		if _, err := Sign(bad, id, time.Time{}, nil); err == nil {
			t.Errorf("secret %q is taken", bad)
		}
	}
	if a, b := NewSecret(), NewSecret(); a == b || len(a) < len(secretPrefix)+secretSize {
		t.Errorf("new secrets %s, %s", a, b)
	}
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func TestCheckURL(t *testing.T) {
	open, strict := NewSender(loopback, ""), NewSender(nil, "")
	for _, c := range []struct {
		url          string
		strict, open bool
	}{
		{"https://example.com/x", true, true},
		{"http://example.com", false, true}, // decided when it is dialled
		{"https://8.8.8.8", true, true},
		{"http://8.8.8.8", false, false},
		{"https://127.0.0.1", false, true},
		{"http://127.0.0.1:9", false, true},
		{"http://[::1]", false, true},
		{"https://[::ffff:127.0.0.1]", false, true},
		{"https://10.1.2.3", false, false},
		{"https://169.254.169.254", false, false},
		{"https://100.100.100.200", false, false},
		{"https://192.168.1.1", false, false},
		{"https://0.0.0.0", false, false},
		{"https://[fe80::1]", false, false},
		{"https://[fd00::1]", false, false},
		{"https://[64:ff9b::a00:1]", false, false},
		{"https://[2002:a00:1::]", false, false},
		{"https://[::10.0.0.1]", false, false},
		{"https://224.0.0.1", false, false},
		{"https://255.255.255.255", false, false},
	} {
		if err := strict.CheckURL(c.url); (err == nil) != c.strict {
			t.Errorf("%s: %v", c.url, err)
		}
		if err := open.CheckURL(c.url); (err == nil) != c.open {
			t.Errorf("%s with loopback allowed: %v", c.url, err)
		}
	}
}

func TestPost(t *testing.T) {
	t.Parallel()
	const secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", `{"a":1}`
	at := time.Unix(1614265330, 0)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		want, _ := Sign(secret, "e-1", at, []byte(body))
		if string(got) != body || err != nil || r.Header.Get(HeaderSignature) != want || r.Header.Get(HeaderID) != "e-1" ||
			r.Header.Get(HeaderTimestamp) != "1614265330" || r.Header.Get("Content-Type") != ContentType || r.UserAgent() != "agent/1" {
			t.Errorf("received %q, %v, %v", got, err, r.Header)
		}
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		case "/busy":
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/long":
			_, _ = io.WriteString(w, strings.Repeat("x", 2*maxAnswer))
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	defer receiver.Close()
	s := NewSender(loopback, "agent/1")
	defer s.Close()
	for path, want := range map[string]Answer{
		"/":      {202, "202 Accepted", 0},
		"/long":  {200, "200 OK", 0},
		"/moved": {307, "307 Temporary Redirect", 0},
		"/busy":  {503, "503 Service Unavailable", 2 * time.Minute},
		"/gone":  {410, "410 Gone", 0},
	} {
		got := s.Post(t.Context(), Event{receiver.URL + path, secret, "e-1", []byte(body)}, at)
		if got != want || got.Received() != (want.Status < 300) || got.Gone() != (path == "/gone") {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	for name, c := range map[string]struct {
		sender *Sender
		url    string
		say    string
	}{
		"not allowed":             {NewSender(nil, ""), receiver.URL, "is no public address"},
		"by name":                 {NewSender(nil, ""), strings.Replace(receiver.URL, "127.0.0.1", "localhost", 1), "is no public address"},
		"TLS that is not trusted": {s, strings.Replace(receiver.URL, "http:", "https:", 1), "HTTP response to HTTPS client"},
		"no URL":                  {s, "http://[", "missing ']'"},
	} {
		if got := c.sender.Post(t.Context(), Event{c.url, secret, "e-1", []byte(body)}, at); got.Status != 0 || !strings.Contains(got.Text, c.say) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := s.Post(ended, Event{receiver.URL, secret, "e-1", []byte(body)}, at); got.Received() || !strings.Contains(got.Text, "canceled") {
		t.Errorf("cancelled: %+v", got)
	}
}

func TestProxyIsNotUsed(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	s := NewSender(nil, "")
	defer s.Close()
	if got := s.Post(t.Context(), Event{URL: "https://192.0.2.1/", Secret: NewSecret(), ID: "e-1"}, time.Now()); !strings.Contains(got.Text, "is no public address") {
		t.Errorf("%+v", got)
	}
}

func TestBackoff(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		0: firstPause, 1: firstPause, 2: 2 * firstPause, 5: 16 * firstPause, 13: 4096 * firstPause, 14: maxPause, 1 << 40: maxPause,
	} {
		for range 20 {
			if got := Backoff(failures); got < want || got >= want+want/5 {
				t.Errorf("after %d: %s, want %s and up to a fifth of it", failures, got, want)
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "-5": 0, "soon": 0, "4000000000": maxRetryAfter,
		"Tue, 01 Dec 2026 12:01:00 GMT": time.Minute, "Tue, 01 Dec 2026 11:00:00 GMT": 0, "Tue, 01 Dec 2099 11:00:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, header := range []string{"", "5", "-1", "99999999999999999999", "Tue, 01 Dec 2026 12:01:00 GMT"} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if got := retryAfter(header, time.Unix(1e9, 0)); got < 0 || got > maxRetryAfter {
			t.Errorf("%q: %s", header, got)
		}
	})
}

func FuzzCheckURL(f *testing.F) {
	for _, u := range []string{"https://example.com", "http://127.1", "https://[::1%25lo]/", "https://0x7f.1", "https://a@b"} {
		f.Add(u)
	}
	s := NewSender(nil, "")
	f.Fuzz(func(t *testing.T, u string) {
		if s.CheckURL(u) == nil && strings.HasPrefix(strings.ToLower(u), "http:") {
			t.Errorf("%q is taken", u)
		}
	})
}
