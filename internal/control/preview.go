// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/openwaybill/waybill"
)

// Outlook is what would become at once of a file on an instance.
type Outlook string

// The outlooks.
const (
	Reachable Outlook = "Reachable" // the machine is online and is told
	Held      Outlook = "Held"      // it gets the file if it comes back before the deadline
	Ended     Outlook = "Ended"     // it cannot get it, for a cause
)

// Forecast is what a delivery would do if it were sent now.
type Forecast struct {
	Listing[ForecastTarget] // in the order of their IDs
	Groups                  []ForecastGroup
}

// ForecastTarget is one instance that would be hit.
type ForecastTarget struct {
	Instance waybill.InstanceID
	Name     string // empty if it is not known
	Outlook  Outlook
	Cause    waybill.Cause // of Ended
	Detail   string
}

// ForecastGroup counts instances that would fare alike.
type ForecastGroup struct {
	Outlook Outlook
	Cause   waybill.Cause
	Count   int64
}

// Preview returns who would be hit by a content of size bytes that is sent to t, and how, without sending anything. It finds
// them as Send does, and is refused wherever that would be for its targets.
func (s *Service) Preview(ctx context.Context, act *waybill.Act, t Targets, size int64, p Page) (f Forecast, err error) {
	if err := t.check(s.cfg.Limits); err != nil {
		return f, err
	}
	list, err := s.recipients(ctx, act, &t, nil)
	if err != nil {
		return f, fmt.Errorf("preview: %w", err)
	}
	slices.SortFunc(list, func(a, b recipient) int { return strings.Compare(string(a.ID), string(b.ID)) })
	now := s.now()
	groups := map[ForecastGroup]int64{}
	for n := range list {
		r := &list[n]
		v := ForecastTarget{Instance: r.ID, Name: r.Name, Outlook: Held}
		var told bool
		switch v.Cause, v.Detail, told = r.plan(now, cargo{size: size}); {
		case v.Cause != waybill.NoCause:
			v.Outlook = Ended
		case told:
			v.Outlook = Reachable
		}
		groups[ForecastGroup{Outlook: v.Outlook, Cause: v.Cause}]++
		switch {
		case string(r.ID) <= p.Cursor:
		case len(f.Items) < p.Size:
			f.Items = append(f.Items, v)
		case f.Next == "":
			f.Next = string(f.Items[p.Size-1].Instance)
		}
	}
	f.Total = int64(len(list))
	for g, n := range groups {
		g.Count = n
		f.Groups = append(f.Groups, g)
	}
	slices.SortFunc(f.Groups, func(a, b ForecastGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Outlook, b.Outlook), cmp.Compare(a.Cause, b.Cause))
	})
	return f, nil
}
