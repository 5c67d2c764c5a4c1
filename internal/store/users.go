// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/openwaybill/waybill"
)

// folded is what names of users, groups and policies of an account must differ in. They are known exactly as they were
// given: policies and audit records name them, and a name in another case would slip past a Deny.
func folded(name string) string { return strings.ToLower(name) }

const userColumns = `SELECT u.id, u.name, u.display_name, u.comments, u.created, u.updated FROM users u`

func scanUser(r *sql.Rows) (u waybill.User, err error) {
	var created, updated int64
	err = r.Scan(&u.ID, &u.Name, &u.DisplayName, &u.Comments, &created, &updated)
	u.Created, u.Updated = instant(created), instant(updated)
	return u, err
}

const userGroupColumns = `SELECT g.id, g.name, g.comments, g.created, g.updated FROM user_groups g`

func scanUserGroup(r *sql.Rows) (g waybill.UserGroup, err error) {
	var created, updated int64
	err = r.Scan(&g.ID, &g.Name, &g.Comments, &created, &updated)
	g.Created, g.Updated = instant(created), instant(updated)
	return g, err
}

// room returns ErrLimit if a table has limit rows of an account.
func (t *tx) room(ctx context.Context, table string, account waybill.AccountID, limit int) error {
	n, err := one(ctx, t, scanOne[int], `SELECT COUNT(*) FROM `+table+` WHERE account = ?`, account)
	if err == nil && n >= limit {
		err = ErrLimit
	}
	return err
}

// AddUser stores a new user; ErrExists if its name is taken, ErrLimit if the account has limit users.
func (s *Store) AddUser(ctx context.Context, account waybill.AccountID, u waybill.User, limit int) error {
	return s.writeAlone(ctx, accountWide(account), func(t *tx) error {
		if err := t.room(ctx, "users", account, limit); err != nil {
			return err
		}
		return mustAdd(t.exec(ctx, `INSERT INTO users (account, folded, name, id, display_name, comments, created, updated)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			account, folded(u.Name), u.Name, u.ID, u.DisplayName, u.Comments, millis(u.Created), millis(u.Updated)))
	})
}

// User returns a user; ErrNotFound if it is not there.
func (s *Store) User(ctx context.Context, account waybill.AccountID, name string) (waybill.User, error) {
	return one(ctx, s.brief, scanUser, userColumns+` WHERE u.account = ? AND u.name = ?`, account, name)
}

// Users returns a page of an account's users, or of the users of one group, by name.
func (s *Store) Users(ctx context.Context, account waybill.AccountID, group string, p waybill.Page) (waybill.Listing[waybill.User], error) {
	var w filter
	w.add("u.account = ?", account)
	if group != "" {
		w.add("u.name IN (SELECT user_name FROM group_members WHERE account = ? AND grp = ?)", account, group)
	}
	return listByName(ctx, s, "users u", userColumns, "u.name", w, p, scanUser, func(u waybill.User) string { return u.Name })
}

// UpdateUser replaces the display name and the comments of a user; ErrNotFound if it is not there.
func (s *Store) UpdateUser(ctx context.Context, account waybill.AccountID, name, displayName, comments string) error {
	return s.write(ctx, func(t *tx) error {
		return mustChange(t.exec(ctx, `UPDATE users SET display_name = ?, comments = ?, updated = ? WHERE account = ? AND name = ?`,
			displayName, comments, millis(s.now()), account, name))
	})
}

// Ties is what keeps a user or a group from being deleted.
type Ties struct {
	Keys, Groups, Users, Policies int
}

func (t Ties) any() bool { return t != Ties{} }

// DeleteUser removes a user that has no keys, groups and policies. If it has some, it returns what, and removes nothing;
// ErrNotFound if the user is not there.
func (s *Store) DeleteUser(ctx context.Context, account waybill.AccountID, name string) (ties Ties, err error) {
	err = s.writeAlone(ctx, accountWide(account), func(t *tx) error {
		ties, err = one(ctx, t, func(r *sql.Rows) (v Ties, err error) { return v, r.Scan(&v.Keys, &v.Groups, &v.Policies) }, `SELECT
			(SELECT COUNT(*) FROM access_keys WHERE account = ? AND user_name = ?),
			(SELECT COUNT(*) FROM group_members WHERE account = ? AND user_name = ?),
			(SELECT COUNT(*) FROM attachments WHERE account = ? AND entity_kind = ? AND entity = ?)`,
			account, name, account, name, account, waybill.UserEntity, name)
		if err != nil {
			return err
		}
		if ties.any() {
			return ErrLimit
		}
		return mustChange(t.exec(ctx, `DELETE FROM users WHERE account = ? AND name = ?`, account, name))
	})
	return ties, err
}

// AddUserGroup stores a new group; ErrExists if its name is taken, ErrLimit if the account has limit groups.
func (s *Store) AddUserGroup(ctx context.Context, account waybill.AccountID, g waybill.UserGroup, limit int) error {
	return s.writeAlone(ctx, accountWide(account), func(t *tx) error {
		if err := t.room(ctx, "user_groups", account, limit); err != nil {
			return err
		}
		return mustAdd(t.exec(ctx, `INSERT INTO user_groups (account, folded, name, id, comments, created, updated)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			account, folded(g.Name), g.Name, g.ID, g.Comments, millis(g.Created), millis(g.Updated)))
	})
}

