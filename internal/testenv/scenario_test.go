// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/pgtest"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/testenv"
	"github.com/openwaybill/waybill/internal/wire"
)

// quick lets deliveries time out within a second.
func quick(c *server.Config) {
	c.Control.Limits.MinTimeout = time.Second
}

// outcome is what the API says of one target.
type outcome struct{ Status, ErrorCode, ErrorInfo string }

func of(t client.Target) outcome {
	return outcome{string(t.Status), t.ErrorCode, t.ErrorInfo}
}

// scenario brings about one row of docs/state-machine.md: it sends a delivery, and returns the machine that is to end so.
type scenario struct {
	name string
	want outcome
	run  func(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID)
}

// starter is testenv.Start, for one kind of database.
type starter func(testing.TB, ...func(*server.Config)) *testenv.Server

// onEach runs test with a function that starts servers, for every kind of database.
func onEach(t *testing.T, test func(*testing.T, starter)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, testenv.Start) })
	if !pgtest.Available(t) {
		return
	}
	t.Run("postgres", func(t *testing.T) {
		test(t, func(t testing.TB, change ...func(*server.Config)) *testenv.Server {
			return testenv.Start(t, append(change, testenv.OnPostgres(t))...)
		})
	})
}

// try runs scenarios, each with a server of its own, and compares what the API answers, letter for letter.
func try(t *testing.T, list []scenario) {
	t.Helper()
	onEach(t, func(t *testing.T, start starter) { tryOn(t, start, list) })
}

func tryOn(t *testing.T, start starter, list []scenario) {
	t.Helper()
	for _, tc := range list {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, quick)
			id, instance := tc.run(t, s)
			for _, target := range s.Await(id).Targets.Items {
				if target.Instance != instance {
					continue
				}
				if diff := cmp.Diff(tc.want, of(target)); diff != "" {
					t.Errorf("%s\ndetail: %s", diff, target.Detail)
				}
				if target.Finished == "" || target.Updated == "" || target.Created == "" {
					t.Errorf("final without its times: %+v", target)
				}
				if tc.want.ErrorCode != "" && target.Detail == "" {
					t.Error("a failure without detail")
				}
				return
			}
			t.Errorf("%s is no target of %s", instance, id)
		})
	}
}

// TestEveryErrorCodeByItsRealCause brings about each row of docs/state-machine.md with our own agent.
func TestEveryErrorCodeByItsRealCause(t *testing.T) {
	t.Parallel()
	try(t, []scenario{
		{"success", outcome{"Success", "", ""}, success},
		{"unknown instance among known ones", outcome{"Aborted", "InstanceNotExists", "the specified instance does not exists"}, unknownInstance},
		{"deregistered before", outcome{"Aborted", "InstanceReleased", "the instance has released when create task"}, deregisteredBefore},
		{"deregistered during", outcome{"Aborted", "InstanceReleased", "the instance has released when create task"}, deregisteredDuring},
		{"machine shut down", outcome{"Aborted", "InstanceNotRunning", "the instance is not running when create task"}, machineShutDown},
		{"account disabled", outcome{"Aborted", "AccountNotExists", "the specified account does not exists"}, accountDisabled},
		{"agent stopped", outcome{"Aborted", "ClientNotRunning", "the aliyun service is not running on the instance"}, agentStopped},
		{"agent silent", outcome{"Aborted", "ClientNotResponse", "the aliyun service in the instance does not response"}, agentKilled},
		{"agent upgrading", outcome{"Aborted", "ClientIsUpgrading", "the aliyun service in the instance is upgrading now"}, agentUpgrading},
		{"agent too old", outcome{"Aborted", "ClientNeedUpgrade", "the aliyun service in the instance need upgrade"}, agentTooOld},
		{"acknowledged, not finished in time", outcome{"Timeout", "DeliveryTimeout", "the command delivery has been timeout"}, tooSlow},
		{"target is a directory", outcome{"Failed", "FileCreateFail", "Unexpected error during creating"}, targetIsDirectory},
		{"file exists", outcome{"Failed", "FileAlreadyExists", "File already exists"}, fileExists},
		{"content damaged", outcome{"Invalid", "FileContentInvalid", "File content error"}, contentDamaged},
		{"name too long for that machine", outcome{"Invalid", "FileNameInvalid", "File name is invalid"}, nameTooLong},
		{"directory is a file", outcome{"Invalid", "FilePathInvalid", "File path is invalid"}, directoryIsFile},
		{"directory not allowed", outcome{"Invalid", "FilePathInvalid", "File path is invalid"}, directoryNotAllowed},
		{"no such owner", outcome{"Invalid", "FileAuthorityInvalid", "Owner not exists"}, noSuchOwner},
		{"no such group", outcome{"Invalid", "FileAuthorityInvalid", "Group not exists"}, noSuchGroup},
		{"mode not applicable", outcome{"Invalid", "FileAuthorityInvalid", "Mode is invalid"}, modeNotApplicable},
		{"agent broke", outcome{"Error", "FileCreateFail", "Unexpected error during creating"}, agentBroke},
	})
}

