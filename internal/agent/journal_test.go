// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

func testLog(t testing.TB) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func openTestJournal(t *testing.T, dir string) *journal {
	t.Helper()
	j, err := openJournal(dir, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.close() })
	return j
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var ledgerCmp = cmp.AllowUnexported(ledger{}, entry{}, intent{})

// sample records each kind of thing once.
func sample(t *testing.T, j *journal) {
	t.Helper()
	for _, id := range []string{"f-a", "f-b", "f-c", "f-d", "f-e"} {
		_, _, err := j.taken(&wire.Deliver{
			Delivery: id, Deadline: 9000, Name: id + ".conf", TargetDir: "/etc/app", SHA256: bytes.Repeat([]byte{1}, 32),
			Owner: "root", Group: "adm", Mode: 0o4755, Overwrite: true,
		}, 100)
		must(t, err)
	}
	must(t, j.intent("f-b", place.Token{Dev: 1 << 40, Ino: 1 << 50}, 200))
	must(t, j.intent("f-c", place.Token{Dev: 3, Ino: 4}, 210))
	must(t, j.outcome(&wire.Report{Delivery: "f-c", Cause: "exists", Detail: "it is there", Started: 100, Finished: 300}, 0))
	must(t, j.outcome(&wire.Report{Delivery: "f-d", Started: 100, Finished: 300, SHA256: bytes.Repeat([]byte{2}, 32)}, 0))
	must(t, j.confirmed("f-d", 400))
	must(t, j.released("f-e"))
}

func TestJournalRemembers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	sample(t, j)
	if got := slices.Sorted(maps.Keys(j.led.open)); !slices.Equal(got, []string{"f-a", "f-b", "f-c"}) {
		t.Errorf("open: %v", got)
	}
	if !j.isConfirmed("f-d") || j.isConfirmed("f-c") || j.led.confirmed["f-d"] != 9000 {
		t.Errorf("confirmed: %v", j.led.confirmed)
	}
	again := openTestJournal(t, dir)
	if diff := cmp.Diff(j.led, again.led, ledgerCmp); diff != "" {
		t.Errorf("read again (-written +read):\n%s", diff)
	}
	if info, err := os.Stat(j.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the journal has mode %v, %v", info.Mode(), err)
	}
}

func TestJournalCountsStarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := &wire.Deliver{Delivery: "f-a", Deadline: 9000, SHA256: make([]byte, 32)}
	for want := range 4 {
		j := openTestJournal(t, dir)
		before, started, err := j.taken(d, int64(100+want))
		must(t, err)
		if before != want || started != 100 || j.starts("f-a") != want+1 {
			t.Errorf("start %d: %d before, first at %d, now %d", want, before, started, j.starts("f-a"))
		}
	}
	j := openTestJournal(t, dir)
	must(t, j.released("f-a"))
	if before, started, _ := j.taken(d, 500); before != 0 || started != 500 {
		t.Errorf("after a release: %d before, first at %d", before, started)
	}
}

// TestJournalTorn cuts the file at every length: what is left of it is a state that the journal once had.
func TestJournalTorn(t *testing.T) {
	t.Parallel()
	whole := openTestJournal(t, t.TempDir())
	sample(t, whole)
	b, err := os.ReadFile(whole.path)
	must(t, err)
	var prefixes []ledger
	for off := 0; off < len(b); {
		l, _, _ := replay(b[:off])
		prefixes = append(prefixes, l)
		_, n, ok := readFrame(b[off:])
		if !ok {
			t.Fatalf("no frame at %d", off)
		}
		off += n
	}
	prefixes = append(prefixes, whole.led)
	seen := 0
	for cut := range len(b) + 1 {
		l, sound, damaged := replay(b[:cut])
		if damaged || sound > cut {
			t.Fatalf("cut at %d: sound %d, damaged %v", cut, sound, damaged)
		}
		for !cmp.Equal(l, prefixes[seen], ledgerCmp) {
			if seen++; seen == len(prefixes) {
				t.Fatalf("cut at %d: a state that never was", cut)
			}
		}
	}
	if seen != len(prefixes)-1 {
		t.Errorf("saw %d of %d states", seen+1, len(prefixes))
	}
}

