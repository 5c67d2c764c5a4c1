// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
)

const (
	bareAnswers    = "bare.answers"
	bareAnswer     = 100 // bytes; about what a report takes
	natsReadyIn    = 10 * time.Second
	connectAtOnce  = 8
	handshakeLimit = 30 // seconds
)

// startBareNATS starts a NATS server that has TLS, as ours, and no accounts.
func startBareNATS(dir string) (*natsserver.Server, error) {
	ca, err := identity.OpenAuthority(dir)
	if err != nil {
		return nil, err
	}
	config, err := ca.ServerTLS([]string{"127.0.0.1"})
	if err != nil {
		return nil, err
	}
	srv, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true, TLS: true, TLSConfig: config,
		TLSHandshakeFirst: true, TLSTimeout: handshakeLimit, AuthTimeout: handshakeLimit + 1, PingInterval: time.Minute,
	})
	if err != nil {
		return nil, err
	}
	srv.Start()
	if !srv.ReadyForConnections(natsReadyIn) {
		srv.Shutdown()
		return nil, errors.New("the bare NATS server does not start")
	}
	return srv, nil
}

// connectBare makes n bare TLS connections to a bare server. Each subscribes to the subject of its number, which first is
// added to; handle is told the number without it.
func connectBare(
	ctx context.Context, addr string, config *tls.Config, first, n int, handle func(i int, c *nats.Conn, m *nats.Msg),
) ([]*nats.Conn, error) {
	conns := make([]*nats.Conn, n)
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(connectAtOnce)
	for i := range conns {
		eg.Go(func() error {
			c, err := nats.Connect("tls://"+addr, nats.Secure(config), nats.TLSHandshakeFirst(), nats.NoReconnect(),
				nats.Timeout(natsReadyIn))
			if err != nil {
				return err
			}
			conns[i] = c
			if _, err := c.Subscribe(bareSubject(first+i), func(m *nats.Msg) { handle(i, c, m) }); err != nil {
				return err
			}
			return flush(ctx, c)
		})
	}
	err := eg.Wait()
	if err != nil {
		closeAll(conns)
	}
	return conns, err
}

func bareSubject(i int) string { return "bare.to." + strconv.Itoa(i) }

