// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// Credentials is what DataDir/credentials.json holds: the first key, and how to reach the server with it.
type Credentials struct {
	AccountID       waybill.AccountID `json:"account_id"`
	AccessKeyID     string            `json:"access_key_id"`
	AccessKeySecret string            `json:"access_key_secret"`
	Endpoint        string            `json:"endpoint"`
	CA              string            `json:"ca,omitempty"` // a file
	Region          string            `json:"region"`
}

// CredentialsFile is the name of that file in the data directory.
const CredentialsFile = "credentials.json"

// bootstrap makes the first account and key of an empty database, and writes them to the credentials file.
func (s *Server) bootstrap(ctx context.Context) error {
	var first *Credentials
	created, err := s.control.Bootstrap(ctx, s.cfg.BootstrapID, s.cfg.BootstrapKey, func(c control.Credential) (err error) {
		first, err = s.writeCredentials(c)
		return err
	})
	switch {
	case created:
		s.first = first
	case err == nil && first != nil: // another server of the database was faster, and its key is the one that counts
		err = os.Remove(s.credentialsPath())
	}
	return err
}

func (s *Server) writeCredentials(cred control.Credential) (*Credentials, error) {
	c := &Credentials{
		AccountID: cred.Key.Account, AccessKeyID: cred.Key.ID, AccessKeySecret: cred.Secret, Region: s.cfg.Control.Regions[0],
	}
	if err := s.addAddress(c); err != nil {
		return nil, err
	}
	return c, c.write(s.credentialsPath())
}

// addAddress says where the server is now.
func (s *Server) addAddress(c *Credentials) error {
	c.Endpoint, c.CA = "https://"+reachable(s.Addr("https")), ""
	if s.authority == nil {
		return nil
	}
	ca, err := filepath.Abs(filepath.Join(s.cfg.DataDir, "ca.pem"))
	if err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	c.CA = ca
	return nil
}

// refreshCredentials keeps the credentials file true when the server has come back at another address. The file is the
// operator's: one that was removed stays so, and one that was changed into something else is left alone.
func (s *Server) refreshCredentials() error {
	b, err := os.ReadFile(s.credentialsPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read credentials: %w", err)
	}
	var c Credentials
	if err := json.Unmarshal(b, &c); err != nil {
		s.log.Warn("credentials file left alone, it is not as the server writes it", "path", s.credentialsPath(), "err", err)
		return nil
	}
	was := c
	if err := s.addAddress(&c); err != nil || c == was {
		return err
	}
	return c.write(s.credentialsPath())
}

func (s *Server) credentialsPath() string { return filepath.Join(s.cfg.DataDir, CredentialsFile) }

// write replaces the file at path, whole or not at all.
func (c *Credentials) write(path string) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	if err := writeWhole(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	return nil
}

// reachable turns the address of a listener on all interfaces into one on this machine.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// First returns the first key if this run of the server has made it, and nil otherwise. It is shown once.
func (s *Server) First() *Credentials { return s.first }
