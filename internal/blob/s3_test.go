// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/openwaybill/waybill"
)

// putWhole stores an object of any size with one request.
var putWhole = minio.PutObjectOptions{DisableMultipart: true}

// kind names a request.
func kind(r *http.Request) string {
	q := r.URL.Query()
	switch object := strings.Count(strings.Trim(r.URL.Path, "/"), "/") > 0; {
	case !object && r.Method == http.MethodHead:
		return "bucket"
	case !object && q.Has("uploads"):
		return "list uploads"
	case !object:
		return "list"
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "begin"
	case r.Method == http.MethodPost:
		return "complete"
	case q.Has("uploadId") && r.Method == http.MethodPut:
		return "part"
	}
	return strings.ToLower(r.Method)
}

// Whatever kind of request fails in passing, and in whichever way, is made again.
func TestPassingFailures(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(w http.ResponseWriter, r *http.Request, next http.Handler){
		"unavailable": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		"slow down": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `<Error><Code>SlowDown</Code><Message>slow down</Message></Error>`)
		},
		"connection lost": func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) },
		"answer lost": func(_ http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		},
		"answer cut": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			whole := httptest.NewRecorder()
			next.ServeHTTP(whole, r)
			for key, values := range whole.Header() {
				w.Header()[key] = values
			}
			w.Header().Set("Content-Length", whole.Result().Header.Get("Content-Length"))
			w.WriteHeader(whole.Code)
			_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			failed := map[string]int{}
			url, _ := serveS3(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				mu.Lock()
				k := kind(r)
				first := failed[k] < 2
				failed[k]++
				mu.Unlock()
				if first {
					fail(w, r, next)
				} else {
					next.ServeHTTP(w, r)
				}
			})
			s := open(t, url)
			for _, size := range []int{1000, 2*partSize + 1} {
				b, digest := put(t, s, size)
				check(t, s, b, 0)
				check(t, s, b, size/3)
				if all := walk(t, s); len(all) != 1 {
					t.Errorf("there: %v", all)
				}
				if err := s.Delete(t.Context(), digest, time.Now().Add(time.Hour)); err != nil {
					t.Error(err)
				}
				absent(t, s, digest)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, k := range []string{"bucket", "head", "put", "begin", "part", "complete", "get", "list", "list uploads", "delete"} {
				if failed[k] < 3 {
					t.Errorf("%s: %d requests", k, failed[k])
				}
			}
		})
	}
}

// A content goes on where it broke off, however often it breaks off.
func TestReadingGoesOn(t *testing.T) {
	t.Parallel()
	var gets, sent atomic.Int64
	url, _ := serveS3(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if kind(r) != "get" {
			next.ServeHTTP(w, r)
			return
		}
		gets.Add(1)
		next.ServeHTTP(&cut{ResponseWriter: w, left: 300_000, sent: &sent}, r)
	})
	s := open(t, url)
	b, _ := put(t, s, 1<<20)
	check(t, s, b, 17)
	if n := gets.Load(); n < 4 {
		t.Errorf("%d requests", n)
	}
	if n := sent.Load(); n > 2<<20 {
		t.Errorf("%d bytes sent for %d", n, len(b))
	}
}

// cut ends a connection after so many bytes.
type cut struct {
	http.ResponseWriter
	left int
	sent *atomic.Int64
}

func (c *cut) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	c.left -= n
	c.sent.Add(int64(n))
	if c.left == 0 {
		if f, ok := c.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// A request that stands still, in either direction, is given up and made again.
func TestStandstill(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var mu sync.Mutex
	stood := map[string]int{}
	url, _ := serveS3(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		k := kind(r)
		first := stood[k] < 2
		stood[k]++
		mu.Unlock()
		switch {
		case first && k == "get":
			next.ServeHTTP(&standing{ResponseWriter: w, left: 300_000, release: release}, r)
		case first && (k == "part" || k == "put"):
			<-release // and reads nothing
		default:
			next.ServeHTTP(w, r)
		}
	})
	t.Cleanup(func() { close(release) })
	at, err := parse(url)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newS3(at, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1 << 20, partSize + 1} {
		b, _ := put(t, s, size)
		check(t, s, b, 1)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, k := range []string{"get", "part", "put"} {
		if stood[k] < 3 {
			t.Errorf("%s: %d requests", k, stood[k])
		}
	}
}

// standing writes so many bytes, and no more until it is released.
type standing struct {
	http.ResponseWriter
	left    int
	release chan struct{}
}

func (s *standing) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p[:min(len(p), s.left)])
	s.left -= n
	if s.left > 0 || err != nil {
		return n, err
	}
	if f, ok := s.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
	<-s.release
	return n, io.ErrShortWrite
}

