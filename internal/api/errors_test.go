// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/acs"
)

// constants returns the values of the string constants of a type in a source file, so that one added there and
// forgotten here fails a test.
func constants(t *testing.T, file, typeName string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != typeName {
			return true
		}
		for _, v := range spec.Values {
			s, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
		return true
	})
	if len(all) == 0 {
		t.Fatalf("no constants of type %s in %s", typeName, file)
	}
	return all
}

func TestEveryCodeForEveryOperation(t *testing.T) {
	t.Parallel()
	all := constants(t, "../../error.go", "Code")
	for _, code := range all {
		if _, ok := codes[waybill.Code(code)]; !ok {
			t.Errorf("code %q is not in the map", code)
		}
	}
	s := newTestServer(newFake(), Config{})
	for _, op := range Operations() {
		for _, code := range all {
			for _, format := range []string{acs.JSON, acs.XML} {
				name := op.Name + "/" + code + "/" + format
				e := &waybill.Error{Code: waybill.Code(code), Field: "Field", Message: "1000", Err: errors.New("hidden")}
				x := &exchange{id: "ID", host: "host", format: format, op: &op}
				status, apiCode, body, _ := s.encode(x, nil, fmt.Errorf("wrapped: %w", e))
				var got errorBody
				var err error
				if format == acs.JSON {
					err = json.Unmarshal(body, &got)
				} else {
					err = xml.Unmarshal(body, &got)
				}
				f := published(op.Name, apiCode)
				if err != nil || got.Code != apiCode || status != f.Status || status < 400 || got.RequestId != "ID" {
					t.Errorf("%s: status %d, code %s, body %s, %v", name, status, apiCode, body, err)
				}
				if got.Message == "" || strings.Contains(got.Message, "%") || strings.Contains(got.Message, "hidden") {
					t.Errorf("%s: message %q", name, got.Message)
				}
			}
		}
	}
}

func TestEveryReasonHasACode(t *testing.T) {
	t.Parallel()
	for _, reason := range constants(t, "../acs/error.go", "Reason") {
		code, ok := signatureCodes[acs.Reason(reason)]
		if !ok {
			t.Errorf("reason %q has no code", reason)
			continue
		}
		if f := faultOf(nil, &acs.Error{Reason: acs.Reason(reason)}); f.Code != code || f.Status/100 != 4 {
			t.Errorf("reason %q is answered %+v", reason, f)
		}
	}
}