// UserGroup returns a group; ErrNotFound if it is not there.
func (s *Store) UserGroup(ctx context.Context, account waybill.AccountID, name string) (waybill.UserGroup, error) {
	return one(ctx, s.reads, scanUserGroup, userGroupColumns+` WHERE g.account = ? AND g.name = ?`, account, name)
}

// UserGroups returns a page of an account's groups, or of the groups of one user, by name.
func (s *Store) UserGroups(ctx context.Context, account waybill.AccountID, user string, p waybill.Page) (waybill.Listing[waybill.UserGroup], error) {
	var w filter
	w.add("g.account = ?", account)
	if user != "" {
		w.add("g.name IN (SELECT grp FROM group_members WHERE account = ? AND user_name = ?)", account, user)
	}
	return listByName(ctx, s, "user_groups g", userGroupColumns, "g.name", w, p, scanUserGroup,
		func(g waybill.UserGroup) string { return g.Name })
}

// DeleteUserGroup is DeleteUser for a group without users and policies.
func (s *Store) DeleteUserGroup(ctx context.Context, account waybill.AccountID, name string) (ties Ties, err error) {
	err = s.writeAlone(ctx, accountWide(account), func(t *tx) error {
		ties, err = one(ctx, t, func(r *sql.Rows) (v Ties, err error) { return v, r.Scan(&v.Users, &v.Policies) }, `SELECT
			(SELECT COUNT(*) FROM group_members WHERE account = ? AND grp = ?),
			(SELECT COUNT(*) FROM attachments WHERE account = ? AND entity_kind = ? AND entity = ?)`,
			account, name, account, waybill.GroupEntity, name)
		if err != nil {
			return err
		}
		if ties.any() {
			return ErrLimit
		}
		return mustChange(t.exec(ctx, `DELETE FROM user_groups WHERE account = ? AND name = ?`, account, name))
	})
	return ties, err
}

// mustUser returns ErrNotFound if there is no such user.
func (t *tx) mustUser(ctx context.Context, account waybill.AccountID, name string) error {
	_, err := one(ctx, t, scanOne[string], `SELECT name FROM users WHERE account = ? AND name = ?`, account, name)
	return err
}

// mustEntity returns ErrNotFound if there is no such user or group.
func (t *tx) mustEntity(ctx context.Context, account waybill.AccountID, e waybill.Entity) error {
	if e.Kind == waybill.UserEntity {
		return t.mustUser(ctx, account, e.Name)
	}
	_, err := one(ctx, t, scanOne[string], `SELECT name FROM user_groups WHERE account = ? AND name = ?`, account, e.Name)
	return err
}

