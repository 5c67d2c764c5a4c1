// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestClaim(t *testing.T) { onEach(t, testClaim) }

func testClaim(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	claim := func(holder string, ttl time.Duration, want bool) {
		t.Helper()
		held, err := f.Claim(t.Context(), "sweep", holder, ttl)
		if err != nil || held != want {
			t.Errorf("%s claims it for %s: %v, %v", holder, ttl, held, err)
		}
	}
	claim("one", time.Hour, true)
	claim("two", time.Hour, false)
	claim("one", time.Hour, true) // for longer
	if held, err := f.Claim(t.Context(), "retention", "two", time.Hour); err != nil || !held {
		t.Errorf("another chore: %v, %v", held, err)
	}
	if err := f.Release(t.Context(), "sweep", "two"); err != nil {
		t.Fatal(err)
	}
	claim("two", time.Hour, false) // it had nothing to release
	if err := f.Release(t.Context(), "sweep", "one"); err != nil {
		t.Fatal(err)
	}
	claim("two", 0, true)
	claim("one", time.Hour, true) // its time is over
}

func TestClaimConcurrently(t *testing.T) { onEach(t, testClaimConcurrently) }

func testClaimConcurrently(t *testing.T, open opener) {
	t.Parallel()
	f := open(t)
	var held atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			ok, err := f.Claim(t.Context(), "sweep", fmt.Sprint("server ", i), time.Hour)
			if err != nil {
				t.Error(err)
			}
			if ok {
				held.Add(1)
			}
		})
	}
	wg.Wait()
	if held.Load() != 1 {
		t.Errorf("%d of 50 servers hold it", held.Load())
	}
}
