// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

var sendPairs = []string{"RegionId", testRegion, "InstanceId.1", "mi-1", "Name", "a", "TargetDir", "/", "Content", "x"}

// TestEveryWriteIsRecorded shows which requests leave an audit record of their own, beside the one that a use case
// writes with its change.
func TestEveryWriteIsRecorded(t *testing.T) {
	t.Parallel()
	failing := errors.New("disk full")
	for name, tc := range map[string]struct {
		action  string
		pairs   []string
		prepare func(*fake)
		records []string
		code    string // that is answered; empty: success
	}{
		"done":             {"SendFile", sendPairs, func(*fake) {}, nil, ""},
		"read":             {"DescribeRegions", nil, func(*fake) {}, nil, ""},
		"refused read":     {"DescribeActivations", nil, func(*fake) {}, nil, "MissingParameter"},
		"repeated":         {"SendFile", sendPairs, func(f *fake) { f.repeats = true }, []string{"ecs:SendFile Repeated"}, ""},
		"refused":          {"SendFile", sendPairs, func(f *fake) { f.err = waybill.Errorf(waybill.InstanceNotFound, "") }, []string{"ecs:SendFile InvalidInstance.NotFound"}, "InvalidInstance.NotFound"},
		"denied":           {"SendFile", sendPairs, func(f *fake) { f.denied = &control.Denial{} }, []string{"ecs:SendFile Forbidden.RAM"}, "Forbidden.RAM"},
		"malformed":        {"SendFile", append(sendPairs, "Timeout", "x"), func(*fake) {}, []string{"ecs:SendFile InvalidParameter"}, "InvalidParameter"},
		"no region":        {"SendFile", sendPairs[2:], func(*fake) {}, []string{"ecs:SendFile MissingParameter"}, "MissingParameter"},
		"failed":           {"SendFile", sendPairs, func(f *fake) { f.err = failing }, []string{"ecs:SendFile InternalError.Dispatch"}, "InternalError.Dispatch"},
		"panicked":         {"SendFile", sendPairs, func(f *fake) { f.panics = "x" }, []string{"ecs:SendFile InternalError"}, "InternalError"},
		"without a policy": {"GetSessionToken", []string{"DurationSeconds", "0"}, func(*fake) {}, []string{"sts:GetSessionToken InvalidParameter.DurationSeconds"}, "InvalidParameter.DurationSeconds"},
		"record fails, repeated": {"SendFile", sendPairs, func(f *fake) {
			f.repeats, f.recorded = true, func() error { return failing }
		}, []string{"ecs:SendFile Repeated"}, "InternalError.Dispatch"},
		"record fails, refused": {"SendFile", sendPairs, func(f *fake) {
			f.err, f.recorded = waybill.Errorf(waybill.InstanceNotFound, ""), func() error { return failing }
		}, []string{"ecs:SendFile InvalidInstance.NotFound"}, "InvalidInstance.NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			tc.prepare(f)
			status, _, body := serve(newTestServer(f, Config{}), signACS3(tc.action, tc.pairs...))
			if !slices.Equal(f.records, tc.records) {
				t.Errorf("recorded %q, want %q", f.records, tc.records)
			}
			if (status == 200) != (tc.code == "") || tc.code != "" && pick(t, body, "Code") != tc.code {
				t.Errorf("status %d, %s", status, body)
			}
		})
	}
}

func TestRequestTags(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]int{"CreateActivation": 1, "DescribeActivations": 0} {
		f := newFake()
		serve(newTestServer(f, Config{}), signACS3(action, "RegionId", testRegion, "Tag.1.Key", "k", "Tag.1.Value", "v"))
		if len(f.tags) != 1 || len(f.tags[0]) != want {
			t.Errorf("%s would set %v", action, f.tags)
		}
	}
}