// Every code that the source names must have a text, or the request that meets it ends in a panic.
func TestNamedCodesArePublished(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`(?:refuse\(|fault:)"([^"]+)"`)
	found := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(source), -1) {
			found++
			if _, ok := common[m[1]]; !ok {
				t.Errorf("%s names %s, which has no text", file, m[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d codes found: the pattern does not fit the source any more", found)
	}
	for op, texts := range exceptions {
		for code := range texts {
			if _, ok := common[code]; !ok {
				t.Errorf("%s has its own text for %s, which is no code", op, code)
			}
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	mandatory := func(name string) string {
		return `The input parameter "` + name + `" that is mandatory for processing this request is not supplied`
	}
	limit := func(code waybill.Code) error { return &waybill.Error{Code: code, Field: "X", Message: "24"} }
	tests := []struct {
		name string
		op   string
		err  error
		want Fault
	}{
		{"field", "SendFile", waybill.Missing("TargetDir"), Fault{400, "MissingParameter", mandatory("TargetDir")}},
		{
			"instance field", "DeregisterManagedInstance", waybill.Missing("InstanceId"),
			Fault{400, "MissingParam.InstanceId", "The parameter instanceId is missing or empty."},
		},
		{
			"bad name", "SendFile", waybill.CheckName("a/b"),
			Fault{400, "InvalidParameter", `The specified parameter "Name" is not valid.`},
		},
		{
			"no such instances to send to", "SendFile", waybill.Errorf(waybill.InstanceNotFound, "x"),
			Fault{404, "InvalidInstance.NotFound", "The specified instances not found."},
		},
		{
			"no such instance to rename", "ModifyManagedInstance", waybill.Errorf(waybill.InstanceNotFound, "x"),
			Fault{404, "InvalidInstance.NotFound", "The specified instances id does not exist."},
		},
		{
			"no such instance to deregister", "DeregisterManagedInstance", waybill.Errorf(waybill.InstanceNotFound, "x"),
			Fault{404, "InvalidInstance.NotFound", "The specified instance id does not exist."},
		},
		{
			"no such instance to describe", "DescribeCloudAssistantStatus", waybill.Errorf(waybill.InstanceNotFound, "x"),
			Fault{404, "InvalidInstance.NotFound", "The specified instance does not exist."},
		},
		{
			"count", "CreateActivation", limit(waybill.ActivationCount),
			Fault{400, "ActivationLimitation.Invalid", "The specified parameter InstanceCount exceeds the limit of 24."},
		},
		{
			"life", "CreateActivation", limit(waybill.ActivationTTL),
			Fault{400, "ActivationTTL.ExceedLimit", "The specified parameter TimeToLiveInHours exceeds the limit of 24."},
		},
		{
			"quota", "CreateActivation", limit(waybill.ActivationQuota),
			Fault{400, "ActivationCount.ExceedLimit", "The count of activation in current region exceeds the limit of 24."},
		},
		{
			"prefix", "CreateActivation", limit(waybill.ActivationPrefixLen),
			Fault{400, "InstanceName.ExceedLimit", "Default instance name prefix length exceeds."},
		},
		{
			"instance name", "ModifyManagedInstance", limit(waybill.InstanceNameLength),
			Fault{400, "InstanceName.ExceedLimit", "The specified instance name exceed limit."},
		},
		{
			"page size of the seed", "DescribeSendFileResults", refuse("InvalidParam.PageSize"),
			Fault{403, "InvalidParam.PageSize", "The specified parameter is invalid."},
		},
		{
			"page size elsewhere", "DescribeActivations", refuse("InvalidParam.PageSize"),
			Fault{400, "InvalidParam.PageSize", "The specified parameter is invalid."},
		},
		{
			"internal", "DescribeSendFileResults", errors.New("x"),
			Fault{500, "InternalError.Dispatch", "An error occurred when you dispatched the request."},
		},
		{
			"internal when creating", "CreateActivation", errors.New("x"),
			Fault{500, "InternalError.Dispatch", "An error occurred when dispatch the request."},
		},
		{
			"cancelled", "SendFile", fmt.Errorf("commit: %w", context.Canceled),
			Fault{503, "ServiceUnavailable", "The request has failed due to a temporary failure of the server."},
		},
		{
			"cancelled elsewhere", "DescribeCloudAssistantStatus", context.DeadlineExceeded,
			Fault{500, "ServiceUnavailable", "The request has failed due to a temporary failure of the server."},
		},
		{
			"own key", "UpdateAccessKey", waybill.Errorf(waybill.Forbidden, "a key cannot disable itself"),
			Fault{403, "Operation.Forbidden", "The operation is not permitted: a key cannot disable itself."},
		},
		{
			"unknown key", "DeleteAccessKey", waybill.Errorf(waybill.AccessKeyNotFound, "x"),
			Fault{404, "EntityNotExist.User.AccessKey", "The user access key does not exist."},
		},
		{
			"nameless parameter", "SendFile", refuse("InvalidParameter"),
			Fault{400, "InvalidParameter", "The specified parameter is not valid."},
		},
		{
			"parameter named like a place", "SendFile", refuse("InvalidParameter", "Tag.%s.Key"),
			Fault{400, "InvalidParameter", `The specified parameter "Tag.%s.Key" is not valid.`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, op := range Operations() {
				if op.Name != tt.op {
					continue
				}
				if got := faultOf(&op, tt.err); got != tt.want {
					t.Errorf("got  %+v\nwant %+v", got, tt.want)
				}
				return
			}
			t.Fatalf("no operation %s", tt.op)
		})
	}
}

// The words of every cause, from the table of docs/state-machine.md.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	want := map[waybill.Cause]outcome{
		"instance-unknown":  {"InstanceNotExists", "the specified instance does not exists"},
		"instance-released": {"InstanceReleased", "the instance has released when create task"},
		"instance-down":     {"InstanceNotRunning", "the instance is not running when create task"},
		"account-gone":      {"AccountNotExists", "the specified account does not exists"},
		"agent-stopped":     {"ClientNotRunning", "the aliyun service is not running on the instance"},
		"agent-silent":      {"ClientNotResponse", "the aliyun service in the instance does not response"},
		"agent-upgrading":   {"ClientIsUpgrading", "the aliyun service in the instance is upgrading now"},
		"agent-too-old":     {"ClientNeedUpgrade", "the aliyun service in the instance need upgrade"},
		"deadline":          {"DeliveryTimeout", "the command delivery has been timeout"},
		"write-failed":      {"FileCreateFail", "Unexpected error during creating"},
		"exists":            {"FileAlreadyExists", "File already exists"},
		"content-invalid":   {"FileContentInvalid", "File content error"},
		"name-invalid":      {"FileNameInvalid", "File name is invalid"},
		"path-invalid":      {"FilePathInvalid", "File path is invalid"},
		"owner-missing":     {"FileAuthorityInvalid", "Owner not exists"},
		"group-missing":     {"FileAuthorityInvalid", "Group not exists"},
		"mode-inapplicable": {"FileAuthorityInvalid", "Mode is invalid"},
		"agent-broke":       {"FileCreateFail", "Unexpected error during creating"},
		"cancelled":         {"DeliveryCancelled", "the command delivery has been cancelled"},
	}
	for _, c := range waybill.Causes() {
		if _, ok := outcomes[c]; !ok || outcomeOf(c) != want[c] {
			t.Errorf("%s: got %+v, want %+v", c, outcomeOf(c), want[c])
		}
	}
	if got := outcomeOf(waybill.NoCause); got != (outcome{}) {
		t.Errorf("success: %+v", got)
	}
	if got := outcomeOf("of-the-future"); got != want["agent-broke"] {
		t.Errorf("unknown cause: %+v", got)
	}
}
