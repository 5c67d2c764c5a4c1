// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"testing"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/testenv"
)

// withToken is a SendFile with a ClientToken, as parameters of the API.
func withToken(instance waybill.InstanceID, name, token string) url.Values {
	r := testenv.File()
	return url.Values{
		"InstanceId.1": {string(instance)}, "Name": {name}, "TargetDir": {"/srv"}, "Content": {"hello\n"}, "ClientToken": {token},
		"FileOwner": {r.File.Owner}, "FileGroup": {r.File.Group},
	}
}

// TestRepeatedSendAcrossAKill sends one SendFile from 64 clients at once and kills the server in the middle. Every
// client repeats until it is answered: all are answered alike, the file arrives once, and the audit trail is whole.
func TestRepeatedSendAcrossAKill(t *testing.T) {
	t.Parallel()
	p := newServerProcess(t)
	id, _, startAgent := p.agent()
	for round := range 3 {
		params := withToken(id, fmt.Sprint("file-", round), fmt.Sprint("token-", round))
		send := func() (string, error) {
			var out struct{ InvokeId string }
			err := p.client.Call(context.Background(), "SendFile", params, &out)
			return out.InvokeId, err
		}
		answers := make([]string, 64)
		var wg, first sync.WaitGroup
		first.Add(1 + 8*round) // the kill comes after so many answers: one, some, more
		var once [64]sync.Once
		for i := range answers {
			wg.Go(func() {
				if got, err := send(); err == nil {
					answers[i] = got
				}
				if i < 1+8*round {
					once[i].Do(first.Done)
				}
			})
		}
		first.Wait()
		p.kill()
		wg.Wait()
		p.start()
		p.awaitUp()
		for i := range answers {
			wg.Go(func() {
				if answers[i] != "" {
					return
				}
				testenv.Eventually(t, "answer "+strconv.Itoa(i), func() bool {
					got, err := send()
					answers[i] = got
					return err == nil
				})
			})
		}
		wg.Wait()
		for i, got := range answers {
			if got != answers[0] || got == "" {
				t.Errorf("round %d, client %d: %q, others %q", round, i, got, answers[0])
			}
		}
	}
	l, err := p.client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{}, client.Paging{})
	if err != nil || l.Total != 3 {
		t.Errorf("%d deliveries, %v; want 3", l.Total, err)
	}
	startAgent()
	for _, d := range l.Items {
		testenv.Eventually(t, "success", func() bool {
			now, err := p.client.DescribeSendFileResults(t.Context(), client.DeliveryFilter{ID: d.ID}, client.Paging{})
			if err != nil || len(now.Items) != 1 {
				t.Fatal(err)
			}
			if now.Items[0].Status == waybill.OverallFailed { // a second write would be FileAlreadyExists
				t.Fatalf("ended as %+v", now.Items[0].Targets)
			}
			return now.Items[0].Status == waybill.OverallSuccess
		})
	}

	var verdict struct {
		Valid   bool
		Problem string
	}
	if err := p.client.Call(t.Context(), "VerifyAuditRecords", nil, &verdict); err != nil || !verdict.Valid {
		t.Errorf("audit trail: %+v, %v", verdict, err)
	}
	var trail struct {
		AuditRecords struct {
			AuditRecord []struct{ Subject, Result string }
		}
	}
	query := url.Values{"EventAction": {"ecs:SendFile"}, "MaxResults": {"1000"}}
	if err := p.client.Call(t.Context(), "ListAuditRecords", query, &trail); err != nil {
		t.Fatal(err)
	}
	made := map[string]int{}
	for _, r := range trail.AuditRecords.AuditRecord {
		if r.Result == waybill.AuditOK {
			made[r.Subject]++
		}
	}
	for _, d := range l.Items {
		if made[string(d.ID)] != 1 {
			t.Errorf("%d records of %s having been made", made[string(d.ID)], d.ID)
		}
	}
	if len(made) != 3 {
		t.Errorf("records of %d deliveries, want 3", len(made))
	}
}
