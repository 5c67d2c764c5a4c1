// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

func TestInstancesList(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	r := f.run(t, "instances", "list", "--tag", "role=web")
	r.expect(t, 0)
	want := `INSTANCE  NAME      CONNECTED  CHANNEL                          OS     ADDRESS   AGENT         REGISTERED            TAGS
mi-001    demo-001  yes        open                             linux  10.0.0.1  native 1.0    2026-11-23T12:00:00Z  role=web
mi-003    demo-003  yes        lost until 2026-11-23T12:30:00Z  linux  10.0.0.1  official 1.0  2026-11-23T12:00:00Z  role=web
`
	if diff := cmp.Diff(want, r.out); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	f.run(t, "instances", "list", "--connected=false", "--name", "x").expect(t, 0)
	calls := f.Calls("DescribeManagedInstances")
	if p := calls[len(calls)-1].Params; p["Connected"] != "false" || p["InstanceName"] != "x" {
		t.Errorf("sent %v", p)
	}
	if p := calls[0].Params; p["Connected"] != "" {
		t.Errorf("sent %v", p)
	}
	r = f.run(t, "instances", "list", "-o", "json")
	var got struct{ Instances []struct{ InstanceId string } }
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || len(got.Instances) != 3 {
		t.Errorf("%v: %s", err, r.out)
	}
}

func TestInstancesRename(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	r := f.run(t, "instances", "rename", "mi-001", "web-1", "-o", "json")
	r.expect(t, 0)
	if !strings.Contains(r.out, `"InstanceName": "web-1"`) {
		t.Errorf("stdout %q", r.out)
	}
	want := map[string]string{"RegionId": "cn-test", "InstanceId": "mi-001", "InstanceName": "web-1"}
	if diff := cmp.Diff(want, f.Calls("ModifyManagedInstance")[0].Params); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	f.run(t, "instances", "rename", "mi-001", "1").expect(t, 2, "2 to 128 characters")
	f.run(t, "instances", "rename", "mi-001").expect(t, 2, "accepts 2 arg(s)")
}

