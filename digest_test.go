// SPDX-License-Identifier: Apache-2.0

package waybill_test

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/openwaybill/waybill"
)

func FuzzParseDigest(f *testing.F) {
	good := waybill.FormatDigest(sha256.Sum256(nil))
	for _, s := range []string{good, "SHA256" + good[6:], good[7:], good[:70], good + "0", good[:70] + "g", "sha256:", "", "md5:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		digest, err := waybill.ParseDigest(s)
		if err == nil && waybill.FormatDigest(digest) != strings.ToLower(s) {
			t.Errorf("%q is read as %x", s, digest)
		}
		if err != nil && s == good {
			t.Error(err)
		}
	})
}
