// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestNewLogger(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log, err := NewLogger(&b, "warn", "json")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("hidden")
	log.Warn("shown", "instance_id", "mi-1")
	if s := b.String(); strings.Contains(s, "hidden") || !strings.Contains(s, `"instance_id":"mi-1"`) {
		t.Errorf("logged %q", s)
	}
	for _, bad := range [][2]string{{"loud", "text"}, {"info", "xml"}} {
		if _, err := NewLogger(&b, bad[0], bad[1]); err == nil {
			t.Errorf("accepted %v", bad)
		}
	}
}

func TestAdminHandler(t *testing.T) {
	t.Parallel()
	var down error
	h := AdminHandler(NewRegistry(), func(context.Context) error { return down }, true)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String()
	}
	for path, want := range map[string]string{
		"/metrics": "go_goroutines", "/healthz": `"ok"`, "/readyz": `"ok"`, "/debug/pprof/": "goroutine",
	} {
		if code, body := get(path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.80s", path, code, body)
		}
	}
	w := httptest.NewRecorder()
	AdminHandler(NewRegistry(), nil, false).ServeHTTP(w, httptest.NewRequest("GET", "/debug/pprof/", nil))
	if w.Code != 404 {
		t.Errorf("profiles that are not wanted: %d", w.Code)
	}
	down = errors.New("the database does not answer")
	if code, body := get("/readyz"); code != 503 || !strings.Contains(body, down.Error()) {
		t.Errorf("not ready: %d %s", code, body)
	}
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("health when not ready: %d", code)
	}
}
