// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	crand "crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

const (
	previewFleet   = 10_000
	previewSamples = 200
	previewWarmUp  = 20
	previewAnswer  = 20 << 10 // bytes, about, of an answer with a page of instances
)

// preview measures PreviewSendFile for a whole fleet, one call after the other, and the same machines read with bare SQL
// behind HTTPS. The machines have enrolled and are not connected.
func (b *bench) preview(ctx context.Context) (err error) {
	s, err := b.openSite(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := b.addInstances(ctx, s, previewFleet); err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	bare, err := newFleetReader(ctx, s)
	if err != nil {
		return err
	}
	defer bare.db.Close()
	exchange := newBareExchange(previewAnswer, func(r *http.Request) error { return bare.read(r.Context()) })
	defer exchange.end()
	caller := exchange.caller()
	signing, watch, err := newTimedCaller(&s.key)
	if err != nil {
		return err
	}
	name := "preview/" + strconv.Itoa(previewFleet)
	var api, floor samples
	_, err = b.timed("preview", func() error {
		for n := range previewWarmUp + previewSamples {
			seen, page, err := signing.PreviewSendFile(ctx, client.SendFileRequest{Selector: waybill.Selector{All: true}}, client.Paging{})
			called := time.Duration(watch.last.Load())
			if err == nil && (seen.Total != previewFleet || len(page.Items) == 0) {
				err = fmt.Errorf("%d machines, and %d of them told", seen.Total, len(page.Items))
			}
			if err != nil {
				return err
			}
			start := time.Now()
			if err := exchange.call(ctx, caller, nil, ""); err != nil {
				return fmt.Errorf("bare exchange: %w", err)
			}
			asked := time.Since(start)
			if n >= previewWarmUp {
				api, floor = append(api, called), append(floor, asked)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50", 0.5}, {"p99", 0.99}} {
		b.report.add(name+"/"+q.name, ms(api.quantile(q.q)), "ms")
		b.report.add(name+"/"+q.name+"/floor", ms(floor.quantile(q.q)), "ms")
		b.report.add(name+"/"+q.name+"/ratio", ratio(api.quantile(q.q), floor.quantile(q.q)), "x")
	}
	return nil
}

// addInstances stores n instances as enrolments do.
func (b *bench) addInstances(ctx context.Context, s *site, n int) (err error) {
	act, err := s.client.CreateActivation(ctx, client.CreateActivationRequest{InstanceName: "bench", InstanceCount: n})
	if err != nil {
		return err
	}
	st, err := s.openStore(ctx, b.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	for i := range n {
		name := fmt.Sprintf("bench-%05d", i)
		_, err := st.Enrol(ctx, waybill.Instance{
			ID: waybill.InstanceID(fmt.Sprintf("mi-hz%028d", i)), Account: s.key.AccountID, Region: s.key.Region,
			Activation: act.ID, State: waybill.Registered, Agent: waybill.NativeAgent, PublicKey: name, Registered: time.Now(),
			Presence: waybill.NeverSeen,
		}, 0, func(int) string { return name })
		if err != nil {
			return err
		}
	}
	return nil
}

// fleetReader reads all that an answer about a fleet needs, with as few and as direct statements as can be.
type fleetReader struct {
	db                *sql.DB
	key, nonce, fleet *sql.Stmt
	of                *site
}

func newFleetReader(ctx context.Context, s *site) (_ *fleetReader, err error) {
	f := &fleetReader{of: s}
	if f.db, err = openSQLite(filepath.Join(s.dataDir, databaseName), "query_only(1)"); err != nil {
		return nil, err
	}
	for _, p := range []struct {
		st    **sql.Stmt
		query string
	}{
		{&f.key, bareKey},
		{&f.nonce, bareNonce},
		{&f.fleet, `SELECT id, name, state, resource_group, presence, last_seen, agent_kind, agent_version, capability
			FROM instances WHERE account = ? AND region = ?`},
	} {
		if *p.st, err = f.db.PrepareContext(ctx, p.query); err != nil {
			return nil, errors.Join(err, f.db.Close())
		}
	}
	return f, nil
}

func (f *fleetReader) read(ctx context.Context) error {
	nonce := make([]byte, sha256.Size)
	crand.Read(nonce)
	if _, err := scanAll(ctx, f.key, 5, f.of.key.AccessKeyID); err != nil {
		return err
	}
	if _, err := scanAll(ctx, f.nonce, 1, nonce); err != nil {
		return err
	}
	n, err := scanAll(ctx, f.fleet, 9, f.of.key.AccountID, f.of.key.Region)
	if err == nil && n != previewFleet {
		err = fmt.Errorf("%d machines are there", n)
	}
	return err
}
