// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package sim

import "io/fs"

// ownerOf returns -1, as os.Geteuid does here: files have no such owners.
func ownerOf(fs.FileInfo) (uid, gid int) { return -1, -1 }

// mayOpen returns 0: there is no limit of open files here.
func mayOpen() uint64 { return 0 }