// AddMember puts a user into a group; ErrNotFound if one of them is not there, ErrExists if the user is in the group,
// ErrLimit if it is in limit groups.
func (s *Store) AddMember(ctx context.Context, account waybill.AccountID, group, user string, limit int) error {
	return s.writeAlone(ctx, accountWide(account), func(t *tx) error {
		for _, e := range []waybill.Entity{{Kind: waybill.UserEntity, Name: user}, {Kind: waybill.GroupEntity, Name: group}} {
			if err := t.mustEntity(ctx, account, e); err != nil {
				return err
			}
		}
		if err := mustAdd(t.exec(ctx, `INSERT INTO group_members (account, grp, user_name, joined) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			account, group, user, millis(s.now()))); err != nil {
			return err
		}
		n, err := one(ctx, t, scanOne[int], `SELECT COUNT(*) FROM group_members WHERE account = ? AND user_name = ?`, account, user)
		if err == nil && n > limit {
			err = ErrLimit
		}
		return err
	})
}

// RemoveMember takes a user out of a group; ErrNotFound if it is not in it.
func (s *Store) RemoveMember(ctx context.Context, account waybill.AccountID, group, user string) error {
	return s.write(ctx, func(t *tx) error {
		return mustChange(t.exec(ctx, `DELETE FROM group_members WHERE account = ? AND grp = ? AND user_name = ?`,
			account, group, user))
	})
}

const policyColumns = `SELECT p.name, p.description, p.document, p.version, p.created, p.updated,
	(SELECT COUNT(*) FROM attachments a WHERE a.account = p.account AND a.policy_type = 'Custom' AND a.policy = p.name) FROM policies p`

func scanPolicy(r *sql.Rows) (p waybill.Policy, err error) {
	var created, updated int64
	p.Type = waybill.CustomPolicy
	err = r.Scan(&p.Name, &p.Description, &p.Document, &p.Version, &created, &updated, &p.Attachments)
	p.Created, p.Updated = instant(created), instant(updated)
	return p, err
}

// AddPolicy stores a new policy of an account; ErrExists if its name is taken, ErrLimit if the account has limit.
func (s *Store) AddPolicy(ctx context.Context, account waybill.AccountID, p waybill.Policy, limit int) error {
	return s.writeAlone(ctx, accountWide(account), func(t *tx) error {
		if err := t.room(ctx, "policies", account, limit); err != nil {
			return err
		}
		return mustAdd(t.exec(ctx, `INSERT INTO policies (account, folded, name, description, document, version, created, updated)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			account, folded(p.Name), p.Name, p.Description, p.Document, p.Version, millis(p.Created), millis(p.Updated)))
	})
}

// Policy returns a policy of an account; ErrNotFound if it is not there.
func (s *Store) Policy(ctx context.Context, account waybill.AccountID, name string) (waybill.Policy, error) {
	return one(ctx, s.reads, scanPolicy, policyColumns+` WHERE p.account = ? AND p.name = ?`, account, name)
}

// Policies returns a page of an account's own policies by name.
func (s *Store) Policies(ctx context.Context, account waybill.AccountID, p waybill.Page) (waybill.Listing[waybill.Policy], error) {
	var w filter
	w.add("p.account = ?", account)
	return listByName(ctx, s, "policies p", policyColumns, "p.name", w, p, scanPolicy, func(p waybill.Policy) string { return p.Name })
}

// UpdatePolicy replaces the document of a policy and counts up its version; ErrNotFound if it is not there.
func (s *Store) UpdatePolicy(ctx context.Context, account waybill.AccountID, name, document string) error {
	return s.write(ctx, func(t *tx) error {
		return mustChange(t.exec(ctx, `UPDATE policies SET document = ?, version = version + 1, updated = ? WHERE account = ? AND name = ?`,
			document, millis(s.now()), account, name))
	})
}

// DeletePolicy removes a policy that is attached to nothing; ErrLimit if it is attached, ErrNotFound if it is not there.
func (s *Store) DeletePolicy(ctx context.Context, account waybill.AccountID, name string) error {
	return s.writeAlone(ctx, accountWide(account), func(t *tx) error {
		n, err := one(ctx, t, scanOne[int], `SELECT COUNT(*) FROM attachments WHERE account = ? AND policy_type = ? AND policy = ?`,
			account, waybill.CustomPolicy, name)
		if err != nil {
			return err
		}
		if n > 0 {
			return ErrLimit
		}
		return mustChange(t.exec(ctx, `DELETE FROM policies WHERE account = ? AND name = ?`, account, name))
	})
}

// What Attach does not find.
var (
	ErrNoEntity = fmt.Errorf("the user or group is %w", ErrNotFound)
	ErrNoPolicy = fmt.Errorf("the policy is %w", ErrNotFound)
)

