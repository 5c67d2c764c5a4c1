// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/audit"
	"github.com/openwaybill/waybill/internal/control"
)

// auditService is what the operations on the audit trail need.
type auditService interface {
	AuditRecords(
		ctx context.Context, who waybill.Principal, f waybill.AuditFilter, p control.Page,
	) (control.Listing[waybill.AuditRecord], error)
	VerifyAudit(ctx context.Context, who waybill.Principal) (waybill.AuditVerdict, error)
}

type listAuditRecordsInput struct {
	auditQuery
	MaxResults *int64 `limits:"1 to 1000, default 50" fault:"InvalidParameter.MaxResults" doc:"rows of a page"`
	NextToken  string `doc:"token that the previous page returned; it carries the filters"`
}

// auditQuery selects audit records; a page token carries it.
type auditQuery struct {
	StartTime       string `json:",omitempty" limits:"YYYY-MM-DDThh:mm:ssZ" doc:"from then on"`
	EndTime         string `json:",omitempty" limits:"YYYY-MM-DDThh:mm:ssZ" doc:"before then"`
	EventAction     string `json:",omitempty" doc:"such as ecs:SendFile"`
	Actor           string `json:",omitempty" doc:"name of the user, ID of the instance"`
	UserAccessKeyId string `json:",omitempty" doc:"the key"`
	EventRequestId  string `json:",omitempty" doc:"ID of the request"`
	Result          string `json:",omitempty" doc:"OK, Repeated, or an error code"`
	OldestFirst     *bool  `json:",omitempty" limits:"default false" doc:"oldest first instead of newest first"`
}

type listAuditRecordsOutput struct {
	envelope
	NextToken    string `doc:"where the next page starts; empty on the last"`
	AuditRecords struct {
		AuditRecord list[auditRecord]
	}
}

type auditRecord struct {
	Sequence     int64  `doc:"without gaps, from 1"`
	Time         string `doc:"UTC, milliseconds"`
	AccountId    waybill.AccountID
	RequestId    string
	ActorType    string `doc:"Account, User, Agent, Operator or Server"`
	Actor        string `doc:"name of the user, ID of the instance or activation, name of the operating system's user"`
	AccessKeyId  string
	SourceIp     string
	Action       string
	RegionId     string
	Resources    []string `doc:"ARNs"`
	Subject      string   `doc:"ID or name of what was made or changed"`
	Result       string   `doc:"OK, Repeated, or the error code that was answered"`
	PreviousHash string   `doc:"Hash of the record before, hexadecimal"`
	Hash         string   `doc:"SHA-256 over this record without Hash, hexadecimal"`
}

func auditRecordOf(r waybill.AuditRecord) auditRecord {
	resources := r.Resources
	if resources == nil {
		resources = []string{}
	}
	return auditRecord{
		r.Sequence, r.Time.UTC().Format(audit.TimeLayout), r.Account, r.RequestID, string(r.ActorType), r.Actor,
		r.AccessKey, r.SourceIP, r.Action, r.Region, resources, r.Subject, r.Result,
		hex.EncodeToString(r.Previous[:]), hex.EncodeToString(r.Hash[:]),
	}
}

// Sizes of a page of audit records: an export fetches large ones.
const (
	defaultAuditPage = 50
	maxAuditPage     = 1000
)

func (c *call) listAuditRecords(ctx context.Context, in *listAuditRecordsInput) (*listAuditRecordsOutput, error) {
	size := int64(defaultAuditPage)
	if in.MaxResults != nil {
		size = *in.MaxResults
	}
	c.maxPage = maxAuditPage
	page, err := openPage(c, "", &in.auditQuery, paging{MaxResults: &size, NextToken: in.NextToken}, maxAuditPage)
	if err != nil {
		return nil, err
	}
	f := waybill.AuditFilter{
		Action: in.EventAction, Actor: in.Actor, AccessKey: in.UserAccessKeyId, RequestID: in.EventRequestId,
		Result: in.Result, OldFirst: in.OldestFirst != nil && *in.OldestFirst,
	}
	for _, t := range []struct {
		name, text string
		at         *time.Time
	}{{"StartTime", in.StartTime, &f.From}, {"EndTime", in.EndTime, &f.To}} {
		if t.text == "" {
			continue
		}
		if *t.at, err = time.Parse(time.RFC3339, t.text); err != nil {
			return nil, refuse("InvalidParameter", t.name)
		}
	}
	found, err := c.AuditRecords(ctx, c.who, f, page.Page)
	if err != nil {
		return nil, err
	}
	out := &listAuditRecordsOutput{NextToken: page.of(0, found.Next).NextToken}
	out.AuditRecords.AuditRecord = collect(found.Items, auditRecordOf)
	return out, nil
}

type verifyAuditRecordsInput struct{}

type verifyAuditRecordsOutput struct {
	envelope
	Valid         bool
	Problem       string `doc:"what is wrong first; empty if nothing is"`
	RecordCount   int64  `doc:"records that were checked"`
	FirstSequence int64  `doc:"of the oldest that is kept"`
	LastSequence  int64
	LastHash      string `doc:"of the newest; who notes it elsewhere can tell later whether it is still in the trail"`
}

func (c *call) verifyAuditRecords(
	ctx context.Context, _ *verifyAuditRecordsInput,
) (*verifyAuditRecordsOutput, error) {
	v, err := c.VerifyAudit(ctx, c.who)
	if err != nil {
		return nil, err
	}
	return &verifyAuditRecordsOutput{
		Valid: v.Problem == "", Problem: v.Problem, RecordCount: v.Records, FirstSequence: v.First, LastSequence: v.Last,
		LastHash: hex.EncodeToString(v.Head[:]),
	}, nil
}
