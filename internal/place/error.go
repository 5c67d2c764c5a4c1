// SPDX-License-Identifier: Apache-2.0

package place

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Step is one step of a placement, in the order of docs/file-semantics.md.
type Step string

// The steps, in the order in which they are taken.
const (
	StepValidate Step = "validate"       // name, directory and delivery ID as words
	StepContent  Step = "check content"  // against its digest
	StepResolve  Step = "resolve owner"  // owner, group and mode
	StepOpen     Step = "open directory" // and make what is missing of it
	StepCompare  Step = "compare"        // with the file that is there; with Overwrite, one that is as wanted is left
	StepCreate   Step = "create"         // the temporary
	StepWrite    Step = "write"
	StepChown    Step = "chown"
	StepChmod    Step = "chmod"   // and look whether owner and mode are in effect
	StepSync     Step = "sync"    // and, at the same time, File.Intent
	StepPublish  Step = "publish" // File.Before, then rename or link
	StepUnlink   Step = "unlink"  // the temporary after a link; only with Overwrite=false
	StepSyncDir  Step = "sync directory"
	StepVerify   Step = "verify" // re-read what was published
)

// Reason says why a file was not placed. There is one for each cause of docs/state-machine.md that a machine finds by itself.
type Reason string

// The reasons.
const (
	NameInvalid      Reason = "name-invalid"      // not a file name on this system
	PathInvalid      Reason = "path-invalid"      // not a directory, not absolute here, or outside what is allowed
	OwnerMissing     Reason = "owner-missing"     // no such user
	GroupMissing     Reason = "group-missing"     // no such group
	ModeInapplicable Reason = "mode-inapplicable" // owner, group or mode refused, or silently not in effect
	Exists           Reason = "exists"            // a file is there and Overwrite is false
	ContentInvalid   Reason = "content-invalid"   // it does not match its digest on arrival
	WriteFailed      Reason = "write-failed"      // everything that goes wrong with the disk
)

// Error is why a file was not placed. Its text is a sentence for people: path, cause with errno, and what to do.
type Error struct {
	Step   Step
	Path   string // what the error is about: the file, or the directory at fault, as named on this machine
	Reason Reason
	Err    error
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%q: %v", e.Path, peel(e.Err))
	if errno, ok := errors.AsType[syscall.Errno](e.Err); ok {
		s += " (" + errnoName(errno) + ")"
	}
	if h := e.hint(); h != "" {
		s += "; " + h
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// refuse returns an Error whose step and path the caller's frame fills in.
func refuse(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Err: fmt.Errorf(format, args...)}
}

// peel removes the layers in which the system repeats operation and path.
func peel(err error) error {
	switch e := err.(type) { //nolint:errorlint // only the outermost layers
	case *fs.PathError:
		return peel(e.Err)
	case *os.LinkError:
		return peel(e.Err)
	case *os.SyscallError:
		return peel(e.Err)
	}
	return err
}

// hint says what to do about e, or nothing if its text says all.
func (e *Error) hint() string {
	switch e.Reason {
	case NameInvalid, ContentInvalid:
		return ""
	case PathInvalid:
		return "choose a directory that exists or can be made, inside what the agent may write to"
	case OwnerMissing:
		return "create the user first, or pass another with --owner"
	case GroupMissing:
		return "create the group first, or pass another with --group"
	case ModeInapplicable:
		return "run the agent as root, or pass an --owner, --group and --mode that it may set there"
	case Exists:
		return "pass --overwrite to replace it"
	case WriteFailed:
		return e.writeHint()
	}
	panic("place: unknown reason " + string(e.Reason))
}

func (e *Error) writeHint() string {
	errno, _ := errors.AsType[syscall.Errno](e.Err)
	switch errno {
	case syscall.ENOSPC, syscall.EDQUOT:
		return "free some space there, or choose another directory"
	case syscall.EROFS:
		return "mount the file system for writing, or choose another directory"
	case syscall.EIO:
		return "check the disk"
	case syscall.EMFILE, syscall.ENFILE:
		return "raise the agent's limit of open files"
	case syscall.EPERM, syscall.EACCES, syscall.ENOTSUP:
		if e.Step == StepPublish {
			return "the old file may be immutable, or the file system without hard links: those need --overwrite"
		}
		return "run the agent as root, or let its user write there"
	}
	return ""
}
