// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/acs"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/telemetry"
)

var upperUUID = regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}$`)

func TestFormats(t *testing.T) {
	t.Parallel()
	const (
		jsonType = "application/json;charset=utf-8"
		xmlType  = "text/xml;charset=utf-8"
		xmlStart = `<?xml version='1.0' encoding='UTF-8'?><DescribeRegionsResponse><RequestId>`
	)
	unsigned := func(query string) *http.Request {
		return httptest.NewRequest(http.MethodGet, "http://ecs.example.com/?"+query, nil)
	}
	bare := signV1("DescribeRegions")
	q := bare.URL.Query()
	q.Del("Signature")
	q.Del("Format")
	q.Set("Signature", v1Signature(http.MethodGet, q))
	bare.URL.RawQuery = q.Encode()

	tests := []struct {
		name        string
		request     *http.Request
		status      int
		contentType string
		start       string
	}{
		{"V1 without Format", bare, 200, xmlType, xmlStart},
		{"V1 JSON", signV1("DescribeRegions", "Format", "JSON"), 200, jsonType, `{"RequestId":"`},
		{"V1 json", signV1("DescribeRegions", "Format", "json"), 200, jsonType, `{"RequestId":"`},
		{"V1 xml", signV1("DescribeRegions", "Format", "xml"), 200, xmlType, xmlStart},
		{"ACS3 without Format", signACS3("DescribeRegions"), 200, jsonType, `{"RequestId":"`},
		{"ACS3 XML", signACS3("DescribeRegions", "Format", "XML"), 200, xmlType, xmlStart},
		{
			"V1 bad", signV1("DescribeRegions", "Format", "YAML"), 400, xmlType,
			`<?xml version='1.0' encoding='UTF-8'?><Error><RequestId>`,
		},
		{"error in JSON", unsigned("Format=JSON"), 400, jsonType, `{"RequestId":"`},
		{"error in XML", unsigned(""), 400, xmlType, `<?xml version='1.0' encoding='UTF-8'?><Error><RequestId>`},
	}
	s := newTestServer(newFake(), Config{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			status, header, body := serve(s, tt.request)
			if status != tt.status || !strings.HasPrefix(body, tt.start) {
				t.Errorf("status %d, body %s", status, body)
			}
			if got := header.Get("Content-Type"); got != tt.contentType {
				t.Errorf("Content-Type %q", got)
			}
			id := header.Get("x-acs-request-id")
			if !upperUUID.MatchString(id) || !strings.Contains(body, id) {
				t.Errorf("request ID %q in header, body %s", id, body)
			}
			if strings.ContainsAny(body, "\n\t") {
				t.Errorf("body is not compact: %q", body)
			}
		})
	}
}

// v1Signature signs parameters that signV1 would complete.
func v1Signature(method string, params url.Values) string {
	r := httptest.NewRequest(method, "/?"+params.Encode()+"&Signature=x", nil)
	q, err := acs.Parse(r, nil)
	if err != nil {
		panic(err)
	}
	mismatch, _ := errors.AsType[*acs.Error](q.Verify(testSecret))
	return hmacSHA1(testSecret+"&", mismatch.StringToSign)
}

func TestErrorBody(t *testing.T) {
	t.Parallel()
	s := newTestServer(newFake(), Config{HelpURL: "https://docs.example.com/errors#"})
	_, header, body := serve(s, signV1("NoSuchAction"))
	want := `{"RequestId":"` + header.Get("x-acs-request-id") + `","HostId":"ecs.example.com:8480",` +
		`"Code":"InvalidAction.NotFound","Message":"Specified api is not found, please check your url and method.",` +
		`"Recommend":"https://docs.example.com/errors#InvalidAction.NotFound"}`
	if body != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
	_, header, body = serve(newTestServer(newFake(), Config{}), signV1("NoSuchAction", "Format", "XML"))
	want = `<?xml version='1.0' encoding='UTF-8'?><Error><RequestId>` + header.Get("x-acs-request-id") + `</RequestId>` +
		`<HostId>ecs.example.com:8480</HostId><Code>InvalidAction.NotFound</Code>` +
		`<Message>Specified api is not found, please check your url and method.</Message><Recommend></Recommend></Error>`
	if body != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
}

