// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxDocument is the longest document that Parse reads, in characters: RAM's limit for a custom policy.
const MaxDocument = 6144

// Document is a parsed policy document. Parse makes it; the zero value has no statements and so allows nothing. It
// never changes and may be used by several goroutines.
type Document struct {
	statements []statement
}

// statement is one element of Statement.
type statement struct {
	text       string // compact JSON
	deny       bool
	except     bool // actions are those of NotAction
	actions    []actionPattern
	resources  []resourcePattern
	conditions []condition
}

// Parse reads a policy document. Its grammar is strict, because a mistake that is passed over either grants too much or
// denies too little: names are compared with case, and an unknown or repeated one is an error wherever it stands.
//
//   - The document is an object with Version, which is "1", and Statement, an object or a non-empty list of them.
//   - A statement has Effect ("Allow" or "Deny"), either Action or NotAction, Resource, and perhaps Condition.
//     NotAction matches the actions that none of its patterns match.
//   - An action pattern is * or service:Name, compared without case. A resource pattern is * or an ARN,
//     acs:service:region:account:relative, compared with case. In their parts, which are matched one by one, * stands
//     for any characters and ? for one; the relative part of an ARN is all that follows the fourth colon.
//   - A condition is an operator, a key, and a value or a non-empty list of them. It holds if any value fits; with a
//     negated operator (…Not…), if none does. Without the key in the request, negated operators hold and others do not.
//     All conditions of a statement must hold.
//
// These keys go with these operators, and with the negated forms of those marked ¬:
//
//   - acs:ResourceTag/<key> and acs:RequestTag/<key>: StringEquals ¬, StringEqualsIgnoreCase ¬, StringLike ¬ (* and ?)
//   - acs:SourceIp: IpAddress ¬ (an address or a CIDR)
//   - acs:CurrentTime: DateEquals ¬, DateLessThan, DateLessThanEquals, DateGreaterThan, DateGreaterThanEquals (RFC 3339
//     or YYYY-MM-DD, which is midnight UTC; in whole seconds)
//   - acs:SecureTransport and acs:MFAPresent, which is always false: Bool
//
// The error is a *SyntaxError.
func Parse(text string) (*Document, error) {
	raw, err := validJSON(text)
	if err != nil {
		return nil, err
	}
	fields, err := readFields("", raw, "is not part of a policy document, which has Version and Statement",
		"Version", "Statement")
	if err != nil {
		return nil, err
	}
	version, ok := fields["Version"]
	if !ok {
		return nil, refuse("Version", `is missing; it must be "1"`)
	}
	if v, ok := version.text(); !ok || v != "1" {
		return nil, refuse("Version", `must be the string "1", not %s`, version.quoted())
	}
	list, ok := fields["Statement"]
	if !ok {
		return nil, refuse("Statement", "is missing; it must be a list of statements")
	}
	elements := []node{list} // RAM takes a single statement without a list, too
	if list.kind() != objectKind {
		if elements, err = list.elements("a list of statements"); err != nil {
			return nil, err
		}
	}
	d := &Document{}
	for _, e := range elements {
		st, err := parseStatement(e)
		if err != nil {
			return nil, err
		}
		d.statements = append(d.statements, st)
	}
	return d, nil
}

// UsesResourceTags reports whether some condition reads acs:ResourceTag/…, so that ResourceTags can change a decision.
func (d *Document) UsesResourceTags() bool {
	return slices.ContainsFunc(d.statements, func(st statement) bool {
		return slices.ContainsFunc(st.conditions, func(c condition) bool { return c.key.name == keyResourceTag })
	})
}

// Statements returns the number of statements.
func (d *Document) Statements() int { return len(d.statements) }

// Statement returns statement i as it was written, without the space between its tokens. It panics if there is none.
func (d *Document) Statement(i int) string { return d.statements[i].text }

// SyntaxError is what Parse returns for a text that is no policy document.
type SyntaxError struct {
	// Path is the place of the mistake, as in Statement[1].Condition.StringEquals; empty for the document as a whole.
	Path string
	// Message says what is wrong there and what is allowed. It is the rest of a sentence that begins with the place.
	Message string
}

