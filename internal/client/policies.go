// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"iter"
	"net/netip"
	"net/url"
	"time"

	"github.com/openwaybill/waybill"
)

// Policy is a policy without its document.
type Policy struct {
	Name        string             `json:"PolicyName"`
	Type        waybill.PolicyType `json:"PolicyType"`
	Description string             `json:"Description"`
	Version     string             `json:"DefaultVersion"`  // v and a number that counts up with each new document
	Attachments int                `json:"AttachmentCount"` // users and groups it is attached to
	Created     string             `json:"CreateDate"`      // empty for a system policy
	Updated     string             `json:"UpdateDate"`      // empty for a system policy
}

// Policies is how the API nests policies.
type Policies struct {
	Items []Policy `json:"Policy"`
}

// PolicyVersion is the document of a policy.
type PolicyVersion struct {
	ID       string `json:"VersionId"`
	Default  bool   `json:"IsDefaultVersion"`
	Document string `json:"PolicyDocument"`
	Created  string `json:"CreateDate"`
}

// AttachedPolicy is a policy that is attached to a user or a group of users.
type AttachedPolicy struct {
	Name        string             `json:"PolicyName"`
	Type        waybill.PolicyType `json:"PolicyType"`
	Description string             `json:"Description"`
	Version     string             `json:"DefaultVersion"`
	Attached    string             `json:"AttachDate"`
}

// PolicyEntities is what a policy is attached to.
type PolicyEntities struct {
	Users struct {
		Items []AttachedUser `json:"User"`
	} `json:"Users"`
	Groups struct {
		Items []AttachedGroup `json:"Group"`
	} `json:"Groups"`
}

// AttachedUser is a user that a policy is attached to.
type AttachedUser struct {
	Name     string `json:"UserName"`
	Attached string `json:"AttachDate"`
}

// AttachedGroup is a group of users that a policy is attached to.
type AttachedGroup struct {
	Name     string `json:"GroupName"`
	Attached string `json:"AttachDate"`
}

// CreatePolicy makes a policy of the account.
func (c *Client) CreatePolicy(ctx context.Context, name, document, description string) (Policy, error) {
	p := params{}
	p.set("PolicyName", name)
	p.set("PolicyDocument", document)
	p.set("Description", description)
	var out struct{ Policy Policy }
	err := c.call(ctx, versionRAM, "CreatePolicy", url.Values(p), &out)
	return out.Policy, err
}

// GetPolicy returns a policy and its document.
func (c *Client) GetPolicy(ctx context.Context, n waybill.PolicyName) (Policy, PolicyVersion, error) {
	p := params{}
	p.setPolicy(n)
	var out struct {
		Policy  Policy
		Version PolicyVersion `json:"DefaultPolicyVersion"`
	}
	err := c.call(ctx, versionRAM, "GetPolicy", url.Values(p), &out)
	return out.Policy, out.Version, err
}

// ListPolicies returns a page of the policies of one type, or without a type of both: the system's, then the account's
// own by name. It has no total.
func (c *Client) ListPolicies(ctx context.Context, of waybill.PolicyType, page Paging) (Page[Policy], error) {
	p := params{}
	p.set("PolicyType", string(of))
	p.setMarker(page)
	var out struct {
		marked
		Policies Policies
	}
	err := c.call(ctx, versionRAM, "ListPolicies", url.Values(p), &out)
	return Page[Policy]{Items: out.Policies.Items, NextToken: out.next()}, err
}

// Policies goes through all pages of ListPolicies. An error ends it.
func (c *Client) Policies(ctx context.Context, of waybill.PolicyType) iter.Seq2[Policy, error] {
	return pages(func(page Paging) (Page[Policy], error) { return c.ListPolicies(ctx, of, page) })
}

// CreatePolicyVersion replaces the document of a policy of the account. It holds from the next call on.
func (c *Client) CreatePolicyVersion(ctx context.Context, name, document string) (PolicyVersion, error) {
	p := params{}
	p.set("PolicyName", name)
	p.set("PolicyDocument", document)
	p.set("SetAsDefault", "true")
	var out struct {
		Version PolicyVersion `json:"PolicyVersion"`
	}
	err := c.call(ctx, versionRAM, "CreatePolicyVersion", url.Values(p), &out)
	return out.Version, err
}

// DeletePolicy deletes a policy of the account that is attached to nothing.
func (c *Client) DeletePolicy(ctx context.Context, name string) error {
	p := params{}
	p.set("PolicyName", name)
	return c.call(ctx, versionRAM, "DeletePolicy", url.Values(p), nil)
}

// AttachPolicyToUser lets a policy hold for a user from the next call on.
func (c *Client) AttachPolicyToUser(ctx context.Context, n waybill.PolicyName, user string) error {
	return c.attachment(ctx, "AttachPolicyToUser", n, "UserName", user)
}

