// SPDX-License-Identifier: Apache-2.0

package assist

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// TestAFetchThatGetsNothingIsNotKickedForAgain matters because what made it fail, a database that does not answer for one,
// would be asked by each agent of the fleet as fast as it can.
func TestAFetchThatGetsNothingIsNotKickedForAgain(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	m := newMachine("mi-1")
	m.expect("f-1", now.Add(time.Hour))
	if kick, _ := m.next(now, &cfg); kick != "kick_vm file create f-1" {
		t.Fatalf("first %q", kick)
	}
	m.fetching()
	if kick, wait := m.next(now, &cfg); kick != "" || wait != cfg.Patience {
		t.Errorf("right after the fetch: %q, wait %s", kick, wait)
	}
	m.expect("f-2", now.Add(time.Hour)) // what is new does not wait for it
	if kick, _ := m.next(now, &cfg); kick != "kick_vm file create f-2" {
		t.Errorf("for another: %q", kick)
	}
	m.fetching()
	if kick, _ := m.next(now.Add(cfg.Patience), &cfg); kick != "kick_vm" {
		t.Errorf("after its patience: %q", kick)
	}
	m.more() // the fetch left something over
	if kick, _ := m.next(now.Add(cfg.Patience), &cfg); kick != "kick_vm" {
		t.Errorf("for the rest: %q", kick)
	}
}

// TestAnAnswerStaysSmall writes the entries that fit into one answer, of small files with long names that JSON makes
// longer still.
func TestAnAnswerStaysSmall(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", strings.Repeat("\u0001", 255), strings.Repeat("é", 127), strings.Repeat("<", 255)} {
		for _, content := range []string{"", strings.Repeat("x", 24<<10)} {
			d := wire.Deliver{
				Delivery: "f-hz0123456789abcdefghij", Name: name, TargetDir: "/" + strings.Repeat("d", 254), Owner: "root", Group: "root",
				Mode: 0o644, Content: []byte(content), Deadline: 1e15,
			}
			list := taskList{File: []fileEntry{}}
			for size := entrySize(&d); size <= maxList; size += entrySize(&d) {
				list.File = append(list.File, fileEntry{Task: taskOf(&d, &waybill.Facts{OSType: "linux"}), Output: taskOutput{Interval: 1000, LogQuota: 12288}})
			}
			b, err := json.Marshal(list)
			if err != nil || len(b) > 1<<20 {
				t.Errorf("%d entries of %d bytes and a name of %d: %d bytes, %v", len(list.File), len(content), len(name), len(b), err)
			}
		}
	}
}

// TestEndsAreSpread matters because agents dial six seconds after the end of their channel, all at once if it ends for
// all at once, and go deaf if the dial takes too long.
func TestEndsAreSpread(t *testing.T) {
	t.Parallel()
	for n, most := range map[int]time.Duration{0: 0, 10: 20 * time.Millisecond, 2000: maxSpread, 100_000: maxSpread} {
		s := &Server{machines: make(map[waybill.InstanceID]*machine), closing: make(chan struct{})}
		for i := range n {
			s.machines[waybill.InstanceID(fmt.Sprint(i))] = nil
		}
		s.Close()
		var latest time.Duration
		for range 1000 {
			latest = max(latest, s.turn())
		}
		if latest > most || latest < most/2 {
			t.Errorf("%d channels end within %s, want up to %s", n, latest, most)
		}
	}
}
