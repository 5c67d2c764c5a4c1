// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/openwaybill/waybill"
)

// The pools are small, so that about as many statements match a request as do not.
var (
	actionPool    = []string{"ecs:SendFile", "ecs:DescribeInstances", "ecs:CreateActivation", "oss:GetObject"}
	actionPats    = []string{"*", "ecs:*", "ECS:sendfile", "ecs:Describe*", "*:?reate*", "oss:*"}
	resourcePool  = []string{"*", "acs:ecs:r:1:instance/mi-1", "acs:ecs:r:2:instance/mi-2", "acs:oss:r:1:b/o"}
	resourcePats  = []string{"*", "acs:ecs:*:*:instance/*", "acs:*:r:1:*", "acs:ecs:r:?:instance/mi-2"}
	tagPool       = []string{"dev", "Dev", "prod", ""}
	sourcePool    = []netip.Addr{{}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}
	timePool      = []time.Time{{}, noon.Add(-time.Hour), noon, noon.Add(time.Hour)}
	noon          = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	conditionPool = []string{
		`{}`,
		`{"StringEquals":{"acs:ResourceTag/env":"dev"}}`,
		`{"StringNotLike":{"acs:ResourceTag/env":["d*","p?od"]}}`,
		`{"StringEqualsIgnoreCase":{"acs:RequestTag/env":"DEV"}}`,
		`{"IpAddress":{"acs:SourceIp":"10.0.0.0/8"}}`,
		`{"NotIpAddress":{"acs:SourceIp":"2001:db8::/32"},"Bool":{"acs:SecureTransport":true}}`,
		`{"DateLessThanEquals":{"acs:CurrentTime":"2026-11-23T12:00:00Z"}}`,
		`{"DateNotEquals":{"acs:CurrentTime":"2026-11-23T12:00:00Z"}}`,
		`{"Bool":{"acs:MFAPresent":false}}`,
	}
)

func drawStatement(rt *rapid.T, effect string) string {
	statement := map[string]any{
		"Effect":    effect,
		"Resource":  rapid.SliceOfN(rapid.SampledFrom(resourcePats), 1, 2).Draw(rt, "resources"),
		"Condition": json.RawMessage(rapid.SampledFrom(conditionPool).Draw(rt, "condition")),
	}
	field := rapid.SampledFrom([]string{"Action", "Action", "NotAction"}).Draw(rt, "field")
	statement[field] = rapid.SliceOfN(rapid.SampledFrom(actionPats), 1, 2).Draw(rt, "actions")
	b, err := json.Marshal(statement)
	if err != nil {
		rt.Fatal(err)
	}
	return string(b)
}

func drawStatements(rt *rapid.T, low int) []string {
	statements := make([]string, rapid.IntRange(low, 3).Draw(rt, "statements"))
	for i := range statements {
		statements[i] = drawStatement(rt, rapid.SampledFrom([]string{"Allow", "Allow", "Deny"}).Draw(rt, "effect"))
	}
	return statements
}

func policyOf(rt *rapid.T, name string, statements []string) Policy {
	d, err := Parse(wrap(statements))
	if err != nil {
		rt.Fatal(err)
	}
	return Policy{PolicyName: waybill.PolicyName{Type: waybill.CustomPolicy, Name: name}, Document: d}
}

// wrap returns a document of statements.
func wrap(statements []string) string {
	return `{"Version":"1","Statement":[` + strings.Join(statements, ",") + `]}`
}

func statementsOf(d *Document) []string {
	statements := make([]string, d.Statements())
	for i := range statements {
		statements[i] = d.Statement(i)
	}
	return statements
}

func drawPolicies(rt *rapid.T) []Policy {
	policies := make([]Policy, rapid.IntRange(0, 3).Draw(rt, "policies"))
	for i := range policies {
		policies[i] = policyOf(rt, fmt.Sprint(i), drawStatements(rt, 1))
	}
	return policies
}

func drawRequest(rt *rapid.T) Request {
	r := Request{
		Action:   rapid.SampledFrom(actionPool).Draw(rt, "action"),
		Resource: rapid.SampledFrom(resourcePool).Draw(rt, "resource"),
		SourceIP: rapid.SampledFrom(sourcePool).Draw(rt, "source"),
		Time:     rapid.SampledFrom(timePool).Draw(rt, "time"),
		Secure:   rapid.Bool().Draw(rt, "secure"),
	}
	if rapid.Bool().Draw(rt, "resource has tag") {
		r.ResourceTags = map[string]string{"env": rapid.SampledFrom(tagPool).Draw(rt, "resource tag")}
	}
	if rapid.Bool().Draw(rt, "request has tag") {
		r.RequestTags = map[string]string{"env": rapid.SampledFrom(tagPool).Draw(rt, "request tag")}
	}
	return r
}

