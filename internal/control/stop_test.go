// SPDX-License-Identifier: Apache-2.0

package control

import (
	"testing"

	"github.com/openwaybill/waybill"
)

func (f *fixture) stop(id waybill.DeliveryID, instances ...waybill.InstanceID) waybill.StopCounts {
	f.t.Helper()
	n, err := f.Stop(f.t.Context(), f.act(), region, id, instances)
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// TestStopAndPull lets a machine that was away come: what was stopped before is not given to it, and what it may have had is
// asked for, also once it is Running.
func TestStopAndPull(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.enrol()
	bye(waybill.Upgrading)(f, i)
	never, given := f.send(request(i)), f.send(request(i))
	if n := f.stop(never); n != (waybill.StopCounts{Cancelled: 1}) {
		t.Errorf("never sent: %+v", n)
	}
	if got := f.target(never); got.Cause != waybill.CauseCancelled {
		t.Errorf("never sent: %+v", got)
	}
	reply, err := f.Pull(t.Context(), i, "")
	if err != nil || len(reply.Deliveries) != 1 || reply.Deliveries[0].Delivery != string(given) || len(reply.Cancels) > 0 {
		t.Fatalf("pulled %+v, %v", reply, err)
	}
	if n := f.stop(given); n != (waybill.StopCounts{Asked: 1}) {
		t.Errorf("given: %+v", n)
	}
	f.Ack(t.Context(), i, given, f.clock())
	reply, err = f.Pull(t.Context(), i, "")
	if err != nil || len(reply.Deliveries) > 0 || len(reply.Cancels) != 1 || reply.Cancels[0].Delivery != string(given) || reply.Cancels[0].Deadline == 0 {
		t.Errorf("pulled then %+v, %v", reply, err)
	}
	if f.repeats.len() == 0 {
		t.Error("it is not asked again")
	}
	f.report(given, i, waybill.CauseCancelled, f.clock())
	if got := f.target(given); got.Status != waybill.Aborted || got.Cause != waybill.CauseCancelled {
		t.Errorf("given up: %+v", got)
	}
}

// TestStopRefuses what it does not know, and then changes nothing.
func TestStopRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i, other := f.enrol(), f.enrol()
	id := f.send(request(i))
	many := make([]waybill.InstanceID, f.cfg.Limits.Instances+1)
	for name, tc := range map[string]struct {
		who       waybill.Principal
		id        waybill.DeliveryID
		instances []waybill.InstanceID
		want      waybill.Code
	}{
		"no such delivery":   {f.who, "f-none", nil, waybill.DeliveryNotFound},
		"another account's":  {f.other(), id, nil, waybill.DeliveryNotFound},
		"no target of it":    {f.who, id, []waybill.InstanceID{i, other}, waybill.InstanceNotFound},
		"too many are named": {f.who, id, many, waybill.InstancesTooMany},
	} {
		if _, err := f.Stop(t.Context(), actOf(tc.who), region, tc.id, tc.instances); waybill.CodeOf(err) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := f.target(id); !got.Stopped.IsZero() {
		t.Errorf("it is to stop since %v", got.Stopped)
	}
}

// TestStartedAfterStop hands out to an official agent what was stopped a moment ago, as a fetch that had looked before would.
func TestStartedAfterStop(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	i := f.enrol()
	bye(waybill.Upgrading)(f, i)
	stopped, open, again := f.send(request(i)), f.send(request(i)), f.send(request(i))
	list := []waybill.DeliveryID{stopped, open, again}
	if _, _, err := f.Started(t.Context(), i, list[2:]); err != nil {
		t.Fatal(err)
	}
	f.stop(stopped)
	first, still, err := f.Started(t.Context(), i, list)
	if err != nil || first[0] || still[0] || !first[1] || !still[1] || first[2] || !still[2] {
		t.Errorf("%v %v, %v", first, still, err)
	}
}
