// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/openwaybill/waybill"
)

// Bodies are read before anybody knows who sent them, so all of them together are bounded: small ones by the number of
// connections, the rest by bodyRoom.
const (
	maxBody      = 2 << 20   // bytes of a form: the most content there may be, each byte escaped to three
	smallBody    = 16 << 10  // bytes that need no room
	bodyRoom     = 256 << 20 // bytes of larger bodies at once, each counted as maxBody
	roomPatience = 5 * time.Second
)

// bodies reads the bodies of requests within bodyRoom.
type bodies struct{ room *semaphore.Weighted }

func newBodies() bodies { return bodies{semaphore.NewWeighted(bodyRoom)} }

// read reads a body up to its bound; release gives its room back. The error of one that is too long leaves the query to
// be answered in the format it asks for.
func (b bodies) read(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	release = func() {}
	if r.ContentLength > maxBody { // before any of it is read
		w.Header().Set("Connection", "close")
		return nil, release, refuse("RequestBody.TooLarge", strconv.Itoa(maxBody))
	}
	from := http.MaxBytesReader(w, r.Body, maxBody)
	var buf bytes.Buffer
	if n := r.ContentLength; n >= 0 {
		buf.Grow(int(min(n, smallBody)) + bytes.MinRead) // what is to be read, and to see that it ends there
	}
	n, err := io.CopyN(&buf, from, smallBody)
	if err == nil && n == smallBody {
		ctx, cancel := context.WithTimeout(r.Context(), roomPatience)
		defer cancel()
		if b.room.Acquire(ctx, maxBody) != nil {
			return nil, release, waybill.Errorf(waybill.Unavailable, "too many large requests at once")
		}
		release = func() { b.room.Release(maxBody) }
		_, err = buf.ReadFrom(from)
	}
	switch _, tooLong := errors.AsType[*http.MaxBytesError](err); {
	case tooLong:
		return nil, release, refuse("RequestBody.TooLarge", strconv.Itoa(maxBody))
	case err != nil && !errors.Is(err, io.EOF):
		return nil, release, refuse("InvalidParameter", "body")
	}
	return buf.Bytes(), release, nil
}
