// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill/internal/control"
)

// listing asks s for deliveries and returns the NextToken of the answer, or its error code.
func listing(t *testing.T, s *Server, f *fake, pairs ...string) (page control.Page, next, code string) {
	t.Helper()
	f.asked = nil
	status, _, body := serve(s, signV1("DescribeSendFileResults", append([]string{"RegionId", testRegion}, pairs...)...))
	if status != 200 {
		return control.Page{}, "", pick(t, body, "Code")
	}
	return f.asked[1].(control.Page), pick(t, body, "NextToken"), ""
}

func TestPaging(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		pairs []string
		want  control.Page
		code  string
	}{
		{"default", nil, control.Page{Size: 10}, ""},
		{"numbered", []string{"PageNumber", "3", "PageSize", "50"}, control.Page{Size: 50, Offset: 100}, ""},
		{"page zero", []string{"PageNumber", "0"}, control.Page{}, "InvalidParam.PageNumber"},
		{"page of no number", []string{"PageNumber", "x"}, control.Page{}, "InvalidParam.PageNumber"},
		{"page beyond any", []string{"PageNumber", "99999999999999999999"}, control.Page{}, "InvalidParam.PageNumber"},
		{"size zero", []string{"PageSize", "0"}, control.Page{}, "InvalidParam.PageSize"},
		{"size too large", []string{"PageSize", "51"}, control.Page{}, "InvalidParam.PageSize"},
		{"token mode", []string{"MaxResults", "50"}, control.Page{Size: 50}, ""},
		{
			"numbers have no effect in it",
			[]string{"MaxResults", "5", "PageNumber", "0", "PageSize", "99"},
			control.Page{Size: 5},
			"",
		},
		{"too many", []string{"MaxResults", "51"}, control.Page{}, "InvalidParameter.MaxResults"},
		{"none", []string{"MaxResults", "0"}, control.Page{}, "InvalidParameter.MaxResults"},
		{"many of no number", []string{"MaxResults", "x"}, control.Page{}, "InvalidParameter.MaxResults"},
		{"garbled token", []string{"NextToken", "AAAAAdDWBF2"}, control.Page{}, "InvalidParameter.NextToken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			page, next, code := listing(t, newTestServer(f, Config{}), f, tt.pairs...)
			if page != tt.want || code != tt.code || next != "" {
				t.Errorf("page %+v, token %q, code %q", page, next, code)
			}
		})
	}
}

func TestPagingInAnswer(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.deliveries.Total = 77
	_, _, body := serve(newTestServer(f, Config{}),
		signV1("DescribeSendFileResults", "RegionId", testRegion, "PageNumber", "2", "PageSize", "7"))
	if want := `"TotalCount":77,"PageNumber":2,"PageSize":7,"NextToken":""`; !strings.Contains(body, want) {
		t.Errorf("%s lacks %s", body, want)
	}
}

func TestMaxPageSizeIsASetting(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newTestServer(f, Config{MaxPageSize: 5})
	if page, _, _ := listing(t, s, f); page.Size != 5 {
		t.Errorf("default page of %d", page.Size)
	}
	if _, _, code := listing(t, s, f, "MaxResults", "6"); code != "InvalidParameter.MaxResults" {
		t.Errorf("code %q", code)
	}
}

// The pager of the aliyun CLI sends its first request without MaxResults, and then adds nothing but NextToken.
func TestTokensAreFollowed(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.deliveries.Next = "cursor-1"
	s := newTestServer(f, Config{})
	filter := []string{"Name", "a&b<c>", "Tag.1.Key", "k", "Tag.1.Value", "v", "InvocationStatus", "Success"}
	with := func(pairs ...string) []string { return append(pairs, filter...) }

	_, next, _ := listing(t, s, f, with("PageSize", "20")...)
	if next == "" {
		t.Fatal("no token although there is more")
	}
	want := f.asked[0]
	for _, tt := range []struct {
		name  string
		pairs []string
		size  int
	}{
		{"same filters", with("NextToken", next), 20},
		{"no filters", []string{"NextToken", next}, 20},
		{"another size", with("NextToken", next, "MaxResults", "3"), 3},
		{"numbers have no effect", []string{"NextToken", next, "PageNumber", "9", "PageSize", "9"}, 20},
	} {
		page, _, code := listing(t, s, f, tt.pairs...)
		if code != "" || page != (control.Page{Size: tt.size, Cursor: "cursor-1"}) {
			t.Errorf("%s: page %+v, code %q", tt.name, page, code)
			continue
		}
		if diff := cmp.Diff(want, f.asked[0]); diff != "" {
			t.Errorf("%s: filter (-first +next):\n%s", tt.name, diff)
		}
	}
	f.deliveries.Next = ""
	if _, last, _ := listing(t, s, f, "NextToken", next); last != "" {
		t.Errorf("token %q on the last page", last)
	}
}

