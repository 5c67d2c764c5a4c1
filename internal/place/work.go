// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/openwaybill/waybill"
)

// work is one placement under way. Its methods are the steps.
type work struct {
	File
	p         *Placer
	step      Step
	at        location
	path      string // the final path on this machine, for people and for claims
	own       ownership
	dir       *directory
	tmp       *os.File
	token     Token
	staged    bool // the temporary has its name
	published bool
	done      bool
	result    Result
	releases  []func()
}

// stopped is an error of the caller's own: of its context, Reader, Intent or Before.
type stopped struct{ error }

func newWork(p *Placer, f File) *work {
	sep := string(filepath.Separator)
	path := strings.TrimSuffix(p.rootName, sep) + f.TargetDir + sep + f.Name // as given, until it is known better
	return &work{p: p, File: f, path: path}
}

func (w *work) enter(s Step) error {
	w.step = s
	if w.p.trace != nil {
		w.p.trace(s, w.ID)
	}
	if w.p.fault != nil {
		return w.p.fault(s, w.ID)
	}
	return nil
}

// fail gives err, an error of the current step or nil, the form that Place promises.
func (w *work) fail(err error) error {
	if err == nil {
		return nil
	}
	if own, ok := errors.AsType[stopped](err); ok {
		return fmt.Errorf("%q: stopped at %s: %w", w.path, w.step, own.error)
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Reason: WriteFailed, Err: err}
	}
	e.Step = w.step
	if e.Path == "" {
		e.Path = w.path
	}
	return e
}

// end releases everything, and takes back what was not published.
func (w *work) end() {
	if w.staged {
		w.removeTemp() // a disk that refuses even this leaves it to Sweep
	}
	if w.tmp != nil {
		w.tmp.Close()
	}
	switch {
	case w.dir == nil:
	case w.done:
		w.p.keepMade(w.dir)
		w.dir.close()
	default:
		w.p.removeMade(w.dir)
	}
	for _, release := range w.releases {
		release()
	}
}

func (w *work) claim(ctx context.Context, key string) error {
	release, err := w.p.claim(ctx, key)
	if err == nil {
		w.releases = append(w.releases, release)
	}
	return err
}

// validate checks the words, and claims the ID.
func (w *work) validate(ctx context.Context) error {
	if err := checkName(runtime.GOOS, w.Name); err != nil {
		return refuse(NameInvalid, "%w", err)
	}
	return w.address(ctx)
}

// address checks the directory and the ID, and claims it.
func (w *work) address(ctx context.Context) (err error) {
	if err := checkID(w.ID); err != nil {
		return refuse(NameInvalid, "%w", err)
	}
	if w.at, err = w.p.locate(w.TargetDir); err != nil {
		return refuse(PathInvalid, "%w", err)
	}
	return w.claim(ctx, w.ID)
}

func (w *work) checkContent() error {
	if w.Reader != nil {
		return nil // write does
	}
	if sum := sha256.Sum256(w.Content); sum != w.SHA256 {
		return refuse(ContentInvalid, "the content has SHA-256 %x, not %x", sum, w.SHA256)
	}
	return nil
}

func (w *work) resolve() (err error) {
	if hasOwners {
		w.own, err = resolve(&w.File)
	}
	return err
}

// open opens the directory and makes what is missing of it.
func (w *work) open() error {
	for range attempts {
		err := w.tryOpen()
		if err == nil {
			_, err = w.occupied()
			return err
		}
		if !errors.Is(err, fs.ErrNotExist) { // a directory that vanishes was another placement's that failed
			return err
		}
		if w.dir != nil {
			w.p.removeMade(w.dir)
			w.dir = nil
		}
	}
	return w.dirError(errChanging)
}

func (w *work) tryOpen() error {
	missing, err := w.reach()
	if err != nil {
		return err
	}
	if err := w.p.extend(w.dir, missing); err != nil {
		return w.dirError(err)
	}
	return nil
}

// reach opens as much of the directory as exists, and returns the names of the rest.
func (w *work) reach() (missing []string, err error) {
	d, missing, err := w.p.walk(w.at)
	if err != nil {
		return nil, w.dirError(err)
	}
	w.dir = d
	names := slices.Concat(d.names, missing)
	if !w.p.permits(location{volume: w.at.volume, names: names}) {
		return nil, w.dirError(errOutside)
	}
	w.path = filepath.Join(slices.Concat([]string{d.base}, names, []string{w.Name})...)
	return missing, nil
}

