// SPDX-License-Identifier: Apache-2.0

package assist

import (
	"context"
	"crypto/md5" // prescribed by the agent
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/wire"
)

// taskList is the answer to a fetch. The types are strict: one that is wrong, and the agent silently does nothing of it.
type taskList struct {
	Code       int                `json:"code"`
	InstanceID waybill.InstanceID `json:"instanceId"`
	Run        []struct{}         `json:"run"`
	Stop       []struct{}         `json:"stop"`
	Test       []struct{}         `json:"test"`
	Session    []struct{}         `json:"session"`
	File       []fileEntry        `json:"file"`
}

type fileEntry struct {
	Task   fileTask   `json:"task"`
	Output taskOutput `json:"output"`
}

// fileTask is one file. The agent ignores contentType and timeout, and always decodes the content as Base64.
type fileTask struct {
	TaskID      string `json:"taskID"`
	Name        string `json:"name"`
	Destination string `json:"destination"`
	Content     string `json:"content"`
	ContentType string `json:"contentType"`
	Signature   string `json:"signature"` // MD5 over Content as it stands
	Owner       string `json:"owner"`
	Group       string `json:"group"`
	Mode        string `json:"mode"`
	Overwrite   bool   `json:"overwrite"`
	Timeout     int64  `json:"timeout"`
}

// taskOutput is what the agent expects beside a task.
type taskOutput struct {
	Interval  int  `json:"interval"`
	LogQuota  int  `json:"logQuota"`
	SkipEmpty bool `json:"skipEmpty"`
	SendStart bool `json:"sendStart"`
}

// entrySize is the most that a delivery takes in an answer, in bytes: the content as Base64, the words with each byte
// escaped to six, and what is the same in all.
func entrySize(d *wire.Deliver) int {
	words := len(d.Delivery) + len(d.Name) + len(d.TargetDir) + len(d.Owner) + len(d.Group)
	return base64.StdEncoding.EncodedLen(len(d.Content)) + 6*words + 512
}

// maxList bounds one answer in bytes, and the content of one file as Base64. The agent drops an answer that takes it longer
// than eight seconds, and ends itself when large ones have swollen it.
const maxList = 900 << 10

// taskListCall answers a fetch: with the task that it names, or with all that is open.
func (s *Server) taskListCall(r *http.Request) (any, error) {
	i, err := s.identify(r)
	if err != nil {
		return nil, err
	}
	q := parseQuery(r.URL.RawQuery)
	m := s.machine(i.ID)
	defer m.fetching() // once it is answered, the next kick may follow
	list := taskList{
		Code: http.StatusOK, InstanceID: i.ID, Run: []struct{}{}, Stop: []struct{}{}, Test: []struct{}{}, Session: []struct{}{},
		File: []fileEntry{},
	}
	f := facts(&i, r)
	if f.Capability < wire.MinCapability {
		return list, nil // what is open for it ends when it says hello
	}
	found, err := s.offer(r.Context(), m, &f, q)
	if err != nil {
		return nil, err
	}
	for _, d := range found {
		list.File = append(list.File, fileEntry{
			Task: taskOf(&d, &f), Output: taskOutput{Interval: 1000, LogQuota: 12288, SkipEmpty: true},
		})
	}
	return list, nil
}

// offer returns what a fetch is given. It is durably noted as taken up before it leaves.
func (s *Server) offer(ctx context.Context, m *machine, f *waybill.Facts, q query) ([]wire.Deliver, error) {
	now, by := s.service.Now(), fetchOf(q)
	var found []wire.Deliver
	var ids []waybill.DeliveryID
	size, open, only := 0, false, waybill.DeliveryID(q["taskId"])
	take := func(d wire.Deliver) (more bool, err error) {
		open = true
		id := waybill.DeliveryID(d.Delivery)
		if cause, why := unsuitable(&d, f); cause != waybill.NoCause {
			return true, s.end(ctx, m, id, control.Outcome{Cause: cause, Detail: why})
		}
		deadline := time.UnixMilli(d.Deadline)
		n := entrySize(&d)
		if len(found) > 0 && size+n > maxList {
			m.expect(id, deadline)
			m.more()
			return false, nil
		}
		if !m.claim(id, deadline, by, now, s.cfg.Patience) {
			return true, nil
		}
		size += n
		found, ids = append(found, d), append(ids, id)
		return true, nil
	}
	if err := s.eachOpen(ctx, m.id, only, take); err != nil || len(found) == 0 {
		m.drop(ids)
		if err == nil {
			s.vain(m, only, open)
		}
		return nil, err
	}
	first, still, err := s.service.Started(ctx, m.id, ids)
	if err != nil {
		m.drop(ids)
		return nil, fmt.Errorf("note what is handed out: %w", err)
	}
	note := wire.Note{Fetched: true, Fetch: by.id}
	given := found[:0]
	for i, id := range ids {
		if !still[i] {
			m.ended(id, now)
			note.Ended = append(note.Ended, string(id))
			continue
		}
		m.hand(id, first[i])
		note.Given = append(note.Given, wire.NoteFor{Delivery: string(id), Deadline: found[i].Deadline})
		given = append(given, found[i])
	}
	s.note(m.id, note)
	return given, nil
}

