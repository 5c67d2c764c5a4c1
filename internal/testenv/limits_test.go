// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
)

// TestRequestsAreThrottled uses up what an account may do in a second, and waits as long as it is told.
func TestRequestsAreThrottled(t *testing.T) {
	t.Parallel()
	for code, change := range map[string]func(*server.Config){
		"Throttling.User": func(c *server.Config) { c.AccountRate = 2 },
		"Throttling.Api":  func(c *server.Config) { c.ActionRate = 2 },
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, change)
			a, b := firstCaller(t, s), secondAccount(t, s)
			var refused answer
			testenv.Eventually(t, "throttled", func() bool {
				refused = a.call("DescribeRegions")
				return refused.status != http.StatusOK
			})
			wait, err := strconv.Atoi(refused.header.Get("x-acs-retry-after"))
			if refused.status != 400 || refused.code() != code || err != nil || wait < 1 || wait > 1000 {
				t.Errorf("refused with %d %s, retry after %q", refused.status, refused.code(), refused.header.Get("x-acs-retry-after"))
			}
			if got := b.call("DescribeRegions"); got.status != http.StatusOK {
				t.Errorf("another account: %d %s", got.status, got.body)
			}
			if got := a.call("GetCallerIdentity"); (got.status == http.StatusOK) != (code == "Throttling.Api") {
				t.Errorf("another operation: %d %s", got.status, got.body)
			}
			select {
			case <-time.After(time.Duration(wait) * time.Millisecond):
			case <-t.Context().Done():
			}
			if got := a.call("DescribeRegions"); got.status != http.StatusOK {
				t.Errorf("after the wait: %d %s", got.status, got.body)
			}
		})
	}
}

// dial opens a connection to a listener of the server, with TLS or without.
func dial(t *testing.T, s *testenv.Server, name string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if name == "https" {
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if err := secure.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn = secure
	}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestSlowPeersAreCutOff opens connections that say nothing, half a handshake, or a header byte by byte.
func TestSlowPeersAreCutOff(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, func(c *server.Config) { c.HeaderTimeout = 300 * time.Millisecond })
	cut := func(what string, conn net.Conn) {
		t.Helper()
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: still connected: %v", what, err)
		}
	}
	t.Run("silence", func(t *testing.T) {
		t.Parallel()
		cut("plain", dial(t, s, "http"))
	})
	t.Run("no handshake", func(t *testing.T) {
		t.Parallel()
		conn, err := net.Dial("tcp", s.Addr("https"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		cut("TLS", conn)
	})
	for _, listener := range []string{"http", "https"} {
		t.Run("byte by byte, "+listener, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, s, listener)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for _, c := range "POST / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-Slow: y\r\n", 1000) {
					if _, err := conn.Write([]byte(string(c))); err != nil {
						return
					}
					select {
					case <-tick.C:
					case <-ctx.Done():
						return
					}
				}
			}()
			cut("slow header", conn)
		})
	}
}

// TestOversizedRequestsAreRefusedEarly announces a body that is too long and sends none of it, and sends a header without
// end.
func TestOversizedRequestsAreRefusedEarly(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	conn := dial(t, s, "http")
	fmt.Fprintf(conn, "POST /?Format=JSON HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n", 1<<30)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	var body struct{ Code string }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || resp.StatusCode != 413 || body.Code != "RequestBody.TooLarge" {
		t.Errorf("a body of a gibibyte: %d %+v, %v", resp.StatusCode, body, err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the connection stays: %v", err)
	}

	conn = dial(t, s, "http")
	fmt.Fprintf(conn, "GET /?%s HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("a", 1<<20))
	resp, err = http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a request line of a mebibyte: %+v, %v", resp, err)
	}
}

// TestOneAddressCannotTakeAllConnections opens as many connections as an address may have, and one more.
func TestOneAddressCannotTakeAllConnections(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, func(c *server.Config) { c.PerAddress = 3 })
	answered := func(conn net.Conn) bool {
		if _, err := io.WriteString(conn, "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return false
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return false
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return err == nil && resp.StatusCode == http.StatusOK
	}
	var open []net.Conn
	for i := range 3 {
		open = append(open, dial(t, s, "http"))
		if !answered(open[i]) {
			t.Fatalf("connection %d is not answered", i)
		}
	}
	if answered(dial(t, s, "http")) {
		t.Error("one connection too many is answered")
	}
	open[0].Close()
	testenv.Eventually(t, "a place is free again", func() bool { return answered(dial(t, s, "http")) })
}
