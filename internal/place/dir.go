// SPDX-License-Identifier: Apache-2.0

package place

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

const (
	dirMode  = fs.FileMode(0o755) // of directories that are made
	attempts = 16                 // how often to look again at what changes while it is looked at
	maxLinks = 40                 // symbolic links followed for one directory, as in Linux
)

var (
	errChanging = errors.New("the directory is being replaced while it is opened")
	errDangling = errors.New("a symbolic link in it leads to a directory that does not exist")
	errLeaves   = errors.New("a symbolic link in it leads out of the root")
	errLink     = errors.New("a symbolic link in it, which is not followed on this system")
	errNoRoot   = errors.New("the agent's root is gone, or another directory is in its place; put it back, or restart the agent")
	errOutside  = errors.New("the directory is outside those that this agent may write to")
)

// directory is an open directory and how it was reached: chain[0] is the base, chain[i+1] was opened as names[i] in
// chain[i]. Everything below works on these handles, so it stays where it is whatever is renamed around it.
type directory struct {
	base  string // the name of chain[0] on this machine
	chain []*os.Root
	names []string
}

func (d *directory) top() *os.Root { return d.chain[len(d.chain)-1] }

// path names chain[n] on this machine.
func (d *directory) path(n int) string {
	return filepath.Join(append([]string{d.base}, d.names[:n]...)...)
}

func (d *directory) push(name string, child *os.Root) {
	d.names = append(d.names, name)
	d.chain = append(d.chain, child)
}

// pop goes one directory up, and reports whether there was one.
func (d *directory) pop() bool {
	if len(d.names) == 0 {
		return false
	}
	d.top().Close()
	d.names = d.names[:len(d.names)-1]
	d.chain = d.chain[:len(d.chain)-1]
	return true
}

func (d *directory) close() {
	for _, r := range d.chain {
		r.Close()
	}
	d.chain = nil
}

// locate splits a TargetDir. With a Root on Windows, the volume becomes the first directory below it.
func (p *Placer) locate(dir string) (location, error) {
	at, err := parseDir(runtime.GOOS, dir)
	if err != nil || p.root == nil || at.volume == "" {
		return at, err
	}
	drive, ok := strings.CutSuffix(at.volume, ":")
	if !ok {
		return location{}, errors.New("a network share cannot be below the agent's root")
	}
	return location{names: slices.Insert(at.names, 0, drive)}, nil
}

// open returns the base of at. A Root must be the directory that New found: what is allowed was resolved in that one.
func (p *Placer) open(at location) (*directory, error) {
	name := p.rootName
	if p.root == nil {
		name = at.volume + string(filepath.Separator)
	}
	base, err := os.OpenRoot(name)
	if errors.Is(err, fs.ErrNotExist) && p.root != nil {
		err = errNoRoot // a directory that vanishes is looked for again, this one not
	}
	if err != nil {
		return nil, err
	}
	if p.root != nil {
		opened, err := base.Stat(".")
		if err == nil && !os.SameFile(p.root, opened) {
			err = errNoRoot
		}
		if err != nil {
			base.Close()
			return nil, err
		}
	}
	return &directory{base: name, chain: []*os.Root{base}}, nil
}

// walk opens at as far as it exists, one name after the other, and returns the names that are missing after that. It
// makes nothing. Symbolic links are followed by reading them and walking their target from here, so that no step is
// left to a system that might follow one elsewhere: "/" in a link is the base, and ".." above the base is refused.
func (p *Placer) walk(at location) (_ *directory, missing []string, err error) {
	d, err := p.open(at)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	rest := slices.Clone(at.names)
	linked := 0 // how many names at the head of rest come from a link
	for links := 0; len(rest) > 0; {
		name := rest[0]
		if name == ".." { // only links have it
			if !d.pop() {
				return nil, nil, errLeaves
			}
			rest, linked = rest[1:], linked-1
			continue
		}
		child, link, err := enter(d.top(), name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && linked == 0:
			return d, rest, nil
		case errors.Is(err, fs.ErrNotExist):
			return nil, nil, errDangling
		case err != nil:
			return nil, nil, err
		case child != nil:
			d.push(name, child)
			rest, linked = rest[1:], max(linked-1, 0)
			continue
		}
		if links++; links > maxLinks {
			return nil, nil, syscall.ELOOP
		}
		if strings.HasPrefix(link, "/") {
			for d.pop() {
			}
		}
		steps := elements(link, "/")
		linked = max(linked-1, 0) + len(steps)
		rest = slices.Concat(steps, rest[1:])
	}
	return d, nil, nil
}

