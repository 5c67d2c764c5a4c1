// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"time"
)

// report reports a task's result, exactly once (§7.3). The metric of a failure goes its own way at the same time
// (§7.4).
func (a *Agent) report(ctx context.Context, taskID string, r Result) {
	target, msg := "/luban/api/v1/task/finish", ""
	if r.Param != "" {
		target = "/luban/api/v1/task/invalid?taskId=" + taskID + "&taskType=sendfile&param=" + r.Param + "&value=" + r.Value
		msg = r.Param + " : " + r.Value
	} else {
		status := "Success"
		if r.ErrorCode != 0 {
			status = "Failed"
		}
		query := fmt.Sprintf("?taskId=%s&status=%s&taskType=sendfile&errorcode=%d", taskID, status, r.ErrorCode)
		if target += query; r.ErrorCode != 0 {
			msg = query
		}
	}
	if msg != "" {
		a.spawn(ctx, func(ctx context.Context) {
			switch keywords := map[string]string{"taskid": taskID, "errormsg": msg}; a.at(BeforeMetric, taskID) {
			case Proceed:
				a.metric(ctx, "agent.task.failed", keywords)
			case Drop:
				a.note(func(s *Snapshot) {
					s.Metrics = append(s.Metrics, Metric{ID: "agent.task.failed", Keywords: keywords, Lost: true})
				}, "metric dropped "+taskID)
			case Die:
			}
		})
	}
	sent := Report{TaskID: taskID, Target: target}
	switch a.at(BeforeReport, taskID) {
	case Die:
		return
	case Drop:
		sent.Lost = true
	case Proceed:
		if ctx.Err() != nil {
			return
		}
		answer, err := a.post(ctx, target, contentText, nil, a.t.CallLimit)
		sent.Status, sent.Lost = answer.Status, err != nil || answer.Status == http.StatusBadRequest
		if err != nil {
			sent.Err = err.Error()
		}
	}
	event := "reported "
	if sent.Lost {
		event = "report lost "
	}
	a.note(func(s *Snapshot) { s.Reports = append(s.Reports, sent) }, event+taskID)
}

// The quota of metrics of one process (§7.4).
const (
	metricQuota  = 100
	metricWindow = 10 * time.Minute
)

// metric sends an event of telemetry, once, if the quota allows it.
func (a *Agent) metric(ctx context.Context, id string, keywords map[string]string) {
	a.mu.Lock()
	if now := time.Now(); now.Sub(a.quotaAt) >= metricWindow {
		a.quota, a.quotaAt = 0, now
	}
	a.quota++
	lost := a.quota > metricQuota
	a.mu.Unlock()
	if !lost {
		answer, err := a.post(ctx, "/luban/api/metrics", contentJSON, a.metricBody(id, keywords), a.t.CallLimit)
		lost = err != nil || answer.Status == http.StatusBadRequest
	}
	a.note(func(s *Snapshot) {
		s.Metrics = append(s.Metrics, Metric{ID: id, Keywords: maps.Clone(keywords), Lost: lost})
	}, "metric "+id)
}

func (a *Agent) metricBody(id string, keywords map[string]string) []byte {
	return encode(map[string]any{
		"eventId": id, "category": "agent", "subCategory": "", "eventLevel": "info", "eventTime": time.Now().UnixMilli(),
		"common": string(encode(map[string]string{
			"arch": a.facts.Arch, "instanceId": "unknown", "osVersion": a.facts.OSVersion, "virtualType": "kvm",
			"distribution": a.facts.PlatformName + " " + a.facts.PlatformVersion, "kernelVersion": "6.1.0",
		})),
		"keywords": string(encode(keywords)),
	})
}

// encode returns v, which is made of texts and numbers, as JSON.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// clientReport tells about the agent itself, up to four times.
func (a *Agent) clientReport(ctx context.Context, kind, info string) {
	body := encode(map[string]string{"type": kind, "info": info})
	r := ClientReport{Type: kind, Info: info, Lost: true}
	for i := 0; i < 4 && r.Lost; i++ {
		if i > 0 && !pause(ctx, a.t.ReportRetry<<(i-1)) {
			break
		}
		_, err := a.post(ctx, "/luban/api/v1/exception/client_report", contentJSON, body, a.t.CallLimit)
		r.Lost = err != nil
	}
	a.note(func(s *Snapshot) { s.ClientReports = append(s.ClientReports, r) }, "client report "+kind+" "+info)
}

// selfKill ends a process that has grown too big. What it has under way is lost.
func (a *Agent) selfKill(ctx context.Context) {
	a.spawn(ctx, func(ctx context.Context) {
		a.metric(ctx, "agent.pref.mem.overload", map[string]string{"mem": "66.00"})
	})
	a.clientReport(ctx, "self_kill", "mem=66.00MB")
	a.die(ErrSelfKilled)
}

// queryState asks for state configurations. The real agent does so again later; this one does not.
func (a *Agent) queryState(ctx context.Context) {
	body := encode(map[string]string{
		"agentName": "aliyun-assist", "agentVersion": a.facts.Version, "computerName": a.facts.Hostname,
		"platformName": a.facts.PlatformName, "platformType": a.facts.OSType, "platformVersion": a.facts.PlatformVersion,
		"ipAddress": a.facts.IntranetIP, "ramRole": "",
	})
	answer, err := a.post(ctx, "/luban/api/instance/list_instance_state_configurations", contentJSON, body, a.t.StateLimit)
	if ctx.Err() != nil {
		return
	}
	a.note(func(s *Snapshot) { s.StateQueries++ }, "state configurations asked for")
	var reply struct {
		Result *struct {
			Changed bool `json:"changed"`
		} `json:"result"`
	}
	if err == nil && json.Unmarshal([]byte(answer.Body), &reply) == nil && reply.Result != nil && !reply.Result.Changed {
		// It has no cache that could be unchanged.
		a.clientReport(ctx, "AgentPanic", `{"panic":"runtime error: invalid memory address or nil pointer dereference"}`)
	}
}

// checkUpdates checks for updates now and at intervals.
func (a *Agent) checkUpdates(ctx context.Context) {
	a.updateCheck(ctx)
	a.after(a.t.Tick, a.checkUpdates)
}

// updateCheck asks whether there is a newer agent, up to three times until there is an answer. It never updates.
func (a *Agent) updateCheck(ctx context.Context) {
	body := encode(map[string]string{
		"os": a.facts.OSType, "arch": a.facts.Arch, "os_version": a.facts.OSVersion, "app_id": "aliyun assistant",
		"app_version": a.facts.Version, "kernel_version": "6.1.0",
	})
	for i := range 3 {
		if i > 0 && !pause(ctx, a.t.UpdateRetry) {
			return
		}
		answer, err := a.post(ctx, "/luban/api/v1/update/update_check", contentJSON, body, a.t.CallLimit)
		if ctx.Err() != nil {
			return
		}
		var reply struct {
			Need any `json:"need_update"`
		}
		wrong := err != nil || json.Unmarshal([]byte(answer.Body), &reply) != nil
		need, _ := reply.Need.(float64)
		a.note(func(s *Snapshot) {
			s.UpdateChecks++
			s.UpdateWanted = s.UpdateWanted || need != 0
		}, "update check")
		if !wrong {
			return
		}
	}
}
