// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Tag is a label of a delivery, an instance or an activation.
type Tag struct {
	Key, Value string
}

// MaxTags is how many tags a resource may have, and a request may give (SendFile, parameter Tag.N).
const MaxTags = 20

// Lengths of tags in Unicode code points. Those of SendFile hold for every request but TagResources.
const (
	maxTagKey         = 64
	maxResourceTagKey = 128 // TagResources, parameter Tag.N.Key
	maxTagValue       = 128
)

// CheckTags refuses tags beyond the published limits, and repeated keys.
func CheckTags(tags []Tag) error { return checkTags(tags, maxTagKey) }

// CheckResourceTags is CheckTags for tags that are put on something that is there already, whose keys may be longer.
func CheckResourceTags(tags []Tag) error { return checkTags(tags, maxResourceTagKey) }

func checkTags(tags []Tag, maxKey int) error {
	if len(tags) > MaxTags {
		return &Error{Code: TagsTooMany, Field: "Tag", Message: fmt.Sprintf("more than %d tags", MaxTags)}
	}
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		switch {
		case t.Key == "":
			return &Error{Code: TagKeyMissing, Field: "Tag.Key", Message: "a tag has no key"}
		case utf8.RuneCountInString(t.Key) > maxKey || !utf8.ValidString(t.Key) || hasURL(t.Key) ||
			strings.HasPrefix(t.Key, "acs:") || strings.HasPrefix(t.Key, "aliyun"):
			return &Error{Code: TagKeyInvalid, Field: "Tag.Key", Message: fmt.Sprintf("tag key %q is not valid", t.Key)}
		case utf8.RuneCountInString(t.Value) > maxTagValue || !utf8.ValidString(t.Value) || hasURL(t.Value):
			return &Error{Code: TagValueInvalid, Field: "Tag.Value", Message: fmt.Sprintf("value of tag %q is not valid", t.Key)}
		case seen[t.Key]:
			return &Error{Code: TagKeyRepeated, Field: "Tag.Key", Message: fmt.Sprintf("tag key %q is given twice", t.Key)}
		}
		seen[t.Key] = true
	}
	return nil
}

func hasURL(s string) bool { return strings.Contains(s, "http://") || strings.Contains(s, "https://") }
