// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// assets are scripts, styles and pictures, compressed once. Their addresses change when they do, so browsers keep them for good.
type assets map[string]asset

type asset struct {
	mark        string // of its content
	contentType string
	plain       []byte
	packed      []byte // gzip
}

func loadAssets() (assets, error) {
	all := assets{}
	names, err := fs.ReadDir(files, "assets")
	if err != nil {
		return nil, err
	}
	for _, e := range names {
		b, err := files.ReadFile("assets/" + e.Name())
		if err != nil {
			return nil, err
		}
		var packed bytes.Buffer
		w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(b); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		d := sha256.Sum256(b)
		all[e.Name()] = asset{hex.EncodeToString(d[:6]), mime.TypeByExtension(path.Ext(e.Name())), b, packed.Bytes()}
	}
	return all, nil
}

func (a assets) url(name string) string {
	return Path + "assets/" + a[name].mark + "/" + name
}

func (a assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found, ok := a[r.PathValue("name")]
	if !ok || found.mark != r.PathValue("mark") {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", found.contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body := found.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = found.packed
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}
