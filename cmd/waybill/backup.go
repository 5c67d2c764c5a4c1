// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	terminal "golang.org/x/term"

	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/lockfile"
	"github.com/openwaybill/waybill/internal/store"
)

// What a backup holds, by the names that the files have in a data directory. The contents come last: they tell the digest
// of each file before them, and a backup that was cut off has none.
const (
	databaseFile = "waybill.db"
	sealFile     = "seal.key"
	caFile       = "ca.pem"
	caKeyFile    = "ca-key.pem"
	contentsFile = "backup.json"
)

// keyFiles are what --without-keys leaves out. A server with a certificate of its operator's has no CA.
var keyFiles = []string{sealFile, caFile, caKeyFile}

// backupFormat is raised when older programs could not restore what this one writes.
const backupFormat = 1

// maxKeyFile bounds the size of a file other than the database.
const maxKeyFile = 1 << 20

// contents describe a backup.
type contents struct {
	Format  int              `json:"format"`
	Version string           `json:"waybill"` // of the program
	Taken   time.Time        `json:"taken"`   // when the copy of the database began
	Files   []backedUpFile   `json:"files"`
	LeftOut []backedUpFile   `json:"left_out"` // the keys that restore needs from elsewhere
	Counts  databaseContents `json:"counts"`
}

type backedUpFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// databaseContents is what was counted when a copy of the database was checked.
type databaseContents struct {
	Accounts     int   `json:"accounts"`
	AuditRecords int64 `json:"audit_records"`
}

func (c contents) holds(name string) bool {
	return slices.ContainsFunc(c.Files, func(f backedUpFile) bool { return f.Name == name })
}

type backupOptions struct {
	dataDir, database, sealKey, out string
	withoutKeys                     bool
}

func newBackupCmd(e env) *cobra.Command {
	var o backupOptions
	cmd := &cobra.Command{
		Use:   "backup --data-dir DIR --out FILE",
		Short: "write what a server keeps to one file, while it runs",
		Long: `Backup writes the database of a server, as it is at one moment, and its keys to one tar file that only its owner can
read. The server may run and goes on working. Before the file appears, the copy of the database is checked: every page
by SQLite, every audit trail up to its seal, and that it opens with the key file. waybill restore brings it back.

Whoever has the file has every access key and every file that was sent. With --without-keys it holds the database alone,
which opens nothing by itself; the key files never change, so copy them once and keep them elsewhere.

Run it as the user that the server runs as. Beside FILE it needs room for two copies of the database while it works. A
database on PostgreSQL has tools of its own for this; see docs/operations.md.`,
		Example: `  waybill backup --data-dir /var/lib/waybill --out /backup/waybill-$(date +%F).tar
  waybill backup --data-dir /var/lib/waybill --out /backup/waybill.tar --without-keys`,
		Args: usageArgs(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.dataDir, "data-dir", "", "`DIR` of the server (required)")
	flags.StringVar(&o.database, "database", "", "`URL` of the server's database (default sqlite:DIR/"+databaseFile+")")
	flags.StringVar(&o.sealKey, "seal-key", "", "key `FILE` of the server (default DIR/"+sealFile+")")
	flags.StringVar(&o.out, "out", "", "`FILE` to write, which must not be there (required)")
	flags.BoolVar(&o.withoutKeys, "without-keys", false,
		"leave out "+strings.Join(keyFiles, ", ")+", which restore then needs from elsewhere")
	onCommandLineOnly(flags, "out", "without-keys")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error { return o.run(ctx, e) })
	return usageFlags(cmd)
}

