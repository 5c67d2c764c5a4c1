// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
)

// TestFiles places contents at paths, some over others, and asks who has what.
func TestFiles(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		t.Parallel()
		f := open(t)
		f.enrol("m0")
		// Each a second after the one before: what is sent, where to, and how many of m0, m1 … take it.
		for i, d := range []struct {
			content, dir, name string
			took, refused      int
		}{
			{"one", "/srv", "x", 2, 1},
			{"two", "/srv", "x", 1, 0},    // over the first, on m0
			{"one", "/srv/", "y", 1, 0},   // the same content elsewhere
			{"one", "/srv//.", "x", 1, 0}, // the first content again, on m0
			{"one", "/srv", "x", 0, 2},    // which changes nothing
			{"one", "/elsewhere", "x", 1, 1},
		} {
			data := []byte(d.content)
			id := f.delivery(fmt.Sprintf("f-%d", i+1), d.took+d.refused, func(n *NewDelivery) {
				n.File.TargetDir, n.File.Name = d.dir, d.name
				n.Data, n.Sent, n.SHA256, n.Size = data, d.content, sha256.Sum256(data), int64(len(data))
			})
			sum := sha256.Sum256(data)
			for m := range d.took + d.refused {
				c := ended(id, machine(m), waybill.NoCause, f.clock())
				c.SHA256 = sum[:]
				if m >= d.took {
					c = ended(id, machine(m), waybill.CauseExists, f.clock())
				}
				f.apply(c)
			}
			f.advance(time.Second)
		}
		f.delivery("f-9", 1, func(n *NewDelivery) { n.Region = "elsewhere"; n.File.TargetDir, n.File.Name = "/srv", "x" })

		digest := func(content string) *[32]byte { sum := sha256.Sum256([]byte(content)); return &sum }
		yes, no := true, false
		for _, tc := range []struct {
			name   string
			filter waybill.FileFilter
			want   string // machine:delivery, and what it was replaced by
		}{
			{"by path", waybill.FileFilter{Path: "/srv/x"}, "m0:f-4 m0:f-2>f-4 m0:f-1>f-2 m1:f-1"},
			{"by path, written otherwise", waybill.FileFilter{Path: "/srv/./x", Current: &yes}, "m0:f-4 m1:f-1"},
			{"by content", waybill.FileFilter{SHA256: digest("one")}, "m0:f-6 m0:f-4 m0:f-3 m1:f-1 m0:f-1>f-2"},
			{"replaced", waybill.FileFilter{SHA256: digest("one"), Current: &no}, "m0:f-1>f-2"},
			{"by both", waybill.FileFilter{Path: "/srv/x", SHA256: digest("two")}, "m0:f-2>f-4"},
			{"at the first second", waybill.FileFilter{Path: "/srv/x", At: epoch}, "m0:f-1>f-2 m1:f-1"},
			{"while the second was there", waybill.FileFilter{Path: "/srv/x", At: epoch.Add(2500 * time.Millisecond)}, "m0:f-2>f-4 m1:f-1"},
			{"before all", waybill.FileFilter{Path: "/srv/x", At: epoch.Add(-time.Second)}, ""},
			{"of another region", waybill.FileFilter{Path: "/srv/x", Region: "elsewhere"}, ""},
			{"unknown", waybill.FileFilter{SHA256: digest("three")}, ""},
		} {
			if tc.filter.Region == "" {
				tc.filter.Region = region
			}
			for _, size := range []int{1, 2, 50} {
				var got []string
				p := waybill.Page{Size: size}
				for {
					list, err := f.Files(t.Context(), "a", tc.filter, p)
					if err != nil {
						t.Fatal(err)
					}
					for _, v := range list.Items {
						word := string(v.Instance) + ":" + string(v.Delivery)
						if !v.Current() {
							word += ">" + string(v.ReplacedBy)
						}
						got = append(got, word)
					}
					if p.Cursor = list.Next; p.Cursor == "" {
						break
					}
				}
				if strings.Join(got, " ") != tc.want {
					t.Errorf("%s, in pages of %d: %q; want %q", tc.name, size, strings.Join(got, " "), tc.want)
				}
			}
		}
		list, err := f.Files(t.Context(), "a", waybill.FileFilter{Region: region, Path: "/srv/x", SHA256: digest("two")}, waybill.Page{Size: 1})
		want := []waybill.PlacedFile{{
			Instance: "m0", Name: "name-m0", Delivery: "f-2", SHA256: *digest("two"), Size: 3, Placed: epoch.Add(time.Second),
			File:       waybill.FileSpec{Name: "x", TargetDir: "/srv", Owner: "root", Group: "root", Mode: "0644"},
			ReplacedBy: "f-4", Replaced: epoch.Add(3 * time.Second),
		}}
		if diff := cmp.Diff(want, list.Items); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		if list, err := f.Files(t.Context(), "b", waybill.FileFilter{Region: region, Path: "/srv/x"}, waybill.Page{Size: 9}); err != nil || len(list.Items) > 0 {
			t.Errorf("another account sees %+v, %v", list, err)
		}
		for _, cursor := range []string{"x", "a b c", "a b"} {
			if _, err := f.Files(t.Context(), "a", waybill.FileFilter{Region: region, Path: "/srv/x"}, waybill.Page{Size: 9, Cursor: cursor}); err == nil {
				t.Errorf("the cursor %q was taken", cursor)
			}
		}
	})
}

