// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/acs"
	"github.com/openwaybill/waybill/internal/control"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSuffix(string(want), "\n"), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

const goldenID = "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E"

// seedDelivery is the delivery of the seed's response example.
func seedDelivery() control.DeliveryResult {
	at := time.Date(2020, 9, 11, 8, 30, 55, 0, time.UTC)
	return control.DeliveryResult{
		Delivery: waybill.Delivery{
			ID:          "f-hz0vk9****",
			File:        waybill.FileSpec{Name: "test.txt", TargetDir: "/root", Owner: "root", Group: "root", Mode: "0644"},
			ContentType: waybill.PlainText,
			Description: "This is a test file.",
			Created:     at,
			Counts:      waybill.Counts{Success: 1},
			TargetCount: 1,
		},
		Content: "ZWNobyBoZWxsbw==",
		Targets: []waybill.Target{{
			Instance: "i-bp1hsglsw****", Attempt: 1, Status: waybill.Success, Created: at, Started: at, Finished: at, Updated: at,
		}},
	}
}

// variedDelivery has what the seed's example has not: an open target, a failed one, tags, and text that needs escapes.
func variedDelivery() control.DeliveryResult {
	d := seedDelivery()
	d.File.Overwrite = true
	d.Content = "a < b && c > \"d\"\n\t'你好'"
	d.Tags = []waybill.Tag{{Key: "owner", Value: "zhangsan"}, {Key: "empty"}}
	d.TargetCount, d.Counts = 2, waybill.Counts{Pending: 1, Failed: 1}
	failed := d.Targets[0]
	failed.Status, failed.Cause, failed.Detail, failed.Attempt = waybill.Failed, waybill.CauseWriteFailed, "no space left on device", 2
	open := waybill.Target{Instance: "mi-2", Attempt: 1, Status: waybill.Pending, Created: d.Created, Updated: d.Created}
	d.Targets = []waybill.Target{failed, open}
	return d
}

func testInstance() waybill.Instance {
	return waybill.Instance{
		ID: "mi-hz018jrc1o0****", Name: "web-001", Activation: "4ECEEE12-56F1-4FBC-9AB1-890F1234****",
		State: waybill.Registered, Presence: waybill.Online, LastSeen: testNow.Add(-time.Minute),
		Facts: waybill.Facts{
			Hostname: "web", MachineID: "e136a31b15c04bf6a5b6", IntranetIP: "192.168.0.5", OSType: "linux",
			OSVersion: "Linux_#38~18.04.1-Ubuntu SMP_x86_64", AgentVersion: "1.0.0",
		},
		InternetIP: "203.0.113.9", ResourceGroup: "rg-1", Tags: []waybill.Tag{{Key: "k", Value: "v"}},
		Registered: testNow.Add(-time.Hour), Deliveries: 7, OpenTargets: 2, LastDelivery: testNow.Add(-2 * time.Minute),
	}
}

func testActivation() waybill.Activation {
	return waybill.Activation{
		ID: "4ECEEE12-56F1-4FBC-9AB1-890F1234****", Region: testRegion, InstanceName: "web", InstanceCount: 10,
		Registered: 3, Deregistered: 1, TTL: 4 * time.Hour, Description: "for the web", AddressRange: "10.0.0.0/8",
		Disabled: true, ResourceGroup: "rg-1", Tags: []waybill.Tag{{Key: "k", Value: "v"}}, Created: testNow,
	}
}

// examples holds a request for every operation, and what control answers to it.
func examples() map[string][]string {
	return map[string][]string{
		"SendFile": {
			"RegionId", testRegion, "InstanceId.1", "mi-1", "Name", "a", "TargetDir", "/", "Content", "x",
		},
		"DescribeSendFileResults":      {"RegionId", testRegion},
		"CreateActivation":             {"RegionId", testRegion},
		"DescribeActivations":          {"RegionId", testRegion},
		"DisableActivation":            {"RegionId", testRegion, "ActivationId", "4ECEEE12"},
		"DeleteActivation":             {"RegionId", testRegion, "ActivationId", "4ECEEE12"},
		"DescribeManagedInstances":     {"RegionId", testRegion},
		"ModifyManagedInstance":        {"RegionId", testRegion, "InstanceId", "mi-1", "InstanceName", "db-001"},
		"DeregisterManagedInstance":    {"RegionId", testRegion, "InstanceId", "mi-1"},
		"DescribeCloudAssistantStatus": {"RegionId", testRegion},
		"DescribeRegions":              {},
		"ListAccessKeys":               {},
		"CreateAccessKey":              {},
		"UpdateAccessKey":              {"UserAccessKeyId", "otherid", "Status", "Inactive"},
		"DeleteAccessKey":              {"UserAccessKeyId", "otherid"},
	}
}

