// SPDX-License-Identifier: Apache-2.0

package place

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/openwaybill/waybill"
)

// maxName is the longest name of a file: bytes on Unix, UTF-16 units on Windows.
const maxName = 255

// Names of temporaries. The ID is the delivery's, so that leftovers can be found after a crash.
const (
	tempPrefix = ".waybill-"
	tempSuffix = ".tmp"
	maxID      = maxName - len(tempPrefix) - len(tempSuffix)
)

func tempName(id string) string { return tempPrefix + id + tempSuffix }

func checkID(id string) error {
	other := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
	}
	if id == "" || len(id) > maxID || strings.ContainsFunc(id, other) {
		return fmt.Errorf("delivery ID %q is not 1 to %d letters, digits and dashes", id, maxID)
	}
	return nil
}

// checkName refuses what is not a file name on goos.
func checkName(goos, name string) error {
	if err := waybill.CheckName(name); err != nil {
		return err
	}
	if lower := strings.ToLower(name); strings.HasPrefix(lower, tempPrefix) && strings.HasSuffix(lower, tempSuffix) {
		return fmt.Errorf("names like %s are the agent's own", tempName("…"))
	}
	if goos == "windows" {
		return checkWindowsElement(name)
	}
	if len(name) > maxName {
		return fmt.Errorf("the name has %d bytes, more than %d", len(name), maxName)
	}
	return nil
}

// location is a directory as words: a volume (only on Windows) and the names that lead to the directory.
type location struct {
	volume string
	names  []string
}

// parseDir splits an absolute directory as goos writes it. "." and empty elements are dropped, ".." is refused.
func parseDir(goos, dir string) (location, error) {
	if err := waybill.CheckTargetDir(dir); err != nil {
		return location{}, err
	}
	if goos == "windows" {
		return parseWindowsDir(dir)
	}
	if !strings.HasPrefix(dir, "/") {
		return location{}, errors.New("the directory is not absolute on this system: it does not start with a slash")
	}
	return location{names: elements(dir, "/")}, nil
}

// parseWindowsDir understands X:\dir and \\server\share\dir, with either slash, but not the device paths \\?\
// and \\.\.
func parseWindowsDir(dir string) (location, error) {
	names := elements(dir, `/\`)
	var at location
	switch {
	case dir[0] != '/' && dir[1] == ':': // CheckTargetDir has seen the letter and the slash around it
		at = location{volume: strings.ToUpper(names[0]), names: names[1:]}
		names = at.names
	case dir[0] != '/' && len(names) >= 2 && !strings.ContainsAny(dir[2:3], `?./\`):
		at = location{volume: `\\` + names[0] + `\` + names[1], names: names[2:]}
	default:
		return location{}, errors.New(`the directory is not absolute on this system: neither X:\dir nor \\server\share\dir`)
	}
	for _, n := range names {
		if err := checkWindowsElement(n); err != nil {
			return location{}, err
		}
	}
	return at, nil
}

// checkWindowsElement applies the rules of "Naming Files, Paths, and Namespaces" (Win32 documentation).
func checkWindowsElement(name string) error {
	stem, _, _ := strings.Cut(strings.ToUpper(name), ".")
	stem = strings.TrimRight(stem, " ")
	numbered := strings.HasPrefix(stem, "COM") || strings.HasPrefix(stem, "LPT")
	switch {
	case len(utf16.Encode([]rune(name))) > maxName:
		return fmt.Errorf("the name %q has more than %d UTF-16 units", name, maxName)
	case strings.ContainsAny(name, `<>:"/\|?*`):
		return fmt.Errorf(`the name %q holds one of <>:"/\|?*, which Windows refuses`, name)
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " "):
		return fmt.Errorf("the name %q ends in a dot or blank, which Windows drops", name)
	case slices.Contains([]string{"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}, stem),
		numbered && len([]rune(stem)) == 4 && strings.ContainsAny(stem[3:], "0123456789¹²³"):
		return fmt.Errorf("the name %q is a device on Windows", name)
	}
	return nil
}

// elements splits a path at each of the separators, without empty elements and ".".
func elements(path, separators string) []string {
	all := strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune(separators, r) })
	return slices.DeleteFunc(all, func(e string) bool { return e == "." })
}

// within reports whether l is o or below it, on goos.
func (l location) within(goos string, o location) bool {
	equal := func(a, b string) bool { return a == b }
	if goos == "windows" {
		equal = strings.EqualFold
	}
	return len(l.names) >= len(o.names) && equal(l.volume, o.volume) &&
		slices.EqualFunc(l.names[:len(o.names)], o.names, equal)
}
