// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// garden is a fleet of machines that differ, by what they are called here.
type garden struct {
	*fixture
	ids    map[string]waybill.InstanceID
	names  map[waybill.InstanceID]string
	group  string
	second waybill.ActivationID
}

// plant enrols web-001 and web-002 with one activation and db-001 with another; gone is deregistered and cut quarantined.
func plant(t *testing.T, change ...func(*Config)) *garden {
	t.Helper()
	g := &garden{fixture: newFixture(t, change...), ids: map[string]waybill.InstanceID{}, names: map[waybill.InstanceID]string{}}
	ctx := t.Context()
	group, err := g.CreateResourceGroup(ctx, g.act(), "garden", "Garden")
	g.must(err)
	g.group = group.ID
	enrol := func(name, prefix string, tags ...waybill.Tag) waybill.Instance {
		i := g.enrolAs(waybill.Activation{Region: region, InstanceName: prefix, InstanceCount: 2, Tags: tags})
		g.must(g.Hello(ctx, i.ID, "session", waybill.Facts{Capability: wire.Capability}))
		g.ids[name], g.names[i.ID] = i.ID, name
		return i
	}
	env := func(v string) waybill.Tag { return waybill.Tag{Key: "env", Value: v} }
	enrol("web1", "web", env("test"))
	enrol("web2", "web", env("prod"), waybill.Tag{Key: "role", Value: "front"})
	g.second = enrol("db", "db", env("prod")).Activation
	g.must(g.leave(enrol("gone", "web", env("test")).ID, waybill.Deregistered))
	g.must(g.leave(enrol("cut", "web", env("test")).ID, waybill.Quarantine))
	g.must(g.JoinResourceGroup(ctx, g.act(), waybill.InstanceResource, string(g.ids["web2"]), g.group))
	return g
}

func (g *garden) leave(id waybill.InstanceID, to waybill.InstanceState) error {
	return g.store.LeaveFleet(g.t.Context(), id, to)
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// hit returns whom a delivery went to, by name and in alphabetical order.
func (g *garden) hit(who waybill.Principal, to Targets) (string, error) {
	r := request()
	r.Targets = to
	r.Region = region
	act := &waybill.Act{Principal: who, Action: "ecs:SendFile", Region: region}
	id, err := g.Send(g.t.Context(), act, r)
	if err != nil {
		return "", err
	}
	list, err := g.Deliveries(g.t.Context(), who, DeliveryFilter{Region: region, ID: id}, Page{Size: 1})
	g.must(err)
	var names []string
	for _, t := range list.Items[0].Targets {
		names = append(names, g.names[t.Instance])
	}
	slices.Sort(names)
	return strings.Join(names, " "), nil
}

func TestSelectors(t *testing.T) {
	t.Parallel()
	g := plant(t)
	prod := []waybill.Tag{{Key: "env", Value: "prod"}}
	for _, tt := range []struct {
		name     string
		selector waybill.Selector
		want     string
		code     waybill.Code
		says     string
	}{
		{"all", waybill.Selector{All: true}, "db web1 web2", "", ""},
		{"name", waybill.Selector{Name: "db-001"}, "db", "", ""},
		{"pattern", waybill.Selector{Name: "WEB-00?"}, "web1 web2", "", ""},
		{"tag", waybill.Selector{Tags: prod}, "db web2", "", ""},
		{"tag of any value", waybill.Selector{Tags: []waybill.Tag{{Key: "role"}}}, "web2", "", ""},
		{"two tags", waybill.Selector{Tags: append(slices.Clone(prod), waybill.Tag{Key: "role", Value: "front"})}, "web2", "", ""},
		{"activation", waybill.Selector{Activation: g.second}, "db", "", ""},
		{"group", waybill.Selector{ResourceGroup: g.group}, "web2", "", ""},
		{"several narrow", waybill.Selector{All: true, Name: "web-*", Tags: prod}, "web2", "", ""},
		{"nothing", waybill.Selector{Name: "mail-*", Tags: prod}, "", waybill.NothingSelected, "no instance in cn-hangzhou has the name mail-* and the tag env=prod"},
		{"deregistered and quarantined", waybill.Selector{Name: "web-*", Tags: []waybill.Tag{{Key: "env", Value: "test"}}}, "web1", "", ""},
		{"no such group", waybill.Selector{ResourceGroup: "rg-none"}, "", waybill.ResourceGroupNotFound, ""},
		{"bad tag", waybill.Selector{Tags: []waybill.Tag{{Value: "x"}}}, "", waybill.TagKeyMissing, ""},
	} {
		got, err := g.hit(g.who, Targets{Selector: tt.selector})
		if got != tt.want || err == nil != (tt.code == "") || err != nil && waybill.CodeOf(err) != tt.code {
			t.Errorf("%s: %q, %v; want %q %s", tt.name, got, err, tt.want, tt.code)
		}
		if err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want %s", tt.name, err, tt.says)
		}
		if err == nil { // a preview finds the same
			f, err := g.Preview(t.Context(), g.act(), Targets{Region: region, Selector: tt.selector}, 0, Page{Size: 10})
			if err != nil || f.Total != int64(len(strings.Fields(tt.want))) {
				t.Errorf("%s: preview %+v, %v", tt.name, f, err)
			}
		}
	}
}

