// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/acs"
	"github.com/openwaybill/waybill/internal/control"
)

const (
	testKey     = "testid"
	testSecret  = "testsecret"
	testAccount = waybill.AccountID("1234567890123456")
	testRegion  = "cn-hangzhou"
)

var testNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// fake stands in for control.Service: it knows keys and nonces, records what the use cases are asked, and answers
// them with what the test put here.
//
// The use cases that no test here asks are those of a nil service: they panic.
type fake struct {
	service

	mu     sync.Mutex
	nonces map[string]time.Time // what is remembered, until when
	asked  []any                // the arguments of every use case, in order

	records  []string        // the actions and results of what was recorded
	denied   error           // of Authorize
	requests []*waybill.Act  // that Authorize was asked about
	tags     [][]waybill.Tag // that they would set
	recorded func() error    // of Record; nil: no error
	repeats  bool            // every use case was carried out before

	err        error // of every use case
	panics     any   // what every use case panics with
	credErr    error // of Credential
	deliveries control.Listing[control.DeliveryResult]
	read       []waybill.ContentRef // contents that were left out of it
	forecast   control.Forecast
	codes      control.Listing[waybill.Activation]
	instances  control.Listing[waybill.Instance]
	keys       []waybill.AccessKey
}

func newFake() *fake { return &fake{nonces: make(map[string]time.Time)} }

func (f *fake) ask(args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, args...)
	if f.panics != nil {
		panic(f.panics)
	}
	return f.err
}

func (f *fake) Now() time.Time    { return testNow }
func (f *fake) MaxInstances() int { return 50 }
func (f *fake) Regions() []string { return []string{testRegion, "cn-beijing"} }
func (f *fake) TokenKey() []byte  { return []byte("0123456789abcdef0123456789abcdef") }

func (f *fake) Authorize(_ context.Context, act *waybill.Act, tags []waybill.Tag) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests, f.tags = append(f.requests, act), append(f.tags, tags)
	return f.denied
}

func (f *fake) Record(_ context.Context, act *waybill.Act, result string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.records = append(f.records, act.Action+" "+result)
	if f.recorded != nil {
		return f.recorded()
	}
	act.Recorded = true
	return nil
}

// did is what a use case does about the record of its act.
func (f *fake) did(act *waybill.Act, args ...any) error {
	err := f.ask(args...)
	act.Repeated = f.repeats
	act.Recorded = err == nil && !f.repeats
	return err
}

func (f *fake) Credential(_ context.Context, keyID, token string) (control.Credential, error) {
	if f.credErr != nil {
		return control.Credential{}, f.credErr
	}
	key := waybill.AccessKey{ID: keyID, Account: testAccount, Active: true}
	if token != "" {
		return control.Credential{}, waybill.Errorf(waybill.TokenMismatch, "the key takes no token")
	}
	switch keyID {
	case testKey:
	case "userid":
		key.User = "alice"
	case "temporary":
		return control.Credential{Key: key, Secret: testSecret, Issuer: testKey}, nil
	case "otherid":
		key.Account = "6543210987654321"
	case "inactiveid":
		key.Active = false
	case "disabledaccount":
		return control.Credential{}, waybill.Errorf(waybill.AccessKeyNotFound, "its account is disabled")
	default:
		return control.Credential{}, waybill.Errorf(waybill.AccessKeyNotFound, "no such key")
	}
	return control.Credential{Key: key, Secret: testSecret}, nil
}

func (f *fake) UseNonce(_ context.Context, c control.Credential, nonce string, until time.Time) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := c.Key.ID + " " + nonce
	if _, used := f.nonces[name]; used {
		return false, nil
	}
	f.nonces[name] = until
	return true, nil
}

func (f *fake) Send(_ context.Context, act *waybill.Act, req control.SendRequest) (waybill.DeliveryID, error) {
	return "f-hz0vk9", f.did(act, act.Principal, req)
}

func (f *fake) Preview(
	_ context.Context, act *waybill.Act, t control.Targets, size int64, p control.Page,
) (control.Forecast, error) {
	return f.forecast, f.ask(act.Principal, t, size, p)
}

func (f *fake) Deliveries(
	_ context.Context, _ waybill.Principal, q control.DeliveryFilter, p control.Page,
) (control.Listing[control.DeliveryResult], error) {
	return f.deliveries, f.ask(q, p)
}

func (f *fake) Content(_ context.Context, ref *waybill.ContentRef) (string, error) {
	f.read = append(f.read, *ref)
	return strings.Repeat("Q", int(ref.TextSize())), nil
}

func (f *fake) CreateActivation(
	_ context.Context, act *waybill.Act, a waybill.Activation,
) (control.NewActivation, error) {
	err := f.did(act, a)
	a.ID = "4ECEEE12-56F1-4FBC-9AB1-890F12340001"
	return control.NewActivation{Activation: a, Code: "a-hz0ch3SwhOlE+Xo/32lAZC"}, err
}

func (f *fake) Activations(
	_ context.Context, _ waybill.Principal, q control.ActivationFilter, p control.Page,
) (control.Listing[waybill.Activation], error) {
	return f.codes, f.ask(q, p)
}

