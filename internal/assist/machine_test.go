// SPDX-License-Identifier: Apache-2.0

package assist

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"pgregory.net/rapid"
)

// times are what the steps of these tests are counted from and with.
var (
	start  = time.Unix(1_795_434_318, 0)
	config = Config{Patience: 10 * time.Second, Again: 20 * time.Second}
)

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

// connected returns a machine with a channel.
func connected() *machine {
	m := newMachine("mi-1")
	m.open(&channel{woken: make(chan struct{}, 1), gone: make(chan struct{})})
	return m
}

func (m *machine) woken() bool {
	select {
	case <-m.channel.woken:
		return true
	default:
		return false
	}
}

// expectNext asserts what the agent is told in that second, and in how many it is to be asked again if that is nothing.
func (m *machine) expectNext(t *testing.T, second int, message string, wait int) {
	t.Helper()
	got, in := m.next(at(second), &config)
	if want := time.Duration(wait) * time.Second; got != message || message == "" && in != want && !(wait < 0 && in < 0) {
		t.Errorf("in second %d: %q, again in %s; want %q, %s", second, got, in, message, want)
	}
}

// take claims a delivery in that second and notes that it is handed out.
func (m *machine) take(t *testing.T, second int, id waybill.DeliveryID, f fetch, want bool) {
	t.Helper()
	got := m.claim(id, at(1000), f, at(second), config.Patience)
	if got != want {
		t.Errorf("in second %d, %s is given to %+v: %t", second, id, f, got)
	}
	if got {
		m.hand(id, m.tasks[id].offers == 1)
	}
}

func kickoff(id string) fetch { return fetch{id: id} }

func TestKicks(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(*testing.T, *machine){
		"nothing to tell": func(t *testing.T, m *machine) {
			m.expectNext(t, 0, "", -1)
		},
		"one is named": func(t *testing.T, m *machine) {
			m.expect("f-1", at(60))
			m.expectNext(t, 0, "kick_vm file create f-1", 0)
		},
		"several are not": func(t *testing.T, m *machine) {
			m.expect("f-1", at(60))
			m.expect("f-2", at(60))
			m.expectNext(t, 0, "kick_vm", 0)
		},
		"no second kick before a fetch": func(t *testing.T, m *machine) {
			m.expect("f-1", at(60))
			m.expectNext(t, 0, "kick_vm file create f-1", 0)
			m.expect("f-2", at(60))
			m.expectNext(t, 4, "", 6)
			m.expectNext(t, 10, "kick_vm", 0)
		},
		"the next at once after a fetch": func(t *testing.T, m *machine) {
			m.expect("f-1", at(60))
			m.expectNext(t, 0, "kick_vm file create f-1", 0)
			m.expect("f-2", at(60))
			m.take(t, 1, "f-1", kickoff("a"), true)
			m.woken()
			m.fetching()
			if !m.woken() {
				t.Error("not woken by a fetch")
			}
			m.expectNext(t, 1, "kick_vm file create f-2", 0)
		},
		"what was handed out is kicked for again, once it is overdue": func(t *testing.T, m *machine) {
			m.expect("f-1", at(60))
			m.expectNext(t, 0, "kick_vm file create f-1", 0)
			m.take(t, 1, "f-1", kickoff("a"), true)
			m.fetching()
			m.expectNext(t, 1, "", 20)
			m.expectNext(t, 20, "", 1)
			m.expectNext(t, 21, "kick_vm file create f-1", 0)
		},
		"what is past its deadline is not": func(t *testing.T, m *machine) {
			m.expect("f-1", at(60))
			m.expectNext(t, 61, "", -1)
			if len(m.held()) != 0 {
				t.Error("still held")
			}
		},
		"nor what has ended": func(t *testing.T, m *machine) {
			m.expect("f-1", at(60))
			m.ended("f-1", at(0))
			m.expectNext(t, 0, "", -1)
		},
		"what is known wakes nobody": func(t *testing.T, m *machine) {
			m.woken()
			m.expect("f-1", at(60))
			if !m.woken() {
				t.Error("not woken by a delivery")
			}
			m.expect("f-1", at(60))
			if m.woken() {
				t.Error("woken by a repetition")
			}
		},
		"an upgrading agent is left alone, and asked now and then": func(t *testing.T, m *machine) {
			m.expect("f-1", at(60))
			m.expectNext(t, 0, "kick_vm file create f-1", 0)
			if !m.hush(at(10)) || m.hush(at(10)) {
				t.Error("hush does not tell what is new")
			}
			m.expectNext(t, 1, "", 9)
			m.expectNext(t, 10, "kick_vm file create f-1", 0)
			m.hush(at(20))
			m.ended("f-1", at(0))
			m.expectNext(t, 15, "", 5)
			m.expectNext(t, 20, "kick_vm noop", 0)
			m.expectNext(t, 21, "", 9)
			if !m.calm() || m.calm() {
				t.Error("calm does not tell what is new")
			}
			m.expectNext(t, 30, "", -1)
		},
		"a new channel starts anew": func(t *testing.T, m *machine) {
			m.expect("f-1", at(60))
			m.expectNext(t, 0, "kick_vm file create f-1", 0)
			old := m.channel
			m.open(&channel{woken: make(chan struct{}, 1), gone: make(chan struct{})})
			select {
			case <-old.gone:
			default:
				t.Error("the older channel stays")
			}
			m.expectNext(t, 1, "kick_vm file create f-1", 0)
		},
		"nothing after leaving": func(t *testing.T, m *machine) {
			m.expect("f-1", at(60))
			c := m.channel
			m.release()
			if !c.leave || m.channel != nil {
				t.Error("the channel was not released")
			}
			m.release() // comes twice if both sides deregister
			m.expectNext(t, 0, "", -1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, connected())
		})
	}
}

