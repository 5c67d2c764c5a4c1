// SPDX-License-Identifier: Apache-2.0

//go:build unix

package assist_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/assist/assisttest"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
)

// The tests of this file run the list by which a server for the official agent is accepted. What that agent makes of
// each kind of file is in internal/testenv, beside the same for our own.

var update = flag.Bool("update", false, "write the golden files")

// recorded writes an answer as it is in the golden files. What differs from run to run is replaced.
func recorded(a assisttest.Answer, scrub ...string) string {
	return fmt.Sprintf("HTTP %d\n\n%s", a.Status, strings.NewReplacer(scrub...).Replace(a.Body))
}

// goldens compares several answers, by name, with one file of testdata.
func goldens(t *testing.T, file string, answers map[string]assisttest.Answer) {
	t.Helper()
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		fmt.Fprintf(&all, "### %s\n%s\n", name, recorded(answers[name]))
	}
	compare(t, file, all.String())
}

// golden compares an answer with a file of testdata.
func golden(t *testing.T, file string, a assisttest.Answer, scrub ...string) {
	t.Helper()
	compare(t, file, recorded(a, scrub...))
}

func compare(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// quick lets deliveries time out within a second.
func quick(c *server.Config) { c.Control.Limits.MinTimeout = time.Second }

// outcome is what the API says of one target.
type outcome struct{ Status, ErrorCode string }

func outcomeOf(d client.Delivery) outcome {
	t := d.Targets.Items[0]
	return outcome{string(t.Status), t.ErrorCode}
}

// await waits for a delivery to one machine and asserts how it ended.
func await(t *testing.T, s *testenv.Server, id waybill.DeliveryID, want outcome) client.Target {
	t.Helper()
	d := s.Await(id)
	if got := outcomeOf(d); got != want {
		t.Errorf("%s ended as %+v, want %+v: %s", d.Name, got, want, d.Targets.Items[0].Detail)
	}
	return d.Targets.Items[0]
}

var success = outcome{"Success", ""}

// network returns the way of official agents to a server, changed.
func network(t *testing.T, s *testenv.Server, change func(*assisttest.NetworkConfig)) *assisttest.Network {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA)
	cfg := assisttest.NetworkConfig{Server: s.Addr("https"), Roots: roots}
	change(&cfg)
	n := assisttest.NewNetwork(cfg)
	t.Cleanup(n.Close)
	return n
}

// patient makes dials wait while nobody listens, as they do in the queue of a socket that outlives its server.
func patient(c *assisttest.NetworkConfig) {
	c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				return conn, err
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-tick.C:
			}
		}
	}
}

// caller makes calls by hand in the name of a machine.
type caller struct {
	t  *testing.T
	n  *assisttest.Network
	id *assisttest.Identity
}

func callerOf(t *testing.T, n *assisttest.Network, o *testenv.Official) caller {
	t.Helper()
	c := caller{t: t, n: n}
	o.Change(func(cfg *assisttest.Config) { c.id = cfg.Identity })
	return c
}

// call makes a call whose stamp is changed, if forge is not nil.
func (c caller) call(method, target string, body []byte, forge func(*assisttest.Stamp)) assisttest.Answer {
	c.t.Helper()
	h := c.header(forge)
	a, err := c.n.Do(c.t.Context(), assisttest.Call{Method: method, Target: target, Header: h, Body: body})
	if _, refused := errors.AsType[assisttest.StatusError](err); err != nil && !refused {
		c.t.Fatalf("%s %s: %v", method, target, err)
	}
	return a
}

func (c caller) header(forge func(*assisttest.Stamp)) http.Header {
	c.t.Helper()
	s := c.id.Stamp(time.Now())
	if forge != nil {
		forge(&s)
	}
	h, err := s.Header()
	if err != nil {
		c.t.Fatal(err)
	}
	h.Set("User-Agent", "linux_amd64/"+assisttest.Version)
	return h
}

// upgrade opens a channel and returns the status of the answer.
func (c caller) upgrade(s *testenv.Server, h http.Header) int {
	c.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	conn, resp, err := websocket.Dial(c.t.Context(), "wss://"+s.Addr("https")+"/luban/notify_server",
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}, HTTPHeader: h})
	if resp == nil {
		c.t.Fatalf("upgrade: %v", err)
	}
	if err == nil {
		_ = conn.CloseNow()
	}
	return resp.StatusCode
}

