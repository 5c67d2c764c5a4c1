// SPDX-License-Identifier: Apache-2.0

package assist

import (
	"context"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// Where several servers share a database, an agent has its channel with one of them, and its calls come to any. What each
// learns it tells the others, so that nobody kicks the agent for what it has fetched elsewhere, or hands it out twice.
// Notes are hints: one that is lost costs a kick in vain, or a file that is written twice.

// note tells the other servers of a machine.
func (s *Server) note(id waybill.InstanceID, n wire.Note) {
	if !s.cfg.Shared {
		return
	}
	n.From, n.At = s.cfg.Node, s.service.Now().UnixMilli()
	if err := s.bus.Publish(wire.ToAgent(string(id), wire.OpNote), wire.Encode(n)); err != nil {
		s.warnings.Log(s.log, "other servers are not told of a machine", "instance_id", id, "err", err)
	}
}

// heed begins to listen to the notes of other servers.
func (s *Server) heed() (stop func(), err error) {
	if !s.cfg.Shared {
		return func() {}, nil
	}
	return s.bus.Serve(wire.AllToAgents(wire.OpNote), "", func(subject, _ string, data []byte) {
		var n wire.Note
		id, ok := wire.AgentOf(subject)
		if err := wire.Decode(data, &n); err != nil || !ok {
			s.warnings.Log(s.log, "note of another server not understood", "subject", subject, "err", err)
			return
		}
		switch {
		case n.From == s.cfg.Node:
		case n.Request != "":
			s.used.learn(id+" "+n.Request, n.Target)
		default:
			s.machine(waybill.InstanceID(id)).learn(&n)
		}
	})
}

// learn takes what another server tells of the machine.
func (m *machine) learn(n *wire.Note) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := time.UnixMilli(n.At)
	// The agent has gone there, unless it has come here since.
	if c := m.channel; n.Session != "" && c != nil && c.session != n.Session && at.After(c.opened) {
		close(c.gone)
		m.channel = nil
	}
	if n.Restarted {
		for _, t := range m.tasks {
			t.stale = !t.handed.IsZero()
		}
	}
	for _, g := range n.Given {
		id := waybill.DeliveryID(g.Delivery)
		if _, over := m.over[id]; over {
			continue
		}
		t := m.tasks[id]
		if t == nil {
			t = &task{deadline: time.UnixMilli(g.Deadline)}
			m.tasks[id] = t
		}
		if n.Fetch == "" || t.fetch != n.Fetch {
			t.offers++
		}
		t.handed, t.fetch, t.stale = at, n.Fetch, false
	}
	for _, d := range n.Ended {
		m.over[waybill.DeliveryID(d)] = at // what tells of it being open, or given, may come later
		delete(m.tasks, waybill.DeliveryID(d))
	}
	if n.Fetched {
		m.kicked = time.Time{}
	}
	m.wakeLocked()
}

// Greet says hello again for every channel that is open here: the other servers had taken this one for dead, and its
// channels for gone.
func (s *Server) Greet(ctx context.Context) {
	s.mu.Lock()
	all := make([]*machine, 0, len(s.machines))
	for _, m := range s.machines {
		all = append(all, m)
	}
	s.mu.Unlock()
	for _, m := range all {
		m.mu.Lock()
		c := m.channel
		m.mu.Unlock()
		if c == nil {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if err := s.service.Hello(ctx, m.id, c.session, *c.facts); err != nil {
			s.log.Warn("greet official agent again", "instance_id", m.id, "err", err)
		}
	}
}