func closeAll(conns []*nats.Conn) {
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

// bareFleet does what a delivery cannot do without: a message to each machine, the file written and synced, an answer
// of each, one insert and one update of everything.
type bareFleet struct {
	n       int
	srv     *natsserver.Server
	pub     *nats.Conn
	stop    func() error // of the machines
	answers chan *nats.Msg
	db      *sql.DB
	list    string // JSON array of the machines' names
	round   int
}

func (b *bench) openBareFleet(ctx context.Context, n int) (_ *bareFleet, err error) {
	dir, err := b.scratch("floor")
	if err != nil {
		return nil, err
	}
	f := &bareFleet{n: n, answers: make(chan *nats.Msg, n)}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.db, err = b.openBareDatabase(ctx, dir); err != nil {
		return nil, err
	}
	names := make([]string, n)
	for i := range n {
		names[i] = fmt.Sprintf("mi-hz%030d", i)
		if err := os.MkdirAll(machineIn(dir, i).root, 0o755); err != nil {
			return nil, err
		}
	}
	list, err := json.Marshal(names)
	if err != nil {
		return nil, err
	}
	f.list = string(list)
	srv, err := startBareNATS(dir)
	if err != nil {
		return nil, err
	}
	f.srv = srv
	if f.pub, err = nats.Connect("", nats.InProcessServer(srv)); err != nil {
		return nil, err
	}
	if _, err := f.pub.ChanSubscribe(bareAnswers, f.answers); err != nil {
		return nil, err
	}
	p := part{Dir: dir, Address: srv.Addr().String(), CA: filepath.Join(dir, caName)}
	f.stop, err = b.startMachines(ctx, roleClients, p, n)
	return f, err
}

// openBareDatabase returns a database that has our schema and is as durable, but is not used through the store.
func (b *bench) openBareDatabase(ctx context.Context, dir string) (*sql.DB, error) {
	path := filepath.Join(dir, "floor.db")
	st, err := store.Open(ctx, store.Config{URL: "sqlite:" + path, AuditKey: auditKey}, b.log)
	if err != nil {
		return nil, err
	}
	if err := st.Close(); err != nil {
		return nil, err
	}
	return openSQLite(path, "synchronous(FULL)")
}

func (f *bareFleet) close() (err error) {
	if f.stop != nil {
		err = f.stop()
	}
	if f.pub != nil {
		f.pub.Close()
	}
	if f.srv != nil {
		f.srv.Shutdown()
	}
	if f.db != nil {
		err = errors.Join(err, f.db.Close())
	}
	return err
}

// receiveBare is what a machine does.
func receiveBare(dir string, c *nats.Conn, m *nats.Msg) {
	answer := make([]byte, bareAnswer)
	if err := writeDurably(dir, "bench", m.Data); err != nil {
		answer = []byte(err.Error())
	}
	_ = c.Publish(bareAnswers, answer) // if it does not go out, the round fails for want of it
}

// writeDurably puts a file in its place as place does: temporary, sync, rename, sync of the directory.
func writeDurably(dir, name string, content []byte) error {
	temp := filepath.Join(dir, "."+name)
	t, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = t.Write(content)
	if err = errors.Join(err, t.Sync(), t.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// deliver is one round.
func (f *bareFleet) deliver(ctx context.Context, content []byte) error {
	f.round++
	id := fmt.Sprintf("f-hz%030d", f.round)
	if err := f.insert(ctx, id, content); err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	for i := range f.n {
		if err := f.pub.Publish(bareSubject(i), content); err != nil {
			return err
		}
	}
	for range f.n {
		select {
		case m := <-f.answers:
			if len(m.Data) != bareAnswer {
				return errors.New(string(m.Data))
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := f.update(ctx, id); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	return nil
}

func (f *bareFleet) insert(ctx context.Context, id string, content []byte) error {
	now, sum := time.Now().UnixMilli(), sha256.Sum256(content)
	return inTransaction(ctx, f.db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO contents (digest, data) VALUES (?, ?)`, sum[:], content); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO deliveries (id, account, region, name, target_dir, owner, grp, mode,
				overwrite, content_type, digest, size, description, resource_group, timeout, created, deadline,
				targets, pending, running, success, failed, status)
			VALUES (?, 'a', 'r', 'bench', '/srv', '0', '0', '0644', 1, 'Base64', ?, ?, '', '', 60000, ?, ?,
				?, ?, 0, 0, 0, 'Pending')`,
			id, sum[:], len(content), now, now+60_000, f.n, f.n)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO targets (delivery, instance, ordinal, status, created, updated, deadline)
			SELECT ?, value, key, 'Pending', ?, ?, ? FROM json_each(?)`, id, now, now, now+60_000, f.list)
		return err
	})
}

func (f *bareFleet) update(ctx context.Context, id string) error {
	now := time.Now().UnixMilli()
	return inTransaction(ctx, f.db, func(tx *sql.Tx) error {
		// By the delivery alone: joined with a list of its machines it would be quadratic, and no floor.
		_, err := tx.ExecContext(ctx, `UPDATE targets SET status = 'Success', started = ?, finished = ?, updated = ?
			WHERE delivery = ?`, now, now, now, id)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE deliveries SET pending = 0, success = ?, status = 'Success' WHERE id = ?`,
			f.n, id)
		return err
	})
}

func inTransaction(ctx context.Context, db *sql.DB, do func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// flush waits until the server has processed what c said.
func flush(ctx context.Context, c *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, natsReadyIn)
	defer cancel()
	return c.FlushWithContext(ctx)
}