func TestTargetsInSeveralWays(t *testing.T) {
	t.Parallel()
	g := plant(t, func(c *Config) { c.Limits.Instances, c.Limits.Targets = 1, 2 })
	web1, web2, db := g.ids["web1"], g.ids["web2"], g.ids["db"]
	list := func(ids ...waybill.InstanceID) []waybill.InstanceID { return ids }
	for _, tt := range []struct {
		name string
		to   Targets
		want string
		code waybill.Code
		says string
	}{
		{"list", Targets{List: list(web2, web1, web2)}, "", waybill.TargetsTooMany, "3 instances are meant, at most 2 are allowed"},
		{"a list beyond what may be named", Targets{List: list(web2, web1)}, "web1 web2", "", ""},
		{"unknown in a list", Targets{List: list(web1, "mi-none")}, " web1", "", ""},
		{"deregistered in a list", Targets{List: list(g.ids["gone"])}, "gone", "", ""},
		{"none of a list", Targets{List: list("mi-none")}, "", waybill.InstanceNotFound, ""},
		{"too many named", Targets{Instances: list(web1, db)}, "", waybill.InstancesTooMany, ""},
		{"too many selected", Targets{Selector: waybill.Selector{All: true}}, "", waybill.TargetsTooMany, "3 instances are meant, at most 2 are allowed"},
		{"none", Targets{}, "", waybill.InstancesMissing, ""},
		{"named and listed", Targets{Instances: list(web1), List: list(web2)}, "", waybill.TargetsConflict, "InstanceId cannot be given together with InstanceIds"},
		{"named and selected", Targets{Instances: list(web1), Selector: waybill.Selector{Name: "x"}}, "", waybill.TargetsConflict, "InstanceId cannot be given together with InstanceName"},
		{"listed and all", Targets{List: list(web1), Selector: waybill.Selector{All: true}}, "", waybill.TargetsConflict, "InstanceIds cannot be given together with AllInstances"},
		{"in the group of the delivery", Targets{Selector: waybill.Selector{ResourceGroup: g.group}, ResourceGroup: g.group}, "web2", "", ""},
		{"not in it", Targets{Selector: waybill.Selector{Name: "web-*"}, ResourceGroup: g.group}, "", waybill.ResourceGroupNotFound, ""},
	} {
		got, err := g.hit(g.who, tt.to)
		if got != tt.want || err == nil != (tt.code == "") || err != nil && (waybill.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %q, %v; want %q %s %s", tt.name, got, err, tt.want, tt.code, tt.says)
		}
	}
}

