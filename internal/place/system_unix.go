// SPDX-License-Identifier: Apache-2.0

//go:build unix

package place

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	hasOwners   = true // files have owner, group and mode
	followLinks = true // symbolic links in a TargetDir are followed, within what is allowed
	systemRoot  = "/"

	// readFlags opens a file for verification. Should a pipe have taken its place, nothing may wait for a writer.
	readFlags = os.O_RDONLY | syscall.O_NONBLOCK
)

func statOf(info fs.FileInfo) *syscall.Stat_t { return info.Sys().(*syscall.Stat_t) }

func ownerOf(info fs.FileInfo) (uid, gid int) {
	st := statOf(info)
	return int(st.Uid), int(st.Gid)
}

// identityAt returns the identity of name in dir, not following a link.
func identityAt(dir *os.Root, name string) (Token, error) {
	info, err := dir.Lstat(name)
	if err != nil {
		return Token{}, err
	}
	return identity(info), nil
}

// identityOf returns the identity of an open file.
func identityOf(f *os.File) (Token, error) {
	info, err := f.Stat()
	if err != nil {
		return Token{}, err
	}
	return identity(info), nil
}

func identity(info fs.FileInfo) Token {
	st := statOf(info)
	return Token{Dev: uint64(st.Dev), Ino: uint64(st.Ino)} // their types differ between systems
}

// namesOf returns how many hard links an open file has.
func namesOf(f *os.File) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return uint64(statOf(info).Nlink), nil // its type differs between systems
}

// syncFound makes a file durable that another process wrote.
func syncFound(f *os.File) error { return f.Sync() }

// syncDirectory makes the entries of dir durable.
func syncDirectory(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil // this file system has no such operation; there is nothing else to call
	}
	return err
}

// mayWrite returns why no file can be made in dir: permissions, or a file system mounted for reading only.
func mayWrite(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Faccessat(int(f.Fd()), ".", unix.W_OK|unix.X_OK, 0)
}

// roomIn returns what whoever is not root may still use of the file system of dir.
func roomIn(dir *os.Root) (room, error) {
	f, err := dir.Open(".")
	if err != nil {
		return room{}, err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return room{}, err
	}
	return room{ // their types differ between systems, and one without a limit has no blocks, or no files
		bytes: int64(st.Bavail) * int64(st.Bsize), limitsBytes: st.Blocks > 0,
		files: int64(st.Ffree), limitsFiles: st.Files > 0,
	}, nil
}

// inheritedGroup returns the group that a file has which is made in dir, or in a directory that is made in it; -1 if that is the
// agent's.
func inheritedGroup(dir *os.Root) (int, error) {
	info, err := dir.Stat(".")
	if err != nil || runtime.GOOS == "linux" && info.Mode()&fs.ModeSetgid == 0 {
		return -1, err
	}
	_, gid := ownerOf(info)
	return gid, nil
}

func errnoName(e syscall.Errno) string { return unix.ErrnoName(e) }
