// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"fmt"
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
	if created {
		s.first = first
	}
	return err
}

func (s *Server) writeCredentials(cred control.Credential) (*Credentials, error) {
	c := &Credentials{
		AccountID: cred.Key.Account, AccessKeyID: cred.Key.ID, AccessKeySecret: cred.Secret,
		Endpoint: "https://" + reachable(s.Addr("https")), Region: s.cfg.Control.Regions[0],
	}
	if s.authority != nil {
		ca, err := filepath.Abs(filepath.Join(s.cfg.DataDir, "ca.pem"))
		if err != nil {
			return nil, fmt.Errorf("write credentials: %w", err)
		}
		c.CA = ca
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write credentials: %w", err)
	}
	if err := os.WriteFile(filepath.Join(s.cfg.DataDir, CredentialsFile), append(b, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("write credentials: %w", err)
	}
	return c, nil
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