func TestRegister(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	a, err := s.Client.CreateActivation(t.Context(), client.CreateActivationRequest{
		InstanceCount: 10, Tags: []waybill.Tag{{Key: "site", Value: "north"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	id, answer, err := assisttest.Register(t.Context(), assisttest.Registration{
		Network: s.Network(), ActivationID: string(a.ID), ActivationCode: a.Code, MachineID: "c1a389f7c63148c1ae3397d67364fd1c",
		RegionID: "cn-hangzhou", InstanceName: "web-1", Tags: []assisttest.Tag{{Key: "env", Value: "test"}, {Key: "site", Value: "mine"}},
		Facts: assisttest.Facts{Hostname: "h1"},
	})
	if err != nil {
		t.Fatalf("%v: %s", err, answer.Body)
	}
	golden(t, "registered.http", answer, id.InstanceID, "mi-1")
	if !regexp.MustCompile(`^[!-~]+$`).MatchString(id.InstanceID) {
		t.Errorf("instance %q cannot be a header", id.InstanceID)
	}
	got := s.Instance(waybill.InstanceID(id.InstanceID))
	slices.SortFunc(got.Tags, func(a, b client.Tag) int { return strings.Compare(a.Key, b.Key) })
	want := client.Instance{
		ID: got.ID, Name: "web-1", Activation: a.ID, MachineID: "c1a389f7c63148c1ae3397d67364fd1c", Hostname: "h1",
		IntranetIP: "192.0.2.2", InternetIP: "127.0.0.1", OSType: "linux", OSVersion: got.OSVersion, AgentVersion: assisttest.Version,
		AgentKind: waybill.OfficialAgent, Channel: "closed", Registered: got.Registered,
		Tags: []client.Tag{{Key: "env", Value: "test"}, {Key: "site", Value: "north"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestRegisterRefused asserts that whoever runs the agent can read why, and that nothing is stored on either side.
func TestRegisterRefused(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n := s.Network()
	activate := func(r client.CreateActivationRequest) client.NewActivation {
		a, err := s.Client.CreateActivation(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	good := activate(client.CreateActivationRequest{InstanceCount: 10})
	elsewhere := activate(client.CreateActivationRequest{InstanceCount: 10, AddressRange: "192.0.2.0/24"})
	full := activate(client.CreateActivationRequest{InstanceCount: 1})
	s.Register(n, full)
	disabled := activate(client.CreateActivationRequest{InstanceCount: 10})
	if _, err := s.Client.DisableActivation(t.Context(), disabled.ID); err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	of := func(a client.NewActivation) assisttest.Registration {
		return assisttest.Registration{Network: n, ActivationID: string(a.ID), ActivationCode: a.Code, MachineID: "m", Key: key}
	}
	with := func(change func(*assisttest.Registration)) assisttest.Registration {
		r := of(good)
		change(&r)
		return r
	}
	const wrong = "the activation ID or the code is wrong"
	long := strings.Repeat("h", 257)
	var tags []assisttest.Tag
	for i := range 100 {
		tags = append(tags, assisttest.Tag{Key: strconv.Itoa(i), Value: "v"})
	}
	for _, tc := range []struct {
		name string
		r    assisttest.Registration
		code int
		why  string
	}{
		{"wrong code", with(func(r *assisttest.Registration) { r.ActivationCode += "x" }), 403, wrong},
		{"no code", with(func(r *assisttest.Registration) { r.ActivationCode = "" }), 403, wrong},
		{"unknown activation", with(func(r *assisttest.Registration) { r.ActivationID = "x" }), 403, wrong},
		{"another address", of(elsewhere), 403, "does not allow address 127.0.0.1"},
		{"no place left", of(full), 403, "all of its 1 machines"},
		{"disabled", of(disabled), 403, "disabled"},
		{"name", with(func(r *assisttest.Registration) { r.InstanceName = "1" }), 403, "2 to 128 characters"},
		{"too many tags", with(func(r *assisttest.Registration) { r.Tags = tags }), 403, "20"},
		{"long word", with(func(r *assisttest.Registration) { r.Facts.Hostname = long }), 422, "longer than 256 bytes"},
	} {
		_, answer, err := assisttest.Register(t.Context(), tc.r)
		if !errors.Is(err, assisttest.ErrRefused) || answer.Status != http.StatusOK {
			t.Errorf("%s: %v, status %d", tc.name, err, answer.Status)
		}
		var reply struct {
			Code   int
			ErrMsg string
		}
		err = json.Unmarshal([]byte(answer.Body), &reply)
		if err != nil || reply.Code != tc.code || !strings.Contains(reply.ErrMsg, tc.why) {
			t.Errorf("%s: %s", tc.name, answer.Body)
		}
		if tc.name == "wrong code" {
			golden(t, "register-refused.http", answer)
		}
	}
	l, err := s.Client.DescribeManagedInstances(t.Context(), client.InstanceFilter{}, client.Paging{})
	if err != nil || l.Total != 1 {
		t.Errorf("%d machines, %v", l.Total, err)
	}
}

// TestRegisterNonsense posts what no agent does.
func TestRegisterNonsense(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n := s.Network()
	for _, body := range []string{
		"", "x", "null", "[]", "{}", `{"activationId":1}`, `{"tag":"x"}`, `{"publicKey":"AAAA"}`, strings.Repeat("x", 1<<20),
	} {
		a, err := n.Do(t.Context(), assisttest.Call{Method: http.MethodPost, Target: "/luban/api/instance/register", Body: []byte(body)})
		if _, refused := errors.AsType[assisttest.StatusError](err); err != nil && !refused {
			t.Fatal(err)
		}
		var reply struct{ Code int }
		fits := a.Status == http.StatusOK || a.Status == http.StatusRequestEntityTooLarge
		if json.Unmarshal([]byte(a.Body), &reply) != nil || reply.Code < 401 || !fits {
			t.Errorf("%.20q: %d %s", body, a.Status, a.Body)
		}
	}
}

// TestGuessingCodesIsSlow asserts that those who guess are told to wait, in words and not by a number.
func TestGuessingCodesIsSlow(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n, a := s.Network(), s.Activate("guessed")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	r := assisttest.Registration{Network: n, ActivationID: string(a.ID), ActivationCode: "x", MachineID: "m", Key: key}
	for range 50 {
		_, answer, err := assisttest.Register(t.Context(), r)
		if !errors.Is(err, assisttest.ErrRefused) || answer.Status != http.StatusOK {
			t.Fatalf("%v: %d %s", err, answer.Status, answer.Body)
		}
		if strings.Contains(answer.Body, "too many failed attempts") {
			r.ActivationCode = a.Code
			if _, answer, err := assisttest.Register(t.Context(), r); !errors.Is(err, assisttest.ErrRefused) {
				t.Errorf("the right code was let through: %s", answer.Body)
			}
			return
		}
	}
	t.Error("fifty guesses")
}

// TestForgedIdentity makes every call, and the upgrade, with an identity that is wrong somewhere.
func TestForgedIdentity(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n, activation := s.Network(), s.Activate("official")
	c := callerOf(t, n, s.Register(n, activation))
	other := callerOf(t, n, s.Register(n, activation))
	strange, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	native := s.Enrol()
	shift := func(d time.Duration) func(*assisttest.Stamp) {
		return func(st *assisttest.Stamp) { st.Timestamp = strconv.FormatInt(time.Now().Add(d).UnixMilli(), 10) }
	}
	calls := [][2]string{
		{http.MethodPost, "/luban/api/v1/task/list?reason=startup&currentTime=1"},
		{http.MethodPost, "/luban/api/v1/task/finish?taskId=f-1&status=Success&taskType=sendfile&errorcode=0"},
		{http.MethodPost, "/luban/api/v1/task/invalid?taskId=f-1&taskType=sendfile&param=FileExist&value="},
		{http.MethodGet, "/luban/api/heart-beat?index=0"},
		{http.MethodPost, "/luban/api/metrics"},
		{http.MethodPost, "/luban/api/v1/exception/client_report"},
		{http.MethodPost, "/luban/api/v1/update/update_check"},
		{http.MethodPost, "/luban/api/instance/list_instance_state_configurations"},
		{http.MethodPost, "/luban/api/instance/deregister"},
	}
	answers := map[string]assisttest.Answer{}
	for name, forge := range map[string]func(*assisttest.Stamp){
		"unsigned":                   func(st *assisttest.Stamp) { st.None = true },
		"wrong signature":            func(st *assisttest.Stamp) { st.Signature = "AAAA" },
		"the key of nobody":          func(st *assisttest.Stamp) { st.Key = strange },
		"another machine's identity": func(st *assisttest.Stamp) { st.InstanceID = other.id.InstanceID },
		"another machine's ID":       func(st *assisttest.Stamp) { st.MachineID = other.id.MachineID },
		"unknown instance":           func(st *assisttest.Stamp) { st.InstanceID = "mi-nobody" },
		"our own agent's instance":   func(st *assisttest.Stamp) { st.InstanceID = string(native.ID) },
		"clock an hour slow":         shift(-time.Hour),
		"clock an hour fast":         shift(time.Hour),
	} {
		for _, call := range calls {
			a := c.call(call[0], call[1], nil, forge)
			if a.Status != http.StatusUnauthorized && a.Status != http.StatusForbidden {
				t.Errorf("%s: %s %s: %d %s", name, call[0], call[1], a.Status, a.Body)
			}
			if call == calls[0] {
				a.Body = regexp.MustCompile(`off by -?[0-9hms]+`).ReplaceAllString(a.Body, "off by 1h0m0s")
				answers[name] = a
			}
		}
		if status := c.upgrade(s, c.header(forge)); status != http.StatusUnauthorized && status != http.StatusForbidden {
			t.Errorf("%s: upgrade: %d", name, status)
		}
	}
	goldens(t, "unauthorized.http", answers)
	if i := s.Instance(waybill.InstanceID(c.id.InstanceID)); i.Channel != "closed" {
		t.Errorf("the instance has been seen: %+v", i)
	}
}

// TestReplayedIdentity uses headers again that a machine has sent.
func TestReplayedIdentity(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n := s.Network()
	c := callerOf(t, n, s.Register(n, s.Activate("official")))
	taken := c.id.Stamp(time.Now())
	same := func(st *assisttest.Stamp) { *st = taken }
	const list = "/luban/api/v1/task/list?reason=startup&currentTime=1"
	for range 2 { // unchanged it may come again, and every other use is refused as often as it is tried
		if a := c.call(http.MethodPost, list, nil, same); a.Status != http.StatusOK {
			t.Errorf("the same again: %d %s", a.Status, a.Body)
		}
		a := c.call(http.MethodPost, "/luban/api/instance/deregister", nil, same)
		if a.Status != http.StatusForbidden {
			t.Errorf("deregister: %d %s", a.Status, a.Body)
		}
		golden(t, "replayed.http", a)
		if a := c.call(http.MethodPost, list+"&x=1", nil, same); a.Status != http.StatusForbidden {
			t.Errorf("another query: %d %s", a.Status, a.Body)
		}
		if status := c.upgrade(s, c.header(same)); status != http.StatusForbidden {
			t.Errorf("upgrade: %d", status)
		}
	}
	s.Restart()
	if a := c.call(http.MethodPost, "/luban/api/instance/deregister", nil, same); a.Status != http.StatusForbidden {
		t.Errorf("deregister after a restart: %d %s", a.Status, a.Body)
	}
}

// TestForeignTask lets a machine ask for, and report, what is another's.
func TestForeignTask(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, func(c *server.Config) { c.Assist.Fallback = time.Millisecond })
	n, activation := s.Network(), s.Activate("official")
	owner := s.Register(n, activation)
	thief := callerOf(t, n, s.Register(n, activation))
	id := s.Send(testenv.OfficialFile(owner))
	metric, err := json.Marshal(map[string]string{
		"eventId": "agent.task.failed", "keywords": `{"taskid":"` + string(id) + `","errormsg":"FileExist : x"}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	try := func(c caller) {
		t.Helper()
		for _, target := range []string{
			"/luban/api/v1/task/finish?taskId=" + string(id) + "&status=Success&taskType=sendfile&errorcode=0",
			"/luban/api/v1/task/finish?taskId=" + string(id) + "&status=Failed&taskType=sendfile&errorcode=1",
			"/luban/api/v1/task/invalid?taskId=" + string(id) + "&taskType=sendfile&param=FileExist&value=x",
		} {
			if a := c.call(http.MethodPost, target, nil, nil); a.Status != http.StatusOK {
				t.Errorf("%s: %d", target, a.Status)
			}
		}
		c.call(http.MethodPost, "/luban/api/metrics", metric, nil)
	}
	for _, query := range []string{"reason=startup", "reason=kickoff", "reason=kickoff&taskId=" + string(id)} {
		a := thief.call(http.MethodPost, "/luban/api/v1/task/list?"+query+"&currentTime=1", nil, nil)
		if a.Status != http.StatusOK || strings.Contains(a.Body, string(id)) {
			t.Errorf("%s: %d %s", query, a.Status, a.Body)
		}
		golden(t, "nothing.http", a, thief.id.InstanceID, "mi-1")
	}
	try(thief)
	mine := callerOf(t, n, owner)
	try(mine) // it was never handed out, so there is nothing to report
	if d := s.Delivery(id); d.Targets.Items[0].Status != waybill.Pending {
		t.Errorf("the delivery is %+v", d.Targets.Items[0])
	}
	given := mine.call(http.MethodPost, "/luban/api/v1/task/list?reason=kickoff&taskId="+string(id)+"&currentTime=1", nil, nil)
	if !strings.Contains(given.Body, string(id)) {
		t.Errorf("its own machine gets %s", given.Body)
	}
	try(thief)
	if d := s.Delivery(id); d.Targets.Items[0].Status != waybill.Running {
		t.Errorf("the delivery is %+v", d.Targets.Items[0])
	}
	mine.call(http.MethodPost, "/luban/api/v1/task/finish?taskId="+string(id)+"&status=Success&taskType=sendfile&errorcode=0", nil, nil)
	await(t, s, id, success)
	try(mine) // the first outcome stands
	await(t, s, id, success)
}

// TestTaskList compares what the agent gets with what it was seen to take.
func TestTaskList(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n := s.Network()
	o := s.Register(n, s.Activate("official"))
	r := testenv.OfficialFile(o)
	r.File = waybill.FileSpec{
		Name: "a&b=c #1 <ü>.conf", TargetDir: "/etc/app", Owner: "root", Group: "root", Mode: "600", Overwrite: true,
	}
	id := s.Send(r)
	empty := testenv.OfficialFile(o)
	empty.File.Name, empty.File.Owner, empty.File.Group, empty.Content = "empty", "app", "www", nil
	second := s.Send(empty)
	c := callerOf(t, n, o)
	scrub := []string{c.id.InstanceID, "mi-1", string(id), "f-1", string(second), "f-2"}
	for _, tc := range []struct{ file, query string }{
		{"tasks-one.http", "reason=kickoff&taskId=" + string(id) + "&currentTime=1"},
		{"tasks-all.http", "reason=startup&currentTime=2"},
	} {
		a := c.call(http.MethodPost, "/luban/api/v1/task/list?"+tc.query, nil, nil)
		a.Body = regexp.MustCompile(`"timeout":(59|60)`).ReplaceAllString(a.Body, `"timeout":60`)
		golden(t, tc.file, a, scrub...)
		if tc.file == "tasks-one.http" { // the process that had it is another one
			c.call(http.MethodGet, "/luban/api/heart-beat?process_uptime=1&index=0&seq_no=0", nil, nil)
		}
	}
}

// TestContents delivers every kind of file, all at once.
func TestContents(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	o := s.Official()
	binary := make([]byte, 24<<10) // 32 KiB in Base64
	for i := range binary {
		binary[i] = byte(i * i >> 3)
	}
	type file struct {
		name, dir, mode string
		content         []byte
		want            os.FileMode
	}
	files := []file{
		{"text", "/srv", "", []byte("hello\n"), 0o644},
		{"binary", "/srv", "0600", binary, 0o600},
		{"empty", "/srv", "0755", nil, 0o755},
		{"three digits", "/srv", "640", []byte("x"), 0o640},
		{"no rights", "/srv", "0000", []byte("x"), 0},
		{"every right", "/srv", "0777", []byte("x"), 0o777},
		{"nested", "/a/b/c/d", "0644", []byte("x"), 0o644},
	}
	for _, name := range []string{
		"配置-ü.txt", " blank ", "a#b", "a&param=EmptyFile", "100%", "a%20b", "a=b?c;d+e'f\"g", `a\b`, "-rf", "~",
	} {
		files = append(files, file{name, "/names", "0644", []byte(name), 0o644})
	}
	var ids []waybill.DeliveryID
	for _, f := range files {
		r := testenv.OfficialFile(o)
		r.Content, r.File.Name, r.File.TargetDir, r.File.Mode = f.content, f.name, f.dir, f.mode
		ids = append(ids, s.Send(r))
	}
	for i, f := range files {
		await(t, s, ids[i], success)
		info, err := os.Stat(o.Path(f.dir, f.name))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode() != f.want {
			t.Errorf("%q has mode %v, want %v", f.name, info.Mode(), f.want)
		}
		if os.Geteuid() != 0 && f.want == 0 {
			continue // nobody may read it
		}
		if b, err := os.ReadFile(o.Path(f.dir, f.name)); err != nil || !bytes.Equal(b, f.content) {
			t.Errorf("%q holds %d bytes, want %d; %v", f.name, len(b), len(f.content), err)
		}
	}
}

// TestOwners needs root, as the agent does: it gives files to others, and takes them back for root.
func TestOwners(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	s := testenv.Start(t)
	o := s.Official()
	send := func(owner, group string) *syscall.Stat_t {
		t.Helper()
		r := testenv.OfficialFile(o)
		r.File.Owner, r.File.Group, r.File.Overwrite = owner, group, true
		await(t, s, s.Send(r), success)
		info, err := os.Stat(o.Path("/srv", "hello.txt"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t)
	}
	if got := send("daemon", "daemon"); got.Uid == 0 || got.Gid == 0 {
		t.Errorf("the file is %d:%d's", got.Uid, got.Gid)
	}
	for _, owner := range []string{"root", "0"} { // which the agent leaves alone if both are named
		send("daemon", "daemon")
		if got := send(owner, owner); got.Uid != 0 || got.Gid != 0 {
			t.Errorf("%s: the file is %d:%d's", owner, got.Uid, got.Gid)
		}
	}
	if got := send("daemon", "root"); got.Uid == 0 || got.Gid != 0 {
		t.Errorf("the file is %d:%d's", got.Uid, got.Gid)
	}
}

// TestRefusedBeforeAnyKick sends what the agent would do wrong. The API, or the front end, says no before it is told.
func TestRefusedBeforeAnyKick(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	o := s.Official()
	for name, change := range map[string]func(*client.SendFileRequest){
		"parent":    func(r *client.SendFileRequest) { r.File.Name = ".." },
		"slash":     func(r *client.SendFileRequest) { r.File.Name = "../etc/x" },
		"newline":   func(r *client.SendFileRequest) { r.File.Name = "a\nb" },
		"no name":   func(r *client.SendFileRequest) { r.File.Name = "" },
		"minus":     func(r *client.SendFileRequest) { r.File.Mode = "-755" },
		"plus":      func(r *client.SendFileRequest) { r.File.Mode = "+644" },
		"no octal":  func(r *client.SendFileRequest) { r.File.Mode = "888" },
		"one digit": func(r *client.SendFileRequest) { r.File.Mode = "7" },
		"relative":  func(r *client.SendFileRequest) { r.File.TargetDir = "srv" },
		"too long":  func(r *client.SendFileRequest) { r.Content = make([]byte, 64<<10) },
		"owner":     func(r *client.SendFileRequest) { r.File.Owner = "a\nb" },
	} {
		r := testenv.OfficialFile(o)
		change(&r)
		if id, err := s.Client.SendFile(t.Context(), r); err == nil {
			t.Errorf("%s is accepted as %s", name, id)
		}
	}
	r := testenv.OfficialFile(o)
	r.File.Mode = "1777"
	await(t, s, s.Send(r), outcome{"Invalid", "FileAuthorityInvalid"})
	if k := o.Snapshot().Kicks; len(k) > 0 {
		t.Errorf("kicked: %+v", k)
	}
}

// TestNamesInReports brings about failures whose reports hold the name as it is, by either HTTP. What is lost then comes
// as telemetry.
func TestNamesInReports(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, func(c *server.Config) { c.Assist.Fallback = 50 * time.Millisecond })
	for _, http1 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP1=%t", http1), func(t *testing.T) {
			n := network(t, s, func(c *assisttest.NetworkConfig) { c.HTTP1 = http1 })
			o := s.Register(n, s.Activate("official"))
			o.Start()
			s.AwaitChannel(o, "open")
			var ids []waybill.DeliveryID
			for _, name := range []string{"plain", "sp ace", "a&param=EmptyFile", "a#b", "100%", "a%2", "ü", "a?b=c;d"} {
				path := o.Path("/srv", name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
					t.Fatal(err)
				}
				r := testenv.OfficialFile(o)
				r.File.Name = name
				ids = append(ids, s.Send(r))
			}
			for _, id := range ids {
				await(t, s, id, outcome{"Failed", "FileAlreadyExists"})
			}
			r := testenv.OfficialFile(o)
			r.File.Name, r.File.Owner = "other", "a&param=EmptyFile&taskId=x"
			await(t, s, s.Send(r), outcome{"Invalid", "FileAuthorityInvalid"})
			lost := 0
			for _, r := range o.Snapshot().Reports {
				if r.Lost {
					lost++
				}
			}
			if lost != map[bool]int{false: 0, true: 1}[http1] {
				t.Errorf("%d reports were lost", lost)
			}
		})
	}
}

// TestBursts sends much to one machine at the same moment. Overwrite is not allowed, so what is done twice shows.
func TestBursts(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	for _, many := range []int{2, 50} {
		t.Run(strconv.Itoa(many), func(t *testing.T) {
			o := s.Official()
			ids := make([]waybill.DeliveryID, many)
			var wg sync.WaitGroup
			for i := range ids {
				wg.Go(func() {
					r := testenv.OfficialFile(o)
					r.File.Name = fmt.Sprintf("file %d", i)
					id, err := s.Client.SendFile(t.Context(), r)
					if err != nil {
						t.Error(err)
					}
					ids[i] = id
				})
			}
			wg.Wait()
			if t.Failed() {
				return
			}
			for _, id := range ids {
				await(t, s, id, success)
			}
			expectRuns(t, o, ids, 1)
		})
	}
}

func expectRuns(t *testing.T, o *testenv.Official, ids []waybill.DeliveryID, want int) {
	t.Helper()
	runs := o.Snapshot().Runs
	for _, id := range ids {
		if runs[string(id)] != want {
			t.Errorf("%s was executed %d times, want %d", id, runs[string(id)], want)
		}
	}
}

// TestStartAndKickAtOnce sends to machines that are just starting: the kick and the first fetch of the process meet.
func TestStartAndKickAtOnce(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n, activation := s.Network(), s.Activate("official")
	machines := make([]*testenv.Official, 10)
	var wg sync.WaitGroup
	for i := range machines {
		o := s.Register(n, activation)
		machines[i] = o
		r := testenv.OfficialFile(o)
		r.File.Name = "before"
		s.Send(r)
		for n := range 4 {
			wg.Go(func() {
				r := r
				r.File.Name = strconv.Itoa(n)
				if _, err := s.Client.SendFile(t.Context(), r); err != nil {
					t.Error(err)
				}
			})
		}
		o.Start()
	}
	wg.Wait()
	for _, o := range machines {
		testenv.Eventually(t, "all are executed", func() bool { return len(o.Snapshot().Runs) == 5 })
		for id, runs := range o.Snapshot().Runs {
			if runs != 1 {
				t.Errorf("%s was executed %d times", id, runs)
			}
			await(t, s, waybill.DeliveryID(id), success)
		}
	}
}

// TestRestartOfTheServer restarts the server under an agent for which something is open.
func TestRestartOfTheServer(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, func(c *server.Config) { c.Assist.Patience = 200 * time.Millisecond })
	o := s.Register(network(t, s, patient), s.Activate("official"))
	o.Start()
	s.AwaitChannel(o, "open")
	testenv.Eventually(t, "startup fetch", func() bool { return len(o.Snapshot().Fetches) > 0 })
	o.Updating(true) // so that it does not fetch before the restart
	id := s.Send(testenv.OfficialFile(o))
	testenv.Eventually(t, "rejected", func() bool { return len(o.Snapshot().Kicks) > 0 })
	s.Restart()
	testenv.Eventually(t, "connected again", func() bool { return o.Snapshot().Connects == 2 })
	o.Updating(false)
	await(t, s, id, success)
	expectRuns(t, o, []waybill.DeliveryID{id}, 1)
	if got := o.Snapshot(); got.Dials != 2 || got.Deaf {
		t.Errorf("%d dials, deaf: %t", got.Dials, got.Deaf)
	}
	if i := s.Instance(o.ID); i.Channel != "open" {
		t.Errorf("channel %s", i.Channel)
	}
}

// TestUpgradeThatIsGivenUp asserts that an agent that has stopped rejecting kicks is found out without anything to send.
func TestUpgradeThatIsGivenUp(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, quick, func(c *server.Config) { c.Assist.Patience = 100 * time.Millisecond })
	o := s.Official()
	testenv.Eventually(t, "startup fetch", func() bool { return len(o.Snapshot().Fetches) > 0 })
	o.Updating(true)
	r := testenv.OfficialFile(o)
	r.Timeout = time.Second
	await(t, s, s.Send(r), outcome{"Aborted", "ClientIsUpgrading"})
	if i := s.Instance(o.ID); i.Connected {
		t.Errorf("connected while it is replaced: %+v", i)
	}
	o.Updating(false)
	s.AwaitChannel(o, "open")
	await(t, s, s.Send(testenv.OfficialFile(o)), success)
}

// TestAgentKilled kills the agent's process at each point of a delivery and starts it again.
func TestAgentKilled(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	exists := outcome{"Failed", "FileAlreadyExists"}
	for _, tc := range []struct {
		at        assisttest.Point
		overwrite bool
		want      outcome
		runs      int // by the second process
	}{
		{assisttest.BeforeFetch, false, success, 1},
		{assisttest.AfterFetch, false, success, 1},
		{assisttest.AfterWrite, false, exists, 1},
		{assisttest.AfterWrite, true, success, 1},
		{assisttest.BeforeReport, false, exists, 1},
		{assisttest.BeforeReport, true, success, 1},
	} {
		t.Run(fmt.Sprintf("%s, overwrite %t", tc.at, tc.overwrite), func(t *testing.T) {
			var armed atomic.Bool
			o := s.Official(func(c *assisttest.Config) {
				c.At = func(p assisttest.Point, _ string) assisttest.Action {
					if p == tc.at && armed.CompareAndSwap(true, false) {
						return assisttest.Die
					}
					return assisttest.Proceed
				}
			})
			testenv.Eventually(t, "startup fetch", func() bool { return len(o.Snapshot().Fetches) > 0 })
			armed.Store(true)
			r := testenv.OfficialFile(o)
			r.File.Overwrite = tc.overwrite
			id := s.Send(r)
			s.AwaitChannel(o, "lost")
			if s.Delivery(id).Status.Final() {
				t.Error("final before anybody told")
			}
			o.Start()
			target := await(t, s, id, tc.want)
			expectRuns(t, o, []waybill.DeliveryID{id}, tc.runs)
			if tc.want == exists && !strings.Contains(target.Detail, "more than once") {
				t.Errorf("the detail does not say that the file may be its own: %s", target.Detail)
			}
			if b, err := os.ReadFile(o.Path("/srv", "hello.txt")); err != nil || string(b) != "hello\n" {
				t.Errorf("the file: %q, %v", b, err)
			}
			found := 0
			for _, f := range o.Snapshot().Fetches { // the first of the process, or that of a kick that came just then
				found += f.Found
			}
			if found != 1 {
				t.Errorf("found %d times: %+v", found, o.Snapshot().Fetches)
			}
		})
	}
}

// TestOfflineAtFirst sends to machines that are not there, and come in time.
func TestOfflineAtFirst(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n, activation := s.Network(), s.Activate("official")
	never := s.Register(n, activation)
	stopped := s.Register(n, activation)
	stopped.Start()
	s.AwaitChannel(stopped, "open")
	stopped.Stop()
	s.AwaitChannel(stopped, "lost")
	for _, o := range []*testenv.Official{never, stopped} {
		id := s.Send(testenv.OfficialFile(o))
		if d := s.Delivery(id); d.Targets.Items[0].Status != waybill.Pending {
			t.Errorf("the delivery is %+v", d.Targets.Items[0])
		}
		o.Start()
		await(t, s, id, success)
		expectRuns(t, o, []waybill.DeliveryID{id}, 1)
	}
}

// TestHeartbeatWithoutChannel lets the only dial of an agent fail.
func TestHeartbeatWithoutChannel(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	var broken atomic.Bool
	broken.Store(true)
	o := s.Register(s.Network(), s.Activate("official"), func(c *assisttest.Config) {
		c.Times.Tick, c.Times.CoolDown = 500*time.Millisecond, time.Millisecond
		c.Forge = func(target string, st *assisttest.Stamp) {
			if strings.HasPrefix(target, "/luban/notify_server") && broken.Load() {
				st.Signature = "AAAA"
			}
		}
	})
	o.Start()
	s.AwaitChannel(o, "lost")
	i := s.Instance(o.ID)
	next, err := time.Parse("2006-01-02T15:04:05Z", i.NextChannel)
	if err != nil || !i.Connected {
		t.Errorf("%+v, %v", i, err)
	}
	if in := time.Until(next); in <= 0 || in > 30*time.Minute {
		t.Errorf("the channel is expected in %s", in)
	}
	testenv.Eventually(t, "startup fetch", func() bool { return len(o.Snapshot().Fetches) > 0 })
	id := s.Send(testenv.OfficialFile(o))
	if d := s.Delivery(id); d.Targets.Items[0].Status != waybill.Pending {
		t.Errorf("the delivery is %+v", d.Targets.Items[0])
	}
	broken.Store(false)
	await(t, s, id, success) // at its next tick
	if i := s.Instance(o.ID); i.Channel != "open" || i.NextChannel != "" {
		t.Errorf("%+v", i)
	}
}

// TestDeregisterByTheAgent takes a machine out of the fleet from its side, while its service runs and something is open.
func TestDeregisterByTheAgent(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n := s.Network()
	o := s.Register(n, s.Activate("official"), func(c *assisttest.Config) {
		c.At = func(p assisttest.Point, _ string) assisttest.Action {
			if p == assisttest.BeforeReport || p == assisttest.BeforeMetric {
				return assisttest.Drop
			}
			return assisttest.Proceed
		}
	})
	o.Start()
	s.AwaitChannel(o, "open")
	id := s.Send(testenv.OfficialFile(o))
	testenv.Eventually(t, "taken up", func() bool { return s.Delivery(id).Targets.Items[0].Status == waybill.Running })
	c := callerOf(t, n, o)
	dropped, answer, err := assisttest.Deregister(t.Context(), n, c.id, assisttest.Facts{})
	if err != nil || !dropped {
		t.Fatalf("%v: %s", err, answer.Body)
	}
	golden(t, "deregistered.http", answer)
	await(t, s, id, outcome{"Aborted", "InstanceReleased"})
	if dropped, answer, err := assisttest.Deregister(t.Context(), n, c.id, assisttest.Facts{}); err != nil || !dropped {
		t.Errorf("again: %v: %s", err, answer.Body)
	}
	if a := c.call(http.MethodPost, "/luban/api/v1/task/list?reason=kickoff&currentTime=1", nil, nil); a.Status != http.StatusForbidden {
		t.Errorf("a fetch: %d %s", a.Status, a.Body)
	}
	if status := c.upgrade(s, c.header(nil)); status != http.StatusForbidden {
		t.Errorf("upgrade: %d", status)
	}
	// The service that runs is told, and goes on without an identity.
	testenv.Eventually(t, "the service has forgotten its identity", func() bool { return !o.Snapshot().Registered })
	l, err := s.Client.DescribeManagedInstances(t.Context(), client.InstanceFilter{}, client.Paging{})
	if err != nil || l.Total != 0 {
		t.Errorf("%d machines, %v", l.Total, err)
	}
}

// TestDeregisterByTheServer takes a machine out of the fleet from the other side.
func TestDeregisterByTheServer(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n := s.Network()
	o := s.Register(n, s.Activate("official"))
	o.Start()
	s.AwaitChannel(o, "open")
	c := callerOf(t, n, o)
	if _, err := s.Client.DeregisterManagedInstance(t.Context(), o.ID); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the agent has dropped its identity", func() bool { return !o.Snapshot().Registered })
	if a := c.call(http.MethodGet, "/luban/api/heart-beat?index=1", nil, nil); a.Status != http.StatusForbidden {
		t.Errorf("a heartbeat: %d %s", a.Status, a.Body)
	} else {
		golden(t, "left.http", a)
	}
	s.Stop() // does not wait for the channel of a machine that has left
}

// TestProviderFile runs an agent with a provider file: a token in place of its signature, on the upgrade too.
func TestProviderFile(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	token := func(o *testenv.Official) string {
		t.Helper()
		token, err := s.Client.CreateInstanceToken(t.Context(), o.ID, "")
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	o, other := s.Official(), s.Official()
	use := func(provider http.Header) {
		t.Helper()
		o.Stop()
		s.AwaitChannel(o, "lost")
		o.Change(func(cfg *assisttest.Config) { cfg.Provider = provider })
		o.Start()
		s.AwaitChannel(o, "open")
	}
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	deliver := func() {
		t.Helper()
		r := testenv.OfficialFile(o)
		r.File.Overwrite = true
		await(t, s, s.Send(r), success)
	}
	first := token(o)
	use(bearer(first))
	deliver()

	// Nobody else's: not another machine's, and not this one's after it got another.
	c := callerOf(t, network(t, s, func(*assisttest.NetworkConfig) {}), other)
	if status := c.upgrade(s, bearer(strings.Replace(first, string(o.ID), string(other.ID), 1))); status != http.StatusUnauthorized {
		t.Errorf("token of another machine: upgrade answered %d", status)
	}
	second := token(o)
	s.AwaitChannel(o, "lost")
	if status := c.upgrade(s, bearer(first)); status != http.StatusUnauthorized {
		t.Errorf("token that was replaced: upgrade answered %d", status)
	}
	use(bearer(second))
	deliver()

	// Ended, and the agent signs again.
	if err := s.Client.DeleteInstanceToken(t.Context(), o.ID); err != nil {
		t.Fatal(err)
	}
	s.AwaitChannel(o, "lost")
	use(nil)
	deliver()

	// Deregistered with its token: it is told, and drops its identity.
	use(bearer(token(o)))
	if _, err := s.Client.DeregisterManagedInstance(t.Context(), o.ID); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "identity dropped", func() bool { return !o.Snapshot().Registered })
}

// TestQuietAnswers makes every call that has nothing to do with files.
func TestQuietAnswers(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n := s.Network()
	c := callerOf(t, n, s.Register(n, s.Activate("official")))
	answers := map[string]assisttest.Answer{}
	for name, call := range map[string]struct{ method, target, body string }{
		"beat":             {"GET", "/luban/api/heart-beat?uptime=1&timestamp=1&pid=1&process_uptime=1&index=0&seq_no=0&cold_start=true", ""},
		"metrics":          {"POST", "/luban/api/metrics", `{"eventId":"agent.startup","keywords":"{}"}`},
		"client-report":    {"POST", "/luban/api/v1/exception/client_report", `{"type":"self_kill","info":"mem=66.00MB"}`},
		"update-check":     {"POST", "/luban/api/v1/update/update_check", `{"os":"linux"}`},
		"state":            {"POST", "/luban/api/instance/list_instance_state_configurations", `{"agentName":"x"}`},
		"template":         {"POST", "/luban/api/instance/get_template", `{}`},
		"state-report":     {"POST", "/luban/api/instance/put_instance_state_report", `{}`},
		"inventory":        {"POST", "/luban/api/instance/put_inventory", `{}`},
		"plugins":          {"POST", "/luban/api/v1/plugin/list", `{}`},
		"plugin-status":    {"POST", "/luban/api/v1/plugin/report_status", `{}`},
		"plugin-updates":   {"POST", "/luban/api/v2/plugin/update_check", `{}`},
		"sessions":         {"POST", "/luban/api/v1/session/list?channelId=x", ``},
		"command-report":   {"POST", "/luban/api/v1/task/finish?taskId=t-1&taskType=runcommand", ``},
		"command-running":  {"POST", "/luban/api/v1/task/running?taskId=t-1", ``},
		"report-of-none":   {"POST", "/luban/api/v1/task/finish?taskId=f-none&status=Success&taskType=sendfile&errorcode=0", ``},
		"report-nonsense":  {"POST", "/luban/api/v1/task/invalid?%zz&&=&taskType=sendfile", ``},
		"unknown":          {"POST", "/luban/api/v1/something", ``},
		"unknown-method":   {"GET", "/luban/api/metrics", ``},
		"unknown-uncommon": {"GET", "/luban//api/../heart-beat", ``},
	} {
		for range 2 {
			a := c.call(call.method, call.target, []byte(call.body), nil)
			answers[name] = a
			if a.Status == http.StatusBadRequest || !json.Valid([]byte(a.Body)) {
				t.Errorf("%s: %d %s", name, a.Status, a.Body)
			}
		}
	}
	goldens(t, "quiet.http", answers)
	a := c.call(http.MethodPost, "/luban/api/metrics", bytes.Repeat([]byte("x"), 1<<20), nil)
	if a.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("a long body: %d %s", a.Status, a.Body)
	}
}

// TestPackagedAgentIsContent runs an agent that has everything, and asserts that nothing alarms it.
func TestPackagedAgentIsContent(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	o := s.Official(func(c *assisttest.Config) {
		c.Packaged, c.ColdStart, c.Times.State = true, true, time.Millisecond
	})
	testenv.Eventually(t, "all has been asked", func() bool {
		got := o.Snapshot()
		return got.UpdateChecks > 0 && got.StateQueries > 0 && got.Beats > 1 && len(got.Fetches) > 0
	})
	got := o.Snapshot()
	if got.UpdateWanted || len(got.ClientReports) > 0 || got.Deaf || got.UpdateChecks != 1 {
		t.Errorf("%+v", got)
	}
	if beat := testenv.OfficialTimes().Beat; got.NextBeat < beat*55/60 || got.NextBeat > beat*65/60 {
		t.Errorf("beats every %s", got.NextBeat)
	}
}

// TestBigContents sends more than one answer may hold. The agent would end itself over a larger one.
func TestBigContents(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, func(c *server.Config) { c.Control.Limits.ContentBytes = 512 << 10 })
	o := s.Register(s.Network(), s.Activate("official"))
	content := make([]byte, 300<<10)
	var ids []waybill.DeliveryID
	for i := range 6 {
		r := testenv.OfficialFile(o)
		r.Content, r.File.Name = content, strconv.Itoa(i)
		ids = append(ids, s.Send(r))
	}
	o.Start()
	for _, id := range ids {
		await(t, s, id, success)
	}
	expectRuns(t, o, ids, 1)
	for _, f := range o.Snapshot().Fetches {
		if f.Found > 2 {
			t.Errorf("%d files of 300 KiB in one answer", f.Found)
		}
	}
}

// TestDamagedOnce damages the content of the first answer, on the way or at the agent.
func TestDamagedOnce(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, func(c *server.Config) { c.Assist.Fallback = time.Millisecond })
	n := s.Network()
	o := s.Register(n, s.Activate("official"))
	c := callerOf(t, n, o)
	id := s.Send(testenv.OfficialFile(o))
	metric := []byte(`{"eventId":"agent.task.failed",` +
		`"keywords":"{\"taskid\":\"` + string(id) + `\",\"errormsg\":\"InvalidSignature : x\"}"}`)
	report := "/luban/api/v1/task/invalid?taskId=" + string(id) + "&taskType=sendfile&param=InvalidSignature&value=x"
	for n := range 2 {
		list := c.call(http.MethodPost, fmt.Sprintf("/luban/api/v1/task/list?reason=kickoff&currentTime=%d", n), nil, nil)
		if !strings.Contains(list.Body, string(id)) {
			t.Fatalf("fetch %d: %s", n, list.Body)
		}
		if d := s.Delivery(id); d.Targets.Items[0].Status != waybill.Running {
			t.Errorf("before report %d: %+v", n, d.Targets.Items[0])
		}
		c.call(http.MethodPost, report, nil, nil)
		c.call(http.MethodPost, "/luban/api/metrics", metric, nil)
	}
	await(t, s, id, outcome{"Invalid", "FileContentInvalid"})
}

// TestReportsAreDurable asserts that a report that was answered outlives the server.
func TestReportsAreDurable(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n := s.Network()
	o := s.Register(n, s.Activate("official"))
	c := callerOf(t, n, o)
	id := s.Send(testenv.OfficialFile(o))
	c.call(http.MethodPost, "/luban/api/v1/task/list?reason=startup&currentTime=1", nil, nil)
	s.Restart()
	// The new server knows of the fetch by the store only. What comes back as a file that exists may be the first attempt's.
	c.call(http.MethodPost, "/luban/api/v1/task/list?reason=startup&currentTime=2", nil, nil)
	c.call(http.MethodPost, "/luban/api/v1/task/invalid?taskId="+string(id)+"&taskType=sendfile&param=FileExist&value=x", nil, nil)
	s.Restart()
	if target := await(t, s, id, outcome{"Failed", "FileAlreadyExists"}); !strings.Contains(target.Detail, "more than once") {
		t.Errorf("detail: %s", target.Detail)
	}
}

// TestChannelTaken opens a second channel in the name of a machine: the first one ends, and the second works.
func TestChannelTaken(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n, activation := s.Network(), s.Activate("official")
	o := s.Register(n, activation)
	o.Start()
	s.AwaitChannel(o, "open")
	first := o.Agent
	var cfg assisttest.Config
	o.Change(func(c *assisttest.Config) { cfg = *c })
	twin := assisttest.New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- twin.Run(ctx) }()
	testenv.Eventually(t, "the first is cut off", func() bool { return len(first.Snapshot().ClientReports) > 0 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	testenv.Eventually(t, "the first is back", func() bool { return first.Snapshot().Connected })
	s.AwaitChannel(o, "open")
	await(t, s, s.Send(testenv.OfficialFile(o)), success)
}

// TestManyRequestsOfOneFetch repeats one fetch at the same time: each gets the same.
func TestManyRequestsOfOneFetch(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	n := s.Network()
	o := s.Register(n, s.Activate("official"))
	c := callerOf(t, n, o)
	id := s.Send(testenv.OfficialFile(o))
	var mu sync.Mutex
	bodies := map[string]int{}
	timeouts := regexp.MustCompile(`"timeout":\d+`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			a := c.call(http.MethodPost, "/luban/api/v1/task/list?reason=kickoff&currentTime=1", nil, nil)
			mu.Lock()
			defer mu.Unlock()
			bodies[timeouts.ReplaceAllString(a.Body, "")]++
		})
	}
	wg.Wait()
	if len(bodies) != 1 || !strings.Contains(slices.Collect(maps.Keys(bodies))[0], string(id)) {
		t.Errorf("%v", bodies)
	}
	// Different ones at the same time: one of them gets it.
	second := s.Send(testenv.OfficialFile(o))
	var got atomic.Int32
	for i := range 8 {
		wg.Go(func() {
			a := c.call(http.MethodPost, fmt.Sprintf("/luban/api/v1/task/list?reason=kickoff&currentTime=%d", i+2), nil, nil)
			if strings.Contains(a.Body, string(second)) {
				got.Add(1)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 {
		t.Errorf("%d of 8 fetches got the same delivery", got.Load())
	}
}
