// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// Presence is what the server knows about the agent of an instance.
type Presence string

// The presences. All but Online are what the agent last said of itself; silence is judged by LastSeen.
const (
	NeverSeen Presence = "never-seen" // enrolled, never connected
	Online    Presence = "online"
	NoChannel Presence = "no-channel" // heartbeats come, but nothing can be told to it before Instance.NextDial
	Stopped   Presence = "stopped"    // the agent said it is stopping
	ShutDown  Presence = "shut-down"  // the agent said the machine is shutting down
	Upgrading Presence = "upgrading"  // the agent said it is being replaced
)

// AgentKind says which program an instance runs.
type AgentKind string

// The kinds of agents. The values are stored and shown as they stand.
const (
	NativeAgent   AgentKind = "native"   // waybill-agent
	OfficialAgent AgentKind = "official" // aliyun_assist_client
)

// Unit returns the name of the systemd unit that the agent runs as.
func (k AgentKind) Unit() string {
	if k == OfficialAgent {
		return "aliyun"
	}
	return "waybill-agent"
}

// InstanceState is whether an instance is part of the fleet.
type InstanceState string

// The instance states.
const (
	Registered   InstanceState = "registered"
	Quarantine   InstanceState = "quarantined" // two live machines used its identity; both were cut off
	Deregistered InstanceState = "deregistered"
)

// SilentAfter is how long an agent may be silent before it counts as not connected: two heartbeats
// (DescribeCloudAssistantStatus, field CloudAssistantStatus).
const SilentAfter = 2 * time.Minute

// Facts is what an agent says of its machine.
type Facts struct {
	Hostname     string
	MachineID    string // stable per machine where the system has such a thing; equal on cloned images
	IntranetIP   string
	OSType       string // linux, windows, freebsd, darwin
	OSVersion    string
	AgentVersion string
	Capability   int // the agent's wire capability version
}

// Instance is an enrolled machine.
type Instance struct {
	ID            InstanceID
	Account       AccountID
	Region        string
	Name          string
	Activation    ActivationID
	State         InstanceState
	Facts         Facts
	InternetIP    string // the address that the server saw it enrol from
	Agent         AgentKind
	PublicKey     string // its nkey (Ed25519), the user key of its link; of an official agent, the name of its key
	AgentKey      []byte // of an official agent: its public key (PKIX, DER)
	AgentToken    []byte // of an official agent: the hash of what it may show in place of its signature; nil if nothing
	ResourceGroup string
	Tags          []Tag
	Registered    time.Time
	Presence      Presence
	LastSeen      time.Time // last hello or heartbeat; zero if never
	NextDial      time.Time // with NoChannel: when its agent is expected to open its channel again; zero if unknown
	Deliveries    int64     // targets that ended on it
	OpenTargets   int64
	LastDelivery  time.Time
}

// Connected reports whether the agent was heard of within SilentAfter of now, and has not said that it leaves.
func (i *Instance) Connected(now time.Time) bool {
	return i.State == Registered && (i.Presence == Online || i.Presence == NoChannel) && now.Sub(i.LastSeen) <= SilentAfter
}

var namePattern = regexp.MustCompile(`^[\pL][\pL\pN._:-]*$`)

// CheckInstanceName applies the naming rule of ModifyManagedInstance: 2 to 128 characters, a letter first, then letters,
// digits and . _ - :
func CheckInstanceName(name string) error {
	if n := utf8.RuneCountInString(name); n < 2 || n > 128 {
		return &Error{Code: InstanceNameLength, Field: "InstanceName", Message: "an instance name has 2 to 128 characters"}
	}
	if !namePattern.MatchString(name) || strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://") {
		return &Error{Code: InstanceNamePattern, Field: "InstanceName", Message: fmt.Sprintf("instance name %q: a letter first, then letters, digits and . _ - :", name)}
	}
	return nil
}