func (o *backupOptions) run(ctx context.Context, e env) (err error) {
	if o.dataDir == "" {
		return usagef("no data directory is given; add --data-dir DIR, that of the server")
	}
	if o.out == "" {
		return usagef("say where to write it: --out FILE")
	}
	database, ok := filepath.Join(o.dataDir, databaseFile), true
	if o.database != "" {
		if database, ok = strings.CutPrefix(o.database, "sqlite:"); !ok {
			return usagef("waybill backup copies SQLite databases; back a PostgreSQL database up with pg_dump or pg_basebackup " +
				"and keep the key file, as docs/operations.md says")
		}
	}
	if _, err := os.Stat(database); err != nil {
		return fmt.Errorf("there is no database; give --data-dir as the server has it: %w", err)
	}
	if o.sealKey == "" {
		o.sealKey = filepath.Join(o.dataDir, sealFile)
	}
	refused := fmt.Errorf("%s is there already; move it away, or name another file", o.out)
	if _, err := os.Lstat(o.out); err == nil {
		return refused
	}
	// Beside the file, so that it can be put in its place in one step; only its owner can look into it.
	work, err := os.MkdirTemp(filepath.Dir(o.out), "."+filepath.Base(o.out)+".")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	c := contents{Format: backupFormat, Version: version, Taken: time.Now().UTC()}
	taken := filepath.Join(work, databaseFile)
	shown := newMeter(e.err, "copied")
	err = store.CopySQLite(ctx, database, taken, shown.pages)
	shown.end()
	if err != nil {
		return err
	}
	if c.Counts, err = checkDatabase(ctx, taken, o.sealKey, true); err != nil {
		return fmt.Errorf("the copy of the database is not good: %w", err)
	}
	finished := filepath.Join(work, "backup.tar")
	if err := o.write(ctx, finished, taken, &c); err != nil {
		return err
	}
	// A link never replaces a file, not even one that has come meanwhile. Some file systems have none.
	err = os.Link(finished, o.out)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = os.Rename(finished, o.out)
	}
	if errors.Is(err, fs.ErrExist) {
		return refused
	}
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(o.out)); err != nil {
		return err
	}
	kept := "with its keys: protect it as you protect the server"
	if !c.holds(sealFile) {
		kept = "without its keys: keep " + strings.Join(keyFiles, ", ") + " elsewhere, it is of no use without them"
	}
	_, err = fmt.Fprintf(e.out, "%s: %s, %s\n", o.out, c.Counts, kept)
	return err
}

func (c databaseContents) String() string {
	return fmt.Sprintf("accounts: %d, audit records: %d", c.Accounts, c.AuditRecords)
}

// write writes the backup to the file path, durably.
func (o *backupOptions) write(ctx context.Context, path, database string, c *contents) (err error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := tar.NewWriter(out)
	for _, f := range []struct{ name, from string }{
		{databaseFile, database},
		{sealFile, o.sealKey},
		{caFile, filepath.Join(o.dataDir, caFile)},
		{caKeyFile, filepath.Join(o.dataDir, caKeyFile)},
	} {
		to, list := w, &c.Files
		if o.withoutKeys && f.name != databaseFile {
			to, list = tar.NewWriter(io.Discard), &c.LeftOut
		}
		added, err := addToTar(ctx, to, f.name, f.from, c.Taken)
		if errors.Is(err, fs.ErrNotExist) && (f.name == caFile || f.name == caKeyFile) {
			continue // the server has a certificate of its operator's
		}
		if err != nil {
			return fmt.Errorf("back %s up: %w", f.from, err)
		}
		*list = append(*list, added)
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	h := &tar.Header{Name: contentsFile, Mode: 0o600, Size: int64(len(text)), ModTime: c.Taken}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	return errors.Join(w.Close(), out.Sync())
}

func addToTar(ctx context.Context, w *tar.Writer, name, path string, taken time.Time) (_ backedUpFile, err error) {
	in, err := os.Open(path)
	if err != nil {
		return backedUpFile{}, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return backedUpFile{}, err
	}
	h := &tar.Header{Name: name, Mode: 0o600, Size: info.Size(), ModTime: taken, Format: tar.FormatPAX}
	if err := w.WriteHeader(h); err != nil {
		return backedUpFile{}, err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), whileLasts{ctx, in})
	return backedUpFile{name, n, hex.EncodeToString(sum.Sum(nil))}, err
}

// whileLasts reads until its context ends.
type whileLasts struct {
	ctx context.Context
	r   io.Reader
}

func (w whileLasts) Read(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.r.Read(b)
}

