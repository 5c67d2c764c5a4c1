// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/netip"
	"strconv"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// policyService is what the operations on policies need.
type policyService interface {
	CreatePolicy(ctx context.Context, act *waybill.Act, name, description, document string) (waybill.Policy, error)
	Policy(ctx context.Context, who waybill.Principal, n waybill.PolicyName) (waybill.Policy, error)
	Policies(
		ctx context.Context, who waybill.Principal, t waybill.PolicyType, p control.Page,
	) (control.Listing[waybill.Policy], error)
	UpdatePolicy(ctx context.Context, act *waybill.Act, name, document string) (waybill.Policy, error)
	DeletePolicy(ctx context.Context, act *waybill.Act, name string) error
	AttachPolicy(ctx context.Context, act *waybill.Act, n waybill.PolicyName, to waybill.Entity) error
	DetachPolicy(ctx context.Context, act *waybill.Act, n waybill.PolicyName, from waybill.Entity) error
	PoliciesOf(ctx context.Context, who waybill.Principal, e waybill.Entity) ([]waybill.Attachment, error)
	EntitiesOf(ctx context.Context, who waybill.Principal, n waybill.PolicyName) ([]waybill.Attachment, error)
	Simulate(ctx context.Context, who waybill.Principal, q control.Question) (control.Answer, error)
}

type onePolicy struct {
	PolicyName string `required:"true" limits:"1 to 128 letters, digits and -" doc:"the policy"`
}

type namedPolicy struct {
	PolicyType waybill.PolicyType `required:"true" enum:"System|Custom" fault:"InvalidParameter.PolicyType" doc:"whose it is"`
	onePolicy
}

func (p namedPolicy) name() waybill.PolicyName {
	return waybill.PolicyName{Type: p.PolicyType, Name: p.PolicyName}
}

// describedPolicy is what operations answer of a policy, without its document.
type describedPolicy struct {
	PolicyName      string
	PolicyType      waybill.PolicyType
	Description     string
	DefaultVersion  string `doc:"v and a number that counts up with each new document"`
	AttachmentCount int32  `doc:"users and groups it is attached to"`
	CreateDate      string `doc:"empty for a system policy"`
	UpdateDate      string `doc:"empty for a system policy"`
}

func versionText(n int) string { return "v" + strconv.Itoa(n) }

func policyOf(p waybill.Policy) describedPolicy {
	return describedPolicy{
		p.Name, p.Type, p.Description, versionText(p.Version), int32(p.Attachments), stamp(p.Created), stamp(p.Updated),
	}
}

type policyVersion struct {
	VersionId        string
	IsDefaultVersion bool `doc:"always true: the former documents are not kept"`
	PolicyDocument   string
	CreateDate       string
}

func policyVersionOf(p waybill.Policy) policyVersion {
	return policyVersion{versionText(p.Version), true, p.Document, stamp(p.Updated)}
}

type createPolicyInput struct {
	onePolicy
	PolicyDocument string `required:"true" limits:"at most 6144 characters" doc:"a RAM policy document, version 1"`
	Description    string `limits:"at most 1024 characters" doc:"for people"`
}

type createPolicyOutput struct {
	envelope
	Policy describedPolicy
}

