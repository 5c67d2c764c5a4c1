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
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
	"github.com/openwaybill/waybill/internal/wire"
)

const (
	bareAnswers    = "bare.answers."
	bareTaken      = 60  // bytes; about what an acknowledgement takes
	bareAnswer     = 100 // likewise of a report
	bareRecord     = 150 // of what a machine notes of a file before it begins, and before it publishes it
	bareGather     = 5 * time.Millisecond
	natsReadyIn    = 10 * time.Second
	connectAtOnce  = 8
	handshakeLimit = 30 // seconds
)

// startBareNATS starts a NATS server that has TLS, as ours. With an operator it keeps its clients apart: each needs a token,
// and may use the subjects that it allows; without one there are no accounts.
func startBareNATS(dir string, op *identity.Operator) (*natsserver.Server, error) {
	ca, err := identity.OpenAuthority(dir)
	if err != nil {
		return nil, err
	}
	config, err := ca.ServerTLS([]string{"127.0.0.1"})
	if err != nil {
		return nil, err
	}
	options := &natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true, TLS: true, TLSConfig: config,
		TLSHandshakeFirst: true, TLSTimeout: handshakeLimit, AuthTimeout: handshakeLimit + 1, PingInterval: time.Minute,
	}
	if op != nil {
		if err := trust(options, op); err != nil {
			return nil, err
		}
	}
	srv, err := natsserver.NewServer(options)
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

// trust makes a server accept the users of an operator, and nobody else.
func trust(o *natsserver.Options, op *identity.Operator) error {
	operator, err1 := op.OperatorJWT()
	system, err2 := op.SystemAccountJWT()
	account, err3 := op.AccountJWT(nil)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	claims, err := jwt.DecodeOperatorClaims(operator)
	if err != nil {
		return err
	}
	accounts := &natsserver.MemAccResolver{}
	o.TrustedOperators, o.AccountResolver, o.SystemAccount = []*jwt.OperatorClaims{claims}, accounts, op.SystemAccount()
	return errors.Join(accounts.Store(op.SystemAccount(), system), accounts.Store(op.Account(), account))
}

