// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/wire"
)

// NewActivation is an activation with its code, which is known at no other time.
type NewActivation struct {
	waybill.Activation
	Code string
}

// CreateActivation makes an activation and returns it with its code, which is not shown again but to a repetition of the
// same request, known by the token of act. A zero InstanceCount or TTL takes the published default; ID, Account, Created
// and the counts are set here.
func (s *Service) CreateActivation(ctx context.Context, act *waybill.Act, a waybill.Activation) (NewActivation, error) {
	return once(ctx, s, act, func() (NewActivation, error) { return s.createActivation(ctx, act, a) })
}

func (s *Service) createActivation(ctx context.Context, act *waybill.Act, a waybill.Activation) (NewActivation, error) {
	if a.InstanceCount == 0 {
		a.InstanceCount = waybill.DefaultInstanceCount
	}
	if a.TTL == 0 {
		a.TTL = waybill.DefaultActivationTTL
	}
	if err := a.Validate(s.cfg.Activations); err != nil {
		return NewActivation{}, err
	}
	if err := s.mustBeGroup(ctx, act.Account, a.ResourceGroup); err != nil {
		return NewActivation{}, err
	}
	if limit := s.cfg.Instances; limit > 0 {
		n, err := s.store.InstanceCount(ctx, act.Account, a.Region)
		if err != nil {
			return NewActivation{}, fmt.Errorf("create activation: %w", err)
		}
		if n >= limit {
			return NewActivation{}, &waybill.Error{Code: waybill.InstanceQuota, Message: strconv.Itoa(limit)}
		}
	}
	a.ID, a.Account, a.Created = identity.NewActivationID(), act.Account, s.now()
	created := NewActivation{a, identity.NewActivationCode(identity.RegionMark(a.Region))}
	act.Subject = string(a.ID)
	st, err := writeFor(s, act, created)
	if err != nil {
		return NewActivation{}, err
	}
	err = st.AddActivation(ctx, a, identity.HashCode(created.Code), s.cfg.Activations.PerRegion)
	if errors.Is(err, store.ErrLimit) {
		return NewActivation{}, &waybill.Error{Code: waybill.ActivationQuota, Message: strconv.Itoa(s.cfg.Activations.PerRegion)}
	}
	if err != nil {
		return NewActivation{}, fmt.Errorf("create activation: %w", err)
	}
	return created, nil
}

// Activations returns a page of the caller's activations.
func (s *Service) Activations(ctx context.Context, who waybill.Principal, f ActivationFilter, p Page) (Listing[waybill.Activation], error) {
	return s.store.Activations(ctx, who.Account, f, p)
}

// DisableActivation stops an activation from enrolling more machines; those it has stay.
func (s *Service) DisableActivation(ctx context.Context, act *waybill.Act, id waybill.ActivationID) (waybill.Activation, error) {
	if err := s.store.For(act, nil).DisableActivation(ctx, act.Account, act.Region, id); err != nil {
		return waybill.Activation{}, activationError(err, id)
	}
	a, _, err := s.store.Activation(ctx, id)
	return a, err
}

// DeleteActivation removes an activation with which no machine has enrolled, and returns what it was.
func (s *Service) DeleteActivation(ctx context.Context, act *waybill.Act, id waybill.ActivationID) (waybill.Activation, error) {
	a, _, err := s.store.Activation(ctx, id)
	if err == nil && (a.Account != act.Account || a.Region != act.Region) {
		err = store.ErrNotFound
	}
	if err != nil {
		return waybill.Activation{}, activationError(err, id)
	}
	err = s.store.For(act, nil).DeleteActivation(ctx, act.Account, act.Region, id)
	if errors.Is(err, store.ErrNotFound) { // it was there a moment ago, so machines have enrolled with it
		return waybill.Activation{}, waybill.Errorf(waybill.ActivationInUse, "%d machines have enrolled with activation %s; disable it instead", max(a.Registered, 1), id)
	}
	return a, err
}

func activationError(err error, id waybill.ActivationID) error {
	if errors.Is(err, store.ErrNotFound) {
		return waybill.Errorf(waybill.ActivationNotFound, "no activation %s", id)
	}
	return err
}