// TestGoldenResponses pins the responses of the operations of the main job, filled and empty, in both formats. Those of
// all operations are checked with real clients in compat.
func TestGoldenResponses(t *testing.T) {
	t.Parallel()
	full := newFake()
	full.deliveries = control.Listing[control.DeliveryResult]{
		Items: []control.DeliveryResult{variedDelivery(), seedDelivery()}, Total: 2,
	}
	full.codes = control.Listing[waybill.Activation]{Items: []waybill.Activation{testActivation(), {}}, Total: 2}
	full.instances = control.Listing[waybill.Instance]{Items: []waybill.Instance{testInstance(), {}}, Total: 2}
	full.keys = []waybill.AccessKey{{ID: "firstid", Active: true, Created: testNow}, {ID: "secondid", Created: testNow}}

	for fill, f := range map[string]*fake{"full": full, "empty": newFake()} {
		s := newTestServer(f, Config{})
		for _, op := range Operations() {
			request, ok := examples()[op.Name]
			if !ok {
				continue
			}
			for format, extension := range map[string]string{acs.JSON: "json", acs.XML: "xml"} {
				t.Run(op.Name+" "+fill+" "+extension, func(t *testing.T) {
					t.Parallel()
					status, header, body := serve(s, signV1(op.Name, append(request, "Format", format)...))
					if status != 200 {
						t.Fatalf("status %d: %s", status, body)
					}
					if strings.Contains(body, "null") || strings.Contains(body, `"Code":`) ||
						strings.Contains(body, `"Message":`) || strings.Contains(body, `"Success":`) {
						t.Errorf("a client would stumble over %s", body)
					}
					body = strings.ReplaceAll(body, header.Get("x-acs-request-id"), goldenID)
					golden(t, op.Name+"."+fill+"."+extension, []byte(body))
				})
			}
		}
	}
}

// Every output type must encode without null when nothing was put into it.
func TestZeroResponses(t *testing.T) {
	t.Parallel()
	for _, out := range []any{
		sendFileOutput{},
		describeSendFileResultsOutput{},
		invocation{},
		createActivationOutput{},
		describeActivationsOutput{},
		describedActivation{},
		disableActivationOutput{},
		deleteActivationOutput{},
		describeManagedInstancesOutput{},
		describedInstance{},
		modifyManagedInstanceOutput{},
		deregisterManagedInstanceOutput{},
		createInstanceTokenOutput{},
		describeCloudAssistantStatusOutput{},
		describeRegionsOutput{},
		listAccessKeysOutput{},
		createAccessKeyOutput{},
		nothingOutput{},
		getAccessKeyLastUsedOutput{},
		getCallerIdentityOutput{},
		getSessionTokenOutput{},
		userOutput{},
		listUsersOutput{},
		userGroupOutput{},
		listGroupsOutput{},
		listGroupsForUserOutput{},
		createPolicyOutput{},
		getPolicyOutput{},
		listPoliciesOutput{},
		createPolicyVersionOutput{},
		attachedPoliciesOutput{},
		listEntitiesForPolicyOutput{},
		simulatePolicyOutput{},
		resourceGroupOutput{},
		listResourceGroupsOutput{},
		listTagResourcesOutput{},
		listAuditRecordsOutput{},
		verifyAuditRecordsOutput{},
		describeInstancesOutput{},
		ecsInstance{},
		describeInstanceStatusOutput{},
		describeCloudAssistantSettingsOutput{},
	} {
		p := reflect.New(reflect.TypeOf(out)) // as operations give their replies
		p.Elem().Set(reflect.ValueOf(out))
		b, err := encodeJSON("", p.Interface())
		if err != nil || strings.Contains(string(b), "null") {
			t.Errorf("%T: %s, %v", out, b, err)
		}
		if _, err := encodeXML("Response", out); err != nil {
			t.Errorf("%T: %v", out, err)
		}
	}
}

