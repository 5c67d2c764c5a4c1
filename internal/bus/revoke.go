// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// claimsUpdate is where a NATS cluster with its own account resolver takes new claims (nats-server, accounts.go).
const claimsUpdate = "$SYS.REQ.CLAIMS.UPDATE"

// Revoke refuses the tokens of an agent's key issued up to the given time, to the second, and cuts off the connections
// made with them before it returns. Tokens issued later are good again.
//
// The bus remembers until it is closed; the caller must give it the list again with Config.Revoked. A cluster must be
// able to replace claims (its resolver of type full or cache); otherwise Revoke fails, and the tokens work until they
// expire.
func (b *Bus) Revoke(publicKey string, at time.Time) error {
	if !nkeys.IsValidPublicUserKey(publicKey) {
		return nil // the key of an agent that never comes to the bus itself
	}
	b.revokeMu.Lock()
	defer b.revokeMu.Unlock()
	if at.After(b.revoked[publicKey]) {
		b.revoked[publicKey] = at
	}
	// Even if the key was revoked already: the last attempt may have failed.
	if err := b.putClaims(); err != nil {
		return fmt.Errorf("revoke %s: %w", publicKey, err)
	}
	return nil
}

// putClaims makes NATS use the current list of revoked keys.
func (b *Bus) putClaims() error {
	token, err := b.operator.AccountJWT(b.revoked)
	if err != nil {
		return err
	}
	if b.embedded == nil {
		return b.putClusterClaims(token)
	}
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return err
	}
	if err := b.accounts.Store(claims.Subject, token); err != nil {
		return err
	}
	account, err := b.embedded.LookupAccount(claims.Subject)
	if err != nil {
		return err
	}
	b.embedded.UpdateAccountClaims(account, claims)
	return nil
}

// putClusterClaims uses a connection of its own, because the server's user may not touch the system account.
func (b *Bus) putClusterClaims(token string) error {
	user, seed, err := b.operator.SystemCredentials()
	if err != nil {
		return err
	}
	conn, err := nats.Connect(b.cfg.URL, nats.UserJWTAndSeed(user, seed), b.secure(),
		nats.Name("waybill claims"), nats.Timeout(connectTimeout), nats.NoReconnect())
	if err != nil {
		return err
	}
	defer conn.Close()
	reply, err := conn.Request(claimsUpdate, []byte(token), flushTimeout)
	if err != nil {
		return err
	}
	var answer struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return fmt.Errorf("claims update: %w", err)
	}
	if answer.Error != nil {
		return errors.New("claims update: " + answer.Error.Description)
	}
	return nil
}
