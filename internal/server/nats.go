// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/openwaybill/waybill/internal/bus"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
)

// NATSConfig says what an external NATS cluster is to look like. Database, DataDir and SealKey are those of its servers.
type NATSConfig struct {
	DataDir, Database, SealKey string

	Nodes []bus.Node
	// Names are more host names and addresses that the certificate of every node is good for, such as a load balancer's.
	Names []string
}

// NATSCluster is what a NATS cluster for the servers of a database is made of.
type NATSCluster struct {
	bus.Cluster
	names     []string
	authority *identity.Authority
}

// NATSCredsFile is the name of the file with which servers connect to a cluster.
const NATSCredsFile = "server.creds"

// OpenNATSCluster reads from the database of a server, or begins one, what a NATS cluster for it needs: its operator, its
// CA, and what is revoked. Where a server has run or runs on the database, its data directory or its key file must be
// there.
func OpenNATSCluster(ctx context.Context, cfg NATSConfig, log *slog.Logger) (_ *NATSCluster, err error) {
	s := &Server{cfg: Config{DataDir: cfg.DataDir, Database: cfg.Database, SealKey: cfg.SealKey}, log: log}
	defer func() {
		if s.store != nil {
			err = errors.Join(err, s.store.Close())
		}
	}()
	if err := s.makeDataDir(); err != nil {
		return nil, err
	}
	sealer, err := s.openStore(ctx)
	if err != nil {
		return nil, err
	}
	operator, err := s.openOperator(ctx, sealer)
	if err != nil {
		return nil, err
	}
	authority, err := s.openAuthority(ctx, sealer)
	if err != nil {
		return nil, err
	}
	revoked, err := revocations(s.store, time.Now)(ctx)
	if err != nil {
		return nil, err
	}
	c := &NATSCluster{
		Cluster: bus.Cluster{Nodes: cfg.Nodes, Operator: operator, Revoked: revoked}, names: cfg.Names, authority: authority,
	}
	return c, c.Validate()
}

// WriteConfigs writes the configurations of all nodes, one after the other.
func (c *NATSCluster) WriteConfigs(w io.Writer) error {
	for i := range c.Nodes {
		if err := c.WriteConfig(w, i); err != nil {
			return err
		}
	}
	return nil
}

// WriteFiles writes all that the nodes need, each into a directory of its name below dir, and the credentials of the
// servers beside them. It returns when the certificates end. Files that are there are replaced.
func (c *NATSCluster) WriteFiles(dir string) (until time.Time, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return until, err
	}
	creds, err := c.Operator.ServerCredentialsFile()
	if err != nil {
		return until, err
	}
	if err := writeWhole(filepath.Join(dir, NATSCredsFile), creds, 0o600); err != nil {
		return until, err
	}
	for i, n := range c.Nodes {
		cert, key, end, err := c.authority.NodeCertificate(append([]string{n.Host}, c.names...))
		if err != nil {
			return until, err
		}
		until = end
		var config bytes.Buffer
		if err := c.WriteConfig(&config, i); err != nil {
			return until, err
		}
		own := filepath.Join(dir, n.Name)
		if err := os.MkdirAll(own, 0o700); err != nil {
			return until, err
		}
		for _, f := range []struct {
			name    string
			content []byte
			mode    os.FileMode
		}{
			{bus.NodeConfigFile, config.Bytes(), 0o600},
			{bus.NodeCertFile, cert, 0o644},
			{bus.NodeKeyFile, key, 0o600},
			{bus.NodeCAFile, c.authority.PEM(), 0o644},
		} {
			if err := writeWhole(filepath.Join(own, f.name), f.content, f.mode); err != nil {
				return until, err
			}
		}
	}
	return until, nil
}

// writeWhole replaces the file at path, whole or not at all.
func writeWhole(path string, content []byte, mode os.FileMode) error {
	if err := os.WriteFile(path+".new", content, mode); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return nil
}

// revocations returns what reads the keys that may not connect any more from the store.
func revocations(st *store.Store, now func() time.Time) func(context.Context) (map[string]time.Time, error) {
	return func(ctx context.Context) (map[string]time.Time, error) {
		list, err := st.LeftSince(ctx, now().Add(-maxTokenLife))
		if err != nil {
			return nil, fmt.Errorf("read revocations: %w", err)
		}
		return list, nil
	}
}

// natsAddresses returns where agents find an external cluster: where the servers do, unless it is said.
func natsAddresses(urls string) []string {
	var list []string
	for u := range strings.SplitSeq(urls, ",") {
		if u = strings.TrimSpace(u); u != "" {
			list = append(list, u)
		}
	}
	return list
}