// TestProviderFile runs the provider file that create-token prints.
func TestProviderFile(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	r := f.run(t, "instances", "create-token", "mi-001", "--server", "waybill.example.com:8480")
	r.expect(t, 0)
	file := filepath.Join(t.TempDir(), "apiserver-provider")
	if err := os.WriteFile(file, []byte(r.out), 0o700); err != nil {
		t.Fatal(err)
	}
	printed, err := exec.CommandContext(t.Context(), "sh", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(f.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	want = map[string]any{"schemaVersion": "1.0", "result": map[string]any{
		"caCertificate": string(ca), "serverDomain": "waybill.example.com:8480", "regionId": "cn-test",
		"extraHTTPHeaders": map[string]any{"Authorization": "Bearer mi-001.s3cret"},
	}}
	if err := json.Unmarshal(printed, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}

	f.run(t, "instances", "create-token", "mi-001").expect(t, 0, "note: only this machine reaches 127.0.0.1:")
	f.run(t, "instances", "create-token", "mi-001", "--server", "https://waybill.example.com").expect(t, 2, "host and port alone")
	f.run(t, "instances", "create-token").expect(t, 2, "accepts 1 arg(s)")
	r = f.run(t, "instances", "delete-token", "mi-001")
	r.expect(t, 0)
	if r.out != "mi-001 has no token any more\n" || f.Calls("DeleteInstanceToken")[0].Params["InstanceId"] != "mi-001" {
		t.Errorf("stdout %q, sent %v", r.out, f.Calls("DeleteInstanceToken"))
	}
}

func TestInstancesDeregister(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	r := f.run(t, "instances", "deregister", "mi-001", "mi-009", "mi-003")
	r.expect(t, 1, "mi-009 is not deregistered, nor what follows it", "waybill instances list")
	if !strings.Contains(r.out, "mi-001") || len(f.machines) != 2 {
		t.Errorf("%d machines left; stdout:\n%s", len(f.machines), r.out)
	}
	if r := f.run(t, "instances", "deregister", "mi-009"); r.code != 1 || r.out != "" {
		t.Errorf("%+v", r)
	}
}

func TestInstancesStatus(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	r := f.run(t, "instances", "status", "mi-002")
	r.expect(t, 0)
	want := `INSTANCE  CONNECTED  OS     AGENT  LAST HEARTBEAT        OPEN  DONE  LAST DELIVERY
mi-002    yes        Linux  1.0    2026-11-23T12:00:00Z  1     2     -
`
	if diff := cmp.Diff(want, r.out); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	if r := f.run(t, "instances", "status"); strings.Count(r.out, "mi-") != 3 {
		t.Errorf("stdout:\n%s", r.out)
	}
}

func TestActivations(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0)
	r := f.run(t, "activations", "create", "--count", "3", "--ttl", "2h", "--name", "web", "--tag", "role=web",
		"--description", "d", "--address-range", "10.0.0.0/8", "--resource-group", "rg-1")
	r.expect(t, 0, "note: only this machine reaches "+f.URL)
	wantOut := `activation ID    4ECEEE12
activation code  a-hz0ch3+Xo32/lAZC  (not shown again)

run on each machine:

  waybill-agent enroll --server ` + f.URL + ` --ca ` + f.CAFile +
		` --activation-id 4ECEEE12 --activation-code a-hz0ch3+Xo32/lAZC
`
	if diff := cmp.Diff(wantOut, r.out); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	want := map[string]string{
		"RegionId": "cn-test", "InstanceCount": "3", "TimeToLiveInHours": "2", "InstanceName": "web",
		"Tag.1.Key": "role", "Tag.1.Value": "web", "Description": "d", "IpAddressRange": "10.0.0.0/8",
		"ResourceGroupId": "rg-1",
	}
	if diff := cmp.Diff(want, withoutToken(t, f.Calls("CreateActivation")[0])); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	r = f.run(t, "activations", "create", "-o", "json")
	var created struct{ ActivationId, ActivationCode, EnrollCommand string }
	if err := json.Unmarshal([]byte(r.out), &created); err != nil || created.ActivationCode == "" ||
		!strings.HasPrefix(created.EnrollCommand, "waybill-agent enroll --server ") {
		t.Errorf("%v: %s", err, r.out)
	}
	for _, bad := range [][]string{{"--ttl", "90m"}, {"--ttl", "0h"}, {"--count", "0"}, {"--tag", "="}} {
		f.run(t, append([]string{"activations", "create"}, bad...)...).expect(t, 2, bad[0])
	}
	if r := f.run(t, "activations", "list"); !strings.Contains(r.out, "4ECEEE12    web   3         10  4") {
		t.Errorf("stdout:\n%s", r.out)
	}
	f.run(t, "activations", "list", "--resource-group", "rg-1", "--tag", "role=web").expect(t, 0)
	filters := map[string]string{
		"RegionId": "cn-test", "ResourceGroupId": "rg-1", "Tag.1.Key": "role", "Tag.1.Value": "web", "MaxResults": "50",
	}
	if diff := cmp.Diff(filters, f.Calls("DescribeActivations")[1].Params); diff != "" {
		t.Errorf("filters (-want +got):\n%s", diff)
	}
	if r := f.run(t, "activations", "disable", "4ECEEE12"); r.out != "disabled 4ECEEE12\n" {
		t.Errorf("%+v", r)
	}
	f.run(t, "activations", "delete", "4ECEEE12").expect(t, 1, "ActivationId.InUse", "waybill activations disable ID")
}

func TestShellWord(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a-hz0+/=":       "a-hz0+/=",
		"/my dir/ca.pem": "'/my dir/ca.pem'",
		"it's":           `'it'\''s'`,
		"$x":             "'$x'",
		"~/x":            "'~/x'",
		"":               "''",
	} {
		if got := shellWord(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestAccessKeys(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0)
	environment := f.environment()
	delete(environment, "WAYBILL_REGION")
	run := func(args ...string) ran {
		return runIn(t.Context(), environment, "", append([]string{"access-keys"}, args...)...)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{
			[]string{"list"},
			"ACCESS KEY  STATUS  CREATED               LAST USED\nK1          Active  2026-11-23T12:00:00Z  -\n",
		},
		{
			[]string{"create"},
			"export ALIBABA_CLOUD_ACCESS_KEY_ID=K2\nexport ALIBABA_CLOUD_ACCESS_KEY_SECRET=s3cret  # not shown again\n",
		},
		{[]string{"disable", "K1"}, "disabled K1\n"},
		{[]string{"enable", "K1"}, "enabled K1\n"},
		{[]string{"delete", "K1"}, "deleted K1\n"},
	} {
		r := run(tt.args...)
		r.expect(t, 0)
		if r.out != tt.want {
			t.Errorf("%v: stdout %q, want %q", tt.args, r.out, tt.want)
		}
	}
	for i, want := range []string{"Inactive", "Active"} {
		if p := f.Calls("UpdateAccessKey")[i].Params; p["Status"] != want || p["UserAccessKeyId"] != "K1" {
			t.Errorf("sent %v", p)
		}
	}
	if len(f.Calls("DescribeRegions")) != 0 {
		t.Error("keys have no region, so it need not be asked for")
	}
}

func TestGroupsWantACommand(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0)
	f.run(t, "instances").expect(t, 2, "say what to do with instances; see waybill instances --help")
	f.run(t, "instances", "nonsense").expect(t, 2, "unknown command")
}

func TestRegionIsTheServersFirst(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0)
	environment := f.environment()
	delete(environment, "WAYBILL_REGION")
	runIn(t.Context(), environment, "", "instances", "list").expect(t, 0)
	if p := f.Calls("DescribeManagedInstances")[0].Params; p["RegionId"] != "cn-first" {
		t.Errorf("sent %v", p)
	}
	runIn(t.Context(), environment, "", "instances", "list", "--region", "cn-second").expect(t, 0)
	if p := f.Calls("DescribeManagedInstances")[1].Params; p["RegionId"] != "cn-second" {
		t.Errorf("sent %v", p)
	}
}

