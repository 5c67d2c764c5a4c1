// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
	"unicode/utf8"
)

// IDs are opaque strings of ASCII letters, digits and dashes. A DeliveryID sorts by creation time within its region.
type (
	DeliveryID   string
	InstanceID   string
	ActivationID string
	AccountID    string // 16 decimal digits
)

// ContentType says how the content of a request is written.
type ContentType string

// The content types of SendFile.
const (
	PlainText ContentType = "PlainText"
	Base64    ContentType = "Base64"
)

// FileSpec is the file that a delivery places: where, as whose, and whether it may replace another.
type FileSpec struct {
	Name      string // one path element
	TargetDir string // absolute on the machine it goes to
	Owner     string // a user name or a number; ignored on Windows
	Group     string // a group name or a number; ignored on Windows
	Mode      string // three or four octal digits, as sent; ignored on Windows
	Overwrite bool
}

// Delivery is one accepted request, without its targets and content.
type Delivery struct {
	ID            DeliveryID
	Account       AccountID
	Region        string
	File          FileSpec
	ContentType   ContentType
	SHA256        [32]byte // of the decoded content
	Size          int64    // bytes of the decoded content
	Description   string
	ResourceGroup string
	Tags          []Tag
	Timeout       time.Duration
	Created       time.Time
	Deadline      time.Time // Created + Timeout, or later if it was retried; no target stays open long after it
	DryRun        bool      // a rehearsal: machines say what would happen, and change nothing
	Diff          bool      // of a rehearsal: machines also compare text line by line
	Counts        Counts
	TargetCount   int
}

// Status returns the overall status.
func (d *Delivery) Status() Overall { return d.Counts.Aggregate() }

// Target is one machine of a delivery. Times that have not come yet are zero.
type Target struct {
	Delivery DeliveryID
	Instance InstanceID
	Attempt  int // 1, and one more with each retry
	Status   Status
	Cause    Cause
	Detail   string // our own words: the offending value, the errno, what to do; may be empty
	Change   Change // what a success did to the file on the machine
	Created  time.Time
	Begun    time.Time // when this attempt began; zero for the first, which began when it was created
	Started  time.Time // when the machine took it up
	Finished time.Time // when it ended, whoever ended it
	Updated  time.Time // last change of status
	Given    bool      // it may have been sent to the machine; without meaning where that has the official agent
	Stopped  time.Time // when it was first asked to be stopped while it was open
}

// MaxContent is the most that Limits.ContentBytes may be: 64 MiB, written as Base64.
const MaxContent = (64<<20 + 2) / 3 * 4

// MaxUpload is the most bytes of a content that is uploaded and sent by its digest: 16 GiB.
const MaxUpload = 16 << 30

// Limits bounds what one request may ask. DefaultLimits gives the published values.
type Limits struct {
	Instances    int           // instances that one SendFile names one by one
	Targets      int           // instances that one SendFile reaches by a list or a selector
	ContentBytes int           // length of the content once it is written as Base64
	MaxTimeout   time.Duration // above it a request is refused
	MinTimeout   time.Duration // below it the timeout is raised to it
}

// DefaultLimits returns the limits published for SendFile, and ours: of the timeout, whose number nobody publishes, and of
// targets that are not named one by one, which nobody else has.
func DefaultLimits() Limits {
	return Limits{Instances: 50, Targets: 50_000, ContentBytes: 32 << 10, MaxTimeout: 24 * time.Hour, MinTimeout: 10 * time.Second}
}

// Lengths in Unicode code points (SendFile, request parameters).
const (
	maxName        = 255
	maxTargetDir   = 255
	maxDescription = 512
	maxOwner       = 64
)

// DecodeContent returns the bytes that content of the given type stands for, refusing what is longer than limits allow.
// The published limit counts the Base64 form, so plain text is measured as if it were encoded.
func DecodeContent(content string, t ContentType, limits Limits) ([]byte, error) {
	switch t {
	case PlainText:
		if base64.StdEncoding.EncodedLen(len(content)) > limits.ContentBytes {
			return nil, tooLarge(limits)
		}
		return []byte(content), nil
	case Base64:
		if len(content) > limits.ContentBytes {
			return nil, tooLarge(limits)
		}
		b, err := base64.StdEncoding.Strict().DecodeString(content)
		if err != nil {
			return nil, &Error{Code: ContentUndecoded, Field: "Content", Message: "the content is not valid Base64", Err: err}
		}
		return b, nil
	}
	return nil, &Error{Code: ContentKind, Field: "ContentType", Message: fmt.Sprintf("content type %q is neither PlainText nor Base64", t)}
}

func tooLarge(limits Limits) error {
	return &Error{Code: ContentTooLarge, Field: "Content", Message: fmt.Sprintf("the content is longer than %d bytes as Base64", limits.ContentBytes)}
}