func (f *fake) one(act *waybill.Act, id waybill.ActivationID, disabled bool) (waybill.Activation, error) {
	err := f.did(act, act.Region, id)
	return waybill.Activation{ID: id, Region: act.Region, TTL: 4 * time.Hour, Disabled: disabled, Created: testNow}, err
}

func (f *fake) DisableActivation(
	_ context.Context, act *waybill.Act, id waybill.ActivationID,
) (waybill.Activation, error) {
	return f.one(act, id, true)
}

func (f *fake) DeleteActivation(
	_ context.Context, act *waybill.Act, id waybill.ActivationID,
) (waybill.Activation, error) {
	return f.one(act, id, false)
}

func (f *fake) Instances(
	_ context.Context, _ waybill.Principal, q control.InstanceFilter, p control.Page,
) (control.Listing[waybill.Instance], error) {
	return f.instances, f.ask(q, p)
}

func (f *fake) RenameInstance(
	_ context.Context, act *waybill.Act, id waybill.InstanceID, name string,
) (waybill.Instance, error) {
	return waybill.Instance{ID: id, Name: name}, f.did(act, act.Region, id, name)
}

func (f *fake) Deregister(
	_ context.Context, act *waybill.Act, id waybill.InstanceID,
) (waybill.Instance, error) {
	return waybill.Instance{ID: id, Name: "web-001"}, f.did(act, act.Region, id)
}

func (f *fake) CreateInstanceToken(_ context.Context, act *waybill.Act, id waybill.InstanceID) (string, error) {
	return string(id) + ".newtoken", f.did(act, act.Region, id)
}

func (f *fake) DeleteInstanceToken(_ context.Context, act *waybill.Act, id waybill.InstanceID) error {
	return f.did(act, act.Region, id)
}

func (f *fake) AccessKeys(_ context.Context, _ waybill.Principal, user string) ([]waybill.AccessKey, error) {
	return f.keys, f.ask("access keys of " + user)
}

func (f *fake) CreateAccessKey(_ context.Context, act *waybill.Act, _ string) (waybill.AccessKey, string, error) {
	return waybill.AccessKey{ID: "newid", Active: true, Created: testNow}, "newsecret", f.did(act, "create access key")
}

func (f *fake) SetAccessKey(_ context.Context, act *waybill.Act, _, id string, active bool) error {
	return f.did(act, id, active)
}

func (f *fake) DeleteAccessKey(_ context.Context, act *waybill.Act, _, id string) error {
	return f.did(act, id)
}

// newTestServer returns a Server over f that logs nowhere.
func newTestServer(f *fake, cfg Config) *Server {
	return newServer(cfg, f, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
}

// versionOf returns the version that an operation belongs to.
func versionOf(action string) string {
	for _, op := range Operations() {
		if op.Name == action {
			return op.Version
		}
	}
	return versionECS
}

// signV1 returns a GET request signed the V1 way. pairs are names and values of operation parameters.
func signV1(action string, pairs ...string) *http.Request {
	params := url.Values{"Action": {action}, "Version": {versionOf(action)}}
	for i := 0; i < len(pairs); i += 2 {
		params.Set(pairs[i], pairs[i+1])
	}
	params = acs.SignV1(http.MethodGet, params, testKey, testSecret, "", uuid.NewString(), testNow)
	return httptest.NewRequest(http.MethodGet, "http://ecs.example.com:8480/?"+params.Encode(), nil)
}

// signACS3 returns a POST request signed the ACS3 way.
func signACS3(action string, pairs ...string) *http.Request {
	return signACS3As(testKey, action, pairs...)
}

func signACS3As(key, action string, pairs ...string) *http.Request {
	params := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		params.Set(pairs[i], pairs[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, "http://ecs.example.com:8480/?"+params.Encode(), nil)
	r.Header.Set("x-acs-action", action)
	r.Header.Set("x-acs-version", versionOf(action))
	acs.SignACS3(r, nil, key, testSecret, "", uuid.NewString(), testNow)
	return r
}

// serve returns s's answer to r.
func serve(s http.Handler, r *http.Request) (status int, header http.Header, body string) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	b, _ := io.ReadAll(w.Result().Body)
	return w.Code, w.Result().Header, string(b)
}

// pick returns the value of a text field of a JSON body.
func pick(t *testing.T, body, field string) string {
	t.Helper()
	_, rest, ok := strings.Cut(body, `"`+field+`":"`)
	if !ok {
		t.Fatalf("no text field %s in %s", field, body)
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// hmacSHA1 is the last step of a V1 signature, for the one request that acs.SignV1 cannot make: one without Format.
func hmacSHA1(key, data string) string {
	mac := hmac.New(sha1.New, []byte(key))
	mac.Write([]byte(data))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func (f *fake) Files(
	_ context.Context, _ waybill.Principal, q waybill.FileFilter, p control.Page,
) (control.Listing[waybill.PlacedFile], error) {
	return control.Listing[waybill.PlacedFile]{}, f.ask(q, p)
}

func (f *fake) Await(
	_ context.Context, _ waybill.Principal, _ string, id waybill.DeliveryID, mark string, patience time.Duration,
) (waybill.Delivery, string, error) {
	return waybill.Delivery{}, "", f.ask(id, mark, patience)
}
