// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/openwaybill/waybill/internal/api"
)

// record is what the cases have seen: of each thing, the first test that saw it.
type record struct {
	operations map[string]string // by name
	parameters map[part]string   // sent in a call that succeeded
	present    map[part]string   // fields of answers
	filled     map[part]string   // the same, where the field was not empty
	codes      map[part]string   // refusals; those of the gateway have no operation
}

// part is a parameter, a field or an error code of an operation.
type part struct{ op, name string }

func newRecord() *record {
	return &record{
		operations: map[string]string{}, parameters: map[part]string{}, present: map[part]string{}, filled: map[part]string{},
		codes: map[part]string{},
	}
}

// note keeps the first test that saw something.
func note[K comparable](m map[K]string, key K, t *testing.T) {
	if _, seen := m[key]; !seen {
		m[key] = t.Name()
	}
}

// index is the number of an element in a parameter's name.
var index = regexp.MustCompile(`\.\d+(\.|$)`)

// success notes what was sent and what came back.
func (r *record) success(t *testing.T, op string, p params, a answer) {
	t.Helper()
	note(r.operations, op, t)
	known := map[string]bool{}
	for _, k := range table()[op].Parameters {
		known[k.Name] = true
	}
	for name, value := range flatten(complete(op, p)) {
		name = index.ReplaceAllString(name, ".N$1")
		if !known[name] {
			t.Errorf("%s has no parameter %s", op, name)
		}
		if value != "" {
			note(r.parameters, part{op, name}, t)
		}
	}
	r.object(t, op, "", table()[op].Response, a)
}

// object notes the fields of an object, and reports what the table does not know or calls something else.
func (r *record) object(t *testing.T, op, prefix string, fields []api.Field, v map[string]any) {
	t.Helper()
	known := map[string]bool{"RequestId": prefix == ""}
	for _, f := range fields {
		known[f.Name] = true
		value, ok := v[f.Name]
		if !ok {
			continue
		}
		path := prefix + f.Name
		note(r.present, part{op, path}, t)
		full := true
		switch f.Type {
		case "Object":
			var of map[string]any
			if of, ok = value.(map[string]any); ok {
				r.object(t, op, path+".", f.Fields, of)
			}
		case "Array":
			var elements []any
			elements, ok = value.([]any)
			full = len(elements) > 0
			for _, e := range elements {
				if of, isObject := e.(map[string]any); isObject && len(f.Fields) > 0 {
					r.object(t, op, path+".", f.Fields, of)
				} else if _, isText := e.(string); !isText || len(f.Fields) > 0 {
					t.Errorf("%s: an element of %s is %v", op, path, e)
				}
			}
		case "Boolean":
			_, ok = value.(bool)
		case "Integer", "Long":
			_, ok = value.(json.Number)
		default:
			var text string
			text, ok = value.(string)
			full = text != ""
		}
		if !ok {
			t.Errorf("%s: %s is %v (%T); want the type %s", op, path, value, value, f.Type)
		}
		if full {
			note(r.filled, part{op, path}, t)
		}
	}
	for name := range v {
		if !known[name] && !strings.HasPrefix(name, "_") { // clients add _headers
			t.Errorf("%s: the table knows no %s", op, prefix+name)
		}
	}
}

func (r *record) refusal(t *testing.T, op, code string) { note(r.codes, part{op, code}, t) }

// mayBeEmpty reports whether the table says of a field that it is, or may be, empty.
func mayBeEmpty(f api.Field) bool { return strings.Contains(f.Description, "empty") }

// refusedWhenSent holds the parameters that no call can succeed with.
var refusedWhenSent = map[part]string{
	{"DescribeInstanceStatus", "ZoneId"}: "InvalidZoneId.NotFound", // there are no zones
}

// walk calls visit for every field of an operation. inEmpty says that something it is in is always empty.
func walk(fields []api.Field, prefix string, inEmpty bool, visit func(path string, f api.Field, inEmpty bool)) {
	for _, f := range fields {
		visit(prefix+f.Name, f, inEmpty)
		walk(f.Fields, prefix+f.Name+".", inEmpty || f.Description == "empty", visit)
	}
}

// check reports everything the operation table promises that no case has seen.
func (r *record) check(t *testing.T) {
	for _, o := range api.Operations() {
		if r.operations[o.Name] == "" {
			t.Errorf("%s never succeeded", o.Name)
		}
		for _, p := range o.Parameters {
			at := part{o.Name, p.Name}
			code, refused := refusedWhenSent[at]
			switch {
			case refused && r.codes[part{o.Name, code}] == "":
				t.Errorf("%s: %s was never refused with %s", o.Name, p.Name, code)
			case !refused && r.parameters[at] == "":
				t.Errorf("%s never succeeded with %s", o.Name, p.Name)
			}
		}
		walk(o.Response, "", false, func(path string, f api.Field, inEmpty bool) {
			at := part{o.Name, path}
			switch {
			case inEmpty:
			case r.present[at] == "":
				t.Errorf("%s never answered %s", o.Name, path)
			case r.filled[at] == "" && !mayBeEmpty(f):
				t.Errorf("%s always answered an empty %s", o.Name, path)
			}
		})
		for _, f := range o.Errors {
			if o.Never[f.Code] == "" && r.proof(o.Name, f.Code) == "" {
				t.Errorf("%s was never answered, and %s lists it", f.Code, o.Name)
			}
		}
	}
	for _, f := range gatewayFaults {
		if r.codes[part{"", f.Code}] == "" {
			t.Errorf("%s was never answered by the gateway", f.Code)
		}
	}
}

// proof returns the test that saw a code of an operation: on itself, or on the first that was answered with it.
func (r *record) proof(op, code string) string {
	if name := r.codes[part{op, code}]; name != "" {
		return name
	}
	for _, o := range api.Operations() {
		if name := r.codes[part{o.Name, code}]; name != "" {
			return name
		}
	}
	return r.codes[part{"", code}]
}
