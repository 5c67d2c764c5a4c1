// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"path"
	"strings"
	"time"
)

// Path returns where a machine has the file, as it would write it. A backslash is a separator on Windows only.
func (f *FileSpec) Path() string {
	separator := "/"
	if !path.IsAbs(f.TargetDir) && strings.Contains(f.TargetDir, `\`) {
		separator = `\`
	}
	return strings.TrimSuffix(f.TargetDir, separator) + separator + f.Name
}

// CheckPath refuses a path that no delivery can have.
func CheckPath(p string) error {
	dir, name := path.Split(p)
	if i := strings.LastIndex(p, `\`); isWindowsAbs(p) && i >= len(dir) {
		dir, name = p[:i+1], p[i+1:]
	}
	if err := CheckName(name); err != nil {
		return err
	}
	return CheckTargetDir(dir)
}

// SamePath returns what all ways of writing a path have in common that lead to the same file by the text alone: doubled
// separators and "." elements, and on Windows the kind of separator and the case of letters.
func SamePath(p string) string {
	if !isWindowsAbs(p) {
		return path.Clean(p)
	}
	return "windows " + strings.ToLower(path.Clean(strings.ReplaceAll(p, `\`, "/")))
}

// PlacedFile is a file that a machine took, verified, at a time. What later happened to it on the machine itself is not known.
type PlacedFile struct {
	Instance InstanceID
	Name     string // that the instance has now; empty if there is none
	Delivery DeliveryID
	File     FileSpec
	SHA256   [32]byte
	Size     int64 // bytes
	Placed   time.Time
	// ReplacedBy is the next delivery that placed a file at this path of this machine, and Replaced when that was; both are
	// zero while there is none.
	ReplacedBy DeliveryID
	Replaced   time.Time
}

// Current reports whether no delivery has replaced the file since.
func (p *PlacedFile) Current() bool { return p.ReplacedBy == "" }

// FileFilter selects placed files. Region is required, and one of Path and SHA256 at least.
type FileFilter struct {
	Region  string
	Path    string
	SHA256  *[32]byte
	At      time.Time // zero, or when it was there
	Current *bool     // whether nothing has replaced it until now
}

// Selects reports whether the filter selects p, which has its path and content.
func (f *FileFilter) Selects(p *PlacedFile) bool {
	switch {
	case f.SHA256 != nil && *f.SHA256 != p.SHA256,
		f.Current != nil && *f.Current != p.Current(),
		!f.At.IsZero() && (p.Placed.After(f.At) || !p.Current() && !p.Replaced.After(f.At)):
		return false
	}
	return true
}
