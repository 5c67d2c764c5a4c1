// SPDX-License-Identifier: Apache-2.0

package waybill

import "testing"

func TestSamePath(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"/srv/app/x", "/srv//app/./x", true},
		{"/srv/app/x", "/srv/app/X", false},
		{`/srv/a\b`, "/srv/a/b", false}, // one name, on every system that has such a path
		{`C:\srv\x`, "c:/SRV//X", true},
		{`C:\srv\x`, `D:\srv\x`, false},
		{`\\host\share\x`, "/host/share/x", false},
	} {
		if got := SamePath(tc.a) == SamePath(tc.b); got != tc.same {
			t.Errorf("%q and %q: same %t; want %t", tc.a, tc.b, got, tc.same)
		}
	}
}

func TestCheckPath(t *testing.T) {
	t.Parallel()
	for p, ok := range map[string]bool{
		"/srv/x": true, "/x": true, `C:\srv\x`: true, "C:/x": true, `\\host\share\x`: true, `/srv/a\b`: true,
		"": false, "/": false, "/srv/": false, "x": false, "srv/x": false, "/srv/../x": false, `C:\srv\..\x`: false, "C:": false,
	} {
		if err := CheckPath(p); (err == nil) != ok {
			t.Errorf("%q: %v", p, err)
		}
	}
	for _, f := range []FileSpec{
		{TargetDir: "/", Name: "x"}, {TargetDir: "/srv/app/", Name: "x"}, {TargetDir: `C:\`, Name: "x"}, {TargetDir: "C:/srv", Name: "x"},
	} {
		if err := CheckPath(f.Path()); err != nil {
			t.Errorf("%+v has the path %q: %v", f, f.Path(), err)
		}
	}
}

// FuzzSamePath looks for paths that panic, or that are not what they are taken for.
func FuzzSamePath(f *testing.F) {
	for _, p := range []string{"/srv//x", `C:\a\.\b`, `\\host\share`, "", ".", "c:/"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if CheckPath(p) == nil && SamePath(p) == SamePath(p+"/other") {
			t.Errorf("%q is taken for what is in it", p)
		}
	})
}
