// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/policy"
	"github.com/openwaybill/waybill/internal/store"
)

// systemPolicies returns what comes with this program.
var systemPolicies = sync.OnceValue(policy.SystemPolicies)

// systemPolicy returns the system policy of that name.
func systemPolicy(name string) (policy.SystemPolicy, bool) {
	i := slices.IndexFunc(systemPolicies(), func(p policy.SystemPolicy) bool { return p.Name == name })
	if i < 0 {
		return policy.SystemPolicy{}, false
	}
	return systemPolicies()[i], true
}

// systemPolicyOf returns it as accounts see it.
func systemPolicyOf(p policy.SystemPolicy) waybill.Policy {
	return waybill.Policy{PolicyName: p.PolicyName, Description: p.Description, Document: p.Text, Version: 1}
}

// The rules of RAM (CreatePolicy, PolicyName and Description): a pattern, and lengths in characters.
var policyNamePattern = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

const (
	maxPolicyName  = 128
	maxDescription = 1024
)

func checkText(field, text string, limit int) error {
	if n := utf8.RuneCountInString(text); n > limit {
		return &waybill.Error{Code: waybill.TextTooLong, Field: field, Message: fmt.Sprintf("%s has %d characters, at most %d are allowed", field, n, limit)}
	}
	return nil
}

func checkDocument(text string) error {
	if err := checkText("PolicyDocument", text, policy.MaxDocument); err != nil {
		return err
	}
	if _, err := policy.Parse(text); err != nil {
		return &waybill.Error{Code: waybill.PolicyDocument, Field: "PolicyDocument", Message: err.Error()}
	}
	return nil
}

// CreatePolicy makes a policy of the caller's account.
func (s *Service) CreatePolicy(ctx context.Context, act *waybill.Act, name, description, document string) (waybill.Policy, error) {
	if err := checkText("PolicyName", name, maxPolicyName); err != nil {
		return waybill.Policy{}, err
	}
	if !policyNamePattern.MatchString(name) {
		return waybill.Policy{}, &waybill.Error{Code: waybill.PolicyNameInvalid, Field: "PolicyName", Message: "a policy name has 1 to 128 letters, digits and -"}
	}
	like := func(p policy.SystemPolicy) bool { return strings.EqualFold(p.Name, name) }
	if slices.ContainsFunc(systemPolicies(), like) {
		return waybill.Policy{}, waybill.Errorf(waybill.PolicyExists, "%s is the name of a system policy", name)
	}
	if err := checkText("Description", description, maxDescription); err != nil {
		return waybill.Policy{}, err
	}
	if err := checkDocument(document); err != nil {
		return waybill.Policy{}, err
	}
	now := s.now()
	p := waybill.Policy{
		PolicyName: waybill.PolicyName{Type: waybill.CustomPolicy, Name: name}, Description: description, Document: document,
		Version: 1, Created: now, Updated: now,
	}
	act.Subject = name
	err := s.store.For(act, nil).AddPolicy(ctx, act.Account, p, s.cfg.Policies)
	return p, policyError(err, name, s.cfg.Policies)
}

func policyError(err error, name string, limit int) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return waybill.Errorf(waybill.PolicyNotFound, "no policy %s", name)
	case errors.Is(err, store.ErrExists):
		return waybill.Errorf(waybill.PolicyExists, "there is a policy %s already", name)
	case errors.Is(err, store.ErrLimit):
		return waybill.Errorf(waybill.PolicyQuota, "the account has %d policies already", limit)
	}
	return err
}

// Policy returns a policy of the caller's account, or a system policy.
func (s *Service) Policy(ctx context.Context, who waybill.Principal, n waybill.PolicyName) (waybill.Policy, error) {
	if n.Type == waybill.SystemPolicy {
		p, ok := systemPolicy(n.Name)
		if !ok {
			return waybill.Policy{}, policyError(store.ErrNotFound, n.Name, 0)
		}
		all, err := s.store.AttachmentsTo(ctx, who.Account, n)
		v := systemPolicyOf(p)
		v.Attachments = len(all)
		return v, err
	}
	p, err := s.store.Policy(ctx, who.Account, n.Name)
	return p, policyError(err, n.Name, 0)
}

