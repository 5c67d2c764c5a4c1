// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/blob"
	"github.com/openwaybill/waybill/internal/store"
)

// uploads is a fixture whose large contents are in a directory.
type uploads struct {
	*fixture
	dir string
}

func newUploads(t *testing.T, change ...func(*Config)) *uploads {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "blobs")
	b, err := blob.Open(t.Context(), "file:"+dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return &uploads{newFixture(t, append(change, func(c *Config) { c.Blobs = b })...), dir}
}

func contentOf(size int) ([]byte, [32]byte) {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size), byte(size >> 8)}).Read(b) // it never fails
	return b, sha256.Sum256(b)
}

func (f *uploads) create(who waybill.Principal, digest [32]byte, size int) (UploadPlace, error) {
	return f.CreateUpload(f.t.Context(), actOf(who), digest, int64(size))
}

func (f *uploads) mustCreate(digest [32]byte, size int) UploadPlace {
	f.t.Helper()
	p, err := f.create(f.who, digest, size)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// give sends bytes to a location, which are length bytes or of unknown length.
func (f *uploads) give(token string, offset, length int64, body io.Reader) (int64, error) {
	return f.Receive(f.t.Context(), token, Chunk{Offset: offset, Length: length, Body: body, Stop: func() {}})
}

func (f *uploads) upload(b []byte) [32]byte {
	f.t.Helper()
	digest := sha256.Sum256(b)
	p := f.mustCreate(digest, len(b))
	if n, err := f.give(p.Token, 0, int64(len(b)), bytes.NewReader(b)); err != nil || n != int64(len(b)) {
		f.t.Fatal(n, err)
	}
	return digest
}

func wants(t *testing.T, what string, err error, code waybill.Code) {
	t.Helper()
	if err == nil || waybill.CodeOf(err) != code {
		t.Errorf("%s: %v; want %s", what, err, code)
	}
}

func byDigest(digest [32]byte, instances ...waybill.InstanceID) SendRequest {
	r := request(instances...)
	r.Content, r.Digest = "", &digest
	return r
}

const piece = blob.PieceSize

// An upload goes on where it broke off, with whole pieces, and ends as what its account can send, and nobody else.
func TestUploadGoesOn(t *testing.T) {
	t.Parallel()
	f := newUploads(t)
	b, digest := contentOf(2*piece + 1000)
	p := f.mustCreate(digest, len(b))
	if p.Exists || p.Offset != 0 || !p.Expires.Equal(f.clock().Add(time.Hour)) {
		t.Errorf("at the beginning: %+v", p)
	}
	broken := errors.New("broken")
	if n, err := f.give(p.Token, 0, int64(len(b)), io.MultiReader(bytes.NewReader(b[:piece+5]), &failing{broken})); n != piece || !errors.Is(err, broken) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if at, err := f.Incoming(t.Context(), p.Token); err != nil || at.Offset != piece || at.Size != int64(len(b)) {
		t.Errorf("after that: %+v, %v", at, err)
	}
	for offset, of := range map[int64]waybill.Code{0: waybill.UploadMoved, piece + 1: waybill.UploadMoved, 2 * piece: waybill.UploadMoved} {
		n, err := f.give(p.Token, offset, piece, bytes.NewReader(b))
		if wants(t, "elsewhere", err, of); n != piece {
			t.Errorf("%d bytes are there", n)
		}
	}
	_, err := f.give(p.Token, piece, 1000, bytes.NewReader(b))
	wants(t, "less than a piece", err, waybill.UploadLength)
	_, err = f.give(p.Token, piece, -1, bytes.NewReader(b[:10]))
	wants(t, "less than a piece, which nobody had said", err, waybill.UploadLength)
	_, err = f.give(p.Token, piece, piece+1001, bytes.NewReader(b))
	wants(t, "too much", err, waybill.UploadLength)

	_, err = f.Send(t.Context(), f.act(), byDigest(digest, f.enrol()))
	wants(t, "sent too early", err, waybill.ContentNotFound)
	again := f.mustCreate(digest, len(b))
	if again.Offset != piece {
		t.Errorf("asked again: %+v", again)
	}
	if n, err := f.give(again.Token, piece, piece, bytes.NewReader(b[piece:2*piece])); n != 2*piece || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := f.give(p.Token, 2*piece, 1000, bytes.NewReader(b[2*piece:])); n != int64(len(b)) || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	_, err = f.Incoming(t.Context(), p.Token)
	wants(t, "it is over", err, waybill.UploadNotFound)
	if p := f.mustCreate(digest, len(b)); !p.Exists || p.Token != "" {
		t.Errorf("it is there: %+v", p)
	}
	machine := f.enrol()
	id := f.send(byDigest(digest, machine))
	fetch, err := f.Fetch(t.Context(), machine, id)
	if err != nil || fetch.Size != int64(len(b)) || fetch.SHA256 != digest {
		t.Fatalf("%+v, %v", fetch, err)
	}
	r, err := fetch.Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes come, %v", len(got), err)
	}

	other := f.other()
	_, err = f.Send(t.Context(), actOf(other), byDigest(digest, machine))
	wants(t, "another account", err, waybill.ContentNotFound)
	if p, err := f.create(other, digest, len(b)); err != nil || p.Exists || p.Offset != 0 {
		t.Errorf("another account is told: %+v, %v", p, err)
	}
}

