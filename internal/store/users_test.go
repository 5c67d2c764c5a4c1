// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/openwaybill/waybill"
)

// expect fails the test unless err is want, which may be nil.
func expect(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func user(name string) waybill.User {
	return waybill.User{ID: "id-" + name, Name: name, DisplayName: name, Created: epoch, Updated: epoch}
}

func group(name string) waybill.UserGroup {
	return waybill.UserGroup{ID: "g-" + name, Name: name, Created: epoch, Updated: epoch}
}

func custom(name string) waybill.PolicyName {
	return waybill.PolicyName{Type: waybill.CustomPolicy, Name: name}
}

func userEntity(name string) waybill.Entity {
	return waybill.Entity{Kind: waybill.UserEntity, Name: name}
}

func groupEntity(name string) waybill.Entity {
	return waybill.Entity{Kind: waybill.GroupEntity, Name: name}
}

func TestUsers(t *testing.T) { onEach(t, testUsers) }

func testUsers(t *testing.T, open opener) {
	t.Parallel()
	f, ctx := open(t), t.Context()
	expect(t, "add", f.AddUser(ctx, "a", user("Alice"), 2), nil)
	expect(t, "add in other case", f.AddUser(ctx, "a", user("alice"), 2), ErrExists)
	expect(t, "add second", f.AddUser(ctx, "a", user("bob"), 2), nil)
	expect(t, "add third", f.AddUser(ctx, "a", user("carol"), 2), ErrLimit)
	if err := f.AddAccount(ctx, waybill.Account{ID: "b", Name: "b"}, testKey("b-key", "b")); err != nil {
		t.Fatal(err)
	}
	expect(t, "add to another account", f.AddUser(ctx, "b", user("alice"), 2), nil)
	if u, err := f.User(ctx, "a", "Alice"); err != nil || u.Name != "Alice" || u.ID != "id-Alice" {
		t.Errorf("alice: %+v, %v", u, err)
	}
	// A name in another case is no name: policies that name the user would not be meant.
	for _, name := range []string{"alice", "ALICE"} {
		_, err := f.User(ctx, "a", name)
		expect(t, name, err, ErrNotFound)
		expect(t, "update "+name, f.UpdateUser(ctx, "a", name, "", ""), ErrNotFound)
		_, err = f.DeleteUser(ctx, "a", name)
		expect(t, "delete "+name, err, ErrNotFound)
		key := Key{AccessKey: waybill.AccessKey{ID: "k9", Account: "a", User: name}}
		expect(t, "key of "+name, f.AddKey(ctx, key, 5), ErrNotFound)
	}
	expect(t, "update", f.UpdateUser(ctx, "a", "Alice", "Alice A.", "c"), nil)
	expect(t, "update nobody", f.UpdateUser(ctx, "a", "carol", "", ""), ErrNotFound)
	if u, err := f.User(ctx, "a", "Alice"); err != nil || u.DisplayName != "Alice A." || u.Comments != "c" {
		t.Errorf("alice: %+v, %v", u, err)
	}

	// Ties keep a user and a group.
	expect(t, "key of nobody", f.AddKey(ctx, Key{AccessKey: waybill.AccessKey{ID: "k0", Account: "a", User: "carol"}}, 5), ErrNotFound)
	expect(t, "key", f.AddKey(ctx, Key{AccessKey: waybill.AccessKey{ID: "k1", Account: "a", User: "Alice", Active: true}, Sealed: []byte{1}}, 5), nil)
	if k, err := f.Key(ctx, "k1"); err != nil || k.User != "Alice" {
		t.Errorf("key: %+v, %v", k, err)
	}
	expect(t, "group", f.AddUserGroup(ctx, "a", group("Ops"), 1), nil)
	expect(t, "group in other case", f.AddUserGroup(ctx, "a", group("ops"), 2), ErrExists)
	expect(t, "second group", f.AddUserGroup(ctx, "a", group("dev"), 1), ErrLimit)
	expect(t, "join", f.AddMember(ctx, "a", "Ops", "Alice", 1), nil)
	expect(t, "join again", f.AddMember(ctx, "a", "Ops", "Alice", 1), ErrExists)
	expect(t, "join in other case", f.AddMember(ctx, "a", "ops", "Alice", 1), ErrNotFound)
	expect(t, "join nothing", f.AddMember(ctx, "a", "none", "Alice", 1), ErrNotFound)
	expect(t, "nobody joins", f.AddMember(ctx, "a", "Ops", "carol", 1), ErrNotFound)
	expect(t, "another account's joins", f.AddMember(ctx, "b", "ops", "alice", 1), ErrNotFound)
	ties, err := f.DeleteUser(ctx, "a", "Alice")
	expect(t, "delete with ties", err, ErrLimit)
	if ties != (Ties{Keys: 1, Groups: 1}) {
		t.Errorf("ties %+v", ties)
	}
	if ties, err := f.DeleteUserGroup(ctx, "a", "Ops"); !errors.Is(err, ErrLimit) || ties != (Ties{Users: 1}) {
		t.Errorf("delete a group with users: %+v, %v", ties, err)
	}
	if l, err := f.Users(ctx, "a", "Ops", waybill.Page{Size: 10}); err != nil || len(l.Items) != 1 || l.Items[0].Name != "Alice" {
		t.Errorf("users of ops: %+v, %v", l, err)
	}
	if l, err := f.UserGroups(ctx, "a", "Alice", waybill.Page{Size: 10}); err != nil || len(l.Items) != 1 || l.Items[0].Name != "Ops" {
		t.Errorf("groups of alice: %+v, %v", l, err)
	}
	expect(t, "leave", f.RemoveMember(ctx, "a", "Ops", "Alice"), nil)
	expect(t, "leave again", f.RemoveMember(ctx, "a", "Ops", "Alice"), ErrNotFound)
	expect(t, "delete key as another's", f.DeleteKey(ctx, "a", "bob", "k1"), ErrNotFound)
	expect(t, "delete key", f.DeleteKey(ctx, "a", "Alice", "k1"), nil)
	_, err = f.DeleteUser(ctx, "a", "Alice")
	expect(t, "delete", err, nil)
	_, err = f.DeleteUser(ctx, "a", "Alice")
	expect(t, "delete again", err, ErrNotFound)
	_, err = f.DeleteUserGroup(ctx, "a", "Ops")
	expect(t, "delete group", err, nil)
	_, err = f.DeleteUserGroup(ctx, "a", "Ops")
	expect(t, "delete group again", err, ErrNotFound)
}

func TestUsersListing(t *testing.T) { onEach(t, testUsersListing) }

func testUsersListing(t *testing.T, open opener) {
	t.Parallel()
	f, ctx := open(t), t.Context()
	for _, name := range []string{"d", "B", "a", "E", "c"} {
		expect(t, name, f.AddUser(ctx, "a", user(name), 10), nil)
	}
	var names []string
	for p := (waybill.Page{Size: 2}); ; {
		l, err := f.Users(ctx, "a", "", p)
		if err != nil || l.Total != 5 {
			t.Fatal(l.Total, err)
		}
		for _, u := range l.Items {
			names = append(names, u.Name)
		}
		if p.Cursor = l.Next; p.Cursor == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "B E a c d" {
		t.Errorf("users %q", got)
	}
}

func TestPolicies(t *testing.T) { onEach(t, testPolicies) }

func testPolicies(t *testing.T, open opener) {
	t.Parallel()
	f, ctx := open(t), t.Context()
	p := waybill.Policy{PolicyName: custom("Read-All"), Document: "{}", Version: 1, Created: epoch, Updated: epoch}
	expect(t, "add", f.AddPolicy(ctx, "a", p, 1), nil)
	p.Name = "read-all"
	expect(t, "add in other case", f.AddPolicy(ctx, "a", p, 5), ErrExists)
	p.Name = "second"
	expect(t, "one too many", f.AddPolicy(ctx, "a", p, 1), ErrLimit)
	expect(t, "update", f.UpdatePolicy(ctx, "a", "Read-All", `{"new":1}`), nil)
	expect(t, "update in other case", f.UpdatePolicy(ctx, "a", "read-all", `{}`), ErrNotFound)
	expect(t, "update nothing", f.UpdatePolicy(ctx, "a", "none", `{}`), ErrNotFound)
	expect(t, "update another account's", f.UpdatePolicy(ctx, "b", "Read-All", `{}`), ErrNotFound)
	if got, err := f.Policy(ctx, "a", "Read-All"); err != nil || got.Version != 2 || got.Document != `{"new":1}` || got.Name != "Read-All" {
		t.Errorf("policy %+v, %v", got, err)
	}
	expect(t, "user", f.AddUser(ctx, "a", user("alice"), 5), nil)
	expect(t, "group", f.AddUserGroup(ctx, "a", group("ops"), 5), nil)
	expect(t, "member", f.AddMember(ctx, "a", "ops", "alice", 5), nil)

	system := waybill.PolicyName{Type: waybill.SystemPolicy, Name: "AdministratorAccess"}
	expect(t, "attach to nobody", f.Attach(ctx, "a", userEntity("bob"), custom("Read-All"), 2), ErrNoEntity)
	expect(t, "attach to no group", f.Attach(ctx, "a", groupEntity("dev"), custom("Read-All"), 2), ErrNoEntity)
	expect(t, "attach nothing", f.Attach(ctx, "a", userEntity("alice"), custom("none"), 2), ErrNoPolicy)
	expect(t, "attach in another account", f.Attach(ctx, "b", userEntity("alice"), custom("Read-All"), 2), ErrNoEntity)
	expect(t, "attach to the group", f.Attach(ctx, "a", groupEntity("ops"), custom("Read-All"), 2), nil)
	expect(t, "attach", f.Attach(ctx, "a", userEntity("alice"), system, 1), nil)
	expect(t, "attach again", f.Attach(ctx, "a", userEntity("alice"), system, 1), ErrExists)
	expect(t, "attach too many", f.Attach(ctx, "a", userEntity("alice"), custom("Read-All"), 1), ErrLimit)

	all, err := f.EffectivePolicies(ctx, "a", "alice")
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, v := range all {
		got += fmt.Sprintf("%s %s: %s %s %s; ", v.Kind, v.Name, v.Policy.Type, v.Policy.Name, v.Policy.Document)
	}
	want := `user alice: System AdministratorAccess ; group ops: Custom Read-All {"new":1}; `
	if got != want {
		t.Errorf("effective policies %s, want %s", got, want)
	}
	if to, err := f.AttachmentsTo(ctx, "a", custom("Read-All")); err != nil || len(to) != 1 || to[0].Entity != groupEntity("ops") {
		t.Errorf("attached to %+v, %v", to, err)
	}
	expect(t, "delete attached", f.DeletePolicy(ctx, "a", "Read-All"), ErrLimit)
	if ties, err := f.DeleteUserGroup(ctx, "a", "ops"); !errors.Is(err, ErrLimit) || ties.Policies != 1 {
		t.Errorf("delete a group with policies: %+v, %v", ties, err)
	}
	expect(t, "detach", f.Detach(ctx, "a", groupEntity("ops"), custom("Read-All")), nil)
	expect(t, "detach again", f.Detach(ctx, "a", groupEntity("ops"), custom("Read-All")), ErrNotFound)
	expect(t, "delete", f.DeletePolicy(ctx, "a", "Read-All"), nil)
	expect(t, "delete again", f.DeletePolicy(ctx, "a", "Read-All"), ErrNotFound)
}

func TestResourceGroups(t *testing.T) { onEach(t, testResourceGroups) }

func testResourceGroups(t *testing.T, open opener) {
	t.Parallel()
	f, ctx := open(t), t.Context()
	g := waybill.ResourceGroup{ID: "rg-1", Name: "web", DisplayName: "Web", Created: epoch}
	expect(t, "add", f.AddResourceGroup(ctx, "a", g, 1), nil)
	expect(t, "add too many", f.AddResourceGroup(ctx, "a", waybill.ResourceGroup{ID: "rg-2", Name: "db"}, 1), ErrLimit)
	expect(t, "same name", f.AddResourceGroup(ctx, "a", waybill.ResourceGroup{ID: "rg-2", Name: "web"}, 5), ErrExists)
	expect(t, "rename", f.RenameResourceGroup(ctx, "a", "rg-1", "Webs"), nil)
	expect(t, "rename another account's", f.RenameResourceGroup(ctx, "b", "rg-1", "x"), ErrNotFound)
	if got, err := f.ResourceGroup(ctx, "a", "rg-1"); err != nil || got.DisplayName != "Webs" || got.Name != "web" {
		t.Errorf("group %+v, %v", got, err)
	}
	f.enrol("mi-1")
	join := func(account waybill.AccountID, in string, kind waybill.ResourceKind, id, group string) error {
		return f.JoinResourceGroup(ctx, account, in, kind, id, group)
	}
	expect(t, "join no group", join("a", region, waybill.InstanceResource, "mi-1", "rg-9"), ErrLimit)
	expect(t, "nothing joins", join("a", region, waybill.InstanceResource, "mi-9", "rg-1"), ErrNotFound)
	expect(t, "join in another region", join("a", "x", waybill.InstanceResource, "mi-1", "rg-1"), ErrNotFound)
	expect(t, "join", join("a", region, waybill.InstanceResource, "mi-1", "rg-1"), nil)
	expect(t, "join as an activation", join("a", region, waybill.ActivationResource, "mi-1", "rg-1"), ErrNotFound)
	expect(t, "delete in use", f.DeleteResourceGroup(ctx, "a", "rg-1"), ErrLimit)
	expect(t, "leave the fleet", f.LeaveFleet(ctx, "mi-1", waybill.Deregistered), nil)
	expect(t, "delete another account's", f.DeleteResourceGroup(ctx, "b", "rg-1"), ErrNotFound)
	expect(t, "delete", f.DeleteResourceGroup(ctx, "a", "rg-1"), nil)
}

func TestResourceTags(t *testing.T) { onEach(t, testResourceTags) }

func testResourceTags(t *testing.T, open opener) {
	t.Parallel()
	f, ctx := open(t), t.Context()
	f.enrol("mi-1") // with the tag id=mi-1
	f.enrol("mi-2")
	tag := func(key, value string) []waybill.Tag { return []waybill.Tag{{Key: key, Value: value}} }
	put := func(account waybill.AccountID, in string, ids []string, tags []waybill.Tag, limit int) error {
		return f.PutTags(ctx, account, in, waybill.InstanceResource, ids, tags, limit)
	}
	list := func(filter waybill.TagFilter, size int) string {
		t.Helper()
		filter.Region, filter.Kind = region, waybill.InstanceResource
		var all []string
		for p := (waybill.Page{Size: size}); ; {
			l, err := f.Tags(ctx, "a", filter, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range l.Items {
				all = append(all, v.ID+" "+v.Key+"="+v.Value)
			}
			if p.Cursor = l.Next; p.Cursor == "" {
				return strings.Join(all, ", ")
			}
		}
	}
	expect(t, "one is not there", put("a", region, []string{"mi-1", "mi-9"}, tag("env", "x"), 5), ErrNotFound)
	expect(t, "another account's", put("b", region, []string{"mi-1"}, tag("env", "x"), 5), ErrNotFound)
	expect(t, "in another region", put("a", "x", []string{"mi-1"}, tag("env", "x"), 5), ErrNotFound)
	expect(t, "too many", put("a", region, []string{"mi-1"}, tag("env", "x"), 1), ErrLimit)
	if got := list(waybill.TagFilter{}, 10); got != "mi-1 id=mi-1, mi-2 id=mi-2" {
		t.Errorf("what failed left %s", got)
	}
	expect(t, "put", put("a", region, []string{"mi-1", "mi-2"}, tag("env", "x"), 5), nil)
	expect(t, "replace", put("a", region, []string{"mi-2"}, tag("env", "y"), 2), nil)
	for _, size := range []int{1, 3, 10} {
		if got := list(waybill.TagFilter{}, size); got != "mi-1 env=x, mi-1 id=mi-1, mi-2 env=y, mi-2 id=mi-2" {
			t.Errorf("by %d: %s", size, got)
		}
	}
	if got := list(waybill.TagFilter{IDs: []string{"mi-2"}}, 10); got != "mi-2 env=y, mi-2 id=mi-2" {
		t.Errorf("by ID: %s", got)
	}
	if got := list(waybill.TagFilter{Tags: tag("env", "x")}, 10); got != "mi-1 env=x, mi-1 id=mi-1" {
		t.Errorf("by tag: %s", got)
	}
	if m, err := f.TagsOf(ctx, "b", waybill.InstanceResource, []string{"mi-1"}); err != nil || len(m) != 0 {
		t.Errorf("another account sees %v, %v", m, err)
	}
	if m, err := f.TagsOf(ctx, "a", waybill.InstanceResource, []string{"mi-1", "mi-9"}); err != nil || len(m["mi-1"]) != 2 || len(m) != 1 {
		t.Errorf("tags %v, %v", m, err)
	}
	remove := func(ids []string, keys ...string) error {
		return f.RemoveTags(ctx, "a", region, waybill.InstanceResource, ids, keys)
	}
	expect(t, "remove from what is not there", remove([]string{"mi-1", "mi-9"}, "env"), ErrNotFound)
	expect(t, "remove", remove([]string{"mi-1", "mi-2"}, "env", "none"), nil)
	expect(t, "remove all", remove([]string{"mi-1"}), nil)
	if got := list(waybill.TagFilter{}, 10); got != "mi-2 id=mi-2" {
		t.Errorf("left: %s", got)
	}
}
