// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"io"
	"net/http"

	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/control"
)

// local carries calls of the API to it inside the process, as if the browser had made them: to the policies they come from the
// browser's address, over its kind of connection.
type local struct {
	api  http.Handler
	from *http.Request
}

// RoundTrip implements http.RoundTripper.
func (l local) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RemoteAddr, in.TLS, in.RequestURI = l.from.RemoteAddr, l.from.TLS, r.URL.RequestURI()
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &answer{header: http.Header{}, status: http.StatusOK}
	l.api.ServeHTTP(w, in)
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

// answer gathers what a handler answers.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// clientFor returns a client of the API that calls it with the key of a session.
func (c *Console) clientFor(r *http.Request, s control.Session, region string) (*client.Client, error) {
	return client.New(client.Config{
		Endpoint: endpointOf(r), AccessKeyID: s.Credential.Key.ID, AccessKeySecret: s.Credential.Secret, Region: region,
		HTTP: &http.Client{Transport: local{c.api, r}},
	})
}

// endpointOf returns how the browser reached this server.
func endpointOf(r *http.Request) string {
	if r.TLS == nil {
		return "http://" + r.Host
	}
	return "https://" + r.Host
}
