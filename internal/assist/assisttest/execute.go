// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Error codes of a finish report (§7.3).
const (
	codeCreate    = 1
	codeChown     = 2
	codeChmod     = 3
	codeDirectory = 4
)

// do executes a task and reports. It returns false if the process ended over it.
func (a *Agent) do(ctx context.Context, t fileTask) bool {
	a.note(func(s *Snapshot) { s.Runs[t.TaskID]++ }, "execute "+t.TaskID)
	x := Execution{TaskID: t.TaskID}
	var alive bool
	if x.Result, alive = a.execute(ctx, t, &x.Path); !alive {
		return false
	}
	a.note(func(s *Snapshot) { s.Executions = append(s.Executions, x) }, "executed "+t.TaskID+": "+x.Result.String())
	a.report(ctx, t.TaskID, x.Result)
	return ctx.Err() == nil
}

// execute places a file as the official agent does, check by check in its order (§7.2). Where it says so, the file is
// there although the result is a failure. It returns false if the process ended in the middle.
func (a *Agent) execute(ctx context.Context, t fileTask, placed *string) (Result, bool) {
	invalid := func(param, value string) (Result, bool) { return Result{Param: param, Value: value}, true }
	failed := func(code int) (Result, bool) { return Result{ErrorCode: code}, true }
	if t.Name == "" {
		return invalid("FileNameInvalid", t.Name)
	}
	if t.Content == "" {
		return invalid("EmptyFile", "")
	}
	dir := "/root"
	if t.Destination != "" {
		dir = t.Destination
		if err := os.MkdirAll(a.under(dir), 0o777); err != nil {
			return failed(codeDirectory)
		}
	}
	content, err := base64.StdEncoding.DecodeString(t.Content)
	if err != nil {
		return invalid("InvalidFileContent", "")
	}
	sum := md5.Sum([]byte(t.Content)) // of the text, not of the file (Q6)
	if !strings.EqualFold(hex.EncodeToString(sum[:]), t.Signature) {
		return invalid("InvalidSignature", t.Signature)
	}
	mode := t.Mode
	switch len(mode) {
	case 0:
		mode = "0644"
	case 3, 4:
	default:
		return invalid("InvalidFileMode", t.Mode)
	}
	bits, err := strconv.ParseInt(mode, 8, 32) // which takes a sign (Q13)
	if err != nil {
		return invalid("InvalidFileMode", t.Mode)
	}
	file := a.under(path.Join(dir, t.Name))
	*placed = file
	// What cannot be looked at counts as being there (Q10).
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) && !t.Overwrite {
		return invalid("FileExist", t.Name)
	}
	if err := os.WriteFile(file, content, 0o644); err != nil { // in place, truncating, following links, not synced
		return failed(codeCreate)
	}
	if a.at(AfterWrite, t.TaskID) == Die || ctx.Err() != nil {
		return Result{}, false
	}
	if err := os.Chmod(file, fs.FileMode(bits)); err != nil { // of an octal 4755, Go keeps 0755
		return failed(codeChmod)
	}
	return own(t, file)
}

// own gives the file to its owner, unless that is root:root or nobody in particular (Q12).
func own(t fileTask, file string) (Result, bool) {
	owner, group := t.Owner, t.Group
	if owner == group && (owner == "" || owner == "root") {
		return Result{}, true
	}
	if owner == "" {
		owner = "root"
	}
	if group == "" {
		group = "root"
	}
	u, err := user.Lookup(owner)
	if err != nil {
		return Result{Param: "FileOwnerNotExist", Value: t.Owner}, true
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return Result{Param: "FileGroupNotExist", Value: t.Group}, true
	}
	uid, _ := strconv.Atoi(u.Uid) // numbers, on this system
	gid, _ := strconv.Atoi(g.Gid)
	if err := os.Chown(file, uid, gid); err != nil {
		return Result{ErrorCode: codeChown}, true
	}
	return Result{}, true
}

// under returns where a path of the agent's machine is on this one.
func (a *Agent) under(p string) string {
	return filepath.Join(a.cfg.Root, filepath.FromSlash(path.Join("/", p)))
}
