// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

func debugLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestEnroll(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	dir, instance := s.enroll()
	reg, err := loadRegistration(dir)
	must(t, err)
	if reg.Instance != instance || reg.Server != s.url() || len(reg.NATS) != 1 || reg.CA != string(s.ca.PEM()) {
		t.Errorf("registration %+v", reg)
	}
	for name, want := range map[string]os.FileMode{".": 0o700, registrationName: 0o600, keyName: 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v; want %v", name, info.Mode().Perm(), err, want)
		}
	}
	st, err := ReadStatus(dir)
	if err != nil || st.Instance != instance || st.Name != "machine" || st.Server != s.url() || st.Running {
		t.Errorf("status %+v, %v", st, err)
	}
}

func TestEnrollTwice(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	dir, instance := s.enroll()
	o := EnrollOptions{StateDir: dir, Server: s.url(), CA: string(s.ca.PEM())}
	if _, err := Enroll(t.Context(), o); !errors.Is(err, ErrEnrolled) {
		t.Errorf("a second enrolment: %v", err)
	}
	j := openTestJournal(t, dir)
	must(t, j.outcome(&wire.Report{Delivery: "f-1"}, 0))
	j.close()
	o.Force = true
	st, err := Enroll(t.Context(), o)
	must(t, err)
	if st.Instance == instance {
		t.Error("a forced enrolment leads to the same instance")
	}
	if n := len(openTestJournal(t, dir).unfinished()); n != 0 {
		t.Errorf("%d outcomes of the old instance are left to be reported", n)
	}
}

// TestEnrollAnswerLost loses the answer of the first enrolment: the second leads to the same instance.
func TestEnrollAnswerLost(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	var calls atomic.Int32
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			s.handleCall(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		s.handleCall(w, r)
	}))
	defer front.Close()
	o := EnrollOptions{StateDir: filepath.Join(t.TempDir(), "state"), Server: front.URL}
	if _, err := Enroll(t.Context(), o); err == nil {
		t.Fatal("enrolled without an answer")
	}
	if _, err := ReadStatus(o.StateDir); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("after a lost answer: %v", err)
	}
	st, err := Enroll(t.Context(), o)
	must(t, err)
	if len(s.instances) != 1 {
		t.Errorf("instances %v", s.instances)
	}
	for _, id := range s.instances {
		if st.Instance != id {
			t.Errorf("enrolled as %s, want %s", st.Instance, id)
		}
	}
}

func TestEnrollRefused(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.refuse = func(string) (int, waybill.Code) { return http.StatusForbidden, waybill.EnrolRefused }
	o := EnrollOptions{StateDir: t.TempDir(), Server: s.url(), CA: string(s.ca.PEM())}
	_, err := Enroll(t.Context(), o)
	r, ok := errors.AsType[*Refusal](err)
	if !ok || r.Status != http.StatusForbidden || r.Code != string(waybill.EnrolRefused) ||
		!strings.Contains(err.Error(), "not for you") {
		t.Errorf("refused enrolment: %v", err)
	}
	o.CA = ""
	if _, err := Enroll(t.Context(), o); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
	for _, server := range []string{"", "waybill.example.com:8480", "http://waybill.example.com:8480", "ftp://127.0.0.1"} {
		o.Server = server
		if _, err := Enroll(t.Context(), o); err == nil || !strings.Contains(err.Error(), "server") {
			t.Errorf("server %q: %v", server, err)
		}
	}
}

// TestCallWithWrongClock signs with a clock that is years off: the server's own clock is used then.
func TestCallWithWrongClock(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	dir, _ := s.enroll()
	a, err := New(Config{StateDir: dir}, testLog(t))
	must(t, err)
	var reply wire.RenewReply
	must(t, a.calls.call(t.Context(), wire.PathRenew, time.Unix(0, 0), struct{}{}, &reply))
	if reply.JWT == "" {
		t.Error("no token")
	}
}

func TestLeave(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	dir, instance := s.enroll()
	s.refuse = func(string) (int, waybill.Code) { return http.StatusServiceUnavailable, waybill.Unavailable }
	if _, err := Leave(t.Context(), dir); err == nil {
		t.Error("left although the server cannot")
	}
	if _, err := ReadStatus(dir); err != nil {
		t.Errorf("after a failed leave: %v", err)
	}
	s.set(func(s *scripted) {
		s.refuse = func(path string) (int, waybill.Code) {
			if path != wire.PathLeave {
				t.Errorf("called %s", path)
			}
			return http.StatusOK, ""
		}
	})
	st, err := Leave(t.Context(), dir)
	if err != nil || st.Instance != instance {
		t.Errorf("left %+v, %v", st, err)
	}
	if _, err := New(Config{StateDir: dir}, testLog(t)); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("after leaving: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, keyName)); err == nil {
		t.Error("the key is still there")
	}
	if _, err := Leave(t.Context(), dir); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("leaving twice: %v", err)
	}
}

func TestDamagedState(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	for _, name := range []string{registrationName, keyName} {
		dir, _ := s.enroll()
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600))
		_, err := New(Config{StateDir: dir}, testLog(t))
		if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, name)) ||
			!strings.Contains(err.Error(), "waybill-agent enroll --force") {
			t.Errorf("damaged %s: %v", name, err)
		}
	}
}

func TestRefusalOfOthers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r    Refusal
		want error
	}{
		{Refusal{Status: http.StatusGone, Code: "not-registered"}, ErrDeregistered},
		{Refusal{Status: http.StatusConflict, Code: "quarantined"}, ErrQuarantined},
		{Refusal{Status: http.StatusGone}, nil}, // a proxy's page
		{Refusal{Status: http.StatusForbidden, Code: "forbidden"}, nil},
	} {
		for _, e := range []error{ErrDeregistered, ErrQuarantined} {
			if got := errors.Is(&c.r, e); got != (e == c.want) {
				t.Errorf("%+v is %v: %v", c.r, e, got)
			}
		}
	}
}

func TestRenewAt(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	dir, _ := s.enroll()
	reg, err := loadRegistration(dir)
	must(t, err)
	at, err := reg.renewAt()
	if left := time.Until(at); err != nil || left < 39*time.Minute || left > 41*time.Minute {
		t.Errorf("a token of one hour is renewed in %v, %v", left, err)
	}
	for _, token := range []string{"", "a.b.c", "a.e30.c", "a.bnVsbA.c"} {
		reg.JWT = token
		if at, err := reg.renewAt(); err == nil {
			t.Errorf("token %q is renewed at %v", token, at)
		}
	}
}

func TestRunNeedsEnrolment(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{StateDir: t.TempDir()}, testLog(t)); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("an empty state directory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Enroll(ctx, EnrollOptions{StateDir: t.TempDir(), Server: "https://127.0.0.1:1"}); err == nil {
		t.Error("enrolled under a context that is over")
	}
}
