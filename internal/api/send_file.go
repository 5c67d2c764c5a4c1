// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// regional is the region that an operation works in. The frame has checked it.
type regional struct {
	RegionId string `required:"true" doc:"region of the instances; DescribeRegions lists them"`
}

// grouped is the resource group that something belongs to or, in a query, must belong to.
type grouped struct {
	ResourceGroupId string `json:",omitempty" doc:"resource group"`
}

// tagged is the tags that something has or, in a query, must have, all of them.
type tagged struct {
	Tag []waybill.Tag `json:",omitempty" limits:"at most 20" fault:"NumberExceed.Tags" doc:"tags"`
}

// idempotent is the mark by which a client's repetition of a request can be told.
type idempotent struct {
	ClientToken string `limits:"at most 64 ASCII characters" doc:"a repetition within 24 hours changes nothing and is answered alike"`
}

func (i idempotent) check() error {
	if len(i.ClientToken) > 64 {
		return refuse("InvalidParameter", "ClientToken")
	}
	for _, c := range []byte(i.ClientToken) {
		if c >= 0x80 {
			return refuse("InvalidParameter", "ClientToken")
		}
	}
	return nil
}

// repeatable takes the ClientToken of a request, if it has one, into its act, with the digest of all other parameters.
// An empty parameter counts as not sent.
func (c *call) repeatable(in given, params map[string]string) error {
	f := in.parameter("ClientToken")
	if !f.IsValid() || f.String() == "" {
		return nil
	}
	if err := (idempotent{f.String()}).check(); err != nil {
		return err
	}
	digest := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if value := params[name]; name != "ClientToken" && value != "" {
			fmt.Fprintf(digest, "%d %s %d %s ", len(name), name, len(value), value)
		}
	}
	c.act.Token = f.String()
	digest.Sum(c.act.Digest[:0])
	return nil
}

// deliveryService is what the operations on deliveries need.
type deliveryService interface {
	Send(ctx context.Context, act *waybill.Act, req control.SendRequest) (waybill.DeliveryID, error)
	Preview(
		ctx context.Context, act *waybill.Act, t control.Targets, size int64, p control.Page,
	) (control.Forecast, error)
	Deliveries(
		ctx context.Context, who waybill.Principal, f control.DeliveryFilter, p control.Page,
	) (control.Listing[control.DeliveryResult], error)
	Content(ctx context.Context, ref *waybill.ContentRef) (string, error)
}

type sendFileInput struct {
	regional
	targeted
	Name          string              `required:"true" limits:"at most 255 characters" doc:"file name"`
	TargetDir     string              `required:"true" limits:"at most 255 characters" doc:"absolute; created if missing"`
	Content       *string             `limits:"at most 32 KiB as Base64" doc:"what the file holds; required unless ContentDigest is given"`
	ContentType   waybill.ContentType `limits:"PlainText or Base64, default PlainText" doc:"how Content is written"`
	ContentDigest string              `limits:"sha256: and 64 hexadecimal digits" doc:"in place of Content: the SHA-256 of what the account has uploaded (CreateContentUpload) or sent; not in the ECS API"`
	Description   string              `limits:"at most 512 characters" doc:"for people"`
	Timeout       *int64              `limits:"10 to 86400, default 60; less than 10 is 10" doc:"seconds to the deadline"`
	FileOwner     string              `limits:"at most 64 characters, default root" doc:"user name or number"`
	FileGroup     string              `limits:"at most 64 characters, default root" doc:"group name or number"`
	FileMode      string              `limits:"3 or 4 octal digits, default 0644" doc:"permissions"`
	Overwrite     *bool               `limits:"default false" doc:"whether a file of that name may be replaced"`
	DryRun        *bool               `limits:"default false" doc:"machines say what would happen, and change nothing; not in the ECS API"`
	Diff          *bool               `limits:"default false; needs DryRun" doc:"they also compare text line by line; needs the permission waybill:DiffFile; not in the ECS API"`
	grouped
	tagged
	idempotent
}

type sendFileOutput struct {
	envelope
	InvokeId waybill.DeliveryID `doc:"ask DescribeSendFileResults for it"`
}

func (c *call) sendFile(ctx context.Context, in *sendFileInput) (*sendFileOutput, error) {
	to, err := in.targets(in.RegionId, in.ResourceGroupId)
	if err != nil {
		return nil, err
	}
	content, digest, err := in.content()
	if err != nil {
		return nil, err
	}
	id, err := c.Send(ctx, c.act, control.SendRequest{
		Targets: to,
		File: waybill.FileSpec{
			Name:      in.Name,
			TargetDir: in.TargetDir,
			Owner:     in.FileOwner,
			Group:     in.FileGroup,
			Mode:      in.FileMode,
			Overwrite: isTrue(in.Overwrite),
		},
		Content:     content,
		ContentType: in.ContentType,
		Digest:      digest,
		Description: in.Description,
		Timeout:     duration(in.Timeout, time.Second),
		Tags:        in.Tag,
		DryRun:      isTrue(in.DryRun),
		Diff:        isTrue(in.Diff),
	})
	if err != nil {
		return nil, err
	}
	return &sendFileOutput{InvokeId: id}, nil
}

func isTrue(b *bool) bool { return b != nil && *b }

// content returns what is sent: a text, or the digest of what the account has.
func (in *sendFileInput) content() (text string, digest *[32]byte, err error) {
	switch {
	case in.ContentDigest == "" && in.Content == nil:
		return "", nil, missing("Content")
	case in.ContentDigest == "":
		return *in.Content, nil, nil
	case in.Content != nil:
		return "", nil, waybill.Errorf(waybill.ContentConflict, "Content cannot be given together with ContentDigest")
	case in.ContentType != "":
		return "", nil, waybill.Errorf(waybill.ContentConflict, "ContentType cannot be given together with ContentDigest, it says how Content is written")
	}
	sum, err := waybill.ParseDigest(in.ContentDigest)
	return "", &sum, err
}

// duration returns n units, zero only if n was not sent, and no more than fits: control refuses all that is too long.
func duration(n *int64, unit time.Duration) time.Duration {
	if n == nil {
		return 0
	}
	return time.Duration(max(1, min(*n, int64((1<<63-1)/unit)))) * unit
}