// TestSelectedInstancesMustBeAllowed looks that a selector reaches nothing that could not be sent to by its ID, and tells
// nothing of what there is.
func TestSelectedInstancesMustBeAllowed(t *testing.T) {
	t.Parallel()
	g := plant(t)
	env := func(v string) []waybill.Tag { return []waybill.Tag{{Key: "env", Value: v}} }
	tester := g.user("tester", document(statement("Allow", "ecs:SendFile", "*", `{"StringEquals":{"acs:ResourceTag/env":"test"}}`)))
	careful := g.user("careful", document(
		statement("Allow", "ecs:SendFile", "*", ""),
		statement("Deny", "ecs:SendFile", "*", `{"StringEquals":{"acs:ResourceTag/role":"front"}}`)))
	one := g.user("one", document(statement("Allow", "ecs:SendFile", "acs:ecs:*:*:instance/"+string(g.ids["db"]), "")))
	nobody := g.user("nobody", "")
	for _, tt := range []struct {
		name string
		who  waybill.Principal
		to   Targets
		want string
		code waybill.Code
	}{
		{"by the tag that is allowed", tester, Targets{Selector: waybill.Selector{Tags: env("test")}}, "web1", ""},
		{"by another", tester, Targets{Selector: waybill.Selector{Tags: env("prod")}}, "", waybill.NotAuthorized},
		{"all", tester, Targets{Selector: waybill.Selector{All: true}}, "", waybill.NotAuthorized},
		{"what happens to have the tag", tester, Targets{Selector: waybill.Selector{Name: "web-001", Tags: env("test")}}, "web1", ""},
		{"nothing, where it may send", tester, Targets{Selector: waybill.Selector{Name: "mail", Tags: env("test")}}, "", waybill.NothingSelected},
		{"nothing, where it may not", tester, Targets{Selector: waybill.Selector{Name: "mail"}}, "", waybill.NotAuthorized},
		{"a list", tester, Targets{List: []waybill.InstanceID{g.ids["web1"]}}, "web1", ""},
		{"a list with one more", tester, Targets{List: []waybill.InstanceID{g.ids["web1"], g.ids["db"]}}, "", waybill.NotAuthorized},
		{"one is denied", careful, Targets{Selector: waybill.Selector{All: true}}, "", waybill.NotAuthorized},
		{"without it", careful, Targets{Selector: waybill.Selector{Name: "db*"}}, "db", ""},
		{"the only one", one, Targets{Selector: waybill.Selector{Activation: g.second}}, "db", ""},
		{"more than the only one", one, Targets{Selector: waybill.Selector{Tags: env("prod")}}, "", waybill.NotAuthorized},
		{"nobody, what is there", nobody, Targets{Selector: waybill.Selector{Name: "db*"}}, "", waybill.NotAuthorized},
		{"nobody, what is not there", nobody, Targets{Selector: waybill.Selector{Name: "mail"}}, "", waybill.NotAuthorized},
	} {
		got, err := g.hit(tt.who, tt.to)
		if got != tt.want || err == nil != (tt.code == "") || err != nil && waybill.CodeOf(err) != tt.code {
			t.Errorf("%s: %q, %v; want %q %s", tt.name, got, err, tt.want, tt.code)
		}
		if d, ok := errors.AsType[*Denial](err); ok && !tt.to.Selector.Empty() && !strings.HasSuffix(d.Resource, ":instance/*") {
			t.Errorf("%s: the denial names %s", tt.name, d.Resource)
		}
		to := tt.to
		to.Region = region
		act := &waybill.Act{Principal: tt.who, Action: "ecs:SendFile", Region: region}
		if _, err := g.Preview(t.Context(), act, to, 0, Page{Size: 10}); err == nil != (tt.code == "") || err != nil && waybill.CodeOf(err) != tt.code {
			t.Errorf("%s: preview: %v", tt.name, err)
		}
	}
}

