// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/openwaybill/waybill"
)

// Targets says which instances of a region a file is meant for, in exactly one of three ways. Repeated ones count once.
type Targets struct {
	Region    string
	Instances []waybill.InstanceID // named one by one
	List      []waybill.InstanceID // named together, which may be many more
	Selector  waybill.Selector     // all that match
	// ResourceGroup is the one that a delivery is made for: every instance that is known must belong to it. Empty: none.
	ResourceGroup string
}

// recipient is an instance that a file is meant for, as store.Recipients tells of it. Of one that is not known there is
// only the ID.
type recipient struct {
	waybill.Instance
	known bool
}

// check refuses what can be refused without looking at instances.
func (t *Targets) check(limits waybill.Limits) error {
	switch by := t.parameters(); {
	case len(by) == 0:
		return waybill.Errorf(waybill.InstancesMissing, "no instance is given")
	case len(by) > 1 && (len(t.Instances) > 0 || len(t.List) > 0):
		return waybill.Errorf(waybill.TargetsConflict, "%s cannot be given together with %s", by[0], by[1])
	case len(t.Instances) > limits.Instances:
		return waybill.Errorf(waybill.InstancesTooMany, "%d instances are given, at most %d are allowed", len(t.Instances), limits.Instances)
	case len(t.List) > limits.Targets:
		return tooManyTargets(len(t.List), limits.Targets)
	}
	return waybill.CheckTags(t.Selector.Tags)
}

// parameters names the request parameters by which instances are given; those that name them come first.
func (t *Targets) parameters() (names []string) {
	s := &t.Selector
	for _, p := range []struct {
		given bool
		name  string
	}{
		{len(t.Instances) > 0, "InstanceId"},
		{len(t.List) > 0, "InstanceIds"},
		{len(s.Tags) > 0, "ResourceTag"},
		{s.Name != "", "InstanceName"},
		{s.Activation != "", "ActivationId"},
		{s.ResourceGroup != "", "TargetResourceGroupId"},
		{s.All, "AllInstances"},
	} {
		if p.given {
			names = append(names, p.name)
		}
	}
	return names
}

func tooManyTargets(n, limit int) error {
	return waybill.Errorf(waybill.TargetsTooMany, "%d instances are meant, at most %d are allowed", n, limit)
}

// recipients returns the instances that are meant: those that are named in the order in which they are, those selected in
// the order of their IDs. It is the only place where this is found out, so a preview cannot differ from a delivery.
//
// The request itself has been authorized for what it names one by one. For all the others this asks the policies of whoever
// makes act about each, as if it had been named: one that is not allowed refuses the whole, as it does there. requestTags
// are the tags that act puts on something.
func (s *Service) recipients(ctx context.Context, act *waybill.Act, t *Targets, requestTags []waybill.Tag) ([]recipient, error) {
	if err := s.mustBeGroup(ctx, act.Account, t.ResourceGroup); err != nil {
		return nil, err
	}
	var list []recipient
	var err error
	switch {
	case !t.Selector.Empty():
		list, err = s.selected(ctx, act, t, requestTags)
	case len(t.List) > 0:
		ids := unique(t.List)
		if err := s.authorizeEach(ctx, act, t, ids, requestTags); err != nil {
			return nil, err
		}
		list, err = s.named(ctx, act, t, ids)
	default:
		list, err = s.named(ctx, act, t, unique(t.Instances))
	}
	if err != nil {
		return nil, err
	}
	return list, checkGroup(t.ResourceGroup, list)
}

// named returns the instances with these IDs, which must be different ones, known or not.
func (s *Service) named(ctx context.Context, act *waybill.Act, t *Targets, ids []waybill.InstanceID) ([]recipient, error) {
	known, err := s.store.Recipients(ctx, act.Account, t.Region, ids)
	if err != nil {
		return nil, err
	}
	if len(known) == 0 {
		return nil, waybill.Errorf(waybill.InstanceNotFound, "none of the instances exists")
	}
	list := make([]recipient, len(ids))
	for n, id := range ids {
		i, ok := known[id]
		i.ID = id
		list[n] = recipient{i, ok}
	}
	return list, nil
}

