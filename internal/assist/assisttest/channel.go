// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

const socketPath = "/luban/notify_server"

// readErrors is how many read errors in a row the agent takes before it believes that its channel is lost.
const readErrors = 5

// dialAttempts is how often the agent then looks for a channel. One failed dial makes the others fall into CoolDown.
const dialAttempts = 5

var errCooling = errors.New("ws channel is calming down")

// selectChannel sees to it that there is a channel: it dials once, unless it believes that it has one.
func (a *Agent) selectChannel(ctx context.Context) error {
	select {
	case a.dialing <- struct{}{}:
		defer func() { <-a.dialing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	a.mu.Lock()
	working, cool := a.working, time.Now().Before(a.coolUntil)
	a.mu.Unlock()
	if working {
		return nil
	}
	if cool {
		return errCooling
	}
	a.note(func(s *Snapshot) { s.Dials++ }, "dial")
	h, err := a.header(socketPath)
	var conn *socket
	if err == nil {
		conn, err = a.cfg.Network.dialSocket(ctx, socketPath, h, a.t.DialLimit)
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.mu.Lock()
		a.coolUntil = time.Now().Add(a.t.CoolDown)
		a.mu.Unlock()
		a.tell("dial failed: " + err.Error())
		a.spawn(ctx, func(ctx context.Context) {
			a.metric(ctx, "agent.channel.failed", map[string]string{"errmsg": err.Error(), "type": "websocket"})
		})
		return err
	}
	a.mu.Lock()
	if ctx.Err() != nil { // asked with the lock held: Run takes it after the end of ctx, to close a.conn
		a.mu.Unlock()
		conn.close()
		return ctx.Err()
	}
	a.conn, a.working = conn, true
	a.seen.Connects++
	a.seen.Connected, a.seen.Deaf = true, a.seen.Crashed
	a.mu.Unlock()
	a.tell("connected")
	a.ping(ctx)
	a.spawn(ctx, func(ctx context.Context) { a.listen(ctx, conn) })
	return nil
}

// ping is one round of a ping loop. Each connect begins another loop, and they all go on as long as there is a channel
// whenever they look (Q17).
func (a *Agent) ping(ctx context.Context) {
	a.mu.Lock()
	conn, working := a.conn, a.working
	a.mu.Unlock()
	if !working || conn.send(opPing, []byte("keepalive")) != nil || ctx.Err() != nil {
		return
	}
	a.mu.Lock()
	a.seen.Pings++
	a.mu.Unlock()
	a.after(a.t.Ping, a.ping)
}

// listen is the reader of a connection until that is lost.
func (a *Agent) listen(ctx context.Context, conn *socket) {
	for {
		message, err := conn.receive()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			a.lose(ctx, conn, err)
			return
		}
		reply, ok := a.kicked(ctx, message)
		if !ok {
			a.note(func(s *Snapshot) { s.Crashed, s.Deaf = true, true }, "reader crashed")
			return // it believes that the channel works, for ever
		}
		if ctx.Err() == nil {
			_ = conn.send(opText, []byte(reply)) // a broken connection shows when it is read
		}
	}
}

// lose is what follows the first read error: every further read fails as well (§10).
func (a *Agent) lose(ctx context.Context, conn *socket, err error) {
	a.note(func(s *Snapshot) { s.Connected = false }, "connection lost: "+err.Error())
	for range readErrors {
		if !pause(ctx, a.t.ReadRetry) {
			return
		}
	}
	conn.close()
	a.mu.Lock()
	a.working = false
	a.mu.Unlock()
	a.clientReport(ctx, "switch_channel_in_wsk", "start:"+err.Error())
	if !pause(ctx, a.t.Redial) {
		return
	}
	for range dialAttempts {
		if a.selectChannel(ctx) == nil {
			a.switched(ctx, "switch_channel_in_wsk", "success: Current channel is 2")
			return
		}
		if !pause(ctx, a.t.DialRetry) {
			return
		}
	}
	a.note(func(s *Snapshot) { s.Deaf = true }, "deaf until the next tick")
	a.switched(ctx, "switch_channel_in_wsk", "fail: no available channel")
}

// tick looks after the channel.
func (a *Agent) tick(ctx context.Context) {
	info := "success: Current channel is 2"
	if err := a.selectChannel(ctx); err != nil {
		info = "fail:No available channel"
		a.note(func(s *Snapshot) { s.Deaf = true }, "tick: deaf until the next one")
	} else {
		a.tell("tick")
	}
	a.switched(ctx, "switch_channel_in_timer", info)
}

func (a *Agent) switched(ctx context.Context, kind, info string) {
	a.spawn(ctx, func(ctx context.Context) {
		a.metric(ctx, "agent.channel.switch", map[string]string{"type": "websocket", "reportType": kind, "info": info})
	})
	a.clientReport(ctx, kind, info)
}

// actions are the words that the agent understands after the second one of a kick.
var actions = map[string][]string{
	"agent":   {"stop", "remove", "update"},
	"task":    {"run", "stop"},
	"file":    {"create", "stop"},
	"session": {"start", "stop"},
	"status":  {"network"},
}

// kicked handles a message and returns the reply. It reports false if the message makes the reader crash (Q7).
func (a *Agent) kicked(ctx context.Context, message string) (reply string, ok bool) {
	a.mu.Lock()
	updating, dropped := a.updating, !a.enabled
	a.mu.Unlock()
	k := Kick{Message: message}
	defer func() {
		k.Reply = reply
		a.note(func(s *Snapshot) { s.Kicks = append(s.Kicks, k) }, "kick "+message)
	}()
	if updating {
		return "reject:" + message, true
	}
	if strings.Contains(message, "kick_vm agent deregister") {
		a.deregister(ctx)
	}
	// The words are separated by exactly one blank, and nobody looks at the first one: but "kick_vm" alone is a kick.
	words := strings.Split(message, " ")
	if len(words) < 2 {
		if message != "kick_vm" {
			return "unknow:" + message, true
		}
		k.Dropped = dropped
		a.spawn(ctx, func(ctx context.Context) { a.fetch(ctx, "kickoff", "") })
		return "accept:" + message, true
	}
	if words[1] == "noop" {
		return "accept:" + message, true
	}
	known, ok := actions[words[1]]
	if !ok {
		return "unknow:" + message, true
	}
	if len(words) < 3 {
		return "", false
	}
	for _, action := range known {
		if action == words[2] {
			k.Dropped = a.act(ctx, words[1], action, words[3:]) && dropped
			return "accept:" + message, true
		}
	}
	return "unknow:" + message, true
}

// act begins what a kick asks for, and reports whether that is a fetch.
func (a *Agent) act(ctx context.Context, object, action string, params []string) (fetches bool) {
	switch {
	case object == "agent" && action != "update":
		a.spawn(ctx, func(context.Context) { a.die(ErrStopped) })
	case len(params) == 0: // accepted all the same
	case object == "file", object == "task":
		a.spawn(ctx, func(ctx context.Context) { a.fetch(ctx, "kickoff", params[0]) })
		return true
	case object == "session" && action == "start":
		a.spawn(ctx, func(ctx context.Context) { a.fetch(ctx, "session", params[0]) })
		return true
	}
	return false
}

// deregister is done by the reader before it replies (§5.2).
func (a *Agent) deregister(ctx context.Context) {
	answer, err := a.call(ctx, Call{
		Method: http.MethodPost, Target: deregisterPath, ContentType: contentJSON, Limit: a.t.CallLimit,
	})
	if ctx.Err() != nil {
		return
	}
	dropped := drops(answer)
	keywords := map[string]string{"status": "success"}
	if err != nil {
		keywords["errormsg"] = err.Error()
	}
	if dropped {
		a.Forget()
		a.tell("deregistered")
	} else {
		keywords["status"] = "failed"
		a.tell("deregistration refused")
	}
	a.spawn(ctx, func(ctx context.Context) { a.metric(ctx, "agent.hybrid.unregister", keywords) })
}
