// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSendWaitsAndShowsEveryMachine(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	f.machines[1].outcome = client.Target{
		Status: waybill.Failed, ErrorCode: "FileAlreadyExists", ErrorInfo: "File already exists", Detail: "/etc/app/app.conf",
	}
	r := f.run(t, "send", writeFile(t, "app.conf", "a=1\n"), "--to", "/etc/app", "--all", "--wait")
	r.expect(t, 3, "f-1  0/3 done\n", "f-1  3/3 done, 1 failed\n", "1 of 3 machines did not take the file")
	want := `MACHINE  NAME      STATUS   CHANGE  CODE               DETAIL             TIME
mi-001   demo-001  Success  -       -                  -                  2026-11-23T12:00:01Z
mi-002   demo-002  Failed   -       FileAlreadyExists  /etc/app/app.conf  2026-11-23T12:00:01Z
mi-003   demo-003  Success  -       -                  -                  2026-11-23T12:00:01Z
`
	if diff := cmp.Diff(want, r.out); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
}

func TestSendSendsWhatTheFlagsSay(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	file := writeFile(t, "app.conf", "\x00binary")
	tests := []struct {
		name string
		args []string
		want map[string]string // beside those that every call has
	}{
		{
			"defaults",
			[]string{"--instance", "mi-001"},
			map[string]string{"Name": "app.conf", "Timeout": "60", "Overwrite": "false", "InstanceId.1": "mi-001"},
		},
		{
			"everything",
			[]string{
				"--instance", "mi-002,mi-001", "--instance", "mi-002", "--name", "b.conf", "--owner", "app", "--group", "0",
				"--mode", "4755", "--overwrite", "--timeout", "90s", "--description", "why", "--resource-group", "rg-1",
			},
			map[string]string{
				"Name": "b.conf", "Timeout": "90", "Overwrite": "true", "InstanceId.1": "mi-001", "InstanceId.2": "mi-002",
				"FileOwner": "app", "FileGroup": "0", "FileMode": "4755", "Description": "why",
				"ResourceGroupId": "rg-1",
			},
		},
		{
			"tag",
			[]string{"--tag", "role=web"},
			map[string]string{
				"Name": "app.conf", "Timeout": "60", "Overwrite": "false", "ResourceTag.1.Key": "role", "ResourceTag.1.Value": "web",
			},
		},
		{
			"all that narrows",
			[]string{"--tag", "role", "--name-pattern", "demo-*", "--activation", "4ECE", "--resource-group", "rg-1"},
			map[string]string{
				"Name": "app.conf", "Timeout": "60", "Overwrite": "false", "ResourceTag.1.Key": "role", "InstanceName": "demo-*",
				"ActivationId": "4ECE", "TargetResourceGroupId": "rg-1", "ResourceGroupId": "rg-1",
			},
		},
		{
			"from a file",
			[]string{"--instances-from", writeFile(t, "ids", "# all\nmi-002, mi-001\r\n\n mi-003 # last"), "--instance", "mi-001"},
			map[string]string{
				"Name": "app.conf", "Timeout": "60", "Overwrite": "false",
				"InstanceId.1": "mi-001", "InstanceId.2": "mi-002", "InstanceId.3": "mi-003",
			},
		},
	}
	for i, tt := range tests {
		r := f.run(t, append([]string{"send", file, "--to", "/etc"}, tt.args...)...)
		r.expect(t, 0)
		if want := "f-" + strconv.Itoa(i+1) + "\n"; r.out != want {
			t.Errorf("%s: stdout %q, want %q", tt.name, r.out, want)
		}
		want := map[string]string{
			"RegionId": "cn-test", "TargetDir": "/etc", "ContentType": "Base64",
			"Content": base64.StdEncoding.EncodeToString([]byte("\x00binary")),
		}
		maps.Copy(want, tt.want)
		if diff := cmp.Diff(want, withoutToken(t, f.Calls("SendFile")[i])); diff != "" {
			t.Errorf("%s: sent (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestSendReadsStandardInput(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	r := runIn(t.Context(), f.environment(), "from a pipe", "send", "-", "--name", "x", "--to", `C:\dir`, "--all")
	r.expect(t, 0)
	sent := f.Calls("SendFile")[0].Params
	if sent["Content"] != base64.StdEncoding.EncodeToString([]byte("from a pipe")) || sent["Name"] != "x" {
		t.Errorf("sent %v", sent)
	}
}

func TestSendToManyIsOneDelivery(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 120)
	var ids []string
	for _, m := range f.machines {
		ids = append(ids, m.id)
	}
	file := writeFile(t, "a", "")
	for _, way := range [][]string{
		{"--all"}, {"--instance", strings.Join(ids, ",")}, {"--instances-from", writeFile(t, "ids", strings.Join(ids, "\n"))},
	} {
		r := f.run(t, append([]string{"send", file, "--to", "/etc", "--wait", "-o", "json"}, way...)...)
		r.expect(t, 0)
		if r.err != "" {
			t.Errorf("stderr %q: with JSON there is no progress", r.err)
		}
		var got struct {
			InvokeIds   []string
			Invocations struct{ Invocation []client.Delivery }
		}
		if err := json.Unmarshal([]byte(r.out), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.InvokeIds) != 1 || len(got.Invocations.Invocation) != 1 || len(got.Invocations.Invocation[0].Targets.Items) != 120 {
			t.Errorf("%s: %v", way[0], r.out)
		}
	}
	if n := len(f.Calls("DescribeManagedInstances")); n != 0 {
		t.Errorf("%d calls to find out what the server knows", n)
	}
}

// TestSendShowsAllOfMany waits for a delivery of which a listing holds only the first machines.
func TestSendShowsAllOfMany(t *testing.T) {
	t.Parallel()
	f := newFleet(t, shownResults+80)
	f.machines[200].outcome.Status = waybill.Failed
	r := f.run(t, "send", writeFile(t, "a", ""), "--to", "/etc", "--all", "--wait")
	r.expect(t, 3, "f-1  230/230 done, 1 failed\n", "1 of 230 machines did not take the file")
	if !strings.Contains(r.out, "mi-201   demo-201  Failed") || !strings.Contains(r.out, "mi-230   demo-230  Success") {
		t.Errorf("stdout:\n%s", r.out)
	}
	r = f.run(t, "results", "f-1", "--watch", "-o", "json")
	if r.expect(t, 3); strings.Count(r.out, `"InvocationStatus": "Success"`) != 229 || strings.Contains(r.out, "Omitted") {
		t.Errorf("stdout:\n%s", r.out)
	}
	if n := len(f.Calls("DescribeManagedInstances")); n != 0 {
		t.Errorf("%d calls for names that came along", n)
	}
}

func TestSendPreview(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 25)
	file := writeFile(t, "a", "four")
	r := f.run(t, "send", file, "--instances-from", writeFile(t, "ids", "mi-001 mi-none"), "--preview")
	r.expect(t, 0)
	want := `WOULD BE  CODE  MACHINES
told      -     2

MACHINE  NAME      WOULD BE  CODE               DETAIL
mi-001   demo-001  told      -                  -
mi-none  -         ended     InstanceNotExists  -

nothing was sent; without --preview 2 machines are hit
`
	if diff := cmp.Diff(want, r.out); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	r = f.run(t, "send", file, "--to", "/etc", "--all", "--preview")
	if r.expect(t, 0); !strings.Contains(r.out, "and 23 more; -o json shows all") {
		t.Errorf("stdout:\n%s", r.out)
	}
	if p := f.Calls("PreviewSendFile")[1].Params; p["AllInstances"] != "true" || p["ContentSize"] != "4" {
		t.Errorf("asked %v", p)
	}
	r = f.run(t, "send", file, "--tag", "role=web", "--preview", "-o", "json")
	r.expect(t, 0)
	var got previewed
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || got.TotalCount != 13 || len(got.PreviewInstances.PreviewInstance) != 13 {
		t.Errorf("%v: %s", err, r.out)
	}
	if n := len(f.Calls("SendFile")); n != 0 {
		t.Errorf("%d deliveries", n)
	}
}

func TestSendTriesAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.refuseSend[1] = &client.Error{Status: 400, Code: "Throttling.User", RetryAfter: 20 * time.Millisecond}
	f.refuseSend[2] = f.refuseSend[1]
	r := f.run(t, "send", writeFile(t, "a", "x"), "--to", "/etc", "--all", "-o", "json")
	r.expect(t, 0, "Throttling.User", "trying again in 20ms")
	calls := f.Calls("SendFile")
	if len(calls) != 3 {
		t.Fatalf("%d calls", len(calls))
	}
	// The same call, or it could be delivered twice.
	if diff := cmp.Diff(calls[0], calls[2]); diff != "" {
		t.Errorf("sent again (-first +last):\n%s", diff)
	}
	f.run(t, "send", writeFile(t, "a", "x"), "--to", "/etc", "--all").expect(t, 0)
	if token := f.Calls("SendFile")[3].Params["ClientToken"]; token == calls[0].Params["ClientToken"] {
		t.Error("another call with the same token would not be delivered")
	}
}

