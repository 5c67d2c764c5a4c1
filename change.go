// SPDX-License-Identifier: Apache-2.0

package waybill

// Change is what a delivery did to the file on a machine that took it. It is empty while that is open, after a failure, and
// where the machine cannot tell: after a crash at the wrong moment, and of the official agent.
//
// The words are stored, and agents report them. Source: docs/file-semantics.md.
type Change string

// The changes.
const (
	Created   Change = "Created"   // nothing was at the path before
	Replaced  Change = "Replaced"  // a file or a link was, which is gone
	Unchanged Change = "Unchanged" // that very file was, and was left alone: the same bytes, owner, group and mode
)

// What a rehearsal says in place of them (docs/decisions/0021-rehearsal.md): what the delivery would do now.
const (
	WouldCreate  Change = "WouldCreate"
	WouldReplace Change = "WouldReplace"
	WouldKeep    Change = "WouldKeep" // as Unchanged
)

// Known reports whether c is one of the changes above. An agent newer than the server may report others.
func (c Change) Known() bool {
	return c == Created || c == Replaced || c == Unchanged || c.Foretold()
}

// Foretold reports whether c is one that a rehearsal says.
func (c Change) Foretold() bool { return c == WouldCreate || c == WouldReplace || c == WouldKeep }

// Diff is how what a rehearsal would place differs from what is on a machine. It is zero where nobody asked for it.
type Diff struct {
	Text string // unified; empty where the bytes are the same
	Note string // why Text is empty, or not whole, for people
}

// NamedDiff is the Diff of one instance, with the name that this has now.
type NamedDiff struct {
	Instance InstanceID
	Name     string
	Diff
}
