// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// TestTargets looks what becomes of the ways in which instances are given, and who asks policies about them: the frame about
// those that InstanceId names, and nobody here about the others, which control does.
func TestTargets(t *testing.T) {
	t.Parallel()
	ids := func(list ...waybill.InstanceID) []waybill.InstanceID { return list }
	tests := []struct {
		name   string
		pairs  []string
		want   control.Targets
		framed bool // policies are asked before
	}{
		{"one by one", []string{"InstanceId.1", "mi-1", "InstanceId.2", "mi-2"}, control.Targets{Instances: ids("mi-1", "mi-2")}, true},
		{"a list", []string{"InstanceIds", `["mi-1","mi-2"]`}, control.Targets{List: ids("mi-1", "mi-2")}, false},
		{"an empty list beside", []string{"InstanceIds", `[]`, "InstanceId.1", "mi-1"}, control.Targets{Instances: ids("mi-1")}, true},
		{"tags", []string{
			"ResourceTag.1.Key", "env", "ResourceTag.1.Value", "prod", "ResourceTag.2.Key", "role",
		}, control.Targets{Selector: waybill.Selector{Tags: []waybill.Tag{{Key: "env", Value: "prod"}, {Key: "role"}}}}, false},
		{"all ways to select", []string{
			"InstanceName", "web-*", "ActivationId", "4ECE", "TargetResourceGroupId", "rg-1", "AllInstances", "true", "ResourceGroupId", "rg-2",
		}, control.Targets{
			Selector: waybill.Selector{All: true, Name: "web-*", Activation: "4ECE", ResourceGroup: "rg-1"}, ResourceGroup: "rg-2",
		}, false},
		{"not all", []string{"AllInstances", "false"}, control.Targets{}, true},
		{"a selector beside", []string{"InstanceId.1", "mi-1", "AllInstances", "true"}, control.Targets{
			Instances: ids("mi-1"), Selector: waybill.Selector{All: true},
		}, true},
	}
	for _, tt := range tests {
		for _, action := range []string{"SendFile", "PreviewSendFile"} {
			t.Run(action+" "+tt.name, func(t *testing.T) {
				t.Parallel()
				f := newFake()
				pairs := append([]string{"RegionId", testRegion, "Name", "a", "TargetDir", "/", "Content", "x"}, tt.pairs...)
				if status, _, body := serve(newTestServer(f, Config{}), signV1(action, pairs...)); status != 200 {
					t.Fatalf("status %d: %s", status, body)
				}
				var got control.Targets
				switch asked := f.asked[1].(type) {
				case control.SendRequest:
					got = asked.Targets
				case control.Targets:
					got = asked
				}
				want := tt.want
				want.Region = testRegion
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("control was asked (-want +got):\n%s", diff)
				}
				if framed := len(f.requests) == 1; framed != tt.framed {
					t.Errorf("policies were asked by the frame: %t", framed)
				}
			})
		}
	}
}

func TestTargetsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		pairs   []string
		err     error
		status  int
		code    string
		message string
	}{
		{"no JSON", []string{"InstanceIds", "mi-1,mi-2"}, nil, 400, "InvalidParameter", `The specified parameter \"InstanceIds\" is not valid.`},
		{"no texts", []string{"InstanceIds", "[1]"}, nil, 400, "InvalidParameter", `The specified parameter \"InstanceIds\" is not valid.`},
		{"perhaps all", []string{"AllInstances", "perhaps"}, nil, 400, "InvalidParameter", `The specified parameter \"AllInstances\" is not valid.`},
		{
			"nothing matches",
			[]string{"InstanceName", "web-*"},
			waybill.Errorf(waybill.NothingSelected, "no instance has the name web-*"),
			404, "InvalidInstance.NotFound", "The specified instances not found: no instance has the name web-*.",
		},
		{
			"none exists",
			[]string{"InstanceIds", `["x"]`},
			waybill.Errorf(waybill.InstanceNotFound, "none exists"),
			404, "InvalidInstance.NotFound", "The specified instances not found.",
		},
		{
			"too many",
			[]string{"AllInstances", "true"},
			waybill.Errorf(waybill.TargetsTooMany, "3 instances are meant, at most 2 are allowed"),
			403, "InstanceCount.ExceedLimit", "The number of instances exceeds the upper limit: 3 instances are meant, at most 2 are allowed.",
		},
		{
			"two ways",
			[]string{"InstanceId.1", "x", "AllInstances", "true"},
			waybill.Errorf(waybill.TargetsConflict, "a cannot be given together with b"),
			400, "InvalidParameter.Conflict", "The specified parameters conflict: a cannot be given together with b.",
		},
	} {
		for _, action := range []string{"SendFile", "PreviewSendFile"} {
			t.Run(action+" "+tt.name, func(t *testing.T) {
				t.Parallel()
				f := newFake()
				f.err = tt.err
				pairs := append([]string{"RegionId", testRegion, "Name", "a", "TargetDir", "/", "Content", "x"}, tt.pairs...)
				status, _, body := serve(newTestServer(f, Config{}), signV1(action, pairs...))
				if want := `"Message":"` + tt.message + `"`; status != tt.status || pick(t, body, "Code") != tt.code || !strings.Contains(body, want) {
					t.Errorf("status %d: %s; want %d %s %s", status, body, tt.status, tt.code, want)
				}
			})
		}
	}
}

func TestPreviewPages(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newTestServer(f, Config{})
	f.forecast.Next = "mi-7"
	ask := func(pairs ...string) (page control.Page, token, code string) {
		f.asked = nil
		status, _, body := serve(s, signV1("PreviewSendFile", append([]string{"RegionId", testRegion}, pairs...)...))
		if status != 200 {
			return page, "", pick(t, body, "Code")
		}
		return f.asked[3].(control.Page), pick(t, body, "NextToken"), ""
	}
	first, token, _ := ask("InstanceIds", `["mi-7","mi-8"]`, "MaxResults", "1")
	if first != (control.Page{Size: 1}) || token == "" || len(token) > 500 {
		t.Fatalf("page %+v, token %q", first, token)
	}
	if next, _, code := ask("InstanceIds", `["mi-7","mi-8"]`, "NextToken", token); next != (control.Page{Size: 1, Cursor: "mi-7"}) {
		t.Errorf("next page %+v %s", next, code)
	}
	for _, other := range [][]string{
		{"InstanceIds", `["mi-7"]`, "NextToken", token},
		{"AllInstances", "true", "NextToken", token},
		{"InstanceIds", `["mi-7","mi-8"]`, "ContentSize", "1", "NextToken", token},
		{"InstanceIds", `["mi-7","mi-8"]`, "NextToken", "x" + token},
	} {
		if _, _, code := ask(other...); code != "InvalidParameter.NextToken" {
			t.Errorf("%v: %q", other, code)
		}
	}
	for _, n := range []string{"0", "501"} {
		if _, _, code := ask("AllInstances", "true", "MaxResults", n); code != "InvalidParameter.MaxResults" {
			t.Errorf("%s results: %q", n, code)
		}
	}
}
