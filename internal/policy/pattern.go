// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// matches reports whether the statement is about s and its conditions hold.
func (st *statement) matches(s *subject) bool {
	action := slices.ContainsFunc(st.actions, func(p actionPattern) bool { return p.matches(s) })
	if action == st.except {
		return false
	}
	if !slices.ContainsFunc(st.resources, func(p resourcePattern) bool { return p.matches(s) }) {
		return false
	}
	for i := range st.conditions {
		if !st.conditions[i].holds(s.Request) {
			return false
		}
	}
	return true
}

// actionPattern is an element of Action or NotAction.
//
// It is in lower case and compared with the action in lower case: no two actions differ in case alone, so nothing is
// allowed by it that was not meant, while a Deny that is missed for the case of one letter denies nothing and says so
// to nobody.
type actionPattern struct {
	service, name string
}

func parseAction(path, text string) (actionPattern, error) {
	if text == "*" {
		return actionPattern{service: "*", name: "*"}, nil
	}
	service, name, ok := strings.Cut(text, ":")
	if !ok || !isActionPart(service) || !isActionPart(name) {
		return actionPattern{}, refuse(path,
			`must be * or service:Name, as in "ecs:SendFile", of letters, digits, - _ . and wildcards * ?, not %s`,
			quote(text))
	}
	return actionPattern{service: strings.ToLower(service), name: strings.ToLower(name)}, nil
}

func isActionPart(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.*?") == ""
}

func (p actionPattern) matches(s *subject) bool {
	return wildcard(p.service, s.service) && wildcard(p.name, s.action)
}

// arn holds the parts of an ARN after acs: service, region, account and the relative part.
type arn [4]string

// splitARN reports false if s is no ARN. All parts but the service and the relative one may be empty, as in
// acs:ram::1234567890123456:user/alice.
func splitARN(s string) (arn, bool) {
	parts := strings.SplitN(s, ":", 5)
	if len(parts) != 5 || parts[0] != "acs" || parts[1] == "" || parts[4] == "" {
		return arn{}, false
	}
	return arn(parts[1:]), true
}

// resourcePattern is an element of Resource. Its parts are matched one by one, so that a * in one of them never takes
// in the account.
type resourcePattern struct {
	any   bool // *
	parts arn
}

func parseResource(path, text string) (resourcePattern, error) {
	if text == "*" {
		return resourcePattern{any: true}, nil
	}
	parts, ok := splitARN(text)
	if !ok {
		return resourcePattern{}, refuse(path,
			`must be * or an ARN, acs:service:region:account:relative, as in "acs:ecs:*:*:instance/*", not %s`,
			quote(text))
	}
	return resourcePattern{parts: parts}, nil
}

func (p resourcePattern) matches(s *subject) bool {
	if p.any {
		return true
	}
	if !s.isARN {
		return false
	}
	for i, part := range p.parts {
		if !wildcard(part, s.arn[i]) {
			return false
		}
	}
	return true
}

// wildcard reports whether pattern, which is UTF-8, matches the whole of s. In pattern * stands for any characters,
// also none, and ? for exactly one.
//
// After a mismatch it lets the last * take in one more character. Earlier ones need no second try: what they could take
// in, the last one can as well. So the time is at most the product of the lengths.
func wildcard(pattern, s string) bool {
	p, i := 0, 0
	star, from := -1, 0 // behind the last * in pattern, and where in s the rest of the pattern was tried
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			p++
			star, from = p, i
		case p < len(pattern) && pattern[p] == '?':
			p++
			i += runeLen(s[i:])
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			from += runeLen(s[from:])
			p, i = star, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func runeLen(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}
