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
// connections, common ones by bodyRoom, and those that a server takes whose limit of a content was raised by largeRoom, so
// that they keep no others waiting.
const (
	commonBody   = 2 << 20   // bytes of the largest form with a content of 512 KiB, each byte escaped to three
	smallBody    = 16 << 10  // bytes that need no room
	bodyRoom     = 256 << 20 // bytes of common bodies at once, each counted as commonBody
	largeRoom    = 128 << 20 // bytes of larger bodies at once, as announced; one that is larger than that comes alone
	roomPatience = 5 * time.Second
	// largePatience is how long a larger one waits, and leastPace what it must bring in a second, beside what any body has
	// of time.
	largePatience = 20 * time.Second
	leastPace     = 256 << 10
)

// bodies reads the bodies of requests within the rooms.
type bodies struct {
	most        int64 // bytes of a body
	room, large *semaphore.Weighted
}

// newBodies takes bodies with as much as maxContent bytes of content, or the published limit if it is less.
func newBodies(maxContent int) bodies {
	return bodies{
		most: max(commonBody, 3*int64(maxContent)+512<<10), // each byte escaped to three, and what is beside
		room: semaphore.NewWeighted(bodyRoom), large: semaphore.NewWeighted(largeRoom),
	}
}

// read reads a body up to its bound; release gives its room back. The error of one that is too long leaves the query to
// be answered in the format it asks for.
func (b bodies) read(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	release = func() {}
	tooLarge := refuse("RequestBody.TooLarge", strconv.FormatInt(b.most, 10))
	if r.ContentLength > b.most { // before any of it is read
		w.Header().Set("Connection", "close")
		return nil, release, tooLarge
	}
	if r.ContentLength > commonBody {
		return b.readLarge(w, r)
	}
	most := int64(commonBody) // of what does not say how long it is
	from := http.MaxBytesReader(w, r.Body, most)
	var buf bytes.Buffer
	if n := r.ContentLength; n >= 0 {
		buf.Grow(int(min(n, smallBody)) + bytes.MinRead) // what is to be read, and to see that it ends there
	}
	n, err := io.CopyN(&buf, from, smallBody)
	if err == nil && n == smallBody {
		ctx, cancel := context.WithTimeout(r.Context(), roomPatience)
		defer cancel()
		if b.room.Acquire(ctx, commonBody) != nil {
			return nil, release, errManyBodies
		}
		release = func() { b.room.Release(commonBody) }
		_, err = buf.ReadFrom(from)
	}
	switch _, tooLong := errors.AsType[*http.MaxBytesError](err); {
	case tooLong:
		return nil, release, refuse("RequestBody.TooLarge", strconv.FormatInt(most, 10))
	case err != nil && !errors.Is(err, io.EOF):
		return nil, release, refuse("InvalidParameter", "body")
	}
	return buf.Bytes(), release, nil
}

var errManyBodies = waybill.Errorf(waybill.Unavailable, "too many large requests at once")

// readLarge reads a body that is longer than common and says so.
func (b bodies) readLarge(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	room := min(r.ContentLength, largeRoom)
	ctx, cancel := context.WithTimeout(r.Context(), largePatience)
	defer cancel()
	if b.large.Acquire(ctx, room) != nil {
		w.Header().Set("Connection", "close") // the body is not read
		return nil, func() {}, errManyBodies
	}
	release = func() { b.large.Release(room) }
	rc, now := http.NewResponseController(w), time.Now()
	pace := time.Duration(r.ContentLength/leastPace+1) * time.Second
	// What net/http gives a body is meant for common ones. An error means that there is no such connection, as in tests.
	_ = rc.SetReadDeadline(now.Add(roomPatience + pace))
	_ = rc.SetWriteDeadline(now.Add(roomPatience + pace + time.Minute))
	body = make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return nil, release, refuse("InvalidParameter", "body")
	}
	_ = rc.SetReadDeadline(time.Time{}) // nothing is read while it is answered
	return body, release, nil
}
