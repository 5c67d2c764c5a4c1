// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"io"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestKicks(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := s.start()
	c := s.socket()
	p.started()
	fetched := map[string]bool{}
	for _, k := range []struct {
		message, reply string // of which the message follows
		task           string // asked for; "-": everything; "": nothing
	}{
		{"kick_vm", "accept:", "-"},
		{"kick_vm file create f-1", "accept:", "f-1"},
		{"kick_vm file stop f-2", "accept:", "f-2"},
		{"kick_vm task run t-1", "accept:", "t-1"},
		{"kick_vm task stop t-2", "accept:", "t-2"},
		{"anything file create f-3", "accept:", "f-3"},
		{"kick_vm file create f-4 and more", "accept:", "f-4"},
		{"kick_vm noop", "accept:", ""},
		{"kick_vm noop whatever", "accept:", ""},
		{"kick_vm file create", "accept:", ""},
		{"kick_vm status network --refresh", "accept:", ""},
		{"kick_vm agent update", "accept:", ""},
		{"kick_vm session stop s-1", "accept:", ""},
		{"kick_vm  file create f-5", "unknow:", ""},
		{"kick_vm file  create f-5", "unknow:", ""},
		{" kick_vm file create f-5", "unknow:", ""},
		{"kick_vm file ", "unknow:", ""},
		{"kick_vm file remove f-5", "unknow:", ""},
		{"kick_vm files create f-5", "unknow:", ""},
		{"kick", "unknow:", ""},
		{"", "unknow:", ""},
	} {
		if got := s.kick(c, k.message); got != k.reply+k.message {
			t.Errorf("%q: %q", k.message, got)
		}
		if k.task != "" {
			fetched[k.task] = true
		}
	}
	if err := c.Write(t.Context(), websocket.MessageBinary, []byte("kick_vm noop")); err != nil {
		t.Fatal(err)
	}
	if got := <-s.replies; got != "accept:kick_vm noop" {
		t.Errorf("binary: %q", got)
	}
	s.kick(c, "kick_vm session start s-9")
	eventually(t, "sessions", func() bool {
		r := s.requests("/luban/api/v1/session/list")
		return len(r) == 2 && query(t, r[0]).Get("channelId") == "s-9"
	})
	eventually(t, "two fetches for each", func() bool { return len(p.Snapshot().Fetches) == 1+2*len(fetched)+2 })
	for _, r := range s.requests(listPath)[1:] {
		q := query(t, r)
		id := q.Get("taskId")
		if !q.Has("taskId") {
			id = "-"
		}
		if !fetched[id] || q.Get("reason") != "kickoff" {
			t.Errorf("fetch %v", q)
		}
	}
	p.Updating(true)
	if got := s.kick(c, "kick_vm file create f-1"); got != "reject:kick_vm file create f-1" {
		t.Errorf("while updating: %q", got)
	}
	p.Updating(false)
	const stop = "kick_vm agent stop"
	s.push(c, stop) // it may end before its reply is on its way
	if err := p.ended(); err != ErrStopped {
		t.Errorf("Run: %v", err)
	}
	kicks := p.Snapshot().Kicks
	if got, want := kicks[len(kicks)-1], (Kick{Message: stop, Reply: "accept:" + stop}); got != want {
		t.Errorf("stop: %+v", got)
	}
	const second = "kick_vm file create f-1"
	if got, want := p.Snapshot().Kicks[1], (Kick{Message: second, Reply: "accept:" + second}); got != want {
		t.Errorf("kick %+v", got)
	}
}

