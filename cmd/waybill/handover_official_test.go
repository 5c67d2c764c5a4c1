// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/assist/assisttest"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/testenv"
)

// The default suits a test of every day; make fleet runs it with 2,000.
var officialAgents = flag.Int("official-agents", 20, "how many official agents stay connected across restarts")

// officials registers machines with official agents and runs them until the test ends.
func (s *succession) officials(n int) []*assisttest.Agent {
	s.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		s.t.Fatal(err)
	}
	endpoint, err := url.Parse(s.cred.Endpoint)
	if err != nil {
		s.t.Fatal(err)
	}
	// The more agents, the nearer to their own pace: a fleet whose time runs fifty times as fast is fifty times as large.
	times := assisttest.RealTimes().Scaled(min(1, 0.02*max(1, float64(n)/50)))
	root := s.t.TempDir()
	ctx, cancel := context.WithCancel(context.Background()) // the test's has ended when cleanups run
	var running sync.WaitGroup
	s.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	agents := make([]*assisttest.Agent, n)
	var a client.NewActivation
	var network *assisttest.Network
	const each = 50 // share an activation, and a way to the server
	for i := range agents {
		if i%each == 0 {
			network = assisttest.NewNetwork(assisttest.NetworkConfig{Server: endpoint.Host, Roots: s.ca})
			s.t.Cleanup(network.Close)
			if a, err = s.client(true).CreateActivation(ctx, client.CreateActivationRequest{InstanceCount: each}); err != nil {
				s.t.Fatal(err)
			}
		}
		identity, answer, err := assisttest.Register(ctx, assisttest.Registration{
			Network: network, ActivationID: string(a.ID), ActivationCode: a.Code, MachineID: fmt.Sprintf("machine-%d", i), Key: key,
		})
		if err != nil {
			s.t.Fatalf("register %d: %v: %s", i, err, answer.Body)
		}
		agents[i] = assisttest.New(assisttest.Config{
			Network: network, Identity: identity, Root: filepath.Join(root, fmt.Sprint(i)), Times: times,
		})
		running.Go(func() {
			if err := agents[i].Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				s.t.Errorf("agent %d: %v", i, err)
			}
		})
	}
	return agents
}

// deliver sends a file to all of the fleet, and waits until each machine has carried it out once.
func (s *succession) deliver(name string, agents []*assisttest.Agent) {
	s.t.Helper()
	c := s.client(true)
	var ids []waybill.InstanceID
	for p := (client.Paging{MaxResults: 50}); ; {
		l, err := c.DescribeManagedInstances(s.t.Context(), client.InstanceFilter{}, p)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, i := range l.Items {
			ids = append(ids, i.ID)
		}
		if p.NextToken = l.NextToken; p.NextToken == "" {
			break
		}
	}
	if len(ids) != len(agents) {
		s.t.Fatalf("%d machines of %d", len(ids), len(agents))
	}
	var deliveries []waybill.DeliveryID
	for part := range slices.Chunk(ids, 50) {
		r := testenv.OfficialFile()
		r.Instances, r.File.Name = part, name
		id, err := c.SendFile(s.t.Context(), r)
		if err != nil {
			s.t.Fatal(err)
		}
		deliveries = append(deliveries, id)
	}
	for _, id := range deliveries {
		testenv.Eventually(s.t, name+" delivered", func() bool {
			l, err := c.DescribeSendFileResults(s.t.Context(), client.DeliveryFilter{ID: id}, client.Paging{})
			return err == nil && len(l.Items) == 1 && l.Items[0].Status == waybill.OverallSuccess
		})
	}
	for i, a := range agents {
		runs := 0
		for id, n := range a.Snapshot().Runs {
			if slices.Contains(deliveries, waybill.DeliveryID(id)) {
				runs += n
			}
		}
		if runs != 1 {
			s.t.Errorf("agent %d carried %s out %d times", i, name, runs)
		}
	}
}

// connected waits until every agent has a channel of the server that serves now, and reports who went deaf before.
func (s *succession) connected(agents []*assisttest.Agent, connects int) {
	s.t.Helper()
	for i, a := range agents {
		testenv.Eventually(s.t, fmt.Sprintf("a channel of agent %d", i), func() bool {
			sn := a.Snapshot()
			return sn.Deaf || sn.Connected && sn.Connects >= connects
		})
		if sn := a.Snapshot(); sn.Deaf || sn.Dials != sn.Connects {
			s.t.Errorf("agent %d: deaf %v, %d dials, %d channels", i, sn.Deaf, sn.Dials, sn.Connects)
		}
	}
}

// TestRestartsDeafenNoOfficialAgent replaces the server under official agents, of which each dials once when its channel
// ends, and is deaf for half an hour if that is refused.
func TestRestartsDeafenNoOfficialAgent(t *testing.T) {
	t.Parallel()
	t.Run("hand-over", func(t *testing.T) {
		t.Parallel()
		s := newSuccession(t)
		s.start(nil, s.program, "server", "--data-dir", s.data(), "--listen", "127.0.0.1:0", "--agent-listen", freeAddress(t), "--admin-listen", "")
		agents := s.officials(*officialAgents)
		s.connected(agents, 1)
		s.deliver("first", agents)
		for i := range 2 {
			s.handOver()
			s.connected(agents, i+2)
			s.deliver(fmt.Sprint("after-", i), agents)
		}
		s.signal(syscall.SIGTERM)
		s.awaitEnd()
	})
	t.Run("killed, with a socket of systemd", func(t *testing.T) {
		t.Parallel()
		s := newSuccession(t)
		start := s.activated()
		start()
		agents := s.officials(*officialAgents)
		s.connected(agents, 1)
		s.deliver("first", agents)
		s.signal(syscall.SIGKILL)
		_ = s.cmd.Wait() // it was killed
		start()
		s.connected(agents, 2)
		s.deliver("second", agents)
	})
}
