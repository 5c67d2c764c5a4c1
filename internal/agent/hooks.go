// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"net"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/openwaybill/waybill/internal/place"
	"github.com/openwaybill/waybill/internal/wire"
)

// Hooks interfere with an agent. They are for tests, for the simulator and for machines that play a part; the program
// waybill-agent has none. Each may be nil, and may be called by several goroutines.
type Hooks struct {
	// Trace is called at the points named in the Trace… constants, and with the name of each place.Step before it, with
	// the delivery concerned. Whoever is to be killed or to panic, is so here.
	Trace func(event, delivery string)
	// Fault is called before each step of placing a delivery. An error is what the step ends with; see place.Config.
	Fault func(step place.Step, delivery string) error
	// Message decides what becomes of a message between agent and server.
	Message func(Message) Fate
	// Deliver is called with each delivery that arrives, also when it comes again, and may change it. If it returns false,
	// the agent has never heard of it.
	Deliver func(*wire.Deliver) bool
	// Dial makes the agent's connections, to HTTPS and to the bus, where no proxy is in between.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Capability is told to the server in place of wire.Capability, if it is not zero.
	Capability int
}

// Points at which Hooks.Trace is called, in the life of a delivery.
const (
	TraceAccepted = "accepted" // taken up, not yet acknowledged
	TraceAcked    = "acked"    // the acknowledgement is on its way
	TraceTaken    = "taken"    // work begins; the place.Steps follow
	TraceFinished = "finished" // the outcome is known, but to nobody else, not even to the journal
	TraceReport   = "report"   // the outcome is in the journal and about to be sent
	TraceCancel   = "cancel"   // the server asks to give it up
)

// Message is a message on its way.
type Message struct {
	ToServer bool
	Op       string // the wire.Op… constants, OpAnswer or OpConfirm
	Data     []byte // see internal/wire; not to be changed
}

// What Message.Op is of the server's answers.
const (
	OpAnswer  = "answer"  // to a request
	OpConfirm = "confirm" // that an outcome is stored
)

// Fate is how often a message arrives, and how much later each time than it would. A message without any is lost; one
// that is later than the next has been overtaken by it.
type Fate []time.Duration

// AsItIs is the fate of a message that nobody interferes with.
var AsItIs = Fate{0}

func (h Hooks) trace(event, delivery string) {
	if h.Trace != nil {
		h.Trace(event, delivery)
	}
}

func (h Hooks) capability() int {
	if h.Capability != 0 {
		return h.Capability
	}
	return wire.Capability
}

// link is what a session needs of its connection.
type link interface {
	Publish(subject string, data []byte) error
	PublishRequest(subject, reply string, data []byte) error
	RequestWithContext(ctx context.Context, subject string, data []byte) (*nats.Msg, error)
	Close()
}

// unsteady is a connection whose messages are interfered with.
type unsteady struct {
	link
	fate func(Message) Fate
}

// after calls f once for each time that a message arrives.
func (f Fate) after(arrives func()) {
	for _, d := range f {
		if d <= 0 {
			arrives()
		} else {
			time.AfterFunc(d, arrives)
		}
	}
}

func (u *unsteady) outgoing(subject string, data []byte) Fate {
	_, op, _ := wire.InstanceOf(subject)
	return u.fate(Message{ToServer: true, Op: op, Data: data})
}

// Publish sends a message, perhaps. One that is lost is no error.
func (u *unsteady) Publish(subject string, data []byte) error {
	u.outgoing(subject, data).after(func() {
		_ = u.link.Publish(subject, data) // as if it were lost
	})
	return nil
}

// PublishRequest sends a message, perhaps.
func (u *unsteady) PublishRequest(subject, reply string, data []byte) error {
	u.outgoing(subject, data).after(func() {
		_ = u.link.PublishRequest(subject, reply, data) // likewise
	})
	return nil
}

// RequestWithContext asks, perhaps. If question or answer is lost it waits in vain.
func (u *unsteady) RequestWithContext(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	answers := make(chan *nats.Msg, 1)
	u.outgoing(subject, data).after(func() {
		go func() {
			m, err := u.link.RequestWithContext(ctx, subject, data)
			if err != nil {
				return
			}
			u.fate(Message{Op: OpAnswer, Data: m.Data}).after(func() {
				select {
				case answers <- m:
				default: // answered already
				}
			})
		}()
	})
	select {
	case m := <-answers:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