func success(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Agent()
	id := s.Send(testenv.File(a))
	if d := s.Await(id); d.Targets.Items[0].Started == "" {
		t.Error("succeeded and was never started")
	}
	if b, err := os.ReadFile(a.Path("/srv", "hello.txt")); err != nil || string(b) != "hello\n" {
		t.Errorf("the file: %q, %v", b, err)
	}
	return id, a.ID
}

func unknownInstance(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	r := testenv.File(s.Agent())
	r.Instances = append(r.Instances, "mi-hznobody")
	return s.Send(r), "mi-hznobody"
}

func deregisteredBefore(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Enrol()
	deregister(t, s, a)
	return s.Send(testenv.File(a, s.Agent())), a.ID
}

func deregisteredDuring(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Enrol()
	id := s.Send(testenv.File(a))
	deregister(t, s, a)
	return id, a.ID
}

func deregister(t *testing.T, s *testenv.Server, a *testenv.Agent) {
	t.Helper()
	if _, err := s.Client.DeregisterManagedInstance(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
}

// machineShutDown runs the agent as the first process of a PID namespace, like a container's: its end is the machine's.
func machineShutDown(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	if os.Geteuid() != 0 {
		t.Skip("a PID namespace needs root")
	}
	a := s.Enrol()
	p := startProgram(t, a, agentProgram(t), &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID})
	s.AwaitOnline(a)
	p.terminate(t)
	return s.Send(testenv.File(a)), a.ID
}

