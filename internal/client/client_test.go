// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/client/clienttest"
)

type object = map[string]any

func connect(t *testing.T, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOperations checks, for each operation, the parameters that are sent and what is made of the documented answer.
func TestOperations(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	yes := true
	instance := client.Instance{ID: "mi-1", Name: "web", Connected: true, Tags: []client.Tag{{Key: "k", Value: "v"}}}
	instanceJSON := object{
		"InstanceId": "mi-1", "InstanceName": "web", "Connected": true,
		"Tags": []object{{"TagKey": "k", "TagValue": "v"}},
	}
	activationJSON := object{"ActivationId": "A1", "InstanceCount": 10, "TimeToLiveInHours": 4, "Disabled": true}
	activation := client.Activation{ID: "A1", InstanceCount: 10, Hours: 4, Disabled: true}
	target := client.Target{
		Instance: "mi-1", Status: waybill.Failed, Created: "c", Started: "s", Finished: "f", Updated: "u",
		ErrorCode: "FileCreateFail", ErrorInfo: "Unexpected error during creating", Detail: "disk full",
	}

	tests := []operation{
		{
			action: "SendFile",
			call: func(c *client.Client) (any, error) {
				return c.SendFile(ctx, client.SendFileRequest{
					Instances: []waybill.InstanceID{"mi-1", "mi-2"},
					File: waybill.FileSpec{
						Name: "a b*~.txt", TargetDir: "/etc", Owner: "u", Group: "g", Mode: "0600", Overwrite: true,
					},
					Content: []byte("\x00\xff"), Description: "你好 +", Timeout: 1500 * time.Millisecond,
					Tags: []waybill.Tag{{Key: "k", Value: "v"}, {Key: "empty"}}, ResourceGroup: "rg-1", ClientToken: "once",
				})
			},
			sends: map[string]string{
				"InstanceId.1": "mi-1", "InstanceId.2": "mi-2", "Name": "a b*~.txt", "TargetDir": "/etc",
				"FileOwner": "u", "FileGroup": "g", "FileMode": "0600", "Overwrite": "true", "ContentType": "Base64",
				"Content": "AP8=", "Description": "你好 +", "Timeout": "2",
				"Tag.1.Key": "k", "Tag.1.Value": "v", "Tag.2.Key": "empty", "RegionId": "cn-test",
				"ResourceGroupId": "rg-1", "ClientToken": "once",
			},
			answer: object{"InvokeId": "f-1", "RequestId": "r"},
			want:   waybill.DeliveryID("f-1"),
		},
		{
			action: "SendFile",
			call: func(c *client.Client) (any, error) {
				return c.SendFile(ctx, client.SendFileRequest{
					Instances: []waybill.InstanceID{"mi-1"}, File: waybill.FileSpec{Name: "a", TargetDir: "/"}, Digest: &[32]byte{1},
				})
			},
			sends: map[string]string{
				"InstanceId.1": "mi-1", "Name": "a", "TargetDir": "/", "Overwrite": "false", "RegionId": "cn-test",
				"ContentDigest": "sha256:01" + strings.Repeat("00", 31),
			},
			answer: object{"InvokeId": "f-1", "RequestId": "r"},
			want:   waybill.DeliveryID("f-1"),
		},
		{
			action: "CreateContentUpload",
			call:   func(c *client.Client) (any, error) { return c.CreateContentUpload(ctx, [32]byte{1}, 5) },
			sends:  map[string]string{"ContentDigest": "sha256:01" + strings.Repeat("00", 31), "Size": "5"},
			answer: object{"Exists": false, "Location": "/uploads/x", "Offset": 3, "ExpiredTime": "e"},
			want:   client.ContentUpload{Location: "/uploads/x", Offset: 3, Expires: "e"},
		},
		{
			action: "DescribeSendFileResults",
			call: func(c *client.Client) (any, error) {
				return c.DescribeSendFileResults(ctx, client.DeliveryFilter{
					ID: "f-1", Instance: "mi-1", Name: "n", Status: waybill.OverallFailed, ResourceGroup: "rg-1",
					Tags: []waybill.Tag{{Key: "k"}},
				}, client.Paging{MaxResults: 7, NextToken: "t"})
			},
			sends: map[string]string{
				"InvokeId": "f-1", "InstanceId": "mi-1", "Name": "n", "InvocationStatus": "Failed",
				"ResourceGroupId": "rg-1", "Tag.1.Key": "k", "MaxResults": "7", "NextToken": "t", "RegionId": "cn-test",
			},
			answer: object{"TotalCount": 9, "NextToken": "u", "Invocations": object{"Invocation": []object{{
				"InvokeId": "f-1", "VmCount": 1, "InvocationStatus": "Failed", "Overwrite": "false",
				"InvokeInstances": object{"InvokeInstance": []object{{
					"InstanceId": "mi-1", "InvocationStatus": "Failed", "CreationTime": "c", "StartTime": "s",
					"FinishTime": "f", "UpdateTime": "u", "ErrorCode": "FileCreateFail",
					"ErrorInfo": "Unexpected error during creating", "Detail": "disk full",
				}}},
				"Tags": object{"Tag": []object{{"TagKey": "k", "TagValue": "v"}}},
			}}}},
			want: client.Page[client.Delivery]{Items: []client.Delivery{{
				ID: "f-1", TargetCount: 1, Status: waybill.OverallFailed, Overwrite: "false",
				Targets: client.Targets{Items: []client.Target{target}},
				Tags:    client.Tags{Items: []client.Tag{{Key: "k", Value: "v"}}},
			}}, Total: 9, NextToken: "u"},
		},
		{
			action: "DescribeManagedInstances",
			call: func(c *client.Client) (any, error) {
				return c.DescribeManagedInstances(ctx, client.InstanceFilter{
					IDs: []waybill.InstanceID{"mi-1"}, Name: "web", IP: "10.0.0.1", Activation: "A1", MachineID: "m",
					OSType: "linux", Connected: &yes,
				}, client.Paging{})
			},
			sends: map[string]string{
				"InstanceId.1": "mi-1", "InstanceName": "web", "InstanceIp": "10.0.0.1", "ActivationId": "A1",
				"MachineId": "m", "OsType": "linux", "Connected": "true", "RegionId": "cn-test",
			},
			answer: object{"TotalCount": 1, "Instances": []object{instanceJSON}},
			want:   client.Page[client.Instance]{Items: []client.Instance{instance}, Total: 1},
		},
		{
			action: "ModifyManagedInstance",
			call: func(c *client.Client) (any, error) {
				return nil, c.ModifyManagedInstance(ctx, "mi-1", "new")
			},
			sends:  map[string]string{"InstanceId": "mi-1", "InstanceName": "new", "RegionId": "cn-test"},
			answer: object{"RequestId": "r"},
		},
		{
			action: "DeregisterManagedInstance",
			call:   func(c *client.Client) (any, error) { return c.DeregisterManagedInstance(ctx, "mi-1") },
			sends:  map[string]string{"InstanceId": "mi-1", "RegionId": "cn-test"},
			answer: object{"Instance": instanceJSON},
			want:   instance,
		},
		{
			action: "DeregisterManagedInstance",
			call: func(c *client.Client) (any, error) {
				return c.DeregisterManagedInstanceOnce(ctx, "mi-1", "once")
			},
			sends:  map[string]string{"InstanceId": "mi-1", "RegionId": "cn-test", "ClientToken": "once"},
			answer: object{"Instance": instanceJSON},
			want:   instance,
		},
		{
			action: "CreateInstanceToken",
			call:   func(c *client.Client) (any, error) { return c.CreateInstanceToken(ctx, "mi-1", "once") },
			sends:  map[string]string{"InstanceId": "mi-1", "RegionId": "cn-test", "ClientToken": "once"},
			answer: object{"InstanceId": "mi-1", "Token": "mi-1.secret"},
			want:   "mi-1.secret",
		},
		{
			action: "DeleteInstanceToken",
			call:   func(c *client.Client) (any, error) { return nil, c.DeleteInstanceToken(ctx, "mi-1") },
			sends:  map[string]string{"InstanceId": "mi-1", "RegionId": "cn-test"},
			answer: object{"RequestId": "r"},
		},
		{
			action: "DescribeCloudAssistantStatus",
			call: func(c *client.Client) (any, error) {
				return c.DescribeCloudAssistantStatus(ctx, []waybill.InstanceID{"mi-1"}, client.Paging{})
			},
			sends: map[string]string{"InstanceId.1": "mi-1", "RegionId": "cn-test"},
			answer: object{"TotalCount": 1, "InstanceCloudAssistantStatusSet": object{
				"InstanceCloudAssistantStatus": []object{{
					"InstanceId": "mi-1", "CloudAssistantStatus": "true", "ActiveTaskCount": 2,
				}},
			}},
			want: client.Page[client.AgentStatus]{
				Items: []client.AgentStatus{{Instance: "mi-1", Connected: "true", OpenDeliveries: 2}}, Total: 1,
			},
		},
		{
			action: "CreateActivation",
			call: func(c *client.Client) (any, error) {
				return c.CreateActivation(ctx, client.CreateActivationRequest{
					InstanceName: "web", InstanceCount: 3, TTL: 90 * time.Minute, Description: "d",
					AddressRange: "10.0.0.0/8", Tags: []waybill.Tag{{Key: "k", Value: "v"}},
					ResourceGroup: "rg-1", ClientToken: "once",
				})
			},
			sends: map[string]string{
				"InstanceName": "web", "InstanceCount": "3", "TimeToLiveInHours": "2", "Description": "d",
				"IpAddressRange": "10.0.0.0/8", "Tag.1.Key": "k", "Tag.1.Value": "v", "RegionId": "cn-test",
				"ResourceGroupId": "rg-1", "ClientToken": "once",
			},
			answer: object{"ActivationId": "A1", "ActivationCode": "a-c"},
			want:   client.NewActivation{ID: "A1", Code: "a-c"},
		},
		{
			action: "DescribeActivations",
			call: func(c *client.Client) (any, error) {
				return c.DescribeActivations(ctx, client.ActivationFilter{ID: "A1", InstanceName: "n"}, client.Paging{})
			},
			sends:  map[string]string{"ActivationId": "A1", "InstanceName": "n", "RegionId": "cn-test"},
			answer: object{"TotalCount": 1, "ActivationList": []object{activationJSON}},
			want:   client.Page[client.Activation]{Items: []client.Activation{activation}, Total: 1},
		},
		{
			action: "DisableActivation",
			call:   func(c *client.Client) (any, error) { return c.DisableActivation(ctx, "A1") },
			sends:  map[string]string{"ActivationId": "A1", "RegionId": "cn-test"},
			answer: object{"Activation": activationJSON},
			want:   activation,
		},
		{
			action: "DeleteActivation",
			call:   func(c *client.Client) (any, error) { return c.DeleteActivation(ctx, "A1") },
			sends:  map[string]string{"ActivationId": "A1", "RegionId": "cn-test"},
			answer: object{"Activation": activationJSON},
			want:   activation,
		},
		{
			action: "DescribeRegions",
			call:   func(c *client.Client) (any, error) { return c.WithRegion("").DescribeRegions(ctx) },
			sends:  map[string]string{},
			answer: object{"Regions": object{"Region": []object{{"RegionId": "cn-test"}}}},
			want:   []client.Region{{ID: "cn-test"}},
		},
		{
			action: "ListAccessKeys",
			call:   func(c *client.Client) (any, error) { return c.ListAccessKeys(ctx) },
			sends:  map[string]string{},
			answer: object{"AccessKeys": object{"AccessKey": []object{{"AccessKeyId": "K", "Status": "Active"}}}},
			want:   []client.AccessKey{{ID: "K", Status: client.KeyActive}},
		},
		{
			action: "CreateAccessKey",
			call:   func(c *client.Client) (any, error) { return c.CreateAccessKey(ctx, "") },
			sends:  map[string]string{},
			answer: object{"AccessKey": object{"AccessKeyId": "K", "AccessKeySecret": "S", "CreateDate": "d"}},
			want:   client.AccessKey{ID: "K", Secret: "S", Created: "d"},
		},
		{
			action: "UpdateAccessKey",
			call: func(c *client.Client) (any, error) {
				return nil, c.UpdateAccessKey(ctx, "", "K", client.KeyInactive)
			},
			sends:  map[string]string{"UserAccessKeyId": "K", "Status": "Inactive"},
			answer: object{},
		},
		{
			action: "DeleteAccessKey",
			call:   func(c *client.Client) (any, error) { return nil, c.DeleteAccessKey(ctx, "", "K") },
			sends:  map[string]string{"UserAccessKeyId": "K"},
			answer: object{},
		},
	}
	for _, tt := range tests {
		t.Run(tt.action, func(t *testing.T) {
			t.Parallel()
			version := "2014-05-26"
			if strings.Contains(tt.action, "AccessKey") {
				version = "2015-05-01"
			}
			checkOperation(t, version, tt)
		})
	}
}

// operation is one call: what is sent, and what is made of the answer.
type operation struct {
	action string
	call   func(*client.Client) (any, error)
	sends  map[string]string
	answer object
	want   any
}

func checkOperation(t *testing.T, version string, o operation) {
	t.Helper()
	s := clienttest.NewServer(t, map[string]clienttest.Handler{
		o.action: func(clienttest.Call) any { return o.answer },
	})
	got, err := o.call(connect(t, s.Config()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(o.want, got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	calls := s.Calls(o.action)
	if len(calls) != 1 {
		t.Fatalf("%d calls", len(calls))
	}
	if diff := cmp.Diff(o.sends, calls[0].Params); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if calls[0].Version != version {
		t.Errorf("version %s, want %s", calls[0].Version, version)
	}
}

func TestEmptyFileIsSent(t *testing.T) {
	t.Parallel()
	s := clienttest.NewServer(t, map[string]clienttest.Handler{
		"SendFile": func(clienttest.Call) any { return object{"InvokeId": "f-1"} },
	})
	if _, err := connect(t, s.Config()).SendFile(t.Context(), client.SendFileRequest{}); err != nil {
		t.Fatal(err)
	}
	if content, sent := s.Calls("SendFile")[0].Params["Content"]; !sent || content != "" {
		t.Errorf("content %q, sent %v", content, sent)
	}
}

func TestTemporaryCredentials(t *testing.T) {
	t.Parallel()
	s := clienttest.NewServer(t, map[string]clienttest.Handler{
		"DescribeRegions": func(clienttest.Call) any { return object{} },
	})
	cfg := s.Config()
	cfg.SecurityToken = "CAIStoken+/=x"
	if _, err := connect(t, cfg).DescribeRegions(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestListingsFollowPages(t *testing.T) {
	t.Parallel()
	// Three pages, of which the second is empty: only the missing token ends a listing.
	page := func(c clienttest.Call) (id, next string) {
		switch c.Params["NextToken"] {
		case "":
			return "1", "a"
		case "a":
			return "", "b"
		}
		return "2", ""
	}
	items := func(name, id string) []object {
		if id == "" {
			return []object{}
		}
		return []object{{name: id}}
	}
	s := clienttest.NewServer(t, map[string]clienttest.Handler{
		"DescribeSendFileResults": func(c clienttest.Call) any {
			id, next := page(c)
			return object{"NextToken": next, "Invocations": object{"Invocation": items("InvokeId", id)}}
		},
		"DescribeManagedInstances": func(c clienttest.Call) any {
			id, next := page(c)
			return object{"NextToken": next, "Instances": items("InstanceId", id)}
		},
		"DescribeActivations": func(c clienttest.Call) any {
			id, next := page(c)
			return object{"NextToken": next, "ActivationList": items("ActivationId", id)}
		},
		"DescribeCloudAssistantStatus": func(c clienttest.Call) any {
			id, next := page(c)
			return object{"NextToken": next, "InstanceCloudAssistantStatusSet": object{
				"InstanceCloudAssistantStatus": items("InstanceId", id),
			}}
		},
	})
	c, ctx := connect(t, s.Config()), t.Context()
	got := map[string][]string{}
	for d, err := range c.Deliveries(ctx, client.DeliveryFilter{}) {
		got["deliveries"] = append(got["deliveries"], string(d.ID), errText(err))
	}
	for i, err := range c.Instances(ctx, client.InstanceFilter{}) {
		got["instances"] = append(got["instances"], string(i.ID), errText(err))
	}
	for a, err := range c.Activations(ctx, client.ActivationFilter{}) {
		got["activations"] = append(got["activations"], string(a.ID), errText(err))
	}
	for a, err := range c.AgentStatuses(ctx, nil) {
		got["agents"] = append(got["agents"], string(a.Instance), errText(err))
	}
	all := []string{"1", "", "2", ""}
	want := map[string][]string{"deliveries": all, "instances": all, "activations": all, "agents": all}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	for range c.Instances(ctx, client.InstanceFilter{}) {
		break
	}
	if n := len(s.Calls("DescribeManagedInstances")); n != 4 {
		t.Errorf("%d calls: a listing left early must fetch no more", n)
	}
}

func TestListingEndsOnError(t *testing.T) {
	t.Parallel()
	s := clienttest.NewServer(t, map[string]clienttest.Handler{
		"DescribeManagedInstances": func(c clienttest.Call) any {
			if c.Params["NextToken"] == "" {
				return object{"NextToken": "a", "Instances": []object{{"InstanceId": "1"}}}
			}
			return &client.Error{Status: 500, Code: "InternalError", Message: "no."}
		},
	})
	var got []string
	for i, err := range connect(t, s.Config()).Instances(t.Context(), client.InstanceFilter{}) {
		got = append(got, string(i.ID), errText(err))
	}
	refused := "DescribeManagedInstances refused: InternalError: no (request 473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E)"
	if diff := cmp.Diff([]string{"1", "", "", refused}, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
}

func errText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestRefusalIsAnError(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("长", 1000)
	s := clienttest.NewServer(t, map[string]clienttest.Handler{
		"DescribeRegions": func(clienttest.Call) any {
			return &client.Error{Status: 403, Code: "Operation.Forbidden", Message: long, Recommend: "https://help"}
		},
	})
	_, err := connect(t, s.Config()).DescribeRegions(t.Context())
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	want := &client.Error{
		Action: "DescribeRegions", Status: 403, Code: "Operation.Forbidden", Message: long,
		RequestID: "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E", Recommend: "https://help",
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := e.Error(); len(s) > 450 || !utf8.ValidString(s) {
		t.Errorf("shown as %q", s)
	}
}

func TestWrongSecretIsRefused(t *testing.T) {
	t.Parallel()
	s := clienttest.NewServer(t, nil)
	for name, change := range map[string]func(*client.Config){
		"SignatureDoesNotMatch":       func(c *client.Config) { c.AccessKeySecret += "x" },
		"InvalidAccessKeyId.NotFound": func(c *client.Config) { c.AccessKeyID += "x" },
		"InvalidAction.NotFound":      func(*client.Config) {},
	} {
		cfg := s.Config()
		change(&cfg)
		_, err := connect(t, cfg).DescribeRegions(t.Context())
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != name {
			t.Errorf("got %v, want %s", err, name)
		}
	}
}

func TestHints(t *testing.T) {
	t.Parallel()
	tlsServer := clienttest.NewServer(t, nil)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "a proxy's page", http.StatusBadGateway)
	}))
	t.Cleanup(plain.Close)
	elsewhere := httptest.NewServer(http.RedirectHandler("http://192.0.2.1/", http.StatusTemporaryRedirect))
	t.Cleanup(elsewhere.Close)
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write([]byte("<html>")); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(html.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		name     string
		endpoint string
		ca       string
		want     string
	}{
		{"unknown issuer", tlsServer.URL, "", "unknown issuer; pass --ca DIR/ca.pem"},
		{
			"name not in the certificate", strings.Replace(tlsServer.URL, "127.0.0.1", "localhost", 1), tlsServer.CAFile,
			"for another name",
		},
		{"plain server", strings.Replace(plain.URL, "http:", "https:", 1), "", "use --endpoint " + plain.URL},
		{"nothing there", closed, "", "nothing listens there; check --endpoint"},
		{"not our API", plain.URL, "", "did not answer as a Waybill API: HTTP 502 Bad Gateway: a proxy's page"},
		{"redirected", elsewhere.URL, "", "HTTP 307"},
		{"no JSON", html.URL, "", "did not answer as a Waybill API"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := connect(t, client.Config{Endpoint: tt.endpoint, CAFile: tt.ca, AccessKeyID: "a", AccessKeySecret: "b"})
			_, err := c.DescribeRegions(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestCanceledCallSaysSo(t *testing.T) {
	t.Parallel()
	s := clienttest.NewServer(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := connect(t, s.Config()).DescribeRegions(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	t.Parallel()
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		cfg  client.Config
		want string // the endpoint, or part of the error
	}{
		{"complete", client.Config{Endpoint: "http://h:1/", AccessKeyID: "a", AccessKeySecret: "b"}, "http://h:1"},
		{"without a scheme", client.Config{Endpoint: "h:1", AccessKeyID: "a", AccessKeySecret: "b"}, "https://h:1"},
		{"nothing", client.Config{}, "no endpoint"},
		{"no key", client.Config{Endpoint: "h:1"}, "no access key"},
		{"other scheme", client.Config{Endpoint: "ftp://h"}, "https://host:port"},
		{"path", client.Config{Endpoint: "https://h/x"}, "https://host:port"},
		{"user", client.Config{Endpoint: "https://u:p@h"}, "https://host:port"},
		{"no URL", client.Config{Endpoint: "https://h:x"}, "invalid port"},
		{"no such CA", client.Config{Endpoint: "h", AccessKeyID: "a", AccessKeySecret: "b", CAFile: "/nonexistent"}, "CA"},
		{"no CA", client.Config{Endpoint: "h", AccessKeyID: "a", AccessKeySecret: "b", CAFile: notPEM}, "no certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := client.New(tt.cfg)
			if err != nil {
				if !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q in it", err, tt.want)
				}
				return
			}
			if c.Endpoint() != tt.want {
				t.Errorf("endpoint %q, want %q", c.Endpoint(), tt.want)
			}
		})
	}
}

func TestManyCallsAtOnce(t *testing.T) {
	t.Parallel()
	s := clienttest.NewServer(t, map[string]clienttest.Handler{
		"SendFile": func(c clienttest.Call) any { return object{"InvokeId": c.Params["Name"]} },
	})
	c := connect(t, s.Config())
	errs := make(chan error)
	const n = 50
	for i := range n {
		go func() {
			name := strconv.Itoa(i)
			id, err := c.SendFile(t.Context(), client.SendFileRequest{File: waybill.FileSpec{Name: name}})
			if err == nil && string(id) != name {
				err = errors.New("answer of another call: " + string(id))
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
