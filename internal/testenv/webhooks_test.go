// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
	"github.com/openwaybill/waybill/internal/webhook"
)

// hookReceiver is a webhook's other end. It verifies what it gets, and answers as answer says.
type hookReceiver struct {
	*httptest.Server
	t      *testing.T
	secret string
	answer atomic.Pointer[func(hookEvent) int] // nil: 204
	got    chan hookEvent
}

type hookEvent struct {
	SpecVersion, ID, Source, Type, Subject, Time, DataContentType string
	Data                                                          struct {
		InvokeId, RegionId, InstanceId, InvocationStatus, ErrorCode, Name, Change string
		VmCount, SuccessCount                                                     int
	}
	answered int
}

func (r *hookReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the server was killed
	}
	seconds, err := strconv.ParseInt(req.Header.Get("webhook-timestamp"), 10, 64)
	if err != nil {
		r.t.Errorf("timestamp: %v", err)
	}
	var e hookEvent
	if err := json.Unmarshal(body, &e); err != nil {
		r.t.Errorf("body %s: %v", body, err)
	}
	want, err := webhook.Sign(r.secret, e.ID, time.Unix(seconds, 0), body)
	if got := req.Header.Get("webhook-signature"); err != nil || got != want || req.Header.Get("webhook-id") != e.ID {
		r.t.Errorf("signature %s of %s, want %s, %v", got, req.Header.Get("webhook-id"), want, err)
	}
	if strings.Contains(string(body), contentOfWebhookTest) {
		r.t.Errorf("a content is sent: %s", body)
	}
	e.answered = http.StatusNoContent
	if answer := r.answer.Load(); answer != nil {
		e.answered = (*answer)(e)
	}
	w.WriteHeader(e.answered)
	r.got <- e
}

const contentOfWebhookTest = "content-that-nobody-else-sees"

