// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/attempts"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/wire"
)

// request is an agent's call before it is signed.
type request struct {
	method string // empty: POST
	path   string
	body   string
	nonce  string // empty: one of its own
	at     time.Time
	from   string // address and port
}

// send makes a signed call and returns the answer.
func (r *rig) send(t *testing.T, kp nkeys.KeyPair, q request) *httptest.ResponseRecorder {
	t.Helper()
	req := r.sign(t, kp, q)
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	return w
}

func (r *rig) sign(t *testing.T, kp nkeys.KeyPair, q request) *http.Request {
	t.Helper()
	if q.method == "" {
		q.method = http.MethodPost
	}
	if q.nonce == "" {
		q.nonce = identity.NewRequestID()
	}
	if q.at.IsZero() {
		q.at = r.fleet.Now()
	}
	if q.from == "" {
		q.from = "192.0.2.7:40000"
	}
	req := httptest.NewRequest(q.method, "https://waybill.example:8480"+q.path, strings.NewReader(q.body))
	req.RemoteAddr = q.from
	if err := identity.SignRequest(kp, req, []byte(q.body), q.at, q.nonce); err != nil {
		t.Fatal(err)
	}
	return req
}

func enrollBody(t testing.TB, req wire.EnrollRequest) string {
	t.Helper()
	b, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func decodeAnswer[T any](t *testing.T, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if ct := w.Header().Get("Content-Type"); ct != "application/json" {
		t.Errorf("content type %q", ct)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("answer %d %q: %v", w.Code, w.Body, err)
	}
	return v
}

// Over real TLS, as an agent does it.
func TestEnrollRenewLeave(t *testing.T) {
	t.Parallel()
	ca, err := identity.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	op := newOperator(t)
	r := newRig(t, Config{CA: ca.PEM(), AgentPort: 8422, TokenLife: time.Hour}, nil, op)
	srv := httptest.NewUnstartedServer(r.Handler())
	config, err := ca.ServerTLS([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	srv.Listener = tls.NewListener(srv.Listener, config) // StartTLS would use a certificate of its own
	srv.Start()
	defer srv.Close()
	server := "https://" + srv.Listener.Addr().String()
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12},
	}}
	defer client.CloseIdleConnections()
	kp, key := newKey(t)
	call := func(path, body string, out any) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if err := identity.SignRequest(kp, req, []byte(body), r.fleet.Now(), identity.NewRequestID()); err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	checkToken := func(token wire.RenewReply) {
		t.Helper()
		c, err := jwt.DecodeUserClaims(token.JWT)
		if err != nil {
			t.Fatal(err)
		}
		want := r.fleet.Now().Add(time.Hour).Unix()
		if c.Subject != key || c.Name != "mi-hz1" || c.Expires != want || token.Expires != want {
			t.Errorf("token for %s named %s until %d, said to be until %d", c.Subject, c.Name, c.Expires, token.Expires)
		}
	}

	var enrolled wire.EnrollReply
	status := call(wire.PathEnroll, enrollBody(t, wire.EnrollRequest{
		ActivationID: "ACT", ActivationCode: r.fleet.code, PublicKey: key, Name: "web",
		Tags:     map[string]string{"b": "2", "a": "1"},
		Hostname: "h", MachineID: "m", IntranetIP: "10.0.0.1", OSType: "linux", OSVersion: "13", AgentVersion: "1.0",
		Capability: 1,
	}), &enrolled)
	if status != http.StatusOK {
		t.Fatalf("enrol: %d", status)
	}
	checkToken(enrolled.RenewReply)
	want := wire.EnrollReply{
		InstanceID: "mi-hz1", Name: "web-001", CA: string(ca.PEM()), NATS: []string{"tls://127.0.0.1:8422"},
		RenewReply: enrolled.RenewReply,
	}
	if diff := cmp.Diff(want, enrolled); diff != "" {
		t.Error(diff)
	}
	wantRequest := control.EnrollRequest{
		Activation: "ACT", Code: r.fleet.code, PublicKey: key, Name: "web",
		Tags: []waybill.Tag{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}},
		Facts: waybill.Facts{
			Hostname: "h", MachineID: "m", IntranetIP: "10.0.0.1", OSType: "linux", OSVersion: "13",
			AgentVersion: "1.0", Capability: 1,
		},
		From: netip.MustParseAddr("127.0.0.1"),
	}
	if diff := cmp.Diff(wantRequest, r.fleet.requests[0], cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}

	r.fleet.advance(time.Minute)
	var renewed wire.RenewReply
	if status := call(wire.PathRenew, "{}", &renewed); status != http.StatusOK {
		t.Fatalf("renew: %d", status)
	}
	checkToken(renewed)

	if status := call(wire.PathLeave, "{}", &struct{}{}); status != http.StatusOK {
		t.Fatalf("leave: %d", status)
	}
	if !slices.Equal(r.fleet.left, []waybill.InstanceID{"mi-hz1"}) {
		t.Errorf("left: %v", r.fleet.left)
	}
	for _, op := range []string{"enroll", "renew", "leave"} {
		if n := r.counted(t, op, resultOK); n != 1 {
			t.Errorf("counted %d of %s, want 1", n, op)
		}
	}
}

func TestCallsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{AgentPort: 8422}, nil, newOperator(t))
	kp, key := newKey(t)
	quarantined, quarantinedKey := newKey(t)
	r.fleet.enrolled[quarantinedKey] = waybill.Instance{ID: "mi-q", State: waybill.Quarantine}
	good := wire.EnrollRequest{ActivationID: "ACT", ActivationCode: r.fleet.code, PublicKey: key, Capability: 1}
	enroll := func(change func(*wire.EnrollRequest)) request {
		req := good
		change(&req)
		return request{path: wire.PathEnroll, body: enrollBody(t, req)}
	}
	keep := func(*wire.EnrollRequest) {}
	old := enroll(keep)
	old.at = r.fleet.Now().Add(-16 * time.Minute)
	get := enroll(keep)
	get.method = http.MethodGet
	for _, tt := range []struct {
		name   string
		key    nkeys.KeyPair // nil: kp
		q      request
		status int
		code   waybill.Code
	}{
		{
			name:   "wrong code",
			q:      enroll(func(e *wire.EnrollRequest) { e.ActivationCode = "a-hz-wrong" }),
			status: 403, code: waybill.EnrolRefused,
		},
		{
			name:   "key of another",
			q:      enroll(func(e *wire.EnrollRequest) { e.PublicKey = quarantinedKey }),
			status: 401, code: waybill.ProofInvalid,
		},
		{
			name:   "no key",
			q:      enroll(func(e *wire.EnrollRequest) { e.PublicKey = "" }),
			status: 401, code: waybill.ProofInvalid,
		},
		{
			name:   "name that the use case refuses",
			q:      enroll(func(e *wire.EnrollRequest) { e.Name = "-" }),
			status: 400, code: waybill.InstanceNamePattern,
		},
		{
			name:   "fault of our own",
			q:      enroll(func(e *wire.EnrollRequest) { e.Name = "broken" }),
			status: 500, code: waybill.Internal,
		},
		{
			name:   "field too long",
			q:      enroll(func(e *wire.EnrollRequest) { e.Hostname = strings.Repeat("h", 257) }),
			status: 400, code: codeMalformed,
		},
		{name: "too old", q: old, status: 401, code: waybill.ProofInvalid},
		{name: "GET", q: get, status: 400, code: codeMalformed},
		{name: "no JSON", q: request{path: wire.PathEnroll, body: "activate me"}, status: 400, code: codeMalformed},
		{name: "empty", q: request{path: wire.PathEnroll}, status: 400, code: codeMalformed},
		{name: "two objects", q: request{path: wire.PathEnroll, body: "{}{}"}, status: 400, code: codeMalformed},
		{
			name:   "wrong type",
			q:      request{path: wire.PathEnroll, body: `{"capability":"one"}`},
			status: 400, code: codeMalformed,
		},
		{
			name:   "body above the limit",
			q:      request{path: wire.PathEnroll, body: strings.Repeat(" ", maxBody) + "{}"},
			status: 400, code: codeMalformed,
		},
		{name: "renew by a stranger", q: request{path: wire.PathRenew}, status: 410, code: waybill.NotRegistered},
		{name: "leave by a stranger", q: request{path: wire.PathLeave}, status: 410, code: waybill.NotRegistered},
		{
			name: "renew in quarantine", key: quarantined,
			q: request{path: wire.PathRenew}, status: 409, code: waybill.Quarantined,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			signer := tt.key
			if signer == nil {
				signer = kp
			}
			w := r.send(t, signer, tt.q)
			refusal := decodeAnswer[wire.ErrorReply](t, w)
			if w.Code != tt.status || refusal.Code != string(tt.code) || refusal.Message == "" {
				t.Errorf("answered %d %+v, want %d %s", w.Code, refusal, tt.status, tt.code)
			}
			if strings.Contains(refusal.Message, "fire") {
				t.Error("the answer shows what is for the log only")
			}
		})
	}
	t.Run("not signed", func(t *testing.T) {
		t.Parallel()
		w := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodPost, wire.PathEnroll, strings.NewReader(enrollBody(t, good)))
		r.Handler().ServeHTTP(w, req)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("answered %d", w.Code)
		}
	})
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{AgentPort: 8422}, nil, newOperator(t))
	kp, key := newKey(t)
	body := fmt.Sprintf(`{"activationCode":%q,"publicKey":%q,"fieldOfANewerAgent":{"a":[1]}}`, r.fleet.code, key)
	if w := r.send(t, kp, request{path: wire.PathEnroll, body: body}); w.Code != http.StatusOK {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
}

func TestReplayIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{AgentPort: 8422}, nil, newOperator(t))
	kp, key := newKey(t)
	enroll := enrollBody(t, wire.EnrollRequest{ActivationID: "ACT", ActivationCode: r.fleet.code, PublicKey: key})
	for _, q := range []request{
		{path: wire.PathEnroll, body: enroll, nonce: "n-1"},
		{path: wire.PathRenew, nonce: "n-2"},
		{path: wire.PathLeave, nonce: "n-3"},
	} {
		if w := r.send(t, kp, q); w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", q.path, w.Code, w.Body)
		}
		if w := r.send(t, kp, q); w.Code != http.StatusUnauthorized {
			t.Errorf("%s again: %d %s", q.path, w.Code, w.Body)
		}
	}
	if len(r.fleet.left) != 1 {
		t.Errorf("left %d times", len(r.fleet.left))
	}
}

func TestStrangersLeaveNoNonce(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, nil, newOperator(t))
	kp, _ := newKey(t)
	r.send(t, kp, request{path: wire.PathRenew})
	r.send(t, kp, request{path: wire.PathLeave})
	if len(r.fleet.nonces) > 0 {
		t.Errorf("%d nonces stored", len(r.fleet.nonces))
	}
}

func TestGuessingIsSlowed(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{AgentPort: 8422}, nil, newOperator(t))
	kp, key := newKey(t)
	try := func(from, code string) *httptest.ResponseRecorder {
		return r.send(t, kp, request{
			path: wire.PathEnroll, from: from,
			body: enrollBody(t, wire.EnrollRequest{ActivationID: "ACT-1", ActivationCode: code, PublicKey: key}),
		})
	}
	for range 100 { // a fleet behind one address enrols as fast as it likes
		if w := try("192.0.2.7:1", r.fleet.code); w.Code != http.StatusOK {
			t.Fatalf("the right code: %d", w.Code)
		}
	}
	for i := range attempts.Burst {
		if w := try(fmt.Sprintf("192.0.2.7:%d", i+1), "a-hz-guess"); w.Code != http.StatusForbidden {
			t.Fatalf("guess %d: %d", i, w.Code)
		}
	}
	before := len(r.fleet.requests)
	w := try("192.0.2.7:9", r.fleet.code)
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "11" {
		t.Errorf("after the burst: %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	if len(r.fleet.requests) != before {
		t.Error("a slowed guess reached the use case")
	}
	if w := try("192.0.2.8:1", r.fleet.code); w.Code != http.StatusOK {
		t.Errorf("another address: %d", w.Code)
	}
	r.fleet.advance(attempts.Interval)
	if w := try("192.0.2.7:9", "a-hz-guess"); w.Code != http.StatusForbidden {
		t.Errorf("later: %d", w.Code)
	}
	if w := try("192.0.2.7:9", r.fleet.code); w.Code != http.StatusTooManyRequests {
		t.Errorf("after one more guess: %d", w.Code)
	}
	logged := r.log.String()
	if !strings.Contains(logged, "activation_id=ACT-1") || !strings.Contains(logged, "from=192.0.2.7 ") {
		t.Error("the refusal is not logged with address and activation")
	}
	if strings.Contains(logged, "a-hz-guess") || strings.Contains(logged, r.fleet.code) {
		t.Error("a code is in the log")
	}
}

