// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func mustParse(t testing.TB, text string) *Document {
	t.Helper()
	d, err := Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

// one returns a document of a single statement; fields are added to a valid Effect, Action and Resource.
func one(fields string) string {
	return `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*",` + fields + `}]}`
}

// syntaxErrors are texts that are refused: where, and a part of what is said about it.
var syntaxErrors = []struct{ name, text, path, message string }{
	{"empty", ``, "", "is not JSON: unexpected end"},
	{"no JSON", "{\n \"Version\": é}", "", "(line 2, column 13)"},
	{"cut off", `{"Version":"1"`, "", "is not JSON"},
	{"trailing data", `{"Version":"1","Statement":[]} {}`, "", "is not JSON"},
	{"trailing comma", `{"Version":"1",}`, "", "is not JSON"},
	{"byte order mark", "\ufeff{}", "", "is not JSON"},
	{"not UTF-8", "{\"Version\":\"\xff\"}", "", "is not UTF-8"},
	{"too long", one(`"Sid":"` + strings.Repeat("é", MaxDocument) + `"`), "", "at most 6144 are allowed"},
	{"too deep", strings.Repeat("[", MaxDocument), "", "is not JSON"},
	{"a list", `[]`, "", "must be an object, not a list"},
	{"a string", `"Version"`, "", `must be an object, not "Version"`},
	{"null", `null`, "", "must be an object, not null"},

	{"no version", `{"Statement":[]}`, "Version", `is missing; it must be "1"`},
	{"another version", `{"Version":"2","Statement":[]}`, "Version", `must be the string "1", not "2"`},
	{"a number for a version", `{"Version":1,"Statement":[]}`, "Version", `must be the string "1", not a number`},
	{"version in lower case", `{"version":"1","Statement":[]}`, "version", "which has Version and Statement"},
	{"version twice", `{"Version":"1","Version":"1","Statement":[]}`, "Version", "is given twice"},
	{"version twice by an escape", `{"Version":"1","\u0056ersion":"1","Statement":[]}`, "Version", "is given twice"},
	{"unknown at the top", `{"Version":"1","Id":"x","Statement":[]}`, "Id", "is not part of a policy document"},
	{"a name with a line break", `{"a\nb":1}`, `a\nb`, "is not part of a policy document"},
	{"a long name", `{"` + strings.Repeat("a", 1000) + `":1}`, strings.Repeat("a", 100) + "…", "is not part"},

	{"no statement", `{"Version":"1"}`, "Statement", "is missing"},
	{"empty statements", `{"Version":"1","Statement":[]}`, "Statement", "must not be empty"},
	{"statement is null", `{"Version":"1","Statement":null}`, "Statement", "must be a list of statements, not null"},
	{"statement is a string", `{"Version":"1","Statement":"x"}`, "Statement", `must be a list of statements, not "x"`},
	{"an element is no object", `{"Version":"1","Statement":["x"]}`, "Statement[0]", `must be an object, not "x"`},
	{"a list in a list", `{"Version":"1","Statement":[[]]}`, "Statement[0]", "must be an object, not a list"},
	{"a single statement", `{"Version":"1","Statement":{}}`, "Statement.Effect", "is missing"},
	{
		"the second of two",
		`{"Version":"1","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*"}]}`,
		"Statement[1].Resource", "is missing",
	},
	{"principal", one(`"Principal":"*"`), "Statement[0].Principal", "Action or NotAction, Resource and Condition"},
	{"not resource", one(`"NotResource":"*"`), "Statement[0].NotResource", "is not part of a statement"},
	{"sid", one(`"Sid":"x"`), "Statement[0].Sid", "is not part of a statement"},
	{"effect in lower case", one(`"effect":"Deny"`), "Statement[0].effect", "is not part of a statement"},
	{"effect twice", one(`"Effect":"Deny"`), "Statement[0].Effect", "is given twice"},

	{"no effect", `{"Version":"1","Statement":[{"Action":"*"}]}`, "Statement[0].Effect", "is missing"},
	{
		"allow in lower case", `{"Version":"1","Statement":[{"Effect":"allow","Action":"*","Resource":"*"}]}`,
		"Statement[0].Effect", `must be "Allow" or "Deny", not "allow"`,
	},
	{"effect is no string", `{"Version":"1","Statement":[{"Effect":true}]}`, "Statement[0].Effect", "not a boolean"},
	{"empty effect", `{"Version":"1","Statement":[{"Effect":""}]}`, "Statement[0].Effect", `not ""`},

	{"no action", `{"Version":"1","Statement":{"Effect":"Deny","Resource":"*"}}`, "Statement.Action", "is missing"},
	{"both actions", one(`"NotAction":"*"`), "Statement[0].NotAction", "cannot stand beside Action"},
	{"empty actions", actions(`[]`), "Statement[0].Action", "must not be empty"},
	{"action is an object", actions(`{}`), "Statement[0].Action", "a string or a list of strings, not an object"},
	{"action is null", actions(`null`), "Statement[0].Action", "a string or a list of strings, not null"},
	{"action is true", actions(`true`), "Statement[0].Action", "must be a string, not a boolean"},
	{"an action is a number", actions(`["*",1]`), "Statement[0].Action[1]", "must be a string, not a number"},
	{"an action is a list", actions(`["*",["*"]]`), "Statement[0].Action[1]", "must be a string, not a list"},
	{"an action without a service", actions(`"SendFile"`), "Statement[0].Action", `must be * or service:Name`},
	{"an action with stars only", actions(`"**"`), "Statement[0].Action", `must be * or service:Name`},
	{"an empty action", actions(`""`), "Statement[0].Action", `not ""`},
	{"an action without a name", actions(`"ecs:"`), "Statement[0].Action", `not "ecs:"`},
	{"an action with an empty service", actions(`":SendFile"`), "Statement[0].Action", `not ":SendFile"`},
	{"an action with two colons", actions(`"ecs:a:b"`), "Statement[0].Action", `not "ecs:a:b"`},
	{"an action with a space", actions(`["ecs:A","ecs: B"]`), "Statement[0].Action[1]", `not "ecs: B"`},
	{"an action with an accent", actions(`"ecs:É"`), "Statement[0].Action", `not "ecs:É"`},
	{
		"a wrong NotAction", `{"Version":"1","Statement":[{"Effect":"Deny","NotAction":["x"],"Resource":"*"}]}`,
		"Statement[0].NotAction[0]", `not "x"`,
	},

	{"no resource", `{"Version":"1","Statement":{"Effect":"Deny","Action":"*"}}`, "Statement.Resource", "is missing"},
	{"empty resources", resources(`[]`), "Statement[0].Resource", "must not be empty"},
	{"an empty resource", resources(`[""]`), "Statement[0].Resource[0]", `must be * or an ARN`},
	{"a resource of stars", resources(`"**"`), "Statement[0].Resource", `must be * or an ARN`},
	{"a relative resource", resources(`"instance/*"`), "Statement[0].Resource", `must be * or an ARN`},
	{"of another cloud", resources(`"arn:ecs:*:*:instance/*"`), "Statement[0].Resource", `must be * or an ARN`},
	{"a star for acs", resources(`"*:ecs:*:*:instance/*"`), "Statement[0].Resource", `must be * or an ARN`},
	{"too few parts", resources(`["*","acs:ecs:*:*"]`), "Statement[0].Resource[1]", `must be * or an ARN`},
	{"no service", resources(`"acs::*:*:instance/*"`), "Statement[0].Resource", `must be * or an ARN`},
	{"no relative part", resources(`"acs:ecs:*:*:"`), "Statement[0].Resource", `must be * or an ARN`},

	{"condition is a list", one(`"Condition":[]`), "Statement[0].Condition", "must be an object, not a list"},
	{"condition is null", one(`"Condition":null`), "Statement[0].Condition", "must be an object, not null"},
	{"condition twice", one(`"Condition":{},"Condition":{}`), "Statement[0].Condition", "is given twice"},
	{
		"unknown operator", conditions(`"NumericEquals":{"acs:ResourceTag/a":"1"}`),
		"Statement[0].Condition.NumericEquals", "they are StringEquals, StringNotEquals,",
	},
	{
		"operator in lower case", conditions(`"bool":{"acs:SecureTransport":"true"}`),
		"Statement[0].Condition.bool", "DateGreaterThanEquals and Bool",
	},
	{
		"operator twice", conditions(`"Bool":{"acs:MFAPresent":"true"},"Bool":{"acs:SecureTransport":"true"}`),
		"Statement[0].Condition.Bool", "is given twice",
	},
	{"operator without keys", conditions(`"Bool":{}`), "Statement[0].Condition.Bool", "must not be empty"},
	{"operator of a string", conditions(`"Bool":"true"`), "Statement[0].Condition.Bool", "must be an object"},
	{
		"unknown key", conditions(`"StringEquals":{"ecs:CommandRunAs":"root"}`),
		"Statement[0].Condition.StringEquals.ecs:CommandRunAs",
		"they are acs:ResourceTag/<key>, acs:RequestTag/<key>, acs:SourceIp, acs:CurrentTime, acs:SecureTransport and ",
	},
	{
		"key in another case", conditions(`"IpAddress":{"acs:SourceIP":"10.0.0.1"}`),
		"Statement[0].Condition.IpAddress.acs:SourceIP", "is not a condition key",
	},
	{
		"tag without a key", conditions(`"StringEquals":{"acs:ResourceTag/":"x"}`),
		"Statement[0].Condition.StringEquals.acs:ResourceTag/", "is not a condition key",
	},
	{
		"key with more behind it", conditions(`"Bool":{"acs:SecureTransport/x":"true"}`),
		"Statement[0].Condition.Bool.acs:SecureTransport/x", "is not a condition key",
	},
	{
		"key twice", conditions(`"StringEquals":{"acs:ResourceTag/a":"1","acs:ResourceTag/a":"2"}`),
		"Statement[0].Condition.StringEquals.acs:ResourceTag/a", "is given twice",
	},
	{
		"address as text", conditions(`"StringLike":{"acs:SourceIp":"10.*"}`),
		"Statement[0].Condition.StringLike.acs:SourceIp",
		"cannot be compared with StringLike, only with IpAddress or NotIpAddress",
	},
	{
		"tag as a time", conditions(`"DateEquals":{"acs:ResourceTag/a":"2026-11-23"}`),
		"Statement[0].Condition.DateEquals.acs:ResourceTag/a", "only with StringEquals, StringNotEquals",
	},
	{
		"truth as text", conditions(`"StringEquals":{"acs:SecureTransport":"true"}`),
		"Statement[0].Condition.StringEquals.acs:SecureTransport", "only with Bool",
	},
	{
		"time as an address", conditions(`"IpAddress":{"acs:CurrentTime":"10.0.0.1"}`),
		"Statement[0].Condition.IpAddress.acs:CurrentTime", "only with DateEquals",
	},
	{
		"no values", conditions(`"StringEquals":{"acs:ResourceTag/a":[]}`),
		"Statement[0].Condition.StringEquals.acs:ResourceTag/a", "must not be empty",
	},
	{
		"value is null", conditions(`"StringEquals":{"acs:ResourceTag/a":null}`),
		"Statement[0].Condition.StringEquals.acs:ResourceTag/a", "must be a string or a list of strings, not null",
	},
	{
		"a value is null", conditions(`"StringEquals":{"acs:ResourceTag/a":["x",null]}`),
		"Statement[0].Condition.StringEquals.acs:ResourceTag/a[1]", "must be a string, not null",
	},
	{
		"a value is an object", conditions(`"StringEquals":{"acs:ResourceTag/a":[{"x":1,"x":2}]}`),
		"Statement[0].Condition.StringEquals.acs:ResourceTag/a[0]", "must be a string, not an object",
	},
}

