// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

// journal remembers across crashes what the agent began, what came of it, and what it may never do again.
//
// It is one append-only file. An intent is synced to disk before the agent goes on, at the same time as the temporary
// file whose fate it records: from a durable intent, place.Recover can tell after any crash whether the file was
// published, so a lost outcome is rebuilt. That a delivery was cancelled is synced, too, for no file tells it. All other
// records need no sync. After the death of the process the page
// cache still holds them; after the death of the machine, a lost taken or released costs one attempt more or less, a
// lost outcome is rebuilt or the work is done again, and a lost confirmed is asked for again.
//
// An append that a crash cut off is dropped at the next start. A file damaged in its middle does not stop the agent
// either: an agent that does not start is a machine that nobody reaches any more, while the worst that a lost record
// can do is to repeat a delivery that the server still offers. What can be read is used, the damaged file is kept
// beside the journal, and the log says so.
//
// The file is open from the first record of a delivery until tidy finds none open: an idle agent needs no descriptor for
// it. Nothing has to be synced before it is closed, for the reasons above.
//
// Its methods may be called from several goroutines.
type journal struct {
	path string

	// swap is held for reading while the file is synced, and for writing while it is replaced. It is taken before mu.
	swap sync.RWMutex

	mu        sync.Mutex
	file      *os.File // nil: not open. Whoever holds swap, for reading too, finds it open once something was added
	size      int64    // where the next record goes; what an earlier failed append left behind it is overwritten
	compacted int64    // size after the last rewrite
	synced    int64    // how much of it survives the death of the machine, at least; for tests
	buf       []byte
	led       ledger
}

const (
	journalName    = "journal"
	damagedSuffix  = ".damaged"
	compactAtBytes = 256 << 10
)

// openJournal opens the journal in dir, which the caller has locked, creating an empty one if there is none.
func openJournal(dir string, log *slog.Logger) (*journal, error) {
	j := &journal{path: filepath.Join(dir, journalName)}
	b, err := os.ReadFile(j.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var sound int
	var damaged bool
	j.led, sound, damaged = replay(b)
	if damaged {
		kept := j.path + damagedSuffix
		if err := os.WriteFile(kept, b, 0o600); err != nil {
			return nil, fmt.Errorf("keep damaged journal: %w", err)
		}
		log.Warn("journal is damaged; what could be read is used", "kept_as", kept)
	}
	if sound == 0 || sound < len(b) {
		err = j.rewriteLocked()
	} else {
		j.size, j.compacted = int64(sound), int64(sound)
		err = errors.Join(j.openLocked(), j.closeLocked()) // one that cannot be written is to be known now
	}
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

// close closes the file. Nothing is lost without it.
func (j *journal) close() error {
	j.swap.Lock()
	defer j.swap.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closeLocked()
}

// taken records that work on d begins at the server time now. It returns how often work on it began before without
// coming to an end, and when it began first.
func (j *journal) taken(d *wire.Deliver, now int64) (before int, started int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	started = now
	if e := j.led.open[d.Delivery]; e != nil {
		before, started = e.attempts, e.started
	}
	return before, started, j.addLocked(record{
		Kind: recordTaken, Delivery: d.Delivery, Deadline: d.Deadline, Started: started, Attempt: before + 1,
		File: &fileFacts{
			Name: d.Name, TargetDir: d.TargetDir, SHA256: d.SHA256,
			Owner: d.Owner, Group: d.Group, Mode: d.Mode, Overwrite: d.Overwrite,
		},
	})
}

// intent records what is about to be published, and returns once that survives the death of the machine.
func (j *journal) intent(delivery string, t place.Token, now int64) error {
	return j.addDurably(record{Kind: recordIntent, Delivery: delivery, Now: now, Token: &t})
}

// outcome records what r says, and the deadline of its delivery if that is not in the journal, else 0. Whatever it returns, the
// outcome counts for as long as the agent runs. That a delivery was cancelled survives the death of the machine: the server
// tells it as soon as it hears of it, and nothing else keeps a Deliver that comes late from being carried out then.
func (j *journal) outcome(r *wire.Report, deadline int64) error {
	rec := record{Kind: recordOutcome, Delivery: r.Delivery, Deadline: deadline, Report: r}
	if r.Cause == string(waybill.CauseCancelled) {
		return j.addDurably(rec)
	}
	return j.add(rec)
}

// confirmed records at the server time now that the server has stored the outcome of a delivery, which is never to run
// again.
func (j *journal) confirmed(delivery string, now int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	// Cloned, because it may be part of a longer string, and many are kept until their deadline.
	r := record{Kind: recordConfirmed, Delivery: strings.Clone(delivery), Deadline: now}
	if e := j.led.open[delivery]; e != nil {
		r.Deadline = max(now, e.deadline)
	}
	return j.addLocked(r)
}

// released records that work on a delivery ended without a trace and may begin afresh.
func (j *journal) released(delivery string) error {
	return j.add(record{Kind: recordReleased, Delivery: delivery})
}

// isConfirmed reports whether a delivery may never run again.
func (j *journal) isConfirmed(delivery string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, ok := j.led.confirmed[delivery]
	return ok
}

// starts returns how often work on a delivery began without coming to an end.
func (j *journal) starts(delivery string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.led.open[delivery]; e != nil {
		return e.attempts
	}
	return 0
}

// unfinished returns the deliveries that are not confirmed.
func (j *journal) unfinished() map[string]entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	open := make(map[string]entry, len(j.led.open))
	for id, e := range j.led.open {
		open[id] = *e
	}
	return open
}

// now returns the last server time in the journal.
func (j *journal) now() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.led.now
}