func TestHandingOut(t *testing.T) {
	t.Parallel()
	first := fetch{id: "startup", startup: true}
	for name, run := range map[string]func(*testing.T, *machine){
		"repetitions of a fetch get the same": func(t *testing.T, m *machine) {
			for second := range 8 {
				m.take(t, second, "f-1", kickoff("a"), true)
			}
			if m.ambiguous("f-1") {
				t.Error("counts as handed out more than once")
			}
		},
		"another fetch does not, until patience is over": func(t *testing.T, m *machine) {
			m.take(t, 0, "f-1", kickoff("a"), true)
			m.take(t, 0, "f-1", kickoff("b"), false)
			m.take(t, 9, "f-1", kickoff("b"), false)
			m.take(t, 9, "f-2", kickoff("b"), true)
			m.take(t, 10, "f-1", kickoff("c"), true)
			if !m.ambiguous("f-1") || m.ambiguous("f-2") {
				t.Error("ambiguous is wrong")
			}
		},
		"a fetch without time is none that comes again": func(t *testing.T, m *machine) {
			m.take(t, 0, "f-1", kickoff(""), true)
			m.take(t, 0, "f-1", kickoff(""), false)
		},
		"the first fetch of a process does not get what another of it has": func(t *testing.T, m *machine) {
			m.restarted()
			m.take(t, 0, "f-1", kickoff("a"), true)
			m.take(t, 0, "f-1", first, false)
		},
		"it gets what an earlier process had": func(t *testing.T, m *machine) {
			m.take(t, 0, "f-1", kickoff("a"), true)
			m.restarted()
			m.take(t, 1, "f-1", kickoff("b"), false)
			m.take(t, 1, "f-1", first, true)
			m.take(t, 1, "f-1", kickoff("c"), false)
			if !m.ambiguous("f-1") {
				t.Error("not ambiguous")
			}
		},
		"a claim counts before it is handed out": func(t *testing.T, m *machine) {
			first := m.claim("f-1", at(60), kickoff("a"), at(0), config.Patience)
			if !first || m.claim("f-1", at(60), kickoff("b"), at(0), config.Patience) {
				t.Error("two fetches at once get the same")
			}
			m.woken()
			m.drop([]waybill.DeliveryID{"f-1"})
			if !m.woken() {
				t.Error("not woken by what is to be fetched again")
			}
			m.take(t, 0, "f-1", kickoff("b"), true)
			if m.ambiguous("f-1") {
				t.Error("what was dropped counts")
			}
		},
		"what was reported is not given to a fetch that read of it before": func(t *testing.T, m *machine) {
			m.take(t, 0, "f-1", kickoff("a"), true)
			m.ended("f-1", at(1))
			m.take(t, 1, "f-1", kickoff("b"), false)
			m.expect("f-1", at(1000))
			m.expectNext(t, 1, "", -1)
			if m.next(at(1000), &config); len(m.over) != 0 {
				t.Error("remembered for ever")
			}
		},
		"an earlier server has handed it out": func(t *testing.T, m *machine) {
			if !m.claim("f-1", at(60), first, at(0), config.Patience) {
				t.Error("not given")
			}
			m.hand("f-1", false)
			if !m.ambiguous("f-1") {
				t.Error("not ambiguous")
			}
		},
		"damaged once is handed out again at once": func(t *testing.T, m *machine) {
			m.take(t, 0, "f-1", kickoff("a"), true)
			if !m.damagedOnce("f-1") {
				t.Error("given up")
			}
			m.expectNext(t, 0, "kick_vm file create f-1", 0)
			m.take(t, 0, "f-1", kickoff("b"), true)
			if m.damagedOnce("f-1") || m.damagedOnce("f-unknown") {
				t.Error("not given up")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, connected())
		})
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	m := connected()
	m.touch(at(0))
	if m.idle(at(1000)) {
		t.Error("idle with a channel")
	}
	m.channel = nil
	if m.idle(at(1)) {
		t.Error("idle in the hands of a call")
	}
	m.expect("f-1", at(1500))
	if m.idle(at(1000)) || !m.idle(at(1501)) {
		t.Error("idle is wrong about deliveries")
	}
}

