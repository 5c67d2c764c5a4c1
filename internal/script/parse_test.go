// SPDX-License-Identifier: Apache-2.0

package script

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/openwaybill/waybill"
)

const every = `# all forms
min-timeout: 2s
instances:
  web-1: Success
  web-2: {outcome: Success, delay: 2s, pending: 500ms}
  web-3: {outcome: FileAuthorityInvalid, info: Group not exists}
  web-4: {outcome: FileCreateFail, status: Error}
  web-5: [ {outcome: ClientNotRunning, deliveries: 2}, Success, {delay: 1s}, InstanceReleased ]
  web-6: {flapping: {up: 5s, down: 1m}}
  web-7: {outcome: FileAlreadyExists, flapping: {up: 1s, down: 1s}}
`

func TestParse(t *testing.T) {
	t.Parallel()
	s, err := Parse("x.yaml", []byte(every))
	if err != nil {
		t.Fatal(err)
	}
	step := func(status waybill.Status, code, info string) Step {
		return Step{Outcome: Outcome{Status: status, Code: code, Info: info}}
	}
	success := step("Success", "", "")
	slow, slower := success, success
	slow.Delay, slow.Pending = 2*time.Second, 500*time.Millisecond
	slower.Delay, slower.Deliveries = time.Second, 1
	once := success
	once.Deliveries = 1
	away := step("Aborted", "ClientNotRunning", "the aliyun service is not running on the instance")
	away.Deliveries = 2
	want := &Script{MinTimeout: 2 * time.Second, Machines: []Machine{
		{Name: "web-1", Steps: []Step{success}},
		{Name: "web-2", Steps: []Step{slow}},
		{Name: "web-3", Steps: []Step{step("Invalid", "FileAuthorityInvalid", "Group not exists")}},
		{Name: "web-4", Steps: []Step{step("Error", "FileCreateFail", "Unexpected error during creating")}},
		{Name: "web-5", Steps: []Step{
			away, once, slower, step("Aborted", "InstanceReleased", "the instance has released when create task"),
		}},
		{Name: "web-6", Steps: []Step{success}, Flapping: &Flapping{5 * time.Second, time.Minute}},
		{Name: "web-7", Steps: []Step{step("Failed", "FileAlreadyExists", "File already exists")}, Flapping: &Flapping{time.Second, time.Second}},
	}}
	if diff := cmp.Diff(want, s, cmpopts.IgnoreUnexported(Outcome{})); diff != "" {
		t.Error(diff)
	}
	var texts []string
	for _, m := range s.Machines {
		texts = append(texts, m.String())
	}
	if diff := cmp.Diff([]string{
		"Success", "Success pending 500ms after 2s", "FileAuthorityInvalid (Group not exists)", "FileCreateFail (Error)",
		"ClientNotRunning ×2, then Success, then Success after 1s, then InstanceReleased",
		"Success, link up 5s and down 1m0s", "FileAlreadyExists, link up 1s and down 1s",
	}, texts); diff != "" {
		t.Error(diff)
	}
}