func actions(v string) string {
	return `{"Version":"1","Statement":[{"Effect":"Allow","Action":` + v + `,"Resource":"*"}]}`
}

func resources(v string) string {
	return `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":` + v + `}]}`
}

func conditions(v string) string { return one(`"Condition":{` + v + `}`) }

func TestSyntaxErrors(t *testing.T) {
	t.Parallel()
	for _, c := range syntaxErrors {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, err := Parse(c.text)
			wantSyntaxError(t, d, err, c.path, c.message)
		})
	}
}

// TestConditionValues checks what is a value of each operator but those for text.
func TestConditionValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		operator, key string
		good, bad     []string // JSON
		message       string
	}{
		{
			operator: "IpAddress", key: "acs:SourceIp",
			good: []string{
				`"10.0.0.1"`, `"10.0.0.0/8"`, `"0.0.0.0/0"`, `"10.0.0.1/32"`, `"::1"`, `"2001:db8::/32"`,
				`"::/0"`, `"::ffff:10.0.0.1"`, `"::ffff:10.0.0.0/104"`, `"::ffff:0:0/96"`,
			},
			bad: []string{
				`""`, `"10.0.0"`, `"10.0.0.0/33"`, `"10.0.0.0/"`, `"10.0.0.0/-1"`, `"10.0.0.0/08"`, `"10.0.0.256"`,
				`"010.0.0.1"`, `"10.0.*"`, `" 10.0.0.1"`, `"10.0.0.1-10.0.0.9"`, `"fe80::1%eth0"`, `"::/129"`, `"::ffff:0:0/95"`,
				`"localhost"`, `10`, `true`,
			},
			message: "must be an IP address or a CIDR",
		},
		{
			operator: "DateLessThan", key: "acs:CurrentTime",
			good: []string{
				`"2026-11-23T12:00:00Z"`, `"2026-11-23T12:00:00+08:00"`, `"2026-11-23T12:00:00.5Z"`, `"2026-11-23"`,
				`"2028-02-29"`,
			},
			bad: []string{
				`""`, `"2026-11-23T12:00:00"`, `"2026-11-23 12:00:00Z"`, `"2026-11-23T12:00Z"`,
				`"2026-11-31"`, `"2026-02-29"`, `"2026-1-2"`, `"2026-11"`, `"now"`, `1795435200`,
			},
			message: "must be a time",
		},
		{
			operator: "Bool", key: "acs:SecureTransport",
			good:    []string{`"true"`, `"false"`, `true`, `false`},
			bad:     []string{`""`, `"True"`, `"yes"`, `"1"`, `1`, `" true"`},
			message: `must be "true" or "false"`,
		},
	} {
		t.Run(c.operator, func(t *testing.T) {
			t.Parallel()
			for _, v := range c.good {
				if _, err := Parse(conditions(fmt.Sprintf(`%q:{%q:%s}`, c.operator, c.key, v))); err != nil {
					t.Errorf("%s: %v", v, err)
				}
			}
			for _, v := range c.bad {
				d, err := Parse(conditions(fmt.Sprintf(`%q:{%q:[%s,%s]}`, c.operator, c.key, c.good[0], v)))
				path := "Statement[0].Condition." + c.operator + "." + c.key + "[1]"
				wantSyntaxError(t, d, err, path, c.message)
			}
		})
	}
}

