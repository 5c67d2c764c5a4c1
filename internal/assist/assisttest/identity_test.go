// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"crypto"
	"crypto/md5"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The vector of §4.
const (
	vectorSignature = "E3RVRkZPkxMRNFx3zHEIuyrHRxiUk41QtdQg2gqrIw9hCZarvYejji62aO8zlfbJ+hPgNsH5Xrj1VsTkP0tXx/XgkUW2tU6Y" +
		"+6qTqrqbTjxxf0sFfiR13p9O63J7YHSmoCd37N5g/9gX95EnO6WrLY8Vz6yr8L8OcnNEa+Yw1U+nU1WSQqPSZOx14qCBt0Jl" +
		"FtzyYdt7vjIix45CkqTFVU7WREscYBrDnkAjmNaffsF/vW3aof58V3s6G7HSRsriUIPrS7/fOdCqMde/aqr1NR+pBWtOGq1q" +
		"oCzrl8TooAY1PPgauurhiWhNpJO0xixnhEB2svsEi3rVqXWP/UXc5A=="
	vectorKey = `-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAzY3Q4kqbqfY17pdMg5El
/zV6yOtzoaebD0lJitQ0QL845GMCVpqM4URy967RoEETi4neRRS9+Kyinw8G9fzM
ZJOIEzZyKO4GfJJvJixbipb0ll4kvTmHx1RsrFO+QmN8PomBCpWoH2YFD36P6phi
hV/Wql9uEyImRkLfpidkJeiGbchU0uuie/nTzKLQtGiAsc+B6MmzIHzUUwK715TN
2orbRvAF1xItY4xiUv9EdN7e4sVOfMQq9S0K+v1Ls2BmFV1p3+UIe7Z8edVz/Ceh
0XWiJSzT6PnwYPmBs0uvM8osMjNP2h1GiqEuZprcV9Maczff2s3DzbJcF1M0FIud
YQIDAQAB
-----END PUBLIC KEY-----
`
)

func TestStampVector(t *testing.T) {
	t.Parallel()
	s := Stamp{
		InstanceID: "mi-hz1795434318913", MachineID: "c1a389f7c63148c1ae3397d67364fd1c", Timestamp: "1795434358325",
		RequestID: "56fc6999-13a9-4680-a8cc-4f362f1e73e6", Key: testKey(),
	}
	verify := func(key *rsa.PublicKey, signature string) error {
		sig, err := base64.StdEncoding.DecodeString(signature)
		if err != nil {
			return err
		}
		digest := md5.Sum([]byte(s.Message()))
		return rsa.VerifyPKCS1v15(key, crypto.MD5, digest[:], sig)
	}
	if err := verify(decodePublicKey(t, vectorKey), vectorSignature); err != nil {
		t.Errorf("the published signature is not over Message: %v", err)
	}
	h, err := s.Header()
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(&testKey().PublicKey, h.Get("x-acs-signature")); err != nil {
		t.Errorf("own signature: %v", err)
	}
	if h.Get("x-acs-instance-id") != s.InstanceID || h.Get("x-acs-timestamp") != s.Timestamp ||
		h.Get("x-acs-request-id") != s.RequestID || len(h) != 4 {
		t.Errorf("headers %v", h)
	}
	s.None = true
	if h, err := s.Header(); err != nil || len(h) != 0 {
		t.Errorf("without identity: %v, %v", h, err)
	}
}

func TestRegister(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		reply  string
		id     string
		err    error
	}{
		"ok":              {200, `{"code":200,"instanceId":"mi-7"}`, "mi-7", nil},
		"status 400":      {400, `{"code":200,"instanceId":"mi-7"}`, "mi-7", nil}, // a success (Q2)
		"refused":         {200, `{"code":403,"errMsg":"activation code expired"}`, "", ErrRefused},
		"status 403":      {403, `{"code":200,"instanceId":"mi-7"}`, "", ErrRefused},
		"no JSON":         {200, `ok`, "", ErrRefused},
		"code as text":    {200, `{"code":"200","instanceId":"mi-7"}`, "", ErrNotStored},
		"ID as a number":  {200, `{"code":200,"instanceId":7}`, "", ErrNotStored},
		"code as a float": {200, `{"code":200.5,"instanceId":"mi-7"}`, "", ErrNotStored},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.on(registerPath, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				io.WriteString(w, c.reply)
			})
			id, a, err := Register(t.Context(), Registration{
				Network: s.network(), ActivationID: "act-1", ActivationCode: "code-1", MachineID: "m", RegionID: "cn-hangzhou",
				InstanceName: "web-1", Tags: []Tag{{"env", "test"}}, Key: testKey(), Facts: Facts{Hostname: "h1"},
			})
			if !errors.Is(err, c.err) || (id == nil) != (c.err != nil) || a.Body != c.reply || a.Status != c.status {
				t.Fatalf("%+v, %+v, %v", id, a, err)
			}
			if id != nil && (id.InstanceID != c.id || id.MachineID != "m" || id.Key != testKey()) {
				t.Errorf("identity %+v", id)
			}
			seen := s.requests(registerPath)
			if len(seen) != 1 {
				t.Fatalf("%d requests, want one without repetition", len(seen))
			}
			r := seen[0]
			if r.method != "POST" || r.header.Get("Content-Type") != "application/json; charset=utf-8" ||
				r.header.Get("User-Agent") != "linux_amd64/2.2.3.578" || r.header.Get("x-acs-instance-id") != "" {
				t.Errorf("request %+v", r)
			}
			var body map[string]any
			if err := json.Unmarshal([]byte(r.body), &body); err != nil {
				t.Fatal(err)
			}
			key, err := base64.StdEncoding.DecodeString(body["publicKey"].(string))
			if err != nil || !decodePublicKey(t, string(key)).Equal(&testKey().PublicKey) {
				t.Errorf("key %s, %v", key, err)
			}
			delete(body, "publicKey")
			if diff := cmp.Diff(map[string]any{
				"activationId": "act-1", "activationCode": "code-1", "machineId": "m", "regionId": "cn-hangzhou",
				"instanceName": "web-1", "hostname": "h1", "intranetIp": "192.0.2.2", "osType": "linux",
				"osVersion": body["osVersion"], "agentVersion": "2.2.3.578",
				"tag": []any{map[string]any{"key": "env", "value": "test"}},
			}, body); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRegisterWithoutTagsAndKey(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.say(registerPath, `{"code":200,"instanceId":"mi-7"}`)
	id, _, err := Register(t.Context(), Registration{Network: s.network()})
	if err != nil || id.Key == nil || id.Key.N.BitLen() != 2048 {
		t.Fatalf("%+v, %v", id, err)
	}
	if body := s.requests(registerPath)[0].body; !strings.Contains(body, `"tag":[]`) {
		t.Errorf("no tags: %s", body)
	}
}