// accountDisabled disables the account while a delivery waits for its machine, as the operator does with
// "waybill accounts disable". The account must be enabled again for its results to be asked for.
func accountDisabled(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Enrol()
	r := testenv.File(a)
	r.Timeout = 2 * time.Second
	id := s.Send(r)
	sealer, err := identity.OpenSealer(filepath.Join(s.Dir, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), store.Config{
		URL: s.Database(), AuditKey: control.AuditKey(sealer),
	}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	operator := control.Operator{Name: "test", Store: st, Sealer: sealer}
	if err := operator.SetDisabled(t.Context(), s.Key.AccountID, true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Client.ListAccessKeys(t.Context()); code(err) != "InvalidAccessKeyId.NotFound" {
		t.Errorf("a key of a disabled account: %v", err)
	}
	a.Start()
	testenv.Eventually(t, "target ended", func() bool {
		open, err := st.OpenTargets(t.Context(), a.ID, 1)
		if err != nil {
			t.Fatal(err)
		}
		return len(open) == 0
	})
	if err := operator.SetDisabled(t.Context(), s.Key.AccountID, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(a.Path("/srv", "hello.txt")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file was delivered all the same: %v", err)
	}
	return id, a.ID
}

func agentStopped(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Agent()
	a.Stop()
	return s.Send(testenv.File(a)), a.ID
}

func agentKilled(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Enrol()
	p := startProgram(t, a, agentProgram(t), nil)
	s.AwaitOnline(a)
	p.kill(t)
	r := testenv.File(a)
	r.Timeout = time.Second
	return s.Send(r), a.ID
}

// agentUpgrading replaces the executable of a running agent and stops it, as a package manager does.
func agentUpgrading(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Enrol()
	exe := filepath.Join(t.TempDir(), "waybill-agent")
	copyFile(t, agentProgram(t), exe)
	p := startProgram(t, a, exe, nil)
	s.AwaitOnline(a)
	copyFile(t, agentProgram(t), exe+".new")
	if err := os.Rename(exe+".new", exe); err != nil {
		t.Fatal(err)
	}
	p.terminate(t)
	r := testenv.File(a)
	r.Timeout = time.Second
	return s.Send(r), a.ID
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	// What another test starts meanwhile would hold it open for writing, and then it cannot be run (go.dev/issue/22315).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(to, b, 0o700); err != nil {
		t.Fatal(err)
	}
}

// agentTooOld says hello on the wire as an agent from before the first capability version would.
func agentTooOld(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Enrol()
	nc := s.Link(a)
	reply, err := nc.Request(wire.ToServer(string(a.ID), wire.OpHello), wire.Encode(wire.Hello{Session: "old", Capability: 0}), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var w wire.Welcome
	if err := wire.Decode(reply.Data, &w); err != nil || w.Refused == "" {
		t.Errorf("welcomed without a word on its age: %+v, %v", w, err)
	}
	return s.Send(testenv.File(a)), a.ID
}

// tooSlow holds the agent at the start of its work, as a disk that does not answer would.
func tooSlow(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	a := s.Agent(func(c *agent.Config) {
		c.Hooks.Trace = func(event, _ string) {
			if event == string(place.StepWrite) {
				<-release
			}
		}
	})
	r := testenv.File(a)
	r.Timeout = time.Second
	id := s.Send(r)
	testenv.Eventually(t, "running", func() bool { return s.Delivery(id).Status == waybill.OverallRunning })
	return id, a.ID
}

func targetIsDirectory(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Agent()
	mkdir(t, a.Path("/srv", "hello.txt"))
	r := testenv.File(a)
	r.File.Overwrite = true
	return s.Send(r), a.ID
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func fileExists(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Agent()
	mkdir(t, a.Path("/srv", ""))
	if err := os.WriteFile(a.Path("/srv", "hello.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := s.Send(testenv.File(a))
	s.Await(id)
	if b, err := os.ReadFile(a.Path("/srv", "hello.txt")); err != nil || string(b) != "mine" {
		t.Errorf("the file that was there: %q, %v", b, err)
	}
	return id, a.ID
}

// contentDamaged changes the stored content behind the server's back, as a failing disk would.
func contentDamaged(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Enrol()
	id := s.Send(testenv.File(a))
	s.DamageContents()
	a.Start()
	s.Await(id)
	if _, err := os.Stat(a.Path("/srv", "hello.txt")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("damaged content was placed: %v", err)
	}
	return id, a.ID
}

func nameTooLong(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Agent()
	r := testenv.File(a)
	r.File.Name = strings.Repeat("文", 86) // 258 bytes
	return s.Send(r), a.ID
}

func directoryIsFile(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Agent()
	if err := os.WriteFile(a.Path("/", "srv"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return s.Send(testenv.File(a)), a.ID
}

func directoryNotAllowed(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Agent(func(c *agent.Config) { c.AllowDirs = []string{"/opt"} })
	return s.Send(testenv.File(a)), a.ID
}

func noSuchOwner(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Agent()
	r := testenv.File(a)
	r.File.Owner = "nobody-of-that-name"
	return s.Send(r), a.ID
}

func noSuchGroup(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Agent()
	r := testenv.File(a)
	r.File.Group = "nobody-of-that-name"
	return s.Send(r), a.ID
}

// modeNotApplicable asks an agent without privileges for setgid in a directory whose group it is not in: the system
// drops the bit without a word.
func modeNotApplicable(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	if os.Geteuid() != 0 {
		t.Skip("to run an agent as another user needs root")
	}
	const nobody = 65534
	a := s.Enrol()
	for dir := filepath.Dir(a.State); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(a.State, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, nobody, nobody))
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := a.Path("/", "srv")
	mkdir(t, dir)
	if err := errors.Join(os.Chown(dir, nobody, 12345), os.Chmod(dir, 0o775|os.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	startProgram(t, a, agentProgram(t), &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}})
	s.AwaitOnline(a)
	r := testenv.File(a)
	r.File.Owner, r.File.Group, r.File.Mode = fmt.Sprint(nobody), "12345", "2755"
	return s.Send(r), a.ID
}

func agentBroke(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	a := s.Agent(func(c *agent.Config) {
		c.Hooks.Trace = func(event, _ string) {
			if event == string(place.StepWrite) {
				panic("a bug in the agent")
			}
		}
	})
	return s.Send(testenv.File(a)), a.ID
}

// TestEveryOverallStatus brings about each overall status.
func TestEveryOverallStatus(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, quick)
	hold, entered := make(chan struct{}), make(chan struct{}, 1)
	good, away := s.Agent(), s.Enrol()
	slow := s.Agent(func(c *agent.Config) {
		c.Hooks.Trace = func(event, _ string) {
			if event == string(place.StepWrite) {
				entered <- struct{}{}
				<-hold
			}
		}
	})
	expect := func(id waybill.DeliveryID, want waybill.Overall) {
		t.Helper()
		testenv.Eventually(t, string(want), func() bool { return s.Delivery(id).Status == want })
		l, err := s.Client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{Status: want, ID: id}, client.Paging{})
		if err != nil || len(l.Items) != 1 {
			t.Errorf("filtered by status %s: %d, %v", want, len(l.Items), err)
		}
	}
	pending := s.Send(testenv.File(good, slow, away))
	<-entered
	expect(pending, waybill.OverallPending)
	running := s.Send(func() client.SendFileRequest { r := testenv.File(slow); r.File.Name = "other"; return r }())
	expect(running, waybill.OverallRunning)
	close(hold)
	expect(running, waybill.OverallSuccess)
	failed := s.Send(testenv.File(good))
	expect(failed, waybill.OverallFailed) // it is there from the first delivery
	away.Start()
	expect(pending, waybill.OverallSuccess) // delivered when the machine came
	another := s.Agent()
	expect(s.Send(testenv.File(good, another)), waybill.OverallPartial)
}

// TestBadInputStoresNothing sends requests that must be refused, and looks that none left a trace.
func TestBadInputStoresNothing(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	a := s.Enrol()
	good := func() map[string]string {
		return map[string]string{
			"RegionId": testenv.Region, "InstanceId.1": string(a.ID), "Name": "n", "TargetDir": "/d", "Content": "c",
		}
	}
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, tc := range []struct {
		name   string
		change map[string]string // an empty value removes the parameter
		code   string
		status int
	}{
		{"no region", map[string]string{"RegionId": ""}, "MissingParameter", 400},
		{"unknown region", map[string]string{"RegionId": "mars-1"}, "InvalidRegionId.NotFound", 404},
		{"no instance", map[string]string{"InstanceId.1": ""}, "MissingParam.InstanceId", 400},
		{"unknown instance alone", map[string]string{"InstanceId.1": "i-none"}, "InvalidInstance.NotFound", 404},
		{"no name", map[string]string{"Name": ""}, "MissingParameter", 400},
		{"no directory", map[string]string{"TargetDir": ""}, "MissingParameter", 400},
		{"no content", map[string]string{"Content": ""}, "MissingParameter", 400},
		{"long name", map[string]string{"Name": long(256)}, "FileName.ExceedLimit", 403},
		{"relative directory", map[string]string{"TargetDir": "d"}, "FileTargetDir.Invalid", 400},
		{"bad mode", map[string]string{"FileMode": "888"}, "FileMode.Invalid", 400},
		{"long owner", map[string]string{"FileOwner": long(65)}, "InvalidParameter.FileOwner", 400},
		{"long group", map[string]string{"FileGroup": long(65)}, "InvalidParameter.FileGroup", 400},
		{"long description", map[string]string{"Description": long(513)}, "FileDesc.ExceedLimit", 403},
		{"large content", map[string]string{"Content": long(24577)}, "FileSize.ExceedLimit", 403},
		{"bad Base64", map[string]string{"Content": "###", "ContentType": "Base64"}, "FileContent.DecodeError", 400},
		{"bad content type", map[string]string{"ContentType": "Hex"}, "FileContentType.Invalid", 400},
		{"long timeout", map[string]string{"Timeout": "86401"}, "InvalidTimeout.ExceedLimit", 403},
		{"timeout that is no number", map[string]string{"Timeout": "soon"}, "InvalidParameter", 400},
		{"tag without key", map[string]string{"Tag.1.Value": "v"}, "MissingParameter.TagKey", 400},
		{"repeated tag", map[string]string{"Tag.1.Key": "k", "Tag.2.Key": "k"}, "Duplicate.TagKey", 400},
		{"foreign resource group", map[string]string{"ResourceGroupId": "rg-x"}, "InvalidResourceGroup.NotFound", 404},
	} {
		p := good()
		for k, v := range tc.change {
			if p[k] = v; v == "" {
				delete(p, k)
			}
		}
		expectRefusal(t, tc.name, call(t, s, "SendFile", p), tc.code, tc.status)
	}
	many := good()
	for i := range 51 {
		many[fmt.Sprintf("InstanceId.%d", i+1)] = fmt.Sprintf("i-%d", i)
	}
	expectRefusal(t, "51 instances", call(t, s, "SendFile", many), "InstanceIds.ExceedLimit", 403)

	describe := func(extra ...string) map[string]string {
		p := map[string]string{"RegionId": testenv.Region}
		for i := 0; i < len(extra); i += 2 {
			p[extra[i]] = extra[i+1]
		}
		return p
	}
	for name, tc := range map[string]struct {
		params map[string]string
		code   string
		status int
	}{
		"page 0":         {describe("PageNumber", "0"), "InvalidParam.PageNumber", 403},
		"page size 51":   {describe("PageSize", "51"), "InvalidParam.PageSize", 403},
		"page of words":  {describe("PageSize", "ten"), "InvalidParam.PageSize", 403},
		"51 results":     {describe("MaxResults", "51"), "InvalidParameter.MaxResults", 400},
		"garbled token":  {describe("NextToken", "AAAA"), "InvalidParameter.NextToken", 400},
		"unknown region": {describe("RegionId", "mars-1"), "InvalidRegionId.NotFound", 404},
	} {
		expectRefusal(t, name, call(t, s, "DescribeSendFileResults", tc.params), tc.code, tc.status)
	}
	expectRefusal(t, "unknown action", call(t, s, "RunInstances", describe()), "InvalidAction.NotFound", 404)

	l, err := s.Client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{}, client.Paging{})
	if err != nil || l.Total != 0 {
		t.Errorf("%d deliveries were stored, %v", l.Total, err)
	}

	// A request line of 2 MiB never reaches the API: the HTTP server answers with the status that HTTP has for it.
	resp, err := http.Get("http://" + s.Addr("http") + "/?Content=" + long(2<<20))
	if err == nil {
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a request line of 2 MiB: %s", resp.Status)
		}
	}
}

func call(t *testing.T, s *testenv.Server, action string, params map[string]string) error {
	t.Helper()
	v := map[string][]string{}
	for k, p := range params {
		v[k] = []string{p}
	}
	return s.Client.WithRegion("").Call(t.Context(), action, v, nil)
}

func code(err error) string {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Code
	}
	return ""
}

func expectRefusal(t *testing.T, name string, err error, code string, status int) {
	t.Helper()
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Code != code || e.Status != status || e.RequestID == "" || e.Message == "" {
		t.Errorf("%s: %v, want %d %s", name, err, status, code)
	}
}

// TestTokensOfAnotherQueryAreRefused pages with a token where it does not belong.
func TestTokensOfAnotherQueryAreRefused(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	a := s.Enrol()
	for range 3 {
		s.Send(testenv.File(a))
	}
	l, err := s.Client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{}, client.Paging{MaxResults: 2})
	if err != nil || l.NextToken == "" || len(l.Items) != 2 {
		t.Fatalf("first page: %d, %q, %v", len(l.Items), l.NextToken, err)
	}
	next, err := s.Client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{}, client.Paging{NextToken: l.NextToken})
	if err != nil || len(next.Items) != 1 || next.NextToken != "" {
		t.Errorf("second page: %d, %q, %v", len(next.Items), next.NextToken, err)
	}
	_, err = s.Client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{Name: "other"}, client.Paging{NextToken: l.NextToken})
	expectRefusal(t, "token of another filter", err, "InvalidParameter.NextToken", 400)
	_, err = s.Client.DescribeManagedInstances(t.Context(), client.InstanceFilter{}, client.Paging{NextToken: l.NextToken})
	expectRefusal(t, "token of another operation", err, "InvalidParameter.NextToken", 400)
	flipped := []byte(l.NextToken)
	flipped[len(flipped)/2] ^= 1
	_, err = s.Client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{}, client.Paging{NextToken: string(flipped)})
	expectRefusal(t, "forged token", err, "InvalidParameter.NextToken", 400)
}