// DetachPolicyFromUser ends that.
func (c *Client) DetachPolicyFromUser(ctx context.Context, n waybill.PolicyName, user string) error {
	return c.attachment(ctx, "DetachPolicyFromUser", n, "UserName", user)
}

// AttachPolicyToGroup lets a policy hold for a group of users from the next call on.
func (c *Client) AttachPolicyToGroup(ctx context.Context, n waybill.PolicyName, group string) error {
	return c.attachment(ctx, "AttachPolicyToGroup", n, "GroupName", group)
}

// DetachPolicyFromGroup ends that.
func (c *Client) DetachPolicyFromGroup(ctx context.Context, n waybill.PolicyName, group string) error {
	return c.attachment(ctx, "DetachPolicyFromGroup", n, "GroupName", group)
}

func (c *Client) attachment(ctx context.Context, action string, n waybill.PolicyName, kind, entity string) error {
	p := params{}
	p.setPolicy(n)
	p.set(kind, entity)
	return c.call(ctx, versionRAM, action, url.Values(p), nil)
}

// ListPoliciesForUser returns the policies that are attached to a user itself, not those of its groups.
func (c *Client) ListPoliciesForUser(ctx context.Context, user string) ([]AttachedPolicy, error) {
	return c.policiesFor(ctx, "ListPoliciesForUser", "UserName", user)
}

// ListPoliciesForGroup returns the policies that are attached to a group of users.
func (c *Client) ListPoliciesForGroup(ctx context.Context, group string) ([]AttachedPolicy, error) {
	return c.policiesFor(ctx, "ListPoliciesForGroup", "GroupName", group)
}

func (c *Client) policiesFor(ctx context.Context, action, kind, entity string) ([]AttachedPolicy, error) {
	p := params{}
	p.set(kind, entity)
	var out struct {
		Policies struct{ Policy []AttachedPolicy }
	}
	err := c.call(ctx, versionRAM, action, url.Values(p), &out)
	return out.Policies.Policy, err
}

// ListEntitiesForPolicy returns what a policy is attached to.
func (c *Client) ListEntitiesForPolicy(ctx context.Context, n waybill.PolicyName) (PolicyEntities, error) {
	p := params{}
	p.setPolicy(n)
	var out PolicyEntities
	err := c.call(ctx, versionRAM, "ListEntitiesForPolicy", url.Values(p), &out)
	return out, err
}

func (p params) setPolicy(n waybill.PolicyName) {
	p.set("PolicyType", string(n.Type))
	p.set("PolicyName", n.Name)
}

// SimulatePolicyRequest asks whether a user may do something. Empty fields mean what they would be in a call made now
// from here, over TLS.
type SimulatePolicyRequest struct {
	User        string
	Action      string // such as ecs:SendFile
	Resource    string // an ARN, or the ID of an instance
	Region      string // of that instance
	RequestTags []waybill.Tag
	SourceIP    netip.Addr
	Time        time.Time
	Insecure    bool // not over TLS
}

// Decision is what policies come to.
type Decision string

// The decisions.
const (
	Allow        Decision = "Allow"
	ExplicitDeny Decision = "ExplicitDeny" // a statement denies it
	ImplicitDeny Decision = "ImplicitDeny" // no statement allows it
)

// Simulation is whether a user may do something, and which statement decides.
type Simulation struct {
	Decision     Decision           `json:"Decision"`
	Resource     string             `json:"Resource"` // the ARN that was decided on
	ResourceTags []Tag              `json:"ResourceTags"`
	PolicyType   waybill.PolicyType `json:"PolicyType"` // of the policy that decides; empty if none does
	PolicyName   string             `json:"PolicyName"`
	Statement    int                `json:"Statement"` // from 1; 0 if none decides
	Text         string             `json:"Text"`      // of that statement
}

// SimulatePolicy returns what the policies of a user say of a call that it might make.
func (c *Client) SimulatePolicy(ctx context.Context, r SimulatePolicyRequest) (Simulation, error) {
	p := params{}
	p.set("UserName", r.User)
	p.set("PolicyAction", r.Action)
	p.set("Resource", r.Resource)
	p.set("ResourceRegion", r.Region)
	p.setTagList("RequestTag", r.RequestTags)
	if r.SourceIP.IsValid() {
		p.set("RequestSourceIp", r.SourceIP.String())
	}
	p.setTime("CurrentTime", r.Time)
	if r.Insecure {
		p.set("Secure", "false")
	}
	var out Simulation
	err := c.call(ctx, versionRAM, "SimulatePolicy", url.Values(p), &out)
	return out, err
}
