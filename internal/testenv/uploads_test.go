// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
)

// source is a content that counts what is read of it, and does something once that comes near a place.
type source struct {
	io.ReaderAt
	mu   sync.Mutex
	read int64
	at   int64
	then func() // nil: nothing
}

func (s *source) ReadAt(p []byte, offset int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(p, offset)
	s.mu.Lock()
	s.read += int64(n)
	var then func()
	if offset >= s.at {
		then, s.then = s.then, nil
	}
	s.mu.Unlock()
	if then != nil {
		then()
	}
	return n, err
}

func (s *source) once(at int64, then func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.then = at, then
}

func bytesOf(size int) ([]byte, client.Upload) {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size), byte(size >> 8)}).Read(b) // it never fails
	return b, client.Upload{Digest: sha256.Sum256(b), Size: int64(size), Content: bytes.NewReader(b)}
}

// TestUploadAcrossKills gives an upload up in the middle, goes on with it, kills the server in the middle of that, and has
// the content sent: nothing comes twice but what was under way.
func TestUploadAcrossKills(t *testing.T) {
	t.Parallel()
	p := newServerProcess(t)
	b, u := bytesOf(28 << 20)
	from := &source{ReaderAt: bytes.NewReader(b)}
	u.Content = from

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	from.once(12<<20, cancel)
	if err := p.client.Upload(ctx, u); err == nil {
		t.Fatal("it was given up, and is whole")
	}
	var first int64 = -1
	u.Progress = func(done int64) {
		if first < 0 {
			first = done
		}
	}
	from.once(20<<20, func() {
		p.kill()
		p.start()
		p.awaitUp()
	})
	if err := p.client.Upload(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if first < 8<<20 {
		t.Errorf("it went on at %d", first)
	}
	// Two pieces at most were under way each time, and what the buffers between hold.
	if from.read > u.Size+2*(16<<20) {
		t.Errorf("%d bytes were read for a content of %d", from.read, u.Size)
	}

	before := from.read
	if err := p.client.Upload(t.Context(), u); err != nil || from.read != before {
		t.Errorf("again: %d bytes were read, %v", from.read-before, err)
	}
	p.kill()
	p.start()
	p.awaitUp()
	id, root, start := p.agent()
	start()
	r := testenv.File()
	r.Instances, r.Content, r.Digest = []waybill.InstanceID{id}, nil, &u.Digest
	if _, err := p.client.SendFile(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the file", func() bool {
		got, err := os.ReadFile(filepath.Join(root, r.File.TargetDir, r.File.Name))
		return err == nil && sha256.Sum256(got) == u.Digest
	})
}

// TestUploadTakenOver has a connection that hardly moves, which its client has given up: when that comes again, it does not
// wait for it.
func TestUploadTakenOver(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA)
	for name, transport := range map[string]*http.Transport{
		"HTTP/1": {TLSClientConfig: &tls.Config{RootCAs: roots}},
		"HTTP/2": {TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer transport.CloseIdleConnections()
			b, u := bytesOf(16<<20 + int(name[5]))
			at, err := s.Client.CreateContentUpload(t.Context(), u.Digest, u.Size)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			body, write := io.Pipe()
			r, err := http.NewRequestWithContext(ctx, http.MethodPatch, "https://"+s.Addr("https")+at.Location, body)
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = u.Size
			r.Header.Set("Tus-Resumable", "1.0.0")
			r.Header.Set("Upload-Offset", "0")
			r.Header.Set("Content-Type", "application/offset+octet-stream")
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if answer, err := (&http.Client{Transport: transport}).Do(r); err == nil {
					answer.Body.Close()
				}
			}()
			if _, err := write.Write(b[:9<<20]); err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, "the first piece", func() bool {
				at, err := s.Client.CreateContentUpload(t.Context(), u.Digest, u.Size)
				return err == nil && at.Offset == 8<<20
			})
			dripping := make(chan struct{})
			go func() { // so slowly that it would never end, and never stands still
				defer close(dripping)
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for i := 9 << 20; ctx.Err() == nil; i++ {
					if _, err := write.Write(b[i : i+1]); err != nil {
						return
					}
					<-tick.C
				}
			}()
			u.Again = func(err error, _ time.Duration) { t.Errorf("it has to come again: %v", err) }
			if err := s.Client.Upload(t.Context(), u); err != nil {
				t.Error(err)
			}
			cancel()
			body.Close()
			<-dripping
			<-ended
		})
	}
}

// TestUploadedContent sends what was uploaded, wherever large contents are kept.
func TestUploadedContent(t *testing.T) {
	t.Parallel()
	onEachPlace(t, func(t *testing.T, start starter) {
		t.Parallel()
		s := start(t)
		s.Restart(func(c *server.Config) { c.Control.Limits.ContentBytes = 32 << 10 })
		a := s.Agent()
		for _, size := range []int{100, 600 << 10, 17 << 20} { // in a message, in the database, and beside it
			b, u := bytesOf(size)
			r := testenv.File(a)
			r.File.Name, r.Content, r.Digest = "uploaded", nil, &u.Digest
			r.File.Overwrite = true
			_, err := s.Client.SendFile(t.Context(), r)
			if refused, ok := errors.AsType[*client.Error](err); !ok || refused.Code != "ContentDigest.NotFound" || refused.Status != http.StatusNotFound {
				t.Errorf("before it is there: %v", err)
			}
			if err := s.Client.Upload(t.Context(), u); err != nil {
				t.Fatal(err)
			}
			if size > 1<<20 {
				s.Restart()
				s.AwaitOnline(a)
			}
			d := s.Await(s.Send(r))
			if d.Status != waybill.OverallSuccess {
				t.Fatalf("ended as %+v", d.Targets.Items)
			}
			if got, err := os.ReadFile(a.Path(r.File.TargetDir, r.File.Name)); err != nil || !bytes.Equal(got, b) {
				t.Errorf("%d of %d bytes are there, %v", len(got), size, err)
			}
			if shown := len(d.Content); size > 32<<10 && shown != 0 || size < 32<<10 && shown == 0 {
				t.Errorf("of %d bytes %d are shown", size, shown)
			}
		}
	})
}

