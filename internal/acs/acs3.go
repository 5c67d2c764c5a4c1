// SPDX-License-Identifier: Apache-2.0

package acs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	acs3Prefix    = "ACS3-"
	acs3Algorithm = "ACS3-HMAC-SHA256"
)

// Names of headers, in the lower case in which they are signed.
const (
	headerAuthorization = "authorization"
	headerContentType   = "content-type"
	headerHost          = "host"
	headerPrefix        = "x-acs-"
	headerAction        = "x-acs-action"
	headerVersion       = "x-acs-version"
	headerDate          = "x-acs-date"
	headerNonce         = "x-acs-signature-nonce"
	headerDigest        = "x-acs-content-sha256"
	headerToken         = "x-acs-security-token"
	headerKeyID         = "x-acs-accesskey-id"
)

// parseACS3 reads a request whose authentication travels in the headers.
func (q *Request) parseACS3(r *http.Request, body []byte, p params) error {
	q.Action, q.Version = r.Header.Get(headerAction), r.Header.Get(headerVersion)
	q.Nonce, q.SecurityToken = r.Header.Get(headerNonce), r.Header.Get(headerToken)
	q.Params = p.operation()

	auth, err := parseAuthorization(r.Header.Get(headerAuthorization))
	if err != nil {
		return err
	}
	q.AccessKeyID, q.signature = auth.keyID, auth.signature

	for _, required := range []struct{ header, spelling string }{
		{headerAction, paramAction},
		{headerDate, "TimeStamp"},
		{headerVersion, paramVersion},
		{headerNonce, paramSignatureNonce},
		{headerDigest, headerDigest},
	} {
		if r.Header.Get(required.header) == "" {
			return missing(required.spelling)
		}
	}
	mustSign := []string{headerHost, headerAction, headerVersion, headerDate, headerNonce, headerDigest}
	if q.SecurityToken != "" {
		mustSign = append(mustSign, headerToken)
	}
	if p.form {
		// It decides whether the body holds parameters, so it may not be anybody's to change.
		mustSign = append(mustSign, headerContentType)
	}
	for _, header := range mustSign {
		if !slices.Contains(auth.signedHeaders, header) {
			return errorf(Malformed, "SignedHeaders lacks %s", header)
		}
	}
	if q.Time, err = parseTime(r.Header.Get(headerDate)); err != nil {
		return err
	}

	digest := hexSHA256(body)
	q.digestOff = r.Header.Get(headerDigest) != digest
	query := canonicalQuery(p.query, escape)
	q.candidates = []signable{newACS3Signable(r, query, auth.signedHeaders, digest)}
	// The Go and Node SDKs do not encode names. Names of real parameters read the same both ways.
	if plain := canonicalQuery(p.query, func(name string) string { return name }); plain != query {
		q.candidates = append(q.candidates, newACS3Signable(r, plain, auth.signedHeaders, digest))
	}
	return nil
}

// authorization is the content of an ACS3 Authorization header.
type authorization struct {
	keyID         string
	signedHeaders []string
	signature     string
}

// parseAuthorization reads "ACS3-HMAC-SHA256 Credential=…,SignedHeaders=a;b,Signature=…". Blanks are allowed around
// each of the three fields, which may come in any order.
func parseAuthorization(header string) (authorization, error) {
	algorithm, rest, _ := strings.Cut(header, " ")
	if algorithm != acs3Algorithm {
		return authorization{}, errorf(BadSignatureMethod, "signature algorithm %q is not %s", algorithm, acs3Algorithm)
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if _, repeated := fields[name]; repeated || value == "" {
			return authorization{}, errorf(Malformed, "field %q of the Authorization header is empty or repeated", name)
		}
		fields[name] = value
	}
	a := authorization{keyID: fields["Credential"], signature: fields[paramSignature]}
	if a.keyID == "" || a.signature == "" || fields["SignedHeaders"] == "" || len(fields) != 3 {
		return authorization{}, errorf(Malformed, "the Authorization header needs Credential, SignedHeaders and Signature")
	}
	a.signedHeaders = strings.Split(fields["SignedHeaders"], ";")
	return a, nil
}

// SignACS3 signs r, which has the x-acs-action and x-acs-version headers and, where its body is not empty, Content-Type
// set. It adds the remaining headers and signs every x-acs- header there is. The token may be empty. Nothing signed may
// be changed afterwards, the host included.
func SignACS3(r *http.Request, body []byte, keyID, secret, securityToken, nonce string, now time.Time) {
	digest := hexSHA256(body)
	r.Header.Set(headerDate, now.UTC().Format(timeLayout))
	r.Header.Set(headerNonce, nonce)
	r.Header.Set(headerDigest, digest)
	if securityToken != "" {
		r.Header.Set(headerToken, securityToken)
		r.Header.Set(headerKeyID, keyID)
	}
	signed := []string{headerHost}
	for name := range r.Header {
		if name = strings.ToLower(name); name == headerContentType || strings.HasPrefix(name, headerPrefix) {
			signed = append(signed, name)
		}
	}
	slices.Sort(signed)
	// A query that does not decode is refused by any server, whatever its signature.
	query, _ := decode(r.URL.RawQuery)
	s := newACS3Signable(r, canonicalQuery(query, escape), signed, digest)
	r.Header.Set(headerAuthorization, acs3Algorithm+" Credential="+keyID+
		",SignedHeaders="+strings.Join(signed, ";")+",Signature="+ACS3.sign(secret, s.toSign))
}

// usualCanonical is about how long a canonical request is beside its query.
const usualCanonical = 768

// newACS3Signable puts together what is signed (V3 request signature), with the signer's own list of headers.
func newACS3Signable(r *http.Request, query string, signedHeaders []string, digest string) signable {
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/" // a client's URL may have none; a request always has one
	}
	b := make([]byte, 0, usualCanonical+len(query))
	for _, line := range []string{r.Method, path, query} {
		b = append(append(b, line...), '\n')
	}
	for _, name := range signedHeaders {
		b = append(append(b, name...), ':')
		b = append(append(b, headerValue(r, name)...), '\n')
	}
	b = append(b, "\n"+strings.Join(signedHeaders, ";")+"\n"+digest...)
	return signable{canonical: string(b), toSign: acs3Algorithm + "\n" + hexSHA256(b)}
}

// headerValue returns a header as it is signed: trimmed, several values sorted and joined by commas.
func headerValue(r *http.Request, name string) string {
	if name == headerHost {
		if r.Host == "" {
			return r.URL.Host // an outgoing request
		}
		return r.Host
	}
	values := r.Header.Values(name)
	if len(values) == 1 {
		return strings.TrimSpace(values[0])
	}
	values = slices.Clone(values)
	for i, v := range values {
		values[i] = strings.TrimSpace(v)
	}
	slices.Sort(values)
	return strings.Join(values, ",")
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func hmacSHA256(secret, data string) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(data))
	return mac.Sum(nil)
}
