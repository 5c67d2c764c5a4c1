// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/testenv"
)

// TestRehearsal rehearses on machines where a file would be made, replaced and kept, where it cannot be, on one that is away
// and on an official agent. Nothing changes anywhere, and the delivery that follows does what was said.
func TestRehearsal(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	creates, replaces, keeps, refuses, away, official := s.Agent(), s.Agent(), s.Agent(), s.Agent(), s.Enrol(), s.Official()
	all := []*testenv.Agent{creates, replaces, keeps, refuses, away}
	r := testenv.File(all...)
	r.File.Overwrite, r.Content = true, []byte("one\ntwo\n")
	at := func(a *testenv.Agent) string { return a.Path(r.File.TargetDir, r.File.Name) }
	for _, a := range []*testenv.Agent{replaces, keeps, refuses} {
		if err := os.MkdirAll(filepath.Dir(at(a)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for a, content := range map[*testenv.Agent]string{replaces: "one\n2\n", keeps: "one\ntwo\n"} {
		if err := os.WriteFile(at(a), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(at(refuses), 0o755); err != nil {
		t.Fatal(err)
	}
	before := map[waybill.InstanceID]string{}
	for _, a := range all {
		before[a.ID] = tree(t, a)
	}

	r.Instances = append(r.Instances, official.ID)
	r.DryRun, r.Diff = true, true
	id := s.Send(r)
	testenv.Eventually(t, "all that are here have answered", func() bool {
		_, groups, err := s.Client.DescribeSendFileTargets(t.Context(), client.TargetFilter{Delivery: id}, client.Paging{})
		open := int64(0)
		for _, g := range groups {
			if !g.Status.Final() {
				open += g.Count
			}
		}
		return err == nil && open == 1
	})
	s.Restart()
	away.Start()
	d := s.Await(id)
	if !d.DryRun {
		t.Error("it is not told that it was a rehearsal")
	}
	want := map[waybill.InstanceID]string{
		creates.ID: "Success WouldCreate", replaces.ID: "Success WouldReplace", keeps.ID: "Success WouldKeep", away.ID: "Success WouldCreate",
		refuses.ID: "Failed FileCreateFail", official.ID: "Aborted ClientNeedUpgrade",
	}
	for _, target := range d.Targets.Items {
		if got := string(target.Status) + " " + string(target.Change) + target.ErrorCode; got != want[target.Instance] {
			t.Errorf("%s: %s (%s), want %s", target.Instance, got, target.Detail, want[target.Instance])
		}
	}
	diffs := map[waybill.InstanceID]client.FileDiff{}
	for v, err := range s.Client.Diffs(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		diffs[v.Instance] = v
	}
	if len(diffs) != 3 || !strings.HasSuffix(diffs[replaces.ID].Diff, "@@ -1,2 +1,2 @@\n one\n-2\n+two\n") ||
		!strings.HasSuffix(diffs[creates.ID].Diff, "+one\n+two\n") {
		t.Errorf("diffs: %+v", diffs)
	}
	page, err := s.Client.DescribeSendFileDiffs(t.Context(), id, "", client.Paging{MaxResults: 2})
	if err != nil || len(page.Items) != 2 || page.Total != 3 || page.NextToken == "" {
		t.Errorf("a page of diffs: %+v, %v", page, err)
	}
	for _, a := range all {
		if after := tree(t, a); after != before[a.ID] {
			t.Errorf("%s has changed: from %q to %q", a.ID, before[a.ID], after)
		}
	}
	if list, err := s.Client.DescribeManagedFiles(t.Context(), client.FileFilter{Path: r.File.Path()}, client.Paging{}); err != nil || len(list.Items) > 0 {
		t.Errorf("who has the file: %+v, %v", list.Items, err)
	}

	r.DryRun, r.Diff = false, false
	r.Instances = r.Instances[:len(all)]
	did := map[waybill.InstanceID]string{
		creates.ID: "Success Created", replaces.ID: "Success Replaced", keeps.ID: "Success Unchanged", away.ID: "Success Created",
		refuses.ID: "Failed FileCreateFail",
	}
	for _, target := range s.Await(s.Send(r)).Targets.Items {
		if got := string(target.Status) + " " + string(target.Change) + target.ErrorCode; got != did[target.Instance] {
			t.Errorf("afterwards, %s: %s, want %s", target.Instance, got, did[target.Instance])
		}
	}
}

// TestRehearsalIsRepeated ends an agent in the middle of a rehearsal, of a content that it would have to fetch. Its next run
// answers.
func TestRehearsalIsRepeated(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, large)
	reached, proceed := make(chan struct{}), make(chan struct{})
	var first sync.Once
	a := s.Agent(func(c *agent.Config) {
		c.Hooks.Trace = func(event, _ string) {
			if event == string(place.StepCompare) {
				first.Do(func() { close(reached); <-proceed })
			}
		}
	})
	r := testenv.File(a)
	r.Content, r.DryRun = bytes.Repeat([]byte("x"), 1<<20), true
	id := s.Send(r)
	<-reached
	stopped := make(chan struct{})
	go func() { defer close(stopped); a.Stop() }()
	testenv.Eventually(t, "the agent is leaving", func() bool {
		for i, err := range s.Client.Instances(t.Context(), client.InstanceFilter{}) {
			if err != nil || i.Connected {
				return false
			}
		}
		return true
	})
	close(proceed)
	<-stopped
	a.Start()
	if d := s.Await(id); d.Status != waybill.OverallSuccess || d.Targets.Items[0].Change != waybill.WouldCreate {
		t.Errorf("%s: %+v", d.Status, d.Targets.Items)
	}
	if got := tree(t, a); got != "" {
		t.Errorf("on the machine: %q", got)
	}
}

// tree tells of every file and directory on a machine.
func tree(t *testing.T, a *testenv.Agent) string {
	t.Helper()
	var b strings.Builder
	root := a.Path("/", "")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == filepath.Clean(root) {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		b.WriteString(strings.TrimPrefix(path, root) + " " + info.Mode().String() + " " + info.ModTime().String())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b.Write(content)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
