// SPDX-License-Identifier: Apache-2.0

// Package audit chains audit records: it says what the hash of a record covers, writes and reads the lines of an export,
// and checks a chain. It keeps nothing. Where records are stored is internal/store's.
//
// The hash of a record is SHA-256 over its line without the hash (field order and escaping as Marshal writes them, no
// line feed). The line holds the hash of the record before, so whoever knows the last hash can tell whether any record
// was altered, removed, added or moved.
package audit

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/openwaybill/waybill"
)

// line is a record as it is exported: one JSON object, keys in this order.
type line struct {
	Sequence  int64             `json:"Sequence"`
	Time      string            `json:"Time"` // RFC 3339, UTC, milliseconds
	AccountID waybill.AccountID `json:"AccountId"`
	RequestID string            `json:"RequestId"`
	ActorType waybill.ActorKind `json:"ActorType"`
	Actor     string            `json:"Actor"`
	AccessKey string            `json:"AccessKeyId"`
	SourceIP  string            `json:"SourceIp"`
	Action    string            `json:"Action"`
	Region    string            `json:"RegionId"`
	Resources []string          `json:"Resources"`
	Subject   string            `json:"Subject"`
	Result    string            `json:"Result"`
	Previous  string            `json:"PreviousHash"` // hexadecimal
	Hash      string            `json:"Hash,omitempty"`
}

// TimeLayout is how the time of a record is written.
const TimeLayout = "2006-01-02T15:04:05.000Z"

func lineOf(r *waybill.AuditRecord) line {
	l := line{
		Sequence: r.Sequence, Time: r.Time.UTC().Format(TimeLayout), AccountID: r.Account, RequestID: r.RequestID,
		ActorType: r.ActorType, Actor: r.Actor, AccessKey: r.AccessKey, SourceIP: r.SourceIP, Action: r.Action,
		Region: r.Region, Resources: r.Resources, Subject: r.Subject, Result: r.Result,
		Previous: hex.EncodeToString(r.Previous[:]),
	}
	if l.Resources == nil {
		l.Resources = []string{}
	}
	return l
}

func encode(l line) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l); err != nil {
		panic(err) // numbers and strings
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Hash returns the hash that belongs to r. The one that r holds is not looked at.
func Hash(r *waybill.AuditRecord) [sha256.Size]byte { return sha256.Sum256(encode(lineOf(r))) }

// Marshal returns the line of r, with its hash and without a line feed.
func Marshal(r *waybill.AuditRecord) []byte {
	l := lineOf(r)
	l.Hash = hex.EncodeToString(r.Hash[:])
	return encode(l)
}

// Unmarshal reads a line. What Marshal could not have written is an error, so that nothing can be added to a line
// without its being noticed.
func Unmarshal(text []byte) (waybill.AuditRecord, error) {
	var l line
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return waybill.AuditRecord{}, fmt.Errorf("not an audit record: %w", err)
	}
	r := waybill.AuditRecord{
		Sequence: l.Sequence, Account: l.AccountID, RequestID: l.RequestID, ActorType: l.ActorType, Actor: l.Actor,
		AccessKey: l.AccessKey, SourceIP: l.SourceIP, Action: l.Action, Region: l.Region, Resources: l.Resources,
		Subject: l.Subject, Result: l.Result,
	}
	var err error
	if r.Time, err = time.Parse(TimeLayout, l.Time); err != nil {
		return waybill.AuditRecord{}, errors.New("not an audit record: its time is malformed")
	}
	if !decodeHash(&r.Previous, l.Previous) || !decodeHash(&r.Hash, l.Hash) {
		return waybill.AuditRecord{}, errors.New("not an audit record: a hash is malformed")
	}
	if !bytes.Equal(Marshal(&r), text) {
		return waybill.AuditRecord{}, errors.New("not an audit record as it was exported: it was written again")
	}
	return r, nil
}

func decodeHash(hash *[sha256.Size]byte, text string) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == copy(hash[:], b) && len(b) == sha256.Size
}

// Chain checks the records of one account in order. The zero value takes any record as the first.
type Chain struct {
	First, Last waybill.AuditRecord // without meaning before the first Add
	Records     int64
}

// Add looks at the next record. The error says what is wrong, and with which record.
func (c *Chain) Add(r waybill.AuditRecord) error {
	if got := Hash(&r); got != r.Hash {
		return fmt.Errorf("record %d was altered: its hash is %x, not %x", r.Sequence, got[:8], r.Hash[:8])
	}
	if c.Records == 0 {
		c.First = r
	} else if err := follows(&c.Last, &r); err != nil {
		return err
	}
	c.Last = r
	c.Records++
	return nil
}

func follows(last, r *waybill.AuditRecord) error {
	switch {
	case r.Account != last.Account:
		return fmt.Errorf("record %d is of another account, %s", r.Sequence, r.Account)
	case r.Sequence > last.Sequence+1:
		return fmt.Errorf("records %d to %d are missing", last.Sequence+1, r.Sequence-1)
	case r.Sequence != last.Sequence+1:
		return fmt.Errorf("record %d comes after record %d", r.Sequence, last.Sequence)
	case r.Previous != last.Hash:
		return fmt.Errorf("record %d does not follow from record %d: one of them was replaced", r.Sequence, last.Sequence)
	}
	return nil
}

// maxLine bounds one line of an export: a record of a SendFile to ten thousand machines has about 700 KiB.
const maxLine = 4 << 20

// Read checks the lines of an export, which must be in order, oldest first. It says in which line a problem is.
func Read(r io.Reader) (*Chain, error) {
	c := &Chain{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	n := 0
	for lines.Scan() {
		n++
		record, err := Unmarshal(lines.Bytes())
		if err == nil {
			err = c.Add(record)
		}
		if err != nil {
			return c, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return c, fmt.Errorf("line %d: %w", n+1, err)
	}
	return c, nil
}

// Seal is the keyed hash by which a server knows its own word on where a chain begins and ends: first is the number of
// the first record that is kept, before the hash of the one before it, last and hash are those of the last; broken is
// the number of the record before which the server found that its word had been altered, or 0.
func Seal(
	key []byte, account waybill.AccountID, first int64, before [sha256.Size]byte, last int64, hash [sha256.Size]byte,
	broken int64,
) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("waybill audit head 1\n" + string(account) + "\n"))
	for _, n := range []int64{first, last, broken} {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	}
	mac.Write(before[:])
	mac.Write(hash[:])
	return mac.Sum(nil)
}
