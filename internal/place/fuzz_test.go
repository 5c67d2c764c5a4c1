// SPDX-License-Identifier: Apache-2.0

//go:build unix

package place

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzPlace asserts that no name and directory make anything appear or change outside the root.
func FuzzPlace(f *testing.F) {
	for _, s := range [][2]string{
		{"app.conf", "/srv"},
		{"..", "/"},
		{"../outside/x", "/"},
		{"x", "/../outside"},
		{"x", "/out"},
		{"x", "/out/deeper/still"},
		{"x", "/abs"},
		{"victim", "/out"},
		{"x", "/in/in/in/new"},
		{"x", "/in/../../outside"},
		{"x", "/loop"},
		{"x", "/file/x"},
		{"out", "/"},
		{"x\x00y", "/srv\x00"},
		{".waybill-f-1.tmp", "/"},
		{".waybill-", "/"},
		{"配置", "/数据"},
		{"x", `C:\srv`},
		{"x", `\\host\share`},
		{"x", "//././/"},
	} {
		f.Add(s[0], s[1])
	}
	top := f.TempDir()
	root := top + "/root"
	mkdir(f, root)
	write(f, top+"/outside/victim", "victim", 0o600)
	outside := snapshot(f, top+"/outside")
	p := newPlacer(f, Config{Root: root})
	f.Fuzz(func(t *testing.T, name, dir string) {
		symlinks := map[string]string{"out": "../outside", "abs": top + "/outside", "in": "/", "loop": "loop"}
		for link, target := range symlinks {
			if err := os.Symlink(target, root+"/"+link); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
		}
		write(t, root+"/file", "file", 0o644)
		file := newFile("content")
		file.Name, file.TargetDir, file.Overwrite = name, dir, true
		res, err := p.Place(t.Context(), file)
		if err == nil {
			checkPlaced(t, res.Path, file)
			if !strings.HasPrefix(res.Path, root+"/") || filepath.Base(res.Path) != name {
				t.Errorf("placed at %q", res.Path)
			}
		} else if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("not an *Error: %v", err)
		}
		checkSame(t, top+"/outside", outside)
		entries, err := os.ReadDir(top)
		if err != nil || len(entries) != 2 {
			t.Errorf("beside the root: %v, %v", entries, err)
		}
		checkNoTemp(t, root)
		left, err := os.ReadDir(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range left {
			if err := os.RemoveAll(root + "/" + e.Name()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
