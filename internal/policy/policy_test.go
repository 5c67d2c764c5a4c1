// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
)

// group is an element of a file in testdata/evaluate: some policies and decisions by them.
type group struct {
	About    string         `json:"about"`
	Policies []vectorPolicy `json:"policies"`
	Cases    []vectorCase   `json:"cases"`
}

// vectorPolicy is either the name of a system policy or a policy with its document.
type vectorPolicy struct {
	System   string             `json:"system"`
	Type     waybill.PolicyType `json:"type"` // Custom if empty
	Name     string             `json:"name"`
	Document json.RawMessage    `json:"document"`
}

// vectorCase is a request and the decision that is right for it.
type vectorCase struct {
	Name      string             `json:"name"`
	Request   vectorRequest      `json:"request"`
	Effect    Effect             `json:"effect"`
	Type      waybill.PolicyType `json:"type"`      // of the policy that decides; Custom if empty
	Policy    string             `json:"policy"`    // absent with ImplicitDeny
	Statement *int               `json:"statement"` // absent with ImplicitDeny
}

type vectorRequest struct {
	Action       string            `json:"action"`
	Resource     string            `json:"resource"`
	ResourceTags map[string]string `json:"resource_tags"`
	RequestTags  map[string]string `json:"request_tags"`
	SourceIP     netip.Addr        `json:"source_ip"`
	Time         time.Time         `json:"time"`
	Secure       bool              `json:"secure"`
}

// verdict is a Decision in words.
type verdict struct {
	Effect    Effect
	Type      waybill.PolicyType
	Policy    string
	Statement int
}

func verdictOf(d Decision) verdict {
	v := verdict{Effect: d.Effect, Statement: d.Statement}
	if d.Policy != nil {
		v.Type, v.Policy = d.Policy.Type, d.Policy.Name
	}
	return v
}

func (c vectorCase) verdict() verdict {
	v := verdict{Effect: c.Effect, Policy: c.Policy, Statement: -1}
	if c.Policy != "" {
		v.Type = waybill.CustomPolicy
	}
	if c.Type != "" {
		v.Type = c.Type
	}
	if c.Statement != nil {
		v.Statement = *c.Statement
	}
	return v
}

// readGroups returns the groups of all files, by the name of the file.
func readGroups(t testing.TB) map[string][]group {
	t.Helper()
	paths, err := filepath.Glob("testdata/evaluate/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatal("no vectors")
	}
	files := make(map[string][]group)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		var groups []group
		if err := d.Decode(&groups); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		files[strings.TrimSuffix(filepath.Base(path), ".json")] = groups
	}
	return files
}

func (g group) policies(t testing.TB) []Policy {
	t.Helper()
	var policies []Policy
	for _, p := range g.Policies {
		if p.System != "" {
			policies = append(policies, systemPolicy(t, p.System).Policy)
			continue
		}
		d, err := Parse(string(p.Document))
		if err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		if p.Type == "" {
			p.Type = waybill.CustomPolicy
		}
		policies = append(policies, Policy{PolicyName: waybill.PolicyName{Type: p.Type, Name: p.Name}, Document: d})
	}
	return policies
}

func systemPolicy(t testing.TB, name string) SystemPolicy {
	t.Helper()
	for _, p := range SystemPolicies() {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no system policy %s", name)
	return SystemPolicy{}
}

func TestVectors(t *testing.T) {
	t.Parallel()
	for file, groups := range readGroups(t) {
		for _, g := range groups {
			t.Run(file+"/"+g.About, func(t *testing.T) {
				t.Parallel()
				policies := g.policies(t)
				for _, c := range g.Cases {
					t.Run(c.Name, func(t *testing.T) {
						t.Parallel()
						got := Evaluate(policies, Request(c.Request))
						if diff := cmp.Diff(c.verdict(), verdictOf(got)); diff != "" {
							t.Errorf("decision (-want +got):\n%s", diff)
						}
					})
				}
			})
		}
	}
}

// TestVectorsCover checks that each operator and key decides some vector, so that a new one is not left out.
func TestVectorsCover(t *testing.T) {
	t.Parallel()
	operatorSeen, keySeen := make(map[string]bool), make(map[string]bool)
	for _, groups := range readGroups(t) {
		for _, g := range groups {
			policies := g.policies(t)
			for _, c := range g.Cases {
				d := Evaluate(policies, Request(c.Request))
				if d.Policy == nil {
					continue
				}
				for _, condition := range d.Policy.Document.statements[d.Statement].conditions {
					operatorSeen[condition.operator.name] = true
					keySeen[condition.key.name] = true
				}
			}
		}
	}
	for _, op := range operators() {
		if !operatorSeen[op.name] {
			t.Errorf("no vector is decided by %s", op.name)
		}
	}
	for _, key := range conditionKeys() {
		if !keySeen[key.name] {
			t.Errorf("no vector is decided by %s", key.name)
		}
	}
}

func TestDecisionPointsIntoPolicies(t *testing.T) {
	t.Parallel()
	policies := []Policy{
		{PolicyName: waybill.PolicyName{Type: waybill.CustomPolicy, Name: "none"}, Document: &Document{}},
		systemPolicy(t, "AdministratorAccess").Policy,
	}
	d := Evaluate(policies, Request{Action: "ecs:SendFile", Resource: "*"})
	if d.Policy != &policies[1] {
		t.Errorf("policy %p, want %p", d.Policy, &policies[1])
	}
}

func TestSystemPolicies(t *testing.T) {
	t.Parallel()
	policies := SystemPolicies()
	files, err := systemFiles.ReadDir("system")
	if err != nil {
		t.Fatal(err)
	}
	if len(policies) != len(files) {
		t.Errorf("%d policies, %d files", len(policies), len(files))
	}
	for _, p := range policies {
		if p.Type != waybill.SystemPolicy || p.Description == "" || p.Document.Statements() == 0 || p.Document.UsesResourceTags() {
			t.Errorf("%s: %+v", p.Name, p)
		}
		if !json.Valid([]byte(p.Text)) || strings.TrimSpace(p.Text) != p.Text {
			t.Errorf("%s: text %q", p.Name, p.Text)
		}
	}
}