func (e *SyntaxError) Error() string {
	if e.Path == "" {
		return "the policy document " + e.Message
	}
	return e.Path + " " + e.Message
}

func refuse(path, format string, args ...any) *SyntaxError {
	return &SyntaxError{Path: path, Message: fmt.Sprintf(format, args...)}
}

// validJSON checks everything about text that does not depend on what it says, and returns the value in it.
func validJSON(text string) (json.RawMessage, error) {
	// encoding/json would replace what is not UTF-8, so that the policy in force is not the one that was written.
	if !utf8.ValidString(text) {
		return nil, refuse("", "is not UTF-8")
	}
	if n := utf8.RuneCountInString(text); n > MaxDocument {
		return nil, refuse("", "has %d characters; at most %d are allowed", n, MaxDocument)
	}
	var raw json.RawMessage
	err := json.Unmarshal([]byte(text), &raw)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := text[:max(syntax.Offset, 1)-1] // the offset is behind the character at fault
		line := 1 + strings.Count(before, "\n")
		column := 1 + utf8.RuneCountInString(before[1+strings.LastIndexByte(before, '\n'):])
		return nil, refuse("", "is not JSON: %v (line %d, column %d)", syntax, line, column)
	}
	if err != nil {
		return nil, refuse("", "is not JSON: %v", err)
	}
	return raw, nil
}

func parseStatement(n node) (statement, error) {
	fields, err := readFields(n.path, n.raw,
		"is not part of a statement, which has Effect, Action or NotAction, Resource and Condition",
		"Effect", "Action", "NotAction", "Resource", "Condition")
	if err != nil {
		return statement{}, err
	}
	st := statement{text: n.compact()}
	if st.deny, err = parseEffect(n.path, fields); err != nil {
		return statement{}, err
	}
	actions, hasAction := fields["Action"]
	notActions, hasNotAction := fields["NotAction"]
	switch {
	case hasAction && hasNotAction:
		return statement{}, refuse(notActions.path, "cannot stand beside Action; a statement has one of them")
	case hasNotAction:
		actions, st.except = notActions, true
	case !hasAction:
		return statement{}, refuse(join(n.path, "Action"), "is missing; a statement has Action or NotAction")
	}
	if st.actions, err = parsePatterns(actions, parseAction); err != nil {
		return statement{}, err
	}
	resources, ok := fields["Resource"]
	if !ok {
		return statement{}, refuse(join(n.path, "Resource"), "is missing; it must be * or ARNs")
	}
	if st.resources, err = parsePatterns(resources, parseResource); err != nil {
		return statement{}, err
	}
	if conditions, ok := fields["Condition"]; ok {
		if st.conditions, err = parseConditions(conditions); err != nil {
			return statement{}, err
		}
	}
	return st, nil
}

func parseEffect(path string, fields map[string]node) (deny bool, err error) {
	effect, ok := fields["Effect"]
	if !ok {
		return false, refuse(join(path, "Effect"), `is missing; it must be "Allow" or "Deny"`)
	}
	switch v, _ := effect.text(); v {
	case "Allow":
		return false, nil
	case "Deny":
		return true, nil
	}
	return false, refuse(effect.path, `must be "Allow" or "Deny", not %s`, effect.quoted())
}

func parsePatterns[T any](n node, parse func(path, text string) (T, error)) ([]T, error) {
	elements, err := n.oneOrMore("a string or a list of strings")
	if err != nil {
		return nil, err
	}
	patterns := make([]T, len(elements))
	for i, e := range elements {
		text, ok := e.text()
		if !ok {
			return nil, refuse(e.path, "must be a string, not %s", e.quoted())
		}
		if patterns[i], err = parse(e.path, text); err != nil {
			return nil, err
		}
	}
	return patterns, nil
}

// kind is the kind of a JSON value.
type kind string

// The kinds, as messages say them.
const (
	objectKind kind = "an object"
	listKind   kind = "a list"
	stringKind kind = "a string"
	numberKind kind = "a number"
	boolKind   kind = "a boolean"
	nullKind   kind = "null"
)

