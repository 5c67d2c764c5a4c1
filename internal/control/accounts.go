// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
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

const tokenKeyName = "token-key"

// CheckSealer returns an error unless the key file is that of the database: what is sealed with another one no server of
// this database could open, and its audit trails would look as if somebody had altered them.
func CheckSealer(ctx context.Context, st *store.Store, sealer *identity.Sealer) error {
	_, err := ServerSecret(ctx, st, sealer, tokenKeyName, func() ([]byte, error) {
		return nil, errors.New("no server has run on this database yet; start waybill server first")
	})
	return err
}

func newTokenKey() ([]byte, error) {
	key := make([]byte, 32)
	_, err := rand.Read(key)
	return key, err
}

// TokenKey returns the 32 bytes with which front ends sign paging tokens, the same on every server of a database.
func (s *Service) TokenKey() []byte { return s.tokenKey }

// UseNonce reports whether a key, whose credential this is, uses nonce for the first time. Call it only after the signature was found right. The
// nonce is durable no later than anything the request writes.
func (s *Service) UseNonce(ctx context.Context, c Credential, nonce string, until time.Time) (fresh bool, err error) {
	stored := cmp.Or(c.Issuer, c.Key.ID)
	now := s.now()
	if last, ok := s.used.Load(stored); !ok || now.Sub(last.(time.Time)) > time.Minute {
		s.used.Store(stored, now)
		s.store.TouchKey(stored, now)
	}
	return s.store.UseNonce(ctx, "key:"+c.Key.ID, nonce, until)
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
	act := s.serverAct(waybill.ServerActor, "", actionCreateAccount, a.ID, "", accountARN(a.ID))
	act.Subject = keyID
	err = s.store.For(act, nil).AddFirst(ctx, a, k)
	if errors.Is(err, store.ErrExists) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("create account: %w", err)
	}
	return true, nil
}

func (s *Service) newKey(account waybill.AccountID, id, secret string) store.Key {
	return newKey(s.sealer, account, "", id, secret, s.now())
}

func newKey(sealer *identity.Sealer, account waybill.AccountID, user, id, secret string, now time.Time) store.Key {
	return store.Key{
		AccessKey: waybill.AccessKey{ID: id, Account: account, User: user, Active: true, Created: now},
		Sealed:    sealer.Seal([]byte(secret), []byte(id)),
	}
}

// AccessKeys returns the keys of a user of the caller's account, or those of the account itself if user is empty, oldest
// first.
func (s *Service) AccessKeys(ctx context.Context, who waybill.Principal, user string) ([]waybill.AccessKey, error) {
	if user != "" {
		if _, err := s.User(ctx, who, user); err != nil {
			return nil, err
		}
	}
	keys, err := s.store.Keys(ctx, who.Account, user)
	list := make([]waybill.AccessKey, len(keys))
	for i, k := range keys {
		list[i] = k.AccessKey
	}
	return list, err
}

// CreateAccessKey makes a key for a user, or for the account itself, and returns it with its secret, which is not shown
// again.
func (s *Service) CreateAccessKey(ctx context.Context, act *waybill.Act, user string) (waybill.AccessKey, string, error) {
	id, secret := identity.NewAccessKey()
	k := newKey(s.sealer, act.Account, user, id, secret, s.now())
	act.Subject = id
	err := s.store.For(act, nil).AddKey(ctx, k, s.cfg.AccessKeys)
	switch {
	case errors.Is(err, store.ErrLimit):
		return waybill.AccessKey{}, "", waybill.Errorf(waybill.AccessKeyQuota, "there are %d access keys already; delete one first", s.cfg.AccessKeys)
	case errors.Is(err, store.ErrNotFound):
		return waybill.AccessKey{}, "", userError(err, user)
	case err != nil:
		return waybill.AccessKey{}, "", fmt.Errorf("create access key: %w", err)
	}
	return k.AccessKey, secret, nil
}

// SetAccessKey switches a key on or off. The key that makes the call cannot switch itself off.
func (s *Service) SetAccessKey(ctx context.Context, act *waybill.Act, user, id string, active bool) error {
	if !active && id == act.AccessKey {
		return waybill.Errorf(waybill.Forbidden, "a key cannot disable itself; use another key")
	}
	act.Subject = id
	return keyError(s.store.For(act, nil).SetKeyActive(ctx, act.Account, user, id, active), id)
}

// DeleteAccessKey removes a key. The key that makes the call cannot remove itself.
func (s *Service) DeleteAccessKey(ctx context.Context, act *waybill.Act, user, id string) error {
	if id == act.AccessKey {
		return waybill.Errorf(waybill.Forbidden, "a key cannot delete itself; use another key")
	}
	act.Subject = id
	return keyError(s.store.For(act, nil).DeleteKey(ctx, act.Account, user, id), id)
}

func keyError(err error, id string) error {
	if errors.Is(err, store.ErrNotFound) {
		return waybill.Errorf(waybill.AccessKeyNotFound, "no access key %s", id)
	}
	return err
}
