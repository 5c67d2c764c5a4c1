// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"errors"
	"io/fs"

	"github.com/openwaybill/waybill"
)

// Outcome says what had become of a placement that was cut off.
type Outcome string

// The outcomes.
const (
	Published   Outcome = "published"   // the file is at its final path
	Unpublished Outcome = "unpublished" // nothing of it is there, nor anything else in its place: placing it again is safe
	Unknown     Outcome = "unknown"     // something else is there: it was replaced since, or lost with the power
)

// Recover finds out how a placement ended that was cut off after f.Intent was given t, and removes its temporary. Of f,
// it uses neither Content nor Intent nor Before.
//
// With Published, the file has been made durable and verified as by Place, and the error is an *Error if it is not what
// was placed any more. Any other error comes with Unknown: try again when its cause is gone. Unknown without an error
// is final. Directories that were made for a placement cut off are left; placing it again uses them.
func (p *Placer) Recover(ctx context.Context, f File, t Token) (Result, Outcome, error) {
	w := newWork(p, f)
	defer w.end()
	w.token = t
	outcome, err := w.recover(ctx)
	if err != nil || outcome != Published {
		return Result{}, outcome, w.fail(err)
	}
	w.done = true
	if !w.Overwrite {
		w.result.Change = waybill.Created
	}
	for _, s := range []struct {
		step Step
		do   func() error
	}{
		{StepResolve, w.resolve},
		{StepSyncDir, w.syncDir},
		{StepVerify, w.verify},
	} {
		w.step = s.step
		if err := s.do(); err != nil {
			return Result{}, Published, w.fail(err)
		}
	}
	return w.result, Published, nil
}

// recover finds out what there is, and removes the temporary.
func (w *work) recover(ctx context.Context) (Outcome, error) {
	w.step = StepValidate
	if err := w.validate(ctx); err != nil {
		return Unknown, err
	}
	if found, err := w.find(); err != nil {
		return Unknown, err
	} else if !found {
		return Unpublished, nil
	}
	final, isThere, err := w.identityOf(w.Name)
	if err != nil {
		return Unknown, err
	}
	temp, isStaged, err := w.identityOf(tempName(w.ID))
	if err != nil {
		return Unknown, err
	}
	if err := w.removeTemp(); err != nil {
		return Unknown, err
	}
	switch {
	case isThere && (final == w.token || isStaged && final == temp): // the latter between link and unlink
		return Published, nil
	case isStaged || !isThere:
		return Unpublished, nil
	}
	return Unknown, nil
}

// find opens the directory, making nothing, and reports whether it is there.
func (w *work) find() (bool, error) {
	w.step = StepOpen
	missing, err := w.reach()
	return len(missing) == 0, err
}

// identityOf returns the identity of name in the directory, and whether there is such a name.
func (w *work) identityOf(name string) (t Token, ok bool, err error) {
	t, err = identityAt(w.dir.top(), name)
	if errors.Is(err, fs.ErrNotExist) {
		return t, false, nil
	}
	return t, err == nil, err
}

// Sweep removes the temporary that a placement with this ID may have left in targetDir. A directory that does not exist
// is no error; one that is refused is an *Error.
func (p *Placer) Sweep(ctx context.Context, targetDir, id string) error {
	w := newWork(p, File{ID: id, TargetDir: targetDir})
	defer w.end()
	w.step = StepValidate
	if err := w.address(ctx); err != nil {
		return w.fail(err)
	}
	found, err := w.find()
	if err == nil && found {
		err = w.removeTemp()
	}
	return w.fail(err)
}