type failing struct{ err error }

func (r *failing) Read([]byte) (int, error) { return 0, r.err }

func TestCreateUploadRefuses(t *testing.T) {
	t.Parallel()
	f := newUploads(t, func(c *Config) { c.MaxUpload, c.Uploads = 1<<20, 2 })
	_, digest := contentOf(10)
	for _, size := range []int{-1, 0, 1<<20 + 1} {
		_, err := f.create(f.who, digest, size)
		wants(t, "size", err, waybill.UploadSize)
	}
	f.mustCreate(digest, 10)
	f.mustCreate(digest, 11) // somebody is wrong, and it is found out
	f.mustCreate(digest, 10)
	_, err := f.create(f.who, digest, 12)
	wants(t, "one too many", err, waybill.UploadQuota)
	if left, err := os.ReadDir(filepath.Join(f.dir, "incoming")); err != nil || len(left) != 2 {
		t.Errorf("%d files, %v", len(left), err)
	}
	f.send(request(f.enrol()))
	hello := sha256.Sum256([]byte("hello"))
	if p := f.mustCreate(hello, 5); !p.Exists {
		t.Error("what was sent is not there")
	}
	_, err = f.create(f.who, hello, 6)
	wants(t, "the size of what is there", err, waybill.UploadSize)

	without := newFixture(t)
	_, err = without.CreateUpload(t.Context(), without.act(), digest, 10)
	wants(t, "without a store", err, waybill.UploadSize)
}

func TestLocations(t *testing.T) {
	t.Parallel()
	f := newUploads(t)
	_, digest := contentOf(10)
	p := f.mustCreate(digest, 10)
	flipped := []byte(p.Token)
	flipped[len(flipped)/2] ^= 1
	for _, token := range []string{"", "x", string(flipped), p.Token + "A", p.Token[:len(p.Token)-2]} {
		_, err := f.Incoming(t.Context(), token)
		wants(t, "a token that is none", err, waybill.UploadNotFound)
		_, err = f.give(token, 0, 10, strings.NewReader("0123456789"))
		wants(t, "a token that is none", err, waybill.UploadNotFound)
	}
	if err := (&Operator{Name: "root", Store: f.store, Sealer: f.sealer}).SetDisabled(t.Context(), f.who.Account, true); err != nil {
		t.Fatal(err)
	}
	_, err := f.give(p.Token, 0, 10, strings.NewReader("0123456789"))
	wants(t, "of a disabled account", err, waybill.UploadNotFound)
	f.advance(time.Hour)
	_, err = f.Incoming(t.Context(), p.Token)
	wants(t, "after its time", err, waybill.UploadExpired)
}

// What turns out to be something else is thrown away, and can be uploaded anew.
func TestUploadMismatch(t *testing.T) {
	t.Parallel()
	f := newUploads(t)
	b, digest := contentOf(piece + 10)
	p := f.mustCreate(digest, len(b))
	wrong := bytes.Clone(b)
	wrong[5]++
	_, err := f.give(p.Token, 0, int64(len(b)), bytes.NewReader(wrong))
	wants(t, "other bytes", err, waybill.UploadMismatch)
	_, err = f.Incoming(t.Context(), p.Token)
	wants(t, "it is over", err, waybill.UploadNotFound)
	if left, err := os.ReadDir(filepath.Join(f.dir, "incoming")); err != nil || len(left) != 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
	f.upload(b)
	f.send(byDigest(digest, f.enrol()))
}

// Whatever a server had done of the end when it died, the next request does the rest.
func TestUploadEndsAfterACrash(t *testing.T) {
	t.Parallel()
	for name, finished := range map[string]bool{"before the content was put together": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newUploads(t)
			b, digest := contentOf(piece)
			p := f.mustCreate(digest, len(b))
			u, _, err := f.openUpload(t.Context(), p.Token)
			if err == nil {
				err = f.receive(t.Context(), &u, bytes.NewReader(b))
			}
			if err == nil && finished {
				err = f.cfg.Blobs.Finish(t.Context(), blobOf(&u), nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			if p := f.mustCreate(digest, len(b)); !p.Exists {
				t.Errorf("%+v", p)
			}
			f.send(byDigest(digest, f.enrol()))
		})
	}
}

