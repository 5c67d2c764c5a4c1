// SPDX-License-Identifier: Apache-2.0

package assist

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/wire"
)

// query is what a raw query says. The agent pastes values into it as they are, so nothing but the first occurrence of a
// name is believed, nothing is unescaped, and nothing in it is an error.
type query map[string]string

func parseQuery(raw string) query {
	q := query{}
	for part := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(part, "=")
		if _, known := q[name]; !known && len(q) < maxNames {
			q[name] = value
		}
	}
	return q
}

// maxNames is above what any call has.
const maxNames = 64

// fileReport is what marks a report as that of a file, and not of a command, of which there are none here.
const fileReport = "sendfile"

// finishCall takes the report of a file that the agent worked on to the end. It is sent once, so it is durable before it
// is answered.
func (s *Server) finishCall(r *http.Request) (any, error) {
	return s.report(r, func(q query) verdict { return finished(q["status"], q["errorcode"]) })
}

// invalidCall takes the report of a file that the agent refused.
func (s *Server) invalidCall(r *http.Request) (any, error) {
	return s.report(r, func(q query) verdict { return refused(q["param"]) })
}

// reportTimeout bounds the work on a report.
const reportTimeout = 30 * time.Second

// whole returns r with a context that goes on when the agent hangs up, as it does after five seconds: what it has to say,
// it says once, and all of that has arrived.
func whole(r *http.Request) (_ *http.Request, cancel context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), reportTimeout)
	return r.WithContext(ctx), cancel
}

func (s *Server) report(r *http.Request, read func(query) verdict) (any, error) {
	r, cancel := whole(r)
	defer cancel()
	i, err := s.identify(r)
	if err != nil {
		return nil, err
	}
	q := parseQuery(r.URL.RawQuery)
	if q["taskType"] != fileReport {
		return ok200, nil
	}
	return ok200, s.settle(r.Context(), i.ID, waybill.DeliveryID(q["taskId"]), read(q))
}

// verdict is what a report says, in our words.
type verdict struct {
	cause   waybill.Cause
	detail  string
	exists  bool // a file was there
	damaged bool // the content did not arrive as it was sent
}

// finished reads a finish report: status and errorcode.
func finished(status, code string) verdict {
	said := fmt.Sprintf("the official agent reports %s, errorcode %s", quoted(status), quoted(code))
	switch {
	case status == "Success" && code == "0":
		return verdict{}
	case code == "1":
		return verdict{cause: waybill.CauseWriteFailed, detail: said + ": it could not create or write the file"}
	case code == "2":
		return verdict{cause: waybill.CauseWriteFailed, detail: said + ": it could not set owner and group; the file is there"}
	case code == "3":
		return verdict{cause: waybill.CauseWriteFailed, detail: said + ": it could not set the mode; the file is there"}
	case code == "4":
		return verdict{cause: waybill.CausePath, detail: said + ": the target directory is not one, or cannot be created"}
	}
	return verdict{cause: waybill.CauseWriteFailed, detail: said}
}

// refused reads the key of an invalid report.
func refused(key string) verdict {
	said := "the official agent reports " + quoted(key)
	switch key {
	case "FileNameInvalid":
		return verdict{cause: waybill.CauseName, detail: said}
	case "FileExist":
		return verdict{cause: waybill.CauseExists, detail: said, exists: true}
	case "EmptyFile", "InvalidFileContent":
		return verdict{cause: waybill.CauseContent, detail: said}
	case "InvalidSignature":
		return verdict{cause: waybill.CauseContent, detail: said, damaged: true}
	case "InvalidFileMode":
		return verdict{cause: waybill.CauseModeUnapplied, detail: said}
	case "FileOwnerNotExist":
		return verdict{cause: waybill.CauseOwnerMissing, detail: said + "; the file is there, and root's"}
	case "FileGroupNotExist":
		return verdict{cause: waybill.CauseGroupMissing, detail: said + "; the file is there, and root's"}
	}
	return verdict{cause: waybill.CauseWriteFailed, detail: said + ", which is unknown"}
}

