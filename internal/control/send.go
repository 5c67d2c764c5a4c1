// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/telemetry"
	"github.com/openwaybill/waybill/internal/wire"
)

// SendRequest is one request to place one file on some instances.
type SendRequest struct {
	Targets
	File        waybill.FileSpec // empty Owner, Group and Mode take the defaults root, root, 0644
	Content     string
	ContentType waybill.ContentType // empty: PlainText
	Digest      *[32]byte           // not nil: of a content that the account has, in place of Content and ContentType
	Description string
	Timeout     time.Duration // zero: DefaultTimeout
	Tags        []waybill.Tag
	DryRun      bool // machines say what would happen, and change nothing
	Diff        bool // of a rehearsal: they compare text line by line, for which a permission of its own is needed
}

// DefaultTimeout is how long a delivery may take unless the request says otherwise (SendFile, parameter Timeout).
const DefaultTimeout = 60 * time.Second

// What SendFile takes for FileOwner, FileGroup and FileMode that are not given.
const (
	defaultOwner = "root"
	defaultMode  = "0644"
)

// Send accepts one delivery. When it returns, the delivery and all its targets are durable; the machines are told, but
// nothing depends on that message. Instances that are not there, or cannot be reached by definition, end at once; only
// if none of those named exists is the request refused with InstanceNotFound. A repetition, known by the token of act,
// returns what the first returned, whatever a selector would select by then.
func (s *Service) Send(ctx context.Context, act *waybill.Act, req SendRequest) (id waybill.DeliveryID, err error) {
	within, span := telemetry.Child(ctx, telemetry.Inside, "send")
	defer func() {
		span.String("waybill.delivery.id", string(id))
		span.End(err)
	}()
	return once(within, s, act, func() (waybill.DeliveryID, error) { return s.send(within, act, req, span) })
}

func (s *Service) send(ctx context.Context, act *waybill.Act, req SendRequest, span telemetry.Span) (waybill.DeliveryID, error) {
	d, err := s.newDelivery(ctx, act.Principal, &req)
	if err != nil {
		return "", err
	}
	to, err := s.recipients(ctx, act, &req.Targets, req.Tags)
	if err != nil {
		return "", fmt.Errorf("send: %w", err)
	}
	if req.Diff {
		if err := s.authorizeDiff(ctx, act, &req.Targets, to, req.Tags); err != nil {
			return "", err
		}
	}
	span.Int("waybill.delivery.targets", len(to))
	if s.cfg.Sending == nil {
		return s.accept(ctx, act, &req, d, to)
	}
	ids := make([]waybill.InstanceID, len(to))
	for n := range to {
		ids[n] = to[n].ID
	}
	done, err := s.cfg.Sending(ctx, &d.Delivery, ids)
	if err != nil {
		return "", fmt.Errorf("send: %w", err)
	}
	stored := false
	defer func() { done(stored) }()
	if to, err = s.named(ctx, act, &req.Targets, ids); err != nil { // as the machines are by now
		return "", fmt.Errorf("send: %w", err)
	}
	id, err := s.accept(ctx, act, &req, d, to)
	stored = err == nil
	return id, err
}

// accept stores a delivery and tells the machines.
func (s *Service) accept(ctx context.Context, act *waybill.Act, req *SendRequest, d *store.NewDelivery, to []recipient) (waybill.DeliveryID, error) {
	var told []waybill.InstanceID
	open := false
	d.Targets = make([]waybill.Target, len(to))
	for n := range to {
		t := waybill.Target{Delivery: d.ID, Instance: to[n].ID, Status: waybill.Pending}
		cause, detail, now := to[n].plan(d.Created, cargoOf(&d.Delivery))
		if cause != waybill.NoCause {
			t.Status, t.Cause, t.Detail, t.Finished = cause.Status(), cause, detail, d.Created
		} else if open = true; now {
			told, t.Given = append(told, t.Instance), true
		}
		d.Targets[n] = t
	}
	act.Resources = req.audited(act, to)
	act.Subject = string(d.ID)
	st, err := writeFor(s, act, d.ID)
	if err != nil {
		return "", err
	}
	if err := s.keep(ctx, st, d); err != nil {
		return "", fmt.Errorf("send: %w", err)
	}
	s.metrics.accepted.Inc()
	s.changed(map[waybill.DeliveryID]struct{}{d.ID: {}})
	for _, t := range d.Targets {
		if t.Status.Final() {
			s.metrics.ended.WithLabelValues(string(t.Status), string(t.Cause)).Inc()
		}
	}
	if open {
		s.tell(ctx, &store.Dispatch{Delivery: d.Delivery, Attempt: 1, Data: d.Data}, told, publishedFirst)
		s.deadline.set(d.Deadline.Add(s.cfg.Grace))
		s.repeats.add(d.ID, d.Deadline, s.now()) // also for one that came while this was written
	}
	return d.ID, nil
}

