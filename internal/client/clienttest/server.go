// SPDX-License-Identifier: Apache-2.0

// Package clienttest serves an API for tests of the client side: real HTTPS and real signatures, with the operations
// that a test provides.
package clienttest

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/openwaybill/waybill/internal/acs"
	"github.com/openwaybill/waybill/internal/client"
)

// Call is one verified call.
type Call struct {
	Action  string
	Version string
	Params  map[string]string
}

// Handler answers a call with what is to be encoded as JSON, or with a *client.Error to refuse it. Calls may come at
// the same time.
type Handler func(Call) any

// Server is a running API that lives as long as its test.
type Server struct {
	URL             string
	CAFile          string
	AccessKeyID     string
	AccessKeySecret string

	mu    sync.Mutex
	calls []Call
}

// NewServer starts a server that answers the given operations and refuses all others.
func NewServer(t testing.TB, operations map[string]Handler) *Server {
	t.Helper()
	s := &Server{AccessKeyID: "testid", AccessKeySecret: "testsecret"}
	h := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.serve(r, operations))
	}))
	t.Cleanup(h.Close)
	s.URL = h.URL
	s.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})
	if err := os.WriteFile(s.CAFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// Config returns what a client needs to call s.
func (s *Server) Config() client.Config {
	return client.Config{
		Endpoint: s.URL, CAFile: s.CAFile, Region: "cn-test",
		AccessKeyID: s.AccessKeyID, AccessKeySecret: s.AccessKeySecret,
	}
}

// Calls returns the verified calls of one operation so far, in the order in which they came.
func (s *Server) Calls(action string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.calls), func(c Call) bool { return c.Action != action })
}

func (s *Server) serve(r *http.Request, operations map[string]Handler) any {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return refuse(http.StatusBadRequest, "InvalidParameter", err.Error())
	}
	q, err := acs.Parse(r, body)
	if err == nil {
		err = q.CheckTime(time.Now(), 15*time.Minute)
	}
	if err == nil && q.AccessKeyID != s.AccessKeyID {
		return refuse(http.StatusNotFound, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
	}
	if err == nil {
		err = q.Verify(s.AccessKeySecret)
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "SignatureDoesNotMatch", err.Error())
	}
	handle, known := operations[q.Action]
	if !known {
		return refuse(http.StatusNotFound, "InvalidAction.NotFound", "Specified api is not found.")
	}
	call := Call{Action: q.Action, Version: q.Version, Params: q.Params}
	s.mu.Lock()
	s.calls = append(s.calls, call)
	s.mu.Unlock()
	return handle(call)
}

func refuse(status int, code, message string) *client.Error {
	return &client.Error{Status: status, Code: code, Message: message}
}

func answer(w http.ResponseWriter, content any) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	if e, refused := content.(*client.Error); refused {
		if e.RetryAfter > 0 {
			w.Header().Set("x-acs-retry-after", strconv.FormatInt(e.RetryAfter.Milliseconds(), 10))
		}
		w.WriteHeader(e.Status)
		body := map[string]any{
			"Code": e.Code, "Message": e.Message, "RequestId": "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E",
			"Recommend": e.Recommend,
		}
		if e.Denied != nil {
			body["AccessDeniedDetail"] = e.Denied
		}
		content = body
	}
	if err := json.NewEncoder(w).Encode(content); err != nil {
		panic(err) // a broken test: handlers return what encodes
	}
}
