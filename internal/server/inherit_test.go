// SPDX-License-Identifier: Apache-2.0

package server

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestPassedNames(t *testing.T) {
	t.Parallel()
	const pid = 42
	for name, c := range map[string]struct {
		env  map[string]string
		want []string
		fail string
	}{
		"nothing":               {map[string]string{}, nil, ""},
		"none":                  {map[string]string{"LISTEN_FDS": "0"}, nil, ""},
		"for another process":   {map[string]string{"LISTEN_PID": "41", "LISTEN_FDS": "x"}, nil, ""},
		"for nobody":            {map[string]string{"LISTEN_PID": "", "LISTEN_FDS": "1"}, nil, ""},
		"one, no names":         {map[string]string{"LISTEN_FDS": "1"}, []string{"https"}, ""},
		"one, unknown":          {map[string]string{"LISTEN_FDS": "1", "LISTEN_FDNAMES": "unknown"}, []string{"https"}, ""},
		"one, named by a unit":  {map[string]string{"LISTEN_FDS": "1", "LISTEN_FDNAMES": "waybill.socket"}, []string{"https"}, ""},
		"one, admin":            {map[string]string{"LISTEN_FDS": "1", "LISTEN_FDNAMES": "admin"}, []string{"admin"}, ""},
		"all":                   {map[string]string{"LISTEN_FDS": "3", "LISTEN_FDNAMES": "http:https:admin"}, []string{"http", "https", "admin"}, ""},
		"hand-over":             {map[string]string{"LISTEN_PID": "", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "https:admin", "WAYBILL_HANDOVER": "5"}, []string{"https", "admin"}, ""},
		"no number":             {map[string]string{"LISTEN_FDS": "one"}, nil, `LISTEN_FDS is "one"`},
		"below zero":            {map[string]string{"LISTEN_FDS": "-1"}, nil, "no number of descriptors"},
		"two, no names":         {map[string]string{"LISTEN_FDS": "2"}, nil, "name each with FileDescriptorName="},
		"more than are named":   {map[string]string{"LISTEN_FDS": "1000000000", "LISTEN_FDNAMES": "https:http"}, nil, "1000000000 sockets are passed, and 2 names"},
		"fewer than are named":  {map[string]string{"LISTEN_FDS": "1", "LISTEN_FDNAMES": "https:http"}, nil, "1 sockets are passed, and 2 names"},
		"a name nobody knows":   {map[string]string{"LISTEN_FDS": "1", "LISTEN_FDNAMES": "ssh"}, nil, `passed as "ssh"; FileDescriptorName= can be https, http, admin`},
		"agents":                {map[string]string{"LISTEN_FDS": "2", "LISTEN_FDNAMES": "https:agents"}, nil, `passed as "agents"`},
		"two, one without name": {map[string]string{"LISTEN_FDS": "2", "LISTEN_FDNAMES": "https:"}, nil, `passed as ""`},
		"twice":                 {map[string]string{"LISTEN_FDS": "2", "LISTEN_FDNAMES": "https:https"}, nil, "two sockets are passed as https"},
	} {
		getenv := func(v string) string {
			if value, ok := c.env[v]; ok || v != "LISTEN_PID" {
				return value
			}
			return strconv.Itoa(pid)
		}
		got, err := passedNames(getenv, pid)
		if c.fail == "" && err != nil || c.fail != "" && (err == nil || !strings.Contains(err.Error(), c.fail)) {
			t.Errorf("%s: error %v, want %q", name, err, c.fail)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func FuzzPassedNames(f *testing.F) {
	f.Add("1", "https")
	f.Add("3", "https:http:admin")
	f.Add("-1", ":")
	f.Add("99999999999999999999", "unknown")
	f.Fuzz(func(t *testing.T, fds, names string) {
		got, err := passedNames(func(v string) string {
			return map[string]string{envPID: "1", envFDs: fds, envNames: names}[v]
		}, 1)
		if err != nil && got != nil || len(got) > len(listenerNames) {
			t.Errorf("%q, %v", got, err)
		}
		for i, name := range got {
			if !slices.Contains(listenerNames, name) || slices.Contains(got[:i], name) {
				t.Errorf("%q", got)
			}
		}
	})
}

// TestInheritLeavesNothingToChildren is not parallel, because it sets environment variables.
func TestInheritLeavesNothingToChildren(t *testing.T) {
	t.Setenv(envPID, strconv.Itoa(os.Getpid()))
	t.Setenv(envFDs, "0")
	t.Setenv(envNames, "")
	if in, err := Inherit(); err != nil || in.FromPredecessor() || in.Listener("https") != nil {
		t.Errorf("nothing: %+v, %v", in, err)
	}
	for _, v := range []string{envPID, envFDs, envNames} {
		if value, ok := os.LookupEnv(v); ok {
			t.Errorf("%s=%q is left", v, value)
		}
	}
}