func TestPreviewTellsWhatHappensAtOnce(t *testing.T) {
	t.Parallel()
	g := plant(t)
	ctx := t.Context()
	g.must(g.Bye(ctx, g.ids["web2"], "session", waybill.Stopped))
	held := g.enrolAs(waybill.Activation{Region: region, InstanceName: "held"})
	to := Targets{Region: region, List: []waybill.InstanceID{g.ids["web1"], g.ids["web2"], g.ids["gone"], held.ID, "mi-none"}}
	var got []ForecastTarget
	var first Forecast
	for p := (Page{Size: 2}); ; {
		f, err := g.Preview(ctx, g.act(), to, 0, p)
		g.must(err)
		if got = append(got, f.Items...); p.Cursor == "" {
			first = f
		}
		if p.Cursor = f.Next; p.Cursor == "" {
			break
		}
	}
	outlooks := map[waybill.InstanceID]string{}
	for _, v := range got {
		outlooks[v.Instance] = fmt.Sprintf("%s %s", v.Outlook, v.Cause)
	}
	want := map[waybill.InstanceID]string{
		g.ids["web1"]: "Reachable ", held.ID: "Held ", "mi-none": "Ended " + string(waybill.CauseUnknown),
		g.ids["web2"]: "Ended " + string(waybill.CauseAgentStopped), g.ids["gone"]: "Ended " + string(waybill.CauseReleased),
	}
	if diff := cmp.Diff(want, outlooks); diff != "" || len(got) != 5 {
		t.Errorf("%d rows (-want +got):\n%s", len(got), diff)
	}
	if !slices.IsSortedFunc(got, func(a, b ForecastTarget) int { return strings.Compare(string(a.Instance), string(b.Instance)) }) {
		t.Errorf("not in order: %+v", got)
	}
	if first.Total != 5 || len(first.Groups) != 5 {
		t.Errorf("total %d in %+v", first.Total, first.Groups)
	}
	if list, err := g.Deliveries(ctx, g.who, DeliveryFilter{Region: region}, Page{Size: 1}); err != nil || list.Total != 0 {
		t.Errorf("a preview sent %d deliveries, %v", list.Total, err)
	}
	// What is previewed is what happens.
	r := request()
	r.Targets = to
	id := g.send(r)
	list, err := g.Deliveries(ctx, g.who, DeliveryFilter{Region: region, ID: id}, Page{Size: 1})
	g.must(err)
	for _, target := range list.Items[0].Targets {
		if before := strings.Fields(outlooks[target.Instance]); target.Status.Final() != (before[0] == "Ended") ||
			target.Status.Final() && string(target.Cause) != before[1] {
			t.Errorf("%s was to be %v and is %s %s", target.Instance, before, target.Status, target.Cause)
		}
	}
}

// TestSelectionRepeatsAsItWas sends again with the token of a selection that would select others by now.
func TestSelectionRepeatsAsItWas(t *testing.T) {
	t.Parallel()
	g := plant(t)
	send := func() (waybill.DeliveryID, error) {
		act := g.act()
		act.Token = "again"
		r := request()
		r.Targets = Targets{Region: region, Selector: waybill.Selector{Name: "db-001"}}
		return g.Send(t.Context(), act, r)
	}
	first, err := send()
	g.must(err)
	g.must(g.leave(g.ids["db"], waybill.Deregistered))
	if again, err := send(); again != first || err != nil {
		t.Errorf("%s, %v; want %s", again, err, first)
	}
}