// Instances returns a page of the caller's instances.
func (s *Service) Instances(ctx context.Context, who waybill.Principal, f InstanceFilter, p Page) (Listing[waybill.Instance], error) {
	return s.store.Instances(ctx, who.Account, f, p)
}

// instance returns one instance of the caller's fleet.
func (s *Service) instance(ctx context.Context, who waybill.Principal, region string, id waybill.InstanceID) (waybill.Instance, error) {
	list, err := s.store.Instances(ctx, who.Account, InstanceFilter{Region: region, IDs: []waybill.InstanceID{id}}, Page{Size: 1})
	if err == nil && len(list.Items) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return waybill.Instance{}, instanceError(err, id)
	}
	return list.Items[0], nil
}

// AnyInstance returns an instance in any state, without tags and counts.
func (s *Service) AnyInstance(ctx context.Context, id waybill.InstanceID) (waybill.Instance, error) {
	i, err := s.store.Instance(ctx, id)
	return i, instanceError(err, id)
}

func instanceError(err error, id waybill.InstanceID) error {
	if errors.Is(err, store.ErrNotFound) {
		return waybill.Errorf(waybill.InstanceNotFound, "no instance %s", id)
	}
	return err
}

// RenameInstance gives an instance another name.
func (s *Service) RenameInstance(ctx context.Context, act *waybill.Act, id waybill.InstanceID, name string) (waybill.Instance, error) {
	if err := waybill.CheckInstanceName(name); err != nil {
		return waybill.Instance{}, err
	}
	if err := s.store.For(act, nil).RenameInstance(ctx, act.Account, act.Region, id, name); err != nil {
		return waybill.Instance{}, instanceError(err, id)
	}
	return s.instance(ctx, act.Principal, act.Region, id)
}

// Deregister takes an instance out of the fleet for good: its agent is cut off at once, and what is open for it ends
// with CauseReleased. It returns what the instance was, also to a repetition that is known by the token of act.
func (s *Service) Deregister(ctx context.Context, act *waybill.Act, id waybill.InstanceID) (waybill.Instance, error) {
	return once(ctx, s, act, func() (waybill.Instance, error) {
		i, err := s.instance(ctx, act.Principal, act.Region, id)
		if err != nil {
			return waybill.Instance{}, err
		}
		st, err := writeFor(s, act, i)
		if err != nil {
			return waybill.Instance{}, err
		}
		return i, s.leave(ctx, st, i, waybill.Deregistered, waybill.CauseReleased, fmt.Sprintf("%s was deregistered", i.Name))
	})
}

// Leave is Deregister by the agent itself, which calls from an address.
func (s *Service) Leave(ctx context.Context, id waybill.InstanceID, from netip.Addr) error {
	i, err := s.store.Instance(ctx, id)
	if err != nil {
		return instanceError(err, id)
	}
	act := s.serverAct(waybill.AgentActor, string(id), actionLeave, i.Account, i.Region, instanceARN(&i))
	act.SourceIP = from
	return s.leave(ctx, s.store.For(act, nil), i, waybill.Deregistered, waybill.CauseReleased, fmt.Sprintf("%s deregistered itself", i.Name))
}

// leave is all or nothing for the caller, who may hang up: once the instance has left, the rest is done. st is the store
// as whoever wants it uses it.
func (s *Service) leave(ctx context.Context, st *store.Store, i waybill.Instance, to waybill.InstanceState, cause waybill.Cause, detail string) error {
	if err := st.LeaveFleet(ctx, i.ID, to); err != nil {
		if errors.Is(err, store.ErrTokenUsed) {
			return err
		}
		return instanceError(err, i.ID)
	}
	s.log.Info("instance left the fleet", "instance_id", i.ID, "state", to)
	ctx = context.WithoutCancel(ctx)
	revoked := s.bus.Revoke(i.PublicKey, s.now())
	if revoked != nil {
		revoked = fmt.Errorf("revoke %s: %w", i.ID, revoked)
	}
	if err := s.bus.Publish(wire.ToAgent(string(i.ID), wire.OpReleased), nil); err != nil {
		s.log.Warn("publish release", "instance_id", i.ID, "err", err) // it is refused whatever it asks
	}
	return errors.Join(revoked, s.endOpen(ctx, cause, detail, func() ([]store.Target, error) {
		return s.store.OpenTargets(ctx, i.ID, sweepBatch)
	}))
}

