// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
)

// work is the handling of one message in a test: it ends when released.
type work struct {
	m       message
	release chan struct{}
}

// newTestLine returns a line and what its handlers are at, one element as each begins.
func newTestLine(t *testing.T, r route) (*line, chan work) {
	t.Helper()
	at := make(chan work, 100)
	return newLine(r, func(m message) func() {
		w := work{m: m, release: make(chan struct{})}
		at <- w
		<-w.release
		return nil
	}), at
}

func TestLineTakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		route route
		from  string // one letter for the instance of each message
		want  string // whether it is taken
	}{
		{"a share of one", route{width: 4, share: 1}, "aabab", "ynynn"},
		{"a share of two", route{width: 4, share: 2}, "aaabbb", "yynyyn"},
		{"a request waits", route{width: 2, share: 2}, "abcde", "yyyyy"},
		{"one that waits counts", route{width: 1, share: 1}, "abb", "yyn"},
		{"a hint does not wait", route{width: 2, share: 2, hint: true}, "abc", "yyn"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, at := newTestLine(t, tt.route)
			var got []byte
			n := 0
			for _, from := range tt.from {
				answer := byte('n')
				if l.take(message{instance: string(from)}) {
					answer = 'y'
					n++
				}
				got = append(got, answer)
			}
			if string(got) != tt.want {
				t.Errorf("of %s took %s, want %s", tt.from, got, tt.want)
			}
			for range n {
				close(receive(t, at, "a message").release)
			}
			l.close()
			if len(l.held) > 0 || l.waits != 0 || l.idle != tt.route.width {
				t.Errorf("left %v held, %d bytes waiting, %d handlers idle", l.held, l.waits, l.idle)
			}
		})
	}
}

func TestLineKeepsOrderAndWidth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, at := newTestLine(t, route{width: 2, share: 1})
		var want, got []string
		for i := range 10 {
			id := fmt.Sprintf("mi-%d", i)
			want = append(want, id)
			if !l.take(message{instance: id}) {
				t.Fatal("not taken")
			}
			synctest.Wait() // for its handler, if it has one
		}
		for range want {
			synctest.Wait()
			if len(at) > 2 {
				t.Fatalf("%d messages at once, want 2 at most", len(at))
			}
			w := <-at
			got = append(got, w.m.instance)
			close(w.release)
		}
		if !slices.Equal(got, want) {
			t.Errorf("handled %v, want %v", got, want)
		}
		l.close()
	})
}

func TestLineIsBounded(t *testing.T) {
	t.Parallel()
	l, at := newTestLine(t, route{width: 1, share: 1})
	big := make([]byte, 64<<10)
	n := 0
	for l.take(message{instance: fmt.Sprint(n), data: big}) {
		n++
	}
	if want := 1 + maxWaiting/(len(big)+messageCost); n != want {
		t.Errorf("took %d messages, want %d", n, want)
	}
	closed := make(chan struct{})
	go func() { defer close(closed); l.close() }()
	eventually(t, "the line to close", func() bool { return !l.take(message{instance: "x"}) && l.empty() })
	select {
	case <-closed:
		t.Error("closed while a message was being handled")
	default:
	}
	close(receive(t, at, "the message").release)
	receive(t, closed, "the end")
	if len(at) > 0 {
		t.Error("a message that waited was handled after the close")
	}
}

func (l *line) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) == 0
}

// Whoever is answered may ask again at once.
func TestLineLetsGoBeforeItAnswers(t *testing.T) {
	t.Parallel()
	again := make(chan bool, 1)
	var l *line
	asked := false
	l = newLine(route{width: 1, share: 1}, func(m message) func() {
		if asked {
			return nil
		}
		asked = true
		return func() { again <- l.take(m) }
	})
	l.take(message{instance: "mi-a"})
	if !receive(t, again, "the answer") {
		t.Error("the second message was not taken")
	}
	l.close()
}
