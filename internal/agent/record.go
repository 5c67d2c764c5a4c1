// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/binary"
	"hash/crc32"
	"iter"

	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

// recordKind says what a record of the journal means. The numbers are on disk and never change their meaning.
type recordKind int

const (
	recordTime      recordKind = 1 // the server time known when the file was written
	recordTaken     recordKind = 2 // work on a delivery begins
	recordIntent    recordKind = 3 // the file is complete under its temporary name and about to be published
	recordOutcome   recordKind = 4 // the outcome, not yet confirmed by the server
	recordConfirmed recordKind = 5 // the server has stored the outcome
	recordReleased  recordKind = 6 // work ended without outcome and without trace, in good order
)

// record is one line of the journal.
type record struct {
	Kind     recordKind `cbor:"1,keyasint"`
	Delivery string     `cbor:"2,keyasint,omitempty"`
	Now      int64      `cbor:"3,keyasint,omitempty"` // recordTime and recordIntent: server time, Unix milliseconds
	// Deadline is, likewise, of recordTaken; of recordConfirmed, or when that was, if later; of a recordOutcome without the other.
	Deadline int64        `cbor:"4,keyasint,omitempty"`
	Started  int64        `cbor:"5,keyasint,omitempty"` // recordTaken: likewise
	Attempt  int          `cbor:"6,keyasint,omitempty"` // recordTaken: 1 for the first
	File     *fileFacts   `cbor:"7,keyasint,omitempty"` // recordTaken
	Token    *place.Token `cbor:"8,keyasint,omitempty"` // recordIntent
	Report   *wire.Report `cbor:"9,keyasint,omitempty"` // recordOutcome
}

// fileFacts is all of a delivery's file but its content: what place.Recover needs to recognise it.
type fileFacts struct {
	Name      string `cbor:"1,keyasint"`
	TargetDir string `cbor:"2,keyasint"`
	SHA256    []byte `cbor:"3,keyasint"`
	Owner     string `cbor:"4,keyasint"`
	Group     string `cbor:"5,keyasint"`
	Mode      uint32 `cbor:"6,keyasint"`
	Overwrite bool   `cbor:"7,keyasint"`
}

// entry is what the journal knows of a delivery that is not confirmed.
type entry struct {
	deadline int64
	started  int64
	attempts int
	file     fileFacts
	intent   *intent
	outcome  *wire.Report
}

type intent struct {
	token place.Token
	at    int64
}

// ledger is the sum of the records of a journal.
type ledger struct {
	now       int64             // the last server time in it
	open      map[string]*entry // by delivery
	confirmed map[string]int64  // the deliveries that may never run again: deadline or confirmation, the later
}

func newLedger() ledger {
	return ledger{open: map[string]*entry{}, confirmed: map[string]int64{}}
}

// apply is the one place that says what a record means. Records that make no sense after those before them can follow
// from a damaged file; they change as little as they can.
func (l *ledger) apply(r record) {
	if r.Now != 0 {
		l.now = r.Now
	}
	if _, over := l.confirmed[r.Delivery]; over {
		return
	}
	switch r.Kind {
	case recordTime:
	case recordTaken:
		if r.File != nil {
			e := l.entry(r.Delivery)
			e.deadline, e.started, e.attempts, e.file, e.intent = r.Deadline, r.Started, r.Attempt, *r.File, nil
		}
	case recordIntent:
		if r.Token != nil {
			l.entry(r.Delivery).intent = &intent{token: *r.Token, at: r.Now}
		}
	case recordOutcome:
		if r.Report != nil {
			e := l.entry(r.Delivery)
			e.outcome, e.deadline = r.Report, max(e.deadline, r.Deadline)
		}
	case recordConfirmed:
		delete(l.open, r.Delivery)
		l.confirmed[r.Delivery] = r.Deadline
	case recordReleased:
		delete(l.open, r.Delivery)
	}
}

func (l *ledger) entry(delivery string) *entry {
	e := l.open[delivery]
	if e == nil {
		e = &entry{}
		l.open[delivery] = e
	}
	return e
}

// records returns the shortest sequence of records that makes this ledger.
func (l *ledger) records() iter.Seq[record] {
	return func(yield func(record) bool) {
		for id, e := range l.open {
			if !yield(record{
				Kind: recordTaken, Delivery: id, Deadline: e.deadline, Started: e.started, Attempt: e.attempts, File: &e.file,
			}) {
				return
			}
			if i := e.intent; i != nil && !yield(record{Kind: recordIntent, Delivery: id, Now: i.at, Token: &i.token}) {
				return
			}
			if e.outcome != nil && !yield(record{Kind: recordOutcome, Delivery: id, Report: e.outcome}) {
				return
			}
		}
		for id, deadline := range l.confirmed {
			if !yield(record{Kind: recordConfirmed, Delivery: id, Deadline: deadline}) {
				return
			}
		}
		yield(record{Kind: recordTime, Now: l.now}) // after the older times of intents
	}
}

// A record is framed by the length of its CBOR form and the CRC-32C of that length and form, both little-endian. The
// length is part of the sum because a run of zeros, which is what a file system may leave of a lost write, would
// otherwise be a sound empty frame.
const (
	frameHeader = 8
	maxFrame    = 64 << 10 // bytes of a CBOR form
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends the frame of r to b.
func appendFrame(b []byte, r record) []byte {
	start := len(b)
	body := wire.Encode(r)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, 0, 0, 0, 0)
	b = append(b, body...)
	binary.LittleEndian.PutUint32(b[start+4:], frameSum(b[start:start+4], body))
	return b
}

// readFrame reads the frame at the start of b and returns its length in bytes.
func readFrame(b []byte) (r record, n int, ok bool) {
	if len(b) < frameHeader {
		return record{}, 0, false
	}
	size := binary.LittleEndian.Uint32(b)
	if size == 0 || size > maxFrame || int(size) > len(b)-frameHeader {
		return record{}, 0, false
	}
	body := b[frameHeader : frameHeader+int(size)]
	if frameSum(b[:4], body) != binary.LittleEndian.Uint32(b[4:]) || wire.Decode(body, &r) != nil {
		return record{}, 0, false
	}
	return r, frameHeader + int(size), true
}

func frameSum(size, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(size, castagnoli), castagnoli, body)
}

// replay reads a journal. It never fails: bytes that are not sound frames are stepped over. sound is how many bytes
// from the start are sound frames; damaged says that sound frames follow unsound bytes, which an interrupted append
// does not explain.
func replay(b []byte) (l ledger, sound int, damaged bool) {
	l = newLedger()
	broken := false
	for off := 0; off < len(b); {
		r, n, ok := readFrame(b[off:])
		if !ok {
			broken = true
			off++
			continue
		}
		l.apply(r)
		off += n
		if broken {
			damaged = true
		} else {
			sound = off
		}
	}
	return l, sound, damaged
}
