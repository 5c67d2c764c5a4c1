// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
)

const instanceColumns = `SELECT i.id, i.account, i.region, i.name, i.activation, i.state, i.hostname, i.machine_id, i.intranet_ip,
	i.internet_ip, i.os_type, i.os_version, i.agent_version, i.capability, i.public_key, i.resource_group, i.registered,
	i.presence, i.last_seen, i.agent_kind, i.agent_key, i.agent_token, i.next_dial`

func instanceFields(i *waybill.Instance) (dest []any, done func()) {
	var registered, seen, dial int64
	f := &i.Facts
	dest = []any{
		&i.ID, &i.Account, &i.Region, &i.Name, &i.Activation, &i.State, &f.Hostname, &f.MachineID, &f.IntranetIP,
		&i.InternetIP, &f.OSType, &f.OSVersion, &f.AgentVersion, &f.Capability, &i.PublicKey, &i.ResourceGroup, &registered,
		&i.Presence, &seen, &i.Agent, &i.AgentKey, &i.AgentToken, &dial,
	}
	return dest, func() { i.Registered, i.LastSeen, i.NextDial = instant(registered), instant(seen), instant(dial) }
}

func scanInstance(r *sql.Rows) (i waybill.Instance, err error) {
	dest, done := instanceFields(&i)
	if err = r.Scan(dest...); err == nil {
		done()
	}
	return i, err
}

