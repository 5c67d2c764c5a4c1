// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// uploadService is what uploads of contents need.
type uploadService interface {
	CreateUpload(ctx context.Context, act *waybill.Act, digest [32]byte, size int64) (control.UploadPlace, error)
	Incoming(ctx context.Context, token string) (control.UploadPlace, error)
	Receive(ctx context.Context, token string, c control.Chunk) (received int64, err error)
}

type createContentUploadInput struct {
	ContentDigest string `required:"true" limits:"sha256: and 64 hexadecimal digits" doc:"SHA-256 of the content"`
	Size          *int64 `required:"true" limits:"1 to 17179869184" fault:"InvalidParameter.Size" doc:"its length in bytes"`
}

type createContentUploadOutput struct {
	envelope
	Exists      bool   `doc:"true if there is nothing to upload: the account has it, and has it for a week at least if it uploaded it"`
	Location    string `doc:"path on this endpoint that takes the bytes, by the tus protocol 1.0; empty if it exists"`
	Offset      int64  `doc:"bytes that came before: go on there"`
	ExpiredTime string `doc:"when the location ends; then ask again, and go on; empty if it exists"`
}

func (c *call) createContentUpload(ctx context.Context, in *createContentUploadInput) (*createContentUploadOutput, error) {
	digest, err := waybill.ParseDigest(in.ContentDigest)
	if err != nil {
		return nil, err
	}
	place, err := c.CreateUpload(ctx, c.act, digest, *in.Size)
	if err != nil {
		return nil, err
	}
	if place.Exists {
		return &createContentUploadOutput{Exists: true}, nil
	}
	return &createContentUploadOutput{Location: UploadPath + place.Token, Offset: place.Offset, ExpiredTime: stamp(place.Expires)}, nil
}

// UploadPath is what the locations of uploads begin with.
const UploadPath = "/uploads/"

// Bounds of uploads. Each that is received holds a piece in memory.
const (
	maxUploading   = 8
	uploadPatience = 20 * time.Second // for a place among those
	uploadStall    = 30 * time.Second // for the client to send some of it, or to take the answer
	uploadTurn     = 15 * time.Minute // for a request: whoever has more to send comes again
)

// tusVersion is the version of the tus protocol that is spoken (https://tus.io/protocols/resumable-upload), its core: creation
// is CreateContentUpload.
const tusVersion = "1.0.0"

// uploads serves the locations. Whoever knows one may send what it is for, and nothing else: the token in it says whose
// upload of which content it is, for an hour.
type uploads struct {
	server *Server
	places *semaphore.Weighted
}

// Uploads returns the handler of UploadPath.
func (s *Server) Uploads() http.Handler {
	return &uploads{server: s, places: semaphore.NewWeighted(maxUploading)}
}

// uploadFault is how an error of an upload is answered: status, code, and what it is about if the error does not say.
type uploadFault struct {
	status        int
	code, message string
}

var uploadFaults = map[waybill.Code]uploadFault{
	waybill.UploadNotFound: {http.StatusNotFound, "ContentUpload.NotFound", ""},
	waybill.UploadExpired:  {http.StatusForbidden, "ContentUpload.Expired", ""},
	waybill.UploadMoved:    {http.StatusConflict, "ContentUpload.OffsetMismatch", ""},
	waybill.UploadLength:   {http.StatusBadRequest, "ContentUpload.Length", ""},
	waybill.UploadMismatch: {http.StatusUnprocessableEntity, "ContentUpload.DigestMismatch", ""},
	waybill.StorageFull:    {http.StatusInsufficientStorage, "ContentUpload.StorageFull", ""},
	waybill.Unavailable:    {http.StatusServiceUnavailable, "ServiceUnavailable", ""},
}

// Of requests that are no requests of the protocol.
var (
	errTusVersion   = uploadFault{http.StatusPreconditionFailed, "ContentUpload.Version", "the header Tus-Resumable must be " + tusVersion}
	errTusMethod    = uploadFault{http.StatusMethodNotAllowed, "ContentUpload.Method", "a location takes HEAD and PATCH"}
	errTusMedia     = uploadFault{http.StatusUnsupportedMediaType, "ContentUpload.MediaType", "the header Content-Type must be application/offset+octet-stream"}
	errTusOffset    = uploadFault{http.StatusBadRequest, "ContentUpload.Offset", "the header Upload-Offset must say where the bytes belong"}
	errTusLength    = uploadFault{http.StatusBadRequest, "ContentUpload.Length", "the header Content-Length must say how many bytes there are"}
	errUploadCut    = uploadFault{http.StatusServiceUnavailable, "ContentUpload.Interrupted", "the request broke off, or stood still; go on"}
	errUploadFailed = uploadFault{http.StatusInternalServerError, "InternalError", "the upload has failed for an unknown reason; try again"}
)

func (u *uploads) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	// What the server's own bounds of time would end is bounded here. An error means that there is no such connection, as in
	// tests.
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(uploadPatience + uploadTurn + uploadStall))
	w.Header().Set("Tus-Resumable", tusVersion)
	w.Header().Set("Cache-Control", "no-store")
	status, code, err := u.serve(w, r, rc)
	u.server.requests.WithLabelValues(uploadAction, code).Inc()
	u.server.duration.WithLabelValues(uploadAction).Observe(time.Since(start).Seconds())
	switch {
	case status == http.StatusInternalServerError:
		u.server.log.Error("an upload failed", "code", code, "err", err)
	case err != nil:
		u.server.log.Info("an upload was interrupted or refused", "code", code, "err", err)
	}
}

