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
	Stopped   Presence = "stopped"   // the agent said it is stopping
	ShutDown  Presence = "shut-down" // the agent said the machine is shutting down
	Upgrading Presence = "upgrading" // the agent said it is being replaced
)

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
	PublicKey     string // its nkey (Ed25519), the user key of its link
	ResourceGroup string
	Tags          []Tag
	Registered    time.Time
	Presence      Presence
	LastSeen      time.Time // last hello or heartbeat; zero if never
	Deliveries    int64     // targets that ended on it
	OpenTargets   int64
	LastDelivery  time.Time
}

// Connected reports whether the agent is online and was heard of within SilentAfter of now.
func (i *Instance) Connected(now time.Time) bool {
	return i.State == Registered && i.Presence == Online && now.Sub(i.LastSeen) <= SilentAfter
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
