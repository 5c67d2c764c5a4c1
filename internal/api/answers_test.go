// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"testing"

	"github.com/openwaybill/waybill"
)

// TestAnswersAreBoundedTogether takes all the room that an account may have, and then all there is.
func TestAnswersAreBoundedTogether(t *testing.T) {
	t.Parallel()
	a := newAnswers(0)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	full := func(account waybill.AccountID) (places []*place) {
		t.Helper()
		for range accountRoom / likelyMost {
			p, err := a.take(t.Context(), account)
			if err != nil {
				t.Fatal(err)
			}
			if !p.fit(likelyMost - 1) { // as nearly every answer is shorter than it was counted
				t.Fatal("no room for what was taken")
			}
			places = append(places, p)
		}
		if _, err := a.take(gone, account); waybill.CodeOf(err) != waybill.Unavailable {
			t.Errorf("one more of %s: %v", account, err)
		}
		return places
	}
	accounts := []waybill.AccountID{"a", "b", "c", "d"}
	if accountRoom*len(accounts) != answerRoom {
		t.Fatal("as many accounts as have all the room")
	}
	var places [][]*place
	for _, account := range accounts {
		places = append(places, full(account))
	}
	if _, err := a.take(gone, "e"); waybill.CodeOf(err) != waybill.Unavailable {
		t.Errorf("of another account: %v", err)
	}
	if places[1][0].fit(2 * likelyMost) {
		t.Error("a longer answer found room that is not there")
	}
	for _, p := range places[0] {
		if !p.fit(smallAnswer) {
			t.Error("no room for a short answer")
		}
	}
	if places[1][0].fit(2 * likelyMost) {
		t.Error("a longer answer found room that is another account's")
	}
	if p, err := a.take(t.Context(), "e"); err != nil {
		t.Errorf("of another account, when there is room again: %v", err)
	} else {
		p.leave()
	}
	for _, list := range places {
		for _, p := range list {
			p.leave()
		}
	}
	for _, account := range accounts {
		if !a.of[account].TryAcquire(accountRoom) {
			t.Errorf("room of %s is lost", account)
		}
	}
	if !a.all.TryAcquire(answerRoom) {
		t.Error("room is lost")
	}
	(*place)(nil).leave()
}