// Policies returns a page of the policies of one type, or of both: first the system's, then the account's own by name.
func (s *Service) Policies(ctx context.Context, who waybill.Principal, t waybill.PolicyType, p Page) (list Listing[waybill.Policy], err error) {
	// A cursor is the number of the next system policy, or a dot and the cursor among the account's own.
	own, inOwn := strings.CutPrefix(p.Cursor, ".")
	if t != waybill.CustomPolicy && !inOwn {
		first, _ := strconv.Atoi(p.Cursor) // front ends sign cursors; the empty one is 0
		for i := first; i < len(systemPolicies()); i++ {
			if len(list.Items) == p.Size {
				list.Next = strconv.Itoa(i)
				return list, nil
			}
			v, err := s.Policy(ctx, who, systemPolicies()[i].PolicyName)
			if err != nil {
				return list, err
			}
			list.Items = append(list.Items, v)
		}
	}
	if t == waybill.SystemPolicy {
		return list, nil
	}
	if len(list.Items) == p.Size {
		list.Next = "."
		return list, nil
	}
	rest, err := s.store.Policies(ctx, who.Account, Page{Size: p.Size - len(list.Items), Cursor: own})
	list.Items = append(list.Items, rest.Items...)
	if rest.Next != "" {
		list.Next = "." + rest.Next
	}
	return list, err
}

// UpdatePolicy replaces the document of a policy of the caller's account. It holds from the next request on.
func (s *Service) UpdatePolicy(ctx context.Context, act *waybill.Act, name, document string) (waybill.Policy, error) {
	if err := refuseSystem(name); err != nil {
		return waybill.Policy{}, err
	}
	if err := checkDocument(document); err != nil {
		return waybill.Policy{}, err
	}
	act.Subject = name
	if err := s.store.For(act, nil).UpdatePolicy(ctx, act.Account, name, document); err != nil {
		return waybill.Policy{}, policyError(err, name, 0)
	}
	p, err := s.store.Policy(ctx, act.Account, name)
	return p, policyError(err, name, 0)
}

func refuseSystem(name string) error {
	if _, system := systemPolicy(name); system {
		return waybill.Errorf(waybill.PolicyIsSystem, "%s comes with the server and cannot be changed", name)
	}
	return nil
}

// DeletePolicy removes a policy of the caller's account that is attached to nothing.
func (s *Service) DeletePolicy(ctx context.Context, act *waybill.Act, name string) error {
	if err := refuseSystem(name); err != nil {
		return err
	}
	act.Subject = name
	err := s.store.For(act, nil).DeletePolicy(ctx, act.Account, name)
	if errors.Is(err, store.ErrLimit) {
		return s.attachedTo(ctx, act, name)
	}
	return policyError(err, name, 0)
}

// attachedTo says to what a policy is attached.
func (s *Service) attachedTo(ctx context.Context, act *waybill.Act, name string) error {
	all, err := s.store.AttachmentsTo(ctx, act.Account, waybill.PolicyName{Type: waybill.CustomPolicy, Name: name})
	if err != nil {
		return err
	}
	field, names := "User", make([]string, len(all))
	for i, a := range all {
		names[i] = fmt.Sprintf("%s %s", a.Kind, a.Name)
		if a.Kind == waybill.GroupEntity {
			field = "Group"
		}
	}
	return &waybill.Error{Code: waybill.PolicyAttached, Field: field, Message: fmt.Sprintf("policy %s is attached to %s; detach it first", name, strings.Join(names, ", "))}
}

