// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/wire"
)

func newOperator(t *testing.T) *identity.Operator {
	t.Helper()
	op, err := identity.NewOperator()
	if err != nil {
		t.Fatal(err)
	}
	return op
}

func newUser(t *testing.T) (nkeys.KeyPair, string) {
	t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	key, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return kp, key
}

func TestOperatorSurvivesMarshal(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	again, err := identity.ParseOperator(op.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Marshal(), op.Marshal()) || again.Account() != op.Account() ||
		again.SystemAccount() != op.SystemAccount() {
		t.Error("the parsed operator differs")
	}
}

func TestParseOperatorRefuses(t *testing.T) {
	t.Parallel()
	good := string(newOperator(t).Marshal())
	account := strings.Split(good, `"`)[7] // the seed of the system account
	operator := strings.Split(good, `"`)[3]
	for name, text := range map[string]string{
		"nothing":              "",
		"not JSON":             "SOAB",
		"no seeds":             "{}",
		"account as operator":  strings.Replace(good, operator, account, 1),
		"a seed with one flaw": strings.Replace(good, account, account[:len(account)-1], 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := identity.ParseOperator([]byte(text)); err == nil {
				t.Error("accepted")
			} else if strings.Contains(err.Error(), account) {
				t.Error("the error shows a seed")
			}
		})
	}
}

func TestAgentJWT(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	_, key := newUser(t)
	now := time.Unix(1_795_434_318, 0)
	token, err := op.AgentJWT("mi-hz01", key, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	type granted struct {
		Subject, Name, Account string
		Expires                int64
		Permissions            jwt.Permissions
		Bearer                 bool
	}
	want := granted{
		Subject: key, Name: "mi-hz01", Account: op.Account(), Expires: now.Unix() + 3600,
		Permissions: jwt.Permissions{
			Pub: jwt.Permission{Allow: jwt.StringList{"wb.1.server.mi-hz01.*"}},
			Sub: jwt.Permission{Allow: jwt.StringList{"wb.1.agent.mi-hz01.>"}},
		},
	}
	got := granted{c.Subject, c.Name, c.IssuerAccount, c.Expires, c.Permissions, c.BearerToken}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	open := make([]string, wire.MaxOpen)
	for i := range open {
		open[i] = strings.Repeat("f", 64)
	}
	largest := int64(len(wire.Encode(&wire.Beat{Session: strings.Repeat("s", 64), Open: open})))
	if c.Limits.Payload < largest || c.Limits.Payload > 4*largest {
		t.Errorf("may send %d bytes, and its largest message has %d", c.Limits.Payload, largest)
	}
	if c.Issuer == op.Account() {
		t.Error("signed with the account's own key, not its signing key")
	}
}

func TestAgentJWTRefuses(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	_, key := newUser(t)
	for _, tt := range []struct {
		name string
		id   waybill.InstanceID
		key  string
	}{
		{"no instance", "", key},
		{"wildcard of one token", "*", key},
		{"wildcard of all", ">", key},
		{"two tokens", "mi-a.mi-b", key},
		{"space", "mi-a b", key},
		{"no key", "mi-a", ""},
		{"key of an account", "mi-a", op.Account()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := op.AgentJWT(tt.id, tt.key, time.Hour, time.Now()); err == nil {
				t.Error("a token was issued")
			}
		})
	}
}

func TestAccountJWTRevokes(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	_, key := newUser(t)
	_, other := newUser(t)
	at := time.Unix(1_795_434_318, 0)
	token, err := op.AccountJWT(map[string]time.Time{key: at})
	if err != nil {
		t.Fatal(err)
	}
	c, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		key    string
		issued time.Time
		want   bool
	}{
		{"issued before", key, at.Add(-time.Hour), true},
		{"issued in the same second", key, at.Add(time.Millisecond), true},
		{"issued after", key, at.Add(time.Second), false},
		{"another key", other, at.Add(-time.Hour), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := c.Revocations.IsRevoked(tt.key, tt.issued); got != tt.want {
				t.Errorf("revoked: %v, want %v", got, tt.want)
			}
		})
	}
}