// enter opens the directory name of parent, or returns where it leads if it is a symbolic link. The directory it
// returns is the one that stood there under that name when it was not a link: what was opened is compared with what
// was seen before, and if they differ somebody is swapping them and it looks again.
func enter(parent *os.Root, name string) (child *os.Root, link string, err error) {
	for range attempts {
		seen, err := parent.Lstat(name)
		if err != nil {
			return nil, "", err
		}
		if seen.Mode().Type() == fs.ModeSymlink {
			if !followLinks {
				return nil, "", errLink
			}
			if link, err := parent.Readlink(name); err == nil {
				return nil, link, nil
			}
			continue
		}
		if !seen.IsDir() {
			return nil, "", syscall.ENOTDIR
		}
		// The dot makes os.Root insist on a directory: opening a pipe put there meanwhile would wait for ever.
		child, err := parent.OpenRoot(name + "/.")
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			return nil, "", err
		}
		if err != nil {
			continue
		}
		opened, err := child.Stat(".")
		if err == nil && os.SameFile(seen, opened) {
			return child, "", nil
		}
		child.Close()
	}
	return nil, "", errChanging
}

// permits reports whether files may be placed at a location, links resolved.
func (p *Placer) permits(at location) bool {
	return len(p.allowed) == 0 || slices.ContainsFunc(p.allowed, func(a location) bool {
		return at.within(runtime.GOOS, a)
	})
}

// extend makes the missing directories below d and opens them.
func (p *Placer) extend(d *directory, missing []string) error {
	for _, name := range missing {
		parent := d.top()
		err := parent.Mkdir(name, dirMode)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		made := err == nil
		if made {
			if err := p.noteMade(parent, filepath.Join(d.path(len(d.names)), name), name); err != nil {
				return err
			}
		}
		child, _, err := enter(parent, name)
		if err != nil {
			return err
		}
		if child == nil {
			return errChanging // nothing was there a moment ago, now it is a link
		}
		d.push(name, child)
		if made {
			if err := widen(child); err != nil {
				return err
			}
		}
	}
	return nil
}

// widen gives a directory just made the mode that a umask may have withheld. It must be empty still: one with content
// is another's that was put in its place.
func widen(dir *os.Root) error {
	info, err := dir.Stat(".")
	if err != nil || !hasOwners || info.Mode().Perm() == dirMode {
		return err
	}
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.ReadDir(1); !errors.Is(err, io.EOF) {
		return err
	}
	return f.Chmod(dirMode | info.Mode()&fs.ModeSetgid) // the setgid bit is inherited and means inheritance
}

// noteMade remembers a directory that was made for a placement which may still fail.
func (p *Placer) noteMade(parent *os.Root, path, name string) error {
	info, err := parent.Lstat(name)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made[path] = info
	return nil
}

// wasMade returns what is remembered of chain[n] of d, if it was made for a placement still under way.
func (p *Placer) wasMade(d *directory, n int) (fs.FileInfo, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	info, ok := p.made[d.path(n)]
	return info, ok
}

// keepMade forgets the directories of d: a file was placed in them, they stay.
func (p *Placer) keepMade(d *directory) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := 1; n <= len(d.names); n++ {
		delete(p.made, d.path(n))
	}
}

// removeMade removes the directories on the way to d that were made for this placement, or for another that is under
// way or failed: whoever fails last finds them empty. Those in use are not empty and stay. It closes d.
func (p *Placer) removeMade(d *directory) {
	for n := len(d.names); n > 0; n-- {
		path, name, parent := d.path(n), d.names[n-1], d.chain[n-1]
		made, ok := p.wasMade(d, n)
		d.pop() // Windows removes no directory that is open
		if !ok {
			continue
		}
		if info, err := parent.Lstat(name); err == nil && os.SameFile(made, info) && parent.Remove(name) == nil {
			p.mu.Lock()
			if p.made[path] == made { // else it has been made again already
				delete(p.made, path)
			}
			p.mu.Unlock()
		}
	}
	d.close()
}

// sync makes the entry of the file, and of each directory made on the way to it, durable.
func (p *Placer) sync(d *directory) error {
	if err := syncDirectory(d.top()); err != nil {
		return err
	}
	for n := len(d.names); n > 0; n-- {
		if _, ok := p.wasMade(d, n); ok {
			if err := syncDirectory(d.chain[n-1]); err != nil {
				return fmt.Errorf("sync %q: %w", d.path(n-1), peel(err))
			}
		}
	}
	return nil
}

// dirReason tells a directory that is wrong from a disk that is.
func dirReason(err error) Reason {
	errno, ok := errors.AsType[syscall.Errno](err)
	switch {
	case errors.Is(err, os.ErrClosed):
		return WriteFailed
	case !ok, errno == syscall.ENOTDIR, errno == syscall.ELOOP, errno == syscall.ENAMETOOLONG:
		return PathInvalid
	}
	return WriteFailed
}