func TestJournalTornTailIsDropped(t *testing.T) {
	t.Parallel()
	for name, tail := range map[string][]byte{
		"half a frame":  appendFrame(nil, record{Kind: recordReleased, Delivery: "f-a"})[:9],
		"zeros":         make([]byte, 4096),
		"nothing known": []byte("\xff\xff\xff\xff garbage"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			j := openTestJournal(t, dir)
			sample(t, j)
			j.close()
			f, err := os.OpenFile(j.path, os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = f.Write(tail)
			must(t, err)
			must(t, f.Close())

			again := openTestJournal(t, dir)
			if diff := cmp.Diff(j.led, again.led, ledgerCmp); diff != "" {
				t.Errorf("(-written +read):\n%s", diff)
			}
			must(t, again.released("f-a"))
			third := openTestJournal(t, dir)
			if third.starts("f-a") != 0 {
				t.Error("a record written after the repair is lost")
			}
			if _, err := os.Stat(j.path + damagedSuffix); err == nil {
				t.Error("an interrupted append counts as damage")
			}
		})
	}
}

func TestJournalDamagedMiddle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	sample(t, j)
	j.close()
	b, err := os.ReadFile(j.path)
	must(t, err)
	at := bytes.Index(b, []byte("f-a.conf"))
	b[at] ^= 1
	must(t, os.WriteFile(j.path, b, 0o600))

	var out strings.Builder
	again, err := openJournal(dir, slog.New(slog.NewTextHandler(&out, nil)))
	must(t, err)
	defer again.close()
	got := slices.Sorted(maps.Keys(again.led.open))
	if !slices.Equal(got, []string{"f-b", "f-c"}) || !again.isConfirmed("f-d") {
		t.Errorf("after damage to f-a: open %v, f-d confirmed %v", got, again.isConfirmed("f-d"))
	}
	if kept, err := os.ReadFile(j.path + damagedSuffix); err != nil || !bytes.Equal(kept, b) {
		t.Errorf("the damaged file is not kept: %v", err)
	}
	if !strings.Contains(out.String(), j.path+damagedSuffix) {
		t.Errorf("the log does not name the file: %s", out.String())
	}
	if _, _, damaged := replay(must1(os.ReadFile(j.path))); damaged {
		t.Error("the journal is still damaged")
	}
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestJournalTidy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	sample(t, j)
	size := j.size
	must(t, j.tidy(9000+lastDuplicate-1))
	if !j.isConfirmed("f-d") || j.size != size {
		t.Error("a tombstone is gone before its last duplicate")
	}
	must(t, j.tidy(9000+lastDuplicate))
	if j.isConfirmed("f-d") {
		t.Error("a tombstone outlives its use")
	}
	if len(j.unfinished()) != 3 {
		t.Error("tidying touches what is open")
	}
	for _, id := range []string{"f-a", "f-b", "f-c"} {
		must(t, j.released(id))
	}
	must(t, j.tidy(8000)) // the server's clock was set back
	if j.size > emptyJournalBytes {
		t.Errorf("%d bytes for nothing", j.size)
	}
	if again := openTestJournal(t, dir); again.now() != 8000 {
		t.Errorf("the known server time is %d after a restart, want 8000", again.now())
	}
}