// newDelivery validates all that can be known without a machine, and without the store unless that has the content.
func (s *Service) newDelivery(ctx context.Context, who waybill.Principal, req *SendRequest) (*store.NewDelivery, error) {
	if err := req.check(s.cfg.Limits); err != nil {
		return nil, err
	}
	if req.Diff && !req.DryRun {
		return nil, &waybill.Error{Code: waybill.MissingField, Field: "DryRun", Message: "only a rehearsal compares: DryRun is missing"}
	}
	f := &req.File
	setDefault(&f.Owner, defaultOwner)
	setDefault(&f.Group, defaultOwner)
	setDefault(&f.Mode, defaultMode)
	setDefault((*string)(&req.ContentType), string(waybill.PlainText))
	if err := f.Validate(); err != nil {
		return nil, err
	}
	var data []byte
	if req.Digest == nil {
		var err error
		if data, err = waybill.DecodeContent(req.Content, req.ContentType, s.cfg.Limits); err != nil {
			return nil, err
		}
	}
	if err := waybill.CheckDescription(req.Description); err != nil {
		return nil, err
	}
	if err := waybill.CheckTags(req.Tags); err != nil {
		return nil, err
	}
	switch {
	case req.Timeout == 0:
		req.Timeout = DefaultTimeout
	case req.Timeout > s.cfg.Limits.MaxTimeout:
		return nil, tooLongTimeout(req.Timeout, s.cfg.Limits.MaxTimeout)
	}
	req.Timeout = max(req.Timeout, s.cfg.Limits.MinTimeout)
	now := s.now().Truncate(time.Millisecond)
	d := &store.NewDelivery{
		Delivery: waybill.Delivery{
			ID: s.ids.Next(identity.RegionMark(req.Region), now), Account: who.Account, Region: req.Region, File: *f,
			ContentType: req.ContentType, SHA256: sha256.Sum256(data), Size: int64(len(data)), Description: req.Description,
			ResourceGroup: req.ResourceGroup, Tags: req.Tags, Timeout: req.Timeout, Created: now, Deadline: now.Add(req.Timeout),
			DryRun: req.DryRun, Diff: req.Diff,
		},
		Data: data, Sent: req.Content,
	}
	if req.Digest != nil {
		var err error
		d.SHA256, d.ContentType = *req.Digest, waybill.Base64 // which is how it is shown, if it is
		if d.Size, d.Data, err = s.held(ctx, who.Account, d.SHA256); err != nil {
			return nil, err
		}
		d.Held = d.Size > store.MaxContent
	}
	return d, nil
}

func tooLongTimeout(timeout, limit time.Duration) error {
	return &waybill.Error{
		Code: waybill.TimeoutTooLong, Field: "Timeout", Message: fmt.Sprintf("timeout %s is longer than %s", timeout, limit),
	}
}

func setDefault(v *string, to string) {
	if *v == "" {
		*v = to
	}
}

// unique returns ids without repetitions, in their order.
func unique[ID ~string](ids []ID) []ID {
	seen := make(map[ID]bool, len(ids))
	list := make([]ID, 0, len(ids))
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			list = append(list, id)
		}
	}
	return list
}

// checkGroup refuses a resource group that some known instance does not belong to (SendFile, parameter ResourceGroupId).
func checkGroup(group string, list []recipient) error {
	if group == "" {
		return nil
	}
	for _, i := range list {
		if i.known && i.ResourceGroup != group {
			return &waybill.Error{
				Code: waybill.ResourceGroupNotFound, Field: "ResourceGroupId",
				Message: fmt.Sprintf("instance %s is not in resource group %s", i.ID, group),
			}
		}
	}
	return nil
}

