// SPDX-License-Identifier: Apache-2.0

//go:build unix

package pgtest

import (
	"os/user"
	"strconv"
	"syscall"
)

func asUser(u *user.User) *syscall.SysProcAttr {
	uid, _ := strconv.ParseUint(u.Uid, 10, 32) // they are numbers on Unix
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