func TestRegisterUnreachable(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	n := s.network()
	s.Close()
	id, _, err := Register(t.Context(), Registration{Network: n, Key: testKey()})
	if err == nil || errors.Is(err, ErrRefused) || id != nil {
		t.Errorf("%v, %v", id, err)
	}
}

func TestDeregister(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status  int
		reply   string
		dropped bool
	}{
		"ok":           {200, `{"code":200}`, true},
		"refused":      {200, `{"code":500}`, false},
		"code missing": {200, `{}`, false},
		"no JSON":      {200, `never mind`, true},
		"status 500":   {500, ``, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.on("/luban/api/instance/deregister", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				io.WriteString(w, c.reply)
			})
			id := &Identity{InstanceID: "mi-1", MachineID: s.machine, Key: testKey()}
			dropped, a, err := Deregister(t.Context(), s.network(), id, Facts{})
			if dropped != c.dropped || a.Status != c.status || (err != nil) != (c.status > 400) {
				t.Errorf("%v, %+v, %v", dropped, a, err)
			}
		})
	}
	s := newServer(t)
	n := s.network()
	s.Close()
	if dropped, _, err := Deregister(t.Context(), n, &Identity{Key: testKey()}, Facts{}); !dropped || err == nil {
		t.Errorf("no answer: %v, %v", dropped, err)
	}
}

func TestIdentityFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "identity")
	want := &Identity{InstanceID: "mi-1", MachineID: "m", Key: testKey()}
	if err := want.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := LoadIdentity(path)
	if err != nil || got.InstanceID != want.InstanceID || got.MachineID != want.MachineID ||
		!got.Key.Equal(want.Key) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{
		"", "{}", `{"key":"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"}`,
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadIdentity(path); err == nil {
			t.Errorf("%q was loaded", bad)
		}
	}
}

// TestForge changes what a front end must look at, one at a time.
func TestForge(t *testing.T) {
	t.Parallel()
	other := decodePublicKey(t, vectorKey)
	for name, c := range map[string]struct {
		forge func(string, *Stamp)
		why   string
	}{
		"right":        {nil, ""},
		"instance":     {func(_ string, s *Stamp) { s.InstanceID = "mi-2" }, "unknown instance"},
		"machine":      {func(_ string, s *Stamp) { s.MachineID = "other" }, "verification error"},
		"signature":    {func(_ string, s *Stamp) { s.Signature = vectorSignature }, "verification error"},
		"old":          {func(_ string, s *Stamp) { s.Timestamp = "1795434358" }, "wrong time"},
		"no identity":  {func(_ string, s *Stamp) { s.None = true }, "unknown instance"},
		"replay":       {func(_ string, s *Stamp) { s.RequestID = "56fc6999-13a9-4680-a8cc-4f362f1e73e6" }, "replayed"},
		"reports only": {func(target string, s *Stamp) { s.None = strings.HasPrefix(target, finishPath) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			if name == "signature" {
				s.key = other // of another agent, whose signature is copied
			}
			p := s.start(func(cfg *Config) { cfg.Forge = c.forge })
			p.started()
			eventually(t, "two requests", func() bool { return len(s.requests(beatPath))+len(s.requests(listPath)) >= 2 })
			f := p.Snapshot().Fetches[0]
			if c.why == "" {
				if f.Err != "" || p.Snapshot().Beats == 0 {
					t.Errorf("%+v", f)
				}
				return
			}
			if f.Err != "status 401" || f.Requests != 4 {
				t.Errorf("%+v", f)
			}
			r := s.requests(listPath)[3]
			if err := s.verify(r.header); err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("refused because of %v, want %s", err, c.why)
			}
		})
	}
}

// TestFreshStamps checks that no two requests, repetitions included, share an ID, and that what is forged stays forged.
func TestFreshStamps(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.on(listPath, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	p := s.start()
	p.started()
	var ids, targets []string
	for _, r := range s.requests(listPath) {
		ids, targets = append(ids, r.header.Get("x-acs-request-id")), append(targets, r.target)
		if r.header.Get("X-Client-IP") != "192.0.2.2" {
			t.Errorf("headers %v", r.header)
		}
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 4 || len(slices.Compact(targets)) != 1 {
		t.Errorf("IDs %v, targets %v", ids, targets)
	}
	if _, err := (&Identity{InstanceID: "mi-1", Key: testKey()}).Stamp(time.Now()).Header(); err != nil {
		t.Error(err)
	}
}
