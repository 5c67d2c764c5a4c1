// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/policy"
	"github.com/openwaybill/waybill/internal/telemetry"
)

// Denial is an act that policies do not allow. Its code is NotAuthorized.
type Denial struct {
	Who       waybill.Principal
	Action    string
	Resource  string // the first that is not allowed
	Session   bool   // by the policy that a temporary key came with
	Explicit  bool   // a statement denies it; otherwise none allows it
	Policy    waybill.PolicyName
	Statement int // of Policy, from 0; without meaning unless Explicit
}

func (d *Denial) Error() string {
	why := "no policy allows it"
	if d.Explicit {
		why = fmt.Sprintf("statement %d of %s policy %s denies it", d.Statement+1, strings.ToLower(string(d.Policy.Type)), d.Policy.Name)
	}
	return fmt.Sprintf("%s may not %s on %s: %s", d.Who.Name, d.Action, d.Resource, why)
}

func (d *Denial) Unwrap() error {
	return &waybill.Error{Code: waybill.NotAuthorized, Message: d.Error()}
}

// Authorize returns nil if whoever makes act may do it to every one of its resources, and otherwise a *Denial.
// requestTags are the tags that act puts on something.
//
// An account may do everything with its own keys. A user may do what its policies and those of its groups allow. A
// temporary key may at most what the key it was issued with may and, if it came with a policy, what that allows too.
func (s *Service) Authorize(ctx context.Context, act *waybill.Act, requestTags []waybill.Tag) (err error) {
	ctx, span := telemetry.Child(ctx, telemetry.Inside, "authorize")
	defer func() { span.End(err) }()
	j, err := s.judge(ctx, act, requestTags)
	if err != nil || j.free() {
		return err
	}
	tags, err := j.tagsOf(ctx, act.Resources)
	if err != nil {
		return err
	}
	for _, arn := range act.Resources {
		if d := j.check(arn, tags[arn]); d != nil {
			return d
		}
	}
	return nil
}

// judge decides about one act by the policies as they were when it was made.
type judge struct {
	*Service
	act         *waybill.Act
	sets        [][]policy.Policy // each of which has to allow what is done
	byTags      bool              // some policy looks at tags of resources
	requestTags map[string]string
	at          time.Time
}

func (s *Service) judge(ctx context.Context, act *waybill.Act, requestTags []waybill.Tag) (*judge, error) {
	sets, err := s.policiesOf(ctx, act.Principal)
	return &judge{s, act, sets, usesResourceTags(sets), tagMap(requestTags), s.now()}, err
}

// free reports whether whoever makes the act may do everything.
func (j *judge) free() bool { return len(j.sets) == 0 }

// tagsOf returns the tags of resources, by their ARNs, as far as policies look at them.
func (j *judge) tagsOf(ctx context.Context, arns []string) (map[string]map[string]string, error) {
	if !j.byTags {
		return nil, nil
	}
	return j.resourceTags(ctx, j.act.Account, arns)
}

// check returns nil if the act may be performed on a resource with these tags.
func (j *judge) check(arn string, tags map[string]string) *Denial {
	r := policy.Request{
		Action: j.act.Action, Resource: arn, ResourceTags: tags, RequestTags: j.requestTags,
		SourceIP: j.act.SourceIP, Time: j.at, Secure: j.act.Secure,
	}
	for i, set := range j.sets {
		d := policy.Evaluate(set, r)
		if d.Effect == policy.Allow {
			continue
		}
		denial := &Denial{
			Who: j.act.Principal, Action: j.act.Action, Resource: arn, Statement: d.Statement,
			Session: i == 0 && j.act.Session != "",
		}
		if d.Policy != nil {
			denial.Explicit, denial.Policy = true, d.Policy.PolicyName
		}
		return denial
	}
	return nil
}

// policiesOf returns sets of policies, each of which has to allow what who does; none for whoever may do everything.
func (s *Service) policiesOf(ctx context.Context, who waybill.Principal) ([][]policy.Policy, error) {
	var sets [][]policy.Policy
	if who.Session != "" {
		doc, err := s.documents.parse(who.Session)
		if err != nil {
			return nil, fmt.Errorf("policy of a temporary key: %w", err)
		}
		name := waybill.PolicyName{Type: waybill.SessionPolicy, Name: who.AccessKey}
		sets = append(sets, []policy.Policy{{PolicyName: name, Document: doc}})
	}
	switch who.Kind {
	case waybill.AccountActor:
		return sets, nil
	case waybill.UserActor:
		own, err := s.userPolicies(ctx, who.Account, who.Name)
		return append(sets, own), err
	default:
		return append(sets, nil), nil // an empty set allows nothing
	}
}

// userPolicies returns what decides what a user may do: its own policies first, then those of its groups.
func (s *Service) userPolicies(ctx context.Context, account waybill.AccountID, user string) ([]policy.Policy, error) {
	attached, err := s.store.EffectivePolicies(ctx, account, user)
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	list := make([]policy.Policy, 0, len(attached))
	for _, a := range attached {
		if a.Policy.Type == waybill.SystemPolicy {
			if p, ok := systemPolicy(a.Policy.Name); ok {
				list = append(list, p.Policy)
			}
			continue
		}
		doc, err := s.documents.parse(a.Policy.Document)
		if err != nil { // it was checked when it was stored
			return nil, fmt.Errorf("policy %s: %w", a.Policy.Name, err)
		}
		list = append(list, policy.Policy{PolicyName: a.Policy.PolicyName, Document: doc})
	}
	return list, nil
}

