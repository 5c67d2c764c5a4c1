// SPDX-License-Identifier: Apache-2.0

package assist

import (
	"sync"
	"time"

	"github.com/openwaybill/waybill"
)

// machine is what this server knows of one instance beyond the store: what it was told and given, and when. All of it
// may be lost: what is open is in the store, and a channel that opens anew starts from there.
type machine struct {
	id waybill.InstanceID

	mu      sync.Mutex
	channel *channel // nil: none on this server
	tasks   map[waybill.DeliveryID]*task
	over    map[waybill.DeliveryID]time.Time // reported, and when
	kicked  time.Time                        // the kick that no fetch has followed yet; zero: none
	touched time.Time                        // when a call had it in its hands last

	upgrading bool      // it has rejected the last message: it is busy replacing itself
	quiet     time.Time // then not to be told anything before
}

// task is a delivery that is open for the machine.
type task struct {
	deadline time.Time
	kicked   time.Time // for it, last; zero: never, or it is as if never
	handed   time.Time // last; zero: never
	fetch    string    // to which fetch
	offers   int       // to different fetches
	stale    bool      // since it was handed out, the agent has started anew
	news     bool      // whether it is the first time, the store has not said yet
	before   bool      // it was handed out before this server knew of it
	damaged  bool      // its content arrived damaged once
}

// offered reports whether an earlier attempt may have been carried out, so that a file that is there may be its work.
func (t *task) offered() bool { return t.offers > 1 || t.before }

func newMachine(id waybill.InstanceID) *machine {
	return &machine{id: id, tasks: make(map[waybill.DeliveryID]*task), over: make(map[waybill.DeliveryID]time.Time)}
}

// expect notes that a delivery is open, and wakes the channel if it is new.
func (m *machine) expect(id waybill.DeliveryID, deadline time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, over := m.over[id]; m.tasks[id] == nil && !over {
		m.tasks[id] = &task{deadline: deadline}
		m.wakeLocked()
	}
}

func (m *machine) wakeLocked() {
	if m.channel != nil {
		m.channel.wake()
	}
}

// ended notes that a delivery is open no more. What was handed out is remembered for a while: a fetch that looked into the
// store before that, and gets here after it, must not be given it.
func (m *machine) ended(id waybill.DeliveryID, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.tasks[id]; t != nil && !t.handed.IsZero() {
		m.over[id] = now
	}
	delete(m.tasks, id)
	m.wakeLocked()
}

// held returns what the machine has been given and not reported.
func (m *machine) held() []waybill.DeliveryID {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := make([]waybill.DeliveryID, 0, len(m.tasks))
	for id := range m.tasks {
		ids = append(ids, id)
	}
	return ids
}

// inHands is longer than any call has a machine, or what it has read of it, in its hands.
const inHands = 5 * time.Minute

func (m *machine) touch(now time.Time) {
	m.mu.Lock()
	m.touched = now
	m.mu.Unlock()
}

// idle reports whether there is no channel, nothing that is not over, and no call that could be at it.
func (m *machine) idle(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropLocked(now)
	return m.channel == nil && len(m.tasks) == 0 && len(m.over) == 0 && now.Sub(m.touched) > inHands
}

// dropLocked forgets what is past its deadline.
func (m *machine) dropLocked(now time.Time) {
	for id, t := range m.tasks {
		if now.After(t.deadline) {
			delete(m.tasks, id)
		}
	}
	for id, at := range m.over {
		if now.Sub(at) > inHands {
			delete(m.over, id)
		}
	}
}

// fetching notes that the agent has come for something: the kick has done its work, and another may follow. Not at once
// for what it was for, though, which may not have been handed out: an error would go round and round.
func (m *machine) fetching() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kicked = time.Time{}
	m.wakeLocked()
}

// more notes that a fetch was not given all that there is, so that a kick for the rest follows at once.
func (m *machine) more() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unkickLocked()
}

func (m *machine) unkickLocked() {
	m.kicked = time.Time{}
	for _, t := range m.tasks {
		t.kicked = time.Time{}
	}
}

// restarted notes that the agent's process is a new one, which knows nothing of what an earlier one was given.
func (m *machine) restarted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.tasks {
		t.stale = !t.handed.IsZero()
	}
}

