// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
)

// DefaultTemporaryLife is how long a temporary key is good unless asked otherwise (AssumeRole, DurationSeconds).
const DefaultTemporaryLife = time.Hour

// maxSessionPolicy bounds the policy of a temporary key in characters (AssumeRole, Policy).
const maxSessionPolicy = 2048

// ticket is what the SecurityToken of a temporary key holds, sealed: all that is needed to verify what is signed with
// it. Nothing is stored, so there may be any number of them; they end with the key they were issued with.
type ticket struct {
	ID      string            `json:"i"`
	Secret  string            `json:"s"`
	Account waybill.AccountID `json:"a"`
	Issuer  string            `json:"k"`
	Policy  string            `json:"p,omitempty"`
	Expires int64             `json:"e"` // Unix seconds
}

var ticketOwner = []byte("security token 1")

// IssueTemporaryKey makes a temporary key for whoever makes act: it may what they may and, with a policy document, no
// more than that allows. A zero life is DefaultTemporaryLife.
func (s *Service) IssueTemporaryKey(ctx context.Context, act *waybill.Act, life time.Duration, document string) (waybill.TemporaryKey, error) {
	if act.Temporary() {
		return waybill.TemporaryKey{}, waybill.Errorf(waybill.Forbidden, "a temporary key cannot issue another; use the key it was issued with")
	}
	if life == 0 {
		life = DefaultTemporaryLife
	}
	if life < time.Second || life > s.cfg.TemporaryLife {
		return waybill.TemporaryKey{}, &waybill.Error{
			Code: waybill.TokenLife, Field: "DurationSeconds",
			Message: fmt.Sprintf("a temporary key is good for 1 second to %s, not for %s", s.cfg.TemporaryLife, life),
		}
	}
	if document != "" {
		if err := checkText("Policy", document, maxSessionPolicy); err != nil {
			return waybill.TemporaryKey{}, err
		}
		if err := checkDocument(document); err != nil {
			return waybill.TemporaryKey{}, err
		}
	}
	expires := s.now().Add(life).Truncate(time.Second)
	k := waybill.TemporaryKey{Expires: expires}
	k.ID, k.Secret = identity.NewTemporaryKey()
	plain, err := json.Marshal(ticket{ID: k.ID, Secret: k.Secret, Account: act.Account, Issuer: act.AccessKey, Policy: document, Expires: expires.Unix()})
	if err != nil {
		return waybill.TemporaryKey{}, fmt.Errorf("issue temporary key: %w", err)
	}
	k.Token = base64.RawURLEncoding.EncodeToString(s.sealer.Seal(plain, ticketOwner))
	act.Subject = k.ID
	if err := s.store.Record(ctx, act, waybill.AuditOK); err != nil {
		return waybill.TemporaryKey{}, fmt.Errorf("issue temporary key: %w", err)
	}
	return k, nil
}

// openTicket reads a SecurityToken and checks that it belongs to the key.
func (s *Service) openTicket(keyID, token string) (ticket, error) {
	var t ticket
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err == nil {
		var plain []byte
		if plain, err = s.sealer.Open(sealed, ticketOwner); err == nil {
			err = json.Unmarshal(plain, &t)
		}
	}
	switch {
	case err != nil:
		return t, &waybill.Error{Code: waybill.TokenInvalid, Message: "the security token is not one of ours", Err: err}
	case t.ID != keyID:
		return t, waybill.Errorf(waybill.TokenMismatch, "the security token is that of another access key")
	case !s.now().Before(time.Unix(t.Expires, 0)):
		return t, waybill.Errorf(waybill.TokenExpired, "the security token has expired; issue another with: waybill access-keys issue")
	}
	return t, nil
}

// Credential is what a front end needs to verify a signed request.
type Credential struct {
	Key    waybill.AccessKey // of a temporary key: with its own ID, and else what the issuing key is
	Secret string
	Issuer string // of a temporary key: the key it was issued with
	Policy string // likewise: the policy document it came with; empty: none
}

// Credential returns the key with that ID and its secret, be it active or not. token is the security token that came
// with the key's ID, empty if none did. A key that is not there, or whose account is disabled, is AccessKeyNotFound.
func (s *Service) Credential(ctx context.Context, keyID, token string) (Credential, error) {
	if !strings.HasPrefix(keyID, identity.TemporaryPrefix) {
		if token != "" {
			return Credential{}, waybill.Errorf(waybill.TokenMismatch, "access key %s takes no security token", keyID)
		}
		return s.credential(ctx, keyID)
	}
	if token == "" {
		return Credential{}, waybill.Errorf(waybill.TokenMissing, "a temporary key is used with its security token only")
	}
	t, err := s.openTicket(keyID, token)
	if err != nil {
		return Credential{}, err
	}
	c, err := s.credential(ctx, t.Issuer)
	if err != nil {
		return Credential{}, err
	}
	c.Key.ID, c.Secret, c.Issuer, c.Policy = t.ID, t.Secret, t.Issuer, t.Policy
	return c, nil
}

// credential is Credential for a key that is stored.
func (s *Service) credential(ctx context.Context, keyID string) (Credential, error) {
	k, err := s.store.Key(ctx, keyID)
	if errors.Is(err, store.ErrNotFound) || err == nil && k.AccountDisabled {
		return Credential{}, waybill.Errorf(waybill.AccessKeyNotFound, "no access key %s", keyID)
	}
	if err != nil {
		return Credential{}, fmt.Errorf("read access key: %w", err)
	}
	secret, err := s.sealer.Open(k.Sealed, []byte(k.ID))
	if err != nil {
		return Credential{}, fmt.Errorf("open access key: is the key file that of this database? %w", err)
	}
	return Credential{Key: k.AccessKey, Secret: string(secret)}, nil
}
