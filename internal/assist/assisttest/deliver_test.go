// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDelivery(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.offer(list(file("f-1")))
	p := s.start()
	c := s.socket()
	p.started()
	if got := s.kick(c, "kick_vm file create f-1"); got != "accept:kick_vm file create f-1" {
		t.Errorf("reply %q", got)
	}
	if r := p.reported(1); r.Lost || r.Status != 200 || r.TaskID != "f-1" {
		t.Errorf("report %+v", r)
	}
	if got := read(t, p.root, "etc/app/f-1.txt"); got != "hello\n" {
		t.Errorf("content %q", got)
	}
	fetches := s.requests(listPath)
	if len(fetches) != 2 {
		t.Fatalf("%d fetches", len(fetches))
	}
	if q := query(t, fetches[0]); q.Get("reason") != "startup" || q.Get("cold_start") != "false" || q.Has("taskId") {
		t.Errorf("first fetch %v", q)
	}
	q := query(t, fetches[1])
	if q.Get("reason") != "kickoff" || q.Has("cold_start") || q.Get("taskId") != "f-1" || q.Get("currentTime") == "" ||
		!q.Has("offset") || !q.Has("timeZone") {
		t.Errorf("second fetch %v", q)
	}
	finish := s.requests(finishPath)
	if len(finish) != 1 || finish[0].target != finishPath+"?taskId=f-1&status=Success&taskType=sendfile&errorcode=0" ||
		finish[0].method != "POST" || finish[0].body != "" ||
		finish[0].header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("finish %+v", finish)
	}
	if finish[0].proto != "HTTP/2.0" || finish[0].header.Get("Accept-Encoding") != "gzip" {
		t.Errorf("%s, %v", finish[0].proto, finish[0].header)
	}
	got := p.Snapshot()
	if got.Runs["f-1"] != 1 || len(got.Executions) != 1 || got.Executions[0].Result.String() != "Success" ||
		got.Executions[0].Path != filepath.Join(p.root, "etc/app/f-1.txt") ||
		got.Fetches[1].CurrentTime != q.Get("currentTime") {
		t.Errorf("snapshot %+v", got)
	}
	p.stop()
	if err := p.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func query(t *testing.T, r request) url.Values {
	t.Helper()
	u, err := url.Parse(r.target)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

// TestExecute hands out one file of each kind, one after the other, in one reply.
func TestExecute(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	mine, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Skipf("no name for the group of this user: %v", err)
	}
	cases := []struct {
		name  string
		pairs []any
		want  string
		value string
		path  string // that holds hello\n, or with content ""
		empty bool
		mode  fs.FileMode
	}{
		{name: "plain", want: "Success", path: "etc/app/plain.txt", mode: 0o644},
		{
			name: "deep", pairs: []any{"destination", "/a/b/c", "mode", ""},
			want: "Success", path: "a/b/c/deep.txt", mode: 0o644,
		},
		{
			name: "relative", pairs: []any{"destination", "rel", "mode", "600"},
			want: "Success", path: "rel/relative.txt", mode: 0o600,
		},
		{
			name: "owned", pairs: []any{"owner", me.Username, "group", mine.Name},
			want: "Success", path: "etc/app/owned.txt", mode: 0o644,
		},
		{
			name: "owned by root", pairs: []any{"owner", "root", "group", "root"},
			want: "Success", path: "etc/app/owned by root.txt", mode: 0o644,
		},
		{name: "noname", pairs: []any{"name", ""}, want: "FileNameInvalid"},
		{name: "nocontent", pairs: []any{"content", ""}, want: "EmptyFile"},
		{
			name: "empty", pairs: []any{"content", "\n", "signature", "68b329da9893e34099c7d8ad5cb9c940"},
			want: "Success", path: "etc/app/empty.txt", empty: true, mode: 0o644,
		},
		{name: "lines", pairs: []any{"content", "aGVs\r\nbG8K"}, want: "Success", path: "etc/app/lines.txt", mode: 0o644},
		{
			name: "upper case MD5", pairs: []any{"signature", strings.ToUpper(file("x")["signature"].(string))},
			want: "Success", path: "etc/app/upper case MD5.txt", mode: 0o644,
		},
		{name: "nopadding", pairs: []any{"content", "aGVsbG8KCg"}, want: "InvalidFileContent"},
		{name: "urlsafe", pairs: []any{"content", "_-8="}, want: "InvalidFileContent"},
		{name: "content before signature", pairs: []any{"content", "!", "signature", "0"}, want: "InvalidFileContent"},
		{name: "signature before mode", pairs: []any{"signature", "0a", "mode", "9"}, want: "InvalidSignature", value: "0a"},
		{name: "mode short", pairs: []any{"mode", "64"}, want: "InvalidFileMode", value: "64"},
		{name: "mode long", pairs: []any{"mode", "00644"}, want: "InvalidFileMode", value: "00644"},
		{name: "mode decimal", pairs: []any{"mode", "888"}, want: "InvalidFileMode", value: "888"},
		{name: "mode setuid", pairs: []any{"mode", "4755"}, want: "Success", path: "etc/app/mode setuid.txt", mode: 0o755},
		{name: "mode plus", pairs: []any{"mode", "+640"}, want: "Success", path: "etc/app/mode plus.txt", mode: 0o640},
		{
			name: "mode minus", pairs: []any{"mode", "-755"},
			want: "Success", path: "etc/app/mode minus.txt", mode: 0o023 | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky,
		},
		{name: "there", pairs: []any{"overwrite", false}, want: "FileExist", value: "there.txt"},
		{name: "there before directory", pairs: []any{"overwrite", false, "destination", "/file/below"}, want: "Failed 4"},
		{name: "link", pairs: []any{"overwrite", false}, want: "FileExist", value: "link.txt"},
		{name: "link followed", pairs: []any{"name", "link.txt"}, want: "Success", path: "etc/app/target.txt", mode: 0o644},
		{
			name: "long", pairs: []any{"overwrite", false, "name", strings.Repeat("n", 256)},
			want: "FileExist", value: strings.Repeat("n", 256),
		},
		{name: "long over", pairs: []any{"name", strings.Repeat("n", 256)}, want: "Failed 1"},
		{name: "directory", pairs: []any{"name", "sub"}, want: "Failed 1"},
		{name: "subdirectory", pairs: []any{"name", "none/x"}, want: "Failed 1"},
		{name: "target is a file", pairs: []any{"destination", "/file"}, want: "Failed 4"},
		{name: "no target", pairs: []any{"destination", ""}, want: "Failed 1"}, // /root is not created
		{name: "escape", pairs: []any{"name", "../../../up.txt"}, want: "Success", path: "up.txt", mode: 0o644},
		{
			name: "owner", pairs: []any{"owner", "nobody-here", "group", "none-here"},
			want: "FileOwnerNotExist", value: "nobody-here", path: "etc/app/owner.txt", mode: 0o644,
		},
		{
			name: "owner number", pairs: []any{"owner", "0"},
			want: "FileOwnerNotExist", value: "0", path: "etc/app/owner number.txt", mode: 0o644,
		},
		{
			name: "group", pairs: []any{"owner", me.Username, "group", "none-here"},
			want: "FileGroupNotExist", value: "none-here", path: "etc/app/group.txt", mode: 0o644,
		},
	}
	s := newServer(t)
	var files []task
	for _, c := range cases {
		files = append(files, file(c.name, c.pairs...))
	}
	s.offer(list(files...))
	p := s.start(func(cfg *Config) {
		dir := filepath.Join(cfg.Root, "etc/app")
		for _, err := range []error{
			os.MkdirAll(filepath.Join(dir, "sub"), 0o755),
			os.WriteFile(filepath.Join(dir, "there.txt"), nil, 0o600),
			os.WriteFile(filepath.Join(cfg.Root, "file"), nil, 0o600),
			os.Symlink("target.txt", filepath.Join(dir, "link.txt")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	c := s.socket()
	p.started()
	s.kick(c, "kick_vm")
	p.reported(len(cases))
	got := p.Snapshot().Executions
	for i, c := range cases {
		x := got[i]
		if x.TaskID != c.name || x.Result.String() != c.want || x.Result.Value != c.value {
			t.Errorf("%s: %+v, want %s %q", c.name, x, c.want, c.value)
		}
		if c.path == "" {
			continue
		}
		file := filepath.Join(p.root, c.path)
		info, err := os.Stat(file)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if info.Mode() != c.mode {
			t.Errorf("%s: mode %v, want %v", c.name, info.Mode(), c.mode)
		}
		if c.mode&0o400 == 0 && os.Geteuid() != 0 {
			continue // unreadable
		}
		if want := map[bool]string{false: "hello\n", true: ""}[c.empty]; read(t, file) != want {
			t.Errorf("%s: content %q", c.name, read(t, file))
		}
	}
}

// TestReportValues reports names as they are, over both versions of HTTP (§7.3), and the same in a metric (§7.4).
func TestReportValues(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file   string
		http1  bool
		target string // after value=; "-": lost
		status int
	}{
		"plain":          {"a.txt", false, "a.txt", 200},
		"blank":          {"sp ace.txt", false, "sp ace.txt", 200},
		"blank, HTTP/1":  {"sp ace.txt", true, "-", 400},
		"ampersand":      {"a&param=EmptyFile", false, "a&param=EmptyFile", 200},
		"percent":        {"100%zz;+=?\"", false, "100%zz;+=?\"", 200},
		"UTF-8":          {"日本.txt", false, "日本.txt", 200},
		"UTF-8, HTTP/1":  {"日本.txt", true, "日本.txt", 200},
		"hash":           {"a#b", false, "a", 200},
		"hash, HTTP/1":   {"a#b", true, "a", 200},
		"newline":        {"a\nb", false, "-", 0},
		"tab, HTTP/1":    {"a\tb", true, "-", 0},
		"control":        {"a\x7fb", false, "-", 0},
		"percent HTTP/1": {"%41", true, "%41", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.offer(list(file("f-1", "name", c.file, "overwrite", false)))
			p := s.start(func(cfg *Config) {
				cfg.Network = s.network(func(n *NetworkConfig) { n.HTTP1 = c.http1 })
				if err := os.MkdirAll(filepath.Join(cfg.Root, "etc/app", c.file), 0o755); err != nil {
					t.Fatal(err)
				}
			})
			socket := s.socket()
			p.started()
			s.kick(socket, "kick_vm file create f-1")
			r := p.reported(1)
			if r.Lost != (c.target == "-") || r.Status != c.status {
				t.Errorf("report %+v", r)
			}
			seen := s.requests(invalidPath)
			if c.target == "-" {
				if len(seen) != 0 {
					t.Errorf("arrived: %q", seen[0].target)
				}
			} else if prefix := invalidPath + "?taskId=f-1&taskType=sendfile&param=FileExist&value="; len(seen) != 1 ||
				seen[0].target != prefix+c.target {
				t.Errorf("arrived: %+v", seen)
			}
			eventually(t, "metric", func() bool { return failedMetric(s) != nil })
			if got := failedMetric(s); got["taskid"] != "f-1" || got["errormsg"] != "FileExist : "+c.file {
				t.Errorf("metric %v", got)
			}
		})
	}
}

// failedMetric returns the keywords of the metric of a failed task, or nil.
func failedMetric(s *server) map[string]string {
	for _, r := range s.requests(metricsPath) {
		var body struct {
			ID       string `json:"eventId"`
			Keywords string `json:"keywords"`
		}
		keywords := map[string]string{}
		if json.Unmarshal([]byte(r.body), &body) == nil && body.ID == "agent.task.failed" &&
			json.Unmarshal([]byte(body.Keywords), &keywords) == nil {
			return keywords
		}
	}
	return nil
}

func TestFinishMetric(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.offer(list(file("f-1", "name", "none/x")))
	p := s.start()
	c := s.socket()
	p.started()
	s.kick(c, "kick_vm")
	p.reported(1)
	eventually(t, "metric", func() bool { return failedMetric(s) != nil })
	if got := failedMetric(s)["errormsg"]; got != "?taskId=f-1&status=Failed&taskType=sendfile&errorcode=1" {
		t.Errorf("errormsg %q", got)
	}
}

// TestFetch answers fetches in every way that matters and counts the requests.
func TestFetch(t *testing.T) {
	t.Parallel()
	limit := 100 * time.Millisecond
	for name, c := range map[string]struct {
		answer   func(n int, w http.ResponseWriter, r *http.Request) // n from 1
		requests int                                                 // of the kick, to the end of it
		found    int
		void     string // part of
		err      string
	}{
		"nothing": {func(_ int, w http.ResponseWriter, _ *http.Request) { io.WriteString(w, list()) }, 2, 0, "", ""},
		"found": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, list(file("f-1")))
		}, 1, 1, "", ""},
		"sparse": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"FILE":[{"Task":{"TASKID":"f-1","name":"n","content":"\n",`+
				`"signature":"68b329da9893e34099c7d8ad5cb9c940","more":1}}],"run":null}`)
		}, 1, 1, "", ""},
		"status 500": {func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 8, 0, "", "status 500"},
		"status 401": {func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, 8, 0, "", "status 401"},
		"status 400 is a success": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			io.WriteString(w, list(file("f-1")))
		}, 1, 1, "", ""},
		"status 500 once": {func(n int, w http.ResponseWriter, _ *http.Request) {
			if n == 1 {
				w.WriteHeader(500)
				return
			}
			io.WriteString(w, list(file("f-1")))
		}, 2, 1, "", ""},
		"code 408": {func(_ int, w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"code":408}`) }, 8, 0, "", ""},
		"code 408 once": {func(n int, w http.ResponseWriter, _ *http.Request) {
			if n == 1 {
				io.WriteString(w, `{"code":408}`)
				return
			}
			io.WriteString(w, list(file("f-1")))
		}, 2, 1, "", ""},
		"code 500": {func(_ int, w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"code":500}`) }, 2, 0, "", ""},
		"no JSON": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `<html>`)
		}, 2, 0, "invalid character", ""},
		"type of timeout": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, list(file("f-1"), file("f-2", "timeout", "60")))
		}, 2, 0, "timeout", ""},
		"type of overwrite": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, list(file("f-1", "overwrite", "true")))
		}, 2, 0, "overwrite", ""},
		"type of mode": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, list(file("f-1", "mode", 644)))
		}, 2, 0, "mode", ""},
		"type of code": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, strings.Replace(list(file("f-1")), `"code":200`, `"code":"200"`, 1))
		}, 2, 0, "code", ""},
		// The first byte comes in time, the last does not: a success, and empty (Q3).
		"slow body": {func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				io.WriteString(w, list(file("f-1"))[:20])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return
			}
			io.WriteString(w, list())
		}, 2, 0, "empty", ""},
		"no answer": {func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				<-r.Context().Done()
				return
			}
			io.WriteString(w, list(file("f-1")))
		}, 2, 1, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			kicks := make(chan int, 1)
			kicks <- 0
			s.on(listPath, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("reason") == "startup" {
					io.WriteString(w, list())
					return
				}
				n := <-kicks + 1
				kicks <- n
				c.answer(n, w, r)
			})
			p := s.start(func(cfg *Config) {
				if strings.HasPrefix(name, "slow") || strings.HasPrefix(name, "no answer") {
					cfg.Times.FetchLimit = limit
				}
			})
			socket := s.socket()
			p.started()
			s.kick(socket, "kick_vm file create f-1")
			total := func() (n int) {
				for _, f := range p.Snapshot().Fetches[1:] {
					n += f.Requests
				}
				return n
			}
			eventually(t, "requests", func() bool { return total() >= c.requests })
			f := p.Snapshot().Fetches[1]
			if f.Found != c.found || !strings.Contains(f.Void, c.void) || (f.Void == "") != (c.void == "") || f.Err != c.err {
				t.Errorf("fetch %+v", f)
			}
			if c.found > 0 {
				p.reported(1)
			}
			var after int
			if again := p.Snapshot().Fetches[1:]; len(again) == 2 {
				after = 1
				if again[0].CurrentTime == again[1].CurrentTime {
					t.Error("the second ask has the same currentTime")
				}
			}
			if got := len(s.requests(listPath)) - 1; got != c.requests || after == c.found {
				t.Errorf("%d requests, want %d; asked again %d times", got, c.requests, after)
			}
			if c.found == 0 && (len(p.Snapshot().Executions) > 0 || len(p.Snapshot().Reports) > 0) {
				t.Errorf("executed %+v", p.Snapshot().Executions)
			}
		})
	}
}

// TestKilled kills the agent at each point and starts it again on the same disk.
func TestKilled(t *testing.T) {
	t.Parallel()
	for point, want := range map[Point]struct {
		written  bool
		reported string // by the second life
	}{
		BeforeFetch:  {false, "Success"},
		AfterFetch:   {false, "Success"},
		AfterWrite:   {true, "FileExist"},
		BeforeReport: {true, "FileExist"},
	} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			root := t.TempDir()
			s.say(listPath, list(file("f-1", "overwrite", false)))
			p := s.start(func(cfg *Config) {
				cfg.Root = root
				cfg.At = func(at Point, _ string) Action {
					if at == point {
						return Die
					}
					return Proceed
				}
			})
			if err := p.ended(); err != ErrKilled {
				t.Errorf("Run: %v", err)
			}
			if _, err := os.Stat(filepath.Join(root, "etc/app/f-1.txt")); (err == nil) != want.written {
				t.Errorf("file: %v", err)
			}
			if n := len(s.requests(finishPath)) + len(s.requests(invalidPath)); n > 0 {
				t.Errorf("%d reports", n)
			}
			again := s.start(func(cfg *Config) { cfg.Root = root })
			again.reported(1)
			if got := again.Snapshot().Executions[0].Result.String(); got != want.reported {
				t.Errorf("second life: %s", got)
			}
		})
	}
}

func TestDropped(t *testing.T) {
	t.Parallel()
	for _, point := range []Point{BeforeReport, BeforeMetric} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.say(listPath, list(file("f-1", "mode", "9999")))
			p := s.start(func(cfg *Config) {
				cfg.At = func(at Point, id string) Action {
					if at == point && id == "f-1" {
						return Drop
					}
					return Proceed
				}
			})
			r := p.reported(1)
			eventually(t, "metric", func() bool {
				for _, m := range p.Snapshot().Metrics {
					if m.ID == "agent.task.failed" {
						return m.Lost == (point == BeforeMetric)
					}
				}
				return false
			})
			if r.Lost != (point == BeforeReport) || (len(s.requests(invalidPath)) == 0) != r.Lost ||
				(failedMetric(s) == nil) == r.Lost {
				t.Errorf("report %+v", r)
			}
		})
	}
}

// TestReportOnce answers reports badly; none is repeated.
func TestReportOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.offer(list(file("f-1"), file("f-2")))
	s.on(finishPath, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	p := s.start()
	c := s.socket()
	p.started()
	s.kick(c, "kick_vm")
	if r := p.reported(2); !r.Lost || r.Status != 503 {
		t.Errorf("report %+v", r)
	}
	if n := len(s.requests(finishPath)); n != 2 {
		t.Errorf("%d requests for two reports", n)
	}
}

func TestSelfKill(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.offer(list(file("f-1", "content", base64.StdEncoding.EncodeToString(make([]byte, tooBig)))))
	p := s.start(func(cfg *Config) { cfg.Times.Watch, cfg.Times.SelfKill = 0, 1500*time.Millisecond }) // time to report
	c := s.socket()
	p.started()
	s.kick(c, "kick_vm")
	if err := p.ended(); err != ErrSelfKilled {
		t.Errorf("Run: %v", err)
	}
	if r := p.Snapshot().Reports; len(r) != 1 || r[0].Lost {
		t.Errorf("reports %+v", r)
	}
	if r := s.requests(clientPath); len(r) != 1 || !strings.Contains(r[0].body, `"self_kill"`) ||
		!strings.Contains(r[0].body, "mem=") {
		t.Errorf("client reports %+v", r)
	}
}
