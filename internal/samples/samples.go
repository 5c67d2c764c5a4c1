// SPDX-License-Identifier: Apache-2.0

// Package samples writes what one call of the API looks like: as code for the clients that people use, and as the signed
// requests that go over the wire. Keys are never part of it: samples read them from the environment.
package samples

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/openwaybill/waybill/internal/acs"
)

// Param is a parameter of a call, or a header of a request.
type Param struct{ Name, Value string }

// Call is one call of the API.
type Call struct {
	Endpoint string // scheme and host, without a path
	CA       string // file with the certificate of the CA, on the reader's machine; empty: the issuer is publicly trusted
	Version  string // of the API
	Action   string
	Params   []Param // without those that every request has
	KeyID    string
}

// Language is one kind of sample.
type Language struct {
	ID    string
	Label string
	File  string // what the sample may be saved as
}

// Languages returns all kinds of samples, the ones for a terminal first.
func Languages() []Language {
	return []Language{
		{"aliyun", "aliyun CLI", "call.sh"},
		{"waybill", "waybill CLI", "call.sh"},
		{"shell", "Shell (bash, openssl)", "call.sh"},
		{"go", "Go", "main.go"},
		{"python", "Python", "call.py"},
		{"java", "Java", "Call.java"},
		{"node", "Node.js", "call.js"},
	}
}

// ErrNone is the error of a call that a client has no way to make.
var ErrNone = errors.New("this client has no command for the operation; use another sample")

var generators = map[string]func(*Call) (string, error){
	"aliyun": aliyun, "waybill": waybillCLI, "shell": shell, "go": golang, "python": python, "java": java, "node": node,
}

// Generate writes the call as a sample of that kind.
func Generate(language string, c Call) (string, error) {
	generate := generators[language]
	if generate == nil {
		return "", fmt.Errorf("no sample is called %q", language)
	}
	if err := c.check(); err != nil {
		return "", err
	}
	return generate(&c)
}

// check refuses what no sample can carry.
func (c *Call) check() error {
	if _, err := url.Parse(c.Endpoint); err != nil || c.host() == "" {
		return fmt.Errorf("endpoint %q is not of the form https://host:port", c.Endpoint)
	}
	if strings.ContainsFunc(c.host(), func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]", r)
	}) {
		return fmt.Errorf("%q is no host and port", c.host())
	}
	for _, p := range c.Params {
		if !utf8.ValidString(p.Name+p.Value) || strings.ContainsRune(p.Name+p.Value, 0) {
			return fmt.Errorf("the value of %s is no text; send it as Base64", p.Name)
		}
	}
	return nil
}

// host returns the host with its port, if it has one.
func (c *Call) host() string {
	_, host, _ := strings.Cut(c.Endpoint, "://")
	return strings.TrimSuffix(host, "/")
}

// tls reports whether the call goes over TLS.
func (c *Call) tls() bool { return !strings.HasPrefix(c.Endpoint, "http://") }

func (c *Call) scheme() string {
	if c.tls() {
		return "https"
	}
	return "http"
}

// value returns a parameter, and empty if it is not there.
func (c *Call) value(name string) string {
	for _, p := range c.Params {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// Signed is a request as it goes over the wire, and what its signature was made of.
type Signed struct {
	Method, URL      string
	Headers          []Param
	Body             string
	CanonicalRequest string // ACS3 only
	StringToSign     string
	Signature        string
}

// Sign signs a call in both ways. The secret is in neither.
func Sign(c Call, secret string, at time.Time, nonce string) (v1, acs3 Signed, err error) {
	if err := c.check(); err != nil {
		return v1, acs3, err
	}
	form := url.Values{}
	for _, p := range c.Params {
		form.Set(p.Name, p.Value)
	}
	if acs3, err = signACS3(&c, form, secret, at, nonce); err != nil {
		return v1, acs3, err
	}
	form.Set("Action", c.Action)
	form.Set("Version", c.Version)
	signed := acs.SignV1(http.MethodPost, form, c.KeyID, secret, "", nonce, at)
	r, err := request(&c, signed.Encode())
	if err != nil {
		return v1, acs3, err
	}
	v1, err = described(&c, r, signed.Encode())
	v1.Signature = signed.Get("Signature")
	return v1, acs3, err
}

func signACS3(c *Call, form url.Values, secret string, at time.Time, nonce string) (Signed, error) {
	body := form.Encode()
	r, err := request(c, body)
	if err != nil {
		return Signed{}, err
	}
	r.Header.Set("x-acs-action", c.Action)
	r.Header.Set("x-acs-version", c.Version)
	acs.SignACS3(r, []byte(body), c.KeyID, secret, "", nonce, at)
	s, err := described(c, r, body)
	_, s.Signature, _ = strings.Cut(r.Header.Get("Authorization"), "Signature=")
	return s, err
}

func request(c *Call, body string) (*http.Request, error) {
	r, err := http.NewRequest(http.MethodPost, c.Endpoint+"/", strings.NewReader(body))
	if err == nil && body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r, err
}

// described takes a signed request apart. What was signed is asked of the verifier, which says it of a signature that it does
// not accept: so it is what a server computes.
func described(c *Call, r *http.Request, body string) (Signed, error) {
	s := Signed{Method: r.Method, URL: r.URL.String(), Body: body, Headers: []Param{{"host", c.host()}}}
	for name := range r.Header {
		s.Headers = append(s.Headers, Param{strings.ToLower(name), r.Header.Get(name)})
	}
	sortParams(s.Headers)
	q, err := acs.Parse(r, []byte(body))
	if err != nil {
		return s, err
	}
	mismatch, ok := errors.AsType[*acs.Error](q.Verify("not the secret"))
	if !ok {
		return s, errors.New("the secret is a known one")
	}
	s.StringToSign, s.CanonicalRequest = mismatch.StringToSign, mismatch.CanonicalRequest
	return s, nil
}

// quoteShell quotes s for a POSIX shell unless it needs no quotes.
func quoteShell(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:+=@%,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// quoteJS quotes s for JavaScript: JSON, in which the line separators of Unicode are escaped too.
func quoteJS(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string
	}
	return string(b)
}

// quoteJava quotes s for Java, in ASCII: characters beyond that as escapes of UTF-16.
func quoteJava(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f: // \u would end lines before the text is read
			fmt.Fprintf(&b, `\%03o`, r)
		case r < 0x7f:
			b.WriteRune(r)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		}
	}
	b.WriteByte('"')
	return b.String()
}

// quotePython quotes s for Python, whose escapes are among those of Go.
func quotePython(s string) string { return strconv.QuoteToASCII(s) }

// verifyFlag is what makes openssl look whether a certificate is for that host.
func verifyFlag(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return "-verify_ip " + host
	}
	return "-verify_hostname " + host
}
