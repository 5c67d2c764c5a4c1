// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/pgtest"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
)

// TestRollingUpgrade puts servers of this version beside and in place of one of the version before, on one database and one
// NATS cluster that the older has begun, while files are sent all the time. Machines stay, with agents of both versions.
// Nothing is refused, and everything succeeds.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	before := previousPrograms(t)
	if before == "" {
		return
	}
	now := buildPrograms(t)
	dir := t.TempDir()
	u := &upgrade{t: t, dir: dir, url: pgtest.Database(t, "", nil)}
	places := []testenv.Place{{Host: "127.0.0.1"}, {Host: "127.0.0.1"}, {Host: "127.0.0.1"}}
	natsDir := filepath.Join(dir, "nats")
	nodes := testenv.NATSNodes(t, natsDir, places...)
	args := []string{"nats-config", "--data-dir", u.data(0), "--database", u.url, "--bind", "127.0.0.1", "--out", natsDir}
	for _, n := range nodes {
		args = append(args, "--node", fmt.Sprintf("%s=%s:%d/%d", n.Name, n.Host, n.Port, n.RoutePort))
	}
	command(t, filepath.Join(before, "waybill"), args...)
	u.nats = testenv.RunNATS(t, natsDir, nodes, places...)
	u.ports = testenv.FreePorts(t, 2)
	u.front = testenv.StartBalancer(t, u.at(0))

	old := u.serve(0, before)
	u.client = u.dial()
	older, newer := u.machine("older", before), u.machine("newer", now)
	sending, stop := context.WithCancel(t.Context())
	sent := make(chan []waybill.DeliveryID, 1)
	go func() { sent <- u.sendAll(sending, newer) }() // the agent of the older is stopped in between

	u.serve(1, now)
	u.front.To(u.at(0), u.at(1))
	u.deliver("beside each other", older, newer)
	u.front.To(u.at(1))
	end(t, old)
	u.deliver("by the newer alone", older, newer)
	u.serve(0, now)
	u.front.To(u.at(0), u.at(1))
	u.deliver("all of them new", older, newer)
	end(t, older.agent)
	u.run(older, now)
	u.deliver("machines too", older, newer)

	stop()
	ids := <-sent
	if len(ids) == 0 {
		t.Error("nothing was sent meanwhile")
	}
	for _, id := range ids {
		u.succeeds("sent meanwhile", id)
	}
}

// previousPrograms builds the commands of the newest tag or, if there is none, of the commit before this one. It returns
// where they are; empty, with a line that says so, if neither is there.
func previousPrograms(t *testing.T) string {
	t.Helper()
	git := func(args ...string) (string, error) {
		cmd := exec.Command("git", append([]string{"-c", "safe.directory=*"}, args...)...)
		cmd.Dir = filepath.Join("..", "..")
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	which, err := git("describe", "--tags", "--abbrev=0", "HEAD~1")
	if err != nil {
		which, err = git("rev-parse", "--verify", "--quiet", "HEAD~1^{commit}")
	}
	if err != nil {
		t.Log("neither a tag nor the commit before this one is here (a shallow clone?), so no upgrade is tried")
		return ""
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "source.tar")
	if _, err := git("archive", "--format=tar", "--output="+archive, which); err != nil {
		t.Fatalf("git archive %s: %v", which, err)
	}
	source, programs := filepath.Join(dir, "source"), filepath.Join(dir, "bin")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "tar", "-x", "-f", archive, "-C", source)
	build := exec.Command("go", "build", "-o", programs+"/", "./cmd/...")
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", which, err, out)
	}
	t.Logf("upgrading from %s", which)
	return programs
}

// command runs a program to its end, which must be good.
func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(name), err, out)
	}
}

// upgrade is servers that are replaced one by one.
type upgrade struct {
	t        *testing.T
	dir, url string
	nats     *testenv.NATS
	ports    []int
	front    *testenv.Balancer
	client   *client.Client
	files    int
}

// upgraded is a machine whose agent is a process.
type upgraded struct {
	id          waybill.InstanceID
	state, root string
	agent       *exec.Cmd
}

func (u *upgrade) data(i int) string { return filepath.Join(u.dir, fmt.Sprint("server-", i)) }
func (u *upgrade) at(i int) string   { return "127.0.0.1:" + strconv.Itoa(u.ports[i]) }

// start starts a program that is killed at the end of the test.
func (u *upgrade) start(name string, args ...string) *exec.Cmd {
	u.t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		}
		if u.t.Failed() {
			u.t.Logf("%s:\n%s", strings.Join(cmd.Args, " "), log.Bytes())
		}
	})
	return cmd
}

// end ends a program in good order.
func end(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
		t.Errorf("%s: %v", filepath.Base(cmd.Path), err)
	}
}

