// SPDX-License-Identifier: Apache-2.0

// Package place puts one file on disk: whole, under its final owner and mode from the first moment it can be seen, and
// nowhere but where it was asked for (docs/file-semantics.md; ARCHITECTURE.md, invariants 3 and 4). It knows nothing of deliveries but an ID,
// keeps no state on disk beyond a running placement, and never touches the network.
//
// Place writes a temporary beside the final path and publishes it with one rename, or with one link when nothing may be
// replaced. A crash leaves at most the temporary, whose name holds the delivery ID, and directories that were made for
// it; Recover and Sweep clear up afterwards.
//
// A TargetDir is walked name by name on directory handles. Symbolic links to directories are followed while they lead
// to somewhere inside Config.Root and Config.AllowDirs, also when they are exchanged while they are being walked. A
// symbolic link at the final path is replaced, never followed. Anything there that is neither a file nor a link stays.
//
// The systems differ:
//
//   - Linux, macOS and FreeBSD behave alike. Every directory on the way must be readable for the agent's user. Without
//     hard links (FAT), a file can only be placed with Overwrite.
//   - Windows: owner, group and mode are ignored; files inherit the access list of their directory. TargetDir is
//     X:\dir or \\server\share\dir; below a Root, X:\dir is Root\X\dir. Names that Win32 refuses or changes are
//     refused (reserved devices, <>:"/\|?*, a final dot or blank), links and junctions on the way as well. Allowed
//     directories are compared without case. The rename has POSIX semantics on NTFS: readers of the old file keep it.
//     It fails while somebody has the old file open without sharing deletion, and on FAT while anybody has it open.
//     Directories are not synced.
package place

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/openwaybill/waybill"
)

// Config says where a Placer may write.
type Config struct {
	// Root is the directory below which every TargetDir is interpreted, as if it were the root of the file system.
	// It must exist. Empty: the real root, or the volume on Windows.
	Root string

	// AllowDirs are the absolute directories, as a TargetDir would name them, in and below which files may be placed.
	// Links in them are resolved once, by New. Empty: everywhere.
	AllowDirs []string

	// Trace, if not nil, is called before each step of Place with the ID of the file. Tests stop, kill and race here.
	Trace func(step Step, id string)
	// Fault, if not nil, is called after Trace. An error is what the step ends with, in place of what it would do; one that
	// is no *Error counts as WriteFailed. Simulations fill disks and break them here.
	Fault func(step Step, id string) error
}

// File is one file to place.
type File struct {
	ID        string // the delivery's: ASCII letters, digits and dashes; names the temporary
	Name      string // one path element
	TargetDir string // absolute on this system; made with mode 0755 where it is missing
	Content   []byte
	Reader    io.Reader // if not nil, read once to its end in place of Content; its error stops the placement
	Size      int64     // bytes of what Reader gives; zero: it is not known. A file of another size is not compared
	SHA256    [32]byte  // that the content must have
	Owner     string    // a user name or number
	Group     string    // a group name or number
	Mode      fs.FileMode
	Overwrite bool // replace a file of that name

	// Intent, if not nil, makes a durable record of the temporary's identity, for Recover. It runs while the temporary
	// is synced, before anything is published. Its error stops the placement.
	Intent func(Token) error

	// Before, if not nil, is the last look right before publication, such as at the deadline. Its error stops the
	// placement.
	Before func() error
}

// Token identifies the temporary of one placement. Renamed to its final path, the file keeps it. It holds at least
// until the machine restarts; some file systems have other device numbers then.
type Token struct {
	Dev uint64 `cbor:"1,keyasint"`
	Ino uint64 `cbor:"2,keyasint"`
}

// Result is a file as it was found after its placement.
type Result struct {
	Path   string   // on this machine, Root included, links in TargetDir resolved
	SHA256 [32]byte // of the bytes re-read from Path
	Size   int64    // in bytes
	// Change says whether something was at Path before, as it looked right before publication. Recover cannot tell, unless
	// nothing may have been there: then it is empty.
	Change waybill.Change
}