// TestClientToken shows what of a request counts when a token comes again.
func TestClientToken(t *testing.T) {
	t.Parallel()
	act := func(pairs ...string) *waybill.Act {
		t.Helper()
		f := newFake()
		if status, _, body := serve(newTestServer(f, Config{}), signACS3("SendFile", pairs...)); status != 200 {
			t.Fatalf("status %d, %s", status, body)
		}
		return f.requests[0]
	}
	with := func(more ...string) *waybill.Act { return act(append(slices.Clone(sendPairs), more...)...) }
	first := with("ClientToken", "t")
	if first.Token != "t" || first.Region != testRegion || first.Digest == [32]byte{} {
		t.Errorf("act %+v", first)
	}
	if again := with("ClientToken", "t", "Description", ""); again.Digest != first.Digest {
		t.Error("an empty parameter counts")
	}
	if other := with("ClientToken", "u"); other.Digest != first.Digest {
		t.Error("the token itself counts")
	}
	if other := with("ClientToken", "t", "Description", "d"); other.Digest == first.Digest {
		t.Error("a parameter does not count")
	}
	if none := with(); none.Token != "" {
		t.Errorf("without a token: %+v", none)
	}
	for _, bad := range []string{strings.Repeat("x", 65), "ü"} {
		status, _, body := serve(newTestServer(newFake(), Config{}), signACS3("SendFile", append(slices.Clone(sendPairs), "ClientToken", bad)...))
		if status != 400 || pick(t, body, "Code") != "InvalidParameter" {
			t.Errorf("token %q: %d %s", bad, status, body)
		}
	}
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	send, list := &Operation{Name: "SendFile"}, &Operation{Name: "ListUsers"}
	at := testNow
	try := func(th *throttle, account waybill.AccountID, op *Operation) string {
		wait, err := th.admit(account, op, at)
		if (err == nil) != (wait == 0) {
			t.Errorf("wait %s, %v", wait, err)
		}
		if err == nil {
			return "ok"
		}
		return faultOf(op, err).Code
	}
	th := &throttle{account: Rate{PerSecond: 10, Burst: 3}, operation: Rate{PerSecond: 10, Burst: 2}}
	for i, step := range []struct {
		account waybill.AccountID
		op      *Operation
		after   time.Duration
		want    string
	}{
		{"a", send, 0, "ok"},
		{"a", send, 0, "ok"},
		{"a", send, 0, "Throttling.Api"},
		{"a", list, 0, "ok"}, // the one that was refused has not used up the account's third
		{"a", list, 0, "Throttling.User"},
		{"b", send, 0, "ok"},
		{"a", list, 100 * time.Millisecond, "ok"},
		{"a", list, 0, "Throttling.User"},
	} {
		at = at.Add(step.after)
		if got := try(th, step.account, step.op); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	unlimited := &throttle{}
	for range 1000 {
		if got := try(unlimited, "a", send); got != "ok" {
			t.Fatal(got)
		}
	}
	if len(unlimited.m) != 0 {
		t.Error("no limit is remembered")
	}
}

func TestAccessDeniedDetail(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		denial control.Denial
		want   accessDenied
	}{
		"user": {
			control.Denial{Who: waybill.Principal{Account: "1", Kind: waybill.UserActor, Name: "alice"}, Action: "ecs:SendFile", Resource: "arn"},
			accessDenied{"AccountLevelIdentityBasedPolicy", "1", "SubUser", "alice", "ImplicitDeny", "ecs:SendFile", "arn"},
		},
		"temporary key of an account": {
			control.Denial{
				Who: waybill.Principal{Account: "1", Kind: waybill.AccountActor, Issuer: "k"}, Action: "ecs:SendFile", Resource: "arn",
				Session: true, Explicit: true,
			},
			accessDenied{"SessionPolicy", "1", "AssumedRoleUser", "1", "ExplicitDeny", "ecs:SendFile", "arn"},
		},
	} {
		f := newFake()
		f.denied = &tc.denial
		s := newTestServer(f, Config{})
		_, _, body := serve(s, signACS3("DescribeActivations", "RegionId", testRegion))
		var got struct {
			Code, Message      string
			AccessDeniedDetail accessDenied
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || got.Code != "Forbidden.RAM" || got.AccessDeniedDetail != tc.want {
			t.Errorf("%s: %s, %v", name, body, err)
		}
		_, _, body = serve(s, signACS3("DescribeActivations", "RegionId", testRegion, "Format", "XML"))
		if !strings.Contains(body, "<AccessDeniedDetail><PolicyType>"+tc.want.PolicyType+"</PolicyType>") {
			t.Errorf("%s: %s", name, body)
		}
	}
	_, _, body := serve(newTestServer(newFake(), Config{}), signACS3("DescribeActivations"))
	if strings.Contains(body, "AccessDeniedDetail") {
		t.Errorf("another error has it too: %s", body)
	}
}

func TestDescription(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	Description("1.2.3").ServeHTTP(w, httptest.NewRequest("GET", DescriptionPath, nil))
	var doc struct {
		OpenAPI string
		Info    struct{ Version string }
		Paths   map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Parameters  []struct {
				Name     string
				Required bool
			}
			Responses map[string]any
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("status %d, %v", w.Code, err)
	}
	if doc.OpenAPI != "3.0.3" || doc.Info.Version != "1.2.3" || len(doc.Paths) != len(Operations()) {
		t.Errorf("openapi %s, version %s, %d paths", doc.OpenAPI, doc.Info.Version, len(doc.Paths))
	}
	for _, op := range Operations() {
		get := doc.Paths["/#Action="+op.Name]["get"]
		if get.OperationID != op.Name || len(get.Parameters) != len(op.Parameters)+3 || get.Responses["200"] == nil || get.Responses["default"] == nil {
			t.Errorf("%s is described as %+v", op.Name, get)
		}
	}
	w = httptest.NewRecorder()
	Description("").ServeHTTP(w, httptest.NewRequest("POST", DescriptionPath, nil))
	if w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
}

// TestThrottledRequestsAreNotRemembered matters because what is remembered is on disk for half an hour.
func TestThrottledRequestsAreNotRemembered(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newTestServer(f, Config{AccountRate: Rate{PerSecond: 0.001}})
	for range 3 {
		serve(s, signACS3("DescribeRegions"))
	}
	if len(f.nonces) != 1 {
		t.Errorf("%d nonces are remembered; want that of the request that was served", len(f.nonces))
	}
}

// TestTemporaryKeysChangeNoAccess calls every operation that changes who may do what.
func TestTemporaryKeysChangeNoAccess(t *testing.T) {
	t.Parallel()
	tried := 0
	for _, op := range Operations() {
		if !strings.HasPrefix(op.Action, "ram:") || op.Kind != Write || strings.Contains(op.Name, "ResourceGroup") {
			continue
		}
		var pairs []string
		for _, p := range op.Parameters {
			if p.Required && p.Name != "RegionId" {
				value := "1"
				if len(p.Values) > 0 {
					value = p.Values[0]
				}
				pairs = append(pairs, strings.Replace(p.Name, ".N", ".1", 1), value)
			}
		}
		tried++
		f := newFake()
		status, _, body := serve(newTestServer(f, Config{}), signACS3As("temporary", op.Name, pairs...))
		if code := pick(t, body, "Code"); status != 403 || code != "Operation.Forbidden" {
			t.Errorf("%s: %d %s", op.Name, status, body)
		}
		if len(f.requests) != 1 || len(f.asked) != 0 {
			t.Errorf("%s: authorized %d times, carried out %d times", op.Name, len(f.requests), len(f.asked))
		}
	}
	if tried < 15 {
		t.Errorf("only %d operations were tried", tried)
	}
}

// TestWhatIsAuthorizedIsBounded matters because it is compared with the caller's own patterns before anything else is
// known of the request.
func TestWhatIsAuthorizedIsBounded(t *testing.T) {
	t.Parallel()
	ask := func(pairs ...string) (arns []string, tags []waybill.Tag) {
		f := newFake()
		serve(newTestServer(f, Config{}), signACS3("SendFile", append([]string{"RegionId", testRegion, "Name", "n", "Content", "c", "TargetDir", "/"}, pairs...)...))
		if len(f.requests) != 1 {
			t.Fatalf("%d requests were authorized", len(f.requests))
		}
		return f.requests[0].Resources, f.tags[0]
	}
	arn := "acs:ecs:" + testRegion + ":" + string(testAccount) + ":instance/"
	long := strings.Repeat("é", 100_000)
	arns, tags := ask("InstanceId.1", long, "Tag.1.Key", long, "Tag.1.Value", long)
	if want := []string{arn + long[:maxNameBytes]}; !slices.Equal(arns, want) {
		t.Errorf("an ARN of %d bytes", len(arns[0]))
	}
	if len(tags) != 1 || len(tags[0].Key) != maxNameBytes || len(tags[0].Value) != maxNameBytes {
		t.Errorf("%d tags", len(tags))
	}
	var many []string
	for i := range maxNamed {
		many = append(many, fmt.Sprintf("InstanceId.%d", i+1), fmt.Sprint("mi-", i))
	}
	if arns, _ := ask(many...); len(arns) != maxNamed {
		t.Errorf("%d of %d names", len(arns), maxNamed)
	}
	if arns, _ := ask(append(many, "InstanceId.200", "mi-200")...); !slices.Equal(arns, []string{arn + "*"}) {
		t.Errorf("one too many: %d names", len(arns))
	}
}

func TestBodiesAreBoundedTogether(t *testing.T) {
	t.Parallel()
	b := bodies{most: commonBody, room: semaphore.NewWeighted(commonBody)}
	read := func(ctx context.Context, size int) (func(), error) {
		r := httptest.NewRequestWithContext(ctx, "POST", "/", bytes.NewReader(make([]byte, size)))
		body, release, err := b.read(httptest.NewRecorder(), r)
		if err == nil && len(body) != size {
			t.Errorf("%d bytes of %d", len(body), size)
		}
		return release, err
	}
	first, err := read(t.Context(), smallBody+1)
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := read(gone, smallBody+1); waybill.CodeOf(err) != waybill.Unavailable {
		t.Errorf("a second large one: %v", err)
	}
	if _, err := read(gone, smallBody-1); err != nil {
		t.Errorf("a small one: %v", err)
	}
	first()
	second, err := read(t.Context(), commonBody)
	if err != nil {
		t.Errorf("after the first: %v", err)
	}
	second()
	if _, err := read(t.Context(), commonBody+1); err == nil {
		t.Error("one that is too large is taken")
	}
}
