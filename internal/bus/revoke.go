// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Where a NATS cluster takes new claims of accounts, tells those it has, and says how many nodes there are (nats-server,
// accounts.go and events.go). Every node answers for itself.
const (
	claimsUpdate = "$SYS.REQ.CLAIMS.UPDATE"
	claimsLookup = "$SYS.REQ.ACCOUNT.%s.CLAIMS.LOOKUP"
	nodesPing    = "$SYS.REQ.SERVER.PING.STATSZ"
)

const (
	othersTimeout = 250 * time.Millisecond // of the other nodes, once one has answered
	checkEvery    = 10 * time.Second
	maxAttempts   = 10 // at a list that others change meanwhile
)

// Revoke refuses the tokens of an agent's key issued up to the given time, to the second, and cuts off the connections
// made with them before it returns. Tokens issued later are good again.
//
// The bus remembers until it is closed; the caller must give it the list again with Config.Revoked. A cluster must be
// able to replace claims (its resolver of type full or cache); otherwise Revoke fails, and the tokens work until they
// expire. A node of it that cannot be reached now gets the list from the others when it is back, or from Run.
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
	if err := b.putClaims(context.Background()); err != nil {
		return fmt.Errorf("revoke %s: %w", publicKey, err)
	}
	return nil
}

// Run sees to it that the nodes of a cluster refuse what is revoked, until ctx ends: one that was away may have an old
// list, and a server may have ended before it had told them. For an embedded server there is nothing to do.
func (b *Bus) Run(ctx context.Context) error {
	for b.embedded == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(checkEvery + rand.N(checkEvery/2)):
		}
		if err := b.check(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn("look what the bus refuses", "err", err)
		}
	}
	<-ctx.Done()
	return nil
}

// check replaces the claims if some node lacks a part of them.
func (b *Bus) check(ctx context.Context) error {
	b.revokeMu.Lock()
	defer b.revokeMu.Unlock()
	want, err := b.revocations(ctx)
	if err != nil || len(want) == 0 {
		return err
	}
	answers, err := b.ask(fmt.Sprintf(claimsLookup, b.operator.Account()), nil)
	if err != nil {
		return err
	}
	for _, answer := range answers {
		claims, err := jwt.DecodeAccountClaims(string(answer))
		if err != nil || !covers(claims.Revocations, want) {
			b.log.Info("a node of the bus does not refuse all that is revoked; it is told again", "err", err)
			return b.putClaims(ctx)
		}
	}
	return nil
}

func covers(have jwt.RevocationList, want map[string]time.Time) bool {
	for key, at := range want {
		if have[key] < at.Unix() {
			return false
		}
	}
	return true
}

// revocations returns what is revoked, as far as anybody knows here. b.revokeMu is held.
func (b *Bus) revocations(ctx context.Context) (map[string]time.Time, error) {
	list := maps.Clone(b.revoked)
	if b.embedded != nil || b.cfg.Revocations == nil {
		return list, nil
	}
	stored, err := b.cfg.Revocations(ctx)
	if err != nil {
		return nil, fmt.Errorf("read revocations: %w", err)
	}
	for key, at := range stored {
		if at.After(list[key]) && nkeys.IsValidPublicUserKey(key) {
			list[key] = at
		}
	}
	return list, nil
}

// putClaims makes NATS use the current list of revoked keys. Several servers may do so at once, each of which gives the
// whole list and replaces what another gave. So each looks once more when it has: a key that was revoked meanwhile is on
// the list of whoever comes last.
func (b *Bus) putClaims(ctx context.Context) error {
	list, err := b.revocations(ctx)
	for range maxAttempts {
		if err != nil {
			return err
		}
		var token string
		if token, err = b.operator.AccountJWT(list); err != nil {
			return err
		}
		if b.embedded != nil {
			return b.putEmbeddedClaims(token)
		}
		if err := b.putClusterClaims(token); err != nil {
			return err
		}
		was := list
		if list, err = b.revocations(ctx); err == nil && maps.EqualFunc(was, list, time.Time.Equal) {
			return nil
		}
	}
	return nil // the list changes all the time; Run looks what came of it
}

func (b *Bus) putEmbeddedClaims(token string) error {
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

func (b *Bus) putClusterClaims(token string) error {
	answers, err := b.ask(claimsUpdate, []byte(token))
	if err != nil {
		return fmt.Errorf("claims update: %w", err)
	}
	for _, data := range answers {
		var answer struct {
			Error *struct {
				Description string `json:"description"`
			} `json:"error"`
		}
		if err := json.Unmarshal(data, &answer); err != nil {
			return fmt.Errorf("claims update: %w", err)
		}
		if answer.Error != nil {
			return errors.New("claims update: " + answer.Error.Description)
		}
	}
	return nil
}

// ask asks every node of a cluster and returns the answers of those that do: one at least.
func (b *Bus) ask(subject string, data []byte) ([][]byte, error) {
	conn, err := b.systemConn()
	if err != nil {
		return nil, err
	}
	reply, err := conn.Request(nodesPing, nil, flushTimeout)
	if err != nil {
		return nil, fmt.Errorf("ask for the nodes: %w", err)
	}
	var first struct {
		Stats struct {
			ActiveServers int `json:"active_servers"`
		} `json:"statsz"`
	}
	if err := json.Unmarshal(reply.Data, &first); err != nil {
		return nil, fmt.Errorf("ask for the nodes: %w", err)
	}
	sub, err := conn.SubscribeSync(conn.NewInbox())
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // it ends with the connection otherwise
	if err := conn.PublishRequest(subject, sub.Subject, data); err != nil {
		return nil, err
	}
	var answers [][]byte
	for patience := flushTimeout; len(answers) < max(1, first.Stats.ActiveServers); patience = othersTimeout {
		m, err := sub.NextMsg(patience)
		if errors.Is(err, nats.ErrTimeout) && len(answers) > 0 {
			break // some node that is counted is away
		}
		if err != nil {
			return nil, err
		}
		answers = append(answers, m.Data)
	}
	return answers, nil
}

// systemConn returns a connection of its own, because the server's user may not touch the system account.
func (b *Bus) systemConn() (*nats.Conn, error) {
	b.systemMu.Lock()
	defer b.systemMu.Unlock()
	if b.system != nil && b.system.IsConnected() {
		return b.system, nil
	}
	if b.system != nil {
		b.system.Close()
	}
	user, seed, err := b.operator.SystemCredentials()
	if err != nil {
		return nil, err
	}
	b.system, err = nats.Connect(b.cfg.URL, nats.UserJWTAndSeed(user, seed), b.secure(), nats.Name("waybill claims"),
		nats.Timeout(connectTimeout), nats.NoReconnect(), nats.PingInterval(clusterPing), nats.MaxPingsOutstanding(maxPingsOut))
	return b.system, err
}

func (b *Bus) closeSystem() {
	b.systemMu.Lock()
	defer b.systemMu.Unlock()
	if b.system != nil {
		b.system.Close()
	}
}
