// SPDX-License-Identifier: Apache-2.0

// Package control holds the use cases of Waybill: send, describe, enrol, report, sweep. The front ends (internal/api,
// internal/gateway) only translate between their protocol and the methods of Service.
//
// The store is the truth. The bus only carries hints: losing any message costs time, never a delivery.
package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/batch"
	"github.com/openwaybill/waybill/internal/blob"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/store"
)

// Config holds the settings of the use cases.
type Config struct {
	Regions     []string // region IDs this server answers for; the first is the default
	Limits      waybill.Limits
	Activations waybill.ActivationLimits
	AccessKeys  int // keys of one user, or of an account itself

	Instances      int // instances of one account in one region; 0: no limit
	Users          int // of one account, as the following
	UserGroups     int
	Policies       int
	Attachments    int // policies attached to one user or group of users
	ResourceGroups int
	TemporaryLife  time.Duration // longest life of a temporary key

	RetainAuditFor time.Duration // audit records older than this are removed

	RetainFor   time.Duration // ended deliveries older than this are removed …
	RetainCount int           // … and those beyond the newest so many of an account in a region

	MaxUpload int64 // bytes of the largest content that may be uploaded to be sent by its digest
	Uploads   int   // of one account that are not finished

	// Blobs keeps contents that are too large for the database; nil: there is no place for them. Closing it is its owner's.
	Blobs blob.Store

	Grace time.Duration // how long after its deadline a target may still be told of by a report under way

	Webhooks WebhookConfig

	Now func() time.Time // nil: time.Now

	// Node names this server among those that share its database, the same after a restart; empty: it is the only one.
	Node, Version string
	// Returned, if not nil, is called when the other servers had taken this one for dead, and what is connected to it for
	// gone.
	Returned func(ctx context.Context)

	// Sending, if not nil, is called with each delivery that is valid, before its instances are looked at; done is called
	// once it is stored and they are told, or has come to nothing. An error refuses it. It is for machines that play a
	// part, which must be what the part asks for by then; see internal/script. It may be called by several goroutines.
	Sending func(ctx context.Context, d *waybill.Delivery, to []waybill.InstanceID) (done func(stored bool), err error)
}

// DefaultConfig returns the published limits and the retention of the seed (two weeks, 100,000 deliveries).
func DefaultConfig() Config {
	return Config{
		Regions:     []string{"cn-hangzhou"},
		Limits:      waybill.DefaultLimits(),
		Activations: waybill.DefaultActivationLimits(),
		AccessKeys:  20,

		Users: 1000, UserGroups: 50, Policies: 1500, Attachments: 20, ResourceGroups: 100,
		MaxUpload: waybill.MaxUpload, Uploads: 32,
		TemporaryLife:  12 * time.Hour,
		RetainAuditFor: DefaultRetainAuditFor,

		RetainFor:   14 * 24 * time.Hour,
		RetainCount: 100_000,
		Grace:       2 * time.Second,

		Webhooks: WebhookConfig{PerRegion: 20, RetainFor: 7 * 24 * time.Hour, Every: time.Second},
	}
}

// Validate reports every setting that makes no sense.
func (c *Config) Validate() error {
	var errs []error
	if len(c.Regions) == 0 {
		errs = append(errs, errors.New("at least one region is needed"))
	}
	for name, n := range map[string]int{
		"instances of a delivery": c.Limits.Instances, "targets of a delivery": c.Limits.Targets, "content bytes": c.Limits.ContentBytes, "access keys": c.AccessKeys,
		"instances of an activation": c.Activations.InstanceCount, "activations of a region": c.Activations.PerRegion,
		"retained deliveries": c.RetainCount, "users": c.Users, "user groups": c.UserGroups, "policies": c.Policies,
		"policies of a user": c.Attachments, "resource groups": c.ResourceGroups, "unfinished uploads": c.Uploads,
		"webhooks": c.Webhooks.PerRegion,
	} {
		if n < 1 {
			errs = append(errs, fmt.Errorf("the limit of %s is %d, at least 1 is needed", name, n))
		}
	}
	if c.Limits.ContentBytes > waybill.MaxContent {
		errs = append(errs, fmt.Errorf("the limit of content bytes is %d, at most %d are possible", c.Limits.ContentBytes, waybill.MaxContent))
	}
	if c.MaxUpload < 1 || c.MaxUpload > waybill.MaxUpload {
		errs = append(errs, fmt.Errorf("the limit of uploaded bytes is %d, 1 to %d are possible", c.MaxUpload, int64(waybill.MaxUpload)))
	}
	if c.Instances < 0 {
		errs = append(errs, fmt.Errorf("the limit of instances is %d; 0 means no limit", c.Instances))
	}
	if c.TemporaryLife < time.Second {
		errs = append(errs, fmt.Errorf("temporary keys that are good for %s cannot be used", c.TemporaryLife))
	}
	if c.RetainAuditFor < 24*time.Hour {
		errs = append(errs, fmt.Errorf("audit records are kept for %s, a day at least is needed", c.RetainAuditFor))
	}
	if c.Webhooks.Every <= 0 || c.Webhooks.RetainFor < store.AttemptsFor {
		errs = append(errs, fmt.Errorf("events are kept for %s and looked for every %s; keep them for %s at least, in which they may be sent",
			c.Webhooks.RetainFor, c.Webhooks.Every, store.AttemptsFor))
	}
	if c.Limits.MinTimeout <= 0 || c.Limits.MaxTimeout < c.Limits.MinTimeout {
		errs = append(errs, fmt.Errorf("timeouts from %s to %s make no sense", c.Limits.MinTimeout, c.Limits.MaxTimeout))
	}
	if c.RetainFor < c.Limits.MaxTimeout {
		errs = append(errs, fmt.Errorf("deliveries are kept for %s, less than the longest timeout %s", c.RetainFor, c.Limits.MaxTimeout))
	}
	return errors.Join(errs...)
}

