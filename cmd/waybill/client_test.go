// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/client/clienttest"
)

type object = map[string]any

// fleet is an API with machines in memory. A delivery takes one question to be acknowledged and another to end, as the
// machine's outcome says.
type fleet struct {
	*clienttest.Server

	mu         sync.Mutex
	machines   []machine
	deliveries []*delivery // oldest first
	refuseSend map[int]*client.Error
	sends      int
}

type machine struct {
	id, name, role string
	outcome        client.Target // what deliveries to it come to; the zero value is success
	stuck          bool          // deliveries to it never end
}

type delivery struct {
	id      waybill.DeliveryID
	params  map[string]string
	targets []machine
	asked   int
}

// newFleet starts an API with machines mi-001… named demo-001…; every second has the tag role=db, others role=web.
func newFleet(t *testing.T, machines int) *fleet {
	t.Helper()
	f := &fleet{refuseSend: map[int]*client.Error{}}
	for i := range machines {
		f.machines = append(f.machines, machine{
			id: fmt.Sprintf("mi-%03d", i+1), name: fmt.Sprintf("demo-%03d", i+1), role: []string{"web", "db"}[i%2],
		})
	}
	f.Server = clienttest.NewServer(t, map[string]clienttest.Handler{
		"DescribeRegions": func(clienttest.Call) any {
			return object{"Regions": object{"Region": []object{{"RegionId": "cn-first"}, {"RegionId": "cn-second"}}}}
		},
		"SendFile":                     f.sendFile,
		"PreviewSendFile":              f.previewSendFile,
		"DescribeSendFileResults":      f.describeSendFileResults,
		"DescribeSendFileTargets":      f.describeSendFileTargets,
		"DescribeManagedInstances":     f.describeManagedInstances,
		"ModifyManagedInstance":        func(clienttest.Call) any { return object{} },
		"DeregisterManagedInstance":    f.deregisterManagedInstance,
		"DescribeCloudAssistantStatus": f.describeCloudAssistantStatus,
		"CreateInstanceToken": func(c clienttest.Call) any {
			return object{"InstanceId": c.Params["InstanceId"], "Token": c.Params["InstanceId"] + ".s3cret"}
		},
		"DeleteInstanceToken": func(clienttest.Call) any { return object{} },
		"CreateActivation": func(clienttest.Call) any {
			return object{"ActivationId": "4ECEEE12", "ActivationCode": "a-hz0ch3+Xo32/lAZC"}
		},
		"DescribeActivations": func(clienttest.Call) any {
			return object{"ActivationList": []object{{
				"ActivationId": "4ECEEE12", "InstanceName": "web", "InstanceCount": 10, "RegisteredCount": 3,
				"TimeToLiveInHours": 4, "CreationTime": "2026-11-23T12:00:00Z",
			}}}
		},
		"DisableActivation": func(c clienttest.Call) any {
			return object{"Activation": object{"ActivationId": c.Params["ActivationId"], "Disabled": true}}
		},
		"DeleteActivation": func(clienttest.Call) any {
			return &client.Error{Status: 403, Code: "ActivationId.InUse", Message: "The specified activation id is in use."}
		},
		"ListAccessKeys": func(clienttest.Call) any {
			return object{"AccessKeys": object{"AccessKey": []object{
				{"AccessKeyId": "K1", "Status": "Active", "CreateDate": "2026-11-23T12:00:00Z"},
			}}}
		},
		"CreateAccessKey": func(clienttest.Call) any {
			return object{"AccessKey": object{"AccessKeyId": "K2", "AccessKeySecret": "s3cret", "Status": "Active"}}
		},
		"UpdateAccessKey": func(clienttest.Call) any { return object{} },
		"DeleteAccessKey": func(clienttest.Call) any { return object{} },
	})
	return f
}

func (f *fleet) sendFile(c clienttest.Call) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sends++
	if e := f.refuseSend[f.sends]; e != nil {
		return e
	}
	d := &delivery{id: waybill.DeliveryID(fmt.Sprintf("f-%d", f.sends)), params: c.Params}
	for _, id := range f.chosen(c) {
		i := slices.IndexFunc(f.machines, func(m machine) bool { return m.id == id })
		if i < 0 {
			d.targets = append(d.targets, machine{id: id, outcome: client.Target{
				Status: waybill.Aborted, ErrorCode: "InstanceNotExists", ErrorInfo: "the specified instance does not exists",
			}})
			continue
		}
		d.targets = append(d.targets, f.machines[i])
	}
	f.deliveries = append(f.deliveries, d)
	return object{"InvokeId": d.id}
}

