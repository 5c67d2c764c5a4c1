// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
)

// previewBytes is how much of its content is told of a delivery that was asked for by its ID.
const previewBytes = 16 << 10

// DeliveryHeads returns a page of the caller's deliveries without targets, newest first; with the beginning of the content
// if one is asked for by its ID.
func (s *Service) DeliveryHeads(ctx context.Context, who waybill.Principal, f DeliveryFilter, p Page) (Listing[waybill.DeliveryHead], error) {
	preview := 0
	if f.ID != "" {
		preview = previewBytes
	}
	return s.store.DeliveryHeads(ctx, who.Account, f, p, preview)
}

// Targets returns a page of the targets of a delivery, in the order asked for, and how many of all ended, or stand, alike. Of
// an unknown delivery there are none.
func (s *Service) Targets(
	ctx context.Context, who waybill.Principal, region string, id waybill.DeliveryID, f waybill.TargetFilter, p Page,
) (list Listing[waybill.NamedTarget], groups []waybill.TargetGroup, err error) {
	if groups, err = s.store.TargetGroups(ctx, who.Account, region, id); err == nil {
		list, err = s.store.Targets(ctx, who.Account, region, id, f, p)
	}
	if errors.Is(err, store.ErrNotFound) {
		return list, nil, nil
	}
	return list, groups, err
}

// MachineSummary counts the caller's machines in a region.
func (s *Service) MachineSummary(ctx context.Context, who waybill.Principal, region string) ([]waybill.MachineGroup, error) {
	return s.store.MachineSummary(ctx, who.Account, region, s.now().Add(-waybill.SilentAfter))
}

// DeliverySummary counts what the caller's account has sent in a region since a time.
func (s *Service) DeliverySummary(ctx context.Context, who waybill.Principal, region string, since time.Time) (waybill.DeliverySummary, error) {
	first := new(identity.DeliveryIDs).Next(identity.RegionMark(region), since.Add(-time.Millisecond))
	return s.store.DeliverySummary(ctx, who.Account, region, string(first), since)
}