// A store that stays away is Unavailable, when the context ends.
func TestAway(t *testing.T) {
	t.Parallel()
	var gone atomic.Bool
	url, _ := serveS3(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if gone.Load() {
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
	s := open(t, url)
	b, digest := put(t, s, 1<<20)
	r, _, err := s.Open(t.Context(), digest, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	gone.Store(true)
	other, otherDigest := content(100)
	for name, call := range map[string]func(ctx context.Context) error{
		"open a store": func(ctx context.Context) error {
			_, err := Open(ctx, url)
			return err
		},
		"put": func(ctx context.Context) error {
			return s.Put(ctx, otherDigest, int64(len(other)), bytes.NewReader(other))
		},
		"open": func(ctx context.Context) error {
			_, _, err := s.Open(ctx, digest, 0)
			return err
		},
		"delete": func(ctx context.Context) error { return s.Delete(ctx, digest, time.Time{}) },
		"walk":   func(ctx context.Context) error { return s.Walk(ctx, func(Entry) error { return nil }) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := call(ctx)
		cancel()
		if waybill.CodeOf(err) != waybill.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v (%s)", name, err, waybill.CodeOf(err))
		}
	}
	gone.Store(false)
	check(t, s, b, 0)
}

// What S3 refuses for good is asked once, and explained.
func TestRefused(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"AccessDenied":          "the key may not do this",
		"InvalidAccessKeyId":    "refuses the key",
		"SignatureDoesNotMatch": "refuses the key",
		"RequestTimeTooSkewed":  "clocks",
		"NoSuchBucket":          "the bucket is gone",
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			var refuse atomic.Bool
			var asked atomic.Int64
			url, _ := serveS3(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if !refuse.Load() || kind(r) != "put" {
					next.ServeHTTP(w, r)
					return
				}
				asked.Add(1)
				status := http.StatusForbidden
				if code == codeNoSuchBucket {
					status = http.StatusNotFound
				}
				w.WriteHeader(status)
				_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>no</Message></Error>")
			})
			s := open(t, url)
			refuse.Store(true)
			b, digest := content(100)
			err := s.Put(t.Context(), digest, int64(len(b)), bytes.NewReader(b))
			if err == nil || !strings.Contains(err.Error(), want) || waybill.CodeOf(err) == waybill.Unavailable || asked.Load() != 1 {
				t.Errorf("after %d requests: %v", asked.Load(), err)
			}
		})
	}
}

func TestOpenS3Refuses(t *testing.T) {
	t.Parallel()
	url, _ := serveS3(t, nil)
	if _, err := Open(t.Context(), strings.Replace(url, "contents", "elsewhere", 1)); err == nil || !strings.Contains(err.Error(), "no such bucket") {
		t.Errorf("no bucket: %v", err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of every client that does not trust it
	server.StartTLS()
	t.Cleanup(server.Close)
	if _, err := Open(t.Context(), "s3://contents?endpoint="+server.URL); err == nil || waybill.CodeOf(err) == waybill.Unavailable {
		t.Errorf("a certificate of nobody: %v", err)
	}
}

// Keys come from the environment or a file.
func TestKeys(t *testing.T) {
	var seen atomic.Value
	url, _ := serveS3(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		seen.Store(r.Header.Get("Authorization"))
		next.ServeHTTP(w, r)
	})
	used := func(key, region string) {
		t.Helper()
		open(t, url)
		if got := seen.Load().(string); !strings.Contains(got, "Credential="+key+"/") || !strings.Contains(got, "/"+region+"/s3/") {
			t.Errorf("signed with %q, want key %s and region %s", got, key, region)
		}
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "from-environment")
	used("from-environment", "us-east-1")
	t.Setenv("AWS_REGION", "eu-central-1")
	used("from-environment", "eu-central-1")
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = from-file\naws_secret_access_key = x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	used("from-file", "eu-central-1")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file+".none")
	if _, err := Open(t.Context(), url); err == nil || !strings.Contains(err.Error(), "there are no keys") {
		t.Errorf("without keys: %v", err)
	}
}

// What a server that has died was uploading is removed when it is old, and only then; others' uploads never.
func TestAbandonedUploads(t *testing.T) {
	t.Parallel()
	at := onS3(t)
	s := open(t, at.url).(*s3)
	for _, key := range []string{s.key(sha256.Sum256(nil)), "way/bill/other", "other"} {
		if _, err := s.client.NewMultipartUpload(t.Context(), "contents", key, minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	walk(t, s)
	if left := at.left(t); len(left) != 3 {
		t.Errorf("young: %q are left", left)
	}
	s.now = func() time.Time { return time.Now().Add(UploadFor + time.Minute) }
	walk(t, s)
	if left := at.left(t); len(left) != 2 {
		t.Errorf("old: %q are left", left)
	}
}

// A Put holds one part in memory: it does not read on while that has not been taken.
func TestPutReadsNoFurtherThanItSends(t *testing.T) {
	t.Parallel()
	var sent, most atomic.Int64
	url, _ := serveS3(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		n := r.ContentLength
		next.ServeHTTP(w, r)
		if kind(r) == "part" {
			sent.Add(n)
		}
	})
	s := open(t, url)
	b, digest := content(6 * partSize)
	var read int64
	r := bytes.NewReader(b)
	if err := s.Put(t.Context(), digest, int64(len(b)), readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		read += int64(n)
		most.Store(max(most.Load(), read-sent.Load()))
		return n, err
	})); err != nil {
		t.Fatal(err)
	}
	if most.Load() > partSize {
		t.Errorf("%d bytes were held", most.Load())
	}
}