const outcomeList = "Success, InstanceNotExists, InstanceReleased, InstanceNotRunning, AccountNotExists, ClientNotRunning, " +
	"ClientNotResponse, ClientIsUpgrading, ClientNeedUpgrade, DeliveryTimeout, FileCreateFail, FileAlreadyExists, " +
	"FileContentInvalid, FileNameInvalid, FilePathInvalid, FileAuthorityInvalid"

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	one := func(text string) string { return "instances:\n  web-1: " + text }
	for _, tc := range []struct{ name, script, want string }{
		{"empty", "", "x:1: the script is empty; it needs: instances: {NAME: OUTCOME}"},
		{"comments", "# nothing\n", "x:1: the script is empty; it needs: instances: {NAME: OUTCOME}"},
		{"nothing", "---\n", "x:2: a script is a mapping with the keys: instances, min-timeout"},
		{"no mapping", "- web-1\n", "x:1: a script is a mapping with the keys: instances, min-timeout"},
		{"no YAML", "instances:\n  a: [\n", "x:2: this is no YAML: did not find expected node content"},
		{"two documents", one("Success") + "\n---\ninstances: {}\n", "x:3: a second document; a script is one"},
		{"too large", strings.Repeat("#", 1<<20+1), "x:1: a script of 1048577 bytes; at most 1048576 are possible"},
		{"no instances", "min-timeout: 2s\n", "x:1: there are no instances; add: instances: {NAME: OUTCOME}"},
		{"empty instances", "instances:\n", "x:1: instances is a mapping of names to outcomes, one at least"},
		{"a list of instances", "instances: [web-1]\n", "x:1: instances is a mapping of names to outcomes, one at least"},
		{"unknown key", "instance: {}\n", `x:1: unknown key "instance" in a script; the keys are: instances, min-timeout`},
		{"duplicate key", one("Success") + "\ninstances: {}", `x:3: "instances" is there twice, first in line 1`},
		{"duplicate name", one("Success") + "\n  web-2: Success\n  web-1: Success\n", `x:4: "web-1" is there twice, first in line 2`},
		{"bad name", "instances:\n  1web: Success\n", `x:2: "1web" cannot be the name of an instance: instance name "1web": a letter first, then letters, digits and . _ - :`},
		{"short name", "instances:\n  w: Success\n", `x:2: "w" cannot be the name of an instance: an instance name has 2 to 128 characters`},
		{"no word", "instances:\n  [a]: Success\n", "x:2: a key is one word"},
		{"unknown outcome", one("Sucess"), `x:2: unknown outcome "Sucess"; the outcomes are: ` + outcomeList},
		{"no outcome", one(""), `x:2: unknown outcome ""; the outcomes are: ` + outcomeList},
		{"empty mapping", one("{}"), `x:2: an instance without an outcome; the outcomes are: ` + outcomeList},
		{"empty sequence", one("[]"), `x:2: web-1 has no outcome; name one at least`},
		{"nested sequence", one("[[Success]]"), `x:2: a step is a mapping with the keys: delay, deliveries, info, outcome, pending, status`},
		{"unknown key of an instance", one("{outcome: Success, deley: 2s}"), `x:2: unknown key "deley" in an instance; the keys are: delay, flapping, info, outcome, pending, status`},
		{"deliveries of all", one("{outcome: Success, deliveries: 2}"), `x:2: unknown key "deliveries" in an instance; the keys are: delay, flapping, info, outcome, pending, status`},
		{"outcome that is no word", one("{outcome: [Success]}"), "x:2: outcome is one text"},
		{"which text", one("FileAuthorityInvalid"), "x:2: FileAuthorityInvalid is more than one outcome; say which: " +
			"{outcome: FileAuthorityInvalid, info: Owner not exists}, {outcome: FileAuthorityInvalid, info: Group not exists}, {outcome: FileAuthorityInvalid, info: Mode is invalid}"},
		{"which status", one("{outcome: FileCreateFail}"), "x:2: FileCreateFail is more than one outcome; say which: " +
			"{outcome: FileCreateFail, status: Failed}, {outcome: FileCreateFail, status: Error}"},
		{"other info", one("{outcome: Success, info: Group not exists}"), "x:2: Success has no such status or info; it is one of: {outcome: Success}"},
		{"negative delay", one("{delay: -2s}"), "x:2: delay: -2s is not possible; it is from 0s to 24h0m0s"},
		{"delay without unit", one("{delay: 2}"), `x:2: delay: "2" is no duration; write it like 500ms, 2s or 1m30s`},
		{"delay that is no text", one("{delay: {s: 2}}"), `x:2: delay: "" is no duration; write it like 500ms, 2s or 1m30s`},
		{"long delay", one("{pending: 25h}"), "x:2: pending: 25h0m0s is not possible; it is from 0s to 24h0m0s"},
		{"delay of the server's", one("{outcome: ClientNotRunning, delay: 2s}"), "x:2: delay and pending are for outcomes that the machine itself reports, which ClientNotRunning is not"},
		{"delay of what the deadline brings", one("{outcome: DeliveryTimeout, delay: 2s}"), "x:2: delay and pending are for outcomes that the machine itself reports, which DeliveryTimeout is not"},
		{"flapping without down", one("{flapping: {up: 2s}}"), "x:2: flapping needs both: {up: 5s, down: 5s}"},
		{"short flapping", one("{flapping: {up: 10ms, down: 1s}}"), "x:2: up: 10ms is not possible; it is from 1s to 24h0m0s"},
		{"flapping that is silent", one("{outcome: ClientNotResponse, flapping: {up: 2s, down: 2s}}"), "x:2: web-1: flapping is for outcomes that the machine itself reports, which ClientNotResponse is not"},
		{"flapping step", one("[{flapping: {up: 2s, down: 2s}}]"), `x:2: unknown key "flapping" in a step; the keys are: delay, deliveries, info, outcome, pending, status`},
		{"no deliveries", one("[{outcome: Success, deliveries: 0}, Success]"), `x:2: deliveries: "0" is no number from 1 to 1000000`},
		{"deliveries of the last", one("[Success, {outcome: Success, deliveries: 2}]"), "x:2: the last step is for all deliveries that follow; leave out deliveries, or add a step after it"},
		{"after the end", one("[InstanceReleased, Success]"), "x:2: web-1: nothing can come after InstanceReleased; a deregistered instance does not come back"},
		{"unknown after all", one("[Success, InstanceNotExists]"), "x:2: web-1: InstanceNotExists cannot be part of a sequence; it is for ever, and from the start"},
		{"account in a sequence", one("[AccountNotExists, Success]"), "x:2: web-1: AccountNotExists cannot be part of a sequence; it is for ever, and from the start"},
		{"part of a second", "min-timeout: 1500ms\n" + one("Success"), "x:1: min-timeout: SendFile knows whole seconds only"},
		{"long minimum", "min-timeout: 11s\n" + one("Success"), "x:1: min-timeout: 11s is not possible; it is from 1s to 10s"},
		{"alias of itself", "instances: &a\n  web-1: *a\n", `x:2: unknown key "web-1" in an instance; the keys are: delay, flapping, info, outcome, pending, status`},
		{"all at once", one("Nil") + "\n  web-2: {delay: x}\n", `x:2: unknown outcome "Nil"; the outcomes are: ` + outcomeList + "\n" + `x:3: delay: "x" is no duration; write it like 500ms, 2s or 1m30s`},
	} {
		s, err := Parse("x", []byte(tc.script))
		if err == nil || s != nil {
			t.Errorf("%s: accepted", tc.name)
		} else if diff := cmp.Diff(tc.want, err.Error()); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
	var many strings.Builder
	many.WriteString("instances:\n")
	for i := range 1001 {
		fmt.Fprintf(&many, "  web-%d: Success\n", i)
	}
	if _, err := Parse("x", []byte(many.String())); err == nil || err.Error() != "x:2: 1001 instances; at most 1000 are possible" {
		t.Errorf("1001 instances: %v", err)
	}
}