// A store that has lost what came is begun with anew.
func TestUploadLost(t *testing.T) {
	t.Parallel()
	f := newUploads(t)
	b, digest := contentOf(2 * piece)
	p := f.mustCreate(digest, len(b))
	if _, err := f.give(p.Token, 0, piece, bytes.NewReader(b[:piece])); err != nil {
		t.Fatal(err)
	}
	u, _, err := f.openUpload(t.Context(), p.Token)
	if err == nil {
		err = f.cfg.Blobs.Abort(t.Context(), blobOf(&u))
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.give(p.Token, piece, piece, bytes.NewReader(b[piece:]))
	wants(t, "without what it had", err, waybill.UploadNotFound)
	if p := f.mustCreate(digest, len(b)); p.Exists || p.Offset != 0 {
		t.Errorf("%+v", p)
	}
	f.upload(b)

	// And the whole content, later.
	name := waybill.FormatDigest(digest)[len("sha256:"):]
	if err := os.Remove(filepath.Join(f.dir, name[:2], name[2:4], name)); err != nil {
		t.Fatal(err)
	}
	f.upload(b)
}

// Small contents are sent by their digests as well, whether they were uploaded or sent before.
func TestSmallContentByDigest(t *testing.T) {
	t.Parallel()
	f := newUploads(t)
	uploaded := f.upload([]byte("small"))
	machine := f.enrol()
	f.send(request(machine))
	empty := request(machine)
	empty.Content = ""
	f.send(empty)
	for text, digest := range map[string][32]byte{"small": uploaded, "hello": sha256.Sum256([]byte("hello")), "": sha256.Sum256(nil)} {
		id := f.send(byDigest(digest, machine))
		d, err := f.store.Dispatch(t.Context(), id)
		if err != nil || string(d.Data) != text || d.SHA256 != digest || d.ContentType != waybill.Base64 {
			t.Errorf("%q: sent %+v, %v", text, d, err)
		}
	}
}

// Who comes again takes over from a connection that the server does not know to be dead.
func TestUploadIsTakenOver(t *testing.T) {
	t.Parallel()
	f := newUploads(t)
	b, digest := contentOf(2 * piece)
	p := f.mustCreate(digest, len(b))
	dead, stopped := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, err := f.Receive(t.Context(), p.Token, Chunk{Length: 2 * piece, Body: dead, Stop: func() { stopped.CloseWithError(errors.New("stopped")) }})
		first <- err
	}()
	if _, err := stopped.Write(b[:piece+1]); err != nil { // so it has the first piece
		t.Fatal(err)
	}
	if n, err := f.give(p.Token, piece, piece, bytes.NewReader(b[piece:])); n != 2*piece || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := <-first; err == nil || err.Error() != "stopped" {
		t.Errorf("the first: %v", err)
	}
}

func TestEndUploads(t *testing.T) {
	t.Parallel()
	f := newUploads(t)
	b, digest := contentOf(2 * piece)
	p := f.mustCreate(digest, len(b))
	body, stopped := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, err := f.Receive(t.Context(), p.Token, Chunk{Length: 2 * piece, Body: body, Stop: func() { stopped.CloseWithError(errors.New("stopped")) }})
		first <- err
	}()
	if _, err := stopped.Write(b[:piece+1]); err != nil {
		t.Fatal(err)
	}
	f.EndUploads()
	if err := <-first; err == nil || err.Error() != "stopped" {
		t.Errorf("who was there: %v", err)
	}
	_, err := f.give(p.Token, piece, piece, bytes.NewReader(b[piece:]))
	wants(t, "who comes", err, waybill.Unavailable)
}

// Two servers that go on from the same place: one counts.
func TestUploadOnTwoServers(t *testing.T) {
	t.Parallel()
	f := newUploads(t)
	b, digest := contentOf(2 * piece)
	p := f.mustCreate(digest, len(b))
	here, _, err := f.openUpload(t.Context(), p.Token)
	if err != nil {
		t.Fatal(err)
	}
	there := here
	if err := f.receive(t.Context(), &here, bytes.NewReader(b[:piece])); err != nil {
		t.Fatal(err)
	}
	wants(t, "the other", f.receive(t.Context(), &there, bytes.NewReader(b[:piece])), waybill.UploadMoved)
}

// What nobody finishes or sends goes after its time, and then its bytes do.
func TestUploadsAreCollected(t *testing.T) {
	t.Parallel()
	f := newUploads(t)
	b, digest := contentOf(2 << 20)
	f.upload(b)
	_, other := contentOf(100)
	f.mustCreate(other, 100)
	retain := func() {
		t.Helper()
		if err := f.retain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.advance(6 * 24 * time.Hour)
	retain()
	if p := f.mustCreate(digest, len(b)); !p.Exists { // and has a week from here
		t.Error("it is gone before its time")
	}
	if p := f.mustCreate(other, 100); p.Exists {
		t.Error("it is there")
	}
	f.advance(2 * 24 * time.Hour)
	retain()
	if left, err := os.ReadDir(filepath.Join(f.dir, "incoming")); err != nil || len(left) != 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
	f.send(byDigest(digest, f.enrol()))
	f.advance(5*24*time.Hour + time.Second)
	if _, err := f.store.ForgetUploaded(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.cfg.Blobs.Open(t.Context(), digest, 0); err != nil {
		t.Errorf("a content is gone that a delivery has: %v", err)
	}
	if err := f.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.advance(15 * 24 * time.Hour)
	retain()
	if _, err := f.store.Held(t.Context(), f.who.Account, digest); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it is remembered: %v", err)
	}
	if r, _, err := f.cfg.Blobs.Open(t.Context(), digest, 0); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("it is there: %v, %v", r, err)
	}
}
