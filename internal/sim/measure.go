// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

// measured begins the names of what is sent for a measurement.
const measured = "measured-"

// callers send at once when it is measured how many deliveries a server accepts.
const callers = 32

// measure says how many deliveries in a second one server of a site accepts, and how many all of them do, each to one
// machine, which refuses it: nothing is there to be looked at afterwards.
func (r *run) measure(ctx context.Context) error {
	if r.cfg.Site == nil || r.cfg.Site.Measure == 0 {
		return nil
	}
	for _, servers := range [][]string{r.cfg.Site.Listen[:1], r.cfg.Site.Listen} {
		clients := make([]*client.Client, len(servers))
		for i, at := range servers {
			var err error
			if clients[i], err = client.New(client.Config{
				Endpoint: "https://" + at, AccessKeyID: r.key.AccessKeyID, AccessKeySecret: r.key.AccessKeySecret, Region: r.key.Region, CAFile: r.key.CA,
			}); err != nil {
				return err
			}
		}
		eg, each := errgroup.WithContext(ctx)
		eg.SetLimit(callers)
		began := time.Now()
		for n := range r.cfg.Site.Measure {
			m := r.fleet[n%len(r.fleet)]
			if r.plan.machines[m.Number] != 0 || r.plan.cloned[m.Number] || r.plan.leaving[m.Number] {
				m = r.fleet[0]
			}
			eg.Go(func() error {
				_, err := clients[n%len(clients)].SendFile(each, client.SendFileRequest{
					Content: []byte("measured\n"), Instances: []waybill.InstanceID{waybill.InstanceID(m.Instance)}, Timeout: r.cfg.MaxTimeout,
					File: waybill.FileSpec{
						Name: fmt.Sprint(measured, n), TargetDir: strayDir, Owner: strconv.Itoa(os.Geteuid()), Group: strconv.Itoa(os.Getegid()), Overwrite: true,
					},
				})
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			return err
		}
		took := time.Since(began)
		r.say("%d deliveries by %d callers at %d servers: %.0f in a second", r.cfg.Site.Measure, callers, len(servers),
			float64(r.cfg.Site.Measure)/took.Seconds())
	}
	return nil
}