// Attempts at the same moment: no more guesses get through than one after the other, and the right code always does.
func TestEnrolmentsAtOnce(t *testing.T) {
	t.Parallel()
	const tries = 250
	for _, tt := range []struct {
		name, code string
		want       map[int]int // answers by status
		nonces     int
	}{
		{"guesses", "a-hz-guess", map[int]int{403: attempts.Burst, 429: tries - attempts.Burst}, attempts.Burst},
		{"a fleet", "a-hz-right", map[int]int{200: tries}, tries},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Config{AgentPort: 8422}, nil, newOperator(t))
				r.fleet.gate = make(chan struct{})
				statuses := make(chan int, tries)
				for range tries {
					kp, key := newKey(t)
					body := enrollBody(t, wire.EnrollRequest{ActivationID: "ACT-1", ActivationCode: tt.code, PublicKey: key})
					go func() { statuses <- r.send(t, kp, request{path: wire.PathEnroll, body: body}).Code }()
				}
				synctest.Wait()
				if n := len(r.fleet.requests); n != attempts.Burst {
					t.Errorf("%d attempts at once, want %d", n, attempts.Burst)
				}
				close(r.fleet.gate)
				got := map[int]int{}
				for range tries {
					got[<-statuses]++
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
				if n := len(r.fleet.nonces); n != tt.nonces {
					t.Errorf("%d nonces stored, want %d", n, tt.nonces)
				}
			})
		})
	}
}

func TestRefusalsDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{AgentPort: 8422}, nil, newOperator(t))
		kp, _ := newKey(t)
		h := r.Handler()
		refuse := func() { h.ServeHTTP(httptest.NewRecorder(), r.sign(t, kp, request{path: wire.PathRenew})) }
		const calls, few = 200, 10 // as telemetry.Warnings has it
		for range calls {
			refuse()
		}
		if n := strings.Count(r.log.String(), "agent call refused"); n != few {
			t.Errorf("%d refusals logged, want %d", n, few)
		}
		if n := r.counted(t, "renew", resultRefused); n != calls {
			t.Errorf("%d refusals counted, want %d", n, calls)
		}
		<-time.After(time.Second)
		refuse()
		if want := fmt.Sprintf("suppressed=%d\n", calls-few); !strings.Contains(r.log.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	})
}

func TestAddressesOfTheBus(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"waybill.example:8480": "tls://waybill.example:8422",
		"waybill.example":      "tls://waybill.example:8422",
		"10.1.2.3:8480":        "tls://10.1.2.3:8422",
		"[2001:db8::1]:8480":   "tls://[2001:db8::1]:8422",
		"[2001:db8::1]":        "tls://[2001:db8::1]:8422",
	} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{AgentPort: 8422}, nil, newOperator(t))
			if got := r.addresses(hostOf(&http.Request{Host: host})); !slices.Equal(got, []string{want}) {
				t.Errorf("addresses %v, want %s", got, want)
			}
		})
	}
	given := []string{"tls://a:1", "tls://b:2"}
	r := newRig(t, Config{Addresses: given, AgentPort: 8422}, nil, newOperator(t))
	if got := r.addresses("waybill.example"); !slices.Equal(got, given) {
		t.Errorf("addresses %v, want those given", got)
	}
}

func FuzzEnroll(f *testing.F) {
	kp, key := newKey(f)
	f.Add([]byte(enrollBody(f, wire.EnrollRequest{
		ActivationID: "ACT", ActivationCode: "a-hz-right", PublicKey: key, Name: "web",
		Tags: map[string]string{"k": "v"}, Hostname: "h", Capability: 1,
	})))
	f.Add([]byte(`{"publicKey":"` + key + `","tags":{"":"","a":"\u0000"},"capability":-1}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"activationCode":null,"tags":[]}`))
	r := newRig(f, Config{AgentPort: 8422}, nil, newOperator(f))
	r.Gateway.log = slog.New(slog.DiscardHandler)
	h := r.Handler()
	allowed := map[int]bool{200: true, 400: true, 401: true, 403: true, 429: true}
	f.Fuzz(func(t *testing.T, body []byte) {
		req := httptest.NewRequest(http.MethodPost, wire.PathEnroll, bytes.NewReader(body))
		if err := identity.SignRequest(kp, req, body, r.fleet.Now(), identity.NewRequestID()); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		text, err := io.ReadAll(w.Body)
		if err != nil || !json.Valid(text) {
			t.Errorf("answer %q is not JSON", text)
		}
		if !allowed[w.Code] {
			t.Errorf("answered %d, want one of %v", w.Code, slices.Sorted(maps.Keys(allowed)))
		}
		r.fleet.mu.Lock()
		defer r.fleet.mu.Unlock()
		for _, got := range r.fleet.requests {
			if got.PublicKey != key || tooLongFacts(got.Facts) || tooLong(got.Name, got.Code, string(got.Activation)) {
				t.Errorf("the use case was given %+v", got)
			}
		}
		r.fleet.requests = nil
	})
}
