// SPDX-License-Identifier: Apache-2.0

package place

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/openwaybill/waybill"
)

// Rehearsal is what Place would do now.
type Rehearsal struct {
	Change waybill.Change // one of those that only a rehearsal has
	Diff   waybill.Diff   // if it was asked for and something would change
}

// Bounds of a diff. Where one is reached there is none, or less of it, and the rehearsal says so.
const (
	maxDiffed = 256 << 10 // bytes of either side: they are in memory
	maxDiff   = 32 << 10  // bytes of a Diff
)

// Rehearse finds out what Place would do with f, and changes nothing: not the file, no directory, no temporary. A
// content that is not in f.Content has its f.Size; f.Reader, f.Intent and f.Before are not used. An error is what Place would
// fail with: an *Error, or that of ctx. What only a try can tell, it does not tell: a disk that fails, a quota, a file system
// that refuses an owner or a mode; on Windows, also whether the agent may write there, and how much room there is.
func (p *Placer) Rehearse(ctx context.Context, f File, wantDiff bool) (r Rehearsal, err error) {
	if f.Size > 0 {
		f.Reader = unread{}
	}
	w := newWork(p, f)
	defer func() {
		if w.dir != nil {
			w.dir.close() // what end does more is for whoever has made something
			w.dir = nil
		}
		w.end()
	}()
	var missing []string
	for _, s := range []struct {
		step Step
		do   func() error
	}{
		{StepValidate, func() error { return w.validate(ctx) }},
		{StepContent, w.checkContent},
		{StepResolve, w.resolve},
		{StepOpen, func() (err error) { missing, err = w.reach(); return err }},
		{StepCompare, func() (err error) { r, err = w.foresee(ctx, missing, wantDiff); return err }},
		{StepChown, func() error { return w.mayOwn(r.Change) }},
		{StepWrite, func() error { return w.hasRoom(r.Change, len(missing)) }},
	} {
		err := w.enter(s.step)
		if ctx.Err() != nil {
			err = stopped{ctx.Err()}
		}
		if err == nil {
			err = s.do()
		}
		if err != nil {
			return Rehearsal{}, w.fail(err)
		}
	}
	return r, nil
}

// foresee compares what is at the final path with what would replace it. missing are the directories that would be made.
func (w *work) foresee(ctx context.Context, missing []string, wantDiff bool) (r Rehearsal, err error) {
	found := waybill.Created
	if len(missing) == 0 {
		if found, err = w.occupied(); err != nil {
			return r, err
		}
	}
	if err := mayWrite(w.dir.top()); err != nil {
		return r, &Error{Reason: WriteFailed, Path: w.dir.path(len(w.dir.names)), Err: err}
	}
	if found == waybill.Created {
		r.Change = waybill.WouldCreate
		if wantDiff {
			r.Diff = w.diff(nil, os.DevNull)
		}
		return r, nil
	}
	r.Change = waybill.WouldReplace
	file, err := w.reopen()
	if err != nil { // a link, or a file that cannot be read: it is replaced all the same
		if wantDiff {
			r.Diff.Note = "what is there cannot be read as a file"
		}
		return r, nil
	}
	defer file.Close()
	_, same := w.isWanted(ctx, file)
	switch {
	case ctx.Err() != nil:
		return r, stopped{ctx.Err()}
	case same:
		r.Change = waybill.WouldKeep
	case wantDiff:
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return r, err
		}
		old, err := io.ReadAll(io.LimitReader(file, maxDiffed+1))
		if err != nil {
			return r, err
		}
		r.Diff = w.diff(old, w.path)
	}
	return r, nil
}

// diff compares old, of a file of that name, with the content.
func (w *work) diff(old []byte, name string) (d waybill.Diff) {
	switch {
	case w.Reader != nil || len(old) > maxDiffed || len(w.Content) > maxDiffed:
		return waybill.Diff{Note: "the files are too large to be compared line by line"}
	case !isText(old) || !isText(w.Content):
		return waybill.Diff{Note: "they are not both text"}
	}
	b := diff.Diff(name, old, w.path, w.Content)
	if _, body, ok := bytes.Cut(b, []byte("\n")); ok { // without the line that names a program
		b = body
	}
	if len(b) > maxDiff {
		b = b[:bytes.LastIndexByte(b[:maxDiff], '\n')+1]
		d.Note = "only the first part of it is here"
	}
	d.Text = string(b)
	return d
}

// isText reports whether a diff of b is something to read: UTF-8 without NUL.
func isText(b []byte) bool { return utf8.Valid(b) && !bytes.ContainsRune(b, 0) }

// mayOwn refuses what the agent could not give to a file: only root gives files away, and to groups that it is not in.
func (w *work) mayOwn(c waybill.Change) error {
	if !hasOwners || c == waybill.WouldKeep || os.Geteuid() == 0 {
		return nil
	}
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	inherited, err := inheritedGroup(w.dir.top())
	if err != nil {
		return err
	}
	member := w.own.gid == os.Getegid() || slices.Contains(groups, w.own.gid)
	switch {
	case w.own.uid != os.Geteuid(), !member && w.own.gid != inherited:
		return refuse(ModeInapplicable, "owner %s and group %s: only root gives files away", w.Owner, w.Group)
	case !member && w.own.mode&fs.ModeSetgid != 0:
		return refuse(ModeInapplicable, "mode %04o: only root, and members of group %s, set that bit", waybill.ModeBits(w.own.mode), w.Group)
	}
	return nil
}

// hasRoom refuses a content for which there is no room beside what is there: until it is published, both are. dirs is how many
// directories would be made.
func (w *work) hasRoom(c waybill.Change, dirs int) error {
	if c == waybill.WouldKeep {
		return nil
	}
	free, err := roomIn(w.dir.top())
	if err != nil {
		return err
	}
	size, _ := w.size()
	why := ""
	switch {
	case free.limitsBytes && free.bytes < size:
		why = fmt.Sprintf("%d bytes are needed beside what is there, and %d are free", size, free.bytes)
	case free.limitsFiles && free.files < int64(dirs)+1:
		why = "the file system has no room for another file, however small"
	default:
		return nil
	}
	return &Error{Reason: WriteFailed, Path: w.dir.path(len(w.dir.names)), Err: fmt.Errorf("%s: %w", why, syscall.ENOSPC)}
}

// room is what a file system has left, as far as it is limited.
type room struct {
	bytes, files             int64
	limitsBytes, limitsFiles bool
}

// unread is the Reader of a content that a rehearsal does not have.
type unread struct{}

func (unread) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }
