// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// NetworkConfig says how a server is reached.
type NetworkConfig struct {
	Server string         // host:port
	Roots  *x509.CertPool // that the server's certificate must lead to
	HTTP1  bool           // never HTTP/2, whatever the server offers
	// Dial makes every connection. Nil: as net does. Tests put bad links here.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Network is the way to one server, for any number of agents. Agents that share one share its HTTP connections too,
// which outlive each of them. It is safe for concurrent use.
type Network struct {
	server    string
	dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	transport *http.Transport
	client    *http.Client
	socketTLS *tls.Config
}

// NewNetwork returns the way to a server. It dials nothing.
func NewNetwork(cfg NetworkConfig) *Network {
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!cfg.HTTP1)
	transport := &http.Transport{
		DialContext:         cfg.Dial,
		TLSClientConfig:     &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12},
		Protocols:           &protocols,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
	}
	host, _, err := net.SplitHostPort(cfg.Server)
	if err != nil {
		host = cfg.Server // without a port it cannot be dialled, which the first call tells
	}
	return &Network{
		server: cfg.Server, dial: cfg.Dial, transport: transport, client: &http.Client{Transport: transport},
		socketTLS: &tls.Config{
			RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12, ServerName: host, NextProtos: []string{"http/1.1"},
		},
	}
}

// Close closes the connections that no call uses. It is safe to call twice.
func (n *Network) Close() { n.transport.CloseIdleConnections() }

// Content types of the agent's requests (§3.1).
const (
	contentJSON = "application/json; charset=utf-8"
	contentText = "text/plain; charset=utf-8"
	contentForm = "application/x-www-form-urlencoded"
)

// Call is one request. Target is the path with its query and is pasted into the URL as it is: blanks are sent
// literally, "#" cuts the rest off, and with a control character nothing is sent but an error returned (§7.3).
type Call struct {
	Method      string
	Target      string
	ContentType string
	Header      http.Header // beside the content type, which it may lack; not changed
	Body        []byte
	Limit       time.Duration // for the whole call, with its body; 0: none
}

// Answer is what a call was answered.
type Answer struct {
	Status int
	Body   string // empty if it could not be read to its end in time, which is no error (§3.3)
	Proto  string // "HTTP/2.0" or "HTTP/1.1"
}

// StatusError is the failure of a call that was answered with a status above 400. 400 itself is a success (§3.3).
type StatusError int

// Error tells the status.
func (e StatusError) Error() string { return fmt.Sprintf("status %d", int(e)) }

// Do makes a call. The error is a StatusError where there is an answer all the same.
func (n *Network) Do(ctx context.Context, c Call) (Answer, error) {
	if c.Limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Limit)
		defer cancel()
	}
	r, err := http.NewRequestWithContext(ctx, c.Method, "https://"+n.server+c.Target, bytes.NewReader(c.Body))
	if err != nil {
		return Answer{}, err
	}
	for k, v := range c.Header {
		r.Header[k] = v
	}
	if c.ContentType != "" {
		r.Header.Set("Content-Type", c.ContentType)
	}
	resp, err := n.client.Do(r)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode, Proto: resp.Proto}
	if b, err := io.ReadAll(resp.Body); err == nil {
		a.Body = string(b)
	}
	if a.Status > http.StatusBadRequest {
		return a, StatusError(a.Status)
	}
	return a, nil
}
