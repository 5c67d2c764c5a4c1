// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/testenv"
)

func retry(t *testing.T, c *client.Client, id waybill.DeliveryID) client.RetryCounts {
	t.Helper()
	n, err := c.RetrySendFile(t.Context(), client.RetryRequest{Delivery: id})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// obstruct puts a directory where the file is to be, and returns what takes it away.
func obstruct(t *testing.T, path string) (remove func()) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRetry sends to two machines, of which one has something in the way, and retries until that is gone.
func TestRetry(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	blocked, fine := s.Enrol(), s.Enrol()
	blocked.Start()
	fine.Start()
	s.AwaitOnline(blocked, fine)
	remove := obstruct(t, blocked.Path("/srv", "hello.txt"))
	id := s.Send(testenv.File(blocked, fine))
	before := s.Await(id)
	if before.Status != waybill.OverallPartial || before.Targets.Items[0].Attempt != 1 {
		t.Fatalf("%+v", before)
	}
	placed := modified(t, fine.Path("/srv", "hello.txt"))

	if n := retry(t, s.Client, id); n != (client.RetryCounts{Retried: 1, Skipped: 1}) {
		t.Errorf("%+v", n)
	}
	if d := s.Await(id); d.Targets.Items[0].Status != waybill.Failed || d.Targets.Items[0].Attempt != 2 {
		t.Errorf("with the obstacle still there: %+v", d.Targets.Items)
	}
	remove()
	retry(t, s.Client, id)
	d := s.Await(id)
	if now := d.Targets.Items[0]; d.Status != waybill.OverallSuccess || now.Attempt != 3 || now.Change != waybill.Created {
		t.Errorf("%s: %+v", d.Status, now)
	}
	if d.Targets.Items[1] != before.Targets.Items[1] || placed != modified(t, fine.Path("/srv", "hello.txt")) {
		t.Errorf("what had succeeded is %+v", d.Targets.Items[1])
	}
	if got, err := os.ReadFile(blocked.Path("/srv", "hello.txt")); err != nil || len(got) == 0 {
		t.Errorf("the file: %q, %v", got, err)
	}
	attempts, err := s.Client.DescribeSendFileAttempts(t.Context(), id, d.Targets.Items[0].Instance)
	if err != nil || len(attempts) != 3 || attempts[0].Status != waybill.Failed || attempts[1].ErrorCode == "" || attempts[2].Status != waybill.Success {
		t.Errorf("attempts: %+v, %v", attempts, err)
	}
	if n := retry(t, s.Client, id); n != (client.RetryCounts{Skipped: 2}) {
		t.Errorf("with nothing left to retry: %+v", n)
	}
}

// TestRetryOnOfficialAgent retries on an agent that knows nothing of attempts: a second one is a task of its own to it.
func TestRetryOnOfficialAgent(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	o := s.Official()
	remove := obstruct(t, o.Path("/srv", "hello.txt"))
	id := s.Send(testenv.OfficialFile(o))
	if d := s.Await(id); d.Status != waybill.OverallFailed {
		t.Fatalf("%+v", d.Targets.Items)
	}
	remove()
	if n := retry(t, s.Client, id); n != (client.RetryCounts{Retried: 1}) {
		t.Errorf("%+v", n)
	}
	if d := s.Await(id); d.Status != waybill.OverallSuccess || d.Targets.Items[0].Attempt != 2 {
		t.Errorf("%+v", d.Targets.Items)
	}
	if got, err := os.ReadFile(o.Path("/srv", "hello.txt")); err != nil || string(got) != "hello\n" {
		t.Errorf("the file: %q, %v", got, err)
	}
}

func modified(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime().UnixNano()
}

// TestServerKilledAfterRetry kills the server as soon as it has answered RetrySendFile: the second attempt takes place all
// the same.
func TestServerKilledAfterRetry(t *testing.T) {
	t.Parallel()
	p := newServerProcess(t)
	id, root, start := p.agent()
	path := filepath.Join(root, "srv", "hello.txt")
	remove := obstruct(t, path)
	start()
	r := testenv.File()
	r.Instances = []waybill.InstanceID{id}
	sent, err := p.client.SendFile(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	await := func(attempt int) client.Target {
		var target client.Target
		testenv.Eventually(t, "final", func() bool {
			l, err := p.client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{ID: sent}, client.Paging{})
			if err != nil || len(l.Items) != 1 {
				t.Fatalf("describe: %v", err)
			}
			target = l.Items[0].Targets.Items[0]
			return l.Items[0].Status.Final()
		})
		if target.Attempt != attempt {
			t.Errorf("attempt %d: %+v", attempt, target)
		}
		return target
	}
	if got := await(1); got.Status != waybill.Failed {
		t.Fatalf("%+v", got)
	}
	remove()
	n := retry(t, p.client, sent)
	p.kill()
	if n != (client.RetryCounts{Retried: 1}) {
		t.Errorf("%+v", n)
	}
	p.start()
	p.awaitUp()
	if got := await(2); got.Status != waybill.Success {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
