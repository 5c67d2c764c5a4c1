// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// s3 is a bucket, or what is below a prefix in it. The key of a content is its digest. What is larger than a part is
// uploaded in parts: each can be sent again, and nothing is to be seen before the last request, which is made when the
// digest has been verified.
type s3 struct {
	at     location
	client *minio.Core
	now    func() time.Time
	stall  time.Duration // see stallPatience

	partSize int64 // in bytes: what a Put holds in memory
	page     int   // names listed at a time
}

const (
	partSize = 5 << 20 // the least that S3 allows for a part that is not the last
	listPage = 1000    // the most that S3 gives at a time
	// patience bounds how long a request is tried again without success where the context does not.
	patience = 30 * time.Second
	// stallPatience is how long a request stands still, before its answer begins or in the middle of a content.
	stallPatience = 15 * time.Second
	// pauseFirst and pauseMost are the pauses between tries, which double.
	pauseFirst, pauseMost = 50 * time.Millisecond, 2 * time.Second
	// abortPatience is how long giving up an upload may take.
	abortPatience = 10 * time.Second
	defaultRegion = "us-east-1" // what S3 itself calls no region
)

// codes of S3 that are looked at.
const (
	codeNoSuchKey    = "NoSuchKey"
	codeNoSuchUpload = "NoSuchUpload"
	codeNoSuchBucket = "NoSuchBucket"
)

func openS3(ctx context.Context, at location) (Store, error) {
	s, err := newS3(at, stallPatience)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", at, err)
	}
	var there bool
	if err := s.retry(ctx, func() (err error) {
		there, err = s.client.BucketExists(ctx, at.bucket)
		return err
	}); err != nil {
		return nil, fmt.Errorf("open %s: %w", at, err)
	}
	if !there {
		return nil, fmt.Errorf("open %s: there is no such bucket; create it, or name another", at)
	}
	return s, nil
}

func newS3(at location, stall time.Duration) (*s3, error) {
	region := at.region
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if region == "" {
			region = os.Getenv(name)
		}
	}
	if region == "" {
		region = defaultRegion
	}
	keys := credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}})
	if v, err := keys.GetWithContext(nil); err != nil || v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return nil, errors.New("there are no keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE")
	}
	transport, err := minio.DefaultTransport(!at.plain)
	if err != nil {
		return nil, err
	}
	transport.ResponseHeaderTimeout = stall
	client, err := minio.NewCore(at.endpoint, &minio.Options{
		Creds: keys, Secure: !at.plain, Region: region, BucketLookup: at.lookup, Transport: transport,
		MaxRetries: 1, // trying again is ours: with pauses, and as long as the context allows
	})
	if err != nil {
		return nil, err
	}
	return &s3{at: at, client: client, now: time.Now, stall: stall, partSize: partSize, page: listPage}, nil
}

func (s *s3) Close() error { return nil }

func (s *s3) key(digest [sha256.Size]byte) string { return s.base() + fmt.Sprintf("%x", digest) }

// base is what all keys begin with.
func (s *s3) base() string {
	if s.at.prefix == "" {
		return ""
	}
	return s.at.prefix + "/"
}

// retry calls fn until it succeeds, fails for good, or ctx or the patience ends.
func (s *s3) retry(ctx context.Context, fn func() error) error {
	begin := time.Now()
	for pause := pauseFirst; ; pause = min(2*pause, pauseMost) {
		err := fn()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && !passing(err) {
			return explained(err)
		}
		if time.Since(begin) > patience {
			return away(err)
		}
		select {
		case <-ctx.Done():
			return away(errors.Join(ctx.Err(), err))
		case <-time.After(pause):
		}
	}
}

// passing reports whether the same request may succeed later.
func passing(err error) bool {
	if _, ok := errors.AsType[*final](err); ok {
		return false
	}
	if r, ok := errors.AsType[minio.ErrorResponse](err); ok {
		switch r.StatusCode {
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
			return true
		case http.StatusNotImplemented:
			return false
		}
		// 0: a code in the middle of an answer that began well.
		return r.StatusCode >= 500 || slices.Contains([]string{
			"InternalError", "RequestTimeout", "SlowDown", "ServiceUnavailable", "OperationAborted",
		}, r.Code)
	}
	// Everything else is the network's, or TLS's, where trying again does not help.
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	return !certificate && !authority && !host && !record
}

