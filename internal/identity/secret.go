// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
)

// Alphabets of generated text.
const (
	digits = "0123456789"
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	base62 = digits + upper + lower
)

// codeLength gives an activation code 27 × log2(62) > 160 bits: too many to guess, and so enough to hash without salt.
const codeLength = 27

// NewAccessKey returns a new AccessKey ID, as long as Alibaba Cloud's but with a prefix of our own, and its secret.
func NewAccessKey() (id, secret string) {
	return "WB" + random(base62, 22), random(base62, 30)
}

// TemporaryPrefix begins the ID of every temporary key, as it does at Alibaba Cloud.
const TemporaryPrefix = "STS."

// NewTemporaryKey returns the ID of a new temporary key, and its secret.
func NewTemporaryKey() (id, secret string) {
	return TemporaryPrefix + "WB" + random(base62, 22), random(base62, 44)
}

// NewActivationCode returns a new activation code for the region with the given mark.
func NewActivationCode(mark string) string { return "a-" + mark + random(base62, codeLength) }

// NewInstanceToken returns a new token of an instance, as InstanceOfToken reads it.
func NewInstanceToken(id string) string { return id + "." + random(base62, codeLength) }

// InstanceOfToken returns the instance that a token is said to be of, which VerifyCode is still to find out.
func InstanceOfToken(token string) (id string, ok bool) {
	id, secret, ok := strings.Cut(token, ".")
	return id, ok && id != "" && secret != ""
}

// HashCode returns what to store of an activation code or a token.
func HashCode(code string) []byte {
	hash := sha256.Sum256([]byte(code))
	return hash[:]
}

// VerifyCode reports, in constant time, whether hash is that of code, an activation code or a token.
func VerifyCode(code string, hash []byte) bool {
	return subtle.ConstantTimeCompare(HashCode(code), hash) == 1
}

// random returns n characters, each with equal probability one of alphabet.
func random(alphabet string, n int) string {
	// Bytes from fair up would favour the first letters of the alphabet, so they are thrown away.
	fair := 256 - 256%len(alphabet)
	text := make([]byte, 0, n)
	for buf := make([]byte, 2*n); len(text) < n; {
		rand.Read(buf) // never fails
		for _, b := range buf {
			if int(b) < fair && len(text) < n {
				text = append(text, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(text)
}
