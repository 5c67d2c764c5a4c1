// SPDX-License-Identifier: Apache-2.0

package assist

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/wire"
)

// routes is everything that an official agent asks for, by method and path. What is not here is answered with 404,
// which it logs and does not repeat.
var routes = map[string]route{
	"POST /luban/api/instance/register":   {name: "register", serve: (*Server).registerCall},
	"POST /luban/api/instance/deregister": {name: "deregister", serve: (*Server).deregisterCall},
	"GET /luban/notify_server":            {name: "notify_server", upgrade: true},
	"GET /luban/api/heart-beat":           {name: "heart-beat", serve: (*Server).heartbeatCall},
	"POST /luban/api/v1/task/list":        {name: "task/list", serve: (*Server).taskListCall},
	"POST /luban/api/v1/task/finish":      {name: "task/finish", serve: (*Server).finishCall},
	"POST /luban/api/v1/task/invalid":     {name: "task/invalid", serve: (*Server).invalidCall},
	"POST /luban/api/metrics":             {name: "metrics", serve: (*Server).metricsCall},

	"POST /luban/api/v1/exception/client_report": {name: "client_report", serve: (*Server).clientReportCall},
	// Never anything but flag and need_update 0: the agent would download a package and run it.
	"POST /luban/api/v1/update/update_check": quiet("update_check", map[string]any{
		"flag": 0, "need_update": 0, "next_interval": 1_800_000, "instanceId": "",
	}),
	// Always changed: an agent that has nothing cached panics when it is told that nothing has changed.
	"POST /luban/api/instance/list_instance_state_configurations": quiet("list_instance_state_configurations", map[string]any{
		"code": http.StatusOK, "result": map[string]any{
			"requestId": "", "interval": 86_400, "changed": true, "checkpoint": "2026-01-02T03:04:05Z", "stateConfigurations": []any{},
		},
	}),
	"POST /luban/api/instance/get_template":              quiet("get_template", ok200),
	"POST /luban/api/instance/put_instance_state_report": quiet("put_instance_state_report", ok200),
	"POST /luban/api/instance/put_inventory":             quiet("put_inventory", ok200),
	"POST /luban/api/v1/plugin/list":                     quiet("plugin/list", map[string]any{"code": http.StatusOK, "pluginList": []any{}}),
	"POST /luban/api/v1/plugin/report_status":            quiet("plugin/report_status", ok200),
	"POST /luban/api/v2/plugin/update_check":             quiet("plugin/update_check", map[string]any{"plugin": []any{}, "nextInterval": 86_400}),
	"POST /luban/api/gshell":                             quiet("gshell", map[string]any{"code": http.StatusOK, "gshellSupport": "false"}),
	"POST /luban/api/v1/session/list":                    quiet("session/list", map[string]any{"code": http.StatusOK, "session": []any{}}),
	"POST /luban/api/v1/task/running":                    quiet("task/running", ok200),
	"POST /luban/api/v1/task/timeout":                    quiet("task/timeout", ok200),
	"POST /luban/api/v1/task/error":                      quiet("task/error", ok200),
	"POST /luban/api/v1/task/stopped":                    quiet("task/stopped", ok200),
	"POST /luban/api/v1/task/verified":                   quiet("task/verified", ok200),
}

// quiet is a call whose answer keeps the agent content and changes nothing.
func quiet(name string, reply any) route {
	return route{name: name, serve: func(s *Server, r *http.Request) (any, error) {
		if _, err := s.identify(r); err != nil {
			return nil, err
		}
		return reply, nil
	}}
}

// registration is the body of a register call.
type registration struct {
	ActivationID   string `json:"activationId"`
	ActivationCode string `json:"activationCode"`
	MachineID      string `json:"machineId"`
	InstanceName   string `json:"instanceName"`
	Hostname       string `json:"hostname"`
	IntranetIP     string `json:"intranetIp"`
	OSType         string `json:"osType"`
	OSVersion      string `json:"osVersion"`
	AgentVersion   string `json:"agentVersion"`
	PublicKey      string `json:"publicKey"`
	Tags           []struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	} `json:"tag"`
}

// registered is the answer that makes the agent store its identity. The code must be a number: with a text it says that
// it has registered, and stores nothing.
type registered struct {
	Code       int                `json:"code"`
	InstanceID waybill.InstanceID `json:"instanceId"`
}

const (
	maxWord = 256 // bytes of any text that an agent says of its machine
	maxTags = 20  // more are refused by the use case; this bounds what is copied
)

// registerCall enrols a machine. A refusal has status 200 and another code: then the agent shows its words to whoever
// ran it; of another status it shows the number only.
func (s *Server) registerCall(r *http.Request) (any, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, refusal{http.StatusRequestEntityTooLarge, "the body is too long"}
	}
	req, err := readRegistration(b)
	if err != nil {
		return said(http.StatusUnprocessableEntity, err.Error()), nil
	}
	from := remoteAddr(r)
	end, wait := s.cfg.Attempts.Begin(r.Context(), from, s.service.Now())
	if wait > 0 {
		return said(http.StatusTooManyRequests, "too many failed attempts from this address; wait "+wait.Round(time.Second).String()), nil
	}
	wrong := false
	defer func() { end(wrong) }()
	req.From = from
	i, err := s.service.Enroll(r.Context(), req)
	wrong = waybill.CodeOf(err) == waybill.EnrolRefused
	if e, ok := errors.AsType[*waybill.Error](err); ok && e.Code != waybill.Unavailable && e.Code != waybill.Internal {
		s.warnings.Log(s.log, "registration of an official agent refused", "from", from, "activation_id", req.Activation, "err", e.Message)
		return said(http.StatusForbidden, e.Message), nil
	}
	if err != nil {
		return nil, err
	}
	return registered{http.StatusOK, i.ID}, nil
}

