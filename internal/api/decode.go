// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// maxIndex is the highest index of a list parameter. It is far above every published limit, so that whatever is a
// matter of those limits is refused by whoever owns them.
const maxIndex = 10_000

// input is one parameter of an operation as its input struct declares it.
//
// The field's name is the parameter's name. Its type says how the value is written: a string (of any string type), a
// *string where the empty text is a value too, *bool, *int64, a list of strings, or a list of structs of strings. Tags:
//
//	required  "true" if the request is refused without it
//	enum      the accepted values, separated by |
//	fault     the published code of a value that cannot be read; InvalidParameter without it
//	limits    limits in words, for the documents; checked by the operation, not here
//	doc       what it is
type input struct {
	reflect.StructField
	required bool
	enum     []string // nil: any
}

// inputs returns the parameters that an input struct declares. Embedded structs count as their fields.
func inputs(t reflect.Type) []input {
	var all []input
	for _, f := range reflect.VisibleFields(t) {
		if !f.Anonymous {
			in := input{StructField: f, required: f.Tag.Get("required") == "true"}
			if e := f.Tag.Get("enum"); e != "" {
				in.enum = strings.Split(e, "|")
			}
			all = append(all, in)
		}
	}
	return all
}

func (f input) isList() bool { return f.Type.Kind() == reflect.Slice }

// given is a decoded input struct with the parameters that it has.
type given struct {
	reflect.Value
	known []input
}

// parameter returns the value of one of them, and the zero Value if there is none of that name.
func (g given) parameter(name string) reflect.Value {
	for _, f := range g.known {
		if f.Name == name {
			return g.FieldByIndex(f.Index)
		}
	}
	return reflect.Value{}
}

// malformed is the error of a value that cannot be read as f.
func (f input) malformed(name string) error {
	if code := f.Tag.Get("fault"); code != "" {
		return refuse(code)
	}
	return refuse("InvalidParameter", name)
}

// present reports whether the request supplies f. An empty text counts as not supplied, except where it is a value.
func (f input) present(params map[string]string) bool {
	if f.isList() {
		for name, value := range params {
			if strings.HasPrefix(name, f.Name+".") && value != "" {
				return true
			}
		}
		return false
	}
	value, ok := params[f.Name]
	return ok && (value != "" || f.Type == reflect.TypeFor[*string]())
}

// decode fills the struct v, whose fields known are, from params. First it looks for what is missing, then for what
// cannot be read. Parameters it does not know are ignored.
func decode(params map[string]string, known []input, v reflect.Value) error {
	for _, f := range known {
		if f.required && !f.present(params) {
			return missing(f.Name)
		}
	}
	for _, f := range known {
		if !f.present(params) {
			continue
		}
		if err := f.set(v.FieldByIndex(f.Index), params); err != nil {
			return err
		}
	}
	return nil
}

func (f input) set(v reflect.Value, params map[string]string) error {
	if f.isList() {
		return f.setList(v, params)
	}
	text := params[f.Name]
	if f.enum != nil && !slices.Contains(f.enum, text) {
		return f.malformed(f.Name)
	}
	if v.Kind() == reflect.String {
		v.SetString(text)
		return nil
	}
	v.Set(reflect.New(v.Type().Elem()))
	switch v = v.Elem(); v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if !strings.EqualFold(text, "true") && !strings.EqualFold(text, "false") {
			return f.malformed(f.Name)
		}
		v.SetBool(strings.EqualFold(text, "true"))
	case reflect.Int64:
		n, ok := parseDigits(text)
		if !ok {
			return f.malformed(f.Name)
		}
		v.SetInt(n)
	default:
		panic("api: parameter " + f.Name + " has a type that cannot be decoded")
	}
	return nil
}

// parseDigits reads decimal digits. A number too large is as large as can be: some limit will refuse it.
func parseDigits(text string) (int64, bool) {
	if strings.ContainsFunc(text, func(r rune) bool { return r < '0' || r > '9' }) {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return math.MaxInt64, true
	}
	return n, err == nil
}

// setList reads Name.1, Name.2 … or Name.1.Key, Name.1.Value … in the order of the indexes, which may have gaps.
func (f input) setList(v reflect.Value, params map[string]string) error {
	elem := f.Type.Elem()
	items := make(map[int]reflect.Value)
	for name, value := range params {
		rest, ok := strings.CutPrefix(name, f.Name+".")
		if !ok || value == "" {
			continue
		}
		index, member, _ := strings.Cut(rest, ".")
		n, ok := parseDigits(index)
		if !ok || n == 0 || index[0] == '0' {
			return refuse("InvalidParameter", name)
		}
		if n > maxIndex {
			return f.malformed(name)
		}
		item, ok := items[int(n)]
		if !ok {
			item = reflect.New(elem).Elem()
		}
		target := item
		if elem.Kind() == reflect.Struct {
			if target = item.FieldByName(member); !target.IsValid() {
				continue // a member that only newer clients know
			}
		} else if member != "" {
			return refuse("InvalidParameter", name)
		}
		target.SetString(value)
		items[int(n)] = item
	}
	indexes := make([]int, 0, len(items))
	for n := range items {
		indexes = append(indexes, n)
	}
	slices.Sort(indexes)
	for _, n := range indexes {
		v.Set(reflect.Append(v, items[n]))
	}
	return nil
}

// parameters describes them for the operation table.
func parameters(known []input) []Parameter {
	var all []Parameter
	for _, f := range known {
		p := Parameter{
			Name:        f.Name,
			Type:        "String",
			Required:    f.required,
			Values:      f.enum,
			Limits:      f.Tag.Get("limits"),
			Description: f.Tag.Get("doc"),
		}
		switch f.Type {
		case reflect.TypeFor[*bool]():
			p.Type = "Boolean"
		case reflect.TypeFor[*int64]():
			p.Type = "Long"
		}
		switch {
		case !f.isList():
			all = append(all, p)
		case f.Type.Elem().Kind() == reflect.Struct:
			for _, member := range reflect.VisibleFields(f.Type.Elem()) {
				p.Name = f.Name + ".N." + member.Name
				all = append(all, p)
			}
		default:
			p.Name = f.Name + ".N"
			all = append(all, p)
		}
	}
	return all
}
