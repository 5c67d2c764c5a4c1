// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// tooBig is how much content in one reply makes the agent kill itself for its size (§12).
const tooBig = 4 << 20

// taskList is the reply to a fetch. One type error in it voids it all, which is why every type is written here (Q5).
type taskList struct {
	Code       int        `json:"code"`
	InstanceID string     `json:"instanceId"`
	Run        []struct{} `json:"run"`
	Stop       []struct{} `json:"stop"`
	Test       []struct{} `json:"test"`
	Session    []struct{} `json:"session"`
	File       []struct {
		Task   fileTask `json:"task"`
		Output struct {
			Interval  int  `json:"interval"`
			LogQuota  int  `json:"logQuota"`
			SkipEmpty bool `json:"skipEmpty"`
			SendStart bool `json:"sendStart"`
		} `json:"output"`
	} `json:"file"`
}

// fileTask is a file to be placed.
type fileTask struct {
	TaskID      string `json:"taskID"`
	Name        string `json:"name"`
	Destination string `json:"destination"`
	Content     string `json:"content"`
	ContentType string `json:"contentType"` // ignored
	Signature   string `json:"signature"`
	Owner       string `json:"owner"`
	Group       string `json:"group"`
	Mode        string `json:"mode"`
	Overwrite   bool   `json:"overwrite"`
	Timeout     int64  `json:"timeout"` // ignored
}

func (l *taskList) found() int {
	return len(l.Run) + len(l.Stop) + len(l.Test) + len(l.Session) + len(l.File)
}

// content returns how much content the files have, decoded.
func (l *taskList) content() int {
	n := 0
	for _, f := range l.File {
		n += base64.StdEncoding.DecodedLen(len(f.Task.Content))
	}
	return n
}

// fetch fetches tasks for a reason and executes them. A kick that found nothing is followed up once. Before the agent
// has started, it does nothing.
func (a *Agent) fetch(ctx context.Context, reason, taskID string) {
	a.mu.Lock()
	enabled := a.enabled
	a.mu.Unlock()
	if !enabled || a.fetchOnce(ctx, reason, taskID) > 0 || reason == "startup" || !pause(ctx, a.t.SecondAsk) {
		return
	}
	a.fetchOnce(ctx, reason, taskID)
}

// fetchOnce fetches and executes, and returns how many tasks were found.
func (a *Agent) fetchOnce(ctx context.Context, reason, taskID string) int {
	if a.at(BeforeFetch, taskID) == Die || ctx.Err() != nil {
		return 0
	}
	f := Fetch{Reason: reason, TaskID: taskID}
	list := a.ask(ctx, &f)
	f.Found = list.found()
	a.note(func(s *Snapshot) { s.Fetches = append(s.Fetches, f) },
		fmt.Sprintf("fetch %s %s: %d found after %d requests", reason, taskID, f.Found, f.Requests))
	if a.at(AfterFetch, taskID) == Die || ctx.Err() != nil {
		return f.Found
	}
	if list.content() >= tooBig {
		a.mu.Lock()
		watch := max(a.t.Watch-time.Since(a.seen.Started), 0)
		a.mu.Unlock()
		a.after(watch+a.t.SelfKill, a.selfKill)
	}
	for _, file := range list.File {
		if !a.do(ctx, file.Task) {
			break
		}
	}
	return f.Found
}

// ask sends one request up to four times until it is answered, and again up to four times while the answer is code 408.
func (a *Agent) ask(ctx context.Context, f *Fetch) taskList {
	target := a.fetchTarget(f)
	var list taskList
	for range 4 {
		body, err := a.askOnce(ctx, target, f)
		if err != nil {
			f.Err = err.Error()
			return taskList{}
		}
		list = taskList{}
		if f.Void = ""; body == "" {
			f.Void = "empty"
		} else if err := json.Unmarshal([]byte(body), &list); err != nil {
			f.Void = err.Error()
			list = taskList{}
		}
		if list.Code != 408 || !pause(ctx, a.t.FetchRetry) {
			break
		}
	}
	return list
}

func (a *Agent) askOnce(ctx context.Context, target string, f *Fetch) (body string, err error) {
	for i := range 4 {
		if i > 0 && !pause(ctx, a.t.FetchRetry) {
			return "", ctx.Err()
		}
		var answer Answer
		f.Requests++
		if answer, err = a.post(ctx, target, contentJSON, nil, a.t.FetchLimit); err == nil {
			return answer.Body, nil
		}
	}
	return "", err
}

// fetchTarget returns the URL of all requests of a fetch.
func (a *Agent) fetchTarget(f *Fetch) string {
	if f.Reason == "session" {
		target := "/luban/api/v1/session/list"
		if f.TaskID != "" {
			target += "?channelId=" + f.TaskID
		}
		return target
	}
	now := time.Now()
	f.CurrentTime = strconv.FormatInt(now.UnixMilli(), 10)
	target := "/luban/api/v1/task/list?reason=" + f.Reason
	if f.Reason == "startup" {
		target += fmt.Sprintf("&cold_start=%t", a.cfg.ColdStart)
	}
	if f.TaskID != "" {
		target += "&taskId=" + f.TaskID
	}
	zone, offset := now.Zone()
	if name := now.Location().String(); name != "Local" {
		zone = name
	}
	return target + fmt.Sprintf("&currentTime=%s&offset=%d&timeZone=%s", f.CurrentTime, offset, url.QueryEscape(zone))
}
