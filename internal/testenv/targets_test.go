// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"os"
	"testing"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/testenv"
)

// TestTargets sends to machines by what they have, our own agents and an official one: who was previewed gets the file, also
// one that was away and a server that was restarted in between, and nobody else.
func TestTargets(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	here, later, other, official := s.Agent(), s.Enrol(), s.Agent(), s.Official()
	ctx := t.Context()
	web := []waybill.Tag{{Key: "role", Value: "web"}}
	ids := []string{string(here.ID), string(later.ID), string(official.ID)}
	if err := s.Client.TagResources(ctx, client.InstanceType, ids, web); err != nil {
		t.Fatal(err)
	}
	r := testenv.File()
	r.Selector.Tags = web
	found, page, err := s.Client.PreviewSendFile(ctx, r, client.Paging{})
	if err != nil || found.Total != 3 || len(page.Items) != 3 || found.Count(client.Held) != 1 || found.Count(client.Ended) != 0 {
		t.Fatalf("preview: %+v, %+v, %v", found, page, err)
	}
	id := s.Send(r)
	testenv.Eventually(t, "two have it", func() bool {
		done := 0
		for _, target := range s.Delivery(id).Targets.Items {
			if target.Status == waybill.Success {
				done++
			}
		}
		return done == 2
	})
	s.Restart()
	later.Start()
	d := s.Await(id)
	if d.Status != waybill.OverallSuccess || d.TargetCount != 3 {
		t.Errorf("ended as %s: %+v", d.Status, d.Targets.Items)
	}
	for _, target := range d.Targets.Items {
		if target.Instance == other.ID {
			t.Errorf("%s was hit and has no such tag", target.Instance)
		}
	}
	for _, a := range []*testenv.Agent{here, later} {
		if b, err := os.ReadFile(a.Path(r.File.TargetDir, r.File.Name)); err != nil || string(b) != string(r.Content) {
			t.Errorf("on %s: %q, %v", a.ID, b, err)
		}
	}
	if _, err := os.Stat(other.Path(r.File.TargetDir, r.File.Name)); !os.IsNotExist(err) {
		t.Errorf("on the machine that was not meant: %v", err)
	}
}
