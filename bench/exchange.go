// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
)

// bareID is the header that tells a bare exchange what it is about.
const bareID = "X-Bare-Id"

// bareExchange is an HTTPS server that knows no signatures, parameters or rules: it reads what is sent, does what it was
// made for, and answers with bytes. A call of the API cannot cost less than that.
type bareExchange struct{ srv *httptest.Server }

// newBareExchange starts one whose answers have so many bytes. do is what it does for each request; it may be called by
// several goroutines.
func newBareExchange(answerBytes int, do func(*http.Request) error) *bareExchange {
	answer := make([]byte, answerBytes)
	return &bareExchange{httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			err = do(r)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(answer) // the caller is here and sees for itself
	}))}
}

func (e *bareExchange) end() { e.srv.Close() }

// caller returns a client with a connection of its own.
func (e *bareExchange) caller() *http.Client {
	trusted := e.srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}}}
}

// call sends body, and reads the answer to its end.
func (e *bareExchange) call(ctx context.Context, c *http.Client, body []byte, id string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.srv.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set(bareID, id)
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", resp.Status)
	}
	return err
}
