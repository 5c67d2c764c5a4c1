// SPDX-License-Identifier: Apache-2.0

package control

import (
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

func (f *fixture) retry(id waybill.DeliveryID, change ...func(*waybill.Act, *RetryRequest)) waybill.RetryCounts {
	f.t.Helper()
	act, r := f.act(), RetryRequest{Region: region, Delivery: id}
	for _, c := range change {
		c(act, &r)
	}
	n, err := f.Retry(f.t.Context(), act, r)
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// TestRetryConverses goes through all that is said with an agent about a second attempt.
func TestRetryConverses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.enrol()
	got := f.listen(i)
	id := f.send(request(i))
	if first := <-got; first.Delivery != string(id) {
		t.Fatalf("sent %+v", first)
	}
	f.report(id, i, waybill.CauseExists, f.clock())
	f.advance(time.Hour) // the deadline of the first has passed
	long := func(_ *waybill.Act, r *RetryRequest) { r.Timeout = 10 * time.Minute }
	if n := f.retry(id, long); n != (waybill.RetryCounts{Retried: 1}) {
		t.Fatalf("%+v", n)
	}
	name := wire.AttemptID(string(id), 2)
	deadline := f.clock().Truncate(time.Millisecond).Add(10 * time.Minute).UnixMilli()
	if m := <-got; m.Delivery != name || m.Deadline != deadline || len(m.Content) == 0 {
		t.Errorf("sent again: %+v", m)
	}
	pulled, err := f.Pull(t.Context(), i, "")
	if err != nil || len(pulled.Deliveries) != 1 || pulled.Deliveries[0].Delivery != name || pulled.Deliveries[0].Deadline != deadline {
		t.Errorf("pulled: %+v, %v", pulled, err)
	}
	if pulled, err = f.Pull(t.Context(), i, waybill.DeliveryID(name)); err != nil || len(pulled.Deliveries) != 0 {
		t.Errorf("pulled after it: %+v, %v", pulled, err)
	}
	if fetch, err := f.Fetch(t.Context(), i, waybill.DeliveryID(name)); err != nil || fetch.Until.UnixMilli() != deadline {
		t.Errorf("fetched: %+v, %v", fetch, err)
	}
	if _, err := f.Fetch(t.Context(), i, id); waybill.CodeOf(err) != waybill.DeliveryNotOpen {
		t.Errorf("fetched by the name of the first: %v", err)
	}
	if !f.repeats.queue[0].deadline.Equal(time.UnixMilli(deadline)) {
		t.Errorf("repeated until %v", f.repeats.queue[0].deadline)
	}
	f.sweepNow()
	f.Ack(t.Context(), i, id, f.clock())
	f.report(id, i, waybill.NoCause, f.clock())
	if now := f.target(id); now.Status != waybill.Pending || now.Attempt != 2 {
		t.Errorf("a late report of the first, or the sweeper, made it %+v", now)
	}
	f.stop(id)
	if pulled, err = f.Pull(t.Context(), i, ""); err != nil || len(pulled.Cancels) != 1 || pulled.Cancels[0].Delivery != name || pulled.Cancels[0].Deadline != deadline {
		t.Errorf("to cancel: %+v, %v", pulled, err)
	}
	f.Ack(t.Context(), i, waybill.DeliveryID(name), f.clock())
	f.report(waybill.DeliveryID(name), i, waybill.CauseCancelled, f.clock())
	if now := f.target(id); now.Cause != waybill.CauseCancelled {
		t.Errorf("then it is %+v", now)
	}
	list, err := f.Attempts(t.Context(), f.who, region, id, i)
	if err != nil || len(list) != 2 || list[0].Cause != waybill.CauseExists || list[1].Cause != waybill.CauseCancelled {
		t.Errorf("attempts: %+v, %v", list, err)
	}
}

// TestRetryCounts retries what has failed, what is open, what has succeeded, and what cannot be reached.
func TestRetryCounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	failed, open, gone := f.enrol(), f.enrol(), f.enrol()
	id := f.send(request(failed, open, gone))
	f.report(id, failed, waybill.CauseExists, f.clock())
	if _, err := f.Deregister(t.Context(), f.act(), gone); err != nil {
		t.Fatal(err)
	}
	once := func(a *waybill.Act, _ *RetryRequest) { a.Token = "once" }
	want := waybill.RetryCounts{Retried: 2, Skipped: 1}
	for _, what := range []string{"first", "repeated"} {
		if n := f.retry(id, once); n != want {
			t.Errorf("%s: %+v", what, n)
		}
	}
	if l, err := f.Attempts(t.Context(), f.who, region, id, gone); err != nil || len(l) != 2 || l[1].Cause != waybill.CauseReleased {
		t.Errorf("what has left the fleet: %+v, %v", l, err)
	}
	only := func(_ *waybill.Act, r *RetryRequest) { r.Instances = []waybill.InstanceID{gone} }
	for n := 3; n <= waybill.MaxAttempts; n++ {
		if n := f.retry(id, only); n != (waybill.RetryCounts{Retried: 1}) {
			t.Errorf("again: %+v", n)
		}
	}
	if n := f.retry(id); n != (waybill.RetryCounts{Skipped: 2, Exhausted: 1}) {
		t.Errorf("too often: %+v", n)
	}
}

// TestRetryRefuses what it does not know, and then changes nothing.
func TestRetryRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i, other := f.enrol(), f.enrol()
	id := f.send(request(i))
	f.report(id, i, waybill.CauseExists, f.clock())
	of := func(instances ...waybill.InstanceID) RetryRequest {
		return RetryRequest{Region: region, Delivery: id, Instances: instances}
	}
	unknown, slow := of(), of()
	unknown.Delivery, slow.Timeout = "f-none", f.cfg.Limits.MaxTimeout+1
	check := func(name string, who waybill.Principal, r RetryRequest, want waybill.Code) {
		t.Helper()
		if _, err := f.Retry(t.Context(), actOf(who), r); waybill.CodeOf(err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	check("no such delivery", f.who, unknown, waybill.DeliveryNotFound)
	check("another account's", f.other(), of(), waybill.DeliveryNotFound)
	check("no target of it", f.who, of(i, other), waybill.InstanceNotFound)
	check("too many are named", f.who, of(make([]waybill.InstanceID, f.cfg.Limits.Instances+1)...), waybill.InstancesTooMany)
	check("too long", f.who, slow, waybill.TimeoutTooLong)
	f.advance(f.cfg.RetainFor)
	check("about to be removed", f.who, of(), waybill.DeliveryNotFound)
	if got := f.target(id); got.Attempt != 1 {
		t.Errorf("it is %+v", got)
	}
}