// selected returns the instances that match a selector.
func (s *Service) selected(ctx context.Context, act *waybill.Act, t *Targets, requestTags []waybill.Tag) ([]recipient, error) {
	if err := s.mustBeGroup(ctx, act.Account, t.Selector.ResourceGroup); err != nil {
		return nil, err
	}
	found, total, err := s.store.Select(ctx, act.Account, t.Selector.Filter(t.Region), s.cfg.Limits.Targets)
	if err != nil {
		return nil, err
	}
	list, ids := make([]recipient, len(found)), make([]waybill.InstanceID, len(found))
	for n, i := range found {
		list[n], ids[n] = recipient{i, true}, i.ID
	}
	if err := s.authorizeEach(ctx, act, t, ids, requestTags); err != nil {
		return nil, err
	}
	switch {
	case len(found) > 0:
		return list, nil
	case total > 0:
		return nil, tooManyTargets(total, s.cfg.Limits.Targets)
	case t.Selector.String() == "":
		return nil, waybill.Errorf(waybill.NothingSelected, "no instance is enrolled in %s", t.Region)
	}
	return nil, waybill.Errorf(waybill.NothingSelected, "no instance in %s has %s", t.Region, &t.Selector)
}

// authorizeBatch is how many instances are looked up and decided on together.
const authorizeBatch = 1000

// authorizeEach returns nil if whoever makes act may do it to each of ids. Otherwise it returns a *Denial, which names an
// instance only to whom has named it: what else there is, is not for everybody to know.
//
// Of a selector that has hit nothing that may be told, it asks about an instance that has what the selector looks for. So
// whoever may not send to such instances learns nothing about whether there are any.
func (s *Service) authorizeEach(ctx context.Context, act *waybill.Act, t *Targets, ids []waybill.InstanceID, requestTags []waybill.Tag) error {
	j, err := s.judge(ctx, act, requestTags)
	if err != nil || j.free() {
		return err
	}
	anyOf := fmt.Sprintf("acs:ecs:%s:%s:instance/", t.Region, act.Account)
	if len(ids) == 0 {
		if d := j.check(anyOf+"*", tagMap(t.Selector.Tags)); d != nil {
			return d
		}
	}
	for batch := range slices.Chunk(ids, authorizeBatch) {
		arns := make([]string, len(batch))
		for n, id := range batch {
			arns[n] = anyOf + string(id)
		}
		tags, err := j.tagsOf(ctx, arns)
		if err != nil {
			return err
		}
		for _, arn := range arns {
			d := j.check(arn, tags[arn])
			if d == nil {
				continue
			}
			if !t.Selector.Empty() {
				d.Resource = anyOf + "*"
			}
			return d
		}
	}
	return nil
}

// diffAction is what whoever asks for a diff must be allowed to do beside sending: it shows what is on the machines.
const diffAction = "waybill:DiffFile"

// authorizeDiff returns nil if whoever makes act may see what is on the machines of list.
func (s *Service) authorizeDiff(ctx context.Context, act *waybill.Act, t *Targets, list []recipient, requestTags []waybill.Tag) error {
	diffing := *act
	diffing.Action = diffAction
	ids := make([]waybill.InstanceID, len(list))
	for n := range list {
		ids[n] = list[n].ID
	}
	return s.authorizeEach(ctx, &diffing, t, ids, requestTags)
}

// plan says what happens at once to what is sent to r at some time: it ends with a cause, or it is
// open, and told to the machine if that is online. The others ask for what they missed when they come.
func (r *recipient) plan(now time.Time, what cargo) (cause waybill.Cause, detail string, told bool) {
	cause, detail = unreachable(r.Instance, r.known, now, what)
	return cause, detail, cause == waybill.NoCause && r.Presence == waybill.Online
}

// maxAudited is how many of the instances that were not named one by one an audit record names. All of them are targets of
// the delivery that it names too.
const maxAudited = 50

// audited returns what an audit record says that act was performed on.
func (t *Targets) audited(act *waybill.Act, list []recipient) []string {
	if len(t.Instances) > 0 {
		return act.Resources
	}
	var arns []string
	for n, r := range list {
		if n == maxAudited {
			return append(arns, fmt.Sprintf("and %d more", len(list)-maxAudited))
		}
		arns = append(arns, fmt.Sprintf("acs:ecs:%s:%s:instance/%s", t.Region, act.Account, r.ID))
	}
	return arns
}
