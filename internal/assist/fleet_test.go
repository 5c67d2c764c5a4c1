// SPDX-License-Identifier: Apache-2.0

//go:build unix

package assist_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/assist/assisttest"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
)

var (
	fleetSize = flag.Int("assist.fleet", 0, "how many official agents TestFleet runs; 0: what is quick")
	fleetSeed = flag.Uint64("assist.seed", 0, "the seed of TestFleet; 0: another one each time")
)

// quickFleet is how many there are unless the flag says otherwise: so many that two cores serve them with the race detector,
// and other tests beside, before the agents' patience of eight seconds is over.
const quickFleet = 120

// perNetwork is how many share an HTTP connection, which has room for 250 requests at once. Really each has its own.
const perNetwork = 50

// fleet is many agents on their way to one server.
type fleet struct {
	t        *testing.T
	s        *testenv.Server
	networks []*assisttest.Network
	machines []*machine
	end      context.CancelFunc
	running  sync.WaitGroup
}

type machine struct {
	*assisttest.Agent
	id   waybill.InstanceID
	root string
	cfg  assisttest.Config
}

// fleetTimes are the real ones where a fleet is idle, and short where it recovers.
func fleetTimes() assisttest.Times {
	t := assisttest.RealTimes().Scaled(0.02)
	usual := assisttest.RealTimes()
	t.Beat, t.Ping, t.Tick, t.State = usual.Beat, usual.Ping, usual.Tick, usual.State
	return t
}

// newFleet registers n machines, which do not run yet.
func newFleet(t *testing.T, s *testenv.Server, n int) *fleet {
	t.Helper()
	f := &fleet{t: t, s: s, machines: make([]*machine, n)}
	for range n/perNetwork + 1 {
		f.networks = append(f.networks, network(t, s, patient))
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048) // one for all: the machine is part of the identity
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	var activations []client.NewActivation
	for range (n + 999) / 1000 {
		activations = append(activations, s.Activate("official"))
	}
	f.each(func(i int) error {
		a := activations[i/1000]
		identity, answer, err := assisttest.Register(t.Context(), assisttest.Registration{
			Network: f.networks[i/perNetwork], ActivationID: string(a.ID), ActivationCode: a.Code,
			MachineID: fmt.Sprintf("machine-%d", i), Key: key,
		})
		if err != nil {
			return fmt.Errorf("register: %w: %s", err, answer.Body)
		}
		m := &machine{id: waybill.InstanceID(identity.InstanceID), root: filepath.Join(root, fmt.Sprint(i))}
		m.cfg = assisttest.Config{Network: f.networks[i/perNetwork], Identity: identity, Root: m.root, Times: fleetTimes()}
		f.machines[i] = m
		return os.Mkdir(m.root, 0o755)
	})
	return f
}

// each does something for every machine, several at once.
func (f *fleet) each(do func(i int) error) {
	f.t.Helper()
	var wg sync.WaitGroup
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					f.t.Error(err)
				}
			}
		})
	}
	for i := range f.machines {
		next <- i
	}
	close(next)
	wg.Wait()
	if f.t.Failed() {
		f.t.FailNow()
	}
}

// start starts all, in a random order, some at once. It returns when each has made its first fetch.
func (f *fleet) start(rng *mathrand.Rand) {
	ctx, cancel := context.WithCancel(context.Background()) // not the test's: it has ended when the cleanup stops them
	f.end = cancel
	f.t.Cleanup(f.stop)
	order := rng.Perm(len(f.machines))
	started := time.Now()
	f.each(func(i int) error {
		m := f.machines[order[i]]
		ready := make(chan struct{})
		m.cfg.Events = func(event string) {
			if strings.HasPrefix(event, "fetch startup") {
				close(ready)
			}
		}
		m.Agent = assisttest.New(m.cfg)
		f.running.Go(func() {
			if err := m.Run(ctx); err != nil {
				f.t.Errorf("%s: %v", m.id, err)
			}
		})
		select {
		case <-ready:
			return nil
		case <-f.t.Context().Done():
			return f.t.Context().Err()
		}
	})
	f.t.Logf("started: %s", time.Since(started).Round(time.Millisecond))
}

func (f *fleet) stop() {
	f.end()
	f.running.Wait()
}

// await waits until something holds for each machine.
func (f *fleet) await(what string, ok func(*machine) bool) {
	f.t.Helper()
	begun := time.Now()
	i := 0
	within := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i < len(f.machines) {
		if ok(f.machines[i]) {
			i++
			continue
		}
		select {
		case <-within:
			f.t.Fatalf("%s: not %s: %+v", what, f.machines[i].id, f.machines[i].Snapshot())
		case <-tick.C:
		}
	}
	f.t.Logf("%s: %s", what, time.Since(begun).Round(time.Millisecond))
}

// deliver sends one file to all, and waits until each has executed it and the server knows.
func (f *fleet) deliver(name string) waybill.DeliveryID {
	f.t.Helper()
	r := testenv.OfficialFile()
	r.File.Name = name
	for _, m := range f.machines {
		r.Instances = append(r.Instances, m.id)
	}
	id, err := f.s.Client.SendFile(f.t.Context(), r)
	if err != nil {
		f.t.Fatal(err)
	}
	f.await(name+" executed", func(m *machine) bool { return m.Snapshot().Runs[string(id)] > 0 })
	testenv.Eventually(f.t, name+" final", func() bool {
		l, err := f.s.Client.DescribeSendFileResults(f.t.Context(), client.DeliveryFilter{ID: id}, client.Paging{})
		if err != nil || len(l.Items) != 1 {
			f.t.Fatal(err)
		}
		return l.Items[0].Status.Final()
	})
	if d := f.s.Delivery(id); d.Status != waybill.OverallSuccess || d.TargetCount != len(f.machines) {
		f.t.Errorf("%s: %s on %d targets", name, d.Status, d.TargetCount)
	}
	return id
}