// quoted bounds what a machine can write into a detail, and shows what cannot be shown as it is.
func quoted(s string) string {
	if s = clip(s); isWord(s) {
		return s
	}
	return strconv.QuoteToASCII(s)
}

// settle makes of a verdict the outcome of a delivery on an instance. A report of what is not open for that instance, or
// was never handed out to it, changes nothing.
func (s *Server) settle(ctx context.Context, id waybill.InstanceID, delivery waybill.DeliveryID, v verdict) error {
	d, open, err := s.service.PullOne(ctx, id, delivery)
	if err != nil {
		return fmt.Errorf("look for what is reported: %w", err)
	}
	if !open {
		s.warnings.Log(s.log, "report of what is not open for the instance", "instance_id", id, "delivery_id", clip(string(delivery)),
			"cause", v.cause)
		return nil
	}
	m := s.machine(id)
	if v.damaged && m.damagedOnce(delivery) {
		return nil // once more, before it is given up
	}
	o := control.Outcome{Cause: v.cause, Detail: v.detail, From: waybill.Running} // it was handed out, or it cannot know
	if v.cause == waybill.NoCause {
		// The agent reads nothing back. What it says is that it has written what it got, whose MD5 it has compared.
		o.SHA256 = d.SHA256
	}
	if v.exists && m.ambiguous(delivery) {
		o.Detail += "; the delivery was handed out more than once, so the file may be its own"
	}
	return s.end(ctx, m, delivery, o)
}

// end records the outcome of a delivery. It returns once that is durable.
func (s *Server) end(ctx context.Context, m *machine, id waybill.DeliveryID, o control.Outcome) error {
	o.Delivery, o.Finished = id, s.service.Now()
	if err := s.service.Report(ctx, m.id, o); err != nil {
		return fmt.Errorf("record outcome: %w", err)
	}
	m.ended(id, o.Finished)
	s.note(m.id, wire.Note{Ended: []string{string(id)}})
	return nil
}

// metricsCall takes telemetry, of which one event is a second source of results: reports of names with control
// characters are never sent, those with blanks may be lost.
func (s *Server) metricsCall(r *http.Request) (any, error) {
	delivery, v, err := readMetrics(r.Body)
	r, cancel := whole(r)
	defer cancel()
	i, identityErr := s.identify(r)
	if identityErr != nil {
		return nil, identityErr
	}
	if err != nil || delivery == "" || v.damaged { // which is no end: it is handed out again
		return ok200, err
	}
	wait := time.NewTimer(s.cfg.Fallback)
	defer wait.Stop()
	select { // the report itself may be on its way
	case <-wait.C:
	case <-s.closing:
	}
	return ok200, s.settle(r.Context(), i.ID, delivery, v)
}

// readMetrics returns the delivery that an event tells the failure of, and how it failed; no delivery for other events.
func readMetrics(body io.Reader) (waybill.DeliveryID, verdict, error) {
	var event struct {
		EventID  string `json:"eventId"`
		Keywords string `json:"keywords"`
	}
	b, err := io.ReadAll(body)
	if err != nil {
		if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
			return "", verdict{}, refusal{http.StatusRequestEntityTooLarge, "the body is too long"}
		}
		return "", verdict{}, refusal{http.StatusUnprocessableEntity, "the body did not arrive whole"}
	}
	if json.Unmarshal(b, &event) != nil || event.EventID != "agent.task.failed" {
		return "", verdict{}, nil
	}
	var words struct {
		TaskID   string `json:"taskid"`
		ErrorMsg string `json:"errormsg"`
	}
	if json.Unmarshal([]byte(event.Keywords), &words) != nil || words.TaskID == "" {
		return "", verdict{}, nil
	}
	if text, isFinish := strings.CutPrefix(words.ErrorMsg, "?"); isFinish {
		q := parseQuery(text)
		v := finished(q["status"], q["errorcode"])
		if q["taskType"] != fileReport || v.cause == waybill.NoCause { // it tells of failures only
			return "", verdict{}, nil
		}
		return waybill.DeliveryID(words.TaskID), v, nil
	}
	key, _, _ := strings.Cut(words.ErrorMsg, " : ")
	return waybill.DeliveryID(words.TaskID), refused(key), nil
}
