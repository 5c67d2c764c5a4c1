// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Snapshot is what an agent has done so far, and how it is. Its lists are in the order of events and are the caller's.
type Snapshot struct {
	Started    time.Time // zero before Run; the server computes it as timestamp - process_uptime
	Registered bool      // it has an identity
	Connected  bool      // its WebSocket is open, as far as it knows
	Crashed    bool      // its reader has ended for ever (Q7); the WebSocket may be open
	Deaf       bool      // no message reaches it: crashed, or given up until the next tick

	Dials      int    // WebSocket dials tried
	Connects   int    // dials that succeeded
	Pings      int    // ping frames sent
	BeatsTried uint64 // as seq_no
	Beats      uint64 // acknowledged, as index
	NextBeat   time.Duration

	Kicks         []Kick
	Fetches       []Fetch
	Executions    []Execution
	Runs          map[string]int // how often each task was begun, by its ID
	Reports       []Report
	Metrics       []Metric
	ClientReports []ClientReport
	UpdateChecks  int
	UpdateWanted  bool // an update check said so: the real agent would replace itself now
	StateQueries  int
}

// Kick is a message over the WebSocket.
type Kick struct {
	Message string
	Reply   string // empty if the reader crashed
	Dropped bool   // accepted and forgotten, because the agent had not finished starting
}

// Fetch is one ask for tasks or, with a channel ID, for sessions: up to 16 requests with one currentTime.
type Fetch struct {
	Reason      string // "startup", "kickoff", "session"
	TaskID      string
	CurrentTime string // milliseconds; empty for sessions
	Requests    int
	Found       int    // tasks of all kinds
	Void        string // why the reply as a whole was not understood
	Err         string // of the last request, if all failed
}

// Result is what became of a task.
type Result struct {
	ErrorCode int    // of a finish report: 0 is success
	Param     string // of an invalid report; then ErrorCode means nothing
	Value     string
}

// String returns "Success", "Failed 1" or the like, or Param.
func (r Result) String() string {
	switch {
	case r.Param != "":
		return r.Param
	case r.ErrorCode == 0:
		return "Success"
	default:
		return fmt.Sprintf("Failed %d", r.ErrorCode)
	}
}

// Execution is one execution of one task to its end.
type Execution struct {
	TaskID string
	Path   string // where the file went on this machine; empty if it did not come that far
	Result Result
}

// Report is a report about a task. It is sent once. It is lost if it was dropped, not sent, not answered, or answered
// with an error: with 400 too, which the agent takes for a success.
type Report struct {
	TaskID string
	Target string // path and query
	Status int    // 0: not answered
	Err    string
	Lost   bool
}

// Metric is an event of telemetry.
type Metric struct {
	ID       string
	Keywords map[string]string
	Lost     bool // as in Report, or beyond the quota
}

// ClientReport is a report about the agent itself (§9.4).
type ClientReport struct {
	Type, Info string
	Lost       bool // after all repetitions
}

// Snapshot returns how the agent is now. It is safe for concurrent use, also after Run has ended.
func (a *Agent) Snapshot() Snapshot {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.seen
	s.Registered = a.identity != nil
	s.Kicks, s.Fetches, s.Executions = slices.Clone(s.Kicks), slices.Clone(s.Fetches), slices.Clone(s.Executions)
	s.Runs = maps.Clone(s.Runs)
	s.Reports, s.Metrics, s.ClientReports = slices.Clone(s.Reports), slices.Clone(s.Metrics), slices.Clone(s.ClientReports)
	return s
}

// note changes what the agent has seen, and tells the event.
func (a *Agent) note(change func(*Snapshot), event string) {
	a.mu.Lock()
	change(&a.seen)
	a.mu.Unlock()
	a.tell(event)
}

func (a *Agent) tell(event string) {
	if a.cfg.Events != nil {
		a.cfg.Events(event)
	}
}
