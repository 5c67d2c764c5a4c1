// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/openwaybill/waybill/internal/identity"
)

func openSealer(t *testing.T, path string) *identity.Sealer {
	t.Helper()
	s, err := identity.OpenSealer(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func checkMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != want {
		t.Errorf("%s has mode %v, want %v", filepath.Base(path), info.Mode(), want)
	}
}

func TestSealer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "seal.key")
	sealed := openSealer(t, path).Seal([]byte("secret"), []byte("row 1"))
	checkMode(t, path, 0o600)
	if bytes.Contains(sealed, []byte("secret")) {
		t.Error("the sealed form shows the secret")
	}
	again := openSealer(t, path)
	if bytes.Equal(again.Seal([]byte("secret"), []byte("row 1")), sealed) {
		t.Error("two seals of one secret are equal")
	}
	altered := bytes.Clone(sealed)
	altered[len(altered)/2] ^= 1
	other := openSealer(t, filepath.Join(t.TempDir(), "seal.key"))
	for _, tt := range []struct {
		name   string
		with   *identity.Sealer
		sealed []byte
		aad    string
		want   string // empty: refused
	}{
		{"reopened key", again, sealed, "row 1", "secret"},
		{"other row", again, sealed, "row 2", ""},
		{"other key", other, sealed, "row 1", ""},
		{"altered", again, altered, "row 1", ""},
		{"cut short", again, sealed[:5], "row 1", ""},
		{"empty", again, nil, "row 1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.with.Open(tt.sealed, []byte(tt.aad))
			if string(got) != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("Open = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestOpenSealerRefusesKeyOfWrongLength(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "seal.key")
	if err := os.WriteFile(path, make([]byte, 31), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.OpenSealer(path); err == nil {
		t.Error("a key of 31 bytes was accepted")
	}
}

// Several servers may start on one empty data directory at once.
func TestOpenSealerRace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "seal.key")
	sealers := make([]*identity.Sealer, 8)
	var wg sync.WaitGroup
	for i := range sealers {
		wg.Go(func() {
			s, err := identity.OpenSealer(path)
			if err != nil {
				t.Error(err)
			}
			sealers[i] = s
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	sealed := sealers[0].Seal([]byte("secret"), nil)
	for i, s := range sealers {
		if _, err := s.Open(sealed, nil); err != nil {
			t.Errorf("sealer %d has another key", i)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("directory holds %v (%v), want the key alone", left, err)
	}
}
