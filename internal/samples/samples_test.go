// SPDX-License-Identifier: Apache-2.0

package samples

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/openwaybill/waybill/internal/acs"
)

// nasty are texts that break out of quotes that are not thought through.
var nasty = []string{
	"", "plain", "two words", `it's "quoted" \ and $HOME and ` + "`id`", "line\nline\r\n\ttab", "文字 🙂 \u2028\u2029\u00a0", "%s %d %PARAMS% %CA%",
	`\u0041 \x41 \101 ${x} #{x} */ // '''`, "-rf", "=cmd|' /C calc'!A0", "\x01\x1b[31m\x7f", `\`, `'`, `"`, "a\\\nb",
}

// unquoteJava reads what quoteJava writes, as JLS 3.3 and 3.10.6 say.
func unquoteJava(t testing.TB, s string) string {
	t.Helper()
	var units []uint16
	in := strings.TrimSuffix(strings.TrimPrefix(s, `"`), `"`)
	for i := 0; i < len(in); i++ {
		if in[i] >= utf8.RuneSelf {
			t.Fatalf("%q is not ASCII", s)
		}
		if in[i] != '\\' {
			units = append(units, uint16(in[i]))
			continue
		}
		i++
		switch c := in[i]; {
		case c == 'u':
			n, err := strconv.ParseUint(in[i+1:i+5], 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			units = append(units, uint16(n))
			i += 4
		case c >= '0' && c <= '7':
			n, err := strconv.ParseUint(in[i:i+3], 8, 8)
			if err != nil {
				t.Fatal(err)
			}
			units = append(units, uint16(n))
			i += 2
		default:
			plain, ok := map[byte]uint16{'n': '\n', 'r': '\r', 't': '\t', '"': '"', '\\': '\\'}[c]
			if !ok {
				t.Fatalf("escape \\%c in %q", c, s)
			}
			units = append(units, plain)
		}
	}
	return string(decodeUTF16(units))
}

func decodeUTF16(units []uint16) (runes []rune) {
	for i := 0; i < len(units); i++ {
		u := rune(units[i])
		if u >= 0xd800 && u < 0xdc00 && i+1 < len(units) {
			u = (u-0xd800)<<10 + rune(units[i+1]) - 0xdc00 + 0x10000
			i++
		}
		runes = append(runes, u)
	}
	return runes
}

// unquoteShell reads what quoteShell writes (POSIX, Shell Command Language, 2.2.2).
func unquoteShell(t testing.TB, s string) string {
	t.Helper()
	if !strings.HasPrefix(s, "'") {
		if strings.ContainsAny(s, " \t\n'\"\\$`;&|<>()*?[]#~!{}") || s == "" {
			t.Fatalf("%q needs quotes", s)
		}
		return s
	}
	inner := strings.ReplaceAll(s[1:len(s)-1], `'\''`, "\x00")
	if strings.Contains(inner, "'") {
		t.Fatalf("%q ends early", s)
	}
	return strings.ReplaceAll(inner, "\x00", "'")
}

func checkQuotes(t testing.TB, s string) {
	t.Helper()
	if got := unquoteShell(t, quoteShell(s)); got != s {
		t.Errorf("shell: %q is %q", s, got)
	}
	if got := unquoteJava(t, quoteJava(s)); got != s {
		t.Errorf("Java: %q is %q", s, got)
	}
	var js string
	if err := json.Unmarshal([]byte(quoteJS(s)), &js); err != nil || js != s || strings.ContainsAny(quoteJS(s), "\u2028\u2029\n") {
		t.Errorf("JavaScript: %q is %q, %v", s, js, err)
	}
	if got, err := strconv.Unquote(quotePython(s)); err != nil || got != s || strings.ContainsAny(quotePython(s), "\n\r") {
		t.Errorf("Python: %q is %q, %v", s, got, err)
	}
}

func TestQuotes(t *testing.T) {
	t.Parallel()
	for _, s := range nasty {
		checkQuotes(t, s)
	}
}

func FuzzQuotes(f *testing.F) {
	for _, s := range nasty {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if utf8.ValidString(s) && !strings.ContainsRune(s, 0) {
			checkQuotes(t, s)
		}
	})
}

