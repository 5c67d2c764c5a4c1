// SPDX-License-Identifier: Apache-2.0

package waybill

// Cause says why a target did not succeed. The empty cause is that of Success and of a target still open.
//
// A cause is a stable word: it is stored, and agents report it. It has exactly one status (Cause.Status); its words in
// the public API are internal/api's. Source: the table of docs/state-machine.md, one cause for each row and each of the three texts
// of its last-but-one row.
type Cause string

// The causes.
const (
	NoCause            Cause = ""
	CauseUnknown       Cause = "instance-unknown"  // no such instance in this account
	CauseReleased      Cause = "instance-released" // deregistered before or during the delivery
	CauseShutDown      Cause = "instance-down"     // the machine said it is shutting down
	CauseAccountGone   Cause = "account-gone"      // the account was removed or disabled before dispatch
	CauseAgentStopped  Cause = "agent-stopped"     // the agent said it is stopping
	CauseAgentSilent   Cause = "agent-silent"      // never acknowledged
	CauseUpgrading     Cause = "agent-upgrading"   // the agent said it is being replaced by a newer one
	CauseAgentTooOld   Cause = "agent-too-old"     // its capability version is below the least supported
	CauseDeadline      Cause = "deadline"          // acknowledged, not finished in time
	CauseWriteFailed   Cause = "write-failed"      // no space, read-only, I/O error, target is a directory …
	CauseExists        Cause = "exists"            // a file of that name exists and may not be replaced
	CauseContent       Cause = "content-invalid"   // it does not match its digest on arrival
	CauseName          Cause = "name-invalid"      // not acceptable on that machine
	CausePath          Cause = "path-invalid"      // the directory cannot be used
	CauseOwnerMissing  Cause = "owner-missing"     // no such user on that machine
	CauseGroupMissing  Cause = "group-missing"     // no such group on that machine
	CauseModeUnapplied Cause = "mode-inapplicable" // the machine cannot give the file that mode or owner
	CauseAgentBroke    Cause = "agent-broke"       // it crashed or broke in an unforeseen way
	CauseCancelled     Cause = "cancelled"         // it was stopped before anything was placed
)

// causes gives each cause its status, and says whether the server inferred it from silence.
var causes = map[Cause]struct {
	status   Status
	inferred bool
}{
	NoCause:            {status: Success},
	CauseUnknown:       {status: Aborted},
	CauseReleased:      {status: Aborted},
	CauseShutDown:      {status: Aborted, inferred: true},
	CauseAccountGone:   {status: Aborted},
	CauseAgentStopped:  {status: Aborted, inferred: true},
	CauseAgentSilent:   {status: Aborted, inferred: true},
	CauseUpgrading:     {status: Aborted, inferred: true},
	CauseAgentTooOld:   {status: Aborted},
	CauseDeadline:      {status: Timeout, inferred: true},
	CauseWriteFailed:   {status: Failed},
	CauseExists:        {status: Failed},
	CauseContent:       {status: Invalid},
	CauseName:          {status: Invalid},
	CausePath:          {status: Invalid},
	CauseOwnerMissing:  {status: Invalid},
	CauseGroupMissing:  {status: Invalid},
	CauseModeUnapplied: {status: Invalid},
	CauseAgentBroke:    {status: Errored},
	CauseCancelled:     {status: Aborted},
}

// Causes returns every cause but NoCause, in no particular order.
func Causes() []Cause {
	all := make([]Cause, 0, len(causes)-1)
	for c := range causes {
		if c != NoCause {
			all = append(all, c)
		}
	}
	return all
}

// Known reports whether c is one of the causes above. An agent newer than the server may report others.
func (c Cause) Known() bool { _, ok := causes[c]; return ok }

// Status returns the one final status that a target with this cause has, and Error for an unknown cause.
func (c Cause) Status() Status {
	if e, ok := causes[c]; ok {
		return e.status
	}
	return Errored
}

// Inferred reports whether the server concluded c from the machine's silence rather than being told.
func (c Cause) Inferred() bool { return causes[c].inferred }