// altered returns r with its query changed after it was signed.
func altered(r *http.Request, change func(url.Values)) *http.Request {
	q := r.URL.Query()
	change(q)
	r.URL.RawQuery = q.Encode()
	return r
}

// signedAs returns a signed request of somebody else, from another time, or with a token.
func signedAs(family acs.Family, key, secret, token string, at time.Time) *http.Request {
	if family == acs.V1 {
		q := url.Values{"Action": {"DescribeRegions"}, "Version": {versionECS}}
		q = acs.SignV1(http.MethodGet, q, key, secret, token, uuid.NewString(), at)
		return httptest.NewRequest(http.MethodGet, "/?"+q.Encode(), nil)
	}
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header.Set("x-acs-action", "DescribeRegions")
	r.Header.Set("x-acs-version", versionECS)
	acs.SignACS3(r, nil, key, secret, token, uuid.NewString(), at)
	return r
}

func TestFrameRefuses(t *testing.T) {
	t.Parallel()
	type refused struct {
		name    string
		request *http.Request
		status  int
		code    string
	}
	tests := []refused{
		{
			"V1 parameter changed", altered(signV1("DescribeRegions"), func(q url.Values) { q.Set("AcceptLanguage", "ja") }),
			400, "SignatureDoesNotMatch",
		},
		{"V1 other SignatureMethod", altered(signV1("DescribeRegions"), func(q url.Values) {
			q.Set("SignatureMethod", "HMAC-MD5")
		}), 400, "InvalidSignatureMethod"},
		{"V1 other SignatureVersion", altered(signV1("DescribeRegions"), func(q url.Values) {
			q.Set("SignatureVersion", "2.0")
		}), 400, "InvalidParamater"},
		{
			"V1 bad Timestamp", altered(signV1("DescribeRegions"), func(q url.Values) { q.Set("Timestamp", "yesterday") }),
			400, "InvalidTimeStamp.Format",
		},
		{"V1 bad Format", signV1("DescribeRegions", "Format", "YAML"), 400, "InvalidParameter.Format"},
		{"bad escape", httptest.NewRequest(http.MethodGet, "/?Format=JSON&Name=%zz", nil), 400, "InvalidParameter"},
		{"other version", signV1("DescribeRegions", "Version", "2013-01-10"), 400, "InvalidVersion"},
		{"action of another version", signV1("DescribeRegions", "Version", versionRAM), 404, "InvalidAction.NotFound"},
		{"action not offered", signV1("RunInstances"), 404, "InvalidAction.NotFound"},
		{"action in lower case", signV1("describeregions"), 404, "InvalidAction.NotFound"},
		{"no region", signV1("SendFile"), 400, "MissingParameter"},
		{"unknown region", signV1("SendFile", "RegionId", "mars-north-1"), 404, "InvalidRegionId.NotFound"},
		{"other path", httptest.NewRequest(http.MethodGet, "/favicon.ico?Format=JSON", nil), 404, "InvalidAction.NotFound"},
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch} {
		tests = append(tests, refused{
			"method " + method, httptest.NewRequest(method, "/?Format=JSON", nil), 403, "UnsupportedHTTPMethod",
		})
	}
	for _, family := range []struct {
		name string
		acs.Family
	}{{"V1", acs.V1}, {"ACS3", acs.ACS3}} {
		as := func(key, secret, token string, at time.Time) *http.Request {
			return signedAs(family.Family, key, secret, token, at)
		}
		tests = append(tests, []refused{
			{
				family.name + " too early", as(testKey, testSecret, "", testNow.Add(15*time.Minute+time.Second)),
				400, "InvalidTimeStamp.Expired",
			},
			{
				family.name + " too late", as(testKey, testSecret, "", testNow.Add(-15*time.Minute-time.Second)),
				400, "InvalidTimeStamp.Expired",
			},
			{family.name + " unknown key", as("strangeid", testSecret, "", testNow), 404, "InvalidAccessKeyId.NotFound"},
			{
				family.name + " disabled account", as("disabledaccount", testSecret, "", testNow),
				404, "InvalidAccessKeyId.NotFound",
			},
			{family.name + " inactive key", as("inactiveid", testSecret, "", testNow), 400, "InvalidAccessKeyId.Inactive"},
			{family.name + " other secret", as(testKey, "wrong", "", testNow), 400, "SignatureDoesNotMatch"},
			{
				family.name + " token", as(testKey, testSecret, "sts", testNow),
				400, "InvalidSecurityToken.MismatchWithAccessKey",
			},
		}...)
	}
	acs3 := signACS3("DescribeRegions")
	acs3.Header.Set("Authorization", "ACS3-HMAC-SHA256 nonsense")
	tests = append(tests, refused{"ACS3 bad Authorization", acs3, 400, "IncompleteSignature"})

	f := newFake()
	s := newTestServer(f, Config{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			status, _, body := serve(s, tt.request)
			if status != tt.status {
				t.Errorf("status %d, want %d", status, tt.status)
			}
			if !strings.Contains(body, `"Code":"`+tt.code+`"`) && !strings.Contains(body, "<Code>"+tt.code+"</Code>") {
				t.Errorf("want code %s, got %s", tt.code, body)
			}
		})
	}
	t.Cleanup(func() {
		if len(f.asked) > 0 {
			t.Errorf("a refused request reached control: %v", f.asked)
		}
	})
}

