// SPDX-License-Identifier: Apache-2.0

package console

import (
	"crypto/rand"
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
		Owner: "root", Group: "root", Mode: "0644", Timeout: 60, By: "list", Chosen: q.Get("machine"), Token: rand.Text(), Most: c.service.MaxInstances(),
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

// chosen resolves whom a form means: the machines it is to be sent to, and IDs that no machine has.
func (v *visit) chosen() (found []client.Instance, unknown []string, err error) {
	form := v.r.PostForm
	most := v.c.service.MaxInstances()
	filter := client.InstanceFilter{}
	switch by := form.Get("by"); by {
	case "list":
		ids := append(form["machine"], words(form.Get("ids"))...)
		slices.Sort(ids)
		ids = slices.Compact(ids)
		if len(ids) > most {
			return nil, nil, tooMany(len(ids), most)
		}
		for chunk := range slices.Chunk(ids, 50) {
			f := client.InstanceFilter{}
			for _, id := range chunk {
				f.IDs = append(f.IDs, waybill.InstanceID(id))
			}
			page, err := v.api.DescribeManagedInstances(v.ctx(), f, client.Paging{MaxResults: 50})
			if err != nil {
				return nil, nil, err
			}
			found = append(found, page.Items...)
		}
		for _, id := range ids {
			if !slices.ContainsFunc(found, func(i client.Instance) bool { return string(i.ID) == id }) {
				unknown = append(unknown, id)
			}
		}
		return found, unknown, nil
	case "name":
		if filter.Name = strings.TrimSpace(form.Get("pattern")); filter.Name == "" {
			return nil, nil, complain("Write a name, or a pattern such as web-*.")
		}
	case "tag":
		if filter.Tags, err = parseTags(form.Get("tags")); err != nil {
			return nil, nil, err
		}
		if len(filter.Tags) == 0 {
			return nil, nil, complain("Write at least one tag, such as env=prod.")
		}
	case "group":
		if filter.ResourceGroup = strings.TrimSpace(form.Get("resource_group")); filter.ResourceGroup == "" {
			return nil, nil, complain("Choose a resource group.")
		}
	case "all":
	default:
		return nil, nil, complain("Say how the machines are chosen.")
	}
	for i, err := range v.api.Instances(v.ctx(), filter) {
		if err != nil {
			return nil, nil, err
		}
		if found = append(found, i); len(found) > most {
			return nil, nil, tooMany(len(found), most)
		}
	}
	return found, nil, nil
}

func tooMany(n, most int) error {
	return complain("These are %d machines or more; one delivery goes to %d at most. Choose fewer, or raise --max-instances of the server.", n, most)
}

// previewData is whom a delivery would go to.
type previewData struct {
	Machines []client.Instance
	Unknown  []string
	Offline  int
}

// preview shows who will be hit. The form then sends to these, whatever has changed meanwhile.
func (c *Console) preview(v *visit) error {
	found, unknown, err := v.chosen()
	if err != nil {
		return err
	}
	if len(found)+len(unknown) == 0 {
		return complain("No machine is chosen by this.")
	}
	d := previewData{Machines: found, Unknown: unknown}
	for _, i := range found {
		if !i.Connected {
			d.Offline++
		}
	}
	return v.part("send", "preview", d)
}

// send sends what the form holds to the machines of its preview.
func (c *Console) send(v *visit) error {
	form := v.r.PostForm
	if form.Get("target") == "" {
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
	r := client.SendFileRequest{
		File: waybill.FileSpec{
			Name: form.Get("name"), TargetDir: form.Get("dir"), Owner: form.Get("owner"), Group: form.Get("group"),
			Mode: form.Get("mode"), Overwrite: form.Get("overwrite") != "",
		},
		Content: content, Description: form.Get("description"), Timeout: time.Duration(timeout) * time.Second,
		ClientToken: form.Get("token"),
	}
	if r.File.Name == "" {
		r.File.Name = name
	}
	for _, id := range form["target"] {
		r.Instances = append(r.Instances, waybill.InstanceID(id))
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