// final is an error of the caller's side, which no request repairs.
type final struct{ error }

func (f *final) Unwrap() error { return f.error }

// explained adds to an error of S3 what to do about it.
func explained(err error) error {
	switch minio.ToErrorResponse(err).Code {
	case "AccessDenied":
		return fmt.Errorf("the key may not do this; it needs to list the bucket and its uploads, and to read, write and delete below the prefix: %w", err)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken":
		return fmt.Errorf("the S3 store refuses the key; check the AWS_… variables or the file of keys: %w", err)
	case codeNoSuchBucket:
		return fmt.Errorf("the bucket is gone; create it again: %w", err)
	case "RequestTimeTooSkewed":
		return fmt.Errorf("the clocks of this machine and the S3 store differ too much; set them: %w", err)
	}
	return err
}

// isCode reports whether S3 answered with a code.
func isCode(err error, code string) bool {
	r, ok := errors.AsType[minio.ErrorResponse](err)
	return ok && r.Code == code
}

// stat returns what S3 knows of a content, or ErrNotFound.
func (s *s3) stat(ctx context.Context, digest [sha256.Size]byte) (info minio.ObjectInfo, err error) {
	err = s.retry(ctx, func() (err error) {
		info, err = s.client.StatObject(ctx, s.at.bucket, s.key(digest), minio.StatObjectOptions{})
		return err
	})
	if isCode(err, codeNoSuchKey) {
		err = ErrNotFound
	}
	return info, err
}

func (s *s3) Put(ctx context.Context, digest [sha256.Size]byte, size int64, r io.Reader) error {
	if err := checkSize(digest, size); err != nil {
		return err
	}
	info, err := s.stat(ctx, digest)
	if err == nil && info.Size == size && s.now().Sub(info.LastModified) < RenewAfter {
		return nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("put %x: %w", digest, err)
	}
	// What is old is written again: that makes it new, which touching it would not do in every store.
	src := newSource(ctx, digest, size, r)
	if size > s.partSize {
		return s.putParts(ctx, src, size)
	}
	content := make([]byte, size)
	if _, err := io.ReadFull(src, content); err != nil && !ended(err) {
		return fmt.Errorf("put %x: %w", digest, err)
	}
	if err := src.verify(); err != nil {
		return err
	}
	// The digest is given; what is disabled is signing every 64 KiB with one of its own, which not every store takes.
	if err := s.retry(ctx, func() error {
		within, body := s.lend(ctx, content)
		defer body.takeBack()
		_, err := s.client.PutObject(within, s.at.bucket, s.key(digest), body, size, "",
			fmt.Sprintf("%x", digest), minio.PutObjectOptions{DisableContentSha256: true})
		return err
	}); err != nil {
		return fmt.Errorf("put %x: %w", digest, err)
	}
	return nil
}

// ended reports whether reading failed because there is no more, which verify judges.
func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// putParts uploads more than a part.
func (s *s3) putParts(ctx context.Context, src *source, size int64) (err error) {
	key, id := s.key(src.digest), ""
	defer func() {
		if err != nil && id != "" {
			s.abort(ctx, key, id)
		}
	}()
	if err := s.retry(ctx, func() (err error) {
		id, err = s.client.NewMultipartUpload(ctx, s.at.bucket, key, minio.PutObjectOptions{})
		return err
	}); err != nil {
		return fmt.Errorf("put %x: %w", src.digest, err)
	}
	var parts []minio.CompletePart
	buffer := make([]byte, s.partSize)
	for src.left > 0 {
		part := buffer[:min(s.partSize, src.left)]
		switch _, err := io.ReadFull(src, part); {
		case err != nil && ended(err):
			return src.verify()
		case err != nil:
			return fmt.Errorf("put %x: %w", src.digest, err)
		}
		if src.left == 0 { // before the last part is sent, as it costs nothing
			if err := src.verify(); err != nil {
				return err
			}
		}
		sent, err := s.sendPart(ctx, key, id, len(parts)+1, part)
		if err != nil {
			return fmt.Errorf("put %x: %w", src.digest, err)
		}
		parts = append(parts, sent)
	}
	if err := s.complete(ctx, src.digest, size, id, parts); err != nil {
		return fmt.Errorf("put %x: %w", src.digest, err)
	}
	return nil
}

