// SPDX-License-Identifier: Apache-2.0

package place

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os/user"
	"strconv"

	"github.com/openwaybill/waybill"
)

// modeBits are the bits of a mode that a file can be given.
const modeBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// ownership is what a file is given besides its content.
type ownership struct {
	uid, gid int
	mode     fs.FileMode
}

// resolve turns the names of a File into numbers, without touching the disk but for the user database.
func resolve(f *File) (ownership, error) {
	if f.Mode&^modeBits != 0 {
		return ownership{}, refuse(ModeInapplicable, "mode %v is not one of a regular file", f.Mode)
	}
	uid, err := number(f.Owner, OwnerMissing, "user", func() (string, error) {
		u, err := user.Lookup(f.Owner)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	if err != nil {
		return ownership{}, err
	}
	gid, err := number(f.Group, GroupMissing, "group", func() (string, error) {
		g, err := user.LookupGroup(f.Group)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	if err != nil {
		return ownership{}, err
	}
	return ownership{uid: uid, gid: gid, mode: f.Mode}, nil
}

// number returns the number of an account. A name made of digits is a number, unless an account has that very name.
func number(name string, missing Reason, kind string, lookup func() (string, error)) (int, error) {
	id, err := lookup()
	if err != nil {
		_, noUser := errors.AsType[user.UnknownUserError](err)
		_, noGroup := errors.AsType[user.UnknownGroupError](err)
		if !noUser && !noGroup && !errors.Is(err, fs.ErrNotExist) { // a machine without a user database has no names
			return 0, err
		}
		id = name
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil || n == math.MaxUint32 { // the highest number means "leave it as it is" to chown
		return 0, refuse(missing, "%s %q does not exist", kind, name)
	}
	return int(n), nil
}

// ownershipOf returns what a file with this info has.
func ownershipOf(info fs.FileInfo) ownership {
	uid, gid := ownerOf(info)
	return ownership{uid: uid, gid: gid, mode: info.Mode() & modeBits}
}

func (o ownership) String() string {
	return fmt.Sprintf("owner %d, group %d, mode %04o", o.uid, o.gid, waybill.ModeBits(o.mode))
}
