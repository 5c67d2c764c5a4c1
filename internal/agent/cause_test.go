// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

func TestCauseOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want waybill.Cause
	}{
		{&place.Error{Reason: place.NameInvalid}, waybill.CauseName},
		{&place.Error{Reason: place.PathInvalid}, waybill.CausePath},
		{&place.Error{Reason: place.OwnerMissing}, waybill.CauseOwnerMissing},
		{&place.Error{Reason: place.GroupMissing}, waybill.CauseGroupMissing},
		{&place.Error{Reason: place.ModeInapplicable}, waybill.CauseModeUnapplied},
		{&place.Error{Reason: place.Exists}, waybill.CauseExists},
		{&place.Error{Reason: place.ContentInvalid}, waybill.CauseContent},
		{fmt.Errorf("wrapped: %w", &place.Error{Reason: place.WriteFailed}), waybill.CauseWriteFailed},
		{fmt.Errorf("stopped at publish: %w", errDeadline), waybill.CauseDeadline},
		{fmt.Errorf("%w: no space left on device", errJournal), waybill.CauseWriteFailed},
		{errors.New("anything else"), waybill.CauseAgentBroke},
	} {
		if got := causeOf(c.err); got != c.want {
			t.Errorf("%v: cause %q, want %q", c.err, got, c.want)
		}
	}
}

func TestDetail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"short":           {"no space", "no space"},
		"as long as can":  {strings.Repeat("x", wire.MaxDetail), strings.Repeat("x", wire.MaxDetail)},
		"too long":        {strings.Repeat("x", wire.MaxDetail+1), strings.Repeat("x", wire.MaxDetail-3) + "…"},
		"cut in a rune":   {strings.Repeat("é", wire.MaxDetail), strings.Repeat("é", (wire.MaxDetail-3)/2) + "…"},
		"not UTF-8":       {"a\xffb", "a\uFFFDb"},
		"longer as UTF-8": {strings.Repeat("\xff.", 200), strings.Repeat("\uFFFD.", 127) + "…"},
	} {
		got := detail(c.text)
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if len(got) > wire.MaxDetail || !utf8.ValidString(got) {
			t.Errorf("%s: %d bytes, valid %v", name, len(got), utf8.ValidString(got))
		}
	}
}