// Enrol stores a new instance and takes one place of its activation, in one transaction; ErrLimit if the activation has
// no room, and ErrQuota if the account has limit instances in the region (0: no limit). name gets how many
// machines the activation had before and returns the instance's name. A key that has enrolled before returns its instance
// as it is, with ErrExists.
func (s *Store) Enrol(
	ctx context.Context, i waybill.Instance, limit int, name func(before int) string,
) (enrolled waybill.Instance, err error) {
	err = s.writeAlone(ctx, accountWide(i.Account), func(t *tx) error {
		had, err := one(ctx, t, scanInstance, instanceColumns+` FROM instances i WHERE i.public_key = ?`, i.PublicKey)
		if err == nil {
			enrolled = had
			return ErrExists
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		if limit > 0 {
			n, err := one(ctx, t, scanOne[int], countInstances, i.Account, i.Region, waybill.Deregistered)
			if err != nil {
				return err
			}
			if n >= limit {
				return ErrQuota
			}
		}
		n, err := t.exec(ctx, `UPDATE activations SET registered = registered + 1 WHERE id = ? AND registered < instance_count`, i.Activation)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrLimit
		}
		count, err := one(ctx, t, scanOne[int], `SELECT registered FROM activations WHERE id = ?`, i.Activation)
		if err != nil {
			return err
		}
		i.Name = name(count - 1)
		f := i.Facts
		if _, err := t.exec(ctx, `INSERT INTO instances (id, account, region, name, activation, state, hostname, machine_id, intranet_ip,
				internet_ip, os_type, os_version, agent_version, capability, public_key, resource_group, registered, presence, agent_kind, agent_key)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			i.ID, i.Account, i.Region, i.Name, i.Activation, i.State, f.Hostname, f.MachineID, f.IntranetIP,
			i.InternetIP, f.OSType, f.OSVersion, f.AgentVersion, f.Capability, i.PublicKey, i.ResourceGroup, millis(i.Registered), i.Presence,
			i.Agent, i.AgentKey); err != nil {
			return err
		}
		enrolled = i
		return t.addTags(ctx, s.dialect, i.Account, waybill.InstanceResource, string(i.ID), i.Tags)
	})
	return enrolled, err
}

const countInstances = `SELECT COUNT(*) FROM instances WHERE account = ? AND region = ? AND state <> ?`

// InstanceCount returns how many instances the account has in the region.
func (s *Store) InstanceCount(ctx context.Context, account waybill.AccountID, region string) (int, error) {
	return one(ctx, s.reads, scanOne[int], countInstances, account, region, waybill.Deregistered)
}

// Instance returns an instance in any state, without tags and counts; ErrNotFound if it never was.
func (s *Store) Instance(ctx context.Context, id waybill.InstanceID) (waybill.Instance, error) {
	return one(ctx, s.brief, scanInstance, instanceColumns+` FROM instances i WHERE i.id = ?`, id)
}

// InstanceByKey returns the instance with that public key, like Instance.
func (s *Store) InstanceByKey(ctx context.Context, publicKey string) (waybill.Instance, error) {
	return one(ctx, s.brief, scanInstance, instanceColumns+` FROM instances i WHERE i.public_key = ?`, publicKey)
}

// Select returns the instances of an account that are registered and match f, in order of their IDs, as Recipients does, and
// how many there are. If these are more than limit, it returns only the number.
func (s *Store) Select(ctx context.Context, account waybill.AccountID, f waybill.InstanceFilter, limit int) (list []waybill.Instance, total int, err error) {
	w := s.selectInstances(account, f)
	w.add("i.state = ?", waybill.Registered)
	list, err = all(ctx, s.reads, scanRecipient, recipientColumns+w.where()+" LIMIT ?", append(w.args, limit+1)...)
	if err != nil {
		return nil, 0, fmt.Errorf("select instances: %w", err)
	}
	if len(list) <= limit {
		// Databases differ in how they order texts.
		slices.SortFunc(list, func(a, b waybill.Instance) int { return strings.Compare(string(a.ID), string(b.ID)) })
		return list, len(list), nil
	}
	if total, err = one(ctx, s.reads, scanOne[int], "SELECT COUNT(*) FROM instances i"+w.where(), w.args...); err != nil {
		return nil, 0, fmt.Errorf("count selected instances: %w", err)
	}
	return nil, total, nil
}

// Recipients returns those of ids that belong to the account and region, in any state, with no more than what decides
// whether something can be sent to them: name, state, resource group, presence, last seen, agent, its version and capability.
func (s *Store) Recipients(ctx context.Context, account waybill.AccountID, region string, ids []waybill.InstanceID) (map[waybill.InstanceID]waybill.Instance, error) {
	is, named := s.dialect.named(texts(ids))
	list, err := all(ctx, s.brief, scanRecipient, s.dialect.recipientsNamed(is), named, account, region)
	m := make(map[waybill.InstanceID]waybill.Instance, len(list))
	for _, i := range list {
		m[i.ID] = i
	}
	return m, err
}

// recipientsNamed searches for those whose ID is as dialect.named says. The + keeps the search on the primary key: the index
// by account would go through its whole fleet.
func (d dialect) recipientsNamed(is string) string {
	return recipientColumns + ` WHERE i.id` + is + ` AND ` + d.unindexed + `i.account = ? AND ` + d.unindexed + `i.region = ?`
}

const recipientColumns = `SELECT i.id, i.name, i.state, i.resource_group, i.presence, i.last_seen, i.agent_kind, i.agent_version, i.capability
		FROM instances i`

func scanRecipient(r *sql.Rows) (i waybill.Instance, err error) {
	var seen int64
	err = r.Scan(&i.ID, &i.Name, &i.State, &i.ResourceGroup, &i.Presence, &seen, &i.Agent, &i.Facts.AgentVersion, &i.Facts.Capability)
	i.LastSeen = instant(seen)
	return i, err
}

// Instances returns a page of an account's instances that are part of the fleet, with tags and counts, newest first.
func (s *Store) Instances(ctx context.Context, account waybill.AccountID, f waybill.InstanceFilter, p waybill.Page) (waybill.Listing[waybill.Instance], error) {
	var list waybill.Listing[waybill.Instance]
	w := s.selectInstances(account, f)
	w.add("i.state <> ?", waybill.Deregistered)
	var err error
	if list.Total, err = one(ctx, s.reads, scanOne[int64], "SELECT COUNT(*) FROM instances i"+w.where(), w.args...); err != nil {
		return list, fmt.Errorf("count instances: %w", err)
	}
	after(&w, "i.registered", "i.id", p.Cursor)
	list.Items, err = all(ctx, s.reads, scanInstance, instanceColumns+" FROM instances i"+w.where()+
		" ORDER BY i.registered DESC, i.id DESC LIMIT ? OFFSET ?", append(w.args, p.Size+1, p.Offset)...)
	if err != nil {
		return list, fmt.Errorf("list instances: %w", err)
	}
	if len(list.Items) > p.Size {
		list.Items = list.Items[:p.Size]
		last := list.Items[p.Size-1]
		list.Next = cursor(last.Registered, string(last.ID))
	}
	return list, s.addInstanceExtras(ctx, list.Items)
}

// selectInstances returns the conditions for what a filter selects, in whatever state.
func (s *Store) selectInstances(account waybill.AccountID, f waybill.InstanceFilter) (w filter) {
	w.add("i.account = ? AND i.region = ?", account, f.Region)
	w.in(s.dialect, "i.id", texts(f.IDs))
	if strings.ContainsAny(f.Name, "*?") { // no name holds these
		like := strings.NewReplacer("*", "%", "?", "_").Replace(escapeLike(lowerASCII(f.Name)))
		w.add(`lower(i.name) LIKE ? ESCAPE '\'`, like)
	} else {
		w.eq("i.name", f.Name)
	}
	w.eq("i.activation", string(f.Activation))
	w.eq("i.machine_id", f.MachineID)
	w.eq("i.resource_group", f.ResourceGroup)
	if f.IP != "" {
		w.add("(i.intranet_ip = ? OR i.internet_ip = ?)", f.IP, f.IP)
	}
	w.in(s.dialect, "i.intranet_ip", f.IntranetIPs)
	w.in(s.dialect, "i.internet_ip", f.InternetIPs)
	w.in(s.dialect, "i.presence", texts(f.Presences))
	if f.OSType != "" {
		w.add("lower(i.os_type) = lower(?)", f.OSType)
	}
	if f.Connected != nil {
		cond := "(i.state = ? AND i.presence IN (?, ?) AND i.last_seen >= ?)"
		if !*f.Connected {
			cond = "NOT " + cond
		}
		w.add(cond, waybill.Registered, waybill.Online, waybill.NoChannel, millis(s.now().Add(-waybill.SilentAfter)))
	}
	w.tags(s.dialect, waybill.InstanceResource, "i.id", account, f.Tags)
	return w
}

// addInstanceExtras fills in tags, and what the targets tell: how many ended, are open, and when the last one came.
func (s *Store) addInstanceExtras(ctx context.Context, items []waybill.Instance) error {
	if len(items) == 0 {
		return nil
	}
	ids := make([]string, len(items))
	for i := range items {
		ids[i] = string(items[i].ID)
	}
	tags, err := s.tagsOf(ctx, s.reads, waybill.InstanceResource, ids)
	if err != nil {
		return fmt.Errorf("list tags: %w", err)
	}
	type row struct {
		id          waybill.InstanceID
		ended, open int64
		last        int64
	}
	list, err := all(ctx, s.reads, func(r *sql.Rows) (v row, err error) {
		return v, r.Scan(&v.id, &v.ended, &v.open, &v.last)
	}, `SELECT t.instance, SUM(CASE WHEN t.finished > 0 THEN 1 ELSE 0 END), SUM(CASE WHEN t.finished = 0 THEN 1 ELSE 0 END), MAX(t.created)
		FROM targets t WHERE t.instance IN (SELECT value->>0 FROM `+s.dialect.rows+`) GROUP BY t.instance`, jsonRows(column(ids)))
	if err != nil {
		return fmt.Errorf("count targets: %w", err)
	}
	counts := make(map[waybill.InstanceID]row, len(list))
	for _, v := range list {
		counts[v.id] = v
	}
	for i := range items {
		c := counts[items[i].ID]
		items[i].Tags = tags[ids[i]]
		items[i].Deliveries, items[i].OpenTargets, items[i].LastDelivery = c.ended, c.open, instant(c.last)
	}
	return nil
}

// RenameInstance gives an instance of the fleet another name; ErrNotFound if there is none.
func (s *Store) RenameInstance(ctx context.Context, account waybill.AccountID, region string, id waybill.InstanceID, name string) error {
	return s.write(ctx, func(t *tx) error {
		return mustChange(t.exec(ctx, `UPDATE instances SET name = ? WHERE id = ? AND account = ? AND region = ? AND state <> ?`,
			name, id, account, region, waybill.Deregistered))
	})
}

// SetAgentToken stores the hash of the token of an instance of the fleet that has an official agent, in place of one that
// it may have; nil removes it. ErrNotFound if there is no such instance.
func (s *Store) SetAgentToken(ctx context.Context, account waybill.AccountID, region string, id waybill.InstanceID, hash []byte) error {
	return s.write(ctx, func(t *tx) error {
		return mustChange(t.exec(ctx, `UPDATE instances SET agent_token = ? WHERE id = ? AND account = ? AND region = ? AND state = ? AND agent_kind = ?`,
			hash, id, account, region, waybill.Registered, waybill.OfficialAgent))
	})
}

// LeaveFleet moves an instance to state to, Deregistered or Quarantine, unless it is deregistered already (ErrNotFound).
func (s *Store) LeaveFleet(ctx context.Context, id waybill.InstanceID, to waybill.InstanceState) error {
	return s.write(ctx, func(t *tx) error {
		was, err := one(ctx, t, scanInstance, instanceColumns+` FROM instances i WHERE i.id = ?`+s.dialect.lock, id)
		if err != nil {
			return err
		}
		if was.State == waybill.Deregistered {
			return ErrNotFound
		}
		if _, err := t.exec(ctx, `UPDATE instances SET state = ?, released = ? WHERE id = ?`, to, millis(s.now()), id); err != nil {
			return err
		}
		if to != waybill.Deregistered {
			return nil
		}
		_, err = t.exec(ctx, `UPDATE activations SET deregistered = deregistered + 1 WHERE id = ?`, was.Activation)
		return err
	})
}

// LeftSince returns the public keys of instances that left the fleet after t, and when.
func (s *Store) LeftSince(ctx context.Context, t time.Time) (map[string]time.Time, error) {
	type row struct {
		key string
		at  int64
	}
	list, err := all(ctx, s.reads, func(r *sql.Rows) (v row, err error) { return v, r.Scan(&v.key, &v.at) },
		`SELECT public_key, released FROM instances WHERE released > 0 AND released > ?`, millis(t))
	m := make(map[string]time.Time, len(list))
	for _, v := range list {
		m[v.key] = instant(v.at)
	}
	return m, err
}

// Greet records a hello: who runs now, on what, and that it is online. It returns the session that was there before and
// what was known of it.
func (s *Store) Greet(ctx context.Context, id waybill.InstanceID, session string, facts waybill.Facts) (before Seen, err error) {
	err = s.write(ctx, func(t *tx) error {
		before, err = one(ctx, t, func(r *sql.Rows) (v Seen, err error) {
			var at int64
			err = r.Scan(&v.Session, &v.Presence, &at)
			v.At = instant(at)
			return v, err
		}, `SELECT session, presence, last_seen FROM instances WHERE id = ? AND state = ?`+s.dialect.lock, id, waybill.Registered)
		if err != nil {
			return err
		}
		_, err := t.exec(ctx, `UPDATE instances SET session = ?, presence = ?, last_seen = ?, hostname = ?, machine_id = ?, intranet_ip = ?,
			os_type = ?, os_version = ?, agent_version = ?, capability = ? WHERE id = ?`,
			session, waybill.Online, millis(s.now()), facts.Hostname, facts.MachineID, facts.IntranetIP,
			facts.OSType, facts.OSVersion, facts.AgentVersion, facts.Capability, id)
		return err
	})
	return before, err
}

// Pulse is a heartbeat that comes beside the channel of its agent, and not through it.
type Pulse struct {
	Instance waybill.InstanceID
	At       time.Time
	NextDial time.Time // when the agent opens its channel next, if it has none now
}

// Pulses records pulses in one transaction. An instance that nothing was known of, or that was away, is there again,
// without a channel.
func (s *Store) Pulses(ctx context.Context, list []Pulse) error {
	if len(list) == 0 {
		return nil
	}
	rows := make([][3]any, len(list))
	for i, v := range list {
		rows[i] = [3]any{v.Instance, millis(v.At), millis(v.NextDial)}
	}
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `UPDATE instances SET last_seen = CASE WHEN last_seen < r.at THEN r.at ELSE last_seen END, next_dial = r.dial,
				presence = CASE WHEN presence IN (?, ?, ?) THEN ? ELSE presence END
			FROM (SELECT value->>0 AS id, CAST(value->>1 AS BIGINT) AS at, CAST(value->>2 AS BIGINT) AS dial FROM `+s.dialect.rows+`) r
			WHERE instances.id = r.id AND instances.state = ?`,
			waybill.NeverSeen, waybill.Stopped, waybill.ShutDown, waybill.NoChannel, jsonRows(rows), waybill.Registered)
		return err
	})
}

