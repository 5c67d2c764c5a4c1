// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/openwaybill/waybill"
)

// fileKey stands for a path of the machines of an account and region, however long it is. Two paths never share one: half of
// a SHA-256 is enough for that.
func fileKey(account waybill.AccountID, region, path string) []byte {
	sum := sha256.Sum256([]byte(string(account) + "\n" + region + "\n" + waybill.SamePath(path)))
	return sum[:16]
}

// Bounds of a page of files: how many rows are looked at for it, and at once at most. A page may come short.
const (
	filesLooked = 10_000
	filesStep   = 1000
)

const (
	// fileColumns ends with the next file at the same path of the same machine.
	fileColumns = `SELECT t.instance, COALESCE(i.name, ''), t.delivery, t.status, t.finished,
		d.name, d.target_dir, d.owner, d.grp, d.mode, d.overwrite, d.digest, d.size,
		(SELECT n.delivery` + nextFile + `), (SELECT n.finished` + nextFile + `)`
	nextFile = ` FROM targets n WHERE n.status = 'Success' AND n.file = t.file AND n.instance = t.instance
		AND (n.finished, n.delivery) > (t.finished, t.delivery) ORDER BY n.finished, n.delivery LIMIT 1`
	fileInstance = ` LEFT JOIN instances i ON i.id = t.instance`
)

// filesByPath lists what was placed at a path: machine by machine, the newest first.
func (d dialect) filesByPath() string {
	return fileColumns + ` FROM targets t ` + d.inOrder + ` deliveries d ON d.id = t.delivery AND d.created = t.created` + fileInstance + `
		WHERE t.status = 'Success' AND t.file = ? AND t.instance >= ? AND (t.instance > ? OR (t.finished, t.delivery) < (?, ?))
		ORDER BY t.instance, t.finished DESC, t.delivery DESC LIMIT ?`
}

// filesByContent lists what was sent with a content, the newest delivery first, whatever became of it: it is bounded by what
// is looked at, not by what is found.
func (d dialect) filesByContent() string {
	return fileColumns + ` FROM deliveries d ` + d.inOrder + ` targets t ON t.delivery = d.id AND t.created = d.created` + fileInstance + `
		WHERE d.digest = ? AND d.account = ? AND d.region = ? AND d.dry_run = 0 AND d.id <= ? AND (d.id < ? OR t.instance < ?)
		ORDER BY d.id DESC, t.instance DESC LIMIT ?`
}

// fileRow is a target that may have placed a file.
type fileRow struct {
	waybill.PlacedFile
	status waybill.Status
}

func scanFile(r *sql.Rows) (v fileRow, err error) {
	var digest []byte
	var placed int64
	var next sql.NullString
	var replaced sql.NullInt64
	f := &v.File
	if err = r.Scan(&v.Instance, &v.Name, &v.Delivery, &v.status, &placed, &f.Name, &f.TargetDir, &f.Owner, &f.Group, &f.Mode, &f.Overwrite,
		&digest, &v.Size, &next, &replaced); err != nil {
		return v, err
	}
	copy(v.SHA256[:], digest)
	v.Placed, v.ReplacedBy, v.Replaced = instant(placed), waybill.DeliveryID(next.String), instant(replaced.Int64)
	return v, nil
}

// Files returns a page of the files that machines of the account took, from the targets that are kept. It looks at a bounded
// number of them: a page may have fewer than asked for, even none, and others follow.
func (s *Store) Files(ctx context.Context, account waybill.AccountID, f waybill.FileFilter, p waybill.Page) (list waybill.Listing[waybill.PlacedFile], err error) {
	walk, err := s.walkFiles(account, f, p.Cursor)
	if err != nil {
		return list, err
	}
	for looked, step := 0, p.Size+1; ; step = min(2*step, filesStep) {
		rows, err := all(ctx, s.reads, scanFile, walk.query, walk.args(step)...)
		if err != nil {
			return list, fmt.Errorf("list files: %w", err)
		}
		for i := range rows {
			v := &rows[i]
			if v.status == waybill.Success && f.Selects(&v.PlacedFile) {
				if len(list.Items) == p.Size {
					list.Next = walk.cursor()
					return list, nil
				}
				list.Items = append(list.Items, v.PlacedFile)
			}
			walk.after(v)
		}
		if len(rows) < step {
			return list, nil
		}
		if looked += len(rows); looked >= filesLooked {
			list.Next = walk.cursor()
			return list, nil
		}
	}
}

// fileWalk goes through the rows of a query that begins after a place.
type fileWalk struct {
	query    string
	fixed    []any // arguments before those of the place
	byPath   bool
	instance string
	delivery string
	finished int64
}

// afterAll sorts after every ID.
const afterAll = "\x7f"

var errFileCursor = errors.New("no cursor of a list of files")

func (s *Store) walkFiles(account waybill.AccountID, f waybill.FileFilter, cursor string) (*fileWalk, error) {
	w := &fileWalk{query: s.dialect.filesByPath(), byPath: f.Path != ""}
	if w.byPath {
		w.fixed = []any{fileKey(account, f.Region, f.Path)}
	} else {
		w.query, w.fixed, w.delivery = s.dialect.filesByContent(), []any{f.SHA256[:], account, f.Region}, afterAll
	}
	if cursor == "" {
		return w, nil
	}
	parts := strings.Split(cursor, " ")
	if len(parts) != 3 {
		return nil, errFileCursor
	}
	var err error
	if w.finished, err = strconv.ParseInt(parts[2], 10, 64); err != nil {
		return nil, errFileCursor
	}
	w.instance, w.delivery = parts[0], parts[1]
	return w, nil
}

func (w *fileWalk) after(v *fileRow) {
	w.instance, w.delivery, w.finished = string(v.Instance), string(v.Delivery), millis(v.Placed)
}

func (w *fileWalk) cursor() string {
	return w.instance + " " + w.delivery + " " + strconv.FormatInt(w.finished, 10)
}

func (w *fileWalk) args(limit int) []any {
	if w.byPath {
		return append(w.fixed[:1:1], w.instance, w.instance, w.finished, w.delivery, limit)
	}
	return append(w.fixed[:3:3], w.delivery, w.delivery, w.instance, limit)
}
