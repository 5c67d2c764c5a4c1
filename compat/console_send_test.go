// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"html"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/openwaybill/waybill"
	api "github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/testenv"
)

// TestConsoleSendsToWhomItShowed goes through the form with which a file is sent: the choice that was looked at counts, and
// one that means others by then is refused.
func TestConsoleSendsToWhomItShowed(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	a := s.Agent()
	c := newVisitor(t, s)
	csrf := c.signIn(s.Key.AccessKeyID, s.Key.AccessKeySecret)
	file := func(more url.Values) url.Values {
		form := url.Values{
			"csrf": {csrf}, "text": {"x"}, "name": {"n"}, "dir": {"/srv"}, "timeout": {"60"}, "token": {"once"},
			"owner": {testenvOwner(t)}, "group": {testenvGroup(t)},
		}
		maps.Copy(form, more)
		return form
	}
	preview := func(more url.Values) (body, choice string) {
		_, body = c.do("POST", "send/preview", file(more))
		m := regexp.MustCompile(`name="choice" value="([^"]*)"`).FindStringSubmatch(body)
		if m != nil {
			choice = html.UnescapeString(m[1])
		}
		return body, choice
	}
	if body, choice := preview(url.Values{"by": {"name"}, "pattern": {"mail-*"}}); choice != "" || !strings.Contains(body, "No machine is chosen by this.") {
		t.Errorf("nobody: %s", body)
	}
	if body, _ := preview(url.Values{"by": {"list"}, "ids": {string(a.ID) + " mi-none"}}); !strings.Contains(body, "1 machine will receive the file.") ||
		!strings.Contains(body, "InstanceNotExists") {
		t.Errorf("a list with an unknown one: %s", body)
	}
	_, choice := preview(url.Values{"by": {"all"}})
	if status, body := c.do("POST", "send", file(nil)); status == http.StatusSeeOther {
		t.Errorf("without a preview: %d %s", status, body)
	}
	// A rehearsal says what would happen, and the same form may be sent in earnest after it.
	status, body := c.do("POST", "send", file(url.Values{"choice": {choice}, "rehearse": {"1"}, "diff": {"1"}}))
	if status != http.StatusSeeOther {
		t.Fatalf("rehearse: %d %s", status, body)
	}
	rehearsed := s.Await(newest(t, s))
	if _, page := c.do("GET", "deliveries/"+string(rehearsed.ID), nil); !rehearsed.DryRun || !strings.Contains(page, "This is a rehearsal") ||
		!strings.Contains(page, "Would create the file.") || !strings.Contains(page, "@@ -0,0 &#43;1") {
		t.Errorf("the page of a rehearsal: %+v, %s", rehearsed, page)
	}
	if _, err := os.Stat(a.Path("/srv", "")); !os.IsNotExist(err) {
		t.Errorf("the rehearsal made something: %v", err)
	}
	// The fields beside it do not matter any more.
	status, body = c.do("POST", "send", file(url.Values{"choice": {choice}, "by": {"list"}, "ids": {"mi-none"}}))
	if status != http.StatusSeeOther {
		t.Fatalf("send: %d %s", status, body)
	}
	testenv.Eventually(t, "the file is there", func() bool {
		_, err := os.Stat(a.Path("/srv", "n"))
		return err == nil
	})
	s.Enrol()
	if status, body = c.do("POST", "send", file(url.Values{"choice": {choice}, "token": {"twice"}})); status == http.StatusSeeOther ||
		!strings.Contains(body, "By now 2 machines are chosen by this, and not 1.") {
		t.Errorf("after another has enrolled: %d %s", status, body)
	}
}

// newest is the delivery that was sent last.
func newest(t *testing.T, s *testenv.Server) waybill.DeliveryID {
	t.Helper()
	page, err := s.Client.DescribeSendFileResults(t.Context(), api.DeliveryFilter{}, api.Paging{MaxResults: 1})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("the newest delivery: %+v, %v", page, err)
	}
	return page.Items[0].ID
}