// TestSeed sends the seed's request example and compares the answer with the seed's response examples: every field
// shown there must be here, with the same value. Overwrite alone is written as the seed's table says, a string, and not
// as its JSON example does.
func TestSeed(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.deliveries = control.Listing[control.DeliveryResult]{Items: []control.DeliveryResult{seedDelivery()}, Total: 1}
	s := newTestServer(f, Config{})
	request := []string{
		"RegionId", "cn-hangzhou", "InvokeId", "f-hz0vk9****", "Name", "test.txt", "InstanceId", "i-bp1hsglsw****",
		"PageNumber", "1", "PageSize", "10",
	}
	_, _, body := serve(s, signV1("DescribeSendFileResults", request...))
	wantAsked := []any{
		control.DeliveryFilter{Region: "cn-hangzhou", ID: "f-hz0vk9****", Instance: "i-bp1hsglsw****", Name: "test.txt"},
		control.Page{Size: 10},
	}
	if diff := cmp.Diff(wantAsked, f.asked); diff != "" {
		t.Errorf("control was asked (-want +got):\n%s", diff)
	}

	var got, want any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	seed, err := os.ReadFile("testdata/seed-response.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(seed, &want); err != nil {
		t.Fatal(err)
	}
	containsJSON(t, "", want, got)

	_, _, body = serve(s, signV1("DescribeSendFileResults", append(request, "Format", "XML")...))
	seed, err = os.ReadFile("testdata/seed-response.xml")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(seed)) {
		line = strings.TrimSpace(line)
		if !strings.Contains(body, line) && !strings.Contains(line, "RequestId") {
			t.Errorf("the XML answer lacks %s: %s", line, body)
		}
	}
}

// containsJSON checks that all of want is in got.
func containsJSON(t *testing.T, path string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s is %v, want an object", path, got)
			return
		}
		for name, value := range want {
			containsJSON(t, path+"."+name, value, object[name])
		}
	case []any:
		array, ok := got.([]any)
		if !ok || len(array) != len(want) {
			t.Errorf("%s is %v, want an array of %d", path, got, len(want))
			return
		}
		for i := range want {
			containsJSON(t, path+"[]", want[i], array[i])
		}
	default:
		switch {
		case path == ".RequestId":
		case path == ".Invocations.Invocation[].Overwrite":
			if got != "false" {
				t.Errorf("%s is %v", path, got)
			}
		case !reflect.DeepEqual(want, got):
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
}

