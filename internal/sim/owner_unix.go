// SPDX-License-Identifier: Apache-2.0

//go:build unix

package sim

import (
	"io/fs"
	"syscall"
)

// ownerOf returns whose a file is.
func ownerOf(info fs.FileInfo) (uid, gid int) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), int(st.Gid)
	}
	return -1, -1
}
