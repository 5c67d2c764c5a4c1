// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// digestPrefix names the only kind of digest there is.
const digestPrefix = "sha256:"

// FormatDigest writes the SHA-256 of a content: sha256: and 64 hexadecimal digits.
func FormatDigest(digest [32]byte) string { return digestPrefix + hex.EncodeToString(digest[:]) }

// ParseDigest reads what FormatDigest writes. The digits may be upper case.
func ParseDigest(s string) ([32]byte, error) {
	digits, ok := strings.CutPrefix(s, digestPrefix)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != 32 {
		return [32]byte{}, &Error{
			Code: DigestInvalid, Field: "ContentDigest", Message: fmt.Sprintf("%.80q is not %s and 64 hexadecimal digits", s, digestPrefix),
		}
	}
	return [32]byte(b), nil
}
