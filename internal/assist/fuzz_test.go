// SPDX-License-Identifier: Apache-2.0

package assist

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// reportable are the causes that a report of the official agent can end a delivery with.
var reportable = []waybill.Cause{
	waybill.NoCause, waybill.CauseWriteFailed, waybill.CausePath, waybill.CauseName, waybill.CauseExists, waybill.CauseContent,
	waybill.CauseModeUnapplied, waybill.CauseOwnerMissing, waybill.CauseGroupMissing,
}

// checkVerdict asserts what holds for every report: a known cause, and a bounded detail that can be shown as it is.
func checkVerdict(t *testing.T, v verdict) {
	t.Helper()
	if !slices.Contains(reportable, v.cause) {
		t.Errorf("cause %q", v.cause)
	}
	if (v.detail == "") != (v.cause == waybill.NoCause) {
		t.Errorf("cause %q with detail %q", v.cause, v.detail)
	}
	unprintable := func(r rune) bool { return r < ' ' || r == 0x7f }
	if len(v.detail) > wire.MaxDetail || !utf8.ValidString(v.detail) || strings.ContainsFunc(v.detail, unprintable) {
		t.Errorf("detail %q", v.detail)
	}
	if v.exists != (v.cause == waybill.CauseExists) || v.damaged && v.cause != waybill.CauseContent {
		t.Errorf("%+v", v)
	}
}

// FuzzReport asserts that any raw query is a report with a known outcome, whose parts are those written first.
func FuzzReport(f *testing.F) {
	for _, raw := range []string{
		"taskId=f-1&status=Success&taskType=sendfile&errorcode=0",
		"taskId=f-1&status=Failed&taskType=sendfile&errorcode=4",
		"taskId=f-1&taskType=sendfile&param=FileExist&value=sp ace.txt",
		"taskId=f-1&taskType=sendfile&param=FileOwnerNotExist&value=x&param=EmptyFile&taskId=f-2",
		"taskId=f-1&taskType=sendfile&param=FileExist&value=100%&%zz;=?",
		"&&==&=&taskId", "taskId=\x00\xff&param=\x1b[2J", strings.Repeat("a&", 1000) + "param=EmptyFile",
		strings.Repeat("n=v&", 1000) + "taskId=f-1",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q := parseQuery(raw)
		if len(q) > maxNames {
			t.Errorf("%d names", len(q))
		}
		for name, value := range q {
			if !strings.HasPrefix("&"+raw, "&"+name+"="+value) && !strings.Contains("&"+raw, "&"+name+"="+value) && value != "" {
				t.Errorf("%q=%q is not in %q", name, value, raw)
			}
		}
		// Whatever follows changes nothing of what is there.
		more := parseQuery(raw + "&taskId=f-other&param=FileExist&status=Success&errorcode=0")
		for name, value := range q {
			if more[name] != value {
				t.Errorf("%s became %q", name, more[name])
			}
		}
		checkVerdict(t, finished(q["status"], q["errorcode"]))
		checkVerdict(t, refused(q["param"]))
		if refused(q["param"]).cause == waybill.NoCause {
			t.Error("a refusal that is a success")
		}
		if v := finished(q["status"], q["errorcode"]); v.cause == waybill.NoCause && (q["status"] != "Success" || q["errorcode"] != "0") {
			t.Errorf("success from %q", raw)
		}
		if fetch := fetchOf(q); fetch.id == "" != (q["currentTime"] == "") {
			t.Errorf("%+v", fetch)
		}
	})
}

