// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/wire"
)

const quarantineDetail = "two live machines use the identity of this instance (a cloned image?); both were cut off. " +
	"Deregister the instance, then enrol each machine with: waybill-agent enroll --force"

// BeatEvery is how often an agent is asked to send a heartbeat.
const BeatEvery = waybill.SilentAfter / 2

// beatGather is how long heartbeats are gathered before they are written. They tell nothing urgent.
const beatGather = time.Second

// beats holds the last heartbeat of each instance until it is written, so that it never grows beyond the fleet.
type beats struct {
	mu     sync.Mutex
	m      map[waybill.InstanceID]beat
	pulses map[waybill.InstanceID]store.Pulse
	came   chan struct{} // holds one token while some wait
}

type beat struct {
	store.Sighting
	held []waybill.DeliveryID
}

func (b *beats) init() { b.came = make(chan struct{}, 1) }

func (b *beats) add(v beat) {
	b.mu.Lock()
	if b.m == nil {
		b.m = map[waybill.InstanceID]beat{}
	}
	b.m[v.Instance] = v
	b.mu.Unlock()
	b.wake()
}

func (b *beats) addPulse(v store.Pulse) {
	b.mu.Lock()
	if b.pulses == nil {
		b.pulses = map[waybill.InstanceID]store.Pulse{}
	}
	b.pulses[v.Instance] = v
	b.mu.Unlock()
	b.wake()
}

func (b *beats) wake() {
	select {
	case b.came <- struct{}{}:
	default:
	}
}

func (b *beats) take() (map[waybill.InstanceID]beat, []store.Pulse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, pulses := b.m, slices.Collect(maps.Values(b.pulses))
	b.m, b.pulses = nil, nil
	return m, pulses
}

// Hello records that an agent has connected. If another run of the same identity was online a moment ago, all who use
// that identity are asked to answer: an agent that was restarted leaves one answer, a cloned machine two.
func (s *Service) Hello(ctx context.Context, id waybill.InstanceID, session string, facts waybill.Facts) error {
	before, err := s.store.Greet(ctx, id, session, facts)
	if errors.Is(err, store.ErrNotFound) {
		// It enrolled after the backup that this server was restored from: its token is still good.
		return waybill.Errorf(waybill.NotRegistered, "instance %s is not part of the fleet; enrol this machine again with: waybill-agent enroll --force", id)
	}
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if before.Session != "" && before.Session != session && before.Presence == waybill.Online && s.now().Sub(before.At) <= waybill.SilentAfter {
		nonce := s.probes.open(id)
		if err := s.bus.Publish(wire.ToAgent(string(id), wire.OpProbe), wire.Encode(wire.Probe{Nonce: nonce})); err != nil {
			return fmt.Errorf("probe: %w", err)
		}
	}
	if facts.Capability < wire.MinCapability {
		return s.endOpen(ctx, waybill.CauseAgentTooOld, tooOld(&facts), func() ([]store.Target, error) { return s.store.OpenTargets(ctx, id, sweepBatch) })
	}
	if facts.Capability < wire.FetchCapability {
		if err := s.endUncarried(ctx, id, cargo{size: wire.MaxContent + 1}); err != nil {
			return err
		}
	}
	if facts.Capability < wire.RehearseCapability {
		return s.endUncarried(ctx, id, cargo{dryRun: true})
	}
	return nil
}

// endUncarried ends what is open for an instance and of that kind, which its agent cannot carry out.
func (s *Service) endUncarried(ctx context.Context, id waybill.InstanceID, kind cargo) error {
	find := func() ([]store.Target, error) {
		if kind.dryRun {
			return s.store.OpenRehearsals(ctx, id, sweepBatch)
		}
		return s.store.OpenLarge(ctx, id, wire.MaxContent, sweepBatch)
	}
	open, err := find()
	if err != nil || len(open) == 0 {
		return err
	}
	i, err := s.store.Instance(ctx, id)
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	return s.endOpen(ctx, waybill.CauseAgentTooOld, fmt.Sprintf("on %s: %s", i.Name, kind.refusal(&i)), find)
}

// Beat notes a heartbeat, to be written soon. What is open for the instance and not among held is sent again.
func (s *Service) Beat(_ context.Context, id waybill.InstanceID, session string, held []waybill.DeliveryID) error {
	s.beats.add(beat{Sighting: store.Sighting{Instance: id, Session: session, Presence: waybill.Online, At: s.now()}, held: held})
	return nil
}

