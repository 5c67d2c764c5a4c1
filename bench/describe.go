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
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/store"
)

const (
	describeSamples = 3000
	describeWarmUp  = 300
	fillers         = 512
)

// describe measures DescribeSendFileResults by InvokeId, one call after the other, and the same rows read with bare
// SQL, for each length of the history.
func (b *bench) describe(ctx context.Context) (err error) {
	lengths := slices.Sorted(slices.Values(b.history))
	longest := lengths[len(lengths)-1]
	s, err := b.openSite(ctx, func(c *server.Config) { c.Control.RetainCount = max(c.Control.RetainCount, 2*longest) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	st, err := s.openStore(ctx, b.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()

	var ids []waybill.DeliveryID
	var short, long described
	for i, n := range lengths {
		more, err := fill(ctx, s, st, len(ids), n-len(ids))
		if err != nil {
			return fmt.Errorf("fill: %w", err)
		}
		ids = append(ids, more...)
		if long, err = b.describeOf(ctx, s, st, ids); err != nil {
			return err
		}
		if i == 0 {
			short = long
		}
	}
	if len(lengths) > 1 {
		name := fmt.Sprintf("describe/from-%d-to-%d", lengths[0], longest)
		b.report.budgeted(name+"/p50", ratio(long.api.median(), short.api.median()), "x", flat)
		b.report.budgeted(name+"/p99", ratio(long.api.quantile(0.99), short.api.quantile(0.99)), "x", flat)
		b.report.add(name+"/p50/floor", ratio(long.floor.median(), short.floor.median()), "x")
	}
	return nil
}

// flat is what the last may take more than the first, if what it takes is not to depend on how much there is.
const flat = 1.3

// described is how long the calls took, and the bare reads.
type described struct{ api, floor samples }

// describeOf measures with the given history.
func (b *bench) describeOf(
	ctx context.Context, s *site, st *store.Store, ids []waybill.DeliveryID,
) (d described, err error) {
	bare, err := newBareReader(ctx, filepath.Join(s.dataDir, databaseName), s.key.AccessKeyID)
	if err != nil {
		return d, err
	}
	defer bare.close()
	exchange := newBareExchange(2*contentBytes, func(r *http.Request) error { return bare.read(r.Context(), waybill.DeliveryID(r.Header.Get(bareID))) })
	defer exchange.end()
	caller := exchange.caller()
	signing, watch, err := newTimedCaller(&s.key)
	if err != nil {
		return d, err
	}
	name := "describe-" + strconv.Itoa(len(ids))
	var api, stored, read, floor samples
	_, err = b.timed(name, func() error {
		for n := range describeWarmUp + describeSamples {
			id := ids[rand.IntN(len(ids))]
			l, err := signing.DescribeSendFileResults(ctx, client.DeliveryFilter{ID: id}, client.Paging{})
			called := time.Duration(watch.last.Load())
			if err == nil && (len(l.Items) != 1 || len(l.Items[0].Targets.Items) != 1) {
				err = fmt.Errorf("%d deliveries with ID %s", len(l.Items), id)
			}
			if err != nil {
				return err
			}
			start := time.Now()
			_, err = st.Deliveries(ctx, s.key.AccountID,
				waybill.DeliveryFilter{Region: s.key.Region, ID: id}, waybill.Page{Size: 10})
			if err != nil {
				return fmt.Errorf("store: %w", err)
			}
			looked := time.Since(start)
			start = time.Now()
			if err := bare.read(ctx, id); err != nil {
				return fmt.Errorf("floor: %w", err)
			}
			took := time.Since(start)
			start = time.Now()
			if err := exchange.call(ctx, caller, nil, string(id)); err != nil {
				return fmt.Errorf("bare exchange: %w", err)
			}
			asked := time.Since(start)
			if n >= describeWarmUp {
				api, stored = append(api, called), append(stored, looked)
				read, floor = append(read, took), append(floor, asked)
			}
		}
		return nil
	})
	if err != nil {
		return d, err
	}
	name = "describe/" + strconv.Itoa(len(ids))
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50", 0.5}, {"p99", 0.99}} {
		b.report.add(name+"/"+q.name, ms(api.quantile(q.q)), "ms")
		b.report.add(name+"/"+q.name+"/in-store", ms(stored.quantile(q.q)), "ms")
		b.report.add(name+"/"+q.name+"/bare-sql", ms(read.quantile(q.q)), "ms")
		b.report.add(name+"/"+q.name+"/floor", ms(floor.quantile(q.q)), "ms")
		b.report.budgeted(name+"/"+q.name+"/ratio", ratio(api.quantile(q.q), floor.quantile(q.q)), "x", 2)
	}
	return described{api, floor}, nil
}

// fill stores n more ended deliveries of 1 KB to one instance each. Their writers are as many as share a transaction, so
// that the store groups them into the largest that it makes.
func fill(ctx context.Context, s *site, st *store.Store, there, n int) ([]waybill.DeliveryID, error) {
	list := make([]waybill.DeliveryID, n)
	var ids identity.DeliveryIDs
	var next atomic.Int64
	eg, ctx := errgroup.WithContext(ctx)
	for range fillers {
		eg.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				content := fmt.Appendf(nil, "%0*d", contentBytes, there+i)
				to := waybill.InstanceID(fmt.Sprintf("mi-hz%028d", i%1000))
				d := newDelivery(&ids, s.key.AccountID, s.key.Region, to, content)
				d.Targets[0].Status, d.Targets[0].Finished = waybill.Success, d.Created
				list[i] = d.ID
				if err := st.AddDelivery(ctx, d); err != nil {
					return err
				}
			}
		})
	}
	return list, eg.Wait()
}