// CreateInstanceToken returns a new token, by which the official agent of an instance is known in place of its signature.
// It is not shown again but to a repetition of the same request, known by the token of act. An earlier one ends.
func (s *Service) CreateInstanceToken(ctx context.Context, act *waybill.Act, id waybill.InstanceID) (string, error) {
	return once(ctx, s, act, func() (string, error) {
		token := identity.NewInstanceToken(string(id))
		st, err := writeFor(s, act, token)
		if err != nil {
			return "", err
		}
		return token, s.setAgentToken(ctx, st, act, id, identity.HashCode(token))
	})
}

// DeleteInstanceToken ends the token of an instance, if it has one.
func (s *Service) DeleteInstanceToken(ctx context.Context, act *waybill.Act, id waybill.InstanceID) error {
	return s.setAgentToken(ctx, s.store.For(act, nil), act, id, nil)
}

// setAgentToken changes the token of an instance, and ends the channel that was opened with an earlier one.
func (s *Service) setAgentToken(ctx context.Context, st *store.Store, act *waybill.Act, id waybill.InstanceID, hash []byte) error {
	i, err := s.instance(ctx, act.Principal, act.Region, id)
	if err != nil {
		return err
	}
	if i.Agent != waybill.OfficialAgent {
		return waybill.Errorf(waybill.Forbidden, "instance %s runs waybill-agent, which needs no token", id)
	}
	if err := st.SetAgentToken(ctx, act.Account, act.Region, id, hash); err != nil {
		return instanceError(err, id)
	}
	if err := s.bus.Publish(wire.ToAgent(string(id), wire.OpRenew), nil); err != nil {
		s.log.Warn("publish that a token has changed", "instance_id", id, "err", err) // what it asks is refused
	}
	return nil
}

// EnrollRequest is a machine asking to become an instance.
type EnrollRequest struct {
	Activation waybill.ActivationID
	Code       string
	Agent      waybill.AgentKind // empty: NativeAgent
	PublicKey  string            // see waybill.Instance; the caller has checked that the machine holds it, where it can
	AgentKey   []byte            // likewise
	Name       string            // empty: the activation's prefix and a number, or the host name
	Tags       []waybill.Tag
	Facts      waybill.Facts
	From       netip.Addr
}

// refused is the answer to a wrong activation ID and to a wrong code alike: it must not tell which IDs exist.
func refused() error {
	return waybill.Errorf(waybill.EnrolRefused, "the activation ID or the code is wrong; create an activation with: waybill activations create")
}