// Pulse notes a heartbeat that came beside the channel of its agent, to be written soon. nextDial is when the agent
// opens its channel next, should it have none.
func (s *Service) Pulse(id waybill.InstanceID, nextDial time.Time) {
	s.beats.addPulse(store.Pulse{Instance: id, At: s.now(), NextDial: nextDial})
}

// LoseChannels says that the channels of agents of that kind, whose sessions begin with prefix, are no more.
func (s *Service) LoseChannels(ctx context.Context, kind waybill.AgentKind, prefix string) error {
	n, err := s.store.LoseChannels(ctx, kind, prefix)
	if n > 0 {
		s.log.Info("agents without a channel until they dial", "count", n)
	}
	return err
}

// Bye records that an agent leaves, and as what. It returns once that is durable.
func (s *Service) Bye(ctx context.Context, id waybill.InstanceID, session string, as waybill.Presence) error {
	return s.store.Sight(ctx, []store.Sighting{{Instance: id, Session: session, Presence: as, At: s.now()}})
}

func (s *Service) runBeats(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.beats.came:
		}
		pause(ctx, beatGather)
		s.writeBeats(context.WithoutCancel(ctx)) // the last ones too
	}
}

// writeBeats writes the heartbeats that wait, in one transaction, and repeats what their agents lack.
func (s *Service) writeBeats(ctx context.Context) {
	batch, pulses := s.beats.take()
	if err := s.store.Pulses(ctx, pulses); err != nil {
		s.log.Warn("store pulses", "count", len(pulses), "err", err)
	}
	if len(batch) == 0 {
		return
	}
	seen := make([]store.Sighting, 0, len(batch))
	held := make(map[waybill.InstanceID][]waybill.DeliveryID, len(batch))
	for id, b := range batch {
		seen = append(seen, b.Sighting)
		held[id] = b.held
	}
	if err := s.store.Sight(ctx, seen); err != nil {
		s.log.Warn("store heartbeats", "count", len(batch), "err", err)
		return
	}
	missing, err := s.store.Missing(ctx, held)
	if err != nil {
		s.log.Warn("look for what agents lack", "err", err)
		return
	}
	lacking := map[waybill.DeliveryID][]waybill.InstanceID{}
	for _, t := range missing {
		if s.now().Sub(t.Beginning()) > repeatFirst { // younger ones are on their way
			lacking[t.Delivery] = append(lacking[t.Delivery], t.Instance)
		}
	}
	for id, instances := range lacking {
		if err := s.dispatch(ctx, id, instances); err != nil {
			s.log.Warn("repeat delivery", "delivery_id", id, "err", err)
		}
	}
}

// probes holds the questions "who are you?" whose answers are awaited: the last one for each instance, however often its
// agent, or whoever has its key, says hello.
type probes struct {
	mu sync.Mutex
	m  map[waybill.InstanceID]*probe
}

type probe struct {
	nonce   string
	session string // of the first answer
}

// open returns the nonce of a new question. It takes the place of an older one: an agent that has answered that may have
// ended meanwhile, and must not count as alive beside its successor.
func (p *probes) open(id waybill.InstanceID) (nonce string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil {
		p.m = map[waybill.InstanceID]*probe{}
	}
	q := &probe{nonce: rand.Text()}
	p.m[id] = q
	return q.nonce
}

// answer notes an answer and reports whether it proves that two live agents share the identity.
func (p *probes) answer(id waybill.InstanceID, session, nonce string) (cloned bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.m[id]
	if q == nil || q.nonce != nonce {
		return false
	}
	if q.session == "" {
		q.session = session
	}
	if q.session == session {
		return false
	}
	delete(p.m, id)
	return true
}

// Alive takes an answer to a probe. Two different ones prove a clone, and the instance is quarantined: which of the two
// machines was meant, nobody here can know.
func (s *Service) Alive(ctx context.Context, id waybill.InstanceID, session, nonce string) error {
	if !s.probes.answer(id, session, nonce) {
		return nil
	}
	s.log.Warn("two live agents share one identity; quarantined", "instance_id", id)
	i, err := s.store.Instance(ctx, id)
	if err != nil {
		return instanceError(err, id)
	}
	act := s.serverAct(waybill.ServerActor, "", actionQuarantine, i.Account, i.Region, instanceARN(&i))
	return s.leave(ctx, s.store.For(act, nil), i, waybill.Quarantine, waybill.CauseAgentStopped, quarantineDetail)
}
