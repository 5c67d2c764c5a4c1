// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// The test server looks at no signatures, but a client without keys makes none.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
	} {
		if err := os.Setenv(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// place is where a store is, for the suite.
type place struct {
	url    string
	left   func(t *testing.T) []string                                    // what is unfinished there
	age    func(t *testing.T, digest [sha256.Size]byte, by time.Duration) // makes a content look older
	aliens func(t *testing.T)                                             // puts things there that are not the store's
}

// clock is the time of the S3 server.
type clock struct {
	mu    sync.Mutex
	moved time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.moved)
}

func (c *clock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

func (c *clock) set(moved time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved = moved
}

// serveS3 runs an S3 server with a bucket; front, if there is one, sees every request first and answers it or passes it on.
func serveS3(t *testing.T, front func(w http.ResponseWriter, r *http.Request, next http.Handler)) (url string, c *clock) {
	t.Helper()
	c = &clock{}
	backend := s3mem.New(s3mem.WithTimeSource(c))
	if err := backend.CreateBucket("contents"); err != nil {
		t.Fatal(err)
	}
	handler := gofakes3.New(backend, gofakes3.WithTimeSource(c), gofakes3.WithTimeSkewLimit(0)).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if front == nil {
			handler.ServeHTTP(w, r)
			return
		}
		front(w, r, handler)
	}))
	t.Cleanup(server.Close)
	return "s3://contents/way/bill?endpoint=" + server.URL, c
}