// checkDatabase opens a database that no server uses with its key file, and checks every audit trail. keep refuses one
// whose schema is older than this program's instead of bringing it up to date.
func checkDatabase(ctx context.Context, path, sealKey string, keep bool) (c databaseContents, err error) {
	sealer, err := openSealer(sealKey)
	if err != nil {
		return c, err
	}
	s, err := store.Open(ctx, store.Config{
		URL: "sqlite:" + path, KeepSchema: keep, AuditKey: control.AuditKey(sealer),
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := control.CheckSealer(ctx, s, sealer); err != nil {
		return c, err
	}
	accounts, err := s.Accounts(ctx)
	if err != nil {
		return c, err
	}
	c.Accounts = len(accounts)
	trails, err := s.AuditedAccounts(ctx)
	if err != nil {
		return c, err
	}
	for _, account := range trails {
		v, err := s.VerifyAudit(ctx, account)
		if err != nil {
			return c, err
		}
		if v.Problem != "" {
			return c, fmt.Errorf("the audit trail of account %s is not valid: %s", account, v.Problem)
		}
		c.AuditRecords += v.Records
	}
	return c, nil
}

// syncDir makes the names in a directory durable, where the system has a way to say so.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// meter shows on a terminal how much of a database was copied. Elsewhere it shows nothing.
type meter struct {
	w     io.Writer // nil: nowhere
	done  string
	shown int // percent
}

func newMeter(w io.Writer, done string) *meter {
	if f, ok := w.(*os.File); !ok || !terminal.IsTerminal(int(f.Fd())) {
		w = nil
	}
	return &meter{w: w, done: done, shown: -1}
}

func (m *meter) pages(done, all int) { m.of("the database", done, all) }

// of shows how much of what is done.
func (m *meter) of(what string, done, all int) {
	if m.w == nil || all == 0 || done*100/all == m.shown {
		return
	}
	m.shown = done * 100 / all
	fmt.Fprintf(m.w, "\r%d %% of %s %s", m.shown, what, m.done)
}

// end leaves the last figure on the screen.
func (m *meter) end() {
	if m.w != nil && m.shown >= 0 {
		fmt.Fprintln(m.w)
	}
}

type restoreOptions struct{ dataDir, keys string }

func newRestoreCmd(e env) *cobra.Command {
	var o restoreOptions
	cmd := &cobra.Command{
		Use:   "restore FILE --data-dir DIR",
		Short: "make the data directory of a server from a backup",
		Long: `Restore makes a data directory from a file that waybill backup wrote, and checks it as backup did. The directory must
be empty, or not be there. Start the server on it as before, at the same addresses: machines come back by themselves.

What happened after the backup is unknown to the server then. Deliveries since are gone; what machines still report of
them is confirmed and forgotten. Machines that enrolled since are refused until they enrol again with --force. Keys, users
and machines that were removed since are there again: remove them again.

Run it as the user that the server runs as.`,
		Example: `  waybill restore /backup/waybill.tar --data-dir /var/lib/waybill
  waybill restore /backup/waybill.tar --data-dir /var/lib/waybill --keys /safe/waybill-keys`,
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.dataDir, "data-dir", "", "`DIR` to make, which must be empty or not be there (required)")
	flags.StringVar(&o.keys, "keys", "", "`DIR` with "+strings.Join(keyFiles, ", ")+", for a backup without them")
	onCommandLineOnly(flags, "keys")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error { return o.run(ctx, e, args[0]) })
	return usageFlags(cmd)
}

// partial is where files are until all of them have been checked. A server does not look there.
const partial = "restore.partial"

func (o *restoreOptions) run(ctx context.Context, e env, file string) (err error) {
	if o.dataDir == "" {
		return usagef("no data directory is given; add --data-dir DIR")
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.Mkdir(o.dataDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := refuseUsed(o.dataDir); err != nil {
		return err
	}
	// As a server does: none can start before all is there.
	unlock, err := lockfile.TryLock(filepath.Join(o.dataDir, "lock"))
	if errors.Is(err, lockfile.ErrLocked) {
		return fmt.Errorf("a server runs on %s; end it, or take another --data-dir", o.dataDir)
	}
	if err != nil {
		return err
	}
	defer unlock()
	work := filepath.Join(o.dataDir, partial)
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	c, err := unpack(ctx, in, work)
	if err != nil {
		return fmt.Errorf("restore %s: %w", file, err)
	}
	if err := o.addKeys(work, c); err != nil {
		return err
	}
	database := filepath.Join(work, databaseFile)
	if err := store.CheckSQLite(ctx, database); err != nil {
		return err
	}
	counts, err := checkDatabase(ctx, database, filepath.Join(work, sealFile), false)
	if err != nil {
		return fmt.Errorf("restore %s: %w", file, err)
	}
	if counts != c.Counts {
		return fmt.Errorf("restore %s: its database holds %s, not %s as it says", file, counts, c.Counts)
	}
	if err := place(work, o.dataDir); err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.out, "%s: %s, as of %s; start the server on it\n",
		o.dataDir, counts, c.Taken.Format(time.RFC3339))
	return err
}

// refuseUsed returns an error if there is anything in dir but what a file system, or an earlier lock, leaves there.
func refuseUsed(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range entries {
		switch f.Name() {
		case "lock", "lost+found":
		case partial:
			return fmt.Errorf("%s holds what an interrupted restore has left; remove %s and try again",
				dir, filepath.Join(dir, partial))
		default:
			return fmt.Errorf("%s is not empty: it holds %s; move that away, or name another --data-dir", dir, f.Name())
		}
	}
	return nil
}

// unpack writes the files of a backup into dir and checks them against its contents.
func unpack(ctx context.Context, in io.Reader, dir string) (c contents, err error) {
	found := map[string]backedUpFile{}
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if err == io.EOF {
			return c, errors.New("it is not whole: its contents are missing at the end")
		}
		if err != nil {
			return c, fmt.Errorf("it is no backup of waybill, or not whole: %w", err)
		}
		_, twice := found[h.Name]
		known := h.Name == databaseFile || h.Name == contentsFile || slices.Contains(keyFiles, h.Name)
		if !known || twice || h.Typeflag != tar.TypeReg || h.Name != databaseFile && h.Size > maxKeyFile {
			return c, fmt.Errorf("it is no backup of waybill: what is %q in it?", h.Name)
		}
		if h.Name == contentsFile {
			var text bytes.Buffer
			if _, err := text.ReadFrom(r); err != nil {
				return c, fmt.Errorf("it is not whole: %w", err)
			}
			return c, c.read(text.Bytes(), found)
		}
		f, err := unpackFile(whileLasts{ctx, r}, filepath.Join(dir, h.Name))
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return c, fmt.Errorf("it is not whole: it ends within %s", h.Name)
		}
		if err != nil {
			return c, fmt.Errorf("unpack %s: %w", h.Name, err)
		}
		f.Name = h.Name
		found[h.Name] = f
	}
}

