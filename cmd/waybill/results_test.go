// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

// sendAll makes n deliveries to all machines.
func (f *fleet) sendAll(t *testing.T, n int) {
	t.Helper()
	file := writeFile(t, "app.conf", "x")
	for range n {
		f.run(t, "send", file, "--to", "/etc/app", "--all").expect(t, 0)
	}
}

func TestResultsOfOneDelivery(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	f.machines[0].outcome = client.Target{Status: waybill.Success, Change: waybill.Unchanged}
	f.machines[1].outcome = client.Target{
		Status: waybill.Invalid, ErrorCode: "FileAuthorityInvalid", ErrorInfo: "Owner not exists",
	}
	f.sendAll(t, 1)
	f.run(t, "results", "f-1").expect(t, 4, "2 of 2 machines are not final yet")
	r := f.run(t, "results", "f-1", "--watch")
	r.expect(t, 3, "1 of 2 machines did not take the file")
	want := `DELIVERY  STATUS         FILE               MACHINES  CREATED
f-1       PartialFailed  /etc/app/app.conf  2         2026-11-23T12:00:00Z

MACHINE  NAME      STATUS   CHANGE     CODE                  DETAIL            TIME
mi-001   demo-001  Success  Unchanged  -                     -                 2026-11-23T12:00:01Z
mi-002   demo-002  Invalid  -          FileAuthorityInvalid  Owner not exists  2026-11-23T12:00:01Z
`
	if diff := cmp.Diff(want, r.out); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	f.run(t, "results", "f-9").expect(t, 1, "there is no delivery f-9; list them with: waybill results")
}

func TestResultsNarrowedToOneInstance(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	f.machines[1].stuck = true
	f.sendAll(t, 1)
	r := f.run(t, "results", "f-1", "--instance", "mi-001", "--watch")
	r.expect(t, 0)
	if strings.Contains(r.out, "mi-002") {
		t.Errorf("stdout shows another machine:\n%s", r.out)
	}
}

func TestResultsList(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.sendAll(t, 3)
	r := f.run(t, "results", "--limit", "2")
	r.expect(t, 0, "only the newest 2 are shown")
	want := `DELIVERY  STATUS   FILE               MACHINES  CREATED
f-3       Pending  /etc/app/app.conf  1         2026-11-23T12:00:00Z
f-2       Pending  /etc/app/app.conf  1         2026-11-23T12:00:00Z
`
	if diff := cmp.Diff(want, r.out); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	r = f.run(t, "results", "--limit", "0", "--watch", "-o", "json")
	r.expect(t, 0)
	var got struct {
		Invocations struct {
			Invocation []struct{ InvokeId, InvocationStatus string }
		}
	}
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatal(err)
	}
	type row = struct{ InvokeId, InvocationStatus string }
	all := []row{{"f-3", "Success"}, {"f-2", "Success"}, {"f-1", "Success"}}
	if diff := cmp.Diff(all, got.Invocations.Invocation); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestResultsFilters(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	r := f.run(t, "results", "--instance", "mi-001", "--name", "a", "--status", "Failed", "-o", "json")
	r.expect(t, 0)
	if want := "{\n  \"Invocations\": {\n    \"Invocation\": []\n  }\n}\n"; r.out != want {
		t.Errorf("stdout %q", r.out)
	}
	want := map[string]string{
		"RegionId": "cn-test", "InstanceId": "mi-001", "Name": "a", "InvocationStatus": "Failed", "MaxResults": "50",
	}
	if diff := cmp.Diff(want, f.Calls("DescribeSendFileResults")[0].Params); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	f.run(t, "results", "--status", "Bad").expect(t, 2, "none of Pending, Running")
}

func TestJoinPath(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ dir, want string }{
		{"/etc/", "/etc/f"},
		{`C:\dir`, `C:\dir\f`},
		{`C:\`, `C:\f`},
		{"C:/dir/", "C:/dir/f"},
	} {
		if got := joinPath(tt.dir, "f"); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.dir, got, tt.want)
		}
	}
}
