// SPDX-License-Identifier: Apache-2.0

//go:build unix

package pgtest

import (
	"os/user"
	"strconv"
	"syscall"
)

// asUser lets a process run as u; nil: as whoever we are.
func asUser(u *user.User) *syscall.SysProcAttr {
	if u == nil {
		return nil
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32) // they are numbers on Unix
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

// apart is asUser for a process that a signal to all of this one's group, such as that of Ctrl-C, does not reach.
func apart(u *user.User) *syscall.SysProcAttr {
	a := asUser(u)
	if a == nil {
		a = &syscall.SysProcAttr{}
	}
	a.Setsid = true
	return a
}
