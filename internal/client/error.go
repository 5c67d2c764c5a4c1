// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"
)

// Error is a call that the API refused.
type Error struct {
	Action    string
	Status    int // of HTTP
	Code      string
	Message   string
	RequestID string
	Recommend string // a link to help; may be empty
}

// maxShown is how much of a message is shown. That of a wrong signature repeats the whole request.
const maxShown = 300

func (e *Error) Error() string {
	s := fmt.Sprintf("%s refused: %s: %s", e.Action, e.Code, shorten(strings.TrimSuffix(e.Message, ".")))
	if e.RequestID != "" {
		s += " (request " + e.RequestID + ")"
	}
	return s
}

// refusal decodes an answer that is not a success.
func (c *Client) refusal(action string, answer *http.Response, content []byte) error {
	var body struct {
		Code, Message, Recommend string
		RequestID                string `json:"RequestId"`
	}
	if err := json.Unmarshal(content, &body); err != nil || body.Code == "" {
		return fmt.Errorf("call %s: %s did not answer as a Waybill API: HTTP %s: %s",
			action, c.endpoint, answer.Status, shorten(strings.TrimSpace(string(content))))
	}
	return &Error{
		Action:    action,
		Status:    answer.StatusCode,
		Code:      body.Code,
		Message:   body.Message,
		RequestID: body.RequestID,
		Recommend: body.Recommend,
	}
}

func shorten(s string) string {
	if len(s) <= maxShown {
		return s
	}
	cut := maxShown
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