// MaxInDatabase is the Limits.ContentBytes above which there must be Blobs.
const MaxInDatabase = (store.MaxContent + 2) / 3 * 4

// messenger is what control uses of bus.Bus.
type messenger interface {
	Publish(subject string, data []byte) error
	Revoke(publicKey string, at time.Time) error
}

// Service is the use cases. Its methods may be called by any number of goroutines, before and while Run runs; what
// happens by itself (deadlines, repeats, retention) happens only while Run runs.
type Service struct {
	cfg    Config
	now    func() time.Time
	store  *store.Store
	bus    messenger
	sealer *identity.Sealer
	log    *slog.Logger

	ids       identity.DeliveryIDs
	documents documents
	tokenKey  []byte
	changes   *batch.Group[*change]
	acks      chan struct{} // holds one token while acknowledgements may wait
	beats     beats
	node      store.Node
	chores    chores
	deadline  alarm // the next deadline of an open target
	repeats   repeats
	probes    probes
	watchers  watchers
	events    events
	waits     waits
	uploading uploading
	trails    *semaphore.Weighted // who may read audit trails now
	used      sync.Map            // access key ID -> time of the last note of its use
	metrics   metrics
	collected time.Time // when large contents were last looked through; runRetention's
}

// New returns a Service on an open store and bus. It stores its own secrets on first use of the database.
func New(ctx context.Context, cfg Config, st *store.Store, b messenger, sealer *identity.Sealer, reg prometheus.Registerer, log *slog.Logger) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Service{
		cfg: cfg, now: func() time.Time { return cfg.Now().UTC() }, store: st, bus: b, sealer: sealer, log: log,
		trails: semaphore.NewWeighted(maxTrails), metrics: newMetrics(),
	}
	s.chores.alone = cfg.Node == ""
	s.node = store.Node{Name: cfg.Node, Run: rand.Text(), Version: cfg.Version}
	s.changes, s.acks = batch.New(maxChanges, s.applyChanges), make(chan struct{}, 1)
	s.beats.init()
	s.deadline.init()
	s.repeats.init()
	s.events.init(&cfg)
	s.metrics.register(reg, s)
	var err error
	s.tokenKey, err = ServerSecret(ctx, st, sealer, tokenKeyName, newTokenKey)
	return s, err
}

// Run does what happens by itself until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return s.runNode(ctx) })
	eg.Go(func() error { return s.runSweep(ctx) })
	eg.Go(func() error { return s.runRepeats(ctx) })
	eg.Go(func() error { return s.runBeats(ctx) })
	eg.Go(func() error { return s.runAcks(ctx) })
	eg.Go(func() error { return s.runRetention(ctx) })
	eg.Go(func() error { return s.runEvents(ctx) })
	return eg.Wait()
}

// Now is the clock of the service.
func (s *Service) Now() time.Time { return s.now() }

// Regions returns the region IDs this server answers for; the first is the default.
func (s *Service) Regions() []string { return s.cfg.Regions }

// MaxInstances returns how many instances a request may name one by one.
func (s *Service) MaxInstances() int { return s.cfg.Limits.Instances }

// MaxTargets returns how many instances a delivery may have.
func (s *Service) MaxTargets() int { return s.cfg.Limits.Targets }

// The listing words of the root package, for front ends.
type (
	Page             = waybill.Page
	DeliveryFilter   = waybill.DeliveryFilter
	DeliveryResult   = waybill.DeliveryResult
	InstanceFilter   = waybill.InstanceFilter
	ActivationFilter = waybill.ActivationFilter
)

// Listing is waybill.Listing.
type Listing[T any] = waybill.Listing[T]