// uploadAction is what requests to locations are counted as.
const uploadAction = "ContentUpload"

func (u *uploads) serve(w http.ResponseWriter, r *http.Request, rc *http.ResponseController) (status int, code string, err error) {
	token := strings.TrimPrefix(r.URL.Path, UploadPath)
	switch {
	case r.Method == http.MethodOptions:
		w.Header().Set("Tus-Version", tusVersion)
		w.WriteHeader(http.StatusNoContent)
		return http.StatusNoContent, "OK", nil
	case r.Method != http.MethodHead && r.Method != http.MethodPatch:
		w.Header().Set("Allow", "HEAD, OPTIONS, PATCH")
		return u.refuse(w, errTusMethod, nil)
	case r.Header.Get("Tus-Resumable") != tusVersion:
		w.Header().Set("Tus-Version", tusVersion)
		return u.refuse(w, errTusVersion, nil)
	case r.Method == http.MethodPatch:
		return u.patch(w, r, rc, token)
	}
	in, err := u.server.service.Incoming(r.Context(), token)
	if err != nil {
		return u.fail(w, err)
	}
	w.Header().Set("Upload-Offset", strconv.FormatInt(in.Offset, 10))
	w.Header().Set("Upload-Length", strconv.FormatInt(in.Size, 10))
	w.Header().Set("Upload-Expires", in.Expires.UTC().Format(http.TimeFormat))
	w.WriteHeader(http.StatusOK)
	return http.StatusOK, "OK", nil
}

// patch takes bytes.
func (u *uploads) patch(w http.ResponseWriter, r *http.Request, rc *http.ResponseController, token string) (status int, code string, err error) {
	if r.Header.Get("Content-Type") != "application/offset+octet-stream" {
		return u.refuse(w, errTusMedia, nil)
	}
	offset, ok := parseDigits(r.Header.Get("Upload-Offset"))
	if !ok {
		return u.refuse(w, errTusOffset, nil)
	}
	if r.ContentLength < 0 {
		return u.refuse(w, errTusLength, nil)
	}
	if _, err := u.server.service.Incoming(r.Context(), token); err != nil { // strangers take no place
		return u.fail(w, err)
	}
	wait, cancel := context.WithTimeout(r.Context(), uploadPatience)
	defer cancel()
	if u.places.Acquire(wait, 1) != nil {
		return u.fail(w, waybill.Errorf(waybill.Unavailable, "too many contents are uploaded at once; try again"))
	}
	defer u.places.Release(1)
	body := &incoming{r: r.Body, control: rc, until: time.Now().Add(uploadTurn)}
	at, err := u.server.service.Receive(r.Context(), token, control.Chunk{
		Offset: offset, Length: r.ContentLength, Body: body, Stop: body.stop,
	})
	if err != nil {
		return u.fail(w, err)
	}
	_ = rc.SetWriteDeadline(time.Now().Add(uploadStall))
	w.Header().Set("Upload-Offset", strconv.FormatInt(at, 10))
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent, "OK", nil
}

// fail answers with what an error stands for.
func (u *uploads) fail(w http.ResponseWriter, err error) (status int, code string, logged error) {
	f, ok := uploadFaults[waybill.CodeOf(err)]
	if !ok {
		if _, lost := errors.AsType[*lostClient](err); lost || errors.Is(err, context.Canceled) {
			return u.refuse(w, errUploadCut, err)
		}
		return u.refuse(w, errUploadFailed, err)
	}
	if e, ok := errors.AsType[*waybill.Error](err); ok {
		f.message = e.Message
	}
	return u.refuse(w, f, err)
}

func (u *uploads) refuse(w http.ResponseWriter, f uploadFault, err error) (status int, code string, logged error) {
	body, encodeErr := json.Marshal(struct{ Code, Message string }{f.code, f.message})
	if encodeErr != nil {
		panic(encodeErr) // strings
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(uploadStall))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Connection", "close") // what else there is of the body nobody reads
	w.WriteHeader(f.status)
	_, _ = w.Write(body) // a client that is gone cannot be told
	return f.status, f.code, err
}

// incoming reads a body as long as some of it comes now and then, and nobody stops it.
type incoming struct {
	r       io.Reader
	control *http.ResponseController
	until   time.Time
	stopped atomic.Bool
}

func (p *incoming) Read(b []byte) (int, error) {
	deadline := time.Now().Add(uploadStall)
	if deadline.After(p.until) {
		deadline = p.until
	}
	_ = p.control.SetReadDeadline(deadline)
	if p.stopped.Load() { // after the deadline is set, so that stop's cannot be overwritten unseen
		return 0, &lostClient{errStopped}
	}
	n, err := p.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &lostClient{err}
	}
	return n, err
}

// errStopped ends a request whose client has come again, or whose server is about to stop.
var errStopped = errors.New("the request is given up")

// stop lets Read return soon.
func (p *incoming) stop() {
	p.stopped.Store(true)
	_ = p.control.SetReadDeadline(time.Unix(1, 0))
}

// lostClient is why the bytes of a client do not come any more.
type lostClient struct{ err error }

func (e *lostClient) Error() string { return e.err.Error() }
func (e *lostClient) Unwrap() error { return e.err }
