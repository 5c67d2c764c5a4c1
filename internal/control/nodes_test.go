// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/wire"
)

// nodeFixture is server a of several, which looks after b.
type nodeFixture struct {
	*fixture
	b     store.Node
	watch watch
	time  time.Time // as a's watch sees it
}

func newNodeFixture(t *testing.T) *nodeFixture {
	t.Helper()
	f := &nodeFixture{fixture: newFixture(t), b: store.Node{Name: "b", Run: "rb"}, time: time.Now()}
	f.chores.alone = false
	f.node = store.Node{Name: "a", Run: "ra"}
	f.watch.now = func() time.Time { return f.time }
	f.beat(true)
	f.look()
	return f
}

// beat is a sign of life of b, which says whether it is new.
func (f *nodeFixture) beat(want bool) {
	f.t.Helper()
	if joined, err := f.store.BeatNode(f.t.Context(), f.b); err != nil || joined != want {
		f.t.Fatalf("b joined: %t, %v", joined, err)
	}
}

func (f *nodeFixture) look() {
	f.t.Helper()
	if _, err := f.takePart(f.t.Context(), &f.watch); err != nil {
		f.t.Fatal(err)
	}
}

// pass lets time pass until b would be taken for dead, with a call of each each second.
func (f *nodeFixture) pass(each func()) {
	for range nodeSilent / nodeBeat {
		f.time = f.time.Add(nodeBeat)
		each()
	}
}

func (f *nodeFixture) there() bool {
	f.t.Helper()
	nodes, err := f.store.Nodes(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return slices.ContainsFunc(nodes, func(n store.Node) bool { return n.Name == f.b.Name })
}

func TestSilentServerIsBuried(t *testing.T) {
	t.Parallel()
	f := newNodeFixture(t)
	f.pass(f.look)
	if f.there() {
		t.Error("b is still there")
	}
	f.beat(true)
}

// TestOutageBuriesNobody looks that a server does not count against another the time in which the database was away.
func TestOutageBuriesNobody(t *testing.T) {
	t.Parallel()
	f := newNodeFixture(t)
	away, cancel := context.WithCancel(t.Context())
	cancel()
	f.pass(func() {
		if _, err := f.takePart(away, &f.watch); err == nil {
			t.Fatal("no error")
		}
	})
	f.look()
	f.beat(false)
}

// TestStandstillBuriesNobody looks that a server that was suspended does not count that time against another.
func TestStandstillBuriesNobody(t *testing.T) {
	t.Parallel()
	f := newNodeFixture(t)
	f.pass(func() {})
	f.look()
	if !f.there() {
		t.Fatal("b was buried")
	}
	f.pass(f.look)
	if f.there() {
		t.Error("b is never taken for dead again")
	}
}

// TestBuriedOnce looks that a server that was buried, and lives, loses no channel once it is there again: not even if the
// one that buried it had lost the chores meanwhile.
func TestBuriedOnce(t *testing.T) {
	t.Parallel()
	f := newNodeFixture(t)
	created, err := f.CreateActivation(t.Context(), f.act(), waybill.Activation{Region: region})
	if err != nil {
		t.Fatal(err)
	}
	i, err := f.Enroll(t.Context(), EnrollRequest{
		Activation: created.ID, Code: created.Code, Agent: waybill.OfficialAgent, PublicKey: f.publicKey(),
		From: netip.MustParseAddr("192.0.2.1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	hello := func() {
		t.Helper()
		if err := f.Hello(t.Context(), i.ID, "b/channel", waybill.Facts{Capability: wire.Capability}); err != nil {
			t.Fatal(err)
		}
	}
	presence := func(want waybill.Presence) {
		t.Helper()
		if i, err := f.store.Instance(t.Context(), i.ID); err != nil || i.Presence != want {
			t.Errorf("the machine is %s, not %s, %v", i.Presence, want, err)
		}
	}
	hello()
	f.pass(f.look)
	presence(waybill.NoChannel)
	f.beat(true)
	hello()
	if err := f.store.Release(t.Context(), choresLease, f.node.Run); err != nil {
		t.Fatal(err)
	}
	if held, err := f.store.Claim(t.Context(), choresLease, "rc", choresFor); err != nil || !held {
		t.Fatal(held, err)
	}
	f.look()
	if err := f.store.Release(t.Context(), choresLease, "rc"); err != nil {
		t.Fatal(err)
	}
	f.look()
	presence(waybill.Online)
}
