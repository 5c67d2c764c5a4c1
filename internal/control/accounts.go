// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
)

// ServerSecret returns the server's own secret of that name. On first use of a database it makes one and stores it
// sealed; servers that start at the same time get the same one.
func ServerSecret(ctx context.Context, st *store.Store, sealer *identity.Sealer, name string, make func() ([]byte, error)) ([]byte, error) {
	sealed, err := st.Secret(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		var plain []byte
		if plain, err = make(); err != nil {
			return nil, fmt.Errorf("make secret %s: %w", name, err)
		}
		sealed, err = st.PutSecret(ctx, name, sealer.Seal(plain, []byte(name)))
	}
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	plain, err := sealer.Open(sealed, []byte(name))
	if err != nil {
		return nil, fmt.Errorf("open secret %s: is the key file that of this database? %w", name, err)
	}
	return plain, nil
}

func newTokenKey() ([]byte, error) {
	key := make([]byte, 32)
	_, err := rand.Read(key)
	return key, err
}

// TokenKey returns the 32 bytes with which front ends sign paging tokens, the same on every server of a database.
func (s *Service) TokenKey() []byte { return s.tokenKey }

// Credential is what a front end needs to verify a signed request.
type Credential struct {
	Key    waybill.AccessKey
	Secret string
}

// Credential returns the key with that ID and its secret, be it active or not. A key that is not there, or whose account
// is disabled, is AccessKeyNotFound.
func (s *Service) Credential(ctx context.Context, keyID string) (Credential, error) {
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

// UseNonce reports whether a key uses nonce for the first time. Call it only after the signature was found right. The
// nonce is durable no later than anything the request writes.
func (s *Service) UseNonce(ctx context.Context, keyID, nonce string, until time.Time) (fresh bool, err error) {
	now := s.now()
	if last, ok := s.used.Load(keyID); !ok || now.Sub(last.(time.Time)) > time.Minute {
		s.used.Store(keyID, now)
		s.store.TouchKey(keyID, now)
	}
	return s.store.UseNonce(ctx, "key:"+keyID, nonce, until)
}

// UseAgentNonce is UseNonce for the key of an agent.
func (s *Service) UseAgentNonce(ctx context.Context, publicKey, nonce string, until time.Time) (fresh bool, err error) {
	return s.store.UseNonce(ctx, "agent:"+publicKey, nonce, until)
}

// Bootstrap makes the first account and key of a database that has none; keyID and secret may be empty: then they are
// made up. Before anything is stored, keep is told of the key: if it cannot keep it, nothing is made, and if the server
// ends in between, the next start makes another. created is false where an account is there already.
func (s *Service) Bootstrap(ctx context.Context, keyID, secret string, keep func(Credential) error) (created bool, err error) {
	accounts, err := s.store.Accounts(ctx)
	if err != nil || len(accounts) > 0 {
		return false, err
	}
	if (keyID == "") != (secret == "") {
		return false, errors.New("the ID and the secret of the first access key go together: give both or neither")
	}
	if keyID == "" {
		keyID, secret = identity.NewAccessKey()
	}
	a := waybill.Account{ID: identity.NewAccountID(), Name: "default", Created: s.now()}
	k := s.newKey(a.ID, keyID, secret)
	if err := keep(Credential{Key: k.AccessKey, Secret: secret}); err != nil {
		return false, err
	}
	if created, err = s.store.AddFirst(ctx, a, k); err != nil {
		return false, fmt.Errorf("create account: %w", err)
	}
	return created, nil
}

func (s *Service) newKey(account waybill.AccountID, id, secret string) store.Key {
	return store.Key{
		AccessKey: waybill.AccessKey{ID: id, Account: account, Active: true, Created: s.now()},
		Sealed:    s.sealer.Seal([]byte(secret), []byte(id)),
	}
}

// AccessKeys returns the keys of the caller's account, oldest first.
func (s *Service) AccessKeys(ctx context.Context, who waybill.Principal) ([]waybill.AccessKey, error) {
	keys, err := s.store.Keys(ctx, who.Account)
	list := make([]waybill.AccessKey, len(keys))
	for i, k := range keys {
		list[i] = k.AccessKey
	}
	return list, err
}

// CreateAccessKey makes a key for the caller's account and returns it with its secret, which is not shown again.
func (s *Service) CreateAccessKey(ctx context.Context, who waybill.Principal) (waybill.AccessKey, string, error) {
	id, secret := identity.NewAccessKey()
	k := s.newKey(who.Account, id, secret)
	added, err := s.store.AddKey(ctx, k, s.cfg.AccessKeys)
	if err != nil {
		return waybill.AccessKey{}, "", fmt.Errorf("create access key: %w", err)
	}
	if !added {
		return waybill.AccessKey{}, "", waybill.Errorf(waybill.AccessKeyQuota,
			"the account has %d access keys already; delete one first", s.cfg.AccessKeys)
	}
	return k.AccessKey, secret, nil
}

// SetAccessKey switches a key of the caller's account on or off. The key that makes the call cannot switch itself off.
func (s *Service) SetAccessKey(ctx context.Context, who waybill.Principal, id string, active bool) error {
	if !active && id == who.AccessKey {
		return waybill.Errorf(waybill.Forbidden, "a key cannot disable itself; use another key of the account")
	}
	return keyError(s.store.SetKeyActive(ctx, who.Account, id, active), id)
}

// DeleteAccessKey removes a key of the caller's account. The key that makes the call cannot remove itself.
func (s *Service) DeleteAccessKey(ctx context.Context, who waybill.Principal, id string) error {
	if id == who.AccessKey {
		return waybill.Errorf(waybill.Forbidden, "a key cannot delete itself; use another key of the account")
	}
	return keyError(s.store.DeleteKey(ctx, who.Account, id), id)
}

func keyError(err error, id string) error {
	if errors.Is(err, store.ErrNotFound) {
		return waybill.Errorf(waybill.AccessKeyNotFound, "no access key %s", id)
	}
	return err
}
