// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"math"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
)

// everything has a field of every type that an input may have.
type everything struct {
	Text    string
	Word    waybill.ContentType
	Raw     *string
	Flag    *bool
	Number  *int64               `fault:"InvalidParam.PageSize"`
	Choice  string               `enum:"a|b"`
	Strange string               `enum:"a|b" fault:"InvalidResourceType.NotFound"`
	List    []waybill.InstanceID `fault:"InstanceIds.ExceedLimit"`
	tagged
}

func decodeInto[T any](params map[string]string) (T, error) {
	var in T
	err := decode(params, inputs(reflect.TypeFor[T]()), reflect.ValueOf(&in).Elem())
	return in, err
}

func TestDecode(t *testing.T) {
	t.Parallel()
	type in = everything
	tags := func(all ...waybill.Tag) in { return in{tagged: tagged{Tag: all}} }
	tests := []struct {
		name  string
		query string
		want  in
	}{
		{"nothing", "", in{}},
		{"text", "Text=a+b&Word=Base64", in{Text: "a b", Word: waybill.Base64}},
		{"unknown and wrongly written names", "text=a&Texts=b&List=mi-1&Tag=x", in{}},
		{"empty is absent", "Text=&Word=&Flag=&Number=&Choice=&List.1=&Tag.1.Key=&Tag.1.Value=", in{}},
		{"empty is a value", "Raw=", in{Raw: new("")}},
		{"raw", "Raw=x", in{Raw: new("x")}},
		{"true", "Flag=true", in{Flag: new(true)}},
		{"False", "Flag=False", in{Flag: new(false)}},
		{"number", "Number=060", in{Number: new(int64(60))}},
		{"number beyond all limits", "Number=99999999999999999999", in{Number: new(int64(math.MaxInt64))}},
		{"choice", "Choice=b", in{Choice: "b"}},
		{"list in order of the index", "List.10=c&List.2=b&List.1=a", in{List: []waybill.InstanceID{"a", "b", "c"}}},
		{"list with gaps", "List.3=b&List.1=a&List.2=&List.1000=c", in{List: []waybill.InstanceID{"a", "b", "c"}}},
		{"tags", "Tag.2.Key=b&Tag.1.Key=a&Tag.1.Value=1", tags(waybill.Tag{Key: "a", Value: "1"}, waybill.Tag{Key: "b"})},
		{"tag without a key", "Tag.1.Value=1", tags(waybill.Tag{Value: "1"})},
		{"tag with a member of the future", "Tag.1.Key=a&Tag.1.Scope=x&Tag.2.Scope=x", tags(waybill.Tag{Key: "a"})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeInto[in](paramsOf(t, tt.query))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(in{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		query string
		code  string
		arg   string
	}{
		{"flag", "Flag=yes", "InvalidParameter", "Flag"},
		{"number with a sign", "Number=-1", "InvalidParam.PageSize", ""},
		{"number with a fraction", "Number=1.5", "InvalidParam.PageSize", ""},
		{"choice", "Choice=c", "InvalidParameter", "Choice"},
		{"choice in another case", "Choice=A", "InvalidParameter", "Choice"},
		{"choice with a code of its own", "Strange=c", "InvalidResourceType.NotFound", ""},
		{"index zero", "List.0=a", "InvalidParameter", "List.0"},
		{"index with a leading zero", "List.01=a", "InvalidParameter", "List.01"},
		{"index that is no number", "List.x=a", "InvalidParameter", "List.x"},
		{"no index", "List.=a", "InvalidParameter", "List."},
		{"negative index", "List.-1=a", "InvalidParameter", "List.-1"},
		{"a member of a list of strings", "List.1.Key=a", "InvalidParameter", "List.1.Key"},
		{"index beyond the bound", "List.10001=a", "InstanceIds.ExceedLimit", ""},
		{"index beyond any number", "List.99999999999999999999=a", "InstanceIds.ExceedLimit", ""},
		{"tag index beyond the bound", "Tag.10001.Key=a", "NumberExceed.Tags", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := decodeInto[everything](paramsOf(t, tt.query))
			r, ok := errors.AsType[*refusal](err)
			if !ok || r.code != tt.code || r.arg != tt.arg {
				t.Errorf("got %v, want %s %s", err, tt.code, tt.arg)
			}
		})
	}
}

// A content is given in one of two ways.
func TestContentOfSendFile(t *testing.T) {
	t.Parallel()
	digest := waybill.FormatDigest([32]byte{1})
	for query, want := range map[string]string{
		"Content=x":                         "",
		"Content=":                          "",
		"ContentDigest=" + digest:           "",
		"":                                  "MissingParameter",
		"ContentType=Base64":                "MissingParameter",
		"ContentDigest=sha256:1":            "InvalidParameter.ContentDigest",
		"ContentDigest=" + digest[7:]:       "InvalidParameter.ContentDigest",
		"Content=x&ContentDigest=" + digest: "InvalidParameter.Conflict",
		"Content=&ContentDigest=" + digest:  "InvalidParameter.Conflict",
		"ContentType=Base64&ContentDigest=" + digest:     "InvalidParameter.Conflict",
		"Content=x&ContentType=Base64&ContentDigest=bad": "InvalidParameter.Conflict",
	} {
		in, err := decodeInto[sendFileInput](paramsOf(t, "RegionId=r&InstanceId.1=mi-1&Name=a&TargetDir=/&"+query))
		if err != nil {
			t.Fatal(err)
		}
		code := ""
		text, given, err := in.content()
		if err != nil {
			code = faultOf(nil, err).Code
		}
		if code != want || want == "" && (given != nil) != (in.ContentDigest != "") || given != nil && text != "" {
			t.Errorf("%s: %q, %x, %v; want %s", query, text, given, err, want)
		}
	}
}

// What is missing is found before what cannot be read, in the order of the documents.
func TestDecodeMissing(t *testing.T) {
	t.Parallel()
	const whole = "RegionId=r&InstanceId.1=mi-1&Name=a&TargetDir=/&Content="
	tests := []struct {
		query string
		code  string
		arg   string
	}{
		{"", "MissingParameter", "RegionId"},
		{"RegionId=r&Timeout=x", "MissingParameter", "Name"}, // instances may be given in several ways
		{"RegionId=r&InstanceId.1=mi-1", "MissingParameter", "Name"},
		{"RegionId=r&InstanceId.1=mi-1&Name=a&Timeout=x", "MissingParameter", "TargetDir"},
		{whole + "&Timeout=x", "InvalidParameter", "Timeout"},
	}
	for _, tt := range tests {
		_, err := decodeInto[sendFileInput](paramsOf(t, tt.query))
		r, ok := errors.AsType[*refusal](err)
		if !ok || r.code != tt.code || r.arg != tt.arg {
			t.Errorf("%s: got %v, want %s %s", tt.query, err, tt.code, tt.arg)
		}
	}
	in, err := decodeInto[sendFileInput](paramsOf(t, whole))
	if err != nil {
		t.Fatalf("an empty file: %v", err)
	}
	if text, digest, err := in.content(); text != "" || digest != nil || err != nil {
		t.Errorf("an empty file: %q, %x, %v", text, digest, err)
	}
}

func paramsOf(t *testing.T, query string) map[string]string {
	t.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	params := make(map[string]string, len(q))
	for name := range q {
		params[name] = q.Get(name)
	}
	return params
}

// FuzzDecode checks that nothing panics, that every refusal has a text, and that lists neither grow nor lose values.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "Text=a&Flag=true&Number=5&Choice=a", "List.1=a&List.3=b", "Tag.1.Key=a&Tag.1.Value=b&Tag.2.Key=c",
		"List.0=a", "List.99999999999999999999=a", "Tag.1=a", "Tag..Key=a", "Tag.1.Key.x=a", "List.１=a", "Raw=",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		params := make(map[string]string, len(q))
		values := 0
		for name := range q {
			params[name] = q.Get(name)
			if strings.HasPrefix(name, "List.") && q.Get(name) != "" {
				values++
			}
		}
		in, err := decodeInto[everything](params)
		if err != nil {
			if fault := faultOf(nil, err); fault.Status/100 != 4 {
				t.Errorf("%q is answered %+v", query, fault)
			}
			return
		}
		if len(in.List) != values {
			t.Errorf("%d values decoded, %d sent", len(in.List), values)
		}
	})
}