func TestMissingCommonParameters(t *testing.T) {
	t.Parallel()
	s := newTestServer(newFake(), Config{})
	message := func(name string) string {
		return `The input parameter \"` + name + `\" that is mandatory for processing this request is not supplied`
	}
	for name, reported := range map[string]string{
		"Action": "Action", "Version": "Version", "AccessKeyId": "AccessKeyId", "Signature": "Signature",
		"SignatureMethod": "SignatureMethod", "SignatureVersion": "SignatureVersion",
		"SignatureNonce": "SignatureNonce", "Timestamp": "TimeStamp",
	} {
		t.Run("V1 "+name, func(t *testing.T) {
			t.Parallel()
			status, _, body := serve(s, altered(signV1("DescribeRegions"), func(q url.Values) { q.Del(name) }))
			if status != 400 || !strings.Contains(body, `"MissingParameter"`) || !strings.Contains(body, message(reported)) {
				t.Errorf("status %d, body %s", status, body)
			}
		})
	}
	for _, header := range []string{"x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce"} {
		t.Run("ACS3 "+header, func(t *testing.T) {
			t.Parallel()
			r := signACS3("DescribeRegions")
			r.Header.Del(header)
			status, _, body := serve(s, r)
			if status != 400 || pick(t, body, "Code") != "MissingParameter" {
				t.Errorf("status %d, body %s", status, body)
			}
		})
	}
}

// The classic Go SDK splits the message at "server string to sign is:" and compares the rest with its own.
func TestMismatchTellsStringToSign(t *testing.T) {
	t.Parallel()
	s := newTestServer(newFake(), Config{})
	r := altered(signV1("DescribeRegions", "Format", "XML"), func(q url.Values) { q.Set("Signature", "bm9uc2Vuc2U=") })
	parsed, err := acs.Parse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	mismatch, _ := errors.AsType[*acs.Error](parsed.Verify(testSecret))
	f := faultOf(nil, mismatch)
	want := "Specified signature is not matched with our calculation. server string to sign is:" + mismatch.StringToSign
	if f.Message != want {
		t.Errorf("got  %s\nwant %s", f.Message, want)
	}
	if _, _, body := serve(s, r); !strings.Contains(body, "server string to sign is:GET&amp;%2F&amp;AccessKeyId%3D") {
		t.Errorf("body %s", body)
	}
}

