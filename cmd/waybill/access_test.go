// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/client/clienttest"
)

// TestAccessCommandLines is for command lines that cannot be meant. None of them may call anything.
func TestAccessCommandLines(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0)
	for line, want := range map[string]string{
		"users update alice":                                                  "say what to change: --display-name",
		"users create":                                                        "accepts 1 arg(s)",
		"user-groups add ops":                                                 "requires at least 2 arg(s)",
		"policies create p":                                                   "--document is missing",
		"policies create p --document -":                                      "--document - holds no policy",
		"policies attach p":                                                   "exactly one of --user and --group",
		"policies attach p --user a --group g":                                "exactly one of --user and --group",
		"policies simulate --action a --resource r":                           "--user is missing",
		"policies simulate --user u --resource r":                             "--action is missing",
		"policies simulate --user u --action a":                               "--resource is missing",
		"policies simulate --user u --action a --resource r --source-ip x":    "--source-ip \"x\" is not an IP address",
		"policies simulate --user u --action a --resource r --time x":         "--time \"x\" is not a time",
		"policies simulate --user u --action a --resource r --request-tag =v": "write --request-tag KEY=VALUE",
		"access-keys issue --ttl 1500ms":                                      "--ttl 1.5s is not a number of whole seconds",
		"groups rename rg-1":                                                  "--display-name is missing",
		"groups add rg-1":                                                     "exactly one of --instance and --activation",
		"groups add rg-1 --instance a --activation b":                         "not 2",
		"groups add rg-1 --delivery f-1":                                      "unknown flag: --delivery",
		"tags list":                                                           "exactly one of --instance, --activation and",
		"tags set =v --instance mi-1":                                         "\"=v\" has no key; write KEY=VALUE",
		"tags set --instance mi-1":                                            "requires at least 1 arg(s)",
		"tags remove --instance mi-1":                                         "either the keys of tags or --all",
		"tags remove k --all --instance mi-1":                                 "either the keys of tags or --all",
		"audit list --since tomorrow":                                         "--since \"tomorrow\" is neither a time",
		"whoami me":                                                           "unknown command",
	} {
		f.run(t, strings.Fields(line)...).expect(t, 2, want)
	}
}

func TestPolicyNamed(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]waybill.PolicyName{
		"AdministratorAccess": {Type: waybill.SystemPolicy, Name: "AdministratorAccess"},
		"administratoraccess": {Type: waybill.SystemPolicy, Name: "AdministratorAccess"},
		"Deny-Prod":           {Type: waybill.CustomPolicy, Name: "Deny-Prod"},
	} {
		if got := policyNamed(name); got != want {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestDecisionText(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]client.Simulation{
		"alice may ecs:X on acs:r: statement 1 of system policy P allows it": {
			Decision: client.Allow, Resource: "acs:r", PolicyType: waybill.SystemPolicy, PolicyName: "P", Statement: 1,
		},
		"alice may not ecs:X on acs:r: statement 2 of custom policy P denies it": {
			Decision: client.ExplicitDeny, Resource: "acs:r", PolicyType: waybill.CustomPolicy, PolicyName: "P", Statement: 2,
		},
		"alice may not ecs:X on acs:r: no policy allows it": {Decision: client.ImplicitDeny, Resource: "acs:r"},
	} {
		if got := decisionText("alice", "ecs:X", s); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestVariablesOfOtherCommands checks that what the environment says for send changes nothing else.
func TestVariablesOfOtherCommands(t *testing.T) {
	t.Parallel()
	f := &fleet{Server: clienttest.NewServer(t, map[string]clienttest.Handler{
		"AttachPolicyToUser": func(clienttest.Call) any { return object{} },
		"UntagResources":     func(clienttest.Call) any { return object{} },
	})}
	environment := f.environment()
	environment["WAYBILL_GROUP"] = "staff"
	environment["WAYBILL_ALL"] = "true"
	runIn(t.Context(), environment, "", "policies", "attach", "p", "--user", "alice").expect(t, 0)
	runIn(t.Context(), environment, "", "tags", "remove", "k", "--instance", "mi-1").expect(t, 0)
	if p := f.Calls("UntagResources")[0].Params; p["All"] != "" {
		t.Errorf("sent %v", p)
	}
}

func TestTagsGoInParts(t *testing.T) {
	t.Parallel()
	f := &fleet{Server: clienttest.NewServer(t, map[string]clienttest.Handler{
		"TagResources": func(c clienttest.Call) any {
			if c.Params["ResourceId.1"] == "mi-50" {
				return &client.Error{Status: 404, Code: "InvalidResourceId.NotFound"}
			}
			return object{}
		},
	})}
	var all []string
	for i := range 60 {
		all = append(all, "mi-"+string(rune('0'+i/10))+string(rune('0'+i%10)))
	}
	r := f.run(t, "tags", "set", "role=web", "env", "--instance", strings.Join(all, ","), "--instance", "mi-00")
	r.expect(t, 1, "nothing is changed from mi-50 on", "InvalidResourceId.NotFound")
	calls := f.Calls("TagResources")
	if len(calls) != 2 || calls[0].Params["ResourceId.50"] != "mi-49" || calls[1].Params["ResourceId.10"] != "mi-59" ||
		calls[1].Params["ResourceId.11"] != "" {
		t.Errorf("%d calls: %v", len(calls), calls)
	}
	want := map[string]string{"Tag.1.Key": "role", "Tag.1.Value": "web", "Tag.2.Key": "env", "ResourceType": "instance"}
	got := map[string]string{}
	for name := range want {
		got[name] = calls[0].Params[name]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

func TestCleanText(t *testing.T) {
	t.Parallel()
	if got := cleanText("{\r\n\t\"a\": \"\x1b[2J\"\n}\n"); got != "{\n\t\"a\": \"\\x1b[2J\"\n}" {
		t.Errorf("got %q", got)
	}
}
