// SPDX-License-Identifier: Apache-2.0

// Package script makes machines play parts: a script says, for each machine, what becomes of the deliveries to it, so that
// whoever tests code against the API gets any answer on demand, and the same one every time (docs/testing-with-waybill.md).
//
// The machines are real agents, and the answers come from where they always come from. An agent is interfered with by its
// hooks, comes and goes, says why, or pretends to be old; what only the server decides (an instance that was deregistered,
// an account that was disabled) is done as an operator would do it.
package script

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/api"
	"github.com/openwaybill/waybill/internal/wire"
)

// Script says what machines do. Parse reads one.
type Script struct {
	Machines   []Machine     // in the order of the file
	MinTimeout time.Duration // the shortest timeout that a delivery may have; zero: the server's own
}

// Machine is the part of one machine.
type Machine struct {
	Name     string
	Steps    []Step // one at least; the last is for ever
	Flapping *Flapping
}

// Step is what becomes of some deliveries.
type Step struct {
	Outcome
	Deliveries int           // how many it is for, 1 at least; zero on the last step
	Pending    time.Duration // how long at least they stay Pending, before the machine acknowledges
	Delay      time.Duration // how long at least they stay Running, before the machine reports
}

// Flapping is a machine that loses its link again and again.
type Flapping struct{ Up, Down time.Duration }

// Outcome is a row of docs/state-machine.md. No two have the same three words.
type Outcome struct {
	Status waybill.Status
	Code   string // ErrorCode; empty for Success
	Info   string // ErrorInfo; empty for Success

	cause waybill.Cause
}

// Name is the word by which a script calls o. FileAuthorityInvalid and FileCreateFail are more than one outcome's.
func (o Outcome) Name() string {
	if o.Code == "" {
		return string(o.Status)
	}
	return o.Code
}

// String tells o from all others.
func (o Outcome) String() string {
	switch o.cause {
	case waybill.CauseOwnerMissing, waybill.CauseGroupMissing, waybill.CauseModeUnapplied:
		return o.Code + " (" + o.Info + ")"
	case waybill.CauseWriteFailed, waybill.CauseAgentBroke:
		return o.Code + " (" + string(o.Status) + ")"
	}
	return o.Name()
}

// String writes m for people.
func (m Machine) String() string {
	var parts []string
	for _, s := range m.Steps {
		part := s.Outcome.String()
		if s.Pending > 0 {
			part += " pending " + s.Pending.String()
		}
		if s.Delay > 0 {
			part += " after " + s.Delay.String()
		}
		if s.Deliveries > 1 {
			part += " ×" + strconv.Itoa(s.Deliveries)
		}
		parts = append(parts, part)
	}
	if f := m.Flapping; f != nil {
		parts[0] += ", link up " + f.Up.String() + " and down " + f.Down.String()
	}
	return strings.Join(parts, ", then ")
}

// order is that of docs/state-machine.md.
var order = []waybill.Cause{
	waybill.NoCause,
	waybill.CauseUnknown, waybill.CauseReleased, waybill.CauseShutDown, waybill.CauseAccountGone, waybill.CauseAgentStopped,
	waybill.CauseAgentSilent, waybill.CauseUpgrading, waybill.CauseAgentTooOld, waybill.CauseDeadline,
	waybill.CauseWriteFailed, waybill.CauseExists, waybill.CauseContent, waybill.CauseName, waybill.CausePath,
	waybill.CauseOwnerMissing, waybill.CauseGroupMissing, waybill.CauseModeUnapplied, waybill.CauseAgentBroke,
}

// Outcomes returns all that a script may ask for.
func Outcomes() []Outcome {
	all := make([]Outcome, len(order))
	for i, c := range order {
		code, info := api.Words(c)
		all[i] = Outcome{Status: c.Status(), Code: code, Info: info, cause: c}
	}
	return all
}

// presence is what a machine must be when a delivery for it is accepted.
type presence string

const (
	online    presence = "online"
	tooOld    presence = "too old"
	released  presence = "released"
	absent    presence = "never enrolled"
	stopped            = presence(wire.ByeStopped)
	shutDown           = presence(wire.ByeShutDown)
	upgrading          = presence(wire.ByeUpgrading)
)

// away reports whether an agent says goodbye to be p.
func (p presence) away() bool { return slices.Contains([]presence{stopped, shutDown, upgrading}, p) }

func (o Outcome) presence() presence {
	switch o.cause {
	case waybill.CauseUnknown:
		return absent
	case waybill.CauseReleased:
		return released
	case waybill.CauseShutDown:
		return shutDown
	case waybill.CauseAgentStopped:
		return stopped
	case waybill.CauseUpgrading:
		return upgrading
	case waybill.CauseAgentTooOld:
		return tooOld
	}
	return online
}

// reported reports whether the machine says o, and not the server.
func (o Outcome) reported() bool { return o.presence() == online && !o.taken() && !o.ignored() }

// ignored reports whether the machine is there and never takes the delivery up.
func (o Outcome) ignored() bool {
	return o.cause == waybill.CauseAgentSilent || o.cause == waybill.CauseAccountGone
}

// taken reports whether the machine takes the delivery up and is never heard of again.
func (o Outcome) taken() bool { return o.cause == waybill.CauseDeadline }

// byDeadline reports whether the server finds o when the deadline passes, and nothing else may happen to the machine
// until then.
func (o Outcome) byDeadline() bool {
	return o.taken() || o.cause == waybill.CauseAgentSilent || o.cause == waybill.CauseUpgrading
}