// TestOutcomes looks that success and every cause can be scripted, under words that no other has: but for what is cancelled,
// which is not the machine's doing.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	if got, want := len(Outcomes()), 1+len(waybill.Causes())-1; got != want {
		t.Errorf("%d outcomes, want %d", got, want)
	}
	texts := map[string]bool{}
	for _, o := range Outcomes() {
		if !o.cause.Known() || texts[o.String()] {
			t.Errorf("%q: %q", o, o.cause)
		}
		texts[o.String()] = true
	}
}

// TestDocument looks that the document for those who write scripts has every outcome, and examples that can be read.
func TestDocument(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/testing-with-waybill.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, o := range Outcomes() {
		row := fmt.Sprintf("| %s | %s | %s |", o.Status, orDash(o.Code), orDash(o.Info))
		if !strings.Contains(text, row) {
			t.Errorf("no row has: %s", row)
		}
	}
	examples := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindAllStringSubmatch(text, -1)
	found := 0
	for _, e := range examples {
		if !strings.Contains(e[1], "instances:") {
			continue
		}
		found++
		if _, err := Parse("example", []byte(e[1])); err != nil {
			t.Error(err)
		}
	}
	if found == 0 {
		t.Error("there is no example of a script")
	}
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// FuzzParse looks that a script is either understood or refused with lines, whatever it is.
func FuzzParse(f *testing.F) {
	f.Add(every)
	f.Add("instances: &a\n  web-1: *a\n")
	f.Add("instances: {web-1: [Success, {deliveries: 9}]}\n---\n")
	f.Add("? [a]\n: b\n")
	f.Add("instances:\n  <<: {web-1: Success}\n  web-2: !!binary AA==\n")
	place := regexp.MustCompile(`^x:[1-9][0-9]*: .`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("x", []byte(text))
		if err != nil {
			if s != nil || !place.MatchString(err.Error()) {
				t.Errorf("refused with %q", err)
			}
			return
		}
		if len(s.Machines) == 0 {
			t.Error("accepted without machines")
		}
		for _, m := range s.Machines {
			last := len(m.Steps) - 1
			for i, step := range m.Steps {
				if !step.cause.Known() || step.Status == "" || (step.Deliveries == 0) != (i == last) || step.Delay < 0 || step.Pending < 0 {
					t.Errorf("%s: step %d: %+v", m.Name, i, step)
				}
			}
			_ = m.String()
		}
	})
}