// Placer places files. Its methods may be called concurrently; calls with the same ID, and publications at the same
// path, wait for each other.
type Placer struct {
	root     fs.FileInfo // of rootName as New found it; nil: each volume is its own
	rootName string
	allowed  []location
	trace    func(Step, string)
	fault    func(Step, string) error

	mu   sync.Mutex
	busy map[string]chan struct{} // IDs and paths in use; closed when they become free
	made map[string]fs.FileInfo   // directories made for placements that have not succeeded yet, by path
}

// New returns a Placer that writes where cfg allows. Between placements it keeps nothing open.
func New(cfg Config) (_ *Placer, err error) {
	p := &Placer{
		trace: cfg.Trace, fault: cfg.Fault, busy: make(map[string]chan struct{}), made: make(map[string]fs.FileInfo),
	}
	if p.rootName = cfg.Root; p.rootName == "" {
		p.rootName = systemRoot
	}
	if p.rootName != "" {
		if p.rootName, err = filepath.Abs(p.rootName); err != nil {
			return nil, fmt.Errorf("root: %w", err)
		}
		root, err := os.OpenRoot(p.rootName)
		if err != nil {
			return nil, fmt.Errorf("root: %w", err)
		}
		defer root.Close()
		if p.root, err = root.Stat("."); err != nil {
			return nil, fmt.Errorf("root: %w", err)
		}
	}
	for _, dir := range cfg.AllowDirs {
		at, err := p.canonical(dir)
		if err != nil {
			return nil, fmt.Errorf("allowed directory %s: %w", dir, err)
		}
		p.allowed = append(p.allowed, at)
	}
	return p, nil
}

// canonical returns dir with its links resolved. What does not exist stands as it is written.
func (p *Placer) canonical(dir string) (location, error) {
	at, err := p.locate(dir)
	if err != nil {
		return location{}, err
	}
	d, missing, err := p.walk(at)
	if err != nil {
		return location{}, err
	}
	defer d.close()
	return location{volume: at.volume, names: append(d.names, missing...)}, nil
}

// Place puts f on disk and returns once it is durable and verified. After an error the final path holds what it held
// before, unless the error says otherwise (a sync or verification that failed after publication); no temporary and no
// directory made for it is left. The error is an *Error, but for those of ctx, f.Reader, f.Intent and f.Before, which
// errors.Is recognises. Once f is published, the end of ctx does not matter any more.
//
// With Overwrite, a file that is there already, with those bytes, that owner, group and mode, stays as it is
// (waybill.Unchanged); f.Reader and f.Intent are left alone then.
func (p *Placer) Place(ctx context.Context, f File) (Result, error) {
	w := newWork(p, f)
	defer w.end()
	for _, s := range []struct {
		step Step
		do   func() error
	}{
		{StepValidate, func() error { return w.validate(ctx) }},
		{StepContent, w.checkContent},
		{StepResolve, w.resolve},
		{StepOpen, w.open},
		{StepCompare, func() error { return w.compare(ctx) }},
		{StepCreate, w.create},
		{StepWrite, w.write},
		{StepChown, w.chown},
		{StepChmod, w.chmod},
		{StepSync, w.sync},
		{StepPublish, func() error { return w.publish(ctx) }},
		{StepSyncDir, w.syncDir},
		{StepVerify, w.verify},
	} {
		err := w.enter(s.step)
		if ctx.Err() != nil && !w.published {
			err = stopped{ctx.Err()}
		}
		if err != nil {
			return Result{}, w.fail(err)
		}
		if err := s.do(); err != nil {
			return Result{}, w.fail(err)
		}
		if w.result.Change == waybill.Unchanged {
			break
		}
	}
	w.done = true
	return w.result, nil
}

// claim waits until no other call uses key, an ID or a path, and reserves it. Whoever holds an ID may claim a path,
// never the other way round.
func (p *Placer) claim(ctx context.Context, key string) (release func(), err error) {
	for {
		p.mu.Lock()
		taken, ok := p.busy[key]
		if !ok {
			free := make(chan struct{})
			p.busy[key] = free
			p.mu.Unlock()
			return func() { p.release(key, free) }, nil
		}
		p.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return nil, stopped{ctx.Err()}
		}
	}
}

func (p *Placer) release(key string, free chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, key)
	close(free)
	if len(p.busy) == 0 {
		clear(p.made) // what is left of it is not empty, and nobody's who could still fail
	}
}