// unreachable says why an instance cannot be reached by definition, whatever the deadline; NoCause if it may be. An
// agent that is silent or upgrading may be back in time.
func unreachable(i waybill.Instance, known bool, now time.Time, what cargo) (waybill.Cause, string) {
	switch {
	case !known:
		return waybill.CauseUnknown, "no such instance in this account and region"
	case i.State == waybill.Deregistered:
		return waybill.CauseReleased, fmt.Sprintf("%s was deregistered", i.Name)
	case i.State == waybill.Quarantine:
		return waybill.CauseAgentStopped, quarantineDetail
	case i.Presence == waybill.ShutDown:
		return waybill.CauseShutDown, fmt.Sprintf("%s shut down at %s", i.Name, clock(i.LastSeen))
	case i.Presence == waybill.Stopped:
		return waybill.CauseAgentStopped, fmt.Sprintf("the agent on %s was stopped at %s; start it with: systemctl start %s", i.Name, clock(i.LastSeen), i.Agent.Unit())
	case i.Presence == waybill.NoChannel && now.Sub(i.LastSeen) > waybill.SilentAfter:
		return waybill.CauseAgentStopped, fmt.Sprintf("the agent on %s has no channel, and its last heartbeat came at %s; start it with: systemctl start %s", i.Name, clock(i.LastSeen), i.Agent.Unit())
	case i.Presence != waybill.NeverSeen && i.Facts.Capability < wire.MinCapability:
		return waybill.CauseAgentTooOld, fmt.Sprintf("on %s: %s", i.Name, tooOld(&i.Facts))
	case i.Presence != waybill.NeverSeen && what.refusal(&i) != "":
		return waybill.CauseAgentTooOld, fmt.Sprintf("on %s: %s", i.Name, what.refusal(&i))
	}
	return waybill.NoCause, ""
}

// tooOld says why an agent cannot be used.
func tooOld(f *waybill.Facts) string {
	return fmt.Sprintf("the agent, version %s, has capability %d, at least %d is needed; install a newer agent",
		f.AgentVersion, f.Capability, wire.MinCapability)
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// message is the Deliver message of d, the same for every instance that is at this attempt.
func (s *Service) message(d *store.Dispatch) (wire.Deliver, error) {
	mode, err := waybill.ParseMode(d.File.Mode)
	if err != nil {
		return wire.Deliver{}, fmt.Errorf("delivery %s: %w", d.ID, err) // it was validated when it was accepted
	}
	m := wire.Deliver{
		Delivery: wire.AttemptID(string(d.ID), d.Attempt), Sent: s.now().UnixMilli(), Deadline: d.Deadline.UnixMilli(),
		Name: d.File.Name, TargetDir: d.File.TargetDir, Content: d.Data, SHA256: d.SHA256[:],
		Owner: d.File.Owner, Group: d.File.Group, Mode: waybill.ModeBits(mode), Overwrite: d.File.Overwrite,
	}
	if d.Size > wire.MaxContent {
		m.Content, m.Size = nil, d.Size
	}
	if d.DryRun {
		m.SHA256, m.Rehearse, m.Diff = nil, d.SHA256[:], d.Diff
	}
	return m, nil
}

// tell publishes d to instances, and counts it as of that kind. What gets lost is repeated later, so an error is only
// logged.
func (s *Service) tell(ctx context.Context, d *store.Dispatch, instances []waybill.InstanceID, kind string) {
	if len(instances) == 0 {
		return
	}
	m, err := s.message(d)
	if err != nil {
		s.log.Error("encode delivery", "delivery_id", d.ID, "err", err)
		return
	}
	ctx, span := telemetry.Child(ctx, telemetry.Produces, "publish deliver")
	defer span.End(nil)
	span.String("messaging.system", "nats")
	span.String("messaging.operation.type", "send")
	span.Int("messaging.batch.message_count", len(instances))
	span.String("waybill.delivery.id", m.Delivery)
	m.Trace = telemetry.TraceParent(ctx)
	b := wire.Encode(m)
	published := s.metrics.published.WithLabelValues(kind)
	for _, id := range instances {
		if err := s.bus.Publish(wire.ToAgent(string(id), wire.OpDeliver), b); err != nil {
			s.log.Warn("publish delivery; it will be repeated", "delivery_id", d.ID, "instance_id", id, "err", err)
			span.Fail("publish")
			return
		}
		published.Inc()
	}
}