// serve starts the ith server, and returns once it answers.
func (u *upgrade) serve(i int, programs string) *exec.Cmd {
	u.t.Helper()
	cmd := u.start(filepath.Join(programs, "waybill"), "server", "--data-dir", u.data(i), "--database", u.url,
		"--seal-key", filepath.Join(u.data(0), "seal.key"), "--nats", u.nats.URL(), "--nats-creds", u.nats.Creds,
		"--listen", u.at(i), "--admin-listen", "", "--rate-limit", "0", "--operation-rate-limit", "0")
	key := u.key()
	testenv.Eventually(u.t, "server "+strconv.Itoa(i)+" answers", func() bool {
		if key == nil {
			if key = u.key(); key == nil {
				return false
			}
		}
		c, err := client.New(client.Config{
			Endpoint: "https://" + u.at(i), AccessKeyID: key.AccessKeyID, AccessKeySecret: key.AccessKeySecret, Region: testenv.Region, CAFile: key.CA,
		})
		if err != nil {
			return false
		}
		_, err = c.DescribeRegions(u.t.Context())
		return err == nil
	})
	return cmd
}

// key returns the first key, nil before there is one.
func (u *upgrade) key() *server.Credentials {
	b, err := os.ReadFile(filepath.Join(u.data(0), server.CredentialsFile))
	var c server.Credentials
	if err != nil || json.Unmarshal(b, &c) != nil {
		return nil
	}
	return &c
}

// dial returns a client that comes by the front.
func (u *upgrade) dial() *client.Client {
	u.t.Helper()
	key := u.key()
	c, err := client.New(client.Config{
		Endpoint: "https://" + u.front.Addr(), AccessKeyID: key.AccessKeyID, AccessKeySecret: key.AccessKeySecret, Region: testenv.Region, CAFile: key.CA,
	})
	if err != nil {
		u.t.Fatal(err)
	}
	return c
}

// machine enrols a machine by the front, runs its agent, and returns once it is online.
func (u *upgrade) machine(name, programs string) *upgraded {
	u.t.Helper()
	m := &upgraded{state: filepath.Join(u.dir, name, "state"), root: filepath.Join(u.dir, name, "root")}
	if err := os.MkdirAll(m.root, 0o755); err != nil {
		u.t.Fatal(err)
	}
	a, err := u.client.CreateActivation(u.t.Context(), client.CreateActivationRequest{InstanceName: name, InstanceCount: 1})
	if err != nil {
		u.t.Fatal(err)
	}
	command(u.t, filepath.Join(programs, "waybill-agent"), "enroll", "--server", "https://"+u.front.Addr(), "--ca", u.key().CA,
		"--activation-id", string(a.ID), "--activation-code", a.Code, "--state-dir", m.state)
	u.run(m, programs)
	return m
}

// run runs the agent of a machine, and returns once it is online.
func (u *upgrade) run(m *upgraded, programs string) {
	u.t.Helper()
	m.agent = u.start(filepath.Join(programs, "waybill-agent"), "run", "--state-dir", m.state, "--root", m.root)
	var identity struct{ Instance waybill.InstanceID }
	if err := json.Unmarshal(read(u.t, filepath.Join(m.state, "agent.json")), &identity); err != nil {
		u.t.Fatal(err)
	}
	m.id = identity.Instance
	testenv.Eventually(u.t, string(m.id)+" is online", func() bool {
		yes := true
		l, err := u.client.DescribeManagedInstances(u.t.Context(), client.InstanceFilter{IDs: []waybill.InstanceID{m.id}, Connected: &yes}, client.Paging{})
		return err == nil && len(l.Items) == 1
	})
}

func (u *upgrade) file(name string, to ...*upgraded) client.SendFileRequest {
	r := testenv.File()
	r.File.Name, r.ClientToken = name, name
	for _, m := range to {
		r.Instances = append(r.Instances, m.id)
	}
	return r
}

// deliver sends a file to machines, which must succeed.
func (u *upgrade) deliver(when string, to ...*upgraded) {
	u.t.Helper()
	u.files++
	id, err := u.client.SendFile(u.t.Context(), u.file("phase-"+strconv.Itoa(u.files), to...))
	if err != nil {
		u.t.Errorf("%s: %v", when, err)
		return
	}
	u.succeeds(when, id)
}

func (u *upgrade) succeeds(when string, id waybill.DeliveryID) {
	u.t.Helper()
	var d client.Delivery
	testenv.Eventually(u.t, string(id)+" final", func() bool {
		l, err := u.client.DescribeSendFileResults(u.t.Context(), client.DeliveryFilter{ID: id}, client.Paging{})
		if err != nil || len(l.Items) != 1 {
			return false
		}
		d = l.Items[0]
		return d.Status.Final()
	})
	if d.Status != waybill.OverallSuccess {
		u.t.Errorf("%s: %s: %+v", when, id, d.Targets.Items)
	}
}

// sendAll sends files until ctx ends, and returns what was accepted. A call whose connection broke is made again.
func (u *upgrade) sendAll(ctx context.Context, to ...*upgraded) (ids []waybill.DeliveryID) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return ids
		case <-tick.C:
		}
		id, err := u.client.SendFile(ctx, u.file("meanwhile-"+strconv.Itoa(n), to...))
		if no, ok := errors.AsType[*client.Error](err); ok {
			u.t.Errorf("refused: %v", no)
		}
		if err == nil {
			ids, n = append(ids, id), n+1
		}
	}
}
