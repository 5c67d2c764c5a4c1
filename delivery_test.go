// SPDX-License-Identifier: Apache-2.0

package waybill

import (
	"encoding/base64"
	"io/fs"
	"strings"
	"testing"
	"time"
)

func TestFileSpecValidate(t *testing.T) {
	t.Parallel()
	good := FileSpec{Name: "app.conf", TargetDir: "/etc/app", Owner: "root", Group: "root", Mode: "0644"}
	for _, tc := range []struct {
		name   string
		change func(*FileSpec)
		want   Code
	}{
		{"no name", func(f *FileSpec) { f.Name = "" }, MissingField},
		{"no directory", func(f *FileSpec) { f.TargetDir = "" }, MissingField},
		{"name of 256 characters", func(f *FileSpec) { f.Name = strings.Repeat("文", 256) }, NameTooLong},
		{"name with a slash", func(f *FileSpec) { f.Name = "a/b" }, NameInvalid},
		{"name ..", func(f *FileSpec) { f.Name = ".." }, NameInvalid},
		{"name .", func(f *FileSpec) { f.Name = "." }, NameInvalid},
		{"name with NUL", func(f *FileSpec) { f.Name = "a\x00b" }, NameInvalid},
		{"name with a newline", func(f *FileSpec) { f.Name = "a\nb" }, NameInvalid},
		{"name not UTF-8", func(f *FileSpec) { f.Name = "a\xff" }, NameInvalid},
		{"relative directory", func(f *FileSpec) { f.TargetDir = "etc" }, DirInvalid},
		{"directory with ..", func(f *FileSpec) { f.TargetDir = "/etc/../root" }, DirInvalid},
		{"Windows directory with ..", func(f *FileSpec) { f.TargetDir = `C:\a\..\b` }, DirInvalid},
		{"directory of 256 characters", func(f *FileSpec) { f.TargetDir = "/" + strings.Repeat("a", 255) }, DirInvalid},
		{"directory with NUL", func(f *FileSpec) { f.TargetDir = "/a\x00" }, DirInvalid},
		{"mode of two digits", func(f *FileSpec) { f.Mode = "44" }, ModeInvalid},
		{"mode of five digits", func(f *FileSpec) { f.Mode = "00644" }, ModeInvalid},
		{"mode 888", func(f *FileSpec) { f.Mode = "888" }, ModeInvalid},
		{"mode -755", func(f *FileSpec) { f.Mode = "-755" }, ModeInvalid},
		{"long owner", func(f *FileSpec) { f.Owner = strings.Repeat("a", 65) }, OwnerInvalid},
		{"owner with a colon", func(f *FileSpec) { f.Owner = "a:b" }, OwnerInvalid},
		{"long group", func(f *FileSpec) { f.Group = strings.Repeat("a", 65) }, GroupInvalid},
	} {
		f := good
		tc.change(&f)
		if got := CodeOf(f.Validate()); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	for name, change := range map[string]func(*FileSpec){
		"as it is":           func(*FileSpec) {},
		"name of 255 runes":  func(f *FileSpec) { f.Name = strings.Repeat("文", 255) },
		"name with dots":     func(f *FileSpec) { f.Name = "..a.." },
		"name with blanks":   func(f *FileSpec) { f.Name = " a & b#%" },
		"Windows directory":  func(f *FileSpec) { f.TargetDir = `C:\Program Files` },
		"UNC directory":      func(f *FileSpec) { f.TargetDir = `\\host\share` },
		"dots in a name":     func(f *FileSpec) { f.TargetDir = "/a..b/..." },
		"setuid":             func(f *FileSpec) { f.Mode = "4755" },
		"three digits":       func(f *FileSpec) { f.Mode = "600" },
		"owner as a number":  func(f *FileSpec) { f.Owner = "1000" },
		"group with a space": func(f *FileSpec) { f.Group = "domain users" },
	} {
		f := good
		change(&f)
		if err := f.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeContent(t *testing.T) {
	t.Parallel()
	limits := DefaultLimits()
	b64 := base64.StdEncoding.EncodeToString
	for _, tc := range []struct {
		name, content string
		kind          ContentType
		want          string
		code          Code
	}{
		{"plain", "héllo\n", PlainText, "héllo\n", ""},
		{"plain that looks like Base64", "aGk=", PlainText, "aGk=", ""},
		{"Base64", b64([]byte{0, 1, 255}), Base64, "\x00\x01\xff", ""},
		{"Base64 with newlines", "aGVs\nbG8=\n", Base64, "hello", ""},
		{"empty", "", PlainText, "", ""},
		{"empty Base64", "", Base64, "", ""},
		{"most plain bytes", strings.Repeat("a", 24576), PlainText, strings.Repeat("a", 24576), ""},
		{"one plain byte more", strings.Repeat("a", 24577), PlainText, "", ContentTooLarge},
		{"most Base64", b64(make([]byte, 24576)), Base64, string(make([]byte, 24576)), ""},
		{"more Base64", b64(make([]byte, 24577)), Base64, "", ContentTooLarge},
		{"not Base64", "###", Base64, "", ContentUndecoded},
		{"no padding", "aGk", Base64, "", ContentUndecoded},
		{"URL alphabet", "_-8=", Base64, "", ContentUndecoded},
		{"unknown type", "x", "Hex", "", ContentKind},
	} {
		got, err := DecodeContent(tc.content, tc.kind, limits)
		if tc.code != "" {
			if CodeOf(err) != tc.code {
				t.Errorf("%s: %v, want %s", tc.name, err, tc.code)
			}
			continue
		}
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
	}
}

func TestModeBits(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]fs.FileMode{
		"644": 0o644, "0600": 0o600, "4755": fs.ModeSetuid | 0o755, "2750": fs.ModeSetgid | 0o750, "1777": fs.ModeSticky | 0o777,
		"7777": fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky | 0o777, "000": 0,
	} {
		got, err := ParseMode(text)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
		if back := ModeFromBits(ModeBits(got)); back != got {
			t.Errorf("%s: there and back gives %v", text, back)
		}
	}
}

func FuzzFileSpec(f *testing.F) {
	f.Add("app.conf", "/etc", "0644")
	f.Add("..", `C:\a`, "888")
	f.Add("a/b\x00", "/a/../b", "-755")
	f.Fuzz(func(t *testing.T, name, dir, mode string) {
		spec := FileSpec{Name: name, TargetDir: dir, Owner: "root", Group: "root", Mode: mode}
		if spec.Validate() != nil {
			return
		}
		if strings.ContainsAny(name, "/\x00\n") || name == ".." || name == "." {
			t.Errorf("accepted name %q", name)
		}
		if strings.HasPrefix(dir, "/") && strings.Contains(dir+"/", "/../") {
			t.Errorf("accepted directory %q", dir)
		}
		if m, err := ParseMode(mode); err != nil || ModeBits(m) > 0o7777 {
			t.Errorf("accepted mode %q", mode)
		}
	})
}

func TestCheckTags(t *testing.T) {
	t.Parallel()
	many := make([]Tag, 21)
	for i := range many {
		many[i].Key = strings.Repeat("k", i+1)
	}
	for _, tc := range []struct {
		name string
		tags []Tag
		want Code
	}{
		{"twenty", many[:20], ""},
		{"twenty-one", many, TagsTooMany},
		{"no key", []Tag{{"", "v"}}, TagKeyMissing},
		{"twice", []Tag{{"k", "1"}, {"k", "2"}}, TagKeyRepeated},
		{"reserved acs:", []Tag{{"acs:k", ""}}, TagKeyInvalid},
		{"reserved aliyun", []Tag{{"aliyun-k", ""}}, TagKeyInvalid},
		{"URL in key", []Tag{{"http://k", ""}}, TagKeyInvalid},
		{"long key", []Tag{{strings.Repeat("k", 65), ""}}, TagKeyInvalid},
		{"URL in value", []Tag{{"k", "https://v"}}, TagValueInvalid},
		{"long value", []Tag{{"k", strings.Repeat("v", 129)}}, TagValueInvalid},
		{"empty value", []Tag{{"k", ""}}, ""},
	} {
		err := CheckTags(tc.tags)
		if tc.want == "" && err != nil || tc.want != "" && CodeOf(err) != tc.want {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestInstanceConnected(t *testing.T) {
	t.Parallel()
	now := time.Now()
	i := Instance{State: Registered, Presence: Online, LastSeen: now.Add(-SilentAfter)}
	if !i.Connected(now) {
		t.Error("not connected two minutes after its heartbeat")
	}
	if i.Connected(now.Add(1)) {
		t.Error("connected after more than two silent minutes")
	}
	if i.Presence = Stopped; i.Connected(now) {
		t.Error("connected though its agent stopped")
	}
}