// TestJournalIdle shows that the file is open only while a delivery is.
func TestJournalIdle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(j *journal, want bool, when string) {
		t.Helper()
		if got := j.file != nil; got != want {
			t.Errorf("%s: open %v, want %v", when, got, want)
		}
	}
	open(openTestJournal(t, dir), false, "new")
	j := openTestJournal(t, dir)
	open(j, false, "at the start")
	d := &wire.Deliver{Delivery: "f-a", Deadline: 9000, SHA256: make([]byte, 32)}
	for n := range 2 {
		_, _, err := j.taken(d, 100)
		must(t, err)
		must(t, j.tidy(200))
		open(j, true, "at work")
		must(t, j.outcome(&wire.Report{Delivery: d.Delivery, Started: 100, Finished: 300}, 0))
		must(t, j.tidy(300))
		open(j, true, "not confirmed")
		must(t, j.confirmed(d.Delivery, 400))
		must(t, j.tidy(400))
		open(j, false, "confirmed")
		d.Delivery += "-next"
		again := openTestJournal(t, dir)
		if diff := cmp.Diff(j.led.confirmed, again.led.confirmed); diff != "" || len(j.led.confirmed) != n+1 {
			t.Errorf("read again (-written +read):\n%s", diff)
		}
	}
	must(t, j.tidy(9000+lastDuplicate))
	open(j, false, "rewritten")

	must(t, os.Remove(j.path))
	if err := j.released("f-a"); err == nil {
		t.Error("what cannot be written is no error")
	}
	open(j, false, "without a file")
}

func TestJournalCompacts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	sample(t, j)
	want := openTestJournal(t, dir).led
	for j.size <= compactAtBytes {
		must(t, j.outcome(j.led.open["f-c"].outcome, 0))
	}
	must(t, j.tidy(500))
	if j.size > 4<<10 {
		t.Errorf("%d bytes after compaction", j.size)
	}
	must(t, j.intent("f-a", place.Token{Dev: 1, Ino: 2}, 400)) // the file in use is the new one
	want.now = 400                                             // the last one
	want.open["f-a"].intent = &intent{token: place.Token{Dev: 1, Ino: 2}, at: 400}
	if diff := cmp.Diff(want, openTestJournal(t, dir).led, ledgerCmp); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestJournalWithoutDisk shows that what cannot be written is still known for as long as the agent lives.
func TestJournalWithoutDisk(t *testing.T) {
	t.Parallel()
	j := openTestJournal(t, t.TempDir())
	sample(t, j)
	must(t, j.file.Close())
	if err := j.intent("f-a", place.Token{}, 1); err == nil {
		t.Error("an intent that is not durable is no error")
	}
	if err := j.confirmed("f-c", 400); err == nil || !j.isConfirmed("f-c") {
		t.Errorf("confirmed without a disk: %v, known %v", err, j.isConfirmed("f-c"))
	}
}

func FuzzReplay(f *testing.F) {
	var b []byte
	for _, r := range []record{
		{Kind: recordTime, Now: 1},
		{Kind: recordTaken, Delivery: "f-a", Deadline: 5, Attempt: 1, File: &fileFacts{Name: "n", TargetDir: "/"}},
		{Kind: recordIntent, Delivery: "f-a", Token: &place.Token{Dev: 1, Ino: 2}},
		{Kind: recordOutcome, Delivery: "f-a", Report: &wire.Report{Delivery: "f-a"}},
		{Kind: recordConfirmed, Delivery: "f-a", Deadline: 5},
		{Kind: recordReleased, Delivery: "f-b"},
		{Kind: 99, Delivery: "f-c"},
	} {
		b = appendFrame(b, r)
		f.Add(bytes.Clone(b))
		f.Add(b[:len(b)-3])
	}
	f.Add(append(bytes.Clone(b[5:]), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, sound, damaged := replay(b)
		if sound > len(b) || sound == len(b) && damaged {
			t.Fatalf("sound %d of %d, damaged %v", sound, len(b), damaged)
		}
		if damaged {
			return
		}
		// What is sound reads the same alone, and a rewritten journal says the same.
		alone, n, damaged := replay(b[:sound])
		if n != sound || damaged || !cmp.Equal(l, alone, ledgerCmp) {
			t.Fatalf("the sound part alone: %d of %d, damaged %v", n, sound, damaged)
		}
		var again []byte
		for r := range l.records() {
			again = appendFrame(again, r)
		}
		if rewritten, _, _ := replay(again); !cmp.Equal(l, rewritten, ledgerCmp) {
			t.Fatalf("rewritten (-was +is):\n%s", cmp.Diff(l, rewritten, ledgerCmp))
		}
	})
}