func (w *work) dirError(err error) error {
	return &Error{Reason: dirReason(err), Path: filepath.Dir(w.path), Err: err}
}

// occupied returns what publication changes as it looks now, and refuses what stands at the final path and may not be
// replaced.
func (w *work) occupied() (waybill.Change, error) {
	info, err := w.dir.top().Lstat(w.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return waybill.Created, nil
	case err != nil:
		return "", err
	case info.IsDir():
		return "", refuse(WriteFailed, "a directory of that name is there")
	case !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink:
		return "", refuse(WriteFailed, "a device, pipe or socket of that name is there")
	case !w.Overwrite:
		return "", refuse(Exists, "a file of that name exists")
	}
	return waybill.Replaced, nil
}

// create makes the temporary, readable for nobody else.
func (w *work) create() error {
	for range attempts {
		tmp, err := w.dir.top().OpenFile(tempName(w.ID), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		switch {
		case err == nil:
			w.tmp, w.staged = tmp, true
			w.token, err = identityOf(tmp)
			return err
		case errors.Is(err, fs.ErrExist): // of an earlier try that crashed
			err = w.removeTemp()
		case errors.Is(err, fs.ErrNotExist): // see open
			w.p.removeMade(w.dir)
			w.dir = nil
			err = w.open()
		}
		if err != nil {
			return err
		}
	}
	return w.dirError(errChanging)
}

// removeTemp removes whatever has the temporary's name.
func (w *work) removeTemp() error {
	err := w.dir.top().Remove(tempName(w.ID))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w.staged = false
	return nil
}

func (w *work) write() error {
	if w.Reader == nil {
		_, err := w.tmp.Write(w.Content)
		return err
	}
	hash := sha256.New()
	from := &caller{r: w.Reader}
	_, err := io.CopyBuffer(onlyWriter{io.MultiWriter(hash, w.tmp)}, from, make([]byte, copyBuffer))
	if from.err != nil {
		return stopped{from.err}
	}
	if sum := [sha256.Size]byte(hash.Sum(nil)); err == nil && sum != w.SHA256 {
		return refuse(ContentInvalid, "the content has SHA-256 %x, not %x", sum, w.SHA256)
	}
	return err
}

// copyBuffer is how many bytes of a content that is read are in memory.
const copyBuffer = 64 << 10

// onlyWriter hides what else a writer can do, so that the buffer is used.
type onlyWriter struct{ io.Writer }

// caller is the Reader of a File. It keeps its error, which is not one of the disk.
type caller struct {
	r   io.Reader
	err error
}

func (c *caller) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// chown comes before chmod, because it clears the setuid and setgid bits. Who may not chown at all may still place
// files that are right as they are created.
func (w *work) chown() error {
	if !hasOwners {
		return nil
	}
	info, err := w.tmp.Stat()
	if err != nil {
		return err
	}
	if uid, gid := ownerOf(info); uid == w.own.uid && gid == w.own.gid {
		return nil
	}
	if err := w.tmp.Chown(w.own.uid, w.own.gid); err != nil {
		return inapplicable(err, fmt.Sprintf("owner %s and group %s", w.Owner, w.Group))
	}
	return nil
}

// chmod also looks whether owner and mode are in effect: a kernel drops the setgid bit of a group that is not the
// caller's, and some file systems ignore what they cannot keep, both without an error.
func (w *work) chmod() error {
	if !hasOwners {
		return nil
	}
	if err := w.tmp.Chmod(w.own.mode); err != nil {
		return inapplicable(err, fmt.Sprintf("mode %04o", waybill.ModeBits(w.own.mode)))
	}
	info, err := w.tmp.Stat()
	if err != nil {
		return err
	}
	if has := ownershipOf(info); has != w.own {
		return refuse(ModeInapplicable, "the system accepted %v but the file has %v", w.own, has)
	}
	return nil
}

// sync makes the temporary durable while Intent makes its record durable.
func (w *work) sync() error {
	var err error
	var syncing sync.WaitGroup
	syncing.Go(func() { err = w.tmp.Sync() })
	intent := func() error {
		defer syncing.Wait()
		if w.Intent == nil {
			return nil
		}
		return w.Intent(w.token)
	}()
	if err != nil {
		return err
	}
	if intent != nil {
		return stopped{intent}
	}
	return nil
}

// publish gives the temporary its final name, in one step that cannot be seen half done. Until the end of the placement
// no other of this Placer publishes at the same path, so that what is verified is what was placed.
func (w *work) publish(ctx context.Context) error {
	if err := w.claim(ctx, w.path); err != nil {
		return err
	}
	change, err := w.occupied()
	if err != nil {
		return err
	}
	top, temp := w.dir.top(), tempName(w.ID)
	if found, err := identityAt(top, temp); err != nil {
		return err
	} else if found != w.token {
		return refuse(WriteFailed, "another process replaced the temporary %s", temp)
	}
	if w.Before != nil {
		if err := w.Before(); err != nil {
			return stopped{err}
		}
	}
	if w.Overwrite {
		if err := top.Rename(temp, w.Name); err != nil {
			return err
		}
		w.published, w.staged, w.result.Change = true, false, change
		return nil
	}
	if err := top.Link(temp, w.Name); errors.Is(err, fs.ErrExist) {
		if _, err := w.occupied(); err != nil {
			return err
		}
		return refuse(Exists, "a file of that name appeared and vanished")
	} else if err != nil {
		return err
	}
	w.published, w.result.Change = true, change
	if err = w.enter(StepUnlink); err == nil {
		err = w.removeTemp()
	}
	if err != nil {
		return fmt.Errorf("the file was placed, but its temporary stays: %w", peel(err))
	}
	return nil
}

func (w *work) syncDir() error {
	if err := w.p.sync(w.dir); err != nil {
		return fmt.Errorf("the file was placed, but may not survive a power failure: %w", peel(err))
	}
	return nil
}

// verify re-reads what is at the final path now, in constant memory.
func (w *work) verify() error {
	file, err := w.reopen()
	if err != nil {
		return err
	}
	defer file.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	found, err := identityOf(file)
	if err != nil {
		return err
	}
	w.result.Path, w.result.SHA256, w.result.Size = w.path, [32]byte(hash.Sum(nil)), size
	switch {
	case w.result.SHA256 == w.SHA256 && (!hasOwners || ownershipOf(info) == w.own):
		return nil
	case found != w.token:
		return w.replaced()
	case w.result.SHA256 != w.SHA256:
		return refuse(WriteFailed, "the file was placed, but reading it again gives SHA-256 %x, not %x",
			w.result.SHA256, w.SHA256)
	}
	return refuse(WriteFailed, "the file was placed as %v but now has %v", w.own, ownershipOf(info))
}

// reopen opens the file at the final path.
func (w *work) reopen() (*os.File, error) {
	top := w.dir.top()
	for range attempts {
		seen, err := top.Lstat(w.Name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !seen.Mode().IsRegular() {
			return nil, w.replaced()
		}
		if err != nil {
			return nil, err
		}
		file, err := top.OpenFile(w.Name, readFlags, 0)
		if errors.Is(err, fs.ErrPermission) && w.tmp != nil {
			// A mode that forbids even its owner to read it: the temporary, open since before, is that file.
			return w.reread(seen)
		}
		if err != nil {
			continue
		}
		opened, err := file.Stat()
		if err == nil && os.SameFile(seen, opened) {
			return file, nil
		}
		file.Close()
	}
	return nil, w.replaced()
}

// reread returns the temporary, rewound, if it is the file that was seen at the final path.
func (w *work) reread(seen fs.FileInfo) (*os.File, error) {
	own, err := w.tmp.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(seen, own) {
		return nil, w.replaced()
	}
	_, err = w.tmp.Seek(0, io.SeekStart)
	return w.tmp, err
}

func (w *work) replaced() error {
	return refuse(WriteFailed, "the file was placed, but another process has replaced or removed it since")
}

// inapplicable is the error of a chown or chmod that the system refused. A disk that fails is another matter.
func inapplicable(err error, what string) error {
	for _, disk := range []error{syscall.EIO, syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, disk) {
			return err
		}
	}
	return refuse(ModeInapplicable, "%s: %w", what, peel(err))
}
