// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// condition is one key under one operator, with its values.
type condition struct {
	operator operator
	key      conditionKey
	tag      string // the rest of a key that ends in /
	values   []value
}

// value is a value of a condition or of a request; which field counts follows from its class.
type value struct {
	text   string
	prefix netip.Prefix
	time   time.Time // whole seconds
	truth  bool
}

// class says what values an operator compares and a key has.
type class int

const (
	texts class = iota
	addresses
	dates
	truths
)

// operator compares a value of the request with one of the condition.
type operator struct {
	name    string
	class   class
	negated bool // holds if fits is true for none of the values, and if the request has no such key
	fits    func(want, got value) bool
}

// operators returns all operators, in the order in which messages list them.
func operators() []operator {
	return []operator{
		{"StringEquals", texts, false, sameText},
		{"StringNotEquals", texts, true, sameText},
		{"StringEqualsIgnoreCase", texts, false, sameFold},
		{"StringNotEqualsIgnoreCase", texts, true, sameFold},
		{"StringLike", texts, false, like},
		{"StringNotLike", texts, true, like},
		{"IpAddress", addresses, false, inside},
		{"NotIpAddress", addresses, true, inside},
		{"DateEquals", dates, false, sameTime},
		{"DateNotEquals", dates, true, sameTime},
		{"DateLessThan", dates, false, func(want, got value) bool { return got.time.Before(want.time) }},
		{"DateLessThanEquals", dates, false, func(want, got value) bool { return !got.time.After(want.time) }},
		{"DateGreaterThan", dates, false, func(want, got value) bool { return got.time.After(want.time) }},
		{"DateGreaterThanEquals", dates, false, func(want, got value) bool { return !got.time.Before(want.time) }},
		{"Bool", truths, false, func(want, got value) bool { return got.truth == want.truth }},
	}
}

func sameText(want, got value) bool { return got.text == want.text }
func sameFold(want, got value) bool { return strings.EqualFold(got.text, want.text) }
func like(want, got value) bool     { return wildcard(want.text, got.text) }
func inside(want, got value) bool   { return want.prefix.Contains(got.prefix.Addr()) }
func sameTime(want, got value) bool { return got.time.Equal(want.time) }

// conditionKey is something about a request that a condition can ask for. A name that ends in / is followed by the key
// of a tag.
type conditionKey struct {
	name  string
	class class
	read  func(r *Request, tag string) (v value, present bool)
}

const keyResourceTag = "acs:ResourceTag/"

// conditionKeys returns all keys, in the order in which messages list them.
func conditionKeys() []conditionKey {
	return []conditionKey{
		{keyResourceTag, texts, func(r *Request, tag string) (value, bool) {
			text, ok := r.ResourceTags[tag]
			return value{text: text}, ok
		}},
		{"acs:RequestTag/", texts, func(r *Request, tag string) (value, bool) {
			text, ok := r.RequestTags[tag]
			return value{text: text}, ok
		}},
		{"acs:SourceIp", addresses, func(r *Request, _ string) (value, bool) {
			addr := r.SourceIP.Unmap()
			return value{prefix: netip.PrefixFrom(addr, addr.BitLen())}, addr.IsValid() // has no zone any more
		}},
		{"acs:CurrentTime", dates, func(r *Request, _ string) (value, bool) {
			return value{time: wholeSeconds(r.Time)}, !r.Time.IsZero()
		}},
		{"acs:SecureTransport", truths, func(r *Request, _ string) (value, bool) {
			return value{truth: r.Secure}, true
		}},
		// There is no second factor, and a policy that asks for one must not get the benefit of the doubt.
		{"acs:MFAPresent", truths, func(*Request, string) (value, bool) {
			return value{truth: false}, true
		}},
	}
}

// holds reports whether the condition is true of r.
func (c *condition) holds(r *Request) bool {
	got, present := c.key.read(r, c.tag)
	fits := present && slices.ContainsFunc(c.values, func(want value) bool { return c.operator.fits(want, got) })
	return fits != c.operator.negated
}

