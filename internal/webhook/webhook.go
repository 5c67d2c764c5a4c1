// SPDX-License-Identifier: Apache-2.0

// Package webhook sends one event to one receiver: signed as Standard Webhooks 1.0 has it (standardwebhooks.com), and to no
// address that the operator of the server does not want to be reached. What is sent when, and again, internal/control decides.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// secretPrefix begins a secret as people see it; what follows is Base64 of the key.
const secretPrefix = "whsec_"

// secretSize is in bytes; the specification wants 24 to 64.
const secretSize = 32

// NewSecret returns a new secret of a webhook.
func NewSecret() string {
	key := make([]byte, secretSize)
	rand.Read(key) // never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// key returns the key that a secret stands for.
func key(secret string) ([]byte, error) {
	text, ok := strings.CutPrefix(secret, secretPrefix)
	if !ok {
		return nil, errors.New("the secret of a webhook does not begin with " + secretPrefix)
	}
	return base64.StdEncoding.DecodeString(text)
}

// The headers of a signed message.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

// Sign returns the signature of a message: "v1," and HMAC-SHA256 over its ID, the time and its body.
func Sign(secret, id string, at time.Time, body []byte) (string, error) {
	k, err := key(secret)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, k)
	fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// ContentType is that of a CloudEvent in structured mode.
const ContentType = "application/cloudevents+json; charset=utf-8"

// Bounds of one attempt.
const (
	attemptFor = 10 * time.Second // from the name of the host to the end of the header
	maxAnswer  = 64 << 10         // bytes of the answer that are read, so that the connection can be used again
)

// Sender sends events. It may be used by any number of goroutines.
type Sender struct {
	client    *http.Client
	networks  []netip.Prefix
	userAgent string
}

// NewSender returns a Sender that reaches public addresses by HTTPS and, by HTTP too, those of the given networks.
func NewSender(networks []netip.Prefix, userAgent string) *Sender {
	s := &Sender{networks: networks, userAgent: userAgent}
	s.client = &http.Client{
		Transport: &http.Transport{ // without a proxy: what is dialled is the receiver
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				plain, _ := ctx.Value(plainKey{}).(bool)
				d := net.Dialer{Control: func(_, resolved string, _ syscall.RawConn) error { return s.mayReach(resolved, plain) }}
				return d.DialContext(ctx, network, address)
			},
			ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxAnswer,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       attemptFor,
	}
	return s
}

// plainKey marks in a context that the connection is to be one without TLS.
type plainKey struct{}

// Close gives up the connections that are not in use.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// CheckURL refuses an address that can be told not to be reachable before its host is resolved.
func (s *Sender) CheckURL(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	plain := u.Scheme == "http"
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		return s.mayReachAddr(a, plain)
	}
	if plain && len(s.networks) == 0 {
		return errPlain
	}
	return nil
}

var errPlain = errors.New("plain HTTP would show events to whoever is on the way; use https://")

// mayReach decides on an address as it is dialled, after its name was resolved: a name may stand for anything.
func (s *Sender) mayReach(hostport string, plain bool) error {
	a, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return fmt.Errorf("address %s: %w", hostport, err)
	}
	return s.mayReachAddr(a.Addr(), plain)
}

func (s *Sender) mayReachAddr(a netip.Addr, plain bool) error {
	a = a.Unmap().WithZone("")
	for _, n := range s.networks {
		if n.Contains(a) {
			return nil
		}
	}
	switch {
	case !public(a):
		return fmt.Errorf("%s is no public address; the operator of the server may allow its network with --webhook-network", a)
	case plain:
		return errPlain
	}
	return nil
}

// reserved are the networks that netip does not know to be none of the public internet (the special-purpose address registries
// of IANA), and those whose addresses hold one of IPv4 that might be.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, n := range reserved {
		if n.Contains(a) {
			return false
		}
	}
	return true
}

// Event is one event on its way to one receiver.
type Event struct {
	URL    string
	Secret string
	ID     string
	Body   []byte
}

// Answer is what came of an attempt.
type Answer struct {
	Status     int           // of HTTP; 0: there was no answer
	Text       string        // for people
	RetryAfter time.Duration // the receiver asks for at least this pause; 0: it does not
}

// Received reports whether the receiver has the event.
func (a Answer) Received() bool { return a.Status >= 200 && a.Status < 300 }

// Gone reports whether the receiver wants nothing more.
func (a Answer) Gone() bool { return a.Status == http.StatusGone }

// Post sends an event once, at the given time.
func (s *Sender) Post(ctx context.Context, e Event, at time.Time) Answer {
	signature, err := Sign(e.Secret, e.ID, at, e.Body)
	if err != nil {
		return Answer{Text: err.Error()}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(e.Body))
	if err != nil {
		return Answer{Text: err.Error()}
	}
	req = req.WithContext(context.WithValue(ctx, plainKey{}, req.URL.Scheme == "http"))
	req.Header.Set("Content-Type", ContentType)
	req.Header.Set("User-Agent", s.userAgent)
	req.Header.Set(HeaderID, e.ID)
	req.Header.Set(HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	req.Header.Set(HeaderSignature, signature)
	res, err := s.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL, which whoever reads this has
		}
		return Answer{Text: err.Error()}
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	a := Answer{Status: res.StatusCode, Text: strings.TrimSpace(strconv.Itoa(res.StatusCode) + " " + http.StatusText(res.StatusCode))}
	if a.Received() {
		return a // however its answer went on
	}
	if err != nil {
		a.Text += ": " + err.Error()
	}
	a.RetryAfter = retryAfter(res.Header.Get("Retry-After"), at)
	return a
}

// maxRetryAfter bounds what a receiver may ask for: there are other ways to switch a webhook off.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads the header of that name (RFC 9110, section 10.2.3): seconds, or a date. What cannot be read asks for nothing.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// Pauses between attempts.
const (
	firstPause = 5 * time.Second
	maxPause   = 6 * time.Hour
)

// Backoff returns how long to wait after so many attempts in a row that came to nothing: it doubles each time, up to six hours,
// and a random part of up to a fifth of it keeps those who failed together from coming back together.
func Backoff(failures int) time.Duration {
	pause := maxPause
	if shift := max(failures, 1) - 1; shift < 16 {
		pause = min(firstPause<<shift, maxPause)
	}
	return pause + mathrand.N(pause/5)
}
