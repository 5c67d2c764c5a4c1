// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// location says where a store is: in dir, or in a bucket.
type location struct {
	dir string

	bucket   string
	prefix   string // of the keys, without slashes around it
	endpoint string // HOST or HOST:PORT
	plain    bool   // HTTP, on this machine only; else TLS
	region   string // empty: the one of the environment
	lookup   minio.BucketLookupType
}

// amazon is the endpoint if none is given.
const amazon = "s3.amazonaws.com"

// What a URL may be made of. Keys of S3 may hold anything; these need no escaping anywhere.
var (
	prefixPattern = regexp.MustCompile(`^[0-9A-Za-z_-][0-9A-Za-z._-]*(/[0-9A-Za-z_-][0-9A-Za-z._-]*)*$`)
	regionPattern = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)
	hostPattern   = regexp.MustCompile(`^[0-9A-Za-z]([0-9A-Za-z.-]{0,251}[0-9A-Za-z])?$`)
)

// maxPrefix is the longest prefix in bytes: a key may have 1,024, and a digest follows.
const maxPrefix = 512

const usage = "use file:DIR or s3://BUCKET/PREFIX?endpoint=https://HOST:PORT&region=NAME&path-style=true"

// parse reads a URL, see Open. Its errors show no more of it than is known to be no secret: people put keys into URLs.
func parse(text string) (location, error) {
	scheme, rest, _ := strings.Cut(text, ":")
	switch scheme {
	case "file":
		return parseDir(rest)
	case "s3":
		at, err := parseS3(text)
		if err != nil {
			return location{}, fmt.Errorf("URL of an S3 store: %w", err)
		}
		return at, nil
	}
	return location{}, errors.New("the URL of the store of large contents is of no known kind; " + usage)
}

func parseDir(dir string) (location, error) {
	if path, ok := strings.CutPrefix(dir, "//"); ok {
		if !strings.HasPrefix(path, "/") {
			return location{}, errors.New("file://HOST/… is another machine's; use file:DIR")
		}
		dir = path
	}
	if dir == "" || strings.ContainsRune(dir, 0) {
		return location{}, errors.New("file: names no directory; use file:DIR")
	}
	return location{dir: filepath.Clean(dir)}, nil
}

func parseS3(text string) (location, error) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Fragment != "" {
		return location{}, errors.New("it cannot be read; " + usage)
	}
	if u.User != nil {
		return location{}, errors.New("keys do not belong there; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE")
	}
	at := location{bucket: u.Host, endpoint: amazon, prefix: strings.Trim(u.Path, "/")}
	if err := s3utils.CheckValidBucketNameStrict(at.bucket); err != nil {
		return location{}, errors.New("the name of the bucket is not valid; " + usage)
	}
	if at.prefix != "" && (len(at.prefix) > maxPrefix || !prefixPattern.MatchString(at.prefix)) {
		return location{}, fmt.Errorf("the prefix must be names of letters, digits and ._- with / between them, %d bytes at most", maxPrefix)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return location{}, errors.New("its parameters cannot be read; " + usage)
	}
	for name, values := range query {
		if len(values) != 1 {
			return location{}, errors.New("a parameter is given twice; " + usage)
		}
		switch value := values[0]; name {
		case "endpoint":
			if at.endpoint, at.plain, err = parseEndpoint(value); err != nil {
				return location{}, err
			}
		case "region":
			if at.region = value; !regionPattern.MatchString(value) {
				return location{}, errors.New("the region is not valid; use letters, digits and -")
			}
		case "path-style":
			switch value {
			case "true":
				at.lookup = minio.BucketLookupPath
			case "false":
				at.lookup = minio.BucketLookupDNS
			default:
				return location{}, errors.New("path-style must be true or false")
			}
		default:
			return location{}, errors.New("it has a parameter that is not known; " + usage)
		}
	}
	return at, nil
}

// parseEndpoint reads https://HOST:PORT, HOST:PORT, which means the same, or http:// and an address of this machine.
func parseEndpoint(text string) (endpoint string, plain bool, err error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	bad := errors.New("the endpoint must be https://HOST or https://HOST:PORT, or http:// and a loopback address")
	if err != nil || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" || strings.Trim(u.Path, "/") != "" {
		return "", false, bad
	}
	host := u.Hostname()
	ip, err := netip.ParseAddr(host)
	address := err == nil && ip.Zone() == ""
	if !address && !hostPattern.MatchString(host) || strings.HasSuffix(u.Host, ":") {
		return "", false, bad
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", false, bad
		}
	}
	switch u.Scheme {
	case "https":
		return u.Host, false, nil
	case "http":
		if host != "localhost" && (!address || !ip.IsLoopback()) {
			return "", false, errors.New("an endpoint without TLS must be on this machine: contents and signatures would cross the network in clear; use https://")
		}
		return u.Host, true, nil
	}
	return "", false, bad
}

// String returns the URL that means at, without what it would mean anyway.
func (at location) String() string {
	if at.bucket == "" {
		return "file:" + at.dir
	}
	query := url.Values{}
	if at.plain {
		query.Set("endpoint", "http://"+at.endpoint)
	} else if at.endpoint != amazon {
		query.Set("endpoint", "https://"+at.endpoint)
	}
	if at.region != "" {
		query.Set("region", at.region)
	}
	switch at.lookup {
	case minio.BucketLookupPath:
		query.Set("path-style", "true")
	case minio.BucketLookupDNS:
		query.Set("path-style", "false")
	}
	return (&url.URL{Scheme: "s3", Host: at.bucket, Path: at.prefix, RawQuery: query.Encode()}).String()
}