// lastDuplicate is for how many milliseconds after a confirmation a message that was sent before it may come: a
// connection over which nothing comes is cut within a minute.
const lastDuplicate = 60_000

// tidy forgets the confirmed deliveries whose deadline and confirmation are over by lastDuplicate at server time now.
// A duplicate is refused by its deadline from then on, and none is expected, which counts where the server's clock is
// set back behind the deadline. tidy shrinks the file when it has become large, or when nothing in it matters any more,
// and closes it while no delivery is open.
func (j *journal) tidy(now int64) error {
	j.swap.Lock()
	defer j.swap.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.led.now = now
	for id, deadline := range j.led.confirmed {
		if deadline <= now-lastDuplicate {
			delete(j.led.confirmed, id)
		}
	}
	empty := len(j.led.open) == 0 && len(j.led.confirmed) == 0
	if empty && j.size > emptyJournalBytes || j.size > max(compactAtBytes, 2*j.compacted) {
		return j.rewriteLocked()
	}
	if len(j.led.open) == 0 {
		return j.closeLocked()
	}
	return nil
}

// emptyJournalBytes is the most that a journal of one recordTime takes.
const emptyJournalBytes = frameHeader + 16

func (j *journal) add(r record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.addLocked(r)
}

// addDurably adds r and returns once it survives the death of the machine.
func (j *journal) addDurably(r record) error {
	j.swap.RLock()
	defer j.swap.RUnlock()
	j.mu.Lock()
	err := j.addLocked(r)
	size := j.size
	j.mu.Unlock()
	if err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	j.mu.Lock()
	j.synced = max(j.synced, size)
	j.mu.Unlock()
	return nil
}

// addLocked applies r in any case: what this process knows does not depend on the disk.
func (j *journal) addLocked(r record) error {
	j.led.apply(r)
	j.buf = appendFrame(j.buf[:0], r)
	if err := j.openLocked(); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if _, err := j.file.WriteAt(j.buf, j.size); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	j.size += int64(len(j.buf))
	return nil
}

// rewriteLocked replaces the file by one that holds the ledger and nothing else, and leaves it closed. The caller holds
// swap and mu, or has the journal to itself.
func (j *journal) rewriteLocked() error {
	// Closed first, because Windows does not replace an open file.
	_ = j.closeLocked() // what it held is written anew
	var size int64
	err := replaceFile(j.path, func(w io.Writer) error {
		for r := range j.led.records() { // one after the other: there may be many, and the agent is to stay small
			j.buf = appendFrame(j.buf[:0], r)
			size += int64(len(j.buf))
			if _, err := w.Write(j.buf); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	j.size, j.compacted, j.synced = size, size, size
	return nil
}

// openLocked opens the file if it is not. The caller holds mu, or has the journal to itself.
func (j *journal) openLocked() error {
	if j.file != nil {
		return nil
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY, 0)
	if err != nil {
		return err // a nil file stays nil
	}
	j.file = f
	return nil
}

// closeLocked closes the file if it is open. The caller holds swap and mu, or has the journal to itself.
func (j *journal) closeLocked() error {
	f := j.file
	if j.file = nil; f == nil {
		return nil
	}
	return f.Close()
}