func unpackFile(r io.Reader, path string) (f backedUpFile, err error) {
	mode := fs.FileMode(0o600)
	if filepath.Base(path) == caFile {
		mode = 0o644 // machines and clients are given it
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return f, err
	}
	sum := sha256.New()
	f.Size, err = io.Copy(io.MultiWriter(out, sum), r)
	f.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return f, errors.Join(err, out.Sync(), out.Close())
}

// read reads the contents of a backup, which must be those that were found in it.
func (c *contents) read(text []byte, found map[string]backedUpFile) error {
	if err := json.Unmarshal(text, c); err != nil {
		return fmt.Errorf("its contents are not understood: %w", err)
	}
	if c.Format != backupFormat {
		return fmt.Errorf("it has format %d, this program knows %d; restore it with waybill %s or newer",
			c.Format, backupFormat, c.Version)
	}
	for _, f := range c.Files {
		if found[f.Name] != f {
			return fmt.Errorf("%s in it is not as it was backed up: it was damaged or altered", f.Name)
		}
	}
	if !c.holds(databaseFile) || len(c.Files) != len(found) {
		return errors.New("its contents are not those that it tells")
	}
	for _, f := range c.LeftOut {
		if !slices.Contains(keyFiles, f.Name) || c.holds(f.Name) {
			return fmt.Errorf("its contents are not understood: it cannot have left %q out", f.Name)
		}
	}
	return nil
}

// addKeys copies the keys into dir that the backup does not hold. They must be those that it left out.
func (o *restoreOptions) addKeys(dir string, c contents) error {
	names := make([]string, len(c.LeftOut))
	for i, f := range c.LeftOut {
		names[i] = f.Name
	}
	switch {
	case len(names) == 0 && o.keys != "":
		return usagef("this backup holds its keys; leave --keys out")
	case len(names) > 0 && o.keys == "":
		return usagef("this backup holds no keys; name the directory that has %s: --keys DIR", strings.Join(names, ", "))
	}
	for _, want := range c.LeftOut {
		path := filepath.Join(o.keys, want.Name)
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		f, err := unpackFile(io.LimitReader(in, maxKeyFile), filepath.Join(dir, want.Name))
		if err := errors.Join(err, in.Close()); err != nil {
			return fmt.Errorf("copy %s: %w", path, err)
		}
		if f.SHA256 != want.SHA256 {
			return fmt.Errorf("%s is not the one that this server had when it was backed up", path)
		}
	}
	return nil
}

// place moves what is in work to dir. The database is last: with that, a server is what it was.
func place(work, dir string) error {
	for _, name := range append(slices.Clone(keyFiles), databaseFile) {
		err := os.Rename(filepath.Join(work, name), filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return syncDir(dir)
}
