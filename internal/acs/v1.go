// SPDX-License-Identifier: Apache-2.0

package acs

import (
	"crypto/hmac"
	"crypto/sha1" // prescribed by V1; as the hash of an HMAC it still holds
	"encoding/base64"
	"maps"
	"net/url"
	"time"
)

const (
	v1Method  = "HMAC-SHA1"
	v1Version = "1.0"
)

// parseV1 reads a request whose authentication travels in the parameters.
func (q *Request) parseV1(p params) error {
	all := p.merged
	q.Action, q.Version = all[paramAction], all[paramVersion]
	q.AccessKeyID, q.SecurityToken = all[paramAccessKeyID], all[paramSecurityToken]
	q.Nonce, q.signature = all[paramSignatureNonce], all[paramSignature]
	q.Params = p.operation()

	for _, required := range []struct{ name, spelling string }{
		{paramAction, paramAction},
		{paramAccessKeyID, paramAccessKeyID},
		{paramSignature, paramSignature},
		{paramTimestamp, "TimeStamp"},
		{paramVersion, paramVersion},
		{paramSignatureMethod, paramSignatureMethod},
		{paramSignatureVersion, paramSignatureVersion},
		{paramSignatureNonce, paramSignatureNonce},
	} {
		if all[required.name] == "" {
			return missing(required.spelling)
		}
	}
	if m := all[paramSignatureMethod]; m != v1Method {
		return errorf(BadSignatureMethod, "signature method %q is not %s", m, v1Method)
	}
	if v := all[paramSignatureVersion]; v != v1Version {
		return errorf(BadSignatureVersion, "signature version %q is not %s", v, v1Version)
	}
	var err error
	if q.Time, err = parseTime(all[paramTimestamp]); err != nil {
		return err
	}
	q.candidates = []signable{{toSign: v1StringToSign(q.Method, all)}}
	return nil
}

// SignV1 returns a copy of params with the common parameters and the signature added. Action and Version are the
// caller's to give; Format is JSON unless given; of a name with several values the first counts. The token may be
// empty. The result is for the query or for a form, as method and taste want.
func SignV1(method string, params url.Values, keyID, secret, securityToken, nonce string, now time.Time) url.Values {
	all := make(map[string]string, len(params)+8)
	all[paramFormat] = JSON
	for name := range params {
		all[name] = params.Get(name)
	}
	maps.Copy(all, map[string]string{
		paramAccessKeyID:      keyID,
		paramSignatureMethod:  v1Method,
		paramSignatureVersion: v1Version,
		paramSignatureNonce:   nonce,
		paramTimestamp:        now.UTC().Format(timeLayout),
	})
	if securityToken != "" {
		all[paramSecurityToken] = securityToken
	}
	all[paramSignature] = signV1(secret, v1StringToSign(method, all))

	signed := make(url.Values, len(all))
	for name, value := range all {
		signed.Set(name, value)
	}
	return signed
}

// v1StringToSign covers every parameter but the signature itself, the empty ones included (RPC signature, version 1.0).
func v1StringToSign(method string, all map[string]string) string {
	signed := maps.Clone(all)
	delete(signed, paramSignature)
	return method + "&" + escape("/") + "&" + escape(canonicalQuery(signed, escape))
}

func signV1(secret, toSign string) string {
	mac := hmac.New(sha1.New, []byte(secret+"&"))
	mac.Write([]byte(toSign))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
