// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// fetch asks for a content, or a part of it.
func (r *rig) fetch(t *testing.T, kp nkeys.KeyPair, delivery, part string) *httptest.ResponseRecorder {
	t.Helper()
	req := r.sign(t, kp, request{method: http.MethodGet, path: wire.PathContent + delivery})
	if part != "" {
		req.Header.Set("Range", part)
	}
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	return w
}

// newContentRig knows one machine, for which f-1 is open, and another.
func newContentRig(t *testing.T) (r *rig, kp, other nkeys.KeyPair) {
	t.Helper()
	r = newRig(t, Config{}, nil, newOperator(t))
	kp, key := newKey(t)
	other, otherKey := newKey(t)
	r.fleet.enrolled[key] = waybill.Instance{ID: "mi-1"}
	r.fleet.enrolled[otherKey] = waybill.Instance{ID: "mi-2"}
	r.fleet.contents = map[string]string{"mi-1 f-1": "0123456789"}
	return r, kp, other
}

func TestContent(t *testing.T) {
	t.Parallel()
	r, kp, other := newContentRig(t)
	stranger, _ := newKey(t)
	for _, tt := range []struct {
		name           string
		key            nkeys.KeyPair
		delivery, part string
		status         int
		want           string // a body, a Content-Range or the code of a refusal
	}{
		{"all", kp, "f-1", "", 200, "0123456789"},
		{"from the beginning", kp, "f-1", "bytes=0-", 206, "bytes 0-9/10"},
		{"the rest", kp, "f-1", "bytes=7-", 206, "bytes 7-9/10"},
		{"behind the end", kp, "f-1", "bytes=10-", 416, "bytes */10"},
		{"another delivery", kp, "f-2", "", 404, "delivery-not-open"},
		{"another machine", other, "f-1", "", 404, "delivery-not-open"},
		{"a stranger", stranger, "f-1", "", 410, "not-registered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := r.fetch(t, tt.key, tt.delivery, tt.part)
			got := w.Body.String()
			switch {
			case w.Header().Get("Content-Range") != "":
				got = w.Header().Get("Content-Range")
			case w.Code != http.StatusOK:
				got = decodeAnswer[wire.ErrorReply](t, w).Code
			}
			if w.Code != tt.status || got != tt.want {
				t.Errorf("answered %d %q, want %d %q", w.Code, got, tt.status, tt.want)
			}
		})
	}
	if w := r.fetch(t, kp, "f-1", "bytes=7-"); w.Body.String() != "789" {
		t.Errorf("the rest is %q", w.Body)
	}
	req := r.sign(t, kp, request{method: http.MethodGet, path: wire.PathContent + "f-2"})
	req.URL.Path = wire.PathContent + "f-1" // not what was signed
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("signed for another delivery: %d", w.Code)
	}
	if w := r.send(t, kp, request{path: wire.PathContent + "f-1"}); w.Code != http.StatusBadRequest {
		t.Errorf("POST: %d", w.Code)
	}
	if len(r.fleet.nonces) > 0 {
		t.Error("a fetch is written down")
	}
}

// What cannot be opened is told before the answer begins; what breaks off later is counted, and shorter than announced.
func TestContentBreaks(t *testing.T) {
	t.Parallel()
	r, kp, _ := newContentRig(t)
	r.fleet.opened = func(string) (io.ReadCloser, error) { return nil, errors.New("the disk is gone") }
	if w := r.fetch(t, kp, "f-1", ""); w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "disk") {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
	for name, end := range map[string]io.Reader{"an error": iotest.ErrReader(errors.New("the disk is gone")), "an early end": strings.NewReader("")} {
		failed := r.counted(t, "content", resultFailed)
		r.fleet.opened = func(rest string) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(rest[:4]), end)), nil
		}
		w := r.fetch(t, kp, "f-1", "")
		if w.Header().Get("Content-Length") != "10" || w.Body.String() != "0123" {
			t.Errorf("%s: %q of %s bytes", name, w.Body, w.Header().Get("Content-Length"))
		}
		if n := r.counted(t, "content", resultFailed); n != failed+1 {
			t.Errorf("%s: counted %d failures more", name, n-failed)
		}
	}
}

// No more are served at once than there are places. Who waits gets the next, or is told to come again.
func TestContentPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, kp, _ := newContentRig(t)
		gate, reading := make(chan struct{}), make(chan struct{}, maxFetches+2)
		r.fleet.opened = func(rest string) (io.ReadCloser, error) {
			reading <- struct{}{}
			<-gate
			return io.NopCloser(strings.NewReader(rest)), nil
		}
		codes := make(chan int, maxFetches+2)
		start := func() { go func() { codes <- r.fetch(t, kp, "f-1", "").Code }() }
		for range maxFetches + 1 {
			start()
		}
		synctest.Wait()
		if len(reading) != maxFetches {
			t.Errorf("%d are served at once", len(reading))
		}
		if code := <-codes; code != http.StatusServiceUnavailable { // after turnPatience
			t.Errorf("who waited in vain got %d", code)
		}
		start()
		synctest.Wait()
		close(gate)
		for range maxFetches + 1 {
			if code := <-codes; code != http.StatusOK {
				t.Errorf("answered %d", code)
			}
		}
	})
}