// claim takes a delivery for a fetch, and reports whether it may be handed out. What another fetch was given a moment ago
// is not given again: the agent would carry it out twice. But the first fetch of a process gets what an earlier one had.
func (m *machine) claim(id waybill.DeliveryID, deadline time.Time, f fetch, now time.Time, patience time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, over := m.over[id]; over {
		return false
	}
	t := m.tasks[id]
	if t == nil {
		t = &task{deadline: deadline}
		m.tasks[id] = t
	}
	again := !t.handed.IsZero() && f.id != "" && t.fetch == f.id
	if !again {
		if !t.handed.IsZero() && now.Sub(t.handed) < patience && !(f.startup && t.stale) {
			return false
		}
		t.offers++
		t.news = true
	}
	t.handed, t.fetch, t.stale = now, f.id, false
	return true
}

// hand notes that a claimed delivery is handed out. first says that it never was before, as the store knows.
func (m *machine) hand(id waybill.DeliveryID, first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.tasks[id]; t != nil && t.news {
		t.before = t.before || t.offers == 1 && !first
		t.news = false
	}
}

// drop gives back what was claimed and is not handed out.
func (m *machine) drop(ids []waybill.DeliveryID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		if t := m.tasks[id]; t != nil && t.news {
			t.handed, t.fetch, t.news = time.Time{}, "", false
			t.offers--
		}
	}
	m.wakeLocked()
}

// damagedOnce reports whether the content of a delivery has arrived damaged for the first time. Then it may be fetched
// again at once.
func (m *machine) damagedOnce(id waybill.DeliveryID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tasks[id]
	if t == nil || t.damaged {
		return false
	}
	t.damaged, t.handed, t.fetch, t.kicked = true, time.Time{}, "", time.Time{}
	m.wakeLocked()
	return true
}

// ambiguous reports whether a file that is there already may be the work of an earlier attempt at the same delivery.
func (m *machine) ambiguous(id waybill.DeliveryID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tasks[id]
	return t != nil && t.offered()
}

// hush notes that the agent is busy replacing itself, and keeps it from being told anything for a while. It reports
// whether that is new.
func (m *machine) hush(until time.Time) (first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first = !m.upgrading
	m.upgrading, m.quiet = true, until
	m.unkickLocked()
	return first
}

// calm notes that the agent listens, and reports whether that is new.
func (m *machine) calm() (first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first = m.upgrading
	m.upgrading, m.quiet = false, time.Time{}
	return first
}

// next returns what to tell the agent now, or how long to wait before asking again; a negative wait means until woken.
// There is at most one kick that no fetch has followed.
func (m *machine) next(now time.Time, cfg *Config) (message string, wait time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropLocked(now)
	var due []waybill.DeliveryID
	soonest := time.Duration(-1)
	sooner := func(d time.Duration) {
		if d = max(d, time.Millisecond); soonest < 0 || d < soonest {
			soonest = d
		}
	}
	for id, t := range m.tasks {
		switch since := now.Sub(t.handed); {
		case !t.handed.IsZero() && since < cfg.Again:
			sooner(cfg.Again - since)
		case !t.kicked.IsZero() && now.Sub(t.kicked) < cfg.Patience:
			sooner(cfg.Patience - now.Sub(t.kicked))
		default:
			due = append(due, id)
		}
	}
	if left := m.quiet.Sub(now); m.upgrading && left > 0 {
		sooner(left)
		return "", soonest
	}
	if len(due) == 0 {
		if m.upgrading { // there is no other way to learn that it is not any more
			m.quiet = now.Add(cfg.Patience)
			return "kick_vm noop", 0
		}
		return "", soonest
	}
	if left := cfg.Patience - now.Sub(m.kicked); !m.kicked.IsZero() && left > 0 {
		sooner(left)
		return "", soonest
	}
	m.kicked = now
	for _, id := range due {
		m.tasks[id].kicked = now
	}
	// Never less than three words that name a thing: "kick_vm file" would deafen the agent for ever.
	if len(due) == 1 {
		return "kick_vm file create " + string(due[0]), 0
	}
	return "kick_vm", 0
}

// session returns the session of the channel that is open here.
func (m *machine) session() (name string, open bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.channel == nil {
		return "", false
	}
	return m.channel.session, true
}
