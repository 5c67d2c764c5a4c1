// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/openwaybill/waybill/internal/pgtest"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
)

// The size of TestCluster; make cluster-test runs a large one.
var (
	clusterSeed       = flag.Uint64("cluster.seed", 0, "what breaks, and when; 0: another each time")
	clusterMachines   = flag.Int("cluster.machines", 50, "machines of TestCluster")
	clusterProcesses  = flag.Int("cluster.processes", 5, "processes that they are spread over")
	clusterDeliveries = flag.Int("cluster.deliveries", 150, "deliveries of TestCluster")
	clusterKills      = flag.Int("cluster.kills", 16, "kills of TestCluster")
	clusterMeasure    = flag.Int("cluster.measure", 0, "deliveries that are sent to measure how many are accepted in a second")
	clusterDuration   = flag.Duration("cluster.duration", 30*time.Second, "how long the storm of TestCluster lasts; 0: as its kills and deliveries need")
)

// TestCluster breaks three servers on one PostgreSQL and three NATS nodes, and their machines: each kind of process is
// killed at any moment, the database crashes and is restarted, and a node is cut off. All invariants hold.
func TestCluster(t *testing.T) {
	t.Parallel()
	if !pgtest.Available(t) {
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	if cfg.Seed = *clusterSeed; cfg.Seed == 0 {
		cfg.Seed = uint64(time.Now().UnixNano() % 1e9)
	}
	cfg.Dir = filepath.Join(t.TempDir(), "sim")
	cfg.Machines, cfg.Processes, cfg.Deliveries, cfg.Kills = *clusterMachines, *clusterProcesses, *clusterDeliveries, *clusterKills
	cfg.Duration, cfg.MaxTimeout = *clusterDuration, 20*time.Second
	cfg.Progress = testLog{t}
	cfg.Child = func() *exec.Cmd {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childEnv+"=1")
		return cmd
	}
	cfg.Site = newSite(t)
	cfg.Site.Measure = *clusterMeasure
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.WriteTo(testLog{t}); err != nil {
		t.Fatal(err)
	}
	if !r.Held() {
		t.Errorf("repeat it with: go test ./internal/sim -run TestCluster -cluster.seed %d and the same flags", cfg.Seed)
	}
	what := []string{killProcess, killServer}
	for _, p := range cfg.Site.Parts {
		what = append(what, p.What)
	}
	for _, what := range what {
		if r.Counts[what] == 0 {
			t.Errorf("nothing of %q happened", what)
		}
	}
}

// newSite starts a database and a NATS cluster, and says how they break.
func newSite(t *testing.T) *Site {
	t.Helper()
	pg := pgtest.Start(t, pgtest.Options{Durable: true})
	dir := t.TempDir()
	config := server.NATSConfig{DataDir: dir, Database: pg.Database(t)}
	away := testenv.NewNamespace(t)
	places := []testenv.Place{{Host: "127.0.0.1"}, {Host: "127.0.0.1"}, {Host: "127.0.0.1"}}
	if away != nil {
		places = []testenv.Place{{Host: away.Here}, {Host: away.Here}, {Host: away.There, Enter: away.Enter()}}
	}
	nats := testenv.StartNATSAt(t, config, places...)
	s := &Site{Database: config.Database, SealKey: filepath.Join(dir, "seal.key"), NATS: nats.URL(), NATSCreds: nats.Creds}
	for _, port := range testenv.FreePorts(t, 3) {
		s.Listen = append(s.Listen, "127.0.0.1:"+strconv.Itoa(port))
	}
	s.Endpoint = testenv.StartBalancer(t, s.Listen...).Addr()
	crash := false
	s.Parts = []Part{{What: "databases crashed or restarted", Needs: true, Mend: pg.Restart, Break: func() error {
		if crash = !crash; crash {
			return pg.Kill()
		}
		return pg.Stop()
	}}}
	node := func(i int) Part {
		return Part{
			What: fmt.Sprintf("NATS node %d killed", i), Mend: func() error { return nats.Restart(i) },
			Break: func() error {
				nats.Kill(i)
				return nil
			},
		}
	}
	s.Parts = append(s.Parts, node(0), node(1))
	if away != nil {
		s.Parts = append(s.Parts, Part{What: "NATS nodes cut off", Break: away.Cut, Mend: away.Mend})
	} else {
		s.Parts = append(s.Parts, node(2))
	}
	return s
}