// TestShellQuotesInAShell asks a shell itself.
func TestShellQuotesInAShell(t *testing.T) {
	t.Parallel()
	for _, s := range nasty {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf '%s' "+quoteShell(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q is %q, %v", s, out, err)
		}
	}
}

func call() Call {
	return Call{
		Endpoint: "https://127.0.0.1:8480", CA: "ca.pem", Version: "2014-05-26", Action: "SendFile", KeyID: "testid",
		Params: []Param{{"RegionId", "cn-hangzhou"}, {"InstanceId.1", "mi-1"}, {"InstanceId.10", "mi-10"}, {"Name", "a b"}, {"Content", nasty[3] + nasty[4] + nasty[5]}},
	}
}

// TestSignedIsAccepted looks that what is shown as signed verifies, and is what was asked for.
func TestSignedIsAccepted(t *testing.T) {
	t.Parallel()
	c, at := call(), time.Date(2026, 11, 25, 7, 0, 0, 0, time.UTC)
	v1, acs3, err := Sign(c, "secret", at, "nonce-1")
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]Signed{"V1": v1, "ACS3": acs3} {
		r, err := http.NewRequest(s.Method, s.URL, strings.NewReader(s.Body))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range s.Headers {
			if h.Name != "host" {
				r.Header.Set(h.Name, h.Value)
			}
		}
		q, err := acs.Parse(r, []byte(s.Body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := q.Verify("secret"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if q.Action != "SendFile" || q.Params["Content"] != c.value("Content") || q.AccessKeyID != "testid" {
			t.Errorf("%s: %+v", name, q)
		}
		if s.StringToSign == "" || s.Signature == "" || (name == "ACS3") != (s.CanonicalRequest != "") {
			t.Errorf("%s: %+v", name, s)
		}
		if strings.Contains(s.Body+s.StringToSign+s.CanonicalRequest, "secret") {
			t.Errorf("%s: the secret is in it", name)
		}
	}
	if _, form, _ := strings.Cut(v1.Body, "Signature="); !strings.HasPrefix(form, url.QueryEscape(v1.Signature)) {
		t.Errorf("the signature %s is not that of %s", v1.Signature, v1.Body)
	}
}

// TestGenerate looks at every sample: whatever the call, nothing of it is left open, and what no sample can carry is refused.
func TestGenerate(t *testing.T) {
	t.Parallel()
	for _, l := range Languages() {
		code, err := Generate(l.ID, call())
		if err != nil || !strings.HasSuffix(code, "\n") {
			t.Errorf("%s: %q, %v", l.ID, code, err)
		}
		bad := call()
		bad.Params = append(bad.Params, Param{"Content", "\xff"})
		if _, err := Generate(l.ID, bad); err == nil || !strings.Contains(err.Error(), "Base64") {
			t.Errorf("%s takes what is no text: %v", l.ID, err)
		}
		for _, endpoint := range []string{"", "127.0.0.1", "https://a b", "https://x'; id; '"} {
			bad := call()
			bad.Endpoint = endpoint
			if _, err := Generate(l.ID, bad); err == nil {
				t.Errorf("%s takes the endpoint %q", l.ID, endpoint)
			}
		}
	}
	if _, err := Generate("cobol", call()); err == nil {
		t.Error("COBOL")
	}
	other := call()
	other.Action = "ModifyManagedInstance"
	if _, err := Generate("waybill", other); !errors.Is(err, ErrNone) {
		t.Errorf("an operation that our command line has not: %v", err)
	}
	if !slices.ContainsFunc(Languages(), func(l Language) bool { return l.ID == "node" }) {
		t.Error("no Node.js")
	}
}
