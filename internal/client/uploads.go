// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/openwaybill/waybill"
)

// ContentUpload is where a content goes, see CreateContentUpload.
type ContentUpload struct {
	Exists   bool   // the account has it, there is nothing to upload
	Location string // path on the endpoint
	Offset   int64  // of the first byte that is missing
	Expires  string `json:"ExpiredTime"`
}

// CreateContentUpload tells where to upload a content of size bytes, and how far an earlier upload of it came.
func (c *Client) CreateContentUpload(ctx context.Context, digest [32]byte, size int64) (u ContentUpload, err error) {
	p := params{}
	p.set("ContentDigest", waybill.FormatDigest(digest))
	url.Values(p).Set("Size", strconv.FormatInt(size, 10))
	err = c.call(ctx, versionECS, "CreateContentUpload", url.Values(p), &u)
	return u, err
}

// Upload is a content to upload.
type Upload struct {
	Digest  [32]byte // SHA-256
	Size    int64    // in bytes
	Content io.ReaderAt
	// Progress, if not nil, is told how many bytes the server has. Of what the account had before it is told nothing.
	Progress func(done int64)
	// Again, if not nil, is told what failed, and for how long the upload waits before it goes on.
	Again func(err error, wait time.Duration)

	begun bool // there was something to upload
}

const (
	uploadRequest = 32 << 20 // bytes of one request: after each the server has them for sure
	uploadStall   = 30 * time.Second
	uploadAnswer  = 5 * time.Minute // to a request that was sent whole: after the last the content is put together
	// How often an upload is tried again without any progress, and how long it waits before, which doubles.
	uploadTries                  = 10
	uploadPause, uploadLongPause = time.Second, 30 * time.Second
)

// ErrChanged is that a content has become shorter while it was uploaded.
var ErrChanged = errors.New("the content has changed while it was uploaded")

// Upload uploads a content, unless the account has it, from where an earlier upload of it broke off, this process's or
// another's. What fails in passing it tries again.
func (c *Client) Upload(ctx context.Context, u Upload) error {
	pause := uploadPause
	for tries := 1; ; tries++ {
		moved, err := c.uploadOnce(ctx, &u)
		if err == nil {
			return nil
		}
		if moved {
			tries, pause = 1, uploadPause
		}
		if ctx.Err() != nil || tries >= uploadTries || !Transient(err) && !isType[*moveError](err) {
			return err
		}
		if u.Again != nil {
			u.Again(err, pause)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, uploadLongPause)
	}
}

// uploadOnce asks how far the server is and sends what it lacks. moved tells that it has more than before.
func (c *Client) uploadOnce(ctx context.Context, u *Upload) (moved bool, err error) {
	at, err := c.CreateContentUpload(ctx, u.Digest, u.Size)
	if err != nil {
		return false, err
	}
	for offset := at.Offset; !at.Exists; moved = true {
		if offset < 0 || offset >= u.Size {
			return moved, fmt.Errorf("upload: %s wants what follows %d of %d bytes", c.endpoint, offset, u.Size)
		}
		u.progress(offset)
		next, err := c.patch(ctx, at.Location, u, offset, min(uploadRequest, u.Size-offset))
		if err != nil {
			return moved, err
		}
		if next <= offset {
			return moved, fmt.Errorf("upload: %s has %d bytes after it was sent those from %d on", c.endpoint, next, offset)
		}
		offset, at.Exists = next, next == u.Size
	}
	u.progress(u.Size)
	return moved, nil
}

func (u *Upload) progress(done int64) {
	u.begun = u.begun || done < u.Size
	if u.begun && u.Progress != nil {
		u.Progress(done)
	}
}

var errStall = errors.New("the connection stands still")

// moveError is that bytes belong elsewhere, or to another location, by now.
type moveError struct{ error }

func (e *moveError) Unwrap() error { return e.error }

// patch sends n bytes and returns where the next belong.
func (c *Client) patch(ctx context.Context, location string, u *Upload, offset, n int64) (next int64, err error) {
	const action = "upload"
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(uploadStall, func() { cancel(errStall) })
	defer late.Stop()
	body := &sending{r: io.NewSectionReader(u.Content, offset, n), left: n, late: late}
	r, err := http.NewRequestWithContext(ctx, http.MethodPatch, c.endpoint+location, body)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", action, err)
	}
	r.ContentLength = n
	r.Header.Set("Tus-Resumable", "1.0.0")
	r.Header.Set("Upload-Offset", strconv.FormatInt(offset, 10))
	r.Header.Set("Content-Type", "application/offset+octet-stream")
	answer, err := c.http.Do(r)
	if err != nil {
		if failed := body.failed.Load(); failed != nil {
			return 0, fmt.Errorf("%s: read the content: %w", action, *failed)
		}
		if errors.Is(context.Cause(ctx), errStall) {
			err = &cutOff{errStall}
		}
		if e, ok := errors.AsType[*url.Error](err); ok {
			e.URL = c.endpoint + "/…" // whoever knows the rest may send bytes
		}
		return 0, fmt.Errorf("%s: %w", action, c.explain(err))
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s: read the answer: %w", action, &cutOff{err})
	case answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusForbidden || answer.StatusCode == http.StatusConflict:
		return 0, &moveError{c.refusal(action, answer, content)}
	case answer.StatusCode != http.StatusNoContent:
		return 0, c.refusal(action, answer, content)
	}
	if next, err = strconv.ParseInt(answer.Header.Get("Upload-Offset"), 10, 64); err != nil {
		return 0, fmt.Errorf("%s: %s did not answer as tus 1.0.0", action, c.endpoint)
	}
	return next, nil
}

// sending is the body of a request while it is sent: as long as some of it goes now and then, the request is not late.
type sending struct {
	r      io.Reader
	left   int64
	late   *time.Timer
	failed atomic.Pointer[error] // of reading the content
}

func (s *sending) Read(p []byte) (int, error) {
	s.late.Reset(uploadStall)
	n, err := s.r.Read(p)
	if s.left -= int64(n); s.left == 0 {
		s.late.Reset(uploadAnswer)
	}
	if errors.Is(err, io.EOF) && s.left > 0 {
		err = ErrChanged
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.failed.Store(&err)
	}
	return n, err
}