// TestFilesLooksAtSoMany finds nothing in more records than a page may cost, and says where to go on.
func TestFilesLooksAtSoMany(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		t.Parallel()
		f := open(t)
		const rows = filesLooked + filesStep
		id := f.delivery("f-1", rows)
		sum := sha256.Sum256([]byte("content of f-1"))
		never := false
		filter, page := waybill.FileFilter{Region: region, SHA256: &sum, Current: &never}, waybill.Page{Size: 100}
		list, err := f.Files(t.Context(), "a", filter, page)
		if err != nil || len(list.Items) > 0 || list.Next == "" {
			t.Fatalf("%d items, next %q, %v", len(list.Items), list.Next, err)
		}
		page.Cursor = list.Next
		if list, err = f.Files(t.Context(), "a", filter, page); err != nil || list.Next != "" {
			t.Errorf("%d items of %s, next %q, %v", len(list.Items), id, list.Next, err)
		}
	})
}

// TestFilesSearchByKey matters at a million deliveries: no step may read all of what it looks for, or sort it.
func TestFilesSearchByKey(t *testing.T) {
	t.Parallel()
	f := openOnSQLite(t)
	for query, want := range map[string][]string{
		f.dialect.filesByPath(): {
			"SEARCH t USING INDEX targets_file (file=? AND instance>?)", "SEARCH d USING PRIMARY KEY (id=?)",
			"SEARCH n USING COVERING INDEX targets_file (file=? AND instance=? AND finished>?)",
		},
		f.dialect.filesByContent(): {
			"SEARCH d USING INDEX deliveries_content (digest=? AND account=? AND region=? AND id<?)", "SEARCH t USING PRIMARY KEY (delivery=?)",
			"SEARCH n USING COVERING INDEX targets_file (file=? AND instance=? AND finished>?)",
		},
	} {
		steps := strings.Join(f.plan(strings.ReplaceAll(query, "?", "'1'")), "\n")
		for _, w := range want {
			if !strings.Contains(steps, w) {
				t.Errorf("no %s:\n%s", w, steps)
			}
		}
		if strings.Contains(steps, "TEMP B-TREE") {
			t.Errorf("all is sorted:\n%s", steps)
		}
	}
}

// TestIndexesAreCompleted declares an index as a migration does, on a table that has partitions already.
func TestIndexesAreCompleted(t *testing.T) {
	list := servers(t, 1)
	if list == nil {
		return
	}
	f := list[0]
	f.conclude(f.delivery("f-1", 1))
	incomplete := func() int {
		n, err := one(t.Context(), f.reads, scanOne[int], `SELECT COUNT(*) FROM pg_index WHERE indrelid IN ('targets'::regclass, 'deliveries'::regclass) AND NOT indisvalid`)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := incomplete(); n == 0 {
		t.Error("the migration kept others waiting while it made indexes")
	}
	for range 2 {
		if _, err := f.DropBefore(t.Context(), epoch.AddDate(-1, 0, 0)); err != nil {
			t.Fatal(err)
		}
		if n := incomplete(); n != 0 {
			t.Errorf("%d indexes are not complete", n)
		}
	}
	for _, query := range []string{f.dialect.filesByPath(), f.dialect.filesByContent()} {
		query = strings.NewReplacer("t.file = ?", "t.file = ''", "d.digest = ?", "d.digest = ''", "(?, ?)", "(1, '1')", "LIMIT ?", "LIMIT 10", "?", "'1'").Replace(query)
		steps := strings.Join(f.plan(query), "\n")
		if strings.Contains(steps, "Seq Scan") {
			t.Errorf("a whole table is read:\n%s", steps)
		}
	}
}