// TestLocationSpeaksTus asks a location what clients of the protocol ask, and what they must not.
func TestLocationSpeaksTus(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	b, u := bytesOf(8<<20 + 100)
	at, err := s.Client.CreateContentUpload(t.Context(), u.Digest, u.Size)
	if err != nil {
		t.Fatal(err)
	}
	const media = "application/offset+octet-stream"
	ask := func(method, location string, body []byte, header ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr("http")+location, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { answer.Body.Close() })
		return answer
	}
	for name, tt := range map[string]struct {
		method, location string
		header           []string
		body             []byte
		status           int
		code             string
	}{
		"no version":       {http.MethodHead, at.Location, nil, nil, 412, ""},
		"another version":  {http.MethodPatch, at.Location, []string{"Tus-Resumable", "0.2.2"}, nil, 412, "ContentUpload.Version"},
		"another method":   {http.MethodPost, at.Location, []string{"Tus-Resumable", "1.0.0"}, nil, 405, "ContentUpload.Method"},
		"no token":         {http.MethodPatch, "/uploads/", []string{"Tus-Resumable", "1.0.0", "Upload-Offset", "0", "Content-Type", media}, b, 404, "ContentUpload.NotFound"},
		"no media type":    {http.MethodPatch, at.Location, []string{"Tus-Resumable", "1.0.0", "Upload-Offset", "0"}, b, 415, "ContentUpload.MediaType"},
		"no offset":        {http.MethodPatch, at.Location, []string{"Tus-Resumable", "1.0.0", "Content-Type", media}, b, 400, "ContentUpload.Offset"},
		"a bad offset":     {http.MethodPatch, at.Location, []string{"Tus-Resumable", "1.0.0", "Content-Type", media, "Upload-Offset", "-1"}, b, 400, "ContentUpload.Offset"},
		"another offset":   {http.MethodPatch, at.Location, []string{"Tus-Resumable", "1.0.0", "Content-Type", media, "Upload-Offset", "5"}, b[5:], 409, "ContentUpload.OffsetMismatch"},
		"less than needed": {http.MethodPatch, at.Location, []string{"Tus-Resumable", "1.0.0", "Content-Type", media, "Upload-Offset", "0"}, b[:100], 400, "ContentUpload.Length"},
	} {
		answer := ask(tt.method, tt.location, tt.body, tt.header...)
		said, err := io.ReadAll(answer.Body)
		if answer.StatusCode != tt.status || !strings.Contains(string(said), tt.code) || err != nil {
			t.Errorf("%s: %s %s, %v", name, answer.Status, said, err)
		}
		if answer.Header.Get("Tus-Resumable") != "1.0.0" {
			t.Errorf("%s: without the version", name)
		}
	}
	if answer := ask(http.MethodOptions, at.Location, nil); answer.StatusCode != 204 || answer.Header.Get("Tus-Version") != "1.0.0" {
		t.Errorf("options: %s %v", answer.Status, answer.Header)
	}
	head := func(offset string) {
		t.Helper()
		answer := ask(http.MethodHead, at.Location, nil, "Tus-Resumable", "1.0.0")
		if h := answer.Header; answer.StatusCode != 200 || h.Get("Upload-Offset") != offset || h.Get("Upload-Length") != "8388708" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("head: %s %v, want offset %s", answer.Status, h, offset)
		}
	}
	patch := func(offset string, body []byte, status int, next string) {
		t.Helper()
		answer := ask(http.MethodPatch, at.Location, body, "Tus-Resumable", "1.0.0", "Content-Type", media, "Upload-Offset", offset)
		if answer.StatusCode != status || answer.Header.Get("Upload-Offset") != next {
			said, _ := io.ReadAll(answer.Body)
			t.Errorf("patch at %s: %s %s, offset %q; want %d, %q", offset, answer.Status, said, answer.Header.Get("Upload-Offset"), status, next)
		}
	}
	head("0")
	patch("0", b[:8<<20], 204, "8388608")
	head("8388608")
	patch("8388608", make([]byte, 100), 422, "")
	if answer := ask(http.MethodHead, at.Location, nil, "Tus-Resumable", "1.0.0"); answer.StatusCode != 404 {
		t.Errorf("after a mismatch: %s", answer.Status)
	}
	if at, err = s.Client.CreateContentUpload(t.Context(), u.Digest, u.Size); err != nil || at.Offset != 0 {
		t.Fatalf("%+v, %v", at, err)
	}
	patch("0", b, 204, "8388708")
	if at, err := s.Client.CreateContentUpload(t.Context(), u.Digest, u.Size); err != nil || !at.Exists {
		t.Errorf("%+v, %v", at, err)
	}
	_, other := bytesOf(100)
	if at, err = s.Client.CreateContentUpload(t.Context(), other.Digest, other.Size); err != nil {
		t.Fatal(err)
	}
	s.Later(61 * time.Minute)
	if answer := ask(http.MethodHead, at.Location, nil, "Tus-Resumable", "1.0.0"); answer.StatusCode != 403 {
		t.Errorf("after its time: %s", answer.Status)
	}
}