// What every signed request asks.
const (
	bareKey   = `SELECT k.account, k.user_name, k.secret, k.active, a.disabled FROM access_keys k JOIN accounts a ON a.id = k.account WHERE k.id = ?`
	bareNonce = `SELECT expires FROM nonces WHERE digest = ?`
)

// bareReader reads all that an answer to a signed request needs, with as few and as direct statements as can be: the key,
// whether the nonce is new, and the delivery.
type bareReader struct {
	db                                    *sql.DB
	key, nonce, delivery, targets, labels *sql.Stmt
	keyID                                 string
}

func newBareReader(ctx context.Context, path, keyID string) (_ *bareReader, err error) {
	r := &bareReader{keyID: keyID}
	if r.db, err = openSQLite(path, "query_only(1)"); err != nil {
		return nil, err
	}
	for _, p := range []struct {
		st    **sql.Stmt
		query string
	}{
		{&r.key, bareKey},
		{&r.nonce, bareNonce},
		{&r.delivery, `SELECT d.name, d.target_dir, d.owner, d.grp, d.mode, d.overwrite, d.content_type, d.description,
			d.created, d.targets, d.pending, d.running, d.success, d.failed, d.sent, c.data
			FROM deliveries d JOIN contents c ON c.digest = d.digest WHERE d.id = ?`},
		{&r.targets, `SELECT instance, status, cause, detail, created, started, finished, updated
			FROM targets WHERE delivery = ? ORDER BY ordinal`},
		{&r.labels, `SELECT key, value FROM tags WHERE kind = 'delivery' AND resource = ?`},
	} {
		if *p.st, err = r.db.PrepareContext(ctx, p.query); err != nil {
			return nil, errors.Join(err, r.db.Close())
		}
	}
	return r, nil
}

func (r *bareReader) close() { r.db.Close() }

func (r *bareReader) read(ctx context.Context, id waybill.DeliveryID) error {
	nonce := make([]byte, sha256.Size)
	crand.Read(nonce)
	for _, q := range []struct {
		st      *sql.Stmt
		by      any
		columns int
		least   int
	}{{r.key, r.keyID, 5, 1}, {r.nonce, nonce, 1, 0}, {r.delivery, id, 16, 1}, {r.targets, id, 8, 1}, {r.labels, id, 2, 0}} {
		n, err := scanAll(ctx, q.st, q.columns, q.by)
		if err == nil && n < q.least {
			err = fmt.Errorf("%v is not there", q.by)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// scanAll reads every row into memory, as whatever the driver makes of it.
func scanAll(ctx context.Context, st *sql.Stmt, columns int, args ...any) (rows int, err error) {
	r, err := st.QueryContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	values := make([]any, columns)
	dest := make([]any, columns)
	for i := range values {
		dest[i] = &values[i]
	}
	for r.Next() {
		if err := r.Scan(dest...); err != nil {
			return rows, err
		}
		rows++
	}
	return rows, r.Err()
}
