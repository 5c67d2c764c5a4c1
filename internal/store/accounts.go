// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/openwaybill/waybill"
)

// PutSecret stores a sealed secret of the server itself under name, unless one is there. It returns the one that is
// there afterwards, so that several servers starting at once agree.
func (s *Store) PutSecret(ctx context.Context, name string, sealed []byte) (kept []byte, err error) {
	err = s.write(ctx, func(t *tx) error {
		if _, err := t.exec(ctx, `INSERT INTO secrets (name, sealed) VALUES (?, ?) ON CONFLICT DO NOTHING`, name, sealed); err != nil {
			return err
		}
		kept, err = one(ctx, t, scanOne[[]byte], `SELECT sealed FROM secrets WHERE name = ?`, name)
		return err
	})
	return kept, err
}

// Secret returns a sealed secret of the server; ErrNotFound if there is none.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error) {
	return one(ctx, s.reads, scanOne[[]byte], `SELECT sealed FROM secrets WHERE name = ?`, name)
}

// AddAccount stores a new account with its first key; ErrExists if another account has its name.
func (s *Store) AddAccount(ctx context.Context, a waybill.Account, k Key) error {
	return s.write(ctx, func(t *tx) error {
		if err := mustAdd(t.exec(ctx, `INSERT INTO accounts (id, name, disabled, created)
			SELECT ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE name = ?)`,
			a.ID, a.Name, a.Disabled, millis(a.Created), a.Name)); err != nil {
			return err
		}
		if err := s.writes.chain.begin(ctx, t, a.ID); err != nil {
			return err
		}
		return t.addKey(ctx, k)
	})
}

// AddFirst stores the first account and its key in one transaction; ErrExists if there is an account.
func (s *Store) AddFirst(ctx context.Context, a waybill.Account, k Key) error {
	return s.writeAlone(ctx, "first account", func(t *tx) error {
		if err := mustAdd(t.exec(ctx, `INSERT INTO accounts (id, name, disabled, created)
			SELECT ?, ?, FALSE, ? WHERE NOT EXISTS (SELECT 1 FROM accounts)`, a.ID, a.Name, millis(a.Created))); err != nil {
			return err
		}
		if err := s.writes.chain.begin(ctx, t, a.ID); err != nil {
			return err
		}
		return t.addKey(ctx, k)
	})
}

// addKey stores a key.
func (t *tx) addKey(ctx context.Context, k Key) error {
	return mustAdd(t.exec(ctx, `INSERT INTO access_keys (id, account, user_name, secret, active, created) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`, k.ID, k.Account, k.User, k.Sealed, k.Active, millis(k.Created)))
}

// Accounts returns all accounts, oldest first.
func (s *Store) Accounts(ctx context.Context) ([]waybill.Account, error) {
	return all(ctx, s.reads, scanAccount, `SELECT id, name, disabled, created FROM accounts ORDER BY created, id`)
}

// Account returns one account; ErrNotFound if it is not there.
func (s *Store) Account(ctx context.Context, id waybill.AccountID) (waybill.Account, error) {
	return one(ctx, s.brief, scanAccount, `SELECT id, name, disabled, created FROM accounts WHERE id = ?`, id)
}

// SetAccountDisabled disables or enables an account; ErrNotFound if it is not there.
func (s *Store) SetAccountDisabled(ctx context.Context, id waybill.AccountID, disabled bool) error {
	return s.write(ctx, func(t *tx) error {
		return mustChange(t.exec(ctx, `UPDATE accounts SET disabled = ? WHERE id = ?`, disabled, id))
	})
}

func scanAccount(r *sql.Rows) (a waybill.Account, err error) {
	var created int64
	err = r.Scan(&a.ID, &a.Name, &a.Disabled, &created)
	a.Created = instant(created)
	return a, err
}

// mustChange returns ErrNotFound for a statement that changed nothing.
func mustChange(n int64, err error) error {
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// mustAdd returns ErrExists for a statement that added nothing.
func mustAdd(n int64, err error) error {
	if err == nil && n == 0 {
		err = ErrExists
	}
	return err
}

// Key is an access key with its sealed secret.
type Key struct {
	waybill.AccessKey
	Sealed          []byte
	AccountDisabled bool
}

const keyColumns = `SELECT k.id, k.account, k.user_name, k.secret, k.active, k.created, k.last_used, a.disabled
	FROM access_keys k JOIN accounts a ON a.id = k.account`

// AddKey stores a new key of an account or one of its users, unless that has limit keys already (ErrLimit) or is not
// there (ErrNotFound).
func (s *Store) AddKey(ctx context.Context, k Key, limit int) error {
	return s.writeAlone(ctx, accountWide(k.Account), func(t *tx) error {
		if k.User != "" {
			if err := t.mustUser(ctx, k.Account, k.User); err != nil {
				return err
			}
		}
		n, err := one(ctx, t, scanOne[int], `SELECT COUNT(*) FROM access_keys WHERE account = ? AND user_name = ?`, k.Account, k.User)
		if err != nil {
			return err
		}
		if n >= limit {
			return ErrLimit
		}
		return t.addKey(ctx, k)
	})
}

// Key returns a key; ErrNotFound if it is not there.
func (s *Store) Key(ctx context.Context, id string) (Key, error) {
	return one(ctx, s.brief, scanKey, keyColumns+` WHERE k.id = ?`, id)
}

// Keys returns the keys of a user, or those of the account itself if user is empty, oldest first.
func (s *Store) Keys(ctx context.Context, account waybill.AccountID, user string) ([]Key, error) {
	return all(ctx, s.reads, scanKey, keyColumns+` WHERE k.account = ? AND k.user_name = ? ORDER BY k.created, k.id`, account, user)
}

// SetKeyActive switches a key on or off; ErrNotFound if it is not there, or another's.
func (s *Store) SetKeyActive(ctx context.Context, account waybill.AccountID, user, id string, active bool) error {
	return s.write(ctx, func(t *tx) error {
		return mustChange(t.exec(ctx, `UPDATE access_keys SET active = ? WHERE id = ? AND account = ? AND user_name = ?`,
			active, id, account, user))
	})
}

// DeleteKey removes a key; ErrNotFound if it is not there, or another's.
func (s *Store) DeleteKey(ctx context.Context, account waybill.AccountID, user, id string) error {
	return s.write(ctx, func(t *tx) error {
		return mustChange(t.exec(ctx, `DELETE FROM access_keys WHERE id = ? AND account = ? AND user_name = ?`, id, account, user))
	})
}

// TouchKey notes when a key was last used, some time soon.
func (s *Store) TouchKey(id string, at time.Time) {
	s.writes.later(func(t *tx) error {
		_, err := t.exec(context.Background(), `UPDATE access_keys SET last_used = ? WHERE id = ? AND last_used < ?`, millis(at), id, millis(at))
		return err
	}, func(err error) {
		if err != nil {
			s.log.Warn("note use of key", "err", err)
		}
	})
}

func scanKey(r *sql.Rows) (k Key, err error) {
	var created, used int64
	err = r.Scan(&k.ID, &k.Account, &k.User, &k.Sealed, &k.Active, &created, &used, &k.AccountDisabled)
	k.Created, k.LastUsed = instant(created), instant(used)
	return k, err
}