// TestRequests shows what control is asked for every parameter of every operation.
func TestRequests(t *testing.T) {
	t.Parallel()
	tags := []string{"Tag.1.Key", "k", "Tag.1.Value", "v"}
	wantTags := []waybill.Tag{{Key: "k", Value: "v"}}
	tests := []struct {
		name   string
		action string
		pairs  []string
		want   any // the last thing asked, or the one before the page
	}{
		{"all of SendFile", "SendFile", append([]string{
			"InstanceId.2", "mi-2", "InstanceId.1", "mi-1", "Name", "a.sh", "TargetDir", "/opt", "Content", "eA==",
			"ContentType", "Base64", "Description", "d", "Timeout", "90", "FileOwner", "app", "FileGroup", "web",
			"FileMode", "4755", "Overwrite", "true", "ResourceGroupId", "rg-1", "ClientToken", "token",
		}, tags...), control.SendRequest{
			Targets: control.Targets{
				Region: testRegion, Instances: []waybill.InstanceID{"mi-1", "mi-2"}, ResourceGroup: "rg-1",
			},
			File: waybill.FileSpec{
				Name: "a.sh", TargetDir: "/opt", Owner: "app", Group: "web", Mode: "4755", Overwrite: true,
			},
			Content: "eA==", ContentType: waybill.Base64, Description: "d", Timeout: 90 * time.Second,
			Tags: wantTags,
		}},
		{"least of SendFile", "SendFile", examples()["SendFile"][2:], control.SendRequest{
			Targets: control.Targets{Region: testRegion, Instances: []waybill.InstanceID{"mi-1"}},
			File:    waybill.FileSpec{Name: "a", TargetDir: "/"}, Content: "x",
		}},
		{
			"a timeout of zero is not the default", "SendFile", append(examples()["SendFile"][2:], "Timeout", "0"),
			control.SendRequest{
				Targets: control.Targets{Region: testRegion, Instances: []waybill.InstanceID{"mi-1"}}, Timeout: time.Second,
				File: waybill.FileSpec{Name: "a", TargetDir: "/"}, Content: "x",
			},
		},
		{"all of DescribeSendFileResults", "DescribeSendFileResults", append([]string{
			"InvokeId", "f-1", "InstanceId", "mi-1", "Name", "a", "InvocationStatus", "PartialFailed",
			"ResourceGroupId", "rg-1",
		}, tags...), control.DeliveryFilter{
			Region: testRegion, ID: "f-1", Instance: "mi-1", Name: "a", Status: waybill.OverallPartial,
			ResourceGroup: "rg-1", Tags: wantTags,
		}},
		{"all of CreateActivation", "CreateActivation", append([]string{
			"InstanceName", "web", "InstanceCount", "20", "TimeToLiveInHours", "6", "Description", "d",
			"IpAddressRange", "10.0.0.0/8", "ResourceGroupId", "rg-1", "ClientToken", "token",
		}, tags...), waybill.Activation{
			Region: testRegion, InstanceName: "web", InstanceCount: 20, TTL: 6 * time.Hour, Description: "d",
			AddressRange: "10.0.0.0/8", ResourceGroup: "rg-1", Tags: wantTags,
		}},
		{"least of CreateActivation", "CreateActivation", nil, waybill.Activation{Region: testRegion}},
		{"all of DescribeActivations", "DescribeActivations", append([]string{
			"ActivationId", "4ECE", "InstanceName", "web", "ResourceGroupId", "rg-1",
		}, tags...), control.ActivationFilter{
			Region: testRegion, ID: "4ECE", InstanceName: "web", ResourceGroup: "rg-1", Tags: wantTags,
		}},
		{"DisableActivation", "DisableActivation", []string{"ActivationId", "4ECE"}, waybill.ActivationID("4ECE")},
		{"DeleteActivation", "DeleteActivation", []string{"ActivationId", "4ECE"}, waybill.ActivationID("4ECE")},
		{"all of DescribeManagedInstances", "DescribeManagedInstances", append([]string{
			"InstanceId.1", "mi-1", "InstanceName", "web", "InstanceIp", "10.0.0.1", "ActivationId", "4ECE",
			"MachineId", "m", "OsType", "FreeBSD", "Connected", "false", "ResourceGroupId", "rg-1",
		}, tags...), control.InstanceFilter{
			Region: testRegion, IDs: []waybill.InstanceID{"mi-1"}, Name: "web", IP: "10.0.0.1", Activation: "4ECE",
			MachineID: "m", OSType: "FreeBSD", Connected: new(false), ResourceGroup: "rg-1", Tags: wantTags,
		}},
		{"rename", "ModifyManagedInstance", []string{"InstanceId", "mi-1", "InstanceName", "db-1"}, "db-1"},
		{"deregister", "DeregisterManagedInstance", []string{"InstanceId", "mi-1"}, waybill.InstanceID("mi-1")},
		{
			"DescribeCloudAssistantStatus", "DescribeCloudAssistantStatus",
			[]string{"OSType", "Linux"},
			control.InstanceFilter{Region: testRegion, OSType: "Linux"},
		},
		{"enable a key", "UpdateAccessKey", []string{"UserAccessKeyId", "otherid", "Status", "Active"}, true},
		{"disable a key", "UpdateAccessKey", []string{"UserAccessKeyId", "otherid", "Status", "Inactive"}, false},
		{"enable the key itself", "UpdateAccessKey", []string{"UserAccessKeyId", testKey, "Status", "Active"}, true},
		{"delete a key", "DeleteAccessKey", []string{"UserAccessKeyId", "otherid", "UserName", "alice"}, "otherid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			r := signACS3(tt.action, append(tt.pairs, "RegionId", testRegion)...)
			status, _, body := serve(newTestServer(f, Config{}), r)
			if status != 200 {
				t.Fatalf("status %d: %s", status, body)
			}
			got := f.asked[len(f.asked)-1]
			if _, ok := got.(control.Page); ok {
				got = f.asked[len(f.asked)-2]
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("control was asked (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOperationsRefuse holds what is refused here and never reaches control.
func TestOperationsRefuse(t *testing.T) {
	t.Parallel()
	ids := func(n int) []string {
		var pairs []string
		for i := range n {
			pairs = append(pairs, fmt.Sprintf("InstanceId.%d", i+1), fmt.Sprintf("mi-%d", i))
		}
		return pairs
	}
	send := examples()["SendFile"]
	tests := []struct {
		name   string
		action string
		pairs  []string
		status int
		code   string
	}{
		{"client token too long", "SendFile", append(send, "ClientToken", strings.Repeat("x", 65)), 400, "InvalidParameter"},
		{"client token not ASCII", "CreateActivation", []string{"ClientToken", "é"}, 400, "InvalidParameter"},
		{
			"client token not ASCII", "DeregisterManagedInstance",
			[]string{"InstanceId", "mi-1", "ClientToken", "é"},
			400, "InvalidParameter",
		},
		{"timeout with a sign", "SendFile", append(send, "Timeout", "-1"), 400, "InvalidParameter"},
		{"overwrite maybe", "SendFile", append(send, "Overwrite", "maybe"), 400, "InvalidParameter"},
		{"no count", "CreateActivation", []string{"InstanceCount", "0"}, 400, "InvalidParameter"},
		{"no life", "CreateActivation", []string{"TimeToLiveInHours", "0"}, 400, "InvalidParameter"},
		{"no activation", "DisableActivation", nil, 400, "MissingParameter"},
		{"no instance", "ModifyManagedInstance", []string{"InstanceName", "x"}, 400, "MissingParam.InstanceId"},
		{
			"unknown overall status", "DescribeSendFileResults",
			[]string{"InvocationStatus", "Aborted"},
			400, "InvalidParameter",
		},
		{"51 instances to describe", "DescribeManagedInstances", ids(51), 403, "InstanceIds.ExceedLimit"},
		{"page size of the seed", "DescribeSendFileResults", []string{"PageSize", "51"}, 403, "InvalidParam.PageSize"},
		{"page size elsewhere", "DescribeActivations", []string{"PageSize", "51"}, 400, "InvalidParam.PageSize"},
		{"page size of 2021", "DescribeCloudAssistantStatus", []string{"PageSize", "101"}, 400, "InvalidParam.PageSize"},
		{"charge type", "DescribeRegions", []string{"InstanceChargeType", "x"}, 403, "Invalid.InstanceChargeType"},
		{"language", "DescribeRegions", []string{"AcceptLanguage", "x"}, 404, "InvalidAcceptLanguage.NotFound"},
		{"resource type", "DescribeRegions", []string{"ResourceType", "x"}, 404, "InvalidResourceType.NotFound"},
		{"key status", "UpdateAccessKey", []string{"UserAccessKeyId", "otherid", "Status", "on"}, 400, "InvalidParameter"},
		{"no key", "DeleteAccessKey", nil, 400, "MissingParameter"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			r := signV1(tt.action, append(tt.pairs, "RegionId", testRegion)...)
			status, _, body := serve(newTestServer(f, Config{}), r)
			if status != tt.status || pick(t, body, "Code") != tt.code {
				t.Errorf("status %d, body %s, want %d %s", status, body, tt.status, tt.code)
			}
			if len(f.asked) > 0 {
				t.Errorf("control was asked %v", f.asked)
			}
		})
	}
}

func TestStatusOfNamedInstances(t *testing.T) {
	t.Parallel()
	named := []string{"RegionId", testRegion, "InstanceId.1", "mi-1", "InstanceId.2", "mi-2", "MaxResults", "1"}
	f := newFake()
	s := newTestServer(f, Config{})
	status, _, body := serve(s, signV1("DescribeCloudAssistantStatus", named...))
	if status != 404 || pick(t, body, "Code") != "InvalidInstance.NotFound" {
		t.Errorf("none known: status %d, body %s", status, body)
	}
	if got := f.asked[1]; got != (control.Page{Size: 2}) {
		t.Errorf("page %+v, want all that are named", got)
	}

	f = newFake()
	f.instances = control.Listing[waybill.Instance]{Items: []waybill.Instance{testInstance()}, Total: 1}
	s = newTestServer(f, Config{})
	if status, _, body := serve(s, signV1("DescribeCloudAssistantStatus", named...)); status != 200 {
		t.Errorf("one known: status %d, body %s", status, body)
	}
	f.asked = nil
	serve(s, signV1("DescribeCloudAssistantStatus", append(named[:6], "PageNumber", "2", "PageSize", "1")...))
	if got := f.asked[1]; got != (control.Page{Size: 1, Offset: 1}) {
		t.Errorf("page %+v, want the second of one", got)
	}
}

// TestTable checks what documents are generated from.
func TestTable(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, op := range Operations() {
		if seen[op.Name] {
			t.Errorf("%s is there twice", op.Name)
		}
		seen[op.Name] = true
		if op.Summary == "" || op.Kind == "" || (op.Action == "") != (len(op.Resources) == 0) || len(op.Errors) == 0 {
			t.Errorf("%s is incomplete: %+v", op.Name, op)
		}
		codes := make(map[string]bool)
		for _, e := range op.Errors {
			if codes[e.Code] {
				t.Errorf("%s lists %s twice", op.Name, e.Code)
			}
			codes[e.Code] = true
		}
		for code := range op.Never {
			if !codes[code] {
				t.Errorf("%s says why %s never occurs, which it does not list", op.Name, code)
			}
		}
		for _, resource := range op.Resources {
			for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(resource, -1) {
				if m[1] != "AccountId" && m[1] != "PolicyOwner" && !op.has(m[1]) {
					t.Errorf("%s: no parameter for %s in %s", op.Name, m[1], resource)
				}
			}
		}
	}
	type parameter struct {
		Name, Type string
		Required   bool
	}
	var got []parameter
	for _, op := range Operations() {
		if op.Name == "SendFile" {
			for _, p := range op.Parameters {
				got = append(got, parameter{p.Name, p.Type, p.Required})
			}
		}
	}
	want := []parameter{
		{"RegionId", "String", true},
		{"InstanceId.N", "String", false},
		{"InstanceIds", "String", false},
		{"ResourceTag.N.Key", "String", false},
		{"ResourceTag.N.Value", "String", false},
		{"InstanceName", "String", false},
		{"ActivationId", "String", false},
		{"TargetResourceGroupId", "String", false},
		{"AllInstances", "Boolean", false},
		{"Name", "String", true},
		{"TargetDir", "String", true},
		{"Content", "String", false},
		{"ContentType", "String", false},
		{"ContentDigest", "String", false},
		{"Description", "String", false},
		{"Timeout", "Long", false},
		{"FileOwner", "String", false},
		{"FileGroup", "String", false},
		{"FileMode", "String", false},
		{"Overwrite", "Boolean", false},
		{"DryRun", "Boolean", false},
		{"Diff", "Boolean", false},
		{"ResourceGroupId", "String", false},
		{"Tag.N.Key", "String", false},
		{"Tag.N.Value", "String", false},
		{"ClientToken", "String", false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parameters of SendFile (-want +got):\n%s", diff)
	}
}

// has reports whether o has a parameter of that name, or a list of it.
func (o *Operation) has(name string) bool {
	return slices.ContainsFunc(o.Parameters, func(p Parameter) bool { return p.Name == name || p.Name == name+".N" })
}

// The types of the response fields are those that the SDKs declare.
func TestResponseFields(t *testing.T) {
	t.Parallel()
	got := make(map[string]string)
	var walk func(path string, fields []Field)
	walk = func(path string, fields []Field) {
		for _, f := range fields {
			got[path+f.Name] = f.Type
			walk(path+f.Name+".", f.Fields)
		}
	}
	for _, op := range Operations() {
		walk(op.Name+" ", op.Response)
	}
	for path, want := range map[string]string{
		"SendFile InvokeId":                                              "String",
		"DescribeSendFileResults TotalCount":                             "Long",
		"DescribeSendFileResults Invocations":                            "Object",
		"DescribeSendFileResults Invocations.Invocation":                 "Array",
		"DescribeSendFileResults Invocations.Invocation.VmCount":         "Integer",
		"DescribeSendFileResults Invocations.Invocation.Overwrite":       "String",
		"DescribeSendFileResults Invocations.Invocation.FileMode":        "String",
		"DescribeSendFileResults Invocations.Invocation.Tags.Tag.TagKey": "String",
		"DescribeActivations ActivationList":                             "Array",
		"DescribeActivations ActivationList.Tags":                        "Array",
		"DescribeActivations ActivationList.Disabled":                    "Boolean",
		"DescribeActivations ActivationList.TimeToLiveInHours":           "Long",
		"DescribeActivations ActivationList.InstanceCount":               "Integer",
		"DescribeManagedInstances Instances":                             "Array",
		"DescribeManagedInstances Instances.Connected":                   "Boolean",
		"DescribeCloudAssistantStatus InstanceCloudAssistantStatusSet":   "Object",
		"DescribeCloudAssistantStatus InstanceCloudAssistantStatusSet." +
			"InstanceCloudAssistantStatus.CloudAssistantStatus": "String",
	} {
		if got[path] != want {
			t.Errorf("%s is %q, want %q", path, got[path], want)
		}
	}
}