// readRegistration reads the body of a register call. Its errors are for whoever runs the agent to read.
func readRegistration(body []byte) (control.EnrollRequest, error) {
	var req registration
	if err := json.Unmarshal(body, &req); err != nil {
		return control.EnrollRequest{}, errors.New("the body is not that of a registration")
	}
	for _, text := range []string{
		req.ActivationID, req.ActivationCode, req.MachineID, req.InstanceName, req.Hostname, req.IntranetIP, req.OSType,
		req.OSVersion, req.AgentVersion,
	} {
		if len(text) > maxWord {
			return control.EnrollRequest{}, fmt.Errorf("a field is longer than %d bytes", maxWord)
		}
	}
	key, name, err := parseKey(req.PublicKey, req.MachineID)
	if err != nil {
		return control.EnrollRequest{}, err
	}
	tags := make([]waybill.Tag, 0, min(len(req.Tags), maxTags+1))
	for _, t := range req.Tags[:min(len(req.Tags), maxTags+1)] {
		tags = append(tags, waybill.Tag{Key: t.Key, Value: t.Value})
	}
	return control.EnrollRequest{
		Activation: waybill.ActivationID(req.ActivationID), Code: req.ActivationCode, Agent: waybill.OfficialAgent,
		PublicKey: name, AgentKey: key, Name: req.InstanceName, Tags: tags,
		Facts: waybill.Facts{
			Hostname: req.Hostname, MachineID: req.MachineID, IntranetIP: req.IntranetIP, OSType: req.OSType,
			OSVersion: req.OSVersion, AgentVersion: req.AgentVersion, Capability: capability(req.AgentVersion),
		},
	}, nil
}

// said is a refusal that the agent shows to people.
func said(code int, why string) any {
	return struct {
		Code   int    `json:"code"`
		ErrMsg string `json:"errMsg"`
	}{code, why}
}

// deregisterCall takes a machine out of the fleet. One that is out already is told that it is: then it forgets its
// identity.
func (s *Server) deregisterCall(r *http.Request) (any, error) {
	r, cancel := whole(r)
	defer cancel()
	i, err := s.signer(r)
	if err != nil {
		return nil, err
	}
	if i.State == waybill.Deregistered {
		return ok200, nil
	}
	return ok200, s.service.Leave(r.Context(), i.ID, remoteAddr(r))
}

// beatReply is the answer to a heartbeat. An interval that is not within 55 to 65 seconds, or no number, is ignored.
type beatReply struct {
	Code         int  `json:"code"`
	NextInterval int  `json:"nextInterval"` // milliseconds
	NewTasks     bool `json:"newTasks"`     // ignored by the agent
}

// redialEvery is how often an agent that has lost its channel, and failed to open it again at once, tries it: counted
// from the start of its process.
const redialEvery = 30 * time.Minute

// heartbeatCall notes that the agent lives. A heartbeat cannot make it fetch anything.
func (s *Server) heartbeatCall(r *http.Request) (any, error) {
	i, err := s.identify(r)
	if err != nil {
		return nil, err
	}
	q := parseQuery(r.URL.RawQuery)
	s.service.Pulse(i.ID, nextDial(q["process_uptime"], s.service.Now()))
	m := s.machine(i.ID)
	if q["index"] == "0" { // none was acknowledged yet: the process has just started
		m.restarted()
		s.note(i.ID, wire.Note{Restarted: true})
	}
	if session, open := m.session(); open {
		err = s.service.Beat(r.Context(), i.ID, session, m.held())
	}
	return beatReply{Code: http.StatusOK, NextInterval: int(control.BeatEvery / time.Millisecond)}, err
}

// nextDial says when an agent whose process is so many milliseconds old opens its channel, should it have none; zero if
// that cannot be told.
func nextDial(uptime string, now time.Time) time.Time {
	ms, err := strconv.ParseInt(uptime, 10, 64)
	if err != nil || ms < 0 {
		return time.Time{}
	}
	return now.Add(redialEvery - time.Duration(ms%redialEvery.Milliseconds())*time.Millisecond)
}

// clientReportCall takes what the agent says of itself: that its channel was lost, that it failed to open another, that
// it ends because it has become too large.
func (s *Server) clientReportCall(r *http.Request) (any, error) {
	i, err := s.identify(r)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, refusal{http.StatusRequestEntityTooLarge, "the body is too long"}
	}
	if report, ok := readClientReport(b); ok {
		s.log.Info("official agent reports", "instance_id", i.ID, "type", report.Type, "info", report.Info)
	}
	return ok200, nil
}

// clientReport is what an agent says of itself, cut to what is worth logging.
type clientReport struct {
	Type string `json:"type"`
	Info string `json:"info"`
}

func readClientReport(body []byte) (r clientReport, ok bool) {
	if json.Unmarshal(body, &r) != nil || r == (clientReport{}) {
		return clientReport{}, false
	}
	return clientReport{clip(r.Type), clip(r.Info)}, true
}
