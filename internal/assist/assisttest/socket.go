// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Opcodes of RFC 6455.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// maxMessage bounds what the server may send in one message. The agent has no bound; no test needs more.
const maxMessage = 1 << 20

// socket is a WebSocket connection. It is written here because the libraries either send pings of their own making, and
// the agent's say "keepalive", or do not let a reader stop while its connection lives on.
type socket struct {
	conn net.Conn // TLS
	raw  net.Conn // below it
	r    *bufio.Reader

	write sync.Mutex // keeps frames whole; held while one is written, which close and kill end
}

// dialSocket connects and upgrades. An answer other than 101 is a StatusError.
func (n *Network) dialSocket(
	ctx context.Context, target string, h http.Header, limit time.Duration,
) (_ *socket, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	raw, err := n.dial(ctx, "tcp", n.server)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, n.socketTLS)
	// From here on the end of ctx closes the connection, which ends whatever is read or written.
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			raw.Close()
		}
	}()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	u, err := url.Parse("https://" + n.server + target)
	if err != nil {
		return nil, err
	}
	r := &http.Request{Method: http.MethodGet, URL: u, Host: n.server, Header: h.Clone()}
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Sec-WebSocket-Key", key)
	r.Header.Set("Sec-WebSocket-Version", "13")
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	s := &socket{conn: conn, raw: raw, r: bufio.NewReaderSize(conn, 1024)}
	resp, err := http.ReadResponse(s.r, r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, StatusError(resp.StatusCode) // closed above, and so is the body
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if got := resp.Header.Get("Sec-WebSocket-Accept"); got != base64.StdEncoding.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("upgrade: wrong Sec-WebSocket-Accept %q", got)
	}
	return s, nil
}

// send writes one frame.
func (s *socket) send(op byte, payload []byte) error {
	b := make([]byte, 0, len(payload)+14)
	b = append(b, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	var mask [4]byte
	rand.Read(mask[:]) // never fails
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	s.write.Lock()
	defer s.write.Unlock()
	_, err := s.conn.Write(b)
	return err
}

// receive returns the next message, text or binary. It answers pings and a close on the way and has no deadline. One
// goroutine may call it.
func (s *socket) receive() (string, error) {
	var message []byte
	begun := false
	for {
		final, op, payload, err := s.frame()
		if err != nil {
			return "", err
		}
		switch op {
		case opPing:
			if err := s.send(opPong, payload); err != nil {
				return "", err
			}
		case opPong:
		case opClose:
			// The other side may be gone already; either way the connection is over.
			_ = s.send(opClose, payload[:min(2, len(payload))])
			if len(payload) < 2 {
				return "", errors.New("websocket: close 1005 (no status)")
			}
			return "", fmt.Errorf("websocket: close %d %s", binary.BigEndian.Uint16(payload), payload[2:])
		case opText, opBinary, opContinuation:
			if begun != (op == opContinuation) {
				return "", errors.New("websocket: message out of order")
			}
			if begun = true; len(message)+len(payload) > maxMessage {
				return "", errors.New("websocket: message too big")
			}
			if message = append(message, payload...); final {
				return string(message), nil
			}
		default:
			return "", fmt.Errorf("websocket: opcode %d", op)
		}
	}
}

func (s *socket) frame() (final bool, op byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return false, 0, nil, err
	}
	if head[0]&0x70 != 0 || head[1]&0x80 != 0 {
		return false, 0, nil, errors.New("websocket: extension or mask in a frame of a server")
	}
	n := uint64(head[1] & 0x7F)
	if n > 125 {
		var long [8]byte
		size := 2
		if n == 127 {
			size = 8
		}
		if _, err := io.ReadFull(s.r, long[8-size:]); err != nil {
			return false, 0, nil, err
		}
		n = binary.BigEndian.Uint64(long[:])
	}
	if n > maxMessage {
		return false, 0, nil, errors.New("websocket: frame too big")
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(s.r, payload)
	return head[0]&0x80 != 0, head[0] & 0x0F, payload, err
}

// close closes the connection without a WebSocket goodbye, as the official agent does.
func (s *socket) close() { s.conn.Close() }

// kill resets the connection, as happens to that of a machine that loses its power.
func (s *socket) kill() {
	if tcp, ok := s.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // then it is only closed
	}
	s.raw.Close()
}
