// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"embed"
	"strings"

	"github.com/openwaybill/waybill"
)

//go:embed system/*.json
var systemFiles embed.FS

// SystemPolicy is a built-in policy, with what a list of policies shows of it.
type SystemPolicy struct {
	Policy
	Text        string // of the document, as JSON
	Description string
}

func named(name string) Policy {
	return Policy{PolicyName: waybill.PolicyName{Type: waybill.SystemPolicy, Name: name}}
}

// SystemPolicies returns the built-in policies, always in the same order. It parses them anew: call it once and keep
// the result.
func SystemPolicies() []SystemPolicy {
	policies := []SystemPolicy{
		{
			Policy:      named("AliyunECSAssistantFullAccess"),
			Description: "Send files, and manage Cloud Assistant, activations and managed instances.",
		},
		{
			Policy:      named("AliyunECSAssistantReadonlyAccess"),
			Description: "See deliveries and the state of Cloud Assistant, activations and instances.",
		},
		{
			Policy:      named("AdministratorAccess"),
			Description: "Everything in the account.",
		},
	}
	for i := range policies {
		p := &policies[i]
		text, err := systemFiles.ReadFile("system/" + p.Name + ".json")
		if err != nil {
			panic("policy: " + err.Error())
		}
		p.Text = strings.TrimSpace(string(text))
		if p.Document, err = Parse(p.Text); err != nil {
			panic("policy: " + p.Name + ": " + err.Error())
		}
	}
	return policies
}