func TestTokensAreRefused(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.deliveries.Next = "cursor-1"
	s := newTestServer(f, Config{})
	_, next, _ := listing(t, s, f, "Name", "a")
	flipped := []byte(next)
	flipped[len(flipped)/2] ^= 1

	otherKey := sealToken([]byte("another key"), pageToken{
		Operation: "DescribeSendFileResults", Account: testAccount, Region: testRegion, Query: []byte("{}"), Size: 10,
	})
	foreign := sealToken(f.TokenKey(), pageToken{
		Operation: "DescribeSendFileResults", Account: "6543210987654321", Region: testRegion, Query: []byte("{}"), Size: 10,
	})
	for name, request := range map[string]url.Values{
		"garbled":          {"NextToken": {"no base64!"}},
		"too short":        {"NextToken": {"AAAA"}},
		"changed":          {"NextToken": {string(flipped)}},
		"cut":              {"NextToken": {next[:len(next)-4]}},
		"another key":      {"NextToken": {otherKey}},
		"another account":  {"NextToken": {foreign}},
		"another filter":   {"NextToken": {next}, "Name": {"b"}},
		"one filter more":  {"NextToken": {next}, "Name": {"a"}, "InstanceId": {"mi-1"}},
		"another region":   {"NextToken": {next}, "RegionId": {"cn-beijing"}},
		"another listing":  {"NextToken": {next}, "Action": {"DescribeActivations"}},
		"another instance": {"NextToken": {next}, "InstanceId": {"mi-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			action := "DescribeSendFileResults"
			pairs := []string{"RegionId", testRegion}
			for n, v := range request {
				if n == "Action" {
					action = v[0]
					continue
				}
				pairs = append(pairs, n, v[0])
			}
			status, _, body := serve(s, signV1(action, pairs...))
			if status != 400 || pick(t, body, "Code") != "InvalidParameter.NextToken" {
				t.Errorf("status %d, body %s", status, body)
			}
		})
	}
}

// FuzzToken checks that only what sealToken wrote is ever opened.
func FuzzToken(f *testing.F) {
	key := []byte("0123456789abcdef0123456789abcdef")
	good := sealToken(key, pageToken{
		Operation: "DescribeActivations", Account: testAccount, Region: testRegion, Query: []byte(`{"Name":"a"}`), Size: 10,
		Cursor: "c",
	})
	for _, seed := range []string{"", good, good + "A", good[1:], strings.Repeat("A", 43), "====", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := openToken(key, s)
		if err != nil {
			return
		}
		if again := sealToken(key, got); again != s {
			t.Errorf("%q was opened, but is written %q", s, again)
		}
	})
}

func TestTagFiltersAreChecked(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"DescribeSendFileResults", "DescribeActivations", "DescribeManagedInstances"} {
		for code, pairs := range map[string][]string{
			"MissingParameter.TagKey":   {"Tag.1.Value", "v"},
			"Duplicate.TagKey":          {"Tag.1.Key", "k", "Tag.2.Key", "k"},
			"InvalidTagKey.Malformed":   {"Tag.1.Key", "acs:k"},
			"InvalidTagValue.Malformed": {"Tag.1.Key", "k", "Tag.1.Value", "http://x"},
			"NumberExceed.Tags":         manyTags(21),
		} {
			status, _, body := serve(newTestServer(newFake(), Config{}), signV1(op, append(pairs, "RegionId", testRegion)...))
			if status != 400 || pick(t, body, "Code") != code {
				t.Errorf("%s: status %d, body %s, want %s", op, status, body, code)
			}
		}
	}
}

func manyTags(n int) []string {
	var pairs []string
	for i := range n {
		pairs = append(pairs, fmt.Sprintf("Tag.%d.Key", i+1), fmt.Sprintf("k%d", i))
	}
	return pairs
}