func TestNonce(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newTestServer(f, Config{})
	for _, family := range []acs.Family{acs.V1, acs.ACS3} {
		r := signedAs(family, testKey, testSecret, "", testNow.Add(-time.Minute))
		for i, want := range []string{"", "SignatureNonceUsed"} {
			status, _, body := serve(s, r.Clone(t.Context()))
			if want == "" && status != 200 || want != "" && pick(t, body, "Code") != want {
				t.Errorf("family %d, request %d: status %d, body %s", family, i, status, body)
			}
		}
	}
	if len(f.nonces) != 2 {
		t.Errorf("%d nonces remembered, want 2", len(f.nonces))
	}
	for nonce, until := range f.nonces {
		if want := testNow.Add(30 * time.Minute); !until.Equal(want) {
			t.Errorf("nonce %q is remembered until %s, want %s", nonce, until, want)
		}
	}
	// A request that does not verify must not use up a nonce.
	serve(s, signedAs(acs.V1, testKey, "wrong", "", testNow))
	if len(f.nonces) != 2 {
		t.Error("a forged request used up a nonce")
	}
}

func TestOversizedBody(t *testing.T) {
	t.Parallel()
	s := newTestServer(newFake(), Config{})
	post := func(size int) (int, string) {
		q := url.Values{"Action": {"SendFile"}, "Version": {versionECS}, "RegionId": {testRegion}}
		q.Set("Content", strings.Repeat("x", size))
		q = acs.SignV1(http.MethodPost, q, testKey, testSecret, "", uuid.NewString(), testNow)
		content := q.Get("Content")
		q.Del("Content")
		r := httptest.NewRequest(http.MethodPost, "/?"+q.Encode(), strings.NewReader("Content="+content))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		status, _, body := serve(s, r)
		return status, body
	}
	status, body := post(commonBody - len("Content="))
	if status != 400 || pick(t, body, "Code") != "MissingParameter" {
		t.Errorf("largest body: status %d, %s", status, body)
	}
	status, body = post(commonBody)
	if status != 413 || pick(t, body, "Code") != "RequestBody.TooLarge" ||
		pick(t, body, "Message") != "The request body is longer than 2097152 bytes." {
		t.Errorf("too large: status %d, %s", status, body)
	}
}

