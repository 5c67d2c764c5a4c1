// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"github.com/openwaybill/waybill"
)

// Kind says whether an operation changes anything.
type Kind string

// The kinds.
const (
	Read  Kind = "read"
	Write Kind = "write"
)

// Operation is one row of the operation table: all there is to know of an operation, for the frame that serves it and
// for the documents generated from it.
type Operation struct {
	Name    string
	Version string // of the API it belongs to
	Kind    Kind
	Summary string

	// Action is what a policy must allow, as in "ecs:SendFile". Empty: every authenticated caller may.
	Action string
	// Resources are the ARNs the action is performed on. {AccountId} stands for the caller's account, {PolicyOwner} for
	// it or, of a system policy, for "system", and any other {Name} for the value of that parameter: one ARN for each value
	// of a list, and * when it was not sent.
	Resources []string

	Parameters []Parameter
	Response   []Field // without RequestId, which every response has
	Errors     []Fault // published for this operation, on top of the gateway's

	// Extension is set on what no published API has: what it is for.
	Extension string
	// Never says of published errors why they do not occur here.
	Never map[string]string
	// Differences are what a client of the real service may notice.
	Differences []Difference

	serve func(ctx context.Context, c *call, params map[string]string) (reply, error)
}

// Difference is one way in which this server differs from the documents of the real service.
type Difference struct {
	Topic, Here, Elsewhere string
}

// Service returns the name of the service that o belongs to, such as ecs.
func (o *Operation) Service() string { return services[o.Version] }

// acts returns how audit records name o.
func (o *Operation) acts() string {
	if o.Action != "" {
		return o.Action
	}
	return services[o.Version] + ":" + o.Name
}

// Parameter is one request parameter of an operation. A list is named with an N for its index, as in Tag.N.Key.
type Parameter struct {
	Name        string
	Type        string // String, Boolean or Long
	Required    bool
	Values      []string // the only ones accepted; nil: any
	Limits      string   // in words; empty: none
	Description string
}

// Field is one field of a response.
type Field struct {
	Name        string
	Type        string // String, Boolean, Integer, Long, Object or Array
	Description string
	Fields      []Field // of an Object, or of each element of an Array; none for an Array of texts
}

// reply is a response that the frame can stamp with the request ID.
type reply interface{ setRequestID(id string) }

// envelope is what every response starts with.
type envelope struct {
	RequestId string
}

func (e *envelope) setRequestID(id string) { e.RequestId = id }

// row completes o with what its types say and with the handler that serves it. errs are the published codes.
func row[In, Out any, R interface {
	*Out
	reply
}](o Operation, errs []string, run func(*call, context.Context, *In) (R, error),
) Operation {
	known := inputs(reflect.TypeFor[In]())
	o.Parameters = parameters(known)
	o.Response = slices.DeleteFunc(fields(reflect.TypeFor[Out]()), func(f Field) bool { return f.Name == "RequestId" })
	for _, code := range errs {
		o.Errors = append(o.Errors, published(o.Name, code))
	}
	o.serve = func(ctx context.Context, c *call, params map[string]string) (reply, error) {
		in := new(In)
		v := given{reflect.ValueOf(in).Elem(), known}
		if err := decode(params, known, v.Value); err != nil {
			return nil, err
		}
		for _, template := range o.Resources {
			c.act.Resources = append(c.act.Resources, resources(template, c.who, v, max(maxNamed, c.MaxInstances()))...)
		}
		if err := c.repeatable(v, params); err != nil {
			return nil, err
		}
		if s, ok := any(in).(selecting); o.Action != "" && !(ok && s.selects()) {
			if err := c.Authorize(ctx, c.act, requestTags(o.Kind, v)); err != nil {
				return nil, err
			}
		}
		if o.changesAccess() && c.who.Temporary() {
			return nil, waybill.Errorf(waybill.Forbidden, "a temporary key cannot change keys, users, groups of users and policies")
		}
		out, err := run(c, ctx, in)
		if err != nil {
			return nil, err // and not a nil R, which would be a non-nil reply
		}
		return out, nil
	}
	return o
}

// selecting is an input that may leave it to the use case to find out what the action is performed on, and to authorize it.
type selecting interface{ selects() bool }