// node is a JSON value and its place in the document.
type node struct {
	path string
	name string          // of a member of an object
	raw  json.RawMessage // valid, without space around it
}

func (n node) kind() kind {
	switch n.raw[0] {
	case '{':
		return objectKind
	case '[':
		return listKind
	case '"':
		return stringKind
	case 't', 'f':
		return boolKind
	case 'n':
		return nullKind
	}
	return numberKind
}

// text returns the text of a string.
func (n node) text() (string, bool) {
	if n.kind() != stringKind {
		return "", false
	}
	var s string
	err := json.Unmarshal(n.raw, &s)
	return s, err == nil
}

// quoted returns the value for a message.
func (n node) quoted() string {
	if s, ok := n.text(); ok {
		return quote(s)
	}
	return string(n.kind())
}

func (n node) compact() string {
	var b bytes.Buffer
	if err := json.Compact(&b, n.raw); err != nil {
		panic("policy: " + err.Error()) // validJSON has seen it
	}
	return b.String()
}

// elements returns the elements of a list that has some; what says in an error what the list is of.
func (n node) elements(what string) ([]node, error) {
	if n.kind() != listKind {
		return nil, refuse(n.path, "must be %s, not %s", what, n.quoted())
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(n.raw, &raws); err != nil {
		return nil, refuse(n.path, "is not JSON: %v", err)
	}
	if len(raws) == 0 {
		return nil, refuse(n.path, "must not be empty")
	}
	nodes := make([]node, len(raws))
	for i, raw := range raws {
		nodes[i] = node{path: fmt.Sprintf("%s[%d]", n.path, i), raw: raw}
	}
	return nodes, nil
}

// oneOrMore returns the elements of a list that has some, or n alone if it is a scalar.
func (n node) oneOrMore(what string) ([]node, error) {
	switch n.kind() {
	case stringKind, boolKind, numberKind:
		return []node{n}, nil
	}
	return n.elements(what)
}

// members returns the members of an object in their order. A name given twice is an error: which one counts would be
// known to the parser only.
func (n node) members() ([]node, error) {
	if n.kind() != objectKind {
		return nil, refuse(n.path, "must be an object, not %s", n.quoted())
	}
	d := json.NewDecoder(bytes.NewReader(n.raw))
	if _, err := d.Token(); err != nil {
		return nil, refuse(n.path, "is not JSON: %v", err)
	}
	var nodes []node
	seen := make(map[string]bool)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, refuse(n.path, "is not JSON: %v", err)
		}
		m := node{name: fmt.Sprint(name)}
		m.path = join(n.path, m.name)
		if err := d.Decode(&m.raw); err != nil {
			return nil, refuse(m.path, "is not JSON: %v", err)
		}
		if seen[m.name] {
			return nil, refuse(m.path, "is given twice")
		}
		seen[m.name] = true
		nodes = append(nodes, m)
	}
	return nodes, nil
}

// readFields returns the members of the object raw by name; unknown says what is wrong with one that is not in known.
// It takes the names with their case, unlike encoding/json.
func readFields(path string, raw json.RawMessage, unknown string, known ...string) (map[string]node, error) {
	members, err := node{path: path, raw: raw}.members()
	if err != nil {
		return nil, err
	}
	fields := make(map[string]node, len(members))
	for _, m := range members {
		if !slices.Contains(known, m.name) {
			return nil, refuse(m.path, "%s", unknown)
		}
		fields[m.name] = m
	}
	return fields, nil
}

// join returns the path of the member name of the object at path.
func join(path, name string) string {
	quoted := quote(name)
	name = quoted[1 : len(quoted)-1]
	if path == "" {
		return name
	}
	return path + "." + name
}

// maxQuoted is how much of a value an error repeats, in characters.
const maxQuoted = 100

// quote returns s in quotes, without control characters and not too long.
func quote(s string) string {
	if utf8.RuneCountInString(s) > maxQuoted {
		s = string([]rune(s)[:maxQuoted]) + "…"
	}
	return strconv.Quote(s)
}