// connectIdle makes n TLS connections with a token each, first being the number of the first, to a server that trusts op.
// Each hears all that its token allows it to hear.
func connectIdle(ctx context.Context, addr string, config *tls.Config, op *identity.Operator, first, n int) ([]*nats.Conn, error) {
	conns := make([]*nats.Conn, n)
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(connectAtOnce)
	for i := range conns {
		eg.Go(func() error {
			id := bareName(first + i)
			key, err := nkeys.CreateUser()
			if err != nil {
				return err
			}
			public, err1 := key.PublicKey()
			token, err2 := op.AgentJWT(waybill.InstanceID(id), public, time.Hour, time.Now())
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			c, err := nats.Connect("tls://"+addr, nats.Secure(config), nats.TLSHandshakeFirst(), nats.NoReconnect(),
				nats.Timeout(natsReadyIn), nats.UserJWT(func() (string, error) { return token, nil }, key.Sign))
			if err != nil {
				return err
			}
			conns[i] = c
			if _, err := c.Subscribe(wire.AgentSubjects(id), func(*nats.Msg) {}); err != nil {
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

// bareFleet does what a delivery cannot do without, in as few steps as there can be: one insert of everything; for each
// machine a message, its word that it has begun, its word that it has ended, and the confirmation; on each machine a note
// of what is being done, durable before the file is published, the file, and another look at it; and updates for what has
// come in, durable before it is confirmed. See docs/decisions/0012-floors.md.
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

func bareName(i int) string { return fmt.Sprintf("mi-hz%030d", i) }

func (b *bench) openBareFleet(ctx context.Context, n int) (_ *bareFleet, err error) {
	dir, err := b.scratch("floor")
	if err != nil {
		return nil, err
	}
	f := &bareFleet{n: n, answers: make(chan *nats.Msg, 2*n)}
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
		names[i] = bareName(i)
		m := machineIn(dir, i)
		if err := errors.Join(os.MkdirAll(m.root, 0o755), os.MkdirAll(m.state, 0o755)); err != nil {
			return nil, err
		}
	}
	list, err := json.Marshal(names)
	if err != nil {
		return nil, err
	}
	f.list = string(list)
	srv, err := startBareNATS(dir, nil)
	if err != nil {
		return nil, err
	}
	f.srv = srv
	if f.pub, err = nats.Connect("", nats.InProcessServer(srv)); err != nil {
		return nil, err
	}
	if _, err := f.pub.ChanSubscribe(bareAnswers+"*", f.answers); err != nil {
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

// bareMachine is what a machine needs for its part.
type bareMachine struct {
	answers string // the subject
	dir     string
	journal *os.File
}

func newBareMachine(number int, m machine) (*bareMachine, error) {
	journal, err := os.OpenFile(filepath.Join(m.state, "journal"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	return &bareMachine{answers: bareAnswers + strconv.Itoa(number), dir: m.root, journal: journal}, err
}

// receive is what a machine does. What does not go out, the round fails for want of.
func (b *bareMachine) receive(c *nats.Conn, m *nats.Msg) {
	if len(m.Data) == 0 { // the confirmation
		b.note()
		return
	}
	_ = c.Publish(b.answers, make([]byte, bareTaken))
	answer := make([]byte, bareAnswer)
	if err := b.place(m.Data); err != nil {
		answer = []byte("failed: " + err.Error())
	}
	_ = c.Publish(b.answers, answer)
}

// note appends a record. A journal that cannot be written shows when it is synced.
func (b *bareMachine) note() { _, _ = b.journal.Write(make([]byte, bareRecord)) }

func (b *bareMachine) place(content []byte) error {
	b.note()
	noted := make(chan error, 1)
	err := placeDurably(b.dir, "bench", content, func() {
		b.note()
		noted <- b.journal.Sync()
	})
	if err = errors.Join(err, <-noted); err != nil {
		return err
	}
	found, err := os.ReadFile(filepath.Join(b.dir, "bench"))
	if err == nil && sha256.Sum256(found) != sha256.Sum256(content) {
		err = errors.New("another file is there")
	}
	b.note()
	return err
}

// writeDurably puts a file in its place as place does: temporary, sync, rename, sync of the directory.
func writeDurably(dir, name string, content []byte) error {
	return placeDurably(dir, name, content, func() {})
}

// placeDurably is writeDurably, and calls meanwhile while the temporary is synced.
func placeDurably(dir, name string, content []byte, meanwhile func()) error {
	temp := filepath.Join(dir, "."+name)
	t, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = t.Write(content)
	var beside sync.WaitGroup
	beside.Go(meanwhile)
	err = errors.Join(err, t.Sync(), t.Close())
	beside.Wait()
	if err != nil {
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
	for left := f.n; left > 0; {
		begun, ended, err := f.gather(ctx)
		if err != nil {
			return err
		}
		if err := f.update(ctx, id, begun, ended); err != nil {
			return fmt.Errorf("update: %w", err)
		}
		for _, i := range ended {
			if err := f.pub.Publish(bareSubject(i), nil); err != nil {
				return err
			}
		}
		left -= len(ended)
	}
	return nil
}

// gather returns the machines that have begun and those that have ended, once there are some and others had a moment to
// come along.
func (f *bareFleet) gather(ctx context.Context) (begun, ended []int, err error) {
	take := func(m *nats.Msg) {
		i, err1 := strconv.Atoi(m.Subject[len(bareAnswers):])
		switch len(m.Data) {
		case bareTaken:
			begun = append(begun, i)
		case bareAnswer:
			ended = append(ended, i)
		default:
			err = errors.Join(err, errors.New(string(m.Data)))
		}
		err = errors.Join(err, err1)
	}
	select {
	case m := <-f.answers:
		take(m)
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	if err := pause(ctx, bareGather); err != nil {
		return nil, nil, err
	}
	for {
		select {
		case m := <-f.answers:
			take(m)
		default:
			return begun, ended, err
		}
	}
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

// update writes what has become of machines, in one transaction. Those that have ended need not begin any more.
func (f *bareFleet) update(ctx context.Context, id string, begun, ended []int) error {
	now := time.Now().UnixMilli()
	over := make(map[int]bool, len(ended))
	for _, i := range ended {
		over[i] = true
	}
	begun = slices.DeleteFunc(begun, func(i int) bool { return over[i] })
	return inTransaction(ctx, f.db, func(tx *sql.Tx) error {
		for _, set := range []struct {
			of []int
			to string
		}{{begun, "status = 'Running', started = ?1, updated = ?1"}, {ended, "status = 'Success', started = ?1, finished = ?1, updated = ?1"}} {
			names := make([]string, len(set.of))
			for i, number := range set.of {
				names[i] = bareName(number)
			}
			list, err := json.Marshal(names)
			if err != nil {
				return err
			}
			// Looked up one by one: joined with the list, every target would be held against every name of it.
			if _, err := tx.ExecContext(ctx, `UPDATE targets SET `+set.to+` WHERE delivery = ?3
				AND instance IN (SELECT value FROM json_each(?2))`, now, string(list), id); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `UPDATE deliveries SET pending = pending - ?1 - ?2, success = success + ?2, status = 'Running' WHERE id = ?3`,
			len(begun), len(ended), id)
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