// A full-size SendFile travels in the request target.
func TestLongTarget(t *testing.T) {
	t.Parallel()
	f := newFake()
	server := httptest.NewServer(newTestServer(f, Config{}))
	t.Cleanup(server.Close)
	content := strings.Repeat("你好", 4096) // 24 576 bytes, 73 728 in the target
	q := url.Values{"Action": {"SendFile"}, "Version": {versionECS}, "RegionId": {testRegion}}
	for name, value := range map[string]string{
		"InstanceId.1": "mi-1", "Name": "a", "TargetDir": "/", "Content": content,
	} {
		q.Set(name, value)
	}
	q = acs.SignV1(http.MethodPost, q, testKey, testSecret, "", uuid.NewString(), testNow)
	resp, err := server.Client().Post(server.URL+"/?"+q.Encode(), "application/x-www-form-urlencoded", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	who := f.asked[0].(waybill.Principal)
	if got := f.asked[1].(control.SendRequest).Content; got != content {
		t.Errorf("%d bytes of content arrived, want %d", len(got), len(content))
	}
	if !who.SourceIP.IsLoopback() {
		t.Errorf("source %s", who.SourceIP)
	}
}

func TestPrincipal(t *testing.T) {
	t.Parallel()
	f := newFake()
	r := signV1("SendFile", "RegionId", testRegion, "InstanceId.1", "mi-1", "Name", "a", "TargetDir", "/", "Content", "x")
	r.RemoteAddr = "[::ffff:192.0.2.7]:4711"
	_, header, _ := serve(newTestServer(f, Config{}), r)
	want := waybill.Principal{
		Account:   testAccount,
		Kind:      waybill.AccountActor,
		AccessKey: testKey,
		SourceIP:  netip.MustParseAddr("192.0.2.7"),
		RequestID: header.Get("x-acs-request-id"),
	}
	if got := f.asked[0]; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	type asked struct {
		action    string
		resources []string
	}
	arn := "acs:ecs:cn-hangzhou:" + string(testAccount) + ":"
	tests := []struct {
		name    string
		request *http.Request
		want    *asked
	}{
		{
			"one resource per target", signV1("SendFile", "RegionId", testRegion, "InstanceId.1", "mi-1",
				"InstanceId.2", "{AccountId}", "Name", "a", "TargetDir", "/", "Content", "x"),
			&asked{"ecs:SendFile", []string{arn + "instance/mi-1", arn + "instance/{AccountId}"}},
		},
		{
			"optional and given", signV1("DescribeSendFileResults", "RegionId", testRegion, "InstanceId", "mi-1"),
			&asked{"ecs:DescribeSendFileResults", []string{arn + "instance/mi-1"}},
		},
		{
			"optional and not given", signV1("DescribeManagedInstances", "RegionId", testRegion),
			&asked{"ecs:DescribeManagedInstances", []string{arn + "instance/*"}},
		},
		{
			"create", signV1("CreateActivation", "RegionId", testRegion),
			&asked{"ecs:CreateActivation", []string{arn + "activation/*"}},
		},
		{
			"keys", signV1("ListAccessKeys", "UserName", "alice"),
			&asked{"ram:ListAccessKeys", []string{"acs:ram:*:" + string(testAccount) + ":user/alice"}},
		},
		{
			"own keys of an account", signV1("ListAccessKeys"),
			&asked{"ram:ListAccessKeys", []string{"acs:ram:*:" + string(testAccount) + ":user/*"}},
		},
		{
			"managed instances are instances", signV1("TagResources", "RegionId", testRegion, "ResourceType", "managedinstance",
				"ResourceId.1", "mi-1", "ResourceId.2", "mi-2", "Tag.1.Key", "k"),
			&asked{"ecs:TagResources", []string{arn + "instance/mi-1", arn + "instance/mi-2"}},
		},
		{
			"two kinds of resources", signV1("AttachPolicyToUser", "UserName", "alice", "PolicyName", "p", "PolicyType", "Custom"),
			&asked{"ram:AttachPolicyToUser", []string{
				"acs:ram:*:" + string(testAccount) + ":user/alice", "acs:ram:*:" + string(testAccount) + ":policy/p",
			}},
		},
		{
			"a system policy", signV1("GetPolicy", "PolicyName", "AdministratorAccess", "PolicyType", "System"),
			&asked{"ram:GetPolicy", []string{"acs:ram:*:system:policy/AdministratorAccess"}},
		},
		{"regions need nothing", signV1("DescribeRegions"), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			f.denied = waybill.Errorf(waybill.NotAuthorized, "denied by policy")
			s := newTestServer(f, Config{})
			status, _, body := serve(s, tt.request)
			var got *asked
			for _, act := range f.requests {
				got = &asked{act.Action, act.Resources}
				if act.Account != testAccount || act.Kind != waybill.AccountActor {
					t.Errorf("asked for %+v", act.Principal)
				}
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(asked{})); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
			if tt.want != nil && (status != 403 || pick(t, body, "Code") != "Forbidden.RAM" || len(f.asked) > 0) {
				t.Errorf("status %d, body %s, control was asked %v", status, body, f.asked)
			}
			if tt.want == nil && status != 200 {
				t.Errorf("status %d, body %s", status, body)
			}
		})
	}
}

