// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/wire"
)

// fetchStall is how long a fetch stands still, before its answer begins or in the middle of it, until the connection counts
// as dead. A server with no place for this agent says so earlier.
const fetchStall = 30 * time.Second

// errOver is why a fetch is given up: the server has ended the delivery.
var errOver = errors.New("the server has ended the delivery")

// fetcher gets contents that no message holds.
type fetcher struct {
	calls *caller
	clock *clock
	retry Backoff
	stall time.Duration
	now   func() time.Time
	log   *slog.Logger
}

// content is the content of one delivery while it comes. Read goes on over another connection where one broke off, until
// the deadline is over or ctx ends. It gives no more than was announced; whether that is right, who reads it finds out.
type content struct {
	f     *fetcher
	ctx   context.Context // ends with the deadline
	end   context.CancelFunc
	d     *wire.Deliver
	at    int64 // bytes that came
	fails int   // since the last that came

	body   io.ReadCloser // nil: none is open
	cut    context.CancelFunc
	idle   *time.Timer // cuts it
	last   error       // why the last one ended
	skewed time.Duration
}

// open returns the content of d. The caller must close it.
func (f *fetcher) open(ctx context.Context, d *wire.Deliver) *content {
	c := &content{f: f, d: d}
	left := time.Duration(d.Deadline-f.clock.millis()) * time.Millisecond
	c.ctx, c.end = context.WithTimeoutCause(ctx, left, errDeadline)
	return c
}

// Close ends what is open.
func (c *content) Close() {
	c.hangUp()
	c.end()
}

func (c *content) hangUp() {
	if c.body != nil {
		c.idle.Stop()
		c.cut()
		_ = c.body.Close() // it was only read
		c.body = nil
	}
}

func (c *content) Read(p []byte) (int, error) {
	for {
		if c.at == c.d.Size {
			return 0, io.EOF
		}
		if err := c.over(); err != nil {
			return 0, err
		}
		if c.body == nil {
			if err := c.request(); err != nil {
				if err := c.wait(err); err != nil {
					return 0, err
				}
				continue
			}
		}
		c.idle.Reset(c.f.stall)
		n, err := c.body.Read(p[:min(int64(len(p)), c.d.Size-c.at)])
		c.at += int64(n)
		if n > 0 {
			c.fails = 0
			return n, nil // an error comes again
		}
		if errors.Is(err, io.EOF) { // it was shorter than announced, and whole: that is all there is
			c.hangUp()
			return 0, io.EOF
		}
		if err != nil {
			c.hangUp()
			if err := c.wait(err); err != nil {
				return 0, err
			}
		}
	}
}

// over returns why there is nothing more to wait for.
func (c *content) over() error {
	if c.ctx.Err() == nil && !c.f.clock.passed(c.d.Deadline) {
		return nil
	}
	err := context.Cause(c.ctx)
	if err == nil {
		err = errDeadline
	}
	if errors.Is(err, errDeadline) {
		return fmt.Errorf("%w: %d of %d bytes had come; %w", errDeadline, c.at, c.d.Size, cmp.Or(c.last, errSlow))
	}
	return err
}

// errSlow stands where nothing else went wrong.
var errSlow = errors.New("the connection is too slow")

// wait waits before the next connection. It returns an error if there is to be none.
func (c *content) wait(err error) error {
	if errors.Is(err, errOver) {
		return err
	}
	if c.ctx.Err() == nil {
		c.last = err
		c.f.log.Warn("a fetch is interrupted", "delivery_id", c.d.Delivery, "bytes", c.at, "err", err)
	}
	_ = c.f.retry.wait(c.ctx, c.fails) // over tells
	c.fails++
	return c.over()
}

// request opens a connection for what has not come yet.
func (c *content) request() error {
	ctx, cut := context.WithCancel(c.ctx)
	idle := time.AfterFunc(c.f.stall, cut)
	give := func(err error) error {
		idle.Stop()
		cut()
		return err
	}
	path := wire.PathContent + c.d.Delivery
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.f.calls.server+path, http.NoBody)
	if err != nil {
		return give(err)
	}
	if c.at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", c.at))
	}
	if err := identity.SignRequest(c.f.calls.key, req, nil, c.f.now().Add(c.skewed), rand.Text()); err != nil {
		return give(err)
	}
	resp, err := c.f.calls.streams.Do(req)
	if err != nil {
		return give(explainTLS(err))
	}
	if err := c.accept(resp); err != nil {
		resp.Body.Close()
		return give(err)
	}
	c.body, c.cut, c.idle = resp.Body, cut, idle
	return nil
}

// accept looks whether an answer is what was asked for.
func (c *content) accept(resp *http.Response) error {
	switch {
	case c.at == 0 && resp.StatusCode == http.StatusOK:
		return nil
	case c.at > 0 && resp.StatusCode == http.StatusPartialContent:
		var from, to, size int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size); err != nil || from != c.at {
			return fmt.Errorf("asked for the bytes from %d on, the server answered with %.80q", c.at, resp.Header.Get("Content-Range"))
		}
		return nil
	case c.at > 0 && resp.StatusCode == http.StatusOK: // somebody on the way knows no ranges
		_, err := io.CopyN(io.Discard, resp.Body, c.at)
		return err
	}
	refusal := &Refusal{Status: resp.StatusCode}
	var e wire.ErrorReply
	if b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply)); err == nil && json.Unmarshal(b, &e) == nil {
		refusal.Code, refusal.Message = e.Code, e.Message
	}
	switch refusal.Code {
	case string(waybill.DeliveryNotOpen):
		return fmt.Errorf("%w (%w)", errOver, refusal)
	case string(waybill.ProofInvalid): // the server's clock is what counts
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			c.skewed = date.Sub(c.f.now())
		}
	}
	return refusal
}
