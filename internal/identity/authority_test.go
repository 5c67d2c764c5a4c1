// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openwaybill/waybill/internal/identity"
)

func openAuthority(t *testing.T, dir string) *identity.Authority {
	t.Helper()
	a, err := identity.OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// handshake connects a client to a server over real TCP and returns the client's error.
func handshake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.(*tls.Conn).HandshakeContext(t.Context()) // the client's side of the story is the one checked
	}()
	defer func() { l.Close(); <-done }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return tls.Client(c, client).HandshakeContext(ctx)
}

func TestAuthorityHandshakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := openAuthority(t, dir)
	checkMode(t, filepath.Join(dir, "ca.pem"), 0o644)
	checkMode(t, filepath.Join(dir, "ca-key.pem"), 0o600)
	server, err := ca.ServerTLS([]string{"waybill.example", "127.0.0.1", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	fromFile := x509.NewCertPool()
	if text, err := os.ReadFile(filepath.Join(dir, "ca.pem")); err != nil || !fromFile.AppendCertsFromPEM(text) {
		t.Fatalf("ca.pem: %v", err)
	}
	fromMemory := x509.NewCertPool()
	fromMemory.AppendCertsFromPEM(ca.PEM())
	for _, tt := range []struct {
		name   string
		client *tls.Config
		ok     bool
	}{
		{"DNS name", &tls.Config{RootCAs: fromFile, ServerName: "waybill.example"}, true},
		{"IPv4", &tls.Config{RootCAs: fromMemory, ServerName: "127.0.0.1"}, true},
		{"IPv6", &tls.Config{RootCAs: ca.Pool(), ServerName: "::1"}, true},
		{"after a restart", &tls.Config{RootCAs: openAuthority(t, dir).Pool(), ServerName: "127.0.0.1"}, true},
		{"other name", &tls.Config{RootCAs: ca.Pool(), ServerName: "other.example"}, false},
		{"other authority", &tls.Config{RootCAs: openAuthority(t, t.TempDir()).Pool(), ServerName: "127.0.0.1"}, false},
		{"TLS 1.2", &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1", MaxVersion: tls.VersionTLS12}, true},
		{"TLS 1.1", &tls.Config{
			RootCAs: ca.Pool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := handshake(t, server, tt.client); (err == nil) != tt.ok {
				t.Errorf("handshake: %v, want success: %v", err, tt.ok)
			}
		})
	}
}

func TestAuthorityFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		ok     bool
	}{
		{"certificate lost, key kept", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"certificate of another key", func(t *testing.T, dir string) {
			other := openAuthority(t, t.TempDir()).PEM()
			if err := os.WriteFile(filepath.Join(dir, "ca.pem"), other, 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"key cut short", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "ca-key.pem"), 40); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"certificate empty", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "ca.pem"), 0); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"directory missing", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			before := openAuthority(t, dir)
			tt.damage(t, dir)
			after, err := identity.OpenAuthority(dir)
			if (err == nil) != tt.ok {
				t.Fatalf("OpenAuthority: %v, want success: %v", err, tt.ok)
			}
			if tt.ok {
				// Agents still hold the old certificate: it must verify what the new one issues.
				cert, err := after.Certificate([]string{"host"})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: before.Pool(), DNSName: "host"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestCertificateNeedsNames(t *testing.T) {
	t.Parallel()
	if _, err := openAuthority(t, t.TempDir()).Certificate(nil); err == nil {
		t.Error("a certificate for nobody was issued")
	}
}

// leaf returns the certificate that a handshake with cfg would use now.
func leaf(t *testing.T, cfg *tls.Config) *x509.Certificate {
	t.Helper()
	pair, err := cfg.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func TestServerTLSRenewsItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ca := openAuthority(t, t.TempDir())
		cfg, err := ca.ServerTLS([]string{"host"})
		if err != nil {
			t.Fatal(err)
		}
		first := leaf(t, cfg)
		<-time.After(24 * time.Hour)
		if !leaf(t, cfg).Equal(first) {
			t.Error("a fresh certificate was replaced")
		}
		for range 12 { // each month of a year
			<-time.After(30 * 24 * time.Hour)
			current := leaf(t, cfg)
			if left := time.Until(current.NotAfter); left < 7*24*time.Hour {
				t.Errorf("a certificate with %v left is in use", left)
			}
			if _, err := current.Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: "host"}); err != nil {
				t.Error(err)
			}
		}
		if leaf(t, cfg).Equal(first) {
			t.Error("the certificate was never replaced")
		}
	})
}

// writePair issues a certificate as the operator's own authority would, and writes it where FileTLS finds it.
func writePair(t *testing.T, ca *identity.Authority, certFile, keyFile string) *x509.Certificate {
	t.Helper()
	pair, err := ca.Certificate([]string{"host"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certText := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	keyText := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	if err := errors.Join(os.WriteFile(certFile, certText, 0o600), os.WriteFile(keyFile, keyText, 0o600)); err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func TestFileTLSReloads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		ca := openAuthority(t, dir)
		var logged bytes.Buffer
		log := slog.New(slog.NewTextHandler(&logged, nil))
		if _, err := identity.FileTLS(certFile, keyFile, log); err == nil {
			t.Error("absent files were accepted")
		}
		first := writePair(t, ca, certFile, keyFile)
		cfg, err := identity.FileTLS(certFile, keyFile, log)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.MinVersion != tls.VersionTLS12 || !leaf(t, cfg).Equal(first) {
			t.Error("the files given are not what is used")
		}
		second := writePair(t, ca, certFile, keyFile)
		<-time.After(10 * time.Second)
		if !leaf(t, cfg).Equal(second) {
			t.Error("the changed pair is not used")
		}
		if logged.Len() > 0 {
			t.Errorf("logged %q", &logged)
		}
		writePair(t, ca, certFile, filepath.Join(dir, "key-not-yet-in-place.pem"))
		<-time.After(10 * time.Second)
		if !leaf(t, cfg).Equal(second) {
			t.Error("a certificate without its key replaced a good pair")
		}
		if !strings.Contains(logged.String(), "certificate not reloaded") {
			t.Error("the failed reload was not logged")
		}
		if err := os.Remove(certFile); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Second)
		if !leaf(t, cfg).Equal(second) {
			t.Error("a removed file ended service")
		}
		third := writePair(t, ca, certFile, keyFile)
		<-time.After(10 * time.Second)
		if !leaf(t, cfg).Equal(third) {
			t.Error("the repaired pair is not used")
		}
	})
}
