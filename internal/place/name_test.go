// SPDX-License-Identifier: Apache-2.0

package place

import (
	"reflect"
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	t.Parallel()
	cjk := strings.Repeat("文", 85) // 255 bytes
	for _, c := range []struct {
		name, file    string
		unix, windows bool
	}{
		{"plain", "app.conf", true, true},
		{"255 bytes", strings.Repeat("a", 255), true, true},
		{"256 bytes", strings.Repeat("a", 256), false, false},
		{"255 bytes of CJK", cjk, true, true},
		{"258 bytes of CJK, 86 UTF-16 units", cjk + "文", false, true},
		{"128 surrogate pairs", strings.Repeat("𠀀", 128), false, false},
		{"empty", "", false, false},
		{"dot", ".", false, false},
		{"dots", "..", false, false},
		{"slash", "a/b", false, false},
		{"NUL", "a\x00b", false, false},
		{"newline", "a\nb", false, false},
		{"not UTF-8", "a\xff", false, false},
		{"our temporary", ".waybill-f-1.tmp", false, false},
		{"our temporary in capitals", ".WAYBILL-f-1.TMP", false, false},
		{"like our temporary", ".waybill-f-1.conf", true, true},
		{"hidden", ".profile", true, true},
		{"backslash", `a\b`, true, false},
		{"stream", "a:b", true, false},
		{"final dot", "a.", true, false},
		{"final blank", "a ", true, false},
		{"device", "nul", true, false},
		{"device with extension", "Com1.txt", true, false},
		{"device with superscript", "LPT².log", true, false},
		{"device with blanks", "CON  .txt", true, false},
		{"console", "conin$", true, false},
		{"like a device", "com10", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for goos, want := range map[string]bool{
				"linux": c.unix, "darwin": c.unix, "freebsd": c.unix, "windows": c.windows,
			} {
				if err := checkName(goos, c.file); (err == nil) != want {
					t.Errorf("%s: %v, want ok %v", goos, err, want)
				}
			}
		})
	}
}

func TestParseDir(t *testing.T) {
	t.Parallel()
	at := func(volume string, names ...string) *location { return &location{volume: volume, names: names} }
	for _, c := range []struct {
		name, dir     string
		unix, windows *location // nil: refused
	}{
		{"plain", "/srv/app", at("", "srv", "app"), nil},
		{"root", "/", at(""), nil},
		{"dots and slashes", "//srv/./app//", at("", "srv", "app"), nil},
		{"dotdot", "/srv/../etc", nil, nil},
		{"relative", "srv/app", nil, nil},
		{"empty", "", nil, nil},
		{"NUL", "/srv\x00/app", nil, nil},
		{"too long", "/" + strings.Repeat("a", 255), nil, nil},
		{"drive", `c:\srv\app`, nil, at("C:", "srv", "app")},
		{"drive with slashes", "C:/srv/./app/", nil, at("C:", "srv", "app")},
		{"drive alone", `C:\`, nil, at("C:")},
		{"drive with dotdot", `C:\srv\..\x`, nil, nil},
		{"relative to a drive", `C:srv`, nil, nil},
		{"share", `\\host\share\dir`, nil, at(`\\host\share`, "dir")},
		{"share without a name", `\\host`, nil, nil},
		{"device path", `\\?\C:\srv`, nil, nil},
		{"dot device path", `\\.\pipe\x`, nil, nil},
		{"device below", `C:\srv\aux\x`, nil, nil},
		{"stream below", `C:\srv\x:y`, nil, nil},
		{"colon on Unix", "/:x", at("", ":x"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for goos, want := range map[string]*location{"linux": c.unix, "windows": c.windows} {
				got, err := parseDir(goos, c.dir)
				switch {
				case want == nil && err == nil:
					t.Errorf("%s: got %+v, want it refused", goos, got)
				case want != nil && err != nil:
					t.Errorf("%s: %v", goos, err)
				case want != nil && (got.volume != want.volume || len(got.names) != len(want.names) ||
					len(got.names) > 0 && !reflect.DeepEqual(got.names, want.names)):
					t.Errorf("%s: got %+v, want %+v", goos, got, *want)
				}
			}
		})
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	app := location{names: []string{"srv", "app"}}
	for _, c := range []struct {
		name  string
		goos  string
		at    location
		allow location
		want  bool
	}{
		{"itself", "linux", app, app, true},
		{"below", "linux", location{names: []string{"srv", "app", "x"}}, app, true},
		{"above", "linux", location{names: []string{"srv"}}, app, false},
		{"longer name", "linux", location{names: []string{"srv", "application"}}, app, false},
		{"everything", "linux", app, location{}, true},
		{"case counts", "linux", location{names: []string{"srv", "App"}}, app, false},
		{"case does not count", "windows", location{names: []string{"srv", "App"}}, app, true},
		{"other volume", "windows", location{volume: "D:", names: app.names}, app, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := c.at.within(c.goos, c.allow); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
