// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

// content is what is to be sent.
type content struct {
	io.ReaderAt
	name  string
	size  int64
	whole []byte // all of it; nil if no server takes that with a request
	close func()
}

// largestFile is the most bytes that a server can be told to take with a request.
const largestFile = 64 << 20

// openContent opens what is to be sent. What is not too large for any request is read at once.
func openContent(e env, file string) (*content, error) {
	if file == "-" {
		return readContent(e.in, "standard input")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = usagef("%s is a directory; send one file, an archive for instance", file)
	case info.Size() > waybill.MaxUpload:
		err = fmt.Errorf("%s has %d bytes; a delivery carries at most %d; send it in parts", file, info.Size(), int64(waybill.MaxUpload))
	case info.Size() > largestFile:
		return &content{ReaderAt: f, name: filepath.Base(file), size: info.Size(), close: func() { _ = f.Close() }}, nil // it was only read
	}
	defer f.Close()
	if err != nil {
		return nil, err
	}
	return readContent(f, file)
}

func readContent(r io.Reader, name string) (*content, error) {
	b, err := io.ReadAll(io.LimitReader(r, largestFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > largestFile {
		return nil, fmt.Errorf("%s has more than %d bytes, which are kept in memory; write them to a file, and send that", name, largestFile)
	}
	return &content{ReaderAt: bytes.NewReader(b), name: filepath.Base(name), size: int64(len(b)), whole: b, close: func() {}}, nil
}

// upload brings a content to the server, unless the account has it, and returns its digest.
func (o *sendOptions) upload(ctx context.Context, e env, c *client.Client, content *content) (*[32]byte, error) {
	digest, err := o.digest(ctx, e, content)
	if err != nil {
		return nil, err
	}
	shown := o.showBytes(e, content, "uploading ")
	defer shown.end()
	err = c.Upload(ctx, client.Upload{
		Digest: digest, Size: content.size, Content: content, Progress: shown.show,
		Again: func(err error, wait time.Duration) { shown.note("%v; going on in %s", err, wait) },
	})
	refused, ok := errors.AsType[*client.Error](err)
	switch {
	case ok && refused.Code == "InvalidAction.NotFound":
		err = fmt.Errorf("%s has %d bytes, too many for a request, and this server takes no uploads; upgrade it, or raise its --max-content", content.name, content.size)
	case ok && refused.Code == "ContentUpload.DigestMismatch":
		err = client.ErrChanged
	}
	if errors.Is(err, client.ErrChanged) {
		err = fmt.Errorf("%s: %w; send it again when nobody writes to it", content.name, err)
	}
	return &digest, err
}

// digest reads a content once.
func (o *sendOptions) digest(ctx context.Context, e env, content *content) (digest [32]byte, err error) {
	shown := o.showBytes(e, content, "reading ")
	defer shown.end()
	shown.show(0)
	sum, buffer := sha256.New(), make([]byte, 1<<20)
	r := io.NewSectionReader(content, 0, content.size)
	for done := int64(0); done < content.size; shown.show(done) {
		if err := ctx.Err(); err != nil {
			return digest, err
		}
		n, err := io.ReadFull(r, buffer[:min(int64(len(buffer)), content.size-done)])
		if err != nil {
			return digest, fmt.Errorf("read %s: %w", content.name, err)
		}
		sum.Write(buffer[:n])
		done += int64(n)
	}
	return [32]byte(sum.Sum(nil)), nil
}

// bytesShown shows how much of a content is done, in steps that are worth a line or, on a terminal, that can be seen.
type bytesShown struct {
	progress *term.Progress
	notes    io.Writer
	name     string
	size     int64
	step     int64
	last     int64 // what was shown last; negative: nothing
}

func (o *sendOptions) showBytes(e env, content *content, what string) *bytesShown {
	s := &bytesShown{progress: term.NoProgress(), notes: e.err, name: what + content.name, size: content.size, step: content.size / 10, last: -1}
	if content.whole == nil { // else it takes no time
		s.progress = o.progress(e)
	}
	if isTerminal(e.err) {
		s.step = content.size / 500
	}
	return s
}

func (s *bytesShown) show(done int64) {
	if s.last >= 0 && done != s.size && done-s.last < s.step {
		return
	}
	s.last = done
	s.progress.Update(term.Item{Name: s.name, Total: int(s.size >> 20), Done: int(done >> 20), Unit: " MiB"})
}

func (s *bytesShown) note(format string, args ...any) { fmt.Fprintf(s.notes, format+"\n", args...) }

func (s *bytesShown) end() { s.progress.Close() }
