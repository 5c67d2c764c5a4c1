// SPDX-License-Identifier: Apache-2.0

package console

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/guide"
)

// Rows of a page.
const (
	deliveryRows = 20
	targetRows   = 100
	exportRows   = 500 // of one call while exporting
)

// deliveriesData is a page of the list of deliveries.
type deliveriesData struct {
	Query    url.Values
	Page     client.Page[client.DeliveryHead]
	Statuses []waybill.Overall
	Next     string // query of the next page; empty: this is the last
	Filtered bool
}

func (c *Console) deliveries(v *visit) error {
	q := v.r.URL.Query()
	tags, err := parseTags(q.Get("tag"))
	if err != nil {
		return err
	}
	f := client.DeliveryFilter{
		ID: waybill.DeliveryID(q.Get("id")), Instance: waybill.InstanceID(q.Get("instance")), Name: q.Get("name"),
		Status: waybill.Overall(q.Get("status")), ResourceGroup: q.Get("group"), Tags: tags,
	}
	found, err := v.api.DescribeSendFileInvocations(v.ctx(), f, q.Get("q"), client.Paging{MaxResults: deliveryRows, NextToken: q.Get("after")})
	if err != nil {
		return err
	}
	d := deliveriesData{Query: q, Page: found, Statuses: overalls}
	if found.NextToken != "" {
		q := copyOf(q)
		q.Set("after", found.NextToken)
		d.Next = "?" + q.Encode()
	}
	for name, values := range q {
		d.Filtered = d.Filtered || name != "after" && strings.Join(values, "") != ""
	}
	if v.fromHTMX() {
		return v.part("deliveries", "rows", d)
	}
	return v.show("deliveries", "Deliveries", "deliveries", d)
}

// copyOf copies a query, to change it.
func copyOf(q url.Values) url.Values {
	c := url.Values{}
	for name, values := range q {
		c[name] = slices.Clone(values)
	}
	return c
}

// parseTags reads tags as people write them: key=value or key, with commas or blanks between them.
func parseTags(s string) ([]waybill.Tag, error) {
	var tags []waybill.Tag
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' }) {
		key, value, _ := strings.Cut(word, "=")
		if key == "" {
			return nil, complain("%q is no tag; write key=value, with commas between several.", word)
		}
		tags = append(tags, waybill.Tag{Key: key, Value: value})
	}
	return tags, nil
}

// deliveryData is one delivery.
type deliveryData struct {
	D        client.DeliveryHead
	Groups   []failure
	Targets  client.Page[client.NamedTarget]
	Query    url.Values
	Number   int // of the page of targets, from 1
	Pages    int
	Statuses []waybill.Status
	Codes    []string // that occur
	Open     bool     // something may still change
	Cut      bool     // there is more of the content than is shown
	// Diffs are those of a rehearsal, the first ones. Who may not see them is told so.
	Diffs     client.Page[client.FileDiff]
	DiffFault *fault
}

// failure is a group of targets that failed alike, and what to do about it.
type failure struct {
	client.TargetGroup
	Help  guide.Entry
	Known bool
}

var statuses = []waybill.Status{
	waybill.Pending, waybill.Running, waybill.Success, waybill.Failed, waybill.Invalid, waybill.Aborted, waybill.Timeout, waybill.Errored,
}

// head returns a delivery without targets.
func (v *visit) head(id string) (client.DeliveryHead, error) {
	page, err := v.api.DescribeSendFileInvocations(v.ctx(), client.DeliveryFilter{ID: waybill.DeliveryID(id)}, "", client.Paging{})
	if err != nil {
		return client.DeliveryHead{}, err
	}
	if id == "" || len(page.Items) == 0 {
		return client.DeliveryHead{}, errNotFound
	}
	return page.Items[0], nil
}

