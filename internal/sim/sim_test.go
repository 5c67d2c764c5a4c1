// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

// childEnv makes this test binary a process of a simulation.
const childEnv = "WAYBILL_TEST_SIM_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(Child())
	}
	os.Exit(m.Run())
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// TestCampaign is a small campaign: everything breaks, and every invariant holds. The seed is printed; another comes with
// each run.
func TestCampaign(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Seed = uint64(time.Now().UnixNano() % 1e9)
	cfg.Dir = filepath.Join(t.TempDir(), "sim")
	cfg.Deliveries, cfg.Kills, cfg.Duration, cfg.MaxTimeout = 300, 24, 30*time.Second, 15*time.Second
	cfg.Progress = testLog{t}
	cfg.Child = func() *exec.Cmd {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childEnv+"=1")
		return cmd
	}
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.WriteTo(testLog{t}); err != nil {
		t.Fatal(err)
	}
	if !r.Held() {
		t.Errorf("repeat it with: waybill sim --seed %d --deliveries 300 --kills 24 --duration 30s --max-timeout 15s", cfg.Seed)
	}
	for _, what := range []string{killProcess, killServer, cutLink, splitLink, jumpClock, clone, leave, stopped, rehearsed, lost, doubled, delayed, diskSlow} {
		if r.Counts[what] == 0 {
			t.Errorf("nothing of %q happened", what)
		}
	}
}

