// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"iter"
	"net/url"
	"time"

	"github.com/openwaybill/waybill"
)

// ManagedFile is a file that a machine took.
type ManagedFile struct {
	Instance   waybill.InstanceID `json:"InstanceId"`
	Name       string             `json:"InstanceName"`
	Path       string             `json:"FilePath"`
	SHA256     string             `json:"ContentSha256"` // hexadecimal
	Size       int64              `json:"ContentSize"`   // bytes
	Owner      string             `json:"FileOwner"`
	Group      string             `json:"FileGroup"`
	Mode       string             `json:"FileMode"`
	Delivery   waybill.DeliveryID `json:"InvokeId"`
	Placed     string             `json:"FinishTime"`
	State      string             `json:"FileState"`  // Current or Replaced
	ReplacedBy waybill.DeliveryID `json:"ReplacedBy"` // empty while it is current, as is Replaced
	Replaced   string             `json:"ReplaceTime"`
}

// FileFilter selects files. Path or SHA256 is required.
type FileFilter struct {
	Path   string
	SHA256 string    // hexadecimal
	At     time.Time // what was there then; zero: at any time
	State  string    // Current, Replaced; empty: either
}

// DescribeManagedFiles returns a page of the files that machines took. It may have fewer than asked for, even none, and a token
// all the same.
func (c *Client) DescribeManagedFiles(ctx context.Context, f FileFilter, page Paging) (Page[ManagedFile], error) {
	p := params{}
	p.set("FilePath", f.Path)
	p.set("ContentSha256", f.SHA256)
	p.setTime("AtTime", f.At)
	p.set("FileState", f.State)
	p.setPaging(page)
	var out struct {
		NextToken string
		Files     struct{ File []ManagedFile }
	}
	err := c.Call(ctx, "DescribeManagedFiles", url.Values(p), &out)
	return Page[ManagedFile]{Items: out.Files.File, NextToken: out.NextToken}, err
}

// maxFilesPage is the most files of a page.
const maxFilesPage = 500

// Files goes through all pages of DescribeManagedFiles. An error ends it.
func (c *Client) Files(ctx context.Context, f FileFilter) iter.Seq2[ManagedFile, error] {
	return pagesOf(maxFilesPage, func(p Paging) (Page[ManagedFile], error) { return c.DescribeManagedFiles(ctx, f, p) })
}