// change returns policies with statement in one of them, or in a further one with some allows, at any place.
func change(rt *rapid.T, policies []Policy, statement string) []Policy {
	policies = slices.Clone(policies)
	at := rapid.IntRange(0, len(policies)).Draw(rt, "policy")
	if at == len(policies) || rapid.Bool().Draw(rt, "further policy") {
		statements := append(drawAllows(rt), statement)
		return slices.Insert(policies, at, policyOf(rt, "further", statements))
	}
	statements := statementsOf(policies[at].Document)
	statements = slices.Insert(statements, rapid.IntRange(0, len(statements)).Draw(rt, "statement"), statement)
	policies[at] = policyOf(rt, policies[at].Name, statements)
	return policies
}

func drawAllows(rt *rapid.T) []string {
	statements := make([]string, rapid.IntRange(0, 2).Draw(rt, "allows"))
	for i := range statements {
		statements[i] = drawStatement(rt, "Allow")
	}
	return statements
}

func TestPropertyDenyWins(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		policies, r := drawPolicies(rt), drawRequest(rt)
		deny := drawStatement(rt, "Deny")
		alone := Evaluate([]Policy{policyOf(rt, "deny", []string{deny})}, r)
		if alone.Effect != ExplicitDeny {
			deny = fmt.Sprintf(`{"Effect":"Deny","Action":%q,"Resource":["*"]}`, r.Action)
		}
		if got := Evaluate(change(rt, policies, deny), r); got.Effect != ExplicitDeny {
			rt.Errorf("%v with a deny", got)
		}
	})
}

func TestPropertyAllowOnlyAdds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		policies, r := drawPolicies(rt), drawRequest(rt)
		before := Evaluate(policies, r).Effect
		after := Evaluate(change(rt, policies, drawStatement(rt, "Allow")), r).Effect
		if after != before && (before != ImplicitDeny || after != Allow) {
			rt.Errorf("%s became %s by an allow", before, after)
		}
	})
}

func TestPropertyOrderIsIrrelevant(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		policies, r := drawPolicies(rt), drawRequest(rt)
		want := Evaluate(policies, r).Effect
		random := rand.New(rand.NewSource(rapid.Int64().Draw(rt, "order")))
		shuffled := slices.Clone(policies)
		for i, p := range shuffled {
			statements := statementsOf(p.Document)
			random.Shuffle(len(statements), func(i, j int) {
				statements[i], statements[j] = statements[j], statements[i]
			})
			shuffled[i] = policyOf(rt, p.Name, statements)
		}
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if got := Evaluate(shuffled, r).Effect; got != want {
			rt.Errorf("%s in another order, was %s", got, want)
		}
	})
}

func TestPropertyRemovingDenyOnlyAdds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		without, r := drawPolicies(rt), drawRequest(rt)
		with := change(rt, without, drawStatement(rt, "Deny"))
		if Evaluate(with, r).Effect == Allow {
			// change may have added allows besides the deny, so what is left without it is taken from there.
			left := slices.Clone(with)
			for i, p := range left {
				statements := slices.DeleteFunc(statementsOf(p.Document), func(s string) bool {
					return strings.Contains(s, `"Effect":"Deny"`)
				})
				left[i].Document = &Document{}
				if len(statements) > 0 {
					left[i] = policyOf(rt, p.Name, statements)
				}
			}
			if got := Evaluate(left, r).Effect; got != Allow {
				rt.Errorf("%s without denies, was Allow", got)
			}
		}
	})
}

// TestPropertyFirstMatchDecides compares a decision with those by each statement alone.
func TestPropertyFirstMatchDecides(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		policies, r := drawPolicies(rt), drawRequest(rt)
		first := map[Effect]verdict{ImplicitDeny: {Effect: ImplicitDeny, Statement: -1}}
		for _, p := range policies {
			for i, s := range statementsOf(p.Document) {
				e := Evaluate([]Policy{policyOf(rt, p.Name, []string{s})}, r).Effect
				if _, ok := first[e]; !ok {
					first[e] = verdict{Effect: e, Type: waybill.CustomPolicy, Policy: p.Name, Statement: i}
				}
			}
		}
		want := first[ImplicitDeny]
		for _, e := range []Effect{Allow, ExplicitDeny} {
			if v, ok := first[e]; ok {
				want = v
			}
		}
		if got := verdictOf(Evaluate(policies, r)); got != want {
			rt.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// TestPropertyRequestIsUntouched checks that Evaluate neither keeps nor changes what it is given.
func TestPropertyRequestIsUntouched(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		policies, r := drawPolicies(rt), drawRequest(rt)
		tags := maps.Clone(r.ResourceTags)
		first := verdictOf(Evaluate(policies, r))
		if second := verdictOf(Evaluate(policies, r)); first != second || !maps.Equal(tags, r.ResourceTags) {
			rt.Errorf("first %+v, then %+v", first, second)
		}
	})
}