// TestClonedMachinesAreQuarantined runs one identity twice at the same time.
func TestClonedMachinesAreQuarantined(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, quick)
	a := s.Enrol()
	clone := filepath.Join(t.TempDir(), "state")
	if err := os.CopyFS(clone, os.DirFS(a.State)); err != nil {
		t.Fatal(err)
	}
	run := func(dir string) chan error {
		ag, err := agent.New(agent.Config{StateDir: dir, Root: a.Root, Backoff: agent.Backoff{First: 20 * time.Millisecond, Max: 100 * time.Millisecond}}, testenv.Logger(t))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		done := make(chan error, 1)
		go func() { done <- ag.Run(ctx) }()
		return done
	}
	first := run(a.State)
	s.AwaitOnline(a)
	second := run(clone)
	for _, done := range []chan error{first, second} {
		select {
		case err := <-done:
			if !errors.Is(err, agent.ErrQuarantined) {
				t.Errorf("the agent ended with %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("an agent of a cloned machine goes on")
		}
	}
	d := s.Await(s.Send(testenv.File(a)))
	if got := d.Targets.Items[0]; got.ErrorCode != "ClientNotRunning" || !strings.Contains(got.Detail, "two live machines") {
		t.Errorf("a delivery to it: %+v", got)
	}
}

// TestARestartedAgentIsNoClone kills an agent and starts it again at once.
func TestARestartedAgentIsNoClone(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	a := s.Enrol()
	for range 3 {
		p := startProgram(t, a, agentProgram(t), nil)
		s.AwaitOnline(a)
		d := s.Await(s.Send(func() client.SendFileRequest { r := testenv.File(a); r.File.Overwrite = true; return r }()))
		if d.Status != waybill.OverallSuccess {
			t.Fatalf("delivery: %+v", d.Targets.Items)
		}
		p.kill(t)
	}
}

// TestDeregisteringCutsTheAgentOff looks that a deregistered agent ends, and that its key is of no use any more.
func TestDeregisteringCutsTheAgentOff(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	a := s.Enrol()
	nc := s.Link(a)
	closed := make(chan struct{})
	nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
	deregister(t, s, a)
	select {
	case <-closed:
	case <-time.After(30 * time.Second):
		t.Fatal("the connection stays")
	}
	ag, err := agent.New(agent.Config{StateDir: a.State, Root: a.Root}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := ag.Run(t.Context()); !errors.Is(err, agent.ErrDeregistered) {
		t.Errorf("a deregistered agent: %v", err)
	}
}

// program is a real agent process.
type program struct{ cmd *exec.Cmd }

func startProgram(t *testing.T, a *testenv.Agent, exe string, attr *syscall.SysProcAttr) *program {
	t.Helper()
	cmd := exec.Command(exe, "run", "--state-dir", a.State, "--root", a.Root)
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{cmd}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.kill(t)
		}
	})
	return p
}

func (p *program) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	p.cmd.Wait() // it was killed: its status says so
}

// terminate asks it to end, and waits until it has.
func (p *program) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the agent ended with %v", err)
	}
}
