// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// maxAgentSubscriptions bounds what one agent can make the bus remember. An agent needs its messages and one inbox.
const maxAgentSubscriptions = 64

// maxAgentMessage is how many bytes an agent may send at once. Its largest message is a wire.Beat of wire.MaxOpen IDs,
// a quarter of this; only the server needs wire.MaxMessage, for the files. The less one agent may send, the less room it
// can take from others where messages wait.
const maxAgentMessage = 64 << 10

// Operator is the key material of the bus in NATS operator mode: the operator, its system account, and the account all
// agents and servers are users of, with the key that signs them (design §6). It may be used by several goroutines.
//
// Whoever has it can speak as any agent: store what Marshal returns sealed only.
type Operator struct {
	operator nkeys.KeyPair
	system   nkeys.KeyPair
	agents   nkeys.KeyPair
	signer   nkeys.KeyPair
}

// operatorSeeds is the stored form of an Operator.
type operatorSeeds struct {
	Operator string `json:"operator"`
	System   string `json:"system"`
	Agents   string `json:"agents"`
	Signer   string `json:"signer"`
}

// NewOperator generates the material of a new bus.
func NewOperator() (*Operator, error) {
	operator, err1 := nkeys.CreateOperator()
	system, err2 := nkeys.CreateAccount()
	agents, err3 := nkeys.CreateAccount()
	signer, err4 := nkeys.CreateAccount()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("create operator: %w", err)
	}
	return &Operator{operator: operator, system: system, agents: agents, signer: signer}, nil
}

// ParseOperator is the inverse of Marshal.
func ParseOperator(b []byte) (*Operator, error) {
	var s operatorSeeds
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("parse operator: %w", err)
	}
	operator, err1 := fromSeed(nkeys.PrefixByteOperator, s.Operator)
	system, err2 := fromSeed(nkeys.PrefixByteAccount, s.System)
	agents, err3 := fromSeed(nkeys.PrefixByteAccount, s.Agents)
	signer, err4 := fromSeed(nkeys.PrefixByteAccount, s.Signer)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("parse operator: %w", err)
	}
	return &Operator{operator: operator, system: system, agents: agents, signer: signer}, nil
}

func fromSeed(want nkeys.PrefixByte, seed string) (nkeys.KeyPair, error) {
	prefix, _, err := nkeys.DecodeSeed([]byte(seed))
	if err != nil {
		return nil, err
	}
	if prefix != want {
		return nil, fmt.Errorf("seed of kind %s, want %s", prefix, want)
	}
	return nkeys.FromSeed([]byte(seed))
}

// Marshal returns all private keys in a form that ParseOperator reads.
func (o *Operator) Marshal() []byte {
	b, err := json.Marshal(operatorSeeds{
		Operator: seed(o.operator), System: seed(o.system), Agents: seed(o.agents), Signer: seed(o.signer),
	})
	if err != nil {
		panic(err) // four strings always encode
	}
	return b
}

// SystemAccount returns the public key of the system account.
func (o *Operator) SystemAccount() string { return public(o.system) }

// Account returns the public key of the account of agents and servers.
func (o *Operator) Account() string { return public(o.agents) }

// OperatorJWT returns the claims that a NATS server trusts.
func (o *Operator) OperatorJWT() (string, error) {
	c := jwt.NewOperatorClaims(public(o.operator))
	c.Name = "waybill"
	c.SystemAccount = o.SystemAccount()
	return c.Encode(o.operator)
}

// SystemAccountJWT returns the claims of the system account.
func (o *Operator) SystemAccountJWT() (string, error) {
	c := jwt.NewAccountClaims(o.SystemAccount())
	c.Name = "SYS"
	return c.Encode(o.operator)
}

// AccountJWT returns the claims of the account of agents and servers. Of each key in revoked, the account refuses the
// tokens issued up to and within the second of the given time.
func (o *Operator) AccountJWT(revoked map[string]time.Time) (string, error) {
	c := jwt.NewAccountClaims(o.Account())
	c.Name = "waybill"
	c.SigningKeys.Add(public(o.signer))
	c.Limits.DisallowBearer = true
	for key, at := range revoked {
		c.RevokeAt(key, at)
	}
	return c.Encode(o.operator)
}

// AgentJWT returns the token with which the agent of an instance connects to the bus, proving that it holds publicKey.
// It allows that instance's subjects and no others, and expires at now + ttl.
func (o *Operator) AgentJWT(id waybill.InstanceID, publicKey string, ttl time.Duration, now time.Time) (string, error) {
	// The ID becomes part of a subject: a dot or a wildcard in it would open the subjects of others.
	if id == "" || strings.ContainsFunc(string(id), notIDRune) {
		return "", fmt.Errorf("issue token: instance ID %q", id)
	}
	if !nkeys.IsValidPublicUserKey(publicKey) {
		return "", fmt.Errorf("issue token for %s: not a public user key", id)
	}
	c := jwt.NewUserClaims(publicKey)
	c.Name = string(id)
	c.IssuerAccount = o.Account()
	c.Expires = now.Add(ttl).Unix()
	c.Pub.Allow.Add(wire.ServerSubjects(string(id)))
	c.Sub.Allow.Add(wire.AgentSubjects(string(id)))
	c.Limits.Subs = maxAgentSubscriptions
	c.Limits.Payload = maxAgentMessage
	c.AllowedConnectionTypes.Add(jwt.ConnectionTypeStandard)
	return c.Encode(o.signer)
}

// ServerCredentials returns a token, and the seed of its key, with which a server connects to the bus: it publishes to
// all agents and hears all of them, and it hears what is published to those agents that are not on the bus but at a front
// end of its own. Each call makes a new key, which is meant to stay in memory.
func (o *Operator) ServerCredentials() (token, seed string, err error) {
	return credentials(o.signer, func(c *jwt.UserClaims) {
		c.IssuerAccount = o.Account()
		c.Pub.Allow.Add(wire.AgentSubjects("*"))
		c.Sub.Allow.Add(wire.ServerSubjects("*"), wire.AgentSubjects("*"))
	})
}

// SystemCredentials returns a token, and the seed of its key, with which a server may replace the claims of accounts in
// an external NATS cluster. Each call makes a new key, which is meant to stay in memory.
func (o *Operator) SystemCredentials() (token, seed string, err error) {
	return credentials(o.system, func(*jwt.UserClaims) {})
}

// ServerCredentialsFile returns ServerCredentials in the form of a credentials file of NATS. They do not expire.
func (o *Operator) ServerCredentialsFile() ([]byte, error) {
	token, seed, err := o.ServerCredentials()
	if err != nil {
		return nil, err
	}
	return jwt.FormatUserConfig(token, []byte(seed))
}

func credentials(signer nkeys.KeyPair, shape func(*jwt.UserClaims)) (token, userSeed string, err error) {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return "", "", fmt.Errorf("create user key: %w", err)
	}
	c := jwt.NewUserClaims(public(kp))
	c.Name = "server"
	shape(c)
	token, err = c.Encode(signer)
	return token, seed(kp), err
}

func notIDRune(r rune) bool {
	return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}

// public and seed cannot fail: every key pair here was made from a seed.

func public(kp nkeys.KeyPair) string {
	key, err := kp.PublicKey()
	if err != nil {
		panic(err)
	}
	return key
}

func seed(kp nkeys.KeyPair) string {
	s, err := kp.Seed()
	if err != nil {
		panic(err)
	}
	return string(s)
}