func usesResourceTags(sets [][]policy.Policy) bool {
	for _, set := range sets {
		for _, p := range set {
			if p.Document.UsesResourceTags() {
				return true
			}
		}
	}
	return false
}

func tagMap(tags []waybill.Tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	return m
}

// arnKinds says which resources that have tags an ARN of ecs means, by its type.
var arnKinds = map[string]waybill.ResourceKind{
	"instance":   waybill.InstanceResource,
	"activation": waybill.ActivationResource,
	"invocation": waybill.DeliveryResource,
}

// parseARN returns which resource an ARN means; ok is false if that has no tags.
func parseARN(arn string) (kind waybill.ResourceKind, id string, ok bool) {
	parts := strings.SplitN(arn, ":", 5)
	if len(parts) != 5 || parts[1] != "ecs" {
		return "", "", false
	}
	name, id, _ := strings.Cut(parts[4], "/")
	kind, ok = arnKinds[name]
	return kind, id, ok
}

// resourceTags returns the tags of resources of the account, by their ARNs. One that is not there has none, and neither
// has another account's.
func (s *Service) resourceTags(ctx context.Context, account waybill.AccountID, arns []string) (map[string]map[string]string, error) {
	ids := map[waybill.ResourceKind][]string{}
	for _, arn := range arns {
		if kind, id, ok := parseARN(arn); ok {
			ids[kind] = append(ids[kind], id)
		}
	}
	found := map[waybill.ResourceKind]map[string][]waybill.Tag{}
	for kind, list := range ids {
		tags, err := s.store.TagsOf(ctx, account, kind, list)
		if err != nil {
			return nil, fmt.Errorf("read tags: %w", err)
		}
		found[kind] = tags
	}
	byARN := make(map[string]map[string]string, len(arns))
	for _, arn := range arns {
		if kind, id, ok := parseARN(arn); ok {
			byARN[arn] = tagMap(found[kind][id])
		}
	}
	return byARN, nil
}

// maxDocuments bounds how many parsed documents are kept.
const maxDocuments = 1000

// documents keeps parsed policy documents by their text. The zero value is ready.
type documents struct {
	mu sync.Mutex
	m  map[string]*policy.Document
}

func (d *documents) parse(text string) (*policy.Document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if doc, ok := d.m[text]; ok {
		return doc, nil
	}
	doc, err := policy.Parse(text)
	if err != nil {
		return nil, err
	}
	if d.m == nil || len(d.m) >= maxDocuments {
		d.m = make(map[string]*policy.Document)
	}
	d.m[text] = doc
	return doc, nil
}

// Question asks what a user may do.
type Question struct {
	User        string
	Action      string
	Resource    string // an ARN, or the ID of an instance
	Region      string // of that instance
	RequestTags []waybill.Tag
	SourceIP    netip.Addr
	Time        time.Time // zero: now
	Secure      bool
}

// Answer is what policies say to a Question.
type Answer struct {
	Effect       policy.Effect
	Resource     string // the ARN that was decided on
	ResourceTags []waybill.Tag
	Policy       waybill.PolicyName // what decided; empty if nothing did
	Statement    int                // of it, from 0; -1 if nothing did
	Text         string             // of that statement
}

// Simulate says what the policies of a user, and of its groups, say to a question, with the tags that the resource has.
func (s *Service) Simulate(ctx context.Context, who waybill.Principal, q Question) (Answer, error) {
	if _, err := s.User(ctx, who, q.User); err != nil {
		return Answer{}, err
	}
	if !strings.Contains(q.Resource, ":") && q.Resource != "*" {
		// One that is not there has no tags, and a Deny by tag would be missed because of a mistyped ID.
		if _, err := s.instance(ctx, who, q.Region, waybill.InstanceID(q.Resource)); err != nil {
			return Answer{}, err
		}
		q.Resource = fmt.Sprintf("acs:ecs:%s:%s:instance/%s", q.Region, who.Account, q.Resource)
	}
	if q.Time.IsZero() {
		q.Time = s.now()
	}
	set, err := s.userPolicies(ctx, who.Account, q.User)
	if err != nil {
		return Answer{}, err
	}
	tags, err := s.resourceTags(ctx, who.Account, []string{q.Resource})
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Resource: q.Resource}
	for _, key := range slices.Sorted(maps.Keys(tags[q.Resource])) {
		a.ResourceTags = append(a.ResourceTags, waybill.Tag{Key: key, Value: tags[q.Resource][key]})
	}
	d := policy.Evaluate(set, policy.Request{
		Action: q.Action, Resource: q.Resource, ResourceTags: tags[q.Resource], RequestTags: tagMap(q.RequestTags),
		SourceIP: q.SourceIP, Time: q.Time, Secure: q.Secure,
	})
	a.Effect, a.Statement = d.Effect, d.Statement
	if d.Policy != nil {
		a.Policy, a.Text = d.Policy.PolicyName, d.Policy.Document.Statement(d.Statement)
	}
	return a, nil
}