// AttachPolicy attaches a policy to a user or a group. It holds from the next request on.
func (s *Service) AttachPolicy(ctx context.Context, act *waybill.Act, n waybill.PolicyName, to waybill.Entity) error {
	if n.Type == waybill.SystemPolicy {
		if _, ok := systemPolicy(n.Name); !ok {
			return policyError(store.ErrNotFound, n.Name, 0)
		}
	}
	act.Subject = n.Name
	err := s.store.For(act, nil).Attach(ctx, act.Account, to, n, s.cfg.Attachments)
	switch {
	case errors.Is(err, store.ErrNoEntity):
		return entityError(to)
	case errors.Is(err, store.ErrNoPolicy):
		return policyError(store.ErrNotFound, n.Name, 0)
	case errors.Is(err, store.ErrExists):
		return &waybill.Error{Code: waybill.AttachedAlready, Field: string(to.Kind), Message: fmt.Sprintf("policy %s is attached to %s %s already", n.Name, to.Kind, to.Name)}
	case errors.Is(err, store.ErrLimit):
		return &waybill.Error{Code: waybill.AttachmentQuota, Field: string(to.Kind), Message: fmt.Sprintf("%s %s has %d policies already", to.Kind, to.Name, s.cfg.Attachments)}
	}
	return err
}

// entityError says that a user or group is not there.
func entityError(e waybill.Entity) error {
	if e.Kind == waybill.GroupEntity {
		return waybill.Errorf(waybill.GroupNotFound, "no group %s", e.Name)
	}
	return waybill.Errorf(waybill.UserNotFound, "no user %s", e.Name)
}

// DetachPolicy is the opposite of AttachPolicy.
func (s *Service) DetachPolicy(ctx context.Context, act *waybill.Act, n waybill.PolicyName, from waybill.Entity) error {
	if err := s.mustExist(ctx, act.Account, from); err != nil {
		return err
	}
	if _, err := s.Policy(ctx, act.Principal, n); err != nil {
		return err
	}
	act.Subject = n.Name
	err := s.store.For(act, nil).Detach(ctx, act.Account, from, n)
	if errors.Is(err, store.ErrNotFound) {
		return &waybill.Error{Code: waybill.NotAttached, Field: string(from.Kind), Message: fmt.Sprintf("policy %s is not attached to %s %s", n.Name, from.Kind, from.Name)}
	}
	return err
}

func (s *Service) mustExist(ctx context.Context, account waybill.AccountID, e waybill.Entity) error {
	var err error
	if e.Kind == waybill.GroupEntity {
		_, err = s.store.UserGroup(ctx, account, e.Name)
	} else {
		_, err = s.store.User(ctx, account, e.Name)
	}
	if errors.Is(err, store.ErrNotFound) {
		return entityError(e)
	}
	return err
}

// PoliciesOf returns the policies that are attached to a user or a group itself.
func (s *Service) PoliciesOf(ctx context.Context, who waybill.Principal, e waybill.Entity) ([]waybill.Attachment, error) {
	if err := s.mustExist(ctx, who.Account, e); err != nil {
		return nil, err
	}
	all, err := s.store.AttachmentsOf(ctx, who.Account, e)
	for i := range all {
		if p, ok := systemPolicy(all[i].Policy.Name); ok && all[i].Policy.Type == waybill.SystemPolicy {
			all[i].Policy = systemPolicyOf(p)
		}
	}
	slices.SortStableFunc(all, func(a, b waybill.Attachment) int { return cmp.Compare(a.Policy.Name, b.Policy.Name) })
	return all, err
}

// EntitiesOf returns what a policy is attached to.
func (s *Service) EntitiesOf(ctx context.Context, who waybill.Principal, n waybill.PolicyName) ([]waybill.Attachment, error) {
	if _, err := s.Policy(ctx, who, n); err != nil {
		return nil, err
	}
	return s.store.AttachmentsTo(ctx, who.Account, n)
}
