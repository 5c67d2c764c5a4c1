// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/testenv"
)

// params are what an operation is called with.
type params = map[string]any

// story is what happens between one client, one server and one machine. Its chapters build on each other.
type story struct {
	t      *testing.T // of the whole story; a chapter has its own
	server *testenv.Server
	access access
	client client
	open   func(*testing.T, access) client

	activation string
	instance   string
	root       string       // the machine's /
	agent      <-chan error // how the agent ended
	sent       int          // deliveries so far
}

// tell runs the story.
func tell(t *testing.T, s *testenv.Server, a access, open func(*testing.T, access) client) {
	st := &story{t: t, server: s, access: a, client: open(t, a), open: open}
	for _, chapter := range []struct {
		name string
		tell func(*story, *testing.T)
	}{
		{"DescribeRegions", (*story).regions},
		{"a machine enrols with CreateActivation's code", (*story).enrol},
		{"DescribeManagedInstances, DescribeCloudAssistantStatus", (*story).machine},
		{"SendFile, DescribeSendFileResults", (*story).send},
		{"the machine refuses", (*story).machineRefuses},
		{"contents of full size", (*story).fullSize},
		{"paging", (*story).paging},
		{"nothing found", (*story).nothing},
		{"errors", (*story).errors},
		{"wrong credentials", (*story).credentials},
		{"ModifyManagedInstance, DeregisterManagedInstance", (*story).leave},
		{"DescribeActivations, DisableActivation, DeleteActivation", (*story).activations},
	} {
		if !t.Run(chapter.name, func(t *testing.T) { chapter.tell(st, t) }) {
			return
		}
	}
}

// call calls an operation in the server's region and decodes the answer.
func call[A any](t *testing.T, c client, action string, p params) A {
	t.Helper()
	var a A
	b, err := c.call(action, inRegion(action, p))
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	if err := json.Unmarshal(b, &a); err != nil {
		t.Fatalf("%s: answer %s: %v", action, b, err)
	}
	return a
}

// inRegion adds the region where it is missing. DescribeRegions takes none.
func inRegion(action string, p params) params {
	out := params{}
	if action != "DescribeRegions" {
		out["RegionId"] = testenv.Region
	}
	maps.Copy(out, p)
	return out
}

func (s *story) regions(t *testing.T) {
	a := call[regions](t, s.client, "DescribeRegions", nil)
	for _, r := range a.Regions.Region {
		if r.RegionId == testenv.Region {
			if r.RegionEndpoint != s.access.Addr || r.Status != "available" {
				t.Errorf("region %+v; want its endpoint to be %s", r, s.access.Addr)
			}
			return
		}
	}
	t.Errorf("no %s in %+v", testenv.Region, a)
}

// tagging is a tag as a parameter, tagged as it is answered.
func tagging() []any { return []any{params{"Key": "env", "Value": "compat"}} }

func tagged() []tag { return []tag{{"env", "compat"}} }

