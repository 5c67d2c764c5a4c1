// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// messages holds one of each type, every field set.
var messages = []any{
	&Hello{"s", 1, "v", "h", "m", "192.0.2.1", "linux", "os"},
	&Welcome{1, 60000, "no"},
	&Beat{"s", []string{"f-1", "f-2"}},
	&Bye{"s", ByeUpgrading},
	&Pull{"f-1"},
	&PullReply{[]Deliver{{Delivery: "f-1", Content: []byte{}, SHA256: []byte{1}}}, true, []Cancel{{"f-2", 1, 2}}},
	&Cancel{"f-1", 1, 2},
	&Deliver{"f-1", 1, 2, "n", "/d", []byte("c"), []byte{1}, "root", "root", 0o4755, true, "00-t", 1, nil, false},
	&Deliver{"f-1", 1, 2, "n", "/d", []byte("c"), nil, "root", "root", 0o4755, true, "00-t", 0, []byte{1}, true},
	&Ack{"f-1", 1, "00-t"},
	&Report{"f-1", "exists", "detail", 1, 2, []byte{1}, "00-t", "Created", "", ""},
	&Report{"f-1", "", "", 1, 2, nil, "00-t", "WouldReplace", "--- a\n", "not all of it"},
	&Confirm{1},
	&Probe{"n"},
	&Alive{"s", "n"},
}

func TestMessagesThereAndBack(t *testing.T) {
	t.Parallel()
	for _, m := range messages {
		back := reflect.New(reflect.TypeOf(m).Elem()).Interface()
		if err := Decode(Encode(m), back); err != nil {
			t.Errorf("%T: %v", m, err)
		} else if diff := cmp.Diff(m, back); diff != "" {
			t.Errorf("%T: %s", m, diff)
		}
	}
}

// TestBytesOnTheWire pins what agents in the field send and expect: a change here breaks them.
func TestBytesOnTheWire(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		message any
		want    string
	}{
		{&Ack{Delivery: "f-1", Started: 5}, "a20163662d310205"},
		{&Confirm{7}, "a10107"},
		{&Report{Delivery: "f-1", Started: 1, Finished: 2}, "a30163662d3104010502"},
		{&Beat{Session: "s"}, "a1016173"},
	} {
		if got := hex.EncodeToString(Encode(tc.message)); got != tc.want {
			t.Errorf("%T: %s, want %s", tc.message, got, tc.want)
		}
	}
}

func TestDecodeIgnoresWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	newer := struct {
		Delivery string `cbor:"1,keyasint"`
		Started  int64  `cbor:"2,keyasint"`
		Later    string `cbor:"99,keyasint"`
	}{"f-1", 5, "from a newer agent"}
	var a Ack
	if err := Decode(Encode(newer), &a); err != nil || a != (Ack{Delivery: "f-1", Started: 5}) {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]string{
		"nothing":              "",
		"trailing bytes":       "a1010700",
		"a key twice":          "a201630001020102",
		"indefinite length":    "bf0107ff",
		"a tag":                "a101c107",
		"invalid UTF-8":        "a10161ff",
		"a list":               "8101",
		"a truncated map":      "a201",
		"text where a number":  "a1016161",
		"nesting without end":  strings.Repeat("81", 100),
		"an array of billions": "a1029b7fffffffffffffff",
	} {
		b, err := hex.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		var c Confirm
		var beat Beat
		if Decode(b, &c) == nil && Decode(b, &beat) == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if err := Decode(make([]byte, MaxMessage+1), &Confirm{}); err == nil {
		t.Error("a message that is too long was accepted")
	}
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	if i, op, ok := InstanceOf(ToServer("mi-1", OpReport)); i != "mi-1" || op != OpReport || !ok {
		t.Errorf("%s %s %v", i, op, ok)
	}
	for _, bad := range []string{"", "wb.1.server.", "wb.1.server.mi-1", "wb.1.server..hello", "wb.1.server.mi-1.", "wb.1.server.mi-1.a.b", "wb.1.agent.mi-1.deliver"} {
		if _, _, ok := InstanceOf(bad); ok {
			t.Errorf("%q names an instance", bad)
		}
	}
	for subject, want := range map[string]bool{
		InboxPrefix("mi-1") + ".x":  true,
		InboxPrefix("mi-1"):         false,
		InboxPrefix("mi-10") + ".x": false,
		ToAgent("mi-1", OpDeliver):  false,
		ToAgent("mi-2", "inbox.x"):  false,
		"_INBOX.x":                  false,
		"":                          false,
	} {
		if OwnsReply("mi-1", subject) != want {
			t.Errorf("reply on %q: %v", subject, !want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range messages {
		f.Add(Encode(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range messages {
			got := reflect.New(reflect.TypeOf(m).Elem()).Interface()
			if Decode(b, got) != nil {
				continue
			}
			again := reflect.New(reflect.TypeOf(m).Elem()).Interface()
			if err := Decode(Encode(got), again); err != nil {
				t.Errorf("%T does not decode again: %v", m, err)
			} else if !bytes.Equal(Encode(got), Encode(again)) {
				t.Errorf("%T changes on its way there and back", m)
			}
		}
	})
}

func FuzzInstanceOf(f *testing.F) {
	f.Add("wb.1.server.mi-1.hello")
	f.Fuzz(func(t *testing.T, subject string) {
		if i, op, ok := InstanceOf(subject); ok && ToServer(i, op) != subject {
			t.Errorf("%q is not that of %q and %q", subject, i, op)
		}
	})
}
