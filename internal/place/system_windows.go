// SPDX-License-Identifier: Apache-2.0

package place

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

const (
	hasOwners   = false
	followLinks = false
	systemRoot  = "" // there are several: one for each volume
	readFlags   = os.O_RDONLY
)

func ownerOf(fs.FileInfo) (uid, gid int) { return 0, 0 }

// identityAt returns the identity of name in dir.
func identityAt(dir *os.Root, name string) (Token, error) {
	f, err := dir.Open(name)
	if err != nil {
		return Token{}, err
	}
	defer f.Close()
	return identityOf(f)
}

// identityOf returns the identity of an open file.
func identityOf(f *os.File) (Token, error) {
	var info syscall.ByHandleFileInformation
	if err := syscall.GetFileInformationByHandle(syscall.Handle(f.Fd()), &info); err != nil {
		return Token{}, os.NewSyscallError("GetFileInformationByHandle", err)
	}
	return Token{
		Dev: uint64(info.VolumeSerialNumber),
		Ino: uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow),
	}, nil
}

// namesOf returns how many hard links an open file has.
func namesOf(f *os.File) (uint64, error) {
	var info syscall.ByHandleFileInformation
	if err := syscall.GetFileInformationByHandle(syscall.Handle(f.Fd()), &info); err != nil {
		return 0, os.NewSyscallError("GetFileInformationByHandle", err)
	}
	return uint64(info.NumberOfLinks), nil
}

// syncFound does nothing: it takes a handle for writing, which whoever has the file open may not allow.
func syncFound(*os.File) error { return nil }

// syncDirectory does nothing: Windows does not flush directories, NTFS journals them.
func syncDirectory(*os.Root) error { return nil }

func errnoName(e syscall.Errno) string { return fmt.Sprintf("error %d", uint32(e)) }

// mayWrite is found out by writing.
func mayWrite(*os.Root) error { return nil }

// roomIn is found out by writing.
func roomIn(*os.Root) (room, error) { return room{}, nil }

// inheritedGroup is of no use where files have no groups.
func inheritedGroup(*os.Root) (int, error) { return -1, nil }