func TestPanicIsAnswered(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.panics = "out of cheese"
	var log bytes.Buffer
	s := newServer(Config{}, f, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&log, nil)))
	status, _, body := serve(s, signV1("ListAccessKeys"))
	if status != 500 || pick(t, body, "Code") != "InternalError" || strings.Contains(body, "cheese") {
		t.Errorf("status %d, body %s", status, body)
	}
	for _, want := range []string{"level=ERROR", "out of cheese", "stack=", "access_keys.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, log.String())
		}
	}
}

func TestInternalErrorsStayInside(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.err = errors.New("disk on fire")
	status, _, body := serve(newTestServer(f, Config{}), signV1("DescribeManagedInstances", "RegionId", testRegion))
	if status != 500 || pick(t, body, "Code") != "InternalError.Dispatch" || strings.Contains(body, "fire") {
		t.Errorf("status %d, body %s", status, body)
	}
	f.credErr = errors.New("disk on fire")
	status, _, body = serve(newTestServer(f, Config{}), signV1("DescribeRegions"))
	if status != 500 || pick(t, body, "Code") != "InternalError" || strings.Contains(body, "fire") {
		t.Errorf("status %d, body %s", status, body)
	}
}

// TestLogNamesTheTrace looks that the line of a request can be found from its trace, and only then has its IDs.
func TestLogNamesTheTrace(t *testing.T) {
	t.Parallel()
	const traceID = "0af7651916cd43dd8448eb211c80319c"
	var log bytes.Buffer
	lines := slog.New(slog.NewTextHandler(&log, nil))
	tracer, err := telemetry.NewTracer(t.Context(), telemetry.TraceConfig{Endpoint: "http://127.0.0.1:1"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{{}, {Tracer: tracer}} {
		log.Reset()
		r := signV1("DescribeRegions")
		r.Header.Set("traceparent", "00-"+traceID+"-b7ad6b7169203331-01")
		serve(newServer(cfg, newFake(), prometheus.NewRegistry(), lines), r)
		line := log.String()
		if traced := cfg.Tracer != nil; strings.Contains(line, "trace_id="+traceID) != traced || strings.Contains(line, "span_id=") != traced {
			t.Errorf("traced %t, and logged %s", traced, line)
		}
	}
}

func TestLogAndMetrics(t *testing.T) {
	t.Parallel()
	f := newFake()
	reg := prometheus.NewRegistry()
	var log bytes.Buffer
	s := newServer(Config{}, f, reg, slog.New(slog.NewTextHandler(&log, nil)))

	_, header, _ := serve(s, signV1("DescribeSendFileResults", "RegionId", testRegion, "Name", "secret-name"))
	serve(s, signV1(strings.Repeat("X", 1000)))
	serve(s, signV1("SendFile"))

	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines, want one for each request:\n%s", len(lines), log.String())
	}
	for _, want := range []string{
		"level=INFO", "action=DescribeSendFileResults", "request_id=" + header.Get("x-acs-request-id"),
		"key_id=" + testKey, "status=200", "code=OK", "duration=",
	} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("the line lacks %q: %s", want, lines[0])
		}
	}
	if strings.Contains(log.String(), "secret-name") {
		t.Error("a parameter reached the log")
	}
	if len(lines[1]) > 400 {
		t.Errorf("a stranger wrote a line of %d bytes", len(lines[1]))
	}
	want := `
# HELP waybill_api_requests_total Requests answered, by operation and error code (OK: none).
# TYPE waybill_api_requests_total counter
waybill_api_requests_total{action="DescribeSendFileResults",code="OK"} 1
waybill_api_requests_total{action="SendFile",code="MissingParameter"} 1
waybill_api_requests_total{action="unknown",code="InvalidAction.NotFound"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "waybill_api_requests_total"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(s.duration); n != 3 {
		t.Errorf("%d durations, want 3", n)
	}
}