// TestDiffNeedsItsOwnPermission lets a user rehearse, and compare only where its policy says so.
func TestDiffNeedsItsOwnPermission(t *testing.T) {
	t.Parallel()
	g := plant(t)
	who := g.user("reader", document(
		statement("Allow", "ecs:SendFile", "*", ""),
		statement("Allow", diffAction, "acs:ecs:*:*:instance/"+string(g.ids["db"]), "")))
	for _, tt := range []struct {
		name         string
		to           string
		dryRun, diff bool
		want         waybill.Code
	}{
		{"a rehearsal", "web1", true, false, ""},
		{"a comparison where it may", "db", true, true, ""},
		{"a comparison elsewhere", "web1", true, true, waybill.NotAuthorized},
		{"a comparison that is no rehearsal", "db", false, true, waybill.MissingField},
	} {
		r := request()
		r.Targets = Targets{Region: region, List: []waybill.InstanceID{g.ids[tt.to]}}
		r.DryRun, r.Diff = tt.dryRun, tt.diff
		_, err := g.Send(t.Context(), &waybill.Act{Principal: who, Action: "ecs:SendFile", Region: region}, r)
		if err == nil != (tt.want == "") || err != nil && waybill.CodeOf(err) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestRehearsalsNeedAnAgentThatCan ends at once what an agent cannot rehearse, and when it comes what was sent before.
func TestRehearsalsNeedAnAgentThatCan(t *testing.T) {
	t.Parallel()
	g := plant(t)
	ctx := t.Context()
	r := request()
	r.DryRun = true
	r.Targets = Targets{Region: region, List: []waybill.InstanceID{g.enrolAs(waybill.Activation{Region: region, InstanceName: "new"}).ID}}
	id := g.send(r)
	if got := g.target(id); got.Status != waybill.Pending {
		t.Fatalf("of an agent that is not known: %+v", got)
	}
	g.must(g.Hello(ctx, r.List[0], "s", waybill.Facts{Capability: wire.RehearseCapability - 1, AgentVersion: "0.9"}))
	for _, id := range []waybill.DeliveryID{id, g.send(r)} {
		if got := g.target(id); got.Cause != waybill.CauseAgentTooOld || !strings.Contains(got.Detail, "for a rehearsal 4 is needed") {
			t.Errorf("of one that is too old: %+v", got)
		}
	}
	g.must(g.Hello(ctx, r.List[0], "s", waybill.Facts{Capability: wire.RehearseCapability}))
	id = g.send(r)
	page, err := g.Pull(ctx, r.List[0], "")
	if err != nil || len(page.Deliveries) != 1 || len(page.Deliveries[0].SHA256) != 0 || len(page.Deliveries[0].Rehearse) != 32 {
		t.Errorf("pulled: %+v, %v", page, err)
	}
	if _, ok, err := g.OfferOne(ctx, r.List[0], id); ok || err != nil {
		t.Errorf("it was handed out as a file to place: %v, %v", ok, err)
	}
}

// TestAuditNamesSomeOfASelection bounds the record of a delivery to many.
func TestAuditNamesSomeOfASelection(t *testing.T) {
	t.Parallel()
	g := plant(t)
	act := g.act()
	r := request()
	r.Targets = Targets{Region: region, List: []waybill.InstanceID{g.ids["db"]}}
	for n := range maxAudited + 9 {
		r.List = append(r.List, waybill.InstanceID(fmt.Sprintf("mi-none-%d", n)))
	}
	_, err := g.Send(t.Context(), act, r)
	g.must(err)
	if last := act.Resources[len(act.Resources)-1]; len(act.Resources) != maxAudited+1 || last != "and 10 more" {
		t.Errorf("%d resources, the last is %s", len(act.Resources), last)
	}
}

// TestSendingMeetsASelection looks that machines that play a part are asked about whom a selector means.
func TestSendingMeetsASelection(t *testing.T) {
	t.Parallel()
	var g *garden
	g = plant(t, func(c *Config) {
		c.Sending = func(ctx context.Context, _ *waybill.Delivery, to []waybill.InstanceID) (func(bool), error) {
			return func(bool) {}, g.Bye(ctx, to[0], "session", waybill.Stopped)
		}
	})
	r := request()
	r.Targets = Targets{Region: region, Selector: waybill.Selector{Name: "db-001"}}
	r.Timeout = time.Minute
	if got := g.target(g.send(r)); got.Cause != waybill.CauseAgentStopped {
		t.Errorf("the change came too late: %+v", got)
	}
}