// LoseChannels marks the instances as without a channel whose session begins with prefix and is said to be online: the
// server that kept their channels has started anew.
func (s *Store) LoseChannels(ctx context.Context, kind waybill.AgentKind, prefix string) (lost int64, err error) {
	err = s.write(ctx, func(t *tx) error {
		lost, err = loseChannels(ctx, t, kind, prefix)
		return err
	})
	return lost, err
}

func loseChannels(ctx context.Context, t *tx, kind waybill.AgentKind, prefix string) (lost int64, err error) {
	return t.exec(ctx, `UPDATE instances SET presence = ? WHERE agent_kind = ? AND presence IN (?, ?) AND substr(session, 1, ?) = ?`,
		waybill.NoChannel, kind, waybill.Online, waybill.Upgrading, len(prefix), prefix)
}

// Seen is what the last message of an agent told.
type Seen struct {
	Session  string
	Presence waybill.Presence
	At       time.Time
}

// Sighting is a heartbeat or a goodbye.
type Sighting struct {
	Instance waybill.InstanceID
	Session  string
	Presence waybill.Presence
	At       time.Time
}

// Sight records sightings in one transaction. Those of a session that is not the instance's present one change nothing,
// and a heartbeat that is handled after its agent's goodbye does not bring it back: only a hello does.
func (s *Store) Sight(ctx context.Context, list []Sighting) error {
	if len(list) == 0 {
		return nil
	}
	rows := make([][4]any, len(list))
	for i, v := range list {
		rows[i] = [4]any{v.Instance, v.Session, v.Presence, millis(v.At)}
	}
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `UPDATE instances SET presence = r.presence, last_seen = r.at
			FROM (SELECT value->>0 AS id, value->>1 AS session, value->>2 AS presence, CAST(value->>3 AS BIGINT) AS at FROM `+s.dialect.rows+`) r
			WHERE instances.id = r.id AND instances.session = r.session AND (instances.presence = ? OR r.presence <> ?)`, jsonRows(rows), waybill.Online, waybill.Online)
		return err
	})
}
