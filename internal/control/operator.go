// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
)

// Operator is what whoever operates a server may do, beside it: make, disable and enable accounts. It needs the database
// and the key file, and no server.
type Operator struct {
	Name   string // of the operating system's user, for the audit trail
	Store  *store.Store
	Sealer *identity.Sealer
}

// Accounts returns all accounts, oldest first.
func (o *Operator) Accounts(ctx context.Context) ([]waybill.Account, error) {
	return o.Store.Accounts(ctx)
}

func (o *Operator) act(action string, id waybill.AccountID) *waybill.Act {
	return &waybill.Act{
		Principal: waybill.Principal{Account: id, Kind: waybill.OperatorActor, Name: o.Name},
		Action:    action, Resources: []string{accountARN(id)},
	}
}

// maxAccountName is the length of an account's name in characters.
const maxAccountName = 64

// CreateAccount makes an account with a key of its own, whose secret is not shown again.
func (o *Operator) CreateAccount(ctx context.Context, name string) (waybill.Account, Credential, error) {
	if n := utf8.RuneCountInString(name); n < 1 || n > maxAccountName || strings.TrimSpace(name) != name || !utf8.ValidString(name) {
		return waybill.Account{}, Credential{}, fmt.Errorf("account name %q: use 1 to %d characters, no space at either end", name, maxAccountName)
	}
	a := waybill.Account{ID: identity.NewAccountID(), Name: name, Created: time.Now().UTC()}
	c, k := o.newKey(a.ID)
	act := o.act(actionCreateAccount, a.ID)
	act.Subject = k.ID
	err := o.Store.For(act, nil).AddAccount(ctx, a, k)
	if errors.Is(err, store.ErrExists) {
		return waybill.Account{}, Credential{}, fmt.Errorf("there is an account %q already; list them with: waybill accounts list", name)
	}
	return a, c, err
}

func (o *Operator) newKey(account waybill.AccountID) (Credential, store.Key) {
	id, secret := identity.NewAccessKey()
	k := newKey(o.Sealer, account, "", id, secret, time.Now().UTC())
	return Credential{Key: k.AccessKey, Secret: secret}, k
}

// maxAccountKeys lets an operator make a key where an account has as many as it may make itself.
const maxAccountKeys = 1000

// CreateKey makes another key for an account itself: its last one may have been lost.
func (o *Operator) CreateKey(ctx context.Context, id waybill.AccountID) (Credential, error) {
	if _, err := o.Store.Account(ctx, id); err != nil {
		return Credential{}, accountError(err, id)
	}
	c, k := o.newKey(id)
	act := o.act(actionReplaceKey, id)
	act.Subject = k.ID
	return c, o.Store.For(act, nil).AddKey(ctx, k, maxAccountKeys)
}

// SetDisabled disables or enables an account. A disabled account's keys are refused, and what no machine has acknowledged
// is not delivered any more.
func (o *Operator) SetDisabled(ctx context.Context, id waybill.AccountID, disabled bool) error {
	action := actionEnableAccount
	if disabled {
		action = actionDisableAccount
	}
	return accountError(o.Store.For(o.act(action, id), nil).SetAccountDisabled(ctx, id, disabled), id)
}

func accountError(err error, id waybill.AccountID) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("there is no account %s; list them with: waybill accounts list", id)
	}
	return err
}