func TestCredentialsFile(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	write := func(k credentials) string {
		b, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		return writeFile(t, "credentials.json", string(b))
	}
	complete := credentials{
		AccountID: "1", AccessKeyID: f.AccessKeyID, AccessKeySecret: f.AccessKeySecret, Endpoint: f.URL, CA: f.CAFile,
		Region: "cn-file",
	}
	beside := complete
	beside.CA = "ca.pem"
	besideFile := write(beside)
	pem, err := os.ReadFile(f.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(besideFile), "ca.pem"), pem, 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere := map[string]string{"ALIBABA_CLOUD_ACCESS_KEY_ID": "other", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "other"}
	for name, file := range map[string]string{"absolute CA": write(complete), "CA beside the file": besideFile} {
		r := runIn(t.Context(), elsewhere, "", "instances", "list", "--credentials", file)
		if r.expect(t, 0); !strings.Contains(r.out, "mi-001") {
			t.Errorf("%s: stdout:\n%s", name, r.out)
		}
	}
	if p := f.Calls("DescribeManagedInstances")[0].Params; p["RegionId"] != "cn-file" {
		t.Errorf("sent %v", p)
	}
	old := map[string]string{
		"WAYBILL_ENDPOINT": "https://127.0.0.1:1", "WAYBILL_CA": "/nonexistent", "WAYBILL_REGION": "cn-env",
	}
	runIn(t.Context(), old, "", "instances", "list", "--credentials", write(complete), "--region", "cn-flag").expect(t, 0)
	runIn(t.Context(), old, "", "instances", "list", "--credentials", write(complete)).expect(t, 0)
	named := map[string]string{"WAYBILL_CREDENTIALS": write(complete), "WAYBILL_REGION": "cn-env"}
	runIn(t.Context(), named, "", "instances", "list", "--region", "cn-flag").expect(t, 0)
	runIn(t.Context(), named, "", "instances", "list").expect(t, 0)
	calls := f.Calls("DescribeManagedInstances")
	var regions []string
	for _, c := range calls[2:] {
		regions = append(regions, c.Params["RegionId"])
	}
	if got := strings.Join(regions, " "); got != "cn-flag cn-file cn-flag cn-env" {
		t.Errorf("regions %s; want a flag, then a file named by a flag, then the environment, then a file named there", got)
	}
	for content, want := range map[string]string{"{": "read credentials", "{}": "holds no access_key_id"} {
		runIn(t.Context(), nil, "", "instances", "list", "--credentials", writeFile(t, "c", content)).expect(t, 1, want)
	}
	runIn(t.Context(), nil, "", "instances", "list", "--credentials", "/nonexistent").expect(t, 1, "read credentials")
}