// Attach attaches a policy to a user or a group: ErrNoEntity or ErrNoPolicy if one of them is not there, ErrExists if it
// is attached, ErrLimit if the user or group has limit policies. That a system policy is there the caller has seen.
func (s *Store) Attach(ctx context.Context, account waybill.AccountID, e waybill.Entity, p waybill.PolicyName, limit int) error {
	return s.writeAlone(ctx, accountWide(account), func(t *tx) error {
		if err := t.mustEntity(ctx, account, e); err != nil {
			return orElse(err, ErrNoEntity)
		}
		if p.Type == waybill.CustomPolicy {
			if _, err := one(ctx, t, scanOne[string], `SELECT name FROM policies WHERE account = ? AND name = ?`, account, p.Name); err != nil {
				return orElse(err, ErrNoPolicy)
			}
		}
		if err := mustAdd(t.exec(ctx, `INSERT INTO attachments (account, entity_kind, entity, policy_type, policy, attached)
			VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`, account, e.Kind, e.Name, p.Type, p.Name, millis(s.now()))); err != nil {
			return err
		}
		n, err := one(ctx, t, scanOne[int], `SELECT COUNT(*) FROM attachments WHERE account = ? AND entity_kind = ? AND entity = ?`,
			account, e.Kind, e.Name)
		if err == nil && n > limit {
			err = ErrLimit
		}
		return err
	})
}

// orElse replaces ErrNotFound.
func orElse(err, instead error) error {
	if err == ErrNotFound { //nolint:errorlint // of one, exactly
		return instead
	}
	return err
}

// Detach is the opposite of Attach; ErrNotFound if the policy is not attached.
func (s *Store) Detach(ctx context.Context, account waybill.AccountID, e waybill.Entity, p waybill.PolicyName) error {
	return s.write(ctx, func(t *tx) error {
		return mustChange(t.exec(ctx, `DELETE FROM attachments WHERE account = ? AND entity_kind = ? AND entity = ? AND policy_type = ? AND policy = ?`,
			account, e.Kind, e.Name, p.Type, p.Name))
	})
}

// attachmentColumns are those of an attachment. Of a system policy nothing but the name is stored.
const attachmentColumns = `SELECT t.entity_kind, t.entity, t.policy_type, t.policy,
		COALESCE(p.description, ''), COALESCE(p.document, ''), COALESCE(p.version, 0), t.attached
	FROM attachments t
	LEFT JOIN policies p ON t.policy_type = 'Custom' AND p.account = t.account AND p.name = t.policy`

func scanAttachment(r *sql.Rows) (a waybill.Attachment, err error) {
	var attached int64
	err = r.Scan(&a.Kind, &a.Name, &a.Policy.Type, &a.Policy.Name, &a.Policy.Description, &a.Policy.Document, &a.Policy.Version, &attached)
	a.Attached = instant(attached)
	return a, err
}

// AttachmentsOf returns what is attached to a user or a group, without looking at the user's groups. The document of a
// system policy is empty.
func (s *Store) AttachmentsOf(ctx context.Context, account waybill.AccountID, e waybill.Entity) ([]waybill.Attachment, error) {
	return all(ctx, s.reads, scanAttachment, attachmentColumns+` WHERE t.account = ? AND t.entity_kind = ? AND t.entity = ?
		ORDER BY t.policy_type, t.policy`, account, e.Kind, e.Name)
}

// AttachmentsTo returns what a policy is attached to.
func (s *Store) AttachmentsTo(ctx context.Context, account waybill.AccountID, p waybill.PolicyName) ([]waybill.Attachment, error) {
	return all(ctx, s.reads, scanAttachment, attachmentColumns+` WHERE t.account = ? AND t.policy_type = ? AND t.policy = ?
		ORDER BY t.entity_kind, t.entity`, account, p.Type, p.Name)
}

// EffectivePolicies returns what is attached to a user and to its groups, as AttachmentsOf does, the user's own first. It
// is one search for each, because every request of a user waits for it.
func (s *Store) EffectivePolicies(ctx context.Context, account waybill.AccountID, user string) ([]waybill.Attachment, error) {
	return all(ctx, s.reads, scanAttachment, effectivePolicies, account, user, account, account, user)
}

const effectivePolicies = `SELECT * FROM (` + attachmentColumns + ` WHERE t.account = ? AND t.entity_kind = 'user' AND t.entity = ?
		ORDER BY t.policy_type, t.policy) own
	UNION ALL SELECT * FROM (` + attachmentColumns + ` WHERE t.account = ? AND t.entity_kind = 'group'
		AND t.entity IN (SELECT grp FROM group_members WHERE account = ? AND user_name = ?) ORDER BY t.entity, t.policy_type, t.policy) of_groups`
