// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/http/httpproxy"
)

const (
	dialTimeout   = 15 * time.Second // for one connection, its proxy and TLS included
	maxProxyReply = 64 << 10         // bytes of what a proxy may answer before the tunnel begins
)

// dialer opens the agent's connections, to HTTPS and to NATS alike: directly, or through the proxy that HTTPS_PROXY and
// NO_PROXY name for the host. The host's name is resolved by the proxy, which may know it where the machine does not.
type dialer struct {
	proxyFor func(*url.URL) (*url.URL, error)
	direct   func(ctx context.Context, network, addr string) (net.Conn, error) // nil: net.Dialer
	ca       string                                                            // PEM; besides the system's roots, this may vouch for a proxy that is reached by TLS
}

// newDialer reads the proxy variables of the environment.
func newDialer(ca string) *dialer {
	return &dialer{proxyFor: httpproxy.FromEnvironment().ProxyFunc(), ca: ca}
}

// DialContext connects to the host:port addr.
func (d *dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	proxy, err := d.proxyFor(&url.URL{Scheme: "https", Host: addr})
	if err != nil {
		return nil, fmt.Errorf("HTTPS_PROXY: %w", err)
	}
	if proxy == nil && d.direct != nil {
		return d.direct(ctx, network, addr)
	}
	if proxy == nil {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	conn, err := d.dialProxy(ctx, proxy)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", proxy.Redacted(), err)
	}
	tunnel, err := connect(ctx, conn, proxy, addr)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("proxy %s: %w", proxy.Redacted(), err)
	}
	return tunnel, nil
}

func (d *dialer) dialProxy(ctx context.Context, proxy *url.URL) (net.Conn, error) {
	port := proxy.Port()
	switch {
	case proxy.Scheme != "http" && proxy.Scheme != "https":
		return nil, fmt.Errorf("%s proxies are not supported; use an http or https one", proxy.Scheme)
	case port == "" && proxy.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	addr := net.JoinHostPort(proxy.Hostname(), port)
	if proxy.Scheme == "http" {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a system without any
	}
	roots.AppendCertsFromPEM([]byte(d.ca))
	over := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: proxy.Hostname(), MinVersion: tls.VersionTLS12}}
	return over.DialContext(ctx, "tcp", addr)
}

// connect asks the proxy at the other end of conn for a tunnel to addr.
func connect(ctx context.Context, conn net.Conn, proxy *url.URL, addr string) (net.Conn, error) {
	// A deadline in the past is what ends reads and writes when ctx does.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization",
			"Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := req.Write(conn); err != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	limit := &io.LimitedReader{R: conn, N: maxProxyReply}
	r := bufio.NewReader(limit)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("CONNECT %s answered %s", addr, resp.Status)
	}
	if !stop() {
		return nil, ctx.Err()
	}
	limit.N = 1<<63 - 1
	if r.Buffered() == 0 {
		return conn, nil
	}
	return &tunnel{Conn: conn, r: r}, nil
}

// tunnel is a connection of whose content the proxy sent a part together with its answer.
type tunnel struct {
	net.Conn
	r io.Reader
}

func (t *tunnel) Read(b []byte) (int, error) { return t.r.Read(b) }
