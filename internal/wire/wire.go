// SPDX-License-Identifier: Apache-2.0

// Package wire is the protocol between the server and the native agent: subjects, messages and the capability version.
// It opens no connection and keeps no state.
//
// Messages are CBOR maps with small integer keys. A receiver ignores keys it does not know, so both sides may add
// fields; a meaning never changes under an old key. docs/agent-protocol.md tells the whole conversation.
package wire

import (
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// Capability is the version of the protocol this build speaks. An agent tells its own in Hello.
//
// History:
//
//	1  2026-11-23  first version: hello, beat, bye, pull, deliver, ack, report, probe
//	2  2026-11-25  a Deliver with Size and without Content, which the agent fetches from PathContent
//	3  2026-11-30  Cancel, also in PullReply
//	4  2026-12-01  a Deliver with Rehearse in place of SHA256, which changes nothing
const Capability = 4

// MinCapability is the oldest agent that a delivery may be sent to, FetchCapability the oldest that fetches a content which a
// message cannot hold, CancelCapability the oldest that answers a Cancel, and RehearseCapability the oldest that rehearses.
const (
	MinCapability      = 1
	FetchCapability    = 2
	CancelCapability   = 3
	RehearseCapability = 4
)

// Limits of the protocol, kept by both sides.
const (
	MaxMessage   = 1 << 20   // bytes of any message; the bus refuses larger ones
	MaxContent   = 512 << 10 // bytes of Deliver.Content; what is larger is fetched
	MaxPull      = 16        // deliveries in one PullReply
	MaxPullBytes = 512 << 10
	MaxCancels   = 256 // in one PullReply; the server repeats the others
	MaxOpen      = 256 // delivery IDs in one Beat
	MaxDetail    = 512 // bytes of a Report's Detail
	MaxTrace     = 64  // bytes of a Trace; a longer one is not echoed

	MaxDiff = 32 << 10 // bytes of a Report's Diff; what is longer is cut
)

// Names of the messages from an agent; the last element of their subject.
const (
	OpHello  = "hello"
	OpBeat   = "beat"
	OpBye    = "bye"
	OpPull   = "pull"
	OpAck    = "ack"
	OpReport = "report"
	OpAlive  = "alive"
)

// Names of the messages to an agent.
const (
	OpDeliver = "deliver"
	OpCancel  = "cancel"
	OpProbe   = "probe"
	// OpReleased says that the instance has left the fleet. Agents on the bus are cut off at the same time; it is for whoever
	// keeps the connections of other agents.
	OpReleased = "released"
	// OpRenew says that what the agent shows to be known has changed. It is for the same ones, and ends the connection.
	OpRenew = "renew"
	// OpNote is what one server tells the others of an instance whose agent is not on the bus itself; see Note.
	OpNote = "note"
)

const (
	agentPrefix  = "wb.1.agent."
	serverPrefix = "wb.1.server."
)

// ToAgent returns the subject of message op to an instance.
func ToAgent(instance, op string) string { return agentPrefix + instance + "." + op }

// ToServer returns the subject of message op from an instance.
func ToServer(instance, op string) string { return serverPrefix + instance + "." + op }

// AgentSubjects returns the wildcard of all that an instance may subscribe to, its inboxes included.
func AgentSubjects(instance string) string { return agentPrefix + instance + ".>" }

// ServerSubjects returns the wildcard of all that an instance may publish to.
func ServerSubjects(instance string) string { return serverPrefix + instance + ".*" }

// AllToServer is the wildcard that servers subscribe to for message op.
func AllToServer(op string) string { return serverPrefix + "*." + op }

// InboxPrefix returns the prefix under which an instance receives the replies to its requests.
func InboxPrefix(instance string) string { return agentPrefix + instance + ".inbox" }

// OwnsReply reports whether an instance may ask for a reply on subject. A server must check it before it replies:
// otherwise one agent could make it speak to another.
func OwnsReply(instance, subject string) bool {
	return strings.HasPrefix(subject, InboxPrefix(instance)+".")
}

// AllToAgents matches the messages of one kind to every agent.
func AllToAgents(op string) string { return agentPrefix + "*." + op }

// AgentOf returns the instance that a subject to an agent names.
func AgentOf(subject string) (instance string, ok bool) {
	rest, ok := strings.CutPrefix(subject, agentPrefix)
	instance, _, found := strings.Cut(rest, ".")
	return instance, ok && found && instance != ""
}

// Note tells the other servers what has happened to an instance with the official agent, whose calls may come to any of
// them while one has its channel. It is a hint: what must be known is in the store.
type Note struct {
	From      string    `cbor:"1,keyasint"`            // the server; it is no news to that
	At        int64     `cbor:"2,keyasint"`            // Unix milliseconds
	Session   string    `cbor:"3,keyasint,omitempty"`  // a channel that has opened, in place of any other
	Restarted bool      `cbor:"4,keyasint,omitempty"`  // the agent's process is a new one
	Fetched   bool      `cbor:"5,keyasint,omitempty"`  // the agent has come for something …
	Fetch     string    `cbor:"6,keyasint,omitempty"`  // … by this fetch, and was given …
	Given     []NoteFor `cbor:"7,keyasint,omitempty"`  // … these
	Ended     []string  `cbor:"8,keyasint,omitempty"`  // deliveries
	Request   string    `cbor:"9,keyasint,omitempty"`  // the ID of a signed call …
	Target    string    `cbor:"10,keyasint,omitempty"` // … and what it was for
}

// NoteFor is a delivery in a Note.
type NoteFor struct {
	Delivery string `cbor:"1,keyasint"`
	Deadline int64  `cbor:"2,keyasint"` // Unix milliseconds
}

// SubjectHint is where a server tells the others that deliveries have changed. Servers may publish to and hear what agents are
// told, so it is told to an agent that no instance can be.
var SubjectHint = ToAgent("servers", "hint")

// Hint names deliveries that have changed; none of them: any may have. Losing it costs time only.
type Hint struct {
	Deliveries []string `cbor:"1,keyasint,omitempty"`
}

// InstanceOf returns the instance that a subject to the server names. The subject, whose use the bus has authorised, is
// the only word on who sent a message; payloads are never asked.
func InstanceOf(subject string) (instance, op string, ok bool) {
	rest, ok := strings.CutPrefix(subject, serverPrefix)
	if !ok {
		return "", "", false
	}
	instance, op, ok = strings.Cut(rest, ".")
	return instance, op, ok && instance != "" && op != "" && !strings.Contains(op, ".")
}

// Hello is the first message of every connection, and again after each reconnect. It is a request; Welcome answers it.
type Hello struct {
	Session      string `cbor:"1,keyasint"` // random, one for each run of the agent
	Capability   int    `cbor:"2,keyasint"`
	AgentVersion string `cbor:"3,keyasint"`
	Hostname     string `cbor:"4,keyasint,omitempty"`
	MachineID    string `cbor:"5,keyasint,omitempty"`
	IntranetIP   string `cbor:"6,keyasint,omitempty"`
	OSType       string `cbor:"7,keyasint,omitempty"`
	OSVersion    string `cbor:"8,keyasint,omitempty"`
}

// Welcome answers Hello.
type Welcome struct {
	Now        int64  `cbor:"1,keyasint"` // server time, Unix milliseconds
	BeatMillis int64  `cbor:"2,keyasint"` // how often to beat; the agent adds jitter
	Refused    string `cbor:"3,keyasint,omitempty"`
}

// Beat says that the agent lives, and what it is holding, so that the server can repeat what got lost.
type Beat struct {
	Session string   `cbor:"1,keyasint"`
	Open    []string `cbor:"2,keyasint,omitempty"` // deliveries it has and that are not confirmed
}

// ByeReason says why an agent leaves.
type ByeReason string

// The reasons of a Bye.
const (
	ByeStopped   ByeReason = "stopped"
	ByeShutDown  ByeReason = "shut-down"
	ByeUpgrading ByeReason = "upgrading"
)

// Bye is the last message of an agent that ends in good order. It is a request, so that the agent knows it was heard.
type Bye struct {
	Session string    `cbor:"1,keyasint"`
	Reason  ByeReason `cbor:"2,keyasint"`
}

// Pull asks for the open deliveries of the instance, oldest first, after the given one.
type Pull struct {
	After string `cbor:"1,keyasint,omitempty"`
}

// PullReply answers Pull.
type PullReply struct {
	Deliveries []Deliver `cbor:"1,keyasint"`
	More       bool      `cbor:"2,keyasint"`
	Cancels    []Cancel  `cbor:"3,keyasint,omitempty"` // of what is open and not among any Deliveries
}

// Cancel asks an agent to give a delivery up, whether it has come yet or not. The answer is a Report, repeated until it is
// confirmed: that it is cancelled, if nothing is in place and nothing will be, else how it ended. It may come more than once.
type Cancel struct {
	Delivery string `cbor:"1,keyasint"`
	Sent     int64  `cbor:"2,keyasint"` // server time, Unix milliseconds
	Deadline int64  `cbor:"3,keyasint"` // of the delivery, server time, Unix milliseconds: until then a Deliver may still come
}

// Deliver asks an agent to place one file. It may come more than once.
type Deliver struct {
	Delivery  string `cbor:"1,keyasint"`
	Sent      int64  `cbor:"2,keyasint"` // server time, Unix milliseconds
	Deadline  int64  `cbor:"3,keyasint"` // server time, Unix milliseconds
	Name      string `cbor:"4,keyasint"`
	TargetDir string `cbor:"5,keyasint"`
	Content   []byte `cbor:"6,keyasint"`
	SHA256    []byte `cbor:"7,keyasint"`
	Owner     string `cbor:"8,keyasint"`
	Group     string `cbor:"9,keyasint"`
	Mode      uint32 `cbor:"10,keyasint"` // the twelve permission bits of Unix
	Overwrite bool   `cbor:"11,keyasint"`
	// Trace is a W3C traceparent, to be echoed in Ack and Report as it is; empty: nobody traces this.
	Trace string `cbor:"12,keyasint,omitempty"`
	// Size, if it is not zero, is the length in bytes of a content that is not in Content: the agent fetches it.
	Size int64 `cbor:"13,keyasint,omitempty"`
	// Rehearse, in place of SHA256, is the digest of a content that is not to be placed: the agent says what would happen. Agents
	// that do not know it refuse a Deliver without SHA256.
	Rehearse []byte `cbor:"14,keyasint,omitempty"`
	// Diff asks a rehearsal to compare text line by line.
	Diff bool `cbor:"15,keyasint,omitempty"`
}

// Ack says that a delivery has been taken up. It is not answered: a lost one only makes Running invisible.
type Ack struct {
	Delivery string `cbor:"1,keyasint"`
	Started  int64  `cbor:"2,keyasint"`           // server time as the agent estimates it, Unix milliseconds
	Trace    string `cbor:"3,keyasint,omitempty"` // of Deliver, at most MaxTrace bytes
}

// Report tells the outcome of a delivery. It is a request, repeated until Confirm answers it.
type Report struct {
	Delivery string `cbor:"1,keyasint"`
	Cause    string `cbor:"2,keyasint,omitempty"` // a waybill.Cause; empty means success
	Detail   string `cbor:"3,keyasint,omitempty"` // for people, at most MaxDetail bytes
	Started  int64  `cbor:"4,keyasint"`           // as in Ack
	Finished int64  `cbor:"5,keyasint"`           // likewise
	SHA256   []byte `cbor:"6,keyasint,omitempty"` // of the bytes re-read from the final path; the proof of success
	Trace    string `cbor:"7,keyasint,omitempty"` // as in Ack; empty if the agent ended meanwhile
	Change   string `cbor:"8,keyasint,omitempty"` // a waybill.Change; empty: there was none, or the agent cannot tell
	Diff     string `cbor:"9,keyasint,omitempty"` // of a rehearsal that was asked for it: unified, at most MaxDiff bytes
	// NoDiff says why Diff is empty, or not whole; empty: it is whole, or nobody asked for it.
	NoDiff string `cbor:"10,keyasint,omitempty"`
}

// Confirm answers Report: the outcome is durably stored, the agent may forget it.
type Confirm struct {
	Now int64 `cbor:"1,keyasint"` // server time, Unix milliseconds
}

// Probe asks whoever runs under this identity to say so. Two different answers to one probe prove a clone.
type Probe struct {
	Nonce string `cbor:"1,keyasint"`
}

// Alive answers Probe.
type Alive struct {
	Session string `cbor:"1,keyasint"`
	Nonce   string `cbor:"2,keyasint"`
}

var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  8,
		MaxArrayElements: 1024,
		MaxMapPairs:      64,
		UTF8:             cbor.UTF8RejectInvalid,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // options are constants: only a broken program gets here
	}
	return v
}

// Encode returns the bytes of a message.
func Encode(m any) []byte {
	b, err := encMode.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("wire: encode %T: %v", m, err)) // our message types always encode
	}
	return b
}

// Decode reads a message into m, a pointer to one of the message types. It refuses trailing bytes, duplicate keys,
// invalid UTF-8 and messages longer than MaxMessage.
func Decode(b []byte, m any) error {
	if len(b) > MaxMessage {
		return fmt.Errorf("wire: message of %d bytes, at most %d", len(b), MaxMessage)
	}
	if err := decMode.Unmarshal(b, m); err != nil {
		return fmt.Errorf("wire: decode %T: %w", m, err)
	}
	return nil
}
