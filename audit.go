// SPDX-License-Identifier: Apache-2.0

package waybill

import "time"

// AuditRecord says who did what, when, to what, and how it ended. It never holds content or secrets. The records of an
// account are numbered without gaps, and each holds the hash of the one before: see internal/audit for what the hash
// covers.
type AuditRecord struct {
	Sequence  int64 // from 1
	Time      time.Time
	Account   AccountID
	RequestID string
	ActorType ActorKind
	Actor     string // Principal.Name
	AccessKey string
	SourceIP  string // empty if there was none
	Action    string
	Region    string
	Resources []string
	Subject   string // the ID of what was made
	Result    string // AuditOK, AuditRepeated, or the code of the error that was answered
	Previous  [32]byte
	Hash      [32]byte
}

// Results of an act that was not refused.
const (
	AuditOK       = "OK"
	AuditRepeated = "Repeated" // a repetition, known by its token: nothing was done, and answered as before
)

// AuditFilter selects audit records; empty fields select all.
type AuditFilter struct {
	From, To  time.Time // From included, To not
	Action    string
	Actor     string
	AccessKey string
	RequestID string
	Result    string
	OldFirst  bool // oldest first instead of newest first
}

// AuditVerdict is what a check of an account's records found.
type AuditVerdict struct {
	Records     int64 // looked at
	First, Last int64 // sequence numbers; zero if there is none. Records before First are past their retention.
	Head        [32]byte
	Problem     string // what is wrong first, in words; empty: nothing
}