func (c *call) createPolicy(ctx context.Context, in *createPolicyInput) (*createPolicyOutput, error) {
	p, err := c.CreatePolicy(ctx, c.act, in.PolicyName, in.Description, in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	return &createPolicyOutput{Policy: policyOf(p)}, nil
}

type getPolicyInput struct{ namedPolicy }

type getPolicyOutput struct {
	envelope
	Policy               describedPolicy
	DefaultPolicyVersion policyVersion
}

func (c *call) getPolicy(ctx context.Context, in *getPolicyInput) (*getPolicyOutput, error) {
	p, err := c.Policy(ctx, c.who, in.name())
	if err != nil {
		return nil, err
	}
	return &getPolicyOutput{Policy: policyOf(p), DefaultPolicyVersion: policyVersionOf(p)}, nil
}

type listPoliciesInput struct {
	PolicyType waybill.PolicyType `enum:"System|Custom" fault:"InvalidParameter.PolicyType" doc:"whose; both if it is not given"`
	marked
}

type listPoliciesOutput struct {
	envelope
	truncated
	Policies struct {
		Policy list[describedPolicy]
	}
}

func (c *call) listPolicies(ctx context.Context, in *listPoliciesInput) (*listPoliciesOutput, error) {
	page, err := c.openMarker(in.marked, string(in.PolicyType))
	if err != nil {
		return nil, err
	}
	found, err := c.Policies(ctx, c.who, in.PolicyType, page.Page)
	if err != nil {
		return nil, err
	}
	out := &listPoliciesOutput{truncated: page.truncated(found.Next)}
	out.Policies.Policy = collect(found.Items, policyOf)
	return out, nil
}

type createPolicyVersionInput struct {
	onePolicy
	PolicyDocument string `required:"true" limits:"at most 6144 characters" doc:"the document that takes the place of the present one"`
	SetAsDefault   *bool  `limits:"must be true" doc:"whether the document holds from now on"`
}

type createPolicyVersionOutput struct {
	envelope
	PolicyVersion policyVersion
}

func (c *call) createPolicyVersion(
	ctx context.Context, in *createPolicyVersionInput,
) (*createPolicyVersionOutput, error) {
	if in.SetAsDefault == nil || !*in.SetAsDefault {
		return nil, refuse("InvalidParameter", "SetAsDefault")
	}
	p, err := c.UpdatePolicy(ctx, c.act, in.PolicyName, in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	return &createPolicyVersionOutput{PolicyVersion: policyVersionOf(p)}, nil
}

type deletePolicyInput struct{ onePolicy }

func (c *call) deletePolicy(ctx context.Context, in *deletePolicyInput) (*nothingOutput, error) {
	return done(c.DeletePolicy(ctx, c.act, in.PolicyName))
}

type userPolicyInput struct {
	namedPolicy
	oneUser
}

func (in *userPolicyInput) entity() waybill.Entity {
	return waybill.Entity{Kind: waybill.UserEntity, Name: in.UserName}
}

type groupPolicyInput struct {
	namedPolicy
	oneUserGroup
}

func (in *groupPolicyInput) entity() waybill.Entity {
	return waybill.Entity{Kind: waybill.GroupEntity, Name: in.GroupName}
}

func (c *call) attachPolicyToUser(ctx context.Context, in *userPolicyInput) (*nothingOutput, error) {
	return c.attach(ctx, in.name(), in.entity())
}

func (c *call) attachPolicyToGroup(ctx context.Context, in *groupPolicyInput) (*nothingOutput, error) {
	return c.attach(ctx, in.name(), in.entity())
}

func (c *call) attach(ctx context.Context, n waybill.PolicyName, to waybill.Entity) (*nothingOutput, error) {
	return done(c.AttachPolicy(ctx, c.act, n, to))
}

func (c *call) detachPolicyFromUser(ctx context.Context, in *userPolicyInput) (*nothingOutput, error) {
	return c.detach(ctx, in.name(), in.entity())
}

func (c *call) detachPolicyFromGroup(ctx context.Context, in *groupPolicyInput) (*nothingOutput, error) {
	return c.detach(ctx, in.name(), in.entity())
}

func (c *call) detach(ctx context.Context, n waybill.PolicyName, from waybill.Entity) (*nothingOutput, error) {
	return done(c.DetachPolicy(ctx, c.act, n, from))
}

type attachedPolicy struct {
	PolicyName     string
	PolicyType     waybill.PolicyType
	Description    string
	DefaultVersion string
	AttachDate     string
}

type attachedPoliciesOutput struct {
	envelope
	Policies struct {
		Policy list[attachedPolicy]
	}
}

func (c *call) policiesOf(ctx context.Context, e waybill.Entity) (*attachedPoliciesOutput, error) {
	found, err := c.PoliciesOf(ctx, c.who, e)
	if err != nil {
		return nil, err
	}
	out := new(attachedPoliciesOutput)
	out.Policies.Policy = collect(found, func(a waybill.Attachment) attachedPolicy {
		p := a.Policy
		return attachedPolicy{p.Name, p.Type, p.Description, versionText(p.Version), stamp(a.Attached)}
	})
	return out, nil
}

type listPoliciesForUserInput struct{ oneUser }

func (c *call) listPoliciesForUser(
	ctx context.Context, in *listPoliciesForUserInput,
) (*attachedPoliciesOutput, error) {
	return c.policiesOf(ctx, waybill.Entity{Kind: waybill.UserEntity, Name: in.UserName})
}

type listPoliciesForGroupInput struct{ oneUserGroup }

func (c *call) listPoliciesForGroup(
	ctx context.Context, in *listPoliciesForGroupInput,
) (*attachedPoliciesOutput, error) {
	return c.policiesOf(ctx, waybill.Entity{Kind: waybill.GroupEntity, Name: in.GroupName})
}

type listEntitiesForPolicyInput struct{ namedPolicy }

type attachedUser struct {
	UserName   string
	AttachDate string
}

type attachedGroup struct {
	GroupName  string
	AttachDate string
}

type listEntitiesForPolicyOutput struct {
	envelope
	Users struct {
		User list[attachedUser]
	}
	Groups struct {
		Group list[attachedGroup]
	}
}

func (c *call) listEntitiesForPolicy(
	ctx context.Context, in *listEntitiesForPolicyInput,
) (*listEntitiesForPolicyOutput, error) {
	found, err := c.EntitiesOf(ctx, c.who, in.name())
	if err != nil {
		return nil, err
	}
	out := new(listEntitiesForPolicyOutput)
	for _, a := range found {
		if a.Kind == waybill.GroupEntity {
			out.Groups.Group = append(out.Groups.Group, attachedGroup{a.Name, stamp(a.Attached)})
		} else {
			out.Users.User = append(out.Users.User, attachedUser{a.Name, stamp(a.Attached)})
		}
	}
	return out, nil
}

type simulatePolicyInput struct {
	oneUser
	PolicyAction    string        `required:"true" doc:"what is to be done, such as ecs:SendFile"`
	Resource        string        `required:"true" doc:"an ARN, or the ID of an instance"`
	ResourceRegion  string        `doc:"region of that instance; the first of this server if it is not given"`
	RequestTag      []waybill.Tag `limits:"at most 20" doc:"tags the request would set (acs:RequestTag)"`
	RequestSourceIp string        `doc:"from where (acs:SourceIp); that of this call if it is not given"`
	CurrentTime     string        `limits:"YYYY-MM-DDThh:mm:ssZ" doc:"when (acs:CurrentTime); now if it is not given"`
	Secure          *bool         `limits:"default true" doc:"whether over TLS (acs:SecureTransport)"`
}

type simulatePolicyOutput struct {
	envelope
	Decision     string `doc:"Allow, ExplicitDeny or ImplicitDeny"`
	Resource     string `doc:"the ARN that was decided on"`
	ResourceTags list[tag]
	PolicyType   waybill.PolicyType `doc:"of the policy that decides; empty if none does"`
	PolicyName   string
	Statement    int32  `doc:"which statement of it, from 1; 0 if none decides"`
	Text         string `doc:"of that statement"`
}

func (c *call) simulatePolicy(ctx context.Context, in *simulatePolicyInput) (*simulatePolicyOutput, error) {
	q := control.Question{
		User: in.UserName, Action: in.PolicyAction, Resource: in.Resource, Region: in.ResourceRegion,
		RequestTags: in.RequestTag, SourceIP: c.who.SourceIP, Secure: in.Secure == nil || *in.Secure,
	}
	if q.Region == "" {
		q.Region = c.Regions()[0]
	}
	err := waybill.CheckTags(in.RequestTag)
	if err != nil {
		return nil, err
	}
	if in.RequestSourceIp != "" {
		if q.SourceIP, err = netip.ParseAddr(in.RequestSourceIp); err != nil {
			return nil, refuse("InvalidParameter", "RequestSourceIp")
		}
	}
	if in.CurrentTime != "" {
		if q.Time, err = time.Parse(time.RFC3339, in.CurrentTime); err != nil {
			return nil, refuse("InvalidParameter", "CurrentTime")
		}
	}
	a, err := c.Simulate(ctx, c.who, q)
	if err != nil {
		return nil, err
	}
	return &simulatePolicyOutput{
		Decision: string(a.Effect), Resource: a.Resource, ResourceTags: collect(a.ResourceTags, tagOf),
		PolicyType: a.Policy.Type, PolicyName: a.Policy.Name, Statement: int32(a.Statement + 1), Text: a.Text,
	}, nil
}