func wantSyntaxError(t *testing.T, d *Document, err error, path, message string) {
	t.Helper()
	syntax, ok := errors.AsType[*SyntaxError](err)
	if !ok || d != nil {
		t.Errorf("document %v, error %v", d, err)
		return
	}
	if syntax.Path != path || !strings.Contains(syntax.Message, message) {
		t.Errorf("path %q, message %q; want %q, …%s…", syntax.Path, syntax.Message, path, message)
	}
}

func TestSyntaxErrorReads(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{`[]`, "the policy document must be an object, not a list"},
		{actions(`"SendFile"`), `Statement[0].Action must be * or service:Name, as in "ecs:SendFile", of letters, ` +
			`digits, - _ . and wildcards * ?, not "SendFile"`},
	} {
		if _, err := Parse(c.text); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

func TestMaxDocument(t *testing.T) {
	t.Parallel()
	text := conditions(`"StringEquals":{"acs:ResourceTag/a":"é"}`)
	text += strings.Repeat("\n", MaxDocument-len([]rune(text)))
	mustParse(t, text) // that long in characters, longer in bytes
	d, err := Parse(text + "\n")
	wantSyntaxError(t, d, err, "", "has 6145 characters")
}

func TestStatementText(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `{"Version": "1", "Statement": [
		{"Resource": [ "*" ], "Effect": "Deny",
		 "Action": "ecs:\u0041"},
		{"Effect": "Allow", "Action": "*", "Resource": "acs:ecs:*:*:<&>", "Condition": { }}
	]}`)
	want := []string{
		`{"Resource":["*"],"Effect":"Deny","Action":"ecs:\u0041"}`,
		`{"Effect":"Allow","Action":"*","Resource":"acs:ecs:*:*:<&>","Condition":{}}`,
	}
	if d.Statements() != len(want) {
		t.Fatalf("%d statements, want %d", d.Statements(), len(want))
	}
	for i, w := range want {
		if got := d.Statement(i); got != w {
			t.Errorf("statement %d\n got %s\nwant %s", i, got, w)
		}
	}
}

func TestUsesResourceTags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		want       bool
	}{
		{"no conditions", actions(`"*"`), false},
		{"tags of the request", conditions(`"StringEquals":{"acs:RequestTag/a":"1"}`), false},
		{"address", conditions(`"IpAddress":{"acs:SourceIp":"10.0.0.1"}`), false},
		{"tags of the resource", conditions(`"StringLike":{"acs:RequestTag/a":"1","acs:ResourceTag/a":"1"}`), true},
		{
			"in the second statement",
			`{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*",
			"Resource":"*","Condition":{"StringEquals":{"acs:ResourceTag/a":"1"}}}]}`, true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := mustParse(t, c.text).UsesResourceTags(); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	if new(Document).UsesResourceTags() {
		t.Error("the zero document uses tags")
	}
}
