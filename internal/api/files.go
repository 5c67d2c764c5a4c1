// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// filesService is what is needed to tell who has a file.
type filesService interface {
	Files(ctx context.Context, who waybill.Principal, f waybill.FileFilter, p control.Page) (control.Listing[waybill.PlacedFile], error)
}

type describeManagedFilesInput struct {
	regional
	fileQuery
	MaxResults *int64 `limits:"1 to 500, default 50" fault:"InvalidParameter.MaxResults" doc:"rows of a page; there may be fewer, even none, while more follow"`
	NextToken  string `doc:"token that the previous page returned; it carries the filters and the page size"`
}

// fileQuery selects files; a page token carries it.
type fileQuery struct {
	ContentSha256 string    `json:",omitempty" limits:"64 hexadecimal digits" doc:"of the decoded content; it or FilePath is required, unless NextToken carries it"`
	FilePath      string    `json:",omitempty" limits:"absolute" doc:"TargetDir and Name"`
	AtTime        string    `json:",omitempty" limits:"YYYY-MM-DDThh:mm:ssZ" doc:"what was there at that time, rather than at any"`
	FileState     fileState `json:",omitempty" enum:"Current|Replaced" doc:"as it is now"`
}

// fileState says whether a file is what a machine was given last under that path.
type fileState string

const (
	fileCurrent  fileState = "Current"
	fileReplaced fileState = "Replaced"
)

type describeManagedFilesOutput struct {
	envelope
	NextToken string `doc:"where the next page starts; empty on the last"`
	Files     struct {
		File list[managedFile]
	} `doc:"by FilePath: by instance, the newest first; else by delivery, the newest first"`
}

type managedFile struct {
	InstanceId    waybill.InstanceID
	InstanceName  string `doc:"empty if the instance is gone"`
	FilePath      string
	ContentSha256 string `doc:"of what was verified on the machine, hexadecimal"`
	ContentSize   int64  `doc:"bytes of the decoded content"`
	FileOwner     string
	FileGroup     string
	FileMode      string
	InvokeId      waybill.DeliveryID
	FinishTime    string             `doc:"when the machine had it"`
	FileState     fileState          `doc:"Replaced if a later delivery placed a file at that path of that instance"`
	ReplacedBy    waybill.DeliveryID `doc:"the next one; empty while it is Current"`
	ReplaceTime   string             `doc:"likewise"`
}

func managedFileOf(p waybill.PlacedFile) managedFile {
	f := managedFile{
		InstanceId: p.Instance, InstanceName: p.Name, FilePath: p.File.Path(), ContentSha256: hex.EncodeToString(p.SHA256[:]), ContentSize: p.Size,
		FileOwner: p.File.Owner, FileGroup: p.File.Group, FileMode: p.File.Mode,
		InvokeId: p.Delivery, FinishTime: stamp(p.Placed), FileState: fileCurrent, ReplacedBy: p.ReplacedBy, ReplaceTime: stamp(p.Replaced),
	}
	if !p.Current() {
		f.FileState = fileReplaced
	}
	return f
}

func (c *call) describeManagedFiles(ctx context.Context, in *describeManagedFilesInput) (*describeManagedFilesOutput, error) {
	size := int64(defaultAuditPage)
	if in.MaxResults != nil {
		size = *in.MaxResults
	}
	c.maxPage = maxTargetsPage
	page, err := openPage(c, in.RegionId, &in.fileQuery, paging{MaxResults: &size, NextToken: in.NextToken}, maxTargetsPage)
	if err != nil {
		return nil, err
	}
	f, err := in.filter(in.RegionId)
	if err != nil {
		return nil, err
	}
	found, err := c.Files(ctx, c.who, f, page.Page)
	if err != nil {
		return nil, err
	}
	out := &describeManagedFilesOutput{NextToken: page.of(0, found.Next).NextToken}
	out.Files.File = collect(found.Items, managedFileOf)
	return out, nil
}

func (q *fileQuery) filter(region string) (f waybill.FileFilter, err error) {
	f = waybill.FileFilter{Region: region, Path: q.FilePath}
	if q.FilePath == "" && q.ContentSha256 == "" {
		return f, missing("FilePath")
	}
	if q.FilePath != "" && waybill.CheckPath(q.FilePath) != nil {
		return f, refuse("InvalidParameter", "FilePath")
	}
	if q.ContentSha256 != "" {
		digest, err := hex.DecodeString(q.ContentSha256)
		if err != nil || len(digest) != len(f.SHA256) {
			return f, refuse("InvalidParameter", "ContentSha256")
		}
		f.SHA256 = (*[32]byte)(digest)
	}
	if q.AtTime != "" {
		if f.At, err = time.Parse(time.RFC3339, q.AtTime); err != nil {
			return f, refuse("InvalidParameter", "AtTime")
		}
	}
	if q.FileState != "" {
		current := q.FileState == fileCurrent
		f.Current = &current
	}
	return f, nil
}
