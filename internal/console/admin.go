// SPDX-License-Identifier: Apache-2.0

package console

import (
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

const adminRows = 50

// usersData is the list of users and of groups of users.
type usersData struct {
	Users  panel[[]client.User]
	Groups panel[[]client.UserGroup]
}

// gather takes at most so many from a listing.
func gather[T any](most int, list func(yield func(T, error) bool)) (all []T, err error) {
	for item, e := range list {
		if e != nil {
			return all, e
		}
		if all = append(all, item); len(all) == most {
			break
		}
	}
	return all, nil
}

const maxAdminRows = 1000

func (c *Console) users(v *visit) error {
	var d usersData
	users, err := gather(maxAdminRows, v.api.Users(v.ctx()))
	d.Users = panelOf(v, users, err)
	groups, err := gather(maxAdminRows, v.api.Groups(v.ctx()))
	d.Groups = panelOf(v, groups, err)
	return v.show("users", "Users", "users", d)
}

func (c *Console) createUser(v *visit) error {
	form := v.r.PostForm
	switch form.Get("kind") {
	case "group":
		if _, err := v.api.CreateGroup(v.ctx(), form.Get("name"), form.Get("comments")); err != nil {
			return err
		}
		return v.redirect(link(nil, "admin", "users"))
	case "delete-group":
		if err := v.api.DeleteGroup(v.ctx(), form.Get("name")); err != nil {
			return err
		}
		return v.redirect(link(nil, "admin", "users"))
	}
	u, err := v.api.CreateUser(v.ctx(), client.CreateUserRequest{Name: form.Get("name"), DisplayName: form.Get("display"), Comments: form.Get("comments")})
	if err != nil {
		return err
	}
	return v.redirect(link(nil, "admin", "users", u.Name))
}

// userData is one user with all that it has.
type userData struct {
	U        client.User
	Keys     panel[[]client.AccessKey]
	Policies panel[[]client.AttachedPolicy]
	Groups   panel[[]client.UserGroup]
	All      []client.Policy    // that can be attached
	Joinable []client.UserGroup // that the user is not in
	New      *client.AccessKey  // just made: its secret is shown once
}

func (c *Console) userPage(v *visit) error { return c.showUser(v, nil) }

func (c *Console) showUser(v *visit, made *client.AccessKey) error {
	name := v.r.PathValue("name")
	u, err := v.api.GetUser(v.ctx(), name)
	if err != nil {
		return err
	}
	d := userData{U: u, New: made}
	keys, err := v.api.ListUserAccessKeys(v.ctx(), name)
	d.Keys = panelOf(v, keys, err)
	attached, err := v.api.ListPoliciesForUser(v.ctx(), name)
	d.Policies = panelOf(v, attached, err)
	groups, err := v.api.ListGroupsForUser(v.ctx(), name)
	d.Groups = panelOf(v, groups, err)
	d.All, _ = gather(maxAdminRows, v.api.Policies(v.ctx(), "")) // who may not list them attaches none
	all, _ := gather(maxAdminRows, v.api.Groups(v.ctx()))
	in := map[string]bool{}
	for _, g := range groups {
		in[g.Name] = true
	}
	for _, g := range all {
		if !in[g.Name] {
			d.Joinable = append(d.Joinable, g)
		}
	}
	return v.show("user", u.Name, "users", d)
}

func (c *Console) changeUser(v *visit) error {
	name, form := v.r.PathValue("name"), v.r.PostForm
	kind, policy, _ := strings.Cut(form.Get("policy"), "/")
	named := waybill.PolicyName{Type: waybill.PolicyType(kind), Name: policy}
	back := link(nil, "admin", "users", name)
	var err error
	switch v.r.PathValue("act") {
	case "key":
		made, err := v.api.CreateAccessKey(v.ctx(), name)
		if err != nil {
			return err
		}
		return c.showUser(v, &made)
	case "key-status":
		err = v.api.UpdateAccessKey(v.ctx(), name, form.Get("key"), client.KeyStatus(form.Get("status")))
	case "key-delete":
		err = v.api.DeleteAccessKey(v.ctx(), name, form.Get("key"))
	case "attach":
		err = v.api.AttachPolicyToUser(v.ctx(), named, name)
	case "detach":
		err = v.api.DetachPolicyFromUser(v.ctx(), named, name)
	case "join":
		err = v.api.AddUserToGroup(v.ctx(), name, form.Get("group"))
	case "leave":
		err = v.api.RemoveUserFromGroup(v.ctx(), name, form.Get("group"))
	case "delete":
		err, back = v.api.DeleteUser(v.ctx(), name), link(nil, "admin", "users")
	default:
		return errNotFound
	}
	if err != nil {
		return err
	}
	return v.redirect(back)
}

// keysData is the keys of whoever is signed in.
type keysData struct {
	Keys []client.AccessKey
	New  *client.AccessKey
}

// ownUser is how the API is asked for the keys of whoever is signed in: a user's by its name, an account's own by none.
func (v *visit) ownUser() string { return v.session.Credential.Key.User }

func (c *Console) keys(v *visit) error { return c.showKeys(v, nil) }

func (c *Console) showKeys(v *visit, made *client.AccessKey) error {
	keys, err := v.api.ListUserAccessKeys(v.ctx(), v.ownUser())
	if err != nil {
		return err
	}
	return v.show("keys", "My access keys", "keys", keysData{keys, made})
}

func (c *Console) changeKey(v *visit) error {
	key := v.r.PostFormValue("key")
	var err error
	switch v.r.PathValue("act") {
	case "create":
		made, err := v.api.CreateAccessKey(v.ctx(), v.ownUser())
		if err != nil {
			return err
		}
		return c.showKeys(v, &made)
	case "status":
		err = v.api.UpdateAccessKey(v.ctx(), v.ownUser(), key, client.KeyStatus(v.r.PostFormValue("status")))
	case "delete":
		err = v.api.DeleteAccessKey(v.ctx(), v.ownUser(), key)
	default:
		return errNotFound
	}
	if err != nil {
		return err
	}
	return v.redirect(link(nil, "admin", "keys"))
}

// policiesData is the list of policies; policyData one of them.
type policiesData struct{ Policies []client.Policy }

type policyData struct {
	P        client.Policy
	Document string
	Uses     panel[client.PolicyEntities]
}

func (c *Console) policies(v *visit) error {
	all, err := gather(maxAdminRows, v.api.Policies(v.ctx(), ""))
	if err != nil {
		return err
	}
	return v.show("policies", "Policies", "policies", policiesData{all})
}

func (c *Console) policyPage(v *visit) error {
	named := waybill.PolicyName{Type: waybill.PolicyType(v.r.PathValue("type")), Name: v.r.PathValue("name")}
	p, version, err := v.api.GetPolicy(v.ctx(), named)
	if err != nil {
		return err
	}
	uses, err := v.api.ListEntitiesForPolicy(v.ctx(), named)
	return v.show("policy", p.Name, "policies", policyData{p, version.Document, panelOf(v, uses, err)})
}

// savePolicy makes a policy or, if the form says so, gives one another document.
func (c *Console) savePolicy(v *visit) error {
	form := v.r.PostForm
	name := strings.TrimSpace(form.Get("name"))
	var err error
	if form.Get("update") != "" {
		_, err = v.api.CreatePolicyVersion(v.ctx(), name, form.Get("document"))
	} else {
		_, err = v.api.CreatePolicy(v.ctx(), name, form.Get("document"), form.Get("description"))
	}
	if err != nil {
		return err
	}
	return v.redirect(link(nil, "admin", "policies", string(waybill.CustomPolicy), name))
}

func (c *Console) deletePolicy(v *visit) error {
	if err := v.api.DeletePolicy(v.ctx(), v.r.PathValue("name")); err != nil {
		return err
	}
	return v.redirect(link(nil, "admin", "policies"))
}

// simulatorData is a question to the policies, and the answer.
type simulatorData struct {
	Query  url.Values
	Answer *client.Simulation
	Fault  *fault
}

func (c *Console) simulator(v *visit) error {
	q := v.r.URL.Query()
	d := simulatorData{Query: q}
	if q.Get("user") != "" {
		r := client.SimulatePolicyRequest{
			User: q.Get("user"), Action: q.Get("action"), Resource: q.Get("resource"), Region: v.region,
		}
		var err error
		if ip := q.Get("ip"); ip != "" {
			if r.SourceIP, err = netip.ParseAddr(ip); err != nil {
				return complain("%q is no IP address.", ip)
			}
		}
		found, err := v.api.SimulatePolicy(v.ctx(), r)
		if err != nil {
			f := v.faultOf(err)
			d.Fault = &f
		} else {
			d.Answer = &found
		}
	}
	return v.show("simulator", "Policy simulator", "simulator", d)
}

// auditData is a page of the audit trail.
type auditData struct {
	Query   url.Values
	Records []client.AuditRecord
	Next    string
	Verdict *client.AuditVerdict // if it was asked for
}

func (c *Console) auditPage(v *visit) error {
	q := v.r.URL.Query()
	f := waybill.AuditFilter{
		Action: q.Get("action"), Actor: q.Get("actor"), AccessKey: q.Get("key"), RequestID: q.Get("request"), Result: q.Get("result"),
	}
	for _, bound := range []struct {
		name string
		at   *time.Time
		plus time.Duration
	}{{"from", &f.From, 0}, {"to", &f.To, 24 * time.Hour}} {
		if text := q.Get(bound.name); text != "" {
			t, err := time.Parse(time.DateOnly, text)
			if err != nil {
				return complain("%q is no date.", text)
			}
			*bound.at = t.Add(bound.plus)
		}
	}
	page, err := v.api.ListAuditRecords(v.ctx(), f, client.Paging{MaxResults: adminRows, NextToken: q.Get("after")})
	if err != nil {
		return err
	}
	d := auditData{Query: q, Records: page.Items}
	if page.NextToken != "" {
		next := copyOf(q)
		next.Del("verify")
		next.Set("after", page.NextToken)
		d.Next = "?" + next.Encode()
	}
	if q.Get("verify") != "" {
		verdict, err := v.api.VerifyAuditRecords(v.ctx())
		if err != nil {
			return err
		}
		d.Verdict = &verdict
	}
	return v.show("audit", "Audit trail", "audit", d)
}

func (c *Console) serverPage(v *visit) error {
	state, err := v.api.DescribeServer(v.ctx())
	if err != nil {
		return err
	}
	return v.show("server", "Server", "server", state)
}