// TestShortKickCrashes sends each second word without a third: nothing is read any more, not even after the connection
// is lost, and yet pings go on and the tick finds nothing wrong.
func TestShortKickCrashes(t *testing.T) {
	t.Parallel()
	for word := range actions {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			p := s.start(func(cfg *Config) {
				cfg.Times.Ping, cfg.Times.Tick = 20*time.Millisecond, 50*time.Millisecond
			})
			c := s.socket()
			p.started()
			s.push(c, "kick_vm "+word)
			eventually(t, "crash", func() bool { return p.Snapshot().Crashed })
			s.push(c, "kick_vm noop")
			for range 3 {
				<-s.pings
			}
			if got := p.Snapshot(); !got.Connected || !got.Deaf || len(got.Kicks) != 1 || len(s.replies) > 0 {
				t.Errorf("%+v", got)
			}
			c.CloseNow()
			ticks := func() (n int) {
				for _, r := range p.Snapshot().ClientReports {
					if r.Type == "switch_channel_in_timer" && r.Info == "success: Current channel is 2" {
						n++
					}
				}
				return n
			}
			before := ticks()
			eventually(t, "two ticks", func() bool { return ticks() >= before+2 })
			if got := p.Snapshot(); got.Dials != 1 || !got.Deaf {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestKickBeforeStart kicks an agent whose first beat is not answered yet.
func TestKickBeforeStart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	answer := make(chan struct{})
	s.on(beatPath, func(w http.ResponseWriter, _ *http.Request) {
		<-answer
		io.WriteString(w, `{"nextInterval":60000}`)
	})
	p := s.start()
	if got := s.kick(s.socket(), "kick_vm"); got != "accept:kick_vm" {
		t.Errorf("reply %q", got)
	}
	eventually(t, "kick", func() bool { return len(p.Snapshot().Kicks) == 1 })
	if !p.Snapshot().Kicks[0].Dropped || len(s.requests(listPath)) > 0 {
		t.Errorf("%+v", p.Snapshot())
	}
	close(answer)
	p.started()
	if got := p.Snapshot().Fetches[0].Reason; got != "startup" {
		t.Errorf("fetch for %s", got)
	}
}

// TestStartupFetchOnce lets the startup fetch fail. It is not repeated, nor is anything fetched on a new connection.
func TestStartupFetchOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.on(listPath, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	p := s.start(func(cfg *Config) { cfg.ColdStart = true })
	c := s.socket()
	p.started()
	if f := p.Snapshot().Fetches[0]; f.Reason != "startup" || f.Requests != 4 || f.Err != "status 502" {
		t.Errorf("fetch %+v", f)
	}
	if q := query(t, s.requests(listPath)[0]); q.Get("cold_start") != "true" {
		t.Errorf("query %v", q)
	}
	s.say(listPath, list())
	c.CloseNow()
	c = s.socket()
	eventually(t, "success", func() bool { return len(p.Snapshot().ClientReports) == 2 })
	if n := len(s.requests(listPath)); n != 4 {
		t.Errorf("%d requests after the new connection", n)
	}
	s.kick(c, "kick_vm")
	eventually(t, "second ask", func() bool { return len(p.Snapshot().Fetches) == 3 })
	for _, r := range s.requests(listPath)[4:] {
		if q := query(t, r); q.Get("reason") != "kickoff" || q.Has("cold_start") {
			t.Errorf("query %v", q)
		}
	}
}

// TestRedial closes the connection several times: it is dialled again after 6 s each time, and the pings multiply.
func TestRedial(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := s.start(func(cfg *Config) { cfg.Times.Ping = 10 * time.Second })
	c := s.socket()
	p.started()
	for range 3 {
		lost := time.Now()
		c.Close(websocket.StatusGoingAway, "restart")
		c = s.socket()
		if d := time.Since(lost); d < 6*time.Second/100 {
			t.Errorf("redialled after %s", d)
		}
	}
	eventually(t, "reports", func() bool { return len(p.Snapshot().ClientReports) == 6 })
	var got []string
	for _, r := range s.requests(clientPath) {
		got = append(got, r.body)
	}
	if len(got) != 6 || !strings.Contains(got[0], `"start:websocket: close 1001 restart"`) ||
		!strings.Contains(got[0], "switch_channel_in_wsk") ||
		!strings.Contains(got[1], `"success: Current channel is 2"`) {
		t.Errorf("client reports %q", got)
	}
	if s := p.Snapshot(); !s.Connected || s.Deaf || s.Dials != 4 || s.Connects != 4 || s.Pings != 4 {
		t.Errorf("%+v", s)
	}
	for range 4 {
		if got := <-s.pings; got != "keepalive" {
			t.Errorf("ping %q", got)
		}
	}
}

// TestPingsMultiply compares an agent that has reconnected twice, whose three ping loops go on, with one that has not.
func TestPingsMultiply(t *testing.T) {
	t.Parallel()
	fast := func(cfg *Config) { cfg.Times.Ping = time.Second } // a loop that finds no connection ends
	s, calm := newServer(t), newServer(t)
	p := s.start(fast)
	for range 2 {
		s.socket().CloseNow()
	}
	s.socket()
	one := calm.start(fast)
	calm.socket()
	before := p.Snapshot().Pings
	eventually(t, "four pings of one loop", func() bool { return one.Snapshot().Pings >= 4 })
	if n := p.Snapshot().Pings - before; n < 7 {
		t.Errorf("%d pings of three loops, while one loop sent 4", n)
	}
}

// TestDeaf refuses one upgrade: the agent is deaf until the next tick, and its beats go on.
func TestDeaf(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const tick = 2 * time.Second
	p := s.start(func(cfg *Config) { cfg.Times.Tick, cfg.Times.Beat = tick, 50*time.Millisecond })
	c := s.socket()
	p.started()
	s.on(socketPath, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	c.CloseNow()
	eventually(t, "deafness", func() bool { return p.Snapshot().Deaf })
	s.on(socketPath, nil)
	beats := p.Snapshot().Beats
	if got := p.Snapshot(); got.Connected || got.Dials != 2 {
		t.Errorf("%+v", got)
	}
	c = s.socket()
	if d := time.Since(p.Snapshot().Started); d < tick {
		t.Errorf("reconnected after %s, before the tick", d)
	}
	eventually(t, "reports", func() bool { return len(p.Snapshot().ClientReports) == 3 })
	var got []string
	for _, r := range p.Snapshot().ClientReports {
		got = append(got, r.Type+" "+r.Info)
	}
	if !strings.HasPrefix(got[0], "switch_channel_in_wsk start:") || !slices.Equal(got[1:], []string{
		"switch_channel_in_wsk fail: no available channel", "switch_channel_in_timer success: Current channel is 2",
	}) {
		t.Errorf("client reports %q", got)
	}
	if now := p.Snapshot(); now.Deaf || !now.Connected || now.Beats == beats {
		t.Errorf("%+v", now)
	}
	s.kick(c, "kick_vm noop")
}

func TestDeafFromTheStart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.on(socketPath, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	p := s.start(func(cfg *Config) { cfg.Times.Tick, cfg.Times.CoolDown = time.Second, 10*time.Millisecond })
	p.started()
	if !p.Snapshot().Deaf {
		t.Error("it hears")
	}
	s.on(socketPath, nil)
	s.socket()
	if d := time.Since(p.Snapshot().Started); d < time.Second {
		t.Errorf("dialled again %s after the start", d)
	}
}

func TestBeats(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var n atomic.Int32
	s.on(beatPath, func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) {
		case 1, 2:
			w.WriteHeader(http.StatusNotFound) // no retry in the round
		case 3:
			w.WriteHeader(http.StatusBadGateway) // a retry in the round
		case 4:
			io.WriteString(w, `{"nextInterval":60000}`)
		case 5:
			io.WriteString(w, `{"nextInterval":5000,"newTasks":true}`)
		case 6:
			io.WriteString(w, `{"errMsg":"Required request parameter 'os_type' `+
				`for method parameter type String is not present"}`)
		case 7:
			io.WriteString(w, `{"nextInterval":"60000"}`)
		default:
			io.WriteString(w, `ok`)
		}
	})
	p := s.start(func(cfg *Config) { cfg.Times.Beat, cfg.Times.BeatRetry = 60*time.Millisecond, time.Millisecond })
	eventually(t, "eight beats", func() bool { return len(s.requests(beatPath)) >= 8 })
	for i, want := range []struct {
		index, seq string
		has        string
		not        string
	}{
		{"0", "0", "virt_type os_version az machineid cold_start", "lang"},
		{"0", "0", "virt_type os_version az machineid cold_start", "lang"},
		{"0", "0", "virt_type os_version az machineid cold_start", "lang"},
		{"0", "0", "virt_type os_version az machineid cold_start", "lang"},
		{"1", "1", "", "virt_type machineid"},
		{"2", "2", "", "virt_type machineid"},
		{"2", "3", "virt_type lang os_type os_version app_version az", "machineid cold_start"},
		{"3", "4", "virt_type lang os_type os_version app_version az", "machineid cold_start"},
	} {
		r := s.requests(beatPath)[i]
		q := query(t, r)
		if r.method != "GET" || r.header.Get("Content-Type") != "application/x-www-form-urlencoded" ||
			q.Get("index") != want.index || q.Get("seq_no") != want.seq {
			t.Errorf("beat %d: %v", i, q)
		}
		for _, k := range append(strings.Fields(want.has), "uptime", "timestamp", "pid", "process_uptime") {
			if !q.Has(k) {
				t.Errorf("beat %d: no %s in %v", i, k, q)
			}
		}
		for _, k := range strings.Fields(want.not) {
			if q.Has(k) {
				t.Errorf("beat %d: %s in %v", i, k, q)
			}
		}
		stamp, _ := strconv.ParseInt(q.Get("timestamp"), 10, 64)
		up, _ := strconv.ParseInt(q.Get("process_uptime"), 10, 64)
		if d := time.UnixMilli(stamp - up).Sub(p.Snapshot().Started); d.Abs() > 5*time.Millisecond {
			t.Errorf("beat %d: start is off by %s", i, d)
		}
	}
	if len(s.requests(listPath)) != 1 {
		t.Error("newTasks made it fetch")
	}
}

func TestNextInterval(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]time.Duration{
		`{"nextInterval":55000}`:     55 * time.Second,
		`{"nextInterval":65000}`:     65 * time.Second,
		`{"nextInterval":61234}`:     61234 * time.Millisecond,
		`{"nextInterval":54999}`:     0,
		`{"nextInterval":65001}`:     0,
		`{"nextInterval":"60000"}`:   0,
		`{"nextInterval":60000`:      0,
		`{"code":200,"newTasks":{}}`: 0,
	} {
		s := newServer(t)
		s.say(beatPath, reply)
		p := s.start(func(cfg *Config) { cfg.Times.Beat = time.Minute })
		p.started()
		got := p.Snapshot().NextBeat
		if want > 0 && got != want || got < 55*time.Second || got > 65*time.Second {
			t.Errorf("%s: next beat after %s", reply, got)
		}
	}
}

