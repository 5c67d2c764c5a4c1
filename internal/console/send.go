// SPDX-License-Identifier: Apache-2.0

package console

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

// maxUpload bounds the file that a form brings; what a delivery may carry is the API's to say.
const maxUpload = 64 << 20

// sendData is the form with which a file is sent.
type sendData struct {
	Name, Dir, Owner, Group, Mode, Description, Text string
	Timeout                                          int64
	Overwrite                                        bool
	From                                             string // the delivery whose content is sent again
	FromSize                                         int64
	By                                               string // how machines are chosen: list, name, tag, group or all
	Chosen                                           string // whom, by that
	Machines                                         []client.Instance
	More                                             bool // there are more than are listed
	ListFault                                        *fault
	Groups                                           []client.ResourceGroup
	Token                                            string // a repetition of the form sends nothing twice
	Most                                             int
}

const listedMachines = 50 // that the form offers by name

func (c *Console) sendPage(v *visit) error {
	q := v.r.URL.Query()
	d := sendData{
		Owner: "root", Group: "root", Mode: "0644", Timeout: 60, By: "list", Chosen: q.Get("machine"), Token: rand.Text(), Most: c.service.MaxTargets(),
	}
	if from := q.Get("from"); from != "" {
		if err := v.refill(&d, from, q.Get("failed") != ""); err != nil {
			return err
		}
	}
	page, err := v.api.DescribeManagedInstances(v.ctx(), client.InstanceFilter{}, client.Paging{MaxResults: listedMachines})
	if err != nil {
		f := v.faultOf(err)
		d.ListFault = &f
	}
	d.Machines, d.More = page.Items, page.NextToken != ""
	for g, err := range v.api.ResourceGroups(v.ctx(), client.ResourceGroupFilter{}) {
		if err != nil {
			break // who may not list them can still write one's ID
		}
		d.Groups = append(d.Groups, g)
	}
	return v.show("send", "Send a file", "send", d)
}

// refill fills the form with an earlier delivery and, with failed, the machines on which it did not succeed.
func (v *visit) refill(d *sendData, id string, failed bool) error {
	head, err := v.head(id)
	if err != nil {
		return err
	}
	d.Name, d.Dir, d.Owner, d.Group, d.Mode = head.Name, head.TargetDir, head.Owner, head.Group, head.Mode
	d.Description, d.Timeout, d.Overwrite = head.Description, head.Timeout, head.Overwrite == "true"
	d.From, d.FromSize = string(head.ID), head.Size
	if !failed {
		return nil
	}
	var ids []string
	for p := (client.Paging{MaxResults: exportRows}); ; {
		page, _, err := v.api.DescribeSendFileTargets(v.ctx(), client.TargetFilter{Delivery: head.ID}, p)
		if err != nil {
			return err
		}
		for _, t := range page.Items {
			if t.Status.Final() && t.Status != waybill.Success {
				ids = append(ids, string(t.Instance))
			}
		}
		if p.NextToken = page.NextToken; p.NextToken == "" {
			d.Chosen = strings.Join(ids, "\n")
			return nil
		}
	}
}

// words are what people separate with blanks, lines or commas.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' })
}

// choice is whom a form means, as the API is asked: it finds the machines, for a preview as for a delivery. A preview puts it
// into the form, so that what is sent goes by what was looked at, whatever the fields beside it say by then.
type choice struct {
	IDs      []waybill.InstanceID `json:",omitempty"`
	Selector waybill.Selector
	Total    int64 // machines that the preview found
}

// chosen reads whom a form means.
func (v *visit) chosen() (c choice, err error) {
	form := v.r.PostForm
	switch form.Get("by") {
	case "list":
		ids := append(form["machine"], words(form.Get("ids"))...)
		slices.Sort(ids)
		for _, id := range slices.Compact(ids) {
			c.IDs = append(c.IDs, waybill.InstanceID(id))
		}
		if len(c.IDs) == 0 {
			return c, complain("No machine is chosen by this.")
		}
	case "name":
		if c.Selector.Name = strings.TrimSpace(form.Get("pattern")); c.Selector.Name == "" {
			return c, complain("Write a name, or a pattern such as web-*.")
		}
	case "tag":
		if c.Selector.Tags, err = parseTags(form.Get("tags")); err != nil {
			return c, err
		}
		if len(c.Selector.Tags) == 0 {
			return c, complain("Write at least one tag, such as env=prod.")
		}
	case "group":
		if c.Selector.ResourceGroup = strings.TrimSpace(form.Get("resource_group")); c.Selector.ResourceGroup == "" {
			return c, complain("Choose a resource group.")
		}
	case "all":
		c.Selector.All = true
	default:
		return c, complain("Say how the machines are chosen.")
	}
	return c, nil
}

