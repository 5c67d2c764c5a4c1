// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/openwaybill/waybill"
)

// Answers to reads are bounded together, from before anything is read for them until their clients have taken them: a
// client that asks for long lists and reads none of them holds what it asked for until its connection is cut off. An
// account has a share of the room, so that its clients do not take the room of others. While an answer is made it takes
// some times what it is counted as.
const (
	answerRoom  = 256 << 20 // bytes
	accountRoom = 64 << 20
	likelyMost  = 2 << 20  // bytes that an answer counts as until it is known: a full page of full files has 1.7 MB
	smallAnswer = 16 << 10 // bytes that need no room
)

var errNoRoom = waybill.Errorf(waybill.Unavailable, "too many answers wait for clients to read them")

// answers is the room for the answers to reads.
type answers struct {
	all *semaphore.Weighted
	own int64 // bytes of an account's share

	mu sync.Mutex
	of map[waybill.AccountID]*semaphore.Weighted
}

// newAnswers has room for the answer with one content of maxContent bytes in the share of every account.
func newAnswers(maxContent int) answers {
	return answers{
		all: semaphore.NewWeighted(answerRoom), own: max(accountRoom, int64(maxContent)+likelyMost),
		of: make(map[waybill.AccountID]*semaphore.Weighted),
	}
}

// place is what one answer takes of the room. A nil place takes none.
type place struct {
	of    [2]*semaphore.Weighted // the account's first: who waits for that keeps nobody else waiting
	bytes int64
}

// take waits for room, for as long as bodies do. The caller must call leave.
func (a *answers) take(ctx context.Context, account waybill.AccountID) (*place, error) {
	ctx, cancel := context.WithTimeout(ctx, roomPatience)
	defer cancel()
	a.mu.Lock()
	own := a.of[account]
	if own == nil {
		own = semaphore.NewWeighted(a.own)
		a.of[account] = own
	}
	a.mu.Unlock()
	p := &place{of: [2]*semaphore.Weighted{own, a.all}, bytes: likelyMost}
	for i, room := range p.of {
		if room.Acquire(ctx, p.bytes) != nil {
			if i > 0 {
				own.Release(p.bytes)
			}
			return nil, errNoRoom
		}
	}
	return p, nil
}

// grow waits for room for n bytes more, as take does.
func (p *place) grow(ctx context.Context, n int64) error {
	if p == nil || n <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, roomPatience)
	defer cancel()
	for i, room := range p.of {
		if room.Acquire(ctx, n) != nil {
			if i > 0 {
				p.of[0].Release(n)
			}
			return errNoRoom
		}
	}
	p.bytes += n
	return nil
}

// fit makes the place that of an answer of n bytes. It returns false if there is no room for one that is so long.
func (p *place) fit(n int) bool {
	bytes := int64(n)
	if n <= smallAnswer {
		bytes = 0
	}
	for i, room := range p.of {
		switch more := bytes - p.bytes; {
		case more < 0:
			room.Release(-more)
		case !room.TryAcquire(more):
			if i > 0 {
				p.of[0].Release(more)
			}
			return false
		}
	}
	p.bytes = bytes
	return true
}

// leave gives the room back. It may be called once.
func (p *place) leave() {
	if p == nil {
		return
	}
	for _, room := range p.of {
		room.Release(p.bytes)
	}
}
