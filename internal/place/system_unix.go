// SPDX-License-Identifier: Apache-2.0

//go:build unix

package place

import (
	"errors"
	"io/fs"
	"os"
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

func errnoName(e syscall.Errno) string { return unix.ErrnoName(e) }
