// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/wire"
)

const (
	callTimeout = 30 * time.Second
	maxReply    = 1 << 20 // bytes
	maxSkew     = time.Minute
)

// What a server says to an agent that it does not want any more. Neither passes by itself.
var (
	ErrDeregistered = errors.New("this machine was deregistered at the server; to use it again, run: " +
		"waybill-agent enroll --force --server … --activation-id … --activation-code …")
	ErrQuarantined = errors.New("the server saw two machines with this machine's identity, probably one a copy of the " +
		"other, and cut off both; deregister the instance there, then run on each machine: waybill-agent enroll --force")
)

// What Enroll cannot be meant to work with. It has left no trace then.
var (
	ErrServerURL = errors.New("no URL of a server")
	ErrNoCA      = errors.New("no certificate in PEM form")
)

// Refusal is an answer of the server that says no. It wraps ErrDeregistered or ErrQuarantined if it is one of them.
type Refusal struct {
	Status  int    // of HTTP
	Code    string // a waybill.Code, if it is our server that answered
	Message string
}

func (r *Refusal) Error() string {
	said := r.Message
	if said == "" {
		said = fmt.Sprintf("the server answered %d %s", r.Status, http.StatusText(r.Status))
	}
	if meaning := r.Unwrap(); meaning != nil {
		return fmt.Sprintf("%v (%s)", meaning, said)
	}
	return said
}

// Unwrap returns what the refusal means to the agent. Without a code it may be the word of a proxy on the way.
func (r *Refusal) Unwrap() error {
	switch {
	case r.Code == "":
	case r.Status == http.StatusGone:
		return ErrDeregistered
	case r.Status == http.StatusConflict:
		return ErrQuarantined
	}
	return nil
}

// caller makes the agent's HTTPS calls (wire/enroll.go), each signed by the agent's key.
type caller struct {
	server string
	key    nkeys.KeyPair
	client *http.Client
	// streams is for answers that may take as long as they like.
	streams *http.Client
}

// newCaller returns a caller for the server at the URL server, whose certificate ca vouches for: PEM, empty for the
// system's roots.
func newCaller(server, ca string, key nkeys.KeyPair, d *dialer) (*caller, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%w: %q is not one like https://waybill.example.com:8480", ErrServerURL, server)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, fmt.Errorf("%w: %q: only https is allowed beyond this machine", ErrServerURL, server)
	}
	config, err := clientTLS(ca)
	if err != nil {
		return nil, err
	}
	client := http.Client{
		Transport: &http.Transport{
			DialContext:        d.DialContext,
			TLSClientConfig:    config,
			DisableKeepAlives:  true, // calls are hours apart
			DisableCompression: true, // contents come as they are
		},
		// A redirected call would not carry a valid signature.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	calls, streams := client, client
	calls.Timeout = callTimeout
	return &caller{server: strings.TrimSuffix(server, "/"), key: key, client: &calls, streams: &streams}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func clientTLS(ca string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, ErrNoCA
		}
	}
	return c, nil
}

// explainTLS adds to a certificate that cannot be trusted what to do about it.
func explainTLS(err error) error {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("%w; if it is a CA of the server's own, enrol with --ca FILE, its ca.pem", err)
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Errorf("%w; use a name that the certificate holds, or start the server with --tls-name NAME", err)
	}
	return err
}

// call posts in and reads the answer into out. now is the best known time. A refusal is a *Refusal; any other error
// may pass.
func (c *caller) call(ctx context.Context, path string, now time.Time, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	date, err := c.post(ctx, path, now, body, out)
	// A machine whose clock is wrong must still be able to prove itself: the server's clock is what counts.
	if r, ok := errors.AsType[*Refusal](err); ok && r.Code == string(waybill.ProofInvalid) && !date.IsZero() &&
		now.Sub(date).Abs() > maxSkew {
		_, err = c.post(ctx, path, date, body, out)
	}
	return err
}

// post also returns the server's time.
func (c *caller) post(ctx context.Context, path string, now time.Time, body []byte, out any) (date time.Time, _ error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server+path, bytes.NewReader(body))
	if err != nil {
		return date, err
	}
	req.Header.Set("Content-Type", "application/json")
	if err := identity.SignRequest(c.key, req, body, now, rand.Text()); err != nil {
		return date, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return date, explainTLS(err)
	}
	defer resp.Body.Close()
	date, _ = http.ParseTime(resp.Header.Get("Date"))
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return date, fmt.Errorf("read answer of %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		r := &Refusal{Status: resp.StatusCode}
		var e wire.ErrorReply
		if json.Unmarshal(reply, &e) == nil {
			r.Code, r.Message = e.Code, e.Message
		}
		return date, r
	}
	if err := json.Unmarshal(reply, out); err != nil {
		return date, fmt.Errorf("answer of %s is not understood: %w", path, err)
	}
	return date, nil
}