// FuzzMetrics asserts that no telemetry is an error but one that does not arrive whole, and none of it a success.
func FuzzMetrics(f *testing.F) {
	event := func(id, keywords string) []byte {
		b, err := json.Marshal(map[string]string{"eventId": id, "keywords": keywords})
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	for _, b := range [][]byte{
		event("agent.task.failed", `{"taskid":"f-1","errormsg":"FileExist : sp ace.txt"}`),
		event("agent.task.failed", `{"taskid":"f-1","errormsg":"FileExist : a\nb : c"}`),
		event("agent.task.failed", `{"taskid":"f-1","errormsg":"?taskId=f-1&status=Failed&taskType=sendfile&errorcode=1"}`),
		event("agent.task.failed", `{"taskid":"f-1","errormsg":"?status=Success&taskType=sendfile&errorcode=0"}`),
		event("agent.task.failed", `{"taskid":1,"errormsg":[]}`),
		event("agent.task.failed", `{"taskid":"f-1"}`),
		event("agent.startup", `{"type":"cold start"}`),
		[]byte(`{"eventId":1}`), []byte(`null`), []byte(`[]`), []byte("\xff"), nil,
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		id, v, err := readMetrics(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if id == "" {
			if v != (verdict{}) {
				t.Errorf("%+v of no delivery", v)
			}
			return
		}
		checkVerdict(t, v)
		if v.cause == waybill.NoCause {
			t.Error("a failure that is a success")
		}
		if !json.Valid(body) {
			t.Errorf("a delivery from %q", body)
		}
	})
}

// FuzzRegistration asserts that whatever is taken for a registration is within bounds, with a key that can verify.
func FuzzRegistration(f *testing.F) {
	key := base64.StdEncoding.EncodeToString([]byte(vectorOf(f).PublicKey))
	for _, s := range []string{
		`{"activationId":"A","activationCode":"C","machineId":"m","publicKey":"` + key + `","tag":[{"key":"k","value":"v"}]}`,
		`{"publicKey":"` + key + `","tag":null,"hostname":"\u0000"}`,
		`{"publicKey":"` + key + `","machineId":"` + strings.Repeat("m", 257) + `"}`,
		`{"publicKey":"` + key + `","tag":[` + strings.Repeat(`{},`, 100) + `{}]}`,
		`{"activationId":1}`, `{"tag":{}}`, `[]`, `null`, ``, `{"publicKey":"!"}`, `{"publicKey":"LS0tLS1CRUdJTiA="}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := readRegistration(body)
		if err != nil {
			if err.Error() == "" || !utf8.ValidString(err.Error()) {
				t.Errorf("nobody can read %q", err)
			}
			return
		}
		if req.Agent != waybill.OfficialAgent || len(req.Tags) > maxTags+1 || !strings.HasPrefix(req.PublicKey, "rsa:") {
			t.Errorf("%+v", req)
		}
		f := req.Facts
		for _, s := range []string{string(req.Activation), req.Code, req.Name, f.Hostname, f.MachineID, f.OSVersion} {
			if len(s) > maxWord {
				t.Errorf("%d bytes of %.20q", len(s), s)
			}
		}
		checkKey(t, req.AgentKey)
	})
}

func checkKey(t *testing.T, der []byte) {
	t.Helper()
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := parsed.(*rsa.PublicKey); !ok || k.N.BitLen() < minKeyBits || k.N.BitLen() > maxKeyBits {
		t.Errorf("key %T", parsed)
	}
}

// FuzzKey asserts that the name of a key depends on the key and the machine alone.
func FuzzKey(f *testing.F) {
	key := base64.StdEncoding.EncodeToString([]byte(vectorOf(f).PublicKey))
	blank := base64.StdEncoding.EncodeToString([]byte(vectorOf(f).PublicKey + " \n"))
	for _, s := range []string{key, "", "AAAA", key + "AAAA", strings.ToLower(key), blank} {
		f.Add(s, "machine")
	}
	f.Fuzz(func(t *testing.T, text, machine string) {
		der, name, err := parseKey(text, machine)
		if err != nil {
			if der != nil || name != "" {
				t.Error("a key with an error")
			}
			return
		}
		checkKey(t, der)
		if _, other, err := parseKey(text, machine+"x"); err != nil || other == name {
			t.Errorf("another machine with that key: %s, %v", other, err)
		}
	})
}

// FuzzSignature asserts that one set of headers only has the signature of the vector.
func FuzzSignature(f *testing.F) {
	v := vectorOf(f)
	der := v.der(f)
	f.Add(v.Instance, v.Timestamp, v.Request, v.Signature)
	f.Add(v.Instance, v.Timestamp, v.Request, "")
	f.Add(v.Instance, v.Timestamp+"0", v.Request, v.Signature)
	f.Add("", "", "", v.Signature)
	f.Add(v.Instance[:5], v.Timestamp, v.Request, "AAAA")
	f.Fuzz(func(t *testing.T, instance, timestamp, request, signature string) {
		if verify(der, instance, v.Machine, timestamp, request, signature) != nil {
			return
		}
		// The parts stand in a row without separators; a part that ends elsewhere is another instance, or another time.
		if instance+v.Machine+timestamp+request != v.Instance+v.Machine+v.Timestamp+v.Request {
			t.Errorf("%q, %q, %q has the signature too", instance, timestamp, request)
		}
	})
}

// FuzzIdentity asserts that no headers but those of the vector are anybody's, and that all others are refused with 401.
func FuzzIdentity(f *testing.F) {
	v := vectorOf(f)
	f.Add(v.Instance, v.Timestamp, v.Request, v.Signature, "linux_amd64/2.2.3.578")
	f.Add(v.Instance, "9223372036854775807", v.Request, v.Signature, "/")
	f.Add(v.Instance, "-9223372036854775808", v.Request, v.Signature, "linux/")
	f.Add(v.Instance, "1e3", v.Request, v.Signature, "_/_")
	f.Add("mi-other", v.Timestamp, v.Request, v.Signature, "linux_amd64/\x1b[2J")
	f.Add("", "", "", "", "")
	f.Add(strings.Repeat("x", 5000), v.Timestamp, v.Request, v.Signature, strings.Repeat("x", 5000))
	f.Fuzz(func(t *testing.T, instance, timestamp, request, signature, agent string) {
		s, known := vectorServer(t, v)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://host/luban/api/metrics", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{
			"X-Acs-Instance-Id": {instance}, "X-Acs-Timestamp": {timestamp}, "X-Acs-Request-Id": {request}, "X-Acs-Signature": {signature},
			"User-Agent": {agent},
		}
		i, err := s.identify(r)
		if err == nil && (i.ID != known || instance != v.Instance || timestamp != v.Timestamp || request != v.Request) {
			t.Errorf("%q %q %q is taken for %s", instance, timestamp, request, i.ID)
		}
		if no, ok := errors.AsType[refusal](err); err != nil && (!ok || no.Status != http.StatusUnauthorized || no.ErrMsg == "") {
			t.Errorf("refused with %v", err)
		}
		if p := programOf(r); p != (program{}) && (!isWord(p.os) || !isWord(p.version)) {
			t.Errorf("program %+v", p)
		}
		if got := facts(&i, r); got.Capability != capability(got.AgentVersion) {
			t.Errorf("facts %+v", got)
		}
	})
}

// FuzzClientReport asserts that what is logged of a machine's report is short.
func FuzzClientReport(f *testing.F) {
	for _, s := range []string{
		`{"type":"self_kill","info":"mem=66.00MB"}`, `{"type":1}`, `{}`, `null`, ``, `{"info":"` + strings.Repeat("é", 100) + `"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, ok := readClientReport(body)
		if len(r.Type) > 64 || len(r.Info) > 64 || ok == (r == clientReport{}) {
			t.Errorf("%+v, %t", r, ok)
		}
	})
}

// FuzzBeat asserts that the time of the next dial is none, or within one interval.
func FuzzBeat(f *testing.F) {
	for _, s := range []string{"0", "1", "1799999", "1800000", "-1", "", "9223372036854775807", "9223372036854775808", "1e3", "0x10"} {
		f.Add(s)
	}
	now := time.Unix(1_795_434_318, 0)
	f.Fuzz(func(t *testing.T, uptime string) {
		if at := nextDial(uptime, now); !at.IsZero() && (!at.After(now) || at.After(now.Add(redialEvery))) {
			t.Errorf("%q: in %s", uptime, at.Sub(now))
		}
	})
}

// FuzzAnswer asserts that an agent is taken to have said what it has said.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"accept:kick_vm", "reject:kick_vm file create f-1", "unknow:", "accept", "", ":", "accept :", "\xff:"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		if got := readAnswer(message); (got == accepted) != bytes.HasPrefix(message, []byte("accept:")) ||
			(got == rejected) != bytes.HasPrefix(message, []byte("reject:")) {
			t.Errorf("%q: %d", message, got)
		}
	})
}
