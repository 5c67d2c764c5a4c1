// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

// TestMessagesInterferedWith loses, repeats and delays each kind of message once. Every delivery is carried out once.
func TestMessagesInterferedWith(t *testing.T) {
	t.Parallel()
	late := 30 * time.Millisecond
	for name, fate := range map[string]Fate{"lost": nil, "twice": {0, late}, "late": {late}} {
		for _, op := range []string{
			wire.OpHello, wire.OpPull, wire.OpAck, wire.OpReport, wire.OpDeliver, OpAnswer, OpConfirm,
		} {
			t.Run(op+" "+name, func(t *testing.T) {
				t.Parallel()
				s := newScripted(t)
				s.beat = minBeat
				var met, placed atomic.Int32
				a := startAgent(s, func(c *Config) {
					c.Hooks.Message = func(m Message) Fate {
						if m.Op == op && met.Add(1) == 1 {
							return fate
						}
						return AsItIs
					}
					c.Hooks.Trace = func(event, _ string) {
						if event == string(place.StepPublish) {
							placed.Add(1)
						}
					}
				})
				await[wire.Hello](s, wire.OpHello, 1)
				d := s.deliverTo("f-1", "/", "x", "content")
				s.hold(d)
				s.push(a.instance, wire.OpDeliver, wire.Encode(d))
				awaitThat(s, wire.OpReport, func(rs []wire.Report) bool { return len(rs) > 0 && rs[0].Cause == "" })
				awaitThat(s, wire.OpBeat, func(bs []wire.Beat) bool { return len(bs) > 0 && len(bs[len(bs)-1].Open) == 0 })
				if placed.Load() != 1 || met.Load() == 0 {
					t.Errorf("placed %d times, met %d times", placed.Load(), met.Load())
				}
			})
		}
	}
}

// TestFault breaks steps of placing.
func TestFault(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	a := startAgent(s, func(c *Config) {
		c.Hooks.Fault = func(step place.Step, delivery string) error {
			switch {
			case step == place.StepWrite && delivery == "f-1":
				return syscall.ENOSPC
			case step == place.StepResolve && delivery == "f-2":
				return &place.Error{Reason: place.OwnerMissing, Err: syscall.ENOENT}
			case step == place.StepVerify && delivery == "f-3":
				panic("as planned")
			}
			return nil
		}
	})
	await[wire.Pull](s, wire.OpPull, 1)
	for id, want := range map[string]waybill.Cause{
		"f-1": waybill.CauseWriteFailed, "f-2": waybill.CauseOwnerMissing, "f-3": waybill.CauseAgentBroke, "f-4": waybill.NoCause,
	} {
		s.send(a.instance, s.deliverTo(id, "/", id, "content"))
		awaitThat(s, wire.OpReport, func(rs []wire.Report) bool {
			for _, r := range rs {
				if r.Delivery == id && r.Cause != string(want) {
					t.Fatalf("%s ended as %q, want %q: %s", id, r.Cause, want, r.Detail)
				}
			}
			return len(rs) > 0 && rs[len(rs)-1].Delivery == id
		})
	}
}

// TestDeliverHook changes one delivery as it arrives, and keeps another from the agent, pushed or pulled.
func TestDeliverHook(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	kept, changed := s.deliverTo("f-1", "/", "x", "content"), s.deliverTo("f-2", "/", "y", "content")
	s.hold(kept)
	s.hold(changed)
	a := startAgent(s, func(c *Config) {
		c.Hooks.Deliver = func(d *wire.Deliver) bool {
			d.Name += ".new"
			return d.Delivery != "f-1"
		}
	})
	s.send(a.instance, kept)
	reports := awaitThat(s, wire.OpReport, func(rs []wire.Report) bool { return len(rs) > 0 })
	if r := reports[0]; r.Delivery != "f-2" || r.Cause != "" {
		t.Errorf("reported: %+v", r)
	}
	entries, err := os.ReadDir(a.root)
	if err != nil || len(entries) != 1 || entries[0].Name() != "y.new" {
		t.Errorf("placed: %v, %v", entries, err)
	}
}

// TestDialHook makes the agent's connections by other means, and tells an older capability.
func TestDialHook(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	var dials atomic.Int32
	startAgent(s, func(c *Config) {
		c.Hooks.Capability = 7
		c.Hooks.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	})
	if hello := await[wire.Hello](s, wire.OpHello, 1)[0]; hello.Capability != 7 || dials.Load() == 0 {
		t.Errorf("%d dials, capability %d", dials.Load(), hello.Capability)
	}
}