// once asserts that each machine has executed each delivery exactly once, and nothing else.
func (f *fleet) once(ids ...waybill.DeliveryID) {
	f.t.Helper()
	for _, m := range f.machines {
		got := m.Snapshot()
		for _, id := range ids {
			if got.Runs[string(id)] != 1 {
				f.t.Errorf("%s executed %s %d times\nkicks %+v\nfetches %+v\nreports %+v",
					m.id, id, got.Runs[string(id)], got.Kicks, got.Fetches, got.Reports)
			}
		}
		if len(got.Runs) != len(ids) || got.Deaf || got.Crashed {
			f.t.Errorf("%s: %d deliveries, deaf: %t, crashed: %t", m.id, len(got.Runs), got.Deaf, got.Crashed)
		}
	}
}

// descriptors returns how many files this process has open; 0 where that cannot be told.
func descriptors() int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}

// settled waits until the process has no more goroutines and descriptors than before, or than some that are not a matter
// of the number of machines.
func settled(t *testing.T, what string, goroutines, files int) {
	t.Helper()
	const some = 40 // connections that idle, timers of libraries
	testenv.Eventually(t, what+": goroutines and descriptors are back", func() bool {
		return runtime.NumGoroutine() <= goroutines+some && descriptors() <= files+some
	})
}

// serverHeap returns the bytes on the heap that were allocated on behalf of connections to the server. The agents are in
// the same process, so it looks at who allocated.
func serverHeap() (bytes int64) {
	runtime.GC()
	runtime.GC() // the profile is that of the last but one
	n, _ := runtime.MemProfile(nil, false)
	records := make([]runtime.MemProfileRecord, n+200)
	n, ok := runtime.MemProfile(records, false)
	if !ok {
		return 0
	}
	for _, r := range records[:n] {
		frames := runtime.CallersFrames(r.Stack())
		for {
			frame, more := frames.Next()
			if strings.HasPrefix(frame.Function, "net/http.(*conn).serve") ||
				strings.Contains(frame.Function, "internal/assist.(*Server)") || strings.Contains(frame.Function, "nats.go.(*Conn)") {
				bytes += r.InUseBytes()
				break
			}
			if !more {
				break
			}
		}
	}
	return bytes
}

// memory returns the bytes of the heap and of the stacks of the process.
func memory() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestFleet connects many agents to one server, sends to all of them at once, and restarts the server under them. It is
// not parallel, because it counts the goroutines and the descriptors of the process.
func TestFleet(t *testing.T) {
	size := cmp.Or(*fleetSize, quickFleet)
	seed := cmp.Or(*fleetSeed, mathrand.Uint64())
	t.Logf("go test -run TestFleet -assist.fleet=%d -assist.seed=%d", size, seed)
	if err := raiseFileLimit(); err != nil {
		t.Fatal(err)
	}
	rng := mathrand.New(mathrand.NewPCG(seed, 0))
	rate := runtime.MemProfileRate
	runtime.MemProfileRate = 4096
	defer func() { runtime.MemProfileRate = rate }()

	goroutines, files := runtime.NumGoroutine(), descriptors()
	s := testenv.Start(t, func(c *server.Config) {
		c.PerAddress = 0 // all of them come from one address
		c.Control.Limits.Instances = size
		c.AccountRate, c.ActionRate = 0, 0
	})
	serverGoroutines, serverFiles := runtime.NumGoroutine(), descriptors()
	f := newFleet(t, s, size)
	heap, all := serverHeap(), memory()
	f.start(rng)
	f.await("connected", func(m *machine) bool { return m.Snapshot().Connected })
	if after := serverHeap(); heap > 0 {
		t.Logf("each of %d connections: %d bytes of heap on the server's side; %d bytes of heap and stacks, and %.1f goroutines, on both",
			size, (after-heap)/int64(size), (memory()-all)/int64(size), float64(runtime.NumGoroutine()-serverGoroutines)/float64(size))
	}
	first := f.deliver("burst")
	f.once(first)

	s.Restart()
	f.await("connected again", func(m *machine) bool { return m.Snapshot().Connects == 2 })
	second := f.deliver("after the restart")
	f.once(first, second)
	for _, m := range f.machines {
		if got := m.Snapshot(); got.Dials != 2 {
			t.Errorf("%s dialled %d times", m.id, got.Dials)
		}
	}
	connected := true
	total := 0
	for page := (client.Paging{MaxResults: 50}); ; {
		l, err := s.Client.DescribeManagedInstances(t.Context(), client.InstanceFilter{Connected: &connected}, page)
		if err != nil {
			t.Fatal(err)
		}
		total += len(l.Items)
		if i := slices.IndexFunc(l.Items, func(i client.Instance) bool { return i.Channel != "open" }); i >= 0 {
			t.Errorf("%s is shown with a channel that is %s", l.Items[i].ID, l.Items[i].Channel)
		}
		if page.NextToken = l.NextToken; page.NextToken == "" {
			break
		}
	}
	if total != size {
		t.Errorf("%d machines are shown as connected", total)
	}

	f.stop()
	for _, n := range f.networks {
		n.Close()
	}
	settled(t, "without agents", serverGoroutines, serverFiles)
	s.Stop()
	settled(t, "without a server", goroutines, files)
}

// raiseFileLimit allows as many open files as the system lets us: each agent takes two here, one for each end.
func raiseFileLimit() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	l.Cur = l.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}
