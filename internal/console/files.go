// SPDX-License-Identifier: Apache-2.0

package console

import (
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/openwaybill/waybill/internal/client"
)

const fileRows = 50

// filesData is a page of the machines that have a file.
type filesData struct {
	Query url.Values
	Asked bool
	Files []client.ManagedFile
	Next  string
}

// digestPattern is a SHA-256 as tools print it. What else people search for is a path.
var digestPattern = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// localTime is how browsers write a time that was entered.
const localTime = "2006-01-02T15:04"

func (c *Console) files(v *visit) error {
	q := v.r.URL.Query()
	d := filesData{Query: q}
	word := strings.TrimSpace(q.Get("q"))
	if word == "" {
		return v.show("files", "Who has this file?", "machines", d)
	}
	d.Asked = true
	f := client.FileFilter{Path: word, State: q.Get("state")}
	if digestPattern.MatchString(word) {
		f.Path, f.SHA256 = "", word
	}
	if at := q.Get("at"); at != "" {
		var err error
		if f.At, err = time.Parse(localTime, at); err != nil {
			return complain("%q is no date.", at)
		}
	}
	page, err := v.api.DescribeManagedFiles(v.ctx(), f, client.Paging{MaxResults: fileRows, NextToken: q.Get("after")})
	if err != nil {
		return err
	}
	d.Files = page.Items
	if page.NextToken != "" {
		next := copyOf(q)
		next.Set("after", page.NextToken)
		d.Next = "?" + next.Encode()
	}
	return v.show("files", "Who has this file?", "machines", d)
}
