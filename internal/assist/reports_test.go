// SPDX-License-Identifier: Apache-2.0

package assist

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/wire"
)

// TestVerdicts has every row of what the agent can report, and what it might.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]waybill.Cause{
		"status=Success&errorcode=0":            waybill.NoCause,
		"status=Failed&errorcode=1":             waybill.CauseWriteFailed,
		"status=Failed&errorcode=2":             waybill.CauseWriteFailed,
		"status=Failed&errorcode=3":             waybill.CauseWriteFailed,
		"status=Failed&errorcode=4":             waybill.CausePath,
		"status=Failed&errorcode=99":            waybill.CauseWriteFailed,
		"status=Failed&errorcode=":              waybill.CauseWriteFailed,
		"status=Success":                        waybill.CauseWriteFailed,
		"status=Success&errorcode=1":            waybill.CauseWriteFailed,
		"status=success&errorcode=0":            waybill.CauseWriteFailed,
		"errorcode=0":                           waybill.CauseWriteFailed,
		"param=FileNameInvalid":                 waybill.CauseName,
		"param=FileExist":                       waybill.CauseExists,
		"param=EmptyFile":                       waybill.CauseContent,
		"param=InvalidFileContent":              waybill.CauseContent,
		"param=InvalidSignature":                waybill.CauseContent,
		"param=InvalidFileMode":                 waybill.CauseModeUnapplied,
		"param=FileOwnerNotExist":               waybill.CauseOwnerMissing,
		"param=FileGroupNotExist":               waybill.CauseGroupMissing,
		"param=":                                waybill.CauseWriteFailed,
		"param=Something":                       waybill.CauseWriteFailed,
		"param=FileExist&value=a b":             waybill.CauseExists,
		"param=FileExist&value=a&b=c":           waybill.CauseExists,
		"param=FileExist&value=%":               waybill.CauseExists,
		"param=FileExist&value=x&param=Another": waybill.CauseExists,
		"param=file%45xist":                     waybill.CauseWriteFailed, // nothing is unescaped
	} {
		q := parseQuery("taskId=f-1&taskType=sendfile&" + raw)
		v := finished(q["status"], q["errorcode"])
		if _, invalid := q["param"]; invalid {
			v = refused(q["param"])
		}
		if v.cause != want {
			t.Errorf("%s: %q, want %q", raw, v.cause, want)
		}
		checkVerdict(t, v)
	}
}

func TestParseQuery(t *testing.T) {
	t.Parallel()
	q := parseQuery("taskId=f-1&taskId=f-2&value=a=b%20+&param&=x")
	for name, want := range map[string]string{"taskId": "f-1", "value": "a=b%20+", "param": "", "": "x", "missing": ""} {
		if q[name] != want {
			t.Errorf("%s is %q, want %q", name, q[name], want)
		}
	}
}

func TestReadMetrics(t *testing.T) {
	t.Parallel()
	event := func(id, task, message string) string {
		words, err := json.Marshal(map[string]string{"taskid": task, "errormsg": message})
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(map[string]any{"eventId": id, "category": "agent", "eventTime": 1, "keywords": string(words)})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	const failed = "agent.task.failed"
	for _, tc := range []struct {
		name, body string
		delivery   waybill.DeliveryID
		cause      waybill.Cause
	}{
		{"refused", event(failed, "f-1", "FileExist : sp ace.txt"), "f-1", waybill.CauseExists},
		{"refused, with a newline", event(failed, "f-1", "FileExist : a\nb"), "f-1", waybill.CauseExists},
		{"refused, without value", event(failed, "f-1", "EmptyFile : "), "f-1", waybill.CauseContent},
		{"finished", event(failed, "f-1", "?taskId=f-1&status=Failed&taskType=sendfile&errorcode=4"), "f-1", waybill.CausePath},
		{"of a command", event(failed, "t-1", "?taskId=t-1&status=Failed&taskType=runcommand&errorcode=4"), "", ""},
		{"of another event", event("agent.startup", "f-1", "FileExist : a"), "", ""},
		{"of no delivery", event(failed, "", "FileExist : a"), "", ""},
		{"no JSON", "x", "", ""},
		{"keywords of another type", `{"eventId":"agent.task.failed","keywords":{}}`, "", ""},
	} {
		delivery, v, err := readMetrics(strings.NewReader(tc.body))
		if err != nil || delivery != tc.delivery || v.cause != tc.cause {
			t.Errorf("%s: %q %q %v", tc.name, delivery, v.cause, err)
		}
	}
	for name, tc := range map[string]struct {
		body io.Reader
		want int
	}{
		"too long":  {http.MaxBytesReader(nil, io.NopCloser(strings.NewReader("12345")), 4), http.StatusRequestEntityTooLarge},
		"not whole": {io.MultiReader(strings.NewReader("{"), broken{}), http.StatusUnprocessableEntity},
	} {
		if _, _, err := readMetrics(tc.body); statusOf(err) != tc.want {
			t.Errorf("%s: answered %d", name, statusOf(err))
		}
	}
}

// reportService hears reports of the vector's instance, for which everything is open.
type reportService struct {
	*vectorService
	reported []control.Outcome
}

func (s *reportService) PullOne(ctx context.Context, _ waybill.InstanceID, id waybill.DeliveryID) (wire.Deliver, bool, error) {
	return wire.Deliver{Delivery: string(id), SHA256: []byte("digest")}, true, ctx.Err()
}

func (s *reportService) Report(ctx context.Context, _ waybill.InstanceID, o control.Outcome) error {
	s.reported = append(s.reported, o)
	return ctx.Err()
}

// TestReportOfOneThatHungUp asserts that a report that has arrived counts, though the agent waits for the answer no more.
// It will not say it again.
func TestReportOfOneThatHungUp(t *testing.T) {
	t.Parallel()
	v := vectorOf(t)
	svc := &reportService{vectorService: newVectorService(t, v)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := v.signed(t, http.MethodPost, "/luban/api/v1/task/finish?taskId=f-1&status=Success&taskType=sendfile&errorcode=0")
	r = r.WithContext(ctx)
	w := httptest.NewRecorder()
	serverOver(svc).Handler().ServeHTTP(w, r)
	want := []control.Outcome{{Delivery: "f-1", From: waybill.Running, SHA256: []byte("digest"), Finished: svc.now}}
	if diff := cmp.Diff(want, svc.reported); diff != "" || w.Code != http.StatusOK {
		t.Errorf("answered %d; %s", w.Code, diff)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("reset") }