func onS3(t *testing.T) place {
	url, c := serveS3(t, nil)
	bare := open(t, url).(*s3)
	return place{
		url: url,
		left: func(t *testing.T) (all []string) {
			for up := range bare.client.ListIncompleteUploads(t.Context(), "contents", "", true) {
				if isCode(up.Err, codeNoSuchUpload) {
					break // how this server says that there is none
				}
				if up.Err != nil {
					t.Error(up.Err)
				}
				all = append(all, up.Key)
			}
			return all
		},
		age: func(t *testing.T, digest [sha256.Size]byte, by time.Duration) {
			t.Helper()
			info, err := bare.stat(t.Context(), digest)
			if err != nil {
				t.Fatal(err)
			}
			r, _, err := bare.Open(t.Context(), digest, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			c.set(-by)
			defer c.set(0)
			write(t, bare, bare.key(digest), content[:info.Size])
		},
		aliens: func(t *testing.T) {
			for _, key := range []string{"way/bill/notes", "way/bill/ab/cd", "way/bills", "other"} {
				write(t, bare, key, []byte("x"))
			}
		},
	}
}

// write stores an object, whatever it is.
func write(t *testing.T, s *s3, key string, content []byte) {
	t.Helper()
	if err := s.retry(t.Context(), func() error {
		_, err := s.client.Client.PutObject(t.Context(), "contents", key, bytes.NewReader(content), int64(len(content)), putWhole)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func onDisk(t *testing.T) place {
	dir := filepath.Join(t.TempDir(), "blobs")
	at := func(digest [sha256.Size]byte) string {
		path, _ := (&disk{dir: dir}).path(digest)
		return path
	}
	return place{
		url: "file:" + dir,
		left: func(t *testing.T) (all []string) {
			left, err := os.ReadDir(filepath.Join(dir, incoming))
			if err != nil {
				t.Error(err)
			}
			for _, e := range left {
				all = append(all, e.Name())
			}
			return all
		},
		age: func(t *testing.T, digest [sha256.Size]byte, by time.Duration) {
			t.Helper()
			if err := os.Chtimes(at(digest), time.Time{}, time.Now().Add(-by)); err != nil {
				t.Fatal(err)
			}
		},
		aliens: func(t *testing.T) {
			for _, name := range []string{"notes", "xy/z", "xy/zz/note", "ab/cd/" + strings.Repeat("0", 64), "ab/cd/" + strings.Repeat("ABCD", 16)} {
				path := filepath.Join(dir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
		},
	}
}

// onEach runs a test of the behaviour on every kind of store.
func onEach(t *testing.T, test func(t *testing.T, at place)) {
	t.Parallel()
	for name, make := range map[string]func(*testing.T) place{"disk": onDisk, "S3": onS3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, make(t))
		})
	}
}

func open(t *testing.T, url string) Store {
	t.Helper()
	s, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// content returns bytes that differ with their number.
func content(size int) ([]byte, [sha256.Size]byte) {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)}).Read(b) // it never fails
	return b, sha256.Sum256(b)
}

func put(t *testing.T, s Store, size int) ([]byte, [sha256.Size]byte) {
	t.Helper()
	b, digest := content(size)
	if err := s.Put(t.Context(), digest, int64(size), bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	return b, digest
}

// check fails t unless the content is there, from an offset on.
func check(t *testing.T, s Store, want []byte, offset int) {
	t.Helper()
	r, size, err := s.Open(t.Context(), sha256.Sum256(want), int64(offset))
	if err != nil {
		t.Errorf("open %d bytes at %d: %v", len(want), offset, err)
		return
	}
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Errorf("read %d bytes at %d: %v", len(want), offset, err)
	}
	if size != int64(len(want)) || !bytes.Equal(got, want[offset:]) {
		t.Errorf("of %d bytes at %d: got %d, of %d", len(want), offset, len(got), size)
	}
}

func absent(t *testing.T, s Store, digest [sha256.Size]byte) {
	t.Helper()
	if r, _, err := s.Open(t.Context(), digest, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("open what is not there: %v, %v", r, err)
	}
}

func walk(t *testing.T, s Store) map[[sha256.Size]byte]Entry {
	t.Helper()
	all := map[[sha256.Size]byte]Entry{}
	if err := s.Walk(t.Context(), func(e Entry) error {
		if _, twice := all[e.Digest]; twice {
			t.Errorf("%x twice", e.Digest)
		}
		all[e.Digest] = e
		return nil
	}); err != nil {
		t.Error(err)
	}
	return all
}

func TestPutAndOpen(t *testing.T) {
	onEach(t, func(t *testing.T, at place) {
		s := open(t, at.url)
		absent(t, s, sha256.Sum256(nil))
		for _, size := range []int{0, 1, 1 << 20, partSize - 1, partSize, partSize + 1, 2*partSize + 12_345} {
			b, _ := put(t, s, size)
			for _, offset := range slices.Compact([]int{0, min(1, size), size / 2, max(size-1, 0), size}) {
				check(t, s, b, offset)
			}
			for _, offset := range []int64{-1, int64(size) + 1} {
				if _, _, err := s.Open(t.Context(), sha256.Sum256(b), offset); err == nil || errors.Is(err, ErrNotFound) {
					t.Errorf("open %d bytes at %d: %v", size, offset, err)
				}
			}
		}
		if left := at.left(t); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		b, _ := content(1 << 20)
		check(t, open(t, at.url), b, 0)
	})
}

func TestPutVerifies(t *testing.T) {
	onEach(t, func(t *testing.T, at place) {
		s := open(t, at.url)
		broken := errors.New("broken")
		for _, size := range []int{1000, partSize, 2*partSize + 1} {
			b, digest := content(size)
			other := bytes.Clone(b)
			other[size-1]++
			ctx, cancel := context.WithCancel(t.Context())
			for name, c := range map[string]struct {
				ctx  context.Context
				size int
				r    io.Reader
				want error
			}{
				"another digest":    {t.Context(), size, bytes.NewReader(other), ErrMismatch},
				"shorter":           {t.Context(), size, bytes.NewReader(b[:size-1]), ErrMismatch},
				"nothing":           {t.Context(), size, bytes.NewReader(nil), ErrMismatch},
				"longer":            {t.Context(), size, io.MultiReader(bytes.NewReader(b), strings.NewReader("x")), ErrMismatch},
				"said to be less":   {t.Context(), size - 1, bytes.NewReader(b), ErrMismatch},
				"less than nothing": {t.Context(), -1, bytes.NewReader(b), ErrMismatch},
				"broken at its end": {t.Context(), size, io.MultiReader(bytes.NewReader(b[:size-1]), iotest.ErrReader(broken)), broken},
				"broken after it":   {t.Context(), size, io.MultiReader(bytes.NewReader(b), iotest.ErrReader(broken)), broken},
				"given up": {ctx, size, io.MultiReader(bytes.NewReader(b[:size/2]), readerFunc(func([]byte) (int, error) {
					cancel()
					return 0, nil
				}), bytes.NewReader(b[size/2:])), context.Canceled},
			} {
				if err := s.Put(c.ctx, digest, int64(c.size), c.r); !errors.Is(err, c.want) {
					t.Errorf("%d bytes, %s: %v", size, name, err)
				}
				absent(t, s, digest)
			}
			cancel()
		}
		if left, all := at.left(t), walk(t, s); len(left) > 0 || len(all) > 0 {
			t.Errorf("left: %q, there: %v", left, all)
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// What is there need not be read again; many may put the same at a time; a wrong one in its place is replaced.
func TestPutAgain(t *testing.T) {
	onEach(t, func(t *testing.T, at place) {
		s := open(t, at.url)
		b, digest := content(partSize + 1)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				if err := s.Put(t.Context(), digest, int64(len(b)), bytes.NewReader(b)); err != nil {
					t.Error(err)
				}
				check(t, s, b, 0)
			})
		}
		group.Wait()
		if err := s.Put(t.Context(), digest, int64(len(b)), iotest.ErrReader(errors.New("is read"))); err != nil {
			t.Errorf("put what is there: %v", err)
		}
		if err := s.Put(t.Context(), digest, 3, strings.NewReader("one")); !errors.Is(err, ErrMismatch) {
			t.Errorf("put another under its name: %v", err)
		}
		check(t, s, b, 0)
		if left, all := at.left(t), walk(t, s); len(left) > 0 || len(all) != 1 {
			t.Errorf("left: %q, there: %d", left, len(all))
		}
	})
}

// A content that is put again looks new, so that no collector takes it.
func TestPutRenews(t *testing.T) {
	onEach(t, func(t *testing.T, at place) {
		s := open(t, at.url)
		for _, size := range []int{10, partSize + 1} {
			_, digest := put(t, s, size)
			at.age(t, digest, 2*KeepFor)
			if age := time.Since(walk(t, s)[digest].Written); age < KeepFor {
				t.Fatalf("%d bytes: made older, and %s old", size, age)
			}
			b, _ := put(t, s, size)
			if age := time.Since(walk(t, s)[digest].Written); age >= KeepFor {
				t.Errorf("%d bytes: put again, and %s old", size, age)
			}
			if err := s.Delete(t.Context(), digest, time.Now().Add(-KeepFor)); err != nil {
				t.Error(err)
			}
			check(t, s, b, 0)
		}
	})
}

func TestDelete(t *testing.T) {
	onEach(t, func(t *testing.T, at place) {
		s := open(t, at.url)
		b, digest := put(t, s, 1000)
		_, old := put(t, s, 2000)
		at.age(t, old, 2*KeepFor)
		for _, d := range [][sha256.Size]byte{digest, old} {
			if err := s.Delete(t.Context(), d, time.Now().Add(-KeepFor)); err != nil {
				t.Error(err)
			}
		}
		check(t, s, b, 0)
		absent(t, s, old)
		for range 2 {
			if err := s.Delete(t.Context(), digest, time.Time{}); err != nil {
				t.Error(err)
			}
			absent(t, s, digest)
		}
		if err := s.Delete(t.Context(), digest, time.Now()); err != nil {
			t.Errorf("delete by age what is gone: %v", err)
		}
		put(t, s, 1000)
		check(t, s, b, 0)
	})
}

func TestWalk(t *testing.T) {
	onEach(t, func(t *testing.T, at place) {
		s := open(t, at.url)
		if s, ok := s.(*s3); ok {
			s.page = 3
		}
		if all := walk(t, s); len(all) > 0 {
			t.Errorf("empty, and has %v", all)
		}
		at.aliens(t)
		begin := time.Now().Add(-2 * time.Second) // S3 gives whole seconds
		sizes := map[[sha256.Size]byte]int{}
		for size := range 12 { // whole pages
			_, digest := put(t, s, size)
			sizes[digest] = size
		}
		all := walk(t, s)
		for digest, e := range all {
			if size, ok := sizes[digest]; !ok || e.Size != int64(size) || e.Written.Before(begin) || e.Written.After(time.Now().Add(time.Second)) {
				t.Errorf("found: %+v", e)
			}
		}
		if len(all) != len(sizes) {
			t.Errorf("found %d, want %d", len(all), len(sizes))
		}
		enough := errors.New("enough")
		n := 0
		if err := s.Walk(t.Context(), func(Entry) error {
			if n++; n == 5 {
				return enough
			}
			return nil
		}); err != enough || n != 5 {
			t.Errorf("ended by the caller: %v after %d", err, n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Walk(ctx, func(Entry) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("its context has ended: %v", err)
		}
		if err := s.Walk(t.Context(), func(e Entry) error { return s.Delete(t.Context(), e.Digest, time.Time{}) }); err != nil {
			t.Errorf("delete while walking: %v", err)
		}
		if all := walk(t, s); len(all) > 0 {
			t.Errorf("all deleted, but %v", all)
		}
	})
}

func TestReadingEndsWithContext(t *testing.T) {
	onEach(t, func(t *testing.T, at place) {
		s := open(t, at.url)
		_, digest := put(t, s, 1<<20)
		ctx, cancel := context.WithCancel(t.Context())
		r, _, err := s.Open(ctx, digest, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cancel()
		if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
			t.Errorf("its context has ended: %v", err)
		}
	})
}