// address puts into r whom it is meant for. More machines than a request names one by one are one list.
func (c *choice) address(r *client.SendFileRequest) {
	r.Selector = c.Selector
	if len(c.IDs) > waybill.DefaultLimits().Instances {
		r.List = c.IDs
	} else {
		r.Instances = c.IDs
	}
}

// previewData is whom a delivery would go to.
type previewData struct {
	Choice     string // JSON, see choice
	Receive    int64  // machines that are told now or when they come back
	Held       int64
	Ended      []client.PreviewGroup
	Machines   []client.PreviewTarget // the first ones
	More       int64                  // how many there are beside
	EndedTotal int64
}

// look asks the API whom c means.
func (v *visit) look(c *choice, page client.Paging) (client.Preview, []client.PreviewTarget, error) {
	var r client.SendFileRequest
	c.address(&r)
	found, targets, err := v.api.PreviewSendFile(v.ctx(), r, page)
	if refused, ok := errors.AsType[*client.Error](err); ok && refused.Code == "InvalidInstance.NotFound" {
		err = complain("No machine is chosen by this.")
	}
	return found, targets.Items, err
}

// preview shows who will be hit.
func (c *Console) preview(v *visit) error {
	to, err := v.chosen()
	if err != nil {
		return err
	}
	found, machines, err := v.look(&to, client.Paging{MaxResults: client.MaxTargetsPage})
	if err != nil {
		return err
	}
	to.Total = found.Total
	encoded, err := json.Marshal(to)
	if err != nil {
		return err
	}
	d := previewData{
		Choice: string(encoded), Held: found.Count(client.Held), Machines: machines, More: found.Total - int64(len(machines)),
		EndedTotal: found.Count(client.Ended),
	}
	d.Receive = found.Total - d.EndedTotal
	for _, g := range found.Groups {
		if g.Outlook == client.Ended {
			d.Ended = append(d.Ended, g)
		}
	}
	return v.part("send", "preview", d)
}

// send sends what the form holds to whom its preview has shown.
func (c *Console) send(v *visit) error {
	form := v.r.PostForm
	var to choice
	if json.Unmarshal([]byte(form.Get("choice")), &to) != nil || to.Total == 0 {
		return complain("Look at who will be hit first: choose machines and press “Preview machines”.")
	}
	content, name, err := v.uploaded()
	if err != nil {
		return err
	}
	timeout, err := strconv.ParseInt(form.Get("timeout"), 10, 32)
	if err != nil || timeout < 1 {
		return complain("The timeout %q is no number of seconds.", form.Get("timeout"))
	}
	now, _, err := v.look(&to, client.Paging{MaxResults: 1})
	if err != nil {
		return err
	}
	if now.Total != to.Total {
		return complain("By now %d machines are chosen by this, and not %d. Look again at who will be hit.", now.Total, to.Total)
	}
	r := client.SendFileRequest{
		File: waybill.FileSpec{
			Name: form.Get("name"), TargetDir: form.Get("dir"), Owner: form.Get("owner"), Group: form.Get("group"),
			Mode: form.Get("mode"), Overwrite: form.Get("overwrite") != "",
		},
		Content: content, Description: form.Get("description"), Timeout: time.Duration(timeout) * time.Second,
		ClientToken: form.Get("token"),
	}
	if form.Get("rehearse") != "" { // after which the same form may be sent in earnest
		r.ClientToken += " rehearsal"
		r.DryRun, r.Diff = true, form.Get("diff") != ""
	}
	to.address(&r)
	if r.File.Name == "" {
		r.File.Name = name
	}
	if r.Tags, err = parseTags(form.Get("file_tags")); err != nil {
		return err
	}
	id, err := v.api.SendFile(v.ctx(), r)
	if err != nil {
		return err
	}
	return v.redirect(link(nil, "deliveries", string(id)))
}

// uploaded returns the content that a form brings: a file, a text, or that of an earlier delivery; and the file's name.
func (v *visit) uploaded() (content []byte, name string, err error) {
	form := v.r.PostForm
	f, head, err := v.r.FormFile("file")
	switch {
	case err == nil:
		defer f.Close()
		content, err = io.ReadAll(io.LimitReader(f, maxUpload))
		return content, head.Filename, err
	case !errors.Is(err, http.ErrMissingFile) && !errors.Is(err, http.ErrNotMultipart):
		return nil, "", complain("The file did not arrive whole. Send the form again.")
	}
	if from := form.Get("from"); from != "" && form.Get("text") == "" {
		d, err := v.whole(from)
		if err != nil {
			return nil, "", err
		}
		content, err = contentOf(&d)
		return content, d.Name, err
	}
	// Browsers write the ends of lines as the standard of forms has it; a file on a machine wants its own.
	return []byte(strings.ReplaceAll(form.Get("text"), "\r\n", "\n")), "", nil
}
