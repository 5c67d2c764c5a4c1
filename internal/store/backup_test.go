// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
)

// TestCopySQLite copies a database while it is written to. The copy must be as the database was at one moment: each write
// with its audit record, in the order in which they were made, and nothing missing that was there before.
func TestCopySQLite(t *testing.T) {
	t.Parallel()
	f := openOnSQLite(t)
	add := func(i int) error {
		name := fmt.Sprintf("account-%06d", i)
		act := &waybill.Act{Principal: waybill.Principal{Account: "a", Kind: waybill.OperatorActor}, Action: name}
		return f.For(act, nil).AddAccount(t.Context(), waybill.Account{ID: waybill.AccountID(name), Name: name, Created: epoch},
			testKey(name+"-key", waybill.AccountID(name)))
	}
	// Content makes the database so large that the copy takes several steps.
	for i := range 40 {
		f.delivery(fmt.Sprintf("f-%d", i), 1, func(d *NewDelivery) {
			d.Data = []byte(strings.Repeat(fmt.Sprintf("%08d", i), 32<<10))
			d.SHA256 = sha256.Sum256(d.Data)
		})
	}
	const before = 50
	for i := range before {
		if err := add(i); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(t.TempDir(), "copy.db")
	var (
		eg, ended = errgroup.WithContext(t.Context())
		written   atomic.Int64
		wrote     = make(chan struct{})
		done      = make(chan struct{})
	)
	eg.Go(func() error {
		for i := before; ; i++ {
			select {
			case <-done:
				return nil
			default:
			}
			if err := add(i); err != nil {
				return err
			}
			written.Store(int64(i + 1))
			select {
			case wrote <- struct{}{}:
			default:
			}
		}
	})
	steps, last := 0, 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := CopySQLite(ctx, f.path, to, func(done, all int) {
		if steps++; done <= last || done > all {
			t.Errorf("step %d: %d of %d pages after %d", steps, done, all, last)
			cancel() // it begins again and again
		}
		last = done
		for range 2 { // a write between any two steps
			select {
			case <-wrote:
			case <-ended.Done():
			}
		}
	})
	close(done)
	if err := errors.Join(err, eg.Wait()); err != nil {
		t.Fatal(err)
	}
	if steps < 3 {
		t.Errorf("copied in %d steps", steps)
	}
	if info, err := os.Stat(to); err != nil || info.Mode() != 0o600 {
		t.Errorf("the copy: %v, %v", info.Mode(), err)
	}

	s, err := Open(t.Context(), Config{URL: "sqlite:" + to, AuditKey: auditKey, KeepSchema: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	accounts, err := s.Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.VerifyAudit(t.Context(), "a")
	if err != nil || v.Problem != "" {
		t.Errorf("audit trail of the copy: %+v, %v", v, err)
	}
	n := len(accounts) - 1 // "a" came without a record
	if n < before || n >= int(written.Load()) || v.Records != int64(n) {
		t.Errorf("%d accounts and %d records in the copy; %d were there before, %d after", n, v.Records, before, written.Load())
	}
	for i, a := range accounts[1:] {
		if want := fmt.Sprintf("account-%06d", i); a.Name != want {
			t.Fatalf("account %d of the copy is %s, not %s", i, a.Name, want)
		}
	}

	if err := CopySQLite(t.Context(), f.path, to, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if _, err := os.Stat(to); err != nil {
		t.Errorf("the file that was there: %v", err)
	}
}

func TestCopySQLiteFails(t *testing.T) {
	t.Parallel()
	f := openOnSQLite(t)
	to := filepath.Join(t.TempDir(), "copy.db")
	gone := func() {
		t.Helper()
		if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left behind: %v", err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := CopySQLite(ended, f.path, to, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	gone()
	if err := CopySQLite(t.Context(), filepath.Join(t.TempDir(), "none.db"), to, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
	gone()

	if err := CopySQLite(t.Context(), f.path, to, nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(b) / 2; i < len(b)/2+8192; i++ {
		b[i] ^= 0xff
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckSQLite(t.Context(), to); err == nil {
		t.Error("a damaged database passed")
	}
}
