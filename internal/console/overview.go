// SPDX-License-Identifier: Apache-2.0

package console

import (
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

// overviewData is what the first page shows.
type overviewData struct {
	Machines panel[machineSummary]
	Sent     panel[sentSummary]
	Latest   panel[[]client.DeliveryHead]
}

type machineSummary struct {
	Online, Offline int64
	Groups          []client.MachineGroup
}

type sentSummary struct {
	Counts   []overallCount
	Total    int64
	Failures []client.TargetGroup
}

type overallCount struct {
	Status waybill.Overall
	Count  int64
}

// overalls are the overall statuses in the order in which pages show them.
var overalls = []waybill.Overall{
	waybill.OverallPending, waybill.OverallRunning, waybill.OverallSuccess, waybill.OverallPartial, waybill.OverallFailed,
}

const (
	recent     = 24 * time.Hour // what the first page counts
	latestRows = 8
)

func (c *Console) overview(v *visit) error {
	return v.show("overview", "Overview", "overview", c.overviewData(v))
}

func (c *Console) overviewPart(v *visit) error {
	return v.part("overview", "live", c.overviewData(v))
}

func (c *Console) overviewData(v *visit) overviewData {
	var d overviewData
	groups, err := v.api.DescribeManagedInstanceSummary(v.ctx())
	m := machineSummary{Groups: groups}
	for _, g := range groups {
		if g.Connected {
			m.Online += g.Count
		} else {
			m.Offline += g.Count
		}
	}
	d.Machines = panelOf(v, m, err)

	found, err := v.api.DescribeSendFileSummary(v.ctx(), c.service.Now().Add(-recent))
	s := sentSummary{Failures: found.Failures}
	for _, status := range overalls {
		s.Counts = append(s.Counts, overallCount{status, found.Counts[status]})
		s.Total += found.Counts[status]
	}
	d.Sent = panelOf(v, s, err)

	page, err := v.api.DescribeSendFileInvocations(v.ctx(), client.DeliveryFilter{}, "", client.Paging{MaxResults: latestRows})
	d.Latest = panelOf(v, page.Items, err)
	return d
}
