// SPDX-License-Identifier: Apache-2.0

package guide_test

import (
	"slices"
	"testing"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/api"
	"github.com/openwaybill/waybill/internal/guide"
)

// TestEveryErrorIsExplained looks that there is an entry, in both languages, for each code that the API can answer and each
// cause of a target, under the code that the API gives it; and none for anything else.
func TestEveryErrorIsExplained(t *testing.T) {
	t.Parallel()
	codes := api.Codes()
	for _, lang := range []string{guide.English, guide.Chinese} {
		for _, code := range codes {
			if len(guide.Lookup(lang, code)) == 0 {
				t.Errorf("%s: %s is not explained", lang, code)
			}
		}
		for _, c := range waybill.Causes() {
			e, ok := guide.ForCause(lang, c)
			if code, _ := api.Words(c); !ok || e.Code != code || e.Kind != guide.Target {
				t.Errorf("%s: cause %s is explained as %+v, want code %s", lang, c, e, code)
			}
		}
		for _, e := range guide.All(lang) {
			if e.Kind == guide.Request && !slices.Contains(codes, e.Code) {
				t.Errorf("%s: %s is explained and never answered", lang, e.Code)
			}
			if e.Kind == guide.Target && !e.Cause.Known() {
				t.Errorf("%s: %s has the unknown cause %q", lang, e.Code, e.Cause)
			}
			if len(e.Check) == 0 {
				t.Errorf("%s: %s says nothing to check", lang, e.Code)
			}
		}
	}
}
