// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"

	"github.com/openwaybill/waybill"
)

// Files returns a page of the files that machines of the caller's account took, from the targets that are kept. A page may
// have fewer than asked for, even none, while others follow.
func (s *Service) Files(ctx context.Context, who waybill.Principal, f waybill.FileFilter, p Page) (Listing[waybill.PlacedFile], error) {
	return s.store.Files(ctx, who.Account, f, p)
}

// Diffs returns a page of what the machines of a rehearsal of the caller's account would change; of one of them if it is given.
// An unknown delivery is no error.
func (s *Service) Diffs(
	ctx context.Context, who waybill.Principal, region string, id waybill.DeliveryID, only waybill.InstanceID, p Page,
) (Listing[waybill.NamedDiff], error) {
	list, err := s.store.Diffs(ctx, who.Account, region, id, only, p)
	return list, ignoreNotFound(err)
}
