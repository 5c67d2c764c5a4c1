// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/blob"
	"github.com/openwaybill/waybill/internal/store"
)

// What a delivery does whose content is just being removed: it is put again until the mark is gone.
const (
	condemnedPause    = 100 * time.Millisecond
	condemnedPatience = 5 * time.Second
)

// keep stores a delivery. What the database does not hold is durable in the store of large contents before, so that an
// answered request never lacks its content.
func (s *Service) keep(ctx context.Context, st *store.Store, d *store.NewDelivery) error {
	if d.Held {
		err := st.AddDelivery(ctx, d)
		if errors.Is(err, store.ErrCondemned) {
			err = errNotHeld // it went a moment ago, and there is nothing to put again
		}
		return err
	}
	sent := sha256.Sum256(nil)
	if s.cfg.Blobs != nil {
		d.Large = len(d.Data) > store.MaxContent
		if len(d.Sent) > store.MaxSent && d.ContentType == waybill.Base64 && strings.ContainsAny(d.Sent, "\r\n") {
			sent = sha256.Sum256([]byte(d.Sent))
			d.SentLarge = &sent
		}
	} else if len(d.Data) > store.MaxContent {
		return waybill.Errorf(waybill.Internal, "there is no store for a content of %d bytes", len(d.Data))
	}
	for begun := s.now(); ; {
		if d.Large {
			if err := s.cfg.Blobs.Put(ctx, d.SHA256, d.Size, bytes.NewReader(d.Data)); err != nil {
				return fmt.Errorf("keep the content: %w", err)
			}
		}
		if d.SentLarge != nil {
			if err := s.cfg.Blobs.Put(ctx, sent, int64(len(d.Sent)), strings.NewReader(d.Sent)); err != nil {
				return fmt.Errorf("keep the content as it was sent: %w", err)
			}
		}
		err := st.AddDelivery(ctx, d)
		if !errors.Is(err, store.ErrCondemned) || s.now().Sub(begun) > condemnedPatience || !pause(ctx, condemnedPause) {
			return err
		}
	}
}

// Content returns a content that was left out of a listing, as it was sent. The error has the code ContentLost if it is gone
// or damaged.
func (s *Service) Content(ctx context.Context, ref *waybill.ContentRef) (string, error) {
	text, err := s.readContent(ctx, ref)
	if err != nil {
		if waybill.CodeOf(err) == waybill.ContentLost {
			s.log.Error("a content cannot be shown", "err", err)
		}
		return "", fmt.Errorf("read a content: %w", err)
	}
	return text, nil
}

func (s *Service) readContent(ctx context.Context, ref *waybill.ContentRef) (string, error) {
	r, err := s.openContent(ctx, ref.SHA256, 0)
	if err != nil {
		return "", err
	}
	defer r.Close()
	var text strings.Builder
	text.Grow(int(ref.TextSize()))
	digest := sha256.New()
	to := io.Writer(&text)
	end := func() error { return nil }
	if ref.Base64 {
		w := base64.NewEncoder(base64.StdEncoding, &text)
		to, end = w, w.Close
	}
	n, err := io.Copy(io.MultiWriter(digest, to), io.LimitReader(r, ref.Size))
	if err = errors.Join(err, end()); err != nil {
		return "", err
	}
	if [sha256.Size]byte(digest.Sum(nil)) != ref.SHA256 {
		return "", errLost(ref.SHA256, fmt.Errorf("the %d bytes that are there are others", n))
	}
	return text.String(), nil
}

// openContent opens a content from an offset on, wherever it is.
func (s *Service) openContent(ctx context.Context, digest [32]byte, offset int64) (io.ReadCloser, error) {
	data, err := s.store.Content(ctx, digest)
	if err == nil {
		return io.NopCloser(bytes.NewReader(data[min(offset, int64(len(data))):])), nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if s.cfg.Blobs == nil {
		return nil, errLost(digest, errors.New("this server has no store of large contents"))
	}
	r, _, err := s.cfg.Blobs.Open(ctx, digest, offset)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, errLost(digest, err)
	}
	return r, err
}