// vain notes that a fetch was given nothing. One that is for a delivery that is open no more comes of a kick by a server
// that has not heard that.
func (s *Server) vain(m *machine, only waybill.DeliveryID, open bool) {
	n := wire.Note{Fetched: true}
	if only != "" && !open {
		m.ended(only, s.service.Now())
		n.Ended = []string{string(only)}
	}
	s.note(m.id, n)
}

// fetch is one fetch, which the agent repeats as it stands until it is answered.
type fetch struct {
	id      string // empty: none, and every request is one of its own
	startup bool   // it is the first of its process
}

func fetchOf(q query) fetch {
	f := fetch{startup: q["reason"] == "startup"}
	if at := q["currentTime"]; at != "" {
		f.id = q["reason"] + " " + q["taskId"] + " " + at // two may come in the same millisecond
	}
	return f
}

// eachOpen calls take for what is open for an instance, oldest first, or for the one delivery that is named, until take
// wants no more.
func (s *Server) eachOpen(
	ctx context.Context, id waybill.InstanceID, only waybill.DeliveryID, take func(wire.Deliver) (more bool, err error),
) error {
	if only != "" {
		d, ok, err := s.service.OfferOne(ctx, id, only)
		if err == nil && ok {
			_, err = take(d)
		}
		return err
	}
	for after := waybill.DeliveryID(""); ; {
		reply, err := s.service.Pull(ctx, id, after)
		if err != nil {
			return err
		}
		for _, d := range reply.Deliveries {
			after = waybill.DeliveryID(d.Delivery)
			if more, err := take(d); err != nil || !more {
				return err
			}
		}
		if !reply.More || len(reply.Deliveries) == 0 { // all of them may be of an account that is gone
			return nil
		}
	}
}

// unsuitable says why the agent would not do what a delivery asks, and would not say so.
func unsuitable(d *wire.Deliver, f *waybill.Facts) (waybill.Cause, string) {
	windows := f.OSType == windowsName
	switch {
	case d.Mode > 0o777:
		return waybill.CauseModeUnapplied, fmt.Sprintf("mode %04o: the official agent drops setuid, setgid and sticky", d.Mode)
	case isNumber(d.Owner) && d.Owner != "0":
		return waybill.CauseOwnerMissing, fmt.Sprintf("owner %s: the official agent knows owners by name only", d.Owner)
	case isNumber(d.Group) && d.Group != "0":
		return waybill.CauseGroupMissing, fmt.Sprintf("group %s: the official agent knows groups by name only", d.Group)
	case len(d.Name) > 255: // it would say that such a file exists
		return waybill.CauseName, "the name is longer than 255 bytes"
	case windows == strings.HasPrefix(d.TargetDir, "/"): // it would take it as below its own directory
		return waybill.CausePath, fmt.Sprintf("%s is not absolute on %s", d.TargetDir, f.OSType)
	case d.Size > 0: // whoever accepts or repeats a delivery ends it before
		return waybill.CauseAgentTooOld, fmt.Sprintf("files of more than %d bytes do not go to the official agent; install ours", wire.MaxContent)
	case base64.StdEncoding.EncodedLen(len(d.Content)) > maxList:
		return waybill.CauseWriteFailed, fmt.Sprintf("%d bytes are too many for the official agent", len(d.Content))
	}
	return waybill.NoCause, ""
}

func isNumber(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// taskOf writes a delivery as the agent wants it.
func taskOf(d *wire.Deliver, f *waybill.Facts) fileTask {
	content := base64.StdEncoding.EncodeToString(d.Content)
	if content == "" {
		content = "\n" // it refuses an empty content, and reads this one as an empty file
	}
	digest := md5.Sum([]byte(content))
	t := fileTask{
		TaskID: d.Delivery, Name: d.Name, Destination: d.TargetDir, Content: content, ContentType: "Base64",
		Signature: hex.EncodeToString(digest[:]), Owner: ownerName(d.Owner), Group: ownerName(d.Group),
		Mode: fmt.Sprintf("%04o", d.Mode), Overwrite: d.Overwrite, Timeout: max(1, (d.Deadline-d.Sent)/1000),
	}
	if t.Owner == rootName && t.Group == rootName {
		t.Group = "" // with both it changes nothing, and a file of another stays that; with one it sets both
		if f.OSType == windowsName {
			t.Owner = "" // there is none
		}
	}
	return t
}

const (
	rootName    = "root"
	windowsName = "windows"
)

func ownerName(s string) string {
	if s == "0" {
		return rootName
	}
	return s
}
