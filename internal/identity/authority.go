// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Files of an Authority in its directory. Clients and agents need the first.
const (
	CAFile    = "ca.pem"
	caKeyFile = "ca-key.pem"
)

// Lives of certificates. Agents keep the CA they enrolled with, so it outlives any of them; a leaf is short-lived
// because replacing it costs nothing.
const (
	caLife     = 20 * 365 * 24 * time.Hour
	leafLife   = 90 * 24 * time.Hour
	nodeLife   = 2 * 365 * 24 * time.Hour // of what is written to a file, and replaced by people
	leafRenew  = 30 * 24 * time.Hour      // remaining life at which a leaf is replaced
	clockSlack = 24 * time.Hour           // how far behind the clock of a machine may be
)

// Authority is the certificate authority that a server creates for itself (design §10). Keys are ECDSA P-256. It may
// be used by several goroutines.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// OpenAuthority loads the authority in dir: ca.pem and ca-key.pem. What is missing is created, with modes 0644 and
// 0600; a lost ca.pem is issued anew for the key that is there. dir must exist.
func OpenAuthority(dir string) (*Authority, error) {
	a, err := openAuthority(filepath.Join(dir, CAFile), filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, fmt.Errorf("open certificate authority in %s: %w", dir, err)
	}
	return a, nil
}

func openAuthority(certPath, keyPath string) (*Authority, error) {
	keyPEM, err := createOnce(keyPath, 0o600, func() ([]byte, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		return encodeKey(key)
	})
	if err != nil {
		return nil, err
	}
	key, err := decodeKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", caKeyFile, err)
	}
	certPEM, err := createOnce(certPath, 0o644, func() ([]byte, error) { return selfSign(key) })
	if err != nil {
		return nil, err
	}
	return newAuthority(certPEM, key)
}

func newAuthority(certPEM []byte, key *ecdsa.PrivateKey) (*Authority, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM block", CAFile)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CAFile, err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s and %s do not belong together", CAFile, caKeyFile)
	}
	return &Authority{cert: cert, key: key, pem: certPEM}, nil
}

// Marshal returns the certificate and the private key in a form that ParseAuthority reads. Whoever has it can pass for
// any server: store it sealed only.
func (a *Authority) Marshal() ([]byte, error) {
	key, err := encodeKey(a.key)
	return slices.Concat(a.pem, key), err
}

// ParseAuthority is the inverse of Marshal.
func ParseAuthority(b []byte) (*Authority, error) {
	block, rest := pem.Decode(b)
	if block == nil {
		return nil, errors.New("parse certificate authority: no PEM block")
	}
	key, err := decodeKey(rest)
	if err != nil {
		return nil, fmt.Errorf("parse certificate authority: %w", err)
	}
	return newAuthority(pem.EncodeToMemory(block), key)
}

// PEM returns the CA certificate as an agent or a client needs it.
func (a *Authority) PEM() []byte { return slices.Clone(a.pem) }

// Pool returns a pool that trusts this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Certificate issues a server certificate for names, each a DNS name or an IP address.
func (a *Authority) Certificate(names []string) (*tls.Certificate, error) {
	return a.issue(names, leafLife, x509.ExtKeyUsageServerAuth)
}

// NodeCertificate issues the certificate of one of several servers, by which it is known to clients and, as a client
// itself, to the others. It returns the certificate and its private key in PEM form, and until when it is good.
func (a *Authority) NodeCertificate(names []string) (cert, key []byte, until time.Time, err error) {
	c, err := a.issue(names, nodeLife, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, nil, time.Time{}, err
	}
	key, err = encodeKey(c.PrivateKey.(*ecdsa.PrivateKey))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), key, c.Leaf.NotAfter, err
}

func (a *Authority) issue(names []string, life time.Duration, usages ...x509.ExtKeyUsage) (*tls.Certificate, error) {
	if len(names) == 0 {
		return nil, errors.New("issue certificate: no names")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: names[0]},
		NotBefore:   now.Add(-clockSlack),
		NotAfter:    now.Add(life),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: usages,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %q: %w", names, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// ServerTLS returns the configuration of a server known by names. Its certificate is replaced, during a handshake, well
// before it expires.
func (a *Authority) ServerTLS(names []string) (*tls.Config, error) {
	first, err := a.Certificate(names)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	current := first
	return serverTLS(func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Until(current.Leaf.NotAfter) < leafRenew {
			next, err := a.Certificate(names)
			if err != nil {
				return nil, err
			}
			current = next
		}
		return current, nil
	}), nil
}

func serverTLS(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: get}
}

func selfSign(key *ecdsa.PrivateKey) ([]byte, error) {
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Waybill CA"},
		NotBefore:             now.Add(-clockSlack),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func decodeKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a %T, want an ECDSA key", key)
	}
	return ec, nil
}