func errLost(digest [32]byte, err error) error {
	return &waybill.Error{
		Code: waybill.ContentLost, Err: err,
		Message: fmt.Sprintf("the content %x is lost; restore it from a backup of the store of large contents (--blob)", digest),
	}
}

// Fetch is a content that a machine may have: that of a delivery which is open for it.
type Fetch struct {
	Size   int64     // bytes
	Until  time.Time // its deadline
	SHA256 [32]byte
	// Open opens it from an offset on.
	Open func(ctx context.Context, offset int64) (io.ReadCloser, error)
}

// Fetch returns the content of a delivery that is open for an instance; which attempt at it, wire.AttemptID says. The error has the code DeliveryNotOpen if it is not
// open, or not for that instance.
func (s *Service) Fetch(ctx context.Context, id waybill.InstanceID, delivery waybill.DeliveryID) (Fetch, error) {
	notOpen := waybill.Errorf(waybill.DeliveryNotOpen, "no delivery %.80q is open for this machine", delivery)
	of, attempt := attemptOf(delivery)
	d, err := s.store.OpenContent(ctx, id, of, attempt)
	if errors.Is(err, store.ErrNotFound) {
		return Fetch{}, notOpen
	}
	if err != nil {
		return Fetch{}, fmt.Errorf("fetch: %w", err)
	}
	if gone, err := s.accountGone(ctx, d.Account); err != nil {
		return Fetch{}, fmt.Errorf("fetch: %w", err)
	} else if gone || s.now().After(d.Deadline.Add(s.cfg.Grace)) {
		return Fetch{}, notOpen
	}
	return Fetch{
		Size: d.Size, Until: d.Deadline, SHA256: d.SHA256,
		Open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
			return s.openContent(ctx, d.SHA256, offset)
		},
	}, nil
}

const (
	collectEvery = 6 * time.Hour
	// collectStep bounds one removal. What is condemned for longer than abandonedAfter was by a server that is no more: no
	// request of it is still under way.
	collectStep    = time.Minute
	abandonedAfter = 15 * time.Minute
)

// collect removes large contents that no delivery refers to and that were last put blob.KeepFor ago. It marks each before,
// so that no delivery comes to refer to it meanwhile: a Put that finds it there counts as writing it, but in an S3 store
// nothing makes one step of looking at its age and removing it.
func (s *Service) collect(ctx context.Context) error {
	now := s.now()
	left := now.Add(-abandonedAfter)
	if s.chores.alone {
		left = now.Add(time.Millisecond) // it was this server, in its last life
	}
	for n := sweepBatch; n == sweepBatch && ctx.Err() == nil; {
		list, err := s.store.Condemned(ctx, left, sweepBatch)
		if err != nil {
			return err
		}
		for _, digest := range list {
			if err := s.remove(ctx, digest, now); err != nil {
				return err
			}
		}
		n = len(list)
	}
	removed := 0
	err := s.cfg.Blobs.Walk(ctx, func(e blob.Entry) error {
		if !e.Written.Before(now.Add(-blob.KeepFor)) {
			return nil
		}
		condemned, err := s.store.Condemn(ctx, e.Digest)
		if err != nil || !condemned {
			return err
		}
		removed++
		return s.remove(ctx, e.Digest, now)
	})
	s.metrics.removed.WithLabelValues(removedContents).Add(float64(removed))
	if removed > 0 {
		s.log.Info("removed large contents that no delivery has any more", "count", removed)
	}
	return err
}

// remove removes a condemned content, unless it was written again meanwhile, and takes its mark away.
func (s *Service) remove(ctx context.Context, digest [32]byte, now time.Time) error {
	within, cancel := context.WithTimeout(ctx, collectStep)
	defer cancel()
	if err := s.cfg.Blobs.Delete(within, digest, now.Add(-blob.KeepFor)); err != nil {
		return err
	}
	return s.store.Removed(ctx, digest)
}
