// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// reloadInterval is how often a handshake looks whether the files of FileTLS have changed. Reading two small files that
// seldom is cheaper than watching them, and needs no goroutine.
const reloadInterval = 10 * time.Second

// FileTLS returns the configuration of a server with the operator's own certificate chain and key, both PEM files.
// When they change on disk, handshakes use the new pair within ten seconds; a pair that cannot be loaded, perhaps
// because only one of the two has been replaced yet, is logged and the last good one stays.
func FileTLS(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	f := &filePair{certFile: certFile, keyFile: keyFile, log: log}
	if err := f.load(); err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	f.checked = time.Now()
	return serverTLS(f.certificate), nil
}

type filePair struct {
	certFile, keyFile string
	log               *slog.Logger

	mu                sync.Mutex
	checked           time.Time
	certText, keyText []byte
	pair              *tls.Certificate
}

func (f *filePair) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.checked) >= reloadInterval {
		f.checked = now
		if err := f.load(); err != nil {
			f.log.Warn("certificate not reloaded", "file", f.certFile, "err", err)
		}
	}
	return f.pair, nil
}

// load reads both files and, if they differ from what is in use, takes the pair they hold.
func (f *filePair) load() error {
	certText, err := os.ReadFile(f.certFile)
	if err != nil {
		return err
	}
	keyText, err := os.ReadFile(f.keyFile)
	if err != nil {
		return err
	}
	if bytes.Equal(certText, f.certText) && bytes.Equal(keyText, f.keyText) {
		return nil
	}
	pair, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		return err
	}
	f.certText, f.keyText, f.pair = certText, keyText, &pair
	return nil
}
