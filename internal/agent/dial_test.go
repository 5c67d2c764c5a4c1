// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http/httpproxy"

	"github.com/openwaybill/waybill/internal/wire"
)

// proxy is an HTTP proxy that knows CONNECT only. It resolves every name to this machine.
type proxy struct {
	t    *testing.T
	ln   net.Listener
	url  *url.URL
	user string // user:password that it wants; empty: none

	mu     sync.Mutex
	asked  []string // the host of each CONNECT
	denied int
	deaf   []chan struct{} // closed to let a tunnel swallow what it gets
	early  string          // sent right behind the answer
}

func newProxy(t *testing.T, config *tls.Config, user string) *proxy {
	t.Helper()
	ln := must1(net.Listen("tcp", "127.0.0.1:0"))
	p := &proxy{t: t, ln: ln, user: user, url: &url.URL{Scheme: "http", Host: ln.Addr().String()}}
	if config != nil {
		p.ln, p.url.Scheme = tls.NewListener(ln, config), "https"
	}
	if name, password, ok := strings.Cut(user, ":"); ok {
		p.url.User = url.UserPassword(name, password)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			conn, err := p.ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(ctx, conn) })
		}
	})
	t.Cleanup(func() {
		cancel()
		p.ln.Close()
		wg.Wait()
	})
	return p
}

// always is a proxy rule without exceptions: the usual one never uses a proxy for this machine.
func (p *proxy) always(*url.URL) (*url.URL, error) { return p.url, nil }

func (p *proxy) serve(ctx context.Context, conn net.Conn) {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	r := bufio.NewReader(conn)
	req, err := http.ReadRequest(r)
	if err != nil || req.Method != http.MethodConnect {
		io.WriteString(conn, "HTTP/1.1 405 Method Not Allowed\r\n\r\n")
		return
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.user))
	_, port, _ := net.SplitHostPort(req.Host)
	deaf := make(chan struct{})
	p.mu.Lock()
	denied := p.user != "" && req.Header.Get("Proxy-Authorization") != want
	if denied {
		p.denied++
	} else {
		p.asked = append(p.asked, req.Host)
		p.deaf = append(p.deaf, deaf)
	}
	p.mu.Unlock()
	if denied {
		io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return
	}
	target, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer target.Close()
	defer context.AfterFunc(ctx, func() { target.Close() })()
	io.WriteString(conn, "HTTP/1.1 200 Connection Established\r\n\r\n"+p.early)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{conn, target}, {target, conn}} {
		both.Go(func() {
			io.Copy(muteable{way[0], deaf}, way[1])
			way[0].Close()
		})
	}
	both.Wait()
}

// muteable swallows what is written to it once deaf is closed.
type muteable struct {
	net.Conn
	deaf chan struct{}
}

func (m muteable) Write(b []byte) (int, error) {
	select {
	case <-m.deaf:
		return len(b), nil
	default:
		return m.Conn.Write(b)
	}
}

// swallow makes the tunnels that exist swallow all that they get.
func (p *proxy) swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.deaf {
		close(d)
	}
	p.deaf = nil
}

func (p *proxy) hosts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// enrollThrough is enroll for a server that only p can reach.
func enrollThrough(s *scripted, p *proxy) (dir, instance string) {
	s.t.Helper()
	dir = filepath.Join(s.t.TempDir(), "state")
	o := EnrollOptions{StateDir: dir, Server: s.url(), CA: string(s.ca.PEM())}
	st, err := enroll(s.t.Context(), o, &dialer{proxyFor: p.always, ca: o.CA})
	must(s.t, err)
	return dir, st.Instance
}

// TestProxyFromEnvironment shows that HTTPS_PROXY and NO_PROXY rule enrolment and link alike.
func TestProxyFromEnvironment(t *testing.T) { // not parallel: it changes the environment
	for name, c := range map[string]struct {
		tls  bool
		user string
	}{
		"plain":         {},
		"with password": {user: "agent:se%c ret"},
		"over TLS":      {tls: true, user: "agent:secret"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			s.hostname = "waybill.test"
			var config *tls.Config
			if c.tls {
				config = s.tls
			}
			p := newProxy(t, config, c.user)
			t.Setenv("HTTPS_PROXY", p.url.String())
			t.Setenv("NO_PROXY", "elsewhere.test")
			a := startAgent(s)
			s.send(a.instance, s.deliverTo("f-1", "/", "x", "content"))
			await[wire.Report](s, wire.OpReport, 1)
			hosts := p.hosts()
			_, port, _ := net.SplitHostPort(s.addr)
			if want := []string{strings.TrimPrefix(s.url(), "https://"), "waybill.test:" + port}; !slices.Equal(hosts, want) {
				t.Errorf("the proxy was asked for %v, want %v", hosts, want)
			}
			t.Setenv("NO_PROXY", "waybill.test")
			if u, err := newDialer("").proxyFor(must1(url.Parse(s.url()))); err != nil || u != nil {
				t.Errorf("with NO_PROXY, the proxy is %v, %v", u, err)
			}
		})
	}
}

func TestProxyRefuses(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil, "agent:secret")
	other := *p.url
	other.User = url.UserPassword("agent", "wrong")
	for name, c := range map[string]struct{ proxy, want string }{
		"wrong password": {other.String(), "407 Proxy Authentication Required"},
		"no password":    {"http://" + p.url.Host, "407 Proxy Authentication Required"},
		"no target":      {p.url.String(), "502 Bad Gateway"},
		"SOCKS":          {"socks5://" + p.url.Host, "socks5 proxies are not supported"},
	} {
		d := &dialer{proxyFor: (&httpproxy.Config{HTTPSProxy: c.proxy}).ProxyFunc()}
		conn, err := d.DialContext(t.Context(), "tcp", "waybill.test:1")
		if err == nil {
			conn.Close()
			t.Errorf("%s: connected", name)
			continue
		}
		if text := err.Error(); !strings.Contains(text, c.want) || strings.Contains(text, "wrong") ||
			strings.Contains(text, "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestProxySendsEarly has a proxy whose first bytes of the tunnel come with its answer.
func TestProxySendsEarly(t *testing.T) {
	t.Parallel()
	echo := must1(net.Listen("tcp", "127.0.0.1:0"))
	defer echo.Close()
	go func() {
		if c, err := echo.Accept(); err == nil {
			io.WriteString(c, "world")
			c.Close()
		}
	}()
	p := newProxy(t, nil, "")
	p.early = "hello "
	conn, err := (&dialer{proxyFor: p.always}).DialContext(t.Context(), "tcp", echo.Addr().String())
	must(t, err)
	defer conn.Close()
	if got, err := io.ReadAll(conn); string(got) != "hello world" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestProxyHangs shows that a proxy that does not answer does not outlive the context.
func TestProxyHangs(t *testing.T) {
	t.Parallel()
	ln := must1(net.Listen("tcp", "127.0.0.1:0"))
	defer ln.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if c, err := ln.Accept(); err == nil {
			defer c.Close()
			http.ReadRequest(bufio.NewReader(c))
			cancel()
			io.Copy(io.Discard, c)
		}
	}()
	silent := &proxy{url: &url.URL{Scheme: "http", Host: ln.Addr().String()}}
	d := &dialer{proxyFor: silent.always}
	if conn, err := d.DialContext(ctx, "tcp", "waybill.test:1"); err == nil {
		conn.Close()
		t.Error("connected")
	}
}
