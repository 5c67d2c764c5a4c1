// SPDX-License-Identifier: Apache-2.0

package gateway

import "sync"

const (
	maxWaiting  = 64 << 20 // bytes that wait in one line
	messageCost = 512      // bytes that a message takes beside its data, about
)

// message is what an agent sent.
type message struct {
	instance string
	reply    string // empty: no answer is wanted
	data     []byte
}

func (m message) size() int { return messageCost + len(m.data) }

// line is where the messages of one route are handled, and wait until they can be. No instance has more than its share
// in it, so that one that floods the bus takes nobody's place: the bus hands messages over as fast as they come, and
// what is above the share goes no further.
type line struct {
	// handle handles one message. answer, if not nil, is called when the message has left the line: an agent may ask
	// again the moment it is answered, and must find its share free.
	handle func(m message) (answer func())
	share  int // messages of one instance, waiting or being handled
	room   int // bytes that may wait

	handlers sync.WaitGroup

	mu      sync.Mutex
	idle    int            // handlers that may still begin
	held    map[string]int // messages by instance, waiting or being handled
	waiting []message      // oldest first; none while a handler is idle
	waits   int            // size of waiting
	closed  bool
}

func newLine(r route, handle func(message) func()) *line {
	l := &line{handle: handle, share: r.share, room: maxWaiting, idle: r.width, held: map[string]int{}}
	if r.hint {
		l.room = 0
	}
	return l
}

// take has m handled, now or when its turn comes, and does not wait for it. It returns false if there is no place.
func (l *line) take(m message) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed || l.held[m.instance] >= l.share:
		return false
	case l.idle > 0:
		l.idle--
		l.handlers.Go(func() { l.work(m) })
	case l.waits+m.size() <= l.room:
		l.waiting = append(l.waiting, m)
		l.waits += m.size()
	default:
		return false
	}
	l.held[m.instance]++
	return true
}

// work handles m and then whatever waits.
func (l *line) work(m message) {
	for more := true; more; {
		answer := l.handle(m)
		m, more = l.next(m)
		if answer != nil {
			answer()
		}
	}
}

// next lets go of a message that was handled and returns the one to handle now, if there is one.
func (l *line) next(done message) (m message, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[done.instance]--; l.held[done.instance] == 0 {
		delete(l.held, done.instance)
	}
	if len(l.waiting) == 0 {
		l.idle++
		return message{}, false
	}
	m = l.waiting[0]
	l.waiting[0] = message{} // for the collector
	l.waiting = l.waiting[1:]
	l.waits -= m.size()
	return m, true
}

// load returns how many messages are being handled, and how many wait.
func (l *line) load() (handled, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.held {
		handled += n
	}
	return handled - len(l.waiting), len(l.waiting)
}

// close takes no more messages and returns when no handler is at work. Those that wait are forgotten: their agents send
// them again.
func (l *line) close() {
	l.mu.Lock()
	l.closed, l.waiting, l.waits = true, nil, 0
	l.mu.Unlock()
	l.handlers.Wait()
}
