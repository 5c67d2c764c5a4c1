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
	// Resource is the ARN the action is performed on. {AccountId} stands for the caller's account and any other
	// {Name} for the value of that parameter: one ARN for each value of a list, and * when it was not sent.
	Resource string

	Parameters []Parameter
	Response   []Field // without RequestId, which every response has
	Errors     []Fault // published for this operation, on top of the gateway's; some never occur here

	serve func(ctx context.Context, c *call, params map[string]string) (reply, error)
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
	Fields      []Field // of an Object, or of each element of an Array
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
		if err := decode(params, known, reflect.ValueOf(in).Elem()); err != nil {
			return nil, err
		}
		if o.Action != "" {
			if err := c.authorize(ctx, c.who, o.Action, resources(o.Resource, c.who.Account, in)); err != nil {
				return nil, err
			}
		}
		out, err := run(c, ctx, in)
		if err != nil {
			return nil, err // and not a nil R, which would be a non-nil reply
		}
		return out, nil
	}
	return o
}

// takes reports whether o has a parameter of that name.
func (o *Operation) takes(name string) bool {
	return slices.ContainsFunc(o.Parameters, func(p Parameter) bool { return p.Name == name })
}

// publishes reports whether code is among the errors of o.
func (o *Operation) publishes(code string) bool {
	return slices.ContainsFunc(o.Errors, func(f Fault) bool { return f.Code == code })
}

// resources fills in an ARN template. Values are never looked at for placeholders of their own.
func resources(template string, account waybill.AccountID, in any) []string {
	v := reflect.ValueOf(in).Elem()
	arns := []string{""}
	for template != "" {
		literal, rest, _ := strings.Cut(template, "{")
		name, rest, found := strings.Cut(rest, "}")
		values := []string{""}
		switch {
		case name == "AccountId":
			values = []string{string(account)}
		case found:
			values = texts(v.FieldByName(name))
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

// texts returns the values of a string or a list of strings, and * if there are none.
func texts(v reflect.Value) []string {
	if v.Kind() == reflect.String {
		if v.String() == "" {
			return []string{"*"}
		}
		return []string{v.String()}
	}
	if v.Len() == 0 {
		return []string{"*"}
	}
	all := make([]string, v.Len())
	for i := range all {
		all[i] = v.Index(i).String()
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
		switch f.Type.Kind() {
		case reflect.Struct:
			field.Type, field.Fields = "Object", fields(f.Type)
		case reflect.Slice:
			field.Type, field.Fields = "Array", fields(f.Type.Elem())
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
