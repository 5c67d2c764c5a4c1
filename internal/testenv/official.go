// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"os/user"
	"path/filepath"
	"sync"
	"testing"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/assist/assisttest"
	"github.com/openwaybill/waybill/internal/client"
)

// Official is a machine with the official agent, as internal/assist/assisttest has it, that is registered at a server.
type Official struct {
	*assisttest.Agent // the process that runs now, or ran last
	t                 testing.TB
	cfg               assisttest.Config
	stop              func()
	ID                waybill.InstanceID
	Root              string // its / directory
}

// OfficialTimes are those of official agents in tests: a fiftieth of the real ones.
func OfficialTimes() assisttest.Times { return assisttest.RealTimes().Scaled(0.02) }

// officialKey is one key for all of them: making one takes long, and the machine is part of the identity.
var officialKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// Network returns the way of official agents to the server.
func (s *Server) Network() *assisttest.Network { return s.NetworkTo(s.Addr("https")) }

// NetworkTo returns the way of official agents to the server, or to others beside it, by another address.
func (s *Server) NetworkTo(address string) *assisttest.Network {
	s.t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.CA) {
		s.t.Fatal("no CA")
	}
	n := assisttest.NewNetwork(assisttest.NetworkConfig{Server: address, Roots: roots})
	s.t.Cleanup(n.Close)
	return n
}

// Register registers a machine with the official agent, which does not run yet.
func (s *Server) Register(n *assisttest.Network, a client.NewActivation, change ...func(*assisttest.Config)) *Official {
	s.t.Helper()
	key, err := officialKey()
	if err != nil {
		s.t.Fatal(err)
	}
	machine := make([]byte, 16)
	if _, err := rand.Read(machine); err != nil {
		s.t.Fatal(err)
	}
	cfg := assisttest.Config{Network: n, Root: s.t.TempDir(), Times: OfficialTimes()}
	for _, c := range change {
		c(&cfg)
	}
	identity, answer, err := assisttest.Register(s.t.Context(), assisttest.Registration{
		Network: n, ActivationID: string(a.ID), ActivationCode: a.Code, MachineID: hex.EncodeToString(machine), Key: key, Facts: cfg.Facts,
	})
	if err != nil {
		s.t.Fatalf("register: %v: %s", err, answer.Body)
	}
	cfg.Identity = identity
	return &Official{t: s.t, cfg: cfg, stop: func() {}, ID: waybill.InstanceID(identity.InstanceID), Root: cfg.Root}
}

// Official registers a machine with the official agent and runs it until the test ends. It returns once its channel is open.
func (s *Server) Official(change ...func(*assisttest.Config)) *Official {
	s.t.Helper()
	o := s.Register(s.Network(), s.Activate("official"), change...)
	o.Start()
	s.AwaitChannel(o, "open")
	return o
}

// Start starts a process of the agent, which runs until Stop, Kill or the end of the test.
func (o *Official) Start() {
	o.t.Helper()
	o.Stop()
	a := assisttest.New(o.cfg)
	o.Agent = a
	ctx, cancel := context.WithCancel(context.Background()) // not the test's: that has ended when its cleanup begins
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	o.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, assisttest.ErrKilled) {
			o.t.Errorf("official agent: %v", err)
		}
	})
	o.t.Cleanup(o.stop)
}

// Stop ends the process as a service manager does, and waits for it. It is safe to call twice.
func (o *Official) Stop() { o.stop() }

// Change changes how the next process will be.
func (o *Official) Change(change func(*assisttest.Config)) { change(&o.cfg) }

// Path returns where on this machine the agent puts a file.
func (o *Official) Path(dir, name string) string { return filepath.Join(o.Root, dir, name) }

// AwaitChannel waits until the server says so of an agent's channel: open, lost or closed.
func (s *Server) AwaitChannel(o *Official, status string) {
	s.t.Helper()
	Eventually(s.t, string(o.ID)+" channel "+status, func() bool { return s.Instance(o.ID).Channel == status })
}

// Instance returns an instance as it is now.
func (s *Server) Instance(id waybill.InstanceID) client.Instance {
	s.t.Helper()
	l, err := s.Client.DescribeManagedInstances(s.t.Context(), client.InstanceFilter{IDs: []waybill.InstanceID{id}}, client.Paging{})
	if err != nil || len(l.Items) != 1 {
		s.t.Fatalf("describe %s: %d instances, %v", id, len(l.Items), err)
	}
	return l.Items[0]
}

// OfficialFile is File for official agents, which know owners by name only.
func OfficialFile(targets ...*Official) client.SendFileRequest {
	r := File()
	if u, err := user.LookupId(r.File.Owner); err == nil {
		r.File.Owner = u.Username
	}
	if g, err := user.LookupGroupId(r.File.Group); err == nil {
		r.File.Group = g.Name
	}
	for _, o := range targets {
		r.Instances = append(r.Instances, o.ID)
	}
	return r
}
