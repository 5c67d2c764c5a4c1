// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

// causeOf is the only map from what can go wrong on a machine to the causes of the domain (design §7).
func causeOf(err error) waybill.Cause {
	if errors.Is(err, errDeadline) || errors.Is(err, errOver) {
		return waybill.CauseDeadline
	}
	if errors.Is(err, errJournal) {
		return waybill.CauseWriteFailed
	}
	e, ok := errors.AsType[*place.Error](err)
	if !ok {
		return waybill.CauseAgentBroke
	}
	switch e.Reason {
	case place.NameInvalid:
		return waybill.CauseName
	case place.PathInvalid:
		return waybill.CausePath
	case place.OwnerMissing:
		return waybill.CauseOwnerMissing
	case place.GroupMissing:
		return waybill.CauseGroupMissing
	case place.ModeInapplicable:
		return waybill.CauseModeUnapplied
	case place.Exists:
		return waybill.CauseExists
	case place.ContentInvalid:
		return waybill.CauseContent
	case place.WriteFailed:
		return waybill.CauseWriteFailed
	}
	panic("agent: unknown reason " + string(e.Reason))
}

// detail makes text fit into the Detail of a report: valid UTF-8 of at most wire.MaxDetail bytes.
func detail(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= wire.MaxDetail {
		return text
	}
	const more = "…"
	n := wire.MaxDetail - len(more)
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + more
}