func TestPersist(t *testing.T) {
	t.Parallel()
	lost := &client.Error{Status: 500, Code: "InternalError"}
	throttled := &client.Error{Status: 400, Code: "Throttling.Api", RetryAfter: 2500 * time.Millisecond}
	patient := &client.Error{Status: 400, Code: "Throttling.Api", RetryAfter: time.Hour}
	refused := &client.Error{Status: 403, Code: "Forbidden.RAM"}
	tests := []struct {
		name  string
		errs  []error // of one call after the other; then it succeeds
		calls int
		took  time.Duration
		err   error
	}{
		{"success", nil, 1, 0, nil},
		{"refused", []error{refused}, 1, 0, refused},
		{"lost and found", []error{lost, lost}, 3, 3 * time.Second, nil},
		{"lost for good", []error{lost, lost, lost, lost}, 4, 7 * time.Second, lost},
		{"refused at last", []error{lost, refused}, 2, time.Second, refused},
		{"throttled", []error{throttled, throttled}, 3, 5 * time.Second, nil},
		{"told to wait too long", []error{patient}, 2, longPause, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls, start := 0, time.Now()
				_, err := persist(t.Context(), io.Discard, func() (int, error) {
					if calls++; calls <= len(tt.errs) {
						return 0, tt.errs[calls-1]
					}
					return calls, nil
				})
				if calls != tt.calls || time.Since(start) != tt.took || err != tt.err {
					t.Errorf("%d calls in %s, %v; want %d in %s, %v", calls, time.Since(start), err, tt.calls, tt.took, tt.err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := persist(ctx, io.Discard, func() (int, error) { return 0, lost })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 500*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

func TestSendRefusesBeforeAnyCall(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	small := writeFile(t, "small", "x")
	most := writeFile(t, "most", strings.Repeat("x", 24576))
	big := writeFile(t, "big", "")
	if err := os.Truncate(big, waybill.MaxUpload+1); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		in   string
		args []string
		code int
		want string
	}{
		{"no file", "", []string{"--to", "/x", "--all"}, 2, "accepts 1 arg(s)"},
		{"no directory", "", []string{small, "--all"}, 2, "--to is missing"},
		{"relative directory", "", []string{small, "--to", "x", "--all"}, 2, "it is not absolute"},
		{"bad name", "", []string{small, "--to", "/x", "--all", "--name", "a/b"}, 2, "it holds a slash"},
		{"bad mode", "", []string{small, "--to", "/x", "--all", "--mode", "999"}, 2, "octal"},
		{"nowhere", "", []string{small, "--to", "/x"}, 2, "say where to send to"},
		{"two ways", "", []string{small, "--to", "/x", "--all", "--tag", "a=b"}, 2, "contradict each other"},
		{"named and chosen", "", []string{small, "--to", "/x", "--instance", "mi-001", "--tag", "a=b"}, 2, "not both"},
		{"an empty list", "", []string{small, "--to", "/x", "--instances-from", writeFile(t, "none", "# nobody\n")}, 1, "names no instance"},
		{"no list", "", []string{small, "--to", "/x", "--instances-from", small + "er"}, 1, "no such file"},
		{"input twice", "", []string{"-", "--name", "x", "--to", "/x", "--instances-from", "-"}, 2, "cannot be both"},
		{"no tag key", "", []string{small, "--to", "/x", "--tag", "=b"}, 2, "has no key"},
		{"no time", "", []string{small, "--to", "/x", "--all", "--timeout", "0s"}, 2, "--timeout"},
		{"no such flag", "", []string{small, "--nonsense"}, 2, "unknown flag"},
		{"bad format", "", []string{small, "-o", "yaml"}, 2, "neither table nor json"},
		{"unnamed input", "x", []string{"-", "--to", "/x", "--all"}, 2, "--name is missing"},
		{"no such file", "", []string{small + "er", "--to", "/x", "--all"}, 1, "no such file"},
		{"directory", "", []string{filepath.Dir(small), "--to", "/x", "--all"}, 2, "is a directory"},
		{
			"too large", "",
			[]string{big, "--to", "/x", "--all"},
			1, big + " has 17179869185 bytes; a delivery carries at most 17179869184; send it in parts",
		},
		{
			"too large input", strings.Repeat("x", largestFile+1),
			[]string{"-", "--name", "x", "--to", "/x", "--all"},
			1, "standard input has more than 67108864 bytes",
		},
	}
	environment := f.environment()
	delete(environment, "WAYBILL_REGION") // asking for the region would be a call, too
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			runIn(t.Context(), environment, tt.in, append([]string{"send"}, tt.args...)...).expect(t, tt.code, tt.want)
		})
	}
	for _, action := range []string{"DescribeRegions", "DescribeManagedInstances", "SendFile"} {
		if n := len(f.Calls(action)); n != 0 {
			t.Errorf("%d calls of %s", n, action)
		}
	}
	f.run(t, "send", most, "--to", "/x", "--all").expect(t, 0)
}

func TestSendWithoutTargets(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0)
	nobody := &client.Error{Status: 404, Code: "InvalidInstance.NotFound", Message: "The specified instances not found: no instance …."}
	for n := range 4 {
		f.refuseSend[n+1] = nobody
	}
	file := writeFile(t, "a", "x")
	f.run(t, "send", file, "--to", "/x", "--all").expect(t, 1, "no instance …", "waybill activations create")
	f.run(t, "send", file, "--to", "/x", "--tag", "role=web").expect(t, 1, "no instance …", "waybill instances list")
	group := []string{"send", file, "--to", "/x", "--resource-group", "rg-1"}
	f.run(t, append(group, "--all")...).expect(t, 1, "waybill groups add rg-1")
	f.run(t, group...).expect(t, 1, "waybill groups add rg-1")
}

