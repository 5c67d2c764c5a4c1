// SPDX-License-Identifier: Apache-2.0

// Package batch lets callers that come at the same time share one piece of work, such as one transaction and its sync.
//
// There is no timer and no goroutine: whoever finds nobody working becomes the leader and takes along all that wait.
// While it works, the next batch gathers. A lone caller waits for nobody; where others are about to run, they run first, so
// that batches are not small just because the work is quick.
package batch

import (
	"runtime"
	"sync"
)

// Group gathers items into batches. Its methods may be called by any number of goroutines, but not from within run.
type Group[T any] struct {
	max  int
	run  func([]T)
	lead chan struct{} // holds one token while somebody works

	mu    sync.Mutex
	queue []entry[T]
}

type entry[T any] struct {
	item T
	done chan struct{} // closed after run; nil if nobody waits
}

// New returns a Group that passes at most max items to each call of run, in the order they came. run is never called
// twice at once; results travel in the items.
func New[T any](max int, run func([]T)) *Group[T] {
	return &Group[T]{max: max, run: run, lead: make(chan struct{}, 1)}
}

// Do adds item and returns after a call of run with it has returned.
func (g *Group[T]) Do(item T) {
	done := make(chan struct{})
	g.add(entry[T]{item, done})
	for {
		select {
		case <-done:
			return
		case g.lead <- struct{}{}:
			g.turn(done)
		}
	}
}

// turn leads one batch, unless done has come meanwhile: then whoever still waits will lead. It gives the token back even
// if run panics.
func (g *Group[T]) turn(done <-chan struct{}) {
	defer func() { <-g.lead }()
	select {
	case <-done:
	default:
		runtime.Gosched()
		g.work(g.take())
	}
}

// Later adds item to the next batch and returns at once. It runs before everything added after it, but only once
// somebody calls Do or Flush. It returns how many items wait.
func (g *Group[T]) Later(item T) int { return g.add(entry[T]{item: item}) }

// Flush works off what waits now, and no more: what comes meanwhile is for those who bring it.
func (g *Group[T]) Flush() {
	g.mu.Lock()
	left := len(g.queue)
	g.mu.Unlock()
	g.lead <- struct{}{}
	defer func() { <-g.lead }()
	for left > 0 {
		b := g.take()
		if len(b) == 0 {
			return // others have worked it off
		}
		g.work(b)
		left -= len(b)
	}
}

// Len returns how many items wait.
func (g *Group[T]) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.queue)
}

func (g *Group[T]) add(e entry[T]) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, e)
	return len(g.queue)
}

func (g *Group[T]) take() []entry[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.queue), g.max)
	b := g.queue[:n:n]
	if g.queue = g.queue[n:]; len(g.queue) == 0 {
		g.queue = nil // let go of what was taken
	}
	return b
}

func (g *Group[T]) work(b []entry[T]) {
	if len(b) == 0 {
		return
	}
	items := make([]T, len(b))
	for i := range b {
		items[i] = b[i].item
	}
	defer func() { // even if run panics: the others must not wait for ever
		for i := range b {
			if b[i].done != nil {
				close(b[i].done)
			}
		}
	}()
	g.run(items)
}
