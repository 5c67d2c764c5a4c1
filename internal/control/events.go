// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/webhook"
)

// WebhookConfig holds the settings of webhooks.
type WebhookConfig struct {
	PerRegion int            // webhooks of an account in a region
	Networks  []netip.Prefix // that webhooks may reach although they are not public, and by plain HTTP
	RetainFor time.Duration  // events older than this are removed, sent or not

	Backoff func(failures int) time.Duration // nil: webhook.Backoff
	Every   time.Duration                    // how often is looked for what is to be sent
}

// Bounds of what is sent at once.
const (
	hooksAtOnce  = 32 // webhooks; one that does not answer holds up none of the others
	eventsAtOnce = 8  // events to one webhook
	eventsBatch  = 64 // events whose outcomes are noted together, and are sent again should the server end before that
)

// maxHookPause bounds how long nothing is sent to a webhook after failures, unless the receiver asks for more. It is short, because
// what failed may be an event that the receiver cannot digest, and because only one is sent after it. An event has longer pauses
// of its own.
const maxHookPause = time.Minute

// events sends to webhooks what the store has of them. It does so on one server of a database at a time, that which does the
// chores; should another take over while an event is under way, it may be sent twice.
type events struct {
	sender  *webhook.Sender
	backoff func(failures int) time.Duration
	wake    chan struct{}

	mu   sync.Mutex
	busy map[string]bool // webhooks that are being sent to
}

func (e *events) init(cfg *Config) {
	e.sender = webhook.NewSender(cfg.Webhooks.Networks, "Waybill/"+cfg.Version)
	e.backoff = cfg.Webhooks.Backoff
	if e.backoff == nil {
		e.backoff = webhook.Backoff
	}
	e.wake, e.busy = make(chan struct{}, 1), map[string]bool{}
}

// ring has somebody look for what is to be sent.
func (e *events) ring() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// begin reports whether a webhook may be sent to now: nobody does so, and not too many others are. end must follow.
func (e *events) begin(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.busy[id] || len(e.busy) >= hooksAtOnce {
		return false
	}
	e.busy[id] = true
	return true
}

func (e *events) end(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.busy, id)
}

// runEvents sends events until ctx ends.
func (s *Service) runEvents(ctx context.Context) error {
	defer s.events.sender.Close()
	var senders sync.WaitGroup
	defer senders.Wait()
	tick := time.NewTicker(s.cfg.Webhooks.Every)
	defer tick.Stop()
	for {
		if s.chores.mine() {
			due, err := s.store.DueWebhooks(ctx, 2*hooksAtOnce)
			if err != nil && ctx.Err() == nil {
				s.log.Warn("look for events to send", "err", err)
			}
			for _, id := range due {
				if s.events.begin(id) {
					senders.Go(func() {
						defer s.events.end(id)
						if err := s.sendEvents(ctx, id); err != nil && ctx.Err() == nil {
							s.log.Warn("send events", "webhook", id, "err", err)
						}
					})
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.events.wake:
		case <-tick.C:
		}
	}
}

// sendEvents sends what is due to one webhook, until nothing is or an attempt fails.
func (s *Service) sendEvents(ctx context.Context, id string) error {
	limit := 1 // whether it works is not known yet
	for ctx.Err() == nil && s.chores.mine() {
		h, due, err := s.store.DueEvents(ctx, id, limit)
		if errors.Is(err, store.ErrNotFound) {
			return nil // it was deleted meanwhile
		}
		if err != nil || len(due) == 0 {
			return err
		}
		secret, err := s.sealer.Open(h.Sealed, webhookOwner(id))
		if err != nil {
			return fmt.Errorf("the secret of the webhook: %w", err)
		}
		if works, err := s.attempt(ctx, &h, string(secret), due); err != nil || !works {
			return err
		}
		limit = eventsBatch
	}
	return nil
}

// attempt sends events, notes what came of it, and reports whether all were received. After one failure it begins no other.
func (s *Service) attempt(ctx context.Context, h *store.Hook, secret string, due []store.DueEvent) (works bool, err error) {
	answers := make([]*webhook.Answer, len(due))
	var failed atomic.Bool
	var eg errgroup.Group
	eg.SetLimit(eventsAtOnce)
	for i := range due {
		eg.Go(func() error {
			if failed.Load() {
				return nil
			}
			a := s.events.sender.Post(ctx, webhook.Event{URL: h.URL, Secret: secret, ID: due[i].ID, Body: due[i].Body}, s.now())
			if !a.Received() {
				if ctx.Err() != nil {
					return nil // it is not the receiver's failure
				}
				failed.Store(true)
			}
			answers[i] = &a
			return nil
		})
	}
	_ = eg.Wait() // none returns an error
	now := s.now()
	var list []store.Attempted
	var pause time.Duration
	reason := ""
	for i, a := range answers {
		if a == nil {
			continue
		}
		v := store.Attempted{Sequence: due[i].Sequence, Attempts: due[i].Attempts, Sent: a.Received(), Answer: a.Text}
		if !v.Sent {
			v.Next = now.Add(max(s.events.backoff(due[i].Attempts+1), a.RetryAfter))
			pause = max(pause, min(s.events.backoff(h.Failures+1), maxHookPause), a.RetryAfter)
			if a.Gone() {
				reason = "the receiver answered 410 Gone"
			}
		}
		list = append(list, v)
	}
	return !failed.Load(), s.settle(ctx, h, list, pause, reason)
}

func (s *Service) settle(ctx context.Context, h *store.Hook, list []store.Attempted, pause time.Duration, reason string) error {
	st, resume := s.store, time.Time{}
	if pause > 0 {
		resume = s.now().Add(pause)
	}
	if reason != "" {
		act := s.serverAct(waybill.ServerActor, "", actionDisableWebhook, h.Account, h.Region, webhookARN(&h.Webhook))
		act.Subject = h.ID
		st = s.store.For(act, nil)
	}
	gaveUp, err := st.Settle(context.WithoutCancel(ctx), h.ID, list, resume, reason)
	if err != nil {
		return fmt.Errorf("note what came of events: %w", err)
	}
	sent := 0
	for _, v := range list {
		if v.Sent {
			sent++
		}
	}
	s.metrics.events.WithLabelValues(eventsSent).Add(float64(sent))
	s.metrics.events.WithLabelValues(eventsRefused).Add(float64(len(list) - sent))
	s.metrics.events.WithLabelValues(eventsGivenUp).Add(float64(gaveUp))
	if reason != "" {
		s.log.Warn("a webhook is disabled", "webhook", h.ID, "reason", reason)
	}
	if gaveUp > 0 {
		s.log.Warn("events were given up", "webhook", h.ID, "count", gaveUp)
	}
	if pause > 0 && reason == "" {
		time.AfterFunc(pause, s.events.ring) // rather than at the next look
	}
	return nil
}

// forgetEvents removes events that are too old, or whose webhook is gone.
func (s *Service) forgetEvents(ctx context.Context, limit int) (int64, error) {
	return s.store.ForgetEvents(ctx, s.now().Add(-s.cfg.Webhooks.RetainFor), limit)
}

func webhookARN(w *waybill.Webhook) string {
	return "acs:waybill:" + w.Region + ":" + string(w.Account) + ":webhook/" + w.ID
}