// TestPlan shows that the seed decides all.
func TestPlan(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Seed = 7
	a, b := newPlan(&cfg), newPlan(&cfg)
	if !reflect.DeepEqual(a, b) || !reflect.DeepEqual(a.delivery(0, 5), b.delivery(0, 5)) {
		t.Error("the same seed made two plans")
	}
	if string(a.content(a.delivery(1, 3))) != string(b.content(b.delivery(1, 3))) {
		t.Error("the same seed made two contents")
	}
	cfg.Seed = 8
	if other := newPlan(&cfg); reflect.DeepEqual(a.events, other.events) {
		t.Error("another seed made the same plan")
	}
	at := map[string]bool{}
	for _, e := range a.events {
		at[e.what] = true
	}
	if len(at) != 7 {
		t.Errorf("events: %v", at)
	}
	for n := range 100 {
		for _, m := range a.delivery(1, n).targets {
			if a.machines[m] != 1 {
				t.Fatalf("delivery %d of account 1 goes to machine %d of account %d", n, m, a.machines[m])
			}
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*Config){
		"few machines":      func(c *Config) { c.Machines = 3 },
		"no process":        func(c *Config) { c.Processes = 0 },
		"many processes":    func(c *Config) { c.Processes = c.Machines + 1 },
		"no delivery":       func(c *Config) { c.Deliveries = 0 },
		"negative kills":    func(c *Config) { c.Kills = -1 },
		"negative duration": func(c *Config) { c.Duration = -1 },
		"short timeout":     func(c *Config) { c.MaxTimeout = time.Second },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		if _, err := Run(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

// TestEnoughFiles shows that a fleet too large for the limit of open files is refused before anything is made.
func TestEnoughFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		machines int
		limit    uint64
		ok       bool
	}{{10_000, 0, true}, {10_000, 15_500, true}, {10_000, 15_499, false}, {40, 1024, true}} {
		err := enoughFiles(c.machines, c.limit)
		if (err == nil) != c.ok {
			t.Errorf("%d machines, %d files: %v", c.machines, c.limit, err)
		}
		if err != nil && !strings.Contains(err.Error(), fmt.Sprint("ulimit -n ", c.machines+c.machines/2+spareFiles)) {
			t.Errorf("it does not say how many are needed: %v", err)
		}
	}
}

// lookedAt returns a run at rest with one machine and one delivery that ended as t says, for the checks to judge.
func lookedAt(t *testing.T, target client.Target, change func(*delivery)) (*run, *sent) {
	t.Helper()
	cfg := DefaultConfig()
	r := &run{cfg: cfg, plan: newPlan(&cfg), counts: counts{}, went: map[spot][]*sent{}}
	m := &machine{Number: 0, Instance: "mi-1", Root: filepath.Join(t.TempDir(), "root"), State: t.TempDir()}
	if err := m.makeRoot(); err != nil {
		t.Fatal(err)
	}
	r.fleet = []*machine{m}
	d := &delivery{dir: ownDir, name: "f", mode: "0644", targets: []int{0}, size: 10, uid: os.Geteuid(), gid: os.Getegid()}
	if change != nil {
		change(d)
	}
	s := &sent{delivery: d, id: "f-1", seen: map[waybill.InstanceID]seen{}}
	s.sum = sha256.Sum256(r.plan.content(d))
	r.sent = []*sent{s}
	r.goes(s)
	target.Instance = "mi-1"
	r.judge(s, 0, &target)
	return r, s
}

func (r *run) disks(t *testing.T, s *sent, target client.Target) {
	t.Helper()
	if err := r.lookAtDisks(context.Background(), map[*sent]map[int]client.Target{s: {0: target}}); err != nil {
		t.Fatal(err)
	}
}

// TestChecks breaks every invariant by hand: a check that finds nothing would hold whatever happened.
func TestChecks(t *testing.T) {
	t.Parallel()
	success := client.Target{Status: waybill.Success}
	failed := client.Target{Status: waybill.Failed, ErrorCode: "FileCreateFail"}
	putOn := func(t *testing.T, m *machine, name string, content []byte, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(m.Root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name string, content []byte, mode os.FileMode) func(*testing.T, *run, *sent) {
		return func(t *testing.T, r *run, s *sent) {
			t.Helper()
			if content == nil {
				content = r.plan.content(s.delivery)
			}
			putOn(t, r.fleet[0], name, content, mode)
		}
	}
	twin := func(t *testing.T, r *run) *machine {
		t.Helper()
		m := &machine{Number: 1, Instance: "mi-1", Root: filepath.Join(t.TempDir(), "root"), State: t.TempDir()}
		if err := m.makeRoot(); err != nil {
			t.Fatal(err)
		}
		r.clones = append(r.clones, m)
		return m
	}
	own := filepath.Join(ownDir, "f")
	for _, tc := range []struct {
		name   string
		target client.Target
		change func(*delivery)
		does   func(*testing.T, *run, *sent)
		breaks int // -1: nothing
	}{
		{"right", success, nil, put(own, nil, 0o644), -1},
		{"nothing there after a failure", failed, nil, func(*testing.T, *run, *sent) {}, -1},
		{"half a file", success, nil, put(own, []byte("account 0 deliv"), 0o644), invWhole},
		{"wrong mode", success, nil, put(own, nil, 0o600), invWhole},
		{"wrong owner", success, func(d *delivery) { d.uid++ }, put(own, nil, 0o644), invWhole},
		{"temporary left", failed, nil, put(filepath.Join(ownDir, ".waybill-x"), nil, 0o600), invWhole},
		{"Success and nothing there", success, nil, func(*testing.T, *run, *sent) {}, invSuccess},
		{"failed and the bytes are there", failed, nil, put(own, nil, 0o644), invSuccess},
		{"one clone failed, the bytes are with the other", failed, nil, func(t *testing.T, r *run, s *sent) {
			putOn(t, twin(t, r), own, r.plan.content(s.delivery), 0o644)
		}, -1},
		{"failed and the bytes are with both clones", failed, nil, func(t *testing.T, r *run, s *sent) {
			for _, m := range []*machine{r.fleet[0], twin(t, r)} {
				putOn(t, m, own, r.plan.content(s.delivery), 0o644)
			}
		}, invSuccess},
		{"somebody's else", failed, nil, put("/srv/other", nil, 0o644), invOwn},
		{"carried out twice", client.Target{Status: waybill.Failed, ErrorCode: "FileAlreadyExists"}, nil, put(own, nil, 0o644), invOnce},
		{"carried out twice, with Overwrite", client.Target{Status: waybill.Success, Change: waybill.Unchanged}, nil, put(own, nil, 0o644), invOnce},
		{"published twice", success, nil, func(t *testing.T, r *run, s *sent) {
			t.Helper()
			put(own, nil, 0o644)(t, r, s)
			if err := os.WriteFile(r.fleet[0].published(), []byte("f-1\nf-2\nf-1\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, invOnce},
		{"not final", client.Target{Status: waybill.Running}, nil, func(*testing.T, *run, *sent) {}, invFinal},
		{"Success without owner", success, func(d *delivery) { d.kind = ownerless }, put(own, nil, 0o644), invTrue},
		{"cause that nothing brought about", client.Target{Status: waybill.Invalid, ErrorCode: "FileContentInvalid"}, nil, func(*testing.T, *run, *sent) {}, invTrue},
		{"cancelled, and nothing there", client.Target{Status: waybill.Aborted, ErrorCode: cancelled}, func(d *delivery) { d.stops = true }, func(*testing.T, *run, *sent) {}, -1},
		{"cancelled, and the bytes are there", client.Target{Status: waybill.Aborted, ErrorCode: cancelled}, func(d *delivery) { d.stops = true }, put(own, nil, 0o644), invSuccess},
		{"cancelled by nobody", client.Target{Status: waybill.Aborted, ErrorCode: cancelled}, nil, func(*testing.T, *run, *sent) {}, invTrue},
		{"a rehearsal that tells of a file", success, func(d *delivery) { d.dryRun = true }, put(own, nil, 0o644), invTrue},
		{"a delivery that was only rehearsed", client.Target{Status: waybill.Success, Change: waybill.WouldCreate}, nil, put(own, nil, 0o644), invTrue},
		{"a rehearsal that was published", client.Target{Status: waybill.Success, Change: waybill.WouldCreate}, func(d *delivery) { d.dryRun = true }, func(t *testing.T, r *run, s *sent) {
			t.Helper()
			r.rehearsals = map[string]bool{string(s.id): true}
			put(own, nil, 0o644)(t, r, s)
			if err := os.WriteFile(r.fleet[0].published(), []byte(string(s.id)+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, invTrue},
		{"not listed", success, nil, func(_ *testing.T, r *run, s *sent) { r.found.survives(s, nil) }, invSurvives},
		{"final twice", success, nil, func(_ *testing.T, r *run, s *sent) {
			failed := failed
			failed.Instance = "mi-1"
			r.found.moves(s, &failed)
		}, invFinal},
		{"corrected", client.Target{Status: waybill.Timeout, ErrorCode: "DeliveryTimeout"}, nil, func(_ *testing.T, r *run, s *sent) {
			r.found.moves(s, &client.Target{Instance: "mi-1", Status: waybill.Success})
		}, -1},
		{"corrected twice", client.Target{Status: waybill.Timeout, ErrorCode: "DeliveryTimeout"}, nil, func(_ *testing.T, r *run, s *sent) {
			r.found.moves(s, &client.Target{Instance: "mi-1", Status: waybill.Failed, ErrorCode: "FileCreateFail"})
			r.found.moves(s, &client.Target{Instance: "mi-1", Status: waybill.Success})
		}, invFinal},
		{"late", success, nil, func(_ *testing.T, r *run, s *sent) {
			r.upSince, s.timeout = time.Now().Add(-time.Hour), minTimeout
			s.answered = time.Now().Add(-time.Hour)
			r.judgeLate(s, &client.Target{Status: waybill.Running, Created: s.answered.UTC().Format(time.RFC3339)}, time.Now())
		}, invFinal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r, s := lookedAt(t, tc.target, tc.change)
			tc.does(t, r, s)
			r.disks(t, s, tc.target)
			broken := false
			for n, i := range r.found.all {
				if n == tc.breaks {
					broken = len(i.Broken) > 0
				} else if tc.breaks < 0 && len(i.Broken) > 0 {
					t.Errorf("%s: %v", names[n], i.Broken)
				}
			}
			if tc.breaks >= 0 && !broken {
				t.Errorf("%q is not found broken", names[tc.breaks])
			}
		})
	}
}