// chosen returns the IDs of whom a call means.
func (f *fleet) chosen(c clienttest.Call) []string {
	ids := listParam(c, "InstanceId")
	if list := c.Params["InstanceIds"]; list != "" {
		if err := json.Unmarshal([]byte(list), &ids); err != nil {
			panic(err)
		}
	}
	if len(ids) > 0 {
		return ids
	}
	for _, m := range f.machines {
		if c.Params["AllInstances"] == "true" || c.Params["ResourceTag.1.Value"] == m.role {
			ids = append(ids, m.id)
		}
	}
	return ids
}

// previewSendFile pages by two.
func (f *fleet) previewSendFile(c clienttest.Call) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := f.chosen(c)
	all := make([]client.PreviewTarget, len(ids))
	for i, id := range ids {
		all[i] = client.PreviewTarget{Instance: waybill.InstanceID(id), Outlook: client.Ended, ErrorCode: "InstanceNotExists"}
		if n := slices.IndexFunc(f.machines, func(m machine) bool { return m.id == id }); n >= 0 {
			all[i] = client.PreviewTarget{Instance: waybill.InstanceID(id), Name: f.machines[n].name, Outlook: client.Reachable}
		}
	}
	offset, _ := strconv.Atoi(c.Params["NextToken"])
	end, next := min(offset+2, len(all)), ""
	if end < len(all) {
		next = strconv.Itoa(end)
	}
	return object{
		"TotalCount": len(all), "NextToken": next, "PreviewInstances": object{"PreviewInstance": all[offset:end]},
		"PreviewGroups": object{"PreviewGroup": []object{{"Outlook": "Reachable", "Count": len(all)}}},
	}
}

func (f *fleet) describeSendFileResults(c clienttest.Call) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := []client.Delivery{}
	for _, d := range slices.Backward(f.deliveries) {
		if id := c.Params["InvokeId"]; id != "" && id != string(d.id) {
			continue
		}
		d.asked++
		shown := d.describe(c.Params["InstanceId"])
		if all := shown.Targets.Items; len(all) > shownResults {
			shown.Targets.Items, shown.Omitted = all[:shownResults], true
		}
		if s := c.Params["InvocationStatus"]; s == "" || s == string(shown.Status) {
			found = append(found, shown)
		}
	}
	return object{"Invocations": client.Deliveries{Items: found}, "TotalCount": len(found)}
}

// shownResults is how many targets of a delivery are listed with it.
const shownResults = 150

// describeSendFileTargets pages by a hundred.
func (f *fleet) describeSendFileTargets(c clienttest.Call) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.deliveries[slices.IndexFunc(f.deliveries, func(d *delivery) bool { return string(d.id) == c.Params["InvokeId"] })]
	all, counts := []client.NamedTarget{}, map[waybill.Status]int{}
	for i, t := range d.describe("").Targets.Items {
		all = append(all, client.NamedTarget{Instance: t.Instance, Name: d.targets[i].name, Status: t.Status, Finished: t.Finished})
		counts[t.Status]++
	}
	groups := []object{}
	for status, n := range counts {
		groups = append(groups, object{"InvocationStatus": status, "Count": n})
	}
	offset, _ := strconv.Atoi(c.Params["NextToken"])
	end, next := min(offset+100, len(all)), ""
	if end < len(all) {
		next = strconv.Itoa(end)
	}
	return object{
		"NextToken": next, "InvokeInstances": object{"InvokeInstance": all[offset:end]}, "InvocationGroups": object{"InvocationGroup": groups},
	}
}

func (d *delivery) describe(instance string) client.Delivery {
	shown := client.Delivery{
		ID: d.id, Name: d.params["Name"], TargetDir: d.params["TargetDir"], TargetCount: len(d.targets),
		Created: "2026-11-23T12:00:00Z",
	}
	counts := waybill.Counts{}
	for _, m := range d.targets {
		t := m.outcome
		t.Instance, t.Status = waybill.InstanceID(m.id), cmp.Or(t.Status, waybill.Success)
		switch {
		case d.asked == 1:
			t = client.Target{Instance: t.Instance, Status: waybill.Pending}
		case d.asked == 2 || m.stuck:
			t = client.Target{Instance: t.Instance, Status: waybill.Running}
		default:
			t.Finished = "2026-11-23T12:00:01Z"
		}
		counts.Add(t.Status, 1)
		if instance == "" || instance == m.id {
			shown.Targets.Items = append(shown.Targets.Items, t)
		}
	}
	shown.Status = counts.Aggregate()
	return shown
}

