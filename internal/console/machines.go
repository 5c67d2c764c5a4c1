// SPDX-License-Identifier: Apache-2.0

package console

import (
	"crypto/rand"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

const machineRows = 50

// machinesData is a page of the list of machines.
type machinesData struct {
	Query url.Values
	Page  client.Page[client.Instance]
	Next  string
}

// machineFilter reads what people search for: an ID, an address, tags, or a part of a name.
func machineFilter(q url.Values) (f client.InstanceFilter, err error) {
	word := strings.TrimSpace(q.Get("q"))
	switch _, notAddress := netip.ParseAddr(word); {
	case word == "":
	case strings.HasPrefix(word, "mi-"):
		f.IDs = []waybill.InstanceID{waybill.InstanceID(word)}
	case strings.Contains(word, "="):
		if f.Tags, err = parseTags(word); err != nil {
			return f, err
		}
	case notAddress == nil:
		f.IP = word
	case strings.ContainsAny(word, "*?"):
		f.Name = word
	default:
		f.Name = "*" + word + "*"
	}
	if online := q.Get("connected"); online != "" {
		yes := online == "true"
		f.Connected = &yes
	}
	f.ResourceGroup, f.Activation = q.Get("group"), waybill.ActivationID(q.Get("activation"))
	return f, nil
}

func (c *Console) machines(v *visit) error {
	q := v.r.URL.Query()
	f, err := machineFilter(q)
	if err != nil {
		return err
	}
	page, err := v.api.DescribeManagedInstances(v.ctx(), f, client.Paging{MaxResults: machineRows, NextToken: q.Get("after")})
	if err != nil {
		return err
	}
	d := machinesData{Query: q, Page: page}
	if page.NextToken != "" {
		next := copyOf(q)
		next.Set("after", page.NextToken)
		d.Next = "?" + next.Encode()
	}
	return v.show("machines", "Machines", "machines", d)
}

// machineData is one machine, and what it received.
type machineData struct {
	M       client.Instance
	Tags    string // as the form has them
	Agent   client.AgentStatus
	History panel[client.Page[client.Delivery]] // each with one target: this machine
}

func (c *Console) machine(v *visit) error {
	id := waybill.InstanceID(v.r.PathValue("id"))
	page, err := v.api.DescribeManagedInstances(v.ctx(), client.InstanceFilter{IDs: []waybill.InstanceID{id}}, client.Paging{})
	if err != nil {
		return err
	}
	if len(page.Items) == 0 {
		return errNotFound
	}
	d := machineData{M: page.Items[0]}
	var tags []string
	for _, t := range d.M.Tags {
		tags = append(tags, t.Key+"="+t.Value)
	}
	d.Tags = strings.Join(tags, ", ")
	agents, err := v.api.DescribeCloudAssistantStatus(v.ctx(), []waybill.InstanceID{id}, client.Paging{})
	if err == nil && len(agents.Items) > 0 { // who may not ask sees the rest
		d.Agent = agents.Items[0]
	}
	received, err := v.api.DescribeSendFileResults(v.ctx(), client.DeliveryFilter{Instance: id, OmitContent: true},
		client.Paging{MaxResults: deliveryRows, NextToken: v.r.URL.Query().Get("after")})
	d.History = panelOf(v, received, err)
	return v.show("machine", d.M.Name, "machines", d)
}

func (c *Console) renameMachine(v *visit) error {
	id := v.r.PathValue("id")
	if err := v.api.ModifyManagedInstance(v.ctx(), waybill.InstanceID(id), strings.TrimSpace(v.r.PostFormValue("name"))); err != nil {
		return err
	}
	return v.redirect(link(nil, "machines", id))
}

// tagMachine makes the tags of a machine those of the form.
func (c *Console) tagMachine(v *visit) error {
	id := v.r.PathValue("id")
	want, err := parseTags(v.r.PostFormValue("tags"))
	if err != nil {
		return err
	}
	page, err := v.api.DescribeManagedInstances(v.ctx(), client.InstanceFilter{IDs: []waybill.InstanceID{waybill.InstanceID(id)}}, client.Paging{})
	if err != nil {
		return err
	}
	if len(page.Items) == 0 {
		return errNotFound
	}
	var gone []string
	for _, t := range page.Items[0].Tags {
		if !slices.ContainsFunc(want, func(w waybill.Tag) bool { return w.Key == t.Key }) {
			gone = append(gone, t.Key)
		}
	}
	if len(want) > 0 {
		if err := v.api.TagResources(v.ctx(), client.InstanceType, []string{id}, want); err != nil {
			return err
		}
	}
	if len(gone) > 0 {
		if err := v.api.UntagResources(v.ctx(), client.InstanceType, []string{id}, gone); err != nil {
			return err
		}
	}
	return v.redirect(link(nil, "machines", id))
}

func (c *Console) deregister(v *visit) error {
	id := waybill.InstanceID(v.r.PathValue("id"))
	if v.r.PostFormValue("confirm") != string(id) {
		return complain("To deregister this machine for good, write its ID %s into the field.", id)
	}
	if _, err := v.api.DeregisterManagedInstance(v.ctx(), id); err != nil {
		return err
	}
	return v.redirect(link(nil, "machines"))
}

// enrolData is the page with which machines are enrolled.
type enrolData struct {
	Codes    panel[client.Page[client.Activation]]
	New      *client.NewActivation // just made: its code is shown once
	Trust    string                // command that brings the CA to the machine; empty: none is needed
	Native   string                // commands for our agent
	Official string                // and for the official one
	Token    string                // a repetition of the form makes nothing twice
	CA       string
	Next     string
}

func (c *Console) enrolPage(v *visit) error { return c.showEnrol(v, nil) }

func (c *Console) showEnrol(v *visit, made *client.NewActivation) error {
	after := v.r.URL.Query().Get("after")
	page, err := v.api.DescribeActivations(v.ctx(), client.ActivationFilter{}, client.Paging{MaxResults: deliveryRows, NextToken: after})
	d := enrolData{Codes: panelOf(v, page, err), New: made, CA: c.cfg.CA, Token: rand.Text()}
	if page.NextToken != "" {
		d.Next = "?" + url.Values{"after": {page.NextToken}}.Encode()
	}
	if made != nil {
		d.commands(v.r.Host, v.region, made)
	}
	return v.show("enrol", "Enrol machines", "enrol", d)
}

// hostPattern is what a host with its port is made of. What else a browser may send is not put into commands.
var hostPattern = regexp.MustCompile(`^[A-Za-z0-9.:\[\]-]+$`)

// commands writes what is to be typed on a machine. Nothing in it needs quotes beyond those that are there: names of hosts,
// IDs and codes are of letters, digits and a few marks.
func (d *enrolData) commands(host, region string, made *client.NewActivation) {
	if !hostPattern.MatchString(host) {
		host = "SERVER:PORT"
	}
	ca := ""
	if d.CA != "" {
		ca = " --ca ca.pem"
		d.Trust = "cat > ca.pem <<'END'\n" + strings.TrimSpace(d.CA) + "\nEND"
	}
	d.Native = "waybill-agent enroll --server https://" + host + ca +
		" --activation-id " + string(made.ID) + " --activation-code " + made.Code + "\nsystemctl enable --now waybill-agent"
	d.Official = "cat >> /etc/sysconfig/aliyun <<END\nALIYUN_ASSIST_SERVER_HOST=" + host + "\n"
	if d.CA != "" {
		d.Official = "cp ca.pem /etc/waybill-ca.pem\n" + d.Official + "ALIYUN_ASSIST_CERT_PATH=/etc/waybill-ca.pem\n"
	}
	d.Official += "END\nset -a; . /etc/sysconfig/aliyun; set +a\naliyun-service --register --RegionId " + region +
		" --ActivationId '" + string(made.ID) + "' --ActivationCode '" + made.Code + "'"
}

func (c *Console) enrol(v *visit) error {
	form := v.r.PostForm
	r := client.CreateActivationRequest{
		InstanceName: strings.TrimSpace(form.Get("name")), Description: form.Get("description"),
		AddressRange: strings.TrimSpace(form.Get("addresses")), ResourceGroup: strings.TrimSpace(form.Get("group")), ClientToken: form.Get("token"),
	}
	var err error
	if r.Tags, err = parseTags(form.Get("tags")); err != nil {
		return err
	}
	if n := form.Get("count"); n != "" {
		if r.InstanceCount, err = strconv.Atoi(n); err != nil {
			return complain("%q is no number of machines.", n)
		}
	}
	if n := form.Get("hours"); n != "" {
		hours, err := strconv.Atoi(n)
		if err != nil {
			return complain("%q is no number of hours.", n)
		}
		r.TTL = time.Duration(hours) * time.Hour
	}
	made, err := v.api.CreateActivation(v.ctx(), r)
	if err != nil {
		return err
	}
	return c.showEnrol(v, &made)
}

func (c *Console) disableActivation(v *visit) error {
	if _, err := v.api.DisableActivation(v.ctx(), waybill.ActivationID(v.r.PathValue("id"))); err != nil {
		return err
	}
	return v.redirect(link(nil, "enrol"))
}

func (c *Console) deleteActivation(v *visit) error {
	if _, err := v.api.DeleteActivation(v.ctx(), waybill.ActivationID(v.r.PathValue("id"))); err != nil {
		return err
	}
	return v.redirect(link(nil, "enrol"))
}