func TestFlagsFromEnvironment(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	environment := f.environment()
	environment["WAYBILL_INSTANCE"] = "mi-001,mi-002"
	environment["WAYBILL_TO"] = "/env"
	environment["WAYBILL_OVERWRITE"] = "true"
	file := writeFile(t, "a", "x")
	runIn(t.Context(), environment, "", "send", file).expect(t, 0)
	runIn(t.Context(), environment, "", "send", file, "--to", "/flag", "--instance", "mi-003").expect(t, 0)
	p, q := f.Calls("SendFile")[0].Params, f.Calls("SendFile")[1].Params
	if p["TargetDir"] != "/env" || p["InstanceId.2"] != "mi-002" || p["Overwrite"] != "true" {
		t.Errorf("sent %v", p)
	}
	if q["TargetDir"] != "/flag" || q["InstanceId.1"] != "mi-003" || q["InstanceId.2"] != "" {
		t.Errorf("sent %v", q)
	}
	environment["WAYBILL_OVERWRITE"] = "perhaps"
	runIn(t.Context(), environment, "", "send", file).expect(t, 2, "WAYBILL_OVERWRITE")
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0)
	with := func(name, value string) map[string]string {
		environment := f.environment()
		environment[name] = value
		return environment
	}
	for _, tt := range []struct {
		name        string
		environment map[string]string
		code        int
		want        string
	}{
		{"no key", map[string]string{}, 2, "set ALIBABA_CLOUD_ACCESS_KEY_ID"},
		{"unknown key", with("ALIBABA_CLOUD_ACCESS_KEY_ID", "x"), 1, "check ALIBABA_CLOUD_ACCESS_KEY_ID"},
		{"wrong secret", with("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "x"), 1, "check ALIBABA_CLOUD_ACCESS_KEY_SECRET"},
		{"bad endpoint", with("WAYBILL_ENDPOINT", "ftp://x"), 2, "https://host:port"},
		{"unknown issuer", with("WAYBILL_CA", ""), 1, "pass --ca DIR/ca.pem"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			runIn(t.Context(), tt.environment, "", "instances", "list").expect(t, tt.code, tt.want)
		})
	}
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	of := func(statuses ...waybill.Status) client.Delivery {
		d := client.Delivery{ID: "f-1"}
		for _, s := range statuses {
			d.Targets.Items = append(d.Targets.Items, client.Target{Status: s})
		}
		return d
	}
	for _, tt := range []struct {
		name  string
		found []client.Delivery
		code  int
	}{
		{"all well", []client.Delivery{of("Success", "Success"), of("Success")}, 0},
		{"some failed", []client.Delivery{of("Success"), of("Aborted")}, 3},
		{"all failed", []client.Delivery{of("Invalid", "Failed", "Timeout", "Error")}, 3},
		{"open beats failed", []client.Delivery{of("Failed", "Running"), of("Success")}, 4},
		{"pending", []client.Delivery{of("Pending")}, 4},
	} {
		err := outcome(tt.found)
		if tt.code == 0 {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		ran{code: tt.code}.expectError(t, err)
	}
}
