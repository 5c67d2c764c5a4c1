// SPDX-License-Identifier: Apache-2.0

// Package policy reads RAM policy documents (Version "1") and decides by them whether a request is allowed.
//
// It consists of pure functions over the policies, the request and the time it is given. It stores nothing and knows no
// users, roles or operations: which policies count for a caller, which action and resource a request stands for, and
// which tags the resource has are the caller's to find out.
package policy

import (
	"net/netip"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
)

// Policy is a document under its name, which only identifies it in a Decision. Document must not be nil.
type Policy struct {
	waybill.PolicyName
	Document *Document
}

// Request is what is to be decided. Patterns and conditions are in the policies alone: every character of these values
// stands for itself, * and ? included.
type Request struct {
	Action string // ecs:SendFile
	// Resource is an ARN, acs:ecs:cn-hangzhou:1234567890123456:instance/mi-1. What is no ARN, as the plain * of some
	// list actions, matches no pattern but *.
	Resource     string
	ResourceTags map[string]string // of the resource; nil if it has none or there is no such resource
	RequestTags  map[string]string // that the request wants to set
	SourceIP     netip.Addr        // zero: unknown, acs:SourceIp is absent
	Time         time.Time         // zero: unknown, acs:CurrentTime is absent; read in whole seconds
	Secure       bool              // came over TLS
}

// Effect is the outcome of a decision. Only Allow permits the request.
type Effect string

// The effects.
const (
	Allow        Effect = "Allow"
	ExplicitDeny Effect = "ExplicitDeny" // a Deny statement matched
	ImplicitDeny Effect = "ImplicitDeny" // no statement matched
)

// Decision is an Effect and what it is due to.
type Decision struct {
	Effect    Effect
	Policy    *Policy // the element of Evaluate's policies that decided; nil with ImplicitDeny
	Statement int     // index of the statement in Policy.Document that decided; -1 with ImplicitDeny
}

// Evaluate decides r. A matching Deny beats every Allow; of several matching statements with the winning effect the
// first one decides, in the order of policies and of their statements. If nothing matches, the request is denied
// implicitly.
//
// Policies only add up. Where one set limits another, as the policy of a session limits those of its role, evaluate
// each set on its own and require Allow from both.
func Evaluate(policies []Policy, r Request) Decision {
	decision := Decision{Effect: ImplicitDeny, Statement: -1}
	s := newSubject(&r)
	for i := range policies {
		for j := range policies[i].Document.statements {
			st := &policies[i].Document.statements[j]
			// A further Allow changes nothing, so only the first one is worth matching.
			if !st.deny && decision.Effect == Allow || !st.matches(s) {
				continue
			}
			if st.deny {
				return Decision{Effect: ExplicitDeny, Policy: &policies[i], Statement: j}
			}
			decision = Decision{Effect: Allow, Policy: &policies[i], Statement: j}
		}
	}
	return decision
}

// subject is a Request taken apart once for all statements.
type subject struct {
	*Request
	service, action string // in lower case
	arn             arn
	isARN           bool
}

func newSubject(r *Request) *subject {
	s := &subject{Request: r}
	s.service, s.action, _ = strings.Cut(strings.ToLower(r.Action), ":")
	s.arn, s.isARN = splitARN(r.Resource)
	return s
}
