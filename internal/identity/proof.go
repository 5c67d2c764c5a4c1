// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// maxNonce bounds the nonce of a proof in bytes, because servers remember it.
const maxNonce = 64

// SignRequest proves to the receiver of r that the sender holds kp, a user nkey. body is what r will carry; nonce must
// not be used again with this key. The form of the proof is documented at wire.HeaderSignature.
func SignRequest(kp nkeys.KeyPair, r *http.Request, body []byte, now time.Time, nonce string) error {
	key, err := kp.PublicKey()
	if err != nil {
		return fmt.Errorf("sign request: %w", err)
	}
	timestamp := strconv.FormatInt(now.UnixMilli(), 10)
	signature, err := kp.Sign(proofText(r, body, timestamp, nonce))
	if err != nil {
		return fmt.Errorf("sign request: %w", err)
	}
	r.Header.Set(wire.HeaderKey, key)
	r.Header.Set(wire.HeaderTimestamp, timestamp)
	r.Header.Set(wire.HeaderNonce, nonce)
	r.Header.Set(wire.HeaderSignature, base64.StdEncoding.EncodeToString(signature))
	return nil
}

// VerifyRequest checks the proof in r, whose body has been read already, and returns the public key that signed it and
// its nonce. The time of the proof may differ from now by at most window. A refusal is a waybill.Error with code
// ProofInvalid.
//
// It cannot see a replay: the caller must refuse a nonce that this key has used within twice the window.
func VerifyRequest(
	r *http.Request, body []byte, now time.Time, window time.Duration,
) (publicKey, nonce string, err error) {
	key, timestamp := r.Header.Get(wire.HeaderKey), r.Header.Get(wire.HeaderTimestamp)
	nonce = r.Header.Get(wire.HeaderNonce)
	if !nkeys.IsValidPublicUserKey(key) {
		return "", "", waybill.Errorf(waybill.ProofInvalid, "%s is not a public user key", wire.HeaderKey)
	}
	if nonce == "" || len(nonce) > maxNonce || strings.ContainsFunc(nonce, notGraphic) {
		return "", "", waybill.Errorf(waybill.ProofInvalid, "%s is not 1 to %d visible ASCII characters",
			wire.HeaderNonce, maxNonce)
	}
	millis, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return "", "", waybill.Errorf(waybill.ProofInvalid, "%s is not a number of milliseconds", wire.HeaderTimestamp)
	}
	// Compared as times, because the difference of far-off times overflows a Duration.
	if at := time.UnixMilli(millis); at.Before(now.Add(-window)) || at.After(now.Add(window)) {
		return "", "", waybill.Errorf(waybill.ProofInvalid,
			"the request is from %s and the server's clock says %s; set the machine's clock",
			at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(r.Header.Get(wire.HeaderSignature))
	if err != nil {
		return "", "", waybill.Errorf(waybill.ProofInvalid, "%s is not Base64", wire.HeaderSignature)
	}
	kp, err := nkeys.FromPublicKey(key)
	if err != nil {
		return "", "", waybill.Errorf(waybill.ProofInvalid, "%s is not a public user key", wire.HeaderKey)
	}
	if err := kp.Verify(proofText(r, body, timestamp, nonce), signature); err != nil {
		return "", "", waybill.Errorf(waybill.ProofInvalid, "the signature does not match the request")
	}
	return key, nonce, nil
}

// proofText is what the key signs. No part can hold a newline, so no two requests have the same text.
func proofText(r *http.Request, body []byte, timestamp, nonce string) []byte {
	digest := sha256.Sum256(body)
	lines := []string{r.Method, r.URL.EscapedPath(), timestamp, nonce, hex.EncodeToString(digest[:])}
	return []byte(strings.Join(lines, "\n") + "\n")
}

func notGraphic(r rune) bool { return r <= ' ' || r > '~' }
