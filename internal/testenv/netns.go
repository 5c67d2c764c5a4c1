// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// Namespace is a network namespace, joined with this one by a pair of virtual interfaces, which can be cut.
type Namespace struct {
	name   string
	inside string // interface
	Here   string // the address of this side
	There  string // that of the other
}

var namespaces atomic.Int32

// NewNamespace makes a namespace that is removed when the test ends. It needs root and the program ip; where they are not,
// it says so and returns nil, unless the environment requires netns.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	n := int(namespaces.Add(1))
	name := fmt.Sprintf("wb%d-%d", os.Getpid(), n)
	net := fmt.Sprintf("10.%d.%d", 200+os.Getpid()%50, os.Getpid()/50%250)
	ns := &Namespace{name: name, inside: name + "b", Here: fmt.Sprintf("%s.%d", net, 4*n+1), There: fmt.Sprintf("%s.%d", net, 4*n+2)}
	outside := name + "a"
	t.Cleanup(func() {
		for _, args := range [][]string{{"link", "del", outside}, {"netns", "del", name}} {
			_ = exec.Command("ip", args...).Run() // it may not have come so far
		}
	})
	for _, line := range []string{
		"netns add " + name,
		"link add " + outside + " type veth peer name " + ns.inside,
		"link set " + ns.inside + " netns " + name,
		"addr add " + ns.Here + "/30 dev " + outside,
		"link set " + outside + " up",
		"-n " + name + " addr add " + ns.There + "/30 dev " + ns.inside,
		"-n " + name + " link set " + ns.inside + " up",
		"-n " + name + " link set lo up",
	} {
		if err := ip(strings.Fields(line)...); err != nil {
			if slices.Contains(strings.Split(os.Getenv("WAYBILL_TEST_REQUIRE"), ","), "netns") {
				t.Fatal(err)
			}
			t.Logf("no network namespace, so nothing is cut off: %v", err)
			return nil
		}
	}
	return ns
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Enter returns what begins a command line that runs in the namespace.
func (n *Namespace) Enter() []string { return []string{"ip", "netns", "exec", n.name} }

// Cut lets nothing through in either direction, and tells neither side.
func (n *Namespace) Cut() error { return ip("-n", n.name, "link", "set", n.inside, "down") }

// Mend makes it whole again.
func (n *Namespace) Mend() error { return ip("-n", n.name, "link", "set", n.inside, "up") }