func (s *story) enrol(t *testing.T) {
	c := call[created](t, s.client, "CreateActivation", params{
		"InstanceName": "edge", "InstanceCount": 2, "TimeToLiveInHours": 3, "Description": "a rack in Hürth",
		"IpAddressRange": "127.0.0.0/8", "Tag": tagging(),
	})
	state := filepath.Join(s.t.TempDir(), "state")
	status, err := agent.Enroll(t.Context(), agent.EnrollOptions{
		StateDir: state, Server: s.server.Key.Endpoint, CA: string(s.server.CA), Version: "1.2.3",
		ActivationID: c.ActivationId, ActivationCode: c.ActivationCode,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.activation, s.instance, s.root = c.ActivationId, status.Instance, s.t.TempDir()
	a, err := agent.New(agent.Config{
		StateDir: state, Root: s.root, Version: "1.2.3",
		Backoff: agent.Backoff{First: 20 * time.Millisecond, Max: 200 * time.Millisecond},
	}, testenv.Logger(s.t))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- a.Run(s.t.Context())
		close(ended)
	}()
	s.agent = ended
	s.t.Cleanup(func() {
		for range ended {
		}
	})
}

func (s *story) machine(t *testing.T) {
	var m machines
	testenv.Eventually(t, "the machine connected", func() bool {
		m = call[machines](t, s.client, "DescribeManagedInstances", params{"InstanceId": []any{s.instance}})
		return len(m.Instances) == 1 && m.Instances[0].Connected
	})
	got := m.Instances[0]
	if got.Hostname == "" || !timestamp.MatchString(got.RegistrationTime) {
		t.Errorf("machine %+v", got)
	}
	got.Hostname, got.RegistrationTime = "", ""
	want := machine{
		InstanceId: s.instance, InstanceName: "edge-001", ActivationId: s.activation, OsType: runtime.GOOS,
		AgentVersion: "1.2.3", Connected: true, Tags: tagged(),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("machine: %s", d)
	}
	byTag := call[machines](t, s.client, "DescribeManagedInstances", params{"Tag": tagging(), "PageSize": 50})
	if d := cmp.Diff(m.Instances, byTag.Instances); d != "" || byTag.TotalCount != 1 || byTag.PageSize != 50 {
		t.Errorf("by tag: %+v %s", byTag.paged, d)
	}

	st := call[statuses](t, s.client, "DescribeCloudAssistantStatus", params{"InstanceId": []any{s.instance}})
	all := st.InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus
	if len(all) != 1 || !timestamp.MatchString(all[0].LastHeartbeatTime) {
		t.Fatalf("status: %+v", st)
	}
	wantStatus := agentStatus{
		InstanceId: s.instance, CloudAssistantStatus: "true", CloudAssistantVersion: "1.2.3", OSType: all[0].OSType,
		LastHeartbeatTime: all[0].LastHeartbeatTime,
	}
	if d := cmp.Diff(wantStatus, all[0]); d != "" || !strings.EqualFold(all[0].OSType, runtime.GOOS) {
		t.Errorf("status: %s on %s", d, all[0].OSType)
	}
}

var (
	timestamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`)
	requestID = regexp.MustCompile(`^[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$`)
)

// file is a SendFile that the machine accepts, with changes.
func (s *story) file(name string, changes params) params {
	p := params{
		"InstanceId": []any{s.instance}, "Name": name, "TargetDir": "/srv/app", "Content": "hello\n",
		// Whoever runs the test: an agent without root may give files to nobody else.
		"FileOwner": strconv.Itoa(os.Geteuid()), "FileGroup": strconv.Itoa(os.Getegid()),
	}
	maps.Copy(p, changes)
	return p
}

// deliver sends a file and waits until its delivery is final.
func (s *story) deliver(t *testing.T, p params) invocation {
	t.Helper()
	a := call[sent](t, s.client, "SendFile", p)
	if !requestID.MatchString(a.RequestId) {
		t.Errorf("SendFile answered request ID %q", a.RequestId)
	}
	s.sent++
	var out invocation
	testenv.Eventually(t, a.InvokeId+" final", func() bool {
		r := call[results](t, s.client, "DescribeSendFileResults", params{"InvokeId": a.InvokeId})
		if len(r.Invocations.Invocation) != 1 || r.TotalCount != 1 || r.Invocations.Invocation[0].InvokeId != a.InvokeId {
			t.Fatalf("results of %s: %+v", a.InvokeId, r)
		}
		out = r.Invocations.Invocation[0]
		return out.InvocationStatus != "Pending" && out.InvocationStatus != "Running"
	})
	return out
}

// onDisk returns what the machine has of a file in /srv/app.
func (s *story) onDisk(t *testing.T, name string) (content string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(s.root, "srv/app", name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), fi.Mode()
}

// untimed checks that all times are there, and removes them.
func untimed(t *testing.T, i invocation) invocation {
	t.Helper()
	target := &i.InvokeInstances.InvokeInstance[0]
	for _, at := range []*string{
		&i.CreationTime, &target.CreationTime, &target.StartTime, &target.FinishTime, &target.UpdateTime,
	} {
		if !timestamp.MatchString(*at) {
			t.Errorf("time %q", *at)
		}
		*at = ""
	}
	return i
}

func (s *story) send(t *testing.T) {
	p := s.file("app.conf", params{
		"Content": "Ä = 1 + 1\n", "Description": "the app's configuration", "Timeout": 30, "FileMode": "0640",
		"Overwrite": true, "Tag": tagging(),
	})
	got := s.deliver(t, p)
	want := invocation{
		InvokeId: got.InvokeId, Name: "app.conf", Description: "the app's configuration", TargetDir: "/srv/app",
		ContentType: "PlainText", Content: "Ä = 1 + 1\n", FileMode: "0640", Overwrite: "true",
		FileOwner: p["FileOwner"].(string), FileGroup: p["FileGroup"].(string), InvocationStatus: "Success", VmCount: 1,
	}
	want.InvokeInstances.InvokeInstance = []invokeInstance{{InstanceId: s.instance, InvocationStatus: "Success"}}
	want.Tags.Tag = tagged()
	if d := cmp.Diff(want, untimed(t, got)); d != "" {
		t.Errorf("results: %s", d)
	}
	if content, mode := s.onDisk(t, "app.conf"); content != "Ä = 1 + 1\n" || mode != 0o640 {
		t.Errorf("on the machine: %q, %s", content, mode)
	}
	if !strings.HasPrefix(got.InvokeId, "f-") {
		t.Errorf("InvokeId %q", got.InvokeId)
	}
}

func (s *story) machineRefuses(t *testing.T) {
	got := s.deliver(t, s.file("app.conf", nil)) // without Overwrite
	want := invokeInstance{
		InstanceId: s.instance, InvocationStatus: "Failed", ErrorCode: "FileAlreadyExists", ErrorInfo: "File already exists",
	}
	if got = untimed(t, got); got.InvokeInstances.InvokeInstance[0] != want || got.InvocationStatus != "Failed" ||
		got.Overwrite != "false" || got.FileMode != "0644" {
		t.Errorf("results: %+v", got)
	}

	found := call[results](t, s.client, "DescribeSendFileResults", params{
		"InstanceId": s.instance, "Name": "app.conf", "InvocationStatus": "Success", "Tag": tagging(),
	})
	if all := found.Invocations.Invocation; len(all) != 1 || all[0].InvocationStatus != "Success" {
		t.Errorf("the one that did not fail: %+v", all)
	}
}

// maxContent is the largest content that is accepted, in bytes.
const maxContent = 24_576

// text returns a text of n bytes with everything that clients encode differently.
func text(n int) string {
	const mixed = "Größe=配送 & *~+%2B; 'x' (!) \U0001F4E6\t\"<\\>\r\n"
	return strings.Repeat(mixed, n/len(mixed)) + strings.Repeat("x", n%len(mixed))
}

func (s *story) fullSize(t *testing.T) {
	binary := make([]byte, maxContent)
	for i := range binary {
		binary[i] = byte(i)
	}
	for _, tc := range []struct{ contentType, content, want string }{
		{"PlainText", text(maxContent), text(maxContent)},
		{"Base64", base64.StdEncoding.EncodeToString(binary), string(binary)},
	} {
		got := s.deliver(t, s.file(tc.contentType, params{"ContentType": tc.contentType, "Content": tc.content}))
		if got.InvocationStatus != "Success" || got.ContentType != tc.contentType {
			t.Errorf("%s: %s as %s, %+v", tc.contentType, got.InvocationStatus, got.ContentType, got.InvokeInstances)
		}
		if got.Content != tc.content {
			t.Errorf("%s: the content came back changed", tc.contentType)
		}
		if content, _ := s.onDisk(t, tc.contentType); content != tc.want {
			t.Errorf("%s: the content is not on the machine", tc.contentType)
		}
	}
}

func (s *story) paging(t *testing.T) {
	for s.sent < 12 {
		call[sent](t, s.client, "SendFile", s.file(fmt.Sprintf("file-%d", s.sent), nil))
		s.sent++
	}
	var order []string // as the first way tells it
	for _, way := range []struct {
		name  string
		page  func(number int, token string) params
		sizes []int
	}{
		{"numbers", func(n int, _ string) params { return params{"PageNumber": n, "PageSize": 5} }, []int{5, 5, 2}},
		{"tokens", func(_ int, token string) params {
			if token == "" {
				return params{"MaxResults": 5}
			}
			return params{"MaxResults": 5, "NextToken": token}
		}, []int{5, 5, 2}},
		{"tokens alone, as the pager of the aliyun CLI", func(_ int, token string) params {
			if token == "" {
				return nil
			}
			return params{"NextToken": token}
		}, []int{10, 2}},
	} {
		var ids []string
		var token string
		for i, size := range way.sizes {
			p := way.page(i+1, token)
			r := call[results](t, s.client, "DescribeSendFileResults", p)
			for _, d := range r.Invocations.Invocation {
				ids = append(ids, d.InvokeId)
			}
			last := i == len(way.sizes)-1
			if n := len(r.Invocations.Invocation); n != size || (r.NextToken == "") != last {
				t.Fatalf("by %s: page %d has %d, NextToken %q; want %d", way.name, i+1, n, r.NextToken, size)
			}
			if p["PageNumber"] != nil && (r.PageNumber != int64(i+1) || r.PageSize != 5 || r.TotalCount != 12) {
				t.Errorf("by %s: page %d says %+v", way.name, i+1, r.paged)
			}
			token = r.NextToken
		}
		if order == nil {
			order = ids
		}
		if d := cmp.Diff(order, ids); d != "" {
			t.Errorf("by %s in another order: %s", way.name, d)
		}
	}
	slices.Sort(order)
	if n := len(slices.Compact(order)); n != 12 {
		t.Errorf("%d different deliveries; want 12", n)
	}
}

func (s *story) nothing(t *testing.T) {
	r := call[results](t, s.client, "DescribeSendFileResults", params{"InvokeId": "f-none"})
	if len(r.Invocations.Invocation) != 0 || r.TotalCount != 0 || r.NextToken != "" ||
		!requestID.MatchString(r.RequestId) {
		t.Errorf("deliveries: %+v", r)
	}
	m := call[machines](t, s.client, "DescribeManagedInstances", params{"InstanceName": "none"})
	if len(m.Instances) != 0 || m.TotalCount != 0 {
		t.Errorf("machines: %+v", m)
	}
	a := call[activations](t, s.client, "DescribeActivations", params{"InstanceName": "none"})
	if len(a.ActivationList) != 0 || a.TotalCount != 0 {
		t.Errorf("activations: %+v", a)
	}
}

// refused calls an operation that is to be refused.
func refused(t *testing.T, c client, action string, p params) *refusal {
	t.Helper()
	b, err := c.call(action, inRegion(action, p))
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		t.Fatalf("%s: %s, %v; want it refused", action, b, err)
	}
	if !requestID.MatchString(r.RequestID) {
		t.Errorf("%s: request ID %q", action, r.RequestID)
	}
	return r
}

func (s *story) errors(t *testing.T) {
	for _, tc := range []struct {
		name    string
		action  string
		params  params
		status  int
		code    string
		message string
	}{
		{
			"no such machine", "SendFile", s.file("f", params{"InstanceId": []any{"mi-none"}}),
			404, "InvalidInstance.NotFound", "The specified instances not found.",
		},
		{
			"not Base64", "SendFile", s.file("f", params{"ContentType": "Base64", "Content": "%%%"}),
			400, "FileContent.DecodeError", "The Content can not be base64 decoded.",
		},
		{
			"a byte too much", "SendFile", s.file("f", params{"Content": text(maxContent + 1)}),
			403, "FileSize.ExceedLimit", "The length of file content exceeds limit.",
		},
		{
			"page too large", "DescribeSendFileResults",
			params{"PageSize": 51},
			403, "InvalidParam.PageSize", "The specified parameter is invalid.",
		},
		{
			"no such region", "DescribeManagedInstances",
			params{"RegionId": "mars-north-1"},
			404, "InvalidRegionId.NotFound", "The RegionId provided does not exist in our records.",
		},
		{
			"no such activation", "DisableActivation",
			params{"ActivationId": "4ECEEE12-56F1-4FBC-9AB1-890F12345678"},
			404, "ActivationId.NotFound", "The specified activation id does not exist.",
		},
		{
			"used activation", "DeleteActivation",
			params{"ActivationId": s.activation},
			403, "ActivationId.InUse", "The specified activation id is in use.",
		},
	} {
		r := refused(t, s.client, tc.action, tc.params)
		if r.Status != tc.status || r.Code != tc.code || r.Message != tc.message {
			t.Errorf("%s: %v; want %d %s: %s", tc.name, r, tc.status, tc.code, tc.message)
		}
	}
}

func (s *story) credentials(t *testing.T) {
	a := s.access
	a.Secret += "x"
	r := refused(t, s.open(t, a), "DescribeManagedInstances", nil)
	const mismatch = "Specified signature is not matched with our calculation."
	if r.Status != 400 || r.Code != "SignatureDoesNotMatch" || !strings.HasPrefix(r.Message, mismatch) {
		t.Errorf("wrong secret: %v", r)
	}
	if c, ok := s.client.(*classicClient); ok && c.format == "JSON" {
		// It says so only if the server's string to sign is its own, letter for letter.
		if want := "InvalidAccessKeySecret: Please check you AccessKeySecret"; r.Advice != want {
			t.Errorf("wrong secret: it advises %q; want %q", r.Advice, want)
		}
	}
	a = s.access
	a.ID = "LTAInobody"
	r = refused(t, s.open(t, a), "DescribeManagedInstances", nil)
	if r.Status != 404 || r.Code != "InvalidAccessKeyId.NotFound" || r.Message != "Specified access key is not found." {
		t.Errorf("unknown key: %v", r)
	}
}

func (s *story) leave(t *testing.T) {
	p := params{"InstanceId": s.instance, "InstanceName": "till-7"}
	want := renamed{}
	want.Instance.InstanceId, want.Instance.InstanceName = s.instance, "till-7"
	if got := call[renamed](t, s.client, "ModifyManagedInstance", p); got != want {
		t.Errorf("renamed: %+v", got)
	}
	m := call[machines](t, s.client, "DescribeManagedInstances", params{"InstanceName": "till-7"})
	if len(m.Instances) != 1 || m.Instances[0].InstanceId != s.instance {
		t.Errorf("by its new name: %+v", m)
	}
	if got := call[renamed](t, s.client, "DeregisterManagedInstance", params{"InstanceId": s.instance}); got != want {
		t.Errorf("deregistered: %+v", got)
	}
	m = call[machines](t, s.client, "DescribeManagedInstances", params{"InstanceId": []any{s.instance}})
	if len(m.Instances) != 0 {
		t.Errorf("still there: %+v", m)
	}
	select {
	case err := <-s.agent:
		if !errors.Is(err, agent.ErrDeregistered) {
			t.Errorf("the agent ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the agent goes on")
	}
}

func (s *story) activations(t *testing.T) {
	unused := call[created](t, s.client, "CreateActivation", nil).ActivationId
	newest := call[activations](t, s.client, "DescribeActivations", params{"MaxResults": 1})
	older := call[activations](t, s.client, "DescribeActivations", params{"MaxResults": 1, "NextToken": newest.NextToken})
	second := call[activations](t, s.client, "DescribeActivations", params{"PageNumber": 2, "PageSize": 1})
	if len(newest.ActivationList) != 1 || len(older.ActivationList) != 1 || older.NextToken != "" ||
		second.TotalCount != 2 {
		t.Fatalf("pages: %+v, %+v, %+v", newest, older, second)
	}
	if d := cmp.Diff(older.ActivationList, second.ActivationList); d != "" {
		t.Errorf("the second by its token and by its number: %s", d)
	}
	ids := []string{newest.ActivationList[0].ActivationId, older.ActivationList[0].ActivationId}
	if slices.Sort(ids); !slices.Equal(ids, slices.Sorted(slices.Values([]string{unused, s.activation}))) {
		t.Errorf("listed: %v; want %s and %s", ids, unused, s.activation)
	}

	want := activation{
		ActivationId: s.activation, InstanceName: "edge", Description: "a rack in Hürth", IpAddressRange: "127.0.0.0/8",
		InstanceCount: 2, RegisteredCount: 1, DeregisteredCount: 1, TimeToLiveInHours: 3, Disabled: true,
	}
	got := call[changed](t, s.client, "DisableActivation", params{"ActivationId": s.activation}).Activation
	want.CreationTime = got.CreationTime
	if d := cmp.Diff(want, got); d != "" || !timestamp.MatchString(got.CreationTime) {
		t.Errorf("disabled: %s", d)
	}
	want.Tags = tagged()
	list := call[activations](t, s.client, "DescribeActivations", params{"ActivationId": s.activation, "Tag": tagging()})
	if d := cmp.Diff([]activation{want}, list.ActivationList); d != "" {
		t.Errorf("listed: %s", d)
	}

	gone := call[changed](t, s.client, "DeleteActivation", params{"ActivationId": unused}).Activation
	if gone.ActivationId != unused || gone.InstanceCount != 10 || gone.TimeToLiveInHours != 4 {
		t.Errorf("deleted: %+v", gone)
	}
	if list := call[activations](t, s.client, "DescribeActivations", nil); list.TotalCount != 1 {
		t.Errorf("%d activations left; want 1", list.TotalCount)
	}
}
