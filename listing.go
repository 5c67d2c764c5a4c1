// SPDX-License-Identifier: Apache-2.0

package waybill

// Page asks for part of a listing: either by Offset, or after a Cursor that an earlier Listing returned.
type Page struct {
	Size   int
	Offset int
	Cursor string // empty: from the start
}

// Listing is one page, newest first. Total counts all that the filter matches.
type Listing[T any] struct {
	Items []T
	Total int64
	Next  string // cursor of the next page; empty on the last
}

// DeliveryFilter selects deliveries; empty fields select all. Region is required.
type DeliveryFilter struct {
	Region        string
	ID            DeliveryID
	Instance      InstanceID // also narrows the targets to it
	Name          string
	Status        Overall
	ResourceGroup string
	Tags          []Tag  // all must match; an empty value matches any
	Search        string // part of the name, the directory, the description or the ID, in any case of Latin letters
}

// DeliveryHead is a delivery without its targets, and with the beginning of its content at most.
type DeliveryHead struct {
	Delivery
	Preview []byte // the first bytes of the decoded content; nil if they were not asked for, or are kept elsewhere
}

// DeliveryResult is a delivery with what was sent and what became of it.
type DeliveryResult struct {
	Delivery
	Content string      // exactly as it was sent, unless Left
	Left    *ContentRef // where the content is, if it is too long for a listing
	Targets []Target    // of many, the first; of one instance, if it was asked for
}

// ContentRef names a content that is kept under its digest.
type ContentRef struct {
	SHA256 [32]byte
	Size   int64 // bytes
	Base64 bool  // it was sent as the Base64 of these bytes
}

// TextSize returns how long the content is as it was sent, in bytes.
func (r *ContentRef) TextSize() int64 {
	if r.Base64 {
		return (r.Size + 2) / 3 * 4
	}
	return r.Size
}

// InstanceFilter selects instances; empty fields select all. Region is required.
type InstanceFilter struct {
	Region        string
	IDs           []InstanceID
	Name          string // with * or ? in it: a pattern, in which case of Latin letters does not matter
	IP            string // intranet or internet address
	IntranetIPs   []string
	InternetIPs   []string
	Presences     []Presence
	Activation    ActivationID
	MachineID     string
	OSType        string // compared without case
	Connected     *bool
	ResourceGroup string
	Tags          []Tag
}

// ActivationFilter selects activations; empty fields select all. Region is required.
type ActivationFilter struct {
	Region        string
	ID            ActivationID
	InstanceName  string
	ResourceGroup string
	Tags          []Tag
}

// TargetFilter selects targets of one delivery; empty fields select all.
type TargetFilter struct {
	Statuses []Status
	Causes   []Cause
	Name     string // part of the instance's name, in any case of Latin letters, or its whole ID
}

// NamedTarget is a target with the name that its instance has now; empty if there is none.
type NamedTarget struct {
	Target
	Name string
}

// TargetGroup counts targets that ended, or stand, alike.
type TargetGroup struct {
	Status Status
	Cause  Cause
	Count  int64
}

// MachineGroup counts machines that are alike.
type MachineGroup struct {
	Agent     AgentKind
	Version   string
	Connected bool
	Count     int64
}

// DeliverySummary counts what was sent in some time.
type DeliverySummary struct {
	Deliveries map[Overall]int64
	Failures   []TargetGroup // of their targets, the largest first
}