// TestMachineByModel lets anything happen in any order, and asserts what must hold of every message and every claim.
func TestMachineByModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := connected()
		now := start
		open, ended := map[waybill.DeliveryID]bool{}, map[waybill.DeliveryID]bool{}
		given := map[waybill.DeliveryID]time.Time{} // to this process, and when last
		last := map[waybill.DeliveryID]string{}     // by which fetch
		var kicked time.Time                        // without a fetch since; zero: none
		pick := func() waybill.DeliveryID {
			return waybill.DeliveryID(rapid.SampledFrom([]string{"f-1", "f-2", "f-3", "f-4", "f-5"}).Draw(t, "delivery"))
		}
		fetches := 0
		t.Repeat(map[string]func(*rapid.T){
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 15_000).Draw(t, "ms")) * time.Millisecond)
			},
			"send": func(t *rapid.T) {
				id := pick()
				if ended[id] { // IDs are used once
					return
				}
				m.expect(id, now.Add(time.Hour))
				open[id] = true
			},
			"tell": func(t *rapid.T) {
				message, wait := m.next(now, &config)
				if message == "" {
					if wait == 0 {
						t.Fatal("would spin")
					}
					return
				}
				words := strings.Split(message, " ")
				if len(words) == 2 || slices.Contains(words, "") {
					t.Fatalf("%q deafens the agent", message)
				}
				if !kicked.IsZero() && now.Sub(kicked) < config.Patience {
					t.Fatalf("%q, %s after another kick", message, now.Sub(kicked))
				}
				if len(words) == 4 && !open[waybill.DeliveryID(words[3])] {
					t.Fatalf("%q of what is not open", message)
				}
				kicked = now
			},
			"fetch": func(t *rapid.T) {
				fetches++
				f := kickoff(string(rune('a' + fetches%20)))
				f.id += now.String()
				for id := range maps.Clone(open) {
					if !m.claim(id, now.Add(time.Hour), f, now, config.Patience) {
						continue
					}
					if at, had := given[id]; had && last[id] != f.id && now.Sub(at) < config.Patience {
						t.Fatalf("%s given again after %s", id, now.Sub(at))
					}
					given[id], last[id] = now, f.id
					m.hand(id, false)
				}
				m.fetching()
				kicked = time.Time{}
			},
			"report": func(t *rapid.T) {
				id := pick()
				m.ended(id, now)
				if m.claim(id, now.Add(time.Hour), kickoff("late"), now, config.Patience) && open[id] && !given[id].IsZero() {
					t.Fatalf("%s is given to a fetch that came with its report", id)
				}
				m.ended(id, now)
				ended[id] = true
				delete(open, id)
				delete(given, id)
			},
			"restart": func(*rapid.T) {
				m.open(&channel{woken: make(chan struct{}, 1), gone: make(chan struct{})})
				m.restarted()
				kicked = time.Time{}
			},
		})
	})
}