// sendPart uploads one part.
func (s *s3) sendPart(ctx context.Context, key, id string, number int, part []byte) (minio.CompletePart, error) {
	var sent minio.ObjectPart
	sum := fmt.Sprintf("%x", sha256.Sum256(part))
	err := s.retry(ctx, func() (err error) {
		within, body := s.lend(ctx, part)
		defer body.takeBack()
		sent, err = s.client.PutObjectPart(within, s.at.bucket, key, id, number, body, int64(len(part)),
			minio.PutObjectPartOptions{Sha256Hex: sum, DisableContentSha256: true})
		return err
	})
	return minio.CompletePart{PartNumber: sent.PartNumber, ETag: sent.ETag}, err
}

// complete makes a content of its parts.
func (s *s3) complete(ctx context.Context, digest [sha256.Size]byte, size int64, id string, parts []minio.CompletePart) error {
	err := s.retry(ctx, func() error {
		_, err := s.client.CompleteMultipartUpload(ctx, s.at.bucket, s.key(digest), id, parts, minio.PutObjectOptions{})
		return err
	})
	if isCode(err, codeNoSuchUpload) {
		// It may have been completed by a try whose answer was lost.
		var info minio.ObjectInfo
		if info, err = s.stat(ctx, digest); err == nil && info.Size != size {
			err = away(fmt.Errorf("there are %d of %d bytes", info.Size, size))
		}
	}
	return err
}

// lent is a part in the hands of a transport, which may go on reading when its request has long failed. The buffer can be
// used again when it has been taken back.
type lent struct {
	stall time.Duration
	watch *time.Timer // ends the request when nothing is read, or nothing answered
	end   context.CancelFunc

	mu sync.Mutex
	r  *bytes.Reader // nil: taken back
}

// lend returns a body for one request, and the context of that.
func (s *s3) lend(ctx context.Context, part []byte) (context.Context, *lent) {
	ctx, cancel := context.WithCancel(ctx)
	return ctx, &lent{stall: s.stall, watch: time.AfterFunc(s.stall, cancel), end: cancel, r: bytes.NewReader(part)}
}

func (l *lent) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.r == nil {
		return 0, errors.New("the request has ended")
	}
	l.watch.Reset(l.stall)
	return l.r.Read(p)
}

func (l *lent) takeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watch.Stop()
	l.end()
	l.r = nil
}

// abort gives up an upload, also when ctx has ended. What it cannot remove, Walk will.
func (s *s3) abort(ctx context.Context, key, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortPatience)
	defer cancel()
	_ = s.client.AbortMultipartUpload(ctx, s.at.bucket, key, id)
}

func (s *s3) Open(ctx context.Context, digest [sha256.Size]byte, offset int64) (io.ReadCloser, int64, error) {
	info, err := s.stat(ctx, digest)
	if err == nil {
		err = checkOffset(digest, offset, info.Size)
	}
	o := &object{s: s, ctx: ctx, digest: digest, offset: offset, size: info.Size}
	if err == nil && offset < info.Size {
		err = s.retry(ctx, o.request)
	}
	switch {
	case errors.Is(err, ErrNotFound) || isCode(err, codeNoSuchKey):
		return nil, 0, ErrNotFound
	case err != nil:
		return nil, 0, fmt.Errorf("open %x: %w", digest, err)
	}
	return o, info.Size, nil
}

// object is a content that is being read. When the connection fails, it goes on over another.
type object struct {
	s      *s3
	ctx    context.Context
	digest [sha256.Size]byte
	offset int64 // of the next byte
	size   int64
	body   io.ReadCloser // nil: none yet, or the one there was has failed
	end    context.CancelFunc
}

