// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/webhook"
)

// NewWebhook is a webhook that was just made, with its secret, which is not shown again.
type NewWebhook struct {
	waybill.Webhook
	Secret string
}

// CreateWebhook makes a webhook of the caller's account in a region: its address, description and event types are those of w. A
// repetition, known by the token of act, returns what the first returned.
func (s *Service) CreateWebhook(ctx context.Context, act *waybill.Act, region string, w waybill.Webhook) (NewWebhook, error) {
	return once(ctx, s, act, func() (NewWebhook, error) {
		now := s.now()
		n := NewWebhook{Secret: webhook.NewSecret(), Webhook: waybill.Webhook{
			ID: identity.NewWebhookID(identity.RegionMark(region)), Account: act.Account, Region: region, URL: w.URL, Description: w.Description,
			Types: unique(w.Types), Enabled: true, Created: now, Updated: now,
		}}
		if err := s.checkWebhook(&n.Webhook); err != nil {
			return NewWebhook{}, err
		}
		act.Subject = n.ID
		st, err := writeFor(s, act, n)
		if err != nil {
			return NewWebhook{}, err
		}
		err = st.AddWebhook(ctx, store.Hook{Webhook: n.Webhook, Sealed: s.sealer.Seal([]byte(n.Secret), webhookOwner(n.ID))}, s.cfg.Webhooks.PerRegion)
		if errors.Is(err, store.ErrLimit) {
			return NewWebhook{}, waybill.Errorf(waybill.WebhookQuota, "the account has %d webhooks in this region already; delete one first", s.cfg.Webhooks.PerRegion)
		}
		return n, err
	})
}

// webhookOwner is what the secret of a webhook is bound to.
func webhookOwner(id string) []byte { return []byte("webhook " + id) }

const maxWebhookDescription = 512 // characters

func (s *Service) checkWebhook(w *waybill.Webhook) error {
	if err := cmp.Or(waybill.CheckWebhook(w), checkText("Description", w.Description, maxWebhookDescription)); err != nil {
		return err
	}
	if err := s.events.sender.CheckURL(w.URL); err != nil {
		return &waybill.Error{Code: waybill.WebhookURL, Field: "Url", Message: err.Error()}
	}
	return nil
}

func webhookError(err error, id string) error {
	if errors.Is(err, store.ErrNotFound) {
		return waybill.Errorf(waybill.WebhookNotFound, "there is no webhook %.80q in this account and region", id)
	}
	return err
}

// Webhooks returns the webhooks of the caller's account in a region, oldest first; only that of an ID, unless it is empty.
func (s *Service) Webhooks(ctx context.Context, who waybill.Principal, region, id string) ([]waybill.Webhook, error) {
	return s.store.Webhooks(ctx, who.Account, region, id)
}

// WebhookChange is what is to be changed of a webhook; nil stays as it is.
type WebhookChange struct {
	URL, Description *string
	Types            []waybill.EventType
	Enabled          *bool
}

// ModifyWebhook changes a webhook. What waits is sent to its new address, and while it is disabled it waits.
func (s *Service) ModifyWebhook(ctx context.Context, act *waybill.Act, region, id string, c WebhookChange) (waybill.Webhook, error) {
	act.Subject = id
	w, err := s.store.For(act, nil).ChangeWebhook(ctx, act.Account, region, id, func(w *waybill.Webhook) error {
		if c.URL != nil {
			w.URL = *c.URL
		}
		if c.Description != nil {
			w.Description = *c.Description
		}
		if c.Types != nil {
			w.Types = unique(c.Types)
		}
		if c.Enabled != nil {
			w.Enabled, w.Reason = *c.Enabled, ""
		}
		return s.checkWebhook(w)
	})
	if err != nil {
		return w, webhookError(err, id)
	}
	s.events.ring()
	return w, nil
}

// DeleteWebhook removes a webhook, and what it has not been sent.
func (s *Service) DeleteWebhook(ctx context.Context, act *waybill.Act, region, id string) error {
	act.Subject = id
	return webhookError(s.store.For(act, nil).DeleteWebhook(ctx, act.Account, region, id), id)
}

// WebhookEvents returns a page of what a webhook was or is to be sent, newest first; only those of a status, unless it is empty.
func (s *Service) WebhookEvents(
	ctx context.Context, who waybill.Principal, region, id string, status waybill.EventStatus, p Page,
) (Listing[waybill.WebhookEvent], error) {
	list, err := s.store.WebhookEvents(ctx, who.Account, region, id, status, p)
	return list, webhookError(err, id)
}

// ReplayWebhookEvents sends events of a webhook again that were sent or given up, with the IDs and contents they had, and returns
// how many.
func (s *Service) ReplayWebhookEvents(ctx context.Context, act *waybill.Act, region, id string, which waybill.EventSelection) (int64, error) {
	act.Subject = id
	n, err := s.store.For(act, nil).Replay(ctx, act.Account, region, id, which)
	if err != nil {
		return 0, fmt.Errorf("replay: %w", webhookError(err, id))
	}
	s.events.ring()
	return n, nil
}