// Enroll makes a machine an instance. A key that has enrolled with the same activation before gets its instance again,
// so a machine may repeat a request whose answer it did not get.
func (s *Service) Enroll(ctx context.Context, req EnrollRequest) (waybill.Instance, error) {
	a, hash, err := s.store.Activation(ctx, req.Activation)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return waybill.Instance{}, fmt.Errorf("enrol: %w", err)
	}
	if err != nil || !identity.VerifyCode(req.Code, hash) {
		return waybill.Instance{}, refused()
	}
	if err := a.Allows(req.From, s.now()); err != nil {
		return waybill.Instance{}, err
	}
	account, err := s.store.Account(ctx, a.Account)
	if err != nil {
		return waybill.Instance{}, fmt.Errorf("enrol: %w", err)
	}
	if account.Disabled {
		return waybill.Instance{}, waybill.Errorf(waybill.EnrolRefused, "the account of activation %s is disabled", a.ID)
	}
	if req.Name != "" {
		if err := waybill.CheckInstanceName(req.Name); err != nil {
			return waybill.Instance{}, err
		}
	}
	tags := mergeTags(a.Tags, req.Tags)
	if err := waybill.CheckTags(tags); err != nil {
		return waybill.Instance{}, err
	}
	i := waybill.Instance{
		ID: identity.NewInstanceID(identity.RegionMark(a.Region)), Account: a.Account, Region: a.Region, Activation: a.ID,
		Agent: cmp.Or(req.Agent, waybill.NativeAgent), AgentKey: req.AgentKey,
		State: waybill.Registered, Facts: req.Facts, InternetIP: req.From.Unmap().String(), PublicKey: req.PublicKey,
		ResourceGroup: a.ResourceGroup, Tags: tags, Registered: s.now(), Presence: waybill.NeverSeen,
	}
	act := s.serverAct(waybill.AgentActor, string(a.ID), actionEnrol, a.Account, a.Region, activationARN(&a))
	act.SourceIP, act.Subject = req.From, string(i.ID)
	i, err = s.store.For(act, nil).Enrol(ctx, i, s.cfg.Instances, func(before int) string { return instanceName(req, a, before) })
	switch {
	case errors.Is(err, store.ErrLimit):
		return waybill.Instance{}, waybill.Errorf(waybill.EnrolRefused, "activation %s has enrolled all of its %d machines", a.ID, a.InstanceCount)
	case errors.Is(err, store.ErrQuota):
		return waybill.Instance{}, waybill.Errorf(waybill.EnrolRefused, "the account has %d machines in region %s, and no room for more", s.cfg.Instances, a.Region)
	case errors.Is(err, store.ErrExists):
		return s.enrolled(ctx, act, i, &a)
	case err != nil:
		return waybill.Instance{}, fmt.Errorf("enrol: %w", err)
	}
	s.log.Info("instance enrolled", "instance_id", i.ID, "activation_id", a.ID, "from", req.From)
	return i, nil
}

// enrolled answers a machine whose key has enrolled before.
func (s *Service) enrolled(ctx context.Context, act *waybill.Act, i waybill.Instance, a *waybill.Activation) (waybill.Instance, error) {
	if i.State != waybill.Registered || i.Activation != a.ID {
		return waybill.Instance{}, waybill.Errorf(waybill.EnrolRefused, "the key of this machine belongs to instance %s already; remove the identity that is on it, or enrol with: waybill-agent enroll --force", i.ID)
	}
	act.Subject = string(i.ID)
	if err := s.store.Record(ctx, act, waybill.AuditRepeated); err != nil {
		return waybill.Instance{}, fmt.Errorf("enrol: %w", err)
	}
	return i, nil
}

// instanceName is the name asked for; else the activation's prefix with a number of as many digits as the activation's
// count needs, three at least; else the host name, where that is a valid name.
func instanceName(req EnrollRequest, a waybill.Activation, before int) string {
	switch {
	case req.Name != "":
		return req.Name
	case a.InstanceName != "":
		return fmt.Sprintf("%s-%0*d", a.InstanceName, max(3, len(strconv.Itoa(a.InstanceCount))), before+1)
	case waybill.CheckInstanceName(req.Facts.Hostname) == nil:
		return req.Facts.Hostname
	}
	return fmt.Sprintf("instance-%03d", before+1)
}

// mergeTags returns the activation's tags, and those of the machine's own that it does not set: who gives out a code
// decides what its machines are, not who uses it.
func mergeTags(activation, own []waybill.Tag) []waybill.Tag {
	merged := slices.Clone(activation)
	for _, t := range own {
		if !slices.ContainsFunc(activation, func(a waybill.Tag) bool { return a.Key == t.Key }) {
			merged = append(merged, t)
		}
	}
	return merged
}

// InstanceByKey returns the instance whose agent holds that key; NotRegistered or Quarantined if it may not connect.
func (s *Service) InstanceByKey(ctx context.Context, publicKey string) (waybill.Instance, error) {
	i, err := s.store.InstanceByKey(ctx, publicKey)
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && i.State == waybill.Deregistered:
		return waybill.Instance{}, waybill.Errorf(waybill.NotRegistered, "this machine is not registered; enrol it again with: waybill-agent enroll --force")
	case err != nil:
		return waybill.Instance{}, fmt.Errorf("read instance: %w", err)
	case i.State == waybill.Quarantine:
		return waybill.Instance{}, waybill.Errorf(waybill.Quarantined, "%s", quarantineDetail)
	}
	return i, nil
}