// request asks for all that is left.
func (o *object) request() error {
	var opts minio.GetObjectOptions
	if o.offset > 0 {
		if err := opts.SetRange(o.offset, 0); err != nil {
			return &final{err}
		}
	}
	ctx, cancel := context.WithCancel(o.ctx)
	body, info, _, err := o.s.client.GetObject(ctx, o.s.at.bucket, o.s.key(o.digest), opts)
	if err != nil {
		cancel()
		return err
	}
	if info.Size != o.size-o.offset {
		cancel()
		body.Close()
		return &final{fmt.Errorf("the S3 store gives %d bytes where %d were asked for; it must know ranges", info.Size, o.size-o.offset)}
	}
	o.body, o.end = body, cancel
	return nil
}

func (o *object) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := o.ctx.Err(); err != nil {
		return 0, fmt.Errorf("read %x: %w", o.digest, err)
	}
	if o.offset == o.size {
		return 0, io.EOF
	}
	err = o.s.retry(o.ctx, func() error {
		if o.body == nil {
			if err := o.request(); err != nil {
				return err
			}
		}
		watch := time.AfterFunc(o.s.stall, o.end)
		n, err = o.body.Read(p)
		watch.Stop()
		if n > 0 {
			return nil // an error will come again
		}
		o.drop()
		if err == nil || errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read %x: %w", o.digest, err)
	}
	n = int(min(int64(n), o.size-o.offset))
	o.offset += int64(n)
	return n, nil
}

// drop gives up the connection, if there is one.
func (o *object) drop() {
	if o.body != nil {
		o.end()
		o.body.Close()
		o.body = nil
	}
}

// Close never fails: what has not been read is not wanted.
func (o *object) Close() error {
	o.drop()
	return nil
}

func (s *s3) Delete(ctx context.Context, digest [sha256.Size]byte, before time.Time) error {
	if !before.IsZero() {
		info, err := s.stat(ctx, digest)
		if errors.Is(err, ErrNotFound) || err == nil && !info.LastModified.Before(before) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("delete %x: %w", digest, err)
		}
	}
	if err := s.retry(ctx, func() error {
		return s.client.RemoveObject(ctx, s.at.bucket, s.key(digest), minio.RemoveObjectOptions{})
	}); err != nil && !isCode(err, codeNoSuchKey) {
		return fmt.Errorf("delete %x: %w", digest, err)
	}
	return nil
}

// Walk also removes uploads that were begun more than UploadFor ago: whoever made them has died, or was given up by their
// clients.
func (s *s3) Walk(ctx context.Context, fn func(Entry) error) error {
	if err := s.clear(ctx); err != nil {
		return fmt.Errorf("remove uploads that were never finished: %w", err)
	}
	for after := ""; ; {
		var page []minio.ObjectInfo
		if err := s.retry(ctx, func() error {
			page = page[:0]
			for info := range s.client.ListObjectsIter(ctx, s.at.bucket, minio.ListObjectsOptions{
				Prefix: s.base(), Recursive: true, StartAfter: after, MaxKeys: s.page,
			}) {
				if info.Err != nil {
					return info.Err
				}
				if page = append(page, info); len(page) == s.page {
					break
				}
			}
			return ctx.Err()
		}); err != nil {
			return fmt.Errorf("list large contents: %w", err)
		}
		for _, info := range page {
			digest, ok := digestOf(info.Key[len(s.base()):])
			if !ok {
				continue
			}
			if err := fn(Entry{Digest: digest, Size: info.Size, Written: info.LastModified}); err != nil {
				return err
			}
		}
		if len(page) < s.page {
			return nil
		}
		after = page[len(page)-1].Key
	}
}

func (s *s3) clear(ctx context.Context) error {
	return s.retry(ctx, func() error {
		within, cancel := context.WithCancel(ctx) // ends the listing
		defer cancel()
		for up := range s.client.ListIncompleteUploads(within, s.at.bucket, s.base(), true) {
			if isCode(up.Err, codeNoSuchUpload) {
				// It ended between the listing and the look at its parts; or there is none, which some stores say like
				// that. The next walk sees the others.
				return nil
			}
			if up.Err != nil {
				return up.Err
			}
			if _, ok := digestOf(up.Key[len(s.base()):]); !ok || s.now().Sub(up.Initiated) < UploadFor {
				continue
			}
			if err := s.client.AbortMultipartUpload(ctx, s.at.bucket, up.Key, up.UploadID); err != nil && !isCode(err, codeNoSuchUpload) {
				return err
			}
		}
		return ctx.Err()
	})
}
