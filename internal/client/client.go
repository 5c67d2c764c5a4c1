// SPDX-License-Identifier: Apache-2.0

// Package client calls Waybill's API over HTTP: it signs requests (ACS3, POST with a form), decodes answers, and says
// what to do about the usual failures. It speaks the words of the API, one method for one operation, and keeps nothing.
//
// It repeats nothing but what Upload sends. Whoever needs to repeat a call knows better which of them may be; Transient says whether it could
// help.
package client

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
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/openwaybill/waybill/internal/acs"
)

// The API versions. As in the vendor's API, each stands for a service of its own.
const (
	versionECS = "2014-05-26" // files, machines, tags; and the audit trail, which is ours
	versionRAM = "2015-05-01" // users, groups of users, their keys, policies
	versionSTS = "2015-04-01" // who calls, and temporary keys
	versionRM  = "2020-03-31" // resource groups
)

const (
	requestTimeout = 30 * time.Second
	maxAnswer      = 128 << 20 // bytes; a full page of full files is about 2 MiB, one large file may have 85
	askFirst       = 1 << 20   // bytes of a request above which the server is asked whether to send it
	leastPace      = 256 << 10 // bytes that a connection must carry in a second, for a request to have its time
	maxConnections = 100       // kept open
)

// Config says where the API is and who asks.
type Config struct {
	Endpoint        string // https://host:port, or http:// for a loopback listener; without a scheme https is meant
	AccessKeyID     string
	AccessKeySecret string
	SecurityToken   string // with temporary credentials only
	Region          string // sent with every operation that takes a region
	CAFile          string // PEM; if set, the only issuers trusted; empty: those of the system
	// HTTP is used instead of a client made from CAFile.
	HTTP *http.Client
}

// Client calls the API. All its methods may be used by any number of goroutines.
type Client struct {
	endpoint string
	keyID    string
	secret   string
	token    string
	region   string
	http     *http.Client
}

// New checks cfg and reads its CAFile. It connects to nothing.
func New(cfg Config) (*Client, error) {
	endpoint, err := parseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	if cfg.AccessKeyID == "" || cfg.AccessKeySecret == "" {
		return nil, errors.New("no access key")
	}
	c := &Client{
		endpoint: endpoint,
		keyID:    cfg.AccessKeyID,
		secret:   cfg.AccessKeySecret,
		token:    cfg.SecurityToken,
		region:   cfg.Region,
		http:     cfg.HTTP,
	}
	if c.http == nil {
		if c.http, err = newHTTPClient(cfg.CAFile); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Endpoint returns the URL that is called, with its scheme and without a path.
func (c *Client) Endpoint() string { return c.endpoint }

// Region returns the region that calls are for; empty if none was given.
func (c *Client) Region() string { return c.region }

// WithRegion returns a client like c for another region. Both share their connections.
func (c *Client) WithRegion(region string) *Client {
	other := *c
	other.region = region
	return &other
}

// Call calls one operation of the file API with the client's region added, and decodes the answer into out, a pointer
// or nil. A refusal is an *Error.
func (c *Client) Call(ctx context.Context, action string, params url.Values, out any) error {
	withRegion := url.Values{}
	if c.region != "" {
		withRegion.Set("RegionId", c.region)
	}
	for name, values := range params {
		withRegion[name] = values
	}
	return c.call(ctx, versionECS, action, withRegion, out)
}

func (c *Client) call(ctx context.Context, version, action string, params url.Values, out any) error {
	answer, content, err := c.exchange(ctx, version, action, params)
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return c.refusal(action, answer, content)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(content, out); err != nil {
		return fmt.Errorf("call %s: %s did not answer as a Waybill API: %w", action, c.endpoint, err)
	}
	return nil
}

// exchange sends one signed request and reads its answer whole. The answer's body is closed.
func (c *Client) exchange(
	ctx context.Context, version, action string, params url.Values,
) (answer *http.Response, content []byte, err error) {
	body := []byte(params.Encode())
	ctx, cancel := context.WithTimeout(ctx, requestTimeout+time.Duration(len(body)/leastPace)*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return nil, nil, fmt.Errorf("call %s: %w", action, err)
	}
	r.Header.Set("Accept", "application/json")
	if len(body) > 0 {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if len(body) > askFirst {
		r.Header.Set("Expect", "100-continue") // a server that refuses it says so before it has all
	}
	r.Header.Set("x-acs-action", action)
	r.Header.Set("x-acs-version", version)
	acs.SignACS3(r, body, c.keyID, c.secret, c.token, rand.Text(), time.Now())

	if answer, err = c.http.Do(r); err != nil {
		return nil, nil, fmt.Errorf("call %s: %w", action, c.explain(err))
	}
	defer answer.Body.Close()
	if content, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer)); err != nil {
		return nil, nil, fmt.Errorf("call %s: read the answer: %w", action, &cutOff{err})
	}
	return answer, content, nil
}

// explain adds to a failure to communicate what to do about it.
func (c *Client) explain(err error) error {
	var hint string
	switch {
	case isType[x509.UnknownAuthorityError](err):
		hint = "its certificate has an unknown issuer; pass --ca DIR/ca.pem, where DIR is the server's data directory"
	case isType[x509.HostnameError](err):
		hint = "its certificate is for another name; use one of the names in it as --endpoint"
	case errors.Is(err, http.ErrSchemeMismatch):
		hint = "it speaks plain HTTP; use --endpoint http://" + strings.TrimPrefix(c.endpoint, "https://")
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "nothing listens there; check --endpoint, or start one with: waybill server --data-dir DIR"
	case errors.Is(err, context.DeadlineExceeded):
		hint = "no answer in time; check --endpoint and the network between"
	default:
		return err
	}
	return &hintedError{err: err, hint: fmt.Sprintf("%s: %s", c.endpoint, hint)}
}

// hintedError reads as its hint and is still the error that caused it.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.hint }
func (e *hintedError) Unwrap() error { return e.err }

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func parseEndpoint(s string) (string, error) {
	if s == "" {
		return "", errors.New("no endpoint")
	}
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("endpoint %q: %w", s, err)
	}
	plain := u.User == nil && u.RawQuery == "" && u.Fragment == "" && (u.Path == "" || u.Path == "/")
	if (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || !plain {
		return "", fmt.Errorf("endpoint %q is not of the form https://host:port", u.Redacted())
	}
	return u.Scheme + "://" + u.Host, nil
}

func newHTTPClient(caFile string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = maxConnections
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read the CA certificate: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{
		Transport: transport,
		// A signature is for one host only, and a file should not wander.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}