// parseConditions reads Condition: objects of values by key, by operator. It may be empty, as consoles write it.
func parseConditions(n node) ([]condition, error) {
	members, err := n.members()
	if err != nil {
		return nil, err
	}
	var conditions []condition
	for _, m := range members {
		op, err := findOperator(m)
		if err != nil {
			return nil, err
		}
		keys, err := m.members()
		if err != nil {
			return nil, err
		}
		// It would hold for every request.
		if len(keys) == 0 {
			return nil, refuse(m.path, "must not be empty; it needs a condition key")
		}
		for _, k := range keys {
			c, err := parseCondition(op, k)
			if err != nil {
				return nil, err
			}
			conditions = append(conditions, c)
		}
	}
	return conditions, nil
}

func parseCondition(op operator, n node) (condition, error) {
	key, tag, err := findKey(n)
	if err != nil {
		return condition{}, err
	}
	if key.class != op.class {
		return condition{}, refuse(n.path, "cannot be compared with %s, only with %s", op.name, operatorsOf(key.class))
	}
	elements, err := n.oneOrMore("a string or a list of strings")
	if err != nil {
		return condition{}, err
	}
	c := condition{operator: op, key: key, tag: tag, values: make([]value, len(elements))}
	for i, e := range elements {
		text, ok := e.text()
		switch e.kind() {
		case boolKind, numberKind: // people write true for "true", and 1 for "1"
			text, ok = string(e.raw), true
		}
		if !ok {
			return condition{}, refuse(e.path, "must be a string, not %s", e.quoted())
		}
		if c.values[i], err = parseValue(op.class, e.path, text); err != nil {
			return condition{}, err
		}
	}
	return c, nil
}

func findOperator(n node) (operator, error) {
	all := operators()
	i := slices.IndexFunc(all, func(op operator) bool { return op.name == n.name })
	if i < 0 {
		names := make([]string, len(all))
		for i, op := range all {
			names[i] = op.name
		}
		return operator{}, refuse(n.path, "is not a condition operator; they are %s", enumerate(names, "and"))
	}
	return all[i], nil
}

func findKey(n node) (key conditionKey, tag string, err error) {
	var names []string
	for _, k := range conditionKeys() {
		if !strings.HasSuffix(k.name, "/") {
			if n.name == k.name {
				return k, "", nil
			}
			names = append(names, k.name)
			continue
		}
		if tag, ok := strings.CutPrefix(n.name, k.name); ok && tag != "" {
			return k, tag, nil
		}
		names = append(names, k.name+"<key>")
	}
	return conditionKey{}, "", refuse(n.path, "is not a condition key; they are %s", enumerate(names, "and"))
}

func operatorsOf(c class) string {
	var names []string
	for _, op := range operators() {
		if op.class == c {
			names = append(names, op.name)
		}
	}
	return enumerate(names, "or")
}

func parseValue(c class, path, text string) (value, error) {
	switch c {
	case texts:
		return value{text: text}, nil
	case addresses:
		prefix, ok := parsePrefix(text)
		if !ok {
			return value{}, refuse(path, `must be an IP address or a CIDR, as in "10.0.0.0/8", not %s`, quote(text))
		}
		return value{prefix: prefix}, nil
	case dates:
		t, ok := parseTime(text)
		if !ok {
			return value{}, refuse(path, `must be a time, "2006-01-02T15:04:05Z" or "2006-01-02", not %s`, quote(text))
		}
		return value{time: t}, nil
	case truths:
		if text != "true" && text != "false" {
			return value{}, refuse(path, `must be "true" or "false", not %s`, quote(text))
		}
		return value{truth: text == "true"}, nil
	}
	panic(fmt.Sprintf("policy: class %d", c))
}

// parsePrefix reads an address or a CIDR, whose bits behind the prefix do not count. IPv4 in IPv6 becomes IPv4, as does
// the address of a request. A range that begins there and is larger than all of IPv4 would match none of it, and is
// refused.
func parsePrefix(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	const mapped = 96 // bits of ::ffff:0:0/96
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < mapped {
			return netip.Prefix{}, false
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mapped)
	}
	return prefix.Masked(), true
}

func parseTime(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return wholeSeconds(t), true
		}
	}
	return time.Time{}, false
}

// wholeSeconds drops the fraction of a second: no request would ever come at the very nanosecond of a DateEquals.
func wholeSeconds(t time.Time) time.Time { return t.Truncate(time.Second) }

func enumerate(names []string, conjunction string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " " + conjunction + " " + names[last]
}
