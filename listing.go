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
	Tags          []Tag // all must match; an empty value matches any
}

// DeliveryResult is a delivery with what was sent and what became of it.
type DeliveryResult struct {
	Delivery
	Content string // exactly as it was sent
	Targets []Target
}

// InstanceFilter selects instances; empty fields select all. Region is required.
type InstanceFilter struct {
	Region        string
	IDs           []InstanceID
	Name          string
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