// describeManagedInstances pages by two at a time, so that every command has to follow pages.
func (f *fleet) describeManagedInstances(c clienttest.Call) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted := listParam(c, "InstanceId")
	all := []client.Instance{}
	for _, m := range f.machines {
		named := len(wanted) == 0 || slices.Contains(wanted, m.id)
		tagged := c.Params["Tag.1.Key"] != "role" || c.Params["Tag.1.Value"] == m.role
		if named && tagged {
			all = append(all, m.describe())
		}
	}
	offset, _ := strconv.Atoi(c.Params["NextToken"])
	end := min(offset+2, len(all))
	next := ""
	if end < len(all) {
		next = strconv.Itoa(end)
	}
	return object{"Instances": all[offset:end], "NextToken": next, "TotalCount": len(all)}
}

// describe makes mi-003 a machine with the official agent that has lost its channel.
func (m machine) describe() client.Instance {
	i := client.Instance{
		ID: waybill.InstanceID(m.id), Name: m.name, Connected: !m.stuck, OSType: "linux", IntranetIP: "10.0.0.1",
		AgentKind: waybill.NativeAgent, Channel: "open",
		AgentVersion: "1.0", Registered: "2026-11-23T12:00:00Z", Tags: []client.Tag{{Key: "role", Value: m.role}},
	}
	if m.id == "mi-003" {
		i.AgentKind, i.Channel, i.NextChannel = waybill.OfficialAgent, "lost", "2026-11-23T12:30:00Z"
	}
	return i
}

func (f *fleet) deregisterManagedInstance(c clienttest.Call) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.machines, func(m machine) bool { return m.id == c.Params["InstanceId"] })
	if i < 0 {
		return &client.Error{Status: 404, Code: "InvalidInstance.NotFound", Message: "The instance does not exist."}
	}
	gone := f.machines[i].describe()
	f.machines = slices.Delete(f.machines, i, i+1)
	return object{"Instance": gone}
}

func (f *fleet) describeCloudAssistantStatus(c clienttest.Call) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted := listParam(c, "InstanceId")
	found := []client.AgentStatus{}
	for _, m := range f.machines {
		if len(wanted) == 0 || slices.Contains(wanted, m.id) {
			found = append(found, client.AgentStatus{
				Instance: waybill.InstanceID(m.id), Connected: "true", Version: "1.0", OSType: "Linux",
				LastHeartbeat: "2026-11-23T12:00:00Z", OpenDeliveries: 1, Deliveries: 2,
			})
		}
	}
	return object{"InstanceCloudAssistantStatusSet": object{"InstanceCloudAssistantStatus": found}}
}

// withoutToken returns the parameters of a call but its client token, which must be there.
func withoutToken(t *testing.T, c clienttest.Call) map[string]string {
	t.Helper()
	params := maps.Clone(c.Params)
	if params["ClientToken"] == "" {
		t.Error("no client token")
	}
	delete(params, "ClientToken")
	return params
}

func listParam(c clienttest.Call, name string) []string {
	var values []string
	for i := 1; c.Params[fmt.Sprintf("%s.%d", name, i)] != ""; i++ {
		values = append(values, c.Params[fmt.Sprintf("%s.%d", name, i)])
	}
	return values
}

// environment is what the commands of these tests find set.
func (f *fleet) environment() map[string]string {
	return map[string]string{
		"WAYBILL_ENDPOINT": f.URL, "WAYBILL_CA": f.CAFile, "WAYBILL_REGION": "cn-test",
		"ALIBABA_CLOUD_ACCESS_KEY_ID": f.AccessKeyID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": f.AccessKeySecret,
	}
}

// ran is what is left of a command that has ended.
type ran struct {
	code     int
	out, err string
}

// run runs a command line as main does.
func (f *fleet) run(t *testing.T, args ...string) ran {
	t.Helper()
	return runIn(t.Context(), f.environment(), "", args...)
}

func runIn(ctx context.Context, environment map[string]string, in string, args ...string) ran {
	var out, stderr bytes.Buffer
	e := env{
		in: strings.NewReader(in), out: &out, err: &stderr,
		lookup: func(name string) (string, bool) { value, ok := environment[name]; return value, ok },
	}
	code := run(ctx, args, e)
	return ran{code, out.String(), stderr.String()}
}

func (r ran) expect(t *testing.T, code int, inErr ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d; stderr:\n%s", r.code, code, r.err)
	}
	for _, want := range inErr {
		if !strings.Contains(r.err, want) {
			t.Errorf("%q is not in stderr:\n%s", want, r.err)
		}
	}
}