// Validate checks all that can be known without a machine. The first problem found is returned.
func (f *FileSpec) Validate() error {
	if f.Name == "" {
		return Missing("Name")
	}
	if f.TargetDir == "" {
		return Missing("TargetDir")
	}
	if utf8.RuneCountInString(f.Name) > maxName {
		return &Error{Code: NameTooLong, Field: "Name", Message: fmt.Sprintf("the name is longer than %d characters", maxName)}
	}
	if err := CheckName(f.Name); err != nil {
		return err
	}
	if err := CheckTargetDir(f.TargetDir); err != nil {
		return err
	}
	if _, err := ParseMode(f.Mode); err != nil {
		return err
	}
	if !validOwner(f.Owner) {
		return &Error{Code: OwnerInvalid, Field: "FileOwner", Message: fmt.Sprintf("owner %q is not a user name or number", f.Owner)}
	}
	if !validOwner(f.Group) {
		return &Error{Code: GroupInvalid, Field: "FileGroup", Message: fmt.Sprintf("group %q is not a group name or number", f.Group)}
	}
	return nil
}

// CheckName refuses a name that is not one path element on any system we know: empty, "." or "..", with a slash or a
// control character, or not UTF-8. What only one system refuses (a backslash on Windows, 255 bytes on Linux) is that
// machine's to say.
func CheckName(name string) error {
	bad := ""
	switch {
	case name == "" || name == "." || name == "..":
		bad = "it names a directory"
	case !utf8.ValidString(name):
		bad = "it is not UTF-8"
	case strings.ContainsRune(name, '/'):
		bad = "it holds a slash; put directories into TargetDir"
	case strings.ContainsFunc(name, isControl):
		bad = "it holds a control character"
	default:
		return nil
	}
	return &Error{Code: NameInvalid, Field: "Name", Message: fmt.Sprintf("file name %q: %s", name, bad)}
}

// CheckTargetDir refuses a directory that is absolute on no system: neither /… nor X:\… nor \\…. A ".." element is
// refused too: a delivery says plainly where it goes.
func CheckTargetDir(dir string) error {
	bad := ""
	switch {
	case utf8.RuneCountInString(dir) > maxTargetDir:
		bad = fmt.Sprintf("it is longer than %d characters", maxTargetDir)
	case !utf8.ValidString(dir):
		bad = "it is not UTF-8"
	case strings.ContainsFunc(dir, isControl):
		bad = "it holds a control character"
	case !path.IsAbs(dir) && !isWindowsAbs(dir):
		bad = "it is not absolute"
	case hasDotDot(dir):
		bad = `it holds a ".." element`
	default:
		return nil
	}
	return &Error{Code: DirInvalid, Field: "TargetDir", Message: fmt.Sprintf("target directory %q: %s", dir, bad)}
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

func isWindowsAbs(dir string) bool {
	if strings.HasPrefix(dir, `\\`) {
		return true
	}
	if len(dir) < 3 || dir[1] != ':' || (dir[2] != '\\' && dir[2] != '/') {
		return false
	}
	c := dir[0] | 0x20
	return c >= 'a' && c <= 'z'
}

func hasDotDot(dir string) bool {
	seps := "/"
	if isWindowsAbs(dir) {
		seps = `/\`
	}
	for _, e := range strings.FieldsFunc(dir, func(r rune) bool { return strings.ContainsRune(seps, r) }) {
		if e == ".." {
			return true
		}
	}
	return false
}

func validOwner(s string) bool {
	return s != "" && utf8.RuneCountInString(s) <= maxOwner && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return isControl(r) || r == ':' || r == '/'
	})
}

// CheckDescription refuses a description that is too long.
func CheckDescription(s string) error {
	if utf8.RuneCountInString(s) > maxDescription {
		return &Error{Code: DescriptionLength, Field: "Description", Message: fmt.Sprintf("the description is longer than %d characters", maxDescription)}
	}
	return nil
}

// ParseMode reads three or four octal digits into permission bits and, where the fourth digit says so, fs.ModeSetuid,
// fs.ModeSetgid and fs.ModeSticky.
func ParseMode(s string) (fs.FileMode, error) {
	bad := func() (fs.FileMode, error) {
		return 0, &Error{Code: ModeInvalid, Field: "FileMode", Message: fmt.Sprintf("mode %q is not three or four octal digits", s)}
	}
	if len(s) != 3 && len(s) != 4 {
		return bad()
	}
	var bits uint32
	for _, c := range []byte(s) {
		if c < '0' || c > '7' {
			return bad()
		}
		bits = bits<<3 | uint32(c-'0')
	}
	return ModeFromBits(bits), nil
}

// ModeFromBits converts the twelve permission bits of Unix to an fs.FileMode, which keeps the upper three elsewhere.
func ModeFromBits(bits uint32) fs.FileMode {
	m := fs.FileMode(bits & 0o777)
	for bit, mode := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			m |= mode
		}
	}
	return m
}

// ModeBits is the inverse of ModeFromBits.
func ModeBits(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	for bit, mode := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&mode != 0 {
			bits |= bit
		}
	}
	return bits
}
