// SPDX-License-Identifier: Apache-2.0

package assist

import (
	"context"
	"crypto"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/wire"
)

// vector is testdata/signature.json.
type vector struct {
	Machine   string `json:"machine_id"`
	Instance  string `json:"instance_id"`
	Timestamp string `json:"timestamp"`
	Request   string `json:"request_id"`
	Signature string `json:"signature"`
	PublicKey string `json:"public_key"` // PEM
}

func vectorOf(tb testing.TB) vector {
	tb.Helper()
	b, err := os.ReadFile("testdata/signature.json")
	if err != nil {
		tb.Fatal(err)
	}
	var v vector
	if err := json.Unmarshal(b, &v); err != nil {
		tb.Fatal(err)
	}
	return v
}

// der returns the key as it is stored.
func (v vector) der(tb testing.TB) []byte {
	tb.Helper()
	der, _, err := parseKey(base64.StdEncoding.EncodeToString([]byte(v.PublicKey)), v.Machine)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func TestSignatureVector(t *testing.T) {
	t.Parallel()
	v := vectorOf(t)
	der := v.der(t)
	if err := verify(der, v.Instance, v.Machine, v.Timestamp, v.Request, v.Signature); err != nil {
		t.Error(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	otherDER, err := x509.MarshalPKIXPublicKey(&other.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(v.Signature)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]error{
		"another instance":  verify(der, v.Instance+"1", v.Machine, v.Timestamp, v.Request, v.Signature),
		"another machine":   verify(der, v.Instance, "", v.Timestamp, v.Request, v.Signature),
		"another time":      verify(der, v.Instance, v.Machine, v.Timestamp+"0", v.Request, v.Signature),
		"another request":   verify(der, v.Instance, v.Machine, v.Timestamp, "", v.Signature),
		"another key":       verify(otherDER, v.Instance, v.Machine, v.Timestamp, v.Request, v.Signature),
		"a byte changed":    verify(der, v.Instance, v.Machine, v.Timestamp, v.Request, "A"+v.Signature[1:]),
		"a byte missing":    verify(der, v.Instance, v.Machine, v.Timestamp, v.Request, base64.StdEncoding.EncodeToString(raw[1:])),
		"no signature":      verify(der, v.Instance, v.Machine, v.Timestamp, v.Request, ""),
		"not Base64":        verify(der, v.Instance, v.Machine, v.Timestamp, v.Request, "!"),
		"no key":            verify(nil, v.Instance, v.Machine, v.Timestamp, v.Request, v.Signature),
		"URL-safe alphabet": verify(der, v.Instance, v.Machine, v.Timestamp, v.Request, base64.URLEncoding.EncodeToString(raw)),
	} {
		if bad == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	text := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	smallDER, err := x509.MarshalPKIXPublicKey(&small.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	v := vectorOf(t)
	for name, bad := range map[string]string{
		"empty":         "",
		"not Base64":    v.PublicKey,
		"no PEM":        base64.StdEncoding.EncodeToString(v.der(t)),
		"two keys":      base64.StdEncoding.EncodeToString([]byte(v.PublicKey + v.PublicKey)),
		"no key in it":  text("PUBLIC KEY", []byte("x")),
		"short key":     text("PUBLIC KEY", smallDER),
		"PKCS #1 bytes": text("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&small.PublicKey)),
	} {
		if _, _, err := parseKey(bad, "m"); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// vectorService stands in for control.Service where only identities matter: it knows the instance of the vector, at the
// time of the vector. The real one is behind the tests of package assist_test.
type vectorService struct {
	service  // whatever else is called panics
	instance waybill.Instance
	now      time.Time
	broken   error // what the store answers, if not nil

	mu     sync.Mutex
	nonces map[string]bool
}

func (s *vectorService) Now() time.Time { return s.now }

func (s *vectorService) AnyInstance(_ context.Context, id waybill.InstanceID) (waybill.Instance, error) {
	if s.broken != nil {
		return waybill.Instance{}, s.broken
	}
	if id != s.instance.ID {
		return waybill.Instance{}, waybill.Errorf(waybill.InstanceNotFound, "no instance %s", id)
	}
	return s.instance, nil
}

func (s *vectorService) UseAgentNonce(_ context.Context, key, nonce string, _ time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return false, s.broken
	}
	used := s.nonces[key+" "+nonce]
	s.nonces[key+" "+nonce] = true
	return !used, nil
}

func newVectorService(tb testing.TB, v vector) *vectorService {
	tb.Helper()
	ms, err := strconv.ParseInt(v.Timestamp, 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return &vectorService{now: time.UnixMilli(ms), nonces: map[string]bool{}, instance: waybill.Instance{
		ID: waybill.InstanceID(v.Instance), State: waybill.Registered, Agent: waybill.OfficialAgent, PublicKey: "rsa:vector",
		AgentKey: v.der(tb), Facts: waybill.Facts{MachineID: v.Machine},
	}}
}

func serverOver(svc service) *Server {
	return New(DefaultConfig(), svc, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
}

func vectorServer(tb testing.TB, v vector) (*Server, waybill.InstanceID) {
	tb.Helper()
	svc := newVectorService(tb, v)
	return serverOver(svc), svc.instance.ID
}

// signed returns a request to target with the headers of the vector.
func (v vector) signed(t *testing.T, method, target string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://host"+target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(headerInstance, v.Instance)
	r.Header.Set(headerTimestamp, v.Timestamp)
	r.Header.Set(headerRequest, v.Request)
	r.Header.Set(headerSignature, v.Signature)
	return r
}

// statusOf returns the status with which an error is answered; 200 if there is none, 0 if it is one of ours.
func statusOf(err error) int {
	if no, ok := errors.AsType[refusal](err); ok {
		return no.Status
	}
	if err != nil {
		return 0
	}
	return http.StatusOK
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*vectorService, *http.Request)
		want   int
	}{
		{"as it is", func(*vectorService, *http.Request) {}, 200},
		{"unsigned", func(_ *vectorService, r *http.Request) { r.Header = http.Header{} }, 401},
		{"without instance", func(_ *vectorService, r *http.Request) { r.Header.Del(headerInstance) }, 401},
		{"without time", func(_ *vectorService, r *http.Request) { r.Header.Del(headerTimestamp) }, 401},
		{"without request ID", func(_ *vectorService, r *http.Request) { r.Header.Del(headerRequest) }, 401},
		{"without signature", func(_ *vectorService, r *http.Request) { r.Header.Del(headerSignature) }, 401},
		{"time in words", func(_ *vectorService, r *http.Request) { r.Header.Set(headerTimestamp, "now") }, 401},
		{"clock an hour slow", func(s *vectorService, _ *http.Request) { s.now = s.now.Add(time.Hour) }, 401},
		{"clock an hour fast", func(s *vectorService, _ *http.Request) { s.now = s.now.Add(-time.Hour) }, 401},
		{"clock 14 minutes slow", func(s *vectorService, _ *http.Request) { s.now = s.now.Add(14 * time.Minute) }, 200},
		{"clock 14 minutes fast", func(s *vectorService, _ *http.Request) { s.now = s.now.Add(-14 * time.Minute) }, 200},
		{"unknown instance", func(s *vectorService, _ *http.Request) { s.instance.ID = "mi-other" }, 401},
		{"our own agent's instance", func(s *vectorService, _ *http.Request) { s.instance.Agent = waybill.NativeAgent }, 401},
		{"registered on another machine", func(s *vectorService, _ *http.Request) { s.instance.Facts.MachineID = "other" }, 401},
		{"deregistered", func(s *vectorService, _ *http.Request) { s.instance.State = waybill.Deregistered }, 403},
		{"in quarantine", func(s *vectorService, _ *http.Request) { s.instance.State = waybill.Quarantine }, 403},
		{"the store is broken", func(s *vectorService, _ *http.Request) { s.broken = errors.New("disk") }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v := vectorOf(t)
			svc, r := newVectorService(t, v), v.signed(t, http.MethodPost, "/luban/api/v1/task/list?reason=startup")
			tc.change(svc, r)
			if _, err := serverOver(svc).identify(r); statusOf(err) != tc.want {
				t.Errorf("answered %d: %v", statusOf(err), err)
			}
		})
	}
}

// TestToken shows tokens in place of a signature.
func TestToken(t *testing.T) {
	t.Parallel()
	const right = "mi-hz1795434318913.secret"
	for _, tc := range []struct {
		name, header string
		change       func(*vectorService)
		want         int
	}{
		{"right", "Bearer " + right, func(*vectorService) {}, 200},
		{"scheme in small letters", "bearer " + right, func(*vectorService) {}, 200},
		{"wrong secret", "Bearer mi-hz1795434318913.Secret", func(*vectorService) {}, 401},
		{"no secret", "Bearer mi-hz1795434318913.", func(*vectorService) {}, 401},
		{"no instance", "Bearer .secret", func(*vectorService) {}, 401},
		{"nothing", "Bearer ", func(*vectorService) {}, 401},
		{"too long", "Bearer " + right + strings.Repeat("x", maxHeader), func(*vectorService) {}, 401},
		{"another scheme", "Basic " + right, func(*vectorService) {}, 401},
		{"of another instance", "Bearer mi-other.secret", func(*vectorService) {}, 401},
		{"it has none", "Bearer " + right, func(s *vectorService) { s.instance.AgentToken = nil }, 401},
		{"our own agent's instance", "Bearer " + right, func(s *vectorService) { s.instance.Agent = waybill.NativeAgent }, 401},
		{"deregistered", "Bearer " + right, func(s *vectorService) { s.instance.State = waybill.Deregistered }, 403},
		{"the store is broken", "Bearer " + right, func(s *vectorService) { s.broken = errors.New("disk") }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v := vectorOf(t)
			svc := newVectorService(t, v)
			svc.instance.AgentToken = identity.HashCode(right)
			tc.change(svc)
			r := v.signed(t, http.MethodPost, "/luban/api/v1/task/list?reason=startup")
			r.Header = http.Header{"Authorization": {tc.header}}
			if _, err := serverOver(svc).identify(r); statusOf(err) != tc.want {
				t.Errorf("answered %d: %v", statusOf(err), err)
			}
		})
	}
}

// TestReplay uses one request ID again and again. A target that was refused once must not count as known then.
func TestReplay(t *testing.T) {
	t.Parallel()
	v := vectorOf(t)
	svc := newVectorService(t, v)
	s := serverOver(svc)
	const (
		first = "/luban/api/v1/task/list?reason=startup"
		other = "/luban/api/v1/task/list?reason=kickoff"
		third = "/luban/api/heart-beat"
	)
	for n, step := range []struct {
		method, target string
		want           int
	}{
		{http.MethodPost, first, 200},
		{http.MethodPost, first, 200},
		{http.MethodPost, other, 403},
		{http.MethodPost, other, 403},
		{http.MethodGet, third, 403},
		{http.MethodGet, third, 403},
		{http.MethodGet, first, 403},
		{http.MethodPost, first, 200},
	} {
		if _, err := s.identify(v.signed(t, step.method, step.target)); statusOf(err) != step.want {
			t.Errorf("step %d, %s %s: answered %d, want %d", n, step.method, step.target, statusOf(err), step.want)
		}
	}
	s.used.age()
	if _, err := s.identify(v.signed(t, http.MethodPost, other)); statusOf(err) != 403 {
		t.Errorf("after a while: answered %d", statusOf(err))
	}
	// Another server, or this one after a restart, knows that the ID was used and not what for.
	if _, err := serverOver(svc).identify(v.signed(t, http.MethodPost, other)); statusOf(err) != 403 {
		t.Errorf("another server answered %d", statusOf(err))
	}
}

// TestReplayAtOnce uses one request ID for many targets at the same time: one of them wins.
func TestReplayAtOnce(t *testing.T) {
	t.Parallel()
	v := vectorOf(t)
	s, _ := vectorServer(t, v)
	won := make(chan string, 64)
	var wg sync.WaitGroup
	for n := range cap(won) {
		target := "/luban/api/metrics?" + strconv.Itoa(n%8)
		r := v.signed(t, http.MethodPost, target)
		wg.Go(func() {
			if _, err := s.identify(r); err == nil {
				won <- target
			}
		})
	}
	wg.Wait()
	close(won)
	counts := map[string]int{}
	for target := range won {
		counts[target]++
	}
	if len(counts) != 1 {
		t.Errorf("accepted: %v", counts)
	}
	for target, n := range counts {
		if n != 8 {
			t.Errorf("%s was accepted %d times of 8", target, n)
		}
	}
}

// TestReplayAfterAnError uses a request ID again whose first use met a broken store.
func TestReplayAfterAnError(t *testing.T) {
	t.Parallel()
	v := vectorOf(t)
	svc := newVectorService(t, v)
	s := serverOver(svc)
	calls := 0
	broken := func() (bool, error) { calls++; return false, errors.New("disk") }
	if _, err := s.used.first("id", "target", broken); err == nil {
		t.Error("no error")
	}
	if fresh, err := s.used.first("id", "other", func() (bool, error) { return true, nil }); !fresh || err != nil || calls != 1 {
		t.Errorf("%t, %v after %d calls", fresh, err, calls)
	}
}

func TestProgram(t *testing.T) {
	t.Parallel()
	for agent, want := range map[string]program{
		"linux_amd64/2.2.3.578":          {"linux", "2.2.3.578"},
		"windows_386/2.1.3.578":          {"windows", "2.1.3.578"},
		"linux/1.0.0.1":                  {"linux", "1.0.0.1"},
		"":                               {},
		"/2.2.3.578":                     {},
		"linux_amd64/":                   {},
		"Mozilla/5.0 (X11; Linux)":       {},
		"linux_amd64/2.2\x1b[2J":         {},
		"linux_amd64/\xff":               {},
		"linux_amd64/2.2.3.578, x/1.0":   {},
		"freebsd_amd64/2.3.3.578-dirty+": {"freebsd", "2.3.3.578-dirty+"},
	} {
		if got := programOf(&http.Request{Header: http.Header{"User-Agent": {agent}}}); got != want {
			t.Errorf("%q: %+v", agent, got)
		}
	}
}

func TestCapability(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"2.2.3.578": true, "2.2.3.577": false, "2.2.4.1065": true, "1.0.0.1": true, "1.0.0.2": false, "2.1.3.578": true,
		"": false, "2.2.3": false, "578": true, "2.2.3.": false, "2.2.3.x": false, "2.2.3.-578": false,
	} {
		if got := capability(version) >= wire.MinCapability; got != want {
			t.Errorf("%q is good: %t", version, got)
		}
	}
}

// TestFacts says that what the agent tells of itself with each call is newer than what it told when it registered.
func TestFacts(t *testing.T) {
	t.Parallel()
	i := waybill.Instance{Facts: waybill.Facts{Hostname: "h", AgentVersion: "2.2.3.577", OSType: "linux", MachineID: "m"}}
	r := &http.Request{Header: http.Header{"User-Agent": {"windows_amd64/2.1.3.631"}}}
	want := waybill.Facts{Hostname: "h", MachineID: "m", AgentVersion: "2.1.3.631", OSType: "windows", Capability: wire.MinCapability}
	if diff := cmp.Diff(want, facts(&i, r)); diff != "" {
		t.Error(diff)
	}
	want = i.Facts
	want.Capability = wire.MinCapability - 1
	if diff := cmp.Diff(want, facts(&i, &http.Request{Header: http.Header{}})); diff != "" {
		t.Error(diff)
	}
}

// sign returns the signature of an agent.
func sign(t *testing.T, key *rsa.PrivateKey, message string) string {
	t.Helper()
	digest := md5.Sum([]byte(message))
	b, err := rsa.SignPKCS1v15(nil, key, crypto.MD5, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

// TestSignatureOfAnotherKey signs with the right words and the key of another machine.
func TestSignatureOfAnotherKey(t *testing.T) {
	t.Parallel()
	v := vectorOf(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	v.Signature = sign(t, key, v.Instance+v.Machine+v.Timestamp+v.Request)
	s, _ := vectorServer(t, vectorOf(t))
	if _, err := s.identify(v.signed(t, http.MethodPost, "/luban/api/metrics")); statusOf(err) != http.StatusUnauthorized {
		t.Errorf("answered %d: %v", statusOf(err), err)
	}
}

// TestRequestsOfOthers looks that a call which another server has taken may be repeated here, and no other with its ID.
func TestRequestsOfOthers(t *testing.T) {
	t.Parallel()
	var u requests
	never := func() (bool, error) {
		t.Error("the store is asked")
		return false, nil
	}
	u.learn("id", "target")
	if fresh, err := u.first("id", "target", never); !fresh || err != nil {
		t.Errorf("the same call: %t, %v", fresh, err)
	}
	if fresh, err := u.first("id", "other", never); fresh || err != nil {
		t.Errorf("another call with its ID: %t, %v", fresh, err)
	}
	u.learn("id", "other")
	if fresh, _ := u.first("id", "other", never); fresh {
		t.Error("what was learned first does not count")
	}
}
