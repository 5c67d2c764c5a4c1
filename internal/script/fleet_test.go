// SPDX-License-Identifier: Apache-2.0

package script

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/testenv"
)

// least is the shortest timeout in these tests. What machines report must come earlier, however busy this one is.
const least = 5 * time.Second

// troupe is a server with the machines of a script.
type troupe struct {
	*testenv.Server
	t     *testing.T
	fleet *Fleet
}

func play(t *testing.T, text string) *troupe {
	t.Helper()
	parts, err := Parse("script.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	f := NewFleet(parts, slog.New(slog.DiscardHandler))
	s := testenv.Start(t, func(c *server.Config) {
		c.Control.Sending = f.Sending
		c.Control.Limits.MinTimeout = time.Second
	})
	sealer, err := identity.OpenSealer(filepath.Join(s.Dir, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), store.Config{
		URL: "sqlite:" + filepath.Join(s.Dir, "waybill.db"), KeepSchema: true, AuditKey: control.AuditKey(sealer),
	}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	err = f.Start(t.Context(), Config{
		Dir: t.TempDir(), Server: s.Key.Endpoint, CAFile: s.Key.CA, Region: testenv.Region,
		Account: s.Key.AccountID, Key: s.Key.AccessKeyID, Secret: s.Key.AccessKeySecret, Version: "test",
		Operator: &control.Operator{Name: "test", Store: st, Sealer: sealer},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &troupe{s, t, f}
}

// member returns the machine of that name.
func (p *troupe) member(name string) Member {
	p.t.Helper()
	for _, m := range p.fleet.Members() {
		if m.Name == name {
			return m
		}
	}
	p.t.Fatalf("there is no machine %s", name)
	return Member{}
}

// file is a request to place a file of that name on machines. Its owner is nobody's: what succeeds does so anyway.
func (p *troupe) file(name string, machines ...string) client.SendFileRequest {
	p.t.Helper()
	r := client.SendFileRequest{Timeout: least, Content: []byte(name), File: waybill.FileSpec{
		Name: name, TargetDir: "/srv/app", Owner: "nobody-of-that-name", Group: "root",
	}}
	for _, m := range machines {
		r.Instances = append(r.Instances, p.member(m).ID)
	}
	return r
}

// becomes is what becomes of one delivery to one machine.
func (p *troupe) becomes(id waybill.DeliveryID) Outcome {
	p.t.Helper()
	return outcomeOf(p.Await(id).Targets.Items[0])
}

func outcomeOf(t client.Target) Outcome {
	return Outcome{Status: t.Status, Code: t.ErrorCode, Info: t.ErrorInfo}
}

// published returns o as others see it.
func published(o Outcome) Outcome {
	o.cause = ""
	return o
}

// called returns the outcome with that text.
func called(t *testing.T, text string) Outcome {
	t.Helper()
	for _, o := range Outcomes() {
		if o.String() == text {
			return published(o)
		}
	}
	t.Fatalf("there is no outcome %s", text)
	return Outcome{}
}

// TestEveryOutcome has a machine for each outcome, and sends to all of them several times at once.
func TestEveryOutcome(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("instances:\n")
	var names []string
	own := "" // of the machine with an account of its own
	wants := map[string]Outcome{}
	for i, o := range Outcomes() {
		name := fmt.Sprintf("machine-%02d", i)
		value := []string{"outcome: " + o.Name(), "status: " + string(o.Status)}
		if o.Info != "" {
			value = append(value, "info: "+o.Info)
		}
		fmt.Fprintf(&text, "  %s: {%s}\n", name, strings.Join(value, ", "))
		if wants[name] = o; o.cause == waybill.CauseAccountGone {
			own = name
			continue
		}
		names = append(names, name)
	}
	p := play(t, text.String())
	var sent []waybill.DeliveryID
	for i := range 3 {
		r := p.file(fmt.Sprintf("file-%d", i/2), names...) // the second is that of the first
		r.File.Overwrite = i == 2
		sent = append(sent, p.Send(r))
	}
	p.expectGone(own)
	for _, id := range sent {
		d := p.Await(id)
		if d.Status != waybill.OverallPartial || len(d.Targets.Items) != len(names) {
			t.Errorf("%s is %s, with %d targets", id, d.Status, len(d.Targets.Items))
		}
		for _, target := range d.Targets.Items {
			i := slices.IndexFunc(names, func(name string) bool { return p.member(name).ID == target.Instance })
			want := wants[names[i]]
			if got := outcomeOf(target); got != published(want) {
				t.Errorf("%s: got %q %q %q\ndetail: %s", want, got.Status, got.Code, got.Info, target.Detail)
			}
			if target.Finished == "" || (target.Detail == "") != (want.Code == "") {
				t.Errorf("%s: %+v", want, target)
			}
		}
	}
}

// expectGone sends to the machine whose account is disabled while it delivers, with the key of that account.
func (p *troupe) expectGone(name string) {
	p.t.Helper()
	m := p.member(name)
	c, err := client.New(client.Config{
		Endpoint: p.Key.Endpoint, CAFile: p.Key.CA, Region: testenv.Region, AccessKeyID: m.Own.Key, AccessKeySecret: m.Own.Secret,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	for range 2 {
		id, err := c.SendFile(p.t.Context(), p.file("file", name))
		if err != nil {
			p.t.Fatal(err)
		}
		l, err := c.DescribeSendFileResults(p.t.Context(), client.DeliveryFilter{ID: id}, client.Paging{})
		if err != nil || len(l.Items) != 1 {
			p.t.Fatalf("the account is not there any more: %v, %v", l.Items, err)
		}
		if got, want := outcomeOf(l.Items[0].Targets.Items[0]), called(p.t, "AccountNotExists"); got != want {
			p.t.Errorf("%s when SendFile has answered: %+v", name, got)
		}
	}
	// To those of the other account, it does not exist.
	d := p.Await(p.Send(p.file("file", name, "machine-00")))
	for _, target := range d.Targets.Items {
		if target.Instance == m.ID && target.ErrorCode != "InstanceNotExists" {
			p.t.Errorf("seen from the other account: %+v", target)
		}
	}
}

// TestSequence sends one delivery after the other, each when the one before has ended.
func TestSequence(t *testing.T) {
	t.Parallel()
	p := play(t, `instances:
  web-1:
    - {outcome: ClientNotRunning, deliveries: 2}
    - Success
    - FileAlreadyExists
    - ClientNeedUpgrade
    - {outcome: FileCreateFail, status: Error}
    - ClientIsUpgrading
    - InstanceNotRunning
    - DeliveryTimeout
    - ClientNotRunning
    - {outcome: Success, deliveries: 2}
    - InstanceReleased
`)
	for i, want := range []string{
		"ClientNotRunning", "ClientNotRunning", "Success", "FileAlreadyExists", "ClientNeedUpgrade", "FileCreateFail (Error)",
		"ClientIsUpgrading", "InstanceNotRunning", "DeliveryTimeout", "ClientNotRunning", "Success", "Success",
		"InstanceReleased", "InstanceReleased",
	} {
		r := p.file("file", "web-1")
		if o := called(t, want); o.Status == waybill.Timeout || o.Code == "ClientIsUpgrading" {
			r.Timeout = time.Second
		}
		if got := p.becomes(p.Send(r)); got != called(t, want) {
			t.Errorf("delivery %d: %+v, want %s", i+1, got, want)
		}
	}
}

// TestSequenceAtOnce does not wait for the end of a delivery before it sends the next. A machine leaves when it has ended
// what it works on; where only the deadline brings the end, it stays, and so does its step.
func TestSequenceAtOnce(t *testing.T) {
	t.Parallel()
	p := play(t, `instances:
  busy: [{outcome: Success, delay: 500ms}, ClientNotRunning, FileAlreadyExists, Success]
  silent: [ClientNotResponse, ClientNotRunning, Success]
`)
	for name, wants := range map[string][]string{
		"busy":   {"Success", "ClientNotRunning", "FileAlreadyExists", "Success"},
		"silent": {"ClientNotResponse", "ClientNotResponse"},
	} {
		var sent []waybill.DeliveryID
		for range wants {
			sent = append(sent, p.Send(p.file("file", name)))
		}
		for i, want := range wants {
			if got := p.becomes(sent[i]); got != called(t, want) {
				t.Errorf("%s: delivery %d: %+v, want %s", name, i+1, got, want)
			}
		}
	}
	for _, want := range []string{"ClientNotRunning", "Success"} {
		if got := p.becomes(p.Send(p.file("file", "silent"))); got != called(t, want) {
			t.Errorf("later: %+v, want %s", got, want)
		}
	}
}

// TestRefusedSendTakesNoTurn looks that a delivery that comes to nothing does not count.
func TestRefusedSendTakesNoTurn(t *testing.T) {
	t.Parallel()
	p := play(t, "instances: {web-1: [FileAlreadyExists, Success]}")
	to := []waybill.InstanceID{p.member("web-1").ID}
	done, err := p.fleet.Sending(t.Context(), &waybill.Delivery{ID: "f-1", Account: p.Key.AccountID}, to)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.fleet.Sending(ctx, &waybill.Delivery{ID: "f-2", Account: p.Key.AccountID}, to); !errors.Is(err, context.Canceled) {
		t.Errorf("the machine is not taken: %v", err)
	}
	done(false)
	for _, want := range []string{"FileAlreadyExists", "Success"} {
		if got := p.becomes(p.Send(p.file("file", "web-1"))); got != called(t, want) {
			t.Errorf("%+v, want %s", got, want)
		}
	}
}

// TestWaits looks that a delivery is Pending and Running for as long as the script says, at least.
func TestWaits(t *testing.T) {
	t.Parallel()
	const pending, delay = 300 * time.Millisecond, 400 * time.Millisecond
	p := play(t, `instances:
  slow: {outcome: FileNameInvalid, pending: 300ms, delay: 400ms}
  held: {pending: 1m}
  late: {delay: 1m}
`)
	begin := time.Now()
	id := p.Send(p.file("file", "slow"))
	seen := map[waybill.Overall]bool{}
	testenv.Eventually(t, "the end", func() bool {
		status := p.Delivery(id).Status
		seen[status] = true
		if took := time.Since(begin); status != waybill.OverallPending && took < pending || status.Final() && took < pending+delay {
			t.Errorf("%s after %s", status, took)
		}
		return status.Final()
	})
	if got := p.becomes(id); got != called(t, "FileNameInvalid") {
		t.Errorf("in the end: %+v", got)
	}
	if !seen[waybill.OverallPending] {
		t.Errorf("seen: %v", seen)
	}
	for name, want := range map[string]waybill.Overall{"held": waybill.OverallPending, "late": waybill.OverallRunning} {
		r := p.file("file", name)
		r.Timeout = time.Hour
		id := p.Send(r)
		testenv.Eventually(t, string(want), func() bool { return p.Delivery(id).Status == want })
	}
	r := p.file("other", "late")
	r.Timeout = time.Second
	if got := p.becomes(p.Send(r)); got != called(t, "DeliveryTimeout") {
		t.Errorf("beyond the deadline: %+v", got)
	}
}

// TestFlapping sends to a machine that loses its link until one delivery had to wait for it. All arrive.
func TestFlapping(t *testing.T) {
	t.Parallel()
	p := play(t, "instances: {web-1: {flapping: {up: 1s, down: 800ms}}}")
	testenv.Eventually(t, "a delivery while the link is down", func() bool {
		p.fleet.mu.Lock()
		m := p.fleet.machines[0]
		p.fleet.mu.Unlock()
		down := m.link.isDown()
		r := p.file("file", "web-1")
		r.Timeout = time.Minute
		if got := p.becomes(p.Send(r)); got != called(t, "Success") {
			t.Fatalf("%+v", got)
		}
		return down
	})
}

// TestSuccessIsPlaced looks that a file is on disk whatever was there before.
func TestSuccessIsPlaced(t *testing.T) {
	t.Parallel()
	p := play(t, "instances: {web-1: Success}")
	root := p.member("web-1").Root
	place := func(dir, name, content string) {
		t.Helper()
		r := p.file(name, "web-1")
		r.File.TargetDir, r.Content = dir, []byte(content)
		if d := p.Await(p.Send(r)); d.Status != waybill.OverallSuccess {
			t.Fatalf("%s/%s: %+v", dir, name, d.Targets.Items)
		}
		if b, err := os.ReadFile(filepath.Join(root, dir, name)); err != nil || string(b) != content {
			t.Errorf("%s/%s: %q, %v", dir, name, b, err)
		}
	}
	place("/a/b", "c", "first")
	place("/a/b", "c", "again")
	place("/a", "b", "a file where a directory was")
	place("/a/b/c", "d", "and a directory again")
	place("/", "e", "in the root")
}