func TestDeregisterKick(t *testing.T) {
	t.Parallel()
	for reply, dropped := range map[string]bool{`{"code":200}`: true, `{"code":403}`: false} {
		s := newServer(t)
		s.say(deregisterPath, reply)
		p := s.start(func(cfg *Config) { cfg.Times.Beat = 60 * time.Millisecond })
		c := s.socket()
		p.started()
		if got := s.kick(c, "kick_vm agent deregister"); got != "unknow:kick_vm agent deregister" {
			t.Errorf("reply %q", got)
		}
		r := s.requests(deregisterPath)
		if len(r) != 1 || r[0].method != "POST" || r[0].body != "" || r[0].header.Get("x-acs-instance-id") != "mi-1" {
			t.Errorf("requests %+v", r)
		}
		if p.Snapshot().Registered == dropped {
			t.Errorf("%s: %+v", reply, p.Snapshot())
		}
		n := len(s.requests(beatPath))
		eventually(t, "beats", func() bool { return len(s.requests(beatPath)) >= n+2 })
		h := s.requests(beatPath)[n+1].header
		if (h.Get("x-acs-signature")+h.Get("X-Client-IP") == "") != dropped {
			t.Errorf("%s: beat %v", reply, h)
		}
	}
}

func TestTelemetry(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const states, updates = "/luban/api/instance/list_instance_state_configurations", "/luban/api/v1/update/update_check"
	s.say(states, `{"code":200,"result":{"interval":86400,"changed":false}}`)
	s.say(updates, `<html>`)
	p := s.start(func(cfg *Config) { cfg.Packaged, cfg.Times.State = true, 0 })
	s.socket()
	if got := p.Snapshot(); got.UpdateChecks != 3 || len(s.requests(updates)) != 3 {
		t.Errorf("before the channel: %+v", got)
	}
	eventually(t, "panic", func() bool {
		r := p.Snapshot().ClientReports
		return len(r) == 1 && r[0].Type == "AgentPanic"
	})
	if n := len(s.requests(states)); n != 1 || p.Snapshot().StateQueries != 1 {
		t.Errorf("%d state queries", n)
	}
	eventually(t, "startup metric", func() bool {
		return slices.ContainsFunc(s.requests(metricsPath), func(r request) bool {
			return strings.Contains(r.body, `"agent.startup"`)
		})
	})
}