// changesAccess reports whether o changes who may do what. A temporary key may not, for it would outlive itself.
func (o *Operation) changesAccess() bool { return o.Version == versionRAM && o.Kind == Write }

// What is compared with policies is bounded before anybody knows whether the caller may do anything. What is beyond these
// bounds is nothing that exists and is refused by every operation, so it does not matter what policies say to it.
const (
	maxNamed     = 100 // values of a list, unless deliveries may have more instances; the most that any operation takes
	maxNameBytes = 512 // of a name or ID, of the key and the value of a tag
)

func cut(s string) string {
	if len(s) <= maxNameBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxNameBytes], "")
}

// requestTags returns the tags that a request puts on something. Those of a query only select.
func requestTags(k Kind, in given) []waybill.Tag {
	f := in.parameter("Tag")
	if k != Write || !f.IsValid() {
		return nil
	}
	all := f.Interface().([]waybill.Tag)
	tags := make([]waybill.Tag, min(len(all), maxNamed))
	for i := range tags {
		tags[i] = waybill.Tag{Key: cut(all[i].Key), Value: cut(all[i].Value)}
	}
	return tags
}

// requires reports whether o has a required parameter of that name.
func (o *Operation) requires(name string) bool {
	return slices.ContainsFunc(o.Parameters, func(p Parameter) bool { return p.Name == name && p.Required })
}

// publishes reports whether code is among the errors of o.
func (o *Operation) publishes(code string) bool {
	return slices.ContainsFunc(o.Errors, func(f Fault) bool { return f.Code == code })
}

// resources fills in an ARN template. Values are never looked at for placeholders of their own. A list of more than most
// values counts as all that there may be.
func resources(template string, who waybill.Principal, in given, most int) []string {
	arns := []string{""}
	for template != "" {
		literal, rest, _ := strings.Cut(template, "{")
		name, rest, found := strings.Cut(rest, "}")
		values := []string{""}
		switch {
		case name == "AccountId":
			values = []string{string(who.Account)}
		case name == "PolicyOwner":
			values = []string{policyOwner(who, in)}
		case found:
			values = arnValues(name, who, in.parameter(name), most)
		}
		next := make([]string, 0, len(arns)*len(values))
		for _, arn := range arns {
			for _, value := range values {
				next = append(next, arn+literal+value)
			}
		}
		arns, template = next, rest
	}
	return arns
}

// policyOwner returns whose a policy is in ARNs: system policies belong to no account.
func policyOwner(who waybill.Principal, in given) string {
	if t := in.parameter("PolicyType"); t.IsValid() && t.String() == string(waybill.SystemPolicy) {
		return "system"
	}
	return string(who.Account)
}

// arnValues returns what a parameter stands for in an ARN: its values, and * if there are none or more than most.
func arnValues(name string, who waybill.Principal, v reflect.Value, most int) []string {
	var all []string
	switch {
	case v.Kind() == reflect.String && v.String() != "":
		all = []string{cut(v.String())}
	case v.Kind() == reflect.Slice && v.Len() <= most:
		for i := range v.Len() {
			all = append(all, cut(v.Index(i).String()))
		}
	}
	switch {
	case name == "ResourceType" && len(all) == 1:
		return []string{arnType(all[0])}
	case name == "UserName" && len(all) == 0 && who.Kind == waybill.UserActor:
		return []string{who.Name} // of access keys, no name means one's own
	case len(all) == 0:
		return []string{"*"}
	}
	return all
}

// fields describes a response struct. Embedded structs count as their fields.
func fields(t reflect.Type) []Field {
	var all []Field
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous || !f.IsExported() {
			continue
		}
		field := Field{Name: f.Name, Description: f.Tag.Get("doc")}
		t := f.Type
		if t.Kind() == reflect.Pointer { // what is not always there
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Struct:
			field.Type, field.Fields = "Object", fields(t)
		case reflect.Slice:
			field.Type = "Array"
			if t.Elem().Kind() == reflect.Struct {
				field.Fields = fields(t.Elem())
			}
		case reflect.Bool:
			field.Type = "Boolean"
		case reflect.Int32:
			field.Type = "Integer"
		case reflect.Int64:
			field.Type = "Long"
		case reflect.String:
			field.Type = "String"
		default:
			panic("api: response field " + t.Name() + "." + f.Name + " has a type that no client expects")
		}
		all = append(all, field)
	}
	return all
}
