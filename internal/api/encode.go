// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"reflect"
	"sync"
	"time"

	"github.com/openwaybill/waybill/internal/acs"
)

// format is how a response is written.
type format struct {
	contentType string
	encode      func(root string, v any) ([]byte, error)
}

// formats holds both by their names. New SDKs choose their XML error parser by comparing the whole Content-Type, so
// its text is part of the contract.
var formats = map[string]format{
	acs.JSON: {"application/json;charset=utf-8", encodeJSON},
	acs.XML:  {"text/xml;charset=utf-8", encodeXML},
}

// encodeJSON writes what v points to as one compact object; JSON has no root name.
func encodeJSON(_ string, v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // people read these with curl
	if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && !p.IsNil() {
		fillLists(p.Elem())
	}
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// encodeXML writes v as a document with the given root element. A character that XML cannot hold becomes U+FFFD.
func encodeXML(root string, v any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`<?xml version='1.0' encoding='UTF-8'?>`)
	start := xml.StartElement{Name: xml.Name{Local: root}}
	if err := xml.NewEncoder(&b).EncodeElement(v, start); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// list is a list of a response: never null in JSON, because typed clients refuse that, and repeated elements in XML.
// As the only field of a struct it takes the nested shape {"Region":[…]}, as a field beside others the flat one; which
// of the two an operation has is part of its published contract.
type list[T any] []T

func (l *list[T]) notNull() {
	if *l == nil {
		*l = list[T]{}
	}
}

// fillLists makes an empty list of every list in v that is nil. A MarshalJSON of list would do it too, but encoding/json
// copies what that returns again at every level, the content of a whole delivery with it.
func fillLists(v reflect.Value) {
	if !holdsLists(v.Type()) {
		return
	}
	if l, ok := v.Addr().Interface().(interface{ notNull() }); ok {
		l.notNull()
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fillLists(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			fillLists(v.Index(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			fillLists(v.Elem())
		}
	}
}

// listTypes remembers what holdsLists says: there are as many types as operations have parts.
var listTypes sync.Map

// holdsLists reports whether values of type t are lists or have some in them.
func holdsLists(t reflect.Type) (holds bool) {
	if known, ok := listTypes.Load(t); ok {
		return known.(bool)
	}
	defer func() { listTypes.Store(t, holds) }()
	if _, ok := reflect.New(t).Interface().(interface{ notNull() }); ok {
		return true
	}
	switch t.Kind() {
	case reflect.Struct:
		for f := range t.Fields() {
			if holdsLists(f.Type) {
				return true
			}
		}
	case reflect.Slice, reflect.Pointer:
		return holdsLists(t.Elem())
	}
	return false
}

// collect turns each element of from into one of a response.
func collect[From, To any](from []From, convert func(From) To) list[To] {
	to := make(list[To], len(from))
	for i, f := range from {
		to[i] = convert(f)
	}
	return to
}

// stamp writes a time as the API does, and a time that has not come as an empty text.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}
