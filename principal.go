// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"net/netip"
	"time"
)

// ActorKind says what kind of thing acts. The zero value may do nothing.
type ActorKind string

// The kinds of actors. The values are stored in audit records and shown as they stand.
const (
	AccountActor  ActorKind = "Account"  // the account itself, with a key of its own: may do everything in it
	UserActor     ActorKind = "User"     // a user of the account: may do what policies allow
	AgentActor    ActorKind = "Agent"    // a machine, by the activation it enrols with or by its own key
	OperatorActor ActorKind = "Operator" // whoever runs commands on the server's machine
	ServerActor   ActorKind = "Server"   // the server, by itself
)

// Principal is who makes a request, how it reached the server, and under which ID it is known.
type Principal struct {
	Account   AccountID
	Kind      ActorKind
	Name      string     // of the user, the instance, or the operating system's user; empty for an account
	AccessKey string     // the key's ID
	Issuer    string     // of a temporary key: the key with which it was issued; else empty
	Session   string     // of a temporary key: the policy document that narrows what it may; empty: it is not narrowed
	SourceIP  netip.Addr // where the request came from
	Secure    bool       // it came over TLS
	RequestID string
}

// Temporary reports whether the request was signed with a temporary key.
func (p Principal) Temporary() bool { return p.Issuer != "" }

// Act is a request that changes something: who does what, to what. Whoever carries it out writes its audit record, and
// the answer that its token stands for, in the transaction of the change. It belongs to one request and to one
// goroutine at a time.
type Act struct {
	Principal
	Action    string   // as policies name it, such as ecs:SendFile
	Region    string   // empty for what belongs to no region
	Resources []string // what it is performed on, as ARNs
	Subject   string   // the ID of what it made, once that is known

	Token  string   // the client's mark (ClientToken) by which a repetition is known; empty: none
	Digest [32]byte // of the parameters, by which a repetition is told from another request with the same token

	Recorded bool // its audit record has been written
	Repeated bool // it was not carried out, because it repeats one that was
}

// AccessKey is a key pair of an account or one of its users. The secret is never part of it.
type AccessKey struct {
	ID       string
	Account  AccountID
	User     string // whose; empty: the account's own
	Active   bool
	Created  time.Time
	LastUsed time.Time // zero if never; up to a minute late
}

// TemporaryKey is a key pair that ends by itself. It may at most what the key it was issued with may, and ends with it.
type TemporaryKey struct {
	ID      string
	Secret  string
	Token   string // to be sent along with every request (SecurityToken)
	Expires time.Time
}

// Account is a tenant.
type Account struct {
	ID       AccountID
	Name     string
	Disabled bool
	Created  time.Time
}

// User is a person or program of an account, with keys of its own. It may do what the policies allow that are attached
// to it and to its groups.
type User struct {
	ID          string // 18 digits
	Name        string // as it was given; two of an account differ in more than case
	DisplayName string
	Comments    string
	Created     time.Time
	Updated     time.Time
}

// UserGroup is a set of users that policies can be attached to.
type UserGroup struct {
	ID       string // g- and 16 characters
	Name     string // as it was given; two of an account differ in more than case
	Comments string
	Created  time.Time
	Updated  time.Time
}

// PolicyType says whose a policy is.
type PolicyType string

// The policy types. The values are those of RAM.
const (
	SystemPolicy  PolicyType = "System" // comes with the server, the same in every account
	CustomPolicy  PolicyType = "Custom" // made by the account
	SessionPolicy PolicyType = "Session"
)

// PolicyName names a policy as an account sees it.
type PolicyName struct {
	Type PolicyType
	Name string
}

// Policy is a policy with what it says. Its document is a RAM policy document, version 1.
type Policy struct {
	PolicyName
	Description string
	Document    string
	Version     int // counts the documents it had; the first is 1
	Attachments int // how many users and groups it is attached to
	Created     time.Time
	Updated     time.Time
}

// EntityKind says what a policy is attached to.
type EntityKind string

// What policies are attached to.
const (
	UserEntity  EntityKind = "user"
	GroupEntity EntityKind = "group"
)

// Entity is a user or a group of users.
type Entity struct {
	Kind EntityKind
	Name string
}

// Attachment is a policy attached to an entity, and since when.
type Attachment struct {
	Entity
	Policy   Policy
	Attached time.Time
}
