// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"crypto"
	"crypto/md5"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Stamp is what the identity headers of one request are made from (§3.2, §4). A test forges it.
type Stamp struct {
	InstanceID string
	MachineID  string // signed, not sent
	Timestamp  string // Unix time in milliseconds
	RequestID  string // a new one for each request
	Key        *rsa.PrivateKey
	Signature  string // sent instead of the one made with Key, if not empty
	None       bool   // send no identity headers at all
}

// Stamp returns a right stamp for a request that is made now.
func (id *Identity) Stamp(now time.Time) Stamp {
	return Stamp{
		InstanceID: id.InstanceID, MachineID: id.MachineID, Key: id.Key,
		Timestamp: strconv.FormatInt(now.UnixMilli(), 10), RequestID: uuid.NewString(),
	}
}

// Message returns what is signed.
func (s Stamp) Message() string { return s.InstanceID + s.MachineID + s.Timestamp + s.RequestID }

// Header returns the identity headers. It is empty for a stamp with None.
func (s Stamp) Header() (http.Header, error) {
	h := http.Header{}
	if s.None {
		return h, nil
	}
	if s.Signature == "" {
		digest := md5.Sum([]byte(s.Message()))
		sig, err := rsa.SignPKCS1v15(nil, s.Key, crypto.MD5, digest[:])
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		s.Signature = base64.StdEncoding.EncodeToString(sig)
	}
	h.Set("x-acs-instance-id", s.InstanceID)
	h.Set("x-acs-timestamp", s.Timestamp)
	h.Set("x-acs-request-id", s.RequestID)
	h.Set("x-acs-signature", s.Signature)
	return h, nil
}
