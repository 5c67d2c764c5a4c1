// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestClock(t *testing.T) {
	t.Parallel()
	type step struct {
		wait   time.Duration
		learn  int64
		within time.Duration // of a question, if it is an answer
		want   int64
	}
	for name, steps := range map[string][]step{
		"knows nothing at first":           {{wait: time.Hour, want: 0}},
		"advances by itself":               {{learn: 1000, want: 1000}, {wait: 5 * time.Second, want: 6000}},
		"takes a later time":               {{learn: 1000, want: 1000}, {learn: 9000, want: 9000}},
		"ignores an earlier time":          {{learn: 9000, want: 9000}, {learn: 1000, want: 9000}},
		"ignores what it is past":          {{learn: 1000, want: 1000}, {wait: time.Minute, learn: 2000, want: 61000}},
		"corrects itself after a stop":     {{learn: 1000, want: 1000}, {wait: time.Second, learn: 90000, want: 90000}},
		"goes on from what it learned":     {{learn: 5000, want: 5000}, {wait: time.Second, want: 6000}},
		"is not moved by nothing":          {{learn: 1000, want: 1000}, {learn: 0, want: 1000}, {learn: -5, want: 1000}},
		"has milliseconds, not more":       {{learn: 1000, want: 1000}, {wait: 1999 * time.Microsecond, want: 1001}},
		"an unknown time is not learnt":    {{learn: 0, want: 0}},
		"a wait before learning is no age": {{wait: time.Hour, learn: 1000, want: 1000}},
		"an earlier answer sets it back": {
			{learn: 90000, want: 90000},
			{wait: time.Second, learn: 1000, within: time.Millisecond, want: 1000},
			{wait: time.Second, want: 2000},
		},
		"an answer may have travelled as long as it took": {
			{learn: 1000, want: 1000},
			{wait: time.Minute, learn: 59000, within: 2 * time.Second, want: 61000},
		},
		"but no longer": {
			{learn: 1000, want: 1000},
			{wait: time.Minute, learn: 58999, within: 2 * time.Second, want: 58999},
		},
		"is not moved by an answer without a time": {
			{learn: 1000, want: 1000},
			{wait: time.Second, within: time.Millisecond, want: 2000},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var c clock
				for i, s := range steps {
					<-time.After(s.wait)
					var asked time.Time
					if s.within != 0 {
						asked = time.Now().Add(-s.within)
					}
					c.learn(s.learn, asked)
					if got := c.millis(); got != s.want {
						t.Fatalf("step %d: clock says %d, want %d", i, got, s.want)
					}
				}
			})
		})
	}
}

func TestClockPassed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c clock
		if c.passed(1) {
			t.Error("a deadline has passed although no time is known")
		}
		c.learn(1000, time.Time{})
		if !c.passed(1000) || c.passed(1001) {
			t.Error("the deadline itself is not the first moment that is too late")
		}
		<-time.After(time.Millisecond)
		if !c.passed(1001) {
			t.Error("time does not pass")
		}
	})
}

func TestBackoffBound(t *testing.T) {
	t.Parallel()
	b := Backoff{}.withDefaults()
	for failures, want := range []time.Duration{5, 10, 20, 30, 30, 30} {
		if got := b.bound(failures); got != want*time.Second {
			t.Errorf("bound(%d) = %v, want %v", failures, got, want*time.Second)
		}
	}
	if got := b.bound(1 << 30); got != b.Max {
		t.Errorf("bound of very many failures = %v", got)
	}
}

// TestBackoffSpreads shows that 10,000 agents that lose the server at once do not come back at once: no tenth of the
// first five seconds gets more than a fair share.
func TestBackoffSpreads(t *testing.T) {
	t.Parallel()
	const agents, parts = 10_000, 10
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{}.withDefaults()
		start := time.Now()
		back := make(chan time.Duration, agents)
		for range agents {
			go func() {
				if err := b.wait(t.Context(), 0); err != nil {
					t.Error(err)
				}
				back <- time.Since(start)
			}()
		}
		var share [parts]int
		for range agents {
			share[(<-back)*parts/b.First]++
		}
		for i, n := range share {
			if n > agents/parts*5/4 || n < agents/parts*3/4 {
				t.Errorf("part %d of the first window gets %d of %d agents", i, n, agents)
			}
		}
	})
}