func (c *Console) delivery(v *visit) error {
	head, err := v.head(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	q := v.r.URL.Query()
	d := deliveryData{D: head, Query: q, Statuses: statuses, Open: !head.Status.Final(), Cut: head.Size > int64(len(head.Preview))}
	if d.Number, err = strconv.Atoi(q.Get("page")); err != nil || d.Number < 1 {
		d.Number = 1
	}
	f := client.TargetFilter{
		Delivery: head.ID, Status: waybill.Status(q.Get("status")), ErrorCode: q.Get("code"), Cause: waybill.Cause(q.Get("cause")),
		Name: q.Get("name"), Number: d.Number,
	}
	page, groups, err := v.api.DescribeSendFileTargets(v.ctx(), f, client.Paging{MaxResults: targetRows})
	if err != nil {
		return err
	}
	d.Targets, d.Pages = page, int((page.Total+targetRows-1)/targetRows)
	for _, g := range groups {
		if g.Cause == waybill.NoCause {
			continue
		}
		help, known := guide.ForCause(v.lang, g.Cause)
		d.Groups = append(d.Groups, failure{g, help, known})
		if !slices.Contains(d.Codes, g.ErrorCode) {
			d.Codes = append(d.Codes, g.ErrorCode)
		}
	}
	slices.Sort(d.Codes)
	if head.Diff {
		if d.Diffs, err = v.api.DescribeSendFileDiffs(v.ctx(), head.ID, "", client.Paging{}); err != nil {
			f := v.faultOf(err)
			d.DiffFault = &f
		}
	}
	if v.fromHTMX() {
		return v.part("delivery", "live", d)
	}
	return v.show("delivery", string(head.Name), "deliveries", d)
}

// stopDelivery stops what is not in place yet. What it came to, the page tells.
func (c *Console) stopDelivery(v *visit) error {
	id := v.r.PathValue("id")
	if _, err := v.api.StopSendFile(v.ctx(), waybill.DeliveryID(id), nil); err != nil {
		return err
	}
	return v.redirect(link(nil, "deliveries", id))
}

// retryDelivery tries again what failed. What it came to, the page tells.
func (c *Console) retryDelivery(v *visit) error {
	id := v.r.PathValue("id")
	if _, err := v.api.RetrySendFile(v.ctx(), client.RetryRequest{Delivery: waybill.DeliveryID(id)}); err != nil {
		return err
	}
	return v.redirect(link(nil, "deliveries", id))
}

// content downloads what was sent, byte for byte.
func (c *Console) content(v *visit) error {
	d, err := v.whole(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	data, err := contentOf(&d)
	if err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": d.Name}))
	h.Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = v.w.Write(data)
	return nil
}

// whole returns a delivery with its content, and with one of its targets at most.
func (v *visit) whole(id string) (client.Delivery, error) {
	page, _, err := v.api.DescribeSendFileTargets(v.ctx(), client.TargetFilter{Delivery: waybill.DeliveryID(id)}, client.Paging{MaxResults: 1})
	if err != nil {
		return client.Delivery{}, err
	}
	if len(page.Items) == 0 {
		return client.Delivery{}, errNotFound
	}
	found, err := v.api.DescribeSendFileResults(v.ctx(), client.DeliveryFilter{ID: waybill.DeliveryID(id), Instance: page.Items[0].Instance}, client.Paging{})
	if err != nil {
		return client.Delivery{}, err
	}
	if len(found.Items) == 0 {
		return client.Delivery{}, errNotFound
	}
	return found.Items[0], nil
}

// contentOf returns the bytes that a delivery places.
func contentOf(d *client.Delivery) ([]byte, error) {
	if d.ContentType != waybill.Base64 {
		return []byte(d.Content), nil
	}
	data, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\r", "", "\n", "").Replace(d.Content))
	if err != nil {
		return nil, fmt.Errorf("content of %s: %w", d.ID, err)
	}
	return data, nil
}

// eachTarget calls do with every target of a delivery that the filter of the page selects.
func (v *visit) eachTarget(do func(client.NamedTarget) error) error {
	q := v.r.URL.Query()
	f := client.TargetFilter{
		Delivery: waybill.DeliveryID(v.r.PathValue("id")), Status: waybill.Status(q.Get("status")), ErrorCode: q.Get("code"),
		Cause: waybill.Cause(q.Get("cause")), Name: q.Get("name"),
	}
	for p := (client.Paging{MaxResults: exportRows}); ; {
		page, _, err := v.api.DescribeSendFileTargets(v.ctx(), f, p)
		if err != nil {
			return err
		}
		for _, t := range page.Items {
			if err := do(t); err != nil {
				return err
			}
		}
		if p.NextToken = page.NextToken; p.NextToken == "" {
			return nil
		}
	}
}

// export begins a download. What fails after that can only cut it off, which browsers show as failed.
func (v *visit) export(kind, contentType string, write func() error) error {
	head, err := v.head(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": string(head.ID) + "." + kind}))
	if err := write(); err != nil {
		v.c.log.Warn("export of a delivery was cut off", "delivery_id", head.ID, "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

func (c *Console) exportCSV(v *visit) error {
	return v.export("csv", "text/csv; charset=utf-8", func() error {
		w := csv.NewWriter(v.w)
		head := []string{"InstanceId", "InstanceName", "InvocationStatus", "ErrorCode", "ErrorInfo", "Detail", "Change", "Attempt", "CreationTime", "StartTime", "FinishTime"}
		if err := w.Write(head); err != nil {
			return err
		}
		err := v.eachTarget(func(t client.NamedTarget) error {
			row := []string{
				string(t.Instance), t.Name, string(t.Status), t.ErrorCode, t.ErrorInfo, t.Detail, string(t.Change), strconv.Itoa(t.Attempt), t.Created, t.Started, t.Finished,
			}
			for i := range row {
				row[i] = inert(row[i])
			}
			return w.Write(row)
		})
		w.Flush()
		return errors.Join(err, w.Error())
	})
}

// inert keeps a spreadsheet from taking a text for a formula: machines choose some of these texts.
func inert(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func (c *Console) exportJSON(v *visit) error {
	return v.export("json", "application/json", func() error {
		before := "[\n"
		err := v.eachTarget(func(t client.NamedTarget) error {
			b, err := json.Marshal(t)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(v.w, "%s%s", before, b)
			before = ",\n"
			return err
		})
		if err != nil {
			return err
		}
		if before == "[\n" {
			before = "["
		} else {
			before = "\n"
		}
		_, err = fmt.Fprintf(v.w, "%s]\n", before)
		return err
	})
}
