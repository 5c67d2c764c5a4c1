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

// Known reports whether c is one of the changes above. An agent newer than the server may report others.
func (c Change) Known() bool { return c == Created || c == Replaced || c == Unchanged }
