// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"sync"
	"testing"
)

func TestDoRunsEveryItemOnceInOrder(t *testing.T) {
	t.Parallel()
	var ran []int // run is never called twice at once, so no lock
	largest := 0
	g := New(8, func(items []int) {
		largest = max(largest, len(items))
		ran = append(ran, items...)
	})
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() { g.Do(i) })
	}
	wg.Wait()
	if len(ran) != 500 {
		t.Fatalf("ran %d items, want 500", len(ran))
	}
	seen := map[int]bool{}
	for _, i := range ran {
		seen[i] = true
	}
	if len(seen) != 500 {
		t.Errorf("ran %d different items, want 500", len(seen))
	}
	if largest > 8 {
		t.Errorf("a batch had %d items, at most 8 allowed", largest)
	}
}

func TestCallersShareABatch(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}), make(chan struct{})
	var sizes []int
	g := New(100, func(items []int) {
		if sizes = append(sizes, len(items)); len(sizes) == 1 {
			close(started)
			<-release
		}
	})
	var wg sync.WaitGroup
	wg.Go(func() { g.Do(0) })
	<-started
	for i := range 10 { // while the first works, ten gather
		g.Later(i + 1)
	}
	wg.Go(func() { g.Do(11) })
	close(release)
	wg.Wait()
	if len(sizes) != 2 || sizes[1] != 11 {
		t.Errorf("batches of %v, want [1 11]", sizes)
	}
}

func TestLaterWaitsForCompany(t *testing.T) {
	t.Parallel()
	var ran []string
	g := New(10, func(items []string) { ran = append(ran, items...) })
	if n := g.Later("a"); n != 1 || len(ran) != 0 {
		t.Fatalf("Later ran at once: %v (%d waiting)", ran, n)
	}
	g.Do("b")
	if len(ran) != 2 || ran[0] != "a" || ran[1] != "b" {
		t.Errorf("ran %v, want [a b]", ran)
	}
	g.Later("c")
	g.Flush()
	g.Flush()
	if len(ran) != 3 {
		t.Errorf("ran %v, want c last and once", ran)
	}
}

// TestFlushEnds keeps the queue from ever getting empty: Flush must still return.
func TestFlushEnds(t *testing.T) {
	t.Parallel()
	var g *Group[int]
	g = New(4, func(items []int) {
		for _, i := range items {
			if i < 100_000 {
				g.Later(i + 1) // a caller that comes while the batch runs
			}
		}
	})
	g.Later(0)
	g.Flush()
	if n := g.Later(-1); n != 2 {
		t.Errorf("%d wait, want the one that came meanwhile and this one", n)
	}
}