func TestMetricQuota(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var files []task
	for range metricQuota + 20 {
		files = append(files, file("f-1", "mode", "9999"))
	}
	s.say(listPath, list(files...))
	p := s.start()
	p.reported(len(files))
	eventually(t, "metrics", func() bool { return len(p.Snapshot().Metrics) == len(files)+1 })
	if n := len(s.requests(metricsPath)); n != metricQuota {
		t.Errorf("%d metrics", n)
	}
}

// TestConcurrentKicks executes what is offered to each kick, at the same time (§11).
func TestConcurrentKicks(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.offer(list(file("f-1", "overwrite", false)))
	p := s.start()
	c := s.socket()
	p.started()
	for range 5 {
		s.push(c, "kick_vm file create f-1")
	}
	p.reported(5)
	count := map[string]int{}
	for _, x := range p.Snapshot().Executions {
		count[x.Result.String()]++
	}
	if p.Snapshot().Runs["f-1"] != 5 || count["Success"] < 1 || count["Success"]+count["FileExist"] != 5 {
		t.Errorf("%+v", count)
	}
}

// TestKill ends agents that are in the middle of something, and before they began.
func TestKill(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hang := make(chan struct{})
	s.on(listPath, func(_ http.ResponseWriter, r *http.Request) {
		close(hang)
		<-r.Context().Done()
	})
	p := s.start()
	<-hang
	p.Kill()
	if err := p.ended(); err != ErrKilled {
		t.Errorf("Run: %v", err)
	}
	if got := p.Snapshot(); got.Connected || len(got.Reports) > 0 {
		t.Errorf("%+v", got)
	}
	unborn := New(Config{Network: s.network(), Root: t.TempDir()})
	unborn.Kill()
	if err := unborn.Run(t.Context()); err != ErrKilled {
		t.Errorf("Run after Kill: %v", err)
	}
	if err := New(Config{}).Run(t.Context()); err == nil {
		t.Error("ran without a network")
	}
}

// TestMany runs many agents over one network and delivers to each. It is not parallel: it counts goroutines.
func TestMany(t *testing.T) {
	const agents = 100
	s := newServer(t)
	s.offer(list(file("f-1")))
	n := s.network()
	all := make([]*process, agents)
	for i := range all {
		all[i] = s.start(func(cfg *Config) { cfg.Network, cfg.Times = n, RealTimes() })
	}
	for _, p := range all {
		p.started()
	}
	for range all {
		s.push(s.socket(), "kick_vm file create f-1")
	}
	for _, p := range all {
		if r := p.reported(1); r.Lost {
			t.Errorf("report %+v", r)
		}
	}
	b := make([]byte, 16<<20)
	eventually(t, "two goroutines for each idle agent", func() bool {
		running, others := 0, 0
		for g := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
			if strings.Contains(g, "assisttest.(*Agent).Run(") {
				running++
			} else if strings.Contains(g, "assisttest.(*Agent)") {
				others++
			}
		}
		return running == agents && others == agents
	})
}
