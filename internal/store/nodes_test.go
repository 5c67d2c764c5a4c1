// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"

	"github.com/openwaybill/waybill"
)

func TestBuryNode(t *testing.T) { onEach(t, testBuryNode) }

func testBuryNode(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	f.enrol("m0")
	f.sql(`UPDATE instances SET agent_kind = ?`, waybill.OfficialAgent)
	if _, err := f.Greet(t.Context(), "m0", "b/1", waybill.Facts{}); err != nil {
		t.Fatal(err)
	}
	n := Node{Name: "b", Run: "rb"}
	beat := func(want bool) {
		t.Helper()
		if joined, err := f.BeatNode(t.Context(), n); err != nil || joined != want {
			t.Fatalf("joined: %t, %v", joined, err)
		}
	}
	bury := func(n Node, want bool, presence waybill.Presence) {
		t.Helper()
		removed, lost, err := f.BuryNode(t.Context(), n, waybill.OfficialAgent, "b/")
		if err != nil || removed != want || (lost == 1) != want {
			t.Errorf("%+v: removed %t, %d lost, %v", n, removed, lost, err)
		}
		if i, err := f.Instance(t.Context(), "m0"); err != nil || i.Presence != presence {
			t.Errorf("%+v: %s, %v", n, i.Presence, err)
		}
	}
	beat(true)
	nodes, err := f.Nodes(t.Context())
	if err != nil || len(nodes) != 1 {
		t.Fatalf("%+v, %v", nodes, err)
	}
	beat(false)
	bury(nodes[0], false, waybill.Online) // it has given a sign of life
	nodes, err = f.Nodes(t.Context())
	if err != nil || len(nodes) != 1 {
		t.Fatalf("%+v, %v", nodes, err)
	}
	f.sql(`UPDATE servers SET run = 'another'`)
	bury(nodes[0], false, waybill.Online) // it has started anew
	f.sql(`UPDATE servers SET run = 'rb'`)
	bury(nodes[0], true, waybill.NoChannel)
	bury(nodes[0], false, waybill.NoChannel)
	beat(true)
}