// TestWebhooks is the life of events: refused twice, sent, sent again, kept over a kill of the server, not made while disabled.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	r := &hookReceiver{t: t, got: make(chan hookEvent, 100)}
	r.Server = httptest.NewServer(r)
	defer r.Close()
	quick := func(cfg *server.Config) {
		cfg.Control.Webhooks.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		cfg.Control.Webhooks.Backoff = func(int) time.Duration { return time.Millisecond }
		cfg.Control.Webhooks.Every = 20 * time.Millisecond
	}
	s := testenv.Start(t, quick)
	a := s.Enrol()
	a.Start()
	s.AwaitOnline(a)
	made, err := s.Client.CreateWebhook(t.Context(), client.WebhookSpec{URL: r.URL}, "")
	if err != nil {
		t.Fatal(err)
	}
	r.secret = made.Secret
	hook := made.Webhook.ID
	send := func(name string, to waybill.InstanceID) waybill.DeliveryID {
		return s.Send(client.SendFileRequest{
			Instances: []waybill.InstanceID{to}, File: waybill.FileSpec{Name: name, TargetDir: "/srv"}, Content: []byte(contentOfWebhookTest),
		})
	}
	// await returns the events of a delivery to one machine, as they were received, until both have ended. Which of them is told
	// first nobody promises.
	await := func(id waybill.DeliveryID) (list []hookEvent) {
		for left := 2; left > 0; {
			e := <-r.got
			if e.Data.InvokeId != string(id) {
				t.Errorf("an event of another delivery: %+v", e)
			}
			list = append(list, e)
			if e.Data.InvocationStatus == "Success" && e.answered == http.StatusNoContent {
				left--
			}
		}
		return list
	}

	var tries atomic.Int32
	twice := func(e hookEvent) int {
		if e.Type == string(waybill.DeliveryCreated) && tries.Add(1) <= 2 {
			return http.StatusInternalServerError
		}
		return http.StatusNoContent
	}
	r.answer.Store(&twice)
	id := send("first", a.ID)
	events := await(id)
	of := slices.DeleteFunc(slices.Clone(events), func(e hookEvent) bool { return e.Type != string(waybill.DeliveryCreated) })
	if len(of) != 3 || of[0].ID != of[1].ID || of[1].ID != of[2].ID || of[1].answered != 500 || of[2].answered != 204 {
		t.Fatalf("refused twice: %+v", of)
	}
	created, ended := of[2], events[slices.IndexFunc(events, func(e hookEvent) bool { return e.Type == string(waybill.DeliveryEnded) })]
	if created.Type != string(waybill.DeliveryCreated) || created.SpecVersion != "1.0" || created.Subject != string(id) || created.DataContentType != "application/json" ||
		!strings.HasPrefix(created.Source, "acs:waybill:"+testenv.Region+":") || created.Data.Name != "first" || created.Data.VmCount != 1 ||
		created.Data.RegionId != testenv.Region || created.Data.InvocationStatus != "Pending" {
		t.Errorf("created: %+v", created)
	}
	if _, err := time.Parse(time.RFC3339Nano, created.Time); err != nil {
		t.Error(err)
	}
	if ended.Data.InvocationStatus != "Success" || ended.Data.SuccessCount != 1 {
		t.Errorf("ended: %+v", ended)
	}
	target := slices.IndexFunc(events, func(e hookEvent) bool { return e.Data.InstanceId != "" && e.Data.InvocationStatus == "Success" })
	if target < 0 || events[target].Subject != string(id)+"/"+string(a.ID) || events[target].Type != string(waybill.TargetChanged) || events[target].Data.Change != "Created" {
		t.Errorf("no success of the target: %+v", events)
	}

	// What was sent is sent again with the same ID. That the creation was sent is noted, since its ending was sent after it.
	if n, err := s.Client.ReplayWebhookEvents(t.Context(), hook, client.Replay{IDs: []string{created.ID}}); err != nil || n != 1 {
		t.Fatalf("replay: %d, %v", n, err)
	}
	if again := <-r.got; again != created {
		t.Errorf("replayed %+v, want %+v", again, created)
	}

	// A receiver that is down, and a server that ends before it is back.
	address := r.Listener.Addr().String()
	r.Close()
	lost := send("second", a.ID)
	s.Await(lost)
	s.Restart()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = httptest.NewUnstartedServer(r)
	r.Listener.Close()
	r.Listener = l
	r.Start()
	defer r.Close()
	if events := await(lost); !slices.ContainsFunc(events, func(e hookEvent) bool { return e.Type == string(waybill.DeliveryCreated) }) {
		t.Errorf("after the restart: %+v", events)
	}

	// Of what happens while it is disabled it is never told; of what happens then, it is.
	if w, err := s.Client.ModifyWebhook(t.Context(), hook, client.WebhookSpec{Status: "Disabled"}); err != nil || w.Status != "Disabled" {
		t.Fatalf("disable: %+v, %v", w, err)
	}
	s.Await(send("unheard", a.ID))
	if w, err := s.Client.ModifyWebhook(t.Context(), hook, client.WebhookSpec{Status: "Enabled"}); err != nil || w.Status != "Enabled" {
		t.Fatalf("enable: %+v, %v", w, err)
	}
	await(send("heard", a.ID))

	// One that is told that it is gone is disabled, by the server, and that is on record.
	gone := func(hookEvent) int { return http.StatusGone }
	r.answer.Store(&gone)
	send("gone", a.ID)
	<-r.got
	reason := ""
	for reason == "" {
		list, err := s.Client.Webhooks(t.Context(), hook)
		if err != nil {
			t.Fatal(err)
		}
		reason = list[0].Reason
	}
	if want := "the receiver answered 410 Gone"; reason != want {
		t.Errorf("disabled because %q", reason)
	}
	records, err := s.Client.ListAuditRecords(t.Context(), waybill.AuditFilter{Action: "waybill:DisableWebhook"}, client.Paging{})
	if err != nil || len(records.Items) != 1 || records.Items[0].Subject != hook {
		t.Errorf("the audit trail: %+v, %v", records.Items, err)
	}
}

// TestServerKilledWithEvents kills a server, a process of its own, that nobody has taken an event from yet.
func TestServerKilledWithEvents(t *testing.T) {
	t.Parallel()
	r := &hookReceiver{t: t, got: make(chan hookEvent, 10)}
	r.Server = httptest.NewUnstartedServer(r)
	defer r.Close()
	p := newServerProcess(t, "--webhook-network", "127.0.0.0/8")
	id, _, _ := p.agent()
	made, err := p.client.CreateWebhook(t.Context(), client.WebhookSpec{URL: "http://" + r.Listener.Addr().String()}, "")
	if err != nil {
		t.Fatal(err)
	}
	r.secret = made.Secret
	request := testenv.File()
	request.Instances = []waybill.InstanceID{id}
	invoke, err := p.client.SendFile(t.Context(), request)
	p.kill()
	if err != nil {
		t.Fatal(err)
	}
	r.Start()
	p.start()
	p.awaitUp()
	// So that it does not wait until after its pause, if there was an attempt.
	if _, err := p.client.ModifyWebhook(t.Context(), made.Webhook.ID, client.WebhookSpec{Status: "Enabled"}); err != nil {
		t.Fatal(err)
	}
	if e := <-r.got; e.Subject != string(invoke) || e.Type != string(waybill.DeliveryCreated) {
		t.Errorf("%+v", e)
	}
}