func TestWatchGivesUpAtItsLimit(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	f.machines[1].stuck = true
	f.run(t, "send", writeFile(t, "a", "x"), "--to", "/x", "--all").expect(t, 0)
	c, err := client.New(f.Config())
	if err != nil {
		t.Fatal(err)
	}
	w := watcher{client: c, limit: 3 * time.Second, progress: term.NoProgress()}
	found, err := w.watch(t.Context(), []waybill.DeliveryID{"f-1"})
	if err != nil {
		t.Fatal(err)
	}
	ran{4, "", ""}.expectError(t, outcome(found), "1 of 2 machines are not final yet", "waybill results f-1 --watch")
	// Asked at 0, 0.1, 0.3, 0.7, 1.5 and 2.5 s: it waits longer each time.
	if n := len(f.Calls("DescribeSendFileResults")); n < 3 || n > 6 {
		t.Errorf("asked %d times in three seconds", n)
	}
}

func (r ran) expectError(t *testing.T, err error, in ...string) {
	t.Helper()
	coded, ok := err.(*exitError)
	if !ok {
		t.Fatalf("got %v", err)
	}
	ran{code: coded.code, err: coded.Error()}.expect(t, r.code, in...)
}

func TestSendInterrupted(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.machines[0].stuck = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan ran)
	file := writeFile(t, "a", "x")
	go func() {
		done <- runIn(ctx, f.environment(), "", "send", file, "--to", "/x", "--all", "--wait")
	}()
	deadline := time.After(10 * time.Second)
	for len(f.Calls("DescribeSendFileResults")) == 0 {
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatal("it never began to wait")
		}
	}
	cancel()
	r := <-done
	r.expect(t, 1, "interrupted; the delivery goes on, follow it with: waybill results f-1 --watch")
	runIn(ctx, f.environment(), "", "instances", "list").expect(t, 1, "waybill: interrupted\n")
}
